"""What an engine costs and what a second node brings: ``dvc repro`` against ``distillkit repro`` on this machine.

    python benchmarks/engines.py            # the default pipeline and eight distillations, by all engines
    python benchmarks/engines.py --pipeline default --engine slurm-2      # keeps the other rows of the file
    python benchmarks/engines.py --timing   # overhead with one node, speed-up with two: for a quiet machine; own file
    python benchmarks/engines.py --quick    # one recipe, two distillations; writes a file only where --out says

Ray and Slurm are clusters of this machine, whose nodes have one core each (tests/clusters.py says what Slurm needs).
Every network has one thread. All runs of a pipeline must give the same bytes: dvc.lock, metrics and artifacts. The JSON
has wall seconds and their ratio to ``dvc repro`` in the same call of this command, and ``load``, the processes that
used the machine when a run began: on a busy machine, a ratio says little.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from record import ROOT, conditions
from ruamel.yaml import YAML

sys.path.insert(0, str(ROOT / "tests"))
from clusters import ray_cluster, slurm_cluster

COMMAND = [sys.executable, "-P", "-m"]
PIPELINES = ("default", "distillations")
SIDE_BY_SIDE = ["distillkit", "repro"]
RUNS = {  # the command; its cluster, which gives further arguments
    "dvc": (["dvc", "repro"], lambda: nullcontext([])),
    "local-2": ([*SIDE_BY_SIDE, "-j", "2"], lambda: nullcontext([])),
    "ray-1": ([*SIDE_BY_SIDE, "--on", "ray"], lambda: ray(1)),
    "ray-2": ([*SIDE_BY_SIDE, "--on", "ray"], lambda: ray(2)),
    "slurm-2": ([*SIDE_BY_SIDE, "--on", "slurm"], lambda: slurm()),
}
TIMING = {"default": ("local-2", "ray-1"), "distillations": ("ray-2",)}


@contextmanager
def ray(nodes: int) -> Iterator[list[str]]:
    with ray_cluster(nodes) as cluster:
        yield ["--address", cluster.address]


@contextmanager
def slurm() -> Iterator[list[str]]:
    with slurm_cluster():
        yield []


def project(folder: Path, recipes: dict[str, Any] | None = None) -> Path:
    """This repository's pipeline, of which nothing has run."""
    folder.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split("\0"):
        if name.startswith(("distillkit/", "stages/", "params.yaml", "dvc.yaml", ".dvc", ".gitignore")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    if recipes:
        data = YAML(typ="safe").load(folder / "params.yaml") | {"recipes": recipes}
        data["package"]["default"] = next(iter(recipes))
        YAML(typ="safe").dump(data, folder / "params.yaml")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def timed(folder: Path, *arguments: str) -> float:
    """Wall seconds of a command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "PATH": path}
    known |= {"RAY_USAGE_STATS_ENABLED": "0"}
    began = time.monotonic()
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        command = [*COMMAND, *arguments]
        subprocess.run(command, cwd=folder, check=True, env=os.environ | known, stdout=log, stderr=log)
    return time.monotonic() - began


def digest(folder: Path) -> str:
    """One hash of all files that stages and DVC have written, and of what they were made from."""
    hidden = {".git", ".dvc", ".distillkit", "__pycache__"}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not hidden & {*path.parts})
    text = "".join(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()


def compared(start: Path, targets: list[str], names: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """The same pipeline by plain ``dvc repro`` and by each engine, each from a copy of ``start``.

    Of ``known``, an earlier result, rows of other engines stay if plain ``dvc repro`` gave the same bytes then.
    """
    found: dict[str, Any] = {}
    for name in ["dvc", *names]:
        folder = start.with_name(f"{start.name}-{name}")
        shutil.copytree(start, folder)
        arguments, cluster = RUNS[name]
        with cluster() as extra:
            load = round(os.getloadavg()[0], 1)
            seconds = timed(folder, *arguments, *extra, *targets)
        ratio = round(seconds / found["dvc"]["seconds"], 3) if found else 1.0
        found[name] = {"seconds": round(seconds, 1), "ratio": ratio, "load": load, "digest": digest(folder)}
        click.echo(f"{start.name}, {name}: {seconds:.1f} s, {ratio:.2f} of dvc repro", err=True)
    if known.get("dvc", {}).get("digest") == found["dvc"]["digest"]:
        found = {name: row for name, row in known.items() if name in RUNS} | found
    return found | {"same_bytes": len({run["digest"] for run in found.values()}) == 1}


def distillations(folder: Path, count: int, steps: int) -> list[str]:
    """Make a pipeline of which ``count`` distillations are left to do: the targets."""
    known = YAML(typ="safe").load(ROOT / "params.yaml")["recipes"]["mtt-ipc5"]
    recipes = {f"mtt-{at}": known | {"optim": known["optim"] | {"steps": steps + at}} for at in range(count)}
    project(folder, recipes)
    timed(folder, "dvc", "repro", "inputs")
    shutil.rmtree(folder / ".dvc/cache/runs")
    return [f"distill@{recipe}" for recipe in recipes]


@click.command()
@click.option("--quick", is_flag=True, help="One recipe and two distillations.")
@click.option("--timing", is_flag=True, help="Overhead of one node on the default pipeline; speed-up of two nodes.")
@click.option("--pipeline", "pipelines", multiple=True, type=click.Choice(PIPELINES), default=PIPELINES)
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(RUNS)[1:]), default=list(RUNS)[1:])
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
def main(quick: bool, timing: bool, pipelines: tuple[str, ...], engines: tuple[str, ...], out: Path | None) -> None:
    one = {"random-ipc5": YAML(typ="safe").load(ROOT / "params.yaml")["recipes"]["random-ipc5"]}
    file = "engines-timing-cpu.json" if timing else "engines-cpu.json"
    out = out or (None if quick else ROOT / "benchmarks/results" / file)
    result = json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}
    result |= conditions("engines")
    with TemporaryDirectory() as name:
        for pipeline in pipelines:
            folder = Path(name, pipeline)
            if pipeline == "default":
                targets = list[str]()
                project(folder, one if quick else None)
            else:
                targets = distillations(folder, *((2, 5) if quick else (8, 300)))
            names = [name for name in engines if not timing or name in TIMING[pipeline]]
            result[pipeline] = compared(folder, targets, names, result.get(pipeline, {}))
    text = json.dumps(result, indent=2) + "\n"
    click.echo(text) if out is None else out.write_text(text, encoding="utf-8")
    if different := [pipeline for pipeline in pipelines if not result[pipeline]["same_bytes"]]:
        raise click.ClickException(f"not the same bytes: {', '.join(different)}; compare the digests in the JSON")


if __name__ == "__main__":
    main()
