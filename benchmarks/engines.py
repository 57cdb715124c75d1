"""What an engine costs and what a second node brings: ``dvc repro`` against ``distillkit repro`` on this machine.

    python benchmarks/engines.py                                       # the default pipeline, and eight distillations
    python benchmarks/engines.py --pipeline distillations --engine ray-2   # keeps what the file has of the other
    python benchmarks/engines.py --quick        # one recipe, two distillations; writes a file only where --out says

Ray runs on a cluster of its own whose nodes have one core each, Slurm's jobs are submitit's local processes. Every
network has one thread. All runs of a pipeline must give the same bytes. The JSON has wall seconds and their ratios to
``dvc repro``; load is the machine's at the start of a run: on a busy machine, a ratio says little.
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

COMMAND = [sys.executable, "-P", "-m"]
NODE = {"object_store_memory": 80_000_000, "include_dashboard": False}
PIPELINES = ("default", "distillations")
SIDE_BY_SIDE = ["distillkit", "repro"]
RUNS = {  # the command, and how many nodes its cluster has
    "dvc": (["dvc", "repro"], 0),
    "local-2": ([*SIDE_BY_SIDE, "-j", "2"], 0),
    "ray-1": ([*SIDE_BY_SIDE, "--on", "ray"], 1),
    "ray-2": ([*SIDE_BY_SIDE, "--on", "ray"], 2),
    "slurm-2": ([*SIDE_BY_SIDE, "--on", "slurm", "-j", "2"], 0),
}


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


def timed(folder: Path, *arguments: str) -> float:
    """Wall seconds of a command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    known = {"OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1", "PATH": path}
    known |= {"RAY_USAGE_STATS_ENABLED": "0", "DISTILLKIT_SLURM": "local"}
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


def compared(start: Path, targets: list[str], names: Sequence[str]) -> dict[str, Any]:
    """The same pipeline by each engine, each from a copy of ``start``; ``dvc`` is the first."""
    found: dict[str, Any] = {}
    for name in names:
        folder = start.with_name(f"{start.name}-{name}")
        shutil.copytree(start, folder)
        arguments, nodes = RUNS[name]
        with cluster(nodes) if nodes else nullcontext("") as address:
            extra = ["--address", address] if nodes else []
            load = round(os.getloadavg()[0], 1)
            seconds = timed(folder, *arguments, *extra, *targets)
        ratio = round(seconds / found["dvc"]["seconds"], 3) if found else 1.0
        found[name] = {"seconds": round(seconds, 1), "ratio": ratio, "load": load, "digest": digest(folder)}
        click.echo(f"{start.name}, {name}: {seconds:.1f} s, {ratio:.2f} of dvc repro", err=True)
    return found | {"same_bytes": len({run["digest"] for run in found.values()}) == 1}


@click.command()
@click.option("--quick", is_flag=True, help="One recipe and two distillations.")
@click.option("--pipeline", "pipelines", multiple=True, type=click.Choice(PIPELINES), default=PIPELINES)
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(RUNS)[1:]), default=list(RUNS)[1:])
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
def main(quick: bool, pipelines: tuple[str, ...], engines: tuple[str, ...], out: Path | None) -> None:
    known = YAML(typ="safe").load(ROOT / "params.yaml")["recipes"]
    count, steps = (2, 5) if quick else (8, 40)
    learned = [known["mtt-ipc5"] | {"optim": known["mtt-ipc5"]["optim"] | {"steps": steps + at}} for at in range(count)]
    eight = {f"mtt-{number}": recipe for number, recipe in enumerate(learned)}
    out = out or (None if quick else ROOT / "benchmarks/results/engines-cpu.json")
    result = json.loads(out.read_text(encoding="utf-8")) if out is not None and out.exists() else {}
    result |= conditions("engines")
    with TemporaryDirectory() as name:
        if "default" in pipelines:
            folder = project(Path(name, "default"), {"random-ipc5": known["random-ipc5"]} if quick else None)
            result["default"] = compared(folder, [], ["dvc", *engines])
        if "distillations" in pipelines:
            folder = project(Path(name, "distillations"), eight)
            timed(folder, "dvc", "repro", "inputs")
            shutil.rmtree(folder / ".dvc/cache/runs")
            targets = [f"distill@{recipe}" for recipe in eight]
            result["distillations"] = compared(folder, targets, ["dvc", *engines])
    text = json.dumps(result, indent=2) + "\n"
    click.echo(text) if out is None else out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
