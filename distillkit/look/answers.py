"""What a reader asks first, answered in sentences from the numbers of the page."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from distillkit.base.errors import counted
from distillkit.look.coverage import TENTHS, tenths
from distillkit.look.facts import Facts
from distillkit.look.opening import Subject
from distillkit.package.card import percent as spread
from distillkit.report.words import percent, shorten

NEAR = 0.5  # of the yardstick: nearer to a training image than that is worth a look
KINDS = {"random": "as many random images", "full": "all images"}
Answer = tuple[str, str]  # a sentence, and the state of the page that shows what it speaks of; empty for none


def answers(subject: Subject, facts: Facts, rows: Sequence[Any], pairs: Sequence[Any]) -> Iterator[Answer]:
    """How good the set is, which class suffers and why, what moved most, what is left out, and what is visible."""
    learned_N = subject.synthetic.learned[facts.row_N]
    yield from accurate(subject)
    yield from worst(subject, rows, pairs)
    yield from lost(rows)
    yield from moved_most(subject, facts, learned_N)
    yield from left_out(facts, learned_N)
    yield from private(facts, learned_N)


def accurate(subject: Subject) -> Iterator[Answer]:
    """The accuracy of the whole set, beside those of random and of all images."""
    if subject.version.accuracy is None:
        return
    found = {"this set": subject.version.accuracy, **{KINDS[kind]: one for kind, one in subject.beside.items()}}
    figures = ", ".join(f"{spread(accuracy)} with {kind}" for kind, accuracy in found.items())
    yield f"Accuracy: {figures}. ± is over networks, not over repeated distillations.", ""


def worst(subject: Subject, rows: Sequence[Any], pairs: Sequence[Any]) -> Iterator[Answer]:
    """The worst class, what it is taken for, and what a single test image counts there."""
    measured = [label for label, row in enumerate(rows) if row["set"] is not None]
    if not measured:
        return
    label = min(measured, key=lambda label: rows[label]["set"])
    row, name = rows[label], shorten(rows[label]["name"])
    beside = [f"{percent(row[kind])} % with {words}" for kind, words in KINDS.items() if row[kind] is not None]
    more = f" ({', '.join(beside)})" if beside else ""
    words = f"The worst class is {name}: {percent(row['set'])} % of its test images are right{more}."
    if taken := next((pair for pair in pairs if pair["class"] == label), None):
        other = shorten(rows[taken["taken"]]["name"])
        words += f" {percent(taken['count'] / taken['of'])} % are taken for {other}."
        if subject.version.accuracy is not None:
            tested = max(1, taken["of"] // subject.version.accuracy["runs"])
            words += f" It has {counted(tested, 'test image')}: one more or less is {percent(1 / tested)} %."
    yield words, f"class={label}"


def lost(rows: Sequence[Any]) -> Iterator[Answer]:
    """The class that is furthest below what all images give, unless it is the worst one, of which that is said."""
    if any(row["set"] is None or row["full"] is None for row in rows):
        return
    label = max(range(len(rows)), key=lambda label: rows[label]["full"] - rows[label]["set"])
    if min(row["set"] for row in rows) < rows[label]["set"] < rows[label]["full"]:
        row = rows[label]
        figures = f"{percent(row['set'])} % instead of {percent(row['full'])} %"
        yield f"Against all images, class {shorten(row['name'])} loses most: {figures}.", f"class={label}"


def moved_most(subject: Subject, facts: Facts, learned_N: Tensor) -> Iterator[Answer]:
    """The learned image that is furthest from its beginning."""
    moved_N = torch.where(learned_N, facts.moved_N, torch.nan).nan_to_num(-1)
    if not bool((moved_N >= 0).any()):
        return
    place = int(moved_N.argmax())
    row, synthetic = int(facts.row_N[place]), subject.synthetic
    where = f"image {row}, of class {shorten(synthetic.class_names[int(synthetic.labels[row])])}"
    words = f"What was learned most is {where}: it moved {moved_N[place]:.3f} (root mean square, pixels from 0 to 1)."
    yield words, f"kind=learned&sort=moved&down=yes&together=yes&image={row}"


def left_out(facts: Facts, learned_N: Tensor) -> Iterator[Answer]:
    """The tenths of the source by difficulty that nothing comes from."""
    empty = [not sum(each.values()) for each in tenths(facts, learned_N)]
    width, ranges = 100 // TENTHS, []
    for nothing, group in groupby(range(TENTHS), key=lambda tenth: empty[tenth]):
        if nothing:
            part = list(group)
            ranges.append(f"{width * part[0]} to {width * (part[-1] + 1)} %")
    if ranges and not all(empty):
        words = "Of each class, sorted from the easiest (0 %) to the hardest image (100 %), nothing comes from"
        yield f"{words} {' and '.join(ranges)}.", ""


def private(facts: Facts, learned_N: Tensor) -> Iterator[Answer]:
    """What of the source a set shows."""
    real = int((~learned_N).sum())
    if real:
        yield (
            f"{counted(real, 'image')} of {len(learned_N):,} {'is an image' if real == 1 else 'are images'} of the "
            "source, unchanged: whoever has the set sees them.",
            "kind=real",
        )
    distance_N = facts.distance_N[learned_N]
    if facts.yardstick and bool((~distance_N.isnan()).any()):
        near = int((distance_N < NEAR * facts.yardstick).sum())
        yield (
            f"{near:,} of {len(distance_N):,} learned images are nearer to a training image than half the usual "
            f"distance between two training images ({facts.yardstick:.3f}); the nearest is at {distance_N.min():.3f}.",
            "kind=learned&sort=distance&together=yes",
        )
