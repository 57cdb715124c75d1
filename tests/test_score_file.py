"""The user's own difficulty: one number for every training image from .npy or .npz, and nothing is unpickled."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distillkit.base.errors import SourceError
from distillkit.training.score_file import ScoreSpec, read_score_file

SCORES = [0.5, 3.0, -1.0]


class Bomb:
    """Unpickling it would fail the test, and worse elsewhere."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("it was unpickled",))


def read(path: Path, images: int = 3, **changes: Any) -> torch.Tensor:
    return read_score_file(ScoreSpec("file", file=str(path), **changes), images)


def refused(path: Path, images: int = 3) -> str:
    """The one line that the file is refused with, after its name."""
    with pytest.raises(SourceError) as caught:
        read(path, images)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"score.file {path} ")
    return line.removeprefix(f"score.file {path} ")


@pytest.mark.parametrize("dtype", ["float16", "float32", ">f8", "int8", "int64"])
def test_numbers_of_any_type(tmp_path, dtype):
    np.save(tmp_path / "s.npy", np.array([1, 3, 2], dtype=dtype))
    difficulty = read(tmp_path / "s.npy")
    assert difficulty.dtype == torch.float32
    assert difficulty.tolist() == [1, 3, 2]


def test_an_npz_of_one_array_or_one_called_scores(tmp_path):
    np.savez(tmp_path / "one.npz", anything=SCORES)
    np.savez(tmp_path / "two.npz", other=[1, 2, 3], scores=SCORES)
    assert read(tmp_path / "one.npz").tolist() == SCORES
    assert read(tmp_path / "two.npz").tolist() == SCORES


def test_larger_means_easier_negates(tmp_path):
    np.save(tmp_path / "s.npy", SCORES)
    assert read(tmp_path / "s.npy", larger_means="harder").tolist() == SCORES
    assert read(tmp_path / "s.npy", larger_means="easier").tolist() == [-0.5, -3.0, 1.0]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.0, 2.0], "float64 of shape (2,)"),
        ([[1.0], [2.0], [3.0]], "float64 of shape (3, 1)"),
        (1.0, "float64 of shape ()"),
        (["a", "b", "c"], "<U1 of shape (3,)"),
        ([True, False, True], "bool of shape (3,)"),
        ([1j, 2, 3], "complex128 of shape (3,)"),
    ],
)
def test_anything_but_one_number_for_each_image(tmp_path, values, found):
    np.save(tmp_path / "s.npy", values)
    expected = "expected one number for each of the 3 training images, in the order of the source"
    assert refused(tmp_path / "s.npy") == f"holds {found}; {expected}"


@pytest.mark.parametrize(
    ("bad", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), (1e300, "1e+300")], ids=["nan", "infinity", "too large"]
)
def test_numbers_that_are_not_finite_are_found_by_their_row(tmp_path, bad, shown):
    np.save(tmp_path / "s.npy", [0.5, bad, np.nan])
    assert refused(tmp_path / "s.npy") == f"holds {shown} at row 1; expected finite float32 numbers"


@pytest.mark.parametrize("name", ["s.npy", "s.npz"])
def test_a_pickled_object_array_is_refused_unread(tmp_path, name):
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, np.array([Bomb(), 2, 3], dtype=object))
    assert refused(tmp_path / name).startswith("holds object of shape (3,); expected one number for each of the 3")


def test_an_npz_of_several_arrays_or_none(tmp_path):
    np.savez(tmp_path / "two.npz", a=SCORES, b=SCORES)
    assert refused(tmp_path / "two.npz") == "holds a, b; expected one array, or one called scores"
    np.savez(tmp_path / "none.npz")
    assert refused(tmp_path / "none.npz") == "holds nothing; expected one array, or one called scores"


@pytest.mark.parametrize("keep", [0, 5, 20, -1])
@pytest.mark.parametrize("name", ["s.npy", "s.npz"])
def test_a_truncated_file(tmp_path, name, keep):
    save = np.save if name.endswith("npy") else np.savez
    save(tmp_path / name, SCORES)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:keep])
    line = refused(tmp_path / name)
    assert line.startswith("cannot be read (")
    assert line.endswith("); expected a .npy or .npz of numbers")


def test_a_damaged_npz(tmp_path):
    np.savez(tmp_path / "s.npz", SCORES)
    written = bytearray((tmp_path / "s.npz").read_bytes())
    written[written.index(np.float64(3.0).tobytes())] ^= 1
    (tmp_path / "s.npz").write_bytes(written)
    assert refused(tmp_path / "s.npz").startswith("cannot be read (Bad CRC-32 for file 'arr_0.npy')")


def test_text_is_refused_without_advice_to_unpickle_it(tmp_path):
    (tmp_path / "s.csv").write_text("0.5\n3.0\n-1.0\n")
    line = refused(tmp_path / "s.csv")
    assert "unsafe" not in line
    assert line.endswith("expected a .npy or .npz of numbers")


def test_no_file(tmp_path):
    assert refused(tmp_path / "no.npy") == "does not exist; expected a .npy or .npz file; correct the path"
    assert refused(tmp_path) == "is no regular file; expected a .npy or .npz file; correct the path"
    os.mkfifo(tmp_path / "pipe.npy")
    assert refused(tmp_path / "pipe.npy").startswith("is no regular file")
