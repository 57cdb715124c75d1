"""Named recipes of params.yaml."""

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
    """An entry of ``recipes``: a method and, if it learns something, the outer optimiser.

    ``seed``, if given, takes the place of the project's seed when the set is made: another set by the same recipe.
    """

    name: str
    method_name: str
    method: Selection
    optim: Optim | None
    params: Mapping[str, Any]
    seed: int | None = None

    def visits(self, classes: int) -> int:
        """The number of images shown to networks while it learns."""
        return self.optim.steps * self.method.visits(classes) if self.optim and isinstance(self.method, Method) else 0


def read_recipe(data: Mapping[str, Any], name: str) -> Recipe:
    """Read the recipe ``name``. Raises ParamsError."""
    recipes = section(data, "recipes", dict[str, Any])
    where = f"recipes.{name}"
    check_recipe(data, name)
    params = read(recipes[name], dict[str, Any], where)
    if "method" not in params:
        close = get_close_matches("method", map(str, params), n=1)
        remedy = f"found {close[0]!r}; rename it; " if close else ""
        raise ParamsError(f"params.yaml: {where}.method is missing; {remedy}expected one of {', '.join(names())}")
    method_name = params["method"]
    if not isinstance(method_name, str):
        raise ParamsError(f"params.yaml: {where}.method is {method_name!r}; expected one of {', '.join(names())}")
    try:
        kind = method_called(method_name)
    except ParamsError as error:
        raise ParamsError(f"params.yaml: {where}.{error}") from None
    check_names(params, kind, where)
    rest = {key: value for key, value in params.items() if key not in ("method", "optim", "seed")}
    method: Selection = read(rest, kind, where)
    seed = read(params["seed"], int, f"{where}.seed") if "seed" in params else None
    return Recipe(name, method_name, method, read_optim(params, method, where), params, seed)


def check_names(params: Mapping[str, Any], kind: type[Selection], where: str) -> None:
    """Raise ParamsError for an unknown parameter of the method's recipe; :func:`read_optim` checks ``optim``."""
    known = ["method", *signature(kind).parameters, *(["optim"] if hasattr(kind, "loss") else []), "seed"]
    for key in params:
        if key not in (*known, "optim"):
            raise ParamsError(
                f"params.yaml: {where}.{key} is not a parameter{hint(str(key), known)}; expected {', '.join(known)}"
            )


def read_optim(params: Mapping[str, Any], method: Selection, where: str) -> Optim | None:
    learns = isinstance(method, Method)
    if learns and "optim" not in params:
        raise ParamsError(
            f"params.yaml: {where}.optim is missing; expected steps, image_lr and the rates of all else that it learns"
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
        found, remedy = (
            ("missing", "add it") if method.student else ("given, but the method does not use it", "remove it")
        )
        raise ParamsError(f"params.yaml: {where}.optim.student_lr_init is {found}; {remedy}")
    return optim


def check_useful(optim: Optim, method: Method, where: str) -> None:
    """Raise ParamsError for learning rates of parts that the method does not learn."""
    if optim.student_lr_lr > 0 and not (method.student or method.about.ordered):
        raise ParamsError(
            f"{where}.student_lr_lr is {optim.student_lr_lr:g}, but the method learns no step size; remove it"
        )
    if optim.label_lr is not None and (labels := getattr(method, "labels", None)) != "learned":
        found, remedy = (
            ("the method learns no labels", "remove it")
            if labels is None
            else (f"labels is {labels}", "remove it, or set labels: learned")
        )
        raise ParamsError(f"{where}.label_lr is {optim.label_lr:g}, but {found}; {remedy}")


# The audit


@settings
class AuditSpec:
    """The ``audit`` section: the ``recipes`` to audit (default none), and the number of shadow sets.

    With ``shadows`` 0, only measurements on the set itself are made.
    """

    recipes: tuple[str, ...] = ()
    shadows: int = 16

    def __post_init__(self) -> None:
        check_shadows(self.shadows)

    def check_known(self, known: Collection[str]) -> None:
        """Raise ParamsError when a recipe to audit does not exist, or is named twice."""
        for recipe in self.recipes:
            if recipe not in known:
                found = f"recipe {recipe!r} should be audited, but does not exist{hint(recipe, known)}"
                raise ParamsError(f"{found}; expected some of {', '.join(known)}")
        if len(set(self.recipes)) != len(self.recipes):
            names = ", ".join(self.recipes)
            raise ParamsError(f"recipes to audit are {names}; expected each once; remove duplicates")


def check_makes_shadows(recipe: Recipe) -> None:
    """Raise ParamsError when the recipe's set cannot be made from half of the images."""
    if recipe.method_name == "imported":
        found = f"the set of recipe {recipe.name} was made elsewhere"
        raise ParamsError(f"{found}; expected one that can be made from half of the images; set shadows to 0")
    if getattr(recipe.method, "pretrained", None) is not None:
        raise ParamsError(
            f"recipe {recipe.name} starts from experts in a file, which may know all images; expected experts that can "
            "be trained on half of them; set shadows to 0"
        )
