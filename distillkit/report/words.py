"""Sentences of the report: how networks were trained on the sets, which sets cannot be compared, warnings."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from distillkit.base.errors import counted
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.report.results import Row

Curves = Mapping[str, Sequence[tuple[int, float]]]  # by recipe, points (step, value)
NAMED = 12  # recipes in a sentence


class Loss(NamedTuple):
    """A loss that some methods minimise; only their curves can be compared."""

    title: str
    methods: tuple[str, ...]
    words: str


LOSSES = (
    Loss(
        "Distance to the expert",
        ("mtt", "att", "selmatch"),
        "Squared distance between the student and the expert, divided by that between the expert's start and its end: "
        "at 1 the student has come no closer, at 0 it has reached the expert. If a recipe has a difficulty correction, "
        "it is added.",
    ),
    Loss(
        "Distance between gradients",
        ("dc", "dsa"),
        "1 minus the cosine between the gradients of real and of synthetic images, summed over classes and over the "
        "output channels of all layers: 0 if they have the same direction. It grows with the number of classes and the "
        "size of the network.",
    ),
    Loss(
        "Distance between mean features",
        ("dm",),
        "Squared distance between the mean features of real and of synthetic images in a random network, summed over "
        "classes. It grows with the number of classes and the size of the network; every step has a new network.",
    ),
    Loss(
        "Loss on real images",
        ("dd",),
        "Cross-entropy, on real images, of networks that were trained on the set in its order.",
    ),
)


def by_loss(curves: Curves, methods: Mapping[str, str]) -> dict[Loss, Curves]:
    """Curves grouped by loss, in the order of ``LOSSES``; a method that is not there has its own group."""
    known = {method for loss in LOSSES for method in loss.methods}
    others = dict.fromkeys(methods[recipe] for recipe in curves if methods[recipe] not in known)
    own = (Loss(f"Loss of {shorten(method)}", (method,), f"The loss that {method} minimises.") for method in others)
    kinds = [*LOSSES, *own]
    grouped = {loss: {name: curves[name] for name in curves if methods[name] in loss.methods} for loss in kinds}
    return {loss: found for loss, found in grouped.items() if found}


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested mappings by dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def mean_std(mean: float, std: float, runs: int) -> str:
    """Mean ± standard deviation in percent; one network has no deviation."""
    return percent(mean) + (f" ± {percent(std)}" if runs > 1 else "")


def is_comparable(row: Row) -> bool:
    """Whether the set is not poisoned and networks were trained on it from scratch, as on random images."""
    return not (row.replayed or row.starts_trained or row.attack)


def protocol(rows: Sequence[Row], recipe: EvaluationRecipe, whitened: Collection[str]) -> str:
    """In one line, how the table's numbers were measured; ``whitened`` are the recipes of whitened sets."""
    fewest, most = min(row.runs for row in rows), max(row.runs for row in rows)
    networks = counted(most, "network") if fewest == most else f"{fewest} to {most} networks"
    return (
        f"{labels_words(rows)}. n = {networks} ({recipe.network}), trained from scratch on each set with "
        f"{recipe.training.steps} updates of batch {recipe.training.batch}, whatever its size, "
        f"and tested after the last one{exceptions(rows)}. {normalisation_words(rows, whitened)}. "
        "± is the sample standard deviation over these evaluation networks for one distilled set, not over repeated "
        "distillations. Over random: in percentage points. Hard third: the third of the test images that networks "
        "trained on all real images find hardest. Bold: the highest mean of its IPC, if several sets can be compared."
    )


def exceptions(rows: Sequence[Row]) -> str:
    """The sets that networks were trained on in another way, and how."""
    ordered, trained = [row for row in rows if row.replayed], [row for row in rows if row.starts_trained]
    before = ["" if row.before is None else f", {percent(row.before)} % before" for row in trained]
    each = [names([row]) + words for row, words in zip(trained, before, strict=True)]
    starts = ", ".join(each if len(each) <= NAMED + 1 else [*each[:NAMED], f"and {len(each) - NAMED} more"])
    words = f"; but {names(ordered)}: plain gradient steps in the set's own order, not compared" * bool(ordered)
    start = f"; starts trained ({starts}): its networks were trained on real images before they see the set"
    return words + start * bool(trained)


def normalisation_words(rows: Sequence[Row], whitened: Collection[str]) -> str:
    """How images were normalised or whitened, as recorded in the sets."""
    by_channel = "Pixels are normalised by the mean and standard deviation of the source's training images"
    zca = "ZCA-whitened, fitted on the source's training images"
    those = [row for row in rows if row.recipe in whitened]
    if not those:
        return by_channel
    return f"Images are {zca}" if len(those) == len(rows) else f"{by_channel}, except {names(those)}: {zca}"


def labels_words(rows: Sequence[Row]) -> str:
    """The kind of labels, and which recipes have soft ones."""
    soft = [row for row in rows if row.soft]
    if not soft:
        return "Hard labels"
    return f"Hard labels (also for random images), except soft labels (probabilities) in {names(soft)}"


def names(rows: Sequence[Row]) -> str:
    """The recipes' names, the first few where they are many."""
    found = [" ".join(row.recipe.split()) for row in rows]
    more = len(found) - NAMED
    return ", ".join(found) if more <= 1 else f"{', '.join(found[:NAMED])} and {more} more"


def warnings(rows: Sequence[Row]) -> list[str]:
    """A line for each poisoned set: the aim of its attack, and the measured result."""
    return [
        f"Warning: {names([row])} is poisoned. It was made to do harm in a test: a trained network that continues "
        f"training on it should classify {row.attack.attack_class} as {row.attack.target_class}. Networks did so with "
        f"{percent(row.attack.taken)} % of the images of that class; their accuracy by the attacker's labels was "
        f"{percent(row.attack.modified)} %. Do not train a network on it if anybody will use that network."
        for row in rows
        if row.attack is not None
    ]


NAME_LENGTH = 28  # characters


def shorten(name: str) -> str:
    """A name on one line; a long one ends with an ellipsis."""
    line = " ".join(name.split())
    return line if len(line) <= NAME_LENGTH else line[: NAME_LENGTH - 1] + "…"
