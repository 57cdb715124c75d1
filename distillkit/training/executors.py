"""How a job (experts, a distillation, an evaluation) uses this machine; results never depend on it beyond rounding."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TypeVar

import torch

from distillkit.base.errors import ParamsError
from distillkit.base.machine import cores
from distillkit.data.factories import NetworkFactory
from distillkit.data.networks import Network, build_network
from distillkit.process.interruption import check
from distillkit.process.progress import tell
from distillkit.training.compute import Compute

A = TypeVar("A")
B = TypeVar("B")

SMALL = 10_000  # activations of the first layer for one image; below, a second core makes a network no faster
LONG = {"cpu": 1e14, "cuda": 1e15}  # FLOP from which compiling, 10 to 60 s, pays; about five minutes; CUDA: a guess
STACK = 4  # networks that are trained as one; more make each hardly faster, and all of a stack is lost with a stop
TRAINED = 3  # forward passes that one image of a training step costs
UNROLLED = 12  # the same for an unrolled step and its adjoint


def plan_compute(
    device: torch.device,
    image_shape: tuple[int, int, int],
    spec: Network,
    classes: int,
    visits: int,
    passes: int = TRAINED,
) -> Compute:
    """:func:`chosen_compute`, with this process prepared for it."""
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
    """How to show ``visits`` images to networks of one kind, each costing ``passes`` forward passes.

    Small networks on a CPU: one core for each task. With the 8x8 digits two cores train one network no faster than one
    core does, and much slower when something else runs; two networks side by side take 0.6 of the time of one after the
    other (2 cores, torch 2.15). Up to ``STACK`` are trained as one, in 0.6 to 0.7 of the time. Others run one after
    another on the whole device, and compiled when the job is long.
    All train channels last: the digits' network then takes three quarters of the time. ``DISTILLKIT_COMPILE`` (0 or 1)
    and ``DISTILLKIT_KEEP`` (a number of steps) decide by hand. Networks of one's own run as they are, one by one.
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
    """Floating-point operations of one image's forward pass, a multiplication and an addition counted as two."""
    from torch.utils.flop_counter import FlopCounterMode

    network = build_network(spec, image_shape, classes, seed=0).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, *image_shape, device="meta"))
    return int(counter.get_total_flops())


def environment_number(name: str, choices: tuple[int, ...] = ()) -> int | None:
    """The number in an environment variable, one of ``choices`` if given; None when unset, empty or ``auto``."""
    text = os.environ.get(name, "").strip()
    if text in ("", "auto"):
        return None
    if not text.isdecimal() or (choices and int(text) not in choices):
        expected = " or ".join(map(str, choices)) or "a whole number"
        raise ParamsError(f"{name} is {text!r}; expected auto or {expected}; correct it or unset it")
    return int(text)


def side_by_side(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in the order of ``items``, computed by one single-threaded worker for each core.

    After an error or an interruption those at work are waited for, and the others are dropped.
    """
    pool = ThreadPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)
