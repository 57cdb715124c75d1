"""Jobs on this machine: each is a separate ``dvc repro --single-item`` in this workspace.

The processes do not disturb each other: DVC releases its lock while a stage's command runs, refuses paths that another
process is using, and holds its lock while it reads and changes dvc.lock.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import Empty, Queue
from threading import Thread
from typing import NoReturn

from distillkit.engines.engine import Event, Job
from distillkit.process import warm
from distillkit.process.interruption import end_with_parent
from distillkit.process.startup import SERVER

PYTHON = [sys.executable, "-P"]  # a folder named dvc in the user's repository is not DVC
ONE_STAGE = "import sys; from distillkit.engines.local import one_stage; one_stage(int(sys.argv[1]), sys.argv[2])"
TOLD = ("dvc.cli", "dvc.stage.run", "dvc.stage.cache")  # DVC's loggers: errors, what runs, what is restored
LAST_LINES = 0.5  # seconds to read the last lines of a stage; its background processes may keep the pipe open
AHEAD = 1000  # most events in the queue; a stage that prints more has to wait


class Local:
    """The engine of this machine. If it has several GPUs, each stage sees only the one with the fewest stages."""

    def __init__(self) -> None:
        self.events: Queue[Event] = Queue(AHEAD)
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.gpus = visible_gpus()
        self.given: dict[str, str] = {}
        self.warm: warm.Server | None = None

    def submit(self, job: Job) -> None:
        self.warm = self.warm or warm.start()
        environment = os.environ | {SERVER: self.warm.address}
        if len(self.gpus) > 1:
            chosen = min(self.gpus, key=list(self.given.values()).count)
            self.given[job.stage] = environment["CUDA_VISIBLE_DEVICES"] = chosen
        self.running[job.stage] = begin(job.stage, self.events.put, environment)

    def poll(self, seconds: float) -> Iterator[Event]:
        try:
            event = self.events.get(timeout=seconds) if seconds else self.events.get_nowait()
            while True:
                if event.kind != "said":
                    del self.running[event.stage]
                    self.given.pop(event.stage, None)
                yield event
                event = self.events.get_nowait()
        except Empty:
            return

    def reason(self, stage: str) -> str:
        return f"{stage} starts at once"

    def cancel(self) -> None:
        interrupt(self.running.values())
        while self.running:
            for _ in self.poll(1):
                pass

    def close(self) -> None:
        """No stage starts from now on."""
        if self.warm is not None:
            self.warm.close()


def visible_gpus() -> list[str]:
    """The GPUs that processes of this machine can use, by their names for CUDA_VISIBLE_DEVICES."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [str(number) for number, _ in enumerate(line for line in listed.splitlines() if line.startswith("GPU "))]


def begin(stage: str, tell: Callable[[Event], None], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start one stage in a session of its own. ``tell`` gets its lines and its end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until one_stage handles it
    try:
        process = subprocess.Popen(
            [*PYTHON, "-c", ONE_STAGE, str(os.getpid()), stage],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # without our terminal, which would stop a process that reads from it
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def listen() -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                if line.strip():
                    tell(Event(stage, "said", line.rstrip()))

    def wait() -> None:
        code = process.wait()
        listener.join(LAST_LINES)
        tell(Event(stage, "failed" if code else "done"))

    listener = Thread(target=listen, daemon=True)
    listener.start()
    Thread(target=wait, daemon=True).start()
    return process


def interrupt(processes: Iterable["subprocess.Popen[str]"]) -> None:
    """Send Ctrl-C to all processes, also to suspended ones: stages end safely and keep finished work."""
    for process in processes:
        for number in (signal.SIGINT, signal.SIGCONT):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def one_stage(parent: int, address: str) -> NoReturn:
    """Run ``dvc repro --single-item`` with little output; this process then ends, at the latest with its parent.

    Ctrl-C ends it even if a shell script started the command in the background, where shells make processes ignore it.
    """
    try:
        follow(parent)
        sys.exit(repro_one(address))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def follow(parent: int) -> None:
    """End with Ctrl-C and with the parent."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    end_with_parent()
    if os.getppid() != parent:
        sys.exit(128 + signal.SIGTERM)


def repro_one(address: str) -> int:
    """The exit code of ``dvc repro --single-item``."""
    from dvc.cli import main

    for name in TOLD:
        logging.getLogger(name).setLevel(logging.INFO)
    return int(main(["--wait-for-lock", "repro", "--quiet", "--single-item", address]))
