"""docs/python.md and docs/quickstart.ipynb: their code runs, and the notebook holds what it showed."""

import json
import re
from pathlib import Path

import pytest
from pages import DOCS

from distillkit.check.verify import verify
from distillkit.networks import factories
from distillkit.package.manifest import open_package

PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = {  # numbers with which the notebook takes seconds
    "epochs=12, count=4": "epochs=3, count=1",
    '"selmatch", ipc=10,': '"selmatch", ipc=10, window_start=0.4, optim={"steps": 2},',
    "runs=3": "runs=2, steps=5",
}


def run(code: str, names: dict) -> None:
    exec(compile(code, "page", "exec"), names)


def follow(page: str) -> dict:
    """Run all Python of a page in the working directory; the names that it leaves."""
    names = {"__name__": "page"}
    for block in PYTHON.findall((DOCS / page).read_text()):
        run(block, names)
    return names


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(factories, "FACTORIES", {})


@pytest.mark.long
def test_the_page(capsys):
    names = follow("python.md")
    shown = capsys.readouterr()
    assert "Data: 240 training and 90 test images of 3x16x16 in 3 classes, flowers" in shown.out
    assert "mtt-ipc2 takes matching: {" in shown.err and "Evaluation: accuracy " in shown.out
    assert names["report"].mean > 0.9 and names["picture"].width
    package = open_package(Path("flowers-distilled"))
    assert verify(package, "mtt-ipc2", test=Path("real.safetensors"), runs=None, seed=0).matches


def code_cells() -> list:
    cells = json.loads((DOCS / "quickstart.ipynb").read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_in_few_steps():
    code = "\n".join("".join(cell["source"]) for cell in code_cells())
    for numbers, fewer in QUICK.items():
        assert numbers in code
        code = code.replace(numbers, fewer)
    names = {"__name__": "page"}
    run(code, names)
    assert len(names["small"]) == 100 and Path("digits-small/README.md").is_file()


def test_the_notebook_holds_what_it_showed():
    cells = code_cells()
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(cell["outputs"] and cell["execution_count"] for cell in cells), "python tools/notebook.py"
    assert {output["output_type"] for output in outputs} <= {"execute_result", "stream"}
    assert "stderr" not in {output.get("name") for output in outputs}
    assert "image/png;base64" in str(outputs[0])


@pytest.mark.slow
def test_the_notebook_gives_what_it_showed(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    again = nbformat.read(DOCS / "quickstart.ipynb", as_version=4)
    before = [cell.source for cell in again.cells]
    client.NotebookClient(again, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [cell.source for cell in again.cells] == before
    assert "Evaluation: accuracy 9" in str(again.cells)
