"""The objects of the Python API: images, a distilled set and its accuracy, with methods for notebooks and PyTorch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from markupsafe import escape
from PIL import Image
from torch import Tensor
from torch.utils.data import TensorDataset

from distillkit.api.settings import check_folder, check_path
from distillkit.base.arguments import check_new_artifact
from distillkit.base.errors import ArtifactError, ParamsError, counted
from distillkit.data.files import artifact
from distillkit.data.files.container import normalisation_tensors
from distillkit.data.files.real_images import save_real
from distillkit.data.images import ImageSet, RealData, SyntheticSet, real_subset
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.protocol import fingerprint
from distillkit.matching.distillation import Step
from distillkit.package.build import as_hf
from distillkit.package.recipe_json import digest
from distillkit.process.progress import track
from distillkit.report.document import data_url
from distillkit.report.pictures import grid
from distillkit.report.words import mean_std
from distillkit.sources.python import Rows, images_of
from distillkit.training.features import spread_rows

Split = Literal["train", "test"]


def shape_words(image_shape: tuple[int, ...], classes: int) -> str:
    return f"{'x'.join(map(str, image_shape))} in {classes} classes"


def as_html(text: str, picture: Image.Image) -> str:
    """A line of text and an image as HTML for a notebook."""
    file = BytesIO()
    picture.save(file, "PNG")
    return f'<div>{escape(text)}</div><img alt="the images" src="{data_url(file.getvalue(), "png")}"/>'


def as_yaml(value: Any) -> str:
    """A number or a mapping in one line, as in params.yaml."""
    return json.dumps(value, sort_keys=True).replace('"', "")


@dataclass(frozen=True, repr=False, eq=False)
class Data(RealData):
    """Training and test images: ``train`` and ``test`` have ``images`` (N, C, H, W) uint8 and ``labels`` (N,).

    ``normalisation`` is computed from the training images; distillkit applies it whenever a network gets images. Two
    objects are equal when their images, labels, class names and normalisation are equal.
    """

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Data) and self.contents == other.contents

    def __hash__(self) -> int:
        return hash(self.contents)

    def __repr__(self) -> str:
        counts = f"{len(self.train):,} training and {len(self.test):,} test images"
        leaked = f", {self.found.leaked:,} of the test images are training images, too" * bool(self.found.leaked)
        return f"Data: {counts} of {shape_words(self.train.image_shape, len(self.class_names))}, {self.info.id}{leaked}"

    def _repr_html_(self) -> str:
        return as_html(repr(self), self.show())

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.train.class_names

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the training images, their labels and normalisation; computed once."""
        statistics = normalisation_tensors(self.normalisation).values()
        return fingerprint(self.train.images, self.train.labels, *statistics)

    @cached_property
    def train_digest(self) -> str:
        """:func:`~distillkit.package.recipe_json.digest` of the training images, without normalisation."""
        return digest(self.train)

    @cached_property
    def contents(self) -> tuple[str, str, tuple[str, ...]]:
        """The values that decide equality: fingerprints of both splits, and the class names."""
        return self.fingerprint, digest(self.test), self.class_names

    @property
    def training_images(self) -> str:
        """A unique text for the training images, in one line."""
        counts = f"{len(self.train):,} images of {shape_words(self.train.image_shape, len(self.class_names))}"
        return f"{counts}, sha256 {self.fingerprint[:16]}"

    def show(self, columns: int = 10) -> Image.Image:
        """An image of some training images: a row for each of the first 20 classes."""
        rows = spread_rows(self.train.labels, 20 * columns)
        return grid(real_subset(self.train, rows, self.normalisation), columns)

    def as_dataset(self, split: Split = "train", normalised: bool = True) -> TensorDataset:
        """(image, label) for a DataLoader. Images are normalised for networks, or in pixels from 0 to 1."""
        if split not in get_args(Split):
            raise ParamsError(f"split is {split!r}; expected one of {', '.join(get_args(Split))}")
        images: ImageSet = getattr(self, split)
        pixels = images.pixels()
        return TensorDataset(self.normalisation.apply(pixels) if normalised else pixels, images.labels)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a safetensors file like a pipeline's ``artifacts/real.safetensors``, for ``verify --test``."""
        save_real(check_new_file(path, overwrite), self)


def as_data(found: RealData) -> Data:
    """Images as an object of the Python API."""
    if isinstance(found, Data):
        return found
    return Data(**{part.name: getattr(found, part.name) for part in fields(RealData)})


@dataclass(frozen=True, repr=False, eq=False)
class DistilledSet(SyntheticSet):
    """A small training set. As a sequence it has pairs of an image (C, H, W) in pixels and its label.

    ``images`` are float32 in pixel space. ``provenance`` says how it was made. ``history`` has a
    :class:`~distillkit.matching.distillation.Step` for each update of the images in the call that made it. ``experts``
    describes the experts. ``source`` is the digest of the training images if the set was made in this process, else
    empty. Two sets are equal when their images and labels are equal.
    """

    images: Tensor
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[Step, ...] = ()
    experts: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DistilledSet) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        learned = int(self.learned.sum())
        what = f"{len(self)} images of {shape_words(tuple(self.images.shape[1:]), len(self.class_names))}"
        told = "".join(f"\n  {key}: {self.setting(key)}" for key in sorted(self.params) if key != "method")
        return f"DistilledSet by {self.method}: {what}, {learned} learned and {len(self) - learned} real{told}"

    def _repr_html_(self) -> str:
        return as_html(repr(self).partition("\n")[0], self.show())

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.images[row], self.targets[row]

    @property
    def method(self) -> str:
        return str(self.provenance.get("method", "an unknown method"))

    @property
    def params(self) -> Mapping[str, Any]:
        """The method and all its settings: a recipe as in params.yaml."""
        found: Mapping[str, Any] = self.provenance.get("params", {})
        return found

    def setting(self, key: str) -> str:
        """A setting as text. If the method chose its value, this value and how it was chosen."""
        given, chosen = self.params[key], self.notes.get(key)
        text = as_yaml(given)
        return f"{chosen:g}, chosen by {text}" if isinstance(chosen, float) and chosen != given else text

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the images and their labels."""
        return fingerprint(self.images, self.targets)

    def show(self, columns: int = 10) -> Image.Image:
        """An image with a row for each of the first 20 classes; learned images have an orange frame."""
        return grid(self, columns)

    def as_dataset(self, normalised: bool = True) -> TensorDataset:
        """(image, label) for a DataLoader. Images are normalised for networks, or in pixels.

        Labels are classes, or probabilities (K,) in a set with soft labels; ``cross_entropy`` accepts both.
        """
        return TensorDataset(self.normalisation.apply(self.images) if normalised else self.images, self.targets)

    def to_hf(self) -> Any:
        """A ``datasets.Dataset``: image (8 bits, for viewing), label, pixels (float32) and the training rows."""
        return as_hf(self)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a lossless safetensors file for ``distillkit.load`` and the commands. Nothing is pickled."""
        artifact.save_synthetic(check_new_file(path, overwrite), self, self.provenance)


def check_new_file(given: str | Path, overwrite: bool) -> Path:
    """The path. Raises ArtifactError if the file exists and ``overwrite`` is False, ParamsError for an invalid path."""
    path = check_path(given, "path")
    if path.exists() and not overwrite:
        raise ArtifactError(f"{path} exists; expected a new file; choose another name, or give overwrite=True")
    check_folder("path", path.parent)
    check_new_artifact("path", path, overwrite)
    return path


def distilled(synthetic: SyntheticSet, **more: Any) -> DistilledSet:
    """A synthetic set as an object of the Python API, on the CPU."""
    parts = synthetic.to(torch.device("cpu"))
    parts = replace(parts, images=parts.pixels())
    return DistilledSet(**{part.name: getattr(parts, part.name) for part in fields(SyntheticSet)}, **more)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Test accuracies, 0 to 1, of ``n`` networks trained from scratch on a set. ``per_class`` is the mean for each
    class.

    ``recipe`` is how they were trained. ``metrics`` are as in the pipeline's metrics file. ``of`` is the fingerprint of
    the set, ``tested_on`` that of the test images, whose number is ``images``.
    """

    mean: float
    std: float
    runs: tuple[float, ...]
    per_class: Mapping[str, float]
    recipe: EvaluationRecipe
    metrics: Mapping[str, Any]
    of: str = ""
    tested_on: str = ""
    images: int = 0

    @property
    def n(self) -> int:
        return len(self.runs)

    @property
    def storage(self) -> str:
        """How a package is to keep learned images, which the networks were trained on as it gives them back."""
        return str(self.metrics.get("storage", "float32"))

    def __repr__(self) -> str:
        worst = min(self.per_class, key=lambda name: self.per_class[name])
        training = self.recipe.training
        tested = f", on {counted(self.images, 'test image')}"
        return (
            f"Evaluation: accuracy {mean_std(self.mean, self.std, self.n)} % (n = {self.n}){tested}\n"
            f"  network {self.recipe.network}, {training.steps} updates of batch {training.batch}, lr {training.lr:g}, "
            f"augmentation {training.augmentation.kind}\n"
            f"  lowest of a class: {100 * self.per_class[worst]:.2f} % ({worst})"
        )


def test_images(test: Any, small: SyntheticSet) -> ImageSet:
    """Test images from a Data object, a map-style dataset of (image, label), or a tuple (images, labels).

    Raises ParamsError for anything else, SourceError as :func:`~distillkit.sources.python.images_of` does.
    """
    found = test.test if isinstance(test, RealData) else test
    if isinstance(found, torch.Tensor | np.ndarray | str):
        raise ParamsError(
            f"test is {type(test).__name__}; expected data.test, a map-style Dataset of (image, label), or a tuple "
            "(images, labels)"
        )
    if not isinstance(found, ImageSet):
        rows = Rows(*found) if isinstance(found, tuple) and len(found) == 2 else found
        found = images_of(rows, "test", small.class_names, int(small.images.shape[1]), track)
    lacking = [name for name, count in zip(found.class_names, found.class_counts, strict=True) if not count]
    if lacking:
        raise ParamsError(f"test has no images of class {lacking[0]!r}; expected some of each; give all of data.test")
    return found
