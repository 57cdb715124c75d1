"""Which difficulty to use: one of ours, or the user's own from a file."""

from pathlib import Path
from typing import Literal
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from distillkit.errors import ParamsError, SourceError
from distillkit.settings import settings


@settings
class ScoreSpec:
    """The ``score`` section: a score by name, from the first ``epochs`` epochs (all when missing), or a file.

    A file is .npy or one-array .npz with one number for every training image, in the order of the source;
    ``larger_means`` says which end is hard, and scores where larger is easier are negated.
    """

    name: Literal["forgetting", "el2n", "margin", "probability-margin", "confidence", "consistency", "file"]
    epochs: int | None = None
    file: str | None = None
    larger_means: Literal["harder", "easier"] = "harder"

    def __post_init__(self) -> None:
        if (self.name == "file") != (self.file is not None):
            raise ParamsError(f"name is {self.name} and file is {self.file}; give a path exactly when name is file")
        if self.name != "file" and self.larger_means == "easier":
            raise ParamsError(f"larger_means is only for score files; {self.name} is harder when larger; remove it")


def read_score_file(spec: ScoreSpec, images: int) -> Tensor:
    """The user's difficulty (N,), float32, larger is harder. Raises SourceError when it does not fit the data."""
    path = Path(spec.file or "")
    try:
        values = only_array(path)
    except FileNotFoundError:
        raise SourceError(f"score.file {path} does not exist; expected a .npy or .npz file; correct the path") from None
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        found = str(error).split(". ")[0]  # what follows advises to unpickle
        raise SourceError(f"score.file {path} cannot be read ({found}); expected a .npy or .npz of numbers") from error
    if values.shape != (images,) or values.dtype.kind not in "fiu":
        raise SourceError(
            f"score.file {path} holds {values.dtype} of shape {values.shape}; expected one number for each of the "
            f"{images} training images, in the order of the source"
        )
    with np.errstate(over="ignore"):
        difficulty_N = torch.from_numpy(values.astype(np.float32))
    if not difficulty_N.isfinite().all():
        row = int((~difficulty_N.isfinite()).nonzero()[0])
        raise SourceError(f"score.file {path} holds {values[row]} at row {row}; expected finite float32 numbers")
    return difficulty_N if spec.larger_means == "harder" else -difficulty_N


def only_array(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """The array of an .npy; of an .npz the one called scores, or the only one. Object arrays are never unpickled."""
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return np.asarray(loaded)
        names = loaded.files
        if "scores" not in names and len(names) != 1:
            found = ", ".join(names) or "nothing"
            raise SourceError(f"score.file {path} holds {found}; expected one array, or one called scores")
        return np.asarray(loaded["scores" if "scores" in names else names[0]])
