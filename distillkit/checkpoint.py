"""Unfinished distillations, kept outside every stage's outputs so that DVC's run-cache stays on.

A checkpoint lies in an ignored work folder under a name made from everything the run depends on, so it is never resumed
with other inputs, and it is removed when the stage ends well.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distillkit import __version__
from distillkit.artifact import canonical_json, load_state, save_state, save_synthetic
from distillkit.distill import Distillation, Step
from distillkit.errors import ArtifactError, DivergedError
from distillkit.progress import tell

WORK = Path(".distillkit/work")
SECONDS_BETWEEN_CHECKPOINTS = 60.0


def checkpoint_path(recipe: str, params: Mapping[str, Any], seed: int, inputs: Sequence[Path]) -> Path:
    """Where this very run keeps its checkpoint: the name covers recipe, seed and the state of every input file."""
    states = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in inputs]
    text = canonical_json([__version__, recipe, params, seed, states])
    return WORK / f"{recipe}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.safetensors"


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


def checkpointed(run: Distillation, path: Path, provenance: Mapping[str, Any]) -> Iterator[Step]:
    """The steps of ``run``, saving a checkpoint now and then.

    When the run leaves the finite numbers, the last good set is saved beside the checkpoint and named in the error.
    """
    saved = time.monotonic()
    try:
        for step in run:
            yield step
            if time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                save_state(path, run.state())
                saved = time.monotonic()
    except DivergedError as error:
        path.unlink(missing_ok=True)
        last_good = path.with_name(f"{path.stem}-last-good.safetensors")
        raise DivergedError(f"{error}; {keep(run, last_good, provenance)}") from error


def keep(run: Distillation, path: Path, provenance: Mapping[str, Any]) -> str:
    """Save the set as it stands, if all its numbers are finite, and say so."""
    synthetic, done = run.result(), f"the set after step {len(run.history)}"
    if not (synthetic.images.isfinite().all() and math.isfinite(synthetic.student_lr or 0)):
        return f"{done} is not finite either, so nothing is kept"
    save_synthetic(path, synthetic, provenance)
    return f"{done} is kept in {path}"
