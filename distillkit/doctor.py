"""``distillkit doctor``: is this machine ready for the pipeline? Every check says what it found and how to mend it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NoAnswerError
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from distillkit import __version__, params
from distillkit.artifact import Opened, class_names_of
from distillkit.demand import Demand, Images, demand_of
from distillkit.errors import DistillkitError

Status = Literal["ok", "warning", "failure"]
PATIENCE = 20  # seconds for a remote to answer
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` is empty where there is nothing to mend."""

    check: str
    status: Status
    found: str
    remedy: str = ""


def examine(folder: Path) -> Iterator[Finding]:
    """Everything that the pipeline in ``folder`` needs, one finding after the other."""
    yield interpreter("python", "failure", "stages call it: activate the environment that distillkit is installed in")
    yield interpreter("dvc", "warning", "activate the environment that distillkit is installed in")
    yield torch_pair()
    yield device()
    yield git(folder)
    yield from dvc_remotes(folder)
    yield token()
    yield from pipeline(folder)


def lines(findings: list[Finding]) -> Iterator[str]:
    """For people."""
    for finding in findings:
        yield f"{finding.status:8} {finding.check}: {finding.found}"
        if finding.remedy:
            yield f"         → {finding.remedy}"


# This machine


def interpreter(command: str, otherwise: Status, remedy: str) -> Finding:
    """Whether a command of the PATH belongs to the environment that runs this."""
    found = shutil.which(command)
    if found is None:
        return Finding(command, "failure", "not on the PATH", remedy)
    if Path(found).parent.resolve() != Path(sys.executable).parent.resolve():
        return Finding(command, otherwise, f"{found}, but distillkit runs with {sys.executable}", remedy)
    return Finding(command, "ok", found)


def torch_pair() -> Finding:
    """torch and torchvision of different builds fail only when they are imported together."""
    try:
        import torch
        import torchvision
    except Exception as error:  # mismatched builds raise errors of every kind
        reason = " ".join(str(error).split())[:120]
        return Finding(
            "torch", "failure", reason, "install both from one index: pip install --force-reinstall torch torchvision"
        )
    return Finding("torch", "ok", f"torch {torch.__version__}, torchvision {torchvision.__version__}")


def device() -> Finding:
    import torch

    from distillkit.device import prepare_device

    try:
        chosen = prepare_device()
    except DistillkitError as error:
        return Finding("device", "failure", str(error), "unset DISTILLKIT_DEVICE")
    if chosen.type == "cuda":
        free, total = torch.cuda.mem_get_info(chosen)
        return Finding(
            "device", "ok", f"{torch.cuda.get_device_name(chosen)}, {free / GIB:.0f} of {total / GIB:.0f} GiB free"
        )
    return Finding(
        "device", "ok", f"{chosen.type}, {os.cpu_count()} cores, {memory_available() / GIB:.1f} GiB memory available"
    )


def memory_available() -> int:
    """Bytes that new processes can have."""
    import psutil

    return int(psutil.virtual_memory().available)


# Git, DVC, the Hub


def git(folder: Path) -> Finding:
    """Whether there is a commit, which experiments need, and whether files wait for one."""
    if not run("git", "-C", str(folder), "rev-parse", "--is-inside-work-tree"):
        return Finding("git", "failure", "no Git repository here", "git init")
    if not run("git", "-C", str(folder), "rev-parse", "--verify", "-q", "HEAD"):
        return Finding(
            "git", "warning", "no commit yet, which dvc exp and dvc metrics diff need", "git add -A && git commit"
        )
    changed = run("git", "-C", str(folder), "status", "--porcelain").splitlines()
    return Finding("git", "ok", f"{len(changed)} files differ from the last commit" if changed else "all committed")


def run(*command: str) -> str:
    """What a command prints; nothing when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def dvc_remotes(folder: Path) -> Iterator[Finding]:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo(str(folder))
    except DvcException as error:
        yield Finding("dvc repository", "failure", " ".join(str(error).split())[:120], "dvc init")
        return
    with repo:
        names = list(repo.config["remote"])
        if not names:
            yield Finding("dvc remote", "warning", "none; results stay on this machine", "dvc remote add -d NAME URL")
        for name in names:
            yield answered(f"dvc remote {name}", partial(reached, repo, name))


def reached(repo: Any, name: str) -> Finding:
    store = repo.cloud.get_remote_odb(name)
    store.fs.exists(store.path)
    return Finding(f"dvc remote {name}", "ok", f"{store.fs.protocol} answers")


def answered(check: str, question: Callable[[], Finding]) -> Finding:
    """The finding, or a failure when the question raises or takes too long."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(question).result(PATIENCE)
    except NoAnswerError:
        return Finding(check, "failure", f"no answer in {PATIENCE} s", "check the network and the address")
    except Exception as error:  # every kind of remote raises errors of its own
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        return Finding(check, "failure", reason, "check its address and your credentials: dvc remote modify --local")
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def token() -> Finding:
    """Whether there is a token for the Hub; it is never shown."""
    from huggingface_hub import get_token

    if get_token():
        return Finding("Hugging Face token", "ok", "present")
    return Finding(
        "Hugging Face token", "warning", "none, which distillkit push needs", "hf auth login, or set HF_TOKEN"
    )


# The pipeline


def pipeline(folder: Path) -> Iterator[Finding]:
    """Whether params.yaml can be read, and what its recipes will take."""
    file = folder / params.FILE
    if not file.is_file():
        yield Finding("pipeline", "warning", f"no {file}", "distillkit init")
        return
    try:
        data = params.load(file)
        yield version(data)
        yield from takes(demand_of(data, fetched := images(folder)), fetched, folder)
    except DistillkitError as error:
        yield Finding("params.yaml", "failure", str(error), "correct it")


def version(data: dict[str, Any]) -> Finding:
    written = data.get("distillkit", __version__)
    if str(written) == __version__:
        return Finding("distillkit", "ok", __version__)
    remedy = f"write distillkit: {__version__} into params.yaml to run everything again with it, or install {written}"
    return Finding("distillkit", "warning", f"{__version__} here, {written} in params.yaml", remedy)


def images(folder: Path) -> Images | None:
    """What has been fetched, if anything."""
    real = folder / "artifacts/real.safetensors"
    if not real.is_file():
        return None
    opened = Opened(real, "real")
    train, test = (opened.file.get_slice(f"{split}_images").get_shape() for split in ("train", "test"))
    channels, height, width = train[1:]
    return Images((channels, height, width), len(class_names_of(opened)), train[0], test[0])


def takes(demand: Demand, fetched: Images | None, folder: Path) -> Iterator[Finding]:
    """Memory and disk against what is there."""
    memory, disk = memory_available(), shutil.disk_usage(folder).free
    unknown = "" if fetched else ", without the images, which are not fetched yet"
    found = f"about {demand.memory / GIB:.2f} GiB ({demand.largest}{unknown}); {memory / GIB:.1f} available"
    remedy = "lower batch, width or network, or use a machine with more"
    yield Finding("memory", "ok", found) if demand.memory < memory else Finding("memory", "warning", found, remedy)
    found = f"about {demand.disk / GIB:.2f} GiB for trajectories, twice with DVC's cache; {disk / GIB:.1f} free"
    remedy = "fewer expert_shards, or set DVC's cache.type to hardlink or reflink"
    yield Finding("disk", "ok", found) if 2 * demand.disk < disk else Finding("disk", "failure", found, remedy)
