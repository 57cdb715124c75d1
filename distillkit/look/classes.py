"""What a set teaches of each class: accuracies side by side, and what is mistaken for what."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from distillkit.look.facts import Facts
from distillkit.look.opening import Subject

PAIRS = 100  # of classes, in the confusion table
KINDS = ("set", "random", "full")
MEASURES = (  # of a class: title, name in its row, factor and digits
    ("accuracy\u00a0%, this set", "set", 100, 2),
    ("accuracy\u00a0%, random images", "random", 100, 2),
    ("accuracy\u00a0%, all images", "full", 100, 2),
    ("images", "images", 1, 0),
    ("learned", "learned", 1, 0),
    ("mean difficulty", "harder", 1, 1),
    ("learned images moved, mean", "moved", 1, 3),
)


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


def known(rows: Sequence[Any]) -> list[tuple[str, str, int, int]]:
    """The measures that some class has; a column of dashes tells nothing."""
    return [one for one in MEASURES if any(row[one[1]] is not None for row in rows)]


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
