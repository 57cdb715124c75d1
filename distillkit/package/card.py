"""The dataset card: front matter for the Hub and a page for people, written from recipe.json and nothing else."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distillkit.audit.result import audit_words
from distillkit.base.about import About, options_of
from distillkit.base.errors import ParamsError, counted
from distillkit.data.augment import padding
from distillkit.evaluation.protocol import labels_words, schedule_words
from distillkit.matching.method import Selection
from distillkit.methods import method_called
from distillkit.networks.specs import NetworkSpec
from distillkit.package import card_tables
from distillkit.package.card_box import Words, box
from distillkit.package.card_tables import FOLDED, code, is_comparable, origins, settings, starts_trained
from distillkit.package.croissant.responsible import USES
from distillkit.package.front_matter import Recipe, front_matter, is_on_hub
from distillkit.package.sign_offs import Filed
from distillkit.package.storage import columns
from distillkit.process.progress import presentable
from distillkit.report.others import WORDS as CROSS_WORDS
from distillkit.report.words import leaves
from distillkit.sources.licences import licence_of_imported

TEMPLATE = Path(__file__).with_name("card.md.jinja")
CLASSES = 20  # names in a line; a longer list is folded
STATED = {  # headings for recipe.json's rai; the box has the personal data
    "collection": "Collection",
    "biases": "Biases",
    "limitations": "Limitations",
    "social_impact": "Social impact",
    "maintenance": "Maintenance",
}
SHARED = ("image_shape", "class_names", "normalisation", "evaluation", "versions", "test", "pipeline")
AUGMENTATIONS = {
    "none": "none",
    "simple": "a random shift, up to {pad} pixels, and a random flip of every image",
    "dsa": "differentiable siamese augmentation: one of {operations} for each batch",
    "combined": "one of {operations} for each learned image; a random shift, up to {pad} pixels, and a random flip for "
    "each real one",
}
NORMS = {
    "batch": "with batch normalisation",
    "instance": "with instance normalisation",
    "none": "without normalisation",
}


def card_text(
    name: str, recipes: Sequence[Recipe], default: str, infos: Mapping[str, Any], filed: Sequence[Filed] = ()
) -> str:
    """The README.md of package ``name`` with one config per recipe; ``infos`` has a ``datasets.DatasetInfo`` for each.

    ``filed`` are sign-offs of its recipes. All recipes come from the same source images and were measured by the same
    evaluation recipe.
    """
    from huggingface_hub import DatasetCard

    first = next(recipe for recipe in recipes if recipe["name"] == default)
    card = DatasetCard.from_template(
        front_matter(name, recipes, first, infos),
        template_path=str(TEMPLATE),
        name=name,
        recipes=recipes,
        default=first,
        **{key: first[key] for key in SHARED},
        source=first["provenance"]["source"],
        source_images=first["provenance"].get("source_images", {}),
        methods={method: about(method).summary for method in methods(recipes)},
        **groups(recipes),
        imported_licences=grouped(recipes, licence_of_imported),
        held_out=any(key.endswith("holdout") for recipe in recipes for key, _ in leaves(recipe["params"])),
        all_imported=methods(recipes) == ["imported"],
        uses_experts=any(about(method).experts for method in methods(recipes)),
        inputs={path: md5 for recipe in recipes for path, md5 in recipe["inputs"].items()},
        papers=papers(recipes),
        box=box(first, about(first["method"]), Words(percent, network, source_name), filed),
        most_classes=CLASSES,
        cross_words=CROSS_WORDS,
        many=len(recipes) > FOLDED,
        folded=FOLDED,
        options=options(recipes),
        zca=whitening(first),
        uses=first["rai"]["uses"] or USES,
        stated=[(what, first["rai"][key]) for key, what in STATED.items() if first["rai"][key]],
        **{function.__name__: function for function in (*card_tables.WORDS, *columns.WORDS, *WORDS)},
    )
    return f"{card}\n"


# Recipes


def methods(recipes: Sequence[Recipe]) -> list[str]:
    """Every method once, imported sets last, because the page lists their files after them."""
    return sorted(dict.fromkeys(recipe["method"] for recipe in recipes), key=lambda method: method == "imported")


def title(method: str) -> str:
    return about(method).title


def about(method: str) -> About:
    """The description of a method; if this version does not know it, a reference to recipe.json."""
    try:
        return method_called(method).about
    except ParamsError:
        return About(method.capitalize(), "See `recipe.json`.")


GROUPS: Mapping[str, Callable[[Recipe], Any]] = {  # in the template: whether a recipe belongs to each
    "ordered": lambda recipe: about(recipe["method"]).ordered,
    "attacks": lambda recipe: recipe["notes"].get("attack"),
    "apart": lambda recipe: not is_comparable(recipe),
    "unnamed": lambda recipe: origins(recipe)[2] not in ("0", "not known"),
    "trained": starts_trained,
    "imported": lambda recipe: recipe["method"] == "imported",
    "learned": lambda recipe: recipe["nearest_source"],
    "soft": lambda recipe: recipe.get("soft_labels"),
    "scheduled": lambda recipe: recipe.get("schedule"),
    "audited": lambda recipe: "audit" in recipe,
}


def groups(recipes: Sequence[Recipe]) -> dict[str, Any]:
    return {name: [recipe for recipe in recipes if belongs(recipe)] for name, belongs in GROUPS.items()}


def percent(accuracy: Mapping[str, Any]) -> str:
    """Mean ± standard deviation (n); one network has no deviation."""
    spread = f" ± {100 * accuracy['std']:.2f}" if accuracy["runs"] > 1 else ""
    return f"{100 * accuracy['mean']:.2f}{spread} % (n = {accuracy['runs']})"


def share(recipe: Recipe) -> str:
    """The set's bytes as a share of the source's."""
    bytes_kept = recipe["storage"]["safetensors"] + recipe["storage"]["parquet"]
    return f"{100 * bytes_kept / recipe['storage']['source_train']:.1f} %"


def distance(value: float) -> str:
    return f"{value:.3f}" if value >= 0.01 or value == 0 else f"{value:.2g}"


# Measurement and source


def whitening(recipe: Recipe) -> Mapping[str, Any]:
    """What is known about the ZCA whitening; empty if there is none."""
    if "zca" not in recipe["normalisation"]:
        return {}
    params = recipe["pipeline"].get("data", {}).get("normalisation") or {}
    return {**recipe["normalisation"]["zca"], **params}


def source_name(source: Mapping[str, Any]) -> str:
    """The source in words; they say whether its name is an id on the Hub."""
    if source["kind"] == "digits":
        return "scikit-learn's digits (`sklearn.datasets.load_digits`)"
    if source["kind"] == "torchvision":
        return f"torchvision's {code(source['id'])}"
    if source["kind"] == "python":
        return f"{code(source['id'])}, images given in Python"
    return f"{code(source['id'])} on the Hub" if is_on_hub(source) else f"the folder {code(source['id'])}"


def grouped(recipes: Sequence[Recipe], text: Callable[[Recipe], str]) -> dict[str, list[Recipe]]:
    """Recipes by their text; recipes without a text are left out."""
    found: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        found.setdefault(text(recipe), []).append(recipe)
    return {words: those for words, those in found.items() if words}


def names(recipes: Sequence[Recipe]) -> str:
    return card_tables.named([recipe["name"] for recipe in recipes])


def network(spec: Mapping[str, Any]) -> str:
    """The evaluation network in words, with its name in papers."""
    if spec.get("factory", "").startswith("__main__:"):
        return f"{code(spec['factory'])} (of a notebook or script that is in no package: nobody else can check it)"
    if "factory" in spec:
        return f"{code(spec['factory'])} (not part of distillkit: install its code and name it with `--network`)"
    built = NetworkSpec(**spec)
    blocks = f"{counted(built.depth, 'block')} of {built.width} channels"
    return f"{built} ({blocks if built.name == 'convnet' else 'for small images'}, {NORMS[built.norm]})"


def augmentation(spec: Mapping[str, Any], side: int) -> str:
    return AUGMENTATIONS[spec["kind"]].format(operations=", ".join(spec["operations"]), pad=padding(spec["pad"], side))


def papers(recipes: Sequence[Recipe]) -> list[str]:
    """BibTeX of the papers that the methods and their options come from."""
    named = dict.fromkeys(method for r in recipes for method in (r["method"], *about(r["method"]).builds_on))
    of_options = [paper for recipe in recipes for paper, _ in options_of(method_of(recipe))]
    return list(dict.fromkeys([*filter(None, (about(method).paper for method in named)), *of_options]))


def options(recipes: Sequence[Recipe]) -> dict[str, list[Recipe]]:
    """Descriptions of the methods' options, each with the recipes that use it."""
    found: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        for sentence in dict.fromkeys(sentence for _, sentence in options_of(method_of(recipe))):
            found.setdefault(sentence, []).append(recipe)
    return found


def method_of(recipe: Recipe) -> Selection | None:
    """The method with its settings, if this version of distillkit can read them."""
    return None if (read := settings(recipe)) is None else read.method


def number(value: float) -> str:
    return f"{value:g}"


def link(address: str) -> str:
    """A web address as a link, anything else as code."""
    return f"<{address}>" if re.fullmatch(r"https?://[^\s<>]+", address) else code(address)


def quoted(text: str) -> str:
    """Text from outside, safe inside a code fence."""
    return presentable(text).strip().replace("```", "'''")


WORDS: tuple[Any, ...] = (  # functions for the template, besides those of the tables
    *(augmentation, distance, labels_words, link, names, network, number, percent, quoted, schedule_words, share),
    *(source_name, title, audit_words),
)
