"""A first look at a dataset, without decoding all of it: its classes, their sizes, and the shapes of its images."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from distillkit.arguments import dataset_reference
from distillkit.errors import DistillkitError, HubError, SourceError
from distillkit.hub import Reference, connect, hub_errors
from distillkit.readers import (
    IMAGE_SUFFIXES,
    DigitsSource,
    FolderSource,
    HuggingFaceSource,
    Source,
    Split,
    TorchvisionSource,
    label_column,
    open_source,
)
from distillkit.sources import DataSpec, image_pixels

CARD_PATIENCE = 10  # seconds for the Hub to answer
LOOKED_AT = 64  # images, spread over the training split


@dataclass(frozen=True)
class Survey:
    """``smallest_class`` counts training images, or bounds them from above; ``shapes`` are the distinct (C, H, W) among
    the images looked at, none where there is but a card."""

    classes: int
    images: int
    smallest_class: int
    shapes: list[tuple[int, int, int]]

    @property
    def uniform(self) -> bool:
        return len({shape[1:] for shape in self.shapes}) == 1


def parse_dataset(text: str, root: Path) -> Source:
    """The source that a person means by ``digits``, a folder, ``owner/name`` or ``torchvision:Name``.

    A folder is named as seen from ``root``, where the pipeline will run. Raises ParamsError for anything else.
    """
    if text == "digits":
        return DigitsSource()
    if text.startswith("torchvision:"):
        return TorchvisionSource(name=text.removeprefix("torchvision:"))
    folder = Path(text).expanduser()
    if folder.is_dir():
        relative = relative_to(folder.resolve(), root.resolve())
        return FolderSource(path=relative) if holds_class_folders(folder) else HuggingFaceSource(id=relative)
    reference = dataset_reference(text)
    return HuggingFaceSource(id=reference.repo, revision=reference.revision)


def relative_to(folder: Path, root: Path) -> str:
    """The path from ``root``, with as many ``..`` as it takes."""
    return Path(os.path.relpath(folder, root)).as_posix()


def holds_class_folders(folder: Path) -> bool:
    """Whether there are folders with images in it, one or two levels down."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES for pattern in ("*/*", "*/*/*") for path in folder.glob(pattern))


def survey(source: Source, root: Path) -> Survey:
    """What the source holds, read from ``root``. Raises SourceError when it cannot be read."""
    train, test, _ = open_source(seen_from(source, root))
    counts = train.counts()
    if len(counts) < 2:
        raise SourceError(
            f"the only class is {next(iter(counts))!r}; expected at least 2; name the folder that holds them"
        )
    smallest = min(counts.values())
    if test is None:  # a part of every class will be for testing
        smallest -= max(1, round(DataSpec(source).test_fraction * smallest))
    return Survey(len(counts), len(train.labels), smallest, shapes_of(train))


def by_its_card(source: HuggingFaceSource) -> Survey:
    """What the card of a dataset on the Hub says that it holds; nothing but the card is fetched.

    Raises HubError when the Hub cannot be asked or the card says nothing of classes and images.
    """
    from datasets import logging
    from datasets.info import DatasetInfosDict

    logging.set_verbosity_error()  # it warns of what it does not understand in a card
    reference, api = Reference(source.id, source.revision), connect()
    with hub_errors(api, str(reference)):
        card = api.dataset_info(source.id, revision=source.revision, timeout=CARD_PATIENCE).card_data
    try:
        infos = DatasetInfosDict.from_dataset_card_data(card or {})
        info = infos.get("default") or (next(iter(infos.values())) if len(infos) == 1 else None)
        classes = len(info.features[label_column(info.features, source.label)].names) if info else 0
        images = int(info.splits[source.train_split].num_examples) if info else 0
    except Exception:  # a card is what people write: anything may be missing, or be something else
        classes = images = 0
    if not 2 <= classes <= images:
        raise HubError(f"{reference}: its card does not say which classes and how many images there are")
    return Survey(classes, images, images // classes, [])


def seen_from(source: Source, root: Path) -> Source:
    """The source with its folder as seen from here instead of from ``root``."""
    if isinstance(source, FolderSource):
        return replace(source, path=os.path.normpath(root / source.path))
    if isinstance(source, HuggingFaceSource) and (local := Path(os.path.normpath(root / source.id))).is_dir():
        return replace(source, id=str(local))
    return source


def shapes_of(split: Split) -> list[tuple[int, int, int]]:
    step = max(1, len(split.rows) // LOOKED_AT)
    shapes = set()
    for row in split.rows[::step][:LOOKED_AT].tolist():
        try:
            channels, height, width = image_pixels(split.read(row), None).shape
        except DistillkitError:
            raise
        except Exception as error:  # image decoders raise errors of every kind
            raise SourceError(f"{split.where(row)} cannot be read ({error}); expected an image; replace it") from None
        shapes.add((channels, height, width))
    return sorted(shapes)
