"""Which difficulty to use: one of ours, or the user's own from a file."""

from pathlib import Path
from typing import Literal

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

    name: Literal["forgetting", "el2n", "margin", "confidence", "consistency", "file"]
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
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise SourceError(f"score.file {path} does not exist; expected a .npy or .npz file; correct the path") from None
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"score.file {path} cannot be read ({error}); expected a .npy or .npz of numbers") from error
    values = np.asarray(only_array(loaded, path) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded)
    if values.shape != (images,) or values.dtype.kind not in "fiu":
        raise SourceError(
            f"score.file {path} holds {values.dtype} of shape {values.shape}; expected one number for each of the "
            f"{images} training images, in the order of the source"
        )
    difficulty_N = torch.from_numpy(values.astype(np.float32))
    if not difficulty_N.isfinite().all():
        row = int((~difficulty_N.isfinite()).nonzero()[0])
        raise SourceError(f"score.file {path} holds {values[row]} at row {row}; expected finite numbers")
    return difficulty_N if spec.larger_means == "harder" else -difficulty_N


def only_array(loaded: "np.lib.npyio.NpzFile", path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    names = loaded.files
    if "scores" not in names and len(names) != 1:
        raise SourceError(f"score.file {path} holds {', '.join(names)}; expected one array, or one called scores")
    array: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = loaded["scores" if "scores" in names else names[0]]
    return array
