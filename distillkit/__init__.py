"""distillkit: dataset distillation with DVC stages, a PyTorch core and Hugging Face datasets."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distillkit.data.images import SyntheticSet

__version__ = "0.1.0"


def load(reference: str | Path, recipe: str | None = None) -> "SyntheticSet":
    """A distilled set by name on the Hub (``owner/name@v1.0``), or by path; see :func:`distillkit.hub.pull.load`."""
    from distillkit.hub import pull

    return pull.load(reference, recipe)
