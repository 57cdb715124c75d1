"""A method in somebody else's package, installed by pip: from Python, and from params.yaml of a pipeline."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import distillkit as dk
from distillkit.base.errors import ParamsError
from distillkit.methods import names
from distillkit.pipeline.own_code import own_code

ROOT = Path(__file__).parents[1]
PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "tiny-method"
version = "0.1"

[project.entry-points."distillkit.methods"]
darkest = "tiny_method.darkest:Darkest"
broken = "tiny_method.darkest:About"
absent = "no_such:Thing"
random = "tiny_method.darkest:Darkest"
"""
METHOD = """
from typing import ClassVar
from distillkit.base.about import About
from distillkit.base.settings import settings
from distillkit.data.images import real_subset
from distillkit.data.selection import select_easiest
from tiny_method.rule import brightness

@settings
class Darkest:
    about: ClassVar = About("Darkest", "Of every class, the `ipc` darkest real images.", experts=False)
    ipc: int
    power: int = 2

    @staticmethod
    def defaults(ipc, facts):
        return {"power": 3}

    def init(self, material, generator):
        real = material.real
        rows = select_easiest(real.labels, brightness(real.pixels()), real.class_names, self.ipc)
        return real_subset(real, rows, material.normalisation)
"""
NETWORK = {"name": "convnet", "depth": 1, "width": 4}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that pip has installed the package into: from its source, without a network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    (source / "tiny_method").mkdir()
    (source / "pyproject.toml").write_text(PROJECT)
    (source / "tiny_method/__init__.py").write_text("")
    (source / "tiny_method/darkest.py").write_text(METHOD)
    (source / "tiny_method/rule.py").write_text("def brightness(pixels):\n    return pixels.mean((1, 2, 3))\n")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture
def installed(site, monkeypatch):
    """The package, as every Python in an environment with it has it."""
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "tiny_method"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def data():
    return dk.fetch("digits", per_class=6, test_per_class=3)


def test_from_python(installed, data, tmp_path):
    small = dk.distill(data, "darkest", 2, network=NETWORK)
    brightness = data.train.pixels().mean((1, 2, 3))
    assert small.method == "darkest" and small.params["power"] == 3 and not small.learned.any()
    for label in range(10):
        rows = (data.train.labels == label).nonzero()[:, 0]
        darkest = rows[brightness[rows].argsort()[:2]]
        assert sorted(small.source_row[small.labels == label].tolist()) == sorted(darkest.tolist())
    report = dk.evaluate(small, data.test, network=NETWORK, runs=2, steps=2)
    dk.save_package(tmp_path / "dark", data, {"darkest-ipc2": (small, report)})
    assert "**Darkest.** Of every class, the `ipc` darkest real images." in (tmp_path / "dark/README.md").read_text()


def test_as_an_object_and_a_class(installed, data):
    from tiny_method.darkest import Darkest

    assert dk.distill(data, Darkest(2, power=5), network=NETWORK).params == {"method": "darkest", "ipc": 2, "power": 5}
    assert dk.distill(data, Darkest, 2, network=NETWORK).params["power"] == 3


def test_its_whole_package_counts_for_work_that_is_kept(installed, data, tmp_path):
    dk.distill(data, "darkest", 1, network=NETWORK, folder=tmp_path)
    assert [name for name, _ in own_code('{"method":"darkest"}')] == ["__init__.py", "darkest.py", "rule.py"]


def test_names_of_ours_stay_ours(installed, data):
    assert names()[-3:] == ["absent", "broken", "darkest"]
    assert dk.distill(data, "random", 1, network=NETWORK).params == {"method": "random", "ipc": 1}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "^method 'broken' of tiny-method is tiny_method.darkest:About; expected a class of settings"),
        ("absent", r"^method 'absent' of tiny-method cannot be imported \(No module named 'no_such'\)"),
    ],
)
@pytest.mark.usefixtures("installed")
def test_entry_points_that_are_no_methods(data, name, message):
    with pytest.raises(ParamsError, match=message):
        dk.distill(data, name, 2)


def test_from_params_yaml(installed, data, tmp_path):
    """A stage in a process of its own writes the bytes that Python writes."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "stages", project / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    experts = {"network": {**NETWORK, "norm": "batch"}, "epochs": 1, "batch": 32, "lr": 0.05}
    recipe = {"method": "darkest", "ipc": 2, "power": 3}
    params = {
        "seed": 0,
        "data": {"source": {"kind": "digits"}},
        "expert_shards": [0],
        "experts": {"per_shard": 1, "recipe": experts},
        "recipes": {"dark": recipe},
    }
    YAML().dump(params, project / "params.yaml")
    data.save(project / "real.safetensors")
    dk.train_experts(data, **experts, count=1, folder=project / "runs")
    [shard] = project.glob("runs/*.safetensors")
    shard.rename(project / "shard-0.safetensors")
    command = ["stages/distill.py", "dark", "real.safetensors", ".", "difficulty", "dark.safetensors", "loss.csv"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, *command], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    dk.distill(data, "darkest", 2, name="dark", network=NETWORK).save(project / "mine.safetensors")
    assert (project / "dark.safetensors").read_bytes() == (project / "mine.safetensors").read_bytes()
