"""Jobs on a Slurm cluster, by submitit: each has a folder that all nodes see, with its order, its log and its end.

Slurm is asked about all jobs at once, by one ``squeue`` every few seconds. A job that Slurm has dropped without an end
in its folder (a dead node, a preempted job) is submitted again. After a kill, the next controller finds jobs by their
folder.
"""

import getpass
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from typing import Any

from distillkit.base.errors import DistillkitError
from distillkit.base.files import write_text
from distillkit.engines.engine import Event, Job
from distillkit.engines.worker import ENDED, NODE, SAID, TAR

REAL = "slurm"
CHOSEN = "DISTILLKIT_SLURM"  # set to local: processes of submitit's own on this machine, to try it without Slurm
AGAIN = 3  # times that a job is submitted anew
COMMANDS = ("sbatch", "squeue", "sinfo")
ELSEWHERE = f"run this on a login node, or set {CHOSEN}=local to try it on this machine"
SILENT = ("Unable to contact slurm controller", "configuration source")  # in what its commands say without an answer
BETWEEN = 5.0  # seconds between two questions to Slurm
SLOW = 15.0  # seconds that a file may take to be seen on another node
MIB = 2**20


class Running:
    """What the controller knows of one job; no ``handle`` until Slurm has taken it."""

    def __init__(self, job: Job, folder: Path, handle: Any):
        self.job, self.folder, self.handle = job, folder, handle
        self.node, self.read, self.again, self.missing = "", 0, 0, 0.0


class Slurm:
    """The engine of a Slurm cluster. ``folder`` holds the jobs and is seen by all nodes."""

    def __init__(self, folder: Path, partition: str | None = None):
        try:
            import submitit
        except ImportError:
            raise DistillkitError("submitit is not installed; install it: pip install 'distillkit[slurm]'") from None
        self.cluster = os.environ.get(CHOSEN, REAL)
        if self.cluster == REAL and (absent := [name for name in COMMANDS if shutil.which(name) is None]):
            raise DistillkitError(f"{absent[0]} is not on the PATH; expected Slurm's commands; {ELSEWHERE}")
        self.submitit, self.folder, self.partition = submitit, folder.resolve(), partition
        self.running: dict[str, Running] = {}
        self.listed: dict[str, str] = {}
        self.asked = 0.0

    def largest(self) -> int:
        """Cores of the largest node. Raises DistillkitError where no cluster answers."""
        if self.cluster != REAL:
            return 1
        chosen = ["--partition", self.partition] if self.partition else []
        command = ["sinfo", "--noheader", "--format", "%c", *chosen]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DistillkitError(f"no Slurm cluster answers here ({found}); expected its controller to; {ELSEWHERE}")
        return max((int(line.strip("+")) for line in done.stdout.split() if line.strip("+").isdecimal()), default=1)

    def submit(self, job: Job) -> None:
        folder = self.folder / job.name
        handle = self.found(folder)
        if handle is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, mode=0o700)
            (folder / TAR).write_bytes(job.order)
            handle = self.sent(job, folder)
        self.running[job.stage] = Running(job, folder, handle)

    def found(self, folder: Path) -> Any:
        """A job of an earlier controller that Slurm has still, or None."""
        path = folder / "id.txt"
        if not path.is_file() or (folder / ENDED).exists():
            return None
        number = path.read_text(encoding="utf-8")
        if self.cluster != REAL or number not in self.queue():
            return None
        return self.submitit.SlurmJob(folder / "submitit", number)

    def sent(self, job: Job, folder: Path) -> Any:
        """Hand the job to Slurm; None where its controller is away. Raises DistillkitError where it refuses."""
        demand, command = job.demand, [sys.executable, "-P", "-m", "distillkit.engines.worker", str(folder)]
        executor = self.submitit.AutoExecutor(folder / "submitit", cluster=self.cluster)
        wanted: dict[str, Any] = {"name": job.name, "slurm_cpus_per_task": demand.cores, "slurm_time": None}
        wanted |= {"slurm_mem": f"{demand.memory // MIB + 1}M"} if demand.memory else {}
        wanted |= {"slurm_gpus_per_node": demand.gpus} if demand.gpus else {}
        wanted |= {"slurm_partition": self.partition} if self.partition else {}
        wanted |= {"timeout_min": demand.minutes or 60 * 24 * 7} if self.cluster != REAL else {}
        wanted |= {"slurm_time": demand.minutes} if demand.minutes else {}
        executor.update_parameters(**wanted)
        try:
            with redirect_stderr(StringIO()):  # the error has what sbatch says
                handle = executor.submit(self.submitit.helpers.CommandFunction(command))
        except (self.submitit.core.utils.FailedJobError, subprocess.CalledProcessError, OSError) as error:
            if any(text in str(error) for text in SILENT):
                return None
            raise DistillkitError(
                f"Slurm refuses {job.stage}: {' '.join(str(error).split())[:300]}; correct the options and run it again"
            ) from None
        write_text(folder / "id.txt", str(handle.job_id))
        return handle

    def poll(self, seconds: float) -> Iterator[Event]:
        time.sleep(seconds)
        fresh = time.monotonic() - self.asked >= BETWEEN
        if fresh:
            self.listed, self.asked = self.queue(), time.monotonic()
        for stage, job in list(self.running.items()):
            ended = ending(job.folder)
            yield from self.heard(stage, job)
            if ended is not None:
                yield from self.heard(stage, job, last=True)
                del self.running[stage]
                yield Event(stage, "failed" if ended else "done")
                if not ended:
                    shutil.rmtree(job.folder, ignore_errors=True)
            elif fresh:
                yield from self.kept_up(stage, job)

    def queue(self) -> dict[str, str]:
        """The jobs of ours that Slurm has not ended, by number, and why each has no place yet."""
        if self.cluster != REAL:
            return {str(job.handle.job_id): "" for job in self.running.values() if not job.handle.done()}
        command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%T|%r"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return self.listed  # Slurm is busy, or restarts; jobs go on
        rows = (line.split("|") for line in done.stdout.splitlines())
        return {number: why for number, state, why in rows if state not in ENDED_STATES}

    def reason(self, stage: str) -> str:
        if (handle := self.running[stage].handle) is None:
            return "Slurm's controller does not answer"
        number = str(handle.job_id)
        return f"Slurm has no place for job {number} yet ({self.listed.get(number) or 'no reason given'})"

    def heard(self, stage: str, job: Running, last: bool = False) -> Iterator[Event]:
        """Where a job runs, and whole lines that it has said."""
        with suppress(FileNotFoundError):
            node = (job.folder / NODE).read_text(encoding="utf-8")
            if node != job.node:  # Slurm itself may put a job into its queue again
                job.node = node
                yield Event(stage, "placed", node)
        with suppress(FileNotFoundError), (job.folder / SAID).open("rb") as file:
            file.seek(job.read)
            found = file.read()
            whole = found if last else found[: found.rfind(b"\n") + 1]
            job.read += len(whole)
            lines = whole.decode(errors="replace").splitlines()
            yield from (Event(stage, "said", line.rstrip()) for line in lines if line.strip())

    def kept_up(self, stage: str, job: Running) -> Iterator[Event]:
        """Submit a job that Slurm has not taken, or has lost; it has failed where Slurm refuses it."""
        try:
            if job.handle is None:
                job.handle = self.sent(job.job, job.folder)
            else:
                yield from self.looked_for(stage, job)
        except DistillkitError as error:
            del self.running[stage]
            yield Event(stage, "failed", str(error))

    def looked_for(self, stage: str, job: Running) -> Iterator[Event]:
        """Submit a job again that Slurm has no more, when its end is not seen for some time."""
        if str(job.handle.job_id) in self.listed:
            job.missing = 0
            return
        job.missing = job.missing or time.monotonic()
        if time.monotonic() - job.missing < (SLOW if self.cluster == REAL else 0):
            return
        if job.again == AGAIN:
            del self.running[stage]
            yield Event(stage, "failed", f"Slurm ended it {AGAIN + 1} times without a result ({last_word(job.folder)})")
            return
        yield Event(stage, "said", f"Slurm has ended job {job.handle.job_id}; it is submitted again")
        job.again, job.missing = job.again + 1, 0.0
        job.handle = self.sent(job.job, job.folder)
        self.asked = 0.0

    def cancel(self) -> None:
        for job in self.running.values():
            with suppress(Exception):
                job.handle.cancel(check=False)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(number in self.queue() for number in self.numbers()):
            time.sleep(0.5)
        for job in self.running.values():
            shutil.rmtree(job.folder, ignore_errors=True)
        self.running.clear()

    def numbers(self) -> list[str]:
        return [str(job.handle.job_id) for job in self.running.values() if job.handle is not None]


ENDED_STATES = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")


def ending(folder: Path) -> int | None:
    """The exit code in a job's folder, None before there is one."""
    try:
        return int(json.loads((folder / ENDED).read_text(encoding="utf-8"))["code"])
    except FileNotFoundError:
        return None


def last_word(folder: Path) -> str:
    """The last line that submitit or Slurm has left of a job, but for srun's, which only says that it has ended."""
    logs = sorted((folder / "submitit").glob("*.err"), key=lambda path: path.stat().st_mtime)
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines() if line.strip()]
    found = [line for line in lines if not line.startswith("srun: ")] or lines
    return found[-1].strip()[-300:] if found else "no reason given"
