"""The default pipeline on several train/test splits of the digits: everything anew for each, summarised over splits.

    python benchmarks/digits_splits.py --splits 5

One run of params.yaml as it stands, but for data.split_seed, in a temporary DVC repository for each split. Prints the
mean and sample standard deviation over splits, where each split's figure is itself a mean over evaluation networks, and
writes benchmarks/results/digits_splits.json.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev

import click
import torch
from ruamel.yaml import YAML

from distillkit.base.machine import cores

ROOT = Path(__file__).parents[1]
LEFT_BEHIND = ["artifacts", "metrics", "cache", "tmp", ".distillkit", "dvc.lock", ".venv", ".git"]
RESULT = ROOT / "benchmarks/results/digits_splits.json"


def run_split(seed: int) -> dict[str, float]:
    """Accuracy of every recipe on the split drawn with ``seed``."""
    with tempfile.TemporaryDirectory() as temporary:
        project = Path(temporary, "project")
        ignored = shutil.ignore_patterns(
            "artifacts", "metrics", "cache", "tmp", ".distillkit", "dvc.lock", ".venv", ".git"
        )
        shutil.copytree(ROOT, project, ignore=ignored)
        subprocess.run(["git", "init", "-q"], cwd=project, check=True)
        yaml = YAML(typ="safe")
        params = yaml.load(project / "params.yaml")
        params["data"]["split_seed"] = seed
        yaml.dump(params, project / "params.yaml")
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = [sys.executable, "-m", "dvc", "repro", "-q", "report"]
        subprocess.run(command, cwd=project, check=True, env=environment, stderr=subprocess.DEVNULL)
        return {
            path.stem: json.loads(path.read_text())["accuracy"]["mean"] for path in (project / "metrics").glob("*.json")
        }


@click.command()
@click.option("--splits", default=5, show_default=True, type=click.IntRange(2))
def main(splits: int) -> None:
    """Run the default pipeline on several splits."""
    found, seconds = [], []
    for seed in range(splits):
        started = time.monotonic()
        found.append(run_split(seed))
        seconds.append(round(time.monotonic() - started, 1))
        click.echo(f"split {seed}: {seconds[-1]} s", err=True)
    summary = {
        recipe: {"mean": mean(run[recipe] for run in found), "std": stdev(run[recipe] for run in found)}
        for recipe in found[0]
    }
    for recipe, value in sorted(summary.items()):
        click.echo(f"{recipe:16} {100 * value['mean']:6.2f} ± {100 * value['std']:.2f}")
    record = {
        "command": "python benchmarks/digits_splits.py --splits " + str(splits),
        "device": f"{cores()} CPU cores, {platform.machine()}",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "seconds_per_split": seconds,
        "splits": found,
        "summary": summary,
    }
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
