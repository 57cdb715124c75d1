"""What ``distillkit doctor`` says a stage will take against what it takes: the peak memory of a fresh process for each.

    python benchmarks/demand.py                  # some ten minutes on two cores, up to 10 GB
    python benchmarks/demand.py --case digits    # one case

Images are of a case's shape, of random squares, at most 4 rows and columns of them: of finer noise, the nearest images
take long to find. No peak depends on what they show. Cases that are not measured keep what the file has of them.
Fields: cases, by name, with case, and for each stage measured_mb, estimate_mb and their ratio.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from record import ROOT, aligned, conditions, options, write
from ruamel.yaml import YAML

from distillkit.base.randomness import seeded
from distillkit.data.files.real_images import save_real
from distillkit.data.images import ImageSet, RealData, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.estimates.resources import Images, peaks_of

METER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""  # a process of its own: a child's peak counts what its parent held when it was started
UNIT = 1 if sys.platform == "darwin" else 1024
MB = 1e6
RESULTS = ROOT / "benchmarks/results/demand-cpu.json"


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
    outer_steps: int = 2
    evaluation: str = "convnet"
    precision: str = "fp32"
    compile: str = "auto"
    classes: int = 10
    ipc: int = 0  # 0: as many as a student's batch needs


FEW: dict[str, Any] = {"epochs": 1, "batch": 32, "student_batch": 20, "student_steps": 2}
CASES = {
    "digits": Case(depth=2, shape=(1, 8, 8), images=1347, test_images=450, per_shard=4, epochs=12, student_batch=50),
    "width 32": Case(student_batch=50),
    "width 64": Case(width=64, student_steps=5),
    "width 64, 20 steps": Case(width=64, student_steps=20),
    "width 64, compiled": Case(width=64, compile="1"),
    "width 64, bf16": Case(width=64, precision="bf16", student_steps=5),
    "width 128, batch 50": Case(width=128, student_batch=50, student_steps=5),
    "width 128, batch 250": Case(width=128, batch=250, student_batch=250, student_steps=5, outer_steps=1),
    "long trajectories": Case(
        width=128, depth=2, shape=(3, 16, 16), images=20, epochs=200, per_shard=8, student_batch=20, student_steps=2
    ),
    "resnet18": Case(evaluation="resnet18", student_batch=50, student_steps=5),
    "64x64": Case(depth=4, shape=(3, 64, 64), student_batch=128, student_steps=20, outer_steps=1),
    "64x64, 1,000 classes": Case(
        depth=1, width=4, shape=(3, 64, 64), images=12_000, test_images=2_000, classes=1_000, ipc=5, **FEW
    ),
    "224x224, 1,000 classes": Case(
        depth=1, width=4, shape=(3, 224, 224), images=2_000, test_images=1_000, classes=1_000, ipc=1, **FEW
    ),
    "20,000 images": Case(width=8, images=20_000, test_images=5_000, per_shard=4, epochs=1, batch=128),
}
STAGES = ("experts", "score", "reference", "distill", "evaluate")
QUICK = Case(width=4, depth=1, shape=(1, 8, 8), images=60, test_images=30, per_shard=1, student_batch=10)


def parameters_of(case: Case) -> dict[str, Any]:
    """params.yaml of a case."""
    network = {"name": "convnet", "depth": case.depth, "width": case.width, "norm": "batch"}
    evaluation = network if case.evaluation == "convnet" else {"name": case.evaluation, "norm": "batch"}
    matching = {"student_steps": case.student_steps, "student_batch": case.student_batch}
    optim = {"steps": case.outer_steps, "image_lr": 1.0, "student_lr_init": 0.01, "student_lr_lr": 0.0}
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
                "ipc": case.ipc or -(-case.student_batch // case.classes),
                "matching": {**matching, "expert_epochs": 1, "max_start_epoch": 1},
                "optim": optim,
            }
        },
        "evaluation": {"network": evaluation, "training": training, "runs": 2},
    }


def write_images(case: Case, path: Path) -> None:
    generator, names = seeded(0), tuple(f"class {number}" for number in range(case.classes))

    def split(count: int) -> ImageSet:
        channels, height, width = case.shape
        square = max(8, -(-max(height, width) // 4))
        shape = (count, channels, -(-height // square), -(-width // square))
        coarse = torch.randint(256, shape, generator=generator).byte()
        images = coarse.repeat_interleave(square, 2).repeat_interleave(square, 3)[:, :, :height, :width].contiguous()
        return ImageSet(images, torch.arange(count) % len(names), names)

    train, test = split(case.images), split(case.test_images)
    save_real(path, RealData(train, test, channel_statistics(train.images), SourceInfo("", "", "", "")))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Stages in order, each with the arguments of its script."""
    real, shards, difficulty, reference, out = "real", "experts", "difficulty", "reference", "out"
    real, difficulty, reference, out = (f"{name}.safetensors" for name in (real, difficulty, reference, out))
    yield "experts", ["0", real, f"{shards}/shard-0.safetensors"]
    yield "score", [real, shards, difficulty]
    yield "reference", [real, reference]
    yield "distill", ["mtt", real, shards, difficulty, out, "loss.csv"]
    yield "evaluate", [out, real, reference, "metrics.json", "classes.json", "curve.csv", "confusion.csv"]


def peaks(case: Case, folder: Path, stages: Sequence[str] = STAGES) -> dict[str, int]:
    """Peak bytes of the stages of a case, in a folder that holds what earlier ones have left."""
    YAML().dump(parameters_of(case), folder / "params.yaml")
    write_images(case, folder / "real.safetensors")
    environment = {**os.environ, "DISTILLKIT_COMPILE": case.compile}
    found = {}
    for stage, arguments in commands():
        if stage not in stages:
            continue
        command = [sys.executable, "-c", METER, sys.executable, str(ROOT / f"stages/{stage}.py"), *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"{stage} ended ({done.returncode}); it wrote:\n{done.stderr[-2000:]}")
        found[stage] = int(done.stdout) * UNIT
    return found


def compared(case: Case, measured: Mapping[str, int]) -> dict[str, Any]:
    """What was measured beside what is estimated now."""
    images = Images(case.shape, case.classes, case.images, case.test_images)
    environment = os.environ.get("DISTILLKIT_COMPILE")
    os.environ["DISTILLKIT_COMPILE"] = case.compile
    try:
        estimates = peaks_of(parameters_of(case), images)
    finally:
        os.environ.pop("DISTILLKIT_COMPILE")
        os.environ |= {} if environment is None else {"DISTILLKIT_COMPILE": environment}
    stages = {}
    for stage in sorted(measured, key=STAGES.index):
        peak = measured[stage]
        estimate = estimates["distill mtt" if stage == "distill" else stage]
        stages[stage] = {"measured_mb": peak / MB, "estimate_mb": estimate / MB, "ratio": estimate / peak}
    return {"case": asdict(case), "stages": stages}


def table(cases: Mapping[str, Any]) -> str:
    rows = [["case", "stage", "measured, MB", "estimate, MB", "estimate / measured"]]
    for name, found in cases.items():
        for stage, numbers in found["stages"].items():
            rows.append([name, stage, f"{numbers['measured_mb']:.0f}", f"{numbers['estimate_mb']:.0f}"])
            rows[-1].append(f"{numbers['ratio']:.2f}")
    return aligned(rows)


@click.command()
@options(rounds=1)
@click.option("--case", "names", type=click.Choice(list(CASES)), multiple=True, help="Only this one; may be repeated.")
def main(quick: bool, rounds: int, out: Path | None, names: Sequence[str]) -> None:
    """Measure, compare, and write what was found."""
    before = json.loads(RESULTS.read_text())["cases"] if RESULTS.is_file() and not quick else {}
    cases = {"quick": QUICK} if quick else CASES
    found = {}
    for name, case in cases.items():
        asked = json.loads(json.dumps(asdict(case)))
        if name in (names or cases):
            measured: dict[str, int] = {}
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as folder:
                    again = peaks(case, Path(folder))
                measured = {stage: max(peak, measured.get(stage, 0)) for stage, peak in again.items()}
            click.echo(f"measured {name}", err=True)
        elif name in before and asked | before[name]["case"] == asked:  # a setting that is new is as it was
            stages = before[name]["stages"].items()
            measured = {stage: round(numbers["measured_mb"] * MB) for stage, numbers in stages}
        else:
            continue
        found[name] = compared(case, measured)
    click.echo(table(found))
    write({**conditions("demand"), "cases": found}, out, quick)


if __name__ == "__main__":
    main()
