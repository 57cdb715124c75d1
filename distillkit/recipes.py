"""Named recipes, expert shards and the package's choice of recipes, as params.yaml has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillkit.distill import Optim
from distillkit.errors import ParamsError
from distillkit.methods import METHODS
from distillkit.params import hint, read, section
from distillkit.protocol import Method, Selection


@dataclass(frozen=True)
class Recipe:
    """A named section of ``recipes``: a method and, if it learns anything, the outer optimiser."""

    name: str
    method_name: str
    method: Selection
    optim: Optim | None
    params: Mapping[str, Any]

    def visits(self, classes: int) -> int:
        """Images shown to networks while it learns."""
        return self.optim.steps * self.method.visits(classes) if self.optim and isinstance(self.method, Method) else 0


def read_recipe(data: Mapping[str, Any], name: str) -> Recipe:
    """The recipe called ``name``."""
    recipes = section(data, "recipes", dict[str, Any])
    where = f"recipes.{name}"
    if name not in recipes:
        raise ParamsError(f"params.yaml has no {where}{hint(name, recipes)}; found {', '.join(recipes) or 'none'}")
    params = read(recipes[name], dict[str, Any], where)
    if "method" not in params:
        raise ParamsError(f"params.yaml: {where}.method is missing; expected one of {', '.join(METHODS)}")
    method_name = params["method"]
    if not isinstance(method_name, str) or method_name not in METHODS:
        raise ParamsError(
            f"params.yaml: {where}.method is {method_name!r}{hint(str(method_name), METHODS)}; "
            f"expected one of {', '.join(METHODS)}"
        )
    rest = {key: value for key, value in params.items() if key not in ("method", "optim")}
    method: Selection = read(rest, METHODS[method_name], where)
    return Recipe(name, method_name, method, read_optim(params, method, where), params)


def read_optim(params: Mapping[str, Any], method: Selection, where: str) -> Optim | None:
    learns = isinstance(method, Method)
    if learns and "optim" not in params:
        raise ParamsError(
            f"params.yaml: {where}.optim is missing; expected steps, image_lr and what else the method learns"
        )
    if not learns and "optim" in params:
        raise ParamsError(
            f"params.yaml: {where}.optim is given, but method {params['method']} learns nothing; remove it"
        )
    if not isinstance(method, Method):
        return None
    optim = read(params["optim"], Optim, f"{where}.optim")
    if method.student != (optim.student_lr_init is not None):
        found, mend = (
            ("missing", "add it") if method.student else ("given, but the method has no use for it", "remove it")
        )
        raise ParamsError(f"params.yaml: {where}.optim.student_lr_init is {found}; {mend}")
    return optim
