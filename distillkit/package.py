"""A folder ready for the Hub: one config per packaged recipe, a card, and the checksums of every file.

``<recipe>/distilled.safetensors`` is the truth; the parquet beside it is what ``datasets.load_dataset`` reads. The same
artifacts and metrics give the same bytes.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distillkit import __version__, card, params
from distillkit.artifact import Opened, load_synthetic, pretty_json
from distillkit.errors import ArtifactError, ParamsError
from distillkit.evaluate import THIRDS, EvaluationRecipe
from distillkit.images import SyntheticSet
from distillkit.manifest import ARTIFACT, CARD, MANIFEST, NAME, PARQUET, PREVIEW, RECIPE, manifest_of
from distillkit.settings import settings

TAKEN = (MANIFEST.casefold(), CARD.casefold(), "default")  # files of the package; the config that datasets looks for
LARGEST_WITH_PIXELS = 12_288  # values of an image, 3 x 64 x 64; of larger ones parquet holds the preview only


@settings
class PackageSpec:
    """The ``package`` section: the folder's name, the default recipe and which others go with it.

    All recipes but the full set are packaged when ``recipes`` is missing.
    """

    name: str
    default: str
    recipes: tuple[str, ...] | None = None

    def chosen(self, recipes: Mapping[str, Any]) -> list[str]:
        if self.recipes is not None:
            return list(self.recipes)
        return [name for name, recipe in recipes.items() if recipe.get("method") != "full"]


@dataclass(frozen=True)
class Entry:
    """One recipe: its distilled set, the metrics measured on it, and its section of params.yaml."""

    name: str
    artifact: Path
    metrics: Mapping[str, Any]
    params: Mapping[str, Any]


Track = Callable[[Iterable[Entry], str], Iterable[Entry]]


def build(
    folder: Path,
    *,
    name: str,
    entries: Sequence[Entry],
    packaged: Sequence[str],
    default: str,
    evaluation: Mapping[str, Any],
    track: Track,
) -> None:
    """Write the package ``name`` to ``folder``, in place of an earlier one, and nothing when anything is wrong.

    ``entries`` are all recipes, baselines included; those that ``packaged`` names become configs. ``evaluation`` is the
    section of params.yaml by which all of them were measured.
    """
    chosen = choose(name, entries, packaged, default)
    measured = asdict(params.read(evaluation, EvaluationRecipe, "evaluation"))
    recipes: list[dict[str, Any]] = []
    infos: dict[str, Any] = {}
    with replacing(folder) as built:
        for entry in track(chosen, f"package {name}"):
            config = built / entry.name
            config.mkdir()
            recipe, infos[entry.name] = write_config(config, entry)
            recipe |= {"evaluation": measured, "baselines": baselines(entry, entries)}
            check_same_data([*recipes, recipe])
            write(config / RECIPE, pretty_json(recipe))
            recipes.append(recipe)
        write(built / CARD, card.card_text(name, recipes, default, infos))
        write(built / MANIFEST, pretty_json(asdict(manifest_of(built, name, packaged, default))))


def write(path: Path, text: str) -> None:
    path.write_bytes(text.encode())


def choose(name: str, entries: Sequence[Entry], packaged: Sequence[str], default: str) -> list[Entry]:
    """The packaged entries, in the order asked for. Raises ParamsError when a name is unknown, unsafe or taken."""
    by_name = {entry.name: entry for entry in entries}
    check_name("package", name)
    for recipe in packaged:
        check_name("recipe", recipe)
        if recipe not in by_name:
            raise ParamsError(
                f"recipe {recipe!r} is to be packaged, but does not exist{params.hint(recipe, by_name)}; "
                f"expected some of {', '.join(by_name)}"
            )
        if recipe.casefold() in TAKEN:
            raise ParamsError(f"recipe {recipe!r} has a name that the package needs itself; rename it")
    if len({recipe.casefold() for recipe in packaged}) != len(packaged) or len(by_name) != len(entries):
        raise ParamsError(
            f"recipes to package are {', '.join(packaged)}; expected names that differ, whatever the case"
        )
    if default not in packaged:
        raise ParamsError(
            f"the default recipe is {default!r}, which is not packaged; "
            f"expected one of {', '.join(packaged) or 'the packaged recipes, but there are none'}"
        )
    return [by_name[recipe] for recipe in packaged]


def check_name(what: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise ParamsError(
            f"{what} name is {name!r}; expected letters, digits, '-', '_' and '.', not beginning with '.'; rename it"
        )


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder``, itself empty or a package, when the block ends well."""
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))):
        raise ArtifactError(
            f"{folder} exists and is no package; expected nothing or an earlier package there; "
            "remove it or choose another folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        built = Path(temporary, "new")
        built.mkdir()
        yield built
        if folder.exists():
            folder.rename(Path(temporary, "old"))
        built.rename(folder)


def write_config(config: Path, entry: Entry) -> tuple[dict[str, Any], Any]:
    """The recipe's files but recipe.json; returns what that one must say, and the ``datasets.DatasetInfo``."""
    from distillkit.figures import preview_grid

    synthetic, provenance = load_synthetic(entry.artifact)
    check_artifact(entry, synthetic, provenance)
    shutil.copyfile(entry.artifact, config / ARTIFACT)
    info = write_parquet(config / PARQUET, synthetic)
    preview_grid(synthetic, config / PREVIEW)
    recipe = describe(entry, synthetic, provenance)
    recipe["versions"] = {"distilled": Opened(entry.artifact).field("distillkit"), "packaged": __version__}
    recipe["storage"] = {
        "safetensors": (config / ARTIFACT).stat().st_size,
        "parquet": (config / PARQUET).stat().st_size,
        "source_train": source_bytes(synthetic, provenance),
    }
    return recipe, info


def write_parquet(path: Path, synthetic: SyntheticSet) -> Any:
    """The set as ``datasets`` reads it: a preview of 8 bits, and the floats themselves while images are small."""
    from datasets import Array3D, ClassLabel, Dataset, DatasetInfo, Features, SplitDict, SplitInfo, Value
    from datasets import Image as ImageFeature

    shape = tuple(synthetic.images.shape[1:])
    features: dict[str, Any] = {
        "image": ImageFeature(),
        "label": ClassLabel(names=list(synthetic.class_names)),
        "learned": Value("bool"),
        "source_row": Value("int64"),
    }
    columns: dict[str, Any] = {
        "image": [{"bytes": preview_png(image), "path": None} for image in synthetic.images],
        "label": synthetic.labels.tolist(),
        "learned": synthetic.learned.tolist(),
        "source_row": synthetic.source_row.tolist(),
    }
    if prod(shape) <= LARGEST_WITH_PIXELS:
        features["pixels"], columns["pixels"] = Array3D(shape, "float32"), synthetic.images.numpy()
    dataset = Dataset.from_dict(columns, features=Features(features))
    with without_bars():
        dataset.to_parquet(path)
    splits = SplitDict({"train": SplitInfo("train", dataset.data.nbytes, len(dataset))})
    return DatasetInfo(
        features=dataset.features, splits=splits, download_size=path.stat().st_size, dataset_size=dataset.data.nbytes
    )


@contextmanager
def without_bars() -> Iterator[None]:
    """Hide the progress bars of ``datasets``; ours say enough."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


def preview_png(image_CHW: Tensor) -> bytes:
    """An image in pixel space as PNG: clipped to [0, 1] and rounded to 8 bits."""
    levels_CHW = (image_CHW.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels = levels_CHW[0] if len(levels_CHW) == 1 else levels_CHW.permute(1, 2, 0).contiguous()
    file = BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "PNG")
    return file.getvalue()


def check_artifact(entry: Entry, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> None:
    """Raise ArtifactError unless the set is this recipe's, tells its source, and is one that ``datasets`` can hold."""
    path, names = entry.artifact, synthetic.class_names
    if provenance.get("params") != json.loads(json.dumps(dict(entry.params))):
        raise ArtifactError(
            f"{path} was made with other parameters than recipe {entry.name!r} has now; expected the same; "
            "run its distill stage again"
        )
    if not isinstance(provenance.get("source"), Mapping):
        raise ArtifactError(f"{path} says nothing of its source in its header; run its distill stage again")
    if synthetic.images.shape[1] not in (1, 3):
        raise ArtifactError(f"{path} has images of {synthetic.images.shape[1]} channels; expected 1 or 3")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ArtifactError(f"{path} has several classes called {twice[0]!r}; expected a name of its own for each")


def describe(entry: Entry, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the set and how it came about."""
    learned = synthetic.learned
    return {
        "name": entry.name,
        "method": entry.params["method"],
        "params": dict(entry.params),
        "provenance": provenance,
        "student_lr": synthetic.student_lr,
        "notes": dict(synthetic.notes),
        "class_names": list(synthetic.class_names),
        "image_shape": list(synthetic.images.shape[1:]),
        "normalisation": {key: value.tolist() for key, value in synthetic.normalisation._asdict().items()},
        "images": {
            "total": len(synthetic),
            "learned": int(learned.sum()),
            "learned_from_source": int((learned & (synthetic.source_row >= 0)).sum()),
            "real": int((~learned).sum()),
        },
        "results": {
            "accuracy": accuracy(entry),
            **{third: entry.metrics[third] for third in THIRDS if third in entry.metrics},
        },
    }


def source_bytes(synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> int | None:
    """Size of the source's training images at one byte a value, where their number is recorded."""
    images = provenance.get("source_images", {}).get("train")
    return None if images is None else images * synthetic.images[0].numel()


def accuracy(entry: Entry) -> Mapping[str, Any]:
    """The measured accuracy with std and n. Raises ArtifactError when one is missing or no share of 1."""
    from distillkit.report import count, share

    for key in ("mean", "std"):
        share(entry.metrics, entry.name, f"accuracy.{key}")
    count(entry.metrics, entry.name, "accuracy.runs")
    measured: Mapping[str, Any] = entry.metrics["accuracy"]
    return measured


def baselines(entry: Entry, entries: Sequence[Entry]) -> dict[str, Any]:
    """What random images of the same number per class and all images achieve, where they were measured."""
    found: dict[str, Any] = {"random": None, "full": None}
    for other in reversed(entries):
        method = other.params.get("method")
        if method == "full" or (method == "random" and other.params.get("ipc") == entry.params.get("ipc")):
            found[method] = {"recipe": other.name, "accuracy": accuracy(other)}
    return found


def check_same_data(recipes: Sequence[Mapping[str, Any]]) -> None:
    """Raise ArtifactError unless all sets come from the same source images."""
    first, last = (
        [*(recipe[key] for key in ("class_names", "image_shape", "normalisation")), recipe["provenance"]["source"]]
        for recipe in (recipes[0], recipes[-1])
    )
    if first != last:
        raise ArtifactError(
            f"recipes {recipes[0]['name']!r} and {recipes[-1]['name']!r} come from different images; expected one "
            "source for all; run their distill stages again, or package them apart"
        )
