"""Everything at rest: safetensors files that describe themselves, written atomically and checked before use.

One metadata key holds canonical JSON, because several keys are not written in a stable order. Nothing is unpickled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path
from types import NoneType
from typing import Any, cast

import torch
from torch import Tensor

from distillkit.base.errors import ArtifactError, ParamsError, SourceError
from distillkit.base.outside import shown
from distillkit.data.container import Opened, save
from distillkit.data.images import Found, ImageSet, Normalisation, RealData, Schedule, SourceInfo, SyntheticSet
from distillkit.data.networks import Network
from distillkit.data.whitening import Whitening


def class_names_of(opened: Opened) -> tuple[str, ...]:
    names = opened.field("class_names", list)
    are_text = all(isinstance(name, str) for name in names)
    opened.require(are_text, f" has class_names {shown(names)}; expected a list of names")
    return tuple(names)


def checked_images(opened: Opened, images: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> ImageSet:
    try:
        return ImageSet(images, labels, class_names)
    except SourceError as error:
        raise ArtifactError(f"{opened.path}: {error}; run its stage again") from error


def read_normalisation(opened: Opened, image_shape: Sequence[int]) -> Normalisation:
    """For images of this (C, H, W)."""
    values = prod(image_shape)
    mean, std = (opened.tensor(name, [image_shape[0]], torch.float32) for name in ("mean", "std"))
    opened.require((std > 0).all(), f": 'std' is {std.tolist()}; expected numbers above 0")
    return Normalisation(mean, std, read_whitening(opened, values) if opened.has("zca_mean") else None)


def read_whitening(opened: Opened, values: int) -> Whitening:
    """The whitening of images of so many values: a basis at right angles, scales above 0."""
    mean_D, basis_DD = opened.tensor("zca_mean", [values]), opened.tensor("zca_basis", [values, values])
    scale_D = opened.tensor("zca_scale", [values])
    opened.require((scale_D > 0).all(), f": 'zca_scale' has {scale_D.min():g}; expected all above 0")
    lengths_D = basis_DD.square().sum(0)
    opened.require(((lengths_D - 1).abs() < 1e-3).all(), ": 'zca_basis' is no basis of unit vectors")
    return Whitening(mean_D, basis_DD, scale_D)


def normalisation_tensors(normalisation: Normalisation) -> dict[str, Tensor]:
    """As they are kept: whitening, where there is one, beside the statistics."""
    tensors = {"mean": normalisation.mean, "std": normalisation.std}
    if (zca := normalisation.whitening) is not None:
        tensors |= {"zca_mean": zca.mean_D, "zca_basis": zca.basis_DD, "zca_scale": zca.scale_D}
    return tensors


def save_real(path: Path, data: RealData) -> None:
    tensors = {
        "train_images": data.train.images,
        "train_labels": data.train.labels,
        "test_images": data.test.images,
        "test_labels": data.test.labels,
        **normalisation_tensors(data.normalisation),
    }
    header = {"class_names": list(data.train.class_names), "source": asdict(data.info)}
    if data.found != usual(data.info.kind):
        header["found"] = asdict(data.found)
    save(path, "real", tensors, header)


def usual(kind: str) -> Found:
    """What need not be said: both splits are called as usual; digits have no test split."""
    return Found(test=None) if kind == "digits" else Found()


def read_found(opened: Opened) -> Found:
    """What an artifact of real images says beside them; one from before anything was said has the usual."""
    source = opened.field("source", dict)
    if "found" not in opened.header:
        return usual(str(source.get("kind")))
    found = opened.field("found", dict)
    try:
        tallies = {
            name: {str(what): (int(times), str(first)) for what, (times, first) in found[name].items()}
            for name in ("left_out", "notes")
        }
        test = None if found["test"] is None else str(found["test"])
        return Found(str(found["train"]), test, **tallies)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{opened.path} does not say what was left out ({error}); run its stage again") from None


def load_real(path: Path) -> RealData:
    opened = Opened(path, "real")
    names = class_names_of(opened)
    splits = [
        checked_images(
            opened,
            opened.tensor(f"{split}_images", [None, None, None, None], torch.uint8),
            opened.tensor(f"{split}_labels", [None], torch.int64),
            names,
        )
        for split in ("train", "test")
    ]
    try:
        info = SourceInfo(**opened.field("source", dict))  # of the right types: see headers.py
    except TypeError as error:
        raise ArtifactError(f"{path} does not say where its images come from ({error}); run its stage again") from None
    normalisation = read_normalisation(opened, splits[0].image_shape)
    return RealData(splits[0], splits[1], normalisation, info, read_found(opened))


def save_difficulty(path: Path, difficulty_N: Tensor, scores: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """The difficulty in use, and every score that could be computed, by name."""
    save(path, "difficulty", {"difficulty": difficulty_N.clone(), **scores}, header)


def load_difficulty(path: Path, images: int) -> tuple[Tensor, Tensor | None]:
    """The difficulty (N,) in use, and the probability the experts gave each label, where recorded."""
    opened = Opened(path, "difficulty")
    difficulty_N = opened.tensor("difficulty", [images], torch.float32)
    if not opened.has("confidence"):
        return difficulty_N, None
    return difficulty_N, 1 - opened.tensor("confidence", [images], torch.float32)


def save_reference(path: Path, difficulty_N: Tensor, header: Mapping[str, Any]) -> None:
    save(path, "reference", {"test_difficulty": difficulty_N}, header)


def load_reference(path: Path, images: int) -> Tensor:
    """Difficulty (N,) of every test image."""
    return Opened(path, "reference").tensor("test_difficulty", [images], torch.float32)


def provenance_of(recipe: str, method: str, params: Mapping[str, Any], seed: int, data: RealData) -> dict[str, Any]:
    """Where a synthetic set comes from, as it is kept in its header and published with it."""
    return {
        "recipe": recipe,
        "method": method,
        "params": params,
        "seed": seed,
        "source": asdict(data.info),
        "source_images": {"train": len(data.train), "test": len(data.test)},
    }


def save_synthetic(path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> None:
    """A synthetic set and where it came from: recipe, parameters, source, seed."""
    tensors = {
        "images": synthetic.images,
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
    header = {
        "class_names": list(synthetic.class_names),
        "student_lr": synthetic.student_lr,
        "notes": dict(synthetic.notes),
        "provenance": provenance,
    }
    if schedule is not None:
        header["schedule_network"] = asdict(schedule.network)
    save(path, "synthetic", tensors, header)


def load_synthetic(path: Path) -> tuple[SyntheticSet, dict[str, Any]]:
    """A synthetic set and its provenance, both checked."""
    opened = Opened(path, "synthetic")
    images = opened.tensor("images", [None, None, None, None], torch.float32)
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


def check_attack(opened: Opened, classes: int) -> None:
    """Raise ArtifactError unless an attack that the notes tell of is from one class to another."""
    attack = opened.field("notes", dict).get("attack", {})
    labels = {attack[key] for key in attack.keys() & {"attack_label", "target_label"}}
    found, fits = ", ".join(map(str, sorted(labels))), len(labels) == 2 and max(labels) < classes
    opened.require(not attack or fits, f" has an attack on labels {found}; expected two below {classes}")


def read_soft_labels(opened: Opened, images: int, classes: int) -> Tensor | None:
    """Probabilities (N, K), where the set has some."""
    if not opened.has("soft_labels"):
        return None
    probability_NK = opened.tensor("soft_labels", [images, classes], torch.float32)
    if not ((probability_NK >= 0).all() and ((probability_NK.sum(1) - 1).abs() < 1e-3).all()):
        raise ArtifactError(f"{opened.path}: 'soft_labels' are no probabilities; expected rows that sum to 1")
    return probability_NK


def read_schedule(opened: Opened, images: int) -> Schedule | None:
    """The order of training, where the set has one: steps 0 to S − 1 without a gap, each with step sizes above 0."""
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
    """The network that a header entry describes."""
    from distillkit.base import params  # not for machines without pydantic, which read and write tensors only

    try:
        found: Network = params.read(opened.field(entry), cast(Any, Network), entry, opened.path)
    except ParamsError as error:
        raise ArtifactError(f"{error}; {mend}") from None
    return found
