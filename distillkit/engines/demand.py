"""What stages ask an engine for: from the estimate of ``distillkit doctor``, unless the command line says otherwise.

None of it changes a result, so none of it is in params.yaml.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from distillkit.base import params
from distillkit.base.arguments import is_pipeline
from distillkit.engines.engine import Demand

ROOM = 1.5  # the estimate is within this factor of the truth


class Limits(NamedTuple):
    """What the command line says; None leaves it to the estimate."""

    cores: int | None = None
    gpus: int | None = None
    memory: int | None = None  # bytes
    minutes: int = 0


def demands(limits: Limits, largest: int, gpu: bool = False) -> Callable[[str], Demand]:
    """What a stage asks for, by its address. ``largest``: cores of the largest node; ``gpu``: whether a node has one.

    A stage that trains several networks takes a core for each, any other takes one. Where there are GPUs, each stage
    takes one, also if it needs little of it: Ray hides them from jobs that ask for none, and a CPU rounds differently.
    """
    known = dict[Path, tuple[Mapping[str, int], Mapping[str, int]]]()

    def demand(stage: str) -> Demand:
        folder = Path(stage.rpartition(":")[0]).parent
        if folder not in known:
            known[folder] = estimate(folder)
        peaks, networks = known[folder]
        name, _, item = stage.rpartition(":")[2].partition("@")
        peak = peaks.get(f"{name} {item}", peaks.get(name, 0))
        cores = max(1, min(largest, networks.get(name, 1)))
        return Demand(
            cores if limits.cores is None else limits.cores,
            int(gpu) if limits.gpus is None else limits.gpus,
            round(ROOM * peak) if limits.memory is None else limits.memory,
            limits.minutes,
        )

    return demand


def estimate(folder: Path) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Bytes at the peak of each stage that trains, and how many networks a stage trains; nothing if it is not ours."""
    if not is_pipeline(folder) or not (folder / params.FILE).is_file():
        return {}, {}
    from distillkit.setup.doctor import images  # imports torch
    from distillkit.setup.resources import peaks_of

    data = params.load(folder / params.FILE)
    peaks, runs = peaks_of(data, images(folder)), int(data["evaluation"]["runs"])
    full = [name for name, recipe in params.entries(data, "recipes").items() if recipe.get("method") == "full"]
    peaks |= {f"evaluate {name}": peaks["evaluate full"] for name in full}
    return peaks, {"experts": int(data["experts"]["per_shard"]), "reference": runs, "evaluate": runs}
