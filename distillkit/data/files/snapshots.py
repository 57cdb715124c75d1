"""States of the learned images of a set on the way, to be looked at: beside the artifact, not part of it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from distillkit.base.files import write_text
from distillkit.data.files.container import Opened, save
from distillkit.data.images import SyntheticSet


def snapshot_file(artifact: Path) -> Path:
    """Where the snapshots of the set at ``artifact`` are kept: in a folder beside that of all sets."""
    return artifact.parent.parent / "snapshots" / artifact.name


def save_snapshots(path: Path, snapshots: Mapping[int, Tensor], synthetic: SyntheticSet) -> None:
    """Images (L, C, H, W), uint8, by step, of the L learned images of ``synthetic``, in its order; Git ignores them."""
    write_text(path.parent / ".gitignore", "*\n")
    tensors = {f"step_{step}": images for step, images in snapshots.items()}
    save(path, "snapshots", tensors, {"steps": sorted(snapshots), "set_sha256": fingerprint(synthetic)})


def load_snapshots(path: Path, synthetic: SyntheticSet) -> dict[int, Tensor]:
    """What was kept for this very set, by step; nothing where it was kept for another, or not at all."""
    if not path.is_file():
        return {}
    opened = Opened(path, "snapshots")
    if opened.field("set_sha256", str) != fingerprint(synthetic):
        return {}
    shape = [int(synthetic.learned.sum()), *synthetic.images.shape[1:]]
    return {int(step): opened.tensor(f"step_{step}", shape, torch.uint8) for step in opened.field("steps", list)}


def fingerprint(synthetic: SyntheticSet) -> str:
    """SHA-256 of the learned images, in hexadecimal."""
    images = synthetic.pixels(synthetic.learned.nonzero().squeeze(1))
    return hashlib.sha256(images.cpu().contiguous().numpy().data).hexdigest()
