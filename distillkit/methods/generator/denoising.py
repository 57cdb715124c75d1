"""Diffusion: a network is trained to remove noise from images, and DDIM makes images from noise with it.

Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020. The cosine levels are from Nichol &
Dhariwal, ICML 2021; the prediction of v from Salimans & Ho, ICLR 2022; DDIM from Song, Meng & Ermon, ICLR 2021;
guidance from Ho & Salimans, 2022. At level t, an image x becomes x_t = √ᾱ_t x + √(1 − ᾱ_t) ε, where ε is normal noise.

Axes: N images; C, H, W channels, height, width; T levels of noise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from distillkit.base.errors import check_range
from distillkit.base.settings import settings

LEVELS = 1000  # T

Denoise = Callable[[Tensor, Tensor, Tensor], Tensor]  # x_t (N, C, H, W), levels (N,), labels (N,) -> v (N, C, H, W)


def signal_levels(levels: int = LEVELS) -> Tensor:
    """ᾱ_t, the share of the image in the variance of x_t: float64 (T,), from nearly 1 to nearly 0.

    ᾱ_t = Π_{s ≤ t} (1 − β_s), β_s = min(0.999, 1 − f(s + 1) / f(s)), f(s) = cos²((s / T + 0.008) / 1.008 · π / 2).
    """
    angle = (torch.arange(levels + 1, dtype=torch.float64) / levels + 0.008) / 1.008 * math.pi / 2
    f = angle.cos().square()
    beta_T = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return (1 - beta_T).cumprod(0)


def mixed(image_NCHW: Tensor, noise_NCHW: Tensor, signal_N: Tensor) -> tuple[Tensor, Tensor]:
    """x_t = √ᾱ x + √(1 − ᾱ) ε, and the network's target for it, v = √ᾱ ε − √(1 − ᾱ) x."""
    signal, noise = signal_N[:, None, None, None].sqrt(), (1 - signal_N)[:, None, None, None].sqrt()
    return signal * image_NCHW + noise * noise_NCHW, signal * noise_NCHW - noise * image_NCHW


class Draw(NamedTuple):
    """The random choices of one training step, on the CPU: levels, images without label (bool), and noise."""

    level_N: Tensor
    unlabelled_N: Tensor
    noise_NCHW: Tensor


def draw(shape: torch.Size, label_dropout: float, generator: Generator) -> Draw:
    """A draw for a batch of ``shape``: levels uniform in 0, …, T − 1, no label with probability ``label_dropout``."""
    count = shape[0]
    level_N = torch.randint(LEVELS, (count,), generator=generator)
    unlabelled_N = torch.rand(count, generator=generator) < label_dropout
    return Draw(level_N, unlabelled_N, torch.randn(shape, generator=generator))


def denoising_loss(denoise: Denoise, images_NCHW: Tensor, labels_N: Tensor, nobody: int, drawn: Draw) -> Tensor:
    """The mean of (denoise(x_t, t, y) − v)² over all values.

    y is the image's label or, where that is left out, ``nobody``, the number that means no class.
    """
    level_N, unlabelled_N, noise_NCHW = (part.to(images_NCHW.device) for part in drawn)
    signal_N = signal_levels().to(images_NCHW)[level_N]
    noisy_NCHW, velocity_NCHW = mixed(images_NCHW, noise_NCHW.to(images_NCHW), signal_N)
    found = denoise(noisy_NCHW, level_N, labels_N.masked_fill(unlabelled_N, nobody))
    return (found.to(velocity_NCHW) - velocity_NCHW).square().mean()


def guided(denoise: Denoise, nobody: int, guidance: float) -> Denoise:
    """Classifier-free guidance: v_∅ + w (v_y − v_∅), where v_∅ is the prediction without a label.

    w is ``guidance``; above 1, it moves images from the average of all classes further towards class y. ``denoise`` is
    called with a batch of twice the size, except for w = 1.
    """
    if guidance == 1:
        return denoise

    def towards(x_NCHW: Tensor, level_N: Tensor, labels_N: Tensor) -> Tensor:
        labels = torch.cat([labels_N, torch.full_like(labels_N, nobody)])
        with_label, without = denoise(x_NCHW.repeat(2, 1, 1, 1), level_N.repeat(2), labels).chunk(2)
        return without + guidance * (with_label - without)

    return towards


def walk(steps: int, levels: int = LEVELS) -> list[int]:
    """The start levels of ``steps`` steps, evenly spaced from T − 1 down. The last step ends at the image."""
    return [round(levels * (steps - step) / steps) - 1 for step in range(steps)]


def ddim_step(
    x_NCHW: Tensor, velocity_NCHW: Tensor, signal: float, next_signal: float, limit: float | None = None
) -> Tensor:
    """One step from ᾱ, ``signal``, to ᾱ', ``next_signal``, without new noise: √ᾱ' x̂ + √(1 − ᾱ') ε̂.

    x̂ = √ᾱ x_t − √(1 − ᾱ) v is the predicted image, clipped to ± ``limit`` if this is given. ε̂ = (x_t − √ᾱ x̂) / √(1 − ᾱ)
    is the noise for the clipped image. With the noise for the unclipped one, effects of guidance would accumulate.
    """
    root, rest = math.sqrt(signal), math.sqrt(1 - signal)
    image = root * x_NCHW - rest * velocity_NCHW
    if limit is not None:
        image = image.clamp(-limit, limit)
    return math.sqrt(next_signal) * image + math.sqrt(1 - next_signal) * (x_NCHW - root * image) / rest


@settings
class Sampling:
    """``steps`` of DDIM, with ``guidance`` at levels t for which t / T is in the range ``guided``.

    Guidance above 1 makes images more typical of their class and less diverse. At the noisiest levels, where a network
    can predict only the class's mean, guidance only exaggerates this mean (Kynkäänniemi et al., NeurIPS 2024).
    """

    steps: int = 50
    guidance: float = 2.0
    guided: tuple[float, float] = (0.0, 0.7)

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, LEVELS)
        check_range("guidance", self.guidance, 0, 100)
        check_range("guided", self.guided[0], 0, 1)
        check_range("guided", self.guided[1], self.guided[0], 1)

    def denoise_at(self, denoise: Denoise, nobody: int) -> Callable[[int], Denoise]:
        """A function from a level to the ``denoise`` to use there: with guidance, or unchanged."""
        low, high = self.guided
        towards = guided(denoise, nobody, self.guidance)
        return lambda level: towards if low <= level / LEVELS <= high else denoise


@torch.no_grad()
def sample(
    denoise_at: Callable[[int], Denoise], noise_NCHW: Tensor, labels_N: Tensor, steps: int, limit: float | None = None
) -> Tensor:
    """Images (N, C, H, W) of the classes ``labels_N`` from normal noise of this shape, by DDIM.

    The same noise gives the same images. ``limit`` is that of :func:`ddim_step`.
    """
    signal_T = signal_levels().tolist()
    visited = walk(steps)
    x_NCHW = noise_NCHW
    for level, after in zip(visited, [*visited[1:], None], strict=True):
        velocity = denoise_at(level)(x_NCHW, torch.full_like(labels_N, level), labels_N)
        x_NCHW = ddim_step(x_NCHW, velocity, signal_T[level], 1.0 if after is None else signal_T[after], limit)
    return x_NCHW
