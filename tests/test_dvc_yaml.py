"""dvc.yaml: every stage depends on the code that can change its result, and on no other."""

import re
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_layers import PACKAGE, ROOMS, imported, room_of

from distillkit.base.errors import ArtifactError
from distillkit.data.leftovers import FOLDERS
from distillkit.pipeline import code

ROOT = PACKAGE.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
SCRIPTS = sorted((ROOT / "stages").glob("*.py"))
REFUSES_ONLY = {PACKAGE / f"pipeline/{name}.py" for name in ("__init__", "stage", "checks", "code")}
LATE = {*ROOMS[ROOMS.index("evaluation") :], "cli"} - {"pipeline"}  # an edit re-runs no distillation


def reached(script: Path) -> set[Path]:
    """Files of the package that ``script`` imports, directly or not, and that can change its result."""
    found: set[Path] = set()
    waiting = imported(script)
    while waiting:
        path = waiting.pop()
        if path not in found | REFUSES_ONLY and room_of(path) != "process":
            found.add(path)
            waiting |= imported(path)
    return found


def stage_named(name: str) -> dict:
    return STAGES[name].get("do", STAGES[name])


def script_of(name: str) -> Path:
    return ROOT / re.search(r"stages/\w+\.py", stage_named(name)["cmd"]).group()


@pytest.mark.parametrize("name", sorted(set(STAGES) - {"code"}))
def test_stage_depends_on_the_list_of_its_code(name):
    deps = stage_named(name)["deps"]
    assert [dep for dep in deps if "code" in dep] == [f"artifacts/code/{script_of(name).stem}.txt"]
    assert all(dep.startswith(("artifacts", "metrics")) for dep in deps)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_list_names_the_code_that_a_stage_can_run(script):
    listed = set(code.files_of(script))
    assert {path for path in listed if path.suffix == ".py"} == reached(script) | {script}
    assert not {path for path in listed if path.suffix == ".pyc"}


def test_list_names_templates_too():
    lines = code.listing(ROOT / "stages/package.py").splitlines()
    assert lines[0].endswith("  stages/package.py")
    assert any(line.endswith("  distillkit/package/card.md.jinja") for line in lines)
    assert "report/report.html.jinja" in code.listing(ROOT / "stages/report.py")


def test_only_statements_count(tmp_path):
    """The same text below without what is for readers; what is inside another string stays."""
    text = '''"""A module."""  # with a remark

import os  # noqa

VALUE = """a

# b"""


class Empty(Exception):
    """One paragraph.

    Another.
    """


def two(x):  # of them
    "One line."
    # a remark
    return f"{x} # {VALUE}", """c"""
'''
    kept = [
        *("import os", 'VALUE = """a', "", '# b"""', "class Empty(Exception):", "def two(x):"),
        '    return f"{x} # {VALUE}", """c"""',
    ]
    assert code.statements(text).split("\n")[:-1] == kept
    for path in (ROOT / "distillkit").rglob("*.py"):
        bare = code.statements(path.read_text(encoding="utf-8"))
        assert code.statements(bare) == bare, path


def test_a_script_that_is_not_python(tmp_path):
    (tmp_path / "mine.py").write_text("import os\ndef\n")
    with pytest.raises(ArtifactError, match=r"^mine.py, line 2: invalid syntax; expected Python; correct it$"):
        code.files_of(tmp_path / "mine.py")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_unfinished_work_depends_on_the_code_of_its_stage(script):
    """So that an edit elsewhere throws no checkpoint away."""
    text = script.read_text(encoding="utf-8")
    assert ("unfinished(" in text) == ("files_of(Path(__file__))" in text)


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
        patch.setattr(code, "PACKAGE", folder / "distillkit")
        list_code(folder)
        repo = Repo.init(no_scm=True)
        named = [Path(part.fs_path) for stage in repo.index.stages for part in (*stage.outs, *stage.deps)]
        for path in (path for path in named if not path.exists()):
            file = path if path.suffix else path / "file.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(path.name)
        repo.commit(force=True)
        assert repo.status() == {}
        yield folder


def list_code(folder: Path) -> None:
    """What the stage ``code`` does."""
    (folder / "artifacts/code").mkdir(parents=True, exist_ok=True)
    for script in (folder / "stages").glob("*.py"):
        (folder / f"artifacts/code/{script.stem}.txt").write_text(code.listing(script))


@pytest.mark.parametrize(
    ("edited", "again"),
    [
        (LATE, set()),
        ({"methods"}, {"distill"}),
        ({"training"}, {"experts", "score", "distill"}),
        ({"cli"}, set()),
        ({"training/executors.py"}, {"experts", "distill"}),
    ],
    ids=["late", "methods", "training", "cli", "executors"],
)
def test_what_an_edit_runs_again(finished, edited, again):
    """Of experts, difficulty and distillation: none after an edit in all late rooms; asked once `code` has run."""
    from dvc.repo import Repo

    paths = [finished / "distillkit" / name for name in edited]
    texts = {path: path.read_text("utf-8") for path in map(initial, paths)}
    for path, text in texts.items():
        path.write_text(f"{text}EDITED = True\n", encoding="utf-8")
    assert edited != LATE or set(Repo().status()) == {"code"}
    list_code(finished)
    changed = {name.split("@")[0] for name in Repo().status()}
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    list_code(finished)
    assert changed & {"experts", "score", "distill"} == again
    assert edited != {"cli"} or changed == {"code"}, "an edit of the command runs nothing again"


def initial(path: Path) -> Path:
    """The file itself, or the first of a room."""
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@pytest.mark.parametrize("recipes", [[], ["mtt-ipc5", "random-ipc5"]])
def test_an_audit_is_a_stage_of_the_recipes_that_params_name(finished, recipes):
    """None by default: nothing runs then. Otherwise its own stages, and the one that knows which results there are."""
    from dvc.repo import Repo

    path = finished / "params.yaml"
    text = path.read_text(encoding="utf-8")
    assert "\n  recipes: []             # those to audit" in text
    path.write_text(text.replace("\n  recipes: []", f"\n  recipes: {recipes}"), encoding="utf-8")
    changed = set(Repo().status())
    path.write_text(text, encoding="utf-8")
    assert changed == ({f"audit@{name}" for name in recipes} | {"results"} if recipes else set())


ORDER = {"artifacts/shards.json", "artifacts/recipes.json", "artifacts/inputs/${key}.json"}  # depended on, not read


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
    data -= {path for path in data if (path in ORDER or path.startswith("artifacts/code/")) and path not in given}
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
