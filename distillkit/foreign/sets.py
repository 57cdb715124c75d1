"""Tensors that other code saved, checked and read as a synthetic set."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from distillkit.base import files as base_files
from distillkit.base.arguments import statistics_numbers
from distillkit.base.errors import ParamsError, SourceError, counted
from distillkit.data.images import ImageSet, Normalisation, SyntheticSet, channel_statistics
from distillkit.data.rows import to_pixels
from distillkit.foreign.files import enumerated, listed, read_sets
from distillkit.foreign.labels import LabelsAs, checked_classes, read_labels
from distillkit.process.progress import tell

SavedAs = Literal["normalised", "pixels"]


def statistics_named(text: str) -> Normalisation:
    """Mean and standard deviation (C,), see :func:`~distillkit.base.arguments.statistics_numbers`."""
    means, stds = statistics_numbers(text)
    return Normalisation(torch.tensor(means), torch.tensor(stds))


def import_set(
    files: Sequence[Path],
    *,
    saved_as: SavedAs,
    statistics: Normalisation | None,
    class_names: Sequence[str] | None,
    labels: LabelsAs | None = None,
    index: int | None = None,
) -> SyntheticSet:
    """The images (N, C, H, W) and labels (N,), or soft labels (N, K), that ``files`` hold together, in any order.

    ``saved_as`` says whether images are normalised by ``statistics``, or pixels; pixels use their own statistics if
    none are given. ``labels`` says whether soft labels are probabilities, logits (their softmax is used) or should
    become hard labels; it is optional for valid probabilities. ``index`` chooses one of several experiments in a file.
    All images count as learned, because the files do not say which real image they come from.

    Raises SourceError for wrong files and ParamsError for wrong arguments. ZCA-whitened images (``--zca`` of MTT, DATM
    and others) look like normalised ones, but no mean and deviation turn them back into pixels. Import the
    ``images_zca_*.pt`` files beside them instead, which are pixels.
    """
    names = enumerated([path.name for path in files])
    parts, index = chosen_parts(files, index)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    images, found = split_tensors(names, tensors)
    kind, classes_N, soft_labels = read_labels(names, found, labels)
    class_names = checked_classes(names, classes_N, found.shape[1] if found.ndim == 2 else None, class_names)
    normalisation, pixels = pixels_of(names, images, saved_as, statistics)
    imported = {
        "files": sorted(({"name": path.name, "sha256": base_files.sha256(path)} for path in files), key=str),
        "index": index,
        "saved_as": saved_as,
        "statistics": "given" if statistics is not None else "of the images themselves",
        "labels": kind,
    }
    images_and_labels = ImageSet(pixels, classes_N, tuple(class_names))
    made = imported_set(images_and_labels, normalisation, imported)
    student_lr = student_lr_of(names, [part for part in parts if isinstance(part, float)])
    return replace(made, student_lr=student_lr, soft_labels=soft_labels)


def imported_set(pixels: ImageSet, normalisation: Normalisation, imported: Mapping[str, Any]) -> SyntheticSet:
    """The set of these images, float32 in pixel space: all count as learned; ``imported`` describes their origin."""
    count, statistics = len(pixels), {"mean": normalisation.mean.tolist(), "std": normalisation.std.tolist()}
    return SyntheticSet(
        images=pixels.images,
        labels=pixels.labels,
        class_names=pixels.class_names,
        learned=torch.ones(count, dtype=torch.bool),
        source_row=torch.full((count,), -1),
        normalisation=normalisation,
        notes={"imported": {**imported, **statistics}},
    )


def chosen_parts(files: Sequence[Path], index: int | None) -> tuple[list[Tensor | float], int]:
    """Tensors and numbers of all files. A file with several sets gives the one at ``index``; None means the first."""
    if not files:
        raise ParamsError("no file is given; expected the images and their labels, in one file or two")
    sets = [read_sets(path) for path in files]
    several = [(path.name, len(found)) for path, found in zip(files, sets, strict=True) if len(found) > 1]
    name, count = min(several, key=lambda pair: pair[1], default=(files[0].name, 1))
    if index is not None and not 0 <= index < count:
        raise ParamsError(f"index is {index}, but {name} holds {counted(count, 'set')}, numbered from 0")
    if several and index is None:
        tell(f"{name} holds {count} sets, one for each experiment; using the first; --index chooses another")
    index = index or 0
    return [part for found in sets for part in (found[index] if len(found) > 1 else found[0])], index


def split_tensors(names: str, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The images, the only tensor with four axes, and the labels, the only one of their length with one or two."""
    images = [tensor for tensor in tensors if tensor.ndim == 4]
    if len(images) != 1:
        grey = not images and any(tensor.ndim == 3 for tensor in tensors)
        mend = "of one channel, save images[:, None]" if grey else "give other files"
        expected = f"expected exactly one tensor of images (N, C, H, W); {mend}"
        raise SourceError(f"{names}: found {listed(tensors)}; {expected}")
    count, *axes = images[0].shape
    if axes[2] in (1, 3) and axes[0] not in (1, 3):
        expected = "expected (N, C, H, W); save images.permute(0, 3, 1, 2)"
        raise SourceError(f"{names}: the images are {listed(images)}, channels last; {expected}")
    if 0 in (count, *axes):
        raise SourceError(f"{names}: the images are {listed(images)}; expected at least one; give other files")
    labels = [tensor for tensor in tensors if tensor.ndim in (1, 2) and len(tensor) == count]
    if len(labels) != 1:
        what = "no labels" if not labels else "several tensors that may be labels"
        expected = f"expected exactly one ({count},) or, if soft, ({count}, classes); give the file with the labels"
        raise SourceError(f"{names}: found {listed(tensors)}, {what} for {counted(count, 'image')}; {expected}")
    return images[0], labels[0]


def pixels_of(
    names: str, images: Tensor, saved_as: SavedAs, statistics: Normalisation | None
) -> tuple[Normalisation, Tensor]:
    """The statistics and the images as float32 in pixel space, checked to be finite and plausible."""
    if images.dtype != torch.uint8 and not images.is_floating_point():
        levels = images.dtype != torch.bool and images.min() >= 0 and images.max() <= 255
        expected = f"expected uint8 or floating point; save images.{'to(torch.uint8)' if levels else 'float()'}"
        raise SourceError(f"{names}: the images are {listed([images])}; {expected}")
    if statistics is not None and len(statistics.mean) != images.shape[1]:
        given = counted(len(statistics.mean), "channel")
        found = f"the statistics have {given}, but the images are {listed([images])}"
        raise ParamsError(f"{found}; expected {counted(images.shape[1], 'channel')}; correct --statistics")
    loaded = to_pixels(images).contiguous()
    if not loaded.isfinite().all():
        expected = "expected finite numbers; use a set that was saved before its distillation diverged"
        raise SourceError(f"{names}: the images hold NaN or infinity in float32; {expected}")
    if saved_as == "pixels":
        if complaint := implausible(loaded):
            mend = "divide them by 255" if loaded.min() >= 0 else "use --saved-as normalised with --statistics"
            raise SourceError(f"{names}: the images are {complaint}; expected pixels mostly in [0, 1]; {mend}")
        return statistics if statistics is not None else channel_statistics(loaded), loaded
    if images.dtype == torch.uint8:
        raise ParamsError(f"saved_as is normalised, but {names} holds uint8 images; expected pixels")
    if statistics is None:
        raise ParamsError("statistics are missing; expected those that the images were normalised with")
    pixels = statistics.undo(loaded)
    if loaded.min() >= 0 and loaded.max() <= 1:
        tell(f"warning: {names}: all values lie in [0, 1], which looks like pixels; check --saved-as")
    elif complaint := implausible(pixels):
        tell(f"warning: {names}: undoing the normalisation gives {complaint}; check --statistics and --saved-as")
    return statistics, pixels


def implausible(pixels: Tensor) -> str:
    """What is wrong with values that should be unclipped pixels; empty if they are plausible.

    Learned pixels overshoot on both sides, but values in [0, 1] deviate by 0.5 at most and normalised ones by about 1.
    """
    low, middle, high = (value.item() for value in (pixels.min(), pixels.median(), pixels.max()))
    deviation = pixels.double().std(correction=0).item()
    if deviation <= 0.6 and -0.25 <= middle <= 1.25 and not (low >= 0 and high > 2):
        return ""
    return f"from {low:.4g} to {high:.4g} with median {middle:.4g} and standard deviation {deviation:.4g}"


def student_lr_of(names: str, numbers: Sequence[float]) -> float | None:
    """The learned step size, which successors of MTT save beside the images as a single number."""
    if not numbers:
        return None
    if len(numbers) > 1 or not (math.isfinite(numbers[0]) and numbers[0] > 0):
        found = ", ".join(f"{number:g}" for number in numbers)
        raise SourceError(f"{names}: found the step size {found}; expected one number above 0; leave out that file")
    return numbers[0]
