"""A second set beside the first: what differs, image by image and class by class."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from distillkit.check.diff.compare import compare
from distillkit.check.diff.images import sources_differ
from distillkit.check.diff.result import Difference
from distillkit.check.diff.text import SPREAD, accuracy_words, changes, images_words, lines, target_words
from distillkit.look.opening import Subject
from distillkit.look.sheets import Gallery

SAME, CHANGED, RELABELLED, ADDED = "same", "changed", "relabelled", "added"


def against(first: Subject, other: Subject, row_N: Tensor) -> tuple[dict[str, Any], list[Gallery]]:
    """How ``first`` differs from ``other``, for its images in the order of ``row_N``; and the pictures of ``other``.

    By image: ``kind`` of the difference, the ``other`` image's place in the gallery (−1: none) and ``rms`` between the
    two. ``removed`` are places of images that only the other set has. Where images cannot be compared ``why`` says so.
    """
    found = compare(other.version, first.version)
    images, other_row = found.images, other.synthetic.labels.argsort(stable=True)
    place = {int(row): number for number, row in enumerate(other_row.tolist())}
    pairs = [(SAME, images.unchanged), (CHANGED, images.changed), (RELABELLED, images.relabelled)]
    known = {pair.after: (kind, place[pair.before], pair.rms) for kind, group in pairs for pair in group}
    rows = [known.get(row, (ADDED, -1, None)) for row in row_N.tolist()]
    described = {
        "name": other.version.label,
        "why": found.incomparable,
        "kind": [kind for kind, _, _ in rows],
        "other": [number for _, number, _ in rows],
        "rms": [None if rms is None else round(rms, 5) for _, _, rms in rows],
        "removed": sorted(place[row] for row in images.removed),
        "label": other.synthetic.labels[other_row].tolist(),
        "classes": list(other.synthetic.class_names),
        "accuracy": None if other.by_class is None else list(other.by_class.get("set", [])) or None,
        "summary": list(summary(found)),
        "changes": changes(found),
    }
    return described, [Gallery("other", other.synthetic.images, other_row)]


def summary(found: Difference) -> Iterator[str]:
    """What differs as a whole, in sentences; an arrow leads from the other set to this one."""
    if found.same:
        yield from lines(found)
        return
    if sources_differ(found.before, found.after):
        yield "The sets come from different sources or splits, so training rows were not used to match images."
    yield f"Images: {images_words(found)}."
    if words := target_words(found):
        yield f"Labels: {words}."
    yield f"Accuracy: {accuracy_words(found)}." + f" {SPREAD}." * (found.accuracy is not None)
