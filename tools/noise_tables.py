"""Tables of docs/noise.md, from benchmarks/results/noise_NAME.json; ``readme.py`` writes them."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

ROWS = {
    "random": "random",
    "window": "window",
    "ccs": "ccs, drops 10 %",
    "ccs-rate": "ccs, drops as much as is wrong",
    "k-centre": "k-centre",
    "mtt": "mtt",
    "selmatch": "selmatch",
    "full": "full",
}


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def sets(path: Path) -> str:
    """Accuracy and share of wrong labels by method and rate, mean and deviation over seeds."""
    every = load(path)["sets"]
    cells_of = Counter((key.split("/")[0], key.split("/")[2]) for key in every)
    found = {
        key: cell
        for key, cell in every.items()
        if cells_of[key.split("/")[0], key.split("/")[2]] == len(ROWS)  # seeds that were measured in full
    }
    rates, rows = unique(found, 0), unique(found, 1)
    header = [
        "set",
        *(f"accuracy % at {words(rate)}" for rate in rates),
        *(f"wrong at {words(rate)}" for rate in rates[1:]),
    ]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for row in rows:
        cells = {rate: [found[key] for key in found if key.split("/")[:2] == [rate, row]] for rate in rates}
        accuracies = [spread([cell["accuracy"] for cell in cells[rate]]) for rate in rates]
        wrong = [spread([cell["mislabelled"] for cell in cells[rate]], 0) for rate in rates[1:]]
        lines.append([ROWS.get(row, row), *accuracies, *wrong])
    seeds = [len({key.split("/")[2] for key in found if key.split("/")[0] == rate}) for rate in rates]
    told = "; ".join(f"{rate} {count}" for count, rate in zip(seeds, map(words, rates), strict=True))
    return "\n".join([f"Seeds: {told}.", "", *(f"| {' | '.join(line)} |" for line in lines)])


def scores(path: Path) -> str:
    """How well scores find wrong labels."""
    found = load(path)["scores"]
    rates, names = unique(found, 0), list(next(iter(found.values())))
    kinds = {"precision_at_rate": "precision = recall %", "average_precision": "average precision %"}
    header = ["score", *(f"{words} at {100 * float(rate):.0f} %" for words in kinds.values() for rate in rates)]
    lines = [header, ["---"] + ["---:"] * (len(header) - 1)]
    for score in names:
        cells = [
            [found[key][score][kind] for key in found if key.split("/")[0] == rate] for kind in kinds for rate in rates
        ]
        lines.append([f"`{score}`", *(spread(cell, 1) for cell in cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def signs(path: Path) -> str:
    """How often there is a warning, and how right it is."""
    found = load(path)["signs"]
    lines = [["labels", "warnings", "share that it names", "precision %", "recall %"], ["---"] + ["---:"] * 4]
    for kind, rate in dict.fromkeys(
        tuple(key.split("/")[:2]) for key in sorted(found, key=lambda key: key.split("/")[:2])
    ):
        cells = [found[key] for key in found if key.split("/")[:2] == [kind, rate]]
        warned = [cell for cell in cells if cell["warns"]]
        told = [
            spread([cell[key] for cell in warned], 1) if warned else "–" for key in ("share", "precision", "recall")
        ]
        lines.append([words(rate, kind), f"{len(warned)} of {len(cells)}", *told])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def unique(keys: Iterable[str], part: int) -> list[str]:
    """What stands at that place of keys with slashes, rates in order."""
    found = list(dict.fromkeys(key.split("/")[part] for key in keys))
    return sorted(found, key=float) if part == 0 else [row for row in ROWS if row in found]


def words(rate: str, kind: str = "symmetric") -> str:
    return "clean" if rate == "0" else f"{100 * float(rate):.0f} % {kind}"


def spread(values: Sequence[float], digits: int = 1) -> str:
    deviation = f" ± {100 * stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.{digits}f}{deviation}"


TABLES: dict[str, Callable[[Path], str]] = {"sets": sets, "scores": scores, "signs": signs}
