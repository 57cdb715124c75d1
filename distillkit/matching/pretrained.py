"""Pretrained networks from which a student starts. They may have been trained on other images."""

from typing import Literal

from torch import nn

from distillkit.base.errors import ArtifactError, ParamsError, check_sha256
from distillkit.base.settings import settings
from distillkit.matching.method import Material
from distillkit.networks.parameters import BatchNorm, flatten
from distillkit.networks.specs import Network, NetworkSpec, build_network
from distillkit.training.trajectories import Experts

Initialisation = Literal["random", "fixed", "random-pretrained", "fixed-pretrained"]


@settings
class Pretrained:
    """The experts in ``file``, a shard of another pipeline. ``sha256`` is its checksum, so that DVC notices a
    change.
    """

    file: str
    sha256: str

    def __post_init__(self) -> None:
        check_sha256("pretrained.sha256", self.sha256, "as sha256sum prints them")


def population(pretrained: Pretrained | None, material: Material) -> Experts:
    """The experts to start from: those in the file if there is one, else this pipeline's."""
    return material.need_experts() if pretrained is None else material.need_pretrained()


def checked_population(pretrained: Pretrained | None, material: Material) -> Experts:
    """:func:`population`, checked.

    Raises ParamsError for networks with batch normalisation, ArtifactError when the experts' number of parameters is
    not that of such networks for these images and classes.
    """
    experts = population(pretrained, material)
    check_norm(experts.spec, "the experts are" if pretrained is None else f"the experts in {pretrained.file} are")
    real = material.real
    network = build_network(experts.spec, real.image_shape, len(real.class_names), seed=0)
    check_built(network, experts.spec)
    expected = len(flatten(network))
    found = len(experts.read(0, 0))
    if found != expected:
        where = "these experts" if pretrained is None else pretrained.file
        raise ArtifactError(
            f"{where}: found networks of {found:,} parameters, expected {expected:,}, those of {experts.spec} for "
            f"images of {real.image_shape} in {len(real.class_names)} classes; use experts of such images"
        )
    return experts


def check_norm(spec: Network, what: str) -> None:
    """Raise ParamsError for batch normalisation: a schedule cannot contain its statistics.

    For a network of the user this check does nothing; see :func:`check_built`.
    """
    if isinstance(spec, NetworkSpec) and spec.norm == "batch":
        found = f"{what} {spec}, with batch normalisation; a set with a schedule cannot contain its statistics"
        raise ParamsError(f"{found}; expected norm: instance or none")


def check_built(network: nn.Module, spec: Network) -> None:
    """:func:`check_norm` for a built network, of any kind."""
    if any(isinstance(module, BatchNorm) for module in network.modules()):
        found = f"network {spec} has batch normalisation; a set with a schedule cannot contain its statistics"
        raise ParamsError(f"{found}; expected a network without it; give another")
