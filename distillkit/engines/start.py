"""The engine that the command line names, where it and this machine meet, and what stages ask it for.

Stages ask for what ``distillkit doctor`` estimates, unless the command line says otherwise. None of it changes a
result, so none of it is in params.yaml.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from distillkit.base import params
from distillkit.base.arguments import check_pipelines, is_pipeline
from distillkit.base.errors import DistillkitError, ParamsError
from distillkit.base.outside import UnreadableError, content, read_yaml
from distillkit.engines.controller import Away, Starter
from distillkit.engines.engine import Demand
from distillkit.engines.order import Places, token
from distillkit.setup.diagnostics import named_from_here

JOBS = Path(".distillkit/jobs")
GIB = 2**30
ROOM = 1.5  # the estimate is within this factor of the truth


class Limits(NamedTuple):
    """What the command line says; None leaves it to the estimate."""

    cores: int | None = None
    gpus: int | None = None
    memory: int | None = None  # bytes
    minutes: int = 0


class Options(NamedTuple):
    """What the command line says, beside the engine and the targets."""

    address: str | None = None
    partition: str | None = None
    remote: str | None = None
    work: Path | None = None
    cores: int | None = None
    gpus: int | None = None
    memory: float | None = None
    minutes: int | None = None

    @property
    def limits(self) -> Limits:
        memory = None if self.memory is None else round(self.memory * GIB)
        return Limits(self.cores, self.gpus, memory, self.minutes or 0)


def check_params(targets: Sequence[str]) -> None:
    """Raise ParamsError for what a stage would refuse in params.yaml, or miss there, in our pipelines of ``targets``.

    Every stage checks it too, but only once it runs, and only what is there.
    """
    files = [Path(target.partition(":")[0]) for target in targets] or [Path("dvc.yaml")]
    for folder in sorted({file.parent if file.suffix in (".yaml", ".yml") else Path() for file in files}):
        if is_pipeline(folder):
            with named_from_here(folder):
                check_pipelines([str(folder / "dvc.yaml")])
                check_all(folder)


def check_all(folder: Path) -> None:
    """The whole of params.yaml in ``folder``, by the checks of the stages."""
    from distillkit.pipeline import checks  # imports torch

    data = params.load(folder / params.FILE)
    check_named(data, folder)
    with chdir(folder):  # where own networks are looked for
        checks.check_params(data)


def check_named(data: Mapping[str, Any], folder: Path) -> None:
    """Raise ParamsError where params.yaml lacks what a stage of dvc.yaml names. Of mistakes in dvc.yaml, DVC tells."""
    try:
        for stage in read_yaml(content(folder / "dvc.yaml"))["stages"].values():
            each = stage.get("foreach")
            if isinstance(each, str) and not value_at(data, each.strip("${}")):
                continue  # there is no such stage
            for name in stage.get("do", stage).get("params", ()):
                if isinstance(name, str) and "${" not in name:
                    value_at(data, name)
    except (UnreadableError, KeyError, TypeError, AttributeError):
        return


def value_at(data: Mapping[str, Any], name: str) -> Any:
    """What params.yaml has at ``package.storage``, for example. Raises ParamsError where it has nothing."""
    first, *rest = name.split(".")
    found = data[first] if first in data else params.section(data, first, object)
    for key in rest:
        if not isinstance(found, Mapping):
            return None
        if key not in found:
            raise ParamsError(f"{params.FILE} has no {name}, which dvc.yaml asks for; add it")
        found = found[key]
    return found


def starter(on: str, options: Options) -> Starter | None:
    """What starts the engine, once there is something to do; None for this machine."""
    engines = {"ray": partial(on_ray, options), "slurm": partial(on_slurm, options)}
    return engines.get(on)


def on_ray(options: Options, say: Callable[[str], None]) -> Away:
    """All nodes are asked first what they have installed, and whether they see our cache."""
    from distillkit.engines.ray import Ray

    cache, default = storage(options.remote)
    engine = Ray(options.address, say)
    shared = engine.check(str(cache), token(cache))
    remote = options.remote or (None if shared else default)
    if remote is None and not shared:
        raise DistillkitError(
            f"not all nodes see {cache}, and there is no DVC remote; add one: dvc remote add -d NAME URL"
        )
    places = Places(remote, options.remote is not None, options.work)
    demand = demands(options.limits, int(engine.largest("CPU")), engine.largest("GPU") > 0)
    return Away(engine, places, lambda stage: engine.able(demand(stage), stage))


def on_slurm(options: Options, say: Callable[[str], None]) -> Away:
    """Jobs lie in the work folder; Slurm has to be told what they ask for, but for cores, of which it is asked."""
    del say
    from distillkit.engines.slurm import Slurm

    storage(options.remote)
    engine = Slurm(options.work / "jobs" if options.work else JOBS, options.partition)
    places = Places(options.remote, options.remote is not None, options.work)
    return Away(engine, places, demands(options.limits, engine.largest()))


def storage(remote: str | None) -> tuple[Path, str | None]:
    """DVC's cache here, and its default remote. Raises DistillkitError for a ``remote`` that DVC does not know."""
    from dvc.repo import Repo

    with Repo(_wait_for_lock=True) as repo:
        known: dict[str, Any] = repo.config["remote"]
        if remote is not None and remote not in known:
            expected = ", ".join(known) or "one that dvc remote list shows, and it shows none"
            raise DistillkitError(f"--remote is {remote!r}; expected {expected}; correct it")
        return Path(repo.cache.local_cache_dir).resolve(), repo.config["core"].get("remote")


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
    with named_from_here(folder):
        peaks = peaks_of(data, images(folder))
    runs = int(data["evaluation"]["runs"])
    full = [name for name, recipe in params.entries(data, "recipes").items() if recipe.get("method") == "full"]
    peaks |= {f"evaluate {name}": peaks["evaluate full"] for name in full}
    return peaks, {"experts": int(data["experts"]["per_shard"]), "reference": runs, "evaluate": runs}
