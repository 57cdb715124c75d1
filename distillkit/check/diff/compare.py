"""The differences between two versions of a distilled set: images, parameters, accuracy.

Images are matched by these rules in this order, each image at most once; the rest is removed or added:

1. unchanged: equal pixels and class; equal copies count separately
2. relabelled: equal pixels, another class
3. changed: same class and training row, in stored order; not if the sets record different sources
4. changed: same class, and each is at least twice as near to the other as to any other image of the class in either
   set; only if a training row is unknown (images that started from noise, or imported) or refers to another source

RMS is the root mean square over all pixels and channels of one image's difference, in pixel space.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.functional import one_hot

from distillkit.base.errors import counted
from distillkit.check.diff.images import match_images
from distillkit.check.diff.result import (
    ABSENT,
    AccuracyChange,
    Difference,
    Matches,
    PackageDifference,
    TargetChange,
    Version,
    properties,
)
from distillkit.data.images import SyntheticSet
from distillkit.report.words import leaves

CONFIDENCE = 0.95  # of the interval within which a difference of accuracies counts as noise


def compare(before: Version, after: Version) -> Difference:
    """The changes from ``before`` to ``after``. With the arguments swapped, added and removed are swapped."""
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


def compare_packages(before: Mapping[str, Version | None], after: Mapping[str, Version | None]) -> PackageDifference:
    """Compare two packages, given as versions by recipe. A version is None if its files are not in the folder."""
    absent = [name for name in {**before, **after} if None in (before.get(name, ...), after.get(name, ...))]
    old, new = ({name: each for name, each in side.items() if each and name not in absent} for side in (before, after))
    return PackageDifference(
        added={name: version for name, version in new.items() if name not in old},
        removed={name: version for name, version in old.items() if name not in new},
        common={name: compare(version, new[name]) for name, version in old.items() if name in new},
        absent=absent,
    )


def why_incomparable(before: SyntheticSet, after: SyntheticSet) -> str | None:
    """The reason why images cannot be matched (other shape or classes), or None."""
    shapes = ["x".join(map(str, each.images.shape[1:])) for each in (before, after)]
    if shapes[0] != shapes[1]:
        return f"images are {shapes[0]} before and {shapes[1]} after"
    names = before.class_names, after.class_names
    if len(names[0]) != len(names[1]):
        return f"there are {counted(len(names[0]), 'class')} before and {len(names[1])} after"
    unlike = ((row, *pair) for row, pair in enumerate(zip(*names, strict=True)) if pair[0] != pair[1])
    return next((f"class {row} is {old[:80]!r} before and {new[:80]!r} after" for row, old, new in unlike), None)


def target_changes(before: SyntheticSet, after: SyntheticSet, images: Matches) -> list[TargetChange]:
    """Matched images whose probabilities differ, the most changed first; empty if both sets have only hard labels.

    The distance is ½ Σ|p − q|, 0 to 1: the share of the probability that moved to other classes. A hard label is
    one-hot.
    """
    if before.soft_labels is None and after.soft_labels is None:
        return []
    old_NK, new_NK = (probabilities(each) for each in (before, after))
    pairs = [(pair.before, pair.after) for pair in (*images.unchanged, *images.relabelled, *images.changed)]
    found = [TargetChange(*pair, float((old_NK[pair[0]] - new_NK[pair[1]]).abs().sum() / 2)) for pair in pairs]
    return sorted((one for one in found if one.distance > 0), key=lambda one: (-one.distance, one))


def probabilities(synthetic: SyntheticSet) -> Tensor:
    """The training targets as probabilities (N, K), float64."""
    targets = synthetic.targets.cpu()
    return (targets if targets.ndim == 2 else one_hot(targets, len(synthetic.class_names))).double()


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Leaves that differ, by dotted name, in the order of ``before``, then ``after``."""
    old, new = dict(leaves(before)), dict(leaves(after))
    pairs = {name: (old.get(name, ABSENT), new.get(name, ABSENT)) for name in {**old, **new}}
    # 1 equals 1.0, but neither counts as equal to True
    return {key: (a, b) for key, (a, b) in pairs.items() if a != b or isinstance(a, bool) != isinstance(b, bool)}


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
