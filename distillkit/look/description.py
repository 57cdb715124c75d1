"""Everything that the page shows, as plain data, and the pictures that belong to it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from distillkit.data.images import SyntheticSet
from distillkit.look.against import against
from distillkit.look.answers import answers, named
from distillkit.look.classes import classes_of, pairs_of
from distillkit.look.coverage import difficulty_words, plane, tenths
from distillkit.look.facts import Facts, facts_of, rows_beside
from distillkit.look.opening import Subject
from distillkit.look.sheets import Gallery
from distillkit.process.progress import presentable
from distillkit.report.page import flat
from distillkit.report.words import mean_std

LIKELY = 3  # classes of a soft label that are named
Pictures = list[Gallery]


def describe(subject: Subject, other: Subject | None = None) -> tuple[dict[str, Any], Pictures]:
    """What the page is told, all of it JSON, and its galleries: ``set``, ``source`` and so on, by name.

    Columns under ``images`` have an entry for each image, class by class; ``start`` and ``nearest`` are places in the
    gallery ``source``, −1 for none.
    """
    synthetic, facts = subject.synthetic, facts_of(subject)
    galleries = [Gallery("set", synthetic.images, facts.row_N)]
    source, places = source_gallery(subject, facts)
    galleries += source
    rows, pairs = classes_of(subject, facts), pairs_of(subject.confused)
    described = {
        "title": presentable(subject.version.label),
        "tab": named(subject),
        "classes": list(synthetic.class_names),
        "rows": rows,
        "pairs": pairs,
        "answers": list(answers(subject, facts, rows, pairs)),
        "images": columns(synthetic, facts, places),
        "map": plane(subject, facts.row_N),
        "tenths": None if bool(facts.harder_N.isnan().all()) else tenths(facts, synthetic.learned[facts.row_N]),
        "difficulty": difficulty_words(subject.score),
        "yardstick": facts.yardstick,
        "loss": list(subject.loss),
        "about": list(about(subject)),
        "missing": [*subject.missing, *facts.missing],
        "snapshots": [],
        "against": None,
    }
    if subject.snapshots:
        described["snapshots"], kept = snapshots(subject, facts.row_N)
        galleries += kept
    if other is not None:
        described["against"], theirs = against(subject, other, facts.row_N)
        galleries += theirs
    return described, galleries


def source_gallery(subject: Subject, facts: Facts) -> tuple[Pictures, Mapping[int, int]]:
    """The training images that images began as or are nearest to, and the place of each row among them."""
    rows = rows_beside(facts, subject.synthetic.learned[facts.row_N])
    if subject.real is None or not rows:
        return [], {}
    gallery = Gallery("source", subject.real.train.images, torch.tensor(rows))
    return [gallery], {row: place for place, row in enumerate(rows)}


def columns(synthetic: SyntheticSet, facts: Facts, places: Mapping[int, int]) -> dict[str, list[Any]]:
    """An entry for each image."""
    found: dict[str, list[Any]] = {
        "row": facts.row_N.tolist(),
        "label": synthetic.labels[facts.row_N].tolist(),
        "learned": synthetic.learned[facts.row_N].int().tolist(),
        "from": facts.start_N.tolist(),
        "near": facts.nearest_N.tolist(),
        "start": [places.get(row, -1) for row in facts.start_N.tolist()],
        "nearest": [places.get(row, -1) for row in facts.nearest_N.tolist()],
        "distance": numbers(facts.distance_N, 5),
        "moved": numbers(facts.moved_N, 5),
        "harder": numbers(facts.harder_N, 1),
    }
    if synthetic.soft_labels is not None:
        found["likely"] = likely(synthetic.soft_labels[facts.row_N])
    return found


def numbers(values: Tensor, digits: int) -> list[float | None]:
    """As JSON has them; None for what is not known."""
    return [None if math.isnan(value) else round(value, digits) for value in values.tolist()]


def likely(probability_NK: Tensor) -> list[list[list[float]]]:
    """The likeliest classes of each image, each with its probability."""
    best = probability_NK.topk(min(LIKELY, probability_NK.shape[1]))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[[k, round(p, 4)] for k, p in zip(*pair, strict=True)] for pair in pairs]


def about(subject: Subject) -> Iterator[tuple[str, str]]:
    """Names and words for the table at the end of the page."""
    synthetic, version = subject.synthetic, subject.version
    learned = int(synthetic.learned.sum())
    yield "recipe", presentable(subject.name)
    yield "images", f"{len(synthetic):,} ({learned:,} learned, {len(synthetic) - learned:,} real)"
    yield "shape", " x ".join(str(side) for side in synthetic.images.shape[1:])
    if version.accuracy:
        mean, std, runs = (version.accuracy[key] for key in ("mean", "std", "runs"))
        yield "test accuracy %", f"{mean_std(mean, std, runs)} (n = {runs})"
    for name in ("id", "revision", "licence", "homepage"):
        if isinstance(value := version.source.get(name), str) and value:
            yield f"source {name}", presentable(value)
    yield from flat(version.params)


def snapshots(subject: Subject, row_N: Tensor) -> tuple[list[dict[str, Any]], Pictures]:
    """Each snapshot's step and gallery, whose pictures are those of learned images; ``place`` is that of each image."""
    learned = subject.synthetic.learned
    learned_N = learned[row_N]
    rank_L = (learned.long().cumsum(0) - 1)[row_N][learned_N]
    place = torch.full((len(row_N),), -1).masked_scatter(learned_N, torch.arange(len(rank_L))).tolist()
    kept = {step: Gallery(f"step-{step}", images, rank_L) for step, images in sorted(subject.snapshots.items())}
    return [{"step": step, "gallery": one.name, "place": place} for step, one in kept.items()], [*kept.values()]
