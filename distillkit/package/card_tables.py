"""The tables of a dataset card: what stands in which cell, from recipe.json."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np

from distillkit.base.errors import ParamsError
from distillkit.evaluation.recovery import Figure, Measured, hard_label_recovery, in_percent, relative_gain
from distillkit.networks.specs import NetworkSpec
from distillkit.package.front_matter import Recipe, images_per_class
from distillkit.pipeline.recipes import Recipe as Settings
from distillkit.pipeline.recipes import read_recipe
from distillkit.process.progress import presentable
from distillkit.report import others, results
from distillkit.report.table import points
from distillkit.report.words import leaves

NO_MARKUP = str.maketrans({"|": "/", "<": "&lt;", "`": "'"})
FOLDED = 12  # rows of a table beyond which only the default config's stays in sight
NAMED = 8  # configs that a sentence or a cell names
WIDTH = 80  # characters of a line of parameters, where it can be broken

# Results


def baseline(recipe: Recipe, which: str) -> Mapping[str, Any] | None:
    """The accuracy of ``random`` or ``full`` to set beside this recipe's; None where there is nothing to compare."""
    found = recipe.get("baselines", {}).get(which)
    accuracy: Mapping[str, Any] | None = None if found is None else found["accuracy"]
    return None if found is None or found["recipe"] == recipe["name"] else accuracy


def starts_trained(recipe: Recipe) -> bool:
    """Whether the set's networks start from experts, which have seen real images."""
    return results.starts_trained(recipe["params"])


def is_comparable(recipe: Recipe) -> bool:
    """Whether networks were trained from scratch on the set, by the recipe that random images have, for no harm."""
    return not (recipe.get("schedule") or starts_trained(recipe) or (recipe.get("notes") or {}).get("attack"))


def marks(recipe: Recipe) -> str:
    """After the method, what keeps the accuracy from being compared with others'."""
    return results.marks(starts_trained(recipe), bool(recipe["notes"].get("attack")))


def before(recipe: Recipe) -> str:
    """The accuracy of the weights that a set's networks start from, in brackets, where it was measured."""
    start = recipe["results"].get("start")
    return f" ({100 * start['accuracy']['mean']:.2f} % before they see the set)" if start else ""


def over_random(recipe: Recipe) -> str:
    """Points of accuracy beyond as many random images, a dash where there is nothing to compare."""
    random = baseline(recipe, "random")
    if random is None or not is_comparable(recipe):
        return "–"
    return points(recipe["results"]["accuracy"]["mean"] - random["mean"])


def worth(recipe: Recipe) -> tuple[Figure | None, Figure | None]:
    """Relative gain and hard-label recovery, each where the set was measured as random images and all images were."""
    random, full = (baseline(recipe, which) for which in ("random", "full"))
    if full is None or recipe["method"] == "full" or recipe.get("soft_labels") or not is_comparable(recipe):
        return None, None
    own = measured(recipe["results"]["accuracy"])
    gain = None if random is None else relative_gain(own, measured(random), measured(full))
    return gain, hard_label_recovery(own, measured(full))


def measured(accuracy: Mapping[str, Any]) -> Measured:
    return Measured(accuracy["mean"], accuracy["std"], accuracy["runs"])


def worth_cells(recipe: Recipe) -> str:
    """Both as cells of a table."""
    gain, recovery = worth(recipe)
    return f"{in_percent(gain)} | {in_percent(recovery, 2)}"


def crossed(recipes: Sequence[Recipe]) -> tuple[list[str], list[list[str]]]:
    """The table of other networks, where there are any."""
    return others.cross_table(
        others_name(recipes[0]["evaluation"]["network"]),
        [
            others.Entry(
                code(recipe["name"]),
                measured(recipe["results"]["accuracy"]),
                {name: measured(it["accuracy"]) for name, it in recipe["results"].get("others", {}).items()},
            )
            for recipe in recipes
        ],
    )


def others_name(spec: Mapping[str, Any]) -> str:
    return str(spec["factory"] if "factory" in spec else NetworkSpec(**spec))


def unpackaged(recipes: Sequence[Recipe]) -> list[tuple[str, int | str, Mapping[str, Any]]]:
    """Baselines that are no configs: what they are, images per class, accuracy."""
    names = {recipe["name"] for recipe in recipes}
    found: dict[str, tuple[str, int | str, Mapping[str, Any]]] = {}
    for which in ("random", "full"):
        for recipe in recipes:
            baseline, each = recipe["baselines"][which], images_per_class(recipe)
            if baseline and baseline["recipe"] not in names:
                row = ("random images", each) if which == "random" else ("all images", "all")
                found[baseline["recipe"]] = (*row, baseline["accuracy"])
    return list(found.values())


# What is real


def content(recipe: Recipe) -> str:
    """How many images of which kind there are."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return f"{images['total']:,} imported"
    return f"{images['real']:,} real and {images['learned']:,} learned"


def origins(recipe: Recipe) -> list[str]:
    """How many images are unchanged, learned from a source image, and made from no single one, for a table."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return ["not known"] * 3
    from_source = images["learned_from_source"]
    return [f"{count:,}" for count in (images["real"], from_source, images["learned"] - from_source)]


def start_is_unknown(recipe: Recipe) -> bool:
    return bool(recipe["method"] == "imported" and not recipe["images"]["learned_from_source"])


def kept_start(recipe: Recipe) -> str:
    """Of the images that were learned from a source image, how many have none nearer."""
    started = recipe["images"]["learned_from_source"]
    if start_is_unknown(recipe):
        return "not known"
    return f"{recipe['nearest_source']['from_start']:,} of {started:,}" if started else "–"


# How networks see images


def zca_words(zca: Mapping[str, Any]) -> str:
    """How the whitening was fitted, after the parameters of the data where they are known."""
    eps = f", with eps {zca['eps']:g}" if "eps" in zca else ""
    return f"fitted on the training images' pixels{eps}"


def whitened_words(zca: Mapping[str, Any]) -> str:
    return (
        f"They are to be **ZCA-whitened** before training, and test images likewise ({zca_words(zca)}): experts "
        "and all networks saw whitened images only. The whitening is in the config's `distilled.safetensors`."
    )


# How the sets were made


def imported_files(recipe: Recipe) -> str:
    """The files that an imported set was made from, as far as it tells, and how their images were saved."""
    told = recipe["notes"].get("imported", {})
    files = told.get("files") or [{"name": recipe["params"]["file"], "sha256": recipe["params"]["sha256"]}]
    named = [f"{code(file['name'])} (SHA-256 {code(file['sha256'])})" for file in files]
    how = [f"saved as {told['saved_as']}"] if "saved_as" in told else []
    if told.get("saved_as") == "normalised" and {"mean", "std"} <= told.keys():
        how = [f"saved as normalised with mean {shortest(told['mean'])} and deviation {shortest(told['std'])}"]
    labels = [f"labels: {told['labels']}"] if "labels" in told else []
    return "; ".join([*named, *how, *labels])


def parameter_table(recipes: Sequence[Recipe]) -> tuple[list[str], dict[str, list[str]]]:
    """The methods of ours that have parameters beside ``ipc``, and for each parameter a cell for each of them.

    Where one recipe names a parameter, those that leave it out show the default that they were made with.
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
    """The recipe's parameters, those left out as well; None where this version cannot read them."""
    try:
        return read_recipe({"recipes": {recipe["name"]: recipe["params"]}}, recipe["name"])
    except ParamsError:
        return None


def defaults(recipe: Recipe) -> Mapping[str, Any] | None:
    """All parameters in force by their paths; None where this version cannot read them."""
    if (read := settings(recipe)) is None:
        return None
    optim = {} if read.optim is None else {"optim": asdict(read.optim)}
    return dict(leaves({**asdict(cast(Any, read.method)), **optim}))


def agreed(key: str, column: Mapping[str, Mapping[str, Any]], known: Mapping[str, Mapping[str, Any] | None]) -> str:
    """The one value where all recipes of a method agree, else each value with those that have it; a dash for none."""
    values = [found[key] for found in column.values() if key in found]
    names: dict[str, list[str]] = {}
    for name, found in column.items():
        names.setdefault(in_force(key, found, known[name], values), []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{value} ({named(having)})" for value, having in names.items())


def named(configs: Sequence[str]) -> str:
    """The names of configs in a sentence; of very many the first."""
    more = f" and {len(configs) - NAMED:,} more" if len(configs) > NAMED + 1 else ""
    return ", ".join(f"`{name}`" for name in (configs[:NAMED] if more else configs)) + more


def in_force(key: str, found: Mapping[str, Any], known: Mapping[str, Any] | None, named: Sequence[Any]) -> str:
    """A recipe's value of a parameter, given or default, which is written as others (``named``) write the same."""
    if key in found:
        return shown(found[key])
    if known is None:
        return "not given"
    value = known.get(key)
    return "–" if value is None else shown(next((other for other in named if other == value), value))


def outcome_table(recipes: Sequence[Recipe]) -> tuple[list[str], list[list[str]]]:
    """What was chosen or learned on the way: its names, and a row of cells for each recipe that has any of it."""
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


def shown(value: Any) -> str:
    """A parameter in a table."""
    return code(value, 100) if isinstance(value, str) else json.dumps(value).translate(NO_MARKUP)


def params_lines(sections: Mapping[str, Any], indent: str = "") -> str:
    """Sections of params.yaml in YAML, of which JSON is a part; without nulls, which are defaults."""
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


def in_words(text: str) -> str:
    """What the publisher wrote, as one line of text without tags and cells."""
    return presentable(" ".join(text.split())).translate(NO_MARKUP)


def class_list(names: Sequence[str]) -> str:
    return ", ".join(code(name) for name in names)


def shortest(values: Sequence[float]) -> str:
    """A list of float32 values with as many digits as tell them apart."""
    return f"[{', '.join(str(np.float32(value)) for value in values)}]"


def code(text: str, limit: int = 300) -> str:
    """Somebody else's text on one line, shown as it stands, but for what would move a cursor."""
    return "`" + textwrap.shorten(presentable(text).replace("`", "'").replace("|", "/"), limit, placeholder=" …") + "`"


WORDS: tuple[Any, ...] = (  # what the template of the card may call
    *(baseline, before, class_list, code, content, crossed, images_per_class, imported_files, in_words, is_comparable),
    *(kept_start, marks, origins, outcome_table, over_random, parameter_table, params_lines, shortest),
    *(starts_trained, unpackaged, whitened_words, worth_cells, zca_words),
)
