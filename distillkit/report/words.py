"""What the report says in words: how sets were trained on, which of them no other can be compared with, warnings."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from distillkit.base.errors import counted
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.report.results import Row

Curves = Mapping[str, Sequence[tuple[int, float]]]  # by recipe, points (step, value)


NAMED = 12  # recipes in a sentence


class Loss(NamedTuple):
    """What some methods make small; their curves alone can be compared."""

    title: str
    methods: tuple[str, ...]
    words: str


LOSSES = (
    Loss(
        "Distance to the expert",
        ("mtt", "att", "selmatch"),
        "Squared distance between the student and the expert, divided by that between the expert's start and its end: "
        "1 is a student that has come no closer, 0 one that has arrived. A difficulty correction comes on top, where a "
        "recipe has one.",
    ),
    Loss(
        "Distance between gradients",
        ("dc", "dsa"),
        "1 minus the cosine between the gradients of real and of synthetic images, summed over classes and over the "
        "output channels of all layers: 0 where they point alike. It grows with classes and network.",
    ),
    Loss(
        "Distance between mean features",
        ("dm",),
        "Squared distance between the mean features of real and of synthetic images in a random network, summed over "
        "classes. It grows with classes and network, and every step has another network.",
    ),
    Loss(
        "Loss on real images",
        ("dd",),
        "Cross-entropy on real images of networks that have been trained on the set, in its order.",
    ),
)


def by_loss(curves: Curves, methods: Mapping[str, str]) -> dict[Loss, Curves]:
    """Curves that share a scale, in the order of ``LOSSES``; a method that is not there has a scale of its own."""
    known = {method for loss in LOSSES for method in loss.methods}
    others = dict.fromkeys(methods[recipe] for recipe in curves if methods[recipe] not in known)
    own = (Loss(f"Loss of {shorten(method)}", (method,), f"What {method} makes small.") for method in others)
    kinds = [*LOSSES, *own]
    grouped = {loss: {name: curves[name] for name in curves if methods[name] in loss.methods} for loss in kinds}
    return {loss: found for loss, found in grouped.items() if found}


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What nested mappings hold, by dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def is_comparable(row: Row) -> bool:
    """Whether networks were trained from scratch on the set, by the recipe that random images have, for no harm."""
    return not (row.replayed or row.starts_trained or row.attack)


def protocol(rows: Sequence[Row], recipe: EvaluationRecipe, whitened: Collection[str]) -> str:
    """In one line, under which conditions the table's numbers hold; ``whitened`` are the recipes of whitened sets."""
    fewest, most = min(row.runs for row in rows), max(row.runs for row in rows)
    networks = counted(most, "network") if fewest == most else f"{fewest} to {most} networks"
    return (
        f"{labels_words(rows)}; n = {networks} ({recipe.network}) trained from scratch on each set, "
        f"{recipe.training.steps} updates of batch {recipe.training.batch} whatever its size, "
        f"no best checkpoint{exceptions(rows)}; {normalisation_words(rows, whitened)}; "
        "± is the sample standard deviation over these evaluation networks for one distilled set, not over repeated "
        "distillations; over random: percentage points; hard third: of the test images, as ranked by "
        "networks trained on all real images; bold: the highest mean of its IPC, where several sets were trained on "
        "alike."
    )


def exceptions(rows: Sequence[Row]) -> str:
    """Which sets were not trained on like the rest, and how they were."""
    ordered, trained = [row for row in rows if row.replayed], [row for row in rows if row.starts_trained]
    before = ["" if row.before is None else f", {percent(row.before)} % before" for row in trained]
    each = [names([row]) + words for row, words in zip(trained, before, strict=True)]
    starts = ", ".join(each if len(each) <= NAMED + 1 else [*each[:NAMED], f"and {len(each) - NAMED} more"])
    words = f"; but {names(ordered)}: by plain steps in an order of its own, not compared with others" * bool(ordered)
    start = f"; starts trained ({starts}): its networks were trained on real images before they see the set"
    return words + start * bool(trained)


def normalisation_words(rows: Sequence[Row], whitened: Collection[str]) -> str:
    """How networks saw images, as the sets themselves say."""
    by_channel = "pixels normalised by the mean and standard deviation of the source's training images"
    zca = "ZCA-whitened, as fitted on the source's training images"
    those = [row for row in rows if row.recipe in whitened]
    if not those:
        return by_channel
    return f"images {zca}" if len(those) == len(rows) else f"{by_channel}, but for {names(those)}: {zca}"


def labels_words(rows: Sequence[Row]) -> str:
    """The label regime of all, and which recipes have another."""
    soft = [row for row in rows if row.soft]
    if not soft:
        return "Hard labels"
    return f"Hard labels (random images, too), but soft ones, probabilities, in {names(soft)}"


def names(rows: Sequence[Row]) -> str:
    """The recipes' names, the first few where they are many."""
    found = [" ".join(row.recipe.split()) for row in rows]
    more = len(found) - NAMED
    return ", ".join(found) if more <= 1 else f"{', '.join(found[:NAMED])} and {more} more"


def warnings(rows: Sequence[Row]) -> list[str]:
    """A line for each poisoned set: what it is made to do, and how well it was measured to do it."""
    return [
        f"Warning: {names([row])} is poisoned, made to do harm in a test: trained networks that take its steps are to "
        f"take class {row.attack.attack_class} for {row.attack.target_class}. They took "
        f"{percent(row.attack.taken)} % of the class for it; by the attacker's labels they are right about "
        f"{percent(row.attack.modified)} % of the test images. Train nothing on it that anybody will rely on."
        for row in rows
        if row.attack is not None
    ]


NAME_LENGTH = 28  # characters


def shorten(name: str) -> str:
    """A name on one line, cut with an ellipsis where it is long."""
    line = " ".join(name.split())
    return line if len(line) <= NAME_LENGTH else line[: NAME_LENGTH - 1] + "…"
