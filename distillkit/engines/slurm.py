"""Jobs on a Slurm cluster, submitted by submitit.

Each job has a folder with its order, its log and its exit code; all nodes can access it. One ``squeue`` every few
seconds asks Slurm about all jobs. If Slurm has ended a job without an exit code in its folder (a dead node, a preempted
job), it is submitted again. If the controller is killed, the next one finds the jobs by their folders.
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
CHOSEN = "DISTILLKIT_SLURM"  # if it is local, submitit runs jobs as processes of this machine, to try it without Slurm
AGAIN = 3  # times that a job is submitted again
COMMANDS = ("sbatch", "squeue", "sinfo")
ELSEWHERE = f"run this on a login node, or set {CHOSEN}=local to try it on this machine"
SILENT = ("Unable to contact slurm controller", "configuration source")  # in errors when the controller is away
BETWEEN = 5.0  # seconds between two calls of squeue
SLOW = 15.0  # seconds until a file that one node wrote can be read on another
MIB = 2**20


class Running:
    """The state of one job in the controller; without ``handle`` until Slurm has accepted it."""

    def __init__(self, job: Job, folder: Path, handle: Any):
        self.job, self.folder, self.handle = job, folder, handle
        self.node, self.read, self.again, self.missing = "", 0, 0, 0.0


class Slurm:
    """The engine of a Slurm cluster. ``folder`` holds the folders of jobs; all nodes can access it."""

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
        """Cores of the largest node. Raises DistillkitError if no cluster answers."""
        if self.cluster != REAL:
            return 1
        chosen = ["--partition", self.partition] if self.partition else []
        command = ["sinfo", "--noheader", "--format", "%c", *chosen]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DistillkitError(
                f"no Slurm cluster answers here ({found}); expected its controller to answer; {ELSEWHERE}"
            )
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
        """The job of an earlier controller if Slurm has not ended it, or None."""
        path = folder / "id.txt"
        if not path.is_file() or (folder / ENDED).exists():
            return None
        number = path.read_text(encoding="utf-8")
        if self.cluster != REAL or number not in self.queue():
            return None
        return self.submitit.SlurmJob(folder / "submitit", number)

    def sent(self, job: Job, folder: Path) -> Any:
        """Submit the job; None if Slurm's controller is away. Raises DistillkitError if Slurm refuses the job."""
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
            with redirect_stderr(StringIO()):  # the error contains the output of sbatch
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
        """Our jobs that Slurm has not ended, by number, with the reason why each does not run yet."""
        if self.cluster != REAL:
            return {str(job.handle.job_id): "" for job in self.running.values() if not job.handle.done()}
        command = ["squeue", "--noheader", "--user", getpass.getuser(), "--format", "%i|%T|%r"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return self.listed  # Slurm is busy or restarts; jobs keep running
        rows = (line.split("|") for line in done.stdout.splitlines())
        return {number: why for number, state, why in rows if state not in ENDED_STATES}

    def reason(self, stage: str) -> str:
        if (handle := self.running[stage].handle) is None:
            return "Slurm's controller does not answer"
        number = str(handle.job_id)
        return f"Slurm has not started job {number} yet ({self.listed.get(number) or 'no reason given'})"

    def heard(self, stage: str, job: Running, last: bool = False) -> Iterator[Event]:
        """Events with the node of a job and with its new whole lines."""
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
        """Submit a job that Slurm has not accepted yet, or no longer has, without an exit code after some time.

        If Slurm refuses it, the job has failed.
        """
        if job.handle is not None:
            if str(job.handle.job_id) in self.listed:
                job.missing = 0
                return
            job.missing = job.missing or time.monotonic()
            if time.monotonic() - job.missing < (SLOW if self.cluster == REAL else 0):
                return
            if job.again == AGAIN:
                del self.running[stage]
                found = f"Slurm ended the job {AGAIN + 1} times without a result ({last_word(job.folder)})"
                yield Event(stage, "failed", found)
                return
            yield Event(stage, "said", f"Slurm ended job {job.handle.job_id}; it is submitted again")
            job.again, job.missing, self.asked = job.again + 1, 0.0, 0.0
        try:
            job.handle = self.sent(job.job, job.folder)
        except DistillkitError as error:
            del self.running[stage]
            yield Event(stage, "failed", str(error))

    def cancel(self) -> None:
        for job in self.running.values():
            with suppress(Exception):
                job.handle.cancel(check=False)
        deadline = time.monotonic() + 30
        numbers = {str(job.handle.job_id) for job in self.running.values() if job.handle is not None}
        while time.monotonic() < deadline and numbers & self.queue().keys():
            time.sleep(0.5)
        for job in self.running.values():
            shutil.rmtree(job.folder, ignore_errors=True)
        self.running.clear()


ENDED_STATES = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")


def ending(folder: Path) -> int | None:
    """The exit code in a job's folder; None until there is one."""
    try:
        return int(json.loads((folder / ENDED).read_text(encoding="utf-8"))["code"])
    except FileNotFoundError:
        return None


def last_word(folder: Path) -> str:
    """The last line in the logs of submitit and Slurm, except lines of srun, which only say that the job has ended."""
    logs = sorted((folder / "submitit").glob("*.err"), key=lambda path: path.stat().st_mtime)
    lines = [line for path in logs for line in path.read_text(errors="replace").splitlines() if line.strip()]
    found = [line for line in lines if not line.startswith("srun: ")] or lines
    return found[-1].strip()[-300:] if found else "no reason given"
