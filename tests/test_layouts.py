"""What a source holds is read in one way, refused, or told: layouts, files left out, splits, pixels, duplicates."""

import gc
import json
import os
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_sources import (
    colour,
    fetch_folder,
    fetch_hub,
    fetch_images,
    first_pixels,
    flat_pets,
    grey,
    hub_pets,
    offline,  # noqa: F401
    pets,
    write_folder,
    write_parquet,
)

from distillkit.base.errors import ArtifactError, SourceError
from distillkit.base.params import load, section
from distillkit.check.show import describe, lines
from distillkit.cli import cli
from distillkit.data.files.real_images import load_real, save_real
from distillkit.data.images import RealData
from distillkit.data.origin import Found
from distillkit.estimates.fetched import fetched
from distillkit.estimates.resources import Images
from distillkit.setup import fitting
from distillkit.setup.inspection import expected, inspect_source, parse_dataset
from distillkit.sources import summary
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import FolderSource, HuggingFaceSource

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored in.*metadata.csv")  # which `datasets` leaves open


def told(data: RealData) -> str:
    return "\n".join(summary.lines(summary.summary_of(data)))


# ---- folders --------------------------------------------------------------------------------------------------------


def test_a_plain_layout_needs_no_words(tmp_path: Path) -> None:
    real = fetch_folder(pets(tmp_path))
    copies = "training images that repeat one of their class, kept"
    assert real.found == Found(notes={copies: (2, "train/cat/1.png")})
    assert told(real).splitlines()[:3] == [
        "2 classes, with training images of each: cat (2), dog (2)",
        "4 training images; 2 test images",
        "size: 1x2 grey (height x width)",
    ]


@pytest.mark.parametrize(("train", "test"), [("Training", "Testing"), ("TRAIN", "Val"), ("train", "dev")])
def test_splits_are_known_in_any_case_and_told(tmp_path: Path, train: str, test: str) -> None:
    (pets(tmp_path) / "train").rename(tmp_path / train)
    (tmp_path / "test").rename(tmp_path / test)
    real = fetch_folder(tmp_path)
    assert (real.train.class_names, first_pixels(real.test.images)) == (("cat", "dog"), [1, 3])
    assert (real.found.train, real.found.test) == (train, test)
    assert f"2 test images from '{test}'" in told(real)


def test_two_folders_that_could_each_be_a_split_need_a_choice(tmp_path: Path) -> None:
    write_folder(pets(tmp_path), {"Testing/cat/0.png": grey((9, 9)), "TESTING/cat/0.png": grey((8, 8))})
    (tmp_path / "test").rename(tmp_path / "held")
    with pytest.raises(SourceError, match=r"'TESTING', 'Testing' could each be the test split.*--test-split"):
        fetch_folder(tmp_path)
    real = fetch_folder_as(tmp_path, test_split="held")
    assert first_pixels(real.test.images) == [1, 3]
    assert real.found.left_out == {"images outside the splits in use": (2, "TESTING/cat/0.png")}


def fetch_folder_as(root: Path, **source: Any) -> RealData:
    return fetch(DataSpec(FolderSource(path=str(root), **source)))


@pytest.mark.parametrize("names", [("train", "test"), ("seg_train", "seg_test"), ("Training set", "Validation set")])
def test_splits_that_could_be_classes_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    write_folder(
        tmp_path, {f"{name}/{row}.png": grey((row, place)) for place, name in enumerate(names) for row in (0, 1)}
    )
    with pytest.raises(
        SourceError, match=r"could be splits or classes.*metadata\.csv.*--train-split.*or \. for classes"
    ):
        fetch_folder(tmp_path)
    assert fetch_folder_as(tmp_path, train_split=".").train.class_names == tuple(sorted(names))


def test_named_folders_are_the_splits(tmp_path: Path) -> None:
    (pets(tmp_path) / "train").rename(tmp_path / "seg_train")
    (tmp_path / "test").rename(tmp_path / "seg_test")
    real = fetch_folder_as(tmp_path, train_split="seg_train", test_split="seg_test")
    assert (real.train.class_counts, real.test.class_counts) == ([2, 2], [1, 1])
    assert real.info.params["source"] == {
        "kind": "folder", "path": tmp_path.name, "train_split": "seg_train", "test_split": "seg_test",
    }  # fmt: skip


def test_no_test_split_can_be_asked_for(tmp_path: Path) -> None:
    real = fetch_folder_as(pets(tmp_path), test_split=None)
    assert (real.train.class_counts, real.test.class_counts, real.found.test) == ([1, 1], [1, 1], None)


def test_unlabelled_test_images_are_told(tmp_path: Path) -> None:
    write_folder(flat_pets(tmp_path / "train").parent, {"test/0.png": grey((1, 1)), "test/1.png": grey((1, 1))})
    found = fetch_folder(tmp_path).found
    assert (found.test, found.left_out) == (None, {"images outside the splits in use": (2, "test/0.png")})


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".gif", "GIF"), (".jfif", "JPEG"), (".jpe", "JPEG"), (".jp2", "JPEG2000"), ("", "PNG")]
)
def test_formats_are_known_by_content(tmp_path: Path, suffix: str, kind: str) -> None:
    pets(tmp_path)
    for row in (7, 8):
        grey((100, 100), (100, 100)).resize((2, 1)).save(tmp_path / f"train/dog/{row}{suffix}", kind)
    real = fetch_folder(tmp_path)
    assert (real.train.class_counts, real.found.left_out) == ([2, 4], {})


JUNK = ["__MACOSX", "@eaDir", ".thumbnails", ".ipynb_checkpoints", "#recycle", "__pycache__", "$RECYCLE.BIN"]


@pytest.mark.parametrize("where", ["", "cat/"])
@pytest.mark.parametrize("name", JUNK)
def test_what_systems_leave_is_no_class_and_no_image(tmp_path: Path, name: str, where: str) -> None:
    before = fetch_folder(flat_pets(tmp_path))
    write_folder(tmp_path, {f"{where}{name}/{row}.png": grey((9, 9)) for row in range(3)})
    real = fetch_folder(tmp_path)
    assert torch.equal(real.train.images, before.train.images) and real.info.revision == before.info.revision
    assert real.found.left_out == {"files or folders hidden or made by a system": (1, f"{where}{name}")}


def test_files_left_out_are_counted_with_an_example(tmp_path: Path) -> None:
    pets(tmp_path)
    for name in (
        "train/cat/._0.png",
        "train/dog/Thumbs.db",
        "train/dog/notes.txt",
        "train/dog/x.svg",
        "train/c.zip",
        "README.md",
    ):
        (tmp_path / name).write_text("no image")
    os.mkfifo(tmp_path / "train/dog/pipe.png")
    assert fetch_folder(tmp_path).found.left_out == {
        "files or folders hidden or made by a system": (2, "train/cat/._0.png"),
        "files that are not images in a supported format": (3, "train/c.zip"),
        "pipes and other files that are not regular": (1, "train/dog/pipe.png"),
    }


def test_two_unicode_spellings_are_one_class(tmp_path: Path) -> None:
    spelled = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    images = {f"{spelled[0]}/{row}.png": grey((row, 1)) for row in range(4)}
    images |= {f"{spelled[1]}/{row}.png": grey((row, 2)) for row in range(4)}
    real = fetch_folder(write_folder(tmp_path, {**images, **{f"dog/{row}.png": grey((row, 3)) for row in range(4)}}))
    assert real.train.class_names == (spelled[0], "dog")
    assert (real.train.class_counts, real.test.class_counts) == ([6, 3], [2, 1])
    assert "folders used as one class, because their names differ only in Unicode form (1): café" in told(real)


def test_two_unicode_spellings_meet_across_splits(tmp_path: Path) -> None:
    (pets(tmp_path) / "train/cat").rename(tmp_path / "train" / unicodedata.normalize("NFC", "ché"))
    (tmp_path / "test/cat").rename(tmp_path / "test" / unicodedata.normalize("NFD", "ché"))
    assert fetch_folder(tmp_path).test.class_counts == [1, 1]


@pytest.mark.parametrize("plain", [False, True])
def test_two_unicode_spellings_are_one_class_of_a_dataset(tmp_path: Path, plain: bool) -> None:
    names = [unicodedata.normalize("NFC", "é"), "dog", unicodedata.normalize("NFD", "é")]
    for split in ("train", "test"):
        feature = datasets.Value("string") if plain else datasets.ClassLabel(names=names)
        labels = names if plain else [0, 1, 2]
        write_parquet(tmp_path, split, [grey((row, 1)) for row in range(3)], labels, feature)
    real = fetch_hub(tmp_path)
    assert (real.train.class_names, real.train.labels.tolist()) == (("dog", names[0]), [1, 0, 1])


# ---- links ----------------------------------------------------------------------------------------------------------


def test_links_out_of_the_folder_are_followed_only_when_told(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"5.png": grey((5, 5)), "6.png": grey((6, 6))})
    (pets(tmp_path / "pets") / "train/owl").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pets/test/owl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"owl is a link out of its folder.*follow_links, or init's --follow-links"):
        fetch_folder(tmp_path / "pets")
    assert fetch_folder_as(tmp_path / "pets", follow_links=True).train.class_counts == [2, 2, 2]


@pytest.mark.parametrize("stored", ["cache/files/md5/ab/" + "c" * 30, "blobs/" + "d" * 64])
def test_links_to_files_stored_by_their_hash_are_followed(tmp_path: Path, stored: str) -> None:
    """As DVC (cache.type symlink) and the Hub's client keep files."""
    link = pets(tmp_path / "pets") / "train/cat/0.png"
    (tmp_path / stored).parent.mkdir(parents=True)
    link.rename(tmp_path / stored)
    link.symlink_to(tmp_path / stored)
    assert fetch_folder(tmp_path / "pets").train.images[0].tolist() == [[[0, 255]]]


@pytest.mark.parametrize(("target", "message"), [("nowhere", "a link to nothing"), ("..", "that contains it")])
def test_links_that_lead_nowhere_or_in_a_circle(tmp_path: Path, target: str, message: str) -> None:
    (pets(tmp_path) / "train/cat/more").symlink_to(target)
    with pytest.raises(SourceError, match=f"more is {message}|more is a link .*{message}"):
        fetch_folder(tmp_path)


# ---- datasets -------------------------------------------------------------------------------------------------------


def birds(root: Path, kind: str = "csv") -> Path:
    """Images directly in train/ and test/, each with metadata that names their labels."""
    for part, images in (("train", 8), ("test", 4)):
        write_folder(root / part, {f"{row}.png": grey((row, 90)) for row in range(images)})
        names, labels = [f"{row}.png" for row in range(images)], ["gull", "crow"] * (images // 2)
        table = pa.table({"file_name": names, "label": labels})
        if kind == "csv":
            pyarrow.csv.write_csv(table, root / part / "metadata.csv")
        elif kind == "jsonl":
            (root / part / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
        else:
            pq.write_table(table, root / part / "metadata.parquet")
    return root


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_metadata_beside_images_goes_to_datasets(tmp_path: Path, kind: str) -> None:
    assert isinstance(parse_dataset(str(birds(tmp_path / "birds", kind)), tmp_path), HuggingFaceSource)
    real = fetch_hub(tmp_path / "birds")
    assert (real.train.class_names, real.train.class_counts) == (("crow", "gull"), [4, 4])
    assert (real.test.class_counts, real.found.left_out) == ([2, 2], {})
    gc.collect()  # here, not in another test, `datasets` is warned of for what it leaves open


def test_class_folders_can_overrule_metadata(tmp_path: Path) -> None:
    (pets(tmp_path / "pets") / "train/metadata.csv").write_text("file_name,caption\ncat/0.png,a cat\n")
    assert isinstance(parse_dataset(str(tmp_path / "pets"), tmp_path), HuggingFaceSource)
    assert parse_dataset(f"folder:{tmp_path / 'pets'}", tmp_path) == FolderSource(path="pets")
    left_out = fetch_folder(tmp_path / "pets").found.left_out
    assert left_out == {"metadata files, because folders name the classes": (1, "train/metadata.csv")}


def test_images_that_datasets_does_not_read_are_counted(tmp_path: Path) -> None:
    pets(tmp_path)
    grey((1, 1), (1, 1)).resize((2, 1)).save(tmp_path / "train/dog/2.avif")
    real = fetch_hub(tmp_path)
    assert real.train.class_counts == [2, 2]
    assert real.found.left_out == {"images in no row of the dataset": (1, "train/dog/2.avif")}


@pytest.mark.parametrize("name", ["validation", "val", "dev"])
def test_validation_split_stands_in_for_test(tmp_path: Path, name: str) -> None:
    """Written as ``datasets`` takes a split's name from: any word before the shard."""
    write_parquet(hub_pets(tmp_path), name, [grey((7, 7)), grey((8, 8))], [0, 1])
    (tmp_path / "data/test-00000-of-00001.parquet").unlink()
    real = fetch_hub(tmp_path)
    assert (first_pixels(real.test.images), real.found.test) == ([7, 8], name)


def test_splits_that_are_not_used_are_told(tmp_path: Path) -> None:
    write_parquet(hub_pets(tmp_path), "validation", [grey((7, 7)), grey((8, 8))], [0, 1])
    real = fetch_hub(tmp_path)
    assert first_pixels(real.test.images) == [1, 3]
    assert real.found.left_out == {"images in the split 'validation'": (2, "validation row 0")}


def test_undeclared_columns_of_bytes_are_images(tmp_path: Path) -> None:
    for split in ("train", "test"):
        stored = write_parquet(tmp_path, split, [grey((1, 1)), grey((2, 2))], [0, 1])
        path = stored / f"data/{split}-00000-of-00001.parquet"
        table = pq.read_table(path)
        pq.write_table(table.replace_schema_metadata(None), path)
    assert first_pixels(fetch_hub(tmp_path).train.images) == [1, 2]


# ---- pixels ---------------------------------------------------------------------------------------------------------


def drawing(level: int, alphas: list[int]) -> Image.Image:
    return Image.merge("LA", [grey(tuple(level for _ in alphas)), grey(tuple(alphas))])


def test_what_is_clear_shows_the_background(tmp_path: Path) -> None:
    """Black at half opacity on white: 255 · (1 - 128 / 255) = 127; grey stays grey."""
    images = fetch_images(tmp_path, drawing(0, [0, 255]), drawing(0, [255, 128]))
    assert images.tolist() == [[[[255, 0]]], [[[0, 127]]]]
    real = fetch_folder(tmp_path)
    assert real.found.notes["transparent images, put on white"] == (4, "train/cat/0.png")
    dark = fetch_folder(tmp_path, background=100)
    assert dark.train.images.tolist() == [[[[100, 0]]], [[[0, 50]]]] and dark.info.params["background"] == 100


def test_a_drawing_in_the_colour_of_the_background_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cat/0\.png .*background of 255; set data\.background"):
        fetch_images(tmp_path, drawing(255, [0, 255]), drawing(0, [255, 0]))
    assert fetch_folder(tmp_path, background=50).train.images.tolist() == [[[[50, 255]]], [[[0, 50]]]]


def deep(*values: int) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=np.uint16))


def test_12_bits_in_16_are_refused_until_somebody_says_what_is_white(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"above 4095 \(train/cat/0.png\).*4095 for 12 bits or to 65535 if .* dark"):
        fetch_images(tmp_path, deep(4095, 0), deep(0, 2047))
    assert fetch_folder(tmp_path, white=4095).train.images.tolist() == [[[[255, 0]]], [[[0, 127]]]]
    assert fetch_folder(tmp_path, white=65535).train.images.tolist() == [[[[16, 0]]], [[[0, 8]]]]
    with pytest.raises(SourceError, match=r"has the value 4095, and data\.white is 1023"):
        fetch_folder(tmp_path, white=1023)


def test_files_of_several_images_are_told(tmp_path: Path) -> None:
    grey((5, 5)).save(pets(tmp_path) / "train/cat/2.gif", save_all=True, append_images=[grey((6, 6)), grey((7, 7))])
    notes = fetch_folder(tmp_path).found.notes
    assert notes["files of several images, of which the first was read"] == (1, "train/cat/2.gif")


# ---- duplicates -----------------------------------------------------------------------------------------------------


def twins(root: Path) -> Path:
    """Of training images cat/1 repeats cat/0 and dog/1 is cat/0; of test images dog/0 is the training image dog/0."""
    train = {"cat/0": 1, "cat/1": 1, "cat/2": 2, "dog/0": 3, "dog/1": 1, "dog/2": 4}
    images = {f"train/{name}.png": grey((level, level)) for name, level in train.items()}
    test = {"cat/0": 5, "dog/0": 3, "dog/1": 6}
    return write_folder(root, images | {f"test/{name}.png": grey((level, level)) for name, level in test.items()})


def test_duplicates_are_told_and_can_be_dropped(tmp_path: Path) -> None:
    real = fetch_folder(twins(tmp_path))
    assert (first_pixels(real.train.images), first_pixels(real.test.images)) == ([1, 1, 2, 3, 1, 4], [5, 3, 6])
    assert real.found.notes == {
        "training images that repeat one of their class, kept": (1, "train/cat/1.png"),
        "training images that are also in another class, kept": (1, "train/dog/1.png"),
        "test images that are training images, too, kept": (1, "test/dog/0.png"),
    }
    dropped = fetch_folder(tmp_path, duplicates="drop")
    assert (first_pixels(dropped.train.images), dropped.train.labels.tolist()) == ([1, 2, 3, 1, 4], [0, 0, 1, 1, 1])
    assert first_pixels(dropped.test.images) == [5, 6]
    assert "test images that are training images, too, dropped (1): test/dog/0.png" in told(dropped)


def test_dropping_must_leave_test_images_of_every_class(tmp_path: Path) -> None:
    (twins(tmp_path) / "test/dog/1.png").unlink()
    with pytest.raises(SourceError, match="all test images of 'dog' are training images, too"):
        fetch_folder(tmp_path, duplicates="drop")


# ---- the summary ----------------------------------------------------------------------------------------------------


def test_show_and_doctor_tell_what_fetch_told(tmp_path: Path) -> None:
    real = fetch_folder(twins(tmp_path / "twins"))
    (tmp_path / "artifacts").mkdir()
    save_real(path := tmp_path / "artifacts/real.safetensors", real)
    assert load_real(path).found == real.found
    assert told(real) in "\n".join(lines(describe(path)))
    assert told(real) == "\n".join(summary.lines(summary.read_summary(fetched(tmp_path))))


def test_an_artifact_without_a_word_has_the_usual_splits(tmp_path: Path) -> None:
    real = fetch_hub(hub_pets(tmp_path / "pets"), {"duplicates": "drop"})
    save_real(path := tmp_path / "real.safetensors", RealData(real.train, real.test, real.normalisation, real.info))
    assert b'"found"' not in path.read_bytes() and load_real(path).found == Found()


@pytest.mark.parametrize("found", [{"test": "x"}, {"train": "a", "test": None, "left_out": {"x": 3}, "notes": {}}])
def test_a_damaged_summary_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Any) -> None:
    real = fetch_folder(flat_pets(tmp_path / "pets"))
    monkeypatch.setattr(
        "distillkit.data.files.real_images.asdict", lambda value: found if isinstance(value, Found) else value.__dict__
    )
    save_real(path := tmp_path / "real.safetensors", real)
    with pytest.raises(ArtifactError, match="does not say what was left out"):
        load_real(path)


# ---- init -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in (".git", ".dvc"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(*arguments: str) -> tuple[int, str]:
    ended = CliRunner().invoke(cli, ["init", "pipe", "--ipc", "1", "--method", "dm", *arguments])
    return ended.exit_code, str(ended.exception) if ended.exit_code else ended.stderr


def source_in(folder: Path) -> Any:
    return section(load(folder / "pipe/params.yaml"), "data", DataSpec).source


def test_init_tells_what_it_found(here: Path) -> None:
    code, said = init("--dataset", str(birds(here / "birds", "jsonl")))
    assert code == 0 and said.splitlines() == [
        "timing some training steps on this machine, to say how long the pipeline will take",
        "2 classes, with training images of each: crow (4), gull (4)",
        "8 training images; 4 test images",
        "size: 1x2 grey (height x width)",
        "time: not estimated (network.depth is 1, but images of 1x2 cannot be halved that often; use a smaller depth "
        "or larger images)",
    ]
    assert source_in(here) == HuggingFaceSource(id="../birds")


def test_init_and_doctor_do_not_read_all_images(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a hash of their content would."""

    def refuse(*_: Any) -> None:
        raise AssertionError("all images are read")

    source = FolderSource(path=str(pets(here / "x")))
    monkeypatch.setattr("distillkit.sources.folders.content_hash", refuse)
    assert sum(inspect_source(DataSpec(source), Path()).classes.values()) == 4
    assert expected(DataSpec(source), Path()) == Images((1, 1, 2), 2, 4, 2)
    with pytest.raises(AssertionError, match="all images are read"):
        fetch(DataSpec(source))


def test_init_takes_columns_and_splits(here: Path) -> None:
    label = datasets.ClassLabel(names=["cat", "dog"])
    write_parquet(here / "x", "train", [grey((row, 1)) for row in range(8)], [0, 1] * 4, label, ("image", "label"))
    write_parquet(here / "x", "test", [grey((1, 1))] * 2, [-1, -1], label)
    assert "init's --test-split, none for a part of train" in init("--dataset", "x")[1]
    code, said = init("--dataset", "x", "--test-split", "none", "--label-column", "label", "--image-column", "image")
    assert code == 0 and "6 training images; 2 test images, taken out of the training images" in said
    assert source_in(here) == HuggingFaceSource(id="../x", image="image", label="label", test_split=None)


def test_init_and_doctor_estimate_for_the_same_images(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six to train on, two for testing, which are drawn from the eight."""
    seen: list[Images] = []
    monkeypatch.setattr(fitting, "speeds_of", lambda data, images: None)
    monkeypatch.setattr(fitting, "seconds_of", lambda data, images, speeds: seen.append(images) or {"fetch": 1.0})
    label = datasets.ClassLabel(names=["cat", "dog"])
    write_parquet(here / "x", "train", [Image.new("RGB", (8, 8), (row, 1, 1)) for row in range(8)], [0, 1] * 4, label)
    assert init("--dataset", "x")[0] == 0
    assert seen == [Images((3, 8, 8), 2, 6, 2)] == [expected(DataSpec(HuggingFaceSource(id="x")), here)]


def test_init_takes_folders_as_they_are_named(here: Path) -> None:
    write_folder(here / "x", {f"{name}/{row}.png": colour(row, 1, 1) for name in ("train", "test") for row in range(4)})
    assert "could be splits or classes" in init("--dataset", "x")[1]
    assert init("--dataset", "x", "--train-split", ".")[0] == 0
    assert source_in(here) == FolderSource(path="../x", train_split=".")


def test_init_refuses_a_column_where_there_is_none(here: Path) -> None:
    flat_pets(here / "x")
    assert "kind folder, which has no setting 'label'" in init("--dataset", "x", "--label-column", "y")[1]


def test_init_names_the_class_without_images_and_the_smallest(here: Path) -> None:
    (flat_pets(here / "x") / "owl").mkdir()
    assert "no training images in 'owl'; expected" in init("--dataset", "x")[1]
    grey((1, 2)).save(here / "x/owl/0.png")
    assert "only 1 image in 'owl'; expected at least 2" in init("--dataset", "x")[1]
    grey((1, 3)).save(here / "x/owl/1.png")
    assert "1 training image in the smallest class ('owl'); pass --ipc 1" in init("--dataset", "x", "--ipc", "2")[1]


@pytest.mark.parametrize(("looked_at", "number"), [(64, "2"), (2, "at least 2")])
def test_init_names_all_broken_images_that_it_looks_at(
    here: Path, monkeypatch: pytest.MonkeyPatch, looked_at: int, number: str
) -> None:
    monkeypatch.setattr("distillkit.setup.inspection.LOOKED_AT", looked_at)
    for path in pets(here / "x").glob("train/*/0.png"):
        path.write_bytes(b"")
    told = init("--dataset", "x")[1]
    assert told.startswith(f"{number} images cannot be read: train/cat/0.png, train/dog/0.png (it is empty); expected")


def write_metadata(root: Path, kind: str, names: list[str]) -> Path:
    """A folder of images with a table that names ``names``; in the CSV one label takes two lines, one line is blank."""
    for name in names:
        if name and "absent" not in name:
            write_folder(root / "train", {name: grey((len(name), 9))})
    if kind == "csv":
        rows = [f'{name},"b\nb"\n\n' if place == 0 else f"{name},a\n" for place, name in enumerate(names)]
        (root / "train/metadata.csv").write_text("file_name,label\n" + "".join(rows))
    else:
        rows = [json.dumps({"file_name": name or None, "label": "ab"[place % 2]}) for place, name in enumerate(names)]
        (root / "train/metadata.jsonl").write_text("\n\n".join(rows) + "\n")
    return root


@pytest.mark.parametrize(("kind", "line"), [("csv", 84), ("jsonl", 161)])
@pytest.mark.parametrize(("wrong", "problem"), [("", "it names no image"), ("absent.png", "there is no file .*absent")])
def test_a_row_without_a_file_is_told_by_its_line(
    tmp_path: Path, kind: str, line: int, wrong: str, problem: str
) -> None:
    """As an editor counts them; init looks at 64 images alone, but at all rows."""
    names = [f"{row}.png" for row in range(90)]
    write_metadata(tmp_path, kind, [*names[:80], wrong, *names[80:]])
    message = rf"^train/metadata\.{kind} line {line} cannot be read \({problem}"
    with pytest.raises(SourceError, match=message):
        fetch_hub(tmp_path)
    with pytest.raises(SourceError, match=message):
        inspect_source(DataSpec(HuggingFaceSource(id=str(tmp_path))), Path())


def test_all_rows_without_a_file_are_told(tmp_path: Path) -> None:
    write_metadata(tmp_path, "csv", ["0.png", "1.png", "absent.png", "3.png", "absent2.png"])
    with pytest.raises(SourceError) as caught:
        fetch_hub(tmp_path)
    assert str(caught.value) == (
        f"2 images cannot be read: train/metadata.csv line 6 (there is no file '{tmp_path}/train/absent.png'), "
        f"train/metadata.csv line 8 (there is no file '{tmp_path}/train/absent2.png'); "
        "expected images; replace or remove them"
    )


@pytest.mark.parametrize("through", [fetch_folder, fetch_hub])
def test_what_systems_leave_beside_the_splits_is_told(tmp_path: Path, through: Any) -> None:
    pets(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "__MACOSX/._0.png", "@eaDir/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("no image")
    told = "files or folders hidden or made by a system"
    assert through(tmp_path).found.left_out == {told: (5, ".DS_Store")}


@pytest.mark.parametrize("name", [b"train/caf\xe9/0.png", b"train/cat/caf\xe9.png", b".caf\xe9"])
@pytest.mark.parametrize("source", [FolderSource, HuggingFaceSource])
def test_names_that_are_no_text_are_refused(tmp_path: Path, source: Any, name: bytes) -> None:
    path = pets(tmp_path) / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((tmp_path / "train/cat/0.png").read_bytes())
    chosen = source(path=str(tmp_path)) if source is FolderSource else source(id=str(tmp_path))
    for read in (lambda: fetch(DataSpec(chosen)), lambda: inspect_source(DataSpec(chosen), Path())):
        with pytest.raises(SourceError, match="is not UTF-8; expected UTF-8 for files and classes; rename it"):
            read()


def png_16(values: np.ndarray) -> bytes:
    """A PNG with 16 bits in each colour, which Pillow cannot write: ``values`` (H, W, 3)."""
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_16_bits_in_each_colour_are_told_or_refused(tmp_path: Path) -> None:
    for name in flat_pets(tmp_path).glob("*/*.png"):
        name.write_bytes(png_16(np.full((1, 2, 3), 4000)))
    with pytest.raises(SourceError, match=r"no 16-bit image has a value above 3855.*data\.white, to 4095 for 12 bits"):
        fetch_folder(tmp_path)
    with pytest.raises(SourceError, match=r"its colours have 16 bits, of which 8 are read, and data\.white is 4095"):
        fetch_folder(tmp_path, white=4095)
    for name in tmp_path.glob("*/*.png"):
        name.write_bytes(png_16(np.full((1, 2, 3), 51456)))
    real = fetch_folder(tmp_path)
    assert set(first_pixels(real.train.images)) == {51456 // 256}
    assert real.found.notes["16-bit colour images, of which the higher 8 bits were read"][0] == 8
