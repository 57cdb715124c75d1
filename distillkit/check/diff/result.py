"""The result of a comparison, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from distillkit.data.images import SyntheticSet
from distillkit.evaluation.protocol import normalisation_of, schedule_of

COUNTED = ("unchanged", "changed", "relabelled", "added", "removed")


ABSENT = object()  # the value of a parameter that one side does not have; None is a possible value
Changes = Mapping[str, tuple[Any, Any]]  # by dotted name, before and after


@dataclass(frozen=True)
class Version:
    """One side. An empty mapping means unknown.

    ``params`` is the recipe's section. ``accuracy`` has mean, std and runs. ``source`` and ``evaluation`` are as in
    recipe.json: the source of the training rows, and how the accuracy was measured.
    """

    label: str
    synthetic: SyntheticSet
    params: Mapping[str, Any]
    accuracy: Mapping[str, Any] | None
    source: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


class Pair(NamedTuple):
    """A row before, the row after, and the RMS difference of the two images."""

    before: int
    after: int
    rms: float = 0.0


class AccuracyChange(NamedTuple):
    """A difference in percentage points; the other fields are None if one side has a single run.

    ``standard_error`` is √(s₁²/n₁ + s₂²/n₂), ``margin`` half the 95 % interval (Welch).
    """

    points: float
    standard_error: float | None = None
    margin: float | None = None

    @property
    def within_noise(self) -> bool | None:
        return None if self.margin is None else abs(self.points) <= self.margin


class TargetChange(NamedTuple):
    """A row before, the row after, and the distance of their soft labels.

    See :func:`~distillkit.check.diff.compare.target_changes`.
    """

    before: int
    after: int
    distance: float


@dataclass(frozen=True)
class Matches:
    """Matched rows of two sets, ``changed`` with the most changed first, and rows without a match."""

    unchanged: Sequence[Pair] = ()
    relabelled: Sequence[Pair] = ()
    changed: Sequence[Pair] = ()
    removed: Sequence[int] = ()
    added: Sequence[int] = ()


@dataclass(frozen=True)
class Difference:
    """All differences. ``incomparable`` is the reason why images were not matched, or None; then ``images`` is empty.

    ``params`` and ``evaluation`` are empty if they are unknown on one side.
    """

    before: Version
    after: Version
    incomparable: str | None
    images: Matches
    targets: Sequence[TargetChange]
    properties: Changes
    params: Changes
    evaluation: Changes
    accuracy: AccuracyChange | None

    @property
    def reordered(self) -> bool:
        """Whether the unchanged images are in another order."""
        rows = [pair.after for pair in sorted(self.images.unchanged)]
        return rows != sorted(rows)

    @property
    def same(self) -> bool:
        """Whether everything that is known on both sides is equal."""
        images = self.images
        moved = images.relabelled or images.changed or images.removed or images.added or self.reordered
        noted = self.targets or self.properties or self.params or self.evaluation
        return not (self.incomparable or moved or noted or self.remeasured)

    @property
    def remeasured(self) -> bool:
        """Whether both sides have an accuracy, and they differ."""
        before, after = self.before.accuracy, self.after.accuracy
        if before is None or after is None:
            return False
        return any(before[key] != after[key] for key in ("mean", "std", "runs"))

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(getattr(self.images, kind)) for kind in COUNTED}


@dataclass(frozen=True)
class PackageDifference:
    """Recipes that only one package has, and the differences in those that both have.

    Recipes in ``absent`` are not compared: their files are not in both folders.
    """

    added: Mapping[str, Version]
    removed: Mapping[str, Version]
    common: Mapping[str, Difference]
    absent: Sequence[str] = ()

    @property
    def same(self) -> bool:
        return not (self.added or self.removed) and all(each.same for each in self.common.values())


def properties(synthetic: SyntheticSet) -> dict[str, Any]:
    """Everything about a set except its images, as plain data."""
    normalisation = normalisation_of(synthetic.normalisation)
    for key in ("mean", "std"):
        normalisation[key] = [float(str(np.float32(value))) for value in normalisation[key]]
    return {
        "images": len(synthetic),
        "learned": int(synthetic.learned.sum()),
        "image_shape": list(synthetic.images.shape[1:]),
        "class_names": list(synthetic.class_names),
        "normalisation": normalisation,
        "student_lr": synthetic.student_lr,
        "labels": "hard" if synthetic.soft_labels is None else "soft",
        "schedule": schedule_of(synthetic.schedule),
        "notes": dict(synthetic.notes),
    }
