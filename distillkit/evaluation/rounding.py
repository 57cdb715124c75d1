"""Sets as they are stored in packages: learned images are rounded to float16, or to 8 bits with scale and offset."""

from dataclasses import replace

import torch
from torch import Tensor

from distillkit.base.errors import ParamsError
from distillkit.data.files.packed import Levels, Storage
from distillkit.data.images import SyntheticSet


def to_levels(pixels_NCHW: Tensor, fitted_N: Tensor) -> Levels:
    """Pixels as 8-bit levels: q = round(255 · (x − offset) / scale).

    Where ``fitted_N`` (N,) is true, an image has its own offset min(x) and scale max(x) − min(x), and the error of x is
    at most scale / 510. Other images have offset 0 and scale 1, and are clipped to [0, 1]; this is exact for images
    that had 8 bits before.
    """
    low_N, high_N = pixels_NCHW.flatten(1).aminmax(dim=1)
    offset_N = torch.where(fitted_N, low_N, 0.0)
    scale_N = torch.where(fitted_N, high_N - low_N, 1.0)
    divisor_N = torch.where(scale_N > 0, scale_N, 1.0)
    unit_NCHW = (pixels_NCHW - offset_N[:, None, None, None]) / divisor_N[:, None, None, None]
    return Levels((unit_NCHW.clamp(0, 1) * 255).round().to(torch.uint8), scale_N, offset_N)


def levels_of(synthetic: SyntheticSet, storage: Storage, rows: slice) -> Levels:
    """The levels of some rows for the parquet file: exact for images that have 8 bits in a package, else previews."""
    pixels = synthetic.pixels(rows)
    return to_levels(
        pixels.half().float() if storage == "float16" else pixels, synthetic.learned[rows] & (storage == "uint8")
    )


def stored(synthetic: SyntheticSet, storage: Storage) -> SyntheticSet:
    """The set as it is read back from a package of this ``storage``: learned images are rounded, all else is unchanged.

    Raises ParamsError for pixels that float16 cannot hold.
    """
    if storage == "float32" or not bool(synthetic.learned.any()):
        return synthetic
    if storage == "uint8":
        rounded = levels_of(synthetic, storage, slice(None)).pixels()
    else:
        rounded = synthetic.pixels().half().float()
        if not rounded.isfinite().all():
            found = f"pixels reach {synthetic.pixels().abs().max():g}; float16 holds up to 65504"
            raise ParamsError(f"package.storage is float16, but {found}; choose float32 or uint8")
    return replace(synthetic, images=torch.where(synthetic.learned[:, None, None, None], rounded, synthetic.pixels()))
