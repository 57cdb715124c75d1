"""Variants of one case, measured in turn: never two at once, so that whatever else the machine does hits all alike.

A variant is an implementation under an allocator setting. The setting belongs to a process, so each variant is a worker
process of its own: it prepares itself and warms up, then does a round whenever it is its turn. Seconds are of one run
of the case, whose size is ``case.units``.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import torch

WORKER = Path(__file__).with_name("worker.py")
MAX_REPEATS = 10_000


class WorkerError(click.ClickException):
    """A worker ended before it answered."""


class Variant(NamedTuple):
    """An implementation, and ``plain`` (glibc's malloc as it is) or ``tuned`` (it keeps what is freed)."""

    implementation: str
    allocator: str

    def __str__(self) -> str:
        return f"{self.implementation} {self.allocator}"


class Entrant(NamedTuple):
    """Who takes part in the rounds: a variant of a case, with the least seconds that a round of it should last."""

    benchmark: str
    case: Any
    variant: Variant
    round_seconds: float


class Ratio(NamedTuple):
    """How many times faster than another: by the fastest rounds of both, and the median over pairs of rounds."""

    best: float
    median: float


@dataclass(frozen=True)
class Timing:
    """What one variant took: once before the rounds, and seconds per run in every round."""

    prepare_seconds: float
    first_run_seconds: float  # compiles, where anything is compiled
    runs_per_round: int
    rounds: list[float]


def ratio(reference: Sequence[float], other: Sequence[float]) -> Ratio:
    """Above 1 where ``other`` is faster; both are seconds, round by round."""
    pairs = zip(reference, other, strict=True)
    return Ratio(min(reference) / min(other), median(theirs / ours for theirs, ours in pairs))


def chosen_device() -> torch.device:
    """``DISTILLKIT_DEVICE``, else the GPU if there is one, else the CPU."""
    return torch.device(os.environ.get("DISTILLKIT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))


def allocators(device: torch.device) -> list[str]:
    """CUDA has an allocator of its own that keeps memory, and other C libraries have no mallopt."""
    return ["plain", "tuned"] if device.type == "cpu" and platform.libc_ver()[0] == "glibc" else ["plain"]


def variants_of(implementations: Sequence[str], device: torch.device) -> list[Variant]:
    return [Variant(name, allocator) for allocator in allocators(device) for name in implementations]


class Worker:
    """One worker process; use it in a ``with`` statement. Raises WorkerError, with what it wrote, when it dies."""

    def __init__(self, benchmark: str, case: Any, variant: Variant, device: torch.device):
        self.name = f"{benchmark}, {variant}"
        request = {"benchmark": benchmark, "case": asdict(case), "device": str(device), **variant._asdict()}
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def __enter__(self) -> "Worker":
        try:
            self.prepare_seconds = self.answer()["seconds"]
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closing its standard input ends the worker; one that does not end is killed."""
        if self.process.stdin and self.process.stdout:
            self.process.stdin.close()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process.stdout.close()
        self.errors.close()

    def ask(self, **request: object) -> dict[str, float]:
        if self.process.stdin:
            try:
                self.process.stdin.write(json.dumps(request) + "\n")
                self.process.stdin.flush()
            except BrokenPipeError:
                pass  # it died: answer() says so
        return self.answer()

    def seconds(self, repeats: int = 1) -> float:
        """Seconds per run."""
        return self.ask(do="run", repeats=repeats)["seconds"]

    def answer(self) -> dict[str, float]:
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line:
            raise WorkerError(self.obituary())
        answer: dict[str, float] = json.loads(line)
        return answer

    def obituary(self) -> str:
        status = self.process.wait()
        reason = f"was killed by signal {-status} (9: often for want of memory)" if status < 0 else f"ended ({status})"
        self.errors.seek(0)
        return f"the worker of {self.name} {reason}; it wrote:\n{self.errors.read()[-4000:]}"


def time_in_turn(entrants: Sequence[Entrant], rounds: int, device: torch.device) -> list[Timing]:
    """Warm every entrant up, then ask all in turn, ``rounds`` times; short runs are repeated to fill a round."""
    with ExitStack() as stack:
        workers, first, repeats = [], [], []
        for entrant in entrants:
            worker = stack.enter_context(Worker(entrant.benchmark, entrant.case, entrant.variant, device))
            workers.append(worker)
            first.append(worker.seconds())
            repeats.append(min(MAX_REPEATS, math.ceil(entrant.round_seconds / worker.seconds())))
        found: list[list[float]] = [[] for _ in entrants]
        for _ in range(rounds):
            for index, worker in enumerate(workers):
                found[index].append(worker.seconds(repeats[index]))
        return [
            Timing(worker.prepare_seconds, *rest) for worker, *rest in zip(workers, first, repeats, found, strict=True)
        ]


def peak_memory(benchmark: str, case: Any, variant: Variant, device: torch.device) -> int:
    """Peak bytes of one run, in a fresh process, above what the process held just before."""
    with Worker(benchmark, case, variant, device) as worker:
        return int(worker.ask(do="memory")["peak_bytes"])


def free_memory(device: torch.device) -> int:
    """Bytes that one more process could have."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info()[0]
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def expected_peak(measured: Mapping[int, int], steps: int) -> float:
    """Peak at ``steps`` on the line through the two longest runs measured, or through 0 and the one; 0 when none."""
    points = sorted(measured.items())[-2:]
    if not points:
        return 0.0
    (low, low_peak), (high, high_peak) = points if len(points) == 2 else [(0, 0), points[0]]
    return high_peak + (high_peak - low_peak) / (high - low) * (steps - high)
