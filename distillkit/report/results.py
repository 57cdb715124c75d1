"""The results that the report shows: a checked row for each recipe."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from distillkit.base.errors import ArtifactError
from distillkit.evaluation.metrics import count, share, wrong
from distillkit.evaluation.recovery import Measured

COLOURS = {  # of the methods, in the order of tables; the first colours are Okabe and Ito's
    "full": "#000000",
    "random": "#777777",
    "window": "#56b4e9",
    "confident": "#009e73",
    "herding": "#cc79a7",
    "k-centre": "#8c564b",
    "moderate": "#b3a100",
    "ccs": "#6a51a3",
    "dual": "#9e9ac8",
    "optimised": "#17becf",
    "kmeans": "#a6761d",
    "average": "#e7298a",
    "rded": "#7fbc41",
    "diffusion": "#1b7837",
    "dd": "#4d4d9f",
    "dm": "#b15928",
    "dc": "#80b1d3",
    "dsa": "#c51b7d",
    "mtt": "#0072b2",
    "att": "#5ab4ac",
    "selmatch": "#d55e00",
    "ccfs": "#fdb863",
    "imported": "#e69f00",
}
UNKNOWN_COLOUR = "#998ec3"  # of other methods


class Attacked(NamedTuple):
    """Of a poisoned set: the share of the attacked class taken for the target class, and accuracy by its labels."""

    attack_class: str
    target_class: str
    taken: float
    modified: float


@dataclass(frozen=True)
class Row:
    """One recipe's result; accuracies, their standard deviation over ``runs`` and thirds are fractions (0 to 1)."""

    recipe: str
    method: str
    ipc: int | None
    images: int
    real: int
    learned: int
    accuracy: float
    std: float
    runs: int
    easy: float
    middle: float
    hard: float
    knn: float | None = None  # accuracy of nearest neighbours, if measured
    replayed: bool = False  # trained on in its own order
    soft: bool = False  # trained on with soft labels
    starts_trained: bool = False  # its networks were trained on real images first
    before: float | None = None  # accuracy of its networks' initial weights, if measured
    attack: Attacked | None = None  # if it is poisoned
    others: Mapping[str, Measured] = field(default_factory=dict)  # by the names of other networks

    @property
    def measured(self) -> Measured:
        return Measured(self.accuracy, self.std, self.runs)


def colour_of(method: str) -> str:
    return COLOURS.get(method, UNKNOWN_COLOUR)


def rows(metrics: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each recipe, from its metrics and its section of params.yaml.

    Ordered by images per class, then from random selection to learned sets, the full set last. Raises ArtifactError
    if metrics and recipes do not match, or a number is missing.
    """
    if left := [name for name in metrics if name not in recipes]:
        found = f"metrics of {left[0]!r} belong to no recipe; expected one of {', '.join(recipes)}"
        raise ArtifactError(f"{found}; remove metrics/{left[0]}.json or put the recipe back into params.yaml")
    if new := [name for name in recipes if name not in metrics]:
        raise ArtifactError(f"recipe {new[0]!r} has no metrics; expected metrics/{new[0]}.json; run evaluate for it")
    return sorted((row_of(name, metrics[name], recipes[name]) for name in recipes), key=position)


def row_of(recipe: str, metrics: Mapping[str, Any], section: Mapping[str, Any]) -> Row:
    """One recipe's row; every number is checked."""
    total, real, learned = (count(metrics, recipe, f"images.{name}") for name in ("total", "real", "learned"))
    if real + learned != total:
        raise wrong(recipe, "images.total", total, f"real + learned, {real} + {learned}")
    return Row(
        recipe=recipe,
        method=section["method"],
        ipc=section.get("ipc"),
        images=total,
        real=real,
        learned=learned,
        accuracy=share(metrics, recipe, "accuracy.mean"),
        std=share(metrics, recipe, "accuracy.std"),
        runs=count(metrics, recipe, "accuracy.runs"),
        easy=share(metrics, recipe, "easy.mean"),
        middle=share(metrics, recipe, "middle.mean"),
        hard=share(metrics, recipe, "hard.mean"),
        knn=share(metrics, recipe, "knn.accuracy") if "knn" in metrics else None,
        replayed=section.get("replay") is not None or "schedule" in metrics,
        soft="soft_labelled" in metrics["images"],
        starts_trained=starts_trained(section),
        before=share(metrics, recipe, "start.accuracy.mean") if "start" in metrics else None,
        attack=attacked(metrics, recipe, section.get("attack")),
        others={name: other(metrics, recipe, name) for name in metrics.get("others", {})},
    )


def other(metrics: Mapping[str, Any], recipe: str, name: str) -> Measured:
    """The accuracy of another network."""
    key = name.replace(".", "_")  # a dot separates the parts of a path
    of, accuracy = {"others": {key: metrics["others"][name]}}, f"others.{key}.accuracy"
    mean, std = (share(of, recipe, f"{accuracy}.{part}") for part in ("mean", "std"))
    return Measured(mean, std, count(of, recipe, f"{accuracy}.runs"))


def starts_trained(section: Mapping[str, Any]) -> bool:
    """Whether networks start from experts, which have seen real images, by the recipe's section of params.yaml."""
    return str(section.get("initialisation")).endswith("pretrained")


def marks(trained: bool, poisoned: bool) -> str:
    """Why the accuracy cannot be compared with others, to write after the method."""
    found = [words for words, holds in (("starts trained", trained), ("poisoned", poisoned)) if holds]
    return f" ({', '.join(found)})" if found else ""


def attacked(metrics: Mapping[str, Any], recipe: str, attack: Mapping[str, Any] | None) -> Attacked | None:
    """The measured results of the attack; None if the set is not poisoned."""
    if attack is None:
        return None
    taken, modified = (
        share(metrics, recipe, f"attack.{key}.mean") for key in ("taken_for_target", "modified_accuracy")
    )
    return Attacked(str(attack["attack_class"]), str(attack["target_class"]), taken, modified)


def position(row: Row) -> tuple[bool, float, bool, int, str]:
    """The sort key of a row in the table."""
    known = list(COLOURS)
    rank = known.index(row.method) if row.method in known else len(known)
    ipc = math.inf if row.ipc is None else row.ipc
    return row.method == "full", ipc, row.learned > 0, rank, row.recipe
