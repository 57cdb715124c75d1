"""Estimates of the pipeline's memory, disk and time, compared with this machine: one line each for ``doctor``."""

import shutil
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from distillkit.base.device import prepare_device
from distillkit.base.errors import counted
from distillkit.base.machine import memory_available
from distillkit.base.params import section
from distillkit.estimates.duration import in_stages, in_words, seconds_of
from distillkit.estimates.resources import FLOAT, Images, Job, assumed, peaks_of, recorded, set_size, trajectory
from distillkit.estimates.speeds import speeds_of
from distillkit.matching.method import Method
from distillkit.package.build import LARGEST_WITH_PIXELS
from distillkit.pipeline.recipes import read_recipe
from distillkit.setup.diagnostics import Finding
from distillkit.training.difficulty import SCORES
from distillkit.training.trajectories import ExpertsSpec

MIB, GIB = 2**20, 2**30
COPIES = 2  # copies of a set: its artifact, and the one in the package
PREVIEW, PIXELS = 1, {"real": 1, "made": 4}  # compressed bytes per value in the package's parquet
PLACES = {  # the paths of each part
    "images": ["artifacts/real"],
    "experts": ["artifacts/experts"],
    "scores": ["artifacts/difficulty.safetensors"],
    "sets": ["artifacts/distilled", "artifacts/hub"],
}


def demands(
    data: Mapping[str, Any], fetched: Images | None, described: Images | None, folder: Path
) -> Iterator[Finding]:
    """Yield the estimates for images that are to be fetched, as the source describes them, or for the fetched ones."""
    images, note = described or fetched, ""
    if images is None:
        note = ", without the images, which are not fetched yet"
    elif described is not None:
        note = f", for the {counted(images.train, 'training image')} of the source, not fetched yet"
    yield (found := memory(peaks_of(data, images), note))
    yield disk(disk_of(data, images), folder)
    if found.status != "ok":
        yield Finding("time", "warning", "not measured: the steps may not fit into memory", "see memory")
    else:
        yield duration(seconds_of(data, images, speeds_of(data, images)), note)


def memory(peaks: Mapping[str, int], note: str) -> Finding:
    """Compare the largest stage's peak with the available memory."""
    largest = max(peaks, key=lambda name: peaks[name])
    available, where = memory_here()
    found = f"about {peaks[largest] / GIB:.2f} GiB on a CPU ({largest}{note}); {available / GIB:.1f} {where}"
    if peaks[largest] < available:
        return Finding("memory", "ok", found, numbers=peaks)
    remedy = "lower data.size, batch, width or network, or use a machine with more"
    return Finding("memory", "warning", found, remedy, peaks)


def disk(parts: Mapping[str, int], folder: Path) -> Finding:
    """Compare the bytes that are still to be written with the free space."""
    left = {name: max(0, size - there(folder, name)) for name, size in parts.items()}
    total, free = sum(left.values()), shutil.disk_usage(folder).free
    unit, size = ("GiB", GIB) if total >= GIB else ("MiB", MIB)
    each = ", ".join(f"{name} {part / size:.2f}" for name, part in left.items())
    found = f"about {total / size:.2f} {unit} to write ({each}), twice with DVC's cache; {free / GIB:.1f} GiB free"
    if 2 * total < free:
        return Finding("disk", "ok", found, numbers=parts)
    remedy = "make room, take fewer expert_shards, or set DVC's cache.type to hardlink or reflink"
    return Finding("disk", "failure", found, remedy, parts)


def disk_of(data: Mapping[str, Any], images: Images | None) -> dict[str, int]:
    """Bytes in the workspace at the end, by kind. DVC's cache has all of them again.

    Experts are parameters after every epoch, and their records about each image. Raises ParamsError for invalid
    parameters.
    """
    images, spec = images or assumed(data), section(data, "experts", ExpertsSpec)
    experts = len(section(data, "expert_shards", list[int])) * spec.per_shard
    job = Job(spec.recipe.network, images, 0)
    return {
        "images": images.stored,
        "experts": experts * (trajectory(spec, job) + recorded(spec, images)),
        "scores": FLOAT * (len(SCORES) + 1) * images.train,
        "sets": sum(set_bytes(data, name, images) for name in section(data, "recipes", dict[str, Any])),
    }


def set_bytes(data: Mapping[str, Any], name: str, images: Images) -> int:
    """Bytes of a recipe's set and its copies in the package. A large full set refers to the images and has no copy."""
    recipe = read_recipe(data, name)
    if recipe.method_name == "full":
        return 0 if images.held < images.stored else images.floats(images.train) // FLOAT
    kind, each = ("made", FLOAT) if isinstance(recipe.method, Method) else ("real", 1)
    pixels = PIXELS[kind] if prod(images.shape) <= LARGEST_WITH_PIXELS else 0
    return (COPIES * each + PREVIEW + pixels) * images.floats(set_size(recipe, images)) // FLOAT


def there(folder: Path, part: str) -> int:
    """Bytes of a part that are in the workspace already."""
    found = 0
    for place in PLACES[part]:
        path = folder / place
        files = path.rglob("*") if path.is_dir() else [path]
        found += sum(file.stat().st_size for file in files if file.is_file())
    return found


def duration(seconds: Mapping[str, float], note: str) -> Finding:
    """The time for all stages one after another, stage by stage."""
    found = f"about {in_words(sum(seconds.values()))} for all stages here ({in_stages(seconds)}{note})"
    found += ", one after another, estimated from a few steps; distillkit repro runs some side by side"
    return Finding("time", "ok", found, numbers={name: round(value, 1) for name, value in seconds.items()})


def memory_here() -> tuple[int, str]:
    """Bytes available to a stage on its device, and a text that describes them."""
    if (chosen := prepare_device()).type == "cuda":
        return torch.cuda.mem_get_info(chosen)[0], "free on the GPU, which needs roughly the same"
    return memory_available(), "available"
