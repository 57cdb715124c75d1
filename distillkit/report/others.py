"""Accuracies of other networks side by side: the cross-network table of report and card."""

from collections.abc import Mapping, Sequence

from distillkit.evaluation.recovery import Measured, drop, in_percent
from distillkit.report.words import mean_std

WORDS = (
    "Other networks, for which no set was made, are trained from scratch on each set. The training recipe and the "
    "number of updates are the same; only the learning rate differs: it was chosen once for each network. Drop: the "
    "accuracy of the main network minus the mean over the others, in points, ± one standard error. The drop of the "
    "full set is due to the networks."
)


Entry = tuple[str, Measured, Mapping[str, Measured]]  # a set's name, the accuracy of the main network, those of others


def cross_table(network: str, entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """The columns, and a line for each set that other networks were trained on; empty if there are none."""
    tested = [entry for entry in entries if entry[2]]
    names = list(dict.fromkeys(name for *_, others in tested for name in others))
    lines = []
    for name, main, others in tested:
        accuracies = [main, *map(others.get, names)]
        cells = ["–" if found is None else mean_std(*found) for found in accuracies]
        lines.append([name, *cells, in_percent(drop(main, list(others.values())), 2)])
    return ["recipe", f"{network} %", *(f"{name} %" for name in names), "drop"] if tested else [], lines
