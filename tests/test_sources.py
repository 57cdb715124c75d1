"""Sources read real files: every behaviour and every bad input on images of a few pixels."""

import errno
import hashlib
import json
import logging
import os
import struct
from collections.abc import Callable, Iterable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import datasets
import huggingface_hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from distillkit.base import params
from distillkit.base.errors import ParamsError, SourceError
from distillkit.data.images import RealData
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import DigitsSource, FolderSource, HuggingFaceSource, TorchvisionSource

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No network, and a cache of its own; both libraries read the environment only when imported."""
    cache = tmp_path_factory.mktemp("huggingface-cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return cache


def grey(*rows: tuple[int, ...]) -> Image.Image:
    return Image.fromarray(np.array(rows, dtype=np.uint8))


def colour(red: int, green: int, blue: int) -> Image.Image:
    """One row of two equal pixels."""
    return Image.new("RGB", (2, 1), (red, green, blue))


def write_folder(root: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return root


def pets(root: Path) -> Path:
    """Two training images a class, one test image a class, each one row of two pixels."""
    return write_folder(
        root,
        {
            "train/cat/0.png": grey((0, 255)),
            "train/cat/1.png": grey((0, 255)),
            "train/dog/0.png": grey((255, 0)),
            "train/dog/1.png": grey((255, 0)),
            "test/cat/0.png": grey((1, 2)),
            "test/dog/0.png": grey((3, 4)),
        },
    )


def flat_pets(root: Path, per_class: int = 4) -> Path:
    """Images without a split: image ``i`` of a class has the value 10 i, plus 1 for dogs, in both pixels."""
    images = {}
    for row in range(per_class):
        images[f"cat/{row:02}.png"] = grey((10 * row, 10 * row))
        images[f"dog/{row:02}.png"] = grey((10 * row + 1, 10 * row + 1))
    return write_folder(root, images)


def fetch_folder(root: Path, **options: Any) -> RealData:
    return fetch(DataSpec(FolderSource(path=str(root)), **options))


def first_pixels(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def write_parquet(
    root: Path,
    split: str,
    images: list[Image.Image | None],
    labels: list[Any],
    label: Any = None,
    names: tuple[str, str] = ("image", "label"),
) -> Path:
    """``data/<split>-00000-of-00001.parquet``; ``label`` is the label's feature, cat and dog unless given."""
    label = label or datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features({names[0]: datasets.Image(), names[1]: label})
    (root / "data").mkdir(parents=True, exist_ok=True)
    data = datasets.Dataset.from_dict({names[0]: images, names[1]: labels}, features=features)
    data.to_parquet(root / "data" / f"{split}-00000-of-00001.parquet")
    return root


def hub_pets(root: Path) -> Path:
    write_parquet(root, "train", [grey((0, 255)), grey((255, 0)), grey((0, 255)), grey((255, 0))], [0, 1, 0, 1])
    return write_parquet(root, "test", [grey((1, 2)), grey((3, 4))], [1, 0])


def fetch_hub(root: Path, spec: dict[str, Any] | None = None, **source: Any) -> RealData:
    return fetch(DataSpec(HuggingFaceSource(id=str(root), **source), **(spec or {})))


# ---- digits ---------------------------------------------------------------------------------------------------------


def test_digits_are_1797_grey_images_of_8x8() -> None:
    real = fetch(DataSpec(DigitsSource()))
    assert real.train.image_shape == (1, 8, 8)
    assert len(real.train) + len(real.test) == 1797
    assert real.train.class_names == tuple("0123456789")
    assert int(real.train.images.max()) == 255
    assert (real.info.id, real.info.licence) == ("scikit-learn/digits", "cc-by-4.0")
    assert real.info.revision == "uci-optdigits-test"
    assert "10.24432/C50P49" in real.info.homepage and "Alpaydin" in real.info.citation


def test_digits_scale_16_grey_levels_to_255() -> None:
    """The first zero begins 0 0 5 13 9 1 0 0, and 5 · 255 / 16 = 79.7, 13: 207.2, 9: 143.4, 1: 15.9."""
    real = fetch(DataSpec(DigitsSource(), test_fraction=0.01))
    assert [0, 0, 80, 207, 143, 16, 0, 0] in real.train.images[:, 0, 0].tolist()


# ---- folders --------------------------------------------------------------------------------------------------------


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    real = fetch_folder(pets(tmp_path))
    assert real.train.class_names == real.test.class_names == ("cat", "dog")
    assert real.train.images.dtype == torch.uint8
    assert real.train.images.tolist() == [[[[0, 255]]], [[[0, 255]]], [[[255, 0]]], [[[255, 0]]]]
    assert real.train.labels.tolist() == [0, 0, 1, 1]
    assert real.test.images.tolist() == [[[[1, 2]]], [[[3, 4]]]]


def test_normalisation_is_of_the_training_pixels(tmp_path: Path) -> None:
    """Half the pixels are 0 and half are 1."""
    normalisation = fetch_folder(pets(tmp_path)).normalisation
    assert normalisation.mean.tolist() == [0.5]
    assert normalisation.std.tolist() == [0.5]


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_folder_stands_in_for_test(tmp_path: Path, name: str) -> None:
    (pets(tmp_path) / "test").rename(tmp_path / name)
    assert first_pixels(fetch_folder(tmp_path).test.images) == [1, 3]


def test_test_folder_goes_before_val(tmp_path: Path) -> None:
    write_folder(pets(tmp_path), {"val/cat/0.png": grey((9, 9)), "val/dog/0.png": grey((9, 9))})
    assert first_pixels(fetch_folder(tmp_path).test.images) == [1, 3]


def test_class_folders_alone_are_split_by_class(tmp_path: Path) -> None:
    real = fetch_folder(flat_pets(tmp_path), test_fraction=0.25)
    assert (real.train.class_counts, real.test.class_counts) == ([3, 3], [1, 1])
    assert sorted(first_pixels(real.train.images) + first_pixels(real.test.images)) == [0, 1, 10, 11, 20, 21, 30, 31]


def test_train_folder_without_test_is_split(tmp_path: Path) -> None:
    real = fetch_folder(flat_pets(tmp_path / "train").parent, test_fraction=0.5)
    assert (real.train.class_counts, real.test.class_counts) == ([2, 2], [2, 2])


def test_class_may_be_called_train(tmp_path: Path) -> None:
    write_folder(flat_pets(tmp_path), {"train/0.png": grey((5, 5)), "train/1.png": grey((6, 6))})
    assert fetch_folder(tmp_path).train.class_names == ("cat", "dog", "train")


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_both_parts_of_a_split_have_every_class(tmp_path: Path, fraction: float) -> None:
    real = fetch_folder(flat_pets(tmp_path, per_class=2), test_fraction=fraction)
    assert (real.train.class_counts, real.test.class_counts) == ([1, 1], [1, 1])


def test_split_is_fixed_by_its_seed(tmp_path: Path) -> None:
    flat_pets(tmp_path, per_class=12)
    chosen = [first_pixels(fetch_folder(tmp_path, split_seed=seed).test.images) for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_files_that_are_no_images_or_hidden_are_left_out(tmp_path: Path) -> None:
    pets(tmp_path)
    for name in ("train/cat/notes.txt", "train/cat/.hidden.png", ".git/config", "train/.cache/0.png", "LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    real = fetch_folder(tmp_path)
    assert (len(real.train), real.train.class_names) == (4, ("cat", "dog"))


def test_nested_folders_belong_to_the_class_above(tmp_path: Path) -> None:
    write_folder(pets(tmp_path), {"train/cat/tabby/7.png": grey((7, 7))})
    assert fetch_folder(tmp_path).train.class_counts == [3, 2]


# ---- what is recorded -----------------------------------------------------------------------------------------------


def test_revision_is_the_sha256_of_sha256sum_lines(tmp_path: Path) -> None:
    flat_pets(tmp_path, per_class=2)
    names = ["cat/00.png", "cat/01.png", "dog/00.png", "dog/01.png"]
    lines = "".join(f"{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    assert fetch_folder(tmp_path).info.revision == f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def test_revision_follows_content_and_not_place(tmp_path: Path) -> None:
    here, there, other = (flat_pets(tmp_path / name) for name in ("here", "there", "other"))
    grey((99, 99)).save(other / "cat" / "00.png")
    revisions = [fetch_folder(path).info.revision for path in (here, there, other)]
    assert revisions[0] == revisions[1] != revisions[2]


def test_absolute_path_is_recorded_by_its_last_component(tmp_path: Path) -> None:
    info = fetch_folder(pets(tmp_path / "pets"), size=(1, 2)).info
    assert (info.kind, info.id, info.licence) == ("folder", "pets", "unknown")
    assert str(tmp_path) not in json.dumps([info.params, info.id, info.revision])
    assert info.params == json.loads(json.dumps(info.params))
    assert info.params["source"] == {"kind": "folder", "path": "pets"}
    assert info.params["size"] == [1, 2]


def test_relative_path_is_recorded_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pets(tmp_path / "data" / "pets")
    monkeypatch.chdir(tmp_path)
    info = fetch(DataSpec(FolderSource(path="data/pets"))).info
    assert (info.id, info.params["source"]["path"]) == ("pets", "data/pets")


def test_given_licence_is_recorded(tmp_path: Path) -> None:
    assert fetch_folder(pets(tmp_path), licence="cc0-1.0").info.licence == "cc0-1.0"


# ---- pixels ---------------------------------------------------------------------------------------------------------


def fetch_images(root: Path, cat: Image.Image, dog: Image.Image, suffix: str = "png", **options: Any) -> torch.Tensor:
    """The two training images; the test set is the same two."""
    write_folder(root, {f"{part}/cat/0.{suffix}": cat for part in ("train", "test")})
    write_folder(root, {f"{part}/dog/0.{suffix}": dog for part in ("train", "test")})
    return fetch_folder(root, **options).train.images


def test_grey_images_stay_one_channel(tmp_path: Path) -> None:
    assert fetch_images(tmp_path, grey((1, 2)), grey((3, 4))).shape == (2, 1, 1, 2)


def test_bilevel_images_become_0_and_255(tmp_path: Path) -> None:
    images = fetch_images(tmp_path, grey((0, 255)).convert("1"), grey((255, 0)).convert("1"))
    assert images.tolist() == [[[[0, 255]]], [[[255, 0]]]]


def test_16_bit_grey_is_scaled_to_8_bit(tmp_path: Path) -> None:
    """65535 / 257 = 255 and 25700 / 257 = 100."""
    deep = Image.fromarray(np.array([[65535, 25700]], dtype=np.uint16))
    assert deep.mode == "I;16"
    assert fetch_images(tmp_path, deep, grey((3, 4))).tolist() == [[[[255, 100]]], [[[3, 4]]]]


def test_colour_is_channels_first(tmp_path: Path) -> None:
    images = fetch_images(tmp_path, colour(1, 2, 3), colour(4, 5, 6))
    assert images[:, :, 0, 0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize("swap", [False, True])
def test_grey_beside_colour_becomes_colour(tmp_path: Path, swap: bool) -> None:
    pair = [grey((7, 7)), colour(1, 2, 3)]
    cat, dog = reversed(pair) if swap else pair
    expected = [[7, 7, 7], [1, 2, 3]]
    assert fetch_images(tmp_path, cat, dog)[:, :, 0, 0].tolist() == (expected[::-1] if swap else expected)


def test_grey_training_images_become_colour_for_colour_test_images(tmp_path: Path) -> None:
    colour(1, 2, 3).save(pets(tmp_path) / "test" / "cat" / "0.png")
    real = fetch_folder(tmp_path)
    assert real.train.image_shape == real.test.image_shape == (3, 1, 2)
    assert real.train.images[0].tolist() == [[[0, 255]]] * 3
    assert real.normalisation.mean.tolist() == [0.5] * 3


def test_palette_becomes_rgb(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    images = fetch_images(tmp_path, palette, Image.new("RGBA", (2, 1), (4, 5, 6, 255)))
    assert images[:, :, 0, 0].tolist() == [[10, 20, 30], [4, 5, 6]]


def test_exif_orientation_is_respected(tmp_path: Path) -> None:
    """Orientation 6: the camera was turned, so the stored row 1 2 stands upright as a column."""
    upright = grey((3,), (4,))
    fetch_images(tmp_path, upright, upright)
    orientation = Image.Exif()
    orientation[0x0112] = 6
    grey((1, 2)).save(tmp_path / "train" / "cat" / "0.png", exif=orientation)
    assert fetch_folder(tmp_path).train.images.tolist() == [[[[1], [2]]], [[[3], [4]]]]


def test_size_resizes_with_antialiasing(tmp_path: Path) -> None:
    """One pixel is the mean of four: (0 + 100 + 100 + 200) / 4."""
    images = fetch_images(tmp_path, grey((0, 100), (100, 200)), grey((8, 8), (8, 8)), size=(1, 1))
    assert images.tolist() == [[[[100]]], [[[8]]]]


def test_size_is_height_then_width_and_unites_mixed_sizes(tmp_path: Path) -> None:
    assert fetch_images(tmp_path, grey((1, 2)), grey((3,), (4,)), size=(2, 3)).shape == (2, 1, 2, 3)


# ---- caps and progress ----------------------------------------------------------------------------------------------


def test_caps_are_per_class_in_source_order(tmp_path: Path) -> None:
    real = fetch_folder(flat_pets(tmp_path, per_class=12), test_fraction=0.5, per_class=3, test_per_class=2)
    assert (real.train.class_counts, real.test.class_counts) == ([3, 3], [2, 2])
    cats = first_pixels(real.train.images[real.train.labels == 0])
    assert cats == sorted(cats)


def test_caps_are_random_fixed_by_the_seed_and_nested(tmp_path: Path) -> None:
    flat_pets(tmp_path, per_class=24)
    rows = [(0, 4), (0, 4), (1, 4), (0, 6)]
    chosen = [first_pixels(fetch_folder(tmp_path, split_seed=seed, per_class=cap).train.images) for seed, cap in rows]
    assert chosen[0] == chosen[1] != chosen[2]
    assert set(chosen[0]) < set(chosen[3])


def test_cap_above_a_class_keeps_it_whole(tmp_path: Path) -> None:
    assert fetch_folder(pets(tmp_path), per_class=100).train.class_counts == [2, 2]


def test_only_capped_images_are_decoded_and_progress_is_told(tmp_path: Path) -> None:
    seen: list[tuple[int, str]] = []

    def track(blocks: Iterable[Any], description: str, total: int) -> Iterable[Any]:
        found = list(blocks)
        seen.append((sum(len(block.images) for block in found), description))
        assert total == len(found) == 1
        return found

    fetch(DataSpec(FolderSource(path=str(flat_pets(tmp_path))), per_class=1), track)
    assert seen == [(2, "decoding train images"), (2, "decoding test images")]


# ---- Hugging Face ---------------------------------------------------------------------------------------------------


def test_parquet_folder_with_image_and_class_label(tmp_path: Path) -> None:
    real = fetch_hub(hub_pets(tmp_path / "pets"))
    assert real.train.class_names == ("cat", "dog")
    assert real.train.images.tolist() == [[[[0, 255]]], [[[255, 0]]], [[[0, 255]]], [[[255, 0]]]]
    assert real.test.labels.tolist() == [1, 0]
    assert real.info.id == real.info.params["source"]["id"] == "pets"
    assert real.info.revision.startswith("sha256:")
    assert str(tmp_path) not in json.dumps([dict(real.info.params), real.info.id])


def test_local_folder_is_left_as_it_was(tmp_path: Path) -> None:
    before = sorted(hub_pets(tmp_path).rglob("*"))
    fetch_hub(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_changed_files_with_the_old_times_are_read_anew(tmp_path: Path) -> None:
    for value in (1, 9):
        for split in ("train", "test"):
            write_parquet(tmp_path, split, [grey((value, 0)), grey((value, 0))], [0, 1])
            os.utime(tmp_path / "data" / f"{split}-00000-of-00001.parquet", (1e9, 1e9))
        assert first_pixels(fetch_hub(tmp_path).train.images) == [value, value]


def test_image_folders_load_through_datasets(tmp_path: Path) -> None:
    assert fetch_hub(pets(tmp_path)).train.class_names == ("cat", "dog")


def test_progress_bars_are_hidden_without_a_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hub_pets(tmp_path)
    capfd.readouterr()
    fetch_hub(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_columns_are_found_by_their_kind(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path, split, [grey((1, 2)), grey((3, 4))], [0, 1], names=("img", "breed"))
    assert len(fetch_hub(tmp_path).train) == 2


@pytest.mark.parametrize(
    ("feature", "labels", "names"),
    [
        ("string", ["owl", "ant"], ("ant", "owl")),
        ("int32", [10, 2], ("2", "10")),
        ("bool", [True, False], ("False", "True")),
    ],
)
def test_plain_labels_become_sorted_classes(
    tmp_path: Path, feature: str, labels: list[Any], names: tuple[str, str]
) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path, split, [grey((1, 1)), grey((2, 2))], labels, datasets.Value(feature))
    real = fetch_hub(tmp_path)
    assert real.train.class_names == names
    assert real.train.labels.tolist() == [1, 0]


def write_ambiguous(root: Path) -> Path:
    """Two images, two class labels and a struct of bytes that is no declared image."""
    stored = write_parquet(root / "stored", "train", [grey((1, 1)), grey((2, 2))], [0, 1]) / "data"
    images = pq.read_table(stored / "train-00000-of-00001.parquet")["image"].combine_chunks()
    columns = {"first": images, "second": images, "raw": images, "fine": pa.array([0, 1]), "coarse": pa.array([1, 0])}
    label = datasets.ClassLabel(names=["cat", "dog"])
    features = datasets.Features(
        first=datasets.Image(),
        second=datasets.Image(),
        raw={"bytes": datasets.Value("binary"), "path": datasets.Value("string")},
        fine=label,
        coarse=label,
    )
    (root / "data").mkdir()
    for split in ("train", "test"):
        data = datasets.Dataset(pa.table(columns).cast(features.arrow_schema))
        data.to_parquet(root / "data" / f"{split}.parquet")
    for path in [*stored.iterdir(), stored, stored.parent]:
        path.unlink() if path.is_file() else path.rmdir()
    return root


def test_several_label_columns_need_a_choice(tmp_path: Path) -> None:
    write_ambiguous(tmp_path)
    with pytest.raises(SourceError, match=r"fine \(ClassLabel\), coarse \(ClassLabel\).*set data\.source\.label"):
        fetch_hub(tmp_path, image="first")
    assert fetch_hub(tmp_path, image="first", label="coarse").train.labels.tolist() == [1, 0]


def test_several_image_columns_need_a_choice(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"first \(Image\), second \(Image\).*set data\.source\.image"):
        fetch_hub(write_ambiguous(tmp_path), label="fine")


@pytest.mark.parametrize("column", ["second", "raw"])
def test_image_column_can_be_chosen(tmp_path: Path, column: str) -> None:
    real = fetch_hub(write_ambiguous(tmp_path), label="fine", image=column)
    assert first_pixels(real.train.images) == [1, 2]


@pytest.mark.parametrize("column", ["picture", "fine"])
def test_chosen_image_column_must_hold_images(tmp_path: Path, column: str) -> None:
    with pytest.raises(SourceError, match=rf"'{column}' as an image column; set data\.source\.image"):
        fetch_hub(write_ambiguous(tmp_path), label="fine", image=column)


def test_missing_columns_are_told_with_those_found(tmp_path: Path) -> None:
    write_parquet(tmp_path, "train", [grey((1, 1)), grey((2, 2))], [0.5, 1.5], datasets.Value("float32"))
    with pytest.raises(SourceError, match=r"image \(Image\), label \(float32\); expected one label column"):
        fetch_hub(tmp_path)
    with pytest.raises(SourceError, match=r"expected 'breed' as one label column"):
        fetch_hub(tmp_path, label="breed")


def test_dataset_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nhello,0\nbye,1\n")
    with pytest.raises(SourceError, match=r"text \((large_)?string\), label \(int64\); expected an image column"):
        fetch_hub(tmp_path)


@pytest.mark.parametrize("test_split", ["test", None])
def test_missing_test_split_is_taken_from_train(tmp_path: Path, test_split: str | None) -> None:
    write_parquet(tmp_path, "train", [grey((v, v)) for v in range(8)], [0, 1] * 4)
    real = fetch_hub(tmp_path, test_split=test_split)
    assert (real.train.class_counts, real.test.class_counts) == ([3, 3], [1, 1])


def test_splits_can_be_named(tmp_path: Path) -> None:
    assert first_pixels(fetch_hub(hub_pets(tmp_path), train_split="test", test_split="train").train.images) == [1, 3]


@pytest.mark.parametrize("option", ["train_split", "test_split"])
def test_named_split_must_exist(tmp_path: Path, option: str) -> None:
    source: dict[str, Any] = {option: "tets"}
    with pytest.raises(SourceError, match=rf"splits are 'test', 'train'; expected 'tets'; set data\.source\.{option}"):
        fetch_hub(hub_pets(tmp_path), **source)


def test_licence_is_read_from_the_readme(tmp_path: Path) -> None:
    (hub_pets(tmp_path) / "README.md").write_text("---\nlicense: mit\n---\nPets.\n")
    assert fetch_hub(tmp_path).info.licence == "mit"
    assert fetch_hub(tmp_path, {"licence": "cc0-1.0"}).info.licence == "cc0-1.0"


def test_local_revision_can_be_demanded(tmp_path: Path) -> None:
    revision = fetch_hub(hub_pets(tmp_path)).info.revision
    assert fetch_hub(tmp_path, revision=revision).info.revision == revision
    with pytest.raises(SourceError, match=r"has revision sha256:.*; expected sha256:0"):
        fetch_hub(tmp_path, revision="sha256:0")


# ---- the Hub --------------------------------------------------------------------------------------------------------


def cached_hub_dataset(cache: Path, tmp_path: Path) -> None:
    """What ``datasets`` leaves in its cache after loading zoo/pets at COMMIT from the Hub."""
    datasets.disable_progress_bars()
    datasets.load_dataset(str(hub_pets(tmp_path / "pets")))
    datasets.enable_progress_bars()
    (built,) = (path.parent for path in (cache / "pets").rglob("dataset_info.json"))
    (cache / "pets").rename(cache / "zoo___pets")
    moved = cache / "zoo___pets" / built.relative_to(cache / "pets")
    moved.rename(moved.with_name(COMMIT))


def answer(monkeypatch: pytest.MonkeyPatch, result: Any) -> None:
    """The Hub answers a question for dataset_info with ``result``, raised if it is an error."""

    def dataset_info(self: Any, repo_id: str, revision: str | None = None) -> Any:
        del self, repo_id, revision
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_offline_the_cached_commit_is_recorded(offline: Path, tmp_path: Path, revision: str | None) -> None:
    cached_hub_dataset(offline, tmp_path)
    info = fetch(DataSpec(HuggingFaceSource(id="zoo/pets", revision=revision))).info
    assert (info.id, info.revision) == ("zoo/pets", COMMIT)
    assert info.homepage == "https://huggingface.co/datasets/zoo/pets"
    assert info.params["source"]["id"] == "zoo/pets"


def test_offline_another_cached_commit_is_refused(offline: Path, tmp_path: Path) -> None:
    cached_hub_dataset(offline, tmp_path)
    with pytest.raises(SourceError, match=f"holds zoo/pets at {COMMIT}; expected {'f' * 40}"):
        fetch(DataSpec(HuggingFaceSource(id="zoo/pets", revision="f" * 40)))


@pytest.mark.parametrize("revision", [None, "v1"])
def test_offline_a_cache_without_commit_needs_a_revision(offline: Path, tmp_path: Path, revision: str | None) -> None:
    cached_hub_dataset(offline, tmp_path)
    (folder,) = offline.rglob(COMMIT)
    folder.rename(folder.with_name("1ef7b5943bc29528"))
    source = HuggingFaceSource(id="zoo/pets", revision=revision)
    if revision:
        assert fetch(DataSpec(source)).info.revision == "v1"
    else:
        with pytest.raises(SourceError, match=r"revision of zoo/pets is unknown.*set data\.source\.revision"):
            fetch(DataSpec(source))


@pytest.mark.parametrize(("licence", "recorded"), [("mit", "mit"), (["mit", "cc0-1.0"], "mit, cc0-1.0"), (None, "")])
def test_hub_commit_and_licence_are_recorded(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, licence: Any, recorded: str
) -> None:
    cached_hub_dataset(offline, tmp_path)
    answer(monkeypatch, SimpleNamespace(sha=COMMIT, card_data=SimpleNamespace(license=licence)))
    info = fetch(DataSpec(HuggingFaceSource(id="zoo/pets"))).info
    assert (info.revision, info.licence) == (COMMIT, recorded or "unknown")


def test_uncached_dataset_offline_is_refused() -> None:
    with pytest.raises(SourceError, match=r"'zoo/unknown' cannot be loaded.*hf auth login"):
        fetch(DataSpec(HuggingFaceSource(id="zoo/unknown")))


def test_malformed_id_is_refused() -> None:
    with pytest.raises(SourceError, match=r"HFValidationError.*check data\.source\.id"):
        fetch(DataSpec(HuggingFaceSource(id="zoo/pets/cats")))


def test_refusal_by_the_hub_names_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    response = SimpleNamespace(headers={}, request=None, status_code=401)
    # type: ignore[arg-type]
    answer(monkeypatch, HfHubHTTPError("401 Client Error.\nInvalid username or password.", response=response))
    with pytest.raises(SourceError, match=r"401 Client Error. Invalid username.*hf auth login") as caught:
        fetch(DataSpec(HuggingFaceSource(id="zoo/private")))
    assert "\n" not in str(caught.value)


# ---- torchvision ----------------------------------------------------------------------------------------------------


def write_mnist(root: Path) -> Path:
    """MNIST's own files: one training and one test image of each digit, filled with its value and 100 + its value."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for prefix, offset in (("train", 0), ("t10k", 100)):
        labels = np.arange(10, dtype=np.uint8)
        images = np.repeat(labels + offset, 28 * 28).astype(np.uint8)
        header = struct.pack(">IIII", 2051, 10, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 10) + labels.tobytes())
    return root


def test_torchvision_by_train_argument(tmp_path: Path) -> None:
    real = fetch(DataSpec(TorchvisionSource(name="MNIST", root=str(write_mnist(tmp_path / "data")))))
    assert real.train.image_shape == (1, 28, 28)
    assert first_pixels(real.train.images) == list(range(10))
    assert first_pixels(real.test.images) == list(range(100, 110))
    assert real.train.class_names[:2] == ("0 - zero", "1 - one")
    assert (real.info.kind, real.info.id) == ("torchvision", "MNIST")
    assert real.info.revision.startswith("torchvision-0.") and "+" not in real.info.revision
    assert real.info.params["source"]["root"] == "data"


def test_torchvision_by_split_argument(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        folder = tmp_path / "rendered-sst2" / part
        write_folder(folder, {"negative/0.png": colour(1, 2, 3), "positive/0.png": colour(4, 5, 6)})
    real = fetch(DataSpec(TorchvisionSource(name="RenderedSST2", root=str(tmp_path))))
    assert real.train.class_names == ("negative", "positive")
    assert first_pixels(real.test.images) == [1, 4]


def test_torchvision_decodes_no_other_formats(tmp_path: Path) -> None:
    """Others of Pillow start programs, as EPS does."""
    for part in ("train", "valid", "test"):
        folder = tmp_path / "rendered-sst2" / part
        write_folder(folder, {"negative/0.png": colour(1, 2, 3), "positive/0.png": colour(4, 5, 6)})
    colour(7, 8, 9).save(tmp_path / "rendered-sst2/train/negative/0.png", "EPS")
    before = list(Image.ID)
    with pytest.raises(SourceError, match=r"train row 0 cannot be read .*cannot identify image file"):
        fetch(DataSpec(TorchvisionSource(name="RenderedSST2", root=str(tmp_path))))
    assert before == Image.ID


def test_imagenette_is_tested_on_val(tmp_path: Path) -> None:
    for part in ("train", "val"):
        folder = tmp_path / "imagenette2" / part
        write_folder(folder, {"n01440764/0.JPEG": grey((1, 1)), "n02102040/0.JPEG": grey((9, 9))})
    real = fetch(DataSpec(TorchvisionSource(name="Imagenette", root=str(tmp_path), download=False)))
    assert real.test.class_names == ("tench", "English springer")


@pytest.mark.parametrize("name", ["CIFAR11", "mnist", "FakeData", "VOCDetection", "CocoDetection"])
def test_torchvision_of_another_sort_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=f"no classification dataset '{name}'.*CIFAR10, CIFAR100, MNIST"):
        fetch(DataSpec(TorchvisionSource(name=name, root=str(tmp_path))))


def test_torchvision_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"MNIST cannot be loaded.*Dataset not found.*check data\.source\.root"):
        fetch(DataSpec(TorchvisionSource(name="MNIST", root=str(tmp_path), download=False)))


def test_torchvision_download_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fail)
    with pytest.raises(SourceError, match=r"MNIST cannot be loaded.*no route to host") as caught:
        fetch(DataSpec(TorchvisionSource(name="MNIST", root=str(tmp_path))))
    assert "\n" not in str(caught.value)


# ---- bad input ------------------------------------------------------------------------------------------------------


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder .*nowhere; expected .*; check data\.source\.path"):
        fetch_folder(tmp_path / "nowhere")


def test_missing_local_dataset(tmp_path: Path) -> None:
    (tmp_path / "file.parquet").touch()
    for name in ("nowhere", "file.parquet"):
        with pytest.raises(SourceError, match=rf"no folder .*{name}; expected .*; check data\.source\.id"):
            fetch_hub(tmp_path / name)


def test_folder_without_class_folders(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="has no folders; expected one for each class; restore them"):
        fetch_folder(write_folder(tmp_path, {"0.png": grey((1, 2))}))


@pytest.mark.parametrize("place", ["", "train", "images"])
def test_metadata_in_place_of_class_folders(tmp_path: Path, place: str) -> None:
    """As where a folder of classes was exchanged for one that lists its labels."""
    write_folder(tmp_path / place, {"0.png": grey((1, 2)), "1.png": grey((1, 2))})
    file = (tmp_path if place == "images" else tmp_path / place) / "metadata.csv"
    file.write_text("file_name,label\n0.png,cat\n1.png,dog\n")
    expected = "stands in place of class folders; expected a folder for each class; for the labels of metadata.csv"
    with pytest.raises(SourceError) as caught:
        fetch_folder(tmp_path)
    assert str(caught.value).startswith(f"{file} {expected}, write kind: huggingface and id: in place of")


def test_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(SourceError, match="the train split holds no images"):
        fetch_folder(tmp_path)


def test_split_folders_need_train(tmp_path: Path) -> None:
    (pets(tmp_path) / "train").rename(tmp_path / "pictures")
    with pytest.raises(SourceError, match="has 'test' but no 'train'"):
        fetch_folder(tmp_path)


def test_local_dataset_without_data(tmp_path: Path) -> None:
    for name in ("empty", "README.md"):
        with pytest.raises(SourceError) as caught:
            fetch_hub(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path} has no images or data files; expected folders of images, "), (
            name
        )
        (tmp_path / "README.md").write_text("nothing yet")


def test_empty_split(tmp_path: Path) -> None:
    write_parquet(hub_pets(tmp_path / "hub"), "test", [], [])
    with pytest.raises(SourceError, match=r"^\S*/test-00000-of-00001.parquet has no rows; expected .*; restore or rem"):
        fetch_hub(tmp_path / "hub")
    for path in (pets(tmp_path / "folder") / "test").glob("*/*"):
        path.unlink()
    with pytest.raises(SourceError, match="the test split holds no images"):
        fetch_folder(tmp_path / "folder")


def test_a_parquet_file_without_rows_is_named(tmp_path: Path, logged: StringIO) -> None:
    """``datasets`` speaks of the size of a batch."""
    path = hub_pets(tmp_path) / "data" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(
        SourceError, match=r"^\S*/train-00000-of-00001.parquet has no rows; expected images and labels; "
    ):
        fetch_hub(tmp_path)
    assert logged.getvalue() == ""


def test_a_missing_file_of_several(tmp_path: Path) -> None:
    """Half of the training images would be fetched without a word."""
    write_parquet(tmp_path, "train", [grey((1, 2)), grey((3, 4))], [0, 1])
    first = tmp_path / "data/train-00000-of-00001.parquet"
    first.rename(first.with_name("train-00000-of-00002.parquet"))
    with pytest.raises(
        SourceError, match=r"^train-00001-of-00002.parquet is missing, found train-00000-of-00002\S+; exp"
    ):
        fetch(DataSpec(HuggingFaceSource(id=str(tmp_path))))


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What ``datasets`` logs."""
    handler = logging.StreamHandler(shown := StringIO())
    monkeypatch.setattr(logging.getLogger("datasets"), "handlers", [handler])
    return shown


def cut(data: bytes) -> bytes:
    return data[:100]


def overwritten(data: bytes) -> bytes:
    """The footer says that all is well; the header of the first page is not one."""
    return data[:4] + b"\xff" * 60 + data[64:]


@pytest.mark.parametrize("damage", [cut, overwritten])
def test_damaged_parquet_is_named(tmp_path: Path, logged: StringIO, damage: Callable[[bytes], bytes]) -> None:
    """In one line: ``datasets`` itself says nothing more."""
    path = hub_pets(tmp_path) / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(damage(path.read_bytes()))
    size = f"{path.stat().st_size:,} bytes"
    with pytest.raises(SourceError) as caught:
        fetch_hub(tmp_path)
    assert str(caught.value) == f"{path} is cut off or damaged ({size}); expected a parquet file; restore it"
    assert logged.getvalue() == ""


def test_a_data_file_that_cannot_be_read_is_named(tmp_path: Path, logged: StringIO) -> None:
    """Only the log of ``datasets`` has its name."""
    (tmp_path / "train.jsonl").write_text('{"image": "0.png", "label": 1}\n{"ima')
    with pytest.raises(SourceError, match=r"cannot be loaded \(.*train\.jsonl.*JSON parse error.*\); exp") as caught:
        fetch_hub(tmp_path)
    assert logged.getvalue() == "" and "\n" not in str(caught.value)
    logging.getLogger("datasets").error("heard")
    assert logged.getvalue() == "heard\n"


def test_a_full_disk_is_no_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = hub_pets(tmp_path) / "data" / "train-00000-of-00001.parquet"
    path.write_bytes(cut(path.read_bytes()))

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(datasets.DatasetBuilder, "download_and_prepare", full)
    with pytest.raises(SourceError, match="No space left"):
        fetch_hub(tmp_path)


def test_truncated_image_is_named(tmp_path: Path) -> None:
    path = pets(tmp_path) / "train" / "dog" / "1.png"
    grey(*[tuple(range(100))] * 100).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(SourceError, match=r"train/dog/1\.png cannot be read .*; expected an image"):
        fetch_folder(tmp_path)


def test_row_without_readable_image_is_named(tmp_path: Path) -> None:
    write_parquet(hub_pets(tmp_path), "test", [grey((1, 2)), None], [0, 1])
    with pytest.raises(
        SourceError, match=r"^data/test-00000-of-00001.parquet row 1 cannot be read \(it names no image\)"
    ):
        fetch_hub(tmp_path)


def test_32_bit_pixels_are_refused(tmp_path: Path) -> None:
    deep = Image.fromarray(np.array([[0.5, 1e6]], dtype=np.float32))
    with pytest.raises(SourceError, match=r"2 images cannot be read: .*cat/0\.tiff, .*32 bits, mode F"):
        fetch_images(tmp_path, deep, deep, suffix="tiff")


@pytest.mark.parametrize("missing", [None, -1])
def test_missing_label_is_named(tmp_path: Path, missing: int | None) -> None:
    write_parquet(hub_pets(tmp_path), "test", [grey((1, 2)), grey((3, 4))], [0, missing])
    expected = (
        rf"^1 image without a label: data/test-00000-of-00001.parquet row 1 \({missing}\); expected .*; remove it"
    )
    with pytest.raises(SourceError, match=expected):
        fetch_hub(tmp_path)


def test_many_missing_labels_are_named_together(tmp_path: Path) -> None:
    """In two files; each row is counted in its own."""
    for split in ("train-00001", "train-00000"):
        path = write_parquet(tmp_path, "train", [grey((1, 2))] * 8, [0, 1, *[None] * 6])
        path = path / "data/train-00000-of-00001.parquet"
        path.rename(path.with_name(f"{split}-of-00002.parquet"))
    with pytest.raises(SourceError) as caught:
        fetch_hub(tmp_path)
    rows = [f"data/train-0000{file}-of-00002.parquet row {row} (None)" for file in (0, 1) for row in range(2, 8)]
    assert str(caught.value).startswith(
        f"12 images without a label: {', '.join(rows[:10])} and 2 more; expected one for"
    )


def test_label_outside_the_classes_is_named(tmp_path: Path) -> None:
    stored = hub_pets(tmp_path) / "data" / "train-00000-of-00001.parquet"
    table = pq.read_table(stored)
    column = pa.array([0, 1, 2, 1])
    pq.write_table(table.set_column(1, table.schema.field("label"), column), stored)
    with pytest.raises(SourceError, match=r"train-\S+ row 2 has label 2; expected 0 to 1 for 2 classes"):
        fetch_hub(tmp_path)


def test_single_class(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the only class is 'cat'; expected at least 2"):
        fetch_folder(write_folder(tmp_path, {"cat/0.png": grey((1, 2)), "cat/1.png": grey((1, 2))}))


def test_class_without_training_images_is_named(tmp_path: Path) -> None:
    (flat_pets(tmp_path) / "owl").mkdir()
    with pytest.raises(SourceError, match="no training images in 'owl'"):
        fetch_folder(tmp_path)


def test_many_empty_classes_are_counted(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(9)]
    write_parquet(tmp_path, "train", [grey((1, 2))] * 4, [0, 1] * 2, datasets.ClassLabel(names=names))
    with pytest.raises(SourceError, match="no training images in 'c2', 'c3', 'c4', 'c5', 'c6' and 2 more; expected"):
        fetch_hub(tmp_path)


def test_test_classes_must_be_those_of_train(tmp_path: Path) -> None:
    (pets(tmp_path) / "test" / "dog").rename(tmp_path / "test" / "owl")
    with pytest.raises(SourceError, match=r"test classes differ from train's .missing: 'dog', unknown: 'owl'"):
        fetch_folder(tmp_path)


def test_test_split_must_have_every_class(tmp_path: Path) -> None:
    write_parquet(hub_pets(tmp_path), "test", [grey((1, 2))], [0])
    with pytest.raises(SourceError, match="missing: 'dog', unknown: none"):
        fetch_hub(tmp_path)


def test_class_too_small_to_split_is_named(tmp_path: Path) -> None:
    (flat_pets(tmp_path, per_class=2) / "dog" / "00.png").unlink()
    with pytest.raises(SourceError, match="only 1 image in 'dog'; expected at least 2"):
        fetch_folder(tmp_path)


@pytest.mark.parametrize("part", ["train", "test"])
def test_mixed_sizes_name_both_and_the_remedy(tmp_path: Path, part: str) -> None:
    grey((1, 2, 3)).save(pets(tmp_path) / part / "dog" / "0.png")
    with pytest.raises(SourceError, match=r"dog/0\.png is 1x3 .*first training image 1x2.*set data\.size"):
        fetch_folder(tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"size": (0, 8)},
        {"size": (8, -1)},
        {"test_fraction": 0.0},
        {"test_fraction": 1.0},
        {"split_seed": -1},
        {"per_class": 0},
        {"test_per_class": 0},
    ],
)
def test_values_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match=f"data.{next(iter(options))} is "):
        DataSpec(DigitsSource(), **options)


def test_size_and_test_fraction_say_what_is_allowed() -> None:
    with pytest.raises(
        ParamsError, match=r"^data.size is \[32, 0\]; expected height and width of at least 1, as in \[3"
    ):
        DataSpec(DigitsSource(), size=(32, 0))
    with pytest.raises(
        ParamsError, match=r"^data.test_fraction is 1.5; expected between 0.01 and 0.99; write 0.25 to set"
    ):
        DataSpec(DigitsSource(), test_fraction=1.5)


def test_spec_is_read_from_plain_values() -> None:
    values = {"source": {"kind": "folder", "path": "data/pets"}, "size": [8, 8]}
    assert params.read(values, DataSpec, "data") == DataSpec(FolderSource(path="data/pets"), size=(8, 8))
