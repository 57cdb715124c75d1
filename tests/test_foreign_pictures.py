"""Sets that others published as pictures: read as they are, and through the pipeline like ours."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
import torch
from click.testing import CliRunner
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from hub_server import Hub
from packages import run
from PIL import Image
from pyarrow import parquet

from distillkit.base.errors import DistillkitError, ParamsError, SourceError
from distillkit.base.files import sha256
from distillkit.cli import cli
from distillkit.data.files.artifact import load_synthetic
from distillkit.foreign.importing import import_files, import_place
from distillkit.foreign.pictures import Picked, size_told

LEVELS = {"cat": (10, 20), "dog": (200, 210)}  # a flat picture for each


def picture(level: int, side: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (level, level, 0)).save(file, "PNG")
    return file.getvalue()


def folder_of(root: Path, side: int = 4) -> Path:
    for name, levels in LEVELS.items():
        (root / name).mkdir(parents=True)
        for number, level in enumerate(levels):
            (root / name / f"{number}.png").write_bytes(picture(level, side))
    return root


def write_parquet(path: Path, label: str = "class_id") -> Path:
    """As the sets of rethinkdc are on the Hub: pictures in bytes, classes as numbers."""
    levels = [(level, number) for number, name in enumerate(LEVELS) for level in LEVELS[name]]
    table = arrow.table(
        {
            "image": [{"bytes": picture(level), "path": None} for level, _ in levels],
            label: arrow.array([number for _, number in levels], arrow.int64()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)
    return path


@pytest.fixture
def out(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "set.safetensors"


def imported(out: Path, names=("cat", "dog")):
    synthetic, provenance = load_synthetic(out)
    assert synthetic.class_names == names and synthetic.labels.tolist() == [0, 0, 1, 1]
    assert synthetic.images.shape == (4, 3, 4, 4) and synthetic.images.dtype == torch.float32
    expected = torch.tensor([10, 20, 200, 210]) / 255
    assert torch.equal(synthetic.images[:, 0, 0, 0], expected) and not synthetic.images[:, 2].any()
    assert bool(synthetic.learned.all()) and (synthetic.source_row == -1).all() and provenance["method"] == "imported"
    return synthetic


def test_a_folder_with_a_folder_for_each_class(out, tmp_path):
    found = import_place(str(folder_of(tmp_path / "rded")), out, Picked())
    synthetic = imported(out)
    assert found["images_per_class"] == 2 and "method: imported\n    ipc: 2\n" in found["recipe"]
    told = synthetic.notes["imported"]
    assert told["files"][0]["name"] == "rded" and len(told["files"][0]["sha256"]) == 64
    assert told["saved_as"] == "pixels" and str(tmp_path) not in json.dumps(synthetic.notes)


def test_a_folder_with_splits(out, tmp_path):
    folder_of(tmp_path / "all/train")
    folder_of(tmp_path / "all/val", side=9)
    import_place(str(tmp_path / "all"), out, Picked())
    imported(out)


@pytest.mark.parametrize("label", ["class_id", "label"])
def test_a_parquet_file(out, tmp_path, label):
    path = write_parquet(tmp_path / "data.parquet", label)
    import_place(str(path), out, Picked())
    synthetic = imported(out, ("0", "1"))
    assert synthetic.notes["imported"]["files"] == [{"name": "data.parquet", "sha256": sha256(path)}]


def test_class_names_of_parquet_and_given_ones(out, tmp_path):
    features = Features({"picture": ImageFeature(), "kind": ClassLabel(names=["cat", "dog"])})
    rows = [(level, name) for name in LEVELS for level in LEVELS[name]]
    data = {
        "picture": [{"bytes": picture(level), "path": None} for level, _ in rows],
        "kind": [kind for _, kind in rows],
    }
    Dataset.from_dict(data, features=features).to_parquet(tmp_path / "named/train.parquet")
    import_place(str(tmp_path / "named"), out, Picked())
    imported(out)
    import_place(str(tmp_path / "named"), out, Picked(), classes="katze,hund", overwrite=True)
    imported(out, ("katze", "hund"))
    import_place(str(tmp_path / "named"), out, Picked(), licence="CC BY 4.0", overwrite=True)
    assert imported(out).notes["imported"]["licence"] == "CC BY 4.0"
    with pytest.raises(ParamsError, match=r"^--licence is 'CC-BY-5.0', which is no SPDX identifier"):
        import_place(str(tmp_path / "named"), out, Picked(), licence="CC-BY-5.0", overwrite=True)
    with pytest.raises(ParamsError, match="--classes has 3 names, the data 2 classes; expected the same number"):
        import_place(str(tmp_path / "named"), out, Picked(), classes="a,b,c", overwrite=True)


def test_a_dataset_of_the_hub_at_a_revision(hub: Hub, tmp_path):
    """Its commit is on record; the later version is another."""
    repo = hub.create("someone/rded-ipc-2")
    data = write_parquet(tmp_path / "data/train-00000-of-00001.parquet").read_bytes()
    commit = repo.commit({"data/train-00000-of-00001.parquet": data, "README.md": b"---\nlicense: mit\n---\n"})
    repo.commit({"data/train-00000-of-00001.parquet": b"broken"})
    home = tmp_path / "work/home"
    home.mkdir(parents=True)
    command = ["-m", "distillkit", "import", f"someone/rded-ipc-2@{commit}", "-o", "set.safetensors", "--json"]
    done = run(hub, home, *command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["images"] == 4
    synthetic = imported(tmp_path / "work/set.safetensors", ("0", "1"))
    assert synthetic.notes["imported"]["files"][0]["name"] == f"someone/rded-ipc-2@{commit}"
    assert synthetic.notes["imported"]["licence"] == "mit"


def test_numpy_arrays(out, tmp_path):
    """As most code saves them: channels last, 8 bits."""
    levels = np.array([10, 20, 200, 210], dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(levels, (4, 4, 4, 3)).copy()
    images[..., 2] = 0
    for name, save in (("plain.npz", np.savez), ("packed.npz", np.savez_compressed)):
        save(tmp_path / name, images=images, labels=np.array([0, 0, 1, 1]))
        import_files([tmp_path / name], out, saved_as="pixels", statistics=None, overwrite=True)
        imported(out, ("0", "1"))
    np.savez(tmp_path / "grey.npz", x=images[..., 0], y=np.array([0, 0, 1, 1]))
    import_files([tmp_path / "grey.npz"], out, saved_as="pixels", statistics=None, overwrite=True)
    assert load_synthetic(out)[0].images.shape == (4, 1, 4, 4)


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (lambda path: np.savez(path, x=np.array([{"a": 1}], dtype=object)), "cannot be read as arrays"),
        (lambda path: path.write_bytes(b"PK\x03\x04 no archive"), "cannot be read as arrays"),
        (lambda path: np.savez(path, x=np.zeros((3, 3))), "expected exactly one"),
        (lambda path: np.savez(path, x=np.array(["a", "b"])), "cannot be read as arrays"),
    ],
)
def test_arrays_that_are_none_are_refused(out, tmp_path, write, found):
    write(tmp_path / "x.npz")
    with pytest.raises(SourceError, match=found) as caught:
        import_files([tmp_path / "x.npz"], out, saved_as="pixels", statistics=None)
    assert "\n" not in str(caught.value) and not out.exists()


def test_arrays_that_unpack_to_too_much_are_refused(out, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((100, 3, 8, 8)))
    monkeypatch.setattr("distillkit.foreign.files.LARGEST", 1000)
    with pytest.raises(SourceError, match=r"unpacks to 15\d,\d{3} bytes; expected at most 1,000"):
        import_files([tmp_path / "x.npz"], out, saved_as="pixels", statistics=None)


def test_pictures_of_several_sizes_need_one(out, tmp_path):
    folder = folder_of(tmp_path / "sizes")
    (folder / "dog/9.png").write_bytes(picture(1, side=8))
    with pytest.raises(SourceError, match=r"8x8 .*expected one size"):
        import_place(str(folder), out, Picked())
    found = import_place(str(folder), out, Picked(size=(6, 5)))
    assert found["image_shape"] == [3, 6, 5] and found["recipe"] is None, "classes have different numbers"


@pytest.mark.parametrize(("text", "size"), [(None, None), ("64", (64, 64)), ("64x48", (64, 48))])
def test_sizes(text, size):
    assert size_told(text) == size


@pytest.mark.parametrize("text", ["", "0", "64x", "x", "1x2x3", "-3", "9999", "a"])
def test_sizes_that_are_none(text):
    with pytest.raises(ParamsError, match="expected the side of a square"):
        size_told(text)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["nowhere.parquet"], "does not exist; expected a folder of images or parquet"),
        (["nowhere/at/all"], "does not exist; expected a .pt file"),
        (["FOLDER", "FOLDER"], "is a folder; expected a .pt file"),
        (["FOLDER", "--saved-as", "normalised", "--statistics", "mnist"], "--saved-as is for files of tensors"),
        (["FOLDER", "--labels", "hard"], "--labels is for files of tensors"),
        (["FOLDER", "--index", "1"], "--index is for files of tensors"),
        (["FOLDER", "--label-column", "x"], "has a folder for each class; drop it"),
        (["FOLDER", "--size", "x"], "expected the side of a square"),
        (["FOLDER", "--statistics", "mnist"], "the statistics have 1 channel, but the images of .* have 3"),
        (["x.npz", "--saved-as", "pixels", "--split", "train"], "--split is for pictures"),
    ],
)
def test_mistakes(out, tmp_path, arguments, found):
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    folder = folder_of(tmp_path / "pets")
    line = [str(folder) if part == "FOLDER" else part for part in arguments]
    result = CliRunner().invoke(cli, ["import", *line, "-o", str(out)])
    assert result.exit_code != 0 and not out.exists()
    said = str(result.exception) if isinstance(result.exception, DistillkitError) else result.output
    assert re.search(found, said), said


def test_the_command(out, tmp_path):
    folder = folder_of(tmp_path / "pets")
    result = CliRunner().invoke(cli, ["import", str(folder), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "set.safetensors: 4 images of 3x4x4 in 2 classes, pixels 0 to 0.8235" in result.output
    imported(out)
