"""The front matter of a dataset card: what the Hub and ``datasets.load_dataset`` read, written from recipe.json."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from distillkit.sources.licences import licence, licence_identifier, licence_of_imported

Recipe = Mapping[str, Any]  # the content of a recipe.json
MOST_NAMES = 5_000  # of classes in all configs; with more, only the parquet files describe their columns
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
    if sum(len(recipe["class_names"]) for recipe in recipes) <= MOST_NAMES:
        DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def tags(recipes: Sequence[Recipe]) -> list[str]:
    """Search terms: the topic, the tools, the methods and the numbers of images per class."""
    methods = dict.fromkeys(recipe["method"] for recipe in recipes)
    sizes = sorted({size for recipe in recipes if isinstance(size := images_per_class(recipe), int)})
    fixed = ["dataset-distillation", "dataset-condensation", "dataset-compression", "synthetic", "distillkit", "dvc"]
    pruned = ["dataset-pruning"] if any(not recipe["images"]["learned"] for recipe in recipes) else []
    return [*fixed, *pruned, *methods, *(f"ipc-{ipc}" for ipc in sizes)]


def images_per_class(recipe: Recipe) -> int | str:
    """The number of images in every class; "all" for the full set; a dash if classes differ."""
    each: int | None = recipe["images"]["per_class"]
    return "all" if recipe["method"] == "full" else each or "–"


def size_category(images: int) -> str:
    return next((name for limit, name in SIZES if images < limit), "1M<n<10M")


def is_on_hub(source: Mapping[str, Any]) -> bool:
    return source["kind"] == "huggingface" and re.fullmatch(r"[\w.-]+/[\w.-]+", source["id"]) is not None


def shared_licence(source: Mapping[str, Any], recipes: Sequence[Recipe]) -> dict[str, Any]:
    """The licences of the source and of imported images; "unknown" for one that is not recorded."""
    found = licence(source)
    imported = [text for recipe in recipes for text in licence_of_imported(recipe).split(", ") if text]
    if found["license"] in ("other", "unknown") or not imported:
        return found
    known = found["license"] if isinstance(found["license"], list) else [found["license"]]
    others = [licence_identifier(text) or "unknown" for text in imported]
    names = list(dict.fromkeys([*known, *others]))
    return {"license": names[0] if len(names) == 1 else names}
