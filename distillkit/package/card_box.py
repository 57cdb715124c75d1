"""The box at the top of a dataset card: a reviewer's first questions about the default config."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillkit.audit.result import audit_words
from distillkit.base.errors import counted
from distillkit.evaluation.protocol import labels_words
from distillkit.package.card_tables import (
    baseline,
    before,
    is_comparable,
    marks,
    start_is_unknown,
    starts_trained,
)
from distillkit.package.card_words import about, code, in_words, network, percent, source_name
from distillkit.package.front_matter import Recipe, images_per_class
from distillkit.package.sign_offs import Filed
from distillkit.sources.cleaning.noise import words as noise_words
from distillkit.sources.licences import licence_of_imported, spdx

UNCHANGED = "are unchanged images of the source"  # stated for every set
SHOWN = 5  # sign-offs in the box; show lists all of them
LOOK_UP = "look it up at the source before you share this"
NO_CONCLUSION = (
    "that the images are anonymous; that another network, other training or other test images give this accuracy; "
    "that another seed gives as good a set; anything about how often something occurs in the source ([limits](#limits))"
)


def box(recipe: Recipe, filed: Sequence[Filed]) -> list[tuple[str, str]]:
    """The rows as (name, text)."""
    images, shape = recipe["images"], recipe["image_shape"]
    size = f"{shape[1]} x {shape[2]} pixels, {'grey' if shape[0] == 1 else 'colour'}"
    many = f"{images['total']:,} in {counted(len(recipe['class_names']), 'class')}, {size}"
    first, more, _ = (method := about(recipe["method"])).summary.partition(". ")
    rows = [
        ("Method", f"{method.title}{marks(recipe)}: {first}{'.' * bool(more)} [More](#how-it-was-made)"),
        ("Images", f"{many}; {images_per_class(recipe)} of each class (IPC)"),
        ("Made from", f"{source_name(recipe['provenance']['source'])}; [details](#source-and-licence)"),
        ("Real", real(recipe)),
        ("Labels", labels_words(recipe.get("soft_labels"))),
        ("Training labels", noisy(recipe)),
        ("Test accuracy", f"**{percent(recipe['results']['accuracy'])}** {how(recipe)}"),
        *beside(recipe),
        ("Measured with", f"{measured(recipe)}; [details](#results)"),
        ("Privacy audit", audited(recipe)),
        ("Personal data", personal(recipe)),
        ("Licence", licence_words(recipe)),
        ("Published", publisher(recipe["publication"])),
        ("Verified", "; ".join(verified(recipe, filed))),
        ("How to load", loading(recipe)),
        ("Do not conclude", NO_CONCLUSION),
    ]
    return [(name, text) for name, text in rows if text]


def noisy(recipe: Recipe) -> str:
    """A warning if labels of the training images are known to be wrong."""
    if (found := recipe.get("label_noise")) is None:
        return ""
    params = recipe["provenance"]["source"]["params"]["label_noise"]
    return f"**noisy**: {noise_words(params, found['changed'], found['images'])}; test labels are the source's"


def real(recipe: Recipe) -> str:
    """The number and percentage of real images, and the origin of the others."""
    images = recipe["images"]
    if start_is_unknown(recipe):
        return "not known: all images were imported, without a record of what they started from"
    parts = {
        UNCHANGED: images["real"],
        "were learned from a source image": images["learned_from_source"],
        "were made from the source, but from no single image": images["learned"] - images["learned_from_source"],
    }
    total = images["total"]
    shares = {what: f"{100 * count / total:.4g} % ({count:,} of {total:,})" for what, count in parts.items()}
    return "; ".join(f"{share} {what}" for what, share in shares.items() if parts[what] or what == UNCHANGED)


def how(recipe: Recipe) -> str:
    """Which networks were trained, and the test images."""
    tested = f"on {counted(recipe['test']['images'], 'test image')}"
    if leaked := recipe["test"].get("in_train"):
        tested += f" (**{leaked:,} of them are training images, too**)"
    one = recipe["results"]["accuracy"]["runs"] == 1
    of = "one network" if one else "mean ± standard deviation of n networks, each"
    if starts_trained(recipe):
        return f"{tested}: {of} trained on real images first{before(recipe)}, then on this set"
    return f"{tested}: {of} trained from scratch on this set alone"


def measured(recipe: Recipe) -> str:
    """The network and its training; if the set has an order, the training follows it."""
    if schedule := recipe.get("schedule"):
        return f"{network(schedule['network'])}, trained in the set's own order"
    training = recipe["evaluation"]["training"]
    trained = f"{counted(training['steps'], 'update')} of at most {counted(training['batch'], 'image')} each"
    return f"{network(recipe['evaluation']['network'])}, {trained}, the same for all configs"


def beside(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """The accuracies to compare with, if they were measured."""
    if (random := baseline(recipe, "random")) is not None and is_comparable(recipe):
        labels = "; with hard labels" if recipe.get("soft_labels") else ""
        yield "As many random images", f"{percent(random)}{labels}"
    if (full := baseline(recipe, "full")) is not None:
        yield "All training images", percent(full)


def audited(recipe: Recipe) -> str:
    """What an audit found, if there was one."""
    if recipe.get("audit") is None:
        return (
            "**this config was not audited**: nobody has tested whether an outsider can find out which images it was "
            "made from"
        )
    return audit_words(recipe["audit"])


def personal(recipe: Recipe) -> str:
    text = recipe["rai"]["personal_information"]
    return "the publisher states nothing about it" if text is None else f"the publisher states: {in_words(text)}"


def publisher(publication: Mapping[str, Any]) -> str:
    """Who published it, where, when and as which version, as far as stated."""
    parts = {
        "by": ", ".join(code(who) for who in publication["creators"]),
        "at": f"<{publication['url']}>" if publication["url"] else "",
        "on": publication["published"],
        "as version": publication["version"],
    }
    text = " ".join(f"{word} {part}" for word, part in parts.items() if part)
    return text or "the publisher does not state by whom, where or when"


def licence_words(recipe: Recipe) -> str:
    """The licences of the source and of imported images, as SPDX identifiers if they exist."""
    text, imported = recipe["provenance"]["source"]["licence"].strip(), licence_of_imported(recipe)
    known = text not in ("", "unknown")
    found = f"{code(by_spdx(text))}, the licence of the source" if known else f"**not recorded**: {LOOK_UP}"
    if not imported:
        return f"{found}; treat this set as if it had the same licence" if known else found
    own = "not recorded" if imported == "unknown" else code(by_spdx(imported))
    return f"{found}; that of the imported images is {own}"


def by_spdx(text: str) -> str:
    return ", ".join(spdx(part) or part for part in text.split(", "))


def verified(recipe: Recipe, filed: Sequence[Filed]) -> Iterator[str]:
    """Who trained on the config again, when, and with what result."""
    own = [each for each in filed if each.sign_off.recipe == recipe["name"]]
    for each in own[:SHOWN]:
        accuracy = each.sign_off.found.accuracy
        outcome = "the claim holds" if each.sign_off.match else "**the claim did not hold**"
        found = f"{100 * accuracy.mean:.2f} % with {counted(accuracy.runs, 'network')}"  # unlike the format of claims
        yield f"by {code(each.by)} on {each.sign_off.date}, who found {found}: {outcome}"
    if len(own) > SHOWN:
        yield f"and {len(own) - SHOWN:,} more"
    if not own:
        yield "no sign-off yet"
    yield "`distillkit verify` checks the claim by new training ([how](#loading))"
    yield "`distillkit show` lists later sign-offs"


def loading(recipe: Recipe) -> str:
    """A link to the section about loading, and for learned images a warning about previews."""
    if not recipe["images"]["learned"]:
        return "see [Loading](#loading)"
    return "see [Loading](#loading); train on the exact pixels, not on the previews that a viewer shows"
