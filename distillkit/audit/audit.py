"""An audit of one set: cheap bounds, and membership inference with shadow sets made in the same way."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillkit.audit.bounds import bounds_of
from distillkit.audit.likelihood import (
    Evidence,
    calibrated,
    combine,
    copy_evidence,
    gaussian_evidence,
    most_exposed,
)
from distillkit.audit.records import GAUSSIAN, Observed
from distillkit.audit.roc import beats_chance, measured
from distillkit.audit.shadows import read_pipeline, shadow_sets
from distillkit.base.device import prepare_device
from distillkit.base.errors import check_shadows
from distillkit.data.images import RealData, SyntheticSet

EXPOSED = 0.1  # fraction of all records


def audit(
    synthetic: SyntheticSet, source: RealData, data: Mapping[str, Any], name: str, shadows: int, folder: Path
) -> dict[str, Any]:
    """The result for the set of recipe ``name``; ``data`` are the parameters that made it, needed for shadow sets only.

    Finished shadow sets are kept in ``folder``. Raises ParamsError if no shadow sets can be made.
    """
    check_shadows(shadows)
    pipeline = read_pipeline(data, name) if shadows else None
    result: dict[str, Any] = {"recipe": name, "set": bounds_of(synthetic, source.to(prepare_device()))}
    if pipeline is not None:
        result["attack"] = attack_on(shadow_sets(pipeline, source, shadows, folder))
    return result


def attack_on(sets: Sequence[Observed]) -> dict[str, Any]:
    """The result of attacking each of these sets in turn, by an attacker who knows the others.

    ``random`` are all records, ``exposed`` the tenth that is most exposed according to the other sets. ``used`` are
    members that are in the attacked set or that a learned image started from, against all non-members. ``by`` has the
    values of each statistic alone; they show which one reveals members.
    """
    seen = Observed(*(torch.stack(parts) for parts in zip(*sets, strict=True)))
    parts = evidence_of(seen)
    all_MN, combined = torch.ones_like(seen.member), combine(list(parts.values()))
    exposed_MN = most_exposed(combined.exposure_MN, EXPOSED)
    groups = {"random": all_MN, "exposed": exposed_MN, "used": seen.used | ~seen.member}
    found = {name: judged(combined, seen.member, among_MN) for name, among_MN in groups.items()}
    return {
        "shadows": len(sets),
        "records": seen.member.shape[1],
        **found,
        "by": {name: values_of(judged(part, seen.member, all_MN)) for name, part in parts.items()},
        "better_than_chance": any(beats_chance(found[name]) for name in ("random", "exposed")),
    }


def evidence_of(seen: Observed) -> dict[str, Evidence]:
    """The evidence (M, N) of each statistic alone."""
    statistics = {name: centred(getattr(seen, name)) for name in GAUSSIAN}
    gaussian = {name: calibrated(gaussian_evidence, own_MN, seen.member) for name, own_MN in statistics.items()}
    return {"copy": copy_evidence(seen.copied, seen.member), **gaussian}


def centred(statistic_MN: Tensor) -> Tensor:
    """Subtract each set's mean over all records: some sets are nearer to all images, or train surer networks."""
    return statistic_MN - statistic_MN.nanmean(1, keepdim=True)


def judged(evidence: Evidence, member_MN: Tensor, among_MN: Tensor) -> dict[str, Any]:
    return measured(evidence.score_MN, member_MN, among_MN, seed=0)


def values_of(found: Mapping[str, Any]) -> dict[str, float]:
    """The values without their errors."""
    return {name: part["value"] for name, part in found.items() if isinstance(part, Mapping)}
