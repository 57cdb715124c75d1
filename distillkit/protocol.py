"""What a method is: where to start and, if it learns anything, how far we still are."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, Protocol, get_type_hints, runtime_checkable

from torch import Generator, Tensor, nn

from distillkit.compute import Compute, onto
from distillkit.errors import ArtifactError, ParamsError
from distillkit.features import trained_expert
from distillkit.images import ImageSet, Iterate, Normalisation, SyntheticSet
from distillkit.kernels import CompiledKernel, EagerKernel, Kernel
from distillkit.networks import build_network
from distillkit.parameters import flatten, forget_statistics
from distillkit.selection import class_rows
from distillkit.trajectories import Experts


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
        if self.difficulty_N is None:
            raise ParamsError("this method ranks images, but no difficulty was given; run the score stage first")
        return self.difficulty_N

    def need_confidence(self) -> Tensor:
        if self.confidence_N is None:
            raise ParamsError(
                "this method ranks images by the experts' confidence, but none was recorded; "
                "run the score stage on experts instead of a score file"
            )
        return self.confidence_N

    def need_experts(self) -> Experts:
        if self.experts is None:
            raise ParamsError("this method matches expert trajectories, but got none; run the experts stage first")
        return self.experts

    def need_imported(self) -> SyntheticSet:
        if self.imported is None:
            raise ParamsError(
                "this method takes a set that was made elsewhere, but got none; run distillkit import and give its file"
            )
        return self.imported

    def need_pretrained(self) -> Experts:
        if self.pretrained is None:
            raise ParamsError("this method starts from experts of another pipeline, but got none; give their file")
        return self.pretrained

    def expert(self, number: int) -> nn.Module:
        """See :func:`~distillkit.features.trained_expert`."""
        return trained_expert(self.need_experts(), number, self.real, self.normalisation)

    @cached_property
    def rows_by_class(self) -> list[Tensor]:
        """The rows of every class's real images, on the CPU, where rows are drawn."""
        return class_rows(self.real.labels.cpu(), len(self.real.class_names))

    def normalised(self, rows: Tensor) -> Tensor:
        """The real images at ``rows``, normalised: (N, C, H, W) float32."""
        return self.normalisation.apply(self.real.take(onto(self.real.images.device, rows)).pixels())

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
        network = forget_statistics(network).to(self.real.images.device).train()
        return CompiledKernel(network, self.compute) if self.compute.compile else EagerKernel(network)


class About(NamedTuple):
    """What people read of a method: in the card, in tables and plots.

    ``summary`` is Markdown that names parameters in backticks; ``paper`` is BibTeX, or empty; ``builds_on`` are other
    methods whose papers are cited as well; ``experts`` says whether it works from experts or the difficulty they give
    (where a setting decides, the method has a property ``uses_experts``), ``ordered`` whether its sets carry the order
    that they are to be trained on in.
    """

    title: str
    summary: str
    paper: str = ""
    builds_on: tuple[str, ...] = ()
    experts: bool = True
    ordered: bool = False


def uses_experts(method: "Selection") -> bool:
    """Whether its sets can change with the experts or the difficulty they give: as ``about`` says, or by a setting."""
    return bool(getattr(method, "uses_experts", method.about.experts))


class Option(NamedTuple):
    """What people read of a setting that comes from a paper: its BibTeX, and a sentence of Markdown on what it does.

    Settings have theirs as ``options``; a value of a setting has its own through :class:`Means` in the type.
    """

    paper: str
    sentence: str


class Means(NamedTuple):
    """In an ``Annotated`` type: a setting of this ``value`` is this ``option``."""

    value: object
    option: Option


def options_of(settings: Any) -> Iterator[Option]:
    """Those that the settings, and all settings in them, use."""
    if not is_dataclass(settings):
        return
    yield from getattr(settings, "options", ())
    types = get_type_hints(type(settings), include_extras=True)
    values = {part.name: getattr(settings, part.name) for part in fields(settings)}
    for name, value in values.items():
        for note in getattr(types[name], "__metadata__", ()):
            if isinstance(note, Means) and note.value == value:
                yield note.option
    for value in values.values():
        yield from options_of(value)


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
