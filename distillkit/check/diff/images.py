"""Matching of the images of two sets."""

import hashlib
from collections import defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from distillkit.check.diff.result import Matches, Pair, Version
from distillkit.data.images import SyntheticSet
from distillkit.evaluation.neighbours import root_mean_square

ORIGIN = ("kind", "id", "revision", "params")  # the fields of a source that decide which image a training row is


def sources_differ(before: Version, after: Version) -> bool:
    """Whether both sides record their source, and the sources differ."""
    known = bool(before.source and after.source)
    return known and any(before.source.get(key) != after.source.get(key) for key in ORIGIN)


def match_images(before: Version, after: Version) -> Matches:
    """Match by the four rules in the docstring of ``compare.py``, in order."""
    old, new = (each.synthetic.to(torch.device("cpu")) for each in (before, after))
    known = not sources_differ(before, after)  # rows of another source cannot be compared; −1 is an unknown row
    origins = [[row if known and row >= 0 else None for row in each.source_row.tolist()] for each in (old, new)]
    rest: list[Sequence[int]] = [range(len(old)), range(len(new))]
    found = []
    for keys in zip(rule_keys(old, origins[0]), rule_keys(new, origins[1]), strict=True):
        pairs = pair_equal(*({row: keys[side][row] for row in rest[side]} for side in (0, 1)))
        rest = without(rest, pairs)
        found.append(pairs)
    unchanged, relabelled, traced = found
    nearest = pair_nearest(old, new, rest, origins)
    removed, added = without(rest, nearest)
    both = traced + nearest
    places = torch.tensor([(pair.before, pair.after) for pair in both], dtype=torch.int64).view(-1, 2)
    sizes = root_mean_square(old.pixels(places[:, 0]), new.pixels(places[:, 1]))
    changed = [Pair(pair.before, pair.after, size) for pair, size in zip(both, sizes.tolist(), strict=True)]
    return Matches(unchanged, relabelled, sorted(changed, key=lambda pair: (-pair.rms, pair)), removed, added)


def without(rows: Sequence[Sequence[int]], pairs: Sequence[Pair]) -> list[Sequence[int]]:
    """The rows of both sides that are in no pair."""
    gone = [{pair.before for pair in pairs}, {pair.after for pair in pairs}]
    return [[row for row in rows[side] if row not in gone[side]] for side in (0, 1)]


def rule_keys(synthetic: SyntheticSet, origins: Sequence[int | None]) -> Iterator[list[tuple[Hashable, ...]]]:
    """For each of rules 1 to 3, the keys that two images must have in common."""
    images = (image + 0.0 for image in synthetic.pixels())  # makes -0 equal to 0
    pixels = [hashlib.blake2b(image.numpy(), digest_size=20).digest() for image in images]
    labels = synthetic.labels.tolist()
    yield list(zip(pixels, labels, strict=True))
    yield list(zip(pixels, strict=True))
    yield list(zip(labels, origins, strict=True))


def pair_equal(before: Mapping[int, tuple[Hashable, ...]], after: Mapping[int, tuple[Hashable, ...]]) -> list[Pair]:
    """Pairs of rows with equal keys, in order. A key that contains None is equal to nothing."""
    waiting: dict[Hashable, deque[int]] = defaultdict(deque)
    for row, key in after.items():
        waiting[key].append(row)
    return [Pair(row, waiting[key].popleft()) for row, key in before.items() if None not in key and waiting[key]]


def pair_nearest(
    old: SyntheticSet, new: SyntheticSet, rest: Sequence[Sequence[int]], origins: Sequence[Sequence[int | None]]
) -> list[Pair]:
    """Rule 4, for the rows in ``rest``."""
    pairs: list[Pair] = []
    left_of, right_of = by_class(old, rest[0]), by_class(new, rest[1])
    for label in sorted(left_of.keys() & right_of.keys()):
        left, right = set(left_of[label]), set(right_of[label])
        if None not in {origins[0][row] for row in left} | {origins[1][row] for row in right}:
            continue
        members = [(each.labels == label).nonzero().squeeze(1).tolist() for each in (old, new)]
        rows, count = members[0] + members[1], len(members[0])
        near = partners(torch.cat([old.pixels(torch.tensor(members[0])), new.pixels(torch.tensor(members[1]))]))
        across = [(rows[one], rows[two]) for one, two in near if one < count <= two]
        spare = [(one, two) for one, two in across if one in left and two in right]
        pairs += [Pair(one, two) for one, two in spare if None in (origins[0][one], origins[1][two])]
    return pairs


def partners(images_NCHW: Tensor) -> list[tuple[int, int]]:
    """Pairs of images that are at least twice as near to each other as to any other of these images."""
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
