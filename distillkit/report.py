"""What all recipes achieved, side by side: a table, numbers for DVC, plots and one HTML file that needs nothing else.

Accuracies are shares of 1 in data and percent in what people read. Everything is written from metrics, never by hand.
"""

import base64
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from distillkit import figures, params
from distillkit.artifact import pretty_json
from distillkit.errors import ArtifactError
from distillkit.evaluate import EvaluationRecipe
from distillkit.figures import Attacked, Curves, Row
from distillkit.files import atomic_write, write_text
from distillkit.progress import presentable
from distillkit.report_words import Loss, by_loss, is_comparable, marked, percent, protocol, warnings

__all__ = ["Row", "markdown_table", "rows", "summary", "write_report"]

COLUMNS = (
    "recipe",
    "method",
    "IPC",
    "images (real + learned)",
    "accuracy % (mean ± std, n)",
    "over random",
    "hard third %",
)
DETAILS = (*COLUMNS, "1-NN %")  # of the page; a table for a README has no room
NAME, ACCURACY = 0, 4  # the columns that are bold for the best
PLOTS = ("accuracy", "coverage", "loss", "training")
SPECIAL = re.compile(r"[\\`*<>\[\]|&~]|(?<!\w)_|_(?!\w)")  # what Markdown would not show as it stands

Scan = dict[str, list[tuple[str, bool]]]  # by recipe, an accuracy and whether it is the best, for every start


# Rows


def rows(metrics: Mapping[str, Mapping[str, Any]], recipes: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """A row for each recipe, from its metrics and its section of params.yaml.

    Ordered by images per class, then from random selection to learned sets, the full set last. Raises ArtifactError
    when metrics and recipes do not belong together, or metrics lack a number.
    """
    for name in metrics:
        if name not in recipes:
            raise ArtifactError(
                f"metrics of {name!r} belong to no recipe; expected one of {', '.join(recipes)}; "
                f"remove metrics/{name}.json or put the recipe back into params.yaml"
            )
    for name in recipes:
        if name not in metrics:
            raise ArtifactError(f"recipe {name!r} has no metrics; expected metrics/{name}.json; run evaluate for it")
    return sorted((row_of(name, metrics[name], recipes[name]) for name in recipes), key=place)


def row_of(recipe: str, metrics: Mapping[str, Any], section: Mapping[str, Any]) -> Row:
    """One recipe's row, every number checked."""
    total, real, learned = (count(metrics, recipe, f"images.{name}") for name in ("total", "real", "learned"))
    if real + learned != total:
        raise wrong(recipe, "images.total", total, f"real + learned, {real} + {learned}")
    return Row(
        recipe=recipe,
        method=section["method"],
        ipc=section.get("ipc"),
        images=total,
        real=real,
        learned=learned,
        accuracy=share(metrics, recipe, "accuracy.mean"),
        std=share(metrics, recipe, "accuracy.std"),
        runs=count(metrics, recipe, "accuracy.runs"),
        easy=share(metrics, recipe, "easy.mean"),
        middle=share(metrics, recipe, "middle.mean"),
        hard=share(metrics, recipe, "hard.mean"),
        knn=share(metrics, recipe, "knn.accuracy") if "knn" in metrics else None,
        replayed=section.get("replay") is not None or "schedule" in metrics,
        soft="soft_labelled" in metrics["images"],
        starts_trained=str(section.get("initialisation")).endswith("pretrained"),
        before=share(metrics, recipe, "start.accuracy.mean") if "start" in metrics else None,
        attack=attacked(metrics, recipe, section.get("attack")),
    )


def attacked(metrics: Mapping[str, Any], recipe: str, attack: Mapping[str, Any] | None) -> Attacked | None:
    """What a poisoned set was measured to do."""
    if attack is None:
        return None
    taken, modified = (
        share(metrics, recipe, f"attack.{key}.mean") for key in ("taken_for_target", "modified_accuracy")
    )
    return Attacked(str(attack["attack_class"]), str(attack["target_class"]), taken, modified)


def place(row: Row) -> tuple[bool, float, bool, int, str]:
    """Where a row stands in the table."""
    known = list(figures.COLOURS)
    rank = known.index(row.method) if row.method in known else len(known)
    ipc = math.inf if row.ipc is None else row.ipc
    return row.method == "full", ipc, row.learned > 0, rank, row.recipe


def share(metrics: Mapping[str, Any], recipe: str, key: str) -> float:
    """A number from 0 to 1 that must be there."""
    value = entry(metrics, recipe, key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise wrong(recipe, key, value, "a number from 0 to 1")
    return float(value)


def count(metrics: Mapping[str, Any], recipe: str, key: str) -> int:
    """A whole number, 0 or more, that must be there."""
    value = entry(metrics, recipe, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(recipe, key, value, "a whole number")
    return value


def entry(metrics: Mapping[str, Any], recipe: str, key: str) -> Any:
    """What stands at ``key``, a path with dots."""
    value: Any = metrics
    for part in key.split("."):
        if not isinstance(value, Mapping):
            raise wrong(recipe, key.removesuffix(f".{part}"), value, f"a mapping with {part}")
        if part not in value:
            found = ", ".join(value) or "nothing"
            raise ArtifactError(
                f"metrics/{recipe}.json has no {key}; found {found} where {part} should be; run evaluate again"
            )
        value = value[part]
    return value


def wrong(recipe: str, key: str, value: Any, expected: str) -> ArtifactError:
    return ArtifactError(f"metrics/{recipe}.json: {key} is {value!r}; expected {expected}; run evaluate again")


# The table


def by_ipc(among: Sequence[Row]) -> dict[int | None, list[Row]]:
    """Rows by their number of images per class."""
    groups: dict[int | None, list[Row]] = {}
    for row in among:
        groups.setdefault(row.ipc, []).append(row)
    return groups


def over_random(row: Row, among: Sequence[Row]) -> float | None:
    """Accuracy beyond the first random selection of as many images per class.

    None without one, for random, and for sets that were not trained on as random ones are.
    """
    if row.method == "random" or row.ipc is None or not is_comparable(row):
        return None
    baselines = (other for other in among if other.method == "random" and is_comparable(other))
    baseline = next((other for other in baselines if other.ipc == row.ipc), None)
    return None if baseline is None else row.accuracy - baseline.accuracy


def best(among: Sequence[Row]) -> set[str]:
    """The recipes with the highest accuracy for their number of images per class, where there are several to compare.

    The full set is none of them, nor are sets that were not trained on like the rest.
    """
    chosen: set[str] = set()
    for group in by_ipc([row for row in among if row.method != "full" and is_comparable(row)]).values():
        highest = max(row.accuracy for row in group)
        chosen |= {row.recipe for row in group if row.accuracy == highest and len(group) > 1}
    return chosen


def cells(row: Row, among: Sequence[Row]) -> list[str]:
    """A row of the table as plain words, one for each column."""
    lead = over_random(row, among)
    spread = f" ± {percent(row.std)}" if row.runs > 1 else ""
    return [
        " ".join(row.recipe.split()),
        marked(row),
        "–" if row.ipc is None else str(row.ipc),
        f"{row.images} ({row.real} + {row.learned})",
        f"{percent(row.accuracy)}{spread} ({row.runs})",
        "–" if lead is None else points(lead),
        percent(row.hard),
    ]


def details(row: Row, among: Sequence[Row]) -> list[str]:
    """:func:`cells`, and what the nearest image of the set would say."""
    return [*cells(row, among), "–" if row.knn is None else percent(row.knn)]


def points(value: float) -> str:
    """Percentage points with their sign; what rounds to nothing has none."""
    rounded = round(100 * value, 2)
    sign = "+" if rounded > 0 else "−" if rounded < 0 else ""
    return f"{sign}{abs(rounded):.2f}"


def markdown_table(rows: Sequence[Row]) -> str:
    """The table in GitHub's Markdown; the best recipe of each number of images per class is bold."""
    bold = best(rows)
    lines = [list(COLUMNS), ["---", "---", *["---:"] * (len(COLUMNS) - 2)]]
    for row in rows:
        words = [escaped(cell) for cell in cells(row, rows)]
        for column in (NAME, ACCURACY) if row.recipe in bold else ():
            words[column] = f"**{words[column]}**"
        lines.append(words)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Text that Markdown shows as it stands."""
    return SPECIAL.sub(r"\\\g<0>", text)


def summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Accuracies and leads over random selection as nested numbers, by images per class and method.

    Recipes that share both go by their own names.
    """
    numbers: dict[str, Any] = {}
    for ipc, group in by_ipc(rows).items():
        section = numbers if ipc is None else numbers.setdefault(f"ipc-{ipc}", {})
        for key, row in zip(keys(group), group, strict=True):
            section[key] = round(row.accuracy, 6)
            lead = over_random(row, group)
            if lead is not None:
                section[f"{key}_over_random"] = round(lead, 6)
    return numbers


def keys(group: Sequence[Row]) -> list[str]:
    """A key for each row, no two alike: its method if no other row has it, else its recipe."""
    methods = [row.method for row in group]
    short = [row.recipe if methods.count(row.method) > 1 else row.method for row in group]
    return short if len(set(short)) == len(short) else [row.recipe for row in group]


# The files


def write_report(
    folder: Path,
    *,
    rows: Sequence[Row],
    evaluation: Mapping[str, Any],
    source: Mapping[str, Any],
    loss_curves: Curves,
    training_curves: Curves,
    previews: Mapping[str, Path],
    scans: Mapping[str, Mapping[str, float]],
    whitened: Collection[str] = (),
) -> None:
    """Write table.md, summary.json, the plots, preview.png and report.html, which holds all of them, into ``folder``.

    ``evaluation`` is that section of params.yaml; ``scans`` gives, by recipe and window start, the accuracy on
    held-out training images; ``whitened`` are the recipes whose sets carry a ZCA whitening.
    Everything is read and checked before anything is written.
    """
    if not rows:
        raise ArtifactError("there is no recipe to report on; expected at least one; add it to recipes in params.yaml")
    recipe = params.read(evaluation, EvaluationRecipe, "evaluation")
    pictures = {row.recipe: read_png(row.recipe, previews[row.recipe]) for row in rows if row.recipe in previews}
    starts, scan = scan_table(rows, scans)
    notes = [*warnings(rows), protocol(rows, recipe, whitened)]
    write_text(folder / "table.md", "\n".join([markdown_table(rows), *(f"{escaped(note)}\n" for note in notes)]))
    write_text(folder / "summary.json", pretty_json(summary(rows)))
    methods = {row.recipe: row.method for row in rows}
    losses = by_loss({recipe: loss_curves[recipe] for recipe in methods if loss_curves.get(recipe)}, methods)
    draw_plots(folder, rows, losses, training_curves)
    if pictures:
        write_bytes(folder / "preview.png", pictures[most_telling([row for row in rows if row.recipe in pictures])])
    page = template().render(
        columns=DETAILS,
        rows=[(details(row, rows), row.recipe in best(rows)) for row in rows],
        warnings=notes[:-1],
        note=notes[-1],
        neighbours="" if recipe.neighbours == 1 else f" (by the {recipe.neighbours} nearest)",
        losses=losses,
        plots={name: embedded((folder / f"{name}.png").read_bytes()) for name in PLOTS},
        starts=starts,
        scan=scan,
        previews={name: embedded(data) for name, data in pictures.items()},
        source=flat(source),
        evaluation=flat(asdict(recipe)),
    )
    write_text(folder / "report.html", page)


def draw_plots(folder: Path, rows: Sequence[Row], losses: Mapping[Loss, Curves], training_curves: Curves) -> None:
    """The four plots, with curves in the order of the rows."""
    methods = {row.recipe: row.method for row in rows}
    trainings = {recipe: training_curves[recipe] for recipe in methods if recipe in training_curves}
    figures.accuracy_plot(rows, folder / "accuracy.png")
    figures.coverage_plot(rows, folder / "coverage.png")
    figures.loss_plot({loss.title: curves for loss, curves in losses.items()}, folder / "loss.png", methods)
    figures.training_plot(trainings, folder / "training.png", methods)


def most_telling(rows: Sequence[Row]) -> str:
    """The recipe whose preview stands for all: SelMatch at its best, else the last that learns, else the first."""
    selmatch = [row for row in rows if row.method == "selmatch"]
    learning = [row for row in rows if row.learned]
    if selmatch:
        return max(selmatch, key=lambda row: row.accuracy).recipe
    return learning[-1].recipe if learning else rows[0].recipe


def scan_table(rows: Sequence[Row], scans: Mapping[str, Mapping[str, float]]) -> tuple[list[str], Scan]:
    """All window starts in ascending order, and by recipe its accuracy at each of them."""
    try:
        starts = sorted({start for scan in scans.values() for start in scan}, key=float)
    except ValueError as error:
        raise ArtifactError(f"a window scan has a start that is no number ({error}); run distill again") from None
    scanned = [row.recipe for row in rows if scans.get(row.recipe)]
    return starts, {recipe: scan_line(scans[recipe], starts) for recipe in scanned}


def scan_line(scan: Mapping[str, float], starts: Sequence[str]) -> list[tuple[str, bool]]:
    highest = max(scan.values())
    return [(percent(scan[start]), scan[start] == highest) if start in scan else ("–", False) for start in starts]


def read_png(recipe: str, path: Path) -> bytes:
    """The bytes of a recipe's preview."""
    data = path.read_bytes() if path.is_file() else b""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        found = "is no PNG" if data else "is missing or empty"
        raise ArtifactError(f"{path}, the preview of recipe {recipe!r}, {found}; expected a PNG; draw it again")
    return data


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def embedded(data: bytes) -> str:
    """A PNG as an address that holds the whole picture."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and words, empty ones left out."""
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            lines.append((f"{prefix}{name}", presentable(", ".join(str(item) for item in value))))
        elif value not in (None, ""):
            lines.append((f"{prefix}{name}", presentable(str(value))))
    return lines


def template() -> Template:
    """The page; whatever is put into it is escaped."""
    text = (files("distillkit") / "report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)
