"""Pipelines with many recipes and many classes: what people look at stays small, and says what it leaves out."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from datasets import ClassLabel, DatasetInfo, Features
from datasets import Image as ImageColumn
from PIL import Image

from distillkit.check import show
from distillkit.check.diff.result import PackageDifference, Version
from distillkit.check.diff.text import MOST_ROWS, package_lines
from distillkit.data.files.artifact import save_synthetic
from distillkit.data.images import Normalisation, SyntheticSet
from distillkit.package.card import card_text
from distillkit.package.manifest import open_package
from distillkit.report import page, results
from distillkit.report.pictures import preview_grid
from distillkit.report.table import leading, markdown_table
from distillkit.report.words import names

RECIPES, CLASSES = 200, 1000
METHODS = ("mtt", "dm", "random", "window", "selmatch")
EVALUATION = {
    "network": {"name": "convnet", "norm": "batch", "depth": 4, "width": 32},
    "training": {"steps": 200, "batch": 50, "lr": 0.05},
    "runs": 5,
}


def recipes() -> dict[str, dict]:
    """A full set, and 199 recipes of five methods with one and two images per class; every one a little better."""
    made = {f"recipe-{n:03}": {"method": METHODS[n % 5], "ipc": 1 + n % 2} for n in range(RECIPES - 1)}
    return {"full": {"method": "full"}, **made}


def metrics(number: int) -> dict:
    """As evaluate writes them for 1,000 classes."""
    mean = {"mean": 0.1 + number / 1000, "std": 0.01}
    return {
        "accuracy": mean | {"runs": 5},
        **dict.fromkeys(("easy", "middle", "hard"), mean),
        "class_accuracy": {f"class {label}": 0.5 for label in range(CLASSES)},
        "images": {"total": CLASSES, "real": 0, "learned": CLASSES},
    }


def a_set(side: int, classes: int = CLASSES) -> SyntheticSet:
    """An image of noise for each class, which no PNG makes smaller."""
    count, normalisation = classes, Normalisation(torch.zeros(3), torch.ones(3))
    images = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    labels, learned = torch.arange(count), torch.ones(count, dtype=torch.bool)
    class_names = tuple(f"n{label:08}, a class with a long name" for label in range(classes))
    return SyntheticSet(images, labels, class_names, learned, torch.full((count,), -1), normalisation)


@pytest.fixture(scope="module")
def rows() -> list[results.Row]:
    return results.rows({name: metrics(number) for number, name in enumerate(recipes())}, recipes())


def test_the_rows_to_look_at_first(rows):
    """Of five methods with one and with two images per class the last made is the best, and the full set."""
    first = [row.recipe for row in leading(rows)]
    best = {f"recipe-{number:03}" for number in range(189, 199)}
    assert set(first) == {*best, "full"} and first == [row.recipe for row in rows if row.recipe in first]
    assert {row.recipe for row in leading(rows, 4)} == {"full", "recipe-192", "recipe-197", "recipe-198"}
    assert leading(rows[:30]) == rows[:30], "few rows are all shown"
    assert names(rows[:13]).count(",") == 12 and names(rows[:20]).endswith(" and 8 more")


@pytest.mark.long
def test_a_report_of_200_recipes_and_1000_classes(rows, tmp_path):
    """Each picture has 20 classes and 100 kB of noise; all of them would make 27 MB of page."""
    preview_grid(a_set(32), tmp_path / "preview.png")
    curve = [(step, 1 / (1 + step)) for step in range(0, 1000, 10)]
    page.write_report(
        tmp_path / "reports",
        rows=rows,
        evaluation=EVALUATION,
        source={"id": "wide"},
        loss_curves={row.recipe: curve for row in rows if row.method in ("mtt", "dm", "selmatch")},
        training_curves={row.recipe: curve for row in rows},
        previews={row.recipe: tmp_path / "preview.png" for row in rows},
        scans={row.recipe: {"0.2": 0.1, "0.5": 0.2} for row in rows},
    )
    text = (tmp_path / "reports/report.html").read_text()
    assert len(text) < 5e6
    first, rest = text.split("<details>", 1)
    assert first.count('<td class="name">recipe-') == 10 and "11 of 200 recipes" in rest.split("</p>")[0] + first
    assert rest.split("</details>")[0].count('<td class="number accuracy">') == RECIPES
    shown = len(re.findall(r'alt="Images of', text))
    assert 1 <= shown <= 11 and f"{RECIPES - shown} more sets have a picture in artifacts/previews" in text
    for name in ("accuracy", "coverage", "loss", "training", "preview"):
        with Image.open(tmp_path / f"reports/{name}.png") as picture:
            wide, high = picture.size
        assert wide <= 1400 and high <= 1700, name
    assert (tmp_path / "reports/table.md").read_text().count("| recipe-") >= RECIPES - 1
    assert len(json.loads((tmp_path / "reports/summary.json").read_text())) == 3, "every number is there for DVC"


def test_a_page_of_large_photographs(tmp_path):
    """A preview of 4 MB, as 20 classes of 96 pixels have, becomes a smaller JPEG in the page; one at least is shown."""
    noise = torch.randint(256, (1200, 1200, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(tmp_path / "large.png")
    assert (tmp_path / "large.png").stat().st_size > 4e6
    found = page.within(dict.fromkeys(("a", "b", "c"), tmp_path / "large.png"), most=2**21)
    assert list(found) in (["a"], ["a", "b"]) and found["a"].startswith("data:image/jpeg;base64,")
    Image.new("RGB", (10, 10)).save(tmp_path / "small.png")
    assert page.within({"small": tmp_path / "small.png"})["small"].startswith("data:image/png;base64,")


def test_the_table_of_a_readme(rows):
    assert markdown_table(rows).count("\n") == RECIPES + 2
    few = markdown_table(rows, leading(rows))
    assert few.count("\n") == 11 + 2 and "| recipe-198 |" in few.replace("*", "")
    assert [line for line in markdown_table(rows).splitlines() if line in few.splitlines()] == few.splitlines()


def test_the_card_of_200_recipes_and_1000_classes(first):
    """What is not folded is as long as that of a small package; every recipe and class is there."""
    package = open_package(first)
    names = [f"a long name of class {label}" for label in range(CLASSES)]
    one = package.recipe_json(package.manifest.default) | {"class_names": names}
    every = [
        one | {"name": name, "method": recipe["method"], "params": recipe, "inputs": {f"distilled/{name}": "0" * 32}}
        for name, recipe in recipes().items()
    ]
    features = Features({"image": ImageColumn(), "label": ClassLabel(names=one["class_names"])})
    infos = dict.fromkeys(recipes(), DatasetInfo(features=features))
    page = card_text("wide", every, "recipe-198", infos).split("---\n", 2)[2]
    seen, folded = re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL), page.count("<details>")
    assert len(seen) < 15_000 and seen.count("\n") < 250 and folded >= 4
    assert "1,000 classes" in seen and "a long name" not in seen and seen.count("recipe-") < 20
    assert all(page.count(f"`{name}`") >= 3 for name in recipes()) and page.count("a long name of class") == CLASSES


def test_a_set_of_1000_classes_in_lines(tmp_path):
    save_synthetic(tmp_path / "wide.safetensors", a_set(8), {"recipe": "mtt", "method": "mtt", "params": {}})
    lines = list(show.lines(show.describe(tmp_path / "wide.safetensors")))
    assert len(lines) < 20 and max(map(len, lines)) < 300 and "1,000 images of 3x8x8 in 1,000 classes" in lines[1]


def test_a_package_of_200_recipes_in_lines():
    described = {
        "recipe": "a", "method": "mtt", "images": {"total": 1, "learned": 1, "real": 0}, "image_shape": [3, 8, 8],
        "classes": 1000, "normalisation": "channel", "soft_labels": None, "schedule": None,
        "accuracy": {"mean": 0.5, "std": 0.1, "runs": 3},
    }  # fmt: skip
    every = dict.fromkeys(recipes(), described)
    package = {"path": "p", "kind": "package", "bytes": 1, "files": 900, "default": "full", "recipes": every}
    lines = list(show.lines(package | {"absent": [f"absent-{number}" for number in range(40)]}))
    assert len(lines) == 3 + show.SHOWN + 1 and lines[-1] == "  and 170 recipes more; --json shows all"
    assert lines[2].endswith("absent-29 and 10 more")


def test_a_difference_of_200_recipes_in_lines():
    same = SimpleNamespace(same=True)
    every = PackageDifference(common=dict.fromkeys(recipes(), same), added={}, removed={})  # type: ignore[arg-type]
    assert list(package_lines(every)) == [f"every recipe is the same: {', '.join([*recipes()][:20])} and 180 more"]
    version = Version("new", a_set(8, 2), {}, None)
    found = list(package_lines(PackageDifference(dict.fromkeys(recipes(), version), {}, {})))
    assert len(found) == 1 + MOST_ROWS + 1 and found[-1] == "… and 160 more recipes"
