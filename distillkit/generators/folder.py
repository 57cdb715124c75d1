"""A trained generator as a folder: weights in safetensors, the rest in JSON, nothing that could be executed.

`denoiser/` and `autoencoder/` are as diffusers saves models, `scheduler/` has the settings of its DDIM. We ourselves
read the weights, `generator.json`, from which the networks are built anew, and the statistics of the source's pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from distillkit import __version__
from distillkit.base import params
from distillkit.base.arguments import check_generator, check_new_folder
from distillkit.base.errors import ArtifactError, ParamsError, check_positive
from distillkit.base.files import pretty_json
from distillkit.base.outside import UnreadableError, content, read_json
from distillkit.base.settings import settings
from distillkit.data.files.container import Opened, normalisation_tensors, read_normalisation, save
from distillkit.data.images import Normalisation
from distillkit.methods.generator.denoising import LEVELS
from distillkit.methods.generator.image_generator import ImageGenerator
from distillkit.methods.generator.networks import GeneratorSpec, library, new_autoencoder, new_denoiser
from distillkit.package.folders import replacing

DESCRIPTION, STATISTICS = "generator.json", "normalisation.safetensors"
WEIGHTS = "diffusion_pytorch_model.safetensors"
LARGEST_SIDE = 2**14  # pixels
AGAIN = "make it again with distillkit generator"


@dataclass(frozen=True)
class SavedGenerator:
    """A generator, what its images are of, and where it comes from: the provenance of its recipe."""

    generator: ImageGenerator
    class_names: tuple[str, ...]
    normalisation: Normalisation
    provenance: Mapping[str, Any]


@settings
class Description:
    """What stands in `generator.json`."""

    format: Literal["distillkit/1"]
    kind: Literal["generator"]
    distillkit: str
    model: GeneratorSpec
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    scale: float
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        channels, height, width = self.image_shape
        if min(self.image_shape) < 1 or max(height, width) > LARGEST_SIDE or channels > LARGEST_SIDE:
            raise ParamsError(f"image_shape is {list(self.image_shape)}; expected channels, height and width")
        if not self.class_names:
            raise ParamsError("class_names is empty; expected a name for each class")
        check_positive("scale", self.scale)
        if missing := {"recipe", "params", "seed", "source", "source_images"} - self.provenance.keys():
            raise ParamsError(f"provenance says nothing of {sorted(missing)[0]}; expected what its recipe was")


def save_generator(folder: Path, saved: SavedGenerator) -> None:
    """Write a new folder, whole or not at all."""
    generator = saved.generator
    check_new_folder(folder)
    with replacing(folder) as built:
        for name, network in networks_of(generator).items():
            network.to(torch.device("cpu"), memory_format=torch.contiguous_format).save_pretrained(built / name)
        ddim(generator).save_pretrained(built / "scheduler")
        described = Description(
            format="distillkit/1",
            kind="generator",
            distillkit=__version__,
            model=generator.spec,  # with all defaults, which may change
            image_shape=generator.image_shape,
            class_names=saved.class_names,
            scale=generator.scale,
            provenance=dict(saved.provenance),
        )
        save(built / STATISTICS, "normalisation", normalisation_tensors(saved.normalisation), {})
        (built / DESCRIPTION).write_text(pretty_json(asdict(described)), encoding="utf-8")
        for path in filter(Path.is_file, built.rglob("*")):
            path.chmod(built.stat().st_mode & 0o666)  # what the umask leaves; libraries give fewer permissions


def networks_of(generator: ImageGenerator) -> dict[str, Any]:
    """The networks by the names of their folders; the autoencoder tells diffusers its scale."""
    if generator.autoencoder is None:
        return {"denoiser": generator.denoiser}
    generator.autoencoder.register_to_config(scaling_factor=generator.scale)
    return {"denoiser": generator.denoiser, "autoencoder": generator.autoencoder}


def ddim(generator: ImageGenerator) -> Any:
    """What :func:`distillkit.methods.generator.denoising.sample` does, as a scheduler of diffusers."""
    return library().DDIMScheduler(
        num_train_timesteps=LEVELS,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        clip_sample=generator.autoencoder is None,
    )


def load_generator(folder: Path, device: torch.device) -> SavedGenerator:
    """The generator in ``folder``, every part checked.

    Raises ArtifactError for what is none, ParamsError without the package that it needs.
    """
    found = read_description(folder / DESCRIPTION)
    library()  # where it is missing, nothing is wrong with the folder
    spec, shape, classes = found.model, found.image_shape, len(found.class_names)
    try:
        spec.noise_shape(shape)
        denoiser = load_weights(folder / "denoiser" / WEIGHTS, partial(new_denoiser, spec, shape, classes, 0))
        autoencoder = None
        if spec.autoencoder is not None:
            build = partial(new_autoencoder, spec.autoencoder, shape, 0)
            autoencoder = load_weights(folder / "autoencoder" / WEIGHTS, build).to(device)
    except ParamsError as error:
        raise ArtifactError(f"{folder / DESCRIPTION}: {error}; {AGAIN}") from None
    generator = ImageGenerator(spec, shape, classes, denoiser.to(device), autoencoder, found.scale)
    normalisation = read_normalisation(Opened(folder / STATISTICS, "normalisation"), shape)
    return SavedGenerator(generator, found.class_names, normalisation, found.provenance)


def read_description(path: Path) -> Description:
    """Raises ArtifactError unless every entry is there and of its kind."""
    check_generator(path.parent)
    try:
        return params.read(read_json(content(path)), Description, "generator", path)
    except UnreadableError as error:
        raise ArtifactError(f"{path} cannot be read ({error}); expected JSON; {AGAIN}") from None
    except ParamsError as error:
        raise ArtifactError(f"{error}; {AGAIN}") from None


def load_weights(path: Path, build: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``build`` gives, with the weights at ``path``, which must be its own in name, shape and type.

    It is built without memory first, so that a description cannot ask for more than the file holds.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in build().state_dict().items()}
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if found != expected:
                raise ArtifactError(f"{path} has other weights than {DESCRIPTION} says; {AGAIN}")
            weights = {name: file.get_tensor(name) for name in found}
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); expected a complete safetensors file; {AGAIN}") from None
    if any(tensor.dtype != torch.float32 or not tensor.isfinite().all() for tensor in weights.values()):
        raise ArtifactError(f"{path} has weights that are not finite 32-bit numbers; {AGAIN}")
    network = build()
    network.load_state_dict(weights)
    return network.requires_grad_(False)
