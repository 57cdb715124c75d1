"""Python processes that start in no time: forks of one that has imported everything once.

:data:`BIN` is a folder with a ``python``, a ``dvc`` and a ``distillkit``. Each hands its arguments, folder, environment
and streams to a server, which forks; it passes signals on and ends as the fork ends. A command that needs another
interpreter (other variables that Python itself reads, a terminal) gets a process of its own instead.

The server has not imported the Hub's client, which reads its address while it is imported.
"""

import atexit
import ctypes
import gc
import importlib
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import colorama

from distillkit.process import warm
from distillkit.process.startup import SERVER

SHARED = "DISTILLKIT_TEST_COMMANDS"  # the variable by which the workers of pytest-xdist share the server
IMPORTED = (
    *("dvc.cli.command", "dvc.cli.parser", "dvc.cachemgr", "dvc.data_cloud", "dvc.dvcfile", "dvc.lock", "dvc.parsing"),
    *(f"dvc.repo.{name}" for name in ("artifacts", "checkout", "commit", "datasets", "experiments", "fetch", "graph")),
    *(f"dvc.repo.{name}" for name in ("imp_url", "index", "metrics.show", "open_repo", "plots", "pull", "push")),
    *("dvc.repo.reproduce", "dvc.repo.stage", "dvc.repo.status", "dvc.rwlock", "dvc.stage.cache", "dvc.stage.run"),
    *("dvc_data.hashfile.build", "dvc_data.hashfile.status", "dvc_data.index.checkout", "dvc_data.index.fetch"),
    *("dvc_data.index.push", "scmrepo.git.backend.dulwich", "dulwich.worktree", "pygit2", "configobj", "platformdirs"),
    *("torch", "torchvision", "sklearn.datasets", "sklearn.model_selection", "matplotlib.backends.backend_agg"),
    *("pyarrow.dataset", "pyarrow.parquet", "aiohttp", "requests", "filelock", "jinja2"),
    *("yaml", "multiprocess"),  # which the Hub's client and datasets import
    "networkx",  # which DVC imports at its first graph: 0.15 s
)
READ_BY_PYTHON = ("PYTHON", "LD_", "OMP_", "MALLOC_")

CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
args = sys.argv[1:]
if os.path.basename(sys.argv[0]) != "python":
    args = [os.path.join({scripts!r}, os.path.basename(sys.argv[0])), *args]
known = {{key: value for key, value in os.environ.items() if key.startswith({read!r})}}
able = hasattr(os, "pidfd_open") and args and (args[0] in ("-P", "-m", "-c") or not args[0].startswith("-"))
if not able or known != {known} or any(map(os.isatty, range(3))):
    os.execv({python!r}, [{python!r}, *args])
ignored = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is signal.SIG_IGN]
blocked = [*map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
request = {{"argv": args, "folder": os.getcwd(), "environment": dict(os.environ), "ignored": ignored}}
message = json.dumps(request | {{"inherited": None, "blocked": blocked, "parent": os.getppid()}}).encode()
server = socket.socket(socket.AF_UNIX)
server.connect({socket!r})
socket.send_fds(server, [len(message).to_bytes(8)], [0, 1, 2])
server.sendall(message)
for number in {{signal.SIGINT, signal.SIGTERM}}.difference(ignored):
    signal.signal(number, lambda number, frame: server.send(bytes([number])))
signal.pthread_sigmask(signal.SIG_UNBLOCK, blocked)
server.recv(1)
answer = server.recv(8)
code = int.from_bytes(answer, signed=True) if answer else 70
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def start(**given: str) -> Path:
    """The server, until this process ends; the folder with the three commands."""
    folder = Path(tempfile.mkdtemp(prefix="python-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    environment, address = os.environ | given, str(folder / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(100)
        server = subprocess.Popen(
            [sys.executable, "-P", __file__, str(listener.fileno()), str(folder / "bin/python")],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,  # it says nothing; but standard output is a pipe for the forks, too
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    atexit.register(server.communicate)
    known = {key: value for key, value in environment.items() if key.startswith(READ_BY_PYTHON)}
    values = {"python": sys.executable, "scripts": str(SCRIPTS), "read": READ_BY_PYTHON, "known": known}
    (folder / "bin").mkdir()
    for name in ("python", "dvc", "distillkit"):
        (folder / "bin" / name).write_text(CLIENT.format(socket=address, **values))
        (folder / "bin" / name).chmod(0o755)
    return folder / "bin"


def load() -> None:
    """Import everything, and read the code that stages list; forget what libraries would do at their end, such as to
    print tables.
    """
    root = Path(__file__).parents[1]
    ours = pkgutil.walk_packages([str(root / "distillkit")], "distillkit.")
    rooms = [found.name for found in ours if not found.name.startswith(("distillkit.hub.dvc", "distillkit.__main__"))]
    for name in (*IMPORTED, *rooms):
        importlib.import_module(name)
    with suppress(ImportError):  # what the Hub's client imports, in its newest versions; the second at its first client
        importlib.import_module("httpx2")
        importlib.import_module("httpcore2")
    for script in (root / "stages").glob("*.py"):
        sys.modules["distillkit.pipeline.code"].files_of(script)  # a stage with a checkpoint asks for it: 0.2 s
    assert not {"huggingface_hub", "datasets"} & set(sys.modules)
    colorama.deinit()  # which DVC starts when it is imported: it takes colours out of what goes into a pipe
    atexit.unregister(sys.modules["torch._dynamo.utils"].dump_compile_times)
    for final in weakref.finalize._registry:
        final.atexit = False
    gc.freeze()
    into_large_pages()


def into_large_pages() -> None:
    """Gather this process's memory in pages of 2 MB, which Linux copies to a fork 500 times as fast as those of 4 kB.

    Where Linux cannot, nothing changes.
    """
    libc, size, collapse = ctypes.CDLL(None), 2 << 20, 25
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, rights, _, _, _, *file = line.split()
        first, end = (int(address, 16) for address in where.split("-"))
        first, end = -(-first // size) * size, end // size * size
        if "w" in rights and first < end and file in ([], ["[heap]"]):
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), collapse)


def become(request: dict[str, Any], python: str) -> NoReturn:
    warm.become(request)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    if request["parent"] != 1:  # the tests' own process, in a container: who was started by another 1 is an orphan
        os.getppid = lambda: request["parent"]
    sys.executable = sys.modules["distillkit.engines.local"].PYTHON[0] = python  # an engine's stages are forks, too
    leave(exit_code(request["argv"]))


def exit_code(arguments: list[str]) -> int:
    try:
        execute(arguments)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def execute(arguments: list[str]) -> None:
    """As ``python`` does with these arguments."""
    safe = arguments[0] == "-P"
    first, *rest = arguments[safe:]
    if "dvc" in (Path(first).name, *rest[:1]):
        colorama.reinit()
    if first in ("-m", "-c"):
        what, *rest = rest
        sys.argv = [first, *rest]
        if not safe:
            sys.path.insert(0, str(Path.cwd()) if first == "-m" else "")
        if first == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        return
    sys.argv = [first, *rest]
    if not safe:
        sys.path.insert(0, str(Path(first).resolve().parent))
    runpy.run_path(first, run_name="__main__")


def leave(code: int) -> NoReturn:
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as door:
        if door in select.select([door, 0], [], [])[0]:
            load()
        asked = warm.serve(door)
    if asked:
        become(asked, sys.argv[2])
    sys.exit()

SCRIPTS = Path(sys.executable).parent
os.environ["OMP_NUM_THREADS"] = "1"  # tests run side by side
os.environ[SERVER] = ""  # an engine needs no server of its own
if SHARED not in os.environ:
    os.environ[SHARED] = str(start())
BIN = Path(os.environ[SHARED])
PYTHON = str(BIN / "python")


def path(commands: Path = BIN) -> str:
    """``PATH`` with these commands first, the quick ones or :data:`SCRIPTS`."""
    return os.pathsep.join([str(commands), str(SCRIPTS), os.environ["PATH"]])
