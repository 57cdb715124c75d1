"""Sets as small as they can be: real images as their source had them, learned ones rounded, all given back exactly."""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import torch
from packages import EVALUATION, build_package, digits_data, half_moved
from PIL import Image
from safetensors.torch import load_file, save_file
from test_package import RECIPES, build_from, entries_in, images_of, pixels_as_the_card_says, real_data

from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.randomness import seeded
from distillkit.check.consistency import check_parts
from distillkit.check.diff.inputs import difference
from distillkit.check.evaluation import evaluate_again
from distillkit.check.verify import verify
from distillkit.data.files import shards
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.data.files.container import KEY, Opened
from distillkit.data.files.packed import Storage
from distillkit.data.files.real_images import REAL, load_real, save_real
from distillkit.data.images import RealData, SyntheticSet, real_subset
from distillkit.data.rows import Encoded
from distillkit.evaluation.rounding import stored, to_levels
from distillkit.package.build import Entry
from distillkit.package.manifest import PARQUET, Package, open_package
from distillkit.sources import decoding
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import FolderSource

PHOTO = (48, 40)  # height, width


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "huggingface-cache")


# Rounding


def test_levels_by_hand() -> None:
    """With offset -0.5 and scale 2, 0.5 is 127.5 of 255 steps above the offset: rounded to even, 128."""
    pixels = torch.tensor([-0.5, 0.5, 1.5, -0.5]).view(1, 1, 2, 2)
    found = to_levels(pixels, torch.tensor([True]))
    assert found.levels_NCHW.flatten().tolist() == [0, 128, 255, 0]
    assert (found.scale_N.item(), found.offset_N.item()) == (2, -0.5)
    assert found.pixels().flatten().tolist() == pytest.approx([-0.5, 2 * 128 / 255 - 0.5, 1.5, -0.5], abs=1e-7)
    assert to_levels(pixels, torch.tensor([False])).pixels().flatten().tolist() == pytest.approx(
        [0, 128 / 255, 1, 0], abs=1e-7
    )


def test_an_image_of_one_value_is_exact() -> None:
    flat = torch.full((1, 3, 2, 2), -1.7)
    assert torch.equal(to_levels(flat, torch.tensor([True])).pixels(), flat)


def mixed_set() -> SyntheticSet:
    """Ten real and ten learned images; the learned ones leave [0, 1]."""
    real = real_data(images_of((3, 4, 6)))
    synthetic = real_subset(real.train, torch.arange(20), real.normalisation)
    learned = torch.arange(20) >= 10
    moved = synthetic.pixels() + torch.randn(synthetic.images.shape, generator=seeded(1))
    images = torch.where(learned[:, None, None, None], moved, synthetic.pixels())
    return replace(synthetic, images=images, learned=learned)


@pytest.mark.parametrize(("storage", "step"), [("float32", 0.0), ("float16", 2**-11), ("uint8", 1 / 510)])
def test_learned_images_are_off_by_half_a_step_at_most(storage: Storage, step: float) -> None:
    before = mixed_set()
    after = stored(before, storage)
    assert torch.equal(after.pixels()[:10], before.pixels()[:10]), "real images are exact"
    error, values = (after.pixels() - before.pixels())[10:].abs().flatten(1), before.pixels()[10:].flatten(1)
    unit = values.abs() if storage == "float16" else (values.max(1).values - values.min(1).values)[:, None]
    assert bool((error <= unit * step * 1.001 + 1e-7).all())
    assert (error.max() > 0) == (storage != "float32")


def test_float16_that_would_be_infinite_is_refused() -> None:
    before = mixed_set()
    with pytest.raises(ParamsError, match="pixels reach 70000; float16 holds up to 65504; choose float32 or uint8"):
        stored(replace(before, images=before.pixels().index_fill(0, torch.tensor([15]), 70000.0)), "float16")


# Packages


def entries_measured(folder: Path, real: RealData, storage: Storage) -> dict[str, Entry]:
    found = entries_in(folder, real)
    return {name: replace(entry, metrics={**entry.metrics, "storage": storage}) for name, entry in found.items()}


@pytest.mark.parametrize("storage", ["float16", "uint8"])
@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 4, 6)], ids=["grey", "colour"])
def test_a_package_gives_back_what_was_evaluated(tmp_path: Path, storage: Storage, shape: tuple[int, ...]) -> None:
    real = real_data(images_of(shape))  # type: ignore[arg-type]
    entries = entries_measured(tmp_path / "distilled", real, storage)
    package = build_from(entries, tmp_path / "hub/tiny", real=real, storage=storage)
    for name in package.recipes:
        expected = stored(load_synthetic(entries[name].artifact)[0], storage)
        found, provenance = load_synthetic(package.artifact(name))
        assert torch.equal(found.pixels(), expected.pixels()) and torch.equal(found.learned, expected.learned)
        assert torch.equal(pixels_as_the_card_says(package, name), expected.pixels())
        check_parts(package, name, found, provenance, package.recipe_json(name))


@pytest.mark.parametrize("storage", ["float32", "float16", "uint8"])
def test_verify_and_diff_of_a_package(tmp_path: Path, storage: Storage) -> None:
    """Verify finds the very accuracy again; diff finds the images of float32 and those that were rounded."""
    folders = [
        build_package(tmp_path / kind / "tiny", ipcs=(2,), change=half_moved, storage=kind)
        for kind in dict.fromkeys(["float32", storage])
    ]
    verdict = verify(open_package(folders[-1]), None, test=None, runs=None, seed=0)
    assert verdict.matches and verdict.found["mean"] == verdict.claimed["mean"]
    found = difference(str(folders[0]), str(folders[-1]), "random-ipc2").counts
    changed = 0 if storage == "float32" else 10
    assert found == {"unchanged": 20 - changed, "changed": changed, "relabelled": 0, "added": 0, "removed": 0}


def test_the_command_evaluates_as_params_yaml_keeps_images(tmp_path: Path) -> None:
    """One pixel far away leaves few levels for all others, so that rounding changes the accuracy."""

    def with_far_pixels(synthetic: SyntheticSet) -> SyntheticSet:
        images = synthetic.pixels()
        images[::2, 0, 0, 0] = 20
        return replace(synthetic, images=images, learned=torch.arange(len(synthetic)) % 2 == 0)

    package = build_package(tmp_path / "tiny", ipcs=(2,), change=with_far_pixels, storage="uint8")
    claim = open_package(package).recipe_json("random-ipc2")["results"]["accuracy"]
    save_real(tmp_path / REAL, digits_data())

    def evaluated(storage: str) -> Any:
        section = {"name": "tiny", "default": "random-ipc2", "storage": storage}
        file = tmp_path / "params.yaml"
        file.write_text(json.dumps({"evaluation": asdict(EVALUATION), "package": section}))
        artifact, options = tmp_path / "tiny-artifacts/random-ipc2.safetensors", {"recipe": None, "runs": None}
        return evaluate_again(artifact, **options, test=tmp_path / REAL, params_file=file, seed=0)["accuracy"]

    assert evaluated("uint8") == claim != evaluated("float32")
    with pytest.raises(ParamsError, match=r"package\.storage"):
        evaluated("int4")


def test_metrics_of_images_kept_otherwise_are_refused(tmp_path: Path) -> None:
    real = real_data(images_of((1, 5, 4)))
    entries = entries_in(tmp_path / "distilled", real)
    expected = (
        "were measured on images stored as float32, but package.storage in params.yaml is uint8; run its evaluate"
    )
    with pytest.raises(ArtifactError, match=expected):
        build_from(entries, tmp_path / "tiny", real=real, storage="uint8")
    assert not (tmp_path / "tiny").exists()


def rewritten(package: Package, name: str, column: str, change: Any) -> None:
    """One column of a recipe's parquet changed."""
    path = package.folder / name / PARQUET
    table = parquet.read_table(path)
    place = table.schema.get_field_index(column)
    values = [change(value) for value in table[column].to_pylist()]
    field = table.schema.field(column)
    array = arrow.array(values, field.type)
    parquet.write_table(table.set_column(place, field, array), path)


def uint8_package(folder: Path) -> Package:
    real = real_data(images_of((1, 5, 4)))
    entries = entries_measured(folder / "distilled", real, "uint8")
    return build_from(entries, folder / "hub/tiny", real=real, storage="uint8")


@pytest.mark.parametrize("column", ["scale", "offset"])
def test_a_parquet_of_another_scale_is_told(tmp_path: Path, column: str) -> None:
    package = uint8_package(tmp_path)
    rewritten(package, "selmatch-ipc2", column, lambda value: value + 0.5)
    synthetic, provenance = load_synthetic(package.artifact("selmatch-ipc2"))
    with pytest.raises(ArtifactError, match=f"other values of '{column}'"):
        check_parts(package, "selmatch-ipc2", synthetic, provenance, package.recipe_json("selmatch-ipc2"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: {"bytes": encoded(np.zeros((5, 4), np.uint8), "PNG"), "path": None}, "decodes to images of SHA-256"),
        (lambda _: {"bytes": encoded(np.zeros((4, 5), np.uint8), "PNG"), "path": None}, "row 0, has no image of 1x5x4"),
        (lambda _: {"bytes": encoded(np.zeros((5, 4), np.uint8), "BMP"), "path": None}, "row 0, has no image of 1x5x4"),
        (
            lambda _: {"bytes": os.urandom(9_000), "path": None},
            "20 rows and .* bytes of images.; expected a parquet file",
        ),
        (lambda _: None, "row 0, has no image"),
    ],
    ids=["others", "turned", "of no known format", "too many bytes", "none"],
)
def test_other_images_are_refused(tmp_path: Path, change: Any, expected: str) -> None:
    package = uint8_package(tmp_path)
    rewritten(package, "random-ipc2", "image", change)
    with pytest.raises(ArtifactError, match=expected) as caught:
        load_synthetic(package.artifact("random-ipc2"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"shape": [5, 4]}, "has images of shape [5, 4]; expected channels, height, width"),
        ({"shape": [1, 65535, 65535]}, "row 0, has no image of 1x65535x65535"),
        ({"file": "../other.parquet"}, "images_in.file"),
        ({"storage": "int4"}, "images_in.storage"),
    ],
)
def test_a_header_that_is_wrong_is_one_line(tmp_path: Path, told: dict[str, Any], expected: str) -> None:
    path = uint8_package(tmp_path).artifact("random-ipc2")
    opened = Opened(path)
    header = {**opened.header, "images_in": {**opened.header["images_in"], **told}}
    save_file(load_file(path), path, {KEY: json.dumps(header)})
    with pytest.raises(ArtifactError, match=re.escape(expected)) as caught:
        load_synthetic(path)
    assert "\n" not in str(caught.value)


def test_without_its_parquet_a_set_says_what_is_missing(tmp_path: Path) -> None:
    package = uint8_package(tmp_path)
    alone = Path(shutil.copy(package.artifact("random-ipc2"), tmp_path))
    with pytest.raises(ArtifactError, match=rf"{PARQUET} does not exist; expected the images of the set beside it"):
        load_synthetic(alone)


# The source's own files


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    from io import BytesIO

    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def photo(number: int) -> np.ndarray:
    """A smooth picture, as JPEG likes it."""
    y, x = np.mgrid[: PHOTO[0], : PHOTO[1]]
    waves = [np.sin(x / (5 + number) + phase) * np.cos(y / (9 - number % 5)) for phase in (0, 1, 2)]
    return ((np.stack(waves, 2) + 1) * 127).astype(np.uint8)


def turned(pixels: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    return encoded(pixels, "JPEG", exif=exif)


def clear(pixels: np.ndarray) -> bytes:
    return encoded(np.dstack([pixels, np.full(PHOTO, 128, np.uint8)]), "PNG")


FILES = {
    "a-plain.jpg": lambda pixels: encoded(pixels, "JPEG"),
    "b-plain.png": lambda pixels: encoded(pixels, "PNG"),
    "c-turned.jpg": turned,
    "d-clear.png": clear,
    "e-grey.png": lambda pixels: encoded(pixels[..., 0], "PNG"),
    "f-other.bmp": lambda pixels: encoded(pixels, "BMP"),
    "g-plain.jpg": lambda pixels: encoded(pixels, "JPEG", quality=90),
}
KEPT = {"a-plain.jpg", "b-plain.png", "g-plain.jpg"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for label in ("one", "two"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number, (name, encode) in enumerate(FILES.items()):
                (folder / name).write_bytes(encode(photo(number + 20 * len(split) + 10 * (label == "two"))))
    return tmp_path / "photos"


def files_in(source: Path) -> list[bytes]:
    """In the order of the rows, empty where the image differs from its file."""
    paths = [source / "train" / label / name for label in ("one", "two") for name in FILES]
    return [path.read_bytes() if path.name in KEPT else b"" for path in paths]


def files_of(data: RealData) -> list[bytes]:
    assert data.encoded is not None
    return [data.encoded.file(row) for row in range(len(data.train))]


@pytest.mark.parametrize("most", [10**6, 0], ids=["in one file", "in files of their own"])
def test_fetch_keeps_the_files_that_show_the_images(source, tmp_path, monkeypatch, most) -> None:
    monkeypatch.setattr(shards.Collector.__init__, "__defaults__", (most,))
    monkeypatch.setattr(shards, "SHARD", 3 * 3 * PHOTO[0] * PHOTO[1])
    folder = tmp_path / "real"
    folder.mkdir()
    data = fetch(DataSpec(FolderSource(path=str(source))), folder=folder)
    save_real(folder / REAL, data)
    loaded = load_real(folder)
    assert files_of(data) == files_of(loaded) == files_in(source)
    assert bool(list(folder.glob("train-encoded-*.safetensors"))) == (most == 0)


@pytest.mark.filterwarnings("ignore:.*TorchVision are deprecated:DeprecationWarning")
def test_the_quick_way_keeps_the_same_files(source, monkeypatch) -> None:
    monkeypatch.setattr(decoding, "FEW", 1)
    assert files_of(fetch(DataSpec(FolderSource(path=str(source))))) == files_in(source)


def test_of_images_that_are_resized_no_files_are_kept(source) -> None:
    assert fetch(DataSpec(FolderSource(path=str(source)), size=(24, 20))).encoded is None


def test_files_of_dropped_copies_are_left_out(source) -> None:
    shutil.copy(source / "train/one/a-plain.jpg", source / "train/one/a-plain2.jpg")
    data = fetch(DataSpec(FolderSource(path=str(source)), duplicates="drop"))
    assert len(data.train) == 14 and files_of(data) == files_in(source)


def test_files_of_other_images_are_not_saved(source, tmp_path) -> None:
    data = fetch(DataSpec(FolderSource(path=str(source))))
    save_real(tmp_path / REAL, replace(data, train=data.train.take(torch.arange(2, 12))))
    assert load_real(tmp_path).encoded is None


@pytest.mark.parametrize("ends", [[5, 3], [1, 2**40], [-1, 4]])
def test_ends_that_are_none_are_told(tmp_path: Path, ends: list[int]) -> None:
    real = real_data(images_of((1, 5, 4)))
    train = real.train.take(torch.tensor([0, 1]))
    real = replace(real, train=train, encoded=Encoded(torch.arange(4).byte(), torch.tensor([2, 4])))
    save_real(tmp_path / REAL, real)
    tensors = {**load_file(tmp_path / REAL), "train_encoded_ends": torch.tensor(ends)}
    save_file(tensors, tmp_path / REAL, {KEY: Opened(tmp_path / REAL).file.metadata()[KEY]})
    with pytest.raises(ArtifactError, match="'train_encoded_ends' does not divide 4 bytes into 2 files"):
        load_real(tmp_path)


def packaged(folder: Path, data: RealData, params: Mapping[str, Any]) -> Package:
    """All training images, as one recipe."""
    synthetic = real_subset(data.train, torch.arange(len(data.train)), data.normalisation)
    path = folder / "random-ipc2.safetensors"
    save_synthetic(path, synthetic, provenance_of("random-ipc2", "random", params, 3, data))
    metrics = entries_in(folder / "other", real_data(images_of((1, 5, 4))))["random-ipc2"].metrics
    entries = {"random-ipc2": Entry("random-ipc2", path, metrics, params)}
    return build_from(entries, folder / "tiny", real=data, packaged=["random-ipc2"], default="random-ipc2")


def test_a_package_has_the_sources_own_files(source, tmp_path) -> None:
    data = fetch(DataSpec(FolderSource(path=str(source))))
    package = packaged(tmp_path, data, RECIPES["random-ipc2"])
    column = parquet.read_table(package.folder / "random-ipc2" / PARQUET)["image"].to_pylist()
    own = [cell["bytes"] for cell in column]
    assert [mine == file for mine, file in zip(own, files_in(source), strict=True)] == [
        bool(f) for f in files_in(source)
    ]
    assert all(mine.startswith(b"\x89PNG") for mine, file in zip(own, files_in(source), strict=True) if not file)
    found, provenance = load_synthetic(package.artifact("random-ipc2"))
    assert torch.equal(found.pixels(), data.train.pixels())
    assert torch.equal(pixels_as_the_card_says(package, "random-ipc2"), data.train.pixels())
    check_parts(open_package(package.folder), "random-ipc2", found, provenance, package.recipe_json("random-ipc2"))


def test_files_that_do_not_decode_to_the_image_are_not_taken(source, tmp_path) -> None:
    """As if another decoder had read them, or they were those of other images."""
    data = fetch(DataSpec(FolderSource(path=str(source))))
    assert data.encoded is not None
    ends = data.encoded.ends_N.clone()
    ends[0] = 0  # the first two files become one, of the second image: a JPEG, and something behind it
    package = packaged(tmp_path, replace(data, encoded=data.encoded._replace(ends_N=ends)), RECIPES["random-ipc2"])
    assert torch.equal(load_synthetic(package.artifact("random-ipc2"))[0].pixels(), data.train.pixels())
