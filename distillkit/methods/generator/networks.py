"""The settings of an image generator, and its networks, which are those of Hugging Face diffusers.

Axes: C, H, W channels, height, width.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from distillkit.base.errors import ParamsError, check_positive, check_range, shown
from distillkit.base.settings import settings
from distillkit.networks.specs import initialising
from distillkit.training.compute import Precision

Shape = tuple[int, int, int]
MOST = 1000  # layers, blocks, heads: more is a mistake
WIDEST = 2**13  # channels
MOST_PARAMETERS = 2**30  # 4 GiB; training keeps three more numbers for each
MOST_AT_ONCE = 2**16  # images in a batch


@settings
class UNetSpec:
    """A U-Net with ``widths`` channels and ``layers`` blocks at each resolution; each resolution halves the last one.

    ``attention`` adds attention at the lowest resolution.
    """

    kind: Literal["unet"]
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = 2
    attention: bool = True

    def __post_init__(self) -> None:
        check_widths(self.widths)
        check_range("layers", self.layers, 1, MOST)


@settings
class DiTSpec:
    """A transformer on patches of ``patch`` x ``patch`` pixels or latents, with ``depth`` blocks.

    A block has ``heads`` heads of ``head_width`` channels.
    """

    kind: Literal["dit"]
    depth: int = 6
    heads: int = 4
    head_width: int = 32
    patch: int = 2

    def __post_init__(self) -> None:
        for name in ("depth", "heads", "head_width", "patch"):
            check_range(name, getattr(self, name), 1, MOST)
        if self.heads * self.head_width > WIDEST:
            found = self.heads * self.head_width
            raise ParamsError(f"heads is {self.heads}, heads x head_width {found}; expected a product up to {WIDEST}")
        if self.heads * self.head_width % 4:
            raise ParamsError(f"head_width is {self.head_width}; expected 4 to divide heads x head_width")


@settings
class FitSpec:
    """Training by Adam with a learning rate that falls from ``lr`` by a cosine.

    The result is the running average of the weights, with decay ``average``.
    """

    steps: int
    batch: int
    lr: float
    average: float = 0.999
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("batch", self.batch, 1, MOST_AT_ONCE)
        check_positive("lr", self.lr)
        check_range("average", self.average, 0, 0.99999)

    def lr_at(self, step: int) -> float:
        """η (1 + cos(π k / K)) / 2 for step k of K, counted from 0."""
        return self.lr * (1 + math.cos(math.pi * step / self.steps)) / 2

    def average_at(self, step: int) -> float:
        """The decay of the average at a step, smaller at the beginning, so that the initial weights soon vanish."""
        return min(self.average, (1 + step) / (10 + step))


@settings
class AutoencoderSpec:
    """A variational autoencoder with latents of ``channels`` channels.

    It has ``widths`` channels and ``layers`` blocks at each resolution; each resolution halves the last one.
    ``divergence`` is the weight of the KL divergence in the loss.
    """

    training: FitSpec
    widths: tuple[int, ...] = (64, 128)
    channels: int = 4
    layers: int = 1
    divergence: float = 1e-4

    def __post_init__(self) -> None:
        check_widths(self.widths)
        check_range("channels", self.channels, 1, MOST)
        check_range("layers", self.layers, 1, MOST)
        check_range("divergence", self.divergence, 0)


@settings
class GeneratorSpec:
    """A diffusion on latents if there is an ``autoencoder``, else on pixels.

    A share ``label_dropout`` of labels is left out in training, which guidance needs. ``flip`` mirrors half of the
    training images.
    """

    network: UNetSpec | DiTSpec
    training: FitSpec
    autoencoder: AutoencoderSpec | None = None
    flip: bool = False
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_range("label_dropout", self.label_dropout, 0, 0.999)

    def noise_shape(self, image_shape: Shape) -> Shape:
        """The shape (C, H, W) of the diffused pixels or latents. Raises ParamsError if the networks do not fit images
        of ``image_shape``.
        """
        channels, height, width = image_shape
        if self.autoencoder is not None:
            halved = check_sides("autoencoder.widths", self.autoencoder.widths, (height, width))
            channels, height, width = self.autoencoder.channels, height // halved, width // halved
        if isinstance(self.network, UNetSpec):
            check_sides("network.widths", self.network.widths, (height, width))
        elif height != width or height % self.network.patch:
            found = f"network.patch is {self.network.patch}, but a transformer would have to see {height}x{width}"
            expected = "expected a square whose side patch divides"
            raise ParamsError(f"{found}; {expected}; change data.size or use a unet")
        return channels, height, width


def check_widths(widths: Sequence[int]) -> None:
    if not 1 <= len(widths) <= MOST or any(not 8 <= width <= WIDEST or width % 8 for width in widths):
        expected = f"one or several multiples of 8 up to {WIDEST}, such as [64, 128]"
        raise ParamsError(f"widths is [{', '.join(map(shown, widths))}]; expected {expected}")


def check_sides(name: str, widths: Sequence[int], sides: tuple[int, int]) -> int:
    """The factor by which a network reduces both sides. Raises ParamsError if it does not divide them."""
    factor: int = 2 ** (len(widths) - 1)
    if any(side % factor for side in sides):
        found = f"{len(widths)} entries, but {sides[0]}x{sides[1]} cannot be halved {len(widths) - 1} times"
        raise ParamsError(f"{name} has {found}; expected fewer entries, or another data.size")
    return factor


def check_size(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise ParamsError if the network that ``build`` returns has more than MOST_PARAMETERS. It is built on meta."""
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in build().parameters())
    if found > MOST_PARAMETERS:
        expected = f"at most {MOST_PARAMETERS:,}; lower its widths, depth or layers"
        raise ParamsError(f"{name} of the model has {found:,} parameters; expected {expected}")


def library() -> Any:
    """The package diffusers. Raises ParamsError if it cannot be imported."""
    try:
        import diffusers
    except ImportError as error:
        found = f"method diffusion needs the package diffusers, which cannot be imported ({error})"
        raise ParamsError(f"{found}; run pip install 'distillkit[diffusion]'") from None
    return diffusers


def groups(widths: Sequence[int]) -> int:
    """The number of groups of the group normalisation, at most 32; each group has at least four channels."""
    return math.gcd(32, *(width // 4 for width in widths))


def new_denoiser(spec: GeneratorSpec, image_shape: Shape, classes: int, seed: int) -> nn.Module:
    """A new network (x_t, t, y) -> v. The number y = ``classes`` means no class.

    It is in evaluation mode, because :func:`~distillkit.methods.generator.denoising.draw` drops the labels, not the
    network.
    """
    channels, height, width = spec.noise_shape(image_shape)
    network, library_ = spec.network, library()
    with initialising(seed):
        if isinstance(network, DiTSpec):
            model = library_.DiTTransformer2DModel(
                num_attention_heads=network.heads,
                attention_head_dim=network.head_width,
                in_channels=channels,
                num_layers=network.depth,
                sample_size=height,
                patch_size=network.patch,
                num_embeds_ada_norm=classes,
            )
        else:
            levels = len(network.widths)
            deepest = ["AttnDownBlock2D", "AttnUpBlock2D"] if network.attention else ["DownBlock2D", "UpBlock2D"]
            model = library_.UNet2DModel(
                sample_size=(height, width),
                in_channels=channels,
                out_channels=channels,
                block_out_channels=network.widths,
                layers_per_block=network.layers,
                down_block_types=("DownBlock2D",) * (levels - 1) + (deepest[0],),
                up_block_types=(deepest[1],) + ("UpBlock2D",) * (levels - 1),
                add_attention=network.attention,
                norm_num_groups=groups(network.widths),
                num_class_embeds=classes + 1,
            )
    result: nn.Module = model.eval()
    return result


def new_autoencoder(spec: AutoencoderSpec, image_shape: Shape, seed: int) -> nn.Module:
    """A new autoencoder, in evaluation mode. Its ``scaling_factor`` is set only when the generator is saved."""
    levels = len(spec.widths)
    with initialising(seed):
        model = library().AutoencoderKL(
            in_channels=image_shape[0],
            out_channels=image_shape[0],
            block_out_channels=spec.widths,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            layers_per_block=spec.layers,
            latent_channels=spec.channels,
            norm_num_groups=groups(spec.widths),
            sample_size=image_shape[1],
        )
    result: nn.Module = model.eval()
    return result
