"""What a benchmark leaves behind: a table on standard output and a JSON file that says where and how it was made.

Fields of every file: benchmark, command, device, threads, tf32_convolutions, versions. The peak memory has memory, the
pipeline its repeats, all others points. A point has case, network, unit, flop_per_unit, ceiling_gflops (by precision,
from the same rounds) and variants; a variant has

- implementation, allocator, precision; prepare_s, first_run_s (with what is compiled), runs_per_round;
- s_per_unit (one for each round), best_s_per_unit, median_s_per_unit, units_per_s (at best);
- ratio: against the reference under the same allocator; ratio_to_plain: against the reference under plain malloc;
- fraction_of_ceiling: useful FLOP/s at best over the ceiling's; executed_fraction: the same with recomputed work.
"""

import json
import platform
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
from cases import Case, DistillationCase, Implementation
from ceiling import ConvolutionCase, flop_per_unit, training_flop_per_unit
from harness import Entrant, Timing, Variant, allocators, chosen_device, ratio, time_in_turn, variants_of
from ours import IMPLEMENTATIONS as OURS
from reference import IMPLEMENTATIONS as REFERENCE

from distillkit.base.errors import counted
from distillkit.base.machine import cores
from distillkit.training.compute import Precision

ROOT = Path(__file__).parents[1]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def options(rounds: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that every benchmark has."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        choices = [
            click.option(
                "--quick",
                is_flag=True,
                help="Toy sizes, a minute or so (compiling); writes a file only where --out says.",
            ),
            click.option("--rounds", default=rounds, show_default=True, type=click.IntRange(1)),
            click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes."),
        ]
        for choice in reversed(choices):
            function = choice(function)
        return function

    return decorate


def implementations(benchmark: str) -> dict[str, Implementation]:
    """The reference first, then all of ours."""
    return REFERENCE[benchmark] | OURS[benchmark]


def measure_point(benchmark: str, case: Case, rounds: int, quick: bool) -> dict[str, Any]:
    """All variants of one case and the convolution of each precision, in turn; and what they make of that ceiling."""
    device = chosen_device()
    variants = variants_of(list(implementations(benchmark)), device)
    point: dict[str, Any] = {
        "case": asdict(case),
        "network": str(case.spec),
        "unit": "inner step" if isinstance(case, DistillationCase) else "image",
        "flop_per_unit": flop_per_unit(case),
    }
    convolutions = [ConvolutionCase(precision, *([2] if quick else [])) for precision in PRECISIONS]
    keeping = Variant("convolution", allocators(device)[-1])
    entrants = [Entrant("ceiling", convolution, keeping, 0.01 if quick else 0.5) for convolution in convolutions]
    entrants += [Entrant(benchmark, case, variant, 0.01 if quick else 2.0) for variant in variants]
    click.echo(f"{benchmark}, {case}: {len(variants)} variants, {rounds} rounds", err=True)
    found = time_in_turn(entrants, rounds, device)
    point["ceiling_gflops"] = {
        convolution.precision: convolution.units / min(timing.rounds) / 1e9
        for convolution, timing in zip(convolutions, found, strict=False)
    }
    timings = dict(zip(variants, found[len(convolutions) :], strict=True))
    point["variants"] = {str(variant): describe(benchmark, point, case, variant, timings) for variant in variants}
    click.echo(table(point))
    return point


def describe(
    benchmark: str, point: Mapping[str, Any], case: Case, variant: Variant, timings: Mapping[Variant, Timing]
) -> dict[str, Any]:
    """The fields of one variant, as this file's docstring lists them."""
    timing, implementation = timings[variant], implementations(benchmark)[variant.implementation]
    best = min(timing.rounds) / case.units
    useful = point["flop_per_unit"]
    executed = useful + implementation.recomputed_steps * training_flop_per_unit(case)
    peak = point["ceiling_gflops"][implementation.precision] * 1e9
    references = {name: timings[Variant("reference", name)].rounds for name in (variant.allocator, "plain")}
    return {
        **variant._asdict(),
        "precision": implementation.precision,
        "prepare_s": timing.prepare_seconds,
        "first_run_s": timing.first_run_seconds,
        "runs_per_round": timing.runs_per_round,
        "s_per_unit": [seconds / case.units for seconds in timing.rounds],
        "best_s_per_unit": best,
        "median_s_per_unit": median(timing.rounds) / case.units,
        "units_per_s": 1 / best,
        "ratio": ratio(references[variant.allocator], timing.rounds)._asdict(),
        "ratio_to_plain": ratio(references["plain"], timing.rounds)._asdict(),
        "fraction_of_ceiling": useful / best / peak,
        "executed_fraction": executed / best / peak,
    }


def table(point: Mapping[str, Any]) -> str:
    """A title, and one row for each variant of a point."""
    unit = point["unit"]
    per_unit = [f"ms/{unit}, best", "median"] if unit == "inner step" else [f"{unit}s/s, best", "median"]
    header = ["variant", *per_unit, "x reference, best", "median", "x plain reference", "of ceiling", "executed"]
    rows = []
    for name, found in point["variants"].items():
        seconds = [found["best_s_per_unit"], found["median_s_per_unit"]]
        rates = [f"{1000 * s:.1f}" for s in seconds] if unit == "inner step" else [f"{1 / s:.0f}" for s in seconds]
        factors = [found["ratio"]["best"], found["ratio"]["median"], found["ratio_to_plain"]["best"]]
        shares = [found["fraction_of_ceiling"], found["executed_fraction"]]
        rows.append([name, *rates, *(f"{x:.2f}" for x in factors), *(f"{x:.0%}" for x in shares)])
    limits = ", ".join(f"{precision} {gflops:.0f}" for precision, gflops in point["ceiling_gflops"].items())
    title = f"{point['network']}, {point['case']}; convolution ceiling, GFLOP/s: {limits}"
    return f"{title}\n\n{aligned([header, *rows])}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first row is the header."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    rule = " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    return "\n".join(f"| {line} |" for line in [lines[0], rule, *lines[1:]]) + "\n"


def conditions(benchmark: str) -> dict[str, Any]:
    """Where and how: the same fields for every benchmark, and no path of this machine."""
    return {
        "benchmark": benchmark,
        "command": command(sys.argv),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "tf32_convolutions": chosen_device().type == "cuda" and torch.backends.cudnn.allow_tf32,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
    }


def command(arguments: Sequence[str]) -> str:
    """The command line from the repository's root, without where its JSON went and without folders of this machine."""
    kept = list(arguments[1:])
    if "--out" in kept:
        del kept[kept.index("--out") : kept.index("--out") + 2]
    kept = [argument for argument in kept if not argument.startswith("--out=")]
    kept = [Path(argument).name if Path(argument).is_absolute() else argument for argument in kept]
    return shlex.join(["python", f"benchmarks/{Path(arguments[0]).name}", *kept])


def device_name() -> str:
    """The GPU, or the CPU's model and how many cores of it there are."""
    if chosen_device().type == "cuda":
        return torch.cuda.get_device_name()
    information = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", information.read_text(), re.M) if information.exists() else None
    return f"{model[1] if model else platform.machine()}, {counted(cores(), 'core')}"


def write(record: Mapping[str, Any], out: Path | None, quick: bool) -> None:
    """JSON to ``out``, by default benchmarks/results/<benchmark>-<device>.json."""
    if out is None and quick:
        return
    slug = "cpu" if chosen_device().type == "cpu" else re.sub(r"\W+", "-", device_name().lower())
    out = out or ROOT / "benchmarks/results" / f"{record['benchmark']}-{slug}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rounded(record), indent=2) + "\n")
    click.echo(f"wrote {out.name}", err=True)


def rounded(value: Any) -> Any:
    """Floats to four significant digits, whatever they are in."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list | tuple) else value
