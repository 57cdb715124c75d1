"""Files of difficulty and of synthetic sets: safetensors, written atomically and checked when they are read.

One metadata key has canonical JSON, because safetensors does not write several keys in a stable order. Nothing is
unpickled.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import NoneType
from typing import Any, cast

import torch
from torch import Tensor

from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.data.files.container import (
    Opened,
    checked_images,
    class_names_of,
    normalisation_tensors,
    read_normalisation,
    save,
)
from distillkit.data.files.packed import ELSEWHERE, read_packed
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.images import RealData, Schedule, SyntheticSet
from distillkit.data.rows import IN_MEMORY, PART, Images, few_as_pixels, to_pixels
from distillkit.networks.specs import Network


def save_difficulty(path: Path, difficulty_N: Tensor, scores: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write the difficulty (N,) in use, and every score (N,) that could be computed, by name."""
    save(path, "difficulty", {"difficulty": difficulty_N.clone(), **scores}, header)


def load_difficulty(path: Path, images: int) -> tuple[Tensor, Tensor | None]:
    """The difficulty (N,) in use, and the experts' probability (N,) of each label, None if it was not recorded."""
    opened = Opened(path, "difficulty")
    difficulty_N = opened.tensor("difficulty", [images], torch.float32)
    if not opened.has("confidence"):
        return difficulty_N, None
    return difficulty_N, 1 - opened.tensor("confidence", [images], torch.float32)


def save_reference(path: Path, difficulty_N: Tensor, header: Mapping[str, Any]) -> None:
    save(path, "reference", {"test_difficulty": difficulty_N}, header)


def load_reference(path: Path, images: int) -> Tensor:
    """The difficulty (N,) of each test image."""
    return Opened(path, "reference").tensor("test_difficulty", [images], torch.float32)


def provenance_of(recipe: str, method: str, params: Mapping[str, Any], seed: int, data: RealData) -> dict[str, Any]:
    """The provenance of a synthetic set: recipe, parameters, seed and source, for its header and its package."""
    return {
        "recipe": recipe,
        "method": method,
        "params": params,
        "seed": seed,
        "source": asdict(data.info),
        "source_images": {"train": len(data.train), "test": len(data.test)},
    }


def save_synthetic(path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> None:
    """Write a synthetic set and its provenance; see :func:`provenance_of`.

    Learned images are written as float32, real ones as uint8 if that is exact. A set of all images of a large source is
    written without images; :func:`load_synthetic` takes them from the source.
    """
    whole = is_whole(synthetic, provenance)
    tensors = {
        **({} if whole else image_tensors(synthetic)),
        "labels": synthetic.labels,
        "learned": synthetic.learned,
        "source_row": synthetic.source_row,
        **normalisation_tensors(synthetic.normalisation),
    }
    if synthetic.soft_labels is not None:
        tensors["soft_labels"] = synthetic.soft_labels
    if (schedule := synthetic.schedule) is not None:
        tensors |= {"schedule_step": schedule.step_N, "schedule_lr": schedule.lr_T}
        tensors |= {} if schedule.starts_RP is None else {"schedule_starts": schedule.starts_RP}
    header: dict[str, Any] = {
        "class_names": list(synthetic.class_names),
        "student_lr": synthetic.student_lr,
        "notes": dict(synthetic.notes),
        "provenance": provenance,
    }
    if whole:
        header["images_of"] = "source"
    if schedule is not None:
        header["schedule_network"] = asdict(schedule.network)
    save(path, "synthetic", tensors, header)


def load_synthetic(path: Path) -> tuple[SyntheticSet, dict[str, Any]]:
    """A synthetic set and its provenance. Raises ArtifactError when the file is missing or invalid."""
    opened = Opened(path, "synthetic")
    images = read_set_images(opened)
    labels = opened.tensor("labels", [len(images)], torch.int64)
    names = class_names_of(opened)
    checked_images(opened, images, labels, names)
    check_attack(opened, len(names))
    synthetic = SyntheticSet(
        images=images,
        labels=labels,
        class_names=names,
        learned=opened.tensor("learned", [len(images)], torch.bool),
        source_row=opened.tensor("source_row", [len(images)], torch.int64),
        normalisation=read_normalisation(opened, images.shape[1:]),
        student_lr=opened.field("student_lr", float, NoneType),
        notes=opened.field("notes", dict),
        soft_labels=read_soft_labels(opened, len(images), len(names)),
        schedule=read_schedule(opened, len(images)),
    )
    return synthetic, opened.field("provenance", dict)


def is_whole(synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> bool:
    """Whether a set has all training images of a large source, in the source's order."""
    known, rows = provenance.get("source_images", {}), synthetic.source_row
    large = synthetic.images.dtype == torch.uint8 and synthetic.images.shape.numel() > IN_MEMORY
    return large and known.get("train") == len(rows) and bool((rows.cpu() == torch.arange(len(rows))).all())


def image_tensors(synthetic: SyntheticSet) -> dict[str, Tensor]:
    """The images as tensors of a file: all in one, or, if uint8 is exact for the real ones, real and learned apart."""
    images, learned = synthetic.images[:], synthetic.learned
    if images.dtype == torch.uint8 or bool(learned.all()):
        return {"images": images}
    parts = [as_bytes(images[rows]) for rows in (~learned).nonzero().squeeze(1).split(PART)]
    if any(part is None for part in parts):
        return {"images": images}
    real = torch.cat([part for part in parts if part is not None])
    return {"real_images": real, "learned_images": images[learned]} if bool(learned.any()) else {"images": real}


def as_bytes(pixels: Tensor) -> Tensor | None:
    """Images in pixel space as uint8; None if that would change them."""
    levels = (pixels * 255).round_().clamp_(0, 255).to(torch.uint8)
    return levels if torch.equal(to_pixels(levels), pixels) else None


def read_set_images(opened: Opened) -> Images:
    """The images of a set (N, C, H, W): float32, or uint8 if all are real and there are many."""
    if opened.header.get("images_of") == "source":
        return source_images(opened)
    if ELSEWHERE in opened.header:
        return read_packed(opened)
    if not opened.has("real_images"):
        is_bytes = opened.has("images") and opened.file.get_slice("images").get_dtype() == "U8"
        if is_bytes:
            return few_as_pixels(opened.images("images"))
        return opened.tensor("images", [None, None, None, None])
    real = opened.tensor("real_images", [None, None, None, None], torch.uint8)
    learned, learned_N = (
        opened.tensor("learned_images", [None, *real.shape[1:]]),
        opened.tensor("learned", [None], torch.bool),
    )
    fits = len(learned_N) == len(real) + len(learned) and int(learned_N.sum()) == len(learned)
    found = f"{len(real)} real and {len(learned)} learned images"
    opened.require(fits, f" has {found}, and 'learned' names {int(learned_N.sum())} of {len(learned_N)}")
    images = torch.empty(len(learned_N), *real.shape[1:])
    images[~learned_N], images[learned_N] = to_pixels(real), learned
    return images


def source_images(opened: Opened) -> Images:
    """The training images of the pipeline, for a set that has all of them. Raises ArtifactError if they are missing or
    have other labels.
    """
    real = opened.path.resolve().parent.parent / "real"
    if not real_file(real).is_file():
        raise ArtifactError(
            f"{opened.path} is all of its source, whose images are in {real}, which does not exist; run the fetch "
            "stage, or dvc pull"
        )
    source = load_real(real).train
    same = torch.equal(source.labels, opened.tensor("labels", [None], torch.int64))
    opened.require(same, f" is all of another source than the one in {real}")
    return source.images


def check_attack(opened: Opened, classes: int) -> None:
    """Raise ArtifactError if the notes have an attack that is not from one class to another."""
    attack = opened.field("notes", dict).get("attack", {})
    labels = {attack[key] for key in attack.keys() & {"attack_label", "target_label"}}
    found, fits = ", ".join(map(str, sorted(labels))), len(labels) == 2 and max(labels) < classes
    opened.require(not attack or fits, f" has an attack on labels {found}; expected two below {classes}")


def read_soft_labels(opened: Opened, images: int, classes: int) -> Tensor | None:
    """Probabilities (N, K), None if the set has none. Raises ArtifactError unless each row sums to 1."""
    if not opened.has("soft_labels"):
        return None
    probability_NK = opened.tensor("soft_labels", [images, classes], torch.float32)
    if not ((probability_NK >= 0).all() and ((probability_NK.sum(1) - 1).abs() < 1e-3).all()):
        raise ArtifactError(f"{opened.path}: 'soft_labels' are no probabilities; expected rows that sum to 1")
    return probability_NK


def read_schedule(opened: Opened, images: int) -> Schedule | None:
    """The set's schedule, None if it has none.

    Raises ArtifactError unless the steps are 0 to S − 1 without a gap, the number of step sizes is a multiple of S, and
    all are above 0.
    """
    if not opened.has("schedule_step"):
        return None
    step_N, lr_T = opened.tensor("schedule_step", [images], torch.int64), opened.tensor("schedule_lr", [None])
    steps = step_N.unique()
    counted, dealt = torch.equal(steps, torch.arange(len(steps))), len(lr_T) % len(steps) == 0
    expected = "steps counted from 0, and so many step sizes above 0 for each of them"
    found = f"a schedule of {len(steps)} steps and {len(lr_T)} step sizes"
    opened.require(counted and dealt and (lr_T > 0).all(), f" has {found}; expected {expected}")
    starts_RP = opened.tensor("schedule_starts", [None, None]) if opened.has("schedule_starts") else None
    return Schedule(read_network(opened, "schedule_network", "run its stage again"), step_N, lr_T, starts_RP)


def read_network(opened: Opened, entry: str, mend: str) -> Network:
    """The network that a header entry describes. Raises ArtifactError, which ends with ``mend``, for an invalid one."""
    from distillkit.base import params  # imported here, because it needs pydantic and the other functions do not

    try:
        found: Network = params.read(opened.field(entry), cast(Any, Network), entry, opened.path)
    except ParamsError as error:
        raise ArtifactError(f"{error}; {mend}") from None
    return found
