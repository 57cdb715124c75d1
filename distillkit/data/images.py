"""The data types that all rooms share: real images, a synthetic set, its iterate.

Images are in one of two spaces; names or docstrings say which. In *pixel space*, real images are in [0, 1] and learned
ones may exceed it. *Normalised* images are the input of networks: (pixel − mean) / std per channel, or ZCA-whitened.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from distillkit.base.device import onto
from distillkit.base.errors import ParamsError, SourceError, shown
from distillkit.data.origin import Found, SourceInfo
from distillkit.data.rows import Encoded, FileRows, Images, Rows, chosen, chunks, few_as_pixels, to_pixels
from distillkit.data.whitening import Whitening
from distillkit.networks.specs import Network

MOST_BYTES = 2**36  # of the pixels of a generated set: 64 GiB; more is a mistake


class Normalisation(NamedTuple):
    """Per-channel statistics of the training pixels: ``mean`` and ``std``, float32 of shape (C,).

    If there is a ``whitening``, it is used instead of them.
    """

    mean: Tensor
    std: Tensor
    whitening: Whitening | None = None

    def apply(self, pixels_NCHW: Tensor) -> Tensor:
        """Pixel space to normalised space."""
        if self.whitening is not None:
            return self.whitening.apply(pixels_NCHW)
        return (pixels_NCHW - self.mean[:, None, None]) / self.std[:, None, None]

    def undo(self, normalised_NCHW: Tensor) -> Tensor:
        """Normalised space to pixel space."""
        if self.whitening is not None:
            return self.whitening.undo(normalised_NCHW)
        return normalised_NCHW * self.std[:, None, None] + self.mean[:, None, None]

    def to(self, device: torch.device) -> "Normalisation":
        whitening = None if self.whitening is None else self.whitening.to(device)
        return Normalisation(self.mean.to(device), self.std.to(device), whitening)


@dataclass(frozen=True)
class ImageSet:
    """Labelled images: ``images`` (N, C, H, W), uint8 or float pixels; ``labels`` (N,) int64.

    Raises SourceError when shapes, types or labels do not fit together.
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images.shape) != 4 or self.images.shape[0] == 0:
            raise SourceError(f"images have shape {tuple(self.images.shape)}; expected a non-empty (N, C, H, W)")
        if self.images.dtype != torch.uint8 and not self.images.dtype.is_floating_point:
            raise SourceError(f"images are {self.images.dtype}; expected uint8 or floating point")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            found = f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise SourceError(f"labels are {found}; expected torch.int64 of shape ({self.images.shape[0]},)")
        low, high, classes = int(self.labels.min()), int(self.labels.max()), len(self.class_names)
        if low < 0 or high >= classes:
            raise SourceError(f"labels run from {low} to {high}; expected 0 to {classes - 1} for {classes} classes")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def class_counts(self) -> list[int]:
        """Images of each class, in class order."""
        return torch.bincount(self.labels, minlength=len(self.class_names)).tolist()

    @property
    def device(self) -> torch.device:
        """The device of labels and batches. ``images`` may be on the CPU if they do not fit there."""
        return self.labels.device

    def pixels(self, rows: Rows = slice(None)) -> Tensor:
        """The images at ``rows`` as float32 in pixel space [0, 1]."""
        return to_pixels(picked(self.images, rows, self.device))

    def take(self, rows: Tensor) -> "ImageSet":
        """The images at ``rows``, in that order."""
        rows = rows.to(self.device)
        return ImageSet(moved(chosen(self.images, rows), self.device), self.labels[rows], self.class_names)

    def to(self, device: torch.device) -> "ImageSet":
        return ImageSet(moved(self.images, device), self.labels.to(device), self.class_names)


def picked(images: Images, rows: Rows, device: torch.device) -> Tensor:
    """The images at ``rows`` on ``device``."""
    found = images[rows.to(images.device) if isinstance(rows, Tensor) else rows]
    return found if found.device == device else onto(device, found)


def moved(images: Images, device: torch.device) -> Images:
    """A tensor, moved to ``device``; images in files, moved there if they fit; all other images unchanged."""
    return images.to(device) if isinstance(images, Tensor | FileRows) else images


def channel_statistics(images: Images) -> Normalisation:
    """Mean and (population) standard deviation of every channel over all pixels of all images, in pixel space.

    A channel that does not vary gets std 1, so that normalised values stay finite.
    """
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    levels = to_pixels(torch.arange(256, dtype=torch.uint8)).double()
    for part in chunks(images):
        if part.dtype == torch.uint8:
            times_C256 = torch.stack(
                [torch.from_numpy(np.bincount(x.flatten(), minlength=256)) for x in part.numpy().swapaxes(0, 1)]
            )
            total += times_C256.double() @ levels
            squares += times_C256.double() @ levels.square()
        else:
            total += part.double().sum((0, 2, 3))
            squares += part.double().square().sum((0, 2, 3))
    count = images.shape.numel() // images.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    std[std < 1e-6] = 1.0
    return Normalisation(mean.float(), std.float())


@dataclass(frozen=True)
class RealData:
    """A source's training and test images; ``normalisation`` is computed on the training images only.

    ``encoded`` has the files of the training images that decode to exactly these images; None if there are no files.
    """

    train: ImageSet
    test: ImageSet
    normalisation: Normalisation
    info: SourceInfo
    found: Found = Found()
    encoded: Encoded | None = None

    def to(self, device: torch.device) -> "RealData":
        return replace(
            self, train=self.train.to(device), test=self.test.to(device), normalisation=self.normalisation.to(device)
        )


@dataclass(frozen=True)
class Schedule:
    """The order in which a set must be trained on, for methods whose images belong to steps (Wang et al. 2018).

    Update k uses all images whose ``step_N`` (N,), int64, is k mod S, where S is the number of steps. Its learning rate
    is ``lr_T[k]``; the number of updates T is a multiple of S, and ``lr_T`` is float32. The schedule is for one
    kind of ``network``. ``starts_RP`` (R, P) are the initial parameters that the set was made for; None: random ones.
    """

    network: Network
    step_N: Tensor
    lr_T: Tensor
    starts_RP: Tensor | None = None

    @property
    def rows(self) -> list[Tensor]:
        """The rows of each update, 0 to T − 1."""
        steps = int(self.step_N.max()) + 1
        own = [(self.step_N == step).nonzero().squeeze(1) for step in range(steps)]
        return [own[step % steps] for step in range(len(self.lr_T))]

    def to(self, device: torch.device) -> "Schedule":
        starts_RP = None if self.starts_RP is None else self.starts_RP.to(device)
        return Schedule(self.network, self.step_N.to(device), self.lr_T.to(device), starts_RP)


@dataclass(frozen=True)
class SyntheticSet:
    """A small training set.

    ``images`` (N, C, H, W) are float32 in pixel space, not clipped, or uint8 if there are many and all are real.
    ``labels`` are (N,) int64. ``learned`` (N,) bool is false for real images and true for all others. ``source_row``
    (N,) int64 is the row of the training image that an image is or started from (−1: none). ``student_lr`` is the
    learned step size, if any. ``notes`` are choices of the method. ``soft_labels`` (N, K) float32, if any, are
    probabilities to train on instead of ``labels``. ``schedule`` is the order to train in, if it matters.
    """

    images: Images
    labels: Tensor
    class_names: tuple[str, ...]
    learned: Tensor
    source_row: Tensor
    normalisation: Normalisation
    student_lr: float | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    soft_labels: Tensor | None = None
    schedule: Schedule | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, rows: Rows = slice(None)) -> Tensor:
        """The images at ``rows`` as float32 in pixel space."""
        return to_pixels(picked(self.images, rows, self.labels.device))

    def image(self, row: int) -> Tensor:
        """One image (C, H, W) as float32 in pixel space."""
        return self.pixels(slice(row, row + 1))[0]

    @property
    def targets(self) -> Tensor:
        """The labels to train on: probabilities (N, K) if the set has soft labels, else classes (N,)."""
        return self.labels if self.soft_labels is None else self.soft_labels

    @property
    def images_per_class(self) -> list[int]:
        return torch.bincount(self.labels, minlength=len(self.class_names)).tolist()

    def to(self, device: torch.device) -> "SyntheticSet":
        names = ("labels", "learned", "source_row", "normalisation", "soft_labels", "schedule")
        parts = {name: part for name in names if (part := getattr(self, name)) is not None}
        return replace(
            self, images=moved(self.images, device), **{name: part.to(device) for name, part in parts.items()}
        )


def real_subset(real: ImageSet, rows: Tensor, normalisation: Normalisation) -> SyntheticSet:
    """The real images at ``rows`` as a synthetic set in which nothing is learned."""
    rows = rows.to(real.device)
    return SyntheticSet(
        images=few_as_pixels(moved(chosen(real.images, rows), real.device)),
        labels=real.labels[rows],
        class_names=real.class_names,
        learned=torch.zeros(len(rows), dtype=torch.bool, device=rows.device),
        source_row=rows,
        normalisation=normalisation,
    )


def all_of(real: ImageSet, normalisation: Normalisation) -> SyntheticSet:
    """All real images as a synthetic set in which nothing is learned. If there are many, they are not copied."""
    rows = torch.arange(len(real), device=real.device)
    nothing = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    return SyntheticSet(few_as_pixels(real.images), real.labels, real.class_names, nothing, rows, normalisation)


def check_fits(ipc: int, classes: int, image_shape: tuple[int, int, int]) -> None:
    """Raise ParamsError if ``ipc`` float32 images (C, H, W) of every class have more than ``MOST_BYTES`` bytes."""
    each = 4 * classes * prod(image_shape)
    if ipc * each > MOST_BYTES:
        shape = "x".join(map(str, image_shape))
        raise ParamsError(
            f"ipc is {shown(ipc)}, but {classes} classes of so many images of {shape} are more than "
            f"{MOST_BYTES // 2**30} GiB; expected at most {MOST_BYTES // each:,} a class; make fewer"
        )


def made_set(pixels: Tensor, class_names: tuple[str, ...], normalisation: Normalisation) -> SyntheticSet:
    """A set of images (N, C, H, W) in pixel space that are not real, in class order, the same number of each class."""
    count = len(pixels) // len(class_names)
    labels = torch.arange(len(class_names), device=pixels.device).repeat_interleave(count)
    return SyntheticSet(
        images=pixels,
        labels=labels,
        class_names=class_names,
        learned=torch.ones_like(labels, dtype=torch.bool),
        source_row=torch.full_like(labels, -1),
        normalisation=normalisation,
    )


class Iterate(NamedTuple):
    """A synthetic set at one outer step. The loss is differentiated by its images, labels and step sizes."""

    images_NCHW: Tensor  # the whole set, normalised
    labels: Tensor  # classes (N,), or probabilities (N, K)
    student_lr: Tensor  # above 0: one, or one for each inner step (S,); NaN if the method does not use it
    learned: Tensor | None = None  # (N,) bool: the images that need gradients; None for all
    step: int = 0  # outer steps done before this one
    memory: dict[str, Tensor] | None = None  # tensors that the method keeps from one outer step to the next
    schedule: Schedule | None = None  # the images of each inner step
