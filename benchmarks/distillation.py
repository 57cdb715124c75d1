"""Trajectory matching: milliseconds per inner step of an outer step, and the peak memory of one.

    python benchmarks/distillation.py                    # one point: 5 inner steps, width 128, batch 125
    python benchmarks/distillation.py --sweep            # and against inner steps, width and batch
    python benchmarks/distillation.py --memory           # instead, the peak memory against inner steps and width

Time is linear in the inner steps, so the sweep over them uses a narrow network, where a long graph still fits.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from cases import DistillationCase
from harness import (
    Variant,
    WorkerError,
    allocators,
    chosen_device,
    expected_peak,
    free_memory,
    peak_memory,
)
from record import aligned, conditions, implementations, measure_point, options, write

STEPS = (5, 10, 20)  # at width NARROW
NARROW = 32
WIDTHS = (32, 64)  # besides the base case
BATCHES = (50, 250)
MEMORY_STEPS = (5, 20, 55)
MEMORY_WIDTHS = (32, 128)
SHARE = 0.8  # of the free memory that a run may be expected to need
QUICK = DistillationCase(steps=2, batch=10, width=4, ipc=2, depth=1, side=8)


def sweep_of(base: DistillationCase) -> list[DistillationCase]:
    """Cases that differ from ``base``: in the inner steps (narrow), the width, the batch."""
    long = [replace(base, steps=steps, width=NARROW) for steps in STEPS]
    wide = [replace(base, width=width) for width in WIDTHS]
    large = [replace(base, batch=batch) for batch in BATCHES]
    return [case for case in dict.fromkeys([*long, *wide, *large]) if case != base]


def measure_memory(base: DistillationCase, steps: Sequence[int], widths: Sequence[int]) -> list[dict[str, Any]]:
    """Peak memory of every variant against inner steps and width; what would not fit is not run, and says so."""
    device = chosen_device()
    found = []
    for width in widths:
        for implementation in implementations("distillation"):
            variant = Variant(implementation, allocators(device)[-1])
            measured: dict[int, int] = {}
            for count in steps:
                case = replace(base, steps=count, width=width)
                result = one_peak(case, variant, measured, device)
                found.append({"case": asdict(case), **variant._asdict(), **result})
                click.echo(f"memory, {case}, {variant}: {result}", err=True)
    return found


def one_peak(
    case: DistillationCase, variant: Variant, measured: dict[int, int], device: torch.device
) -> dict[str, float | str | None]:
    """``peak_mb`` of one run (10**6 bytes), or ``not_run`` and ``expected_mb``; adds to ``measured``."""
    expected, free = expected_peak(measured, case.steps), free_memory(device)
    if expected > SHARE * free:
        reason = f"would need about {expected / 1e6:.0f} MB, {free / 1e6:.0f} MB are free"
        return {"peak_mb": None, "expected_mb": expected / 1e6, "not_run": reason}
    try:
        measured[case.steps] = peak_memory("distillation", case, variant, device)
    except WorkerError as error:
        return {"peak_mb": None, "expected_mb": expected / 1e6, "not_run": error.message}
    return {"peak_mb": measured[case.steps] / 1e6}


def memory_table(found: Sequence[dict[str, Any]]) -> str:
    """MB against inner steps, a column for each width and variant; what was not run is in brackets."""
    steps = sorted({entry["case"]["steps"] for entry in found})
    columns: dict[str, dict[int, str]] = {}
    for entry in found:
        name = f"w{entry['case']['width']} {Variant(entry['implementation'], entry['allocator'])}"
        peak = entry["peak_mb"]
        text = f"({entry['expected_mb']:.0f})" if peak is None else f"{peak:.0f}"
        columns.setdefault(name, {})[entry["case"]["steps"]] = text
    header = ["peak MB, inner steps", *columns]
    return aligned([header, *([str(count), *(column[count] for column in columns.values())] for count in steps)])


@click.command()
@options(rounds=5)
@click.option("--steps", default=5, show_default=True, type=click.IntRange(1), help="Inner steps of an outer one.")
@click.option("--width", default=128, show_default=True, type=click.IntRange(1))
@click.option("--batch", default=125, show_default=True, type=click.IntRange(2))
@click.option("--ipc", default=50, show_default=True, type=click.IntRange(1))
@click.option("--dsa", is_flag=True, help="Augment every inner batch.")
@click.option("--sweep", is_flag=True, help="Also against inner steps, width and batch.")
@click.option("--memory", is_flag=True, help="Instead, the peak memory against inner steps and width.")
def main(quick: bool, rounds: int, out: Path | None, sweep: bool, memory: bool, **sizes: Any) -> None:
    """Outer steps of trajectory matching with a ConvNetBN-3 on random images of CIFAR's shape."""
    base = QUICK if quick else DistillationCase(**sizes)
    if memory:
        steps, widths = ((2, 3), (4,)) if quick else (MEMORY_STEPS, MEMORY_WIDTHS)
        found = measure_memory(base, steps, widths)
        click.echo(memory_table(found))
        write({**conditions("distillation-memory"), "memory": found}, out, quick)
        return
    sweep_cases = [replace(base, steps=3)] if quick else sweep_of(base)
    cases = [base, *(sweep_cases if sweep else [])]
    points = [measure_point("distillation", case, rounds, quick) for case in cases]
    write({**conditions("distillation"), "points": points}, out, quick)


if __name__ == "__main__":
    main()
