"""What an engine costs and what a second node brings: ``dvc repro`` against ``distillkit repro`` on this machine.

    python benchmarks/engines.py                # the default pipeline four times, and eight distillations four times
    python benchmarks/engines.py --quick        # one recipe, two distillations; writes a file only where --out says

Ray runs on a cluster of its own whose nodes have one core each, Slurm's jobs are submitit's local processes. Every
network has one thread. All runs of a pipeline must give the same bytes. The JSON has wall seconds and their ratios to
``dvc repro``; load is the machine's own at the start, as other processes make a ratio worse.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from record import ROOT, conditions
from ruamel.yaml import YAML

COMMAND = [sys.executable, "-P", "-m"]
NODE = {"object_store_memory": 80_000_000, "include_dashboard": False}
SLURM = {"DISTILLKIT_SLURM": "local"}


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


@contextmanager
def cluster(nodes: int) -> Iterator[str]:
    """A Ray cluster on this machine: its address."""
    from ray.cluster_utils import Cluster

    started = Cluster(True, head_node_args={"num_cpus": 0, **NODE})
    for _ in range(nodes):
        started.add_node(num_cpus=1, **NODE)
    try:
        yield started.address
    finally:
        started.shutdown()


def timed(folder: Path, *arguments: str, **given: str) -> float:
    """Wall seconds of a command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "RAY_USAGE_STATS_ENABLED": "0", "PATH": path}
    began = time.monotonic()
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        command = [*COMMAND, *arguments]
        subprocess.run(command, cwd=folder, check=True, env=os.environ | known | given, stdout=log, stderr=log)
    return time.monotonic() - began


def digest(folder: Path) -> str:
    """One hash of all files that stages and DVC have written, and of what they were made from."""
    hidden = {".git", ".dvc", ".distillkit", "__pycache__"}
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not hidden & {*path.parts})
    text = "".join(f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in paths)
    return hashlib.sha256(text.encode()).hexdigest()


def compared(start: Path, targets: list[str], nodes_of_ray: tuple[int, ...]) -> dict[str, Any]:
    """The same pipeline by each engine, each from a copy of ``start``."""
    found: dict[str, Any] = {}

    def measure(name: str, *arguments: str, **given: str) -> None:
        folder = start.with_name(f"{start.name}-{name.replace(' ', '-')}")
        shutil.copytree(start, folder)
        seconds = timed(folder, *arguments, *targets, **given)
        found[name] = {"seconds": round(seconds, 1), "digest": digest(folder)}
        found[name]["ratio"] = round(seconds / found["dvc"]["seconds"], 3)
        click.echo(f"{name}: {seconds:.1f} s, {found[name]['ratio']:.2f} of dvc repro", err=True)

    measure("dvc", "dvc", "repro")
    measure("local -j2", "distillkit", "repro", "-j", "2")
    for nodes in nodes_of_ray:
        with cluster(nodes) as address:
            measure(f"ray {nodes}", "distillkit", "repro", "--on", "ray", "--address", address)
    measure("slurm -j2", "distillkit", "repro", "--on", "slurm", "-j", "2", **SLURM)
    found["same_bytes"] = len({run["digest"] for run in found.values()}) == 1
    return found


@click.command()
@click.option("--quick", is_flag=True, help="One recipe and two distillations.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
def main(quick: bool, out: Path | None) -> None:
    known = YAML(typ="safe").load(ROOT / "params.yaml")["recipes"]
    count = 2 if quick else 8
    steps = 5 if quick else 90
    learned = [known["mtt-ipc5"] | {"optim": known["mtt-ipc5"]["optim"] | {"steps": steps + at}} for at in range(count)]
    eight = {f"mtt-{number}": recipe for number, recipe in enumerate(learned)}
    result = conditions("engines") | {"load": round(os.getloadavg()[0], 1)}
    with TemporaryDirectory() as name:
        default = project(Path(name, "default"), {"random-ipc5": known["random-ipc5"]} if quick else None)
        result["default_pipeline"] = compared(default, [], (2,))
        distillations = project(Path(name, "eight"), eight)
        timed(distillations, "dvc", "repro", "inputs")
        shutil.rmtree(distillations / ".dvc/cache/runs")
        result["distillations"] = compared(distillations, [f"distill@{recipe}" for recipe in eight], (1, 2))
    text = json.dumps(result, indent=2) + "\n"
    out = out or (None if quick else ROOT / "benchmarks/results/engines-cpu.json")
    click.echo(text) if out is None else out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
