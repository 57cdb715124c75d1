"""What DVC itself costs: CPU seconds of ``dvc repro`` on the pipeline, with stages that only write small files.

    python benchmarks/dvc_overhead.py                            # 25, 50, 100 and 200 recipes: an hour
    python benchmarks/dvc_overhead.py --recipes 50               # some 100 CPU seconds
    python benchmarks/dvc_overhead.py --recipes 10 --no-clib     # without ruamel.yaml's parser in C
    python benchmarks/dvc_overhead.py --pipeline old/dvc.yaml    # of another version, to compare

Three runs in a new repository: cold, with nothing to do, and after one recipe more. Stages run in a shell, which takes
milliseconds. What the first two commands measure is recorded. Fields: recipes, by their number, with cold_s,
unchanged_s and another_s in CPU seconds, and the size of dvc.lock with one recipe more (lock_kb, lock_lines).
"""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from record import ROOT, conditions, write
from ruamel.yaml import YAML

OURS = ROOT / "dvc.yaml"
RESULTS = ROOT / "benchmarks/results/dvc_overhead-cpu.json"

DVC = """
import sys
sys.modules |= {name: None for name in sys.argv.pop(1).split()}  # as if they were not installed
from dvc.cli import main
sys.exit(main())
"""


def listed(stage: dict[str, Any], *keys: str) -> list[str]:
    """The paths of a stage under ``keys``."""
    entries = [entry for key in keys for entry in stage.get(key, ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def stubbed(stages: dict[str, Any], recipes: list[str]) -> dict[str, Any]:
    """The same stages with commands that write their outputs; in a folder, what other stages want of it."""
    wanted = {path for stage in stages.values() for path in listed(stage.get("do", stage), "deps")}
    wanted |= {path.replace("${key}", name) for path in wanted for name in recipes}
    for stage in (stage.get("do", stage) for stage in stages.values()):
        files: list[str] = []
        for path in listed(stage, "outs", "metrics", "plots"):
            inside = sorted(file for file in wanted if file.startswith(f"{path}/") and "${" not in file)
            files += inside or [path if Path(path).suffix else f"{path}/file"]
        stage["cmd"] = f"for f in {' '.join(files)}; do mkdir -p $(dirname $f); echo {{}} > $f; done"
    return stages


def with_recipes(count: int) -> dict[str, Any]:
    """params.yaml with so many recipes: those of this repository, again and again under other names."""
    data: dict[str, Any] = YAML(typ="safe").load(ROOT / "params.yaml")
    chosen = islice(cycle(data["recipes"].items()), count)
    data["recipes"] = {f"{name}-{number}": recipe for number, (name, recipe) in enumerate(chosen)}
    return data


def repro(folder: Path, hidden: str) -> float:
    """CPU seconds of ``dvc repro`` and all it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", DVC, hidden, "repro", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, env=os.environ | {"DVC_NO_ANALYTICS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measured(count: int, pipeline: Path, hidden: str) -> dict[str, float]:
    """The three runs with so many recipes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for code in ("distillkit", "stages"):
            shutil.copytree(ROOT / code, folder / code, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / ".dvcignore", folder)
        subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True)
        figures = []
        for recipes in (count, count, count + 1):
            params = with_recipes(recipes)
            YAML().dump(params, folder / "params.yaml")
            stages = stubbed(YAML(typ="safe").load(pipeline)["stages"], list(params["recipes"]))
            YAML().dump({"stages": stages}, folder / "dvc.yaml")
            figures.append(round(repro(folder, hidden), 1))
        lock = (folder / "dvc.lock").read_text(encoding="utf-8")
    sizes = {"lock_kb": round(len(lock) / 1000), "lock_lines": len(lock.splitlines())}
    return dict(zip(("cold_s", "unchanged_s", "another_s"), figures, strict=True)) | sizes


@click.command()
@click.option("--recipes", "counts", type=click.IntRange(1), multiple=True, default=[25, 50, 100, 200])
@click.option("--pipeline", type=click.Path(exists=True, path_type=Path), default=OURS)
@click.option("--clib/--no-clib", default=True)
def main(counts: Sequence[int], pipeline: Path, clib: bool) -> None:
    """Measure, show, and record what is of this repository's pipeline."""
    recorded = clib and pipeline == OURS
    known = json.loads(RESULTS.read_text())["recipes"] if RESULTS.is_file() and recorded else {}
    for count in counts:
        known[str(count)] = found = measured(count, pipeline, "" if clib else "_ruamel_yaml")
        click.echo(f"{count} recipes: {', '.join(f'{name} {value}' for name, value in found.items())}")
        if recorded:
            ordered = dict(sorted(known.items(), key=lambda each: int(each[0])))
            write({**conditions("dvc_overhead"), "recipes": ordered}, RESULTS, quick=False)


if __name__ == "__main__":
    main()
