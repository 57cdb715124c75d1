"""Labels of training images that are not the source's: made wrong on purpose, or read from a file. Test labels stay.

Axes: N training images.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from distillkit.base.errors import ParamsError, SourceError, check_range
from distillkit.base.files import sha256
from distillkit.base.randomness import seeded
from distillkit.base.settings import settings
from distillkit.sources.readers import Split

MOST = 0.95  # of a class


@settings
class LabelNoise:
    """Of every class a share ``rate`` of the labels becomes another class, drawn by ``seed``.

    ``symmetric``: any other class, all as likely. ``asymmetric``: the class that ``to`` names for it, the next class
    where ``to`` is missing; classes that ``to`` leaves out stay clean.
    """

    kind: Literal["symmetric", "asymmetric"]
    rate: float
    seed: int = 0
    to: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        check_range("rate", self.rate, 0, MOST)
        check_range("seed", self.seed, 0, 2**63 - 1)
        if self.to is not None and self.kind == "symmetric":
            raise ParamsError("to is for kind asymmetric, but kind is symmetric; remove one of them")


@settings
class LabelFile:
    """Labels from a file with one for each image of the source's training split, in its order, as CIFAR-10N has them.

    An .npy of whole numbers, or a text file with a line for each image: the class's name or number.
    """

    kind: Literal["file"]
    file: str
    sha256: str


def with_noise(train: Split, spec: LabelNoise | LabelFile | None, source_images: int) -> tuple[Split, Tensor]:
    """The split with other labels, and a mask (N,) of those that differ. Raises SourceError for what does not fit.

    ``source_images`` is how many images there are in the source's training split, whose rows ``train.rows`` are.
    """
    if spec is None:
        return train, torch.zeros(len(train.labels), dtype=torch.bool)
    if isinstance(spec, LabelNoise):
        labels_N = noisy(train, spec)
    else:
        labels_N = read_labels(spec, train.class_names, source_images)[train.rows]
    differs_N = labels_N != train.labels
    agreeing = 1 - differs_N.double().mean().item()
    if isinstance(spec, LabelFile) and agreeing <= 1.5 / len(train.class_names):
        found = f"agrees with {100 * agreeing:.0f} % of the source's labels, no more than chance"
        raise wrong(spec.file, f"{found}; expected them in the order of the source; check the file")
    if empty := set(range(len(train.class_names))) - set(labels_N.tolist()):
        raise SourceError(
            f"data.label_noise leaves no training image of class {train.class_names[min(empty)]!r}; expected some of "
            "each; choose a smaller rate or other labels"
        )
    return train.relabelled(labels_N), differs_N


def noisy(train: Split, spec: LabelNoise) -> Tensor:
    """Labels (N,), of which exactly round(rate · n) of every class with n images are another class."""
    generator, classes = seeded(spec.seed), len(train.class_names)
    labels_N, targets = train.labels.clone(), targets_of(train.class_names, spec)
    for label in range(classes):
        places = (train.labels == label).nonzero()[:, 0]
        wrong = places[torch.randperm(len(places), generator=generator)[: round(spec.rate * len(places))]]
        shift = torch.randint(1, classes, wrong.shape, generator=generator)
        labels_N[wrong] = (label + shift) % classes if spec.kind == "symmetric" else targets.get(label, label)
    return labels_N


def targets_of(class_names: tuple[str, ...], spec: LabelNoise) -> dict[int, int]:
    """The class that each becomes, by number. Raises SourceError for a name that is no class."""
    if spec.to is None:
        return {label: (label + 1) % len(class_names) for label in range(len(class_names))}
    if unknown := [name for name in (*spec.to, *spec.to.values()) if name not in class_names]:
        expected = f"expected some of {', '.join(class_names[:20])}"
        raise SourceError(f"data.label_noise.to names {unknown[0]!r}, which is no class; {expected}")
    return {class_names.index(name): class_names.index(other) for name, other in spec.to.items()}


def read_labels(spec: LabelFile, class_names: tuple[str, ...], images: int) -> Tensor:
    """The labels (images,) in the file. Raises SourceError."""
    path = Path(spec.file)
    if not path.is_file():
        raise wrong(path, "is no file; expected a .npy or a text file; correct it")
    if (found := sha256(path)) != spec.sha256:
        raise wrong(path, f"has SHA-256 {found}; expected {spec.sha256}; correct one of them")
    values = numbers_in(path) if path.suffix == ".npy" else numbers_of(path, class_names)
    if values.shape != (images,):
        expected = f"one for each of the {images} images of the source's training split"
        raise wrong(path, f"has labels of shape {values.shape}; expected {expected}")
    if not (values.min() >= 0 and values.max() < len(class_names)):
        raise wrong(path, f"has labels from {values.min()} to {values.max()}; expected 0 to {len(class_names) - 1}")
    return torch.from_numpy(values.astype(np.int64))


def wrong(file: str | Path, what: str) -> SourceError:
    return SourceError(f"data.label_noise.file {file} {what}")


def numbers_in(path: Path) -> Any:
    """The array of an .npy of whole numbers; nothing is unpickled."""
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError):
        raise wrong(path, "is no .npy of numbers; expected one that numpy.save has written") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "iu":
        kind = getattr(values, "dtype", type(values).__name__)
        raise wrong(path, f"holds {kind}; expected whole numbers, the classes' own")
    return values


def numbers_of(path: Path, class_names: tuple[str, ...]) -> Any:
    """The class numbers of the lines of a text file. Raises SourceError for a line with two meanings: a class named 10
    need not be number 10.
    """
    numbers = {str(number): number for number in range(len(class_names))}
    names = {name: number for number, name in enumerate(class_names)}
    known = numbers | names
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except UnicodeDecodeError:
        raise wrong(path, "is no UTF-8; expected a class on each line") from None
    for at, line in enumerate(lines, start=1):
        if line not in known:
            raise wrong(path, f"line {at} is {line[:80]!r}; expected the name or number of a class on each line")
        if names.get(line, own := numbers.get(line)) != own is not None:
            both = f"the name of one class and the number of another, {class_names[own]!r}"
            raise wrong(path, f"line {at} is {line!r}, {both}; give an .npy of class numbers")
    return np.array([known[line] for line in lines], dtype=np.int64)


def words(params: Mapping[str, Any], changed: int, images: int) -> str:
    """What is said of noisy labels: how they came about, and how many there are."""
    how = (
        "read from a file" if params["kind"] == "file" else f"made on purpose, {params['kind']}, seed {params['seed']}"
    )
    return f"{changed:,} of {images:,} training labels ({100 * changed / images:.1f} %) are not the source's ({how})"
