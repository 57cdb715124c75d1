"""What differs between two versions of a distilled set: images, parameters, accuracy.

Images are matched in this order, each at most once, and what is left is removed or added:

1. unchanged: equal pixels and the same class; equal copies count one by one
2. relabelled: equal pixels, another class
3. changed: the same class and training row, in stored order; not where the sets say that their sources differ
4. changed: the same class, and each is at least twice as near to the other as to any other image of the class, in
   either set. Only where a training row is unknown (images begun from noise, or imported) or means something else
   (other sources).

RMS is the root mean square over all pixels and channels of one image's difference, in pixel space.
"""

import hashlib
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from distillkit.images import SyntheticSet
from distillkit.regime import normalisation_of, schedule_of

ORIGIN = ("kind", "id", "revision", "params")  # what of a source decides which image a training row is
CONFIDENCE = 0.95  # of the interval within which a difference of accuracies says nothing
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

    ``error`` is the standard error √(s₁²/n₁ + s₂²/n₂) of the difference, ``margin`` half its 95 % interval (Welch's).
    """

    points: float
    error: float | None = None
    margin: float | None = None

    @property
    def within_noise(self) -> bool | None:
        return None if self.margin is None else abs(self.points) <= self.margin


class TargetChange(NamedTuple):
    """A row before, the row after, and how far apart their soft labels are (see :func:`target_changes`)."""

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


def compare(before: Version, after: Version) -> Difference:
    """What became of ``before`` in ``after``. Swapped, it says the same with added and removed swapped."""
    incomparable = why_incomparable(before.synthetic, after.synthetic)
    images = Matches() if incomparable else match_images(before, after)
    return Difference(
        before=before,
        after=after,
        incomparable=incomparable,
        images=images,
        targets=target_changes(before.synthetic, after.synthetic, images),
        properties=changes(properties(before.synthetic), properties(after.synthetic)),
        params=changes(before.params, after.params) if before.params and after.params else {},
        evaluation=changes(before.evaluation, after.evaluation) if before.evaluation and after.evaluation else {},
        accuracy=accuracy_change(before.accuracy, after.accuracy),
    )


@dataclass(frozen=True)
class PackageDifference:
    """Recipes that only one package has, and what differs in those that both have."""

    added: Mapping[str, Version]
    removed: Mapping[str, Version]
    common: Mapping[str, Difference]

    @property
    def same(self) -> bool:
        return not (self.added or self.removed) and all(each.same for each in self.common.values())


def compare_packages(before: Mapping[str, Version], after: Mapping[str, Version]) -> PackageDifference:
    """Two packages, given by recipe."""
    return PackageDifference(
        added={name: version for name, version in after.items() if name not in before},
        removed={name: version for name, version in before.items() if name not in after},
        common={name: compare(version, after[name]) for name, version in before.items() if name in after},
    )


# Images


def why_incomparable(before: SyntheticSet, after: SyntheticSet) -> str | None:
    """A sentence where images or classes are of different kinds, so that no image can be the other's version."""
    shapes = ["x".join(map(str, each.images.shape[1:])) for each in (before, after)]
    if shapes[0] != shapes[1]:
        return f"images are {shapes[0]} before and {shapes[1]} after"
    names = before.class_names, after.class_names
    if len(names[0]) != len(names[1]):
        return f"there are {len(names[0])} classes before and {len(names[1])} after"
    unlike = ((row, *pair) for row, pair in enumerate(zip(*names, strict=True)) if pair[0] != pair[1])
    return next((f"class {row} is {old[:80]!r} before and {new[:80]!r} after" for row, old, new in unlike), None)


def sources_differ(before: Version, after: Version) -> bool:
    """Whether both sides say where their images come from, and it is not the same place."""
    known = bool(before.source and after.source)
    return known and any(before.source.get(key) != after.source.get(key) for key in ORIGIN)


def match_images(before: Version, after: Version) -> Matches:
    """The four rules of this file, in order."""
    old, new = (each.synthetic.to(torch.device("cpu")) for each in (before, after))
    origins = [origins_of(each, known=not sources_differ(before, after)) for each in (old, new)]
    rest: list[Sequence[int]] = [range(len(old)), range(len(new))]
    found = []
    for keys in zip(rule_keys(old, origins[0]), rule_keys(new, origins[1]), strict=True):
        pairs = pair_equal(*({row: keys[side][row] for row in rest[side]} for side in (0, 1)))
        rest = without(rest, pairs)
        found.append(pairs)
    unchanged, relabelled, traced = found
    nearest = pair_nearest(old, new, rest, origins)
    removed, added = without(rest, nearest)
    changed = [Pair(row, other, rms(old.images[row], new.images[other])) for row, other, _ in traced + nearest]
    return Matches(unchanged, relabelled, sorted(changed, key=lambda pair: (-pair.rms, pair)), removed, added)


def target_changes(before: SyntheticSet, after: SyntheticSet, images: Matches) -> list[TargetChange]:
    """Matched images whose probabilities differ, the most changed first; none where both sets have hard labels only.

    Distance is ½ Σ|p − q|, 0 to 1: the share of probability that went to other classes. A hard label is one class's.
    """
    if before.soft_labels is None and after.soft_labels is None:
        return []
    old_NK, new_NK = (probabilities(each) for each in (before, after))
    pairs = [(pair.before, pair.after) for pair in (*images.unchanged, *images.relabelled, *images.changed)]
    found = [TargetChange(*pair, float((old_NK[pair[0]] - new_NK[pair[1]]).abs().sum() / 2)) for pair in pairs]
    return sorted((one for one in found if one.distance > 0), key=lambda one: (-one.distance, one))


def probabilities(synthetic: SyntheticSet) -> Tensor:
    """What is trained on as probabilities (N, K), float64."""
    targets = synthetic.targets.cpu()
    return (targets if targets.ndim == 2 else one_hot(targets, len(synthetic.class_names))).double()


def without(rows: Sequence[Sequence[int]], pairs: Sequence[Pair]) -> list[Sequence[int]]:
    """The rows of both sides that are in no pair."""
    gone = [{pair.before for pair in pairs}, {pair.after for pair in pairs}]
    return [[row for row in rows[side] if row not in gone[side]] for side in (0, 1)]


def origins_of(synthetic: SyntheticSet, known: bool) -> list[int | None]:
    """The training row of each image; None where it has none, or where rows mean nothing to the other side."""
    return [row if known and row >= 0 else None for row in synthetic.source_row.tolist()]


def rule_keys(synthetic: SyntheticSet, origins: Sequence[int | None]) -> Iterator[list[tuple[Hashable, ...]]]:
    """For rules 1 to 3, what two images must have in common."""
    pixels, labels = fingerprints(synthetic.images), synthetic.labels.tolist()
    yield list(zip(pixels, labels, strict=True))
    yield list(zip(pixels, strict=True))
    yield list(zip(labels, origins, strict=True))


def fingerprints(images_NCHW: Tensor) -> list[bytes]:
    """A hash of each image's pixels; adding 0 makes 0 and -0 one."""
    return [hashlib.blake2b((image + 0.0).numpy().tobytes(), digest_size=20).digest() for image in images_NCHW]


def pair_equal(before: Mapping[int, tuple[Hashable, ...]], after: Mapping[int, tuple[Hashable, ...]]) -> list[Pair]:
    """Rows with equal keys, the first with the first; a key with None in it equals nothing."""
    waiting: dict[Hashable, deque[int]] = defaultdict(deque)
    for row, key in after.items():
        waiting[key].append(row)
    return [Pair(row, waiting[key].popleft()) for row, key in before.items() if None not in key and waiting[key]]


def pair_nearest(
    old: SyntheticSet, new: SyntheticSet, rest: Sequence[Sequence[int]], origins: Sequence[Sequence[int | None]]
) -> list[Pair]:
    """Rule 4 on the rows in ``rest``."""
    pairs: list[Pair] = []
    left_of, right_of = by_class(old, rest[0]), by_class(new, rest[1])
    for label in sorted(left_of.keys() & right_of.keys()):
        left, right = left_of[label], right_of[label]
        if None not in {origins[0][row] for row in left} | {origins[1][row] for row in right}:
            continue
        members = [(each.labels == label).nonzero().squeeze(1).tolist() for each in (old, new)]
        rows, count = members[0] + members[1], len(members[0])
        near = partners(torch.cat([old.images[members[0]], new.images[members[1]]]))
        across = [Pair(rows[one], rows[two]) for one, two in near if one < count <= two]
        spare = set(left), set(right)
        pairs += [
            pair
            for pair in across
            if pair.before in spare[0]
            and pair.after in spare[1]
            and None in (origins[0][pair.before], origins[1][pair.after])
        ]
    return pairs


def partners(images_NCHW: Tensor) -> list[tuple[int, int]]:
    """Pairs of images that are at least twice as near to one another as to any other one of these."""
    pixels = images_NCHW.flatten(1).double()  # float64, because short distances are differences of large squares
    distance = torch.cdist(pixels, pixels).fill_diagonal_(torch.inf)
    (nearest, second), (other, _) = (part.T for part in distance.topk(2, largest=False))
    alone, place = 2 * nearest <= second, torch.arange(len(other))
    return [(row, int(other[row])) for row in place[alone & alone[other] & (other[other] == place)].tolist()]


def by_class(synthetic: SyntheticSet, rows: Sequence[int]) -> dict[int, list[int]]:
    labels = synthetic.labels.tolist()
    groups: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        groups[labels[row]].append(row)
    return groups


def rms(left_CHW: Tensor, right_CHW: Tensor) -> float:
    return float((left_CHW.double() - right_CHW.double()).square().mean().sqrt())


# Numbers


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


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Leaves that differ, by dotted name, in the order of ``before`` and then ``after``."""
    old, new = dict(leaves(before)), dict(leaves(after))
    pairs = {name: (old.get(name, ABSENT), new.get(name, ABSENT)) for name in {**old, **new}}
    return {name: pair for name, pair in pairs.items() if not equal_values(*pair)}


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def equal_values(left: Any, right: Any) -> bool:
    """1 is 1.0, but neither is true."""
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def accuracy_change(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> AccuracyChange | None:
    if before is None or after is None:
        return None
    points = 100 * (after["mean"] - before["mean"])
    if min(before["runs"], after["runs"]) < 2:
        return AccuracyChange(points)
    variances = [(100 * each["std"]) ** 2 / each["runs"] for each in (before, after)]
    error = sum(variances) ** 0.5
    return AccuracyChange(points, error, error * quantile(variances, [before["runs"], after["runs"]]))


def quantile(variances: Sequence[float], runs: Sequence[int]) -> float:
    """Student's t for the interval of a difference of means with these squared errors (Welch and Satterthwaite)."""
    from scipy.special import stdtrit

    total = sum(variances)
    if total == 0:
        return 0.0
    freedom = 1 / sum((part / total) ** 2 / (count - 1) for part, count in zip(variances, runs, strict=True))
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
