"""How independent tasks (experts, evaluation runs, candidate windows) share the machine; results never depend on it."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from distillkit.networks import NetworkSpec
from distillkit.training import Mapper, serial

A = TypeVar("A")
B = TypeVar("B")

SMALL = 10_000  # activations of the first layer for one image; below, a second core makes a network no faster


def executor(device: torch.device, image_shape: tuple[int, int, int], spec: NetworkSpec) -> Mapper:
    """One task after another, each on the whole device; or, for small networks on a CPU, one core for each task.

    With the 8x8 digits two cores train one network no faster than one core does, and much slower when something else
    runs; two networks side by side take 0.6 of the time of one after the other (2 cores, torch 2.15).
    """
    if device.type != "cpu" or image_shape[1] * image_shape[2] * spec.width > SMALL:
        return serial
    torch.set_num_threads(1)
    return side_by_side


def side_by_side(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Results in the order of ``items``, computed by one single-threaded worker for each core."""
    with ThreadPoolExecutor(os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(function, items)
