"""How an accuracy was measured, in words that two measurements share exactly where they can be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from distillkit.base.errors import ParamsError
from distillkit.base.files import canonical_json
from distillkit.base.params import read
from distillkit.data.networks import NetworkSpec
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.package.manifest import printable
from distillkit.report.results import starts_trained

if TYPE_CHECKING:
    from distillkit.check.leaderboard.claims import Row

SCHEDULE = ("steps", "batch")  # of the training, told apart from the rest of it


def measurement(record: Mapping[str, Any], same_test_images: bool = True) -> dict[str, str]:
    """Of one recipe.json: network, updates and batch, the rest of the training, labels, order, start, pixels, tests.

    The number of networks is no part of it: it decides the error, not what is measured.
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
    """The evaluation recipe with what it leaves out, as earlier versions did; as it is where that cannot be read."""
    try:
        return asdict(read(evaluation, EvaluationRecipe, "evaluation"))
    except ParamsError:
        return evaluation


def network_words(spec: Any) -> str:
    """The name that papers give the network, where that says all of it."""
    try:
        named = NetworkSpec(**spec)
    except (ParamsError, TypeError):
        return compact(spec)
    usual = NetworkSpec(named.name, named.norm, named.depth, named.width)
    return str(named) if named == usual else f"{named} {compact(spec)}"


def compact(value: Any) -> str:
    return printable(value if isinstance(value, str) else canonical_json(value))


def groups_of(rows: Sequence["Row"]) -> list[list["Row"]]:
    """Rows that were measured alike, in the order of the first of each."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(canonical_json(dict(row.measured)), []).append(row)
    return list(groups.values())


def check_alike(groups: Sequence[Sequence["Row"]]) -> None:
    """Raise ParamsError unless there is one group; it says in what the first two differ."""
    if len(groups) > 1:
        one, other = groups[0][0], groups[1][0]
        apart = "; ".join(f"{what} {own} and {others}" for what, own, others in differences(one, other))
        found = f"{one} and {other} were not measured alike: {apart}"
        raise ParamsError(f"{found}; expected one measurement; choose with --recipe, or say --apart for a table each")


def differences(one: "Row", other: "Row") -> list[tuple[str, str, str]]:
    """What was measured differently: its name and both values."""
    pairs = ((what, value, other.measured[what]) for what, value in one.measured.items())
    return [(what, own, others) for what, own, others in pairs if own != others]
