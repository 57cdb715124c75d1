"""Where real images come from: scikit-learn's digits, a Hugging Face dataset, image folders, torchvision.

A source is opened into splits whose images are not decoded yet. Labels are checked, a missing test split is taken from
the training images, classes are capped, and only the images that remain are decoded, into one uint8 tensor.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from distillkit.base.errors import MOST, ParamsError, SourceError, check_range
from distillkit.base.randomness import seeded
from distillkit.base.settings import settings
from distillkit.data.images import ImageSet, RealData, channel_statistics
from distillkit.data.origin import CHANGED, Found, SourceInfo
from distillkit.data.whitening import zca
from distillkit.process.interruption import interrupt, reacting
from distillkit.sources.cleaning.noise import LabelFile, LabelNoise, with_noise
from distillkit.sources.decoding import Reading, Track, decode
from distillkit.sources.folders import open_folder, unchanged
from distillkit.sources.huggingface import open_huggingface
from distillkit.sources.licences import check_licence
from distillkit.sources.pictures import WHITE
from distillkit.sources.readers import (
    DigitsSource,
    FolderSource,
    HuggingFaceSource,
    OpenedSource,
    Source,
    Split,
    TorchvisionSource,
    folder_name,
    listed,
    open_digits,
    open_torchvision,
)

Item = TypeVar("Item")
LATER = ("normalisation", "background", "white", "duplicates", "label_noise")  # options that files from before lack


@settings
class ChannelWise:
    """Networks see (pixel − mean) / std, by the mean and deviation of each channel."""

    kind: Literal["channel"] = "channel"


@settings
class ZCA:
    """Networks see whitened images; ``eps`` is in squared pixels, see :func:`~distillkit.data.whitening.zca`."""

    kind: Literal["zca"]
    eps: float = 0.1

    def __post_init__(self) -> None:
        check_range("normalisation.eps", self.eps, 1e-8, 1e3)


@settings
class DataSpec:
    """Which images: ``size`` is (height, width); the caps are images per class, drawn at random by ``split_seed``.

    ``background`` is the grey level behind what is transparent; ``white`` is the value of white in 16-bit pixels, 65535
    unless given. ``duplicates`` says what becomes of test images that are training images too, and of training images
    that repeat another of their class. ``normalisation`` is how all networks of the pipeline see images.
    ``label_noise`` gives training images other labels than the source's, see
    :mod:`distillkit.sources.cleaning.noise`; test labels stay.
    """

    source: Source
    size: tuple[int, int] | None = None
    test_fraction: float = 0.25
    split_seed: int = 0
    per_class: int | None = None
    test_per_class: int | None = None
    licence: str | None = None
    normalisation: ChannelWise | ZCA = ChannelWise()
    background: int = 255
    white: int | None = None
    duplicates: Literal["keep", "drop"] = "keep"
    label_noise: LabelNoise | LabelFile | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not all(1 <= side <= MOST for side in self.size):
            raise ParamsError(
                f"data.size is {list(self.size)}; expected height and width of at least 1, as in [32, 32]"
            )
        if not 0.01 <= self.test_fraction <= 0.99:
            found = f"data.test_fraction is {self.test_fraction:g}; expected between 0.01 and 0.99"
            raise ParamsError(f"{found}; write 0.25 to set a quarter of each class aside")
        check_range("data.split_seed", self.split_seed, 0, 2**63 - 1)
        check_range("data.per_class", self.per_class, 1)
        check_range("data.test_per_class", self.test_per_class, 1)
        check_range("data.background", self.background, 0, 255)
        check_range("data.white", self.white, 1, WHITE)
        check_licence("data.licence", self.licence)


def untracked(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """The default ``track``: shows nothing."""
    del description, total
    return items


def fetch(spec: DataSpec, track: Track = untracked, folder: Path | None = None) -> RealData:
    """The images that ``spec`` names, as uint8 with the statistics of the training images.

    ``track(items, description, total)`` may wrap an iterable to show progress. Images that are many go into files in
    ``folder``, where there is one. Raises SourceError for data it cannot trust.
    """
    with unchanged(spec.source):
        with reacting(interrupt):  # downloads
            splits = open_splits(spec)
        return assembled(splits, spec, track, folder=folder)


def assembled(
    splits: "Splits",
    spec: DataSpec,
    track: Track = untracked,
    source: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> RealData:
    """The images of opened splits, capped, decoded and with their statistics. ``source`` is recorded in place of the
    spec's, where one is given.
    """
    train, test, info, found = splits
    source_images = int(torch.cat([train.rows, *([test.rows] if found.test is None else [])]).max()) + 1
    train, test = cap(train, spec.per_class, spec.split_seed), cap(test, spec.test_per_class, spec.split_seed)
    notes, reading = dict(found.notes), Reading(spec.size, spec.background, spec.white, spec.duplicates == "drop")
    (train_images, kept, encoded), (test_images, test_kept, _) = decode((train, test), reading, track, notes, folder)
    check_some_left(test, test_kept)
    train, test = train.take(kept), test.take(test_kept)
    check_classes(train, test)
    train, differs_N = with_noise(train, spec.label_noise, source_images)
    if bool(differs_N.any()):
        notes[CHANGED] = int(differs_N.sum()), train.where(int(train.rows[differs_N][0]))
    whitening = zca(train_images, spec.normalisation.eps) if isinstance(spec.normalisation, ZCA) else None
    return RealData(
        train=ImageSet(train_images, train.labels, train.class_names),
        test=ImageSet(test_images, test.labels, test.class_names),
        normalisation=channel_statistics(train_images)._replace(whitening=whitening),
        info=replace(
            info,
            licence=spec.licence or info.licence or "unknown",
            params=recorded_params(spec) | ({"source": source} if source else {}),
        ),
        found=replace(found, notes=notes),
        encoded=encoded,
    )


class Splits(NamedTuple):
    """As :class:`OpenedSource`, with a test split in any case."""

    train: Split
    test: Split
    info: SourceInfo
    found: Found


def open_splits(spec: DataSpec, hashed: bool = True) -> Splits:
    """What there is to train and to test on, with the same classes; nothing is decoded.

    Unless images in folders are ``hashed``, which reads all of them, they have no revision.
    """
    train, test, info, found = open_source(spec.source, hashed)
    if test is None:
        found = replace(found, test=None)
        train, test = split_off(train, spec.test_fraction, spec.split_seed)
    check_classes(train, test)
    return Splits(train, test, info, found)


def open_source(source: Source, hashed: bool = True) -> OpenedSource:
    match source:
        case DigitsSource():
            return open_digits()
        case HuggingFaceSource():
            return open_huggingface(source)
        case FolderSource():
            return open_folder(source, hashed)
        case TorchvisionSource():
            return open_torchvision(source)


def recorded_params(spec: DataSpec) -> dict[str, Any]:
    """``spec`` as JSON values; of an absolute path only the last component, so that no machine's paths leak.

    Options that came later are mentioned only where they are used, so that files from before stay as they are.
    """
    params = asdict(spec) | {"size": list(spec.size) if spec.size else None}
    for field in fields(DataSpec):
        if field.name in LATER and getattr(spec, field.name) == field.default:
            del params[field.name]
    if isinstance(spec.label_noise, LabelFile):
        params["label_noise"]["file"] = Path(spec.label_noise.file).name
    if isinstance(spec.source, FolderSource):
        default = asdict(FolderSource(path=spec.source.path))
        params["source"] = {k: v for k, v in params["source"].items() if k in ("kind", "path") or v != default[k]}
    for key in {"id", "path", "root"} & params["source"].keys():
        if Path(params["source"][key]).expanduser().is_absolute():
            params["source"][key] = folder_name(params["source"][key])
    return params


def check_classes(train: Split, test: Split) -> None:
    """Raise SourceError unless there are two classes or more, the same in both splits, none of them empty."""
    if len(train.class_names) < 2:
        raise SourceError(f"the only class is {train.class_names[0]!r}; expected at least 2; check the labels")
    if empty := [name for name, count in train.counts().items() if count == 0]:
        remedy = "add some, or remove the class: its folder, or its label, and number the others without gaps"
        raise SourceError(f"no training images in {listed(empty)}; expected some in each class; {remedy}")
    lacking = sorted(train.counts().keys() - {name for name, count in test.counts().items() if count > 0})
    unknown = sorted(test.counts().keys() - train.counts().keys())
    if lacking or train.class_names != test.class_names:
        found = f"missing: {listed(lacking)}, unknown: {listed(unknown)}"
        raise SourceError(f"test classes differ from train's ({found}); expected the same; mend or omit the test split")


def check_some_left(test: Split, kept: Tensor) -> None:
    """Raise SourceError where dropping copies leaves a class without test images."""
    before, after = test.counts(), test.take(kept).counts()
    if lost := [name for name in after if before[name] and not after[name]]:
        raise SourceError(
            f"all test images of {listed(lost)} are training images, too, and duplicates are dropped; expected some of "
            "each class that are not; mend the test split, or keep duplicates"
        )


def draw(split: Split, count: Callable[[int], int], seed: int) -> Tensor:
    """A mask over the rows: ``count(n)`` at random of every class that has n images; more draws extend fewer."""
    generator = seeded(seed)
    chosen = torch.zeros(len(split.labels), dtype=torch.bool)
    for label in range(len(split.class_names)):
        places = (split.labels == label).nonzero()[:, 0]
        order = torch.randperm(len(places), generator=generator)
        chosen[places[order[: count(len(places))]]] = True
    return chosen


def split_off(split: Split, fraction: float, seed: int) -> tuple[Split, Split]:
    """Train and test: of every class ``fraction`` of the images, but at least one and not all, are for testing."""
    if small := [name for name, count in split.counts().items() if count == 1]:
        found = f"only 1 image in {listed(small)}"
        raise SourceError(
            f"{found}; expected at least 2 in each class to split off a test set; add images or a test split"
        )
    chosen = draw(split, lambda size: min(max(1, round(fraction * size)), size - 1), seed)
    return split.take(~chosen), replace(split.take(chosen), name="test")


def cap(split: Split, per_class: int | None, seed: int) -> Split:
    """At most ``per_class`` images of every class."""
    return split if per_class is None else split.take(draw(split, lambda _: per_class, seed))
