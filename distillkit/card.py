"""The dataset card: front matter for the Hub and a page for people, written from recipe.json and nothing else."""

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distillkit.networks import NetworkSpec

Recipe = Mapping[str, Any]  # the content of a recipe.json

TEMPLATE = Path(__file__).with_name("card.md.jinja")

# The Hub's identifiers, https://huggingface.co/docs/hub/repositories-licenses
LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0
cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr
lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unknown unlicense wtfpl zlib
"""
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

TITLES = {"mtt": "MTT", "selmatch": "SelMatch"}
DESCRIPTIONS = {
    "full": "Every training image of the source, unchanged.",
    "random": "Of every class, `ipc` real images drawn without replacement, unchanged.",
    "window": "Of every class, `ipc` real images that are neighbours when the class is ranked by difficulty, from "
    "`window_start` on (a fraction of the class, hardest first), unchanged.",
    "confident": "Of every class, the `ipc` real images whose label the experts found most probable, unchanged.",
    "mtt": "Matching training trajectories (Cazenavette et al., CVPR 2022). Starting from real images, all images are "
    "changed by gradient steps until a network trained on them moves through its parameters as the experts did.",
    "selmatch": "Window selection and partial trajectory matching (Lee & Chung, ICML 2024). Of every class, `ipc` real "
    "images are selected: neighbours when the class is ranked by difficulty, from `window_start` on (a fraction of "
    "the class, hardest first), unless `start` says otherwise. A share `distill_fraction` of them, the easier end of "
    "the window, is then learned as in MTT; the rest stays real.",
}
PAPERS = {
    "selmatch": """\
@inproceedings{lee2024selmatch,
  title     = {{SelMatch}: Effectively Scaling Up Dataset Distillation via Selection-Based Initialization
               and Partial Updates by Trajectory Matching},
  author    = {Lee, Yongmin and Chung, Hye Won},
  booktitle = {International Conference on Machine Learning},
  year      = {2024},
  note      = {arXiv:2406.18561}
}""",
    "mtt": """\
@inproceedings{cazenavette2022mtt,
  title     = {Dataset Distillation by Matching Training Trajectories},
  author    = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022},
  note      = {arXiv:2203.11932}
}""",
}
BUILDS_ON = {"selmatch": ("selmatch", "mtt"), "window": ("selmatch",), "mtt": ("mtt",)}

AUGMENTATIONS = {
    "none": "none",
    "simple": "a random shift and flip of every image",
    "dsa": "differentiable siamese augmentation: one of {operations} for each batch",
    "combined": "one of {operations} for each learned image, a random shift and flip for each real one",
}
NORMS = {
    "batch": "with batch normalisation",
    "instance": "with instance normalisation",
    "none": "without normalisation",
}


def card_text(name: str, recipes: Sequence[Recipe], default: str, infos: Mapping[str, Any]) -> str:
    """The README.md of package ``name`` with one config a recipe; ``infos`` holds a ``datasets.DatasetInfo`` for each.

    All recipes come from the same source images and were measured by the same evaluation recipe.
    """
    from huggingface_hub import DatasetCard

    first = next(recipe for recipe in recipes if recipe["name"] == default)
    card = DatasetCard.from_template(
        front_matter(name, recipes, first, infos),
        template_path=str(TEMPLATE),
        name=name,
        recipes=recipes,
        default=first,
        **{key: first[key] for key in ("image_shape", "class_names", "normalisation", "evaluation", "versions")},
        source=first["provenance"]["source"],
        source_images=first["provenance"].get("source_images", {}),
        has_pixels="pixels" in infos[default].features,
        methods={recipe["method"]: DESCRIPTIONS.get(recipe["method"], "See `recipe.json`.") for recipe in recipes},
        papers=papers(recipes),
        title=title,
        percent=percent,
        baseline=baseline,
        parameter_rows=parameter_rows,
        network=network,
        augmentation=augmentation,
        share=share,
        number=number,
        shortest=shortest,
        code=code,
        link=link,
        quoted=quoted,
    )
    return f"{card}\n"


# Front matter


def front_matter(name: str, recipes: Sequence[Recipe], default: Recipe, infos: Mapping[str, Any]) -> Any:
    """The ``DatasetCardData`` that the Hub and ``load_dataset`` read."""
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    source = default["provenance"]["source"]
    data = DatasetCardData(
        pretty_name=name,
        **licence(source),
        task_categories=["image-classification"],
        size_categories=[size_category(max(recipe["images"]["total"] for recipe in recipes))],
        source_datasets=[source["id"] if is_on_hub(source) else "original"],
        annotations_creators=["machine-generated"],
        tags=tags(recipes),
        configs=[config(recipe["name"], default["name"]) for recipe in recipes],
    )
    DatasetInfosDict(infos).to_dataset_card_data(data)
    return data


def config(recipe: str, default: str) -> dict[str, Any]:
    described = {"config_name": recipe, "data_files": [{"split": "train", "path": f"{recipe}/train-*.parquet"}]}
    return described | ({"default": True} if recipe == default else {})


def tags(recipes: Sequence[Recipe]) -> list[str]:
    """The topic, the tools, the methods and the numbers of images per class."""
    methods = dict.fromkeys(recipe["method"] for recipe in recipes)
    sizes = sorted({recipe["params"]["ipc"] for recipe in recipes if "ipc" in recipe["params"]})
    fixed = ("dataset-distillation", "dataset-condensation", "synthetic", "distillkit", "dvc")
    return [*fixed, *methods, *(f"ipc-{ipc}" for ipc in sizes)]


def size_category(images: int) -> str:
    return next((name for limit, name in SIZES if images < limit), "1M<n<10M")


def is_on_hub(source: Mapping[str, Any]) -> bool:
    return source["kind"] == "huggingface" and re.fullmatch(r"[\w.-]+/[\w.-]+", source["id"]) is not None


def licence(source: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded licence as the Hub's ``license`` and, where it has no identifier, ``license_name`` and ``_link``."""
    text, homepage = source["licence"].strip(), source.get("homepage", "")
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


# What the page says of one recipe


def title(method: str) -> str:
    return TITLES.get(method, method.capitalize())


def percent(accuracy: Mapping[str, Any]) -> str:
    """Mean ± standard deviation (n); one network has no deviation."""
    spread = f" ± {100 * accuracy['std']:.2f}" if accuracy["runs"] > 1 else ""
    return f"{100 * accuracy['mean']:.2f}{spread} % (n = {accuracy['runs']})"


def baseline(recipe: Recipe, which: str) -> str:
    """The accuracy of ``random`` or ``full`` to set beside this recipe's, a dash where there is nothing to compare."""
    found = recipe["baselines"][which]
    return "–" if found is None or found["recipe"] == recipe["name"] else percent(found["accuracy"])


def share(recipe: Recipe) -> str:
    """The set's bytes as a share of the source's, where these are known."""
    storage = recipe["storage"]
    return f"{100 * storage['safetensors'] / storage['source_train']:.1f} %" if storage["source_train"] else "–"


def parameter_rows(recipes: Sequence[Recipe]) -> list[tuple[str, list[str]]]:
    """A row for each parameter that some recipe has, then for what was chosen or learned on the way."""
    rows = []
    for cells in (parameters, outcomes):
        columns = [dict(cells(recipe)) for recipe in recipes]
        names = dict.fromkeys(name for column in columns for name in column)
        rows += [(name, [column.get(name, "–") for column in columns]) for name in names]
    return rows


def parameters(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for key, value in flattened({key: value for key, value in recipe["params"].items() if key != "method"}):
        yield f"`{key}`", value


def outcomes(recipe: Recipe) -> Iterator[tuple[str, str]]:
    if "seed" in recipe["provenance"]:
        yield "seed", str(recipe["provenance"]["seed"])
    for key, value in recipe["notes"].items():
        if not isinstance(value, Mapping):
            yield f"`{key}`, as chosen", json.dumps(value)
    if recipe["student_lr"] is not None:
        yield "learned step size of the student", f"{recipe['student_lr']:.4g}"


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of nested mappings, each with its path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value)


# What the page says of the measurement and the source


def network(spec: Mapping[str, Any]) -> str:
    """The evaluation network in words, after the name that papers give it."""
    built = NetworkSpec(**spec)
    blocks = f"{built.depth} {'block' if built.depth == 1 else 'blocks'} of {built.width} channels"
    return f"{built} ({blocks if built.name == 'convnet' else 'for small images'}, {NORMS[built.norm]})"


def augmentation(spec: Mapping[str, Any]) -> str:
    return AUGMENTATIONS[spec["kind"]].format(operations=", ".join(spec["operations"]))


def papers(recipes: Sequence[Recipe]) -> list[str]:
    """BibTeX of the papers that the methods come from."""
    keys = dict.fromkeys(key for recipe in recipes for key in BUILDS_ON.get(recipe["method"], ()))
    return [PAPERS[key] for key in keys]


def number(value: float) -> str:
    return f"{value:g}"


def shortest(values: Sequence[float]) -> str:
    """A list of float32 values with as many digits as tell them apart."""
    return f"[{', '.join(str(np.float32(value)) for value in values)}]"


def code(text: str, limit: int = 300) -> str:
    """Somebody else's text on one line, shown as it stands."""
    return "`" + textwrap.shorten(text.replace("`", "'").replace("|", "/"), limit, placeholder=" …") + "`"


def link(address: str) -> str:
    """A web address as a link, anything else as it stands."""
    return f"<{address}>" if re.fullmatch(r"https?://[^\s<>]+", address) else code(address)


def quoted(text: str) -> str:
    """Somebody else's lines, safe inside a fence."""
    return text.strip().replace("```", "'''")
