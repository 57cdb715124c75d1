"""Writes the images of a set into a package: 8-bit images once, encoded, in its parquet file."""

import hashlib
import shutil
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.data.files.container import Opened, save
from distillkit.data.files.packed import DTYPES, ELSEWHERE, ENCODED, Storage, decoded, exact_rows
from distillkit.data.images import SyntheticSet
from distillkit.data.rows import spans
from distillkit.evaluation.rounding import levels_of

NOT_COPIED = ("format", "kind", "images_of")  # parts of the header: written again, or about images that are not copied


def pack(target: Path, artifact: Path, synthetic: SyntheticSet, storage: Storage, parquet: str) -> None:
    """Write ``artifact`` to ``target`` without its 8-bit images, which the file ``parquet`` beside it has.

    A set without such images is copied unchanged. Raises ArtifactError if a real image does not have 8 bits.
    """
    opened, exact_N = Opened(artifact, "synthetic"), exact_rows(synthetic.learned, storage)
    if storage == "float32" and not exact_N.any():
        shutil.copyfile(artifact, target)
        return
    kept = [name for name in opened.file.keys() if name not in ("images", "real_images", "learned_images")]  # noqa: SIM118
    tensors = {name: opened.file.get_tensor(name) for name in kept}
    digest, scales, offsets = hashlib.sha256(), list[Tensor](), list[Tensor]()
    for rows in spans(synthetic.images):
        levels, pixels = levels_of(synthetic, storage, rows), synthetic.pixels(rows)
        real = ~synthetic.learned[rows]
        if not torch.equal(levels.pixels()[real], pixels[real]):
            raise ArtifactError(f"{artifact} has a real image that does not have 8 bits; run its distill stage again")
        digest.update(levels.levels_NCHW[exact_N[rows]].numpy().tobytes())
        scales.append(levels.scale_N)
        offsets.append(levels.offset_N)
    if storage != "uint8" and bool(synthetic.learned.any()):
        tensors["learned_images"] = synthetic.pixels(synthetic.learned.nonzero().squeeze(1)).to(DTYPES[storage])
    elif bool(synthetic.learned.any()):
        tensors |= {"scale": torch.cat(scales), "offset": torch.cat(offsets)}
    shape, header = list(synthetic.images.shape[1:]), dict(opened.header)
    header[ELSEWHERE] = {"file": parquet, "sha256": digest.hexdigest(), "shape": shape, "storage": storage}
    save(target, "synthetic", tensors, {key: part for key, part in header.items() if key not in NOT_COPIED})


def png(levels_CHW: Tensor) -> bytes:
    """An image (C, H, W) uint8, grey or colour, as PNG."""
    pixels = levels_CHW[0] if len(levels_CHW) == 1 else levels_CHW.permute(1, 2, 0).contiguous()
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return file.getvalue()


def image_file(levels_CHW: Tensor, source: bytes) -> bytes:
    """The file ``source`` if it decodes to this 8-bit image, else a PNG.

    A file with far more bytes than the pixels is not used, because the reader would refuse it.
    """
    if source and len(source) <= 2 * levels_CHW.numel() + ENCODED:
        pixels = decoded(source, tuple(levels_CHW.shape))
        if pixels is not None and torch.equal(torch.from_numpy(pixels), levels_CHW):
            return source
    return png(levels_CHW)
