"""Estimates of the pipeline's memory, disk and time, compared with this machine: one line each for ``doctor``; and
numbers that make a pipeline of ``init`` fit a given time.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch

from distillkit.base.device import prepare_device
from distillkit.base.errors import MOST, HubError, ParamsError, counted
from distillkit.base.machine import memory_available
from distillkit.base.outside import read_yaml
from distillkit.base.params import section
from distillkit.matching.method import Method
from distillkit.package.build import LARGEST_WITH_PIXELS
from distillkit.pipeline.recipes import read_recipe
from distillkit.setup.defaults import Effort
from distillkit.setup.diagnostics import Finding
from distillkit.setup.inspection import Inspection, by_its_card, seen_from, shapes_of
from distillkit.setup.resources import FLOAT, SHAPE, Images, Job, assumed, peaks_of, recorded, set_size, trajectory
from distillkit.setup.timing.duration import seconds_of
from distillkit.setup.timing.speeds import Speeds, speeds_of
from distillkit.sources.fetch import DataSpec, cap, open_splits
from distillkit.sources.huggingface import is_place
from distillkit.sources.readers import HuggingFaceSource, TorchvisionSource
from distillkit.training.difficulty import SCORES
from distillkit.training.trajectories import ExpertsSpec

GIB = 2**30
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


def expected(spec: DataSpec, folder: Path) -> Images | None:
    """The images as the source describes them, without decoding all; None if that needs a download.

    Raises SourceError for images on this machine that ``fetch`` refuses, as far as that is seen without decoding all.
    """
    source = seen_from(spec.source, folder)
    if isinstance(source, TorchvisionSource):
        return None
    if isinstance(source, HuggingFaceSource) and not is_place(source.id):
        try:
            card = by_its_card(source)
        except HubError:  # fetch will report it
            return None
        count = card.images if spec.per_class is None else min(card.images, card.classes * spec.per_class)
        return Images((SHAPE[0], *(spec.size or SHAPE[1:])), card.classes, count, 0)
    splits = open_splits(replace(spec, source=source), hashed=False)
    train = cap(splits.train, spec.per_class, spec.split_seed)
    test = cap(splits.test, spec.test_per_class, spec.split_seed)
    shapes = shapes_of(train)
    height, width = spec.size or shapes[0][1:]
    channels = max(shape[0] for shape in shapes)
    return Images((channels, height, width), len(train.class_names), len(train.labels), len(test.labels))


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
    each = ", ".join(f"{name} {size / GIB:.2f}" for name, size in left.items())
    found = f"about {total / GIB:.2f} GiB ({each}), twice with DVC's cache; {free / GIB:.1f} free"
    if 2 * total < free:
        return Finding("disk", "ok", found, numbers=parts)
    remedy = "fewer expert_shards, or set DVC's cache.type to hardlink or reflink"
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
    kinds = by_stage(seconds)
    each = ", ".join(f"{name} {in_words(value)}" for name, value in kinds.items())
    found = f"about {in_words(sum(kinds.values()))} for all stages here ({each}{note}), estimated from a few steps"
    return Finding("time", "ok", found, numbers={name: round(value, 1) for name, value in seconds.items()})


def by_stage(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage in the order of the pipeline, summed over recipes."""
    kinds: dict[str, float] = {}
    for name, value in seconds.items():
        kinds[name.split()[0]] = kinds.get(name.split()[0], 0.0) + value
    return kinds


def in_words(seconds: float) -> str:
    """A duration with about two digits."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"


def memory_here() -> tuple[int, str]:
    """Bytes available to a stage on its device, and a text that describes them."""
    if (chosen := prepare_device()).type == "cuda":
        return torch.cuda.mem_get_info(chosen)[0], "free on the GPU, which needs roughly the same"
    return memory_available(), "available"


# A pipeline that is not written yet

# From what is usual to the least that still says something: first fewer experts and steps, then a smaller network, then
# fewer images. Each is cheaper than the one before.
LEVELS = (
    Effort(),
    Effort(per_shard=2),
    Effort(per_shard=2, steps=60),
    Effort(per_shard=2, steps=60, width=16),
    Effort(per_shard=2, steps=60, width=16, per_class=1000),
    Effort(per_shard=2, steps=40, width=16, per_class=500, runs=3),
    Effort(per_shard=1, steps=40, width=16, per_class=250, runs=3),
    Effort(per_shard=1, steps=20, width=8, per_class=100, runs=3, epochs=8),
)


def images_of(found: Inspection | None, size: tuple[int, int], effort: Effort) -> Images:
    """The images as far as they are known; else ten classes of 1,000."""
    classes, train = (10, 10_000) if found is None else (found.classes, found.images)
    channels = max((shape[0] for shape in found.shapes), default=SHAPE[0]) if found is not None else SHAPE[0]
    train = train if effort.per_class is None else min(train, classes * effort.per_class)
    return Images((channels, *size), classes, train, train // 4)


def fitting(
    minutes: int | None,
    most_ipc: int,
    text_for: Callable[[Effort], str],
    images_for: Callable[[Effort], Images],
    largest: int = MOST,
) -> tuple[Effort, Mapping[str, float]]:
    """The first level of effort that takes at most so many minutes, and its seconds by stage; the usual one without.

    ``largest`` is the number of images of the largest class. Raises ParamsError where not even the last one fits.
    """
    least = 0.0
    for effort in (with_room(level, most_ipc, largest) for level in LEVELS):
        data: Any = read_yaml(text_for(effort).encode())
        images = images_for(effort)
        seconds = seconds_of(data, images, speeds_at(effort.width)(data, images))
        least = sum(seconds.values())
        if minutes is None or least <= 60 * minutes:
            return effort, seconds
    raise ParamsError(
        f"--minutes is {minutes}, but the least that init offers takes about {in_words(least)} here; expected at least "
        "that; give more, or fewer --ipc and --method"
    )


def with_room(effort: Effort, ipc: int, largest: int = MOST) -> Effort:
    """With twice as many images of each class as a set takes, for a window to move; all where no class has more."""
    most = max(effort.per_class or largest, 2 * ipc)
    return replace(effort, per_class=most if most < largest else None)


@cache
def speeds_at(width: int) -> Callable[..., Speeds]:
    """``speeds_of``, measured once for networks of this width: fewer images and steps change no speed."""
    del width
    known: list[Speeds] = []

    def measure(data: Mapping[str, Any], images: Images) -> Speeds:
        if not known:
            known.append(speeds_of(data, images))
        return known[0]

    return measure


def budget_words(seconds: Mapping[str, float], minutes: int | None, effort: Effort) -> Iterator[str]:
    """What is said of it, stage by stage; and what was changed to make it fit."""
    each = ", ".join(f"{name} {in_words(value)}" for name, value in by_stage(seconds).items())
    yield f"time: about {in_words(sum(seconds.values()))} for all stages on this machine ({each})"
    if minutes is not None and effort != Effort():
        usual, chosen = vars(Effort()), vars(effort)
        changes = ", ".join(
            f"{name} {value}" + ("" if usual[name] is None else f" instead of {usual[name]}")
            for name, value in chosen.items()
            if value != usual[name]
        )
        yield f"to fit {minutes} min: {changes}; sets will be less accurate than with the usual numbers"
