"""Stages without the time to import torch: forks of a process that has imported it.

``distillkit repro`` starts such a server, and so does plain ``dvc`` before its first stage that imports torch
(``hub/dvc/plugin.py``). The process of a stage sends the server its command line, folder, environment
and streams, passes signals on, and ends as the fork ends (:func:`hand_over`). It runs its command itself if the server
inherited anything else: other variables, limits or options of Python. The server does not import this package, so that
each stage runs the code of the moment.
"""

import gc
import importlib
import json
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from warnings import catch_warnings

from distillkit.process.interruption import AGAIN, SIGNALS, follow_dvc, leave
from distillkit.process.startup import SERVER, end_at_once

OWN = ("CUDA_VISIBLE_DEVICES", "PWD", "OLDPWD", "SHLVL", "_", "OPTIND", "PS1", "PS2", "PS4")  # of a stage, or a shell
LIGHT = ("list_code.py", "gather.py")  # scripts that import no torch
LOST = 70  # the exit code of a stage whose server was killed, and the fork with it


class Fork(NamedTuple):
    """A command that runs: its process, a descriptor that tells its end, and the process that waits for it."""

    process: int
    ended: int
    client: socket.socket


class Server(NamedTuple):
    """Its address, "" if there is none. It ends with this process at the latest."""

    address: str
    process: subprocess.Popen[bytes] | None = None

    def close(self) -> None:
        """Let it end after its forks, and remove its folder, also if it was killed."""
        if self.process is not None:
            self.process.communicate()
            shutil.rmtree(Path(self.address).parent, ignore_errors=True)


def start() -> Server:
    """Start the server, unless the variable is set, the system has no pidfds or its temporary folder a long name."""
    if SERVER in os.environ or not hasattr(os, "pidfd_open"):
        return Server(os.environ.get(SERVER, ""))
    folder = tempfile.mkdtemp(prefix="distillkit-")  # nobody else can open what is in it
    address = f"{folder}/socket"
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(address)
        except OSError:
            Path(folder).rmdir()
            return Server("")
        listener.listen(100)
        command = [sys.executable, "-P", "-m", __name__, folder, str(listener.fileno())]
        doors = [listener.fileno()]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # who reads ours need not wait for its end
            stderr=subprocess.DEVNULL,
            pass_fds=doors,
            start_new_session=True,
        )
    return Server(address, process)


@cache
def of_this_process() -> Server:
    """A server that lives as long as this process."""
    return start()


def inherited(environment: Mapping[str, str]) -> list[Any]:
    """What a process has from its parent, without the folder, the streams and the variables that stages may have."""
    variables = {name: value for name, value in environment.items() if name not in OWN and not name.startswith("DVC")}
    limits = [resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith("RLIMIT_")]
    variables.pop(SERVER, None)
    return [sys.prefix, variables, limits, sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)]


def hand_over() -> None:
    """Let the server run the command of this process, and end as it ends. Returns if there is no server for it."""
    environment = dict(os.environ)
    if not (address := environment.pop(SERVER, "")) or sys.orig_argv[1:] != sys.argv:
        return
    ignored = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_IGN]
    request = {"argv": sys.argv, "folder": str(Path.cwd()), "environment": environment, "ignored": ignored}
    message = json.dumps({"inherited": inherited(environment), **request}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
            socket.send_fds(server, [len(message).to_bytes(8)], [0, 1, 2])
            server.sendall(message)
            if not server.recv(1):
                return
        except OSError:
            return
        for number in set(SIGNALS).difference(ignored):
            signal.signal(number, lambda number, _: server.send(bytes([number])))
        follow_dvc()
        answer = server.recv(8)
    if not answer:
        shutil.rmtree(Path(address).parent, ignore_errors=True)
        leave(f"distillkit's helper process was killed; {AGAIN}", LOST)
    if (code := int.from_bytes(answer, signed=True)) < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def serve(listener: socket.socket, mine: Any = None) -> dict[str, Any] | None:
    """Fork for each client until standard input is closed. Returns None then; in a fork, the client's request.

    A client that inherited something else than ``mine`` gets no fork.
    """
    forks: list[Fork] = []
    doors: list[Any] = [listener, 0]
    while doors or forks:
        ready = select.select([*doors, *(descriptor for _, *both in forks for descriptor in both)], [], [])[0]
        forks = [fork for fork in forks if runs_on(fork, ready)]
        if 0 in ready:
            doors = []
        elif listener in ready and (request := answer(listener, forks, mine)):
            return request
    return None


def answer(listener: socket.socket, forks: list[Fork], mine: Any) -> dict[str, Any] | None:
    """Fork for the next client if it inherited what is ``mine``. Returns its request in the fork."""
    client, _ = listener.accept()
    request, streams, process = dict[str, Any](), list[int](), None
    with suppress(ValueError, OSError), catch_warnings(action="ignore"):  # a client was killed, or no fork is possible
        size, streams, *_ = socket.recv_fds(client, 8, 3)
        request = json.loads(client.recv(int.from_bytes(size), socket.MSG_WAITALL))
        if request["inherited"] == mine:
            process = os.fork()  # Python warns of threads, here those of a library that handles forks
    if process == 0:
        return request | {"streams": streams, "others": [fork.ended for fork in forks]}
    for stream in streams:
        os.close(stream)
    if process:
        forks.append(Fork(process, os.pidfd_open(process), client))
        with suppress(OSError):
            client.send(b"+")
    return None


def runs_on(fork: Fork, ready: list[Any]) -> bool:
    """Pass a signal on, or tell the client how the fork ended. A fork is killed when its client has been."""
    process, ended, client = fork
    try:
        number = client.recv(1) if client in ready else None
    except ConnectionResetError:  # it ended before it had read the answer
        number = b""
    if number is not None:
        os.kill(process, number[0] if number else signal.SIGKILL)
    if number != b"" and ended not in ready:
        return True
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    with suppress(OSError), client:
        client.send(code.to_bytes(8, signed=True))
    os.close(ended)
    return False


def become(request: Mapping[str, Any]) -> None:
    """In a fork: take over the client's streams, environment, folder and signals."""
    for number, stream in enumerate(request["streams"]):
        os.dup2(stream, number)
    for descriptor in (*request["streams"], *request["others"]):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    for number in SIGNALS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in request["ignored"] else usual)


def main(folder: str, listener: int) -> None:
    end_at_once()  # registered before torch registers anything
    gc.disable()
    for name in ("torch", "pydantic.type_adapter"):
        importlib.import_module(name)
    gc.freeze()  # the garbage collections of the forks leave these objects out
    if request := serve(socket.socket(fileno=listener), json.loads(json.dumps(inherited(os.environ)))):
        become(request)
        sys.argv = request["argv"]
        sys.path.insert(0, str(Path(sys.argv[0]).resolve().parent))
        runpy.run_path(request["argv"][0], run_name="__main__")
    else:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
