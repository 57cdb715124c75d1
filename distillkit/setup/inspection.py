"""A first inspection of a dataset without decoding all images: classes, their sizes, and the shapes of images."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

from distillkit.base.arguments import dataset_reference
from distillkit.base.errors import HubError, ParamsError
from distillkit.base.references import Reference
from distillkit.data.origin import Found
from distillkit.estimates.resources import SHAPE, Images
from distillkit.hub.client import connect
from distillkit.hub.errors import hub_errors
from distillkit.sources.fetch import DataSpec, cap, open_splits
from distillkit.sources.folders import METADATA, is_made_by_system
from distillkit.sources.huggingface import card_licence, front_matter, is_place, label_column
from distillkit.sources.pictures import BrokenImageError, check_readable, is_picture, picture_pixels, unreadable
from distillkit.sources.readers import (
    DigitsSource,
    FolderSource,
    HuggingFaceSource,
    Source,
    Split,
    TorchvisionSource,
    open_digits,
)
from distillkit.sources.summary import Summary

CARD_PATIENCE = 10  # seconds for the Hub to answer
LOOKED_AT = 64  # most images whose shape is read, spread over the training split


def parse_dataset(text: str, root: Path, given: Mapping[str, Any] | None = None) -> Source:
    """The source for ``digits``, a folder, ``owner/name`` or ``torchvision:Name``; ``given`` are settings of the
    source.

    A folder's path becomes relative to ``root``, where the pipeline will run. Raises ParamsError for anything else.
    """
    source = source_called(text, root)
    for name in given or {}:
        if name not in {field.name for field in fields(source)}:
            raise ParamsError(f"{text} is of kind {source.kind}, which has no setting {name!r}; leave the option out")
    return replace(source, **(given or {}))


def source_called(text: str, root: Path) -> Source:
    if text == "digits":
        return DigitsSource()
    if text.startswith("torchvision:"):
        return TorchvisionSource(name=text.removeprefix("torchvision:"))
    as_classes = text.startswith("folder:")
    folder = Path(text.removeprefix("folder:") if as_classes else text).expanduser()
    if folder.is_dir():
        relative = Path(os.path.relpath(folder.resolve(), root.resolve())).as_posix()
        labels_listed = any(path.name in METADATA for path in files_in(folder))  # in the format of ImageFolder
        classes = as_classes or (not labels_listed and any(map(is_picture, files_in(folder))))
        return FolderSource(path=relative) if classes else HuggingFaceSource(id=relative)
    reference = dataset_reference(text)
    return HuggingFaceSource(id=reference.repo, revision=reference.revision)


def files_in(folder: Path) -> Iterator[Path]:
    """Files in ``folder`` and two levels of subfolders, except system files."""
    for path in chain.from_iterable(folder.glob(level) for level in ("*", "*/*", "*/*/*")):
        if path.is_file() and not any(map(is_made_by_system, path.relative_to(folder).parts)):
            yield path


def inspect_source(spec: DataSpec, root: Path) -> Summary:
    """The content of the source, with paths relative to ``root``. Raises SourceError for what ``fetch`` refuses, as far
    as that is seen without decoding all images.
    """
    train, test, _, found = open_splits(replace(spec, source=seen_from(spec.source, root)), hashed=False)
    train, test = cap(train, spec.per_class, spec.split_seed), cap(test, spec.test_per_class, spec.split_seed)
    return Summary(train.counts(), len(test.labels), shapes_of(train), found)


def images_of(found: Summary | None, size: tuple[int, int], per_class: int | None = None) -> Images:
    """The images that ``fetch`` will give, as far as they are known; else ten classes of 1,000."""
    found = found or Summary(dict.fromkeys("0123456789", 1000), 2500, [], Found())
    counts = [count if per_class is None else min(count, per_class) for count in found.classes.values()]
    channels = max((shape[0] for shape in found.shapes), default=SHAPE[0])
    return Images((channels, *size), len(counts), sum(counts), found.test)


def expected(spec: DataSpec, root: Path) -> Images | None:
    """The images as the source describes them, without decoding all; None if that needs a download.

    Raises SourceError as :func:`inspect_source`.
    """
    source = seen_from(spec.source, root)
    if isinstance(source, TorchvisionSource):
        return None
    if not isinstance(source, HuggingFaceSource) or is_place(source.id):
        found = inspect_source(spec, root)
        return images_of(found, spec.size or found.shapes[0][1:])
    with suppress(HubError):  # fetch will report it
        return images_of(by_its_card(source), spec.size or SHAPE[1:], spec.per_class)
    return None


def by_its_card(source: HuggingFaceSource) -> Summary:
    """The content of a dataset on the Hub according to its card, without shapes; as if classes had equal numbers of
    images, and there were a quarter as many for testing. Nothing but the card is downloaded.

    Raises HubError when the Hub cannot be reached, or the card does not describe classes and images.
    """
    from datasets import logging
    from datasets.info import DatasetInfosDict

    logging.set_verbosity_error()  # no warnings about unknown entries in a card
    card = card_of(source)
    names, images = list[str](), 0
    with suppress(Exception):  # cards are written by hand: anything can be missing or of another type
        infos = DatasetInfosDict.from_dataset_card_data(card or {})
        info: Any = infos.get("default") or (next(iter(infos.values())) if len(infos) == 1 else None)
        names = info.features[label_column(info.features, source.label)].names
        images = int(info.splits[source.train_split].num_examples)
    if not 2 <= len(names) <= images:
        reference = Reference(source.id, source.revision)
        raise HubError(f"{reference}: its card does not say which classes and how many images there are")
    counts = dict.fromkeys(names, images // len(names))
    counts[names[0]] += images % len(names)
    return Summary(counts, images // 4, [], Found())


def card_of(source: HuggingFaceSource) -> Any:
    """The metadata of a dataset's card on the Hub, None without one. Raises HubError when the Hub cannot be asked."""
    api = connect()
    with hub_errors(api, str(Reference(source.id, source.revision))):
        return api.dataset_info(source.id, revision=source.revision, timeout=CARD_PATIENCE).card_data


def licence_stated(spec: DataSpec, root: Path) -> str:
    """The licence that the source has before it is fetched, nothing where it states none.

    Raises HubError when the Hub cannot be asked, SourceError for a card that cannot be read.
    """
    if spec.licence:
        return spec.licence
    match seen_from(spec.source, root):
        case DigitsSource():
            return open_digits().info.licence
        case HuggingFaceSource(id=place) as source:
            folder = Path(place)
            return card_licence(front_matter(folder / "README.md") if folder.is_dir() else card_of(source))
        case _:
            return ""


def local_folder(source: Source, root: Path) -> str | None:
    """The folder of the images, relative to ``root``, if they are on this machine."""
    if isinstance(source, FolderSource):
        return source.path
    if isinstance(source, HuggingFaceSource) and Path(os.path.normpath(root / source.id)).is_dir():
        return source.id
    return None


def is_here(source: Source, root: Path) -> bool:
    """Whether the images can be read without a download."""
    return isinstance(source, DigitsSource) or local_folder(source, root) is not None


def seen_from(source: Source, root: Path) -> Source:
    """The source, with its folder relative to the current folder instead of to ``root``."""
    if isinstance(source, FolderSource):
        return replace(source, path=os.path.normpath(root / source.path))
    if isinstance(source, HuggingFaceSource) and local_folder(source, root):
        return replace(source, id=os.path.normpath(root / source.id))
    return source


def shapes_of(split: Split) -> list[tuple[int, int, int]]:
    step = max(1, len(split.rows) // LOOKED_AT)
    shapes, broken = set[tuple[int, int, int]](), list[BrokenImageError]()
    for row in split.rows[::step][:LOOKED_AT].tolist():
        try:
            shapes.add(picture_pixels(split.read(row)).values.shape)
        except Exception as error:  # image decoders raise errors of many types
            broken.append(unreadable(split.where(row), error))
    check_readable(broken, all_seen=step == 1)
    return sorted(shapes)
