"""CPU seconds of every stage against those of an earlier commit, in turns on one machine.

    python benchmarks/stage_times.py --dataset FOLDER --rounds 3                       # all stages; hours on two cores
    python benchmarks/stage_times.py --dataset FOLDER --stage inputs --stage "distill dm"

FOLDER is as in ``memory.py``. The earlier commit is checked out in a temporary worktree, and each commit works in a
folder of its own. ``ratio`` is of the least CPU seconds of all rounds, now / before; ``--rounds`` counts them. Stages
that are not measured keep what the results have of them, if the commit and the number of images are the same.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from memory import commands, is_needed, is_wanted, parameters, run, tiled
from record import ROOT, aligned, conditions, options, write
from ruamel.yaml import YAML

BEFORE = "647528e"  # before sources were read by rows
SIDE = 32
RESULTS = ROOT / "benchmarks/results/stage_times-cpu.json"
LATER = {"dual", "rded"}  # methods that the earlier commit does not have


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """A commit checked out in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "before")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def without_later_methods(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters that the earlier commit can read."""
    return {**params, "recipes": {name: recipe for name, recipe in params["recipes"].items() if name not in LATER}}


def in_turns(trees: dict[str, Path], folders: dict[str, Path], stages: Sequence[str], rounds: int) -> dict[str, Any]:
    """Least CPU seconds of each wanted stage in each tree; what it wrote stays for the next stage."""
    found: dict[str, Any] = {}
    for stage, arguments in commands():
        if not is_needed(stage, stages) or stage.split()[-1] in LATER:
            continue
        wanted, seconds = is_wanted(stage, stages), dict[str, float]()
        for number in range(rounds if wanted else 1):
            order = list(trees) if number % 2 == 0 else list(trees)[::-1]
            for name in order:
                os.environ["PYTHONPATH"] = str(trees[name])
                script = trees[name] / f"stages/{stage.split()[0]}.py"
                taken = arguments if "confusion" in script.read_text() else without_confusion(arguments)
                clear(folders[name] / arguments[-1] if stage == "fetch" else None)
                used = run([sys.executable, str(script), *taken], folders[name])
                seconds[name] = min(used.cpu, seconds.get(name, used.cpu))
        if wanted:
            found[stage] = {**seconds, "ratio": seconds["now_s"] / seconds["before_s"], "rounds": rounds}
            click.echo(f"{stage}: {found[stage]}", err=True)
    return found


def without_confusion(arguments: Sequence[str]) -> list[str]:
    """The arguments of ``evaluate`` before it wrote a confusion table."""
    return [argument for argument in arguments if not argument.startswith("confusion/")]


def clear(place: Path | None) -> None:
    """Remove what an earlier round fetched."""
    if place is not None and place.is_dir():
        for file in place.iterdir():
            file.unlink()


def known(commit: str, images: int) -> dict[str, Any]:
    """What was measured before against the same commit, with as many images."""
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    found: dict[str, Any] = before["stages"] if (commit, images) == (before.get("commit"), before.get("images")) else {}
    return found


@click.command()
@options(rounds=3)
@click.option("--dataset", type=click.Path(exists=True, path_type=Path), required=True, help="Parquet of images.")
@click.option("--images", default=50_000, show_default=True, help="Training images, and a fifth as many to test.")
@click.option("--stage", "stages", multiple=True, help="Only this; may be repeated.")
@click.option("--commit", default=BEFORE, show_default=True, help="What to compare with.")
def main(
    quick: bool, rounds: int, out: Path | None, dataset: Path, images: int, stages: Sequence[str], commit: str
) -> None:
    """Measure in turns, and write what was found."""
    images = 1_000 if quick else images
    with worktree(commit) as before, tempfile.TemporaryDirectory() as name:
        trees, folders = {"before_s": before, "now_s": ROOT}, {}
        tiled(dataset, images, Path(name) / "tiled")
        for each in trees:
            folders[each] = Path(name) / each
            folders[each].mkdir()
            params = without_later_methods(parameters(Path(name) / "tiled", SIDE))
            if each == "before_s":
                del params["package"]["storage"]
            YAML().dump(params, folders[each] / "params.yaml")
        os.environ["HF_DATASETS_CACHE"] = str(Path(name) / "cache")
        found = in_turns(trees, folders, stages, rounds)
    found = {**known(commit, images), **found}
    found = {stage: found[stage] for stage, _ in commands() if stage in found}
    rows = [[stage, *(f"{each[key]:.2f}" for key in ("before_s", "now_s", "ratio"))] for stage, each in found.items()]
    click.echo(aligned([["CPU seconds", "before", "now", "ratio"], *rows]))
    write({**conditions("stage_times"), "commit": commit, "images": images, "stages": found}, out, quick)


if __name__ == "__main__":
    main()
