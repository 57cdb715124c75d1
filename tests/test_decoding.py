"""Images decoded block by block, by several processes: the same as one by one."""

import errno
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from distillkit.base.errors import ArtifactError, SourceError
from distillkit.base.files import atomic_folder
from distillkit.data.files import shards
from distillkit.data.rows import FileRows
from distillkit.sources import decoding, pictures
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import FolderSource

LEVELS = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)


def write(folder: Path, ending: str = "png", grey: int = 0) -> Path:
    """Forty images of two classes, the first ``grey`` of each class without colour."""
    for number, levels in enumerate(LEVELS):
        path = folder / "cats" / f"{number:02}.{ending}" if number < 20 else folder / "dogs" / f"{number:02}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels[..., 0] if number % 20 < grey else levels).save(path)
    return folder


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images a block, on all cores."""
    monkeypatch.setattr(decoding, "BLOCK", 3 * 90)
    monkeypatch.setattr(decoding, "FEW", 3)


def fetched(folder: Path, out: Path | None = None, **options) -> torch.Tensor:
    data = fetch(DataSpec(FolderSource(path=str(folder)), **options), folder=out)
    return torch.cat([data.train.images[:], data.test.images[:]])


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_blocks_give_the_same_images(tmp_path, blocks, monkeypatch, ending) -> None:
    together = fetched(write(tmp_path, ending))
    monkeypatch.setattr(decoding, "FEW", 4096)
    assert torch.equal(together, fetched(tmp_path))


def test_colour_after_grey_gives_three_channels_to_all(tmp_path, blocks, monkeypatch) -> None:
    """What was written of grey ones goes again."""
    monkeypatch.setattr(decoding, "Collector", partial(decoding.Collector, most=0))
    (out := tmp_path / "out").mkdir()
    data = fetch(DataSpec(FolderSource(path=str(write(tmp_path / "in", grey=15)))), folder=out)
    assert isinstance(data.train.images, FileRows)
    assert data.train.image_shape == (3, 6, 5)
    assert sorted(path.name for path in out.iterdir()) == ["test-00000.safetensors", "train-00000.safetensors"]
    first = data.train.images[:][0]
    assert torch.equal(first[0], first[2])


def test_a_broken_image_is_named(tmp_path, blocks) -> None:
    path = write(tmp_path) / "dogs/33.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(
        SourceError, match=r"dogs/33\.png cannot be read \(.*\); expected an image; replace or remove it"
    ):
        fetched(tmp_path)


def test_all_broken_images_are_named(tmp_path, blocks) -> None:
    """Of both splits, of several blocks, the first image of all among them."""
    whole = (write(tmp_path / "train") / "dogs/30.png").read_bytes()
    write(tmp_path / "test")
    for name in ("train/cats/00", "train/cats/01", "train/dogs/39", "test/dogs/20", "test/dogs/21"):
        (tmp_path / f"{name}.png").write_bytes(whole[:60] if name.endswith("01") else b"")
    with pytest.raises(SourceError) as caught:
        fetched(tmp_path)
    assert str(caught.value) == (
        "5 images cannot be read: train/cats/00.png, train/dogs/39.png, test/dogs/20.png, test/dogs/21.png "
        "(it is empty), train/cats/01.png (OSError: image file is truncated); expected images; replace or remove them"
    )


@pytest.mark.parametrize(
    ("broken", "number"), [(9, "9"), (10, "at least 10"), (25, "at least 10"), (40, "at least 10")]
)
def test_of_many_broken_images_ten_are_named(tmp_path, blocks, broken, number) -> None:
    for path in sorted(write(tmp_path).rglob("*.png"))[40 - broken :]:
        path.write_bytes(b"no image")
    with pytest.raises(
        SourceError, match=rf"^{number} images cannot be read: \w+/.*\(it is not one of .*GIF"
    ) as caught:
        fetched(tmp_path)
    assert str(caught.value).count(".png") == min(broken, 10)


def test_copies_are_dropped_across_blocks(tmp_path, blocks) -> None:
    write(tmp_path)
    (tmp_path / "cats/99.png").write_bytes((tmp_path / "cats/00.png").read_bytes())
    assert len(fetched(tmp_path)) == 41
    assert len(fetched(tmp_path, duplicates="drop")) == 40


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:60])])
def test_a_source_that_changes_while_it_is_read(tmp_path, monkeypatch, spoil) -> None:
    """Images that go, or are cut, after they were listed: they are named, and nothing is left of the others."""
    monkeypatch.setattr(decoding, "BLOCK", 3 * 90)
    monkeypatch.setattr(decoding, "Collector", partial(decoding.Collector, most=0))
    write(tmp_path / "in")

    def spoiled(blocks, description, _):
        for number, block in enumerate(blocks):
            if number == 2 and "train" in description:
                assert list(tmp_path.glob(".real.*/new/train-00000.safetensors"))
                for path in (tmp_path / "in/dogs").iterdir():
                    spoil(path)
            yield block

    spec = DataSpec(FolderSource(path=str(tmp_path / "in")))
    with pytest.raises(SourceError, match=r"^at least 10 images cannot be read: dogs/\d\d.* remove them$"):  # noqa: SIM117
        with atomic_folder(tmp_path / "real") as folder:
            fetch(spec, spoiled, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.copy(folder / "cats/00.png", folder / "dogs/20.png"),
        lambda folder: shutil.copy(folder / "cats/00.png", folder / "cats/zz.png"),
        lambda folder: (folder / "dogs/20.png").unlink(),
    ],
    ids=["replaced", "added", "removed"],
)
def test_images_that_are_replaced_added_or_removed_while_others_are_read(tmp_path, change) -> None:
    """All can be read, but they are not those of which the revision is recorded."""
    write(tmp_path / "in")

    def changing(blocks, description, _):
        yield from blocks
        if "test" in description:
            change(tmp_path / "in")

    spec = DataSpec(FolderSource(path=str(tmp_path / "in")))
    with pytest.raises(SourceError, match=r"in were added, removed or changed while they were read; expected the same"):
        fetch(spec, changing)
    fetch(spec)
    (tmp_path / "in/.DS_Store").touch()
    fetch(spec, lambda blocks, *_: ((tmp_path / "in/.DS_Store").write_text("."), *blocks)[1:])


def test_a_disk_that_fills_while_files_of_images_are_written(tmp_path, blocks, monkeypatch) -> None:
    """In the third file: one line, and the artifact of before is as it was."""

    class Full:
        closed = False

        def write(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        close = write  # what could not be written is tried again

    def put(file, data):
        if file.path.name == "train-00002.safetensors" and file.rows:
            file.file.close()
            file.file = Full()
        original(file, data)

    original = shards.ShardFile.put
    monkeypatch.setattr(shards.ShardFile, "put", put)
    monkeypatch.setattr(shards, "SHARD", 6 * 90)
    monkeypatch.setattr(decoding, "Collector", partial(decoding.Collector, most=0))
    (tmp_path / "real").mkdir()
    (tmp_path / "real/real.safetensors").write_bytes(b"of before")
    spec = DataSpec(FolderSource(path=str(write(tmp_path / "in"))))
    with pytest.raises(ArtifactError, match=r"^\S* is not written: No space left .*; make room, then run the same"):  # noqa: SIM117
        with atomic_folder(tmp_path / "real") as folder:
            fetch(spec, folder=folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "real"]
    assert [path.read_bytes() for path in (tmp_path / "real").iterdir()] == [b"of before"]


def encoded(**options) -> bytes:
    Image.fromarray(LEVELS[0]).save(file := BytesIO(), "jpeg", **options)
    return file.getvalue()


def test_plain_jpegs_are_what_pillow_reads(monkeypatch) -> None:
    """Those that say more than their pixels are left to Pillow."""
    kinds = ({}, {"quality": 30, "progressive": True}, {"subsampling": 0}, {"keep_rgb": True}, {"comment": b"x" * 300})
    for options in kinds:
        data = encoded(**options)
        expected = np.asarray(Image.open(BytesIO(data))).transpose(2, 0, 1)
        assert np.array_equal(pictures.plain_jpeg(data), expected)
    exif = Image.Exif()
    exif[274] = 6
    assert pictures.plain_jpeg(encoded(exif=exif)) is None
    assert pictures.plain_jpeg(encoded()[:-40]) is None
    assert pictures.plain_jpeg(b"\x89PNG") is None
    cmyk = BytesIO()
    Image.fromarray(LEVELS[0]).convert("CMYK").save(cmyk, "jpeg")
    assert pictures.plain_jpeg(cmyk.getvalue()) is None
    frame = (data := encoded()).index(b"\xff\xc0") + 5
    assert pictures.jpeg_shape(data) == (6, 5, 3) and pictures.plain_jpeg(data) is not None
    assert pictures.plain_jpeg(data[:frame] + b"\xff\xff\xff\xff" + data[frame + 4 :]) is None, "12 GB by its own word"
    assert pictures.plain_jpeg(data[: frame - 5]) is None
    monkeypatch.setattr(pictures, "LARGEST_PLAIN", 10)
    assert pictures.plain_jpeg(encoded()) is None


def test_plain_jpegs_are_one_channel_where_they_are_grey() -> None:
    Image.fromarray(LEVELS[0][..., 0]).save(file := BytesIO(), "jpeg")
    assert np.array_equal(pictures.plain_jpeg(file.getvalue()), np.asarray(Image.open(file))[None])


WAIT = """
import os, sys, time
from distillkit.sources import decoding
def slow(item):
    print(os.getpid(), flush=True)
    time.sleep(60)
for _ in decoding.in_parallel(slow, range(8), True):
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads elsewhere")
def test_processes_end_with_the_one_they_work_for() -> None:
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        for _ in range(100):
            if not alive(child):
                return
            time.sleep(0.05)
    raise AssertionError(f"process {child} is still there")


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
