"""A module may import only modules that stand above it in this list; the core knows no edge and no heavy library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "distillkit"
CORE = [
    "errors",
    "names",
    "settings",
    "compute",
    "randomness",
    "networks",
    "whitening",
    "images",
    "parameters",
    "augment",
    "training",
    "kernels",
    "unroll",
    "piecewise",
    "trajectories",
    "scoring",
    "selection",
    "coresets",
    "features",
    "neighbours",
    "nearest",
    "matching",
    "diffusion",
    "generator_networks",
    "generators",
    "protocol",
    "methods",
    "optim",
    "distill",
    "evaluate",
]
EDGE = [
    "interruption",
    "locks",
    "machine",
    "outside",
    "headers",
    "params",
    "files",
    "progress",
    "hub",
    "arguments",
    "leftovers",
    "artifact",
    "summary",
    "expert_files",
    "device",
    "live",
    "executors",
    "regime",
    "metrics",
    "score_file",
    "pictures",
    "readers",
    "folders",
    "own_files",
    "huggingface",
    "sources",
    "recipes",
    "checks",
    "work",
    "checkpoint",
    "figures",
    "report_words",
    "report",
    "manifest",
    "generator_files",
    "generate",
    "front_matter",
    "card_tables",
    "card",
    "recipe_file",
    "package",
    "consistency",
    "describe",
    "reevaluate",
    "dvc_plugin",
    "hub_commits",
    "hub_files",
    "hf_filesystem",
    "push",
    "pull",
    "verify",
    "foreign_files",
    "foreign",
    "differences",
    "difference_views",
    "versions",
    "survey",
    "plan",
    "workflow",
    "filling",
    "init",
    "demand",
    "findings",
    "remotes",
    "lockfile",
    "clean",
    "doctor",
    "repro",
    "stage",
    "cli",
    "__main__",
]
LAYERS = CORE + EDGE
MODULES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Modules of this package that ``path`` imports, wherever in the file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("distillkit.")}
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("distillkit")):
            parts = (node.module or "").removeprefix("distillkit").strip(".").split(".")
            found |= {parts[0]} if parts[0] else {alias.name for alias in node.names}
    return found & set(LAYERS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_upwards(path):
    module = module_of(path)
    if module == "__init__":
        return
    allowed = set(LAYERS[: LAYERS.index(module)]) | ({"methods"} if module == "methods" else set())
    assert imported_modules(path) <= allowed, f"{path.name} imports {imported_modules(path) - allowed}"


def test_the_list_names_every_module():
    assert {module_of(path) for path in MODULES} - {"__init__"} == set(LAYERS)


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
        "evaluate mine.safetensors --test nowhere",
        "evaluate mine.safetensors --params nowhere.yaml",
        "push nowhere a/b",
        "push . a",
        "push . a/b --tag main",
        "pull a",
        "verify nowhere",
        "verify . --test nowhere",
        "diff . nowhere",
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
