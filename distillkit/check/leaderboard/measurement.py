"""How an accuracy was measured, as texts. Two measurements can be compared if all texts are equal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from distillkit.base.errors import ParamsError
from distillkit.base.files import canonical_json
from distillkit.base.params import read
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.networks.specs import NetworkSpec
from distillkit.package.manifest import printable
from distillkit.report.results import starts_trained

if TYPE_CHECKING:
    from distillkit.check.leaderboard.claims import Row

SCHEDULE = ("steps", "batch")  # training settings with their own entries


def measurement(record: Mapping[str, Any], same_test_images: bool = True) -> dict[str, str]:
    """The measurement in a recipe.json: network, updates, batch, other training settings, labels, order, and so on.

    The number of networks is not included: it affects the error, not what is measured.
    """
    evaluation, params = with_defaults(record["evaluation"]), record["params"]
    told = evaluation.get("training")
    training: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    schedule = record.get("schedule")
    zca = record.get("normalisation", {}).get("zca") if isinstance(record.get("normalisation"), Mapping) else None
    test = record["test"]
    return {
        "network": network_words(evaluation.get("network")),
        "updates": compact(training.get("steps")),
        "batch": compact(training.get("batch")),
        "training": compact({key: value for key, value in training.items() if key not in SCHEDULE}),
        "labels": "soft" if record.get("soft_labels") else "hard",
        "order": "the set's own" if schedule or params.get("replay") else "random",
        "start": "trained on real images" if starts_trained(params) else "random weights",
        "pixels": "whitened (ZCA)" if zca else "normalised by channel",
        "poisoned": "yes" if (record.get("notes") or {}).get("attack") else "no",
        "test images": f"{test['images']} ({test['sha256'][:12]})" if same_test_images else "others than claimed on",
    }


def with_defaults(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The evaluation recipe with defaults filled in, which earlier versions left out; unchanged if it cannot be
    read.
    """
    try:
        return asdict(read(evaluation, EvaluationRecipe, "evaluation"))
    except ParamsError:
        return evaluation


def network_words(spec: Any) -> str:
    """The network's name in papers, followed by all settings if these are unusual."""
    try:
        named = NetworkSpec(**spec)
    except (ParamsError, TypeError):
        return compact(spec)
    usual = NetworkSpec(named.name, named.norm, named.depth, named.width)
    return str(named) if named == usual else f"{named} {compact(spec)}"


def compact(value: Any) -> str:
    return printable(value if isinstance(value, str) else canonical_json(value))


def groups_of(rows: Sequence["Row"]) -> list[list["Row"]]:
    """Groups of rows with the same measurement, in order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(canonical_json(dict(row.measured)), []).append(row)
    return list(groups.values())


def check_alike(groups: Sequence[Sequence["Row"]]) -> None:
    """Raise ParamsError unless there is one group. The message lists the differences between the first two."""
    if len(groups) > 1:
        one, other = groups[0][0], groups[1][0]
        apart = "; ".join(f"{what} {own} and {others}" for what, own, others in differences(one, other))
        found = f"{one} and {other} were not measured alike: {apart}"
        raise ParamsError(f"{found}; expected one measurement; choose with --recipe, or use --apart for one table each")


def differences(one: "Row", other: "Row") -> list[tuple[str, str, str]]:
    """What was measured differently: its name and both values."""
    pairs = ((what, value, other.measured[what]) for what, value in one.measured.items())
    return [(what, own, others) for what, own, others in pairs if own != others]
