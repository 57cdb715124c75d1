"""How an accuracy was measured, as texts. Two measurements can be compared if all texts are equal."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from distillkit.base.errors import ParamsError
from distillkit.base.files import canonical_json
from distillkit.base.params import read
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.networks.specs import NetworkSpec
from distillkit.package.manifest import printable
from distillkit.report.results import starts_trained

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
