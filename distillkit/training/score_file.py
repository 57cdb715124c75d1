"""The choice of the difficulty: a score of distillkit, or the user's own numbers from a file."""

from pathlib import Path
from typing import IO, Literal
from zipfile import ZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from distillkit.base.errors import ParamsError, SourceError, check_range
from distillkit.base.settings import settings
from distillkit.training.difficulty import BY_RUNS, WINDOW, check_epochs

Numbers = npt.NDArray[np.float64]
ScoreName = Literal[
    "forgetting", "el2n", "margin", "probability-margin", "confidence", "consistency", "dual", "tdds", "file"
]


@settings
class ScoreSpec:
    """The ``score`` section: a score by name from the first ``epochs`` epochs (None: all), or a file.

    ``window`` is the number of consecutive epochs in a run of ``dual`` and ``tdds`` (None: 10). A file is .npy or .npz
    with one number for each training image, in the order of the source. With ``larger_means: easier`` the numbers are
    negated.
    """

    name: ScoreName
    epochs: int | None = None
    window: int | None = None
    file: str | None = None
    larger_means: Literal["harder", "easier"] = "harder"

    def __post_init__(self) -> None:
        if (self.name == "file") != (self.file is not None):
            raise ParamsError(f"name is {self.name} and file is {self.file}; give a path exactly when name is file")
        if self.name != "file" and self.larger_means == "easier":
            raise ParamsError(f"larger_means is only for score files; {self.name} has its own end; remove it")
        if self.window is not None and self.name not in BY_RUNS:
            raise ParamsError(f"window is {self.window}, but {self.name} looks at single epochs; remove it")
        check_range("window", self.window, 3)

    @property
    def run(self) -> int:
        """The number of epochs in a run."""
        return WINDOW if self.window is None else self.window

    def check_against(self, trained: int) -> None:
        """Raise ParamsError when ``trained`` epochs are fewer than the score needs."""
        check_epochs(self.epochs, trained)
        used = self.epochs or trained
        if self.name in BY_RUNS and used < self.run:
            raise ParamsError(
                f"score {self.name} looks at {self.run} epochs together, but uses {used}; lower score.window, or train "
                "experts for more epochs"
            )


def read_score_file(spec: ScoreSpec, images: int) -> Tensor:
    """The user's difficulty (N,), float32, larger means harder.

    Raises SourceError unless the file has ``images`` finite numbers.
    """
    path = Path(spec.file or "")
    if not path.is_file():  # reading a pipe may never end
        found = "is no regular file" if path.exists() else "does not exist"
        raise SourceError(f"score.file {path} {found}; expected a .npy or .npz file; correct the path")
    try:
        with path.open("rb") as file:
            values = numbers_in(file, path, images)
    except SourceError:
        raise
    except Exception as error:  # numpy and zipfile raise errors of many types
        found = " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
        raise SourceError(f"score.file {path} cannot be read ({found}); expected a .npy or .npz of numbers") from error
    with np.errstate(over="ignore"):
        difficulty_N = torch.from_numpy(values.astype(np.float32))
    if not difficulty_N.isfinite().all():
        row = int((~difficulty_N.isfinite()).nonzero()[0])
        raise SourceError(f"score.file {path} holds {values[row]} at row {row}; expected finite float32 numbers")
    return difficulty_N if spec.larger_means == "harder" else -difficulty_N


def numbers_in(file: IO[bytes], path: Path, images: int) -> Numbers:
    """The array in an .npy file; in an .npz file, the array called scores or the only one."""
    if file.read(2) != b"PK":  # not a ZIP archive
        file.seek(0)
        return only_array(file, path, images)
    with ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        if "scores" not in names and len(names) != 1:
            found = ", ".join(names) or "nothing"
            raise SourceError(f"score.file {path} holds {found}; expected one array, or one called scores")
        with archive.open(archive.namelist()[names.index("scores") if "scores" in names else 0]) as member:
            return only_array(member, path, images)


def only_array(file: IO[bytes], path: Path, images: int) -> Numbers:
    """The array in an .npy stream. The header is checked first, and no more than the expected bytes are read."""
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read_header(file)
    if shape != (images,) or dtype.kind not in "fiu":
        expected = f"one number for each of the {images} training images, in the order of the source"
        raise SourceError(f"score.file {path} holds {dtype} of shape {shape}; expected {expected}")
    data = file.read(images * dtype.itemsize + 1)  # past the end, so that zipfile verifies the checksum
    if len(data) < images * dtype.itemsize:
        raise EOFError("it ends early")
    return np.frombuffer(data, dtype, images)
