"""The commands of docs/own-data.md, with three kinds of digits for flowers."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from pages import desk, follow
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

LONG = ["Run it", "Add a recipe", "Your own difficulty scores"]


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    return desk(os.environ, tmp_path)


@pytest.fixture
def repository(tmp_path, environment) -> Path:
    """A Git and DVC repository; in flowers/, 16 training and 8 test images of 12x12 in each of three classes."""
    folder = tmp_path / "repository"
    digits = load_digits()
    for digit, name in enumerate(("daisy", "rose", "tulip")):
        for place, row in enumerate(np.flatnonzero(digits.target == digit)[:24]):
            path = folder / f"flowers/{'train' if place < 16 else 'test'}/{name}/{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[row] * 15).astype("uint8")).convert("RGB").resize((12, 12)).save(path)
    script = "git init -q && dvc init -q && git add -A .dvc && git commit -qm first"
    subprocess.run(["sh", "-ec", script], cwd=folder, env=environment, check=True)
    return folder


@pytest.mark.long
def test_up_to_the_first_look(repository, environment):
    shown = follow("own-data.md", repository, environment, but=LONG)
    assert "class_names: ['daisy', 'rose', 'tulip']" in shown and "train_images: U8 (48, 3, 12, 12)" in shown
    assert shown.count("ok       memory: ") == 2, "doctor, before and after the images are fetched"
    stages = YAML(typ="safe").load(repository / "distill/dvc.yaml")["stages"]
    assert "../flowers" in stages["fetch"]["deps"]
    assert stages_run(shown) == ["code", "fetch"]


def stages_run(shown: str) -> list[str]:
    return re.findall(r"^Running stage '(?:.*:)?(.+)':$", shown, re.MULTILINE)


@pytest.mark.slow
def test_all_of_it(repository, environment):
    """Every command; what a new recipe and other scores run again is what the page says."""
    shown = follow("own-data.md", repository, environment)
    first, second, third, _ = (stages_run(part) for part in shown.split("git add -A && git commit"))
    assert first[:2] == ["code", "fetch"] and len(first) == 17
    assert second == ["inputs", "distill@confident-ipc2", "evaluate@confident-ipc2", "results", "report", "package"]
    assert third[:2] == ["contrast", "score"] and "distill@selmatch-ipc2" in third
    assert not {"fetch", "experts@0", "reference", "evaluate@random-ipc2"} & set(third)
    metrics = {path.stem for path in (repository / "distill/metrics").glob("*.json")}
    assert metrics == {"full", "random-ipc2", "selmatch-ipc2", "confident-ipc2"}
    assert (repository / "distill/artifacts/hub/flowers-distilled/manifest.json").is_file()
