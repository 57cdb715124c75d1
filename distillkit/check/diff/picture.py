"""The differences between two sets as an image file."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL.Image import Image
from torch import Tensor

from distillkit.check.diff.result import Difference
from distillkit.check.diff.text import images_words
from distillkit.process.progress import presentable
from distillkit.report.pictures import LEARNED_COLOUR, REAL_COLOUR, TEXT_COLOUR, as_tile, picture_of, save, spread, tile

COLUMNS, LARGEST_FACTOR = 16, 1024


def draw(difference: Difference, path: Path, columns: int = COLUMNS) -> None:
    """Write a PNG of the most changed images before, after and as a difference, then the relabelled, removed and added.

    If no image differs, the PNG says so.
    """
    rows = [(name, tiles) for name, tiles in rows_of(difference, columns).items() if tiles]
    found = difference.incomparable or f"{images_words(difference)}{'' if rows else '; no image differs'}"
    words = [f"before: {difference.before.label}", f"after: {difference.after.label}", found]
    notes = [(presentable(line), TEXT_COLOUR) for line in words]
    notes += [("■ learned", LEARNED_COLOUR), ("■ real", REAL_COLOUR)] if rows else []
    save(picture_of(rows, notes), path)


def rows_of(difference: Difference, columns: int) -> dict[str, list[Image]]:
    """Rows of tiles, by kind of change. A difference is grey where pixels are equal, lighter where they became
    lighter.
    """
    old, new, images = difference.before.synthetic, difference.after.synthetic, difference.images
    changed = images.changed[:columns]
    moves = [(new.image(pair.after) - old.image(pair.before)).cpu() for pair in changed]
    factor = amplification(moves)
    return {
        "changed, before": [tile(old, pair.before) for pair in changed],
        "changed, after": [tile(new, pair.after) for pair in changed],
        f"difference × {factor:g}": [as_tile(0.5 + factor * move) for move in moves],
        "relabelled": [tile(new, pair.after) for pair in images.relabelled[:columns]],
        "removed": [tile(old, row) for row in spread(images.removed, columns)],
        "added": [tile(new, row) for row in spread(images.added, columns)],
    }


def amplification(moves: Sequence[Tensor]) -> float:
    """The largest power of two that keeps 99 % of the differences inside [-1/2, 1/2]."""
    usual = float(np.quantile(np.stack([move.abs().numpy() for move in moves]), 0.99)) if moves else 0.0
    return min(LARGEST_FACTOR, 2.0 ** math.floor(math.log2(0.5 / usual))) if usual else 1.0
