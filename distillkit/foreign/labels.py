"""Labels and class names of sets that other code saved."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distillkit.base.errors import ParamsError, SourceError, counted
from distillkit.foreign.files import listed

LabelsAs = Literal["probabilities", "logits", "hard"]
EXACT, ROUNDED = 1e-4, 1e-2  # largest error of a sum of probabilities: kept unchanged, and rescaled


def read_labels(names: str, found: Tensor, labels_as: LabelsAs | None) -> tuple[str, Tensor, Tensor | None]:
    """The kind of labels, classes (N,) int64, and probabilities (N, K) if they are soft.

    Rows of non-negative numbers that sum to 1 are probabilities; for other rows, ``labels_as`` has to say what they
    are. One-hot rows are hard labels.
    """
    if found.ndim == 1:
        if labels_as not in (None, "hard"):
            wrong = f"--labels is {labels_as}, but {names} holds one class for each image"
            raise ParamsError(f"{wrong}; leave --labels out")
        if found.is_floating_point() or found.dtype == torch.bool:
            expected = "expected whole numbers from 0 on; if they are classes, save labels.long()"
            raise SourceError(f"{names}: the labels are {listed([found])}; {expected}")
        return "hard", found.long(), None
    if not found.isfinite().all():
        raise SourceError(f"{names}: the soft labels hold NaN or infinity; expected finite numbers; get them again")
    likeliest, found = found.argmax(1), found.double()
    if torch.equal(found, F.one_hot(likeliest, found.shape[1]).double()) and labels_as != "logits":
        return "hard", likeliest, None
    if labels_as == "hard":
        return "the likeliest class of soft labels", likeliest, None
    if labels_as == "logits":
        return "softmax of logits", likeliest, found.softmax(1).float()
    total_N = found.sum(1)
    if bool((found >= 0).all()) and bool(((total_N - 1).abs() <= ROUNDED).all()):
        exact = bool(((total_N - 1).abs() <= EXACT).all())
        return "probabilities", likeliest, (found if exact else found / total_N[:, None]).float()
    span = f"rows of {found.min():.4g} to {found.max():.4g} that sum to {total_N.min():.4g} to {total_N.max():.4g}"
    if labels_as == "probabilities":
        expected = "expected probabilities from 0 to 1 with sum 1; use --labels logits or --labels hard"
        raise SourceError(f"{names}: the labels are {span}; {expected}")
    expected = "--labels logits (as DATM saves), or --labels hard for the likeliest class alone"
    raise SourceError(f"{names}: the labels are soft, {span}; expected probabilities, or {expected}")


def checked_classes(
    names: str, labels: Tensor, columns: int | None, class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """The class names given, else numbers; every class must have an image."""
    low, high = int(labels.min()), int(labels.max())
    classes = len(class_names) if class_names is not None else columns or high + 1
    if class_names is not None and (len(set(class_names)) != classes or not all(class_names)):
        raise ParamsError(f"classes are {', '.join(class_names)}; expected different names")
    if low == 1 and columns is None and (class_names is None or high == classes):
        expected = "expected labels from 0; subtract 1, or import the whole set if class 0 is missing"
        raise SourceError(f"{names}: labels start at 1; {expected}")
    if low < 0 or high >= classes or (columns or classes) != classes:
        found = f"{names}: labels run from {low} to {high}{f' in {columns} columns' if columns else ''}"
        raise SourceError(
            f"{found}; expected 0 to {classes - 1} for {counted(classes, 'class')}; correct --classes or the labels"
        )
    present = set(labels.tolist())
    if (missing := next((label for label in range(classes) if label not in present), None)) is not None:
        expected = f"expected images of every class from 0 to {classes - 1}; import the whole set"
        raise SourceError(f"{names}: no image has label {missing}; {expected}")
    return tuple(class_names) if class_names is not None else tuple(map(str, range(classes)))
