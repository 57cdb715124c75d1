"""Convert arguments of the Python API to recipes: networks, methods, default numbers."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, is_dataclass
from importlib.metadata import entry_points
from inspect import signature
from operator import index
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from distillkit.api.words import in_python, python_words
from distillkit.base.errors import ParamsError
from distillkit.base.names import LONGEST, hint, is_recipe_name, recipe_name
from distillkit.data.images import ImageSet
from distillkit.methods import GROUP, METHODS, method_called
from distillkit.networks import factories
from distillkit.networks.factories import NetworkFactory, admit, known_as
from distillkit.networks.specs import NETWORKS, PLAIN, NetworkSpec
from distillkit.package.recipe_json import plain
from distillkit.pipeline.own_code import text_of
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.process.interruption import guest
from distillkit.process.progress import tell
from distillkit.setup.defaults import EXPERTS, RECIPES, Facts, values

ARGUMENTS = ("experts", "difficulty", "network", "seed", "name", "folder")  # of dk.distill, besides the settings
Network = str | NetworkSpec | NetworkFactory | Mapping[str, Any] | Callable[[tuple[int, int, int], int], nn.Module]


def expect(value: Any, kind: Any, name: str, expected: str) -> None:
    """Raise ParamsError unless ``value``, the argument ``name``, has type ``kind``. A bool is never accepted."""
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ParamsError(f"{name} is {type(value).__name__}; expected {expected}")


def check_path(value: Any, name: str) -> Path:
    """The argument ``name`` as a path. Raises ParamsError if it is not a path."""
    expect(value, str | Path, name, "a path")
    return Path(value)


def check_given(
    given: Iterable[str], known: Iterable[str], arguments: Iterable[str], usual: Mapping[str, Any] | None = None
) -> None:
    """Raise ParamsError for a keyword that is not in ``known``. The hint also considers misspelt ``arguments``, and the
    mappings among the ``usual`` settings.
    """
    known = list(known)
    for key in given:
        if key not in known:
            parts = [name for name, part in (usual or {}).items() if isinstance(part, Mapping) and key in part]
            close = f": give {parts[0]}={{{key!r}: …}}" if parts else hint(key, [*arguments, *known])
            raise ParamsError(f"{key} is not a parameter{close}; expected {', '.join(known)}")


def whole(value: Any, name: str, low: int = 0, expected: str = "a whole number") -> int:
    """The argument ``name`` as an int; numpy integers are accepted. Raises ParamsError for other types and below
    ``low``.
    """
    try:
        found = index(None if isinstance(value, bool) else value)  # type: ignore[arg-type]
    except TypeError:
        raise ParamsError(f"{name} is {type(value).__name__} {str(value)[:40]!r}; expected {expected}") from None
    if found < low:
        raise ParamsError(f"{name} is {found}; expected at least {low}")
    return found


def check_folder(name: str, folder: Any) -> Path:
    """The argument ``name`` as a path. Raises ParamsError unless it is a folder or one can be created there."""
    expect(folder, str | Path, name, "the path of a folder")
    path = Path(folder).expanduser()
    there = next(part for part in (path.absolute(), *path.absolute().parents) if part.exists())
    if not there.is_dir():
        raise ParamsError(f"{name} is {folder}, but {there.name} is a file; expected a folder; choose another")
    return path


@contextmanager
def visiting(kept: str | Path | Literal[False] | None = False) -> Iterator[Path | None]:
    """A block that restores torch's state, stops on Ctrl-C at safe points, and uses words of Python in messages.

    Yields the folder ``kept`` for work: None where the caller gave None, or False because the function has no folder.
    In both cases, the message of an interruption says that nothing is kept.
    """
    try:
        with python_words(), own_torch(), guest():
            yield check_folder("folder", kept) if kept not in (None, False) else None
    except KeyboardInterrupt as stopped:
        lost = "interrupted; nothing is kept; make the same call again"
        if kept is None:
            lost = "interrupted; nothing is kept; give folder=, and the next call will continue where this one stopped"
        raise KeyboardInterrupt(in_python(str(stopped)) if kept else lost) from None


@contextmanager
def own_torch() -> Iterator[None]:
    """A block in which torch has the settings of a new process. Restores the caller's settings."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    kind, cpu = torch.get_default_dtype(), torch.device("cpu")
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            nullcontext() if torch.get_default_device() == cpu else cpu,  # as a context it slows down each call
        ):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
        if torch.are_deterministic_algorithms_enabled() != strict:
            torch.use_deterministic_algorithms(strict)


def facts_of(images: ImageSet, epochs: int = 12) -> Facts:
    return Facts(images.image_shape[1:], len(images.class_names), len(images), epochs)


def network_of(network: Network, facts: Facts) -> dict[str, Any]:
    """A network as in recipes. Raises ParamsError for anything else."""
    if isinstance(network, NetworkSpec | NetworkFactory):
        return asdict(network)
    if isinstance(network, Mapping):
        return dict(network)
    if not isinstance(network, str):
        return asdict(known(network))
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


def known(factory: Any) -> NetworkFactory:
    """The name in recipes of a factory. Warns if this name was another network before, because a cell was run again."""
    earlier = dict(factories.FACTORIES)
    spec = known_as(factory)
    before = earlier.get(spec.factory, factory)
    with suppress(ParamsError):  # the source code cannot be read
        if before is not factory and text_of(str(spec), before) != text_of(str(spec), factory):
            tell(
                f"warning: network {spec} has changed; experts that were trained with the earlier one no longer fit it"
            )
    return spec


def tell_if_typed(*networks: Any) -> None:
    """Warn about networks that are not in a module, because other people cannot check results with them."""
    mappings = (asdict(each) if is_dataclass(each) and not isinstance(each, type) else each for each in networks)
    names = {found.get("factory", "") for found in map(plain, mappings)}
    for name in sorted(name for name in names if name.startswith("__main__:")):
        tell(
            f"warning: network {name} is in this notebook or script only, so nobody else can check what is made with "
            "it; before you publish, put it into a module and import it"
        )


def merged(numbers: Mapping[str, Any], given: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """``numbers`` updated with ``given``, also inside mappings. Networks are replaced as a whole.

    Raises ParamsError for values that a recipe cannot have, such as tensors.
    """
    found = dict(numbers)
    for key, value in given.items():
        if is_dataclass(value) and not isinstance(value, type | NetworkSpec | NetworkFactory):
            value = asdict(value)
        if isinstance(value, np.generic) or (isinstance(value, torch.Tensor) and value.ndim == 0):
            value = value.item()
        if key == "network" and value is not None:
            value = network_of(value, facts)
        elif key == "augmentation" and isinstance(value, str):
            value = {"kind": value}
        elif isinstance(value, Mapping):
            before = found.get(key)
            value = merged(before if isinstance(before, Mapping) else {}, value, facts)
        try:
            found[key] = plain(value)
        except (TypeError, ValueError):
            raise ParamsError(
                f"{key} is {type(value).__name__}; expected a number, text, a list or a mapping"
            ) from None
    return found


def recipe_for(method: Any, ipc: int | None, name: str | None, facts: Facts, given: Mapping[str, Any]) -> Recipe:
    """The recipe of a method (name, class or object) with the given settings, and default numbers for the rest."""
    size = {} if ipc is None else {"ipc": whole(ipc, "ipc", 1, "a whole number of images per class")}
    called = method if isinstance(method, str) else name_of(method)
    kind = method_called(called)
    known = getattr(kind, "defaults", None)  # a method of another package may have this function
    if is_dataclass(method) and not isinstance(method, type):
        usual = {key: part for key, part in asdict(method).items() if part is not None}
        if size and usual.get("ipc", ipc) != ipc:
            raise ParamsError(f"ipc is {ipc}, but the method's is {usual['ipc']}; expected one number; leave ipc= out")
        optim = values(RECIPES.get(called, ""), facts, usual.get("ipc", 1)).get("optim")
        usual |= {"optim": optim} if optim else {}
    else:
        usual = known(ipc, facts) if known else values(RECIPES.get(called, ""), facts, size.get("ipc", 1))
    check_given(given, [*signature(kind).parameters, *(["optim"] if hasattr(kind, "loss") else [])], ARGUMENTS, usual)
    if str(given.get("initialisation")).endswith("pretrained"):
        usual = {key: part for key, part in usual.items() if key != "network"}  # it is the experts' network
    params = plain({"method": called, **size, **merged(usual, given, facts)})
    needed = signature(kind).parameters.get("ipc")
    if needed and needed.default is needed.empty and "ipc" not in params:
        raise ParamsError("ipc is missing; expected a number of images per class; give ipc=10, for example")
    title = check_set_name(name or (f"{called}-ipc{params['ipc']}" if "ipc" in params else called))
    return read_recipe({"recipes": {title: params}}, title)


def check_set_name(name: Any) -> str:
    """The name of a set. Raises ParamsError if it is not valid as a recipe name."""
    expect(name, str, "name", "text")
    if not is_recipe_name(name):
        raise ParamsError(
            f"name is {name[:LONGEST]!r}; expected letters, digits, '-' and '_', not beginning with '-'; "
            f"give {recipe_name(name)!r} for example"
        )
    return str(name)


def has_own_network(method: Any) -> bool:
    """Whether the method has a setting for the networks that it trains, like DD."""
    kind = method_called(method if isinstance(method, str) else name_of(method))
    return "network" in signature(kind).parameters


def name_of(method: Any) -> str:
    """The name of a method's class in recipes. Raises ParamsError if it has none."""
    kind = method if isinstance(method, type) else type(method)
    others = entry_points(group=GROUP)  # if ``kind`` comes from one, its module is imported already
    found = [name for name, ours in METHODS.items() if kind is ours]
    found += [entry.name for entry in others if getattr(sys.modules.get(entry.module), entry.attr, None) is kind]
    if not found:
        raise ParamsError(
            f"method is {kind.__name__}; expected a name, one of {', '.join(METHODS)}, or an object of such a "
            "method; for one of your own install an entry point in distillkit.methods"
        )
    return found[0]
