"""What a set teaches of each class: accuracies side by side, what is mistaken for what, and both in sentences."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from distillkit.base.errors import counted
from distillkit.look.facts import Facts
from distillkit.look.opening import Subject
from distillkit.report.words import percent, shorten

PAIRS = 100  # of classes, in the confusion table
KINDS = ("set", "random", "full")
NEAR = 0.5  # of the yardstick: nearer to a training image than that is worth a look


def classes_of(subject: Subject, facts: Facts) -> list[dict[str, Any]]:
    """A row for each class: images, learned ones, mean difficulty and move, and accuracies; None is not known."""
    synthetic, by_class = subject.synthetic, subject.by_class or {}
    label_N, learned_N = synthetic.labels[facts.row_N], synthetic.learned[facts.row_N]
    found = []
    for label, name in enumerate(synthetic.class_names):
        own = label_N == label
        accuracy = {kind: by_class[kind][label] if kind in by_class else None for kind in KINDS}
        found.append(
            {
                "name": name,
                "images": int(own.sum()),
                "learned": int((own & learned_N).sum()),
                "harder": mean(facts.harder_N[own]),
                "moved": mean(facts.moved_N[own & learned_N]),
                **accuracy,
            }
        )
    return found


def mean(values: Tensor) -> float | None:
    """Of those that are known."""
    known = values[~values.isnan()]
    return round(known.mean().item(), 4) if len(known) else None


def pairs_of(confused: Sequence[tuple[int, int, int]]) -> list[dict[str, int]]:
    """Classes mistaken for each other, the most frequent first: how many test images, over all networks.

    ``of`` is how many images of the class were tested, as often as networks saw them.
    """
    total: Counter[int] = Counter()
    for label, _, count in confused:
        total[label] += count
    wrong = [pair for pair in confused if pair[0] != pair[1] and pair[2]]
    wrong.sort(key=lambda pair: (-pair[2] / total[pair[0]], pair))
    return [
        {"class": label, "taken": taken, "count": count, "of": total[label]} for label, taken, count in wrong[:PAIRS]
    ]


def sentences(subject: Subject, facts: Facts, rows: Sequence[Any], pairs: Sequence[Any]) -> Iterator[str]:
    """What a reader asks first, answered from the numbers: the worst class and why, what moved most, what shows."""
    names, synthetic = [shorten(name) for name in subject.synthetic.class_names], subject.synthetic
    measured = [row for row in rows if row["set"] is not None]
    if measured:
        worst = min(measured, key=lambda row: row["set"])
        beside = [f"{percent(worst[kind])} % with {kind}" for kind in ("random", "full") if worst[kind] is not None]
        more = f" ({', '.join(beside)})" if beside else ""
        right = f"{percent(worst['set'])} % of its test images are right{more}"
        yield f"The worst class is {shorten(worst['name'])}: {right}."
        taken = [pair for pair in pairs if synthetic.class_names[pair["class"]] == worst["name"]]
        if taken:
            share = percent(taken[0]["count"] / taken[0]["of"])
            yield f"Of {shorten(worst['name'])}, {share} % of the test images are taken for {names[taken[0]['taken']]}."
    learned_N = synthetic.learned[facts.row_N]
    moved_N = torch.where(learned_N, facts.moved_N, torch.nan).nan_to_num(-1)
    if bool((moved_N >= 0).any()):
        place = int(moved_N.argmax())
        where = f"image {int(facts.row_N[place])}, of class {names[int(synthetic.labels[facts.row_N[place]])]}"
        yield f"What was learned most is {where}: it moved {moved_N[place]:.3f} (root mean square, pixels from 0 to 1)."
    yield from private(facts, learned_N)


def private(facts: Facts, learned_N: Tensor) -> Iterator[str]:
    """What of the source a set shows."""
    real = int((~learned_N).sum())
    if real:
        yield (
            f"{counted(real, 'image')} of {len(learned_N):,} are images of the source, unchanged: "
            "whoever has the set sees them."
        )
    distance_N = facts.distance_N[learned_N]
    if facts.yardstick and bool((~distance_N.isnan()).any()):
        near = int((distance_N < NEAR * facts.yardstick).sum())
        yield (
            f"{near:,} of {len(distance_N):,} learned images are nearer to a training image than half the usual "
            f"distance between two training images ({facts.yardstick:.3f}); the nearest is at {distance_N.min():.3f}."
        )
