"""A report as numbers that ``dvc metrics`` and ``dvc plots`` show: nested mappings of numbers, and CSV curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.base.outside import UnreadableError, content, read_json
from distillkit.data.images import SyntheticSet
from distillkit.evaluation.evaluate import THIRDS, Report, attack_success
from distillkit.evaluation.protocol import schedule_of


def mean_and_std(values_R: Tensor) -> dict[str, float]:
    """Mean and sample standard deviation over runs (0 for a single run), to six decimals."""
    std = values_R.std(correction=1).item() if len(values_R) > 1 else 0.0
    return {"mean": round(values_R.mean().item(), 6), "std": round(std, 6)}


def metrics_of(report: Report, synthetic: SyntheticSet) -> dict[str, Any]:
    """The figures of trained networks; accuracies are shares of 1. No lists: ``dvc metrics`` drops them silently.

    Only sets with soft labels or a schedule say so.
    """
    runs = {f"run_{index}": round(value, 6) for index, value in enumerate(report.accuracy_R.tolist(), start=1)}
    learned = int(synthetic.learned.sum())
    soft = {} if synthetic.soft_labels is None else {"soft_labelled": len(synthetic)}
    schedule = schedule_of(synthetic.schedule)
    ordered = {} if schedule is None else {"schedule": {key: schedule[key] for key in ("steps", "updates")}}
    return {
        "accuracy": {**mean_and_std(report.accuracy_R), "runs": len(report.accuracy_R), **runs},
        **{third: mean_and_std(report.third_accuracy_R3[:, index]) for index, third in enumerate(THIRDS)},
        "images": {"total": len(synthetic), "learned": learned, "real": len(synthetic) - learned} | soft,
        **ordered,
    }


def attack_metrics(report: Report, synthetic: SyntheticSet, labels_N: Tensor) -> dict[str, Any]:
    """What a poisoned set does, nothing for others; ``labels_N`` are the test images'. See :func:`attack_success`."""
    if (attack := synthetic.notes.get("attack")) is None:
        return {}
    labels = attack["attack_label"], attack["target_label"]
    modified_R, taken_R = attack_success(report.predicted_RN, labels_N.cpu(), *labels)
    return {"attack": {"modified_accuracy": mean_and_std(modified_R), "taken_for_target": mean_and_std(taken_R)}}


def start_metrics(accuracy_R: Tensor | None) -> dict[str, Any]:
    """The figure of a set's own initial weights before training: see
    :func:`distillkit.evaluation.evaluate.start_accuracy`.
    """
    return {} if accuracy_R is None else {"start": {"accuracy": mean_and_std(accuracy_R)}}


def neighbour_metrics(accuracy: float, neighbours: int) -> dict[str, Any]:
    """The figure that needs no network: see :func:`distillkit.evaluation.evaluate.neighbour_accuracy`."""
    return {"knn": {"accuracy": round(accuracy, 6), "neighbours": neighbours}}


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
        raise ArtifactError(
            f"{path} does not exist; expected the metrics of a recipe; run its evaluate stage"
        ) from None
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
            raise ArtifactError(
                f"metrics/{recipe}.json has no {key}; found {found} where {part} should be; run evaluate again"
            )
        value = value[part]
    return value


def wrong(recipe: str, key: str, value: Any, expected: str) -> ArtifactError:
    return ArtifactError(f"metrics/{recipe}.json: {key} is {value!r}; expected {expected}; run evaluate again")
