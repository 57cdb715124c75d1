"""Networks of one's own: named by import path, built by a factory, and checked once before anything trains them.

Nothing is imported because a file names it. :func:`build` knows only the factories that this process was given: by
:func:`known_as` (an argument in Python) or :func:`admit` (an import path in the user's own params.yaml or command).
"""

import copy
import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from re import fullmatch
from typing import Any

import torch
from torch import nn

from distillkit.base.errors import ParamsError
from distillkit.base.settings import settings

Factory = Callable[[tuple[int, int, int], int], nn.Module]
FACTORIES: dict[str, Factory] = {}  # by the name that recipes and cards have
OTHERS: dict[str, type[Any]] = {}  # methods of other packages that were used here, by the name that recipes have
CHECKED: set[tuple[Factory, tuple[int, int, int], int]] = set()
IS = "expected a function or class (image_shape, classes) that gives an nn.Module"


@settings
class NetworkFactory:
    """A network of one's own: ``factory`` is ``package.module:function``, called with (C, H, W) and the class count."""

    factory: str

    def __post_init__(self) -> None:
        if not fullmatch(r"[\w.]{1,100}:[\w.]{1,100}", self.factory):
            raise ParamsError(
                f"network.factory is {self.factory[:200]!r}; expected package.module:function, a name that others can "
                "import; define the factory in a module, with a name of its own"
            )

    def __str__(self) -> str:
        return self.factory


def known_as(factory: Factory) -> NetworkFactory:
    """What recipes call a factory, which is known from here on. Raises ParamsError for one without a name."""
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ParamsError(f"network is {type(factory).__name__}; {IS}; give the class, or a function that builds it")
    name = getattr(factory, "__qualname__", f"a {type(factory).__name__} object")
    if not fullmatch(r"[\w.]+", name):  # a lambda, a function in a function, functools.partial
        found = "a lambda" if name.endswith("<lambda>") else name
        raise ParamsError(
            f"network is {found}; expected a function or class at the top level of a module or notebook, because "
            "recipes and cards name it; write def my_net(image_shape, classes): ... and give my_net"
        )
    spec = NetworkFactory(f"{factory.__module__}:{name}")
    FACTORIES[spec.factory] = factory
    return spec


def admit(path: str, name: str | None = None) -> None:
    """Import the factory at ``path`` and know it as ``name``, by default the path itself.

    It may lie in the working directory or in its repository. Raises ParamsError when it cannot be imported.
    """
    module, _, attribute = NetworkFactory(path).factory.partition(":")
    if name is None and path in FACTORIES:
        return
    find_own_modules()
    try:
        found = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # other people's modules raise errors of every kind
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ParamsError(
            f"network.factory is {path}, which cannot be imported here ({reason}); expected package.module:function, "
            f"installed or in {Path.cwd().name}; correct it"
        ) from None
    if not callable(found) or isinstance(found, nn.Module):
        raise ParamsError(f"network.factory is {path}, a {type(found).__name__}; {IS}")
    FACTORIES[name or path] = found


def find_own_modules() -> None:
    """Let the working directory and its Git repository be imported from, after everything that is installed."""
    here = Path.cwd()
    top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
    sys.path += [str(folder) for folder in dict.fromkeys((here, top)) if str(folder) not in sys.path]


def factory_of(spec: NetworkFactory) -> Factory:
    """Raises ParamsError for one that nobody named here."""
    if spec.factory not in FACTORIES:
        raise ParamsError(
            f"the network is {spec}, which is not distillkit's, and nothing is imported because a file names it; "
            "if you have its code and trust it, name it: --network package.module:function, or the network in Python"
        )
    return FACTORIES[spec.factory]


def build(spec: NetworkFactory, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """What the factory gives. Raises ParamsError as :func:`factory_of` and :func:`check_module` do."""
    factory = factory_of(spec)
    check_takes(spec, factory)
    try:
        network = factory(image_shape, classes)
    except Exception as error:  # whatever the user's code raises
        reason = " ".join(str(error).split())[:200]
        raise ParamsError(f"network {spec} cannot be built ({type(error).__name__}: {reason}); {IS}") from error
    if (key := (factory, image_shape, classes)) not in CHECKED:
        check_module(spec, network, image_shape, classes)
        CHECKED.add(key)
    return network


def check_takes(spec: NetworkFactory, factory: Factory) -> None:
    """Raise ParamsError for a function with other parameters, before it takes the shape for something else.

    ``torchvision.models.resnet18`` would download weights.
    """
    try:
        found = inspect.signature(factory)
    except (TypeError, ValueError):  # of some classes in C
        return
    try:
        found.bind((1, 8, 8), 2)
    except TypeError:
        name = spec.factory.rpartition(":")[2]
        raise ParamsError(
            f"network {spec} takes {found}; {IS}; write def my_net(image_shape, classes): return {name}(...)"
        ) from None


def check_module(spec: NetworkFactory, network: nn.Module, image_shape: tuple[int, int, int], classes: int) -> None:
    """Raise ParamsError unless distillkit can train the network, and match and replay its training.

    It maps images to logits, all parameters are float32 and take part, and it draws no random numbers: these would come
    from the global generator, so that no run were the same twice. Without numbers (meta tensors) nothing is checked.
    """
    if not isinstance(network, nn.Module):
        raise ParamsError(f"network {spec} gave {type(network).__name__}; {IS}")
    parameters = dict(network.named_parameters())
    if any(parameter.is_meta for parameter in parameters.values()):
        return
    if odd := [name for name, p in parameters.items() if p.dtype != torch.float32 or not p.requires_grad]:
        raise ParamsError(f"network {spec}: {odd[0]} is frozen or no float32; expected all parameters to be trained")
    trial, before = copy.deepcopy(network).train(), torch.get_rng_state()
    shape = "x".join(map(str, image_shape))
    try:
        logits = trial(images := torch.zeros(2, *image_shape))
    except Exception as error:  # whatever a network raises
        reason = " ".join(str(error).split())[:200]
        raise ParamsError(f"network {spec} cannot take images of {shape} ({reason}); use image_shape in it") from None
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        found = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise ParamsError(f"network {spec} gave {found} for two images; expected logits (2, {classes}); use classes")
    if images._version:
        raise ParamsError(
            f"network {spec} changes its images in place (as inplace=True in a first layer, or x.mul_), so the next "
            "use of them would see others; expected them as they were; copy them first"
        )
    if not torch.equal(before, torch.get_rng_state()):
        raise ParamsError(
            f"network {spec} draws random numbers in training (dropout, stochastic depth), so no step could be "
            "repeated; expected none; set their rates to 0"
        )
    gradients = torch.autograd.grad(logits.sum(), list(trial.parameters()), allow_unused=True)
    if unused := [name for name, part in zip(parameters, gradients, strict=True) if part is None]:
        raise ParamsError(f"network {spec}: the logits do not depend on {unused[0]}; expected all parameters in use")
