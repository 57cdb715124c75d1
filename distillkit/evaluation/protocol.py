"""How a set is to be trained on, in plain data: normalisation, soft labels and order of training.

What is written here is exact (counts, single values of a tensor), so that any machine finds the same in the same set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from distillkit.data.images import Normalisation, Schedule, SyntheticSet


def protocol_of(synthetic: SyntheticSet, params: Any = None) -> dict[str, Any]:
    """``soft_labels`` and ``schedule``, each None where the set has none; ``params`` are those of its recipe."""
    return {"soft_labels": soft_labels_of(synthetic, params), "schedule": schedule_of(synthetic.schedule)}


def soft_labels_of(synthetic: SyntheticSet, params: Any = None) -> dict[str, Any] | None:
    """``median`` of the images' largest probabilities; in how many images another class than the label has it.

    ``learned``: whether the recipe moved them, too.
    """
    if synthetic.soft_labels is None:
        return None
    largest = synthetic.soft_labels.max(1)
    own = synthetic.soft_labels.gather(1, synthetic.labels[:, None]).squeeze(1)
    return {
        "median": largest.values.median().item(),
        "other_class": int((own < largest.values).sum()),
        "learned": label_lr(params) > 0,
    }


def label_lr(params: Any) -> float:
    """The labels' learning rate that a recipe's parameters name, 0 without one."""
    optim = params.get("optim") if isinstance(params, Mapping) else None
    value = optim.get("label_lr") if isinstance(optim, Mapping) else None
    return float(value) if isinstance(value, int | float) else 0.0


def schedule_of(schedule: Schedule | None) -> dict[str, Any] | None:
    """``network``, ``steps`` S, ``updates`` T, step sizes, how many ``starts`` (None: fresh weights), fingerprint."""
    if schedule is None:
        return None
    lr_T, starts_RP = schedule.lr_T, schedule.starts_RP
    return {
        "network": asdict(schedule.network),
        "steps": int(schedule.step_N.max()) + 1,
        "updates": len(lr_T),
        "lr": {"first": lr_T[0].item(), "last": lr_T[-1].item(), "min": lr_T.min().item(), "max": lr_T.max().item()},
        "starts": None if starts_RP is None else len(starts_RP),
        "sha256": fingerprint(schedule.step_N, schedule.lr_T, schedule.starts_RP),
    }


def normalisation_of(normalisation: Normalisation) -> dict[str, Any]:
    """``mean`` and ``std`` of the channels and, where images are whitened, the fingerprint of ``zca``."""
    found: dict[str, Any] = {"mean": normalisation.mean.tolist(), "std": normalisation.std.tolist()}
    if (zca := normalisation.whitening) is not None:
        found["zca"] = {"sha256": fingerprint(zca.mean_D, zca.basis_DD, zca.scale_D)}
    return found


def fingerprint(*tensors: Tensor | None) -> str:
    """SHA-256 in hexadecimal of those tensors that are there."""
    found = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            found.update(f"{tensor.dtype} {list(tensor.shape)} ".encode())
            found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


# For people


def labels_words(soft: Mapping[str, Any] | None) -> str:
    """The label regime in a few words."""
    if soft is None:
        return "hard"
    other = f", another class likelier in {soft['other_class']:,}" if soft["other_class"] else ""
    how = "soft, learned" if soft["learned"] else "soft"
    return f"{how} (largest probability {soft['median']:.3g} in the median{other})"


def schedule_words(schedule: Mapping[str, Any] | None) -> str:
    """The order of training in a few words."""
    if schedule is None:
        return "none"
    first, last = schedule["lr"]["first"], schedule["lr"]["last"]
    sizes = f"{first:.3g}" if schedule["lr"]["min"] == schedule["lr"]["max"] else f"{first:.3g} to {last:.3g}"
    starts = schedule["starts"]
    begin = "fresh weights" if starts is None else f"{starts} initial {'weight vector' if starts == 1 else 'weights'}"
    updates, steps = (f"{schedule[key]:,} {key[:-1] if schedule[key] == 1 else key}" for key in ("updates", "steps"))
    return f"{updates} over {steps}, step {'size' if schedule['updates'] == 1 else 'sizes'} {sizes}, from {begin}"
