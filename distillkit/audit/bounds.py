"""What can be said of a set without making it again: copies, near copies, and how well distance alone tells members.

The source's test images stand for images that the set was not made from.
"""

from math import prod
from typing import Any

import torch
from torch import Tensor

from distillkit.audit.records import HALF_LEVEL, distances
from distillkit.audit.roc import beats_chance, measured
from distillkit.data.images import ImageSet, RealData, SyntheticSet
from distillkit.evaluation.evaluate import check_fit
from distillkit.evaluation.neighbours import Nearest, nearest

MOST_TEST_IMAGES = 1000  # whose nearest training image is looked for
NEAR = 0.01  # share of the test images that come as near to a training image as what is called a near copy


def bounds_of(synthetic: SyntheticSet, source: RealData) -> dict[str, Any]:
    """``images`` of the set; ``copies`` of training images in it, and ``near_copies``, copies included.

    ``source_copied`` is the share of the training images that a copy shows; ``distance`` has medians of how far images
    of the set, and ``test`` images, are from the nearest training image (root mean square in pixel space); ``attack``
    is membership inference by nothing but the distance to the set, see :func:`distance_attack`.

    An image is a near copy where it is as near to a training image as the nearest hundredth of the test images are.
    Raises ArtifactError when the set and the source do not fit together.
    """
    check_fit(source.test, synthetic)
    synthetic, train, test = (
        synthetic.to(source.train.device),
        source.train.images,
        sample(source.test, MOST_TEST_IMAGES),
    )
    own = nearest(synthetic.images, train)
    own_S, other_N = (distance_of(found, source.train) for found in (own, nearest(test.images, train)))
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


def distance_of(found: Nearest, images: ImageSet) -> Tensor:
    """Root mean square (N,) over the values of an image, in pixel space."""
    return (found.squared_Nk[:, 0] / prod(images.image_shape)).sqrt()


def sample(images: ImageSet, most: int) -> ImageSet:
    """At most so many, evenly spaced."""
    rows = torch.linspace(0, len(images) - 1, min(most, len(images)), dtype=torch.float64).round().long()
    return images.take(rows)


def distance_attack(synthetic: SyntheticSet, source: RealData) -> dict[str, Any]:
    """Training images are called members, test images are not; whoever is nearer to the set is thought to be one.

    Without shadow sets nothing tells a record that is near the set anyway from one that is near because it was used.
    So this finds copies, and little else: it is no bound from above.
    """
    parts = [distances(synthetic, images).cpu() for images in (source.train, source.test)]
    score_1N = -torch.cat(parts)[None]
    member_1N = torch.cat([torch.full(part.shape, place == 0) for place, part in enumerate(parts)])[None]
    found = measured(score_1N, member_1N, torch.ones_like(member_1N), seed=0)
    return {**found, "better_than_chance": beats_chance(found)}
