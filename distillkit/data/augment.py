"""Augmentation as pure functions of images and explicit draws.

Differentiable siamese augmentation (DSA, Zhao & Bilen 2021) and the field's "simple" crop and flip. All random numbers
are drawn in advance, as a :data:`Draw`, so that the same augmentation can be applied again. Every operation is
differentiable. Images are normalised. Pixels from outside an image are 0, which is the mean of the training images.

Axes: N images; C, H, W channels, height, width; R random numbers of one image.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from distillkit.base.device import onto
from distillkit.base.errors import ParamsError, check_range
from distillkit.base.randomness import draw_int
from distillkit.base.settings import settings

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
ALL_OPERATIONS: tuple[Operation, ...] = ("color", "crop", "cutout", "flip", "scale", "rotate")
NUMBERS = 3  # random numbers that one operation may use on one image

SHIFT = 1 / 8  # crop moves by up to this share of the side
PAD = 4  # pixels; the largest shift of simple and combined when ``pad`` is not given
CUTOUT = 1 / 2  # side of the cut rectangle, as a share of the image's side
SCALE = 1.2  # zoom between 1/SCALE and SCALE
ROTATION = math.radians(15)


@settings
class Augmentation:
    """How to augment a batch.

    ``dsa`` draws one of ``operations`` for the whole batch. ``simple`` shifts and flips every image. ``combined`` draws
    one of ``operations`` for each learned image, and shifts and flips the real ones (SelMatch's evaluation). ``pad`` is
    the largest shift of ``simple`` and ``combined`` in pixels, see :func:`padding`; it does not apply to DSA's crop.
    """

    kind: Literal["none", "simple", "dsa", "combined"] = "none"
    operations: tuple[Operation, ...] = ALL_OPERATIONS
    pad: int | None = None

    def __post_init__(self) -> None:
        check_range("augmentation.pad", self.pad, 0)
        if not self.operations:
            raise ParamsError(f"operations is empty; expected some of {', '.join(ALL_OPERATIONS)}, or kind: none")


class Step(NamedTuple):
    """One operation on the images of a batch at ``rows``, or on all if None; ``numbers_NR`` are in [0, 1).

    Only ``shift`` uses ``pad``.
    """

    operation: Operation | Literal["shift"]
    rows: Tensor | None
    numbers_NR: Tensor
    pad: int | None = None


Draw = list[Step]


def draw(augmentation: Augmentation, count: int, generator: Generator, learned_N: Tensor | None = None) -> Draw:
    """All random choices of the augmentation of one batch of ``count`` images.

    ``learned_N`` (N,) bool says which images are learned; only ``combined`` uses it. None: all images are real.
    """
    if augmentation.kind == "none":
        return []
    if augmentation.kind == "simple":
        return draw_simple(augmentation, None, count, generator)
    if augmentation.kind == "dsa":
        operation = augmentation.operations[draw_int(0, len(augmentation.operations), generator)]
        return [Step(operation, None, numbers(count, generator))]
    learned_N = torch.zeros(count, dtype=torch.bool) if learned_N is None else learned_N.cpu()
    return draw_combined(augmentation, learned_N, generator)


def draw_siamese(augmentation: Augmentation, generator: Generator) -> Draw:
    """A draw for one image, which :func:`apply` uses for every image of a batch (Zhao & Bilen 2021)."""
    return draw(augmentation, 1, generator)


def check_siamese(augmentation: Augmentation) -> None:
    """Raise ParamsError for ``combined``, which does not augment all images of a batch in the same way."""
    if augmentation.kind == "combined":
        raise ParamsError("augmentation.kind is combined, which treats images apart; expected none, simple or dsa")


def draw_simple(augmentation: Augmentation, rows: Tensor | None, count: int, generator: Generator) -> Draw:
    first = Step("shift", rows, numbers(count, generator), augmentation.pad)
    return [first, Step("flip", rows, numbers(count, generator))]


def draw_combined(augmentation: Augmentation, learned_N: Tensor, generator: Generator) -> Draw:
    real = (~learned_N).nonzero().squeeze(1)
    steps = draw_simple(augmentation, real, len(real), generator) if len(real) else []
    choice_N = torch.randint(len(augmentation.operations), learned_N.shape, generator=generator)
    for index, operation in enumerate(augmentation.operations):
        rows = (learned_N & (choice_N == index)).nonzero().squeeze(1)
        if len(rows):
            steps.append(Step(operation, rows, numbers(len(rows), generator)))
    return steps


def numbers(count: int, generator: Generator) -> Tensor:
    return torch.rand(count, NUMBERS, generator=generator)


def apply(x_NCHW: Tensor, steps: Draw) -> Tensor:
    """The augmented batch (N, C, H, W), differentiable in ``x_NCHW``. A draw for one image is used for all images."""
    device = x_NCHW.device
    for operation, rows, numbers_NR, pad in steps:
        function = partial(shift, pad=pad) if operation == "shift" else OPERATIONS[operation]
        u_NR = onto(device, numbers_NR).to(x_NCHW.dtype)
        if rows is None:
            x_NCHW = function(x_NCHW, u_NR.expand(len(x_NCHW), -1))
        else:
            rows = onto(device, rows)
            x_NCHW = x_NCHW.index_copy(0, rows, function(x_NCHW[rows], u_NR))
    return x_NCHW


def per_image(u_NR: Tensor, index: int) -> Tensor:
    return u_NR[:, index, None, None, None]


def color(x_NCHW: Tensor, u_NR: Tensor) -> Tensor:
    """Brightness + (u₀ − ½), then saturation x 2u₁, then contrast x (u₂ + ½)."""
    x_NCHW = x_NCHW + per_image(u_NR, 0) - 0.5
    grey = x_NCHW.mean(1, keepdim=True)
    x_NCHW = grey + (x_NCHW - grey) * 2 * per_image(u_NR, 1)
    mean = x_NCHW.mean((1, 2, 3), keepdim=True)
    return mean + (x_NCHW - mean) * (per_image(u_NR, 2) + 0.5)


def crop(x_NCHW: Tensor, u_NR: Tensor) -> Tensor:
    """Shift by a whole number of pixels, at most SHIFT of the side in each direction."""
    return moved(x_NCHW, u_NR, *(round_half_up(side * SHIFT) for side in x_NCHW.shape[2:]))


def shift(x_NCHW: Tensor, u_NR: Tensor, pad: int | None) -> Tensor:
    """Shift by a whole number of pixels, at most :func:`padding` in each direction."""
    return moved(x_NCHW, u_NR, *(padding(pad, side) for side in x_NCHW.shape[2:]))


def padding(pad: int | None, side: int) -> int:
    """The largest shift in pixels: ``pad``, or if None the smaller of PAD (as in SelMatch) and SHIFT of the side."""
    return min(PAD, round_half_up(side * SHIFT)) if pad is None else pad


def moved(x_NCHW: Tensor, u_NR: Tensor, most_h: int, most_w: int) -> Tensor:
    """Images shifted by −``most_h`` to ``most_h`` rows and −``most_w`` to ``most_w`` columns, and filled with 0."""
    count, _, height, width = x_NCHW.shape
    top_N, left_N = ((u_NR[:, i] * (2 * most + 1)).long() for i, most in enumerate((most_h, most_w)))
    padded = F.pad(x_NCHW, (most_w, most_w, most_h, most_h))
    row_NH = top_N[:, None] + torch.arange(height, device=x_NCHW.device)
    column_NW = left_N[:, None] + torch.arange(width, device=x_NCHW.device)
    image_N = torch.arange(count, device=x_NCHW.device)
    picked_NHWC = padded.permute(0, 2, 3, 1)[image_N[:, None, None], row_NH[:, :, None], column_NW[:, None, :]]
    return picked_NHWC.permute(0, 3, 1, 2).contiguous()


def cutout(x_NCHW: Tensor, u_NR: Tensor) -> Tensor:
    """Set a rectangle to 0. Its sides are CUTOUT of the image's sides; its centre is anywhere in the image."""
    height, width = x_NCHW.shape[2:]
    inside_NH = in_strip(u_NR[:, 0], height)
    inside_NW = in_strip(u_NR[:, 1], width)
    hole_N1HW = (inside_NH[:, :, None] & inside_NW[:, None, :])[:, None]
    return x_NCHW.masked_fill(hole_N1HW, 0.0)


def in_strip(u_N: Tensor, side: int) -> Tensor:
    size = round_half_up(side * CUTOUT)
    first_N1 = (u_N * (side + 1 - size % 2)).long()[:, None] - size // 2
    position = torch.arange(side, device=u_N.device)
    return (position >= first_N1) & (position < first_N1 + size)


def flip(x_NCHW: Tensor, u_NR: Tensor) -> Tensor:
    """Mirror left to right, with probability ½."""
    return torch.where(per_image(u_NR, 0) < 0.5, x_NCHW.flip(3), x_NCHW)


def scale(x_NCHW: Tensor, u_NR: Tensor) -> Tensor:
    """Scale height and width independently, each by a factor between 1/SCALE and SCALE."""
    factor_NR = 1 / SCALE + u_NR * (SCALE - 1 / SCALE)
    zero_N = torch.zeros_like(u_NR[:, 0])
    return warp(x_NCHW, [factor_NR[:, 0], zero_N, zero_N, factor_NR[:, 1]])


def rotate(x_NCHW: Tensor, u_NR: Tensor) -> Tensor:
    """Rotate by an angle between −ROTATION and ROTATION."""
    angle_N = (2 * u_NR[:, 0] - 1) * ROTATION
    return warp(x_NCHW, [angle_N.cos(), -angle_N.sin(), angle_N.sin(), angle_N.cos()])


def warp(x_NCHW: Tensor, matrix: list[Tensor]) -> Tensor:
    a_N, b_N, c_N, d_N = matrix
    zero_N = torch.zeros_like(a_N)
    affine_N23 = torch.stack([a_N, b_N, zero_N, c_N, d_N, zero_N], 1).view(-1, 2, 3)
    grid = F.affine_grid(affine_N23, list(x_NCHW.shape), align_corners=True)
    return F.grid_sample(x_NCHW, grid, align_corners=True)


def round_half_up(value: float) -> int:
    return int(value + 0.5)


OPERATIONS: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "color": color,
    "crop": crop,
    "cutout": cutout,
    "flip": flip,
    "scale": scale,
    "rotate": rotate,
}
