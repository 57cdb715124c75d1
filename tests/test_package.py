"""A package is built from real artifacts, read back with the libraries that its users have, and damaged."""

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

from distillkit.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.card import licence, size_category
from distillkit.errors import ArtifactError, DistillkitError, ParamsError
from distillkit.images import ImageSet, RealData, SourceInfo, SyntheticSet, channel_statistics, real_subset
from distillkit.manifest import Package, open_package
from distillkit.package import Entry, build
from distillkit.progress import track

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
    third = {"mean": accuracy, "std": std}
    return {"accuracy": {"mean": accuracy, "std": std, "runs": 5}, "easy": third, "middle": third, "hard": third}


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
    build(folder, entries=list(entries.values()), track=track, **{**settings, **changes})
    return open_package(folder)


def build_example(folder: Path, shape: tuple[int, int, int] = (1, 5, 4)) -> Package:
    """A package and the artifacts it is made of, in ``folder``."""
    return build_from(entries_in(folder / "distilled", real_data(images_of(shape))), folder / "hub" / "tiny")


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


# What the Hub's library reads


@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 6)], ids=["grey", "colour"])
def test_every_config_loads_as_the_artifact_bit_for_bit(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    package = build_example(tmp_path, shape)
    assert package.recipes == PACKAGED
    for recipe in package.recipes:
        synthetic, _ = load_synthetic(package.artifact(recipe))
        data = load(package, recipe)
        assert data.features["label"].names == list(synthetic.class_names)
        tensors = data.select_columns(["pixels", "label", "learned", "source_row"]).with_format("torch")[:]
        assert tensors["pixels"].dtype == torch.float32
        assert torch.equal(tensors["pixels"], synthetic.images)
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
    assert data.config_name == built.default == "selmatch-ipc2"
    assert torch.equal(data.with_format("torch")["pixels"][:], load_synthetic(built.artifact(built.default))[0].images)


def test_large_images_have_no_float_column(tmp_path: Path) -> None:
    package = build_example(tmp_path, (3, 64, 65))
    assert load(package, "mtt-ipc2").column_names == ["image", "label", "learned", "source_row"]
    assert "**Train on the float32 images in the config's `distilled.safetensors`**" in card_of(package)
    assert "pixels" in load(build_example(tmp_path / "smaller", (3, 64, 64)), "mtt-ipc2").column_names


def test_the_artifact_is_copied_byte_for_byte(tmp_path: Path) -> None:
    package = build_example(tmp_path)
    for recipe in package.recipes:
        assert package.artifact(recipe).read_bytes() == (tmp_path / f"distilled/{recipe}.safetensors").read_bytes()


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
    assert {name: (again / name).read_bytes() for name in open_package(again).manifest["files"]} == {
        name: (built.folder / name).read_bytes() for name in built.manifest["files"]
    }


def test_importing_the_module_does_not_import_the_hub() -> None:
    code = "import sys, distillkit.package; assert not {'datasets', 'huggingface_hub', 'matplotlib'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# What is recorded


def test_layout(built: Package) -> None:
    files = {"distilled.safetensors", "preview.png", "recipe.json", "train-00000-of-00001.parquet"}
    expected = {"README.md", "manifest.json"} | {f"{recipe}/{name}" for recipe in PACKAGED for name in files}
    found = {path.relative_to(built.folder).as_posix() for path in built.folder.rglob("*") if path.is_file()}
    assert found == expected
    assert set(built.manifest["files"]) == expected - {"manifest.json"}
    assert json.loads((built.folder / "manifest.json").read_text())["format"] == "distillkit-package/1"


def test_recipe_json_says_how_the_set_was_made_and_what_it_achieves(built: Package) -> None:
    recipe = built.recipe_json("selmatch-ipc2")
    assert recipe["params"] == RECIPES["selmatch-ipc2"]
    assert recipe["images"] == {"total": 20, "real": 10, "learned": 10, "learned_from_source": 10}
    assert recipe["results"]["accuracy"] == {"mean": 0.9375, "std": 0.0078, "runs": 5}
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
    assert "90.00 ± 0.78 % (n = 5) | – | – |" in card_of(package)
    assert load(package, None).num_rows == 20


def test_an_unknown_recipe_is_named(built: Package) -> None:
    with pytest.raises(ParamsError, match=r"no recipe 'mtt-ipc3'.*did you mean 'mtt-ipc2'"):
        built.artifact("mtt-ipc3")


# The card


def card_of(package: Package) -> str:
    return (package.folder / "README.md").read_text(encoding="utf-8")


def test_front_matter(built: Package) -> None:
    matter = front_matter(built)
    assert matter["pretty_name"] == "tiny"
    assert matter["license"] == "mit"
    assert matter["task_categories"] == ["image-classification"]
    assert matter["size_categories"] == ["n<1K"]
    assert matter["source_datasets"] == ["someone/digits"]
    assert matter["annotations_creators"] == ["machine-generated"]
    assert {"dataset-distillation", "distillkit", "dvc", "selmatch", "ipc-2"} <= set(matter["tags"])
    assert [config["config_name"] for config in matter["configs"]] == PACKAGED
    assert [config["config_name"] for config in matter["configs"] if config.get("default")] == ["selmatch-ipc2"]
    counts = {info["config_name"]: info["splits"][0]["num_examples"] for info in matter["dataset_info"]}
    assert counts == dict.fromkeys(PACKAGED, 20)


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
    row = "| 93.75 ± 0.78 % (n = 5) | 81.25 ± 0.78 % (n = 5) | 98.00 ± 0.78 % (n = 5) |"
    assert row in before
    for name, accuracy in (("selmatch-ipc2", 0.5), ("random-ipc2", 0.25), ("full", 0.75)):
        entries[name] = replace(entries[name], metrics=metrics_of(accuracy, std=0.125))
    after = card_of(build_from(entries, tmp_path / "after"))
    assert row not in after
    assert "| 50.00 ± 12.50 % (n = 5) | 25.00 ± 12.50 % (n = 5) | 75.00 ± 12.50 % (n = 5) |" in after


def test_one_network_has_no_deviation(entries: dict[str, Entry], tmp_path: Path) -> None:
    single = {"accuracy": {"mean": 0.5, "std": 0.0, "runs": 1}}
    entries["selmatch-ipc2"] = replace(entries["selmatch-ipc2"], metrics=single)
    assert "**50.00 % (n = 1)** test accuracy" in card_of(build_from(entries, tmp_path / "hub"))


def test_the_card_tells_what_is_real_and_how_much_is_saved(built: Package) -> None:
    text, size = card_of(built), built.artifact("selmatch-ipc2").stat().st_size
    assert "| `selmatch-ipc2` | 10 | 10 | 0 |" in text
    assert "training images take 800 bytes" in text
    assert f"| `selmatch-ipc2` | {size:,} | {100 * size / 800:.1f} % |" in text
    assert "| `window_start`, as chosen | – | 0.4 | 0.4 |" in text
    assert "![Images of selmatch-ipc2, a row for each class](selmatch-ipc2/preview.png)" in text
    assert "A. Author. Digits. 1998." in text


def test_the_card_names_no_licence_where_none_was_recorded(tmp_path: Path) -> None:
    nothing = SourceInfo("folder", "photos", "sha256:0", "")
    entries = entries_in(tmp_path / "distilled", real_data(images_of((1, 5, 4)), nothing))
    package = build_from(entries, tmp_path / "hub")
    assert front_matter(package)["license"] == "unknown"
    assert front_matter(package)["source_datasets"] == ["original"]
    assert "none was recorded" in card_of(package)


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
    ],
    ids=lambda value: value.get("licence"),
)
def test_licences_become_the_hubs_identifiers(recorded: dict[str, str], expected: dict[str, Any]) -> None:
    assert licence(recorded) == expected


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
        (edit(lambda manifest: manifest["recipes"].append("../other")), "does not list ../other/"),
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
    assert open_package(copied).recipes == PACKAGED


def test_links_to_the_files_are_as_good_as_the_files(built: Package, tmp_path: Path) -> None:
    for name in [*built.manifest["files"], "manifest.json"]:
        (tmp_path / "linked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "linked" / name).symlink_to(built.folder / name)
    assert open_package(tmp_path / "linked").recipes == PACKAGED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../tiny"}, "package name is '../tiny'"),
        ({"name": ""}, "package name is ''"),
        ({"name": ".tiny"}, "not beginning with '.'"),
        ({"packaged": [*PACKAGED, "a/b"]}, "recipe name is 'a/b'; expected letters, digits"),
        ({"packaged": [*PACKAGED, ".."]}, r"recipe name is '\.\.'"),
        ({"packaged": [*PACKAGED, "mtt-ipc2\n"]}, "recipe name is 'mtt-ipc2.n'"),
        ({"packaged": [*PACKAGED, "mtt-ipc20"]}, "'mtt-ipc20' is to be packaged, but does not exist .did you mean"),
        ({"packaged": [*PACKAGED, "mtt-ipc2"]}, "expected names that differ"),
        ({"packaged": [*PACKAGED, "default"]}, "'default' has a name that the package needs itself"),
        ({"packaged": ["README.MD"], "default": "README.MD"}, "has a name that the package needs itself"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry, folder: replace(entry, artifact=folder / "none"), "none does not exist"),
        (lambda entry, folder: replace(entry, metrics={}), "mtt-ipc2.* no accuracy.mean"),
        (lambda entry, folder: replace(entry, metrics=metrics_of(93.0)), "mtt-ipc2.*accuracy.mean is 93.0"),
        (lambda entry, folder: replace(entry, params={**entry.params, "ipc": 3}), "was made with other parameters"),
        (on(images_of((2, 5, 4))), "has images of 2 channels; expected 1 or 3"),
        (on(two_cranes()), "has several classes called 'crane'"),
        (on(images_of((3, 5, 4))), "'random-ipc2' and 'mtt-ipc2' come from different images"),
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
    assert package.recipes == ["mtt-ipc2"]
    assert not (copied / "selmatch-ipc2").exists()
    assert [path.name for path in copied.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_of_something_else_is_never_replaced(entries: dict[str, Entry], tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "draft.tex").write_text("Introduction")
    with pytest.raises(ArtifactError, match="exists and is no package"):
        build_from(entries, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "draft.tex").read_text() == "Introduction"
