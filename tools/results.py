"""Put the tables of studies/cifar10 into docs/results.md, draw docs/results.svg; with --check, only compare the page.

The tables are made from the study's params.yaml, metrics/ and cpu_seconds.json.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from readme import put
from ruamel.yaml import YAML
from scipy.stats import t

from distillkit.evaluation.metrics import read_metrics

STUDY, LONGER = Path("studies/cifar10"), Path("studies/cifar10-longer")
PAGE, PLOT = Path("docs/results.md"), Path("docs/results.svg")
NOTE = "written by tools/results.py, do not edit -->\n"
IMAGES = 5_000  # of each class in the source
COMPARED = 250  # images a class at which all methods are compared
CONFIDENCE = 0.95  # of the interval that decides what is bold
STEPS = 150  # of SelMatch and MTT, where a line has no number
PUBLISHED = {  # ResNet18, hard labels: SelMatch's table as CCFS (CVPR 2025) reprints it
    "random": {250: 73.4, 500: 79.3, 1000: 85.6, 1500: 88.3},
    "window": {250: 79.3, 500: 85.2, 1000: 89.9, 1500: 90.6},
    "mtt": {250: 80.7, 500: 82.2, 1000: 86.1, 1500: 88.6},
    "selmatch": {250: 82.8, 500: 85.9, 1000: 90.4, 1500: 91.3},
}


Pair = tuple[str, str, str]  # a figure, and two ways, of which the second is taken from the first
MAIN: list[Pair] = [("accuracy", "selmatch", other) for other in ("random", "window", "mtt", "ccfs")]
MORE: list[Pair] = [
    *(("hard", first, other) for _, first, other in MAIN),
    *(("accuracy", "selmatch-late", other) for other in ("window-late", "selmatch-late-all", "selmatch")),
    ("accuracy", "selmatch", "window-late"),
    ("accuracy", "window-late", "window"),
    *((what, "mtt", "random") for what in ("accuracy", "hard")),
    *(("hard", "selmatch-late", other) for other in ("random", "selmatch")),
    ("hard", "window-late", "window"),
]


class Figure(NamedTuple):
    """A mean in percent, with the standard deviation over ``over`` sets, or over the networks of one set."""

    mean: float
    std: float
    over: int


class Spread(NamedTuple):
    """A standard deviation that is estimated from several groups of figures, and its degrees of freedom."""

    std: float
    freedom: int


class Row(NamedTuple):
    """Sets of one recipe, which differ in their seeds: what made them, and their figures."""

    way: str
    ipc: int
    sets: int
    accuracy: Figure
    hard: Figure
    mlp: Figure | None  # None: evaluated before there was one
    hours: float


def way_of(name: str, recipe: Mapping[str, Any]) -> str:
    """The line that a recipe belongs to: its method, and what is unusual about it."""
    method: str = recipe["method"]
    if "-late-" in name:
        method += ", longer scan"
    if recipe["method"] not in ("selmatch", "mtt"):
        return method
    if (steps := recipe["optim"]["steps"]) != STEPS:
        return f"{method}, {steps} steps"
    return f"{method}, all learned" if recipe.get("distill_fraction") == 1 else method


def rows() -> Iterator[Row]:
    """What was measured, in the order of params.yaml. Hours are of making a set, without experts."""
    recipes = YAML(typ="safe").load(STUDY / "params.yaml")["recipes"]
    taken = json.loads((STUDY / "cpu_seconds.json").read_text(encoding="utf-8"))
    sets = dict[tuple[str, int], list[str]]()
    for name, recipe in recipes.items():
        if (STUDY / "metrics" / f"{name}.json").is_file():  # else not run yet
            sets.setdefault((way_of(name, recipe), recipe.get("ipc", IMAGES)), []).append(name)
    for (way, ipc), names in sets.items():
        found = [read_metrics(STUDY / "metrics" / f"{name}.json") for name in names]
        runs = found[0]["accuracy"]["runs"]
        others = [each["others"]["mlp"]["accuracy"] for each in found if "others" in each]
        hours = mean(seconds(name, recipes, taken) for name in names) / 3600
        accuracy, hard = (figure([each[name] for each in found], runs) for name in ("accuracy", "hard"))
        mlp = figure(others, runs) if len(others) == len(found) else None
        yield Row(way, ipc, len(names), accuracy, hard, mlp, hours)


def seconds(name: str, recipes: Mapping[str, Any], taken: Mapping[str, Any]) -> float:
    """CPU seconds to make a set, with those of the window's scan if its start is from there."""
    own, recipe = float(taken[f"distill@{name}"]["seconds"]), recipes[name]
    if recipe["method"] != "selmatch" or not isinstance(recipe["window_start"], float):
        return own
    scan = f"distill@window{'-late' if '-late-' in name else ''}-ipc{recipe['ipc']}"
    return own + float(taken[scan]["seconds"])


def figure(measured: Sequence[Mapping[str, float]], runs: int) -> Figure:
    """Of sets that differ in their seeds, or of one set and its ``runs`` networks."""
    means = [100 * each["mean"] for each in measured]
    if len(means) == 1:
        return Figure(means[0], 100 * measured[0]["std"], runs)
    return Figure(mean(means), stdev(means), len(means))


def pooled(figures: Sequence[Figure]) -> Spread:
    """The root of the weighted mean of variances."""
    freedom = sum(one.over - 1 for one in figures)
    return Spread(sqrt(sum((one.over - 1) * one.std**2 for one in figures) / freedom), freedom)


def gap(means: Sequence[float], counts: Sequence[int], spread: Spread) -> str:
    """The first mean less the second, for means of so many values with one deviation."""
    return told(means[0] - means[1], Spread(spread.std * sqrt(sum(1 / count for count in counts)), spread.freedom))


def told(difference: float, error: Spread) -> str:
    """A difference ± its standard error. Bold where Student's interval leaves 0 out."""
    words = f"{difference:+.1f} ± {error.std:.1f}"
    return f"**{words}**" if abs(difference) > t.ppf((1 + CONFIDENCE) / 2, error.freedom) * error.std else words


def ipcs_of(found: Sequence[Row]) -> list[int]:
    return sorted({row.ipc for row in found} - {IMAGES})


def ways_of(found: Sequence[Row]) -> list[str]:
    """Those with sets of several sizes, in order."""
    sizes = Counter(row.way for row in found)
    return [way for way, count in sizes.items() if count > 1]


def share(ipc: int) -> str:
    """The share of the source."""
    return f"{100 * ipc / IMAGES:g} %"


def table(found: Sequence[Row], shown: str) -> str:
    """One line for each way, one column for each number of images a class."""
    ipcs = ipcs_of(found)
    header = ["images a class (share)", *(f"{ipc} ({share(ipc)})" for ipc in ipcs)]
    lines = [header, ["---"] + ["---:"] * len(ipcs)]
    for way in ways_of(found):
        cells = {row.ipc: cell(row, shown) for row in found if row.way == way}
        lines.append([way, *(cells.get(ipc, "–") for ipc in ipcs)])
    full = next((row for row in found if row.way == "full"), None)
    text = joined(lines)
    return text if full is None or shown == "hours" else f"{text}\n\nAll {10 * IMAGES:,} images: {cell(full, shown)}"


def joined(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(row: Row, shown: str) -> str:
    """A figure as the table has it."""
    texts = {
        "accuracy": f"{row.accuracy.mean:.1f} ± {row.accuracy.std:.1f}{f' ({row.sets} sets)' if row.sets > 1 else ''}",
        "hard": f"{row.hard.mean:.1f}",
        "mlp": "–" if row.mlp is None else f"{row.mlp.mean:.1f}",
        "hours": f"{row.hours:.2f}",
    }
    return texts[shown]


def published(found: Sequence[Row]) -> str:
    """Margins over random of the same size, here and as published."""
    here = {(row.way, row.ipc): row.accuracy.mean for row in found}
    ipcs = [ipc for ipc in ipcs_of(found) if ipc in PUBLISHED["random"]]
    header = ["points above random", *(f"{ipc}, {where}" for ipc in ipcs for where in ("here", "paper"))]
    lines = [header, ["---"] + ["---:"] * (2 * len(ipcs))]
    for way in ("window", "mtt", "selmatch"):
        cells = []
        for ipc in ipcs:
            own = here.get((way, ipc))
            cells.append("–" if own is None else f"{own - here['random', ipc]:+.1f}")
            cells.append(f"{PUBLISHED[way][ipc] - PUBLISHED['random'][ipc]:+.1f}")
        lines.append([way, *cells])
    return joined(lines)


def differences(found: Sequence[Row]) -> str:
    """SelMatch less others. The deviation between sets is pooled over sizes from COMPARED on, and over those below."""
    rows, ipcs = {(row.way, row.ipc): row for row in found}, ipcs_of(found)
    lines = [["points", *(f"{ipc} ({share(ipc)})" for ipc in ipcs)], ["---"] + ["---:"] * len(ipcs)]
    names = {"accuracy": "", "hard": ", hard third", "mlp": ", MLP"}
    others = ("random", "window", "mtt", "selmatch, all learned", "ccfs")
    for value, other in ((value, other) for value in names for other in others):
        cells = []
        for ipc in ipcs:
            pair = [row for way in ("selmatch", other) if (row := rows.get((way, ipc))) and getattr(row, value)]
            like = [row for row in found if row.sets > 1 and (row.ipc < COMPARED) == (ipc < COMPARED)]
            spread = pooled([getattr(row, value) for row in like])
            means = [getattr(row, value).mean for row in pair]
            cells.append(gap(means, [row.sets for row in pair], spread) if len(pair) == 2 else "–")
        lines.append([f"selmatch − {other}{names[value]}", *cells])
    return joined(lines)


def at_size(found: Sequence[Row], ipc: int) -> str:
    """All sets of one size, the best first, and all images."""
    lines = [["set", "accuracy %", "hard third %", "MLP %", "CPU minutes"], ["---"] + ["---:"] * 4]
    for row in sorted((row for row in found if row.ipc in (ipc, IMAGES)), key=lambda row: -row.accuracy.mean):
        name, minutes = "all images" if row.ipc == IMAGES else row.way, f"{60 * row.hours:.1f}"
        lines.append([name, *(cell(row, shown) for shown in ("accuracy", "hard", "mlp")), minutes])
    return joined(lines)


def price(found: Sequence[Row]) -> str:
    """CPU minutes, with those of the experts, for each point above random images of the same size, where there are such
    points: the margin is above the sum of both deviations.
    """
    taken = json.loads((STUDY / "cpu_seconds.json").read_text(encoding="utf-8"))
    experts_s = sum(each["seconds"] for name, each in taken.items() if name.startswith(("experts@", "score")))
    randoms, ipcs = {row.ipc: row for row in found if row.way == "random"}, ipcs_of(found)
    header = ["CPU minutes a point", *(f"{ipc} ({share(ipc)})" for ipc in ipcs)]
    lines = [header, ["---"] + ["---:"] * len(ipcs)]
    for way in ways_of(found):
        cells = {}
        for row in (row for row in found if row.way == way and row.ipc in randoms):
            own, base, minutes = row.accuracy, randoms[row.ipc].accuracy, 60 * row.hours + experts_s / 60
            margin = own.mean - base.mean
            cells[row.ipc] = f"{minutes / margin:.1f}" if margin > own.std + base.std else "–"
        if way != "random":
            lines.append([way, *(cells.get(ipc, "–") for ipc in ipcs)])
    return joined(lines)


def scores(found: Sequence[Row]) -> str:
    """Windows of COMPARED images a class by the study's score and by others."""
    params = YAML(typ="safe").load(STUDY / "params.yaml")
    own = next(row for row in found if (row.way, row.ipc) == ("window", COMPARED))
    start = params["recipes"][f"selmatch-ipc{COMPARED}"]["window_start"]  # which the window's choice was given to
    rows = [(params["score"]["name"], start, own.accuracy, own.hard)]
    for name, each in json.loads((STUDY / "scores.json").read_text(encoding="utf-8")).items():
        figures = [figure([each[value]], each["accuracy"]["runs"]) for value in ("accuracy", "hard")]
        rows.append((name, each["window_start"], *figures))
    lines = [["window by", "start", "accuracy %", "hard third %"], ["---"] + ["---:"] * 3]
    for name, start, accuracy, hard in sorted(rows, key=lambda row: -row[2].mean):
        lines.append([name, f"{start:g}", f"{accuracy.mean:.1f} ± {accuracy.std:.1f}", f"{hard.mean:.1f}"])
    return joined(lines)


def steps() -> str:
    """SelMatch and MTT of COMPARED images a class and one seed, by the number of outer steps."""
    losses = json.loads((STUDY / "losses.json").read_text(encoding="utf-8"))
    lines = [["set", "steps", "matching loss", "accuracy %", "hard third %", "MLP %"], ["---"] + ["---:"] * 5]
    for method, kind in ((method, kind) for method in ("selmatch", "mtt") for kind in ("", "-long")):
        name = f"{method}{kind}-ipc{COMPARED}"
        metrics, loss = read_metrics(STUDY / "metrics" / f"{name}.json"), losses[name]
        runs, mlp = metrics["accuracy"]["runs"], metrics["others"]["mlp"]["accuracy"]
        accuracy, hard, other = (figure([each], runs) for each in (metrics["accuracy"], metrics["hard"], mlp))
        figures = [f"{each.mean:.1f} ± {each.std:.1f}" for each in (accuracy, hard, other)]
        lines.append([method, f"{loss['steps']}", f"{loss['loss']:.2f}", *figures])
    return joined(lines)


def gradients() -> str:
    """The size of an image's gradient by the number of images in the set."""
    found = json.loads((STUDY / "gradients.json").read_text(encoding="utf-8"))
    matching = YAML(typ="safe").load(STUDY / "params.yaml")["recipes"]["mtt-ipc250"]["matching"]  # gradients.py's
    seen = matching["student_steps"] * matching["student_batch"]
    header = ["images in the set", *(f"{row['images']:,}" for row in found)]
    lines = [header, ["---"] + ["---:"] * len(found)]
    lines.append(["gradient of an image", *(f"{row['rms']:.1e}" for row in found)])
    lines.append(["times images seen", *(f"{row['rms'] * min(row['images'], seen):.2f}" for row in found)])
    return joined(lines)


def networks() -> str:
    """Sets of the study with networks of other kinds, of one seed and one network each."""
    lines = [["network", "updates", "images a class", "random %", "window %", "mtt %", "selmatch %"]]
    lines.append(["---"] + ["---:"] * 6)
    for network, sets in json.loads((STUDY / "networks.json").read_text(encoding="utf-8")).items():
        for ipc in sorted({int(name.rpartition("-ipc")[2]) for name in sets}):
            each = [sets.get(f"{way}-ipc{ipc}") for way in ("random", "window", "mtt", "selmatch")]
            updates = next(one["updates"] for one in each if one)
            cells = ["–" if one is None else f"{100 * one['accuracy']:.1f}" for one in each]
            lines.append([network, f"{updates:,}", str(ipc), *cells])
    return joined(lines)


def by_updates() -> Mapping[int, Mapping[str, Mapping[str, Any]]]:
    """Metrics of sets of the first seed, by the number of updates of the networks that are trained on them."""
    params = YAML(typ="safe").load(STUDY / "params.yaml")
    longer = json.loads((STUDY / "updates.json").read_text(encoding="utf-8"))
    names = {name for sets in longer.values() for name in sets}
    usual = {name: read_metrics(STUDY / "metrics" / f"{name}.json") for name in params["recipes"] if name in names}
    return {params["evaluation"]["training"]["steps"]: usual} | {
        int(key): longer[key] for key in sorted(longer, key=int)
    }


def updates(found: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> str:
    """Accuracy, and that of the hard third."""
    recipes = YAML(typ="safe").load(STUDY / "params.yaml")["recipes"]
    header = ["images a class", "set", *(f"{count:,} updates %" for count in found)]
    header += [f"hard third, {count:,} %" for count in found]
    lines = [header, ["---:", "---"] + ["---:"] * (2 * len(found))]
    sizes = {name: recipes[name].get("ipc", IMAGES) for name in found[min(found)]}  # in the order of params.yaml
    for name in sorted(sizes, key=lambda name: sizes[name]):
        each = [(what, sets.get(name)) for what in ("accuracy", "hard") for sets in found.values()]
        cells = ["–" if one is None else f"{100 * one[what]['mean']:.1f}" for what, one in each]
        lines.append([f"{sizes[name]:,}", "all images" if name == "full" else way_of(name, recipes[name]), *cells])
    return joined(lines)


def both_studies() -> Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]:
    """Metrics of a set of each study, by method and size, after the longer study's number of updates. Of the first
    study, it is the set whose start a longer scan chose, if there is one.
    """
    params = YAML(typ="safe").load(LONGER / "params.yaml")
    first = json.loads((STUDY / "updates.json").read_text(encoding="utf-8"))
    first, found = first[str(params["evaluation"]["training"]["steps"])], {}
    for name, recipe in params["recipes"].items():
        if not (LONGER / "metrics" / f"{name}.json").is_file():  # not run yet
            continue
        one = first.get(name.replace("-ipc", "-late-ipc")) or first[name]
        two = read_metrics(LONGER / "metrics" / f"{name}.json")
        found[recipe["method"], recipe["ipc"]] = (one, two)
    return found


def twice(found: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]], what: str) -> str:
    """A figure of both studies' sets: the mean, and the deviation between the two."""
    ipcs = sorted({ipc for _, ipc in found})
    lines = [["images a class (share)", *(f"{ipc} ({share(ipc)})" for ipc in ipcs)], ["---"] + ["---:"] * len(ipcs)]
    own = {key: figure([each[what] for each in sets], runs=0) for key, sets in found.items()}
    for way in dict.fromkeys(way for way, _ in found):
        cells = [own.get((way, ipc)) for ipc in ipcs]
        lines.append([way, *("–" if one is None else f"{one.mean:.1f} ± {one.std:.1f}" for one in cells)])
    return joined(lines)


def differences_twice(found: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]) -> str:
    """Differences of methods within each study: the mean of both. The deviation between studies is pooled over sizes
    and pairs.
    """
    ipcs = sorted({ipc for _, ipc in found})
    lines = [["points", *(f"{ipc} ({share(ipc)})" for ipc in ipcs)], ["---"] + ["---:"] * len(ipcs)]
    pairs = [("selmatch", other) for other in ("random", "window", "mtt", "ccfs")]
    pairs += [(way, "random") for way in ("window", "mtt", "ccfs")]
    for what, words in (("accuracy", ""), ("hard", ", hard third")):
        own = dict[tuple[str, str, int], Figure]()
        for (first, other), ipc in ((pair, ipc) for pair in pairs for ipc in ipcs):
            if (first, ipc) in found and (other, ipc) in found:
                sets = zip(found[first, ipc], found[other, ipc], strict=True)
                own[first, other, ipc] = figure([{"mean": a[what]["mean"] - b[what]["mean"]} for a, b in sets], runs=0)
        spread = pooled(list(own.values()))
        error = Spread(spread.std / sqrt(2), len(found) - len(ipcs))  # pairs share sets: as many as sets less sizes
        for first, other in pairs:
            cells = [own.get((first, other, ipc)) for ipc in ipcs]
            texts = ("–" if one is None else told(one.mean, error) for one in cells)
            lines.append([f"{first} − {other}{words}", *texts])
    return joined(lines)


def scans() -> str:
    """Accuracy on held-out training images by the window's start, after few and after many updates; a * is the best."""
    found = json.loads((STUDY / "scans.json").read_text(encoding="utf-8"))
    recipes = YAML(typ="safe").load(STUDY / "params.yaml")["recipes"]
    both = [name for name in found if "-late-" not in name and name.replace("-ipc", "-late-ipc") in found]
    columns = [name for one in both for name in (one, one.replace("-ipc", "-late-ipc"))]
    header = ["start", *(f"{recipes[name]['ipc']}, {found[name]['updates']:,} updates %" for name in columns)]
    lines = [header, ["---:"] * len(header)]
    for start in sorted({float(start) for name in columns for start in found[name]["accuracy"]}):
        cells = []
        for name in columns:
            own = found[name]["accuracy"]
            best = "*" if own.get(f"{start:g}") == max(own.values()) else ""
            cells.append(f"{100 * own[f'{start:g}']:.1f}{best}" if f"{start:g}" in own else "–")
        lines.append([f"{start:g}", *cells])
    return joined(lines)


def differences_by_updates(found: Mapping[int, Mapping[str, Mapping[str, Any]]], pairs: Sequence[Pair]) -> str:
    """Differences of ways, of the first seed. The deviation between networks is pooled over sets."""
    ipcs = sorted({int(name.rpartition("-ipc")[2]) for sets in found.values() for name in sets if "-ipc" in name})
    lines = [["points", "updates", *(f"{ipc} ({share(ipc)})" for ipc in ipcs)], ["---", "---:"] + ["---:"] * len(ipcs)]
    for what, first, other in pairs:
        for count, sets in found.items():
            every = {name: figure([each[what]], each["accuracy"]["runs"]) for name, each in sets.items()}
            spread, cells = pooled(list(every.values())), []
            for ipc in ipcs:
                pair = [every[name] for way in (first, other) if (name := f"{way}-ipc{ipc}") in sets]
                means, counts = [one.mean for one in pair], [one.over for one in pair]
                cells.append(gap(means, counts, spread) if len(pair) == 2 else "–")
            if set(cells) != {"–"}:
                named = " − ".join(named_way(way) for way in (first, other))
                lines.append([f"{named}{', hard third' if what == 'hard' else ''}", f"{count:,}", *cells])
    return joined(lines)


def named_way(key: str) -> str:
    """The words for the first part of a recipe's name."""
    return key.replace("-late", ", longer scan").replace("-all", ", all learned")


def draw(found: Sequence[Row]) -> None:
    """Accuracy against images a class; the hard third of the test images beside it."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "distillkit"  # the same bytes each time
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for way in ways_of(found):
        own = sorted((row for row in found if row.way == way), key=lambda row: row.ipc)
        ipcs = [row.ipc for row in own]
        for panel, value in zip(panels, ("accuracy", "hard"), strict=True):
            figures = [getattr(row, value) for row in own]
            panel.errorbar(ipcs, [one.mean for one in figures], [one.std for one in figures], marker="o", label=way)
    for panel, title, value in zip(panels, ("all test images", "hard third"), ("accuracy", "hard"), strict=True):
        for full in (row for row in found if row.way == "full"):
            panel.axhline(getattr(full, value).mean, color="black", linestyle="--", label="all images")
        panel.set(xscale="log", xlabel="images a class", ylabel="test accuracy, %", title=title)
        panel.set_xticks(ipcs_of(found), [str(ipc) for ipc in ipcs_of(found)], minor=False)
        panel.minorticks_off()
    panels[0].legend()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> int:
    found, longer, both = list(rows()), by_updates(), both_studies()
    text = wanted = PAGE.read_text(encoding="utf-8")
    for name, made in {
        "study-both": differences_twice(both),
        "study-both-accuracy": twice(both, "accuracy"),
        "study-both-hard": twice(both, "hard"),
        "study-accuracy": table(found, "accuracy"),
        "study-hard": table(found, "hard"),
        "study-differences": differences(found),
        "study-margins": published(found),
        "study-methods": at_size(found, COMPARED),
        "study-scores": scores(found),
        "study-steps": steps(),
        "study-mlp": table(found, "mlp"),
        "study-networks": networks(),
        "study-updates": updates(longer),
        "study-updates-main": differences_by_updates(longer, MAIN),
        "study-updates-differences": differences_by_updates(longer, MORE),
        "study-scans": scans(),
        "study-hours": table(found, "hours"),
        "study-price": price(found),
        "study-gradients": gradients(),
    }.items():
        wanted = put(wanted, name, made, NOTE)
    if "--check" in sys.argv:
        if wanted != text:
            sys.stderr.write(f"{PAGE}: not the study's figures; run: python tools/results.py\n")
        return int(wanted != text)
    PAGE.write_text(wanted, encoding="utf-8")
    draw(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
