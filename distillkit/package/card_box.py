"""The box at the top of a dataset card: what a reviewer asks first, of the default config."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from distillkit.audit.result import audit_words
from distillkit.base.about import About
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
from distillkit.sources.cleaning.noise import words as noise_words
from distillkit.sources.licences import licence_of_imported, spdx

UNCHANGED = "are unchanged images of the source"  # told of every set
SHOWN = 5  # sign-offs in the box; show lists all of them
LOOK_UP = "look it up at the source before you share this"
NO_CONCLUSION = (
    "that the images are anonymous; that another network, other training or other test images give this accuracy; "
    "that another seed gives as good a set; anything about how often something occurs in the source ([limits](#limits))"
)


class Words(NamedTuple):
    """How the card writes an accuracy, a network and a source."""

    percent: Callable[[Mapping[str, Any]], str]
    network: Callable[[Mapping[str, Any]], str]
    source: Callable[[Mapping[str, Any]], str]


def box(recipe: Recipe, about: About, words: Words, filed: Sequence[Filed]) -> list[tuple[str, str]]:
    """The rows: what each is called, and what it says. ``about`` is of the recipe's method."""
    images, shape = recipe["images"], recipe["image_shape"]
    size = f"{shape[1]} x {shape[2]} pixels, {'grey' if shape[0] == 1 else 'colour'}"
    many = f"{images['total']:,} in {counted(len(recipe['class_names']), 'class')}, {size}"
    rows = [
        ("Method", f"{about.title}{marks(recipe)}: {first_sentence(about.summary)} [More](#how-it-was-made)"),
        ("Images", f"{many}; {images_per_class(recipe)} of each class (IPC)"),
        ("Made from", f"{words.source(recipe['provenance']['source'])}; [details](#source-and-licence)"),
        ("Real", real(recipe)),
        ("Labels", labels_words(recipe.get("soft_labels"))),
        ("Training labels", noisy(recipe)),
        ("Test accuracy", f"**{words.percent(recipe['results']['accuracy'])}** {how(recipe)}"),
        *beside(recipe, words.percent),
        ("Measured with", f"{measured(recipe, words.network)}; [details](#results)"),
        ("Privacy audit", audited(recipe)),
        ("Personal data", personal(recipe)),
        ("Licence", licence_words(recipe)),
        ("Published", publisher(recipe["publication"])),
        ("Verified", "; ".join(verified(recipe, filed))),
        ("How to load", loading(recipe)),
        ("Do not conclude", NO_CONCLUSION),
    ]
    return [(name, said) for name, said in rows if said]


def first_sentence(text: str) -> str:
    first, more, _ = text.partition(". ")
    return f"{first}." if more else first


def noisy(recipe: Recipe) -> str:
    """That labels of the training images are wrong, if they are known to be."""
    if (found := recipe.get("label_noise")) is None:
        return ""
    params = recipe["provenance"]["source"]["params"]["label_noise"]
    return f"**noisy**: {noise_words(params, found['changed'], found['images'])}; test labels are the source's"


def real(recipe: Recipe) -> str:
    """How many of the images are real, their share in percent, and what the others are."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return "not known: all were imported, and what they started from is not recorded"
    parts = {
        UNCHANGED: images["real"],
        "were learned from a source image": images["learned_from_source"],
        "were made from the source, but from no single image": images["learned"] - images["learned_from_source"],
    }
    total = images["total"]
    shares = {what: f"{100 * count / total:.4g} % ({count:,} of {total:,})" for what, count in parts.items()}
    return "; ".join(f"{share} {what}" for what, share in shares.items() if parts[what] or what == UNCHANGED)


def how(recipe: Recipe) -> str:
    """What was trained on which test images."""
    tested = f"on {counted(recipe['test']['images'], 'test image')}"
    if leaked := recipe["test"].get("in_train"):
        tested += f" (**{leaked:,} of them are training images, too**)"
    one = recipe["results"]["accuracy"]["runs"] == 1
    of = "one network" if one else "mean ± standard deviation of n networks, each"
    if starts_trained(recipe):
        return f"{tested}: {of} trained on real images before{before(recipe)} and then on this set"
    return f"{tested}: {of} trained from scratch on this set alone"


def measured(recipe: Recipe, network: Callable[[Mapping[str, Any]], str]) -> str:
    """Which network was trained for how long: by the order of the set, where it has one."""
    if schedule := recipe.get("schedule"):
        return f"{network(schedule['network'])}, trained in the order that the set has"
    training = recipe["evaluation"]["training"]
    trained = f"{counted(training['steps'], 'update')} of at most {counted(training['batch'], 'image')} each"
    return f"{network(recipe['evaluation']['network'])}, {trained}, the same for all configs"


def beside(recipe: Recipe, percent: Any) -> Iterator[tuple[str, str]]:
    """The accuracies to compare with, where they were measured."""
    if (random := baseline(recipe, "random")) is not None and is_comparable(recipe):
        labels = "; with hard labels" if recipe.get("soft_labels") else ""
        yield "As many random images", f"{percent(random)}{labels}"
    if (full := baseline(recipe, "full")) is not None:
        yield "All training images", percent(full)


def audited(recipe: Recipe) -> str:
    """What an audit found, if there was one."""
    if recipe.get("audit") is None:
        return (
            "**none was made of this config**: nobody has tested whether an outsider can find out which images it was "
            "made from"
        )
    return audit_words(recipe["audit"])


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
    known = text not in ("", "unknown")
    found = f"{code(by_spdx(text))}, the licence of the source" if known else f"**not recorded**: {LOOK_UP}"
    if not imported:
        return f"{found}; treat this set as under the same licence" if known else found
    own = "not recorded" if imported == "unknown" else code(by_spdx(imported))
    return f"{found}; that of the imported images is {own}"


def by_spdx(text: str) -> str:
    return ", ".join(spdx(part) or part for part in text.split(", "))


def verified(recipe: Recipe, filed: Sequence[Filed]) -> Iterator[str]:
    """Who trained on the config again, when, and what came of it."""
    own = [each for each in filed if each.sign_off.recipe == recipe["name"]]
    for each in own[:SHOWN]:
        said = each.sign_off
        outcome = "the claim holds" if said.match else "**the claim did not hold**"
        runs = counted(said.found.accuracy.runs, "network")
        found = f"{100 * said.found.accuracy.mean:.2f} % with {runs}"  # not as claims are written, which verify checks
        yield f"by {code(each.by)} on {said.date}, who found {found}: {outcome}"
    if len(own) > SHOWN:
        yield f"and {len(own) - SHOWN:,} more"
    if not own:
        yield "by nobody yet, as far as this card knows"
    yield "`distillkit verify` trains on it again ([how](#loading)), `distillkit show` lists later sign-offs"


def loading(recipe: Recipe) -> str:
    """Where it says how to load the set; of learned images, that they are not what a viewer shows."""
    if not recipe["images"]["learned"]:
        return "see [Loading](#loading)"
    return "see [Loading](#loading); train on the exact pixels, not on the previews that a viewer shows"
