"""What ``distillkit doctor`` says a stage will take against what it takes: the peak memory of a fresh process for each.

    python benchmarks/demand.py                  # some ten minutes on two cores, up to 10 GB
    python benchmarks/demand.py --case digits    # one case

Images are random ones of a case's shape, since no peak depends on what they show; the recipes' numbers are a case's own,
with few epochs and steps, which no peak depends on either. ``ratio`` is estimate over measured.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
from record import ROOT
from ruamel.yaml import YAML

from distillkit import artifact
from distillkit.images import ImageSet, RealData, SourceInfo, channel_statistics
from distillkit.randomness import seeded

METER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""  # a process of its own: a child's peak counts what its parent held when it was started
UNIT = 1 if sys.platform == "darwin" else 1024
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Case:
    """The numbers that decide a peak; the experts' network is also the student's."""

    width: int = 32
    depth: int = 3
    shape: tuple[int, int, int] = (3, 32, 32)
    images: int = 500
    test_images: int = 200
    per_shard: int = 2
    epochs: int = 2
    batch: int = 64
    student_batch: int = 100
    student_steps: int = 10
    evaluation: str = "convnet"
    precision: str = "fp32"
    compile: str = "auto"


CASES = {
    "digits": Case(depth=2, shape=(1, 8, 8), images=1347, test_images=450, per_shard=4, epochs=12, student_batch=50),
    "width 32": Case(student_batch=50),
    "width 64": Case(width=64, student_steps=5),
    "width 64, 20 steps": Case(width=64, student_steps=20),
    "width 64, compiled": Case(width=64, compile="1"),
    "width 64, bf16": Case(width=64, precision="bf16", student_steps=5),
    "width 128, batch 50": Case(width=128, student_batch=50, student_steps=5),
    "width 128, batch 128": Case(width=128, batch=128, student_batch=128, student_steps=20, test_images=1000),
    "width 128, batch 250": Case(width=128, batch=256, student_batch=250, student_steps=5),
    "resnet18": Case(evaluation="resnet18", student_batch=50, student_steps=5),
    "64x64": Case(width=32, depth=4, shape=(3, 64, 64), student_batch=50),
    "20,000 images": Case(width=8, images=20_000, test_images=5_000, per_shard=4, epochs=1, batch=128),
}
QUICK = Case(width=4, depth=1, shape=(1, 8, 8), images=60, test_images=30, per_shard=1, student_batch=10)


def parameters_of(case: Case) -> dict[str, Any]:
    """params.yaml of a case."""
    network = {"name": "convnet", "depth": case.depth, "width": case.width, "norm": "batch"}
    evaluation = network if case.evaluation == "convnet" else {"name": case.evaluation, "norm": "batch"}
    matching = {"student_steps": case.student_steps, "student_batch": case.student_batch}
    optim = {"steps": 2, "image_lr": 1.0, "student_lr_init": 0.01, "student_lr_lr": 0.0}
    recipe = {"network": network, "epochs": case.epochs, "batch": case.batch, "lr": 0.01, "precision": case.precision}
    training = {"steps": 5, "batch": case.batch, "lr": 0.01, "precision": case.precision}
    return {
        "seed": 0,
        "expert_shards": [0],
        "experts": {"per_shard": case.per_shard, "recipe": recipe},
        "score": {"name": "confidence"},
        "recipes": {
            "mtt": {
                "method": "mtt",
                "ipc": -(-case.student_batch // 10),
                "matching": {**matching, "expert_epochs": 1, "max_start_epoch": 1},
                "optim": optim,
            }
        },
        "evaluation": {"network": evaluation, "training": training, "runs": 2},
    }


def write_images(case: Case, path: Path) -> None:
    generator, names = seeded(0), tuple("abcdefghij")

    def split(count: int) -> ImageSet:
        images = torch.randint(256, (count, *case.shape), dtype=torch.uint8, generator=generator)
        return ImageSet(images, torch.arange(count) % len(names), names)

    train, test = split(case.images), split(case.test_images)
    artifact.save_real(path, RealData(train, test, channel_statistics(train.images), SourceInfo("", "", "", "")))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Stages in order, each with the arguments of its script."""
    real, shards, difficulty, reference, out = "real", "experts", "difficulty", "reference", "out"
    real, difficulty, reference, out = (f"{name}.safetensors" for name in (real, difficulty, reference, out))
    yield "experts", ["0", real, f"{shards}/shard-0.safetensors"]
    yield "score", [real, shards, difficulty]
    yield "reference", [real, reference]
    yield "distill", ["mtt", real, shards, difficulty, out, "loss.csv"]
    yield "evaluate", [out, real, reference, "metrics.json", "classes.json", "curve.csv"]


def peaks(case: Case, folder: Path) -> dict[str, int]:
    """Peak bytes of every stage of a case."""
    import os

    YAML().dump(parameters_of(case), folder / "params.yaml")
    write_images(case, folder / "real.safetensors")
    environment = {**os.environ, "DISTILLKIT_COMPILE": case.compile}
    found = {}
    for stage, arguments in commands():
        command = [sys.executable, "-c", METER, sys.executable, str(ROOT / f"stages/{stage}.py"), *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{stage} ended ({done.returncode}); it wrote:\n{done.stderr[-2000:]}")
        found[stage] = int(done.stdout) * UNIT
    return found
