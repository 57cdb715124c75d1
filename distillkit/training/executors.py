"""How a job (experts, a distillation, an evaluation) uses this machine. Results depend on it only by rounding."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TypeVar

import torch

from distillkit.base.errors import ParamsError
from distillkit.base.machine import cores
from distillkit.networks.factories import NetworkFactory
from distillkit.networks.specs import Network, build_network
from distillkit.process.interruption import check
from distillkit.process.progress import tell
from distillkit.training.compute import Compute

A = TypeVar("A")
B = TypeVar("B")

SMALL = 10_000  # activations of the first layer per image; with fewer, a second core does not speed up one network
LONG = {
    "cpu": 1e14,
    "cuda": 1e15,
}  # FLOP (some five minutes) from which compiling (10 to 60 s) is worthwhile; CUDA: a guess
STACK = 4  # networks in one stack; more are hardly faster, and an interruption loses the work of a whole stack
TRAINED = 3  # cost of one image in a training step, in forward passes
UNROLLED = 12  # the same in an unrolled step with its adjoint


def plan_compute(
    device: torch.device,
    image_shape: tuple[int, int, int],
    spec: Network,
    classes: int,
    visits: int,
    passes: int = TRAINED,
) -> Compute:
    """:func:`chosen_compute` with the check for signals. For tasks side by side, sets torch to one thread."""
    compute = chosen_compute(device, image_shape, spec, classes, visits, passes)
    if compute.run is side_by_side:
        torch.set_num_threads(1)
    return replace(compute, on_update=check)


def chosen_compute(
    device: torch.device,
    image_shape: tuple[int, int, int],
    spec: Network,
    classes: int,
    visits: int,
    passes: int = TRAINED,
) -> Compute:
    """The :class:`Compute` for a job that shows ``visits`` images in all to networks of one kind, where an image costs
    ``passes`` forward passes.

    Small networks on a CPU use one core for each task. For the 8x8 digits, two cores train one network no faster than
    one core does, and much slower when other programs run; two networks side by side take 0.6 of the time of one after
    the other (2 cores, torch 2.15). Up to ``STACK`` networks are trained as one, in 0.6 to 0.7 of the time. Larger
    networks run one after another on the whole device, compiled when the job is long.

    Both use channels last: the digits' network then takes three quarters of the time. ``DISTILLKIT_COMPILE`` (0 or 1)
    and ``DISTILLKIT_KEEP`` (a number of steps) override the choice. Networks from a factory of the user run unchanged,
    one at a time. Raises ParamsError when one of these variables is invalid.
    """
    keep, compile_it = environment_number("DISTILLKIT_KEEP"), environment_number("DISTILLKIT_COMPILE", (0, 1))
    if isinstance(spec, NetworkFactory):
        return Compute(keep=keep, say=tell)
    if device.type == "cpu" and image_shape[1] * image_shape[2] * spec.width <= SMALL and not compile_it:
        return Compute(side_by_side, stack=STACK, channels_last=True, keep=keep, say=tell)
    if compile_it is None:
        long = LONG.get(device.type, float("inf"))
        compile_it = visits * passes * forward_flops(spec, image_shape, classes) > long
    return Compute(channels_last=True, compile=bool(compile_it), keep=keep, say=tell)


@cache
def forward_flops(spec: Network, image_shape: tuple[int, int, int], classes: int) -> int:
    """Floating-point operations of one image's forward pass; a multiply-add counts as two."""
    from torch.utils.flop_counter import FlopCounterMode

    network = build_network(spec, image_shape, classes, seed=0).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, *image_shape, device="meta"))
    return int(counter.get_total_flops())


def environment_number(name: str, choices: tuple[int, ...] = ()) -> int | None:
    """The integer in an environment variable; None when it is unset, empty or ``auto``. Raises ParamsError for a text
    that is not an integer, or not one of ``choices`` where these are given.
    """
    text = os.environ.get(name, "").strip()
    if text in ("", "auto"):
        return None
    if not text.isdecimal() or (choices and int(text) not in choices):
        expected = " or ".join(map(str, choices)) or "a whole number"
        raise ParamsError(f"{name} is {text!r}; expected auto or {expected}; correct it or unset it")
    return int(text)


def side_by_side(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in the order of ``items``, computed by one single-threaded worker per core.

    After an error or interruption, running tasks are finished and waiting tasks are dropped.
    """
    pool = ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
