"""Training and use of an image generator: a class-conditional diffusion of pixels, or of an autoencoder's latents.

Pixels x are diffused as 2x − 1. Latents (Rombach et al., CVPR 2022) are divided by their standard deviation.

Axes: N images; C, H, W channels, height, width.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from distillkit.base.device import onto
from distillkit.base.errors import DivergedError
from distillkit.base.randomness import draw_seed, seed_for, seeded
from distillkit.data.images import ImageSet, check_fits
from distillkit.methods.generator.denoising import Sampling, denoising_loss, draw, sample
from distillkit.methods.generator.networks import (
    FitSpec,
    GeneratorSpec,
    Shape,
    check_size,
    new_autoencoder,
    new_denoiser,
)
from distillkit.networks.parameters import load_flat_
from distillkit.training.compute import Compute
from distillkit.training.update_rules import adam_

TOGETHER = 100  # most images in a batch outside of training
LOOKED_AT = 1000  # most images from which the scale of latents is measured
DECAYS = (0.9, 0.999)


class Fit:
    """The training of one network by Adam, with a running average of its weights. It can stop at any step and continue.

    ``loss`` draws a batch with the generator that it gets, and returns the loss. The average starts at the initial
    weights.
    """

    def __init__(self, name: str, network: nn.Module, loss: Callable[[Generator], Tensor], spec: FitSpec, seed: int):
        self.name, self.network, self.loss, self.spec, self.generator = name, network, loss, spec, seeded(seed)
        self.parameters: list[Tensor] = list(network.parameters())
        self.kept = {name: [p.detach().clone() for p in self.parameters] for name in ("average", "means", "squares")}
        for moment in self.kept["means"] + self.kept["squares"]:
            moment.zero_()
        self.losses: list[float] = []

    @property
    def steps(self) -> int:
        return self.spec.steps

    @property
    def done(self) -> int:
        return len(self.losses)

    def advance(self) -> float:
        """Do one step and return its loss. Raises DivergedError when the loss is not finite."""
        loss, kept = self.loss(self.generator), self.kept
        if not math.isfinite(found := loss.item()):
            told = f"the {self.name}'s loss is {found:g} at step {self.done + 1}; expected a finite number"
            raise DivergedError(f"{told}; lower lr ({self.spec.lr:g}) of its training")
        gradients = torch.autograd.grad(loss, self.parameters)
        lr, step = self.spec.lr_at(self.done), self.done + 1
        with torch.no_grad():
            adam_(self.parameters, gradients, kept["means"], kept["squares"], lr=lr, decays=DECAYS, step=step)
            for mean, parameter in zip(kept["average"], self.parameters, strict=True):
                mean.lerp_(parameter, 1 - self.spec.average_at(self.done))
        self.losses.append(found)
        return found

    def result(self) -> nn.Module:
        """The network with the average weights, without gradients.

        Raises DivergedError when these weights are not finite. No loss is computed after the last step, so that
        :meth:`advance` does not find this.
        """
        if not all(mean.isfinite().all() for mean in self.kept["average"]):
            raise DivergedError(
                f"the {self.name}'s weights hold nan or infinity after its training; lower its lr ({self.spec.lr:g})"
            )
        load_flat_(self.network, flat(self.kept["average"]))
        return self.network.requires_grad_(False)

    def state(self) -> dict[str, Tensor]:
        """Losses and average weights and, until all steps are done, weights, moments and the generator's state."""
        losses = torch.tensor(self.losses, dtype=torch.float64)
        state = {"losses": losses, "average": flat(self.kept["average"])}
        if self.done < self.steps:
            moments = {name: flat(self.kept[name]) for name in ("means", "squares")}
            state |= {"weights": flat(self.parameters), **moments, "generator": self.generator.get_state()}
        return state

    def restore(self, state: dict[str, Tensor]) -> None:
        losses = state["losses"].tolist()
        if len(losses) < self.steps:
            load_flat_(self.network, state["weights"])
            for name in ("means", "squares"):
                unflatten_(self.kept[name], state[name])
            self.generator.set_state(state["generator"])
        unflatten_(self.kept["average"], state["average"])
        self.losses = losses


def flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])


def unflatten_(parts: Sequence[Tensor], vector: Tensor) -> None:
    """Set ``parts`` from the vector that :func:`flat` made of them. Raises RuntimeError when it has another length."""
    for part, own in zip(parts, vector.split([part.numel() for part in parts]), strict=True):
        part.copy_(own.view_as(part))


@dataclass(frozen=True)
class ImageGenerator:
    """A trained generator for ``classes`` classes of images (C, H, W).

    Latents are multiplied by ``scale``, see :func:`latent_scale`. The denoiser's number for no class is ``classes``.
    """

    spec: GeneratorSpec
    image_shape: Shape
    classes: int
    denoiser: nn.Module
    autoencoder: Any = None  # an AutoencoderKL
    scale: float = 1.0

    @torch.no_grad()
    def images(self, noise_NCHW: Tensor, labels_N: Tensor, sampling: Sampling) -> Tensor:
        """Pixels in [0, 1] (N, C, H, W) of the classes ``labels_N``. The shape of the noise is ``spec.noise_shape``."""
        denoise_at = sampling.denoise_at(partial(velocity, self.denoiser), self.classes)
        limit = 1.0 if self.autoencoder is None else None
        x_NCHW = sample(denoise_at, noise_NCHW, labels_N, sampling.steps, limit)
        if self.autoencoder is not None:
            x_NCHW = self.autoencoder.decode(x_NCHW / self.scale).sample
        pixels: Tensor = (x_NCHW / 2 + 0.5).clamp(0, 1)
        return pixels


def velocity(denoiser: nn.Module, x_NCHW: Tensor, level_N: Tensor, labels_N: Tensor) -> Tensor:
    found: Tensor = denoiser(x_NCHW, level_N, labels_N, return_dict=False)[0]
    return found


def train_generator(spec: GeneratorSpec, real: ImageSet, generator: Generator, compute: Compute) -> ImageGenerator:
    """Train a generator on these images: the autoencoder first, if there is one, then the denoiser.

    Raises ParamsError for networks that do not fit the images or are too large, DivergedError as :class:`Fit` does.
    """
    seeds = [draw_seed(generator) for _ in range(4)]
    device, shape, classes = real.device, real.image_shape, len(real.class_names)
    check_size("network", partial(new_denoiser, spec, shape, classes, seeds[0]))
    denoiser = compute.place(new_denoiser(spec, shape, classes, seeds[0]), device)
    autoencoder, scale = None, 1.0
    if spec.autoencoder is not None:
        check_size("autoencoder", partial(new_autoencoder, spec.autoencoder, shape, seeds[1]))
        network = compute.place(new_autoencoder(spec.autoencoder, shape, seeds[1]), device)
        loss = partial(autoencoder_loss, network, spec, real, compute)
        fit = Fit("autoencoder", network, loss, spec.autoencoder.training, seeds[2])
        compute.finish(fit, "autoencoder")
        autoencoder = fit.result()
        scale = latent_scale(autoencoder, real)
    loss = partial(denoiser_loss, ImageGenerator(spec, shape, classes, denoiser, autoencoder, scale), real, compute)
    fit = Fit("denoiser", denoiser, loss, spec.training, seeds[3])
    compute.finish(fit, "denoiser")
    return ImageGenerator(spec, shape, classes, fit.result(), autoencoder, scale)


def batch_of(spec: GeneratorSpec, real: ImageSet, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """``count`` images drawn with replacement, in [−1, 1], and their labels. With ``spec.flip``, half are mirrored."""
    rows = torch.randint(len(real), (count,), generator=generator)
    mirrored_N = torch.rand(count, generator=generator) < (0.5 if spec.flip else 0.0)
    rows, mirrored_N = (onto(real.device, part) for part in (rows, mirrored_N))
    batch = real.take(rows)
    images = batch.pixels() * 2 - 1
    return torch.where(mirrored_N[:, None, None, None], images.flip(3), images), batch.labels


def autoencoder_loss(
    network: Any, spec: GeneratorSpec, real: ImageSet, compute: Compute, generator: Generator
) -> Tensor:
    """mean (D(z) − x)² + β mean KL(q(z | x) ‖ N(0, 1)), z ~ q(z | x) = N(μ(x), σ(x)²)."""
    if (own := spec.autoencoder) is None:
        raise ValueError("a diffusion on pixels has no autoencoder")
    images_NCHW, _ = batch_of(spec, real, own.training.batch, generator)
    with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=own.training.precision == "bf16"):
        posterior = network.encode(compute.layout(images_NCHW)).latent_dist
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        noise = onto(mean.device, torch.randn(mean.shape, generator=generator))
        found = network.decode(mean + (logvar / 2).exp() * noise).sample
    divergence = (mean.square() + logvar.exp() - 1 - logvar).mean() / 2
    loss: Tensor = (found.float() - images_NCHW).square().mean() + own.divergence * divergence
    return loss


@torch.no_grad()
def latent_scale(autoencoder: Any, real: ImageSet) -> float:
    """1 / the standard deviation of latents, from at most LOOKED_AT training images, evenly spaced."""
    rows = torch.linspace(0, len(real) - 1, min(len(real), LOOKED_AT)).long().to(real.device)
    parts = [latents(autoencoder, real.pixels(part) * 2 - 1) for part in rows.split(TOGETHER)]
    return 1 / max(torch.cat(parts).std().item(), 1e-6)


def latents(autoencoder: Any, images_NCHW: Tensor) -> Tensor:
    """The latents μ(x) of images x in [−1, 1]. Their shape differs from that of the images."""
    found: Tensor = autoencoder.encode(images_NCHW).latent_dist.mean
    return found


def denoiser_loss(untrained: ImageGenerator, real: ImageSet, compute: Compute, generator: Generator) -> Tensor:
    """See :func:`~distillkit.methods.generator.denoising.denoising_loss`, on a batch of pixels or of latents."""
    spec, autoencoder = untrained.spec, untrained.autoencoder
    images_NCHW, labels_N = batch_of(spec, real, spec.training.batch, generator)
    if autoencoder is not None:
        with torch.no_grad():
            images_NCHW = latents(autoencoder, compute.layout(images_NCHW)) * untrained.scale
    drawn = draw(images_NCHW.shape, spec.label_dropout, generator)
    with torch.autocast(images_NCHW.device.type, torch.bfloat16, enabled=spec.training.precision == "bf16"):
        denoise = partial(velocity, untrained.denoiser)
        return denoising_loss(denoise, compute.layout(images_NCHW), labels_N, untrained.classes, drawn)


def make_images(generator: ImageGenerator, per_class: int, seed: int, sampling: Sampling, compute: Compute) -> Tensor:
    """Pixels (N, C, H, W) of ``per_class`` images of every class, class by class.

    The noise of each image has its own seed, so that a smaller set has the first images of every class of a larger set,
    except for rounding. ``compute.say`` is called with the time. Raises ParamsError for too many images, see
    :func:`~distillkit.data.images.check_fits`.
    """
    check_fits(per_class, generator.classes, generator.image_shape)
    shape = generator.spec.noise_shape(generator.image_shape)
    device = next(generator.denoiser.parameters()).device
    wanted = range(generator.classes * per_class)
    made: list[int] = []

    def make(batch: range) -> Tensor:
        places = [divmod(row, per_class) for row in batch]  # class, number in the class
        noise = [torch.randn(shape, generator=seeded(seed_for(seed, "image", *place))) for place in places]
        labels_N = onto(device, torch.tensor([label for label, _ in places]))
        found = generator.images(compute.layout(onto(device, torch.stack(noise))), labels_N, sampling).cpu()
        made.append(len(batch))
        return found.contiguous()

    started = time.perf_counter()
    batches = [wanted[first : first + TOGETHER] for first in range(0, len(wanted), TOGETHER)]
    images_NCHW = torch.cat(list(compute.run(make, batches)))
    if made:
        seconds = time.perf_counter() - started
        compute.say(f"made {sum(made)} images in {seconds:.1f} s, {sum(made) / seconds:.1f} a second")
    return images_NCHW
