"""What a comparison finds, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from distillkit.data.images import SyntheticSet
from distillkit.evaluation.protocol import normalisation_of, schedule_of

COUNTED = ("unchanged", "changed", "relabelled", "added", "removed")


class Absent(Enum):
    """A parameter that one side does not have; None is a value."""

    ABSENT = "–"


ABSENT = Absent.ABSENT
Changes = Mapping[str, tuple[Any, Any]]  # by dotted name, before and after


@dataclass(frozen=True)
class Version:
    """One side. An empty mapping means that it is not known.

    ``params`` is the recipe's section, ``accuracy`` holds mean, std and runs, ``source`` and ``evaluation`` are as
    recipe.json has them: where training rows point to, and how the accuracy was measured.
    """

    label: str
    synthetic: SyntheticSet
    params: Mapping[str, Any]
    accuracy: Mapping[str, Any] | None
    source: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Mapping[str, Any] = field(default_factory=dict)


class Pair(NamedTuple):
    """A row before, the row after, and the RMS between the two images."""

    before: int
    after: int
    rms: float = 0.0


class AccuracyChange(NamedTuple):
    """In percentage points; what is None cannot be said of a single run.

    ``standard_error`` is that √(s₁²/n₁ + s₂²/n₂) of the difference, ``margin`` half its 95 % interval (Welch's).
    """

    points: float
    standard_error: float | None = None
    margin: float | None = None

    @property
    def within_noise(self) -> bool | None:
        return None if self.margin is None else abs(self.points) <= self.margin


class TargetChange(NamedTuple):
    """A row before, the row after, and how far apart their soft labels are.

    See :func:`~distillkit.check.diff.compare.target_changes`.
    """

    before: int
    after: int
    distance: float


@dataclass(frozen=True)
class Matches:
    """Rows of two sets that belong together, most changed first, and those that stand alone."""

    unchanged: Sequence[Pair] = ()
    relabelled: Sequence[Pair] = ()
    changed: Sequence[Pair] = ()
    removed: Sequence[int] = ()
    added: Sequence[int] = ()


@dataclass(frozen=True)
class Difference:
    """All that differs. ``incomparable`` says why images were not matched, if they were not; ``images`` is then empty.

    ``params`` and ``evaluation`` are empty where a side does not know its own.
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
        """Whether the images that stayed stand in another order."""
        rows = [pair.after for pair in sorted(self.images.unchanged)]
        return rows != sorted(rows)

    @property
    def same(self) -> bool:
        """Whether nothing that both sides know differs."""
        images = self.images
        moved = images.relabelled or images.changed or images.removed or images.added or self.reordered
        noted = self.targets or self.properties or self.params or self.evaluation
        return not (self.incomparable or moved or noted or self.remeasured)

    @property
    def remeasured(self) -> bool:
        """Whether both sides know their accuracy, and it is not the same."""
        before, after = self.before.accuracy, self.after.accuracy
        if before is None or after is None:
            return False
        return any(before[key] != after[key] for key in ("mean", "std", "runs"))

    @property
    def counts(self) -> dict[str, int]:
        return {kind: len(getattr(self.images, kind)) for kind in COUNTED}


@dataclass(frozen=True)
class PackageDifference:
    """Recipes that only one package has, and what differs in those that both have."""

    added: Mapping[str, Version]
    removed: Mapping[str, Version]
    common: Mapping[str, Difference]

    @property
    def same(self) -> bool:
        return not (self.added or self.removed) and all(each.same for each in self.common.values())


def properties(synthetic: SyntheticSet) -> dict[str, Any]:
    """What a set says of itself beside its images, as plain data."""
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
