"""What an attacker measures with a set: how near it is to a record, and how its networks classify the record.

Axes: N records; S images of the set; C, H, W of an image; D = C·H·W; K classes; R networks.
"""

from math import prod
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.base.randomness import spawn
from distillkit.data.images import ImageSet, SyntheticSet
from distillkit.data.selection import class_rows
from distillkit.evaluation.evaluate import EvaluationRecipe, trained
from distillkit.evaluation.neighbours import Nearest, nearest
from distillkit.training.compute import Compute
from distillkit.training.loop import predict

HALF_LEVEL = 1 / 512  # root mean square in pixel space: the rounding error of an 8-bit copy


class Observed(NamedTuple):
    """For each record, all (N,) and on the CPU: the truth, and what an attacker sees.

    ``member``: the set was made from it. ``used``: it is in the set, or a learned image started from it. The attacker
    sees ``copied``, whether the set has a copy; ``distance``, the logarithm of the distance to the nearest image of its
    class, NaN for copies; ``alignment``; and the ``confidence`` of networks.
    """

    member: Tensor
    used: Tensor
    copied: Tensor
    distance: Tensor
    alignment: Tensor
    confidence: Tensor


GAUSSIAN = ("distance", "alignment", "confidence")  # statistics besides ``copied``


def distances(synthetic: SyntheticSet, records: ImageSet) -> Tensor:
    """Root mean square difference (N,), in pixel space, to the nearest image of the set with the record's class.

    float64; infinity if the set has no image of the class.
    """
    found_N = torch.full((len(records),), torch.inf, dtype=torch.float64, device=records.device)
    for rows, own in by_class(records, synthetic):
        if len(rows) and len(own):
            found = nearest(records.take(rows).images, synthetic.images[own])
            found_N[rows] = distance_of(found, records.image_shape)
    return found_N


def distance_of(found: Nearest, shape: tuple[int, ...]) -> Tensor:
    """Root mean square distance (N,) to the nearest image of this shape, in pixel space."""
    return (found.squared_Nk[:, 0] / prod(shape)).sqrt()


def alignments(synthetic: SyntheticSet, records: ImageSet) -> Tensor:
    """⟨x − μ, s − μ⟩ / D (N,) of a record x: s is the mean of the set's images of its class, μ of all records of it.

    If the mean of a set follows that of its members, it leans towards each of them (Homer et al. 2008). NaN if the set
    has no image of the class.
    """
    found_N = torch.full((len(records),), torch.nan, device=records.device)
    for rows, own in by_class(records, synthetic):
        if len(rows) and len(own):
            images_ND = records.pixels(rows).flatten(1)
            mean_D = images_ND.mean(0)
            towards_D = synthetic.images[own].flatten(1).mean(0) - mean_D
            found_N[rows] = (images_ND - mean_D) @ towards_D / len(mean_D)
    return found_N


def by_class(records: ImageSet, synthetic: SyntheticSet) -> list[tuple[Tensor, Tensor]]:
    """For each class, the rows of the records and those of the set."""
    classes = len(records.class_names)
    return list(zip(class_rows(records.labels, classes), class_rows(synthetic.labels, classes), strict=True))


def confidences(
    synthetic: SyntheticSet, records: ImageSet, recipe: EvaluationRecipe, generator: Generator, compute: Compute
) -> Tensor:
    """log p − log(1 − p) of the label's probability p (N,), mean over ``recipe.runs`` networks trained on the set.

    Carlini et al. find it close to Gaussian. From logits z: z_y − log Σ_{k≠y} exp z_k, which never overflows.
    """
    train_NCHW = compute.seen(synthetic.images, synthetic.normalisation, synthetic.labels.device)
    records_NCHW = compute.seen(records.images, synthetic.normalisation, records.device)

    def of_group(group: list[tuple[int, Generator]]) -> Tensor:
        networks = trained(synthetic, train_NCHW, recipe, group, lambda *_: None, compute)
        return torch.stack([logit_margin(predict(each, records_NCHW), records.labels) for each in networks]).cpu()

    groups = compute.groups(enumerate(spawn(generator, recipe.runs)))
    return torch.cat(list(compute.run(of_group, groups))).mean(0)


def logit_margin(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
    """z_y − log Σ_{k≠y} exp z_k, (N,) float64."""
    logits_NK, label_N1 = logits_NK.double(), labels_N[:, None]
    others_N = logits_NK.scatter(1, label_N1, -torch.inf).logsumexp(1)
    return logits_NK.gather(1, label_N1).squeeze(1) - others_N


def observe(
    synthetic: SyntheticSet, records: ImageSet, member_N: Tensor, source_row_S: Tensor, confidence_N: Tensor
) -> Observed:
    """All statistics of one set; ``source_row_S`` (S,) are rows of ``records``, −1 for none."""
    distance_N, used_N = distances(synthetic, records), torch.zeros_like(member_N)
    used_N[source_row_S[source_row_S >= 0].to(used_N.device)] = True
    copied_N = distance_N <= HALF_LEVEL
    log_N = distance_N.log().masked_fill(copied_N | ~distance_N.isfinite(), torch.nan)
    parts = (member_N, used_N, copied_N, log_N, alignments(synthetic, records), confidence_N)
    return Observed(*(part.cpu() for part in parts))
