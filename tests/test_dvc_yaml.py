"""dvc.yaml: every stage depends on exactly the modules that can change its result."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_layers import PACKAGE, imported_modules

from distillkit.leftovers import FOLDERS

ROOT = PACKAGE.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
CANNOT_CHANGE_A_RESULT = {
    *("arguments", "checks", "errors", "files", "hub", "interruption", "live", "lockfile", "locks", "machine"),
    *("names", "progress", "stage"),
}
ORDER = {"artifacts/shards.txt", "artifacts/results.txt", "artifacts/inputs/${key}.json"}  # depended on, not read
BY_HASH = {"artifacts/experts", "artifacts/difficulty.safetensors"}  # what artifacts/inputs stands for


def closure(script: Path) -> set[str]:
    """Paths of the modules that ``script`` reaches, with the templates that stand beside them."""
    found: set[str] = set()
    waiting = sorted(imported_modules(script))
    while waiting:
        module = waiting.pop()
        if module in found or module in CANNOT_CHANGE_A_RESULT:
            continue
        found.add(module)
        for path in files_of(module):
            waiting += sorted(imported_modules(path))
    paths = {str(dependency_of(module).relative_to(ROOT)) for module in found}
    return paths | {str(path.relative_to(ROOT)) for module in found for path in PACKAGE.glob(f"{module}.*.jinja")}


def dependency_of(module: str) -> Path:
    return PACKAGE / module if (PACKAGE / module).is_dir() else PACKAGE / f"{module}.py"


def files_of(module: str) -> list[Path]:
    path = dependency_of(module)
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


@pytest.mark.parametrize("name", STAGES)
def test_stage_lists_the_code_it_runs(name):
    stage = STAGES[name].get("do", STAGES[name])
    script = re.search(r"stages/\w+\.py", stage["cmd"]).group()
    listed = {dep for dep in stage["deps"] if not dep.startswith(("artifacts", "metrics"))}
    wanted = closure(ROOT / script) | {script}
    assert listed == wanted, f"{name}: add {sorted(wanted - listed)}, remove {sorted(listed - wanted)}"


@pytest.mark.parametrize("name", STAGES)
def test_stage_names_each_path_of_its_command(name):
    """What a command is given as a path is a dependency or an output, and the other way round."""
    stage = STAGES[name].get("do", STAGES[name])
    given = set(re.findall(r"(?:artifacts|metrics|reports)\S*", stage["cmd"])) - (
        BY_HASH if name == "distill" else set()
    )
    declared = {
        entry if isinstance(entry, str) else next(iter(entry))
        for key in ("deps", "outs", "metrics", "plots")
        for entry in stage.get(key, [])
    }
    data = {path for path in declared if path.startswith(("artifacts", "metrics", "reports"))}
    data -= {path for path in ORDER if path not in given}
    covered = {path for path in data if any(path == own or path.startswith(f"{own}/") for own in given)}
    assert data == covered
    assert all(any(path == own or path.startswith(f"{own}/") for path in data) for own in given)


@pytest.mark.parametrize(
    ("folders", "gathered"), [(FOLDERS["expert_shards"], "shards"), (FOLDERS["recipes"], "results")]
)
def test_what_is_left_over_is_moved_away_before_a_folder_is_read(folders, gathered):
    """Stages that depend on a folder of many stages depend on the list of it, too; or on what depends on that."""
    stages = {name: stage.get("do", stage) for name, stage in STAGES.items()}
    made = {name: outs(stage) for name, stage in stages.items()}
    first = stages.pop(gathered)
    assert set(folders) <= set(first["deps"])
    for name, stage in stages.items():
        if set(folders) & set(stage["deps"]):
            assert gathered in upstream(name, stages, made), f"{name} reads a folder that may hold left-over files"


def outs(stage: dict) -> set[str]:
    return {out if isinstance(out, str) else next(iter(out)) for out in stage.get("outs", [])}


def upstream(name: str, stages: dict, made: dict) -> set[str]:
    """Stages that ``name`` waits for, by the files that they make."""
    before = {other for other, paths in made.items() if paths & set(stages[name]["deps"])} if name in stages else set()
    return before.union(*(upstream(other, stages, made) for other in before))
