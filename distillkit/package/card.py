"""The dataset card: front matter for the Hub and a page for people, written from recipe.json and nothing else."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import getmembers, isfunction
from pathlib import Path
from typing import Any

from distillkit.audit.result import audit_words
from distillkit.base.about import options_of
from distillkit.evaluation.protocol import labels_words, schedule_words
from distillkit.package import card_tables, card_words
from distillkit.package.card_box import box
from distillkit.package.card_tables import FOLDED, is_comparable, origins, settings, starts_trained
from distillkit.package.card_words import about
from distillkit.package.croissant import USES
from distillkit.package.front_matter import Recipe, front_matter
from distillkit.package.sign_offs import Filed
from distillkit.report.table import CROSS_WORDS
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
WORDS: dict[str, Any] = {each.__name__: each for each in (audit_words, labels_words, schedule_words)}  # in the template
for module in (card_tables, card_words):
    WORDS |= getmembers(module, isfunction)


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
        imported_licences=grouped(recipes, lambda recipe: [licence_of_imported(recipe)]),
        held_out=any(key.endswith("holdout") for recipe in recipes for key, _ in leaves(recipe["params"])),
        all_imported=methods(recipes) == ["imported"],
        uses_experts=any(about(method).experts for method in methods(recipes)),
        inputs={path: md5 for recipe in recipes for path, md5 in recipe["inputs"].items()},
        papers=papers(recipes),
        box=box(first, filed),
        most_classes=CLASSES,
        cross_words=CROSS_WORDS,
        many=len(recipes) > FOLDED,
        folded=FOLDED,
        options=grouped(recipes, lambda recipe: [sentence for _, sentence in options_in(recipe)]),
        zca=whitening(first),
        uses=first["rai"]["uses"] or USES,
        stated=[(what, first["rai"][key]) for key, what in STATED.items() if first["rai"][key]],
        **WORDS,
    )
    return f"{card}\n"


# Recipes


def methods(recipes: Sequence[Recipe]) -> list[str]:
    """Every method once, imported sets last, because the page lists their files after them."""
    return sorted(dict.fromkeys(recipe["method"] for recipe in recipes), key=lambda method: method == "imported")


def groups(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """The recipes of each group that the template names."""
    return {
        "ordered": [recipe for recipe in recipes if about(recipe["method"]).ordered],
        "attacks": [recipe for recipe in recipes if recipe["notes"].get("attack")],
        "apart": [recipe for recipe in recipes if not is_comparable(recipe)],
        "unnamed": [recipe for recipe in recipes if origins(recipe)[2] not in ("0", "not known")],
        "trained": [recipe for recipe in recipes if starts_trained(recipe)],
        "imported": [recipe for recipe in recipes if recipe["method"] == "imported"],
        "learned": [recipe for recipe in recipes if recipe["nearest_source"]],
        "soft": [recipe for recipe in recipes if recipe.get("soft_labels")],
        "scheduled": [recipe for recipe in recipes if recipe.get("schedule")],
        "audited": [recipe for recipe in recipes if "audit" in recipe],
    }


# Measurement and source


def whitening(recipe: Recipe) -> Mapping[str, Any]:
    """What is known about the ZCA whitening; empty if there is none."""
    if "zca" not in recipe["normalisation"]:
        return {}
    params = recipe["pipeline"].get("data", {}).get("normalisation") or {}
    return {**recipe["normalisation"]["zca"], **params}


def grouped(recipes: Sequence[Recipe], texts: Callable[[Recipe], Iterable[str]]) -> dict[str, list[Recipe]]:
    """Recipes by each of their texts that is not empty."""
    found: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        for text in dict.fromkeys(filter(None, texts(recipe))):
            found.setdefault(text, []).append(recipe)
    return found


def papers(recipes: Sequence[Recipe]) -> list[str]:
    """BibTeX of the papers that the methods and their options come from."""
    named = dict.fromkeys(method for r in recipes for method in (r["method"], *about(r["method"]).builds_on))
    of_options = [paper for recipe in recipes for paper, _ in options_in(recipe)]
    return list(dict.fromkeys([*filter(None, (about(method).paper for method in named)), *of_options]))


def options_in(recipe: Recipe) -> Iterable[tuple[str, str]]:
    """Paper and description of each option of the method; none if this version cannot read the recipe."""
    return () if (read := settings(recipe)) is None else options_of(read.method)
