"""A distillation that can be interrupted: its state at some step, in the folder for unfinished work."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.artifact import load_state, save_state, save_synthetic
from distillkit.distill import Distillation, Step
from distillkit.errors import ArtifactError, DivergedError
from distillkit.interruption import Interrupted, never
from distillkit.progress import tell

SECONDS_BETWEEN_CHECKPOINTS = 60.0


def resumed(run: Distillation, path: Path) -> None:
    """Bring ``run`` to the checkpoint at ``path``, if there is a readable one."""
    if not path.exists():
        return
    fresh = {name: tensor.clone() for name, tensor in run.state().items()}
    try:
        run.restore(load_state(path))
        tell(f"resumed at step {len(run.history)} of {run.optim.steps} from {path}")
    except (ArtifactError, KeyError, RuntimeError, TypeError, ValueError) as error:
        run.restore(fresh)
        tell(f"warning: {path} cannot be resumed ({' '.join(str(error).split())}); starting again")


def checkpointed(
    run: Distillation, path: Path, provenance: Mapping[str, Any], stopping: Callable[[], bool] = never
) -> Iterator[Step]:
    """The steps of ``run``, saving a checkpoint now and then, and before it ends because ``stopping`` says so.

    Raises Interrupted in that case. When the run leaves the finite numbers, the last good set is saved beside the
    checkpoint's folder and named in the error.
    """
    saved = time.monotonic()
    try:
        for step in run:
            yield step
            stop = stopping()
            if stop or time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                save_state(path, run.state())
                saved = time.monotonic()
            if stop:
                done = f"interrupted at step {step.step} of {run.optim.steps}, kept"
                raise Interrupted(f"{done}; run the same command again to go on")
    except DivergedError as error:
        last_good = Path(f"{path.parent}-last-good.safetensors")
        raise DivergedError(f"{error}; {keep(run, last_good, provenance)}") from error


def keep(run: Distillation, path: Path, provenance: Mapping[str, Any]) -> str:
    """Save the set as it stands, if all its numbers are finite, and say so."""
    synthetic, done = run.result(), f"the set after step {len(run.history)}"
    if not (synthetic.images.isfinite().all() and math.isfinite(synthetic.student_lr or 0)):
        return f"{done} is not finite either, so nothing is kept"
    save_synthetic(path, synthetic, provenance)
    return f"{done} is kept in {path}"
