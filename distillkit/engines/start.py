"""The engine that the command line names, where it exchanges results with this machine, and what stages request.

Stages request what ``distillkit doctor`` estimates, unless the command line says otherwise. This changes no result, so
it is not in params.yaml.
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


class Options(NamedTuple):
    """The options on the command line, besides the engine and the targets; ``memory`` is in GiB.

    For ``cores``, ``gpus`` and ``memory``, the estimate is used if they are None.
    """

    address: str | None = None
    partition: str | None = None
    remote: str | None = None
    work: Path | None = None
    cores: int | None = None
    gpus: int | None = None
    memory: float | None = None
    minutes: int | None = None


def check_params(targets: Sequence[str]) -> None:
    """Raise ParamsError for mistakes and missing sections in params.yaml of the pipelines that ``targets`` name.

    Every stage checks params.yaml too, but only when it runs, and only the sections that exist.
    """
    if not targets and not Path("dvc.yaml").exists():
        raise ParamsError("there is no dvc.yaml here; expected the folder of a pipeline; name it: FOLDER/dvc.yaml")
    files = [Path(target.partition(":")[0]) for target in targets] or [Path("dvc.yaml")]
    for folder in sorted({file.parent if file.suffix in (".yaml", ".yml") else Path() for file in files}):
        if is_pipeline(folder):
            with named_from_here(folder):
                check_pipelines([str(folder / "dvc.yaml")])
                data = params.load(folder / params.FILE)
                check_named(data, folder)
                from distillkit.pipeline import checks  # imports torch

                with chdir(folder):  # where own networks are looked for
                    checks.check_params(data)


def check_named(data: Mapping[str, Any], folder: Path) -> None:
    """Raise ParamsError if params.yaml lacks a value that a stage of dvc.yaml names. DVC reports errors in dvc.yaml."""
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
    """The value of a name such as ``package.storage`` in params.yaml. Raises ParamsError if there is none."""
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
    """A function that starts the engine; None for this machine."""
    engines = {"ray": partial(on_ray, options), "slurm": partial(on_slurm, options)}
    return engines.get(on)


def on_ray(options: Options, say: Callable[[str], None]) -> Away:
    """Start Ray. All nodes are first asked for their versions, and whether they can access our cache."""
    from distillkit.engines.ray import Ray

    cache, default = storage(options.remote)
    engine = Ray(options.address, say)
    shared = engine.check(str(cache), token(cache))
    remote = options.remote or (None if shared else default)
    if remote is None and not shared:
        raise DistillkitError(
            f"not all nodes can access {cache}, and there is no DVC remote; add one: dvc remote add -d NAME URL"
        )
    places = Places(remote, options.remote is not None, options.work)
    demand = demands(options, int(engine.largest("CPU")), engine.largest("GPU") > 0)
    return Away(engine, places, lambda stage: engine.able(demand(stage), stage))


def on_slurm(options: Options, say: Callable[[str], None]) -> Away:
    """Start Slurm, with the folders of jobs in the work folder. Slurm is asked only how many cores a node has."""
    del say
    from distillkit.engines.slurm import Slurm

    storage(options.remote)
    engine = Slurm(options.work / "jobs" if options.work else JOBS, options.partition)
    places = Places(options.remote, options.remote is not None, options.work)
    return Away(engine, places, demands(options, engine.largest()))


def storage(remote: str | None) -> tuple[Path, str | None]:
    """DVC's cache and its default remote. Raises DistillkitError for a ``remote`` that DVC does not know."""
    from dvc.repo import Repo

    with Repo(_wait_for_lock=True) as repo:
        known: dict[str, Any] = repo.config["remote"]
        if remote is not None and remote not in known:
            expected = ", ".join(known) or "a DVC remote, but dvc remote list shows none"
            raise DistillkitError(f"--remote is {remote!r}; expected {expected}; correct it")
        return Path(repo.cache.local_cache_dir).resolve(), repo.config["core"].get("remote")


def demands(options: Options, largest: int, gpu: bool = False) -> Callable[[str], Demand]:
    """A function that gives the demand of a stage. ``largest``: cores of the largest node; ``gpu``: if a node has one.

    A stage that trains several networks requests a core for each, any other stage requests one. If there are GPUs, each
    stage requests one, even if it uses little of it. Otherwise Ray would hide the GPU, and a CPU rounds differently.
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
            cores if options.cores is None else options.cores,
            int(gpu) if options.gpus is None else options.gpus,
            round(ROOM * peak if options.memory is None else GIB * options.memory),
            options.minutes or 0,
        )

    return demand


def estimate(folder: Path) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Peak memory in bytes and number of networks of each stage that trains; empty if it is not our pipeline."""
    if not is_pipeline(folder) or not (folder / params.FILE).is_file():
        return {}, {}
    from distillkit.estimates.fetched import fetched, images_in  # imports torch
    from distillkit.estimates.resources import peaks_of

    data = params.load(folder / params.FILE)
    with named_from_here(folder):
        peaks = peaks_of(data, images_in(fetched(folder)))
    runs = int(data["evaluation"]["runs"])
    full = [name for name, recipe in params.entries(data, "recipes").items() if recipe.get("method") == "full"]
    peaks |= {f"evaluate {name}": peaks["evaluate full"] for name in full}
    return peaks, {"experts": int(data["experts"]["per_shard"]), "reference": runs, "evaluate": runs}
