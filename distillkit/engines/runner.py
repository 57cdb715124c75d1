"""The code that runs on a node of a Ray cluster. Ray sends this module itself, so it also runs without distillkit.

It imports only the standard library and Ray.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

WORKER = "distillkit.engines.worker"


def ask(cache: str) -> tuple[str, str]:
    """The output of the worker's ``--versions``, or a line feed and an error; and the token in the cache."""
    done = subprocess.run([sys.executable, "-P", "-m", WORKER, "--versions"], capture_output=True, text=True)
    seen = Path(cache, ".distillkit")
    answer = done.stdout if done.returncode == 0 else "\n" + done.stderr.strip()
    return answer, seen.read_text(encoding="utf-8") if seen.is_file() else ""


class Runner:
    """The actor of one job. ``run`` runs it once, however often it is called; ``said`` may be called meanwhile."""

    def __init__(self, kept: float) -> None:
        """``kept``: seconds that the actor waits for a controller to ask how the job has ended."""
        self.folder, self.lock, self.kept = Path(tempfile.mkdtemp(prefix="distillkit-job-")), threading.Lock(), kept
        self.process: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        self.asked = time.monotonic()
        threading.Thread(target=self.leave, daemon=True).start()

    def leave(self) -> None:
        """End this process once no job runs and no controller has asked for some time."""
        while time.monotonic() - self.asked < self.kept or (self.process is not None and self.process.poll() is None):
            time.sleep(1)
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)

    def run(self, order: bytes) -> int:
        """The exit code of the job. Raises OSError on a full disk."""
        with self.lock:
            if self.code is None:
                (self.folder / "order.tar").write_bytes(order)
                command = [sys.executable, "-P", "-m", WORKER, str(self.folder)]
                with (self.folder / "said.txt").open("ab") as said:
                    self.process = subprocess.Popen(command, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
                self.code = self.process.wait()
                self.asked = time.monotonic()
        return self.code

    def said(self, since: int) -> tuple[str, bytes]:
        """The node, and the output of the job without its first ``since`` bytes."""
        import ray

        self.asked = time.monotonic()
        path, found = self.folder / "said.txt", b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(since)
                found = file.read()
        return ray.get_runtime_context().get_node_id(), found

    def end(self, seconds: float) -> None:
        """Ask the job to end, and kill it if it runs after so many seconds."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
