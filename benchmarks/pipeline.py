"""The default pipeline from nothing to a report: seconds of ``dvc repro``, cold and again with nothing changed.

    python benchmarks/pipeline.py

Each repeat is a copy of the working tree without results, cache or lock, as a repository of its own. A stage's wall
seconds run from the line with which DVC announces it to the next such line, so DVC's own work between two stages counts
there. CPU seconds are those of the stage's processes alone; DVC's are the row "dvc". ``loop_s`` are the CPU seconds of
20 million additions in plain Python, taken before each repeat: how fast the machine was just then.
"""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import psutil
from record import ROOT, aligned, conditions, options, write
from ruamel.yaml import YAML

COPIED = ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", "distillkit", "stages")
TINY = {"name": "convnet", "norm": "batch", "depth": 1, "width": 4}
QUICK_RECIPES = ("full", "random-ipc5", "mtt-ipc5")


class Repeat(NamedTuple):
    """Wall seconds of both runs, and wall and CPU seconds of every kind of stage in the first.

    What precedes the first stage is "start".
    """

    loop_s: float
    cold_s: float
    unchanged_s: float
    stages_s: dict[str, float]
    cpu_s: dict[str, float]


def copy_project(folder: Path, quick: bool) -> None:
    """The pipeline as it stands in the working tree, nothing computed yet."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    if quick:
        shrink(folder / "params.yaml")


def shrink(path: Path) -> None:
    """Toy numbers in place of the default ones."""
    yaml = YAML(typ="safe")
    params = yaml.load(path)
    params["data"] |= {"per_class": 15, "test_per_class": 6}
    params["expert_shards"] = [0]
    params["experts"] = {"per_shard": 1, "recipe": {"network": TINY, "epochs": 3, "batch": 32, "lr": 0.05}}
    params["recipes"] = {name: params["recipes"][name] for name in QUICK_RECIPES}
    mtt = params["recipes"]["mtt-ipc5"]
    mtt["matching"] |= {"student_steps": 2, "expert_epochs": 1, "max_start_epoch": 2}
    mtt["optim"]["steps"] = 2
    params["evaluation"] |= {"network": TINY, "training": {"steps": 5, "batch": 20, "lr": 0.05}, "runs": 2}
    params["package"]["default"] = "mtt-ipc5"
    yaml.dump(params, path)


def repro(folder: Path, *arguments: str) -> tuple[float, dict[str, float], dict[str, float]]:
    """Wall seconds of ``dvc repro``, then wall and CPU seconds of every stage that ran.

    Raises ClickException when it fails.
    """
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": tools, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", "repro", *arguments]
    wall, cpu = defaultdict[str, float](float), defaultdict[str, float](float)
    running, lines = "start", []
    started = since = time.perf_counter()
    spent, before = 0.0, used_s()  # CPU seconds: of all stages that have ended; of our own children
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            lines.append(line)
            children = max(spent, ended_children_s(process.pid))
            cpu[running] += children - spent
            spent = children
            if announced := re.match(r"Running stage '([^']+)'", line):
                now = time.perf_counter()
                wall[running] += now - since
                running, since = announced[1], now
    ended = time.perf_counter()
    wall[running] += ended - since
    if process.returncode:
        raise click.ClickException(f"dvc repro ended with status {process.returncode}:\n{''.join(lines[-40:])}")
    return ended - started, dict(wall), {**cpu, "dvc": used_s() - before - spent}


def by_kind(seconds: Mapping[str, float]) -> dict[str, float]:
    """Those of the stages of a recipe, or of a shard, in one."""
    kinds: dict[str, float] = {}
    for stage, value in seconds.items():
        kind = stage.split("@")[0]
        kinds[kind] = kinds.get(kind, 0.0) + value
    return kinds


def used_s() -> float:
    """CPU seconds of all our children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def ended_children_s(pid: int) -> float:
    """CPU seconds of the children of a process that have ended; 0 once it has ended itself."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.children_user + times.children_system)


def loop_s() -> float:
    """CPU seconds of 20 million additions in plain Python."""
    began = time.process_time()
    exec("s = 0\nfor i in range(20_000_000): s += i")  # at the top level, as python -c has it
    return time.process_time() - began


def one_repeat(quick: bool) -> Repeat:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "project")
        folder.mkdir()
        copy_project(folder, quick)
        loop = loop_s()
        cold, stages, cpu = repro(folder, "--force")
        unchanged, *_ = repro(folder)
        return Repeat(loop, cold, unchanged, by_kind(stages), by_kind(cpu))


def table(repeats: list[Repeat]) -> str:
    """Medians over repeats, and the share of the cold run."""
    cold = median(repeat.cold_s for repeat in repeats)
    rows = [["cold", f"{cold:.1f}", "100%", f"{median(sum(repeat.cpu_s.values()) for repeat in repeats):.1f}"]]
    for stage in repeats[0].stages_s:
        seconds = median(repeat.stages_s[stage] for repeat in repeats)
        cpu = median(repeat.cpu_s[stage] for repeat in repeats)
        rows.append([f"  {stage}", f"{seconds:.1f}", f"{seconds / cold:.0%}", f"{cpu:.1f}"])
    rows.append(["  dvc itself", "", "", f"{median(repeat.cpu_s['dvc'] for repeat in repeats):.1f}"])
    rows.append(["nothing changed", f"{median(repeat.unchanged_s for repeat in repeats):.1f}", "", ""])
    rows.append(["20 million additions in Python", "", "", f"{median(repeat.loop_s for repeat in repeats):.1f}"])
    return aligned([["default pipeline", "seconds", "share", "CPU seconds"], *rows])


@click.command()
@options(rounds=3)
def main(quick: bool, rounds: int, out: Path | None) -> None:
    """Run the default pipeline --rounds times, each from nothing."""
    repeats = []
    for number in range(rounds):
        repeats.append(one_repeat(quick))
        click.echo(f"repeat {number + 1} of {rounds}: {repeats[-1].cold_s:.1f} s", err=True)
    click.echo(table(repeats))
    record: dict[str, Any] = conditions("pipeline")
    record |= {
        "cold_s": median(repeat.cold_s for repeat in repeats),
        "unchanged_s": median(repeat.unchanged_s for repeat in repeats),
        "repeats": [repeat._asdict() for repeat in repeats],
    }
    write(record, out, quick)


if __name__ == "__main__":
    main()
