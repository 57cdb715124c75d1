"""The cells of a dataset card's tables, from recipe.json."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

from distillkit.base.errors import ParamsError
from distillkit.evaluation.recovery import Figure, Measured, hard_label_recovery, in_percent, relative_gain
from distillkit.networks.specs import NetworkSpec
from distillkit.package.card_words import code, named, shortest, shown
from distillkit.package.front_matter import Recipe, images_per_class
from distillkit.pipeline.recipes import Recipe as Settings
from distillkit.pipeline.recipes import read_recipe
from distillkit.process.progress import presentable
from distillkit.report import results
from distillkit.report.table import cross_table, points
from distillkit.report.words import leaves

FOLDED = 12  # rows; a longer table is folded
WIDTH = 80  # characters; a longer line of parameters is broken if possible

# Results


def baseline(recipe: Recipe, which: str) -> Mapping[str, Any] | None:
    """The accuracy of the baseline ``random`` or ``full``; None if there is none or it is this recipe itself."""
    found = recipe.get("baselines", {}).get(which)
    accuracy: Mapping[str, Any] | None = None if found is None else found["accuracy"]
    return None if found is None or found["recipe"] == recipe["name"] else accuracy


def starts_trained(recipe: Recipe) -> bool:
    """Whether the set's networks start from experts, which have seen real images."""
    return results.starts_trained(recipe["params"])


def is_comparable(recipe: Recipe) -> bool:
    """Whether the set is not poisoned and networks were trained on it from scratch, as on random images."""
    return not (recipe.get("schedule") or starts_trained(recipe) or (recipe.get("notes") or {}).get("attack"))


def marks(recipe: Recipe) -> str:
    """Why the accuracy cannot be compared with others, to write after the method."""
    return results.marks(starts_trained(recipe), bool(recipe["notes"].get("attack")))


def before(recipe: Recipe) -> str:
    """The accuracy of the networks' initial weights, in brackets, if it was measured."""
    start = recipe["results"].get("start")
    return f" ({100 * start['accuracy']['mean']:.2f} % before they see the set)" if start else ""


def over_random(recipe: Recipe) -> str:
    """Accuracy minus that of as many random images, in points; a dash if they cannot be compared."""
    random = baseline(recipe, "random")
    if random is None or not is_comparable(recipe):
        return "–"
    return points(recipe["results"]["accuracy"]["mean"] - random["mean"])


def worth(recipe: Recipe) -> tuple[Figure | None, Figure | None]:
    """Relative gain and hard-label recovery; None unless set and baselines were measured in the same way."""
    random, full = (baseline(recipe, which) for which in ("random", "full"))
    if full is None or recipe["method"] == "full" or recipe.get("soft_labels") or not is_comparable(recipe):
        return None, None
    own = measured(recipe["results"]["accuracy"])
    gain = None if random is None else relative_gain(own, measured(random), measured(full))
    return gain, hard_label_recovery(own, measured(full))


def measured(accuracy: Mapping[str, Any]) -> Measured:
    return Measured(accuracy["mean"], accuracy["std"], accuracy["runs"])


def worth_cells(recipe: Recipe) -> str:
    """Relative gain and recovery as cells of a table."""
    gain, recovery = worth(recipe)
    return f"{in_percent(gain)} | {in_percent(recovery, 2)}"


def crossed(recipes: Sequence[Recipe]) -> tuple[list[str], list[list[str]]]:
    """The table of other networks; empty if there are none."""
    spec = recipes[0]["evaluation"]["network"]
    return cross_table(
        str(spec["factory"] if "factory" in spec else NetworkSpec(**spec)),
        [
            (
                code(recipe["name"]),
                measured(recipe["results"]["accuracy"]),
                {name: measured(it["accuracy"]) for name, it in recipe["results"].get("others", {}).items()},
            )
            for recipe in recipes
        ],
    )


def unpackaged(recipes: Sequence[Recipe]) -> list[tuple[str, int | str, Mapping[str, Any]]]:
    """Baselines that are not configs: name, images per class, accuracy."""
    names = {recipe["name"] for recipe in recipes}
    found: dict[str, tuple[str, int | str, Mapping[str, Any]]] = {}
    for which in ("random", "full"):
        for recipe in recipes:
            baseline, each = recipe["baselines"][which], images_per_class(recipe)
            if baseline and baseline["recipe"] not in names:
                row = ("random images", each) if which == "random" else ("all images", "all")
                found[baseline["recipe"]] = (*row, baseline["accuracy"])
    return list(found.values())


# Real images


def content(recipe: Recipe) -> str:
    """The number of images of each kind."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return f"{images['total']:,} imported"
    return f"{images['real']:,} real and {images['learned']:,} learned"


def origins(recipe: Recipe) -> list[str]:
    """Cells with the numbers of images that are unchanged, learned from a source image, or made from no single one."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return ["not known"] * 3
    from_source = images["learned_from_source"]
    return [f"{count:,}" for count in (images["real"], from_source, images["learned"] - from_source)]


def start_is_unknown(recipe: Recipe) -> bool:
    return bool(recipe["method"] == "imported" and not recipe["images"]["learned_from_source"])


def kept_start(recipe: Recipe) -> str:
    """How many images that were learned from a source image are still nearest to it."""
    started = recipe["images"]["learned_from_source"]
    if start_is_unknown(recipe):
        return "not known"
    return f"{recipe['nearest_source']['from_start']:,} of {started:,}" if started else "–"


# How networks see images


def zca_words(zca: Mapping[str, Any]) -> str:
    """How the whitening was fitted, with its parameter if that is known."""
    eps = f", with eps {zca['eps']:g}" if "eps" in zca else ""
    return f"fitted on the training images' pixels{eps}"


def whitened_words(zca: Mapping[str, Any]) -> str:
    return (
        f"They must be **ZCA-whitened** before training, and so must test images ({zca_words(zca)}): experts and all "
        "networks saw only whitened images. The whitening is in the config's `distilled.safetensors`."
    )


# How the sets were made


def imported_files(recipe: Recipe) -> str:
    """The files of an imported set, as far as they are recorded, and how their images were saved."""
    notes = recipe["notes"].get("imported", {})
    files = notes.get("files") or [{"name": recipe["params"]["file"], "sha256": recipe["params"]["sha256"]}]
    named = [f"{code(file['name'])} (SHA-256 {code(file['sha256'])})" for file in files]
    how = [f"saved as {notes['saved_as']}"] if "saved_as" in notes else []
    if notes.get("saved_as") == "normalised" and {"mean", "std"} <= notes.keys():
        how = [f"saved as normalised with mean {shortest(notes['mean'])} and deviation {shortest(notes['std'])}"]
    labels = [f"labels: {notes['labels']}"] if "labels" in notes else []
    return "; ".join([*named, *how, *labels])


def parameter_table(recipes: Sequence[Recipe]) -> tuple[list[str], dict[str, list[str]]]:
    """The methods that have parameters besides ``ipc``, and for each parameter a cell per method; no imported sets.

    If one recipe sets a parameter, recipes that do not set it show the default that they were made with.
    """
    given: dict[str, dict[str, dict[str, Any]]] = {}
    for recipe in recipes:
        found = {key: value for key, value in leaves(recipe["params"]) if key not in ("method", "ipc")}
        if recipe["method"] != "imported":
            given.setdefault(recipe["method"], {})[recipe["name"]] = found
    given = {method: column for method, column in given.items() if any(column.values())}
    keys = dict.fromkeys(key for column in given.values() for found in column.values() for key in found)
    known = {recipe["name"]: defaults(recipe) for recipe in recipes}
    return list(given), {key: [agreed(key, column, known) for column in given.values()] for key in keys}


def settings(recipe: Recipe) -> Settings | None:
    """The recipe's parameters, defaults included; None if this version cannot read them."""
    try:
        return read_recipe({"recipes": {recipe["name"]: recipe["params"]}}, recipe["name"])
    except ParamsError:
        return None


def defaults(recipe: Recipe) -> Mapping[str, Any] | None:
    """All parameters by dotted name, defaults included; None if this version cannot read them."""
    if (read := settings(recipe)) is None:
        return None
    optim = {} if read.optim is None else {"optim": asdict(read.optim)}
    return dict(leaves({**asdict(cast(Any, read.method)), **optim}))


def agreed(key: str, column: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The common value of a method's recipes, or each value with its recipes; a dash for no value."""
    values = [found[key] for found in column.values() if key in found]
    names: dict[str, list[str]] = {}
    for name, found in column.items():
        names.setdefault(value_of(key, found, known[name], values), []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{value} ({named(recipes)})" for value, recipes in names.items())


def value_of(key: str, found: Mapping[str, Any], known: Mapping[str, Any] | None, values: Sequence[Any]) -> str:
    """A recipe's value of a parameter; a default is written like an equal one of ``values``, which others set."""
    if key in found:
        return shown(found[key])
    if known is None:
        return "not given"
    value = known.get(key)
    return "–" if value is None else shown(next((other for other in values if other == value), value))


def outcome_table(recipes: Sequence[Recipe]) -> tuple[list[str], list[list[str]]]:
    """Values that distillation chose or learned: their names, and a row of cells for each recipe that has any."""
    found = {recipe["name"]: dict(outcomes(recipe)) for recipe in recipes}
    names = list(dict.fromkeys(name for column in found.values() for name in column))
    rows = [[f"`{name}`", *(column.get(key, "–") for key in names)] for name, column in found.items() if column]
    return names, rows


def outcomes(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for key, value in recipe["notes"].items():
        if not isinstance(value, Mapping):
            yield f"{code(key)}, as chosen", shown(value)
    if recipe["student_lr"] is not None:
        yield "learned step size of the student", f"{recipe['student_lr']:.4g}"


def params_lines(sections: Mapping[str, Any], indent: str = "") -> str:
    """Sections of params.yaml as YAML with JSON values, without nulls, which are defaults."""
    lines = []
    for key, value in without_nulls(sections).items():
        line = presentable(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}")
        nested = len(line) > WIDTH and isinstance(value, Mapping)
        lines.append(f"{indent}{key}:\n{params_lines(value, indent + '  ')}" if nested else line)
    return "\n".join(lines)


def without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    return value
