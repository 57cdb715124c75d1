"""Unfinished work of a stage. It is not an output of the stage, so that DVC's run-cache can be used.

It is in an ignored folder, under a name made from everything that the work depends on, so it is never continued with
other inputs. It is removed when the stage succeeds.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count as counter
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import torch
from torch import Tensor

from distillkit import __version__
from distillkit.base.errors import ArtifactError, DivergedError, counted
from distillkit.base.files import canonical_json, sha256
from distillkit.data.files.container import load_state, save_state
from distillkit.pipeline.own_code import own_code
from distillkit.process.interruption import AGAIN, Interrupted, check
from distillkit.process.progress import Counter, tell
from distillkit.training.compute import Compute

A = TypeVar("A")
B = TypeVar("B")

WORK = Path(".distillkit/work")
MODEL = ("base", "data", "training", "matching", "methods")  # rooms whose code trains a generator


@contextmanager
def unfinished(name: str, settings: Any, inputs: Sequence[Path], root: Path = WORK) -> Iterator[Path]:
    """Yield the folder for unfinished work. It is removed when the block succeeds, or raises DivergedError.

    The work depends on ``settings``, the contents of ``inputs`` (including the stage's code,
    :func:`distillkit.pipeline.code.files_of`), this machine, and the user's own networks and methods named in
    ``settings``.
    """
    folder = work_folder(name, settings, inputs, root)
    try:
        yield folder
        check()
    except DivergedError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)


def work_folder(name: str, settings: Any, inputs: Sequence[Path], root: Path = WORK) -> Path:
    """The folder of the work ``name`` with these settings, inputs, code and this version of torch."""
    chosen = {key: value for key, value in os.environ.items() if key.startswith("DISTILLKIT_")}
    machine = [torch.__version__, torch.cuda.is_available(), chosen]
    contents = [(path.name, sha256(path)) for path in inputs] + own_code(canonical_json(settings))
    text = canonical_json([__version__, machine, name, settings, contents])
    return root / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def model_folder(params: Mapping[str, Any], seed: int, real: Path) -> Path:
    """The folder of a trained ``model``, shared by recipes of one method with equal ``model`` settings."""
    rooms = (Path(__file__).parents[1] / room for room in MODEL)
    code = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    return work_folder("model", [params["method"], params.get("model"), seed], [real, *code])


def remembering(
    compute: Compute,
    folder: Path | None,
    kind: type[Any],
    count: Counter | None = None,
    updates: Callable[[Any], int] = lambda _: 0,
) -> Compute:
    """``compute`` with a ``run`` that saves results of tasks in ``folder`` and does not compute saved ones again.

    Without a folder nothing is saved. A task returns a ``kind``: a tensor on the CPU, or a NamedTuple of such tensors.
    Tasks must be independent, and a stage must map the same tasks in the same order each time. ``count`` is called for
    every update of a network; a task has ``updates(task)`` of them.
    """
    calls = counter(1)

    def run(function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]:
        if folder is None:
            yield from compute.run(function, items)
            return
        tasks = list(items)
        paths = [folder / f"{call}-{number}.safetensors" for call in [next(calls)] for number in range(len(tasks))]
        with kept_parts(paths, folder):
            yield from compute.run(partial(once, function, kind, count, updates), zip(paths, tasks, strict=True))

    def on_update() -> None:
        compute.on_update()
        if count is not None:
            count()

    return replace(compute, run=run, on_update=on_update)


@contextmanager
def kept_parts(paths: Sequence[Path], folder: Path) -> Iterator[None]:
    """Tell how many parts are there already, and where the block is interrupted how many there are by then."""
    if found := sum(path.exists() for path in paths):
        tell(f"going on with {found} of {counted(len(paths), 'part')} from {folder}")
    try:
        yield
    except Interrupted as stopped:
        done = f"{sum(path.exists() for path in paths)} of {counted(len(paths), 'part')}"
        raise Interrupted(str(stopped) or f"interrupted with {done} done, kept; {AGAIN}") from None


def once(
    function: Callable[[A], B],
    kind: type[Any],
    count: Counter | None,
    updates: Callable[[Any], int],
    task: tuple[Path, A],
) -> B:
    """What ``function`` gives for the item, kept at the path of the task."""
    path, item = task
    kept: B | None = recalled(path, kind)
    if kept is not None and count is not None:
        count(updates(item), earlier=True)
    if kept is None:
        check()
        kept = function(item)
        save_state(path, dict(named_tensors(kept)))
    return kept


def recalled(path: Path, kind: type[Any]) -> Any:
    """The ``kind`` saved at ``path``; None if there is none. Warns if it cannot be read."""
    if not path.exists():
        return None
    try:
        return rebuilt(kind, load_state(path))
    except (ArtifactError, KeyError) as error:
        tell(f"warning: {path} cannot be reused ({' '.join(str(error).split())}); computing it again")
        return None


def named_tensors(value: Any, name: str = "value") -> Iterator[tuple[str, Tensor]]:
    """The tensors in a tensor or a nested NamedTuple, with their path as name."""
    if isinstance(value, Tensor):
        yield name, value
    else:
        for field, part in value._asdict().items():
            yield from named_tensors(part, f"{name}.{field}")


def rebuilt(kind: type[Any], tensors: Mapping[str, Tensor], name: str = "value") -> Any:
    """The inverse of :func:`named_tensors`. Raises KeyError when a tensor is missing."""
    if kind is Tensor:
        return tensors[name]
    return kind(*(rebuilt(part, tensors, f"{name}.{field}") for field, part in get_type_hints(kind).items()))
