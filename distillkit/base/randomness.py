"""Generators from seeds and from other generators. Nothing here uses the global generator."""

import hashlib

import torch
from torch import Generator


def seeded(seed: int) -> Generator:
    """A CPU generator that depends on ``seed`` only."""
    return Generator().manual_seed(seed)


def seed_for(seed: int, *names: object) -> int:
    """A seed for one purpose, such as ("expert", 3). It is the same in all versions, and independent of other purposes'
    seeds.
    """
    text = ":".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def draw_seed(generator: Generator) -> int:
    return draw_int(0, 2**31, generator)


def spawn(generator: Generator, count: int) -> list[Generator]:
    """``count`` generators, each seeded by a draw from ``generator``."""
    return [seeded(draw_seed(generator)) for _ in range(count)]


def draw_int(low: int, high: int, generator: Generator) -> int:
    """A uniform integer from low, ..., high − 1."""
    return int(torch.randint(low, high, (), generator=generator))
