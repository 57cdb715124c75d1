"""A package is built from real artifacts, read back with the libraries that its users have, and damaged."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import DatasetCard
from safetensors.torch import load_file

from distillkit.audit.result import audit_words
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.data.files.container import Opened
from distillkit.data.images import ImageSet, RealData, SyntheticSet, channel_statistics, real_subset
from distillkit.data.origin import SourceInfo
from distillkit.package.build import Entry, build
from distillkit.package.card_tables import parameter_table, params_lines
from distillkit.package.card_words import pixel_lines
from distillkit.package.front_matter import size_category
from distillkit.package.manifest import Package, open_package
from distillkit.package.recipe_json import checksums, digest, source_yardstick, without_machine_paths
from distillkit.sources.licences import LICENCES, licence

EVALUATION = {
    "network": {"name": "convnet", "norm": "batch", "depth": 2, "width": 32},
    "training": {"steps": 200, "batch": 50, "lr": 0.05, "augmentation": {"kind": "none"}},
    "runs": 5,
}
MATCHING = {"student_steps": 4, "student_batch": 20, "expert_epochs": 1, "max_start_epoch": 2}
OPTIM = {"steps": 7, "image_lr": 30, "student_lr_init": 0.05, "student_lr_lr": 0.01}
RECIPES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "random-ipc2": {"method": "random", "ipc": 2},
    "mtt-ipc2": {"method": "mtt", "ipc": 2, "matching": MATCHING, "optim": OPTIM},
    "selmatch-ipc2": {
        "method": "selmatch",
        "ipc": 2,
        "window_start": 0.4,
        "distill_fraction": 0.5,
        "matching": MATCHING,
        "optim": OPTIM,
    },
}
INPUTS = {"artifacts/real.safetensors": "0" * 32, "artifacts/experts/shard-0.safetensors": "1" * 32}
PIPELINE = {"seed": 3, "expert_shards": [0], "score": {"name": "file", "file": "/home/someone/scores.npy"}}
PACKAGED = ["random-ipc2", "mtt-ipc2", "selmatch-ipc2"]
ACCURACY = {"full": 0.98, "random-ipc2": 0.8125, "mtt-ipc2": 0.9, "selmatch-ipc2": 0.9375}
INFO = SourceInfo(
    "huggingface",
    "someone/digits",
    "0123456789abcdef",
    "MIT License",
    homepage="https://example.org/digits",
    citation="A. Author. Digits. 1998.",
)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own for every test, and no bars."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("huggingface-cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def images_of(shape: tuple[int, int, int]) -> ImageSet:
    """Forty images of ten classes; the class names try YAML's patience."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, *shape), dtype=torch.uint8, generator=generator)
    names = ("zero", "1", "two: 2", "no", "4e4", "fünf", "null", "'7'", "#8", "- nine")
    return ImageSet(images, torch.arange(40) % 10, names)


def synthetic_set(real: RealData, params: Mapping[str, Any]) -> SyntheticSet:
    """As the method would make it, with noise in the place of what it learns."""
    ipc = params.get("ipc", 4)
    synthetic = real_subset(real.train, torch.arange(10 * ipc), real.normalisation)
    if "optim" not in params:
        return synthetic
    learned = torch.arange(10 * ipc) >= (10 if params["method"] == "selmatch" else 0)
    noise = torch.randn(synthetic.images.shape, generator=torch.Generator().manual_seed(1))
    images = torch.where(learned[:, None, None, None], synthetic.images + noise, synthetic.images)
    return replace(synthetic, images=images, learned=learned, student_lr=0.0321, notes={"window_start": 0.4})


def metrics_of(accuracy: float, std: float = 0.0078) -> dict[str, Any]:
    third, apart = {"mean": accuracy, "std": std}, 2**0.5 * std
    values = (accuracy - apart, accuracy, accuracy, accuracy, accuracy + apart)
    runs = {f"run_{index}": round(value, 6) for index, value in enumerate(values, start=1)}
    return {"accuracy": {**third, "runs": 5, **runs}, "easy": third, "middle": third, "hard": third}


def real_data(train: ImageSet, info: SourceInfo = INFO) -> RealData:
    return RealData(train, train.take(torch.arange(20)), channel_statistics(train.images), info)


def entries_in(folder: Path, real: RealData) -> dict[str, Entry]:
    """Every recipe's artifact, saved to ``folder``."""
    entries = {}
    for name, params in RECIPES.items():
        path = folder / f"{name}.safetensors"
        save_synthetic(path, synthetic_set(real, params), provenance_of(name, params["method"], params, 3, real))
        entries[name] = Entry(name, path, metrics_of(ACCURACY[name]), params)
    return entries


def build_from(entries: Mapping[str, Entry], folder: Path, **changes: Any) -> Package:
    settings = {"name": "tiny", "packaged": PACKAGED, "default": "selmatch-ipc2", "evaluation": EVALUATION}
    settings |= {"real": real_data(images_of((1, 5, 4))), "inputs": INPUTS, "pipeline": PIPELINE}
    build(folder, entries=list(entries.values()), **{**settings, **changes})
    return open_package(folder)


def build_example(folder: Path, shape: tuple[int, int, int] = (1, 5, 4)) -> Package:
    """A package and the artifacts it is made of, in ``folder``."""
    real = real_data(images_of(shape))
    return build_from(entries_in(folder / "distilled", real), folder / "hub" / "tiny", real=real)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A package of grey images that no test may change."""
    return build_example(tmp_path_factory.mktemp("package"))


@pytest.fixture
def copied(built: Package, tmp_path: Path) -> Path:
    """A copy of the package to do harm to."""
    return Path(shutil.copytree(built.folder, tmp_path / "copy"))


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, Entry]:
    return entries_in(tmp_path / "distilled", real_data(images_of((1, 5, 4))))


def front_matter(package: Package) -> dict[str, Any]:
    _, text, _ = (package.folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    matter: dict[str, Any] = yaml.safe_load(text)
    return matter


def load(package: Package, recipe: str | None) -> Any:
    return datasets.load_dataset(str(package.folder), recipe, split="train")


def pixels_as_the_card_says(package: Package, recipe: str) -> torch.Tensor:
    """By the lines of the card, which are those of the default recipe there."""
    known = {"data": load(package, recipe).with_format("torch")}
    lines = pixel_lines(package.recipe_json(recipe))
    assert recipe != package.manifest.default or lines in card_of(package)
    exec(lines, known)
    return known["pixels"]  # type: ignore[return-value]


# What the Hub's library reads


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 6)], ids=["grey", "colour"])
def test_every_config_loads_as_the_artifact_bit_for_bit(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    package = build_example(tmp_path, shape)
    assert list(package.recipes) == PACKAGED
    for recipe in package.recipes:
        synthetic, _ = load_synthetic(package.artifact(recipe))
        data = load(package, recipe)
        assert data.features["label"].names == list(synthetic.class_names)
        tensors = data.select_columns(["label", "learned", "source_row"]).with_format("torch")[:]
        pixels = pixels_as_the_card_says(package, recipe)
        assert pixels.dtype == torch.float32
        assert torch.equal(pixels, synthetic.images)
        assert torch.equal(tensors["label"], synthetic.labels)
        assert torch.equal(tensors["learned"].bool(), synthetic.learned)
        assert torch.equal(tensors["source_row"], synthetic.source_row)


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 6)], ids=["grey", "colour"])
def test_previews_are_the_images_clipped_and_rounded(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    package = build_example(tmp_path, shape)
    synthetic, _ = load_synthetic(package.artifact("mtt-ipc2"))
    assert synthetic.images.min() < 0
    assert synthetic.images.max() > 1
    expected = np.round(np.clip(synthetic.images.numpy(), 0, 1) * 255).astype(np.uint8)
    for preview, levels in zip(load(package, "mtt-ipc2")["image"], expected, strict=True):
        assert preview.mode == ("L" if shape[0] == 1 else "RGB")
        assert np.array_equal(np.array(preview).reshape(*shape[1:], shape[0]).transpose(2, 0, 1), levels)


def test_the_preview_of_a_real_image_is_that_image(built: Package) -> None:
    real = images_of((1, 5, 4))
    data = load(built, "random-ipc2")
    for preview, row in zip(data["image"], data["source_row"], strict=True):
        assert np.array_equal(np.array(preview), real.images[row, 0].numpy())


def test_without_a_name_the_default_config_is_loaded(built: Package) -> None:
    data = load(built, None)
    assert data.config_name == built.manifest.default == "selmatch-ipc2"
    expected = load_synthetic(built.artifact(built.manifest.default))[0]
    found = data.with_format("torch")["pixels"][:]
    assert torch.equal(found[expected.learned], expected.images[expected.learned])
    assert bool(found[~expected.learned].isnan().all()), "nobody trains on these by mistake"


def test_large_images_have_no_float_column(tmp_path: Path) -> None:
    package = build_example(tmp_path, (3, 64, 65))
    assert load(package, "mtt-ipc2").column_names == ["image", "label", "learned", "source_row"]
    assert "**Train on the learned images in the config's `distilled.safetensors`" in card_of(package)
    assert "pixels" in load(build_example(tmp_path / "smaller", (3, 64, 64)), "mtt-ipc2").column_names


def test_packages_give_the_artifacts_back(tmp_path: Path) -> None:
    """Byte for byte where all is learned, else without real images, which are in the parquet alone."""
    package = build_example(tmp_path)
    for recipe in package.recipes:
        artifact = tmp_path / f"distilled/{recipe}.safetensors"
        (found, provenance), (expected, said) = load_synthetic(package.artifact(recipe)), load_synthetic(artifact)
        assert torch.equal(found.images, expected.images) and provenance == said and found.notes == expected.notes
        assert (package.artifact(recipe).read_bytes() == artifact.read_bytes()) == bool(expected.learned.all())
    assert Opened(package.artifact("random-ipc2")).header["distillkit"] == Opened(artifact).header["distillkit"]
    kept = {recipe: load_file(package.artifact(recipe)) for recipe in package.recipes}
    assert not {"images", "real_images"} & (kept["random-ipc2"].keys() | kept["selmatch-ipc2"].keys())
    assert len(kept["selmatch-ipc2"]["learned_images"]) == 10


@pytest.mark.long
def test_another_process_in_another_folder_writes_the_same_bytes(built: Package, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from test_package import build_example; "
    code += "build_example(Path(sys.argv[1]), (1, 5, 4))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "PYTHONHASHSEED": "7",
        "HF_HOME": str(tmp_path / "cache"),
    }
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "elsewhere")], check=True, env=environment)
    again = tmp_path / "elsewhere" / "hub" / "tiny"
    assert {name: (again / name).read_bytes() for name in open_package(again).manifest.files} == {
        name: (built.folder / name).read_bytes() for name in built.manifest.files
    }


# What is recorded


def test_layout(built: Package) -> None:
    files = {"distilled.safetensors", "preview.png", "recipe.json", "train-00000-of-00001.parquet"}
    expected = {"README.md", "croissant.json", "manifest.json"} | {
        f"{recipe}/{name}" for recipe in PACKAGED for name in files
    }
    found = {path.relative_to(built.folder).as_posix() for path in built.folder.rglob("*") if path.is_file()}
    assert found == expected
    assert set(built.manifest.files) == expected - {"manifest.json"}
    assert json.loads((built.folder / "manifest.json").read_text())["format"] == "distillkit-package/1"


def test_recipe_json_says_how_the_set_was_made_and_what_it_achieves(built: Package) -> None:
    recipe = built.recipe_json("selmatch-ipc2")
    assert recipe["params"] == RECIPES["selmatch-ipc2"]
    counts = {"total": 20, "per_class": 2, "learned": 10, "learned_from_source": 10, "real": 10, "real_verified": 10}
    assert recipe["images"] == counts
    assert recipe["results"]["accuracy"] == metrics_of(0.9375)["accuracy"]
    assert recipe["results"]["hard"]["mean"] == 0.9375
    assert recipe["baselines"]["random"] == {"recipe": "random-ipc2", "accuracy": metrics_of(0.8125)["accuracy"]}
    assert recipe["baselines"]["full"]["recipe"] == "full"
    assert recipe["evaluation"]["training"]["momentum"] == 0.9, "defaults are spelt out"
    assert recipe["provenance"]["source"]["id"] == "someone/digits"
    assert recipe["provenance"]["seed"] == 3
    assert recipe["storage"]["source_train"] == 40 * 5 * 4
    assert recipe["storage"]["safetensors"] == built.artifact("selmatch-ipc2").stat().st_size
    synthetic, _ = load_synthetic(built.artifact("selmatch-ipc2"))
    assert torch.equal(torch.tensor(recipe["normalisation"]["mean"]), synthetic.normalisation.mean)
    assert recipe["student_lr"] == synthetic.student_lr


def test_without_baselines_nothing_is_compared(entries: dict[str, Entry], tmp_path: Path) -> None:
    alone = {"mtt-ipc2": entries["mtt-ipc2"]}
    package = build_from(alone, tmp_path / "hub", packaged=["mtt-ipc2"], default="mtt-ipc2")
    assert package.recipe_json("mtt-ipc2")["baselines"] == {"random": None, "full": None}
    assert "| 90.00 ± 0.78 % (n = 5) | – |" in card_of(package)
    assert "\n| *" not in card_of(package)
    assert load(package, None).num_rows == 20


def test_an_unknown_recipe_is_named(built: Package) -> None:
    with pytest.raises(ParamsError, match=r"no recipe 'mtt-ipc3'.*did you mean 'mtt-ipc2'"):
        built.artifact("mtt-ipc3")


# The card


def card_of(package: Package) -> str:
    return (package.folder / "README.md").read_text(encoding="utf-8")


def test_front_matter(built: Package) -> None:
    matter = front_matter(built)
    assert {key: type(value) for key, value in matter.items()} == {
        "license": str,
        "size_categories": list,
        "source_datasets": list,
        "task_categories": list,
        "pretty_name": str,
        "tags": list,
        "configs": list,
        "dataset_info": list,
    }
    assert matter["pretty_name"] == "tiny"
    assert matter["license"] == "mit"
    assert matter["task_categories"] == ["image-classification"]
    assert matter["size_categories"] == ["n<1K"]
    assert matter["source_datasets"] == ["someone/digits"]
    methods = ["random", "mtt", "selmatch"]
    fixed = ["dataset-distillation", "dataset-condensation", "dataset-compression", "synthetic", "distillkit", "dvc"]
    assert matter["tags"] == [*fixed, "dataset-pruning", *methods, "ipc-2"]
    assert [config["config_name"] for config in matter["configs"]] == PACKAGED
    assert [config["config_name"] for config in matter["configs"] if config.get("default")] == ["selmatch-ipc2"]


@pytest.mark.parametrize("recipe", PACKAGED)
def test_dataset_info_is_what_datasets_finds(built: Package, recipe: str) -> None:
    """Features, split and sizes that the front matter claims, beside those of the files."""
    claimed = datasets.load_dataset_builder(str(built.folder), recipe).info
    found = load(built, recipe)
    parquet = datasets.Dataset.from_parquet(str(built.file(recipe, "train-00000-of-00001.parquet")))
    assert claimed.features == found.features == parquet.features
    assert {name: split.num_examples for name, split in claimed.splits.items()} == {"train": found.num_rows}
    assert claimed.download_size == built.file(recipe, "train-00000-of-00001.parquet").stat().st_size
    assert claimed.dataset_size == claimed.splits["train"].num_bytes == found.data.nbytes


def test_every_identifier_of_the_hub_is_known() -> None:
    assert [licence({"licence": text}) for text in LICENCES.split()] == [{"license": text} for text in LICENCES.split()]


def test_the_hubs_library_accepts_the_card(built: Package) -> None:
    card = DatasetCard.load(built.folder / "README.md")
    assert card.data.license == "mit"
    assert "{{" not in card.text.split("## Citation")[0]


def test_the_code_on_the_card_runs(built: Package) -> None:
    blocks = re.findall("```python\n(.*?)```", card_of(built), re.DOTALL)
    results = []
    for block in blocks:
        names: dict[str, Any] = {}
        exec(block.replace("REPOSITORY", str(built.folder)), names)
        results.append((names["images"], names["labels"]))
    (by_datasets, labels), (by_distillkit, same_labels) = results
    assert torch.equal(by_datasets, by_distillkit)
    assert torch.equal(labels, same_labels)


def test_numbers_on_the_card_come_from_the_metrics(entries: dict[str, Entry], tmp_path: Path) -> None:
    before = card_of(build_from(entries, tmp_path / "before"))
    rows = [
        "| `random-ipc2` | Random | 2 | 20 real, 0 learned | 81.25 ± 0.78 % (n = 5) | – |",
        "| `selmatch-ipc2` | SelMatch | 2 | 10 real, 10 learned | 93.75 ± 0.78 % (n = 5) | +12.50 |",
        "| *all images* | – | all | – | 98.00 ± 0.78 % (n = 5) | – |",
    ]
    assert [before.count(row) for row in rows] == [1, 1, 1]
    for name, accuracy in (("selmatch-ipc2", 0.5), ("random-ipc2", 0.625), ("full", 0.75)):
        entries[name] = replace(entries[name], metrics=metrics_of(accuracy, std=0.125))
    after = card_of(build_from(entries, tmp_path / "after"))
    assert [after.count(row) for row in rows] == [0, 0, 0]
    assert "| 50.00 ± 12.50 % (n = 5) | −12.50 |" in after
    assert "| *all images* | – | all | – | 75.00 ± 12.50 % (n = 5) | – |" in after


def test_a_baseline_that_is_no_config_has_a_row(entries: dict[str, Entry], tmp_path: Path) -> None:
    text = card_of(build_from(entries, tmp_path / "hub", packaged=["mtt-ipc2"], default="mtt-ipc2"))
    assert "| `mtt-ipc2` | MTT | 2 | 0 real, 20 learned | 90.00 ± 0.78 % (n = 5) | +8.75 |" in text
    assert "| *random images* | – | 2 | – | 81.25 ± 0.78 % (n = 5) | – |" in text


def test_the_card_tells_how_networks_were_trained(entries: dict[str, Entry], tmp_path: Path) -> None:
    training = {**EVALUATION["training"], "nesterov": True, "augmentation": {"kind": "simple", "pad": 2}}
    text = card_of(build_from(entries, tmp_path / "package", evaluation={**EVALUATION, "training": training}))
    assert "hard labels, Nesterov's momentum 0.9, weight decay" in text
    assert "**Augmentation:** a random shift, up to 2 pixels, and a random flip of every image." in text


def test_one_network_has_no_deviation(entries: dict[str, Entry], tmp_path: Path) -> None:
    single = {"accuracy": {"mean": 0.5, "std": 0.0, "runs": 1, "run_1": 0.5}}
    entries = {name: replace(entry, metrics=single) for name, entry in entries.items()}
    package = build_from(entries, tmp_path / "hub", evaluation={**EVALUATION, "runs": 1})
    assert "**50.00 % (n = 1)** on 20 test images" in card_of(package)


@pytest.mark.parametrize("recipe", ["selmatch-ipc2", "random-ipc2", "full"])  # packaged or only compared with
@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"mean": 0.7}, "accuracy has mean 0.700000 and std"),
        ({"std": 0.2}, "accuracy has mean .* and std 0.200000"),
        ({"run_5": 0.1}, "; expected mean .*, computed from 5 runs"),
        ({"run_5": None}, "accuracy.run_5 is missing or not between 0 and 1, but accuracy.runs is 5"),
        ({"run_6": 0.9}, "accuracy has run_6, but accuracy.runs is 5"),
        ({"runs": 4}, "accuracy has run_5, but accuracy.runs is 4"),
    ],
)
def test_metrics_that_contradict_themselves_are_refused(entries, tmp_path, recipe, change, found):
    """As `distillkit verify` would refuse the package later."""
    metrics = entries[recipe].metrics
    wrong = {**metrics, "accuracy": {**metrics["accuracy"], **change}}
    entries[recipe] = replace(entries[recipe], metrics=wrong)
    with pytest.raises(ArtifactError, match=f"metrics of recipe '{recipe}' contradict themselves: .*{found}"):
        build_from(entries, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_metrics_of_another_number_of_networks_are_refused(entries, tmp_path):
    expected = "metrics of recipe 'full' are of 5 networks, but evaluation.runs in params.yaml is 3; run its evaluate"
    with pytest.raises(ArtifactError, match=expected):
        build_from(entries, tmp_path / "hub", evaluation={**EVALUATION, "runs": 3})


def test_the_card_tells_what_is_real_and_how_much_is_saved(built: Package) -> None:
    text = card_of(built)
    files = (built.artifact("selmatch-ipc2"), built.folder / "selmatch-ipc2/train-00000-of-00001.parquet")
    sizes = [path.stat().st_size for path in files]
    assert "| `selmatch-ipc2` | 10 | 10 | 0 |" in text
    assert "training images take 800 bytes" in text
    assert f"| `selmatch-ipc2` | {sizes[0]:,} | {sizes[1]:,} | {sum(sizes) / 8:.1f} % |" in text
    assert "| `mtt-ipc2` | 0.4 | 0.0321 |" in text
    assert "| `distill_fraction` | – | 0.5 |" in text
    assert "![Images of selmatch-ipc2, one row per class](selmatch-ipc2/preview.png)" in text
    assert "A. Author. Digits. 1998." in text


def test_an_audit_is_in_recipe_json_and_on_the_card(entries: dict[str, Entry], tmp_path: Path) -> None:
    attack = {"better_than_chance": True, "auc": {"value": 0.6, "standard_error": 0.01}}
    held = {"images": 20, "copies": 20, "near_copies": 20, "distance": {"set": 0.0, "test": 0.2}, "attack": attack}
    audit = {"recipe": "random-ipc2", "set": held}
    audited = {**entries, "random-ipc2": replace(entries["random-ipc2"], audit=audit)}
    package = build_from(audited, tmp_path / "tiny")
    assert package.recipe_json("random-ipc2")["audit"] == audit and "audit" not in package.recipe_json("selmatch-ipc2")
    card = (package.folder / "README.md").read_text(encoding="utf-8")
    assert audit_words(audit) in card and card.count("Of 20 images, 20 are copies of a training image") == 1


def test_recipe_json_says_from_what_and_how_it_can_be_made_again(built: Package) -> None:
    recipe = built.recipe_json("mtt-ipc2")
    artifact = hashlib.md5(built.artifact("mtt-ipc2").read_bytes()).hexdigest()
    assert recipe["inputs"] == {**INPUTS, "mtt-ipc2.safetensors": artifact}
    assert recipe["command"] == "dvc repro"
    score = {"name": "file", "file": "scores.npy"}
    assert recipe["pipeline"] == {"data": {}, "seed": 3, "expert_shards": [0], "score": score}
    assert recipe["test"] == {"images": 20, "sha256": digest(real_data(images_of((1, 5, 4))).test)}
    text = card_of(built)
    assert f"| `artifacts/real.safetensors` | `{'0' * 32}` |" in text
    assert f"| `mtt-ipc2.safetensors` | `{artifact}` |" in text
    assert recipe["test"]["sha256"] in text
    (block,) = re.findall("```yaml\n(.*?)```", text, re.DOTALL)
    assert yaml.safe_load(block) == recipe["pipeline"]


def test_parameters_that_recipes_of_a_method_do_not_share_are_told_by_recipe() -> None:
    """``a`` and ``b`` agree in one parameter, differ in one, and have one each that the other has not."""
    params = {
        "random": {"method": "random", "ipc": 2},
        "a": {"method": "mtt", "ipc": 2, "start": "window", "optim": {"steps": 7, "lr": 1}},
        "b": {"method": "mtt", "ipc": 4, "optim": {"steps": 7, "lr": 2, "max_move": 0.5}},
        "c": {"method": "imported", "ipc": 2, "file": "c.safetensors"},
    }
    recipes = [{"name": name, "method": each["method"], "params": each} for name, each in params.items()]
    assert parameter_table(recipes) == (
        ["mtt"],
        {
            "start": ["`window` (`a`); not given (`b`)"],
            "optim.steps": ["7"],
            "optim.lr": ["1 (`a`); 2 (`b`)"],
            "optim.max_move": ["not given (`a`); 0.5 (`b`)"],
        },
    )


def test_what_a_recipe_leaves_out_is_told_as_it_was_in_force() -> None:
    """Momentum is 0.5 for ``b`` by default and decay 1; numbers that are equal are written alike."""
    optim = {"steps": 7, "image_lr": 1, "student_lr_init": 0.1}
    params = {
        "a": {"method": "mtt", "ipc": 2, "start": "random", "matching": MATCHING, "optim": {**optim, "momentum": 0.5}},
        "b": {
            "method": "mtt",
            "ipc": 2,
            "labels": "learned",
            "matching": MATCHING,
            "optim": {**optim, "decay": 0.1, "decay_every": 3},
        },
        "c": {"method": "dm", "ipc": 2, "optim": {"steps": 7, "image_lr": 1.0, "momentum": 0}},
    }
    recipes = [{"name": name, "method": each["method"], "params": each} for name, each in params.items()]
    methods, rows = parameter_table(recipes)
    assert methods == ["mtt", "dm"]
    assert rows["optim.momentum"] == ["0.5", "0"]
    assert rows["start"] == ["`random`", "`random`"]
    assert rows["labels"] == ["`hard` (`a`); `learned` (`b`)", "–"]
    assert rows["optim.decay"] == ["1.0 (`a`); 0.1 (`b`)", "1.0"]
    assert rows["optim.decay_every"] == ["– (`a`); 3 (`b`)", "–"]
    assert rows["matching.student_steps"] == ["4", "–"]
    assert parameter_table(recipes) == (methods, rows)


def test_parameters_are_yaml_without_nulls() -> None:
    sections = {
        "data": {"size": None, "source": {"kind": "folder", "path": "a: #b"}, "names": ["no", "ü" * 80]},
        "seed": 0,
    }
    text = params_lines(sections)
    assert text.splitlines()[:2] == ["data:", '  source: {"kind": "folder", "path": "a: #b"}']
    assert yaml.safe_load(text) == {
        "data": {"source": sections["data"]["source"], "names": ["no", "ü" * 80]},
        "seed": 0,
    }


def test_paths_of_this_machine_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.bin").write_bytes(b"abc")
    monkeypatch.chdir(tmp_path)
    md5 = "900150983cd24fb0d6963f7d28e17f72"  # RFC 1321, A.5
    assert checksums([Path("a/b.bin")]) == {"a/b.bin": md5}
    assert checksums([tmp_path / "a" / "b.bin"]) == {"b.bin": md5}
    with pytest.raises(ArtifactError, match=r"a/c\.bin does not exist; expected an input of the package"):
        checksums([Path("a/c.bin")])
    assert without_machine_paths({"a": ["/x/y", "x/y", 1]}) == {"a": ["y", "x/y", 1]}


def test_a_digest_tells_splits_apart() -> None:
    images = images_of((1, 5, 4))
    others = [
        replace(images, images=images.images.reshape(40, 1, 4, 5)),
        replace(images, images=images.images.flip(0)),
        replace(images, images=images.images.float()),
        replace(images, labels=images.labels.flip(0)),
        replace(images, class_names=(*images.class_names[:9], "nine")),
        replace(images, class_names=(*images.class_names, "ten")),
        images.take(torch.arange(39)),
    ]
    digests = [digest(each) for each in (images, *others)]
    assert len(set(digests)) == len(digests)
    assert digest(images.take(torch.arange(40))) == digests[0]
    assert digest(replace(images, images=images.images.transpose(2, 3).contiguous().transpose(2, 3))) == digests[0]


# What is real in it


def distances_of(folder: Path, learned: SyntheticSet, params: Mapping[str, Any], real: RealData) -> Package:
    """A package of one learned set."""
    path = folder / "learned.safetensors"
    save_synthetic(path, learned, provenance_of("learned", params["method"], params, 3, real))
    entries = {"learned": Entry("learned", path, metrics_of(0.5), params)}
    return build_from(entries, folder / "hub", packaged=["learned"], default="learned", real=real)


def grey_levels() -> RealData:
    """Twenty grey images; levels 0, 10, 20, ... 190 of 255."""
    levels = (torch.arange(20) * 10).to(torch.uint8)[:, None, None, None].expand(20, 1, 2, 2).contiguous()
    return real_data(ImageSet(levels, torch.arange(20) % 10, tuple("abcdefghij")))


def test_distances_to_the_source_derived_by_hand(tmp_path: Path) -> None:
    """Ten images start from levels 0 to 90. The first is as it was, the next eight moved by 3 of 255, the last by 12.

    The last, at 102, is nearest to level 100 instead of its start; distances are 0, eight times 3 / 255, and 2 / 255.
    """
    real = grey_levels()
    started = real_subset(real.train, torch.arange(10), real.normalisation)
    moves = torch.tensor([0.0, *[3.0] * 8, 12.0])[:, None, None, None] / 255
    learned = replace(started, images=started.images + moves, learned=torch.ones(10, dtype=torch.bool))
    package = distances_of(tmp_path, learned, RECIPES["mtt-ipc2"], real)
    assert package.recipe_json("learned")["nearest_source"] == {
        "median": round(3 / 255, 6),
        "min": 0.0,
        "max": round(3 / 255, 6),
        "from_start": 9,
        "copies": 1,
        "yardstick": round(10 / 255, 6),
    }
    text = card_of(package)
    assert "| `learned` | 0.012 | 0.000 | 0.012 | 9 of 10 |" in text
    assert "a training image is 0.039 from the nearest other one" in text
    assert "`learned` has 1 learned image that equals a training image." in text


def test_a_start_that_the_source_holds_twice_is_still_the_nearest(tmp_path: Path) -> None:
    real = grey_levels()
    twice = replace(real.train, images=torch.cat([real.train.images[10:], real.train.images[10:]]))
    real = real_data(twice)
    started = real_subset(real.train, torch.arange(10, 20), real.normalisation)
    learned = replace(started, images=started.images + 1 / 255, learned=torch.ones(10, dtype=torch.bool))
    nearest = distances_of(tmp_path, learned, RECIPES["mtt-ipc2"], real).recipe_json("learned")["nearest_source"]
    assert (nearest["from_start"], nearest["copies"], nearest["yardstick"]) == (10, 0, 0.0)


def test_where_nothing_is_learned_no_distance_is_told(
    built: Package, entries: dict[str, Entry], tmp_path: Path
) -> None:
    assert built.recipe_json("random-ipc2")["nearest_source"] is None
    assert built.recipe_json("mtt-ipc2")["images"]["real_verified"] == 0
    package = build_from(entries, tmp_path / "hub", packaged=["random-ipc2"], default="random-ipc2")
    assert "all are bit-identical" in card_of(package)
    assert "distance" not in card_of(package)


@pytest.mark.parametrize("told", [True, False])
def test_imported_images_have_no_known_start(tmp_path: Path, told: bool) -> None:
    real = grey_levels()
    files = [{"name": "images|best.pt", "sha256": "b" * 64}, {"name": "labels.pt", "sha256": "c" * 64}]
    learned = replace(
        real_subset(real.train, torch.arange(10), real.normalisation),
        images=torch.full((10, 1, 2, 2), 0.5),
        learned=torch.ones(10, dtype=torch.bool),
        source_row=torch.full((10,), -1),
        student_lr=0.02,
        notes={
            "imported": {"files": files, "saved_as": "normalised", "mean": [0.5], "std": [0.1]}
            if told
            else {"mean": [0.5]}
        },
    )
    params = {"method": "imported", "ipc": 1, "file": "foreign/datm.safetensors", "sha256": "a" * 64}
    package = distances_of(tmp_path, learned, params, real)
    assert package.recipe_json("learned")["nearest_source"]["from_start"] == 0
    text = card_of(package)
    named = f"`images/best.pt` (SHA-256 `{'b' * 64}`); `labels.pt` (SHA-256 `{'c' * 64}`); "
    named += "saved as normalised with mean [0.5] and deviation [0.1]"
    named = named if told else f"`foreign/datm.safetensors` (SHA-256 `{'a' * 64}`)"
    assert "- **Imported.** Images made elsewhere, by other code, imported as they are from the files named" in text
    assert f"before you share them.\n  - `learned`: {named}\n" in text
    assert "This one was made elsewhere, by other code, and imported with distillkit 0.1.0" in text
    assert "| Real | not known: all images were imported, without a record of what they started from |" in text
    assert "| Licence | `MIT`, the licence of the source; that of the imported images is not recorded |" in text
    assert "was made with" not in text
    assert "Imported with distillkit 0.1.0, and measured by `dvc repro`" in text
    assert "**Licence of imported images** (`learned`): their authors and their licence are not recorded" in text
    assert "made from them: assume" not in text
    assert "That of `learned` was imported with the images." in text
    assert "Experts" not in text
    assert "from one seed" not in text
    assert "\n\n\n" not in text
    assert front_matter(package)["license"] == ["mit", "unknown"]
    assert "| `learned` | Imported | 1 | 10 imported | 50.00 ± 0.78 % (n = 5) | – |" in text
    assert "| `learned` | not known | not known | not known |" in text
    assert "| `learned` | 0.0098 | 0.0098 | 0.0098 | not known |" in text
    assert "It is not known what imported images started from" in text
    assert "bit-identical" not in text
    assert "Parameter" not in text
    assert "ipc-1" in front_matter(package)["tags"]


def test_imported_sets_beside_others_are_told_apart(entries: dict[str, Entry], tmp_path: Path) -> None:
    real = real_data(images_of((1, 5, 4)))
    params = {"method": "imported", "ipc": 2, "file": "foreign/dm.safetensors", "sha256": "a" * 64}
    learned = synthetic_set(real, RECIPES["mtt-ipc2"])
    foreign = replace(learned, source_row=torch.full((20,), -1), student_lr=None, notes={})
    save_synthetic(tmp_path / "dm.safetensors", foreign, provenance_of("dm", "imported", params, 3, real))
    entries["dm"] = Entry("dm", tmp_path / "dm.safetensors", metrics_of(0.5), params)
    package = build_from(entries, tmp_path / "hub", packaged=[*PACKAGED, "dm"])
    text = card_of(package)
    assert (
        "a Python package for distilling datasets (except `dm`: made elsewhere, by other code, and imported)." in text
    )
    assert "Made (except imported sets) with distillkit 0.1.0 by `dvc repro`" in text
    assert "The images here that were not imported are the source's own or were made from them" in text
    assert "**Licence of imported images** (`dm`)" in text
    assert "was imported with" not in text
    assert front_matter(package)["license"] == ["mit", "unknown"]
    assert "how far learned and imported images are from the source" in text


def test_the_yardstick_needs_two_images() -> None:
    train = grey_levels().train
    assert source_yardstick(train.take(torch.tensor([3]))) is None
    assert source_yardstick(train.take(torch.tensor([3, 5]))) == round(20 / 255, 6)


def test_the_card_names_no_licence_where_none_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nothing = SourceInfo("folder", "photos", "sha256:0", "")
    entries = entries_in(tmp_path / "distilled", real_data(images_of((1, 5, 4)), nothing))
    package = build_from(entries, tmp_path / "hub", real=real_data(images_of((1, 5, 4)), nothing))
    assert front_matter(package)["license"] == "unknown"
    assert "source_datasets" not in front_matter(package)
    assert "none was recorded" in card_of(package)
    assert "warning: the licence of the source is unknown" in capsys.readouterr().err
    build_example(tmp_path / "licensed")
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "name", "datasets", "words"),
    [
        ("digits", "scikit-learn/digits", None, "scikit-learn's digits (`sklearn."),
        ("huggingface", "someone/digits", ["someone/digits"], "`someone/digits` on the Hub: 10 classes"),
        ("huggingface", "My Photos", None, "the folder `My Photos`: 10 classes"),
        ("folder", "写真", None, "the folder `写真`: 10 classes"),
        ("torchvision", "MNIST", None, "torchvision's `MNIST`: 10 classes"),
    ],
)
def test_a_source_is_named_as_what_it_is(
    entries: dict[str, Entry], tmp_path: Path, kind: str, name: str, datasets: list[str] | None, words: str
) -> None:
    """And a name that looks like an id on the Hub is none where the source is not there."""
    real = real_data(images_of((1, 5, 4)), replace(INFO, kind=kind, id=name))
    package = build_from(entries_in(tmp_path / "named", real), tmp_path / "hub", real=real)
    assert front_matter(package).get("source_datasets") == datasets, "what is not on the Hub is not said to be there"
    assert f"It replaces {words}" in card_of(package)
    assert ("scikit-learn/digits" in card_of(package).split("---\n", 2)[2]) is False


@pytest.mark.parametrize("size", [None, [5, 4]])
def test_the_card_says_how_images_were_resized(tmp_path: Path, size: list[int] | None) -> None:
    real = real_data(images_of((1, 5, 4)), replace(INFO, params={"size": size}))
    package = build_from(entries_in(tmp_path / "named", real), tmp_path / "hub", real=real)
    assert ("Images of another size were resized with Pillow's `BILINEAR` filter" in card_of(package)) is bool(size)


def test_the_training_images_are_those_that_fetch_takes(built: Package) -> None:
    text = card_of(built)
    assert "*training images* means the 40 that distillkit's `fetch` stage takes from this source for training" in text
    assert "This one was made with distillkit 0.1.0, a Python package for distilling datasets.\n" in text
    assert "With the Python package distillkit installed:\n" in text
    assert '`load_dataset("REPOSITORY", "selmatch-ipc2", split="train", revision="v1.0")`' in text
    assert "\n\n\n" not in text


def source(text: str, homepage: str = "") -> dict[str, str]:
    return {"licence": text, "homepage": homepage}


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        (source("cc-by-4.0"), {"license": "cc-by-4.0"}),
        (source("CC BY-NC-SA 4.0"), {"license": "cc-by-nc-sa-4.0"}),
        (source("Apache License 2.0"), {"license": "apache-2.0"}),
        (source("The MIT License"), {"license": "mit"}),
        (source("mit, cc0-1.0"), {"license": ["mit", "cc0-1.0"]}),
        (source("  "), {"license": "unknown"}),
        (source("unknown"), {"license": "unknown"}),
        (source("other", "https://a.b/c"), {"license": "other", "license_link": "https://a.b/c"}),
        (
            source("ImageNet terms, see https://a.b/terms"),
            {"license": "other", "license_name": "imagenet-terms-see", "license_link": "https://a.b/terms"},
        ),
        (source("Research only."), {"license": "other", "license_name": "research-only"}),
        (source("other", "javascript:alert(1)"), {"license": "other"}),
        (source("other", "data:text/html,x"), {"license": "other"}),
        (source("other", 'https://a.b/"><b>'), {"license": "other"}),
        (source("other", "//a.b/c"), {"license": "other"}),
    ],
    ids=lambda value: value.get("licence"),
)
def test_licences_become_the_hubs_identifiers(recorded: dict[str, str], expected: dict[str, Any]) -> None:
    assert licence(recorded) == expected


def test_a_card_shows_what_a_source_says_of_itself_as_text(tmp_path: Path) -> None:
    hostile = "\x1b[31m\x9b\u202e`<img src=x onerror=alert(1)>|javascript:alert(1)"
    real = real_data(images_of((1, 5, 4)))
    info = replace(
        real.info, kind="folder", licence=hostile, homepage="javascript:alert(1)", citation=f"{hostile}\n```"
    )
    real = replace(real, info=info)
    package = build_from(entries_in(tmp_path / "distilled", real), tmp_path / "hub", real=real)
    text = card_of(package)
    assert not [letter for letter in text if letter in "\x1b\x9b\u202e"]
    assert "license_link" not in front_matter(package)
    outside = re.sub(r"```.*?```|`[^`\n]*`", "", text.split("\n---\n", 1)[1], flags=re.DOTALL)
    assert "<img" not in outside and "javascript" not in outside


def test_size_categories_are_the_hubs() -> None:
    sizes = [size_category(images) for images in (999, 1_000, 10_000, 100_000, 1_000_000)]
    assert sizes == ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"]


# What is refused


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Damage to the manifest."""

    def damage(folder: Path) -> None:
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return damage


def list_file(name: str) -> Callable[[Path], None]:
    return edit(lambda manifest: manifest["files"].update({name: {"sha256": "0" * 64, "size": 1}}))


def flip(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)

    return damage


def link_to_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder / "mtt-ipc2")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip("mtt-ipc2/distilled.safetensors"), "mtt-ipc2/distilled.safetensors has SHA-256 .*; expected"),
        (flip("README.md"), "README.md has SHA-256"),
        (lambda folder: (folder / "README.md").write_text("short"), r"README.md has 5 bytes; expected \d+"),
        (lambda folder: (folder / "mtt-ipc2/recipe.json").unlink(), "lacks mtt-ipc2/recipe.json"),
        (lambda folder: (folder / "mtt-ipc2/evil.py").touch(), "also holds mtt-ipc2/evil.py"),
        (link_to_folder, "also holds more"),
        (lambda folder: (folder / "manifest.json").unlink(), "has no manifest.json"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "is no manifest of a package"),
        (list_file("../outside"), "names '../outside'; expected plain names inside the package"),
        (list_file("mtt-ipc2/../../outside"), "expected plain names"),
        (list_file("/etc/passwd"), "names '/etc/passwd'"),
        (list_file("C:\\outside"), "expected plain names"),
        (list_file(".git/config"), "expected plain names"),
        (edit(lambda manifest: manifest.update(format="distillkit-package/9")), "format: .*distillkit-package/1"),
        (edit(lambda manifest: manifest.pop("files")), "files: Field required"),
        (edit(lambda manifest: manifest["recipes"].append("../other")), "names '../other'; expected plain names"),
        (edit(lambda manifest: manifest.update(default="full")), "has default 'full'; expected one of"),
    ],
)
def test_damage_is_found(copied: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copied)
    with pytest.raises(ArtifactError, match=message) as caught:
        open_package(copied)
    assert "\n" not in str(caught.value)


def test_what_the_hub_adds_is_no_damage(copied: Path) -> None:
    (copied / ".gitattributes").write_text("*.parquet filter=lfs\n")
    (copied / ".cache" / "huggingface").mkdir(parents=True)
    (copied / ".cache" / "huggingface" / "README.md.metadata").touch()
    assert list(open_package(copied).recipes) == PACKAGED


def test_links_to_the_files_are_as_good_as_the_files(built: Package, tmp_path: Path) -> None:
    for name in [*built.manifest.files, "manifest.json"]:
        (tmp_path / "linked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "linked" / name).symlink_to(built.folder / name)
    assert list(open_package(tmp_path / "linked").recipes) == PACKAGED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../tiny"}, "package name is '../tiny'"),
        ({"name": ""}, "package name is ''"),
        ({"name": ".tiny"}, "not beginning or ending with '.'"),
        ({"packaged": [*PACKAGED, "a/b"]}, "recipes has the name 'a/b'; expected letters, digits"),
        ({"packaged": [*PACKAGED, ".."]}, r"recipes has the name '\.\.'"),
        ({"packaged": [*PACKAGED, "mtt-ipc2\n"]}, "recipes has the name 'mtt-ipc2.n'"),
        ({"packaged": [*PACKAGED, "mtt-ipc20"]}, "'mtt-ipc20' should be packaged, but does not exist .did you mean"),
        ({"packaged": [*PACKAGED, "mtt-ipc2"]}, "expected each once"),
        ({"packaged": [*PACKAGED, "default"]}, "recipes has the name 'default'"),
        ({"packaged": ["README.MD"], "default": "README.MD"}, "recipes has the name 'README.MD'"),
        ({"packaged": ["mtt-ipc2"]}, "the default recipe is 'selmatch-ipc2', which is not packaged; expected one of"),
        ({"packaged": []}, "which is not packaged"),
        ({"evaluation": {**EVALUATION, "runs": 0}}, "runs is 0"),
    ],
)
def test_bad_requests_are_refused_and_nothing_is_written(
    entries: dict[str, Entry], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    for name in ("default", "README.MD"):
        entries[name] = replace(entries["mtt-ipc2"], name=name)
    with pytest.raises(ParamsError, match=message) as caught:
        build_from(entries, tmp_path / "hub" / "tiny", **changes)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hub").exists()


def on(train: ImageSet) -> Callable[[Entry, Path], Entry]:
    """The same recipe on other images."""
    return lambda entry, folder: entries_in(folder / "unlike", real_data(train))[entry.name]


def two_cranes() -> ImageSet:
    return replace(images_of((1, 5, 4)), class_names=("crane", "crane", *"23456789"))


def brighter() -> ImageSet:
    images = images_of((1, 5, 4))
    return replace(images, images=images.images // 2 + 128)


def from_elsewhere(entry: Entry, folder: Path) -> Entry:
    info = replace(INFO, revision="another")
    return entries_in(folder / "unlike", real_data(images_of((1, 5, 4)), info))[entry.name]


def selected(**changes: Any) -> Callable[[Entry, Path], Entry]:
    """A set of real images with something wrong in it."""

    def change(entry: Entry, folder: Path) -> Entry:
        real = real_data(images_of((1, 5, 4)))
        wrong = replace(real_subset(real.train, torch.arange(20), real.normalisation), **changes)
        path = folder / "wrong" / entry.artifact.name
        save_synthetic(path, wrong, provenance_of(entry.name, "mtt", entry.params, 3, real))
        return replace(entry, artifact=path)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry, folder: replace(entry, artifact=folder / "none"), "none does not exist"),
        (lambda entry, folder: replace(entry, metrics={}), "mtt-ipc2.* no accuracy.mean"),
        (lambda entry, folder: replace(entry, metrics=metrics_of(93.0)), "mtt-ipc2.*accuracy.mean is 93.0"),
        (lambda entry, folder: replace(entry, params={**entry.params, "ipc": 3}), "was made with other parameters"),
        (on(images_of((2, 5, 4))), "has images of 2 channels; expected 1 or 3"),
        (on(two_cranes()), "has several classes called 'crane'"),
        (on(images_of((3, 5, 4))), "mtt-ipc2.* was not made from this source; .*: image shape, mean"),
        (on(brighter()), "mtt-ipc2.* was not made from this source; .*: mean, standard deviation; expected one"),
        (from_elsewhere, "mtt-ipc2.* was not made from this source; these differ: source; expected one"),
        (
            selected(source_row=torch.arange(20) + 1),
            "image 0 is marked real but is not source row 1; expected the same",
        ),
        (selected(labels=torch.arange(20).flip(0) % 10), "image 0 is marked real but is not source row 0"),
        (selected(source_row=torch.arange(20) - 1), "mtt-ipc2.* has a real image without a source row"),
        (selected(source_row=torch.arange(20) + 21), "names source row 40; expected rows below 40"),
    ],
)
def test_a_build_that_fails_leaves_the_earlier_package(
    built: Package,
    copied: Path,
    entries: dict[str, Entry],
    tmp_path: Path,
    change: Callable[[Entry, Path], Entry],
    message: str,
) -> None:
    entries["mtt-ipc2"] = change(entries["mtt-ipc2"], tmp_path)
    before = sorted(copied.parent.iterdir())
    with pytest.raises(DistillkitError, match=message) as caught:
        build_from(entries, copied)
    assert "\n" not in str(caught.value)
    assert open_package(copied).manifest == built.manifest
    assert sorted(copied.parent.iterdir()) == before


def test_an_earlier_package_is_replaced_as_a_whole(entries: dict[str, Entry], copied: Path) -> None:
    package = build_from(entries, copied, packaged=["mtt-ipc2"], default="mtt-ipc2")
    assert list(package.recipes) == ["mtt-ipc2"]
    assert not (copied / "selmatch-ipc2").exists()
    assert [path.name for path in copied.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_never_replaced(entries: dict[str, Entry], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.tex").write_text("Introduction")
    with pytest.raises(ArtifactError, match="exists and is no package"):
        build_from(entries, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "draft.tex").read_text() == "Introduction"


def test_a_users_file_in_an_earlier_package_is_not_removed(entries: dict[str, Entry], copied: Path) -> None:
    (copied / "mtt-ipc2" / "notes.txt").write_text("keep me")
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    with pytest.raises(ArtifactError, match=r"has files that its manifest does not list, such as mtt-ipc2/notes.txt"):
        build_from(entries, copied)
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_options_are_cited_with_their_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of settings that this version cannot read nothing is known; the method is cited all the same."""
    correction = {"matching": {**MATCHING, "difficulty_correction": {"weight": 0.1}}}
    changes = {"mtt-ipc2": RECIPES["mtt-ipc2"] | correction | {"labels": "learned"}}
    changes["selmatch-ipc2"] = RECIPES["selmatch-ipc2"] | {"of_tomorrow": 1}
    monkeypatch.setattr(sys.modules[__name__], "RECIPES", RECIPES | changes)
    card = card_of(build_example(tmp_path))
    for key in ("cazenavette2022mtt", "lee2024selmatch", "guo2024datm", "wang2024sdc"):
        assert card.count(key) == 1
    made = card.split("## How it was made")[1].split("\n| Parameter")[0]
    assert "\n- **Of `mtt-ipc2`:** Its labels are soft (`labels: learned`)" in made
    assert "\n- **Of `mtt-ipc2`:** Its loss has a penalty on top (`matching.difficulty_correction`)" in made
    assert "it is not known whether this is the paper's exact form." in made


def test_a_generator_can_remember_what_it_was_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "can remember" not in card_of(build_example(tmp_path / "one"))
    monkeypatch.setattr(sys.modules[__name__], "RECIPES", RECIPES | {"mtt-ipc2": {"method": "diffusion", "ipc": 2}})
    real = card_of(build_example(tmp_path / "other")).split("## Real and learned images")[1]
    assert "not an anonymised one.** A generator can remember training images, so its images can be" in real
