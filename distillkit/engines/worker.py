"""The process of a job on a node: ``python -m distillkit.engines.worker FOLDER``, where FOLDER/order.tar is the order.

It writes its output to FOLDER/said.txt and, at the end, its exit code to FOLDER/ended.json. It deletes its workspace
when it ends. ``--versions`` prints the result of :func:`distillkit.engines.order.versions` here.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from distillkit.base.files import write_text
from distillkit.engines.local import PYTHON, follow, repro_one
from distillkit.engines.order import ORDER, differences, versions
from distillkit.process.interruption import end_with_parent
from distillkit.process.startup import SERVER

STAGE = "import sys; from distillkit.engines.worker import stage; stage(*sys.argv[1:])"
TAR, SAID, NODE, ENDED = "order.tar", "said.txt", "node.txt", "ended.json"


class Asked(BaseException):
    """The engine has asked the job to end."""


def main(folder: Path) -> int:
    """Run the job and return its exit code. If asked to end, the stage, a process group of its own, ends safely."""
    said = os.open(folder / SAID, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(said, 1)
    os.dup2(said, 2)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    end_with_parent()
    write_text(folder / NODE, node())
    try:
        with tempfile.TemporaryDirectory(prefix="distillkit-", ignore_cleanup_errors=True) as workspace:
            code = run(folder, Path(workspace))
    except Asked:
        return 128 + signal.SIGTERM
    except OSError as error:  # such as a full disk, on which the deleted workspace has made room
        found = f"cannot run the job: {error.strerror} ({error.filename or tempfile.tempdir})"
        code = mistaken(f"{found}; make room there, or set TMPDIR to another folder")
    write_text(folder / ENDED, json.dumps({"code": code, "node": node()}))
    return code


def mistaken(found: str) -> int:
    """Print why this node cannot run the stage, and return the exit code."""
    print(f"error: node {node()} {found}", flush=True)  # noqa: T201
    return 1


def ask(number: int, frame: Any) -> None:
    del frame, number
    for again in (signal.SIGTERM, signal.SIGINT):
        signal.signal(again, signal.SIG_IGN)  # the stage is ending
    raise Asked


def node() -> str:
    return os.environ.get("SLURMD_NODENAME") or os.environ.get("DISTILLKIT_NODE") or socket.gethostname()


def run(folder: Path, workspace: Path) -> int:
    """Unpack and check the order, then run the stage in a process with the order's environment."""
    with tarfile.open(folder / TAR) as archive:
        archive.extraction_filter = getattr(tarfile, "fully_trusted_filter", None)
        archive.extractall(workspace)
    order = json.loads((workspace / ORDER).read_text(encoding="utf-8"))
    if mistake := settled_in(order, workspace):
        return mistaken(mistake)
    process = subprocess.Popen(
        [*PYTHON, "-c", STAGE, str(os.getpid()), order["stage"], order["remote"] or ""],
        stdin=subprocess.DEVNULL,
        cwd=workspace / order["folder"],
        env=environment(order, workspace),
        start_new_session=True,
    )
    try:
        return process.wait()
    except Asked:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait()
        raise


def settled_in(order: dict[str, Any], workspace: Path) -> str:
    """Connect the workspace with the cache and the folder of unfinished work. Returns an error, or an empty text."""
    if differ := differences(order["versions"], versions()):
        return f"has {differ}; expected the same everywhere; install the same environment on it"
    seen = Path(order["cache"], ".distillkit")
    shared = bool(order["token"]) and seen.is_file() and seen.read_text(encoding="utf-8") == order["token"]
    if shared:
        order["remote"] = None
        with (workspace / ".dvc/config.local").open("w", encoding="utf-8") as file:
            file.write(f"[cache]\n    dir = {order['cache']}\n")
    elif order["remote"] is None:
        return f"cannot access {order['cache']}; name a DVC remote that it can access: --remote NAME"
    if shared or order["work_given"]:
        link = workspace / order["stage_folder"] / ".distillkit"
        try:
            Path(order["work"]).mkdir(parents=True, exist_ok=True)
            link.symlink_to(order["work"], target_is_directory=True)
        except OSError as error:
            return f"cannot use {order['work']} ({error.strerror}); expected a folder that all nodes can access"
    return ""


def environment(order: dict[str, Any], workspace: Path) -> dict[str, str]:
    """Our environment with the controller's settings, and our own ``python``, which stages call, first on the PATH."""
    merged = os.environ | order["environment"]
    merged |= {"DVC_SITE_CACHE_DIR": str(workspace / ".dvc/site"), "DVC_NO_ANALYTICS": "1", SERVER: ""}
    merged["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {name: value for name, value in merged.items() if value is not None}


def stage(parent: str, address: str, remote: str) -> None:
    """Get the inputs of the stage, run it unless its result exists by now, and push the result; this process ends."""
    from distillkit.base.errors import DistillkitError
    from distillkit.engines.results import publish, settle, supply

    follow(int(parent))
    try:
        supply(address, remote or None)
        state = settle(address, remote or None)
        if not state.done and (code := repro_one(address)):
            sys.exit(code)
        if remote and not state.done:
            publish(address, state.key, remote)
    except (DistillkitError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    if sys.argv[1] == "--versions":
        sys.stdout.write(json.dumps(versions()) + "\n")
    else:
        sys.exit(main(Path(sys.argv[1])))
