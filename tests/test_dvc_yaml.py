"""dvc.yaml: every stage depends on the rooms that can change its result, and on no other."""

import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_layers import PACKAGE, imported, room_of

from distillkit.data.leftovers import FOLDERS

ROOT = PACKAGE.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
CHANGES_NO_RESULT = {"process"}
REFUSES_ONLY = {
    PACKAGE / f"pipeline/{name}.py" for name in ("__init__", "stage", "checks")
}  # each stage begins with them
MOST = 6  # rooms; a stage that imports more depends on the package as a whole
LATE = {
    "evaluation",
    "sources",
    "report",
    "package",
    "hub",
    "check",
    "setup",
    "api",
    "cli",
}  # an edit re-runs no distillation


def reached(script: Path) -> set[Path]:
    """Files of the package that ``script`` imports, directly or not."""
    found: set[Path] = set()
    waiting = imported(script)
    while waiting:
        path = waiting.pop()
        if path not in found | REFUSES_ONLY:
            found.add(path)
            waiting |= imported(path)
    return found


def code_of(script: Path) -> set[str]:
    """What a stage lists beside its script: the folders of the rooms it reaches."""
    rooms = {room_of(path) for path in reached(script)} - CHANGES_NO_RESULT
    return {f"distillkit/{room}" for room in rooms} if len(rooms) <= MOST else {"distillkit/"}


def stage_named(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


def script_of(name: str) -> str:
    return re.search(r"stages/\w+\.py", stage_named(name)["cmd"]).group()


@pytest.mark.parametrize("name", STAGES)
def test_stage_lists_the_code_it_runs(name):
    listed = {dep for dep in stage_named(name)["deps"] if not dep.startswith(("artifacts", "metrics"))}
    wanted = code_of(ROOT / script_of(name)) | {script_of(name)}
    assert listed == wanted, f"{name}: add {sorted(wanted - listed)}, remove {sorted(listed - wanted)}"


@pytest.mark.parametrize("name", STAGES)
def test_unfinished_work_depends_on_what_the_stage_lists(name):
    """Its key is made from the same rooms, so that an edit elsewhere throws no checkpoint away."""
    script = (ROOT / script_of(name)).read_text(encoding="utf-8")
    if "unfinished(" in script:
        rooms = re.findall(r'"(\w+)"', re.search(r"^ROOMS = \((.*?)\)", script, re.MULTILINE | re.DOTALL)[1])
        assert {f"distillkit/{room}" for room in rooms} == code_of(ROOT / script_of(name))


@pytest.mark.parametrize("name", ["experts", "score", "distill"])
def test_late_rooms_do_not_run_it_again(name):
    """An edit of a table, a card or the command throws away no expert and no distilled set."""
    assert not LATE & {room_of(path) for path in reached(ROOT / script_of(name))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the pipeline in which every stage has run, as far as DVC knows."""
    from dvc.repo import Repo

    folder = tmp_path_factory.mktemp("finished")
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("distillkit", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        repo = Repo.init(no_scm=True)
        named = [Path(part.fs_path) for stage in repo.index.stages for part in (*stage.outs, *stage.deps)]
        for path in (path for path in named if not path.exists()):
            file = path if path.suffix else path / "file.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path.name)
        repo.commit(force=True)
        assert repo.status() == {}
        yield folder


@pytest.mark.parametrize(("room", "again"), [*((room, set()) for room in sorted(LATE)), ("methods", {"distill"})])
def test_what_an_edit_runs_again(finished, room, again):
    """Of experts, difficulty and distillation: none after an edit in a late room."""
    from dvc.repo import Repo

    folder = finished / "distillkit" / room
    path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    text = path.read_text(encoding="utf-8")
    path.write_text(f"{text}# edited\n", encoding="utf-8")
    changed = {name.split("@")[0] for name in Repo().status()}
    path.write_text(text, encoding="utf-8")
    assert changed, f"dvc sees no change in {path}"
    assert changed & {"experts", "score", "distill"} == again


ORDER = {"artifacts/shards.txt", "artifacts/results.txt", "artifacts/inputs/${key}.json"}  # depended on, not read


BY_HASH = {"artifacts/experts", "artifacts/difficulty.safetensors"}  # what artifacts/inputs stands for


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
