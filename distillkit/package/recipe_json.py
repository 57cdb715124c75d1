"""The content of a package's recipe.json: how a set was made, from which files, its real images and its accuracy.

All of it is counted, measured and checked here, from the set, the source and the metrics.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import torch
from torch import Tensor

from distillkit import __version__
from distillkit.base.errors import ArtifactError, counted
from distillkit.base.files import canonical_json
from distillkit.data.files.container import Opened
from distillkit.data.images import ImageSet, RealData, SyntheticSet
from distillkit.data.rows import chunks
from distillkit.evaluation.evaluate import THIRDS
from distillkit.evaluation.metrics import count, share
from distillkit.evaluation.neighbours import nearest, root_mean_square
from distillkit.evaluation.protocol import normalisation_of, protocol_of
from distillkit.process.progress import track

TIE = 1 - 1e-12  # float64 sums depend on their order; distances this close count as equal
ROUNDING = 2e-6  # mean, deviation and single runs are written to six decimals
SAMPLE = 500  # source images in the yardstick


@dataclass(frozen=True)
class Entry:
    """One recipe: its distilled set, the metrics measured on it, its section of params.yaml, its audit if any."""

    name: str
    artifact: Path
    metrics: Mapping[str, Any]
    params: Mapping[str, Any]
    audit: Mapping[str, Any] | None = None


def stated(name: str, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of recipe.json that follow from the artifact alone; None for a protocol that the set does not have."""
    learned = int(synthetic.learned.sum())
    return {
        "name": name,
        "method": provenance.get("method"),
        "params": provenance.get("params"),
        "provenance": provenance,
        "class_names": list(synthetic.class_names),
        "image_shape": list(synthetic.images.shape[1:]),
        "normalisation": normalisation_of(synthetic.normalisation),
        "student_lr": synthetic.student_lr,
        "notes": dict(synthetic.notes),
        **protocol_of(synthetic, provenance.get("params")),
        "images": {"total": len(synthetic), "learned": learned, "real": len(synthetic) - learned},
    }


def describe(
    entry: Entry, synthetic: SyntheticSet, provenance: Mapping[str, Any], real: RealData, yardstick: float | None
) -> dict[str, Any]:
    """The content, origin and accuracy of the set. Raises ArtifactError as the checks do."""
    check_artifact(entry, synthetic, provenance)
    check_source(entry, synthetic, provenance, real)
    found, counts = stated(entry.name, synthetic, provenance), synthetic.images_per_class
    found["images"] |= {
        "per_class": counts[0] if len(set(counts)) == 1 else None,
        "learned_from_source": int((synthetic.learned & (synthetic.source_row >= 0)).sum()),
        "real_verified": verify_real(entry.artifact, synthetic, real.train),
    }
    return {
        **{key: value for key, value in found.items() if value is not None or key == "student_lr"},
        **({} if entry.audit is None else {"audit": entry.audit}),
        "versions": {"distilled": Opened(entry.artifact).field("distillkit"), "packaged": __version__},
        "nearest_source": learned_distances(synthetic, real.train, yardstick),
        "results": {
            "accuracy": accuracy(entry),
            **{part: entry.metrics[part] for part in (*THIRDS, "attack", "start", "others") if part in entry.metrics},
        },
    }


# Inputs


def digest(images: ImageSet) -> str:
    """SHA-256 of a split in hexadecimal: shapes, types, class names, images and labels; the same from any storage."""
    described = [[str(part.dtype), list(part.shape)] for part in (images.images, images.labels)]
    found = hashlib.sha256(canonical_json([described, list(images.class_names)]).encode())
    for part in (*chunks(images.images), images.labels):
        found.update(part.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def md5(path: Path) -> str:
    """The file's MD5 in hexadecimal, as in ``dvc.lock``. Raises ArtifactError if the file does not exist."""
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected an input of the package; run the stage that writes it")
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def checksums(paths: Sequence[Path]) -> dict[str, str]:
    """MD5 of every file by its path in the pipeline; by its name alone if the path is absolute."""
    return {path.name if path.is_absolute() else path.as_posix(): md5(path) for path in paths}


def without_machine_paths(value: Any) -> Any:
    """The parameters, with every absolute path cut to its last component."""
    if isinstance(value, Mapping):
        return {key: without_machine_paths(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [without_machine_paths(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).expanduser().is_absolute() else value


# Real and learned images


def verify_real(path: Path, synthetic: SyntheticSet, train: ImageSet) -> int:
    """The number of real images. Raises ArtifactError unless each equals its source row to the bit."""
    for place in (~synthetic.learned).nonzero().squeeze(1).split(4096):
        rows = synthetic.source_row[place]
        if bool((rows < 0).any()):
            raise ArtifactError(f"{path} has a real image without a source row; run its distill stage again")
        same = (synthetic.pixels(place) == train.pixels(rows).cpu()).flatten(1).all(1)
        same &= synthetic.labels[place] == train.labels[rows.to(train.device)].cpu()
        if not bool(same.all()):
            worst = int(same.int().argmin())
            found = f"{path}: image {int(place[worst])} is marked real but is not source row {int(rows[worst])}"
            raise ArtifactError(f"{found}; expected the same pixels and label; run its distill stage again")
    return int((~synthetic.learned).sum())


def learned_distances(synthetic: SyntheticSet, train: ImageSet, yardstick: float | None) -> dict[str, Any] | None:
    """Root mean square distances, in pixel space, from learned images to their nearest training images.

    ``median``, ``min`` and ``max`` distance; ``from_start``: how many images are still nearest to the training image
    that they started from; ``copies``: how many equal a training image; ``yardstick`` as given. None if no image is
    learned.
    """
    if not bool(synthetic.learned.any()):
        return None
    images = synthetic.pixels(synthetic.learned.nonzero().squeeze(1)).to(train.device)
    rows = synthetic.source_row[synthetic.learned].to(train.device)
    _, distance = nearest_images(images, train, None, "distances to source images")
    at_start = 0
    for part in (rows >= 0).nonzero().squeeze(1).split(1024):
        own = root_mean_square(images[part], train.pixels(rows[part]))
        at_start += int((own * TIE <= distance[part]).sum())
    return {
        "median": round(median(distance.tolist()), 6),
        "min": round(float(distance.min()), 6),
        "max": round(float(distance.max()), 6),
        "from_start": at_start,
        "copies": int((distance == 0).sum()),
        "yardstick": yardstick,
    }


def source_yardstick(train: ImageSet) -> float | None:
    """Median distance to the nearest other training image, over at most 500 evenly spaced training images."""
    if len(train) < 2:
        return None
    rows = torch.linspace(0, len(train) - 1, min(SAMPLE, len(train)), dtype=torch.float64).round().long()
    _, found = nearest_images(train.pixels(rows), train, rows, "distances between source images")
    return round(float(median(found.tolist())), 6)


def nearest_images(images_NCHW: Tensor, train: ImageSet, exclude_N: Tensor | None, words: str) -> tuple[Tensor, Tensor]:
    """The row (N,) of the nearest training image of each image, and its root mean square distance (N,)."""
    found = nearest(images_NCHW, train.images, exclude_N=exclude_N, track=lambda parts: track(parts, words))
    return found.row_Nk[:, 0], (found.squared_Nk[:, 0] / images_NCHW[0].numel()).sqrt()


# Accuracy


def accuracy(entry: Entry) -> Mapping[str, Any]:
    """The measured accuracy with std and n. Raises ArtifactError if one is missing, out of range or contradictory."""
    for key in ("mean", "std"):
        share(entry.metrics, entry.name, f"accuracy.{key}")
    count(entry.metrics, entry.name, "accuracy.runs")
    measured: Mapping[str, Any] = entry.metrics["accuracy"]
    if found := contradiction_in(measured):
        raise ArtifactError(f"metrics of recipe {entry.name!r} contradict themselves: {found}; run evaluate again")
    return measured


def contradiction_in(accuracy: Mapping[str, Any]) -> str | None:
    """How ``mean``, ``std`` and ``runs`` contradict ``run_1`` and so on; None if they agree."""
    runs = accuracy["runs"]
    expected = [f"run_{index}" for index in range(1, runs + 1)]
    if missing := [key for key in expected if not is_share(accuracy.get(key))]:
        return f"accuracy.{missing[0]} is missing or not between 0 and 1, but accuracy.runs is {runs}"
    if more := [key for key in accuracy if key.startswith("run_") and key not in expected]:
        return f"accuracy has {more[0]}, but accuracy.runs is {runs}"
    values = [float(accuracy[key]) for key in expected]
    mean, std = (fmean(values) if values else 0.0), (stdev(values) if runs > 1 else 0.0)
    if abs(mean - accuracy["mean"]) > ROUNDING or abs(std - accuracy["std"]) > ROUNDING:
        claim = f"mean {accuracy['mean']:.6f} and std {accuracy['std']:.6f}"
        expected_values = f"mean {mean:.6f} and std {std:.6f}"
        return f"accuracy has {claim}; expected {expected_values}, computed from {counted(runs, 'run')}"
    return None


def is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def baselines(per_class: int | None, entries: Sequence[Entry]) -> dict[str, Any]:
    """The accuracies of ``per_class`` random images of every class and of all images; None if not measured."""
    found: dict[str, Any] = {"random": None, "full": None}
    for other in reversed(entries):
        method, ipc = other.params.get("method"), other.params.get("ipc")
        replayed = other.params.get("replay") is not None
        if method == "full" or (method == "random" and ipc == per_class and not replayed):
            found[method] = {"recipe": other.name, "accuracy": accuracy(other)}
    return found


# Checks


def check_artifact(entry: Entry, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless the set belongs to this recipe, names its source, and fits into ``datasets``."""
    path, names = entry.artifact, synthetic.class_names
    if provenance.get("params") != plain(entry.params):
        found = f"{path} was made with other parameters than recipe {entry.name!r} has now"
        raise ArtifactError(f"{found}; expected the same; run its distill stage again")
    if not isinstance(provenance.get("source"), Mapping):
        raise ArtifactError(f"{path} does not name its source in its header; run its distill stage again")
    if synthetic.images.shape[1] not in (1, 3):
        raise ArtifactError(f"{path} has images of {synthetic.images.shape[1]} channels; expected 1 or 3")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ArtifactError(f"{path} has several classes called {twice[0]!r}; expected different names")


def check_source(entry: Entry, synthetic: SyntheticSet, provenance: Mapping[str, Any], real: RealData) -> None:
    """Raise ArtifactError unless source, classes, image shape, statistics and rows of the set are those of ``real``."""
    own, given = (normalisation_of(part.normalisation) for part in (synthetic, real))
    pairs = {
        "source": (provenance["source"], plain(asdict(real.info))),
        "classes": (synthetic.class_names, real.train.class_names),
        "image shape": (tuple(synthetic.images.shape[1:]), real.train.image_shape),
        "mean": (own["mean"], given["mean"]),
        "standard deviation": (own["std"], given["std"]),
        "whitening": (own.get("zca"), given.get("zca")),
    }
    if different := [name for name, (found, expected) in pairs.items() if found != expected]:
        found = f"{entry.artifact} was not made from this source; these differ: {', '.join(different)}"
        raise ArtifactError(f"{found}; expected one source for all; run its distill stage again, or package it alone")
    if (last := int(synthetic.source_row.max())) >= (rows := len(real.train)):
        found = f"{entry.artifact} names source row {last}"
        raise ArtifactError(f"{found}; expected rows below {rows}; run its distill stage again")


def plain(value: Any) -> Any:
    """The value as JSON returns it."""
    return json.loads(json.dumps(value, default=dict))
