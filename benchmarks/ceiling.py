"""How much arithmetic a unit of work is, and how much of it the device could do: the measured convolution ceiling."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from cases import Case, DistillationCase, EvaluationCase, ExpertsCase, Task, random_images
from reference import distillation, fresh_network
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from distillkit.training.compute import Precision

CALLS = 10  # convolutions of one run
SMALL_BATCH = 2  # FLOP are counted on it: they are proportional to the batch
CPU = torch.device("cpu")


@dataclass(frozen=True)
class ConvolutionCase:
    """A 3x3 convolution, 128 to 128 channels, 16x16, channels_last: the largest of ConvNet-3-128; a unit is a FLOP."""

    precision: Precision
    batch: int = 125
    channels: int = 128
    side: int = 16

    @property
    def units(self) -> int:
        return CALLS * 2 * 9 * self.batch * self.channels**2 * self.side**2


def convolution(case: ConvolutionCase, device: torch.device) -> Task:
    """CALLS forward convolutions; on CUDA fp32 is left at torch's default, which for convolutions is TF32."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case.precision]
    images = torch.ones(case.batch, case.channels, case.side, case.side, device=device, dtype=dtype)
    weight = torch.ones(case.channels, case.channels, 3, 3, device=device, dtype=dtype) / case.channels
    images, weight = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (images, weight))

    @torch.no_grad()
    def run() -> None:
        for _ in range(CALLS):
            F.conv2d(images, weight, padding=1)

    return Task(run=run, warm=run)


def flop_per_unit(case: Case) -> int:
    """FLOP (convolutions and products of matrices) of one image visited, or of one inner step with its graph kept."""
    if isinstance(case, ExpertsCase | EvaluationCase):
        return training_flop(case)
    shorter, longer = (count_flop(small_unroll(case, steps)) for steps in (2, 3))
    return (longer - shorter) * case.batch // SMALL_BATCH


def training_flop_per_unit(case: Case) -> int:
    """FLOP of one training step on the images of one unit: what a recomputed inner step costs again."""
    return training_flop(case) * (case.batch if isinstance(case, DistillationCase) else 1)


def training_flop(case: Case) -> int:
    """FLOP of forward and backward for one image."""
    network = fresh_network(case, CPU)
    images, labels = random_images(SMALL_BATCH, case.side, CPU)
    return count_flop(lambda: F.cross_entropy(network(images), labels).backward()) // SMALL_BATCH


def small_unroll(case: DistillationCase, steps: int) -> Callable[[], None]:
    """The reference's outer step at the same network and SMALL_BATCH images a batch."""
    return distillation(replace(case, steps=steps, batch=SMALL_BATCH, ipc=1, dsa=False), CPU).run


class FlopCounter(TorchDispatchMode):
    """Adds up torch's formula of every operator; unlike FlopCounterMode it allows ``autograd.grad`` inside."""

    total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_flop(function: Callable[[], object]) -> int:
    with FlopCounter() as counter:
        function()
    return int(counter.total)
