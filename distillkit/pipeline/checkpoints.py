"""Checkpoints of work that can be interrupted, in the folder for unfinished work."""

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
UNUSABLE = (ArtifactError, KeyError, RuntimeError, TypeError, ValueError)  # errors from a state that does not fit


def resumed(work: Stepwise, path: Path) -> None:
    """Restore ``work`` from the checkpoint at ``path``, if it exists and can be read."""
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
    """Yield the steps of ``work``. Saves a checkpoint every SECONDS_BETWEEN_CHECKPOINTS, and after a signal.

    Raises Interrupted after a signal.
    """
    return keeping(work, lambda: save_state(path, work.state()))


def keeping(work: Stepwise, save: Callable[[], None]) -> Iterator[Any]:
    """:func:`kept`, with ``save`` to save what has been done."""
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
    """Work whose state grows with every step; it is saved in parts, each written once."""

    def state(self, since: int = 0) -> dict[str, Tensor]:
        """The results of the steps after ``since``, and everything else that the remaining work depends on."""
        ...


def finish_in_parts(work: Growing, stem: Path | None, count: Counter) -> None:
    """Run ``work`` to its end, starting from saved parts, and save the rest. Without ``stem`` nothing is saved.

    A part's name is ``stem`` with the step at which it starts. ``count`` is called for every step.
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
    """Restore ``work`` from its parts, as far as they can be read. Returns the number of finished steps."""
    done = -1
    while done < work.done < work.steps and (path := part(stem, work.done)).exists():
        done = work.done
        try:
            work.restore(load_state(path))
        except UNUSABLE as error:
            tell(f"warning: {path} cannot be resumed ({' '.join(str(error).split())}); continuing from earlier parts")
    if 0 < work.done < work.steps:
        tell(f"resumed at step {work.done} of {work.steps} from {stem}")
    return work.done


def part(stem: Path, since: int) -> Path:
    return stem.with_name(f"{stem.name}-{since}.safetensors")


class Learning(Stepwise, Protocol):
    """Work that learns a set."""

    def result(self) -> SyntheticSet:
        """The current set."""
        ...


def checkpointed(run: Learning, path: Path, provenance: Mapping[str, Any]) -> Iterator[Any]:
    """:func:`kept` for a distillation.

    When the run diverges, the last good set is saved beside the checkpoint's folder, and the error names its path.
    """
    try:
        yield from kept(run, path)
    except DivergedError as error:
        last_good = Path(f"{path.parent}-last-good.safetensors")
        raise DivergedError(f"{error}; {keep(run, last_good, provenance)}") from error


def finishing(folder: Path, name: str) -> Finisher:
    """A Finisher that runs work to its end, starting from a state in ``folder``, and saves the last state there.

    One process at a time does this; another one with the same work waits and then finds it finished. A signal takes
    effect when a step has been saved.
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
    """Save the current set if all its numbers are finite, and return a text that says so."""
    synthetic, done = run.result(), f"the set after step {run.done}"
    if not (synthetic.pixels().isfinite().all() and math.isfinite(synthetic.student_lr or 0)):
        return f"{done} is not finite either, so nothing is kept"
    save_synthetic(path, synthetic, provenance)
    return f"{done} is kept in {path}"
