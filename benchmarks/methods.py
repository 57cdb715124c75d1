"""All methods under one recipe: accuracy, time and memory of every recipe, number of images and seed.

    python benchmarks/methods.py digits --jobs 2
    python benchmarks/methods.py cifar10 --data FOLDER_OR_HUB_ID

TABLE is benchmarks/methods/TABLE.yaml: params.yaml's sections, and ``seeds``. A recipe whose ``ipc`` is a list stands
for one recipe each. Experts are trained once, by ``seed``; each of ``seeds`` draws its own start images, its own
distillation and its own evaluation networks, ``evaluation.runs`` of them. A cell is a recipe and a seed, in a process
of its own (methods_cell.py). Finished cells lie in .distillkit/methods, under a name made from all they depend on, so
a command that was stopped goes on, and one recipe more costs its own cells only.

Writes benchmarks/results/methods_TABLE.json when nothing was left out, or, with --update, puts the cells of --only into
it and leaves the others; tools/methods.py makes the page of it.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from functools import cache
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import click
import torch
from methods_cell import measure
from record import aligned, command, device_name, rounded

from distillkit.base import files, params
from distillkit.base import files as base_files
from distillkit.base.errors import ParamsError
from distillkit.base.randomness import seeded
from distillkit.data.files.real_images import load_real, save_real
from distillkit.data.selection import split_holdout
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.methods import METHODS
from distillkit.pipeline.recipes import read_recipe
from distillkit.process.command import run as run_command
from distillkit.sources.fetch import DataSpec, recorded_params
from distillkit.training.expert_files import shard_paths

ROOT = Path(__file__).parents[1]
TABLES = Path(__file__).with_suffix("")
KEPT = ROOT / ".distillkit/methods"
CELL = Path(__file__).with_name("methods_cell.py")
MATERIAL = ("seed", "data", "expert_shards", "experts", "score")
PROCESSES = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
JUDGES = (
    "evaluation.evaluate",
    "matching.distillation",
    "sources.fetch",
    "training.difficulty",
    "training.executors",
    "training.expert_files",
    "training.trajectories",
)


class Cell(NamedTuple):
    """One recipe, called ``name`` with its number of images, and one seed; ``row`` is the recipe without the number."""

    row: str
    name: str
    recipe: Mapping[str, Any]
    seed: int

    @property
    def place(self) -> tuple[str, int]:
        return self.name, self.seed


def read_table(path: Path) -> dict[str, Any]:
    """The YAML, its recipes one for each ``ipc``, all of them readable by the pipeline."""
    data = params.load(path)
    data["rows"] = {}
    recipes = {}
    for row, recipe in params.entries(data, "recipes").items():
        ipcs = recipe.get("ipc", [None])
        for ipc in ipcs if isinstance(ipcs, list) else [ipcs]:
            name = row if ipc is None else f"{row.split('-ipc')[0]}-ipc{ipc}"
            if name in recipes:
                raise ParamsError(f"{path.name}: found two recipes {name}; expected one; remove one")
            recipes[name] = recipe if ipc is None else {**recipe, "ipc": ipc}
            data["rows"][name] = row.split("-ipc")[0]
    data["recipes"] = recipes
    for name in recipes:
        read_recipe(data, name)
    params.section(data, "evaluation", EvaluationRecipe)
    params.section(data, "seeds", list[int])
    return data


def cells_of(data: Mapping[str, Any], only: Sequence[str]) -> list[Cell]:
    """Seed by seed, so that what is there at any moment is a table of fewer seeds."""
    wanted = {name: row for name, row in data["rows"].items() if not only or row in only or name in only}
    if unknown := set(only) - {*data["rows"], *data["rows"].values()}:
        raise ParamsError(f"--only names {sorted(unknown)[0]}; expected one of {', '.join(data['recipes'])}")
    return [Cell(row, name, data["recipes"][name], seed) for seed in data["seeds"] for name, row in wanted.items()]


@cache
def closure(modules: tuple[str, ...]) -> list[Path]:
    """The files of the package that these modules import, directly or not, themselves included."""
    found, waiting = set[Path](), [ROOT / f"{module.replace('.', '/')}.py" for module in modules]
    while waiting:
        path = waiting.pop()
        if path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "distillkit":
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
                waiting += [ROOT / f"{name.replace('.', '/')}.py" for name in names]
    return sorted(found)


content = cache(base_files.sha256)


def digest(value: Any, files: Sequence[Path]) -> str:
    text = base_files.canonical_json([value, torch.__version__, *([path.name, content(path)] for path in files)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key_of(cell: Cell, data: Mapping[str, Any], material: Path) -> str:
    """A name for what a cell gives: recipe, seed, evaluation, material, device, and the code that is its method's."""
    modules = (METHODS[cell.recipe["method"]].__module__, *(f"distillkit.{name}" for name in JUDGES))
    settings = [dict(cell.recipe), cell.seed, data["evaluation"], material.name, device_name()]
    return digest(settings, [CELL, *closure(modules)])


def make_material(data: Mapping[str, Any], holdout: float | None, kept: Path) -> tuple[Path, float]:
    """Images, experts and difficulty by the pipeline's own stages, once; and the CPU seconds that it took."""
    code = closure(("distillkit.sources.fetch", "distillkit.training.trajectories", "distillkit.training.difficulty"))
    chosen = {name: data[name] for name in MATERIAL}
    folder = kept / f"material-{digest([chosen, holdout], code)}"
    if (done := folder / "seconds.json").exists():
        return folder, json.loads(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(json.dumps(chosen))  # JSON is YAML
    stage("fetch", folder, "real.safetensors")
    if holdout is not None:
        hold_out(folder / "real.safetensors", holdout)
    started = os.times()
    for shard in data["expert_shards"]:
        stage("experts", folder, shard, "real.safetensors", f"experts/shard-{shard}.safetensors")
    ended = os.times()
    stage("score", folder, "real.safetensors", "experts", "difficulty.safetensors")
    seconds = ended.children_user + ended.children_system - started.children_user - started.children_system
    done.write_text(json.dumps(seconds))
    return folder, seconds


def stage(name: str, folder: Path, *arguments: object) -> None:
    shell = [sys.executable, str(ROOT / f"stages/{name}.py"), *map(str, arguments)]
    if subprocess.run(shell, cwd=folder).returncode:
        raise click.ClickException(f"stage {name} failed, as said above; correct it and run the same command again")


def hold_out(path: Path, fraction: float) -> None:
    """Put a share of the training images in the place of the test images, for choosing numbers."""
    real = load_real(path)
    train = real.train
    pool, held = split_holdout(train.labels, len(train.class_names), fraction, seeded(0))
    save_real(path, replace(real, train=train.take(pool), test=train.take(held)))


def run_cell(cell: Cell, data: Mapping[str, Any], material: Path, keep_set: bool) -> dict[str, Any]:
    """What methods_cell.py measured, now or before."""
    key = key_of(cell, data, material)
    record, synthetic = material.parent / f"{key}.json", material.parent / f"{key}.safetensors"
    if not record.exists() or (keep_set and not synthetic.exists()):
        request = {
            "name": cell.name,
            "seed": cell.seed,
            "params": {"recipes": {cell.name: cell.recipe}, "evaluation": data["evaluation"]},
            "material": str(material),
            "record": str(record),
            "synthetic": str(synthetic) if keep_set else None,
        }
        if problem := alone(request):
            raise click.ClickException(f"{cell.name}, seed {cell.seed}: {problem}")
    about = {"row": cell.row, "recipe": cell.name, "method": cell.recipe["method"], "ipc": cell.recipe.get("ipc")}
    kept = {"set": synthetic.name} if keep_set else {}
    return {**about, "seed": cell.seed, **json.loads(record.read_text()), **kept}


def prepare_processes() -> None:
    """One thread each; imports are done once, in a server that is forked for each cell, where there is such a thing."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])  # the server's
    if PROCESSES.get_start_method() == "forkserver":
        PROCESSES.set_forkserver_preload(["methods_cell", "record"])


def alone(request: dict[str, Any]) -> str:
    """What went wrong when a fresh process measured it; nothing if all went well."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=measure, args=(request, sender), daemon=True)
    process.start()
    sender.close()
    try:
        problem: str = receiver.recv()
    except EOFError:
        process.join()
        problem = f"its process ended with status {process.exitcode} (-9: often for want of memory)"
    process.join()
    return problem


def run_cells(cells: Sequence[Cell], data: Mapping[str, Any], material: Path, jobs: int) -> list[dict[str, Any]]:
    """All cells in their order; a line for each as it ends. After an error no cell is begun."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    records = {cell.place: material.parent / f"{key_of(cell, data, material)}.json" for cell in cells}
    kept = {place for place, path in records.items() if path.exists()}
    started = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        waiting = {pool.submit(run_cell, cell, data, material, cell.seed == cells[0].seed): cell for cell in cells}
        try:
            for future in as_completed(waiting):
                cell = waiting[future]
                found[cell.place] = future.result()
                left = minutes_left(found, list(records), kept, time.monotonic() - started)
                click.echo(f"{len(found)}/{len(cells)} {line(found[cell.place])}; about {left:.0f} min left", err=True)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [found[place] for place in records]


def minutes_left(
    found: Mapping[tuple[str, int], Mapping[str, Any]],
    places: Sequence[tuple[str, int]],
    kept: set[tuple[str, int]],
    elapsed: float,
) -> float:
    """By the CPU seconds of the same recipe with another seed, else of the mean recipe so far."""
    costs = {place: cell["cpu_s"] + cell["evaluation_cpu_s"] + 1 for place, cell in found.items()}
    known = {name: cost for (name, _), cost in costs.items()}
    expected = [known.get(name, mean(costs.values())) for name, seed in places if (name, seed) not in {*found, *kept}]
    fresh = [cost for place, cost in costs.items() if place not in kept]
    return elapsed / 60 * sum(expected) / max(1.0, sum(fresh))


def line(cell: Mapping[str, Any]) -> str:
    cost = f"{cell['cpu_s']:.1f} + {cell['evaluation_cpu_s']:.1f} CPU s, {cell['growth_mb']:.0f} MB"
    return f"{cell['recipe']}, seed {cell['seed']}: {100 * mean(cell['accuracy']):.2f} %, {cost}"


def summary(cells: Sequence[Mapping[str, Any]]) -> str:
    """A line for each recipe: accuracy over seeds, CPU seconds and memory."""
    rows = [["recipe", "accuracy %", "in its own order %", "CPU s", "MB"]]
    for name in dict.fromkeys(cell["recipe"] for cell in cells):
        own = [cell for cell in cells if cell["recipe"] == name]
        ordered = [mean(cell["own_accuracy"]) for cell in own if cell["own_accuracy"]]
        costs = [
            f"{mean(cell[field] for cell in own):.{digits}f}" for field, digits in [("cpu_s", 1), ("growth_mb", 0)]
        ]
        rows.append([name, percent([mean(cell["accuracy"]) for cell in own]), percent(ordered), *costs])
    return aligned(rows)


def percent(values: Sequence[float]) -> str:
    """Mean and sample standard deviation of shares, in percent."""
    if not values:
        return ""
    return f"{100 * mean(values):.2f}" + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")


def record_of(data: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], experts_s: float) -> dict[str, Any]:
    spec = params.section(data, "data", DataSpec)
    return {
        "benchmark": "methods",
        "command": command(sys.argv),
        "device": device_name(),
        "versions": {"python": ".".join(map(str, sys.version_info[:3])), "torch": torch.__version__},
        "data": recorded_params(spec),
        **{
            name: data[name] for name in ("seed", "seeds", "expert_shards", "experts", "score", "evaluation", "recipes")
        },
        "experts_cpu_s": experts_s,
        "published": data.get("published"),
        "cells": cells,
    }


def updated(before: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of before with these cells in the place of theirs, and with the recipes of today."""
    fresh = {(cell["recipe"], cell["seed"]): cell for cell in record["cells"]}
    cells = [fresh.pop((cell["recipe"], cell["seed"]), cell) for cell in before["cells"]]
    return {**before, "recipes": record["recipes"], "cells": [*cells, *fresh.values()]}


@click.command()
@click.argument("table", type=click.Choice(sorted(path.stem for path in TABLES.glob("*.yaml"))))
@click.option("--data", "source", help="A folder or Hub id in the place of the table's own.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1), help="Cells side by side.")
@click.option("--only", multiple=True, metavar="NAME", help="This recipe or row only; may be given again.")
@click.option("--seeds", type=click.IntRange(1), help="The first so many seeds only.")
@click.option("--holdout", type=click.FloatRange(0.01, 0.99), help="Test on this share of the training images.")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Another YAML file, for trials.")
@click.option("--kept", type=click.Path(path_type=Path), default=KEPT, help="Where finished cells lie.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
@click.option("--update", is_flag=True, help="Put the cells of --only into the committed JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the record, not a table.")
@click.pass_obj
def main(
    _: object,
    table: str,
    source: str | None,
    jobs: int,
    only: tuple[str, ...],
    seeds: int | None,
    holdout: float | None,
    path: Path | None,
    kept: Path,
    out: Path | None,
    update: bool,
    as_json: bool,
) -> None:
    """Measure all methods of TABLE; see the head of this file."""
    data = read_table(path or TABLES / f"{table}.yaml")
    data["seeds"] = data["seeds"][:seeds]
    if source is not None:
        data["data"]["source"]["id"] = str(Path(source).resolve()) if Path(source).exists() else source
    shard_paths(data, Path())
    cells = cells_of(data, only)
    prepare_processes()
    material, experts_s = make_material(data, holdout, kept.resolve())
    found = run_cells(cells, data, material, jobs)
    record = rounded(record_of(data, found, experts_s))
    click.echo(json.dumps(record, indent=2) if as_json else summary(found))
    partial = (only and not update) or seeds or holdout or path
    committed = ROOT / f"benchmarks/results/methods_{table}.json"
    if update:
        record = updated(json.loads(committed.read_text(encoding="utf-8")), record)
    if out := out or (None if partial else committed):
        files.write_text(out, json.dumps(record, indent=1) + "\n")
        click.echo(f"wrote {out.name}", err=True)


if __name__ == "__main__":
    run_command(main)
