"""Where tensors live, and the arithmetic that makes the same run give the same bytes."""

import ctypes
import os

import torch
from torch import Tensor

from distillkit.base.errors import ParamsError


def prepare_device() -> torch.device:
    """The GPU if there is one, else the CPU, or ``DISTILLKIT_DEVICE``; deterministic kernels, memory that is reused."""
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
    else:  # on a CPU our kernels are deterministic as they are, and the switch costs 1.7 s of imports
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of the GNU C library


def reuse_freed_memory() -> bool:
    """Ask glibc's allocator to keep freed blocks for the next tensor; False where there is no glibc.

    By default every freed activation map goes back to the system and its pages are faulted in again by the next step,
    which is about half of the time of training on a CPU. The process then holds on to its peak memory until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, 2**31 - 1), mallopt(M_TOP_PAD, 64 * 2**20)])


def onto(device: torch.device, tensor: Tensor) -> Tensor:
    """``tensor`` on ``device``; the host does not wait until a GPU has its copy."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
