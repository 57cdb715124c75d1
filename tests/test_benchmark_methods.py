"""The table of all methods: its recipes can be read, no method is left out, and (slow) a tiny one goes on."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from ruamel.yaml import YAML

from distillkit.data.images import Normalisation, SyntheticSet
from distillkit.methods import METHODS

ROOT = Path(__file__).parents[1]
TABLES = sorted((ROOT / "benchmarks/methods").glob("*.yaml"))
PAGES = sorted(set((ROOT / "docs/methods").glob("*.md")) - {ROOT / "docs/methods/README.md"})


def module(folder: str, monkeypatch):
    """The module `methods` of this folder; there are two."""
    monkeypatch.syspath_prepend(str(ROOT / folder))
    monkeypatch.delitem(sys.modules, "methods", raising=False)
    yield importlib.import_module("methods")
    del sys.modules["methods"]


@pytest.fixture
def benchmark(monkeypatch):
    yield from module("benchmarks", monkeypatch)


@pytest.fixture
def page(monkeypatch):
    yield from module("tools", monkeypatch)


def cell(row: str, ipc: int | None, seed: int, accuracy: float, own: float | None = None) -> dict:
    method = row.removesuffix("-fixed")
    return {
        "row": row,
        "recipe": f"{row}-ipc{ipc}",
        "method": method,
        "ipc": ipc,
        "seed": seed,
        "accuracy": [accuracy, accuracy],
        "own_accuracy": own and [own],
        "soft_labels": False,
        "cpu_s": 2.0 + seed,
        "growth_mb": 10.0,
    }


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_table_can_be_read_by_the_pipeline(benchmark, path):
    data = benchmark.read_table(path)
    assert benchmark.cells_of(data, ())
    for name, row in data["rows"].items():
        assert name == row or name == f"{row}-ipc{data['recipes'][name]['ipc']}"


def test_no_method_is_left_out(benchmark):
    """At 1, 5 and 10 images a class; CCFS has at least two, a learned and a real one."""
    recipes = benchmark.read_table(ROOT / "benchmarks/methods/digits.yaml")["recipes"].values()
    found = {(recipe["method"], recipe.get("ipc")) for recipe in recipes}
    once = {("full", None), ("average", 1)}
    thrice = {(name, ipc) for name in set(METHODS) - {"full", "average", "imported"} for ipc in (1, 5, 10)}
    assert found == (once | thrice) - {("ccfs", 1)}


def test_a_list_of_ipc_is_a_recipe_each(benchmark, tmp_path):
    text = "recipes: {random: {method: random, ipc: [1, 5]}, random-ipc9: {method: random, ipc: 9}}\n"
    rest = "seeds: [3, 4]\nevaluation: {network: {name: convnet, norm: none}, runs: 1, "
    path = tmp_path / "x.yaml"
    path.write_text(text + rest + "training: {steps: 1, batch: 2, lr: 0.1}}\n")
    data = benchmark.read_table(path)
    assert data["rows"] == {"random-ipc1": "random", "random-ipc5": "random", "random-ipc9": "random"}
    cells = benchmark.cells_of(data, ("random-ipc9",))
    assert [(found.name, found.seed) for found in cells] == [("random-ipc9", 3), ("random-ipc9", 4)]
    assert len(benchmark.cells_of(data, ("random",))) == 6
    with pytest.raises(benchmark.ParamsError, match="--only names nobody; expected one of random-ipc1"):
        benchmark.cells_of(data, ("nobody",))


def test_what_is_left_is_told_by_the_same_recipe_of_another_seed(benchmark):
    """By hand: 2 + 7 + 1 = 10 and 1 + 0 + 1 = 2 CPU seconds took 120 s; left are 10 of a: b is kept."""
    a, b = ({"cpu_s": 2, "evaluation_cpu_s": 7}, {"cpu_s": 1, "evaluation_cpu_s": 0})
    places = [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert benchmark.minutes_left({places[0]: a, places[1]: b}, places, {places[3]}, 120) == pytest.approx(2 * 10 / 12)


def test_an_update_changes_its_own_cells_only(benchmark):
    before = {"command": "all", "recipes": {}, "cells": [cell("dm", 1, 0, 0.4), cell("mtt", 1, 0, 0.5)]}
    record = {"command": "some", "recipes": {"mtt": {}}, "cells": [cell("mtt", 1, 0, 0.6), cell("att", 1, 0, 0.7)]}
    found = benchmark.updated(before, record)
    assert [(x["row"], x["accuracy"][0]) for x in found["cells"]] == [("dm", 0.4), ("mtt", 0.6), ("att", 0.7)]
    assert (found["command"], found["recipes"]) == ("all", {"mtt": {}})


def test_the_code_that_a_cell_depends_on_is_its_method_and_what_that_imports(benchmark):
    found = {
        path.name
        for path in benchmark.closure(
            (
                "distillkit.methods.learning.selmatch",
                "distillkit.evaluation.evaluate",
            )
        )
    }
    assert {"selmatch.py", "mtt.py", "window.py", "unroll.py", "loop.py"} <= found
    assert not {"dd.py", "dm.py", "client.py"} & found


def test_tables_are_those_of_the_record(page):
    """By hand: seeds 0.4 and 0.6 make 50.0 ± 14.1; dd is 10 points below random, and 30.0 in its own order."""
    cells = [cell("random", 1, 0, 0.4), cell("random", 1, 1, 0.6)]
    cells += [cell("dd", 1, 0, 0.4, 0.9), cell("dd", 1, 1, 0.4, 0.7), cell("average", 1, 0, 0.75)]
    found = {"cells": cells}
    table = page.accuracy_table(found).splitlines()
    assert table[2] == "| `random` | real images chosen | hard | 50.0 ± 14.1 |"
    assert table[3] == "| `dd` | images learned for an order of their own | hard | 40.0 ± 0.0 |"
    assert table[4] == "| `dd` † | the same, in its own order | hard | 80.0 ± 14.1 |"
    assert page.cost_table(found).splitlines()[2] == "| `random` | 2.5 | 10 |"
    leads = page.lead_table(found)
    assert "| images learned for an order of their own | -10.0 (-10.0) |" in leads
    assert "| averages of real images | +25.0 (+25.0) |" in leads


def test_the_page_shows_the_committed_figures(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = page.PAGE.read_text(encoding="utf-8")
    assert page.written(text) == text


def test_the_page_names_every_method(page):
    text = (ROOT / page.PAGE).read_text(encoding="utf-8")
    assert [name for name in METHODS if not re.search(rf"^\| \[?`{name}`", text, re.MULTILINE)] == []
    assert [path.name for path in PAGES if f"]({path.name})" not in text] == []


def test_a_picture_has_a_column_for_each_class(page, tmp_path):
    images = torch.rand(4, 1, 8, 8)
    names, learned = ("a", "b"), torch.tensor([True, True, False, False])
    normalisation = Normalisation(torch.zeros(1), torch.ones(1))
    rows = torch.full((4,), -1)
    synthetic = SyntheticSet(images, torch.tensor([0, 0, 1, 1]), names, learned, rows, normalisation)
    page.draw(synthetic, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.width == picture.height > 2 * 48


def test_every_method_page_shows_pictures_that_there_are():
    """Small ones."""
    for path in PAGES:
        shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
        assert shown, f"{path.name} shows no picture; run benchmarks/methods.py digits and tools/methods.py"
        for name in shown:
            assert (path.parent / name).stat().st_size < 40_000


TINY = """
seed: 0
seeds: [0, 1]
data: {source: {kind: digits}, per_class: 20}
expert_shards: [0]
experts:
  per_shard: 1
  recipe: {network: {name: convnet, depth: 1, width: 4, norm: batch}, epochs: 2, batch: 32, lr: 0.05}
score: {name: confidence}
recipes:
  random: {method: random, ipc: [2]}
  dm: {method: dm, ipc: [2], optim: {steps: 2, image_lr: 1}}
evaluation:
  network: {name: convnet, depth: 1, width: 4, norm: batch}
  training: {steps: 10, batch: 20, lr: 0.05}
  runs: 1
"""


@pytest.mark.slow
def test_a_tiny_table_from_end_to_end_and_again(tmp_path):
    """What is there is not computed again; what is computed again is the same."""
    (tmp_path / "tiny.yaml").write_text(TINY)
    first = tiny_run(tmp_path, "first.json")
    assert [(found["recipe"], found["seed"]) for found in first["cells"]] == [
        *(("random-ipc2", 0), ("dm-ipc2", 0), ("random-ipc2", 1), ("dm-ipc2", 1))
    ]
    assert all(found["peak_mb"] > found["growth_mb"] >= 0 and found["cpu_s"] >= 0 for found in first["cells"])
    assert str(tmp_path) not in json.dumps(first)
    assert tiny_run(tmp_path, "second.json", "--jobs", "2")["cells"] == first["cells"]
    for path in (tmp_path / "kept").glob("*.json"):
        path.unlink()
    third = tiny_run(tmp_path, "third.json", "--jobs", "2")
    assert [found["accuracy"] for found in third["cells"]] == [found["accuracy"] for found in first["cells"]]


def tiny_run(folder: Path, out: str, *arguments: str) -> dict:
    command = [sys.executable, str(ROOT / "benchmarks/methods.py"), "digits", "--file", str(folder / "tiny.yaml")]
    command += ["--kept", str(folder / "kept"), "--out", str(folder / out), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "| dm-ipc2" in done.stdout
    return json.loads((folder / out).read_text())


@pytest.mark.slow
def test_what_goes_wrong_in_a_cell_is_one_line(tmp_path):
    recipes = YAML(typ="safe").load(TINY)
    recipes["recipes"] = {"random": {"method": "random", "ipc": [99]}}
    with (tmp_path / "tiny.yaml").open("w") as file:
        YAML().dump(recipes, file)
    command = [sys.executable, str(ROOT / "benchmarks/methods.py"), "digits", "--file", str(tmp_path / "tiny.yaml")]
    done = subprocess.run([*command, "--kept", str(tmp_path / "kept")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(r"^Error: random-ipc99, seed 0: ipc is 99, but class '0' has 20", done.stderr, re.MULTILINE)
