"""A report as numbers for ``dvc metrics`` and ``dvc plots``: nested mappings and rows of tables."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.base.files import read_csv
from distillkit.base.outside import UnreadableError, content, read_json
from distillkit.data.images import ImageSet, SyntheticSet
from distillkit.evaluation.evaluate import THIRDS, Report, attack_success, neighbour_accuracy, start_accuracy
from distillkit.evaluation.protocol import schedule_of

CONFUSION = ("label", "taken", "count")


def mean_and_std(values_R: Tensor) -> dict[str, float]:
    """Mean and sample standard deviation over runs (0 for one run), rounded to six decimals."""
    std = values_R.std(correction=1).item() if len(values_R) > 1 else 0.0
    return {"mean": round(values_R.mean().item(), 6), "std": round(std, 6)}


def accuracy_of(report: Report) -> dict[str, float]:
    """``mean`` and ``std`` of the networks' accuracies, their number ``runs``, and each one as ``run_1`` and so on."""
    runs = {f"run_{index}": round(value, 6) for index, value in enumerate(report.accuracy_R.tolist(), start=1)}
    return {**mean_and_std(report.accuracy_R), "runs": len(report.accuracy_R), **runs}


def metrics_of(report: Report, synthetic: SyntheticSet, test: ImageSet, neighbours: int) -> dict[str, Any]:
    """All metrics of a set: of the networks in ``report``, of nearest ``neighbours``, and of its initial weights.

    Accuracies are 0 to 1. There are no lists, because ``dvc metrics`` silently drops them. Entries for soft labels, a
    schedule, initial weights or an attack exist only for sets that have these.
    """
    learned = int(synthetic.learned.sum())
    images = {"total": len(synthetic), "learned": learned, "real": len(synthetic) - learned}
    found: dict[str, Any] = {
        "accuracy": accuracy_of(report),
        **{third: mean_and_std(report.third_accuracy_R3[:, index]) for index, third in enumerate(THIRDS)},
        "images": images if synthetic.soft_labels is None else images | {"soft_labelled": len(synthetic)},
        "knn": {"accuracy": round(neighbour_accuracy(synthetic, test, neighbours), 6), "neighbours": neighbours},
    }
    if (schedule := schedule_of(synthetic.schedule)) is not None:
        found["schedule"] = {key: schedule[key] for key in ("steps", "updates")}
    if (start_R := start_accuracy(synthetic, test)) is not None:
        found["start"] = {"accuracy": mean_and_std(start_R)}
    if (attack := synthetic.notes.get("attack")) is not None:
        labels = attack["attack_label"], attack["target_label"]
        modified_R, taken_R = attack_success(report.predicted_RN, test.labels.cpu(), *labels)
        found["attack"] = {"modified_accuracy": mean_and_std(modified_R), "taken_for_target": mean_and_std(taken_R)}
    return found


def others_of(reports: Mapping[str, Report]) -> dict[str, Any]:
    """The accuracies of networks other than the main one, by their names, under ``others``; empty without any."""
    return {"others": {name: {"accuracy": accuracy_of(report)} for name, report in reports.items()}} if reports else {}


def classes_of(report: Report, synthetic: SyntheticSet) -> list[dict[str, Any]]:
    """Mean accuracy of each class, as rows for a plot. The metrics lack them, because there can be hundreds."""
    means = report.class_accuracy_RK.mean(0).tolist()
    pairs = zip(synthetic.class_names, means, strict=True)
    return [{"class": name, "accuracy": round(value, 6)} for name, value in pairs]


def confusion_of(report: Report, test: ImageSet) -> list[tuple[int, int, int]]:
    """The number of test images for each label and predicted class, summed over runs.

    The columns of a row are named in ``CONFUSION``. Rows with count 0 are left out.
    """
    classes, labels_N = len(test.class_names), test.labels.cpu()
    found, counts = (labels_N * classes + report.predicted_RN.cpu()).unique(return_counts=True)
    return [(*divmod(pair, classes), count) for pair, count in zip(found.tolist(), counts.tolist(), strict=True)]


def read_confusion(path: Path, classes: int) -> list[tuple[int, int, int]]:
    """The rows of :func:`confusion_of` from a file. Raises ArtifactError when it is missing, invalid, or has a class
    that is not below ``classes``.
    """
    given, counts = (read_csv(path, CONFUSION[0], name) for name in CONFUSION[1:])
    found = [(label, int(taken), int(count)) for (label, taken), (_, count) in zip(given, counts, strict=True)]
    if all(max(label, taken) < classes and min(taken, count) >= 0 for label, taken, count in found):
        return found
    raise ArtifactError(f"{path} names classes beyond the {classes} of the set; run its evaluate stage again")


def read_metrics(path: Path) -> dict[str, Any]:
    """Read the metrics file of an evaluate stage. Raises ArtifactError when it is missing or not a JSON mapping."""
    try:
        metrics = read_json(content(path))
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected a recipe's metrics; run its evaluate stage") from None
    except UnreadableError as error:
        raise ArtifactError(f"{path} is not valid JSON ({error}); run its evaluate stage again") from None
    if not isinstance(metrics, dict):
        raise ArtifactError(f"{path} holds {type(metrics).__name__}; expected a mapping; run its evaluate stage again")
    return metrics


def share(metrics: Mapping[str, Any], recipe: str, key: str) -> float:
    """The number from 0 to 1 at ``key``. Raises ArtifactError when it is missing or something else."""
    value = entry(metrics, recipe, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise wrong(recipe, key, value, "a number from 0 to 1")
    return float(value)


def count(metrics: Mapping[str, Any], recipe: str, key: str) -> int:
    """The integer, 0 or more, at ``key``. Raises ArtifactError when it is missing or something else."""
    value = entry(metrics, recipe, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(recipe, key, value, "a whole number")
    return value


def entry(metrics: Mapping[str, Any], recipe: str, key: str) -> Any:
    """The value at ``key``, a path with dots. Raises ArtifactError when it is missing."""
    value: Any = metrics
    for part in key.split("."):
        if not isinstance(value, Mapping):
            raise wrong(recipe, key.removesuffix(f".{part}"), value, f"a mapping with {part}")
        if part not in value:
            found = ", ".join(value) or "nothing"
            missing = f"has no {key}; found {found} where {part} should be"
            raise ArtifactError(f"metrics/{recipe}.json {missing}; run evaluate again")
        value = value[part]
    return value


def wrong(recipe: str, key: str, value: Any, expected: str) -> ArtifactError:
    return ArtifactError(f"metrics/{recipe}.json: {key} is {value!r}; expected {expected}; run evaluate again")
