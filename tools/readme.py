"""Put results into README.md and pages of docs/, from committed files; with --check, only say whether they are there.

The tables are made from metrics/ (by the code that makes the report's) and from benchmarks/results/, so they can
never say more than the last ``dvc repro`` and the last benchmark.
"""

import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import noise_tables
from costs import estimates, exponents, limits, overhead, price

from distillkit.audit.result import COLUMNS, table_row
from distillkit.base import params
from distillkit.evaluation.metrics import read_metrics
from distillkit.methods import METHODS
from distillkit.report import results as report_results
from distillkit.report import table as report_table

STORAGES = ("float32", "float16", "uint8")
NOTE = "written by tools/readme.py, do not edit -->\n"


def results() -> str:
    recipes = params.load()["recipes"]
    metrics = {name: read_metrics(Path("metrics", f"{name}.json")) for name in recipes}
    rows = report_results.rows(metrics, recipes)
    if len(shown := report_table.leading(rows)) == len(rows):
        return report_table.markdown_table(rows)
    words = report_table.part_words(len(shown), len(rows), "all of them in `reports/table.md`")
    return f"{report_table.markdown_table(rows, shown)}\n{words}\n"


def splits() -> str:
    summary = json.loads(Path("benchmarks/results/digits_splits.json").read_text(encoding="utf-8"))["summary"]

    def cell(recipe: str) -> str:
        return f"{100 * summary[recipe]['mean']:.2f} ± {100 * summary[recipe]['std']:.2f}"

    methods = ("random", "window", "mtt", "selmatch")
    lines = ["| accuracy % | " + " | ".join(methods) + " | full |", "| --- |" + " ---: |" * (len(methods) + 1)]
    for ipc in (5, 10):
        cells = [cell(f"{method}-ipc{ipc}") for method in methods]
        lines.append(f"| IPC {ipc} | {' | '.join(cells)} | {cell('full')} |")
    return "\n".join(lines)


def speed() -> str:
    """Ratios to the plain reference on a CPU, of benchmarks/results/*-cpu.json."""
    rows = [
        row
        for benchmark, variants in SHOWN.items()
        for point in load_benchmark(benchmark)["points"]
        if point["unit"] != "inner step" or (point["case"]["width"], point["case"]["batch"]) == (128, 125)
        for variant in variants
        for row in [speed_row(benchmark, point, variant)]
    ]
    header = "| speed | way | as shipped | same allocator | of the convolution ceiling |"
    return "\n".join([header, "| --- | --- | ---: | ---: | ---: |", *rows, "", *memory_rows()])


def audit() -> str:
    """What the attack finds, of benchmarks/results/audit_digits.json."""
    found = load(Path("benchmarks/results/audit_digits.json"))
    results = found["results"]
    names = [f"`{row['row']}`" if row["row"] in METHODS else row["row"] for row in results]
    rows = [[name, str(row["shadows"]), *table_row(row)[1:]] for name, row in zip(names, results, strict=True)]
    header = ["set", "shadow sets", *COLUMNS[1:]]
    lines = [f"| {' | '.join(line)} |" for line in [header, ["---"] + ["---:"] * (len(header) - 1), *rows]]
    random = results[0]["attack"]["random"]
    minutes = sum(row["cpu_s"] for row in results) / 60
    conditions = (
        f"`python benchmarks/audit.py`, measured with seed {several(str(row['seed']) for row in results)} on "
        f"{several(row['device'] for row in results)}, torch {several(row['versions']['torch'] for row in results)}, "
        f"{minutes:.0f} CPU minutes in all. Each set has {found['ipc']} images for each class. Shadow sets are made "
        f"from halves of {found['records']:,} training images: with {results[0]['shadows']} of them, images are "
        f"{random['members']:,} times in and {random['non_members']:,} times out. Recipes and experts are those of "
        "[the table of methods](methods/README.md). Rates are in percent, ± one standard error."
    )
    return "\n".join([conditions, "", *lines])


def several(values: Iterable[str]) -> str:
    """What rows agree on; where they do not, all that they have."""
    return " and ".join(dict.fromkeys(values))


SHOWN = {
    "distillation": ("eager, flat", "compiled"),
    "experts": ("eager fp32", "compiled fp32", "compiled bf16"),
    "evaluation": ("eager fp32", "compiled fp32", "compiled bf16"),
}


def load_benchmark(name: str) -> dict[str, Any]:
    return load(Path(f"benchmarks/results/{name}-cpu.json"))


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def speed_row(benchmark: str, point: dict[str, Any], name: str) -> str:
    variant = point["variants"][f"{name} tuned"]
    shipped, alike = (f"{variant[key]['best']:.2f} x" for key in ("ratio_to_plain", "ratio"))
    return f"| {benchmark}, {point['network']} | {name} | {shipped} | {alike} | {variant['executed_fraction']:.0%} |"


def memory_rows() -> list[str]:
    """Peak memory of the unroll, ours and the reference's; the latter is extrapolated where it did not fit."""
    found = {
        (entry["implementation"], entry["case"]["width"], entry["case"]["steps"]): entry
        for entry in load_benchmark("distillation-memory")["memory"]
    }
    lines = ["| peak memory, ConvNetBN-3-128, inner steps | 5 | 55 |", "| --- | ---: | ---: |"]
    for name in ("reference", "eager, flat", "compiled"):
        cells = []
        for steps in (5, 55):
            entry = found[name, 128, steps]
            peak = entry["peak_mb"]
            cells.append(f"{peak:.0f} MB" if peak is not None else f"({entry['expected_mb']:.0f} MB)")
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return lines


def put(text: str, name: str, table: str, note: str = NOTE) -> str:
    """``text`` with ``table`` between the markers called ``name``."""
    begin, end = f"<!-- {name}: {note}", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{table.strip()}\n\n{end}{after}"


def large_sources() -> str:
    """Peaks of benchmarks/results/memory-cpu.json above those of 1,000 images of the same size."""
    sizes = load_benchmark("memory")["sizes"]
    floors = {found["side"]: found["stages"] for found in sizes.values() if found["images"] == 1000}
    shown = {name: found for name, found in sizes.items() if found["images"] > 1000}
    lines = ["| MB above 1,000 images | " + " | ".join(shown) + " |", "| --- |" + " ---: |" * len(shown)]
    for stage in floors[32]:
        cells = [
            f"{found['stages'][stage]['peak_mb'] - floors[found['side']][stage]['peak_mb']:.0f}"
            if stage in found["stages"]
            else "–"
            for found in shown.values()
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def times() -> str:
    """CPU seconds of stages before and now, of benchmarks/results/stage_times-cpu.json."""
    found = load_benchmark("stage_times")["stages"]
    lines = ["| CPU seconds, 50,000 images | before | now | ratio |", "| --- | ---: | ---: | ---: |"]
    for stage, each in found.items():
        lines.append(f"| {stage} | {each['before_s']:.1f} | {each['now_s']:.1f} | {each['ratio']:.2f} |")
    return "\n".join(lines)


def storage() -> str:
    """Bytes and accuracies of benchmarks/results/storage.json."""
    found = load(Path("benchmarks/results/storage.json"))
    lines = ["| bytes | source's files | before | float32 | float16 | uint8 |", "| --- |" + " ---: |" * 5]
    for row in found["bytes"]:
        cells = [f"{row[key]:,}" if key in row else "–" for key in ("source_files", "before", *STORAGES)]
        lines.append(f"| {row['number']:,} {row['images']} | {' | '.join(cells)} |")
    lines += [
        "",
        "| accuracy | float32 % | float16, points lost | uint8, points lost |",
        "| --- | ---: | ---: | ---: |",
    ]
    for source, measured in found["accuracy"].items():
        for name, by_storage in measured["sets"].items():
            losses = [
                f"{by_storage[kind]['lost_points']:+.2f} ± {by_storage[kind]['standard_error']:.2f}"
                for kind in STORAGES[1:]
            ]
            what = "digits" if source == "digits" else "CIFAR-10"
            lines.append(f"| {what}, {name} | {100 * by_storage['float32']['mean']:.2f} | {' | '.join(losses)} |")
    return "\n".join(lines)


PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "README.md": {"results": results, "splits": splits},
    "docs/speed.md": {"speed": speed, "memory": large_sources, "times": times},
    "docs/privacy.md": {"audit": audit},
    "docs/noise.md": {
        f"noise-{part}-{name}": partial(table, Path(f"benchmarks/results/noise_{name}.json"))
        for name in ("digits", "cifar10")
        for part, table in noise_tables.TABLES.items()
    },
    "docs/publishing.md": {"storage": storage},
    "docs/cost.md": {"cost": exponents, "estimates": estimates, "limits": limits, "overhead": overhead, "price": price},
}


def main() -> int:
    stale = []
    for name, tables in PAGES.items():
        text = wanted = Path(name).read_text(encoding="utf-8")
        for marker, table in tables.items():
            wanted = put(wanted, marker, table())
        if wanted != text and "--check" in sys.argv:
            stale.append(name)
        elif wanted != text:
            Path(name).write_text(wanted, encoding="utf-8")
    if stale:
        sys.stderr.write(f"{', '.join(stale)}: not the committed figures; run: python tools/readme.py\n")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
