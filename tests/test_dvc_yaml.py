"""dvc.yaml: every stage depends on exactly the modules that can change its result."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_layers import PACKAGE, imported_modules

ROOT = PACKAGE.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
CANNOT_CHANGE_A_RESULT = {"checks", "errors", "interruption", "live", "locks", "names", "progress", "stage"}
CANNOT_CHANGE_A_RESULT |= {"arguments", "hub"}


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
    given = set(re.findall(r"(?:artifacts|metrics|reports)\S*", stage["cmd"]))
    declared = {
        entry if isinstance(entry, str) else next(iter(entry))
        for key in ("deps", "outs", "metrics", "plots")
        for entry in stage.get(key, [])
    }
    data = {path for path in declared if path.startswith(("artifacts", "metrics", "reports"))}
    covered = {path for path in data if any(path == own or path.startswith(f"{own}/") for own in given)}
    assert data == covered
    assert all(any(path == own or path.startswith(f"{own}/") for path in data) for own in given)
