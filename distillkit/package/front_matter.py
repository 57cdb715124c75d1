"""The front matter of a dataset card: what the Hub and ``datasets.load_dataset`` read, written from recipe.json."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

Recipe = Mapping[str, Any]  # the content of a recipe.json

# The Hub's identifiers, https://huggingface.co/docs/hub/repositories-licenses
LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr
lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
WEB = re.compile(r"https?://[^\s<>\"]+")  # no other scheme is ever a link
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def front_matter(name: str, recipes: Sequence[Recipe], default: Recipe, infos: Mapping[str, Any]) -> Any:
    """The ``DatasetCardData`` that the Hub and ``load_dataset`` read."""
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    source = default["provenance"]["source"]
    data = DatasetCardData(
        pretty_name=name,
        **shared_licence(source, recipes),
        task_categories=["image-classification"],
        size_categories=[size_category(max(recipe["images"]["total"] for recipe in recipes))],
        source_datasets=[source["id"]] if is_on_hub(source) else None,  # ids of the Hub only
        tags=tags(recipes),
        configs=[
            {"config_name": name, "data_files": [{"split": "train", "path": f"{name}/train-*.parquet"}]}
            | ({"default": True} if name == default["name"] else {})
            for name in (recipe["name"] for recipe in recipes)
        ],
    )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def tags(recipes: Sequence[Recipe]) -> list[str]:
    """The topic, the tools, the methods and the numbers of images per class."""
    methods = dict.fromkeys(recipe["method"] for recipe in recipes)
    sizes = sorted({size for recipe in recipes if isinstance(size := images_per_class(recipe), int)})
    fixed = ("dataset-distillation", "dataset-condensation", "synthetic", "distillkit", "dvc")
    return [*fixed, *methods, *(f"ipc-{ipc}" for ipc in sizes)]


def images_per_class(recipe: Recipe) -> int | str:
    """The number in every class; "all" for the full set; a dash where classes differ."""
    each: int | None = recipe["images"]["per_class"]
    return "all" if recipe["method"] == "full" else each or "–"


def size_category(images: int) -> str:
    return next((name for limit, name in SIZES if images < limit), "1M<n<10M")


def is_on_hub(source: Mapping[str, Any]) -> bool:
    return source["kind"] == "huggingface" and re.fullmatch(r"[\w.-]+/[\w.-]+", source["id"]) is not None


def shared_licence(source: Mapping[str, Any], recipes: Sequence[Recipe]) -> dict[str, Any]:
    """The source's licence and, where images were imported, whose own is not recorded, that there is an unknown one."""
    found = licence(source)
    if found["license"] in ("other", "unknown") or all(recipe["method"] != "imported" for recipe in recipes):
        return found
    known = found["license"] if isinstance(found["license"], list) else [found["license"]]
    return {"license": [*known, "unknown"]}


def licence(source: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded licence as the Hub's ``license`` and, where it has no identifier, ``license_name`` and ``_link``."""
    text, homepage = source["licence"].strip(), source.get("homepage", "")
    homepage = homepage if WEB.fullmatch(homepage) else ""
    known = [licence_identifier(part) for part in text.split(", ")]
    if not text:
        return {"license": "unknown"}
    if None not in known:
        return {"license": known[0] if len(known) == 1 else known}
    address = re.search(r"https?://[^\s,;<>()]+", text)
    words = re.findall(r"[a-z0-9.]+", (text.replace(address[0], " ") if address else text).lower())
    name = "-".join(words[:8]).strip(".-")
    found = {"license_name": "" if name == "other" else name, "license_link": address[0] if address else homepage}
    return {"license": "other"} | {key: value for key, value in found.items() if value}


def licence_identifier(text: str) -> str | None:
    """The Hub's identifier for a licence as people write it, such as "CC BY 4.0" or "MIT License"; None without one."""
    words = re.findall(r"[a-z0-9.]+", text.lower())
    candidates = ("-".join(words), "-".join(word for word in words if word not in ("the", "license", "licence")))
    return next((candidate for candidate in candidates if candidate in LICENCES.split()), None)
