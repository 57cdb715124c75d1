"""Images from any source, and distilled sets that were saved or published."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from distillkit.api.sets import Data, DistilledSet, as_data, distilled
from distillkit.api.settings import check_given, expect, visiting
from distillkit.api.words import python_words
from distillkit.base.errors import ParamsError
from distillkit.base.params import read
from distillkit.data.images import RealData
from distillkit.hub.pull import load_with_provenance
from distillkit.process.progress import tell, track
from distillkit.setup.inspection import parse_dataset
from distillkit.sources import fetch as sources
from distillkit.sources.python import Rows, from_datasets, inner
from distillkit.sources.readers import DigitsSource, Source
from distillkit.sources.summary import remarks

OPTIONS = [part.name for part in fields(sources.DataSpec) if part.name != "source"]


def from_torch(
    train: Any, test: Any = None, *, class_names: Sequence[str] | None = None, name: str | None = None, **options: Any
) -> Data:
    """Images of map-style torch datasets of (image, label).

    Args:
        train: images are PIL images, or tensors (C, H, W) of uint8 or of floats from 0 to 1, without Normalize; labels
            are 0 to classes - 1. Each row is read once, so do not use random augmentation.
        test: the test split; by default a part of ``train`` (``test_fraction``, 0.25).
        class_names: by default ``train.classes`` if it exists, else the numbers.
        name: the set's name in cards; by default the dataset's class.
        **options: as in ``data`` of params.yaml: ``size=(height, width)`` or one number resizes, ``per_class=500`` and
            ``test_per_class`` take as many random images of each class, ``normalisation={"kind": "zca"}``, ``licence``,
            ``duplicates="drop"``, ``split_seed``, ``background`` for transparent images, ``white`` for 16-bit ones.

    Raises:
        SourceError: a row is not such a pair, images differ in size, a class is empty, or a dataset is not map-style.
    """
    with visiting():
        spec = data_spec(DigitsSource(), options)  # its source is not read
        found = from_datasets(train, test, class_names, name or type(inner(train)).__name__, spec, track)
    return told(found)


def from_arrays(images: Any, labels: Any, test_images: Any = None, test_labels: Any = None, **options: Any) -> Data:
    """Images (N, C, H, W) as tensors, or (N, H, W) or (N, H, W, C) as arrays, with labels (N,).

    All else is as in :func:`from_torch`.
    """
    with visiting():
        if "test" in options:  # as from_torch calls it
            raise ParamsError("test is not a parameter; expected test_images= and test_labels=; give both")
        check_given(options, [*OPTIONS, "class_names", "name"], ("images", "labels", "test_images", "test_labels"))
    test = None if test_images is None and test_labels is None else Rows(test_images, test_labels, "test_")
    return from_torch(Rows(images, labels), test, **{"name": "arrays", **options})


def fetch(source: str | Path | Mapping[str, Any], **options: Any) -> Data:
    """Images of ``digits``, a folder of images, ``owner/name`` on the Hub or ``torchvision:Name``, as for ``distillkit
    init``.

    A mapping gives details of the source, like ``data.source`` in params.yaml: ``{"kind": "folder", "path": "flowers",
    "follow_links": True}``. Options are those of :func:`from_torch`.
    """
    with visiting():
        meant = source if isinstance(source, Mapping) else parse_dataset(str(source), Path())
        found = sources.fetch(data_spec(meant, options), track)
    return told(found)


def told(found: RealData) -> Data:
    """The images. Prints remarks about them, such as duplicates, and a warning if test images are among the training
    images.
    """
    for line in remarks(found.found):
        tell(line)
    if found.found.leaked:
        tell(
            f"warning: {found.found.leaked:,} of the {len(found.test):,} test images are training images, too, so "
            "accuracies on them are too high; give other test images, or duplicates='drop'"
        )
    return as_data(found)


def data_spec(source: Source | Mapping[str, Any], options: Mapping[str, Any]) -> sources.DataSpec:
    given = {key: list(part) if isinstance(part, tuple) else part for key, part in options.items()}
    if isinstance(side := given.get("size"), int):
        given["size"] = [side, side]
    check_given(given, OPTIONS, ("train", "test", "class_names", "name"))
    meant = dict(source) if isinstance(source, Mapping) else asdict(source)
    return read({"source": meant, **given}, sources.DataSpec, "data")


def load(reference: str | Path, recipe: str | None = None) -> DistilledSet:
    """Load a distilled set from a file, a packaged folder or the Hub (``owner/name@v1.0``), with checks.

    See :func:`distillkit.hub.pull.load_with_provenance`.
    """
    expect(reference, str | Path, "reference", "a file, a folder, or owner/name of the Hub")
    with python_words():
        synthetic, provenance = load_with_provenance(reference, recipe)
    return distilled(synthetic, provenance=provenance)
