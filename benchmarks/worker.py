"""A process that holds one variant of a benchmark and does a round of it whenever asked; started by harness.py.

The one argument is JSON: benchmark, implementation, case, allocator, device. Requests are JSON lines on standard input,
{"do": "warm"}, {"do": "run", "repeats": 3} or {"do": "memory"}; each is answered by one JSON line on standard output.
Whatever libraries print goes to standard error.
"""

import ctypes
import gc
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tune_allocator() -> None:
    """As the stages do."""
    from distillkit.base.device import reuse_freed_memory

    if not reuse_freed_memory():
        raise RuntimeError("this C library has no allocator to tune; use allocator plain")


def load_task(request: dict[str, Any]) -> Any:
    """The task that this worker holds; only what it needs is imported."""
    import torch

    benchmark, name, device = request["benchmark"], request["implementation"], torch.device(request["device"])
    if benchmark == "ceiling":
        import ceiling

        return ceiling.convolution(ceiling.ConvolutionCase(**request["case"]), device)
    from cases import CASES

    case = CASES[benchmark](**request["case"])
    if name == "reference":
        import reference

        return reference.IMPLEMENTATIONS[benchmark][name].prepare(case, device)
    import ours

    return ours.IMPLEMENTATIONS[benchmark][name].prepare(case, device)


def finish(device: str) -> None:
    """Wait until the device has done all it was asked to."""
    if device != "cpu":
        import torch

        torch.cuda.synchronize()


def seconds_of(function: Callable[[], None], repeats: int, device: str) -> float:
    """Mean wall time of one call, in seconds."""
    finish(device)
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    finish(device)
    return (time.perf_counter() - started) / repeats


def peak_bytes(function: Callable[[], None], device: str) -> int:
    """Peak memory of one call above what was held just before it: of the process on a CPU, of tensors on CUDA."""
    gc.collect()
    if device != "cpu":
        import torch

        finish(device)
        torch.cuda.reset_peak_memory_stats()
        base = torch.cuda.memory_allocated()
        function()
        finish(device)
        return torch.cuda.max_memory_allocated() - base
    if hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    base = status_bytes("VmRSS")
    reset_peak()
    function()
    return status_bytes("VmHWM") - base


def status_bytes(field: str) -> int:
    """A figure of /proc/self/status, which Linux gives in kB."""
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}; peak memory on a CPU is read there, on Linux only")
    return int(found[1]) * 1024


def reset_peak() -> None:
    """Where the kernel forbids it, the peak is that of the whole process so far, which the work normally exceeds."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        sys.stderr.write(f"the peak could not be reset: {error}\n")


def main() -> None:
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        request = json.loads(sys.argv[1])
        device = request["device"]
        if request["allocator"] == "tuned":
            tune_allocator()
        started = time.perf_counter()
        task = load_task(request)
        finish(device)
        answers.write(json.dumps({"seconds": time.perf_counter() - started}) + "\n")
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "memory":
                task.warm()
                answer: dict[str, float] = {"peak_bytes": peak_bytes(task.run, device)}
            else:
                function = task.warm if order["do"] == "warm" else task.run
                answer = {"seconds": seconds_of(function, order.get("repeats", 1), device)}
            answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
