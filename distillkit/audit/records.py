"""What an attacker who has a set can say of a record: how near the set comes to it, and what networks make of it.

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
from distillkit.evaluation.neighbours import nearest
from distillkit.training.compute import Compute
from distillkit.training.loop import predict

HALF_LEVEL = 1 / 512  # root mean square in pixel space: an 8-bit copy is no further away than its rounding


class Observed(NamedTuple):
    """Of each record, all (N,) and on the CPU: what is true of it, and what an attacker sees.

    ``member``: it is among the images that the set was made from. ``used``: its image is in the set, or a learned image
    started from it. The attacker sees whether the set has a copy, ``copied``; the logarithm of the ``distance`` to the
    nearest image of its class otherwise, nan for copies; ``alignment``; and the ``confidence`` of networks.
    """

    member: Tensor
    used: Tensor
    copied: Tensor
    distance: Tensor
    alignment: Tensor
    confidence: Tensor


GAUSSIAN = ("distance", "alignment", "confidence")  # statistics, beside the fact of a copy


def distances(synthetic: SyntheticSet, records: ImageSet) -> Tensor:
    """Root mean square difference (N,), in pixel space, to the nearest image of the set with the record's class.

    float64; infinity where the set has no image of the class.
    """
    found_N = torch.full((len(records),), torch.inf, dtype=torch.float64, device=records.device)
    for rows, own in by_class(records, synthetic):
        if len(rows) and len(own):
            squared_N1 = nearest(records.take(rows).images, synthetic.images[own]).squared_Nk
            found_N[rows] = (squared_N1[:, 0] / prod(records.image_shape)).sqrt()
    return found_N


def alignments(synthetic: SyntheticSet, records: ImageSet) -> Tensor:
    """⟨x − μ, s − μ⟩ / D of a record x (N,), s being the mean of the set's images of its class, μ of all records of it.

    Sets whose means follow those of their members lean towards each of them (Homer et al. 2008). nan where the set has
    no image of the class.
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
    """For each class the rows of the records and those of the set."""
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
