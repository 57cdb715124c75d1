"""The tables of docs/cost.md: formulas beside measured exponents, estimates beside the truth, the price of a point."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from distillkit.methods import METHODS

RESULTS = Path("benchmarks/results")
IPC = 10  # of the price
FORMULAS = {
    "experts": "3 E L N F",
    "evaluation": "R (3 U b + T) F",
    "random": "N log N",
    "confident": "N log N",
    "ccs": "N log N",
    "dual": "N log N",
    "window": "candidates runs (3 U b + holdout N) F",
    "herding": "experts N F + N IPC",
    "k-centre": "experts N F + N IPC",
    "moderate": "experts N F",
    "optimised": "sets runs (3 U b + holdout N) F",
    "kmeans": "tries rounds N IPC D",
    "average": "N D",
    "rded": "experts K pool crops F",
    "diffusion": "(3 steps batch + sampling M) F′",
    "dd": "S networks ((u epochs M + 3 B) F + 4 epochs steps s)",
    "dm": "S K (2 IPC + B) F",
    "dc": "S K ((9 IPC + 3 B + 3 IPC epochs) F + 4 s)",
    "dsa": "as dc",
    "mtt": "S Q min(q, M) u F",
    "att": "as mtt",
    "selmatch": "as mtt",
    "ccfs": "as mtt + rounds (3 U b + N) F",
}
SYMBOLS = {
    "ipc": "IPC",
    "optim.steps": "S",
    "learning.steps": "S",
    "matching.student_steps": "Q",
    "matching.student_batch": "q",
    "matching.real_batch": "B",
    "real_batch": "B",
    "matching.inner_epochs": "epochs",
    "window_start.runs": "runs",
    "window_start.training.steps": "U",
    "training.steps": "U",
    "model.training.steps": "steps",
}
OWN = {"experts": {"epochs": "L"}, "evaluation": {"steps": "U", "batch": "b", "runs": "R"}}


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return found


def rows_as_table(rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Markdown; the first row is the header."""
    rule = ["---"] * text_columns + ["---:"] * (len(rows[0]) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], rule, *rows[1:]])


def conditions(found: Mapping[str, Any]) -> str:
    return f"`{found['command']}` on {found['device']}, torch {found['versions']['torch']}, one thread."


def exponents() -> str:
    """Of benchmarks/results/cost-cpu.json: each case's formula, and the exponents of both."""
    found = load("cost-cpu.json")
    rows = [["what", "time", "exponents: formula, measured", "estimate / measured"]]
    for name, case in found["cases"].items():
        each = [
            f"{OWN.get(name, {}).get(variable, SYMBOLS.get(variable, variable))} {number(fit['formula'])}, "
            f"{number(fit['measured'])}"
            for variable, fit in case["exponents"].items()
        ]
        ratio = f"{case['ratio']:.2f}" if case["estimate_s"] else "–"
        what = f"`{name}`" if name in METHODS or name == "experts" else "`evaluate`"
        rows.append([what, FORMULAS[name], "; ".join(each), ratio])
    return f"{conditions(found)}\n\n{rows_as_table(rows, text_columns=3)}"


def number(exponent: float | None) -> str:
    return "–" if exponent is None else f"{exponent:.2f}".replace("-0.00", "0.00")


def estimates() -> str:
    """Of benchmarks/results/estimates-cpu.json: for each pipeline what was said and what was true, by stage."""
    pipelines = {name: each for name, each in load("estimates-cpu.json")["pipelines"].items() if "minutes" not in each}
    stages = list(dict.fromkeys(stage for each in pipelines.values() for stage in each["stages"]))
    rows = [["said / true, CPU s", *pipelines]]
    rows += [[stage, *(pair(each["stages"].get(stage)) for each in pipelines.values())] for stage in stages]
    rows.append(["**all**", *(f"**{pair(each['totals'])}**" for each in pipelines.values())])
    rows.append(["**said : true**", *(f"**{each['ratio']:.2f}**" for each in pipelines.values())])
    return rows_as_table(rows)


def limits() -> str:
    """The same of pipelines that ``init --minutes`` wrote: what was allowed and taken, and the numbers chosen."""
    rows = [["pipeline", "allowed, s", "said, s", "taken, CPU s", "experts", "outer steps", "images of a class"]]
    for name, each in load("estimates-cpu.json")["pipelines"].items():
        if "minutes" not in each:
            continue
        params, totals = each["params"], each["totals"]
        experts = len(params["expert_shards"]) * params["experts"]["per_shard"]
        steps = max(recipe.get("optim", {}).get("steps", 0) for recipe in params["recipes"].values())
        images = each["images"]["train"] // each["images"]["classes"]
        seconds = (60 * each["minutes"], round(totals["estimate_s"]), round(totals["measured_s"]))
        rows.append([name, *map(str, (*seconds, experts, steps, images))])
    return rows_as_table(rows)


def overhead() -> str:
    """Of benchmarks/results/dvc_overhead-cpu.json: what DVC itself takes, by the number of recipes."""
    rows = [["recipes", "cold", "nothing to do", "one recipe more", "dvc.lock, kB"]]
    for count, each in load("dvc_overhead-cpu.json")["recipes"].items():
        seconds = (f"{each[name]:.1f}" for name in ("cold_s", "unchanged_s", "another_s"))
        rows.append([count, *seconds, str(each["lock_kb"])])
    return rows_as_table(rows)


def pair(stage: Mapping[str, float] | None) -> str:
    return "–" if stage is None else f"{stage['estimate_s']:.0f} / {stage['measured_s']:.0f}"


def price() -> str:
    """Sets that no cheaper one equals, of benchmarks/results/methods_digits.json, and what each point more costs."""
    found = load("methods_digits.json")
    cells: dict[str, list[Mapping[str, Any]]] = {}
    for cell in found["cells"]:
        if cell["ipc"] == IPC and not cell["soft_labels"] and not METHODS[cell["method"]].about.ordered:
            cells.setdefault(cell["row"], []).append(cell)
    sets = sorted(priced(name, own, found["experts_cpu_s"]) for name, own in cells.items())
    rows = [["set", "CPU s, with experts", "accuracy %", "CPU s for each point more"]]
    before: Priced | None = None
    for own in sets:
        if before is None or own.accuracy - before.accuracy > math.hypot(own.error, before.error):
            more = "–" if before is None else f"{(own.seconds - before.seconds) / (own.accuracy - before.accuracy):.2g}"
            rows.append([f"`{own.row}`", f"{own.seconds:.1f}", f"{own.accuracy:.1f} ± {own.error:.1f}", more])
            before = own
    return rows_as_table(rows)


class Priced(NamedTuple):
    """CPU seconds of a set, with those of the experts if it uses any; accuracy in percent, with its standard error."""

    seconds: float
    accuracy: float
    error: float
    row: str


def priced(row: str, cells: Sequence[Mapping[str, Any]], experts_s: float) -> Priced:
    seconds = mean(cell["cpu_s"] for cell in cells)
    seconds += experts_s if METHODS[cells[0]["method"]].about.experts else 0.0
    accuracies = [100 * mean(cell["accuracy"]) for cell in cells]
    return Priced(seconds, mean(accuracies), stdev(accuracies) / math.sqrt(len(cells)), row)
