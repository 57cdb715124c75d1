"""Named recipes, expert shards and the package's choice of recipes, as params.yaml has them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any

from distillkit.base.errors import ParamsError
from distillkit.base.names import check_package_name, check_recipe, check_recipe_names, hint
from distillkit.base.params import read, section
from distillkit.base.settings import settings
from distillkit.data.files.packed import Storage
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


# The package


@settings
class PackageSpec:
    """The ``package`` section: the folder's name, the default recipe and which others go with it.

    All recipes but the full set are packaged when ``recipes`` is missing. ``storage`` is the type that learned images
    are kept as; networks are evaluated on images so rounded.
    """

    name: str
    default: str
    recipes: tuple[str, ...] | None = None
    storage: Storage = "float32"

    def chosen(self, recipes: Mapping[str, Any]) -> list[str]:
        if self.recipes is not None:
            return list(self.recipes)
        return [name for name, recipe in recipes.items() if recipe.get("method") != "full"]


def check_package(name: str, default: str, packaged: Sequence[str], known: Collection[str]) -> None:
    """Raise ParamsError unless a package can be called so and holds ``known`` recipes only, with the default one."""
    check_package_name(name)
    check_recipe_names(packaged)
    for recipe in packaged:
        if recipe not in known:
            raise ParamsError(
                f"recipe {recipe!r} is to be packaged, but does not exist{hint(recipe, known)}; "
                f"expected some of {', '.join(known)}"
            )
    if len(set(packaged)) != len(packaged):
        raise ParamsError(f"recipes to package are {', '.join(packaged)}; expected each once; remove what is double")
    if default not in packaged:
        meant = "" if default in known else hint(default, packaged)
        raise ParamsError(
            f"the default recipe is {default!r}, which is not packaged{meant}; "
            f"expected one of {', '.join(packaged) or 'the packaged recipes, but there are none'}"
        )
