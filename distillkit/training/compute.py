"""How a job uses the machine: parallel tasks, memory layout, compilation.

None of this is part of a recipe. All choices give the same results except for rounding. The same choice gives the same
bytes.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from distillkit.data.rows import Images, Normalises, normalised

A = TypeVar("A")

B = TypeVar("B")

F = TypeVar("F", bound=Callable[..., Any])

Precision = Literal["fp32", "bf16"]


class Mapper(Protocol):
    """Runs independent tasks as ``map`` does: results in order, possibly in parallel.

    A task returns a tensor or a NamedTuple of tensors on the CPU, so that the result can be saved.
    """

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


class Stepwise(Protocol):
    """Work in steps. It can stop after any step and continue in another process with bit-identical results."""

    @property
    def steps(self) -> int:
        """The total number of steps."""
        ...

    @property
    def done(self) -> int: ...

    def advance(self) -> object:
        """Do one more step."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that the remaining work depends on after the last finished step, as tensors."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from a :meth:`state`. Raises KeyError, RuntimeError or ValueError if it belongs to other work."""
        ...


class Finisher(Protocol):
    """Runs work to its end. ``name`` is its name, which is unique in a run."""

    def __call__(self, work: Stepwise, name: str, /) -> None: ...


def to_the_end(work: Stepwise, name: str, /) -> None:
    """Run all steps and save nothing."""
    del name
    while work.done < work.steps:
        work.advance()


@dataclass(frozen=True)
class Compute:
    """How to run a job.

    ``run`` maps independent tasks; ``finish`` runs stepwise work to its end. At most ``stack`` networks of one kind are
    trained as one (``stacking.py``). ``channels_last`` uses that memory format for images and convolution weights.
    ``compile`` compiles the repeated step, which is worthwhile in long jobs. ``keep`` is the number of inner steps of
    an unroll that keep their graph; the others are computed again for the gradient (None: keep as many as fit into
    memory). ``say`` is called with one line of text: the time of a compilation, why it failed, or the speed of the
    work. ``on_update`` is called after every update of a network, in the thread that trains it; an exception from it
    ends the training.
    """

    run: Mapper = map
    finish: Finisher = to_the_end
    stack: int = 1
    channels_last: bool = False
    compile: bool = False
    keep: int | None = None
    say: Callable[[str], None] = lambda _: None
    on_update: Callable[[], None] = lambda: None

    def groups(self, items: Iterable[A]) -> list[list[A]]:
        """Split ``items`` (at least one) in order into groups of equal size (±1), one for each stack of networks.

        Two or more items give at least two groups, so that a second core is used. The number of groups does not depend
        on the number of cores, so that all machines compute the same numbers.
        """
        every = list(items)
        count = len(every) if self.stack == 1 else min(len(every), max(2, math.ceil(len(every) / self.stack)))
        edges = [len(every) * group // count for group in range(count + 1)]
        return [every[first:last] for first, last in pairwise(edges)]

    def place(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Move ``network`` to ``device`` in the chosen memory format, in place."""
        network = network.to(device)
        return network.to(memory_format=torch.channels_last) if self.channels_last else network

    def seen(self, images: Images, normalisation: Normalises, device: torch.device) -> Images:
        """Normalised images in the chosen memory format; see :func:`~distillkit.data.rows.normalised`."""
        return normalised(images, normalisation, device, self.channels_last)

    def layout(self, x_NCHW: Tensor) -> Tensor:
        """``x_NCHW`` in the chosen memory format."""
        return x_NCHW.contiguous(memory_format=torch.channels_last) if self.channels_last else x_NCHW


def compiled(fast: F, plain: F, name: str, say: Callable[[str], None]) -> F:
    """A function that calls ``torch.compile(fast)``, or ``plain`` if ``fast`` cannot be compiled here.

    The first call compiles it, and so does the first call with other shapes. With CUDA, it is also captured as a CUDA
    graph: the next call overwrites the tensors that the last one returned.
    """
    candidate: Callable[..., Any] | None = None
    works, told = True, False

    def call(*arguments: Any) -> Any:
        nonlocal candidate, works, told
        if not works:
            return plain(*arguments)
        started = time.perf_counter()
        try:
            candidate = candidate or torch_compile(fast)
            if told:
                return candidate(*arguments)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # warnings of torch about its own code
                result = candidate(*arguments)
        except Exception as error:  # no compiler, an unsupported platform, ...: ``plain`` always works
            works = False
            say(f"cannot compile {name} here ({first_reason(error)}); running it uncompiled")
            return plain(*arguments)
        told, seconds = True, time.perf_counter() - started
        if seconds > 1:  # shapes that this process has compiled before take no time
            say(f"compiled {name} in {seconds:.0f} s")
        return result

    return cast(F, call)


def torch_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compile`` for fixed shapes; with CUDA graphs if CUDA is available."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # without CUDA it would always warn
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    result: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
    return result


def first_reason(error: Exception) -> str:
    """The first line with a reason in an error's message."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return lines[0].strip() if lines else type(error).__name__
