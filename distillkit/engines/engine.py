"""What an engine is: something that runs stages, one job each, and says how they fare."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol


class Demand(NamedTuple):
    """What a job asks its engine for: cores, GPUs, bytes of memory (0: not known) and minutes (0: no limit)."""

    cores: int = 1
    gpus: int = 0
    memory: int = 0
    minutes: int = 0


class Job(NamedTuple):
    """One stage to run. Engines that run it elsewhere take ``order``, made by :func:`distillkit.engines.order.pack`.

    ``name`` stands for the content: the same command, inputs and parameters have the same name, whoever asks.
    """

    stage: str
    name: str = ""
    order: bytes = b""
    demand: Demand = Demand()


class Event(NamedTuple):
    """What has become of a job: ``placed`` on the node ``text``, ``said`` a line, ``done``, or ``failed`` and why."""

    stage: str
    kind: Literal["placed", "said", "done", "failed"]
    text: str = ""


class Engine(Protocol):
    def submit(self, job: Job) -> None:
        """Start a job, or find it where an earlier run has started it."""
        ...

    def poll(self, seconds: float) -> Iterator[Event]:
        """What has happened since the last call, logs among it; waits at most so long for something to happen."""
        ...

    def reason(self, stage: str) -> str:
        """Why a job has no place yet, as far as the engine knows."""
        ...

    def cancel(self) -> None:
        """End all jobs, in order where they can, and wait for that."""
        ...
