"""What sets of the digits reveal of the images that they were made from: an audit for each of several methods.

    python benchmarks/audit.py

Recipes, experts and evaluation are those of benchmarks/methods/digits.yaml at IPC images a class. Two checks of the
audit itself come first: sets that were made without the training images, in which it must find nothing. Finished shadow
sets lie in .distillkit/audit, under a name made from all that they depend on, so a command that was stopped goes on.

Writes benchmarks/results/audit_digits.json, of which tools/readme.py makes the table in docs/privacy.md.
"""

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from methods import read_table
from record import command, device_name, rounded
from torch import Generator, Tensor

from distillkit.audit.audit import attack_on, audit
from distillkit.audit.bounds import bounds_of
from distillkit.audit.records import Observed
from distillkit.audit.result import COLUMNS, table_row
from distillkit.audit.shadows import half_of, make_from, read_pipeline, seen_by
from distillkit.base import files, params
from distillkit.base.errors import FEWEST_SHADOWS
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.images import RealData, SyntheticSet, made_set, real_subset
from distillkit.data.selection import select_random
from distillkit.pipeline.code import files_of
from distillkit.pipeline.unfinished import work_folder
from distillkit.process.command import run as run_command
from distillkit.sources.fetch import DataSpec, fetch

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".distillkit/audit"
RESULT = ROOT / "benchmarks/results/audit_digits.json"
METHODS = ("random", "window", "selmatch", "mtt", "dm", "dm-noise", "diffusion")
HALF = {"diffusion"}  # rows with half as many shadow sets: one takes 70 CPU seconds
FROM_NOISE = {"dm-noise": "dm"}  # the recipe of another row, but learned images start from noise


def noise(source: RealData, ipc: int, generator: Generator) -> SyntheticSet:
    """Uniform pixels: a set that knows nothing."""
    names = source.train.class_names
    pixels = torch.rand((ipc * len(names), *source.train.image_shape), generator=generator)
    return made_set(pixels, names, source.normalisation)


def elsewhere(source: RealData, ipc: int, generator: Generator) -> SyntheticSet:
    """Random images of the test split: real ones of the same kind, but none of those that are asked about."""
    names, own = source.train.class_names, source.test
    found = real_subset(own, select_random(own.labels, names, ipc, generator), source.normalisation)
    return replace(found, source_row=torch.full_like(found.labels, -1))


CHECKS: dict[str, Callable[[RealData, int, Generator], SyntheticSet]] = {"noise": noise, "test images": elsewhere}


def check(name: str, source: RealData, data: Mapping[str, Any], ipc: int, shadows: int) -> dict[str, Any]:
    """The result for sets that know no training image, judged as if each had been made from a random half of them."""
    evaluation = read_pipeline(data, f"random-ipc{ipc}").evaluation

    def seen(generator: Generator) -> Observed:
        rows: Tensor = half_of(source.train.labels, len(source.train.class_names), generator)
        return seen_by(CHECKS[name](source, ipc, generator), source.train, rows, evaluation, generator)

    found = [seen(seeded(seed_for(data["seed"], name, number))) for number in range(shadows)]
    return {
        "recipe": name,
        "set": bounds_of(CHECKS[name](source, ipc, seeded(data["seed"])), source),
        "attack": attack_on(found),
    }


def audited(name: str, source: RealData, data: Mapping[str, Any], shadows: int, kept: Path) -> dict[str, Any]:
    """The result for one recipe; its own set is made from all training images first."""
    pipeline = read_pipeline(data, name)
    settings = [{key: data[key] for key in ("seed", "data", "experts", "expert_shards", "score", "evaluation")}]
    folder = work_folder(f"audit-{name}", [*settings, data["recipes"][name]], files_of(Path(__file__)), kept)
    own = make_from(pipeline, source, torch.arange(len(source.train)), pipeline.seed, folder / "own")
    return audit(own, source, data, name, shadows, folder)


def measure(
    names: Sequence[str], source: RealData, data: Mapping[str, Any], ipc: int, shadows: int, kept: Path
) -> list[dict[str, Any]]:
    """A result for each check and each method, with the CPU seconds that it took here; finished ones are kept."""
    results = []
    for name in names:
        started = time.process_time()
        if name in CHECKS:
            found = check(name, source, data, ipc, shadows)
        else:
            own = max(FEWEST_SHADOWS, shadows // 2) if name in HALF else shadows
            found = audited(f"{name}-ipc{ipc}", source, data, own, kept)
        results.append({**found, "row": name, "cpu_s": time.process_time() - started})
        click.echo(" | ".join([f"{results[-1]['cpu_s']:.0f} s", *table_row(found)]), err=True)
    return results


@click.command()
@click.option("--shadows", default=16, show_default=True, type=click.IntRange(4), help="Sets made anew for each row.")
@click.option("--ipc", default=5, show_default=True, type=click.IntRange(1))
@click.option("--only", multiple=True, type=click.Choice([*CHECKS, *METHODS]), help="This row only; may be repeated.")
@click.option("--kept", type=click.Path(path_type=Path), default=KEPT, help="Where finished shadow sets lie.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
def main(shadows: int, ipc: int, only: tuple[str, ...], kept: Path, out: Path | None) -> None:
    """Audit sets of the digits."""
    data = read_table(ROOT / "benchmarks/methods/digits.yaml")
    for name, other in FROM_NOISE.items():
        data["recipes"][f"{name}-ipc{ipc}"] = {**data["recipes"][f"{other}-ipc{ipc}"], "start": "noise"}
    source = fetch(params.section(data, "data", DataSpec))
    results = measure(only or (*CHECKS, *METHODS), source, data, ipc, shadows, kept.resolve())
    click.echo("\n".join(" | ".join(row) for row in [COLUMNS, *map(table_row, results)]))
    record = {
        "command": command(sys.argv),
        "device": device_name(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "ipc": ipc,
        "shadows": shadows,
        "records": len(source.train),
        "results": rounded(results),
    }
    if out := out or (None if only else RESULT):
        files.write_text(out, json.dumps(record, indent=1) + "\n")
        click.echo(f"wrote {out.name}", err=True)


if __name__ == "__main__":
    run_command(main)
