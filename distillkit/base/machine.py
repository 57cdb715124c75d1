"""The memory and cores that this process may use, which a container or a batch system can limit."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def memory_available() -> int:
    """Bytes that new processes can allocate."""
    import psutil

    return min([int(psutil.virtual_memory().available), *memory_left()])


def cores() -> int:
    """Cores that this process may use, at least one: the minimum of affinity, control group quotas and Slurm's limit.

    OMP_NUM_THREADS does not count: it is the number of threads of one network, not the number of networks side by side.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return max(1, min([allowed, *quotas(), *([int(slurm)] if slurm.isdecimal() else [])]))


def groups(controller: str, root: Path, own: Path) -> Iterator[Path]:
    """Paths of this process's control groups (version 2 and 1) for ``controller``, from the innermost outwards."""
    for line in text_of(own).splitlines() or ["0::/"]:
        _, controllers, name = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        base = root / controller if controllers else root
        inner = base / name.lstrip("/")
        yield from (path for path in (inner, *inner.parents) if path == base or base in path.parents)


def memory_left(root: Path = CGROUPS, own: Path = OWN) -> Iterator[int]:
    """Bytes left under each memory limit. Inactive file cache counts as left, because the kernel can free it."""
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for group in groups("memory", root, own):
        for limit, used in names:
            most = text_of(group / limit)
            if most.isdecimal():
                statistics = dict(line.split(" ", 1) for line in text_of(group / "memory.stat").splitlines())
                forgettable = int(statistics.get("total_inactive_file", statistics.get("inactive_file", 0)))
                yield max(0, int(most) - max(0, int(text_of(group / used) or 0) - forgettable))


def quotas(root: Path = CGROUPS, own: Path = OWN) -> Iterator[int]:
    """Each CPU time limit as a number of cores, rounded up."""
    for group in groups("cpu", root, own):
        share, period, *_ = (*text_of(group / "cpu.max").split(), "", "")
        share = share or text_of(group / "cpu.cfs_quota_us")
        period = period or text_of(group / "cpu.cfs_period_us")
        if share.isdecimal() and period.isdecimal() and int(period):
            yield math.ceil(int(share) / int(period))


def text_of(path: Path) -> str:
    """The text of a small file, or an empty text when it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
