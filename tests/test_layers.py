"""The house: rooms in one order, each imports only rooms before it, none is too large; and what the core may import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "distillkit"
ROOMS = [
    "base",
    "process",
    "networks",
    "data",
    "training",
    "matching",
    "selection",
    "methods",
    "evaluation",
    "sources",
    "pipeline",
    "estimates",
    "audit",
    "report",
    "package",
    "generators",
    "hub",
    "foreign",
    "check",
    "look",
    "setup",
    "engines",
    "api",
]
STRANGERS = {(one, other) for one in ("evaluation", "report") for other in ("selection", "methods")}
STRANGERS |= {("hub", "pipeline")}  # they do not know each other
OUTSIDE = {"__init__", "__main__", "cli"}  # modules in no room
FILES, LINES, LONGEST = 12, 2500, 300  # of a folder, of a room, of a file
TOO_LONG = {"cli.py"}  # one function for each sub-command
MODULES = sorted(PACKAGE.rglob("*.py"))
# Tensors in, tensors out: these run where only torch is installed.
CORE = [
    *("base.errors", "base.settings", "base.randomness", "base.device"),
    *("networks.specs", "networks.parameters", "data.images", "data.whitening", "data.augment", "data.selection"),
    *("training.compute", "training.loop", "training.trajectories", "training.features", "training.difficulty"),
    "methods",
    "matching.distillation",
    "evaluation.evaluate",
]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def module_at(parts: tuple[str, ...]) -> Path | None:
    """The file of ``distillkit.a.b``, if there is such a module."""
    path = PACKAGE.joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if parts and file.is_file()), None)


def imported(path: Path) -> set[Path]:
    """Files of the package that ``path`` imports, wherever in the file, with the folders' ``__init__`` on the way."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import; write it in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for first, *parts in (name.split(".") for name in names):
            if first == "distillkit":
                ways = (module_at(tuple(parts[:count])) for count in range(1, len(parts) + 1))
                found |= {file for file in ways if file is not None}
    return found - {path}


def rooms_imported(path: Path) -> set[str]:
    return {room_of(file) for file in imported(path)} - {room_of(path)}


def test_every_module_is_in_a_room():
    assert {room_of(path) for path in MODULES} == {*ROOMS, *OUTSIDE}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room):
    before = set(ROOMS[: ROOMS.index(room)])
    for path in sorted((PACKAGE / room).rglob("*.py")):
        backwards = rooms_imported(path) - before
        assert not backwards, f"{path.relative_to(PACKAGE)} imports {backwards}"


def test_strangers_do_not_know_each_other():
    for path in MODULES:
        for one, other in STRANGERS:
            assert room_of(path) != one or other not in rooms_imported(path), f"{path} imports {other}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_not_too_large(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert sum(lengths.values()) <= LINES
    for folder in {path.parent for path in files}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= FILES, f"{folder} has {len(modules)} files"
    assert not {path.name: length for path, length in lengths.items() if length > LONGEST}


def test_a_module_outside_the_rooms_is_not_too_long():
    for name in OUTSIDE:
        path = PACKAGE / f"{name}.py"
        assert path.name in TOO_LONG or len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room):
    folders = {path.parent for path in (PACKAGE / room).rglob("*.py")}
    for folder in folders:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))), folder


def test_the_page_names_every_room():
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [room for room in ROOMS if f"| `{room}` |" not in page] == []


def test_core_imports_torch_only():
    """The core runs where dvc, datasets, pydantic, click and safetensors are not installed."""
    banned = [
        "dvc",
        "datasets",
        "huggingface_hub",
        "pydantic",
        "click",
        "safetensors",
        "ruamel",
        "matplotlib",
        "sklearn",
        "PIL",
        "tqdm",
        "diffusers",
    ]
    code = f"""
import sys
for name in {banned!r}:
    sys.modules[name] = None
import importlib
for name in {CORE!r}:
    importlib.import_module("distillkit." + name)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_takes_long_to_import_is_imported_when_it_is_used():
    code = "import sys, distillkit.check, distillkit.hub, distillkit.package.build, distillkit.generators.sampling; "
    code += "assert not {'datasets', 'diffusers', 'huggingface_hub', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_does_not_import_torch():
    code = "import sys; sys.argv = ['distillkit', '--help']\nimport distillkit.cli as c\n"
    code += "try: c.main()\nexcept SystemExit as e: assert e.code == 0\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_a_mistake_in_a_command_is_told_before_torch_is_imported(tmp_path):
    wrong = [
        "nope",
        "evaluate --nope",
        "show nowhere",
        "show .",
        "evaluate nowhere",
        "audit nowhere",
        "audit mine.safetensors --shadows 3",
        "audit mine.safetensors --source nowhere",
        "evaluate mine.safetensors --test nowhere",
        "evaluate mine.safetensors --params nowhere.yaml",
        "push nowhere a/b",
        "push . a",
        "push . a/b --tag main",
        "pull a",
        "verify nowhere",
        "verify . --test nowhere",
        "diff . nowhere",
        "look nowhere/a/b",
        "look . --source nowhere",
        "diff . . --picture x.jpg",
        "init --method mmt",
        "init --dataset nowhere",
        "init --name a/b",
        "doctor nowhere",
        "import nowhere.pt --saved-as pixels -o x.safetensors",
        "import mine.safetensors --saved-as pixels -o x.pt",
        "import mine.safetensors --saved-as pixels -o mine.safetensors",
        "import mine.safetensors --saved-as normalised --statistics cifar -o x.safetensors",
        "import mine.safetensors --saved-as pixels --classes cat -o x.safetensors",
        "generator dm new",
        "sample . --per-class 1 -o x.safetensors",
    ]
    (tmp_path / "mine.safetensors").touch()
    code = f"""
import sys
from click.testing import CliRunner
from distillkit.cli import cli
for line in {wrong!r}:
    result = CliRunner().invoke(cli, line.split())
    assert result.exit_code in (1, 2), (line, result.output)
    assert isinstance(result.exception, SystemExit) or "; " in str(result.exception), (line, result.exception)
    assert "torch" not in sys.modules, line
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
