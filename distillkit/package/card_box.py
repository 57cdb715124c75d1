"""The box at the top of a dataset card: what a reviewer asks first, of the default config."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillkit.base.errors import counted
from distillkit.evaluation.protocol import labels_words
from distillkit.package.card_tables import (
    baseline,
    before,
    code,
    in_words,
    is_comparable,
    marks,
    start_is_unknown,
    starts_trained,
)
from distillkit.package.front_matter import Recipe, images_per_class
from distillkit.package.sign_offs import Filed
from distillkit.sources.cleaning.noise import words
from distillkit.sources.licences import licence_of_imported, spdx

SHOWN = 5  # sign-offs in the box; show lists all of them


def box(recipe: Recipe, title: str, percent: Any, filed: Sequence[Filed]) -> list[tuple[str, str]]:
    """The rows: what each is called, and what it says. ``percent`` writes an accuracy, ``title`` is the method's."""
    images, shape = recipe["images"], recipe["image_shape"]
    size = f"{shape[1]} x {shape[2]} pixels, {'grey' if shape[0] == 1 else 'colour'}"
    many = f"{images['total']:,} in {counted(len(recipe['class_names']), 'class')}, {size}"
    rows = [
        ("Method", f"{title}{marks(recipe)}"),
        ("Images", f"{many}; {images_per_class(recipe)} of each class (IPC)"),
        ("Real", real(recipe)),
        ("Labels", labels_words(recipe.get("soft_labels"))),
        ("Training labels", noisy(recipe)),
        ("Test accuracy", f"**{percent(recipe['results']['accuracy'])}** {how(recipe)}"),
        *beside(recipe, percent),
        ("Privacy audit", audited(recipe)),
        ("Personal data", personal(recipe)),
        ("Licence", licence_words(recipe)),
        ("Published", publisher(recipe["publication"])),
        ("Verified", "; ".join(verified(recipe, filed))),
    ]
    return [(name, said) for name, said in rows if said]


def noisy(recipe: Recipe) -> str:
    """That labels of the training images are wrong, where they are known to be."""
    if (found := recipe.get("label_noise")) is None:
        return ""
    params = recipe["provenance"]["source"]["params"]["label_noise"]
    return f"**noisy**: {words(params, found['changed'], found['images'])}; test labels are the source's"


def real(recipe: Recipe) -> str:
    """Which share of the images is real, in percent, and what the others are."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return "not known: all were imported, and what they started from is not recorded"
    parts = {
        "are unchanged source images": images["real"],
        "were learned from a source image": images["learned_from_source"],
        "were made from the source, but from no single image": images["learned"] - images["learned_from_source"],
    }
    total = images["total"]
    return "; ".join(f"{100 * count / total:.4g} % {what}" for what, count in parts.items() if count)


def how(recipe: Recipe) -> str:
    """What was trained on which test images."""
    tested = f"on {counted(recipe['test']['images'], 'test image')}"
    if leaked := recipe["test"].get("in_train"):
        tested += f" (**{leaked:,} of them are training images, too**)"
    if starts_trained(recipe):
        return f"{tested}, of networks trained on real images before{before(recipe)} and then on this set"
    return f"{tested}, of networks trained from scratch on this set"


def beside(recipe: Recipe, percent: Any) -> Iterator[tuple[str, str]]:
    """The accuracies to compare with, where they were measured."""
    if (random := baseline(recipe, "random")) is not None and is_comparable(recipe):
        labels = "; with hard labels" if recipe.get("soft_labels") else ""
        yield "As many random images", f"{percent(random)}{labels}"
    if (full := baseline(recipe, "full")) is not None:
        yield "All training images", percent(full)


def audited(recipe: Recipe) -> str:
    """Whether an attack was tried; what it found is told where there is room."""
    if recipe.get("audit") is None:
        return "none was made: how well members of the training images can be told was not measured"
    return "an attack was tried: what it found is [below](#limits)"


def personal(recipe: Recipe) -> str:
    said = recipe["rai"]["personal_information"]
    return "the publisher states nothing about it" if said is None else f"the publisher states: {in_words(said)}"


def publisher(publication: Mapping[str, Any]) -> str:
    """By whom, where, when and as which version, as far as that is stated."""
    parts = {
        "by": ", ".join(code(who) for who in publication["creators"]),
        "at": f"<{publication['url']}>" if publication["url"] else "",
        "on": publication["published"],
        "as version": publication["version"],
    }
    said = " ".join(f"{word} {part}" for word, part in parts.items() if part)
    return said or "the publisher states neither who, where nor when"


def licence_words(recipe: Recipe) -> str:
    """The source's and that of imported images, by SPDX where that has a name for them."""
    text, imported = recipe["provenance"]["source"]["licence"].strip(), licence_of_imported(recipe)
    if text in ("", "unknown"):
        found = "**not recorded**: look it up at the source before you share this"
    else:
        found = f"{code(by_spdx(text))}, the source's"
    if not imported:
        return found
    own = "is not recorded" if imported == "unknown" else code(by_spdx(imported))
    return f"{found}; that of the imported images {own}"


def by_spdx(text: str) -> str:
    return ", ".join(spdx(part) or part for part in text.split(", "))


def verified(recipe: Recipe, filed: Sequence[Filed]) -> Iterator[str]:
    """Who trained on the config again, when, and what came of it."""
    own = [each for each in filed if each.sign_off.recipe == recipe["name"]]
    for each in own[:SHOWN]:
        said = each.sign_off
        outcome = "the claim holds" if said.match else "**the claim did not hold**"
        runs = counted(said.found.accuracy.runs, "network")
        yield f"by {code(each.by)} on {said.date}: {100 * said.found.accuracy.mean:.2f} % of {runs}, {outcome}"
    if len(own) > SHOWN:
        yield f"and {len(own) - SHOWN:,} more"
    if not own:
        yield "by nobody else, as far as this card knows"
    yield "`distillkit verify REPOSITORY` does it again, `distillkit show` lists later sign-offs"
