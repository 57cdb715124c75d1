"""Facts about a set that need no shadow sets: copies, near copies, and membership inference by distance alone.

The source's test images serve as images that the set was not made from.
"""

from typing import Any

import torch

from distillkit.audit.records import HALF_LEVEL, distance_of, distances
from distillkit.audit.roc import beats_chance, measured
from distillkit.data.images import ImageSet, RealData, SyntheticSet
from distillkit.evaluation.evaluate import check_fit
from distillkit.evaluation.neighbours import nearest

MOST_TEST_IMAGES = 1000  # that are compared with the training images
NEAR = 0.01  # quantile of the test images' distances; an image that is nearer to a training image is a near copy


def bounds_of(synthetic: SyntheticSet, source: RealData) -> dict[str, Any]:
    """The number of ``images`` in the set, of ``copies`` of training images, and of ``near_copies``, copies included.

    ``source_copied`` is the share of the training images that have a copy; ``distance`` has the median distance (root
    mean square in pixel space) from images of the ``set``, and from ``test`` images, to the nearest training image;
    ``attack`` is membership inference by the distance to the set alone, see :func:`distance_attack`.

    A near copy is as near to a training image as the nearest 1 % of the test images. Raises ArtifactError if set and
    source do not match.
    """
    check_fit(source.test, synthetic)
    synthetic, train, test = (
        synthetic.to(source.train.device),
        source.train.images,
        sample(source.test, MOST_TEST_IMAGES),
    )
    own = nearest(synthetic.images, train)
    shape = source.train.image_shape
    own_S, other_N = (distance_of(found, shape) for found in (own, nearest(test.images, train)))
    copied_S = own_S <= HALF_LEVEL
    near_S = copied_S | (own_S <= other_N.quantile(NEAR))
    return {
        "images": len(synthetic),
        "copies": int(copied_S.sum()),
        "near_copies": int(near_S.sum()),
        "source_copied": round(len(own.row_Nk[copied_S].unique()) / len(source.train), 6),
        "distance": {
            "set": round(float(own_S.median()), 6),
            "test": round(float(other_N.median()), 6),
        },
        "attack": distance_attack(synthetic, source),
    }


def sample(images: ImageSet, most: int) -> ImageSet:
    """At most ``most`` images, evenly spaced."""
    rows = torch.linspace(0, len(images) - 1, min(most, len(images)), dtype=torch.float64).round().long()
    return images.take(rows)


def distance_attack(synthetic: SyntheticSet, source: RealData) -> dict[str, Any]:
    """Membership inference by distance to the set: training images are members, test images are not.

    Without shadow sets, a record that is near to the set by chance looks like one that is near because it was used.
    So this finds little more than copies; it is not an upper bound.
    """
    parts = [distances(synthetic, images).cpu() for images in (source.train, source.test)]
    score_1N = -torch.cat(parts)[None]
    member_1N = torch.cat([torch.full(part.shape, place == 0) for place, part in enumerate(parts)])[None]
    found = measured(score_1N, member_1N, torch.ones_like(member_1N), seed=0)
    return {**found, "better_than_chance": beats_chance(found)}
