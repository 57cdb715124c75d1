"""The new method that CONTRIBUTING shows is one, by its file and its line alone."""

import re
import sys
from pathlib import Path

import torch

from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.data.images import RealData
from distillkit.data.origin import SourceInfo
from distillkit.methods import METHODS
from distillkit.package.card_words import about
from distillkit.pipeline.recipes import read_recipe

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_a_new_method_is_one_file_and_one_line(monkeypatch, tmp_path, material):
    (tmp_path / "brightest.py").write_text(re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
    monkeypatch.syspath_prepend(tmp_path)
    name, cls = re.search(r'`"(\w+)": (\w+)`, in `METHODS`', PAGE).groups()
    monkeypatch.setitem(METHODS, name, getattr(__import__("brightest"), cls))
    monkeypatch.delitem(sys.modules, "brightest")

    recipe = read_recipe({"recipes": {"mine": {"method": name, "ipc": 2}}}, "mine")
    synthetic = recipe.method.init(material, seeded(0))
    assert synthetic.images_per_class == [2] * 10
    brightness = material.real.pixels().mean((1, 2, 3))
    for label in range(10):
        best = brightness[material.real.labels == label].topk(2).values
        assert torch.equal(synthetic.images[synthetic.labels == label].mean((1, 2, 3)).sort(descending=True)[0], best)
    assert about(name).title == "Brightest"

    data = RealData(material.real, material.real, material.normalisation, SourceInfo("digits", "digits", "1", "cc"))
    save_synthetic(tmp_path / "set", synthetic, provenance_of("mine", name, recipe.params, 0, data))
    assert torch.equal(load_synthetic(tmp_path / "set")[0].images, synthetic.images)
