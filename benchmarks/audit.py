"""What sets of the digits reveal of the images that they were made from: an audit for each of several methods.

    python benchmarks/audit.py             # all rows
    python benchmarks/audit.py --resume    # those that the file does not have from this seed and these versions
    python benchmarks/audit.py --only dm --update

Recipes, experts and evaluation are those of benchmarks/methods/digits.yaml at IPC images a class. Two checks of the
audit itself come first: sets that were made without the training images, in which it must find nothing. Finished shadow
sets lie in .distillkit/audit, under a name made from all that they depend on, so a command that was stopped goes on.

Writes benchmarks/results/audit_digits.json, of which tools/readme.py makes the table in docs/privacy.md. Each row is
put into the file as soon as it is measured, in place of an earlier one, and says itself by which seed and versions, and
on which machine.
"""

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch
from methods import read_table
from record import device_name, rounded
from torch import Generator, Tensor

from distillkit.audit.audit import attack_on, audit
from distillkit.audit.bounds import bounds_of
from distillkit.audit.records import Observed
from distillkit.audit.result import COLUMNS, table_row
from distillkit.audit.shadows import half_of, make_from, read_pipeline, seen_by
from distillkit.base import files, params
from distillkit.base.errors import FEWEST_SHADOWS, ParamsError
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
ROWS = ("noise", "test images", *METHODS)
PACKAGES = ("distillkit", "torch", "scikit-learn")  # whose versions may change a result
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


@contextmanager
def counted_in(path: Path) -> Iterator[None]:
    """Add the CPU seconds of the block to those in the file: also of work that is stopped, and taken up again."""
    started, before = time.process_time(), json.loads(path.read_text()) if path.exists() else 0.0
    try:
        yield
    finally:
        files.write_text(path, json.dumps(before + time.process_time() - started))


def measure(name: str, source: RealData, data: Mapping[str, Any], ipc: int, shadows: int, kept: Path) -> dict[str, Any]:
    """The row called ``name``, and by what it was measured."""
    spent = work_folder(f"spent-{name}", [dict(data), ipc, shadows], files_of(Path(__file__)), kept) / "cpu_s.json"
    with counted_in(spent):
        if name in CHECKS:
            found = check(name, source, data, ipc, shadows)
        else:
            found = audited(f"{name}-ipc{ipc}", source, data, shadows, kept)
    return rounded({"row": name, **found, **conditions(data["seed"], shadows), "cpu_s": json.loads(spent.read_text())})


def conditions(seed: int, shadows: int) -> dict[str, Any]:
    """By what a row is measured here, beside the file's head."""
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    return {"seed": seed, "shadows": shadows, "device": device_name(), "versions": versions}


def rows_in(path: Path | None, head: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows that a file has by name; none where there is no file. Raises ParamsError for a file of other sets."""
    if path is None or not path.exists():
        return {}
    found = json.loads(path.read_text(encoding="utf-8"))
    if {key: found.get(key) for key in head} != head:
        raise ParamsError(f"{path.name} has rows of other sets; expected {head}; remove it, or name another --out")
    return {row["row"]: row for row in found["results"]}


def is_known(row: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> bool:
    return row is not None and {key: row.get(key) for key in wanted} == wanted


@click.command()
@click.option("--shadows", default=16, show_default=True, type=click.IntRange(4), help="Sets made anew for each row.")
@click.option("--ipc", default=5, show_default=True, type=click.IntRange(1))
@click.option("--only", multiple=True, type=click.Choice(ROWS), help="This row only; may be repeated.")
@click.option("--update", is_flag=True, help="Put the rows of --only into the committed JSON.")
@click.option("--resume", is_flag=True, help="Keep rows of the file that were measured as they would be now.")
@click.option("--kept", type=click.Path(path_type=Path), default=KEPT, help="Where finished shadow sets lie.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
def main(
    shadows: int, ipc: int, only: tuple[str, ...], update: bool, resume: bool, kept: Path, out: Path | None
) -> None:
    """Audit sets of the digits."""
    data = read_table(ROOT / "benchmarks/methods/digits.yaml")
    for name, other in FROM_NOISE.items():
        data["recipes"][f"{name}-ipc{ipc}"] = {**data["recipes"][f"{other}-ipc{ipc}"], "start": "noise"}
    source = fetch(params.section(data, "data", DataSpec))
    head = {"benchmark": "audit", "ipc": ipc, "records": len(source.train)}
    target = out or (RESULT if update or not only else None)
    rows = rows_in(target, head)
    for name in only or ROWS:
        count = max(FEWEST_SHADOWS, shadows // 2) if name in HALF else shadows
        if resume and is_known(rows.get(name), conditions(data["seed"], count)):
            continue
        rows[name] = measure(name, source, data, ipc, count, kept.resolve())
        click.echo(" | ".join([f"{rows[name]['cpu_s']:.0f} s", *table_row(rows[name])]), err=True)
        if target is not None:
            results = [rows[name] for name in ROWS if name in rows]
            files.write_text(target, json.dumps({**head, "results": results}, indent=1) + "\n")
    click.echo("\n".join(" | ".join(row) for row in [COLUMNS, *(table_row(rows[name]) for name in only or ROWS)]))


if __name__ == "__main__":
    run_command(main)
