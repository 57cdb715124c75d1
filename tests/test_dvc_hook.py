"""The hook that tells plain ``dvc`` of ``hf://``: what it costs those who do not use it, and what it does elsewhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOOK = Path(__file__).parents[1] / "hook"


def python(code: str, *options: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


def output(code: str, *options: str, **variables: str) -> str:
    done = python(code, *options, **variables)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def test_it_is_installed():
    """If not: ``pip install -e .`` again."""
    assert output("import sys; print('distillkit_dvc_hook' in sys.modules)") == "True"
    found = output("import distillkit_dvc_hook as hook; print(hook.__file__)")
    assert Path(found).read_text() == (HOOK / "distillkit_dvc_hook.py").read_text()


def test_the_start_of_python_imports_nothing_for_it():
    code = "import sys; known = set(sys.modules); import distillkit_dvc_hook; print(*sorted(set(sys.modules) - known))"
    assert output(code, "-S", PYTHONPATH=str(HOOK)) == "distillkit_dvc_hook"
    lines = (HOOK / "distillkit_dvc_hook.pth").read_text().splitlines()
    assert lines == ["import distillkit_dvc_hook"], "each line is run at every start"


def test_dvc_without_hf_imports_no_client():
    code = "import sys, dvc.repo; print([name for name in ('huggingface_hub', 'torch') if name in sys.modules])"
    assert output(code) == "[]"


def test_without_dvc_nothing_happens():
    code = (
        "import sys, json, distillkit_dvc_hook as hook; print(sys.meta_path[0] is hook.Watcher, 'dvc' in sys.modules)"
    )
    assert output(code, "-S", PYTHONPATH=str(HOOK)) == "True False"
    assert "No module named" in python("import dvc_objects.fs", "-S", PYTHONPATH=str(HOOK)).stderr


@pytest.mark.parametrize(
    ("module", "content"),
    [
        ("dvc_objects/fs/__init__.py", "known = {}"),
        ("dvc/config_schema.py", "SCHEMA = {'remote': 'another'}"),
        ("dvc/config_schema.py", "SCHEMA = {'remote': {str: print}}"),
        ("dvc/repo/push.py", "def send(): pass"),
    ],
)
def test_another_dvc_is_left_as_it_is(tmp_path, module, content):
    path = tmp_path / module
    path.parent.mkdir(parents=True)
    path.write_text(f"{content}\nstate = repr(globals().get('SCHEMA'))\n")
    for folder in path.relative_to(tmp_path).parents:
        (tmp_path / folder / "__init__.py").touch()
    name = module.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    code = f"import {name} as module; print(module.state == repr(getattr(module, 'SCHEMA', None)))"
    assert output(code, PYTHONPATH=str(tmp_path)) == "True"


def test_where_the_filesystem_is_not_known_dvc_refuses_the_address():
    code = """
import dvc_objects.fs
del dvc_objects.fs.known_implementations["hf"]
from dvc.cli import main
raise SystemExit(main(["get-url", "hf://datasets/someone/set/file.txt"]))
"""
    done = python(code, DVC_NO_ANALYTICS="1")
    assert done.returncode != 0
    assert "hf:// does not fit this version of DVC" in done.stderr
    assert "Unsupported URL type hf://" in done.stderr


def test_it_watches_what_the_plugin_adds_to():
    from distillkit.hub.dvc.plugin import ADDITIONS

    sys.path.insert(0, str(HOOK))
    try:
        import distillkit_dvc_hook as hook
    finally:
        sys.path.remove(str(HOOK))
    assert set(ADDITIONS) == hook.WATCHED
