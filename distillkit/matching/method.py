"""What a method is: where to start and, if it learns anything, how far we still are."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Generator, Tensor, nn

from distillkit.base.about import About
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.data.factories import NetworkFactory
from distillkit.data.images import ImageSet, Iterate, Normalisation, SyntheticSet
from distillkit.data.networks import build_network
from distillkit.data.parameters import flatten, forget_statistics
from distillkit.data.selection import class_rows
from distillkit.matching.kernels import CompiledKernel, EagerKernel, Kernel
from distillkit.training.compute import Compute
from distillkit.training.features import trained_expert
from distillkit.training.trajectories import Experts

T = TypeVar("T")


@dataclass(frozen=True)
class Material:
    """What a method may work from: the training images and what experts learned about them; never test images.

    ``difficulty_N`` is the chosen score and ``confidence_N`` the probability the experts gave to each label;
    ``imported`` is a set made elsewhere, ``pretrained`` are experts of another pipeline; ``compute`` is how the machine
    is used.
    """

    real: ImageSet
    normalisation: Normalisation
    difficulty_N: Tensor | None = None
    confidence_N: Tensor | None = None
    experts: Experts | None = None
    compute: Compute = Compute()
    imported: SyntheticSet | None = None
    pretrained: Experts | None = None

    def need_difficulty(self) -> Tensor:
        return needed(self.difficulty_N, "ranks images, but no difficulty was given; run the score stage first")

    def need_confidence(self) -> Tensor:
        missing = "but none was recorded; run the score stage on experts instead of a score file"
        return needed(self.confidence_N, f"ranks images by the experts' confidence, {missing}")

    def need_experts(self) -> Experts:
        return needed(self.experts, "matches expert trajectories, but got none; run the experts stage first")

    def need_imported(self) -> SyntheticSet:
        missing = "but got none; run distillkit import and give its file"
        return needed(self.imported, f"takes a set that was made elsewhere, {missing}")

    def need_pretrained(self) -> Experts:
        return needed(self.pretrained, "starts from experts of another pipeline, but got none; give their file")

    def expert(self, number: int) -> nn.Module:
        """See :func:`~distillkit.training.features.trained_expert`."""
        return trained_expert(self.need_experts(), number, self.real, self.normalisation)

    @cached_property
    def rows_by_class(self) -> list[Tensor]:
        """The rows of every class's real images, on the CPU, where rows are drawn."""
        return class_rows(self.real.labels.cpu(), len(self.real.class_names))

    def normalised(self, rows: Tensor) -> Tensor:
        """The real images at ``rows``, normalised: (N, C, H, W) float32."""
        return self.normalisation.apply(self.real.pixels(rows))

    @cached_property
    def kernel(self) -> Kernel:
        """The inner step of a student: a network like the experts'."""
        spec = self.need_experts().spec
        network = build_network(spec, self.real.image_shape, len(self.real.class_names), seed=0)
        found, expected = len(self.need_experts().read(0, 0)), len(flatten(network))
        if found != expected:
            raise ArtifactError(
                f"the experts have {found} parameters, but {spec} for these images has {expected}; train them again"
            )
        network = forget_statistics(network).to(self.real.device).train()
        known = not isinstance(spec, NetworkFactory)  # compiling rewrites the norms of networks that it knows
        return CompiledKernel(network, self.compute) if self.compute.compile and known else EagerKernel(network)


def needed(part: T | None, why: str) -> T:
    """``part``. Raises ParamsError when it is not there, because "this method ...": ``why``."""
    if part is None:
        raise ParamsError(f"this method {why}")
    return part


def uses_experts(method: "Selection") -> bool:
    """Whether its sets can change with the experts or the difficulty they give: as ``about`` says, or by a setting."""
    return bool(getattr(method, "uses_experts", method.about.experts))


class Selection(Protocol):
    """A method with nothing to learn."""

    about: ClassVar[About]

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        """The set to start from; the rows where ``learned`` is true may change."""
        ...


@runtime_checkable
class Method(Selection, Protocol):
    """A method that learns images; ``student`` says whether it trains one with a step size of its own."""

    student: ClassVar[bool]

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """A scalar, differentiable in the iterate's images and step size; smaller is better."""
        ...

    def visits(self, classes: int) -> int:
        """Images shown to networks in one outer step: how long a run is, for choosing how to compute it."""
        ...
