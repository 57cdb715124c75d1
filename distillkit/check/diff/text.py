"""The differences between two versions as lines of text and as plain data."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from distillkit.base.errors import counted
from distillkit.check.diff.compare import CONFIDENCE
from distillkit.check.diff.images import sources_differ
from distillkit.check.diff.result import ABSENT, Changes, Difference, PackageDifference, Version
from distillkit.package.card_words import percent
from distillkit.process.progress import presentable
from distillkit.report.words import shorten

MOST_ROWS, MOST_CLASSES, MOST_LETTERS = 40, 20, 48  # limits of a table
SPREAD = "± is over networks trained on one set, not over repeated distillations"

# Lines of text


def lines(difference: Difference) -> Iterator[str]:
    """One line if the versions are equal, else a compact table."""
    return map(presentable, same_lines(difference) if difference.same else table_lines(difference))


def same_lines(difference: Difference) -> Iterator[str]:
    unknown = unknown_parts(difference)
    found = [counted(len(difference.before.synthetic), "image")]
    found += [name for name in ("parameters", "accuracy") if name not in unknown]
    rest = f" (not known on both sides: {', '.join(unknown)})" if unknown else ""
    yield f"{difference.before.label} and {difference.after.label} are the same: {', '.join(found)}{rest}"


def table_lines(difference: Difference) -> Iterator[str]:
    yield f"before    {difference.before.label}"
    yield f"after     {difference.after.label}"
    yield f"images    {images_words(difference)}"
    if words := target_words(difference):
        yield f"labels    {words}"
    if sources_differ(difference.before, difference.after):
        yield "          the sets come from different sources or splits, so training rows were not used to match images"
    yield f"accuracy  {accuracy_words(difference)}"
    if difference.accuracy:
        yield f"          {SPREAD}"
    yield from class_table(difference)
    yield from changes_table(difference)
    if "parameters" in unknown_parts(difference):
        yield "parameters are not known on both sides, so they were not compared"


def unknown_parts(difference: Difference) -> list[str]:
    """The parts that are not compared because they are unknown on one side."""
    before, after = difference.before, difference.after
    known = {
        "parameters": bool(before.params and after.params),
        "accuracy": before.accuracy is not None and after.accuracy is not None,
    }
    return [name for name, yes in known.items() if not yes]


def images_words(difference: Difference) -> str:
    """The counts and, for changed images, the size of the change."""
    before, after = len(difference.before.synthetic), len(difference.after.synthetic)
    if difference.incomparable:
        return f"{before} → {after}, not compared: {difference.incomparable}"
    sizes = [pair.rms for pair in difference.images.changed]
    amount = f" (RMS median {statistics.median(sizes):.3g}, largest {max(sizes):.3g})" if sizes else ""
    words = [f"{count} {kind}" for kind, count in difference.counts.items() if count]
    words = [word + amount if word.endswith(" changed") else word for word in words]
    order = ["unchanged ones in another order"] if difference.reordered else []
    return f"{before} → {after}: {', '.join(words + order)}"


def target_words(difference: Difference) -> str:
    """How many matched images have different soft labels, and how different; empty if none."""
    sizes = [change.distance for change in difference.targets]
    if not sizes:
        return ""
    amount = f"of the probability moved: median {statistics.median(sizes):.2%}, largest {max(sizes):.2%}"
    return f"soft labels of {counted(len(sizes), 'matched image')} differ ({amount})"


def accuracy_words(difference: Difference) -> str:
    """Both accuracies, their difference in percentage points, and whether it may be noise."""
    both, change = f"{percent_of(difference.before)} → {percent_of(difference.after)}", difference.accuracy
    if change is None:
        return both
    noise = "and one network cannot show whether they are noise"
    if change.margin is not None:
        where = "within" if change.within_noise else "beyond"
        noise = f"{where} noise (± {change.margin:.2f} at {100 * CONFIDENCE:g} %)"
    measured = "; measured in different ways, see evaluation below" if difference.evaluation else ""
    return f"{both}: {change.points:+.2f} points, {noise}{measured}"


def class_table(difference: Difference) -> Iterator[str]:
    """The counts for each class with a difference, by the class before."""
    names, images = difference.before.synthetic.class_names, difference.images
    old, new = (each.synthetic.labels.tolist() for each in (difference.before, difference.after))
    counts: dict[str, Counter[int]] = {}
    for kind in difference.counts:
        rows = [item if isinstance(item, int) else item.before for item in getattr(images, kind)]
        counts[kind] = Counter((new if kind == "added" else old)[row] for row in rows)
    differing = sorted({label for kind, each in counts.items() if kind != "unchanged" for label in each})
    if not differing:
        return
    kinds = [kind for kind, each in counts.items() if each]
    shown = differing[:MOST_CLASSES]
    yield ""
    yield from aligned(
        [("class", *kinds), *((shorten(names[at]), *(str(counts[kind][at]) for kind in kinds)) for at in shown)]
    )
    yield from more(len(differing) - MOST_CLASSES, "classes")


def changes_table(difference: Difference) -> Iterator[str]:
    """Those that :func:`changes` gives, under a heading."""
    rows = changes(difference)
    if not rows:
        return
    yield ""
    yield from aligned([("what", "before", "after"), *rows[:MOST_ROWS]])
    yield from more(len(rows) - MOST_ROWS, "parameters")


def changes(difference: Difference) -> list[tuple[str, str, str]]:
    """Properties, parameters and evaluation settings that differ: name, value before and value after."""
    evaluation = {f"evaluation.{name}": pair for name, pair in difference.evaluation.items()}
    found = {**difference.properties, **difference.params, **evaluation}
    return [(name, *cells(pair)) for name, pair in found.items()]


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def more(count: int, kind: str) -> Iterator[str]:
    if count > 0:
        yield f"… and {count} more {kind}"


def cells(pair: tuple[Any, Any]) -> tuple[str, str]:
    """Both values, shortened if long, unless the shortened values would be equal."""
    full = [written(value) for value in pair]
    short = [text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…" for text in full]
    return (short[0], short[1]) if short[0] != short[1] else (full[0], full[1])


def written(value: Any) -> str:
    """A value in the format of the card."""
    if value is ABSENT:
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def package_lines(difference: PackageDifference) -> Iterator[str]:
    """A line for each recipe; if there are many, those that differ come first. One line if the packages are equal."""
    if difference.absent:
        yield f"not compared, because their files are not in both folders: {listed(difference.absent)}"
    if difference.same:
        count, missing = len(difference.common), len(difference.absent)
        same = (
            f"{count} of {count + missing} recipes compared, no difference" if missing else "every recipe is the same"
        )
        yield f"{same}: {listed(list(difference.common))}" if count else "nothing to compare"
        return
    rows = []
    for name, each in difference.common.items():
        words = [part for part in (images_words(each), target_words(each)) if part]
        rows.append((name, "the same" if each.same else "; ".join(words), short_accuracy(each)))
    for kind, versions in (("added", difference.added), ("removed", difference.removed)):
        for name, version in versions.items():
            rows.append((name, f"recipe {kind}: {counted(len(version.synthetic), 'image')}", percent_of(version)))
    if len(rows) > MOST_ROWS:
        rows.sort(key=lambda row: row[1] == "the same")
    yield from aligned([("recipe", "images", "accuracy"), *rows[:MOST_ROWS]])
    yield from more(len(rows) - MOST_ROWS, "recipes")
    if any(each.accuracy for each in difference.common.values()):
        yield SPREAD


def short_accuracy(difference: Difference) -> str:
    before, after, change = difference.before.accuracy, difference.after.accuracy, difference.accuracy
    if before is None or after is None or change is None:
        return "not known on both sides"
    if not difference.remeasured:
        return percent(before)
    verdict = {None: "", True: ", within noise", False: ", beyond noise"}[change.within_noise]
    measured = ", measured in different ways" if difference.evaluation else ""
    return f"{100 * before['mean']:.2f} → {100 * after['mean']:.2f} % ({change.points:+.2f} points{verdict}{measured})"


def percent_of(version: Version) -> str:
    return "not known" if version.accuracy is None else percent(version.accuracy)


# Plain data


def as_json(difference: Difference) -> dict[str, Any]:
    """Plain data. A side without a parameter has no entry for it. Rows count from 0; RMS is in pixel space."""
    images, before, after = difference.images, difference.before, difference.after
    old, new = ([side.synthetic.class_names[row] for row in side.synthetic.labels.tolist()] for side in (before, after))
    return {
        "before": before.label,
        "after": after.label,
        "same": difference.same,
        "images": {
            "before": len(before.synthetic),
            "after": len(after.synthetic),
            "not_compared": difference.incomparable,
            "counts": None if difference.incomparable else difference.counts,
            "reordered": difference.reordered,
            "changed": [{**pair._asdict(), "class": old[pair.before]} for pair in images.changed],
            "relabelled": [
                {"before": pair.before, "after": pair.after, "class": [old[pair.before], new[pair.after]]}
                for pair in images.relabelled
            ],
            "added": [{"after": row, "class": new[row]} for row in images.added],
            "removed": [{"before": row, "class": old[row]} for row in images.removed],
        },
        "soft_labels": [change._asdict() for change in difference.targets],
        **{name: sides(getattr(difference, name)) for name in ("properties", "params", "evaluation")},
        "not_known": unknown_parts(difference),
        "accuracy": {
            "before": measured(before),
            "after": measured(after),
            **{
                key: getattr(difference.accuracy, key, None)
                for key in ("points", "standard_error", "margin", "within_noise")
            },
        },
    }


def sides(found: Changes) -> dict[str, dict[str, Any]]:
    pairs = {name: {"before": old, "after": new} for name, (old, new) in found.items()}
    return {name: {key: value for key, value in pair.items() if value is not ABSENT} for name, pair in pairs.items()}


def listed(names: Sequence[str]) -> str:
    rest = len(names) - MOST_CLASSES
    return f"{', '.join(names[:MOST_CLASSES])}{f' and {rest} more' if rest > 0 else ''}"


def measured(version: Version) -> dict[str, Any] | None:
    return None if version.accuracy is None else {key: version.accuracy[key] for key in ("mean", "std", "runs")}


def package_as_json(difference: PackageDifference) -> dict[str, Any]:
    return {
        "same": difference.same and not difference.absent,
        "added": list(difference.added),
        "removed": list(difference.removed),
        "not_compared": list(difference.absent),
        "recipes": {name: as_json(each) for name, each in difference.common.items()},
    }
