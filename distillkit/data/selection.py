"""Selection of rows of the real set, by labels, difficulty and random draws. Axes: N training images."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Generator, Tensor

from distillkit.base.errors import ParamsError, WindowError, counted

WindowUnit = Literal["class", "ipc"]


def class_rows(labels_N: Tensor, classes: int) -> list[Tensor]:
    """The rows of each class, in the order of the dataset."""
    return [(labels_N == label).nonzero().squeeze(1) for label in range(classes)]


def class_counts(labels_N: Tensor, class_names: tuple[str, ...]) -> dict[str, int]:
    """The number of images of each class, by its name."""
    counts = torch.bincount(labels_N, minlength=len(class_names)).tolist()
    return dict(zip(class_names, counts, strict=True))


def check_ipc(ipc: int, labels_N: Tensor, class_names: tuple[str, ...]) -> None:
    """Raise WindowError when a class has fewer than ``ipc`` images, ParamsError when ``ipc`` is below 1."""
    check_counts(ipc, class_counts(labels_N, class_names))


def check_counts(ipc: int, counts: Mapping[str, int]) -> None:
    """:func:`check_ipc` for the number of training images of each class."""
    if ipc < 1:
        raise ParamsError(f"ipc is {ipc}; expected at least 1 image per class")
    smallest = min(counts, key=lambda name: counts[name])
    if ipc > counts[smallest]:
        raise WindowError(
            f"ipc is {ipc}, but class {smallest!r} has {counted(counts[smallest], 'training image')}; "
            f"lower ipc or add images"
        )


def select_random(labels_N: Tensor, class_names: tuple[str, ...], ipc: int, generator: Generator) -> Tensor:
    """``ipc`` rows of every class, drawn without replacement, in class order. Raises as :func:`check_ipc` does."""
    check_ipc(ipc, labels_N, class_names)
    rows = class_rows(labels_N, len(class_names))
    return torch.cat([own[torch.randperm(len(own), generator=generator)[:ipc].to(own.device)] for own in rows])


def split_holdout(labels_N: Tensor, classes: int, holdout: float, generator: Generator) -> tuple[Tensor, Tensor]:
    """The rows that remain, and those held out: a share ``holdout`` of every class. Both are in dataset order."""
    held_N = torch.zeros(len(labels_N), dtype=torch.bool)
    for rows in class_rows(labels_N.cpu(), classes):
        order = torch.randperm(len(rows), generator=generator)
        held_N[rows[order[: held_out(len(rows), holdout)]]] = True
    held_N = held_N.to(labels_N.device)
    return (~held_N).nonzero().squeeze(1), held_N.nonzero().squeeze(1)


def held_out(images: int, holdout: float) -> int:
    """The number of images held out of a class that has ``images``; at least 1."""
    return max(1, round(holdout * images))


def draw_rows(rows: Tensor, count: int, generator: Generator) -> Tensor:
    """``count`` of ``rows``, or all if there are fewer, without replacement and in random order."""
    return rows[torch.randperm(len(rows), generator=generator)[:count]]


def rank_hardest_first(rows: Tensor, difficulty_N: Tensor) -> Tensor:
    """``rows`` from the hardest to the easiest; ties keep the order of the dataset."""
    return rows[difficulty_N[rows].argsort(descending=True, stable=True)]


def select_easiest(labels_N: Tensor, difficulty_N: Tensor, class_names: tuple[str, ...], ipc: int) -> Tensor:
    """The rows of the ``ipc`` easiest images of every class, in class order, the easiest of a class last."""
    check_ipc(ipc, labels_N, class_names)
    rows = class_rows(labels_N, len(class_names))
    return torch.cat([rank_hardest_first(own, difficulty_N)[-ipc:] for own in rows])


def select_wanted(
    labels_N: Tensor, difficulty_N: Tensor, class_names: tuple[str, ...], count: int, wanted_N: Tensor, taken_N: Tensor
) -> Tensor:
    """The rows of ``count`` images of every class, in class order: first the wanted ones, then others.

    Within both groups the easiest come first. Images that are already taken are left out.
    """
    selected = []
    for own in class_rows(labels_N, len(class_names)):
        free = own[~taken_N[own]]
        easiest_first = free[difficulty_N[free].argsort(stable=True)]
        selected.append(easiest_first[(~wanted_N[easiest_first]).long().argsort(stable=True)][:count])
    return torch.cat(selected)


def select_window(
    labels_N: Tensor,
    difficulty_N: Tensor,
    class_names: tuple[str, ...],
    ipc: int,
    window_start: float,
    unit: WindowUnit = "class",
) -> Tensor:
    """The rows of ``ipc`` images of every class, ranked hardest first, from rank ``window_start`` on; in class order.

    ``window_start`` is a fraction of the class, or with ``unit="ipc"`` a fraction of ``ipc``, as in SelMatch's released
    code. Raises WindowError when the window ends after the easiest image of a class.
    """
    check_ipc(ipc, labels_N, class_names)
    selected = []
    for name, rows in zip(class_names, class_rows(labels_N, len(class_names)), strict=True):
        first = first_rank(name, len(rows), ipc, window_start, unit)
        selected.append(rank_hardest_first(rows, difficulty_N)[first : first + ipc])
    return torch.cat(selected)


def first_rank(name: str, images: int, ipc: int, window_start: float, unit: WindowUnit) -> int:
    """The first rank of the window in a class of ``images`` images. Raises WindowError when the window does not fit."""
    whole = images if unit == "class" else ipc
    first = round(window_start * whole)
    if first + ipc > images:
        raise WindowError(
            f"the window of class {name!r} covers ranks {first} to {first + ipc - 1}, but it has "
            f"{counted(images, 'image')}; "
            f"lower window_start ({window_start:g}, at most {(images - ipc) / whole:.3g} here) or ipc ({ipc})"
        )
    return first
