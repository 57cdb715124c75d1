"""Work that can be interrupted: its state at some step, in the folder for unfinished work."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.artifact import load_state, save_state, save_synthetic
from distillkit.compute import Finisher, Stepwise
from distillkit.distill import Distillation, Step
from distillkit.errors import ArtifactError, DivergedError
from distillkit.interruption import Interrupted, Interruption, never
from distillkit.locks import one_at_a_time
from distillkit.progress import tell, track

SECONDS_BETWEEN_CHECKPOINTS = 60.0


def resumed(work: Stepwise, path: Path) -> None:
    """Bring ``work`` to the checkpoint at ``path``, if there is a readable one."""
    if not path.exists():
        return
    fresh = {name: tensor.clone() for name, tensor in work.state().items()}
    try:
        work.restore(load_state(path))
        if work.done < work.steps:
            tell(f"resumed at step {work.done} of {work.steps} from {path}")
    except (ArtifactError, KeyError, RuntimeError, TypeError, ValueError) as error:
        work.restore(fresh)
        tell(f"warning: {path} cannot be resumed ({' '.join(str(error).split())}); starting again")


def kept(work: Stepwise, path: Path, stopping: Callable[[], bool] = never) -> Iterator[Any]:
    """The steps of ``work``, saving a checkpoint now and then, and before it ends because ``stopping`` says so.

    Raises Interrupted in that case.
    """
    saved = time.monotonic()
    while work.done < work.steps:
        yield work.advance()
        stop = stopping()
        if stop or time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
            save_state(path, work.state())
            saved = time.monotonic()
        if stop:
            done = f"interrupted at step {work.done} of {work.steps}, kept"
            raise Interrupted(f"{done}; run the same command again to go on")


def checkpointed(
    run: Distillation, path: Path, provenance: Mapping[str, Any], stopping: Callable[[], bool] = never
) -> Iterator[Step]:
    """:func:`kept` steps of a distillation.

    When the run leaves the finite numbers, the last good set is saved beside the checkpoint's folder and named in the
    error.
    """
    try:
        yield from kept(run, path, stopping)
    except DivergedError as error:
        last_good = Path(f"{path.parent}-last-good.safetensors")
        raise DivergedError(f"{error}; {keep(run, last_good, provenance)}") from error


def finishing(folder: Path, name: str, ask: Interruption) -> Finisher:
    """Takes work to its end, from its state in ``folder`` if there is one, and leaves its last state there.

    One process at a time; another that wants the same waits, and finds it done. A signal waits until a step is kept.
    """

    def finish(work: Stepwise, what: str) -> None:
        path = folder / f"{what}.safetensors"
        with one_at_a_time(folder.name, f"waiting for another process that trains the same {what}"):
            resumed(work, path)
            if work.done == work.steps:
                tell(f"{what} of {name}: trained before, in {folder}")
                return
            try:
                with ask.held_back() as stopping:
                    for _ in track(kept(work, path, stopping), f"{what} of {name}", work.steps - work.done):
                        pass
            except DivergedError:
                path.unlink(missing_ok=True)
                raise
            save_state(path, work.state())

    return finish


def keep(run: Distillation, path: Path, provenance: Mapping[str, Any]) -> str:
    """Save the set as it stands, if all its numbers are finite, and say so."""
    synthetic, done = run.result(), f"the set after step {len(run.history)}"
    if not (synthetic.images.isfinite().all() and math.isfinite(synthetic.student_lr or 0)):
        return f"{done} is not finite either, so nothing is kept"
    save_synthetic(path, synthetic, provenance)
    return f"{done} is kept in {path}"
