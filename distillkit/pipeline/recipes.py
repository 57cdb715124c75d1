"""Named recipes, as params.yaml has them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any

from distillkit.base.errors import ParamsError, check_shadows
from distillkit.base.names import check_recipe, hint
from distillkit.base.params import read, section
from distillkit.base.settings import settings
from distillkit.matching.method import Method, Selection
from distillkit.matching.optim import Optim
from distillkit.methods import method_called, names


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
    check_recipe(data, name)
    params = read(recipes[name], dict[str, Any], where)
    if "method" not in params:
        close = get_close_matches("method", map(str, params), n=1)
        mend = f"found {close[0]!r}; rename it; " if close else ""
        raise ParamsError(f"params.yaml: {where}.method is missing; {mend}expected one of {', '.join(names())}")
    method_name = params["method"]
    if not isinstance(method_name, str):
        raise ParamsError(f"params.yaml: {where}.method is {method_name!r}; expected one of {', '.join(names())}")
    try:
        kind = method_called(method_name)
    except ParamsError as error:
        raise ParamsError(f"params.yaml: {where}.{error}") from None
    check_names(params, kind, where)
    rest = {key: value for key, value in params.items() if key not in ("method", "optim")}
    method: Selection = read(rest, kind, where)
    return Recipe(name, method_name, method, read_optim(params, method, where), params)


def check_names(params: Mapping[str, Any], kind: type[Selection], where: str) -> None:
    """Raise ParamsError for what is no parameter of a recipe of this method; ``optim`` has a check of its own."""
    known = ["method", *signature(kind).parameters, *(["optim"] if hasattr(kind, "loss") else [])]
    for key in params:
        if key not in (*known, "optim"):
            raise ParamsError(
                f"params.yaml: {where}.{key} is not a parameter{hint(str(key), known)}; expected {', '.join(known)}"
            )


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
    check_useful(optim, method, f"params.yaml: {where}.optim")
    if method.student != (optim.student_lr_init is not None):
        found, mend = (
            ("missing", "add it") if method.student else ("given, but the method has no use for it", "remove it")
        )
        raise ParamsError(f"params.yaml: {where}.optim.student_lr_init is {found}; {mend}")
    return optim


def check_useful(optim: Optim, method: Method, where: str) -> None:
    """Raise ParamsError for rates of what the method does not learn."""
    if optim.student_lr_lr > 0 and not (method.student or method.about.ordered):
        raise ParamsError(
            f"{where}.student_lr_lr is {optim.student_lr_lr:g}, but the method learns no step size; remove it"
        )
    if optim.label_lr is not None and (labels := getattr(method, "labels", None)) != "learned":
        found, mend = (
            ("the method learns no labels", "remove it")
            if labels is None
            else (f"labels is {labels}", "remove it, or set labels: learned")
        )
        raise ParamsError(f"{where}.label_lr is {optim.label_lr:g}, but {found}; {mend}")


# The audit


@settings
class AuditSpec:
    """The ``audit`` section: which ``recipes`` to audit, by default none, and with how many shadow sets.

    With 0 ``shadows`` only what the set itself shows is measured.
    """

    recipes: tuple[str, ...] = ()
    shadows: int = 16

    def __post_init__(self) -> None:
        check_shadows(self.shadows)

    def check_known(self, known: Collection[str]) -> None:
        """Raise ParamsError where a recipe to audit does not exist, or is named twice."""
        for recipe in self.recipes:
            if recipe not in known:
                found = f"recipe {recipe!r} is to be audited, but does not exist{hint(recipe, known)}"
                raise ParamsError(f"{found}; expected some of {', '.join(known)}")
        if len(set(self.recipes)) != len(self.recipes):
            names = ", ".join(self.recipes)
            raise ParamsError(f"recipes to audit are {names}; expected each once; remove what is double")


def check_makes_shadows(recipe: Recipe) -> None:
    """Raise ParamsError where a set of the recipe cannot be made again from half of the images."""
    if recipe.method_name == "imported":
        found = f"the set of recipe {recipe.name} was made elsewhere"
        raise ParamsError(f"{found}; expected one that can be made from half of the images; set shadows to 0")
    if getattr(recipe.method, "pretrained", None) is not None:
        raise ParamsError(
            f"recipe {recipe.name} starts from experts in a file, which may know all images; expected experts that can "
            "be trained on half of them; set shadows to 0"
        )
