"""What an image generator is made of: its settings, and its networks, which are Hugging Face diffusers'.

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
MOST_PARAMETERS = 2**30  # 4 GiB, and training keeps three more numbers for each
MOST_AT_ONCE = 2**16  # images of a batch


@settings
class UNetSpec:
    """A U-Net: ``widths`` channels, halving the image from each to the next; ``layers`` blocks at each."""

    kind: Literal["unet"]
    widths: tuple[int, ...] = (64, 128, 128)
    layers: int = 2
    attention: bool = True

    def __post_init__(self) -> None:
        check_widths(self.widths)
        check_range("layers", self.layers, 1, MOST)


@settings
class DiTSpec:
    """A transformer on patches of ``patch`` x ``patch`` numbers: ``depth`` blocks of ``heads`` times ``head_width``."""

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
    """Adam, its rate ``lr`` falling under a cosine; what counts is the running ``average`` of the weights."""

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
        """Short at first: the first weights are nobody's."""
        return min(self.average, (1 + step) / (10 + step))


@settings
class AutoencoderSpec:
    """Images as ``channels`` numbers a place, halved from each of ``widths`` to the next; ``divergence`` weighs KL."""

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
    """A diffusion on latents where there is an ``autoencoder``, else on pixels.

    A share ``label_dropout`` of labels is left out in training, for guidance; ``flip`` mirrors half of the images.
    """

    network: UNetSpec | DiTSpec
    training: FitSpec
    autoencoder: AutoencoderSpec | None = None
    flip: bool = False
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        check_range("label_dropout", self.label_dropout, 0, 0.999)

    def noise_shape(self, image_shape: Shape) -> Shape:
        """(C, H, W) of what is diffused. Raises ParamsError for images that the networks cannot take."""
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
    """By how much images are halved. Raises ParamsError where they cannot be."""
    factor: int = 2 ** (len(widths) - 1)
    if any(side % factor for side in sides):
        found = f"{len(widths)} entries, but {sides[0]}x{sides[1]} cannot be halved {len(widths) - 1} times"
        raise ParamsError(f"{name} has {found}; expected fewer entries, or another data.size")
    return factor


def check_size(name: str, build: Callable[[], nn.Module]) -> None:
    """Raise ParamsError where the network that ``build`` gives has too many parameters; it is built without memory."""
    with torch.device("meta"):
        found = sum(parameter.numel() for parameter in build().parameters())
    if found > MOST_PARAMETERS:
        expected = f"at most {MOST_PARAMETERS:,}; lower its widths, depth or layers"
        raise ParamsError(f"{name} of the model has {found:,} parameters; expected {expected}")


def library() -> Any:
    """The package diffusers. Raises ParamsError where it is not installed."""
    try:
        import diffusers
    except ImportError as error:
        found = f"method diffusion needs the package diffusers, which cannot be imported ({error})"
        raise ParamsError(f"{found}; run pip install 'distillkit[diffusion]'") from None
    return diffusers


def groups(widths: Sequence[int]) -> int:
    """Groups of the group normalisation: of four channels at least."""
    return math.gcd(32, *(width // 4 for width in widths))


def new_denoiser(spec: GeneratorSpec, image_shape: Shape, classes: int, seed: int) -> nn.Module:
    """A fresh network (x_t, t, y) -> v, in evaluation mode: none drops anything itself. y = ``classes`` is nobody."""
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
    """A fresh autoencoder, in evaluation mode; its ``scaling_factor`` is not set yet."""
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
