"""The responsible-AI part of croissant.json: what was made how and from what, its limits, the publisher's own words.

Its keys are those that NeurIPS 2026 asks of every dataset, and the collection's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.package.front_matter import Recipe, images_per_class
from distillkit.sources.licences import WEB, spdx

USES = "To train image classifiers of the source's classes on few images, and to study distillation."
UNSTATED = "The publisher of this package states nothing about it."


def responsible(recipes: Sequence[Recipe], default: Recipe) -> dict[str, Any]:
    """Of all recipes, which have one source and one measurement; ``rai`` of recipe.json is the publisher's own word."""
    said = default["rai"]
    maintenance = {"rai:dataReleaseMaintenancePlan": said["maintenance"]} if said["maintenance"] else {}
    return {
        "rai:dataCollection": joined(
            "No image was collected for this package.",
            whence(recipes),
            said["collection"],
        ),
        "rai:dataCollectionType": ["Secondary Data analysis"],
        "rai:dataLimitations": [
            "The accuracies hold for the network, the training and the test images that each recipe.json names; other "
            "networks, other training and other tasks than classification may do less well.",
            "A few images a class do not show how often anything occurs: no rates can be read off them.",
            *given(leaked(default.get("test", {}))),
            *given(said["limitations"]),
        ],
        "rai:dataBiases": [
            "Gaps and biases of the source carry over, and so few images can deepen them; what is rare in a class may "
            "be missing.",
            *given(said["biases"]),
        ],
        "rai:personalSensitiveInformation": [
            said["personal_information"] or UNSTATED,
            "A distilled set is not anonymised: real images in it are unchanged, and learned images may show or give "
            "away what the source images showed.",
        ],
        "rai:dataUseCases": [said["uses"] or USES],
        "rai:dataSocialImpact": said["social_impact"] or UNSTATED,
        "rai:hasSyntheticData": any(recipe["images"]["learned"] for recipe in recipes),
        **maintenance,
        "prov:wasDerivedFrom": derivation(default["provenance"]["source"]),
        "prov:wasGeneratedBy": [activity(recipe) for recipe in recipes],
    }


def leaked(test: Mapping[str, Any]) -> str | None:
    """That some test images are training images, where that is known."""
    if not test.get("in_train"):
        return None
    return f"{test['in_train']:,} of the {test['images']:,} test images are training images, too: accuracies are high."


def given(text: str | None) -> list[str]:
    return [text] if text else []


def joined(*sentences: str | None) -> str:
    return " ".join(sentence for sentence in sentences if sentence)


def whence(recipes: Sequence[Recipe]) -> str:
    """Where the images come from, in all configs but those that were imported."""
    names = [recipe["name"] for recipe in recipes if recipe["method"] == "imported"]
    imported = f"Those of {', '.join(names)} were made elsewhere, by other code; how is not recorded." if names else ""
    own = "All are images of the source, or made from them." if len(names) < len(recipes) else ""
    return f"{imported} {own.replace('All', 'All others') if names else own}".strip()


def derivation(source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The source: its address where it has one, its revision and its licence."""
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
    """How one recipe was made, in numbers that recipe.json has in full."""
    images = recipe["images"]
    counts = f"{images['real']:,} unchanged, {images['learned']:,} learned"
    method = f"Method {recipe['method']}, {images_per_class(recipe)} images per class: {counts}."
    made = f"Made with distillkit {recipe['versions']['distilled']}"
    told = f"{made}; parameters and measurement are in {recipe['name']}/recipe.json."
    return {"@type": "prov:Activity", "prov:label": recipe["name"], "sc:description": f"{method} {told}"}
