"""The kinds of source, and how each is opened: into labelled splits whose images are not decoded yet."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distillkit.base.errors import SourceError, counted
from distillkit.base.settings import keyword_settings
from distillkit.data.origin import Found, SourceInfo
from distillkit.sources.pictures import MOST_NAMED, brief, known_formats_only

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "valid", "validation", "dev", "eval", "evaluation")
TORCHVISION_EXAMPLES = "CIFAR10, CIFAR100, MNIST, FashionMNIST, KMNIST, SVHN, STL10, GTSRB, DTD or Imagenette"


@keyword_settings
class DigitsSource:
    """The 1,797 grey 8x8 digits that scikit-learn carries: the test part of UCI's optical digits, never revised."""

    kind: Literal["digits"] = "digits"


@keyword_settings
class HuggingFaceSource:
    """A dataset of the Hub, or a local folder that ``datasets.load_dataset`` reads; columns are found if not named.

    Where there is no split of the usual name, one of TRAIN_NAMES or TEST_NAMES stands in; a ``test_split`` of None
    draws a part of the training images. ``revision`` is a commit, tag or branch; for a local folder, the content hash
    that it must have.
    """

    kind: Literal["huggingface"] = "huggingface"
    id: str
    revision: str | None = None
    config: str | None = None
    image: str | None = None
    label: str | None = None
    train_split: str = "train"
    test_split: str | None = "test"


@keyword_settings
class FolderSource:
    """Images in ``path/train/<class>/`` and ``path/test/<class>/``, or in ``path/<class>/`` alone.

    The splits are found as those of HuggingFaceSource; a ``train_split`` of "." means that the folders in ``path`` are
    the classes, whatever they are called. Links that lead out of ``path`` are refused unless ``follow_links``.
    """

    kind: Literal["folder"] = "folder"
    path: str
    train_split: str = "train"
    test_split: str | None = "test"
    follow_links: bool = False


@keyword_settings
class TorchvisionSource:
    """A torchvision classification dataset with a ``train`` or a ``split`` argument, by class name."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    root: str = "data/torchvision"
    download: bool = True


Source = DigitsSource | HuggingFaceSource | FolderSource | TorchvisionSource


@dataclass(frozen=True)
class Split:
    """Labelled images that are not decoded: ``read`` opens the image of a source row, ``where`` names it.

    ``encoded`` gives the bytes of its file, where the source has files.
    """

    name: str
    labels: Tensor
    class_names: tuple[str, ...]
    rows: Tensor
    read: Callable[[int], Image.Image]
    where: Callable[[int], str]
    encoded: Callable[[int], bytes] | None = None

    def take(self, chosen: Tensor) -> "Split":
        """The rows of the boolean mask ``chosen``, in source order."""
        return replace(self, labels=self.labels[chosen], rows=self.rows[chosen])

    def relabelled(self, labels: Tensor) -> "Split":
        return replace(self, labels=labels)

    def counts(self) -> dict[str, int]:
        """Images of each class."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))


class OpenedSource(NamedTuple):
    """What a source yields; ``test`` is None where it has no test split."""

    train: Split
    test: Split | None
    info: SourceInfo
    found: Found = Found()


def option(name: str) -> str:
    """Where people say which split or column they mean."""
    flag = name.replace("_", "-") if "_" in name else f"{name}-column"
    return f"data.source.{name}, or init's --{flag}"


def choice(names: Sequence[str], wanted: str, usual: Sequence[str]) -> str | None:
    """The split called ``wanted``; if that is the first of ``usual``, the first of these that there is in any case.

    Raises SourceError for a name that is not there, and where two could be meant.
    """
    if wanted in names:
        return wanted
    setting = option(f"{usual[0]}_split")
    if wanted != usual[0]:
        raise SourceError(f"splits are {listed(sorted(names))}; expected {wanted!r}; set {setting}")
    for name in usual:
        alike = [found for found in names if found.casefold() == name]
        if len(alike) > 1:
            raise SourceError(f"{listed(sorted(alike))} could each be the {usual[0]} split; set {setting}")
        if alike:
            return alike[0]
    return None


def labelled(
    name: str,
    values: Sequence[Any],
    class_names: tuple[str, ...] | None,
    read: Callable[[int], Image.Image],
    where: Callable[[int], str] | None = None,
    encoded: Callable[[int], bytes] | None = None,
) -> Split:
    """A split from raw labels: positions in ``class_names``, or values whose sorted distinct ones are the classes."""
    where = where or (lambda row: f"{name} row {row}")
    if not values:
        raise SourceError(f"the {name} split holds no images; expected at least one of each class; check data.source")
    if without := [row for row, value in enumerate(values) if value in (None, -1, "")]:
        more = f" and {len(without) - MOST_NAMED:,} more" if len(without) > MOST_NAMED else ""
        places = ", ".join(f"{where(row)} ({values[row]!r})" for row in without[:MOST_NAMED])
        other = f"{option(f'{name}_split')}{', none for a part of train' if name == 'test' else ''}"
        raise SourceError(
            f"{counted(len(without), 'image')} without a label: {places}{more}; expected one for every image; remove "
            f"{'it' if len(without) == 1 else 'them'}, or name another split ({other})"
        )
    found = range(len(class_names)) if class_names is not None else sorted(set(values))
    for row, value in enumerate(values) if class_names is not None else ():
        if value not in found:
            raise SourceError(
                f"{where(row)} has label {value}; expected 0 to {len(found) - 1} for "
                f"{counted(len(found), 'class')}; correct the label or the class names"
            )
    position = {value: label for label, value in enumerate(found)}
    labels = torch.tensor([position[value] for value in values], dtype=torch.int64)
    return Split(name, labels, class_names or tuple(map(str, found)), torch.arange(len(labels)), read, where, encoded)


def open_digits() -> OpenedSource:
    """Grey levels 0 to 16 become 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    names = tuple(str(digit) for digit in range(10))
    info = SourceInfo(
        kind="digits",
        id="scikit-learn/digits",
        revision="uci-optdigits-test",
        licence="cc-by-4.0",
        homepage="https://doi.org/10.24432/C50P49",
        citation="E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository, 1998. https://doi.org/10.24432/C50P49",
    )
    train = labelled("train", digits.target.tolist(), names, lambda row: Image.fromarray(images[row]))
    return OpenedSource(train, None, info, Found(test=None))


def torchvision_dataset(name: str) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The class, and its arguments for the two parts. Raises SourceError for what is not so divided, or not there."""
    import torchvision

    factory = getattr(torchvision.datasets, name, None)
    accepted = inspect.signature(factory).parameters.keys() if inspect.isclass(factory) else set()
    parts: tuple[dict[str, Any], dict[str, Any]] = {"train": True}, {"train": False}
    if "train" not in accepted:
        parts = {"split": "train"}, {"split": "val" if name == "Imagenette" else "test"}
    if factory is None or not accepted >= {"root", *parts[0]}:
        raise SourceError(
            f"torchvision has no classification dataset {name!r} in a train and a test part; "
            f"expected one like {TORCHVISION_EXAMPLES}; choose another name"
        )
    return factory, *parts


def open_torchvision(source: TorchvisionSource) -> OpenedSource:
    import torchvision

    factory, training, testing = torchvision_dataset(source.name)
    train = torchvision_split(factory, source, "train", training)
    test = torchvision_split(factory, source, "test", testing)
    homepage = f"https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.{source.name}.html"
    version = torchvision.__version__.partition("+")[0]
    return OpenedSource(train, test, SourceInfo("torchvision", source.name, f"torchvision-{version}", "", homepage))


def torchvision_split(factory: Any, source: TorchvisionSource, name: str, part: dict[str, Any]) -> Split:
    try:
        with known_formats_only():
            data = factory(root=source.root, download=source.download, **part)
            values = [int(label) for label in torchvision_labels(data)]
        titles = getattr(data, "classes", None) or range(max(values) + 1)
    except Exception as error:  # downloads, archives and checks of arguments raise errors of every kind
        raise SourceError(
            f"torchvision's {source.name} cannot be loaded from {source.root} ({brief(error)}); expected one image and "
            f"one class a row; check data.source.root and the connection, or choose one like {TORCHVISION_EXAMPLES}"
        ) from error
    class_names = tuple(title[0] if isinstance(title, tuple) else str(title) for title in titles)

    def read(row: int) -> Any:
        with known_formats_only():
            return data[row][0]

    return labelled(name, values, class_names, read)


def torchvision_labels(data: Any) -> Iterable[Any]:
    """The labels, without decoding images where the dataset keeps them: each keeps them in its own way."""
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(data, attribute):
            return getattr(data, attribute)  # type: ignore[no-any-return]
    if hasattr(data, "_samples"):
        return (label for _, label in data._samples)
    return (data[row][1] for row in range(len(data)))


def folder_name(path: str) -> str:
    return Path(path).expanduser().resolve().name


def listed(names: Sequence[str]) -> str:
    """The first five names, quoted, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more if names else "none"
