"""The device of tensors, and the settings that make the same run give the same bytes."""

import ctypes
import os

import torch
from torch import Tensor

from distillkit.base.errors import ParamsError


def prepare_device() -> torch.device:
    """The device to compute on: ``DISTILLKIT_DEVICE`` if set, else the GPU if there is one, else the CPU.

    On a CPU this makes the allocator reuse memory. On any other device it switches deterministic kernels on. Raises
    ParamsError when the named device cannot be used.
    """
    name = os.environ.get("DISTILLKIT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ParamsError(
            f"DISTILLKIT_DEVICE is {name!r}, which cannot be used here ({reason}); unset it or use cpu"
        ) from None
    if device.type == "cpu":
        reuse_freed_memory()
    else:  # on a CPU our kernels are always deterministic, and this call would cost 1.7 s of imports
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of the GNU C library


def reuse_freed_memory() -> bool:
    """Make glibc's allocator keep freed blocks for the next tensor. Returns False if that fails, as without glibc.

    By default the allocator returns every freed activation map to the system, and the next step causes page faults for
    all of them. These take about half of the training time on a CPU. With this setting the process keeps its peak
    memory until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2**31 - 1), mallopt(M_TOP_PAD, 64 * 2**20)])


def onto(device: torch.device, tensor: Tensor) -> Tensor:
    """``tensor`` on ``device``. The copy to a GPU is asynchronous."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
