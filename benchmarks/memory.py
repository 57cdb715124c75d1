"""Peak memory of every stage against the number of images: it must not grow with the source.

    python benchmarks/memory.py --dataset FOLDER                        # all sizes; some hours on two cores
    python benchmarks/memory.py --dataset FOLDER --size 20k --stage evaluate --out part.json
    python benchmarks/memory.py --join part.json --join other.json      # into the results, without measuring

FOLDER holds parquet files of encoded images with a train and a test split, such as CIFAR-10 in JPEG; larger sources are
made by repeating its rows. Each stage runs in a process of its own. ``peak_mb`` is its largest resident set;
``anonymous_mb`` is the same without pages of files, which the system takes back when it needs them. What a stage takes
with 1,000 images is about what importing takes: the table shows what the others take beyond that. ``cpu_s`` counts the
stage's children, too. Without ``--out`` sizes and stages that are not measured keep what the results have of them; with
it the file has what was measured, and ``--join`` puts it into the results. ``before`` is of the commit before sources
were read by rows; ``stage_times.py`` compares CPU seconds with it.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.parquet as pq
from record import ROOT, aligned, conditions, options, write
from ruamel.yaml import YAML

MB = 1e6
SMALLEST = 1_000  # images
RESULTS = ROOT / "benchmarks/results/memory-cpu.json"
SIZES = {
    "1k": (1_000, 32),
    "20k": (20_000, 32),
    "50k": (50_000, 32),
    "200k": (200_000, 32),
    "1k of 64x64": (1_000, 64),
    "100k of 64x64": (100_000, 64),
}
NETWORK = {"name": "convnet", "depth": 1, "width": 4, "norm": "batch"}
TRAINING = {"steps": 20, "batch": 64, "lr": 0.01}
SCAN = {"candidates": [0.2, 0.6], "holdout": 0.2, "runs": 1, "training": TRAINING}
MATCHING = {"student_steps": 2, "student_batch": 50, "expert_epochs": 1, "max_start_epoch": 1}
OPTIM = {"steps": 2, "image_lr": 1.0, "student_lr_init": 0.01, "student_lr_lr": 0.0}
PLAIN = {"steps": 2, "image_lr": 1.0}
RECIPES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "random": {"method": "random", "ipc": 50},
    "confident": {"method": "confident", "ipc": 50},
    "herding": {"method": "herding", "ipc": 50},
    "k-centre": {"method": "k-centre", "ipc": 50},
    "moderate": {"method": "moderate", "ipc": 50},
    "ccs": {"method": "ccs", "ipc": 50, "hardest_dropped": 0.1},
    "dual": {"method": "dual", "ipc": 50},
    "rded": {"method": "rded", "ipc": 5, "factor": 2},
    "kmeans": {"method": "kmeans", "ipc": 5, "tries": 1},
    "average": {"method": "average", "ipc": 1},
    "optimised": {"method": "optimised", "ipc": 5, "sets": 2, "runs": 1, "holdout": 0.2, "training": TRAINING},
    "window": {"method": "window", "ipc": 50, "window_start": SCAN},
    "mtt": {"method": "mtt", "ipc": 5, "matching": MATCHING, "optim": OPTIM},
    "selmatch": {
        "method": "selmatch",
        "ipc": 50,
        "window_start": SCAN,
        "distill_fraction": 0.5,
        "matching": MATCHING,
        "optim": OPTIM,
    },
    "dm": {"method": "dm", "ipc": 5, "real_batch": 64, "optim": PLAIN},
}
"""Every way of reading the source that a method has; the others read it as one of these does."""
WATCH = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("used", used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(code)
"""


@dataclass(frozen=True)
class Used:
    """What a process took: bytes at its peak, all and without pages of files, and CPU seconds."""

    peak: int
    anonymous: int
    cpu: float
    wall: float


def parameters(source: Path, side: int) -> dict[str, Any]:
    """params.yaml: networks as small as can be, so that images are what takes memory."""
    recipe = {"network": NETWORK, "epochs": 1, "batch": 256, "lr": 0.01}
    return {
        "distillkit": "0.1.0",
        "seed": 0,
        "data": {"source": {"kind": "huggingface", "id": str(source)}, "size": [side, side]},
        "expert_shards": [0],
        "experts": {"per_shard": 2, "recipe": recipe},
        "score": {"name": "confidence"},
        "recipes": RECIPES,
        "evaluation": {"network": NETWORK, "training": TRAINING, "runs": 2},
        "package": {"name": "memory", "default": "selmatch", "storage": "float32"},
    }


def tiled(folder: Path, images: int, out: Path) -> None:
    """A dataset of so many training images, and a fifth as many to test, from the rows of another."""
    (out / "data").mkdir(parents=True)
    for split, count in (("train", images), ("test", images // 5)):
        table = pa.concat_tables([pq.read_table(path) for path in sorted(folder.rglob(f"{split}-*.parquet"))])
        times, rest = divmod(count, len(table))
        whole = pa.concat_tables([*[table] * times, table.slice(0, rest)])
        pq.write_table(whole, out / "data" / f"{split}-00000-of-00001.parquet", row_group_size=1000)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Stages in order, each with the arguments of its script."""
    real, shards, difficulty, reference = "real", "experts", "difficulty.safetensors", "reference.safetensors"
    yield "fetch", [real]
    yield "experts", ["0", real, f"{shards}/shard-0.safetensors"]
    yield "score", [real, shards, difficulty]
    yield "reference", [real, reference]
    yield "inputs", [real, shards, difficulty, "inputs"]
    for name in RECIPES:
        out = f"distilled/{name}.safetensors"
        yield f"distill {name}", [name, real, shards, difficulty, out, f"loss/{name}.csv"]
        measured = [f"metrics/{name}.json", f"metrics/classes/{name}.json"]
        measured += [f"{kind}/{name}.csv" for kind in ("training", "confusion")]
        yield f"evaluate {name}", [out, real, reference, *measured]
    yield "report", ["distilled", "loss", "training", "metrics", "previews", "reports"]
    yield "package", [real, shards, difficulty, "distilled", "metrics", "hub/memory"]


def run(command: Sequence[str], folder: Path) -> Used:
    """A command in a process of its own, watched while it runs."""
    began, found = time.monotonic(), [0]
    watcher = [sys.executable, "-c", WATCH, *command]
    process = subprocess.Popen(watcher, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.05):
            found[0] = max(found[0], anonymous_bytes(process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    output, errors = process.communicate()
    stop.set()
    thread.join()
    if process.returncode:
        raise click.ClickException(f"{' '.join(command)} ended ({process.returncode}); it wrote:\n{errors[-2000:]}")
    _, peak, cpu = output.splitlines()[-1].split()
    return Used(int(peak) * 1024, found[0], float(cpu), time.monotonic() - began)


def anonymous_bytes(parent: int) -> int:
    """Of the largest child process, 0 where there is none or no Linux."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        texts = [Path(f"/proc/{child}/status").read_text() for child in children]
    except OSError:
        return 0
    lines = [line.split() for text in texts for line in text.splitlines() if line.startswith(("RssAnon", "RssShmem"))]
    return sum(int(line[1]) * 1024 for line in lines)


def measured(dataset: Path, images: int, side: int, stages: Sequence[str]) -> Iterator[tuple[str, Used]]:
    """The stages of one size, one after the other; those that a wanted one needs run, too."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiled(dataset, images, folder / "tiled")
        YAML().dump(parameters(folder / "tiled", side), folder / "params.yaml")
        for stage, arguments in commands():
            if not is_needed(stage, stages):
                continue
            script = ROOT / f"stages/{stage.split()[0]}.py"
            used = run([sys.executable, str(script), *arguments], folder)
            if is_wanted(stage, stages):
                yield stage, used


def is_wanted(stage: str, stages: Sequence[str]) -> bool:
    """Whether a stage is to be measured: all are where none is named."""
    return not stages or stage in stages or stage.split(maxsplit=1)[0] in stages


def is_needed(stage: str, stages: Sequence[str]) -> bool:
    """Whether a stage is wanted, or one that reads what it writes."""
    kind, _, recipe = stage.partition(" ")
    later = {"distill": [f"evaluate {recipe}", "report", "package"], "evaluate": ["report", "package"], "package": []}
    first = not recipe and kind not in ("report", "package")  # what every set needs
    return is_wanted(stage, stages) or any(is_wanted(each, stages) for each in later.get(kind, [])) or first


def table(sizes: Mapping[str, Any]) -> str:
    """Peaks above those of 1,000 images, in MB: a row for each stage, a column for each size."""
    shown = {name: found for name, found in sizes.items() if found["images"] > SMALLEST}
    floors = {found["side"]: found["stages"] for found in sizes.values() if found["images"] <= SMALLEST}
    stages = list(dict.fromkeys(stage for found in shown.values() for stage in found["stages"]))
    rows = [["MB above 1,000 images", *shown]]
    for stage in stages:
        pairs = [(found["stages"].get(stage), floors.get(found["side"], {}).get(stage)) for found in shown.values()]
        rows.append(
            [stage, *(f"{own['peak_mb'] - floor['peak_mb']:.0f}" if own and floor else "" for own, floor in pairs)]
        )
    return aligned(rows)


def joined(sizes: dict[str, Any], parts: Sequence[Path]) -> dict[str, Any]:
    """``sizes`` with the stages that files of ``--out`` have, the last file's where several have one."""
    for part in parts:
        for name, found in json.loads(part.read_text())["sizes"].items():
            known = sizes.setdefault(name, {**found, "stages": {}})["stages"]
            known |= found["stages"]
    return {name: sizes[name] for name in (*SIZES, *sizes) if name in sizes}


@click.command()
@options(rounds=1)
@click.option("--dataset", type=click.Path(exists=True, path_type=Path), help="Parquet of images.")
@click.option("--size", "names", type=click.Choice(list(SIZES)), multiple=True, help="Only this; may be repeated.")
@click.option("--stage", "stages", multiple=True, help="Only this; may be repeated.")
@click.option("--join", "parts", multiple=True, type=click.Path(exists=True, path_type=Path), help="Only join these.")
def main(
    quick: bool,
    rounds: int,
    out: Path | None,
    dataset: Path | None,
    names: Sequence[str],
    stages: Sequence[str],
    parts: Sequence[Path],
) -> None:
    """Measure, and write what was found."""
    del rounds
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() and not quick and not out else {}
    kept, before = joined(known.get("sizes", {}), parts), {key: known[key] for key in known.keys() & {"before"}}
    if parts:
        write({**known, **json.loads(parts[0].read_text()), "sizes": kept}, out, quick)
    elif dataset is None:
        raise click.UsageError("neither --dataset nor --join is given; expected one of them; see --help")
    else:
        sizes = {"quick": (1_000, 32)} if quick else {name: SIZES[name] for name in names or SIZES}
        measure(
            sizes, dataset, stages, lambda: write({**conditions("memory"), "sizes": kept, **before}, out, quick), kept
        )
    click.echo(table(kept))


def measure(
    sizes: Mapping[str, tuple[int, int]],
    dataset: Path,
    stages: Sequence[str],
    save: Callable[[], None],
    kept: dict[str, Any],
) -> None:
    """Stage after stage into ``kept``, saved each time."""
    os.environ.setdefault("HF_DATASETS_CACHE", tempfile.mkdtemp())
    for name, (images, side) in sizes.items():
        found = kept.setdefault(name, {"images": images, "side": side, "stages": {}})
        for stage, used in measured(dataset, images, side, stages):
            found["stages"][stage] = {
                "peak_mb": round(used.peak / MB, 1),
                "anonymous_mb": round(used.anonymous / MB, 1),
                "cpu_s": round(used.cpu, 2),
                "wall_s": round(used.wall, 2),
            }
            click.echo(f"{name}, {stage}: {found['stages'][stage]}", err=True)
            save()


if __name__ == "__main__":
    main()
