"""How to train on a set, as plain data: normalisation, soft labels and schedule.

All values are exact (counts, single values of a tensor), so that every machine finds the same values for a set.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from distillkit.data.images import Normalisation, Schedule, SyntheticSet
from distillkit.data.rows import Images, chunks


def protocol_of(synthetic: SyntheticSet, params: Any = None) -> dict[str, Any]:
    """``soft_labels`` and ``schedule``, each None if the set has none; ``params`` are the recipe's parameters."""
    return {"soft_labels": soft_labels_of(synthetic, params), "schedule": schedule_of(synthetic.schedule)}


def soft_labels_of(synthetic: SyntheticSet, params: Any = None) -> dict[str, Any] | None:
    """A summary of the soft labels; None without soft labels.

    ``median``: of the images' largest probabilities. ``other_class``: the number of images where it belongs to another
    class than the label. ``learned``: whether the recipe learned the labels.
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
    """The learning rate of labels in a recipe's parameters, 0 without one."""
    optim = params.get("optim") if isinstance(params, Mapping) else None
    value = optim.get("label_lr") if isinstance(optim, Mapping) else None
    return float(value) if isinstance(value, int | float) else 0.0


def schedule_of(schedule: Schedule | None) -> dict[str, Any] | None:
    """A summary of the schedule: ``network``, ``steps`` S, ``updates`` T, step sizes, ``starts``, ``sha256``.

    ``starts`` is the number of initial weights, None for new random weights.
    """
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
    """``mean`` and ``std`` of the channels and, for whitened images, the SHA-256 of ``zca``."""
    found: dict[str, Any] = {"mean": normalisation.mean.tolist(), "std": normalisation.std.tolist()}
    if (zca := normalisation.whitening) is not None:
        found["zca"] = {"sha256": fingerprint(zca.mean_D, zca.basis_DD, zca.scale_D)}
    return found


def fingerprint(*tensors: Images | None) -> str:
    """SHA-256 in hexadecimal of the tensors that are not None; images in files are read in blocks."""
    found = hashlib.sha256()
    for tensor in tensors:
        if tensor is not None:
            found.update(f"{tensor.dtype} {list(tensor.shape)} ".encode())
            for part in [tensor] if isinstance(tensor, Tensor) else chunks(tensor):
                found.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


# As text


def labels_words(soft: Mapping[str, Any] | None) -> str:
    """The kind of labels, in a few words."""
    if soft is None:
        return "hard"
    other = f", another class likelier in {soft['other_class']:,}" if soft["other_class"] else ""
    how = "soft, learned" if soft["learned"] else "soft"
    return f"{how} (largest probability {soft['median']:.3g} in the median{other})"


def schedule_words(schedule: Mapping[str, Any] | None) -> str:
    """The schedule, in a few words."""
    if schedule is None:
        return "none"
    first, last = schedule["lr"]["first"], schedule["lr"]["last"]
    sizes = f"{first:.3g}" if schedule["lr"]["min"] == schedule["lr"]["max"] else f"{first:.3g} to {last:.3g}"
    starts = schedule["starts"]
    begin = "fresh weights" if starts is None else f"{starts} initial {'weight vector' if starts == 1 else 'weights'}"
    updates, steps = (f"{schedule[key]:,} {key[:-1] if schedule[key] == 1 else key}" for key in ("updates", "steps"))
    return f"{updates} over {steps}, step {'size' if schedule['updates'] == 1 else 'sizes'} {sizes}, from {begin}"
