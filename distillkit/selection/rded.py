"""RDED: images composed of the crops of real images that experts classify best (Sun et al., CVPR 2024).

Axes: N images or crops; C, H, W channels, height, width.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from distillkit.base.about import About
from distillkit.base.errors import ParamsError, WindowError, check_range
from distillkit.base.randomness import draw_int
from distillkit.base.settings import settings
from distillkit.data.images import Normalisation, SyntheticSet, made_set
from distillkit.data.selection import check_counts, class_counts, class_rows, draw_rows
from distillkit.matching.method import Material

LEAST = 0.08  # smallest share of an image's area that a crop covers
PART = 64  # most images that are cropped at a time

ABOUT = About(
    title="RDED",
    summary="Realistic, diverse and efficient dataset distillation (Sun et al., CVPR 2024). Of `pool` real images of "
    "every class, `crops` random crops each, the crop that experts classify best is kept; of all images, the crops "
    "that are classified best. `factor` x `factor` of them, shrunk, make one image.",
    paper="""\
@inproceedings{sun2024rded,
  title     = {On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm},
  author    = {Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2024},
  note      = {arXiv:2312.03526}
}""",
)


@settings
class RealisticCrops:
    """``ipc`` images of every class, each composed of ``factor``² crops, one from each of as many real images.

    ``pool`` images of a class are drawn, and ``crops`` random crops of each are made. A crop's loss is the
    cross-entropy for its class, averaged over the first ``experts`` experts. It is computed on the crop at its size in
    the composed image, in the middle of an image that is 0 elsewhere (normalised). The crop with the smallest loss of
    each image is kept, and of these the crops with the smallest losses of the class.
    """

    about: ClassVar = ABOUT
    ipc: int
    factor: int = 1
    crops: int = 5
    pool: int = 300
    experts: int = 1

    def __post_init__(self) -> None:
        for name in ("ipc", "factor", "crops", "experts"):
            check_range(name, getattr(self, name), 1)
        if self.pool < self.parts:
            raise ParamsError(
                f"pool is {self.pool}, but ipc {self.ipc} images of {self.factor} x {self.factor} crops take "
                f"{self.parts}; expected at least as many"
            )

    @property
    def parts(self) -> int:
        """The number of real images of a class that give a crop."""
        return self.ipc * self.factor**2

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        real = material.real
        self.check_counts(class_counts(real.labels, real.class_names))
        height, width = real.image_shape[1:]
        if self.factor > min(height, width):
            raise ParamsError(f"factor is {self.factor}, but images are {height} x {width}; lower it")
        judges = [material.expert(number) for number in range(self.experts)]
        made = []
        for label, own in enumerate(class_rows(real.labels.cpu(), len(real.class_names))):
            crops, loss_N = [], []
            for rows in draw_rows(own, self.pool, generator).split(PART):
                best, loss = self.best_crops(material, judges, rows, label, generator)
                crops.append(best)
                loss_N.append(loss)
            order = torch.cat(loss_N).argsort(stable=True)[: self.parts]
            made.append(composed(torch.cat(crops)[order], self.factor, (height, width)))
        return made_set(torch.cat(made), real.class_names, material.normalisation)

    def check_counts(self, counts: Mapping[str, int]) -> None:
        """Raise WindowError when a class has fewer than :attr:`parts` images."""
        check_counts(self.ipc, counts)
        smallest = min(counts, key=lambda name: counts[name])
        if counts[smallest] < self.parts:
            raise WindowError(
                f"ipc {self.ipc} images of {self.factor} x {self.factor} crops take {self.parts} images of a class, "
                f"but class {smallest!r} has {counts[smallest]}; lower ipc or factor"
            )

    @torch.no_grad()
    def best_crops(
        self, material: Material, judges: list[nn.Module], rows: Tensor, label: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        """The crop with the smallest loss of each image at ``rows``, in pixel space (N, C, h, w), and its loss (N,)."""
        height, width = material.real.image_shape[1:]
        size = (height // self.factor, width // self.factor)
        pixels = material.real.pixels(rows)
        crops = torch.stack([random_crop(image, size, generator) for _ in range(self.crops) for image in pixels])
        shown = framed(crops, (height, width), material.normalisation)
        targets = torch.full((len(crops),), label, device=crops.device)
        losses = torch.stack([F.cross_entropy(judge(shown), targets, reduction="none") for judge in judges]).mean(0)
        loss_N, best = losses.view(self.crops, len(rows)).min(0)
        return crops.view(self.crops, len(rows), *crops.shape[1:])[best, torch.arange(len(rows))], loss_N


def random_crop(image_CHW: Tensor, size: tuple[int, int], generator: Generator) -> Tensor:
    """A random square of the image, resized to ``size``: (C, h, w), bilinear, antialiased.

    Its area is drawn from LEAST to 1 times the image's area; its side is at most the image's shorter side.
    """
    height, width = image_CHW.shape[1:]
    area = height * width * (LEAST + (1 - LEAST) * torch.rand((), dtype=torch.float64, generator=generator).item())
    side = min(max(1, round(area**0.5)), height, width)
    top, left = draw_int(0, height - side + 1, generator), draw_int(0, width - side + 1, generator)
    part = image_CHW[None, :, top : top + side, left : left + side]
    return F.interpolate(part, size, mode="bilinear", antialias=True, align_corners=False)[0].clamp(0, 1)


def framed(crops_NCHW: Tensor, size: tuple[int, int], normalisation: Normalisation) -> Tensor:
    """Normalised images (N, C, H, W) of ``size`` (H, W) with a crop in the middle and 0 around it."""
    count, channels, height, width = crops_NCHW.shape
    canvas = normalisation.undo(torch.zeros(1, channels, *size, device=crops_NCHW.device)).repeat(count, 1, 1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas[:, :, top : top + height, left : left + width] = crops_NCHW
    return normalisation.apply(canvas)


def composed(crops_NCHW: Tensor, factor: int, size: tuple[int, int]) -> Tensor:
    """Images (N / factor², C, H, W) of ``factor`` x ``factor`` crops each.

    The first N / factor² crops fill the top left cell of each image, the next ones the cell to its right, and so on.
    Cells differ by at most one pixel, the larger first. A crop that is smaller than its cell is resized by
    nearest-neighbour interpolation.
    """
    heights, widths = ([side // factor + (cell < side % factor) for cell in range(factor)] for side in size)
    cells = iter(crops_NCHW.split(len(crops_NCHW) // factor**2))
    return torch.cat([torch.cat([F.interpolate(next(cells), (h, w)) for w in widths], 3) for h in heights], 2)
