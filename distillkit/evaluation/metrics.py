"""A report as numbers that ``dvc metrics`` and ``dvc plots`` show: nested mappings of numbers, and CSV curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.base.outside import UnreadableError, content, read_json
from distillkit.data.images import ImageSet, SyntheticSet
from distillkit.evaluation.evaluate import THIRDS, Report, attack_success, neighbour_accuracy, start_accuracy
from distillkit.evaluation.protocol import schedule_of


def mean_and_std(values_R: Tensor) -> dict[str, float]:
    """Mean and sample standard deviation over runs (0 for a single run), to six decimals."""
    std = values_R.std(correction=1).item() if len(values_R) > 1 else 0.0
    return {"mean": round(values_R.mean().item(), 6), "std": round(std, 6)}


def accuracy_of(report: Report) -> dict[str, float]:
    """``mean`` and ``std`` of the networks' accuracies, ``runs`` and each single one, ``run_1`` and so on."""
    runs = {f"run_{index}": round(value, 6) for index, value in enumerate(report.accuracy_R.tolist(), start=1)}
    return {**mean_and_std(report.accuracy_R), "runs": len(report.accuracy_R), **runs}


def metrics_of(report: Report, synthetic: SyntheticSet, test: ImageSet, neighbours: int) -> dict[str, Any]:
    """All figures of a set: of the networks in ``report``, of its nearest ``neighbours``, of its initial weights.

    Accuracies are shares of 1. No lists: ``dvc metrics`` drops them silently. Only sets with soft labels, a schedule,
    initial weights or an attack say so.
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
    """What networks beside the main one achieve, by their names; nothing without any."""
    return {"others": {name: {"accuracy": accuracy_of(report)} for name, report in reports.items()}} if reports else {}


def classes_of(report: Report, synthetic: SyntheticSet) -> list[dict[str, Any]]:
    """Mean accuracy of every class, as rows for a plot: hundreds of classes would bury the metrics."""
    means = report.class_accuracy_RK.mean(0).tolist()
    pairs = zip(synthetic.class_names, means, strict=True)
    return [{"class": name, "accuracy": round(value, 6)} for name, value in pairs]


def read_metrics(path: Path) -> dict[str, Any]:
    """Metrics as the evaluate stage wrote them. Raises ArtifactError when the file is missing or no JSON mapping."""
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
    """A number from 0 to 1 that must be there."""
    value = entry(metrics, recipe, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise wrong(recipe, key, value, "a number from 0 to 1")
    return float(value)


def count(metrics: Mapping[str, Any], recipe: str, key: str) -> int:
    """A whole number, 0 or more, that must be there."""
    value = entry(metrics, recipe, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(recipe, key, value, "a whole number")
    return value


def entry(metrics: Mapping[str, Any], recipe: str, key: str) -> Any:
    """What stands at ``key``, a path with dots."""
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
