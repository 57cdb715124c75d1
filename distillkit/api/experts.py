"""Experts in Python: train them, keep them in a folder, and check that they fit the images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from distillkit.api.sets import Data, as_data
from distillkit.api.settings import Network, check_given, expect, facts_of, merged, visiting, whole
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.names import hint
from distillkit.base.params import read
from distillkit.data.images import RealData
from distillkit.pipeline.code import files_of
from distillkit.pipeline.make import Scores
from distillkit.pipeline.train import train_experts as train
from distillkit.pipeline.unfinished import unfinished, work_folder
from distillkit.process.progress import tell
from distillkit.setup.defaults import EXPERTS, EXPERTS_COUNT, values
from distillkit.training.difficulty import SCORES, score_called, scores_of
from distillkit.training.expert_files import ExpertFiles, save_experts
from distillkit.training.trajectories import ExpertRecipe, Experts, ExpertsInMemory, ExpertsSpec, in_memory

T = TypeVar("T")
DATA = "the result of dk.from_torch, dk.from_arrays or dk.fetch"


def train_experts(
    data: RealData,
    *,
    network: Network | None = None,
    epochs: int | None = None,
    count: int = EXPERTS_COUNT,
    seed: int = 0,
    folder: str | Path | None = None,
    **options: Any,
) -> ExpertsInMemory | ExpertFiles:
    """Train networks on the training images, and record their parameters after every epoch and each image's difficulty.

    Args:
        data: from :func:`from_torch`, :func:`from_arrays` or :func:`fetch`.
        network: a name, a NetworkSpec, or a function (image_shape, classes) that returns an ``nn.Module``. Default: a
            ConvNet of width 32 with batch normalisation, whose depth fits the images.
        epochs: default 12.
        count: the number of experts.
        seed: the same seed gives the same bytes.
        folder: a folder for unfinished work and the experts; the same call continues or reuses them.
        **options: ``batch``, ``lr``, ``momentum``, ``weight_decay``, ``augmentation``, ``precision``.
    """
    expect(data, RealData, "data", DATA)
    with visiting(folder) as kept:
        check_given(options, [part.name for part in fields(ExpertRecipe)], ("count", "seed", "folder"))
        data, seed, count = as_data(data), whole(seed, "seed"), whole(count, "count", 1)
        facts, given = facts_of(data.train), {"network": network, "epochs": epochs, **options}
        numbers = merged(values(EXPERTS, facts)["experts"]["recipe"], without_none(given), facts)
        recipe = read(numbers, ExpertRecipe, "experts")
        read({"per_shard": count, "recipe": numbers}, ExpertsSpec, "experts")
        if kept is None:
            trained = train(data, recipe, range(count), seed, None, "experts")
            return in_memory(recipe.network, trained, data.training_images)
        settings = [asdict(recipe), count, seed, data.training_images]
        path = kept_at(kept, "experts", settings, code := files_of(Path(__file__)))
        if not path.exists():
            with unfinished("experts", settings, code, kept) as work:
                trained = train(data, recipe, range(count), seed, work, "experts")
                save_experts(path, trained, recipe.network, asdict(recipe), data.training_images)
        return read_kept(lambda file: ExpertFiles([file]), path)


def without_none(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None}


def kept_at(folder: Path, name: str, settings: Any, code: Sequence[Path]) -> Path:
    """The path of finished work in ``folder``, by a hash of the settings and code. Prints a line if the file exists."""
    path = Path(f"{work_folder(name, settings, code, folder)}.safetensors")
    if path.exists():
        tell(f"reused from {path}")
    return path


def read_kept(read: Callable[[Path], T], path: Path) -> T:
    """Read finished work with ``read``. Raises ArtifactError, which says what to do, when it is damaged."""
    try:
        return read(path)
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be reused ({error}); delete it, and make the same call again") from None


def check_trained_on(experts: ExpertsInMemory | ExpertFiles, data: Data) -> None:
    """Raise ParamsError when the experts were trained on other images, as far as they record them."""
    if experts.trained_on not in ("", data.training_images):
        raise ParamsError(
            f"the experts were trained on other images: {experts.trained_on}; expected those of data.train: "
            f"{data.training_images}; train experts on this data, or give the data of the experts"
        )


def known_of(experts: Experts) -> ExpertsSpec:
    """The specification of experts that the pipeline's checks need."""
    return ExpertsSpec(len(experts), ExpertRecipe(experts.spec, max(1, experts.snapshots - 1), batch=2, lr=1.0))


def scores_for(experts: Experts, difficulty: str | Tensor, images: int) -> Scores:
    """Difficulty (given, or a score from the experts' records) and confidence of each training image, each (N,) or
    None.
    """
    found = scores_of(experts.dynamics()) if isinstance(experts, ExpertsInMemory | ExpertFiles) else {}
    given = None if isinstance(difficulty, str) else as_scores(difficulty)
    chosen = score_called(difficulty, found) if isinstance(difficulty, str) and found else given
    if chosen is not None and chosen.shape != (images,) and isinstance(difficulty, str):
        raise ParamsError(
            f"the experts were trained on other images: {len(chosen):,}; expected the {images:,} of data.train; train "
            "experts on this data, or give the data of the experts"
        )
    if chosen is not None and chosen.shape != (images,):
        raise ParamsError(
            f"difficulty is of shape {tuple(chosen.shape)}; expected one number for each of the {images} training "
            "images; give a tensor of that length"
        )
    return chosen, 1 - found["confidence"] if found else None


def check_difficulty(difficulty: Any) -> None:
    """Raise ParamsError for a name that is not a score."""
    if isinstance(difficulty, str) and difficulty not in SCORES:
        close = hint(difficulty, SCORES)
        raise ParamsError(f"difficulty is {difficulty!r}{close}; expected one of {', '.join(SCORES)}, or a tensor (N,)")


def as_scores(difficulty: Any) -> Tensor:
    """Numbers as a float32 tensor. Raises ParamsError if they are not finite numbers."""
    try:
        found = torch.as_tensor(difficulty, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ParamsError(f"difficulty is {type(difficulty).__name__}; expected a score by name, or numbers") from None
    if not found.isfinite().all():
        raise ParamsError("difficulty holds nan or infinity; expected finite numbers, larger where images are harder")
    return found
