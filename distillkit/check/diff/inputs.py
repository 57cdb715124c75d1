"""The two inputs of ``distillkit diff``: artifacts, packaged folders, or packages on the Hub."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillkit.base import params
from distillkit.base.errors import ParamsError
from distillkit.check.diff.compare import compare, compare_packages
from distillkit.check.diff.result import Difference, PackageDifference, Version
from distillkit.data.files.artifact import load_synthetic
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import read_metrics
from distillkit.hub.pull import pulled
from distillkit.package.manifest import Package
from distillkit.package.recipe_json import plain

DISTILLED = Path("artifacts/distilled")
Recipes = dict[str, Version | None]


def difference(before: str, after: str, recipe: str | None) -> Difference | PackageDifference:
    """The differences between two sets, or between all recipes of two packages if no recipe is named.

    Raises ParamsError when a recipe is named but both are artifacts, or when a package with several recipes is compared
    with an artifact and none is named.
    """
    old, new = read(before, recipe), read(after, recipe)
    if recipe is not None and isinstance(old, Version) and isinstance(new, Version):
        raise ParamsError(f"recipe is {recipe!r}, but {before} and {after} are single artifacts; leave the recipe out")
    if recipe is None and isinstance(old, dict) and isinstance(new, dict):
        return compare_packages(old, new)
    return compare(single(old, before, recipe), single(new, after, recipe))


def read(text: str, recipe: str | None) -> Version | Recipes:
    """An artifact as one version; a package as one version for each recipe, or for ``recipe`` only.

    A recipe that the package has, but not the folder, is None.
    """
    if Path(text).is_file():
        return version_in(Path(text), text)[0]
    with pulled(text, recipe) as package:
        if recipe is not None:
            return {recipe: version_of(package, recipe, text)}
        here = package.recipes
        return {name: version_of(package, name, text) if name in here else None for name in package.manifest.recipes}


def version_of(package: Package, name: str, text: str) -> Version:
    synthetic, _ = load_synthetic(package.artifact(name))
    record: dict[str, Any] = package.recipe_json(name)
    source = record["provenance"].get("source", {})
    return Version(text, synthetic, record["params"], record["results"]["accuracy"], source, record["evaluation"])


def single(side: Version | Recipes, text: str, recipe: str | None) -> Version:
    if isinstance(side, Version):
        return side
    here = {name: version for name, version in side.items() if version is not None}
    if recipe is None and len(here) > 1:
        raise ParamsError(f"{text} has recipes {', '.join(here)}; expected one to compare; name it after both sides")
    return next(iter(here.values()))


def version_in(path: Path, label: str) -> tuple[Version, Mapping[str, Any]]:
    """The set of an artifact, with its accuracy if its pipeline has measured it; and the set's provenance."""
    synthetic, provenance = load_synthetic(path)
    version = Version(label, synthetic, provenance.get("params", {}), None, provenance.get("source", {}))
    if (root := pipeline_of(path)) is not None:
        version = replace(version, accuracy=accuracy_of(root, path.stem), evaluation=evaluation_in(root))
    return version, provenance


def pipeline_of(path: Path) -> Path | None:
    """The folder of the pipeline that an artifact lies in."""
    root = path.resolve().parents[2] if len(path.resolve().parents) > 2 else None
    return root if root is not None and path.resolve().parent == root / DISTILLED else None


def parameters(root: Path) -> dict[str, Any]:
    """The pipeline's params.yaml; empty where there is none."""
    return params.load(root / params.FILE) if (root / params.FILE).is_file() else {}


def evaluation_in(root: Path) -> dict[str, Any]:
    """How the pipeline measures accuracy, as recipe.json has it; empty where nothing says so."""
    data = parameters(root)
    return plain(params.section(data, "evaluation", EvaluationRecipe).plain()) if "evaluation" in data else {}


def accuracy_of(root: Path, name: str) -> Mapping[str, Any] | None:
    """Mean, std and runs of a recipe; None where it was not measured."""
    path = root / "metrics" / f"{name}.json"
    found = read_metrics(path).get("accuracy") if path.is_file() else None
    return found if isinstance(found, dict) else None
