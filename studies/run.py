"""Run a study stage by stage, in order of worth, and note what each stage took.

    python run.py cifar10                             # everything
    python run.py cifar10 window-ipc50 mtt-ipc50      # these sets only, in this order

Each stage is ``dvc repro --single-item``: what is done is not done again, and what was interrupted goes on. CPU seconds
of all processes of a stage are added up in the study's cpu_seconds.json, over interruptions too; a stage that runs from
its start again begins at 0.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from ruamel.yaml import YAML


def stages(recipes: list[str], shards: list[int], last: bool) -> Iterator[str]:
    """In order: what all sets need, set after set, and ``last`` what reads all of them."""
    yield from ("code", "fetch", *(f"experts@{shard}" for shard in shards), "shards", "score", "reference", "inputs")
    for name in recipes:
        yield from (f"distill@{name}", f"evaluate@{name}")
    if last:
        yield from ("results", "report", "package")


def cpu_seconds() -> float:
    """Of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@click.command()
@click.argument("study", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("recipes", nargs=-1)
def main(study: Path, recipes: tuple[str, ...]) -> None:
    params, notes = YAML(typ="safe").load(study / "params.yaml"), study / "cpu_seconds.json"
    for stage in stages(list(recipes or params["recipes"]), params["expert_shards"], last=not recipes):
        command = [sys.executable, "-m", "dvc"]
        status = subprocess.run([*command, "status", "--json", stage], cwd=study, capture_output=True, text=True)
        if status.returncode == 0 and json.loads(status.stdout) == {}:
            continue
        before = cpu_seconds()
        ended = subprocess.run([*command, "repro", "--single-item", stage], cwd=study).returncode
        known = json.loads(notes.read_text()) if notes.is_file() else {}  # another run may have added to it
        began = known.get(stage, {})
        carried = 0.0 if began.get("done", True) else began["seconds"]
        known[stage] = {"seconds": round(carried + cpu_seconds() - before, 1), "done": ended == 0}
        notes.write_text(json.dumps(known, indent=2) + "\n")
        if ended:
            sys.exit(ended)


if __name__ == "__main__":
    main()
