"""Images in files are as good as a tensor of them, and memory does not grow with them."""

import errno
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distillkit.base.errors import ArtifactError
from distillkit.base.randomness import seeded
from distillkit.data import rows
from distillkit.data.files import artifact, shards
from distillkit.data.files.real_images import REAL, load_real, save_real
from distillkit.data.files.shards import Collector
from distillkit.data.images import ImageSet, RealData, all_of, channel_statistics, real_subset
from distillkit.data.origin import SourceInfo
from distillkit.data.rows import Chosen, FileRows, Normalised, chosen, normalised, to_pixels

SHAPE = (3, 4, 5)
NAMES = ("a", "b")


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of seven images, and nothing that is kept in memory."""
    monkeypatch.setattr(shards, "SHARD", 7 * 60)
    for module in (rows, artifact):
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    monkeypatch.setattr("distillkit.data.files.container.IN_MEMORY", 0)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(256, (20, *SHAPE), dtype=torch.uint8, generator=seeded(0))


def collected(images: torch.Tensor, folder: Path, name: str = "train", most: int = 0) -> rows.Images:
    collector = Collector(folder, name, SHAPE, most)
    for part in images.split(3):
        collector.append(part.numpy())
    return collector.result()


@pytest.fixture
def files(small_files: None, images: torch.Tensor, tmp_path: Path) -> FileRows:
    found = collected(images, tmp_path)
    assert isinstance(found, FileRows)
    return found


def large(folder: Path, images: torch.Tensor) -> RealData:
    """A source whose images are in files in ``folder``."""
    labels = torch.arange(20) % 2
    train = ImageSet(collected(images, folder), labels, NAMES)
    test = ImageSet(collected(images.flip(0), folder, "test"), labels.clone(), NAMES)
    return RealData(train, test, channel_statistics(images), SourceInfo("folder", "x", "1", "mit"))


def test_rows_are_those_of_the_tensor(files: FileRows, images: torch.Tensor) -> None:
    assert [len(part.path.read_bytes()) - part.offset for part in files.parts] == [420, 420, 360]
    picks = [torch.tensor([19, 0, 7, 7, 6, 13]), torch.tensor([], dtype=torch.int64), torch.arange(20) % 3 == 0]
    for pick in (*picks, slice(None), slice(5, 16), slice(7, 7), slice(1, 20, 4), slice(-3, None), slice(18, 99)):
        assert torch.equal(files[pick], images[pick]), pick
    assert (len(files), files.shape, files.dtype) == (20, images.shape, images.dtype)
    assert torch.equal(torch.cat(list(rows.chunks(files, 6))), images)


def test_a_few_are_a_tensor(images: torch.Tensor, tmp_path: Path) -> None:
    assert torch.equal(collected(images, tmp_path, most=1200), images)
    assert list(tmp_path.iterdir()) == []
    nowhere = Collector(None, "train", SHAPE, 0)
    nowhere.append(images.numpy())
    assert torch.equal(nowhere.result(), images)


def test_files_are_safetensors_of_the_same_bytes(files: FileRows, images: torch.Tensor, tmp_path: Path) -> None:
    (again := tmp_path / "again").mkdir()
    other = Collector(again, "train", SHAPE, 0)
    other.append(images.numpy())  # all at once
    for part, same in zip(files.parts, other.result().parts, strict=True):
        assert part.path.read_bytes() == same.path.read_bytes()
    loaded = torch.cat([load_file(part.path)["images"] for part in files.parts])
    assert torch.equal(loaded, images)


def test_a_file_that_is_cut_while_it_is_read(files: FileRows) -> None:
    path = files.parts[1].path
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert len(files[:13]) == 13
    with pytest.raises(ArtifactError, match=re.escape(f"{path} ends early; it was changed or cut while it was read")):
        files[torch.tensor([13])]


def test_a_full_disk(small_files: None, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    collector = Collector(tmp_path, "train", SHAPE, 0)
    collector.append(images[:3].numpy())
    collector.files[0].file.close()
    monkeypatch.setattr(collector.files[0], "file", type("Full", (), {"write": full})())
    with pytest.raises(ArtifactError, match=r"train-00000\.safetensors is not written: No space left .*; make room"):
        collector.append(images[3:5].numpy())


def test_normalised_in_batches_to_the_bit(files: FileRows, images: torch.Tensor, monkeypatch) -> None:
    statistics, device = channel_statistics(images), torch.device("cpu")
    whole = normalised(images, statistics, device, channels_last=True)
    assert isinstance(whole, torch.Tensor)
    monkeypatch.setattr(rows, "READY", 0)
    lazy = normalised(files, statistics, device, channels_last=True)
    assert isinstance(lazy, Normalised)
    pick = torch.tensor([3, 3, 17])
    assert torch.equal(lazy[pick], whole[pick])
    assert lazy[pick].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(lazy[:], whole)


def test_some_rows_of_files(files: FileRows, images: torch.Tensor) -> None:
    pick = torch.tensor([9, 2, 2, 19])
    some = chosen(files, pick)
    assert isinstance(some, Chosen)
    assert torch.equal(some[:], images[pick])
    assert torch.equal(some[torch.tensor([3, 0])], images[[19, 9]])


def test_statistics_are_those_of_all_pixels(files: FileRows, images: torch.Tensor) -> None:
    pixels = images.double() / 255
    found = channel_statistics(files)
    assert found.mean.tolist() == pytest.approx(pixels.mean((0, 2, 3)).tolist())
    assert found.std.tolist() == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist())
    assert torch.equal(found.mean, channel_statistics(to_pixels(images)).mean)


# At rest


def test_a_source_in_files(small_files: None, images: torch.Tensor, tmp_path: Path) -> None:
    save_real(tmp_path / REAL, large(tmp_path, images))
    for place in (tmp_path, tmp_path / REAL):
        found = load_real(place)
        assert isinstance(found.train.images, FileRows)
        assert torch.equal(found.train.images[:], images)
        assert torch.equal(found.test.images[:], images.flip(0))
    assert (tmp_path / REAL).stat().st_size < 3000


def test_a_source_in_one_file_is_read_by_rows(small_files: None, images: torch.Tensor, tmp_path: Path) -> None:
    """As all were before."""
    labels = torch.arange(20) % 2
    train, test = ImageSet(images, labels, NAMES), ImageSet(images.clone(), labels.clone(), NAMES)
    path = tmp_path / "old.safetensors"
    save_real(path, RealData(train, test, channel_statistics(images), SourceInfo(*"abcd")))
    found = load_real(path).train.images
    assert isinstance(found, FileRows)
    assert torch.equal(found[:], images)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.unlink(), "train-00001.safetensors does not exist; expected 7 train images; run its stage"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "has 7 images in [0-9,]+ bytes; expected 7 in [0-9,]+"),
        (lambda path: path.write_bytes(b"\0" * 40), "train-00001.safetensors cannot be read"),
        (lambda path: path.write_bytes(path.with_name("train-00002.safetensors").read_bytes()), "has 6 images"),
    ],
)
def test_a_missing_or_damaged_file(small_files, images, tmp_path, damage, expected) -> None:
    save_real(tmp_path / REAL, large(tmp_path, images))
    damage(tmp_path / "train-00001.safetensors")
    with pytest.raises(ArtifactError, match=expected) as caught:
        load_real(tmp_path)
    assert "\n" not in str(caught.value)


def test_all_of_a_large_source_is_not_kept_again(small_files: None, images: torch.Tensor, tmp_path: Path) -> None:
    (folder := tmp_path / "real").mkdir()
    save_real(folder / REAL, large(folder, images))
    source = load_real(folder)
    full = all_of(source.train, source.normalisation)
    provenance = artifact.provenance_of("full", "full", {}, 0, source)
    artifact.save_synthetic(path := tmp_path / "distilled/full.safetensors", full, provenance)
    assert path.stat().st_size < 3000
    assert torch.equal(artifact.load_synthetic(path)[0].images[:], images)
    (folder / REAL).unlink()
    with pytest.raises(ArtifactError, match=r"full\.safetensors is all of its source, whose images are in"):
        artifact.load_synthetic(path)


def test_real_rows_are_kept_as_bytes(images: torch.Tensor, tmp_path: Path) -> None:
    """Also beside learned ones; all come back to the bit, in their order."""
    train = ImageSet(images, torch.arange(20) % 2, NAMES)
    start = real_subset(train, torch.arange(1, 15), channel_statistics(images))
    learned = torch.arange(14) % 3 == 1
    pixels = start.pixels() + torch.randn(14, *SHAPE, generator=seeded(1)) * learned[:, None, None, None]
    for each, sizes in ((start, 14 * 60), (replace(start, images=pixels, learned=learned), 9 * 60 + 5 * 240)):
        artifact.save_synthetic(path := tmp_path / "set.safetensors", each, {})
        tensors = load_file(path)
        assert sum(part.nbytes for name, part in tensors.items() if name.endswith("images")) == sizes
        found = artifact.load_synthetic(path)[0]
        assert torch.equal(found.pixels(), each.pixels())
    opened = artifact.load_synthetic(path)[0]
    assert torch.equal(opened.learned, learned)


# Memory

TRAIN = """
import resource, sys, torch
from pathlib import Path
from distillkit.base.randomness import seeded
from distillkit.data.files.shards import Collector
from distillkit.data.images import ImageSet, all_of, channel_statistics
from distillkit.networks.specs import NetworkSpec
from distillkit.data import rows
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.training.loop import TrainingRecipe
from distillkit.training.trajectories import ExpertRecipe, record_expert

torch.set_num_threads(1)
images, block = int(sys.argv[1]), torch.randint(256, (500, 3, 32, 32), dtype=torch.uint8).numpy()
collector = Collector(Path(sys.argv[2]), "train", (3, 32, 32))
for _ in range(images // 500):
    collector.append(block)
real = ImageSet(collector.result(), torch.arange(images) % 10, tuple("abcdefghij"))
spec, statistics = NetworkSpec("convnet", depth=1, width=1, norm="none"), channel_statistics(real.images)
record_expert(real, statistics, ExpertRecipe(spec, epochs=1, batch=500, lr=0.01), seeded(0))
recipe = EvaluationRecipe(spec, TrainingRecipe(steps=5, batch=64, lr=0.01), runs=1)
evaluate(all_of(real, statistics), real, recipe, torch.zeros(images), seeded(0))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    """Of 10,000 and 30,000 images, 31 and 92 MB as bytes; 246 MB more as float32."""
    peaks = []
    for images in (10_000, 30_000):
        (folder := tmp_path / str(images)).mkdir()
        command = [sys.executable, "-c", TRAIN, str(images), str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 40_000, "kB"
