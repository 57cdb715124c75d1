"""From what people write in Python to recipes as stages read them: networks, methods, numbers that are left out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import Any

import torch
from torch import nn

from distillkit.base.errors import DistillkitError, ParamsError
from distillkit.base.names import hint
from distillkit.data.factories import NetworkFactory, admit, known_as
from distillkit.data.images import ImageSet
from distillkit.data.networks import NETWORKS, PLAIN, NetworkSpec
from distillkit.methods import METHODS, method_called
from distillkit.package.recipe_json import plain
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.process.interruption import guest
from distillkit.setup.defaults import EXPERTS, RECIPES, Facts, values

Network = str | NetworkSpec | NetworkFactory | Mapping[str, Any] | Callable[[tuple[int, int, int], int], nn.Module]


def expect(value: Any, kind: Any, name: str, expected: str) -> None:
    """Raise ParamsError unless ``value``, the argument ``name``, is a ``kind``."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ParamsError(f"{name} is {type(value).__name__}; expected {expected}")


@contextmanager
def visiting(kept: object = None) -> Iterator[None]:
    """A block that leaves torch as it was, ends at Ctrl-C where it is safe, and says nothing of params.yaml.

    Without a folder where work is ``kept``, an interruption says that nothing is.
    """
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        with guest():
            yield
    except KeyboardInterrupt as stopped:
        lost = "interrupted; nothing is kept; give folder=, and the next call goes on where this one was"
        raise KeyboardInterrupt(str(stopped) if kept else lost) from None
    except DistillkitError as error:
        raise type(error)(str(error).removeprefix("params.yaml: ")) from None
    finally:
        torch.set_num_threads(threads)
        if torch.are_deterministic_algorithms_enabled() != strict:
            torch.use_deterministic_algorithms(strict)


def facts_of(images: ImageSet, epochs: int = 12) -> Facts:
    return Facts(images.image_shape[1:], len(images.class_names), len(images), epochs)


def network_of(network: Network, facts: Facts) -> dict[str, Any]:
    """A network as recipes have it. Raises ParamsError for what is none."""
    if isinstance(network, NetworkSpec | NetworkFactory):
        return asdict(network)
    if isinstance(network, Mapping):
        return dict(network)
    if not isinstance(network, str):
        return asdict(known_as(network))
    if ":" in network:
        admit(network)
        return {"factory": network}
    if network not in NETWORKS:
        raise ParamsError(
            f"network is {network!r}{hint(network, NETWORKS)}; expected one of {', '.join(NETWORKS)}, "
            "package.module:function, or a function (image_shape, classes) that gives an nn.Module"
        )
    usual: dict[str, Any] = values(EXPERTS, facts)["experts"]["recipe"]["network"]
    return usual if network == "convnet" else {"name": network, "norm": "none" if network in PLAIN else "batch"}


def merged(numbers: Mapping[str, Any], given: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """``numbers`` with those that are ``given`` in their place, also inside of mappings; networks are never mixed."""
    found = dict(numbers)
    for key, value in given.items():
        if is_dataclass(value) and not isinstance(value, type | NetworkSpec | NetworkFactory):
            value = asdict(value)
        if key == "network" and value is not None:
            value = network_of(value, facts)
        elif isinstance(value, Mapping):
            before = found.get(key)
            value = merged(before if isinstance(before, Mapping) else {}, value, facts)
        found[key] = value
    return found


def recipe_for(method: Any, ipc: int | None, name: str | None, facts: Facts, given: Mapping[str, Any]) -> Recipe:
    """The recipe of a method, by name or as an object, with what is given and usual numbers for the rest."""
    expect(1 if ipc is None else ipc, int, "ipc", "a whole number of images per class")
    if isinstance(method, str):
        called = method
        known = getattr(method_called(method), "defaults", None)  # a method in somebody else's package may have some
        usual = known(ipc, facts) if known else values(RECIPES.get(called, ""), facts, ipc or 1)
    else:
        called, usual = name_of(method), {key: part for key, part in asdict(method).items() if part is not None}
        optim = values(RECIPES.get(called, ""), facts, usual.get("ipc", 1)).get("optim")
        usual |= {"optim": optim} if optim else {}
    size = {} if ipc is None else {"ipc": ipc}
    params = plain({"method": called, **size, **merged(usual, given, facts)})
    title = name or (f"{called}-ipc{params['ipc']}" if "ipc" in params else called)
    return read_recipe({"recipes": {title: params}}, title)


def name_of(method: Any) -> str:
    """What recipes call the class of a method. Raises ParamsError for one that they cannot name."""
    found = [name for name, kind in METHODS.items() if type(method) is kind]
    if not found:
        raise ParamsError(
            f"method is {type(method).__name__}; expected a name, one of {', '.join(METHODS)}, or an object of such a "
            "method; for one of your own install an entry point in distillkit.methods"
        )
    return found[0]
