"""What DVC itself costs: CPU seconds of ``dvc repro`` on the pipeline, with stages that only write small files.

    python benchmarks/dvc_overhead.py                            # 50 recipes: some 80 CPU seconds
    python benchmarks/dvc_overhead.py --recipes 10 --no-clib     # without ruamel.yaml's parser in C
    python benchmarks/dvc_overhead.py --pipeline old/dvc.yaml    # of another version, to compare

Three runs in a new repository: cold, with nothing to do, and after one recipe more. Stages run in a shell, which takes
milliseconds. Nothing is recorded.
"""

import os
import resource
import shutil
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from record import ROOT
from ruamel.yaml import YAML

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


@click.command()
@click.option("--recipes", "count", type=click.IntRange(1), default=50, show_default=True)
@click.option("--pipeline", type=click.Path(exists=True, path_type=Path), default=ROOT / "dvc.yaml")
@click.option("--clib/--no-clib", default=True)
def main(count: int, pipeline: Path, clib: bool) -> None:
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
            figures.append(repro(folder, "" if clib else "_ruamel_yaml"))
        lock = (folder / "dvc.lock").read_text(encoding="utf-8")
    cold, nothing, another = figures
    parser = "with ruamel.yaml.clib" if clib else "without ruamel.yaml.clib"
    click.echo(
        f"{count} recipes, {parser}: cold {cold:.1f}, nothing to do {nothing:.1f}, one recipe more {another:.1f} "
        f"CPU seconds; dvc.lock of {count + 1} recipes: {len(lock) / 1000:.0f} kB, {len(lock.splitlines())} lines"
    )


if __name__ == "__main__":
    main()
