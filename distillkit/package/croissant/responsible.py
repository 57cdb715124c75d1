"""The responsible-AI part of croissant.json: origin, methods, limits and the publisher's statements.

It has the keys that NeurIPS 2026 requires of every dataset, and those about data collection.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.audit.result import audit_words
from distillkit.package.front_matter import Recipe, images_per_class
from distillkit.sources.licences import WEB, spdx

USES = "To train image classifiers of the source's classes on few images, and to study distillation."
UNSTATED = "The publisher of this package states nothing about it."


def responsible(recipes: Sequence[Recipe], default: Recipe) -> dict[str, Any]:
    """All recipes have one source and one measurement; ``rai`` of recipe.json has the publisher's statements."""
    said = default["rai"]
    maintenance = {"rai:dataReleaseMaintenancePlan": said["maintenance"]} if said["maintenance"] else {}
    return {
        "rai:dataCollection": " ".join(
            ["No image was collected for this package.", origin(recipes), *optional(said["collection"])]
        ),
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataLimitations": [
            "The accuracies hold for the network, the training and the test images that each recipe.json names; other "
            "networks, other training and other tasks than classification can give lower accuracies.",
            "A few images per class do not show how often anything occurs: do not estimate rates from them.",
            *optional(leaked(default.get("test", {}))),
            *optional(said["limitations"]),
        ],
        "rai:dataBiases": [
            "The set inherits gaps and biases of the source, and so few images can increase them; rare kinds of images "
            "may be missing.",
            *optional(said["biases"]),
        ],
        "rai:personalSensitiveInformation": [
            said["personal_information"] or UNSTATED,
            "A distilled set is not anonymised: real images in it are unchanged, and learned images can reveal what "
            "the source images showed.",
            *(f"Audit of {each['name']}: {audit_words(each['audit'])}" for each in recipes if "audit" in each),
        ],
        "rai:dataUseCases": [said["uses"] or USES],
        "rai:dataSocialImpact": said["social_impact"] or UNSTATED,
        "rai:hasSyntheticData": any(recipe["images"]["learned"] for recipe in recipes),
        **maintenance,
        "prov:wasDerivedFrom": derivation(default["provenance"]["source"]),
        "prov:wasGeneratedBy": [activity(recipe) for recipe in recipes],
    }


def leaked(test: Mapping[str, Any]) -> str | None:
    """A warning if some test images are known to be training images."""
    if not test.get("in_train"):
        return None
    return f"{test['in_train']:,} of the {test['images']:,} test images are training images: accuracies are too high."


def optional(text: str | None) -> list[str]:
    return [text] if text else []


def origin(recipes: Sequence[Recipe]) -> str:
    """Where the images come from, first those of imported configs."""
    names = [recipe["name"] for recipe in recipes if recipe["method"] == "imported"]
    imported = f"Other code made the images of {', '.join(names)}; its method is not recorded." if names else ""
    own = "All images come from the source or were made from its images." if len(names) < len(recipes) else ""
    return f"{imported} {own.replace('All', 'All other') if names else own}".strip()


def derivation(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The source: address, if it has one, revision and licence."""
    homepage = source.get("homepage", "")
    found = {
        "@id": homepage if WEB.fullmatch(homepage) else "",
        "@type": "prov:Entity",
        "prov:label": source["id"],
        "sc:version": source.get("revision", ""),
        "sc:citation": source.get("citation", ""),
        "sc:license": spdx(source["licence"]) or source["licence"].strip() or "unknown",
    }
    return [{key: value for key, value in found.items() if value}]


def activity(recipe: Recipe) -> dict[str, Any]:
    """How one recipe was made; recipe.json has all numbers."""
    images = recipe["images"]
    counts = f"{images['real']:,} unchanged, {images['learned']:,} learned"
    method = f"Method {recipe['method']}, {images_per_class(recipe)} images per class: {counts}."
    made = f"Made with distillkit {recipe['versions']['distilled']}"
    told = f"{made}; parameters and measurement are in {recipe['name']}/recipe.json."
    return {"@type": "prov:Activity", "prov:label": recipe["name"], "sc:description": f"{method} {told}"}
