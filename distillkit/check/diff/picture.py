"""The differences between two sets as a picture."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from distillkit.check.diff.result import Difference, Version
from distillkit.check.diff.text import class_of, images_words, printable
from distillkit.report.pictures import LEARNED_COLOUR, REAL_COLOUR, Strip, as_tile, strip_picture, tile
from distillkit.report.words import shorten

COLUMNS = 16  # images in a strip of the picture

LARGEST_FACTOR = 1024

# The picture


def draw(difference: Difference, path: Path, columns: int = COLUMNS) -> None:
    """A PNG of the most changed images before, after and in difference, then of those relabelled, removed and added.

    Where there is nothing to show it says so, so that who asks for a picture always gets one.
    """
    strips = [strip for strip in all_strips(difference, columns) if strip.captions]
    title = [f"before: {difference.before.label}", f"after: {difference.after.label}", *sentences(difference, strips)]
    entries = [("learned", LEARNED_COLOUR), ("real", REAL_COLOUR)] if strips else []
    strip_picture([printable(line) for line in title], strips, entries, path)


def sentences(difference: Difference, strips: Sequence[Strip]) -> list[str]:
    if difference.incomparable:
        return [f"The images cannot be set side by side: {difference.incomparable}."]
    return [images_words(difference)] + ([] if strips else ["No image differs."])


def all_strips(difference: Difference, columns: int) -> Iterator[Strip]:
    if difference.incomparable:
        return
    old, new = difference.before.synthetic, difference.after.synthetic
    images, old_class, new_class = difference.images, captions_of(difference.before), captions_of(difference.after)
    yield changed_strip(difference, columns)
    relabelled = images.relabelled[:columns]
    yield Strip(
        heading("relabelled", len(images.relabelled), columns),
        {"": [tile(new, pair.after) for pair in relabelled]},
        [f"{old_class[pair.before]}\n→ {new_class[pair.after]}" for pair in relabelled],
    )
    for kind, synthetic, names in (("removed", old, old_class), ("added", new, new_class)):
        rows = spread(getattr(images, kind), columns)
        yield Strip(
            heading(kind, len(getattr(images, kind)), columns),
            {"": [tile(synthetic, row) for row in rows]},
            [names[row] for row in rows],
        )


def changed_strip(difference: Difference, columns: int) -> Strip:
    """Three rows; the difference is grey where nothing changed, lighter where the image became lighter."""
    old, new, names = difference.before.synthetic, difference.after.synthetic, captions_of(difference.before)
    pairs = difference.images.changed[:columns]
    moves = [(new.images[pair.after] - old.images[pair.before]).cpu() for pair in pairs]
    factor = amplification(moves)
    rows = {
        "before": [tile(old, pair.before) for pair in pairs],
        "after": [tile(new, pair.after) for pair in pairs],
        f"difference × {factor:g}": [as_tile(0.5 + factor * move) for move in moves],
    }
    title = heading("changed", len(difference.images.changed), columns, "the most changed")
    return Strip(
        f"{title}; grey means no difference, RMS below",
        rows,
        [f"{names[pair.before]}\n{pair.rms:#.3g}" for pair in pairs],
    )


def captions_of(version: Version) -> list[str]:
    """The class name of every row, on one line."""
    return [printable(shorten(name)) for name in class_of(version)]


def amplification(moves: Sequence[Tensor]) -> float:
    """The largest power of two that keeps all but a hundredth of the differences inside [-1/2, 1/2]."""
    if not moves:
        return 1.0
    usual = float(np.quantile(np.stack([move.abs().numpy() for move in moves]), 0.99))
    return min(LARGEST_FACTOR, 2.0 ** math.floor(math.log2(0.5 / usual))) if usual else 1.0


def heading(kind: str, count: int, columns: int, which: str = "spread evenly over all") -> str:
    return f"{count} {kind}" + (f", {columns} shown ({which})" if count > columns else "")


def spread(rows: Sequence[int], columns: int) -> list[int]:
    """At most ``columns`` rows, from the first to the last."""
    if len(rows) <= columns:
        return list(rows)
    return [rows[place * (len(rows) - 1) // max(1, columns - 1)] for place in range(columns)]
