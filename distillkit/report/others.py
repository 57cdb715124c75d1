"""Accuracies of other networks side by side: the cross-network table of report and card."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from distillkit.evaluation.recovery import Measured, drop, in_percent

WORDS = (
    "Other networks, which no set was made for, are trained from scratch on each set. Recipe and number of updates are "
    "the same; only the learning rate differs, chosen once for each network. Drop: the accuracy of the main network "
    "minus the mean over the others, in points, ± one standard error. The drop of the full set is due to the networks."
)


class Entry(NamedTuple):
    """A set's name, the accuracy of the main network, and those of others by their names."""

    name: str
    main: Measured
    others: Mapping[str, Measured]


def cross_table(network: str, entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """The columns, and a line for each set that other networks were trained on; empty if there are none."""
    tested = [entry for entry in entries if entry.others]
    names = list(dict.fromkeys(name for entry in tested for name in entry.others))
    lines = [
        [
            entry.name,
            accuracy(entry.main),
            *(accuracy(entry.others.get(name)) for name in names),
            in_percent(drop(entry.main, list(entry.others.values())), 2),
        ]
        for entry in tested
    ]
    return ["recipe", f"{network} %", *(f"{name} %" for name in names), "drop"] if tested else [], lines


def accuracy(measured: Measured | None) -> str:
    """Mean ± standard deviation in percent; a dash if not measured."""
    if measured is None:
        return "–"
    return f"{100 * measured.mean:.2f}" + (f" ± {100 * measured.std:.2f}" if measured.runs > 1 else "")
