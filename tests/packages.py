"""Small packages with true claims (real digits, trained on for a moment), and processes that know one Hub."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from hub_server import Hub
from interpreter import PYTHON

from distillkit.base.files import pretty_json
from distillkit.base.randomness import seeded
from distillkit.check.evaluation import measure
from distillkit.data.files.artifact import provenance_of, save_synthetic
from distillkit.data.files.packed import Storage
from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.rounding import stored
from distillkit.matching.method import Material
from distillkit.networks.specs import NetworkSpec
from distillkit.package.build import Entry, build
from distillkit.package.croissant import file_object
from distillkit.package.folders import CROISSANT, MANIFEST
from distillkit.package.manifest import Manifest, manifest_of, records_in
from distillkit.selection.random_subset import RandomSubset
from distillkit.sources.fetch import ZCA, ChannelWise, DataSpec, fetch
from distillkit.sources.readers import DigitsSource
from distillkit.training.loop import TrainingRecipe

BY_CHANNEL = ChannelWise()
EVALUATION = EvaluationRecipe(NetworkSpec("convnet", "batch", depth=1, width=4), TrainingRecipe(20, 20, 0.05), runs=3)

AREA = {"auc": {"value": 0.583, "standard_error": 0.006}}
FOUND = {"value": 0.06, "standard_error": 0.005}
AUDIT = {
    "recipe": "random-ipc2",
    "set": {"images": 20, "copies": 20, "near_copies": 20},
    "attack": {
        "shadows": 16,
        "random": {**AREA, "tpr_at_1_in_100": FOUND},
        "exposed": {**AREA, "tpr_at_1_in_100": FOUND},
        "better_than_chance": True,
    },
}


def digits_data(normalisation: ChannelWise | ZCA = BY_CHANNEL) -> RealData:
    """Eight digits a class to train, thirty to test."""
    return fetch(DataSpec(DigitsSource(), per_class=8, test_per_class=30, normalisation=normalisation))


def build_package(
    folder: Path,
    ipcs: tuple[int, ...] = (1, 2),
    name: str = "tiny",
    seed: int = 0,
    learned: float = 0.0,
    change: Callable[[SyntheticSet], SyntheticSet] = lambda synthetic: synthetic,
    normalisation: ChannelWise | ZCA = BY_CHANNEL,
    sign_offs: dict[str, str] | None = None,
    audit: dict[str, Any] | None = None,
    storage: Storage = "float32",
    **claim: float,
) -> Path:
    """A package of random subsets, with ``learned`` added to every pixel, then ``change`` made; its accuracies are
    measured, unless ``claim`` overrides them; ``audit`` is that of the last."""
    real, work = digits_data(normalisation), folder.parent / f"{folder.name}-artifacts"
    entries = []
    for ipc in ipcs:
        params: dict[str, Any] = {"method": "random", "ipc": ipc}
        synthetic = RandomSubset(ipc).init(Material(real.train, real.normalisation), seeded(seed))
        synthetic = moved(synthetic, learned) if learned else synthetic
        synthetic = change(synthetic)
        recipe, artifact = f"random-ipc{ipc}", work / f"random-ipc{ipc}.safetensors"
        save_synthetic(artifact, synthetic, provenance_of(recipe, "random", params, seed, real))
        found = measure(stored(synthetic, storage), real.test, EVALUATION, None, 0)["accuracy"]
        metrics = {"accuracy": found | (claim_of(**claim) if claim else {}), "storage": storage}
        entries.append(Entry(recipe, artifact, metrics, params, audit if ipc == ipcs[-1] else None))
    build(
        folder,
        name=name,
        entries=entries,
        packaged=[entry.name for entry in entries],
        default=entries[-1].name,
        real=real,
        inputs={},
        evaluation=asdict(EVALUATION),
        pipeline={},
        sign_offs=sign_offs or {},
        storage=storage,
    )
    return folder


def claim_of(mean: float, std: float) -> dict[str, float]:
    """Three networks with this mean and, exactly, this sample standard deviation."""
    runs = {"run_1": round(mean - std, 6), "run_2": mean, "run_3": round(mean + std, 6)}
    return {"mean": mean, "std": std, "runs": 3, **runs}


def moved(synthetic: SyntheticSet, by: float) -> SyntheticSet:
    return replace(synthetic, images=synthetic.images + by, learned=synthetic.learned | True)


def half_moved(synthetic: SyntheticSet) -> SyntheticSet:
    """Every second image learned, a little and out of [0, 1]."""
    learned = torch.arange(len(synthetic)) % 2 == 1
    noise = 0.1 * torch.randn(synthetic.images.shape, generator=seeded(5))
    return replace(synthetic, images=synthetic.pixels() + learned[:, None, None, None] * noise, learned=learned)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, by its path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(hub: Hub, home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that knows only this Hub."""
    return subprocess.run(
        [PYTHON, *arguments],
        env=hub.environment(home) | environment,
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=120,
    )


def rewritten(folder: Path, target: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """A copy with one file changed and a manifest that agrees with it."""
    shutil.copytree(folder, target)
    (target / name).write_bytes(change((target / name).read_bytes()))
    manifest = Manifest(**json.loads((target / MANIFEST).read_text()))
    if name != CROISSANT:
        records = records_in(target)
        document = json.loads((target / CROISSANT).read_text())
        document["distribution"] = [file_object(path, records[path]) for path in records if path != CROISSANT]
        (target / CROISSANT).write_text(pretty_json(document))
    again = manifest_of(target, manifest.name, manifest.recipes, manifest.default)
    (target / MANIFEST).write_text(pretty_json(asdict(again)))
    return target
