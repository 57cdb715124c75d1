"""What of its source a set covers: by difficulty, and on a map of two dimensions."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distillkit.data.images import Normalisation, RealData
from distillkit.data.rows import Images, to_pixels
from distillkit.look.facts import Facts
from distillkit.look.opening import Subject
from distillkit.networks.specs import without_classifier
from distillkit.training.features import CHUNK, spread_rows, trained_expert

SHOWN = 1500  # training images on the map
TENTHS = 10

Features = Callable[[Tensor], Tensor]


def tenths(facts: Facts, learned_N: Tensor) -> list[dict[str, int]]:
    """How many images of the set are in each tenth of their class by difficulty, the easiest first; none unknown."""
    known = ~facts.harder_N.isnan()
    place_N = (facts.harder_N.nan_to_num() * TENTHS / 100).long().clamp(max=TENTHS - 1)
    return [
        {
            "learned": int((known & learned_N & (place_N == tenth)).sum()),
            "real": int((known & ~learned_N & (place_N == tenth)).sum()),
        }
        for tenth in range(TENTHS)
    ]


def difficulty_words(score: str) -> str:
    """What difficulty is, for a page; ``score`` is the name that params.yaml gives it, empty where it is not known."""
    name = "score" if score in ("", "file") else f"score “{score}”"
    origin = "a file" if score == "file" else "experts, networks trained on all training images"
    return f"Difficulty is the {name} of {origin}; in each class, 0 is the easiest image and 100 the hardest."


def plane(subject: Subject, row_N: Tensor) -> dict[str, Any] | None:
    """Where set and source lie on the two principal components of the source's features; None without a source.

    ``x`` and ``y`` of the set's images in the order of ``row_N``, and of at most 1,500 training images, evenly spread
    over the classes; ``share`` is the variance that each axis explains.
    """
    from sklearn.decomposition import PCA

    real = subject.real
    if real is None:
        return None
    rows, synthetic = spread_rows(real.train.labels, SHOWN), subject.synthetic
    words, features = features_of(subject, real)
    source = np.concatenate(list(embedded(real.train.images, rows, synthetic.normalisation, features)))
    if min(source.shape) < 3:
        return None
    pca = PCA(2, svd_solver="randomized", random_state=0).fit(source)
    parts = embedded(synthetic.images, row_N, synthetic.normalisation, features)
    own, theirs = np.concatenate([pca.transform(part) for part in parts]), pca.transform(source)
    return {
        "space": words,
        "share": [round(float(share), 4) for share in pca.explained_variance_ratio_],
        "x": rounded(own[:, 0]),
        "y": rounded(own[:, 1]),
        "source": {"x": rounded(theirs[:, 0]), "y": rounded(theirs[:, 1]), "label": real.train.labels[rows].tolist()},
    }


def features_of(subject: Subject, real: RealData) -> tuple[str, Features]:
    """What an expert sees in images, or their pixels where there is none; in words, and as a function (B, C, H, W)."""
    if subject.experts is None:
        return "normalised pixels, as there is no expert", lambda x_NCHW: x_NCHW.flatten(1)
    network = without_classifier(trained_expert(subject.experts, 0, real.train, subject.synthetic.normalisation))
    return "features of an expert (a network trained on all training images)", lambda x_NCHW: network(x_NCHW).flatten(1)


def embedded(images: Images, rows: Tensor, normalisation: Normalisation, features: Features) -> Iterator[Any]:
    """Features (B, D) of the images at ``rows``, as NumPy arrays, a chunk at a time."""
    for part in rows.split(CHUNK):
        with torch.no_grad():
            yield features(normalisation.apply(to_pixels(images[part]))).double().numpy()


def rounded(values: Any) -> list[float]:
    """Numbers to four digits, which are enough for a picture."""
    return [float(f"{value:.4g}") for value in values.tolist()]
