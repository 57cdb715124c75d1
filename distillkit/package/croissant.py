"""croissant.json: the package for machines, in the vocabulary of MLCommons Croissant 1.1 with its RAI extension.

It follows docs/croissant-spec-1.1.md of mlcommons/croissant, and is written from recipe.json and the checksums.

The same package gives the same bytes: the only date is the one that the publisher states.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distillkit.audit.result import audit_words
from distillkit.package.folders import CARD
from distillkit.package.front_matter import Recipe, images_per_class, tags
from distillkit.package.manifest import PARQUET, FileRecord
from distillkit.sources.licences import WEB, licence_of_imported, spdx

VERSION = "http://mlcommons.org/croissant/1.1"
CLASSES = "package.classes"  # no recipe's name has a dot
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
} | {
    term: f"cr:{term}"
    for term in (
        *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
        *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
        *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
        *("separator", "source", "subField", "transform"),
    )
}
FORMATS = {
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/x-parquet",
    ".png": "image/png",
    ".safetensors": "https://github.com/safetensors/safetensors",
}
COLUMNS = {  # the name on the Hub, type and content
    "image": ("sc:ImageObject", "The image in 8 bits: exact if it is real, else a preview, clipped to [0, 1]."),
    "label": ("sc:Integer", "The class, as its number in the list of classes."),
    "learned": ("sc:Boolean", "Whether the image was optimised or generated; the others are real."),
    "source_row": ("cr:Int64", "The row of this or of the original training image, from 0; -1: none or unknown."),
    "soft_label": ("cr:Float32", "The probability of each class, to train on in place of the label."),
    "step": ("cr:Int64", "The step of training that the image belongs to, from 0."),
    "pixels": ("cr:Float32", "A learned image in pixel space: (C, H, W). Empty for a real one: use image / 255."),
    "scale": ("cr:Float32", "The image in pixel space is image / 255 * scale + offset, exact; 1 for real images."),
    "offset": ("cr:Float32", "What to add to image / 255 * scale; 0 for real images."),
}
USES = "To train image classifiers of the source's classes on few images, and to study distillation."
UNSTATED = "The publisher of this package states nothing about it."


def document(
    name: str,
    recipes: Sequence[Recipe],
    default: str,
    columns: Mapping[str, Sequence[str]],
    files: Mapping[str, FileRecord],
) -> dict[str, Any]:
    """The package as Croissant, from the ``columns`` of each recipe's parquet file and the other ``files``."""
    first = next(recipe for recipe in recipes if recipe["name"] == default)
    source = first["provenance"]["source"]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSION,
        "name": name,
        "description": description(first),
        "license": licences(source, recipes),
        **published(first["publication"]),
        "keywords": tags(recipes),
        "citeAs": f"@misc{{{name}, title = {{{name}: a distilled dataset}}, note = {{Made from {source['id']}}}}}",
        **responsible(recipes, first),
        "distribution": [file_object(path, record) for path, record in sorted(files.items())],
        "recordSet": [
            classes(first["class_names"]),
            *(record_set(name, recipe, columns[recipe["name"]]) for recipe in recipes),
        ],
    }


def published(publication: Mapping[str, Any]) -> dict[str, Any]:
    """URL, creators, date and version, as far as the publisher states them; Croissant requires all but the version."""
    creators = [{"@type": "sc:Person", "name": who} for who in publication["creators"]]
    found = {"url": publication["url"], "creator": creators}
    found |= {"datePublished": publication["published"], "version": publication["version"]}
    return {key: value for key, value in found.items() if value}


def description(recipe: Recipe) -> str:
    """The default recipe in short; the card has the rest."""
    images, shape = recipe["images"], "x".join(map(str, recipe["image_shape"]))
    what = f"{images['total']:,} images of {shape} in {len(recipe['class_names']):,} classes"
    return (
        f"A distilled dataset: {what} that replace the training images of {recipe['provenance']['source']['id']}. "
        f"{images['real']:,} of them are unchanged, {images['learned']:,} were learned. {CARD} says how each config "
        "was made and how accurate networks trained on it are."
    )


def licences(source: Mapping[str, Any], recipes: Sequence[Recipe]) -> list[Any]:
    """The licences of the source and of imported images, as SPDX addresses where they exist."""
    found: list[Any] = [licence_of(part, source) for part in source["licence"].strip().split(", ")]
    for imported in dict.fromkeys(filter(None, map(licence_of_imported, recipes))):
        if imported == "unknown":
            found.append(named("the licence of the imported images is not recorded; look it up before you share them"))
        else:
            found += [licence_of(part, {}) for part in imported.split(", ")]
    return [part for place, part in enumerate(found) if part not in found[:place]]


def licence_of(text: str, source: Mapping[str, Any]) -> Any:
    known = spdx(text)
    if known is not None and " " not in known and not known.startswith("LicenseRef-"):
        return f"https://spdx.org/licenses/{known}.html"
    if text in ("", "unknown"):
        return named("none was recorded; look it up at the source before you share this")
    homepage = source.get("homepage", "")
    return named(text) | ({"url": homepage} if WEB.fullmatch(homepage) else {})


def named(text: str) -> dict[str, Any]:
    return {"@type": "sc:CreativeWork", "name": text}


def file_object(path: str, record: FileRecord) -> dict[str, Any]:
    ending = path[path.rindex(".") :]
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "contentSize": f"{record.size} B",
        "encodingFormat": FORMATS[ending],
        "sha256": record.sha256,
    }


# Records


def classes(names: Sequence[str]) -> dict[str, Any]:
    """The classes by their numbers, which labels refer to."""
    fields = [
        {"@type": "cr:Field", "@id": f"{CLASSES}/{column}", "name": column, "dataType": kind}
        for column, kind in (("label", "sc:Integer"), ("name", "sc:Text"))
    ]
    rows = [{f"{CLASSES}/label": label, f"{CLASSES}/name": name} for label, name in enumerate(names)]
    kind = {"@type": "cr:RecordSet", "@id": CLASSES, "name": CLASSES, "dataType": "sc:Enumeration"}
    return {**kind, "key": {"@id": f"{CLASSES}/label"}, "field": fields, "data": rows}


def record_set(package: str, recipe: Recipe, columns: Sequence[str]) -> dict[str, Any]:
    """One recipe's parquet file, with the names that the Hub gives to configs and columns."""
    name = recipe["name"] if recipe["name"] != package else f"record_set_{package}"
    images = recipe["images"]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"Method {recipe['method']}: {images['total']:,} images, {images['real']:,} of them unchanged.",
        "field": list(fields(name, recipe, columns)),
    }


def fields(name: str, recipe: Recipe, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    shapes = {"pixels": recipe["image_shape"], "soft_label": [len(recipe["class_names"])]}
    for column in columns:
        kind, what = COLUMNS[column]
        kind = "cr:Float16" if recipe.get("columns", {}).get(column) == "float16" else kind
        source: dict[str, Any] = {
            "fileObject": {"@id": f"{recipe['name']}/{PARQUET}"},
            "extract": {"column": column},
        }
        if column == "image":
            source["transform"] = {"jsonPath": "bytes"}
        shape = {"isArray": True, "arrayShape": ",".join(map(str, shapes[column]))} if column in shapes else {}
        refers = {"references": {"field": {"@id": f"{CLASSES}/label"}}} if column == "label" else {}
        yield {
            "@type": "cr:Field",
            "@id": f"{name}/{column}",
            "name": column,
            "description": what,
            "dataType": kind,
            "source": source,
            **shape,
            **refers,
        }


# Origin, methods, limits and the publisher's statements


def responsible(recipes: Sequence[Recipe], default: Recipe) -> dict[str, Any]:
    """The responsible-AI part: the keys that NeurIPS 2026 requires of every dataset, and those about data collection.

    All recipes have one source and one measurement; ``rai`` of recipe.json has the publisher's statements.
    """
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
            "The set inherits gaps and biases of the source, and a small number of images can increase them; rare "
            "kinds of images may be missing.",
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
