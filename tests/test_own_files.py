"""Nothing outside a dataset's own files is opened, and nothing but pictures is decoded, in one line each."""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import EpsImagePlugin, Image
from test_sources import fetch_folder, fetch_hub, first_pixels, grey, hub_pets, pets, write_folder

from distillkit.base.errors import SourceError
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.own_files import Home, check_builder
from distillkit.sources.readers import HuggingFaceSource

LEADS_OUT = "is not one of the dataset's own files"


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def write_cells(root: Path, cells: list[dict[str, Any]], split: str = "train") -> Path:
    """A parquet file of raw image cells, cats and dogs in turn."""
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["cat", "dog"]))
    table = pa.table(
        {"image": pa.array(cells, features.arrow_schema.field("image").type), "label": [0, 1] * (len(cells) // 2)}
    )
    root.mkdir(exist_ok=True)
    pq.write_table(table.cast(features.arrow_schema), root / f"{split}.parquet")
    return root


def cell(path: str | None = None, image: Image.Image | None = None) -> dict[str, Any]:
    return {"bytes": None if image is None else encoded(image), "path": path}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture outside the dataset; whoever opens an address fails the test."""
    return write_folder(tmp_path / "secret", {"0.png": grey((66, 66))}) / "0.png"


@pytest.mark.parametrize(
    "path",
    [
        "{secret}",
        "../secret/0.png",
        "file://{secret}",
        "local://{secret}",
        "http://127.0.0.1:9/0.png",
        "zip://0.png::http://127.0.0.1:9/0.zip",
        "zip://0.png::{secret}",
        "zip://0.png::zip://a.zip::{secret}",
        "hf://datasets/some/one/0.png",
        "link.png",
        "~/0.png",
        "/dev/stdin",
    ],
)
def test_a_cell_that_names_another_place_is_refused(tmp_path: Path, secret: Path, path: str) -> None:
    root = write_cells(tmp_path / "pets", [cell(path.format(secret=secret)), cell(image=grey((1, 1)))])
    write_cells(root, [cell(image=grey((1, 1))), cell(image=grey((2, 2)))], "test")
    (root / ".hidden.png").symlink_to(secret)
    expected = (
        r"train.parquet row 0 cannot be read \((its path .*not one of the|there is no file|.*is not in its archive)"
    )
    with pytest.raises(SourceError, match=expected) as caught:
        fetch_hub(root)
    assert "\n" not in str(caught.value)


def test_a_relative_path_is_not_seen_from_where_one_stands(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_cells(tmp_path / "pets", [cell("0.png"), cell(image=grey((1, 1)))] * 2)
    monkeypatch.chdir(secret.parent)
    with pytest.raises(
        SourceError, match=r"read: train.parquet row 0, train.parquet row 2 \(there is no file '0\.png'\)"
    ):
        fetch_hub(root)


def test_a_hidden_link_is_no_way_out(tmp_path: Path, secret: Path) -> None:
    root = write_cells(tmp_path / "pets", [cell(".hidden.png"), cell(image=grey((1, 1)))] * 2)
    (root / ".hidden.png").symlink_to(secret)
    with pytest.raises(SourceError, match=LEADS_OUT):
        fetch_hub(root)


def test_a_link_out_of_a_local_dataset_is_refused(tmp_path: Path, secret: Path) -> None:
    (hub_pets(tmp_path / "pets") / "data/0.png").symlink_to(secret)
    with pytest.raises(SourceError, match=r"data/0.png is a link out of its folder"):
        fetch_hub(tmp_path / "pets")


def test_paths_to_own_files_are_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "pets", {f"images/{row}.png": grey((row, row)) for row in range(4)})
    write_cells(root / "data", [cell(f"images/{row}.png") for row in range(4)])
    write_cells(root / "data", [cell(f"images/{row}.png") for row in (2, 3)], "test")
    files = "".join(f"  - {{split: {split}, path: data/{split}.parquet}}\n" for split in ("train", "test"))
    (root / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n")
    assert first_pixels(fetch_hub(root).train.images) == [0, 1, 2, 3]


def test_images_in_a_zip_of_the_dataset_are_read(tmp_path: Path) -> None:
    for part, levels in (("train", (1, 2, 3, 4)), ("test", (5, 6, 7, 8))):
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as archive:
            for level in levels:
                archive.writestr(f"{level}.png", encoded(grey((level, level))))
            rows = "".join(f"{level}.png,{'cat' if level % 4 < 2 else 'dog'}\n" for level in levels)
            archive.writestr("metadata.csv", f"file_name,label\n{rows}")
    real = fetch_hub(tmp_path)
    assert (first_pixels(real.train.images), real.train.class_names) == ([1, 2, 3, 4], ("cat", "dog"))


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "pattern",
    ["../secret/*.parquet", "/etc/*.parquet", "http://127.0.0.1:9/x.parquet", "C:\\x.parquet", "zip://x::y.zip"],
)
def test_a_card_that_names_other_files_is_refused(tmp_path: Path, card: str, pattern: str) -> None:
    text = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: ['{pattern}']\n"
    (hub_pets(tmp_path) / card).write_text(text if card.endswith("yaml") else f"---\n{text}---\n")
    with pytest.raises(SourceError, match=rf"{card} names the data files .*expected the dataset's own"):
        fetch_hub(tmp_path)


def test_a_reader_that_opens_other_files_is_refused(tmp_path: Path) -> None:
    class Builder:
        name = "sql"

    with pytest.raises(SourceError, match="it is of kind 'sql'"):
        check_builder(Builder(), Home((tmp_path,)))


def test_a_dataset_of_the_hub_opens_no_file_of_this_machine(
    tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``datasets`` leaves in its cache after loading it, as in test_sources."""
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    root = write_cells(tmp_path / "pets", [cell(str(secret)), cell(image=grey((1, 1)))] * 2)
    datasets.load_dataset(str(root))
    (built,) = (path.parent for path in (cache / "pets").rglob("dataset_info.json"))
    (cache / "pets").rename(cache / "zoo___pets")
    moved = cache / "zoo___pets" / built.relative_to(cache / "pets")
    moved.rename(moved.with_name("0" * 40))
    with pytest.raises(SourceError, match=rf"train row \d .*{LEADS_OUT}"):
        fetch(DataSpec(HuggingFaceSource(id="zoo/pets")))


# ---- what is decoded ------------------------------------------------------------------------------------------------


def eps() -> bytes:
    return encoded(Image.new("L", (2, 1)), "EPS")


def refuse(*_: Any, **__: Any) -> None:
    raise AssertionError("Ghostscript was called")


def broken(kind: str) -> tuple[bytes, str]:
    whole = encoded(Image.effect_noise((64, 64), 90))
    return {
        "eps": (eps(), "it is not one of AVIF, BMP"),
        "text": (b"no image", "it is not one of AVIF, BMP"),
        "empty": (b"", "it is empty"),
        "truncated": (whole[: len(whole) // 2], "OSError"),
        "bomb": (encoded(Image.new("1", (20_000, 5_000))), "it has more than [0-9,]+ pixels"),
    }[kind]


@pytest.mark.parametrize("kind", ["eps", "text", "empty", "truncated", "bomb"])
def test_what_is_no_picture_is_one_line_with_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", refuse)
    data, message = broken(kind)
    (pets(tmp_path / "folder") / "train/dog/1.png").write_bytes(data)
    root = write_cells(tmp_path / "hub", [cell(image=grey((1, 1))), {"bytes": data, "path": "1.png"}] * 2)
    for where, read, place in (
        ("train/dog/1.png", fetch_folder, "folder"),
        (r"train.parquet row \d, train.parquet row \d", fetch_hub, root),
    ):
        with pytest.raises(SourceError, match=rf"{where} (cannot be read )?\({message}") as caught:
            read(tmp_path / place)
        assert "BytesIO" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_pipe_in_a_local_dataset_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(hub_pets(tmp_path) / "data/pipe.png")
    assert len(fetch_hub(tmp_path).train) == 4
    os.mkfifo(tmp_path / ".huggingface.yaml")
    with pytest.raises(SourceError, match=r"huggingface\.yaml is no regular file"):
        fetch_hub(tmp_path)
