"""Intermediate states of the learned images of a set, for ``distillkit look``. They are not part of the artifact."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from distillkit.base.files import write_text
from distillkit.data.files.container import Opened, save
from distillkit.data.images import SyntheticSet


def snapshot_file(artifact: Path) -> Path:
    """The file of the snapshots of the set at ``artifact``: in the folder ``snapshots`` beside the folder of sets."""
    return artifact.parent.parent / "snapshots" / artifact.name


def save_snapshots(path: Path, snapshots: Mapping[int, Tensor], synthetic: SyntheticSet) -> None:
    """Write the snapshots of the L learned images of ``synthetic``: by step, (L, C, H, W), uint8. Git ignores them."""
    write_text(path.parent / ".gitignore", "*\n")
    tensors = {f"step_{step}": images for step, images in snapshots.items()}
    save(path, "snapshots", tensors, {"steps": sorted(snapshots), "set_sha256": fingerprint(synthetic)})


def load_snapshots(path: Path, synthetic: SyntheticSet) -> dict[int, Tensor]:
    """The snapshots (L, C, H, W), uint8, by step. Empty if there are none, or if they belong to another set."""
    if not path.is_file():
        return {}
    opened = Opened(path, "snapshots")
    if opened.field("set_sha256", str) != fingerprint(synthetic):
        return {}
    shape = [int(synthetic.learned.sum()), *synthetic.images.shape[1:]]
    return {int(step): opened.tensor(f"step_{step}", shape, torch.uint8) for step in opened.field("steps", list)}


def fingerprint(synthetic: SyntheticSet) -> str:
    """The SHA-256 of the learned images, in hexadecimal."""
    images = synthetic.pixels(synthetic.learned.nonzero().squeeze(1))
    return hashlib.sha256(images.cpu().contiguous().numpy().data).hexdigest()
