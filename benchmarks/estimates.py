"""What ``init`` and ``doctor`` say a pipeline takes against what it takes: CPU seconds of every stage.

    python benchmarks/estimates.py --dataset FOLDER                # all pipelines; some 20 CPU minutes
    python benchmarks/estimates.py --pipeline digits               # one of them
    python benchmarks/estimates.py --again                         # estimates anew, beside the times of before

FOLDER is as in ``memory.py``: parquet files of encoded images with a train and a test split, such as CIFAR-10 in JPEG;
a few of its images become a folder of JPEGs. Each pipeline is written by ``distillkit init``, changed where
``PIPELINES`` says so, and run by ``dvc repro`` from nothing. This process and its children use one core at a time, so
that CPU seconds are what an idle machine with one core would take; the steps that the estimate is made from are
measured by the same clock. Pipelines that are not named keep what the results have of them.

Fields: pipelines, by name, with images (shape, classes, train, test), params (those that the time depends on), stages
(measured_s and estimate_s, by kind), totals, ratio (estimate / measured of the totals), wall_s of ``dvc repro``, and
recipes (of each stage of a recipe, the same two). Pipelines by ``init --minutes`` have minutes, too.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import torch
from pipeline import by_kind, repro
from record import ROOT, aligned, conditions, options, write
from ruamel.yaml import YAML

from distillkit.base.outside import read_yaml
from distillkit.base.params import section
from distillkit.estimates.duration import seconds_of
from distillkit.estimates.resources import Images
from distillkit.estimates.speeds import speeds_of
from distillkit.setup.inspection import expected
from distillkit.sources.fetch import DataSpec

RESULTS = ROOT / "benchmarks/results/estimates-cpu.json"
KEPT = ("data", "expert_shards", "experts", "score", "recipes", "evaluation")
NARROW = {"name": "convnet", "depth": 3, "width": 16, "norm": "batch"}
INSTANCE = {"name": "convnet", "depth": 3, "width": 8, "norm": "instance"}
EXPERTS: dict[str, Any] = {
    "per_shard": 2,
    "recipe": {"network": NARROW, "epochs": 12, "batch": 64, "lr": 0.05},
}
EVALUATION = {"training": {"steps": 150, "batch": 50, "lr": 0.05}, "runs": 3}


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Arguments of ``init``; images of a class from FOLDER, and its first classes; ``changed`` sections of params."""

    arguments: Sequence[str]
    classes: int = 0  # 0: the digits
    train: int = 0
    test: int = 0
    minutes: int = 0  # the limit for ``init --minutes``; 0: none
    changed: Mapping[str, Any] = field(default_factory=dict)


PIPELINES = {
    "digits": Pipeline(arguments=["--ipc", "10"]),
    "CIFAR-10, 100 images a class": Pipeline(
        arguments=["--ipc", "10", "--method", "mtt"],
        classes=10,
        train=100,
        test=40,
        changed={"experts": EXPERTS, "expert_shards": [0], "evaluation": {**EVALUATION, "network": NARROW}},
    ),
    "4 classes of CIFAR-10, other methods and networks": Pipeline(
        arguments=["--ipc", "5", *(f"--method={name}" for name in ("herding", "rded", "optimised", "dm", "dsa"))],
        classes=4,
        train=200,
        test=50,
        changed={
            "experts": {**EXPERTS, "recipe": {**EXPERTS["recipe"], "network": INSTANCE}},
            "expert_shards": [0],
            "evaluation": {**EVALUATION, "network": INSTANCE, "others": ["mlp"]},
        },
    ),
    "CIFAR-10, 300 images a class, within 4 minutes": Pipeline(
        arguments=["--ipc", "10"], classes=10, train=300, test=100, minutes=4
    ),
    "digits, 50 images a class, within 2 minutes": Pipeline(arguments=["--ipc", "50"], minutes=2),
    "4 classes of CIFAR-10, 1,000 images a class, within 6 minutes": Pipeline(
        arguments=["--ipc", "20", *(f"--method={name}" for name in ("selmatch", "dm", "k-centre"))],
        classes=4,
        train=1000,
        test=100,
        minutes=6,
    ),
}
QUICK = Pipeline(
    arguments=["--ipc", "1", "--method", "random"],
    changed={"evaluation": {"network": INSTANCE, "training": {"steps": 5, "batch": 10, "lr": 0.05}, "runs": 2}},
)


def images_from(dataset: Path, pipeline: Pipeline, out: Path) -> None:
    """The first images of the first classes as folders of JPEGs, train/CLASS/NUMBER.jpg."""
    for split, count in (("train", pipeline.train), ("test", pipeline.test)):
        left = dict.fromkeys(range(pipeline.classes), count)
        for path in sorted(dataset.rglob(f"{split}-*.parquet")):
            table = pq.read_table(path).to_pydict()
            for number, (image, label) in enumerate(zip(table["img"], table["label"], strict=True)):
                if left.get(label):
                    left[label] -= 1
                    place = out / split / f"class-{label}"
                    place.mkdir(parents=True, exist_ok=True)
                    (place / f"{path.stem}-{number}.jpg").write_bytes(image["bytes"])


def written(pipeline: Pipeline, dataset: Path | None, folder: Path) -> dict[str, Any]:
    """The pipeline by ``distillkit init`` in a new repository; its parameters."""
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    source = "digits"
    if pipeline.classes:
        if dataset is None:
            raise click.UsageError("--dataset is missing; expected the folder of CIFAR-10's parquet files")
        images_from(dataset, pipeline, folder / "images")
        source = "images"
    limit = ["--minutes", str(pipeline.minutes)] if pipeline.minutes else []
    command = [sys.executable, "-m", "distillkit", "init", "--dataset", source, *pipeline.arguments, *limit]
    subprocess.run(command, cwd=folder, check=True)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    params.update(pipeline.changed)
    yaml.dump(params, folder / "params.yaml")
    return read_yaml((folder / "params.yaml").read_bytes())


def measured(pipeline: Pipeline, dataset: Path | None) -> dict[str, Any]:
    """What the pipeline took, and all that an estimate of it needs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        params = written(pipeline, dataset, folder)
        images = expected(section(params, "data", DataSpec), folder)
        assert images is not None
        wall, _, cpu = repro(folder)
    kept = {key: params[key] for key in KEPT}
    limit = {"minutes": pipeline.minutes} if pipeline.minutes else {}
    return {"images": asdict(images), "params": kept, **limit, "wall_s": wall, "cpu_s": cpu}


OTHERS = ("start", "code", "shards", "inputs", "results", "dvc")  # small stages, and DVC itself


def compared(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured beside what is estimated now."""
    images, params, cpu = Images(**found["images"]), found["params"], found["cpu_s"]
    images = Images(tuple(images.shape), images.classes, images.train, images.test)
    speeds = speeds_of(params, images, time.process_time)
    seconds = {name.replace(" ", "@", 1): value for name, value in seconds_of(params, images, speeds).items()}
    took, said = by_kind(cpu), by_kind(seconds)
    took["others"] = sum(took.pop(kind) for kind in OTHERS)
    stages = {kind: {"measured_s": took.get(kind, 0.0), "estimate_s": said.get(kind, 0.0)} for kind in {**took, **said}}
    totals = {key: sum(each[key] for each in stages.values()) for key in ("measured_s", "estimate_s")}
    recipes = {
        name: {"measured_s": cpu[name], "estimate_s": seconds[name]} for name in seconds if "@" in name and name in cpu
    }
    return {
        **found,
        "speeds": speeds._asdict(),
        "stages": stages,
        "totals": totals,
        "ratio": totals["estimate_s"] / totals["measured_s"],
        "recipes": recipes,
    }


def table(pipelines: Mapping[str, Any]) -> str:
    rows = [["pipeline", "stage", "measured, CPU s", "estimate, s", "estimate / measured"]]
    for name, found in pipelines.items():
        for stage, each in [*found["stages"].items(), *found["recipes"].items(), ("all", found["totals"])]:
            took, said = each["measured_s"], each["estimate_s"]
            rows.append([name, stage, f"{took:.1f}", f"{said:.1f}", f"{said / took:.2f}" if took else ""])
    return aligned(rows)


def on_one_core() -> None:
    """No two threads at work, here and in all that is started: ``cores()`` goes by what Slurm allows."""
    os.environ |= {"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "1"}
    torch.set_num_threads(1)


@click.command()
@options(rounds=1)
@click.option("--dataset", type=click.Path(exists=True, path_type=Path), help="Parquet of images.")
@click.option("--pipeline", "names", type=click.Choice(list(PIPELINES)), multiple=True, help="Only this.")
@click.option("--again", is_flag=True, help="Measure no pipeline, only estimate.")
def main(quick: bool, rounds: int, out: Path | None, dataset: Path | None, names: Sequence[str], again: bool) -> None:
    """Measure, compare, and write what was found."""
    del rounds
    on_one_core()
    known = json.loads(RESULTS.read_text())["pipelines"] if RESULTS.is_file() and not quick else {}
    found = dict(known)
    pipelines = {"quick": QUICK} if quick else {name: PIPELINES[name] for name in names or PIPELINES}
    for name, pipeline in pipelines.items():
        if not again:
            known[name] = measured(pipeline, dataset)
            click.echo(f"measured {name}: {sum(known[name]['cpu_s'].values()):.0f} CPU s", err=True)
        if name in known:
            found[name] = compared(known[name])
            write({**conditions("estimates"), "pipelines": found}, out, quick)
    click.echo(table(found))


if __name__ == "__main__":
    main()
