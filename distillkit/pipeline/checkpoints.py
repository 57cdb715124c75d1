"""Work that can be interrupted: its state at some step, in the folder for unfinished work."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from distillkit.base.errors import ArtifactError, DivergedError
from distillkit.data.files.artifact import save_synthetic
from distillkit.data.files.container import load_state, save_state
from distillkit.data.images import SyntheticSet
from distillkit.process.interruption import AGAIN, Interrupted, check, note, reacting
from distillkit.process.locks import one_at_a_time
from distillkit.process.progress import Counter, tell, track
from distillkit.training.compute import Finisher, Stepwise

SECONDS_BETWEEN_CHECKPOINTS = 60.0
UNUSABLE = (ArtifactError, KeyError, RuntimeError, TypeError, ValueError)  # what a state that does not fit raises


def resumed(work: Stepwise, path: Path) -> None:
    """Bring ``work`` to the checkpoint at ``path``, if there is a readable one."""
    if not path.exists():
        return
    fresh = {name: tensor.clone() for name, tensor in work.state().items()}
    try:
        work.restore(load_state(path))
        tell(f"resumed at step {work.done} of {work.steps} from {path}")
    except UNUSABLE as error:
        work.restore(fresh)
        tell(f"warning: {path} cannot be resumed ({' '.join(str(error).split())}); starting again")


def kept(work: Stepwise, path: Path) -> Iterator[Any]:
    """The steps of ``work``, saving a checkpoint now and then, and before it ends because a signal has come.

    Raises Interrupted in that case.
    """
    return keeping(work, lambda: save_state(path, work.state()))


def keeping(work: Stepwise, save: Callable[[], None]) -> Iterator[Any]:
    """:func:`kept`, but ``save`` keeps what has been done."""
    saved, since = time.monotonic(), work.done
    try:
        while work.done < work.steps:
            yield work.advance()
            if time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                save()
                saved, since = time.monotonic(), work.done
            check()
    except Interrupted:
        if work.done > since:
            save()
        raise Interrupted(f"interrupted at step {work.done} of {work.steps}, kept; {AGAIN}") from None


class Growing(Stepwise, Protocol):
    """Work whose state grows with every step, so that it is kept in parts, each written once."""

    def state(self, since: int = 0) -> dict[str, Tensor]:
        """What the steps after ``since`` have added, and all else that the rest of the work depends on."""
        ...


def finish_in_parts(work: Growing, stem: Path | None, count: Counter) -> None:
    """Take ``work`` to its end, from its parts if there are some, and leave all of it there; nothing without a stem.

    Parts are called ``stem`` and the step that they go on from. ``count`` is told of every step.
    """
    since = 0

    def save() -> None:
        nonlocal since
        if stem is not None and work.done > since:
            save_state(part(stem, since), work.state(since))
            since = work.done

    try:
        check()
        since = 0 if stem is None else resumed_in_parts(work, stem)
        count(since, earlier=True)
        for _ in keeping(work, save):
            count()
    except Interrupted:
        raise Interrupted(f"interrupted, what is done is kept; {AGAIN}") from None
    save()


def resumed_in_parts(work: Growing, stem: Path) -> int:
    """Bring ``work`` to the end of its parts, as far as they are readable; how many of its steps are done."""
    done = -1
    while done < work.done < work.steps and (path := part(stem, work.done)).exists():
        done = work.done
        try:
            work.restore(load_state(path))
        except UNUSABLE as error:
            tell(f"warning: {path} cannot be resumed ({' '.join(str(error).split())}); going on from before it")
    if 0 < work.done < work.steps:
        tell(f"resumed at step {work.done} of {work.steps} from {stem}")
    return work.done


def part(stem: Path, since: int) -> Path:
    return stem.with_name(f"{stem.name}-{since}.safetensors")


class Learning(Stepwise, Protocol):
    """Work that learns a set."""

    def result(self) -> SyntheticSet:
        """The set as it stands."""
        ...


def checkpointed(run: Learning, path: Path, provenance: Mapping[str, Any]) -> Iterator[Any]:
    """:func:`kept` steps of a distillation.

    When the run leaves the finite numbers, the last good set is saved beside the checkpoint's folder and named in the
    error.
    """
    try:
        yield from kept(run, path)
    except DivergedError as error:
        last_good = Path(f"{path.parent}-last-good.safetensors")
        raise DivergedError(f"{error}; {keep(run, last_good, provenance)}") from error


def finishing(folder: Path, name: str) -> Finisher:
    """Takes work to its end, from its state in ``folder`` if there is one, and leaves its last state there.

    One process at a time; another that wants the same waits, and finds it done. A signal waits until a step is kept.
    """

    def finish(work: Stepwise, what: str) -> None:
        path = folder / f"{what}.safetensors"
        with one_at_a_time(folder.name, f"waiting for another process that trains the same {what}"):
            resumed(work, path)
            if work.done == work.steps:
                return
            try:
                with reacting(note):
                    for _ in track(kept(work, path), f"{what} of {name}", work.steps - work.done):
                        pass
                    save_state(path, work.state())
            except DivergedError:
                path.unlink(missing_ok=True)
                raise

    return finish


def keep(run: Learning, path: Path, provenance: Mapping[str, Any]) -> str:
    """Save the set as it stands, if all its numbers are finite, and say so."""
    synthetic, done = run.result(), f"the set after step {run.done}"
    if not (synthetic.pixels().isfinite().all() and math.isfinite(synthetic.student_lr or 0)):
        return f"{done} is not finite either, so nothing is kept"
    save_synthetic(path, synthetic, provenance)
    return f"{done} is kept in {path}"
