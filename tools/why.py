"""Put the tables of benchmarks/why.py into docs/why.md, and draw its plots; with --check, only compare the tables."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from noise_tables import spread
from readme import put
from scipy.stats import t

from distillkit.base.files import atomic_write
from distillkit.report.plots import DPI, STYLE, WIDTH
from distillkit.report.results import COLOURS

RESULT = Path("benchmarks/results/why_digits.json")
DOCS, PAGE = Path("docs"), Path("docs/why.md")
NOTE = "written by tools/why.py, do not edit -->\n"
MAP_IPC, CONFIDENCE, LEAST = 10, 0.95, 3  # pairs that an interval takes
SELMATCH, EVERY, WINDOW = "{start}/0.8", "{start}/1", "{start}/0"
SETS = {  # {start} is the window's start that was chosen on held-out images, {half} a share near one half
    "random": "random",
    "window": WINDOW,
    "about half learned": "{start}/{half}",
    "0.8 learned (selmatch)": SELMATCH,
    "all learned": EVERY,
    "mtt": "mtt",
}
DIFFERENCES = {
    "selmatch − its window: what learning adds": (SELMATCH, WINDOW),
    "selmatch − all learned: what the real part adds": (SELMATCH, EVERY),
    "all learned − mtt: what the window adds to learning": (EVERY, "mtt"),
    "window − random: what the window adds without": (WINDOW, "random"),
    "selmatch − mtt": (SELMATCH, "mtt"),
    "easier half learned − harder half": ("{start}/{half}", "harder/{half}"),
}
READINGS = {
    "all learned, each step changes the 80 % with the largest gradients": "top/0.8",
    "confident start, 0.8 learned": "confident/0.8",
    "confident start, largest gradients": "confident-top/0.8",
    "random start, a random 0.8 learned": "random/0.8",
    "all learned": EVERY,
    "harder half learned": "harder/0.5",
    "mtt: random start, all learned": "mtt",
}
FATES = {"mtt": "mtt", "selmatch": SELMATCH, "all learned": EVERY, "confident start": "confident/0.8"}
FIFTHS = ("easiest", "2nd", "3rd", "4th", "hardest")


class Record:
    """The results; a measurement by images a class, set and seed."""

    def __init__(self, found: dict[str, Any]):
        self.sets, self.starts, self.pairs, self.found = found["sets"], found["starts"], found["pairs"], found

    def name(self, ipc: int, row: str, seed: int) -> str:
        start = self.starts.get(f"{ipc}/{seed}", {}).get("window_start", "?")
        return f"{ipc}/{row.format(start=start, half=0.5 if ipc == MAP_IPC else 0.4)}/{seed}"

    def seeds(self, ipc: int, *rows: str) -> list[int]:
        """Those that all of the sets were measured with."""
        every = sorted({int(name.split("/")[-1]) for name in self.sets})
        return [seed for seed in every if all(self.name(ipc, row, seed) in self.sets for row in rows)]

    def values(self, ipc: int, row: str, figure: str, seeds: Sequence[int] | None = None) -> list[Any]:
        """A figure of a set, or of what became of its images, of each seed."""
        names = [self.name(ipc, row, seed) for seed in (self.seeds(ipc, row) if seeds is None else seeds)]
        if figure in ("seen", "tenths_shaken"):
            return [self.found["shaken"][name][figure.removesuffix("_shaken")] for name in names]
        cells = [self.sets[name] for name in names]
        return [cell[figure] if figure in cell else cell["learning"][figure] for cell in cells]

    @property
    def ipcs(self) -> list[int]:
        return sorted({int(name.split("/")[0]) for name in self.starts})


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """A table whose first columns are words and all others numbers."""
    rule = ["---"] * words + ["---:"] * (len(header) - words)
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *rows])


def conditions(record: Record) -> str:
    found, minutes = record.found, sum(cell["cpu_s"] for cell in record.sets.values()) / 60
    return (
        f"`{found['command']}`, {found['device']}, {minutes:.0f} CPU minutes in all; {found['runs']} networks for each "
        "set."
    )


def accuracies(record: Record) -> str:
    """Sets that differ in the share learned, with random images and mtt."""
    rows = [
        [words, str(ipc), str(len(seeds)), *(spread(record.values(ipc, row, figure, seeds)) for row in SETS.values())]
        for words, figure in {"accuracy %": "accuracy", "hard third %": "hard"}.items()
        for ipc in record.ipcs
        if (seeds := record.seeds(ipc, *SETS.values()))
    ]
    return markdown(["", "IPC", "seeds", *SETS], rows)


def difference(record: Record, ipcs: Sequence[int], pair: tuple[str, str], figure: str) -> str:
    """Points, paired by images a class and seed, ± standard error; bold where Student's interval leaves 0 out."""
    seeds = {ipc: record.seeds(ipc, *pair) for ipc in ipcs}
    one, other = ([value for ipc in ipcs for value in record.values(ipc, row, figure, seeds[ipc])] for row in pair)
    gaps = [100 * (a - b) for a, b in zip(one, other, strict=True)]
    if len(gaps) < 2:
        return "–"
    error = stdev(gaps) / len(gaps) ** 0.5
    words = f"{mean(gaps):+.1f} ± {error:.1f}".replace("-", "−")
    if len(gaps) < LEAST:
        return words
    return f"**{words}**" if abs(mean(gaps)) > t.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1) * error else words


def differences(record: Record) -> str:
    kinds = {"accuracy": "accuracy", "hard third": "hard"}
    groups = {**{f"IPC {ipc}": [ipc] for ipc in record.ipcs}, "all": record.ipcs}
    header = ["points", *(f"{words}, {group}" for words in kinds for group in groups)]
    rows = [
        [words, *(difference(record, ipcs, pair, figure) for figure in kinds.values() for ipcs in groups.values())]
        for words, pair in DIFFERENCES.items()
    ]
    return markdown(header, rows)


def readings(record: Record) -> str:
    rows = [
        [
            words,
            *(spread(record.values(MAP_IPC, row, figure)) for figure in ("accuracy", "hard")),
            *(difference(record, [MAP_IPC], (row, SELMATCH), figure) for figure in ("accuracy", "hard")),
        ]
        for words, row in {"selmatch: window, easier 0.8 learned": SELMATCH, **READINGS}.items()
    ]
    rows[0][3:] = ["", ""]
    header = ["set", "accuracy %", "hard third %", "accuracy − selmatch", "hard third − selmatch"]
    return markdown(header, rows)


def fates(record: Record) -> str:
    """How far learned images went, and how hard they are then."""

    def percent(ipc: int, row: str, figure: str, unit: float = 1) -> str:
        return spread([value * unit / 100 for value in record.values(ipc, row, figure)], 0)

    def plain(ipc: int, row: str, figure: str) -> str:
        found = record.values(ipc, row, figure)
        return f"{mean(found):.2f} ± {stdev(found):.2f}".replace("-", "−")

    rows = [
        [
            words,
            str(ipc),
            plain(ipc, row, "moved"),
            percent(ipc, row, "still_own", 100),
            *(percent(ipc, row, figure) for figure in ("hard_of_nearest", "seen_before", "seen_after", "seen")),
            plain(ipc, row, "moved_by_difficulty"),
        ]
        for words, row in FATES.items()
        for ipc in record.ipcs
        if len(record.seeds(ipc, row)) > 1
    ]
    header = ["learned images of", "IPC", "moved", "own start nearest %", "difficulty of the nearest image"]
    return markdown([*header, "before", "after", "after noise", "movement with difficulty"], rows)


def fifths(record: Record) -> str:
    """Of mtt, whose start images are of all difficulties: movement and change by fifth."""

    def means(ipc: int, figure: str) -> Iterator[str]:
        for found in zip(*record.values(ipc, "mtt", figure), strict=True):
            known = [value for value in found if value is not None]
            digits = 2 if figure == "moved_by_fifth" else 0
            yield f"{mean(known):.{digits}f} ± {stdev(known):.{digits}f}".replace("-", "−")

    kinds = {"moved": "moved_by_fifth", "change of difficulty as seen": "change_by_fifth"}
    rows = [[words, str(ipc), *means(ipc, figure)] for words, figure in kinds.items() for ipc in record.ipcs]
    return markdown(["mtt", "IPC", *FIFTHS], rows)


TABLES = {
    "why-conditions": conditions,
    "why-accuracies": accuracies,
    "why-differences": differences,
    "why-readings": readings,
    "why-fates": fates,
    "why-fifths": fifths,
}


@contextmanager
def drawn(name: str, rows: int, columns: int, height: float) -> Iterator[list[Axes]]:
    """Axes row by row, written to docs/ when the block ends well."""
    with style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        yield [figure.add_subplot(rows, columns, place) for place in range(1, rows * columns + 1)]
        with atomic_write(DOCS / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


def draw_map(record: Record) -> None:
    """Accuracy by where the window starts and which share is learned, of all images and of the hard third."""
    names = [name.split("/")[1:3] for name in record.sets if name.startswith(f"{MAP_IPC}/") and name.count("/") == 3]
    starts, shares = (sorted({name[i] for name in names if name[0][0].isdigit()}, key=float) for i in (0, 1))
    grid = [f"{start}/{share}" for start in starts for share in shares]
    with drawn("why-map", 1, 2, 3.6) as axes:
        for one, (words, figure) in zip(axes, {"Accuracy": "accuracy", "Hard third": "hard"}.items(), strict=True):
            found = [[100 * value for value in record.values(MAP_IPC, cell, figure)] for cell in grid]
            means = np.array([mean(values) if values else np.nan for values in found]).reshape(-1, len(shares))
            one.imshow(means, cmap="viridis", aspect="auto")
            middle = np.nanmin(means) + 0.6 * (np.nanmax(means) - np.nanmin(means))
            for place, values in enumerate(found):
                y, x = divmod(place, len(shares))
                text = f"{means[y, x]:.1f}" if values else ""
                text += f"\n±{stdev(values):.1f}" if len(values) > 1 else ""
                colour = "white" if means[y, x] < middle else "black"
                one.text(x, y, text, ha="center", va="center", fontsize=8, color=colour)
            one.set(title=f"{words} %, IPC {MAP_IPC}", xlabel="share learned", ylabel="window start (0: hardest)")
            one.set_xticks(range(len(shares)), shares)
            one.set_yticks(range(len(starts)), starts)
            one.grid(visible=False)


def draw_coverage(record: Record) -> None:
    """Share of each set by tenth of difficulty: at the start, and of learned images as experts see them after."""
    rows = {"mtt": "mtt", "selmatch": SELMATCH}
    with drawn("why-coverage", len(rows), len(record.ipcs), 4.4) as axes:
        places = iter(axes)
        for words, row in rows.items():
            for ipc in record.ipcs:
                one = next(places)
                start, before, after, noise = (
                    np.mean([np.array(found) / sum(found) for found in record.values(ipc, row, figure)], 0) * 100
                    for figure in ("tenths", "tenths_seen_before", "tenths_seen_after", "tenths_shaken")
                )
                one.bar(range(10), start, width=0.9, color="#cccccc", label="whole set, at the start")
                one.plot(range(10), before, color="#555555", linewidth=1.2, label="learned part as seen, before")
                one.plot(range(10), after, color=COLOURS[words], marker="o", markersize=3, label="after")
                one.plot(range(10), noise, color="#555555", linewidth=1, linestyle=":", label="before, with noise")
                one.set_title(f"{words}, IPC {ipc}")
                one.set_xticks([0, 9], ["easiest", "hardest"])
                one.set_ylim(0, 30 if row == "mtt" else 100)
        for one in axes[:: len(record.ipcs)]:
            one.set_ylabel("% of images, by tenth")
        for one in axes[len(record.ipcs) - 1 :: len(record.ipcs)]:
            one.legend(fontsize=7, loc="upper left")


def draw_pairs(record: Record) -> None:
    """The learned images that moved most and least: before, above, and after, below."""
    groups = [
        (f"{'mtt' if '/mtt/' in name else 'selmatch'}: moved {kind}", found[kind])
        for name, found in sorted(record.pairs.items(), reverse=True)
        for kind in ("most", "least")
    ]
    columns = len(groups[0][1])
    with drawn("why-pairs", 2 * len(groups), columns, 1.72 * len(groups)) as axes:
        places = iter(axes)
        for title, pairs in groups:
            for kind in ("before", "after"):
                for number, pair in enumerate(pairs):
                    one = next(places)
                    pixels = np.frombuffer(bytes.fromhex(pair[kind]), np.uint8)
                    one.imshow(pixels.reshape(isqrt(len(pixels)), -1), cmap="gray", vmin=0, vmax=255)
                    one.set_axis_off()
                    change = f"{pair['seen_before']:.0f} → {pair['seen_after']:.0f}"
                    words = f" \n{pair['moved']:.2f}" if kind == "before" else change
                    one.set_title(words, fontsize=7, loc="center", pad=2)
                    if kind == "before" and number == 0:
                        one.text(0, 1.26, title, fontsize=9, transform=one.transAxes).set_in_layout(False)


def main() -> int:
    record = Record(json.loads(RESULT.read_text(encoding="utf-8")))
    text = wanted = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        wanted = put(wanted, name, table(record), NOTE)
    if "--check" in sys.argv:
        if wanted != text:
            sys.stderr.write(f"{PAGE} does not show the committed figures; run: python tools/why.py\n")
        return int(wanted != text)
    PAGE.write_text(wanted, encoding="utf-8")
    for draw in (draw_map, draw_coverage, draw_pairs):
        draw(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
