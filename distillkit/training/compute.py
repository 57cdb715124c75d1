"""How the machine is used: what runs beside what, in which memory layout, compiled or not.

None of it belongs to a recipe: results agree within rounding whatever is chosen, and are the same to the byte when the
same is chosen again.
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
    """How to run independent tasks: like ``map``, in order, whatever runs beside what.

    A task gives a tensor or a NamedTuple of tensors, on the CPU, so that it can be kept.
    """

    def __call__(self, function: Callable[[A], B], items: Iterable[A], /) -> Iterator[B]: ...


class Stepwise(Protocol):
    """Work in steps that can stop after any of them and go on elsewhere, bit for bit."""

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        ...

    @property
    def done(self) -> int: ...

    def advance(self) -> object:
        """One step more."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that the rest of the work depends on, as it was when the last step was done."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`. Raises KeyError, RuntimeError or ValueError for one that does not fit."""
        ...


class Finisher(Protocol):
    """How to take work to its end; ``name`` is what it is called, once in a run."""

    def __call__(self, work: Stepwise, name: str, /) -> None: ...


def to_the_end(work: Stepwise, name: str, /) -> None:
    """Step after step, keeping nothing."""
    del name
    while work.done < work.steps:
        work.advance()


@dataclass(frozen=True)
class Compute:
    """How to run a job.

    ``run`` maps independent tasks, ``finish`` takes work in steps to its end. At most ``stack`` networks of one kind
    are trained as one (``stacking.py``). ``channels_last`` stores images and convolution weights pixel by pixel, which
    large networks like. ``compile`` compiles the step that is repeated, which pays on long jobs. ``keep`` is how many
    inner steps of an unroll keep their graph instead of being run again for the gradient (None: as many as fit the
    memory). ``say`` is told in one line what compiling cost, why it was not possible, or how fast work went.
    ``on_update`` is called after every update of a network in training, in the thread that trains it; what it raises
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
        """``items``, one or more, in order, in groups that one stack trains, as equal as can be.

        There are at least two groups, so that a second core has work; not one for each core, so that machines with more
        cores find the same numbers.
        """
        every = list(items)
        count = len(every) if self.stack == 1 else min(len(every), max(2, math.ceil(len(every) / self.stack)))
        edges = [len(every) * group // count for group in range(count + 1)]
        return [every[first:last] for first, last in pairwise(edges)]

    def place(self, network: nn.Module, device: torch.device) -> nn.Module:
        """``network`` on ``device`` in the memory layout of choice; changed in place."""
        network = network.to(device)
        return network.to(memory_format=torch.channels_last) if self.channels_last else network

    def seen(self, images: Images, normalisation: Normalises, device: torch.device) -> Images:
        """Images as networks see them, in the memory layout of choice; see :func:`~distillkit.data.rows.normalised`."""
        return normalised(images, normalisation, device, self.channels_last)

    def layout(self, x_NCHW: Tensor) -> Tensor:
        """``x_NCHW`` in the memory layout of choice."""
        return x_NCHW.contiguous(memory_format=torch.channels_last) if self.channels_last else x_NCHW


def compiled(fast: F, plain: F, name: str, say: Callable[[str], None]) -> F:
    """``torch.compile(fast)``, compiled when it is called; ``plain`` once this machine turns out not to compile it.

    One graph for each combination of shapes; on a GPU each is also captured as a CUDA graph, whose outputs are
    overwritten by its next call.
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
                warnings.simplefilter("ignore")  # torch's own, about torch's own parts
                result = candidate(*arguments)
        except Exception as error:  # a missing compiler, an unsupported platform: whatever it is, the plain way works
            works = False
            say(f"cannot compile {name} here ({first_reason(error)}); going on without")
            return plain(*arguments)
        told, seconds = True, time.perf_counter() - started
        if seconds > 1:  # a shape that this process has met before costs nothing
            say(f"compiled {name} in {seconds:.0f} s")
        return result

    return cast(F, call)


def torch_compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compile`` for fixed shapes, with CUDA graphs where there is CUDA."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it asks for CUDA on every CPU
    mode = "reduce-overhead" if torch.cuda.is_available() else "default"
    result: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False, mode=mode)
    return result


def first_reason(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return lines[0].strip() if lines else type(error).__name__
