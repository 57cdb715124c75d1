"""Distilled sets that other code saved, as artifacts of ours: ``distillkit import``.

Such files hold images and labels and say nothing of the space the images are in, so that has to be told.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from torch import Tensor

from distillkit import artifact
from distillkit.arguments import check_new_artifact, classes_named, statistics_numbers
from distillkit.errors import ParamsError, SourceError
from distillkit.foreign_files import enumerated, listed, read_sets
from distillkit.images import Normalisation, SyntheticSet, channel_statistics, to_pixels
from distillkit.names import recipe_name
from distillkit.progress import tell
from distillkit.regime import labels_words, regime_of

SavedAs = Literal["normalised", "pixels"]
LabelsAs = Literal["probabilities", "logits", "hard"]
EXACT, ROUNDED = 1e-4, 1e-2  # how far from 1 an image's probabilities may sum, as they are and, rescaled, at all

# What is told


def statistics_named(text: str) -> Normalisation:
    """Mean and standard deviation (C,), see :func:`~distillkit.arguments.statistics_numbers`."""
    means, stds = statistics_numbers(text)
    return Normalisation(torch.tensor(means), torch.tensor(stds))


# From files to a set


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

    ``saved_as`` says which space the images are in: normalised by ``statistics``, or pixels, whose own statistics are
    taken when none are given. ``labels`` says what soft labels are: probabilities, logits (their softmax is taken) or
    to be reduced to the likeliest class; what is plainly probabilities need not be told. ``index`` chooses among
    several experiments in one file. Nothing says which real image an image comes from: all count as learned.
    Raises SourceError for what the files hold, ParamsError for what is told. ZCA-whitened images (``--zca`` of MTT,
    DATM and others) cannot be told from normalised ones, but no mean and deviation lead from them back to pixels: take
    the ``images_zca_*.pt`` saved beside them, which are pixels.
    """
    names = enumerated([path.name for path in files])
    parts, index = chosen_parts(files, index)
    tensors = [part for part in parts if isinstance(part, Tensor)]
    images, found = split_tensors(names, tensors)
    kind, classes_N, soft_labels = read_labels(names, found, labels)
    class_names = checked_classes(names, classes_N, found.shape[1] if found.ndim == 2 else None, class_names)
    normalisation, pixels = pixels_of(names, images, saved_as, statistics)
    imported = {
        "files": sorted(({"name": path.name, "sha256": artifact.sha256(path)} for path in files), key=str),
        "index": index,
        "saved_as": saved_as,
        "statistics": "given" if statistics is not None else "of the images themselves",
        "mean": normalisation.mean.tolist(),
        "std": normalisation.std.tolist(),
        "labels": kind,
    }
    return SyntheticSet(
        images=pixels,
        labels=classes_N,
        class_names=tuple(class_names),
        learned=torch.ones(len(classes_N), dtype=torch.bool),
        source_row=torch.full((len(classes_N),), -1),
        normalisation=normalisation,
        student_lr=student_lr_of(names, [part for part in parts if isinstance(part, float)]),
        notes={"imported": imported},
        soft_labels=soft_labels,
    )


def chosen_parts(files: Sequence[Path], index: int | None) -> tuple[list[Tensor | float], int]:
    """Tensors and numbers of all files; of those that hold several sets, of the one at ``index``, the first if None."""
    if not files:
        raise ParamsError("no file is given; expected the images and their labels, in one file or two")
    sets = [read_sets(path) for path in files]
    several = [(path.name, len(found)) for path, found in zip(files, sets, strict=True) if len(found) > 1]
    name, count = min(several, key=lambda pair: pair[1], default=(files[0].name, 1))
    if index is not None and not 0 <= index < count:
        raise ParamsError(f"index is {index}, but {name} holds {count} {'set' if count == 1 else 'sets'}, from 0 on")
    if several and index is None:
        tell(f"{name} holds {count} sets, one for each experiment; taking the first; --index chooses another")
    index = index or 0
    return [part for found in sets for part in (found[index] if len(found) > 1 else found[0])], index


def split_tensors(names: str, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The images, the only tensor with four axes, and the labels, the only one of their length with one or two."""
    images = [tensor for tensor in tensors if tensor.ndim == 4]
    if len(images) != 1:
        raise SourceError(
            f"{names}: found {listed(tensors)}; expected exactly one (N, C, H, W) of images; name the right files"
        )
    count = len(images[0])
    axes = images[0].shape
    if axes[3] in (1, 3) and axes[1] not in (1, 3):
        raise SourceError(
            f"{names}: the images are {listed(images)}, channels last; expected (N, C, H, W); "
            "save images.permute(0, 3, 1, 2)"
        )
    if 0 in axes:
        raise SourceError(f"{names}: the images are {listed(images)}; expected at least one; name the right files")
    labels = [tensor for tensor in tensors if tensor.ndim in (1, 2) and len(tensor) == count]
    if len(labels) != 1:
        what = "no labels" if not labels else "several tensors that may be labels"
        raise SourceError(
            f"{names}: found {listed(tensors)}, {what} for {count} images; expected exactly one ({count},) "
            f"or, soft, ({count}, classes); name the file with the labels"
        )
    return images[0], labels[0]


def read_labels(names: str, found: Tensor, labels_as: LabelsAs | None) -> tuple[str, Tensor, Tensor | None]:
    """What the labels were, classes (N,) int64, and probabilities (N, K) where they are soft.

    Rows of numbers from 0 on that sum to 1 are probabilities; of others it has to be told what they are. Whole numbers
    0 and 1, one 1 a row, are hard.
    """
    if found.ndim == 1:
        check_told(names, "hard", labels_as)
        return "hard", whole_numbers(names, found), None
    if not found.isfinite().all():
        raise SourceError(f"{names}: the soft labels hold nan or infinity; expected finite numbers; get them again")
    likeliest, found = found.argmax(1), found.double()
    if torch.equal(found, F.one_hot(likeliest, found.shape[1]).double()) and labels_as != "logits":
        return "hard", likeliest, None
    if labels_as == "hard":
        return "the likeliest class of soft labels", likeliest, None
    if labels_as == "logits":
        return "softmax of logits", likeliest, found.softmax(1).float()
    total_N = found.sum(1)
    if bool((found >= 0).all()) and bool(((total_N - 1).abs() <= ROUNDED).all()):
        exact = bool(((total_N - 1).abs() <= EXACT).all())
        return "probabilities", likeliest, (found if exact else found / total_N[:, None]).float()
    span = f"rows of {found.min():.4g} to {found.max():.4g} that sum to {total_N.min():.4g} to {total_N.max():.4g}"
    if labels_as == "probabilities":
        raise SourceError(
            f"{names}: the labels are {span}; expected probabilities, 0 to 1 and 1 in all; "
            "say --labels logits, or --labels hard"
        )
    raise SourceError(
        f"{names}: the labels are soft, {span}; expected probabilities, or to be told what they are: "
        "--labels logits (as DATM saves), or --labels hard for the likeliest class alone"
    )


def whole_numbers(names: str, labels: Tensor) -> Tensor:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise SourceError(
            f"{names}: the labels are {listed([labels])}; expected whole numbers from 0 on; "
            "if they are classes, save labels.long()"
        )
    return labels.long()


def check_told(names: str, found: str, told: LabelsAs | None) -> None:
    if told not in (None, found):
        raise ParamsError(f"labels are said to be {told}, but {names} holds one class for each image; leave that away")


def checked_classes(
    names: str, labels: Tensor, columns: int | None, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The class names given, else numbers; every class must have an image."""
    low, high = int(labels.min()), int(labels.max())
    classes = len(class_names) if class_names is not None else columns or high + 1
    if class_names is not None and (len(set(class_names)) != classes or not all(class_names)):
        raise ParamsError(f"classes are {', '.join(class_names)}; expected a name of its own for each")
    if low == 1 and columns is None and (class_names is None or high == classes):
        raise SourceError(
            f"{names}: labels start at 1; expected from 0; subtract 1, or name the whole set where class 0 is missing"
        )
    if low < 0 or high >= classes or (columns or classes) != classes:
        raise SourceError(
            f"{names}: labels run from {low} to {high}{f' in {columns} columns' if columns else ''}; "
            f"expected 0 to {classes - 1} for {classes} classes; correct --classes or the labels"
        )
    present = set(labels.unique().tolist())
    missing = next((label for label in range(classes) if label not in present), None)
    if missing is not None:
        raise SourceError(
            f"{names}: no image has label {missing}; expected images of every class from 0 to {classes - 1}; "
            "name the whole set"
        )
    return tuple(class_names) if class_names is not None else tuple(map(str, range(classes)))


def pixels_of(
    names: str, images: Tensor, saved_as: SavedAs, statistics: Normalisation | None
) -> tuple[Normalisation, Tensor]:
    """The statistics and the images as float32 in pixel space, checked to be finite and plausible."""
    if images.dtype != torch.uint8 and not images.is_floating_point():
        levels = images.dtype != torch.bool and images.min() >= 0 and images.max() <= 255
        raise SourceError(
            f"{names}: the images are {listed([images])}; expected uint8 or floating point; "
            f"save images.{'to(torch.uint8)' if levels else 'float()'}"
        )
    if statistics is not None and len(statistics.mean) != images.shape[1]:
        channels = len(statistics.mean)
        raise ParamsError(
            f"statistics are of {channels} {'channel' if channels == 1 else 'channels'}, but {names} holds images "
            f"{listed([images])}; expected {images.shape[1]}; correct --statistics"
        )
    loaded = to_pixels(images).contiguous()
    if not loaded.isfinite().all():
        raise SourceError(
            f"{names}: the images hold nan or infinity in float32; expected finite numbers; "
            "take a set that was saved before its distillation diverged"
        )
    if saved_as == "pixels":
        check_pixels(names, loaded)
        return statistics if statistics is not None else channel_statistics(loaded), loaded
    if images.dtype == torch.uint8:
        raise ParamsError(f"saved_as is normalised, but {names} holds uint8 images; expected pixels")
    if statistics is None:
        raise ParamsError("statistics are missing; expected those that the images were normalised with")
    pixels = statistics.undo(loaded)
    if loaded.min() >= 0 and loaded.max() <= 1:
        tell(f"warning: {names}: all values lie in [0, 1], which looks like pixels; --saved-as pixels?")
    elif complaint := implausible(pixels):
        tell(f"warning: {names}: undoing the normalisation gives {complaint}; check --statistics and --saved-as")
    return statistics, pixels


def check_pixels(names: str, pixels: Tensor) -> None:
    """Raise SourceError when the values look normalised, or like 0 to 255."""
    if complaint := implausible(pixels):
        mend = "divide them by 255" if pixels.min() >= 0 else "say --saved-as normalised, and with which --statistics"
        raise SourceError(f"{names}: the images are {complaint}; expected pixels in [0, 1] for the most part; {mend}")


def implausible(pixels: Tensor) -> str:
    """What is wrong with values that should be pixels, unclipped; nothing when they may be.

    Learned pixels overshoot on both sides, but values in [0, 1] deviate by 0.5 at most and normalised ones by about 1.
    """
    low, middle, high = (value.item() for value in (pixels.min(), pixels.median(), pixels.max()))
    deviation = pixels.double().std(correction=0).item()
    if deviation <= 0.6 and -0.25 <= middle <= 1.25 and not (low >= 0 and high > 2):
        return ""
    return f"from {low:.4g} to {high:.4g} with median {middle:.4g} and standard deviation {deviation:.4g}"


def student_lr_of(names: str, numbers: Sequence[float]) -> float | None:
    """The learned step size, which MTT's successors save beside the images as a number alone."""
    if not numbers:
        return None
    if len(numbers) > 1 or not (math.isfinite(numbers[0]) and numbers[0] > 0):
        found = ", ".join(f"{number:g}" for number in numbers)
        raise SourceError(f"{names}: found the step size {found}; expected one number above 0; leave that file away")
    return numbers[0]


# The command


def import_files(
    files: Sequence[Path],
    out: Path,
    *,
    saved_as: SavedAs,
    statistics: str | None,
    classes: str | None = None,
    labels: LabelsAs | None = None,
    index: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Read ``files`` as :func:`import_set` does, write the artifact ``out``, and say what it holds, as plain data.

    ``recipe`` is what to paste below ``recipes:`` in params.yaml, None when there can be none: when classes have
    different numbers of images, or ``out`` is not below the working folder.
    """
    check_new_artifact("out", out, overwrite)
    synthetic = import_set(
        files,
        saved_as=saved_as,
        statistics=None if statistics is None else statistics_named(statistics),
        class_names=None if classes is None else classes_named(classes),
        labels=labels,
        index=index,
    )
    params = {"method": "imported", "saved_as": saved_as, "statistics": statistics, "labels": labels}
    provenance = {"recipe": recipe_name(out.stem), "method": "imported", "params": params}
    artifact.save_synthetic(out, synthetic, provenance)
    return written(out, synthetic)


def written(out: Path, synthetic: SyntheticSet) -> dict[str, Any]:
    """What the artifact ``out`` holds; where no recipe can be made of it, why not is told."""
    counts = synthetic.images_per_class
    balanced = len(set(counts)) == 1
    if not balanced:
        tell(f"{out} has {min(counts)} to {max(counts)} images per class; a recipe needs the same number of each")
    file = path_inside(out)
    if file is None:
        tell(f"{out} is outside of {Path.cwd()}; a recipe needs a path inside the repository; import it there")
    return {
        "path": str(out),
        "sha256": artifact.sha256(out),
        "images": len(synthetic),
        "image_shape": list(synthetic.images.shape[1:]),
        "classes": len(synthetic.class_names),
        "images_per_class": counts[0] if balanced else counts,
        "soft_labels": regime_of(synthetic)["soft_labels"],
        "pixel_range": [round(synthetic.images.min().item(), 4), round(synthetic.images.max().item(), 4)],
        "recipe": recipe_snippet(out.stem, out, synthetic) if balanced and file is not None else None,
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What was imported, for people, and what to do with it."""
    shape, (low, high) = "x".join(map(str, found["image_shape"])), found["pixel_range"]
    images = f"{found['images']} images of {shape} in {found['classes']} classes"
    soft = found["soft_labels"]
    labels = "" if soft is None else f", labels {labels_words(soft)}"
    yield f"{found['path']}: {images}, pixels {low:g} to {high:g}{labels}"
    if found["recipe"] is not None:
        yield "to measure and package it, put this below recipes: in params.yaml, and run dvc repro"
        yield str(found["recipe"]).rstrip()


def recipe_snippet(name: str, path: Path, synthetic: SyntheticSet) -> str:
    """The recipe that takes the set at ``path`` through the pipeline, as lines of YAML for below ``recipes:``.

    Raises ParamsError when classes have different numbers of images, or ``path`` is not below the working folder.
    """
    counts = synthetic.images_per_class
    if len(set(counts)) != 1:
        raise ParamsError(f"{path} has {counts} images per class; a recipe needs the same number of each class")
    file = path_inside(path)
    if file is None:
        raise ParamsError(f"{path} is outside of {Path.cwd()}; a recipe needs a path inside the repository")
    lines = [f"  {quoted(recipe_name(name))}:", "    method: imported", f"    ipc: {counts[0]}"]
    lines += [f"    file: {quoted(file.as_posix())}", f"    sha256: {quoted(artifact.sha256(path))}"]
    return "\n".join(lines) + "\n"


def path_inside(path: Path) -> Path | None:
    """``path`` relative to the working folder, links to elsewhere as they are named; None when it is outside."""
    here = Path.cwd()
    named = here / path
    for full in (named, named.parent.resolve() / path.name):
        if ".." not in full.parts and full.is_relative_to(here):
            return full.relative_to(here)
    return None


def quoted(text: str) -> str:
    """Text as YAML reads it back: plain where that says the same, as 12e45 and yes do not."""
    try:
        plain = re.fullmatch(r"[\w./-]+", text) is not None and YAML(typ="safe").load(text) == text
    except YAMLError:
        plain = False
    return text if plain else artifact.canonical_json(text)
