"""docs/experiments.md and docs/many-machines.md, typed as they stand, with the real dvc on the pipeline made tiny."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from interpreter import SCRIPTS
from pages import DOCS, follow
from ruamel.yaml import YAML
from test_interrupted import background, until
from test_pipeline import MATCHING, OPTIM, PARAMS, dvc, environment, new_project, write_params

from distillkit.process.live_curves import LIVE

MTT = {"method": "mtt", "ipc": 2, "matching": MATCHING, "optim": OPTIM}
RECIPES = {"random-ipc5": {"method": "random", "ipc": 2}, "mtt-ipc5": MTT}


def tiny(folder: Path, stages: tuple[str, ...], shards: list[int]) -> Path:
    """A committed repository with some stages of the pipeline."""
    project = new_project(folder)
    declared = YAML(typ="safe").load(project / "dvc.yaml")
    YAML(typ="safe").dump({"stages": {name: declared["stages"][name] for name in stages}}, project / "dvc.yaml")
    package = PARAMS["package"] | {"default": "mtt-ipc5"}
    write_params(project, PARAMS | {"expert_shards": shards, "recipes": RECIPES, "package": package})
    git(project, "config", "user.email", "founder@example.org")
    git(project, "config", "user.name", "Founder")
    commit(project)
    return project


def git(project: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=project, check=True)


def commit(project: Path) -> None:
    git(project, "add", "-A")
    git(project, "commit", "-qm", "A pipeline")


@pytest.mark.slow
def test_experiments(tmp_path):
    stages = ("code", "fetch", "experts", "shards", "score", "inputs", "reference", "distill", "evaluate")
    project = tiny(tmp_path / "project", stages, [0])
    dvc(project, "repro")
    commit(project)
    shown = follow("experiments.md", project, environment())
    first = shown[: shown.index("\ndvc exp diff --md")]
    ran = re.findall(r"^Running stage '(.*)'", first, re.M)
    assert ran == ["inputs", "distill@random-ipc5", "evaluate@random-ipc5"]
    assert re.search(r"^\| params.yaml +\| recipes.random-ipc5.ipc +\| 2 +\| 3 +\| 1 ", shown, re.M)
    assert re.search(r"^metrics/random-ipc5.json +images.total +20 +30 +10$", shown, re.M)
    assert shown.count("Queued experiment") == 3
    table = shown[shown.index("\ndvc exp show") :]
    header = next(line for line in table.splitlines() if line.startswith("| Experiment"))
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    wanted = {"metrics/random-ipc5.json:accuracy.mean", "recipes.mtt-ipc5.optim.image_lr", "recipes.mtt-ipc5.ipc"}
    assert wanted <= set(columns)
    assert len(columns) < 12
    assert len(re.findall(r"^\| [├└]", table, re.M)) == 4
    assert YAML(typ="safe").load(project / "params.yaml")["recipes"]["random-ipc5"]["ipc"] == 3
    assert "up to date" in dvc(project, "status")


def watching() -> list[str]:
    """The commands for another shell."""
    block = re.search(r"^```sh\n(.*?)^```$", (DOCS / "experiments.md").read_text(), re.M | re.S)
    assert block
    return block[1].splitlines()


def shown_by(command: str, project: Path) -> str:
    """What a command shows within some seconds; one that follows a file never ends."""
    line = (
        ["bash", "-c", f"timeout 20 {command}"] if "tail -f" not in command else ["bash", "-c", f"timeout 2 {command}"]
    )
    done = subprocess.run(line, cwd=project, env=environment(), capture_output=True, text=True)
    assert done.returncode == (124 if "tail -f" in command else 0), done.stdout + done.stderr
    return done.stdout


@pytest.mark.long
def test_watching(tmp_path):
    """While dvc runs the stage, in another process; also by the lines for dvc.yaml."""
    project = tiny(tmp_path / "project", ("code", "fetch", "experts", "shards", "score", "inputs", "distill"), [0])
    recipe = MTT | {"optim": OPTIM | {"steps": 100_000}}
    package = {"name": "tiny", "default": "mtt-ipc5", "storage": "float32"}
    write_params(project, PARAMS | {"expert_shards": [0], "recipes": {"mtt-ipc5": recipe}, "package": package})
    dvc(project, "repro", "inputs")
    declaration = re.search(r"^```yaml\n(.*?)^```$", (DOCS / "experiments.md").read_text(), re.M | re.S)
    with (project / "dvc.yaml").open("a") as file:
        file.write(declaration[1])
    command = [sys.executable, "-m", "dvc", "repro", "-s", "distill@mtt-ipc5"]
    with background(command, cwd=project, env=environment(), stderr=subprocess.DEVNULL) as running:
        until((project / LIVE / "mtt-ipc5/metrics.json").exists, "the first step is done")
        followed, metrics, page = (shown_by(line, project) for line in watching())
        charts = dvc(project, "plots", "show", "--json")
        running.terminate()
    assert re.search(r"^\d+\t0\.\d+$", followed, re.M)
    assert re.search(r"metrics.json +[\d.]+ +\d+ +[\d.]+", metrics)
    assert '"field": "step"' in Path(page.strip().removeprefix("file://")).read_text()
    assert f"{LIVE}/mtt-ipc5/plots/metrics/student_lr.tsv" in charts


@pytest.mark.long
def test_many_machines(tmp_path):
    (tmp_path / "shared").mkdir()
    project = tiny(tmp_path / "first", ("code", "fetch", "experts", "shards", "score"), [0, 1, 2, 3])
    other = ["A Ray cluster", "A Slurm cluster", "Two branches, one dvc.lock"]
    said = follow("many-machines.md", project, environment(), but=other)
    machines = re.split(r"^dvc remote add|^git clone|^cd \.\./first", said, flags=re.M)
    beside, first, second, last = (set(re.findall(r"Running stage '(.*)'", part)) for part in machines)
    assert beside == {"code", "fetch", "experts@0", "experts@1"}
    assert (first, second, last) == ({"experts@2"}, {"experts@3"}, {"shards", "score"})
    assert "Stage 'experts@3' is cached - skipping run" in machines[-1]


@pytest.mark.long
def test_a_cluster_and_two_branches(tmp_path):
    """With submitit's local processes; tests/test_ray.py follows the section on Ray."""
    project = tiny(tmp_path / "first", ("code", "fetch", "experts", "shards", "score"), [0])
    here = environment(SCRIPTS) | {"DISTILLKIT_SLURM": "local"}
    said = follow("many-machines.md", project, here, only="A Slurm cluster")
    assert set(re.findall("^(.*): running on", said, re.M)) == {"experts@0", "score"}
    assert "commit .gitattributes" in follow("many-machines.md", project, here, only="Two branches, one dvc.lock")
