"""A report as numbers that ``dvc metrics`` and ``dvc plots`` show: nested mappings of numbers, and CSV curves."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from distillkit.artifact import pretty_json
from distillkit.errors import LARGEST, ArtifactError
from distillkit.evaluate import THIRDS, Report, attack_success
from distillkit.files import write_text
from distillkit.images import SyntheticSet
from distillkit.outside import UnreadableError, content, read_json, shown
from distillkit.regime import schedule_of


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
    """The figure of a set's own initial weights before training: see :func:`distillkit.evaluate.start_accuracy`."""
    return {} if accuracy_R is None else {"start": {"accuracy": mean_and_std(accuracy_R)}}


def neighbour_metrics(accuracy: float, neighbours: int) -> dict[str, Any]:
    """The figure that needs no network: see :func:`distillkit.evaluate.neighbour_accuracy`."""
    return {"knn": {"accuracy": round(accuracy, 6), "neighbours": neighbours}}


def classes_of(report: Report, synthetic: SyntheticSet) -> list[dict[str, Any]]:
    """Mean accuracy of every class, as rows for a plot: hundreds of classes would bury the metrics."""
    means = report.class_accuracy_RK.mean(0).tolist()
    pairs = zip(synthetic.class_names, means, strict=True)
    return [{"class": name, "accuracy": round(value, 6)} for name, value in pairs]


def write_json(path: Path, value: Any) -> None:
    write_text(path, pretty_json(value))


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


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[float]]) -> None:
    """A CSV of numbers, to eight significant digits."""
    lines = [",".join(header), *(",".join(f"{value:.8g}" for value in row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def read_csv(path: Path, x: str, y: str) -> list[tuple[int, float]]:
    """Two columns of a CSV written by :func:`write_csv`. Raises ArtifactError when it is missing or no such table."""
    try:
        header, *lines = content(path).decode().splitlines()
        places = [header.split(",").index(name) for name in (x, y)]
        cells = [line.split(",") for line in lines]
        return [(count_in(row[places[0]]), number_in(row[places[1]])) for row in cells]
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; expected a curve; run the stage that writes it") from None
    except (ValueError, IndexError) as error:
        raise ArtifactError(f"{path} is no table of {x} and {y} ({error}); run its stage again") from None


def count_in(cell: str) -> int:
    """Raises ValueError for what no stage counts."""
    if not (cell.isascii() and cell.isdigit() and len(cell) <= 15):
        raise ValueError(f"found {shown(cell, 40)} for a count")
    return int(cell)


def number_in(cell: str) -> float:
    """Raises ValueError for what no plot can show."""
    if not abs(value := float(cell)) <= LARGEST:
        raise ValueError(f"found {shown(cell, 40)} for a number")
    return value
