"""Where tensors live, and the arithmetic that makes the same run give the same bytes."""

import os

import torch

from distillkit.errors import ParamsError


def prepare_device() -> torch.device:
    """The GPU if there is one, else the CPU, or ``DISTILLKIT_DEVICE``; asks PyTorch for deterministic kernels."""
    name = os.environ.get("DISTILLKIT_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ParamsError(
            f"DISTILLKIT_DEVICE is {name!r}, which cannot be used here ({reason}); unset it or use cpu"
        ) from None
    if (
        device.type != "cpu"
    ):  # on a CPU our kernels are deterministic as they are, and the switch costs 1.7 s of imports
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device
