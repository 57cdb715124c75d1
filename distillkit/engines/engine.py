"""The interface of an engine, which runs each stage as a job and reports its progress."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol


class Demand(NamedTuple):
    """The resources that a job requests: cores, GPUs, bytes of memory (0: unknown) and minutes (0: no limit)."""

    cores: int = 1
    gpus: int = 0
    memory: int = 0
    minutes: int = 0


class Job(NamedTuple):
    """One stage to run. Engines of other machines need ``order``, made by :func:`distillkit.engines.order.pack`.

    The same command, inputs and parameters always have the same ``name``.
    """

    stage: str
    name: str = ""
    order: bytes = b""
    demand: Demand = Demand()


class Event(NamedTuple):
    """News of a job: ``placed`` on node ``text``, ``said`` the line ``text``, ``done``, or ``failed`` because of it."""

    stage: str
    kind: Literal["placed", "said", "done", "failed"]
    text: str = ""


class Engine(Protocol):
    def submit(self, job: Job) -> None:
        """Start a job, or find it if an earlier run has started it."""
        ...

    def poll(self, seconds: float) -> Iterator[Event]:
        """The events since the last call. Without any, it waits for one, at most so many seconds."""
        ...

    def reason(self, stage: str) -> str:
        """Why a job does not run yet, as far as the engine knows."""
        ...

    def cancel(self) -> None:
        """End all jobs, safely if possible, and wait until they have ended."""
        ...
