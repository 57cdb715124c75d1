"""The interface of a method: the initial set and, for a method of the outer loop, the loss."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

from torch import Generator, Tensor, nn

from distillkit.base.about import About
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.data.images import ImageSet, Iterate, Normalisation, SyntheticSet
from distillkit.data.selection import class_rows
from distillkit.matching.kernels import CompiledKernel, EagerKernel, Kernel
from distillkit.networks.factories import NetworkFactory
from distillkit.networks.parameters import flatten, forget_statistics
from distillkit.networks.specs import build_network
from distillkit.training.compute import Compute
from distillkit.training.features import trained_expert
from distillkit.training.trajectories import Experts

T = TypeVar("T")


@dataclass(frozen=True)
class Material:
    """The inputs of a method: training images and what experts recorded about them; never test images.

    ``difficulty_N`` (N,) is the chosen score, larger means harder. ``confidence_N`` (N,) is the experts' mean
    probability of each label. ``imported`` is a set made by other code, ``pretrained`` are experts of another pipeline.
    ``compute`` says how to use the machine. The methods ``need_...`` raise ParamsError when their part is None.
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
        """The rows of each class's real images, on the CPU, because rows are drawn there."""
        return class_rows(self.real.labels.cpu(), len(self.real.class_names))

    def normalised(self, rows: Tensor) -> Tensor:
        """The normalised real images at ``rows``: (N, C, H, W) float32."""
        return self.normalisation.apply(self.real.pixels(rows))

    @cached_property
    def kernel(self) -> Kernel:
        """The inner step of a student with a network like the experts'.

        Raises ArtifactError if the experts' number of parameters is not that of such a network for these images.
        """
        spec = self.need_experts().spec
        network = build_network(spec, self.real.image_shape, len(self.real.class_names), seed=0)
        found, expected = len(self.need_experts().read(0, 0)), len(flatten(network))
        if found != expected:
            raise ArtifactError(
                f"the experts have {found} parameters, but {spec} for these images has {expected}; train them again"
            )
        network = forget_statistics(network).to(self.real.device).train()
        known = not isinstance(
            spec, NetworkFactory
        )  # CompiledKernel replaces the norms, which is safe only in our networks
        return CompiledKernel(network, self.compute) if self.compute.compile and known else EagerKernel(network)


def needed(part: T | None, why: str) -> T:
    """``part``. Raises ParamsError with the text "this method {why}" when it is None."""
    if part is None:
        raise ParamsError(f"this method {why}")
    return part


def uses_experts(method: "Selection") -> bool:
    """Whether the method's sets depend on experts or their difficulty: its ``uses_experts``, else ``about.experts``."""
    return bool(getattr(method, "uses_experts", method.about.experts))


class Selection(Protocol):
    """The interface of every method. A method that has only this makes its whole set in ``init``."""

    about: ClassVar[About]

    def init(self, material: Material, generator: Generator) -> SyntheticSet:
        """The initial set. Only the images where ``learned`` is true may be changed later."""
        ...


@runtime_checkable
class Method(Selection, Protocol):
    """A method whose images are learned by the outer loop.

    ``student`` says whether it trains a student with its own step size.
    """

    student: ClassVar[bool]

    def loss(self, iterate: Iterate, material: Material, generator: Generator) -> Tensor:
        """The scalar loss, differentiable in the iterate's images and, if they are learned, step sizes and labels."""
        ...

    def visits(self, classes: int) -> int:
        """The number of images shown to networks in one outer step, an estimate of the cost for :class:`Compute`."""
        ...
