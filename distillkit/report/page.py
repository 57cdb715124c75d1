"""What all recipes achieved, side by side: a table, numbers for DVC, plots and one HTML file that needs nothing else.

Accuracies are shares of 1 in data and percent in what people read. Everything is written from metrics, never by hand.
"""

import base64
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from distillkit.audit.result import COLUMNS, Result, audit_words, table_row
from distillkit.base import params
from distillkit.base.errors import ArtifactError
from distillkit.base.files import atomic_write, pretty_json, write_text
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.process.progress import presentable
from distillkit.report import plots
from distillkit.report.results import Row
from distillkit.report.table import DETAILS, best, details, escaped, markdown_table, summary
from distillkit.report.words import Curves, Loss, by_loss, leaves, percent, protocol, warnings

PLOTS = ("accuracy", "coverage", "loss", "training")
Scan = dict[str, list[tuple[str, bool]]]  # by recipe, an accuracy and whether it is the best, for every start


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
    audits: Mapping[str, Result] = {},
) -> None:
    """Write table.md, summary.json, the plots, preview.png and report.html, which holds all of them, into ``folder``.

    ``evaluation`` is that section of params.yaml; ``scans`` gives, by recipe and window start, the accuracy on
    held-out training images; ``whitened`` are the recipes whose sets carry a ZCA whitening; ``audits`` are results of
    audits by recipe.
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
        with atomic_write(folder / "preview.png") as temporary:
            temporary.write_bytes(pictures[most_telling([row for row in rows if row.recipe in pictures])])
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
        audit_columns=COLUMNS,
        audits=[(table_row(result), audit_words(result)) for result in audits.values()],
        previews={name: embedded(data) for name, data in pictures.items()},
        source=flat(source),
        evaluation=flat(asdict(recipe)),
    )
    write_text(folder / "report.html", page)


def draw_plots(folder: Path, rows: Sequence[Row], losses: Mapping[Loss, Curves], training_curves: Curves) -> None:
    """The four plots, with curves in the order of the rows."""
    methods = {row.recipe: row.method for row in rows}
    trainings = {recipe: training_curves[recipe] for recipe in methods if recipe in training_curves}
    plots.accuracy_plot(rows, folder / "accuracy.png")
    plots.coverage_plot(rows, folder / "coverage.png")
    plots.loss_plot({loss.title: curves for loss, curves in losses.items()}, folder / "loss.png", methods)
    plots.training_plot(trainings, folder / "training.png", methods)


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
    table: Scan = {}
    for recipe, scan in [(row.recipe, found) for row in rows if (found := scans.get(row.recipe))]:
        highest = max(scan.values())
        table[recipe] = [(percent(scan[at]), scan[at] == highest) if at in scan else ("–", False) for at in starts]
    return starts, table


def read_png(recipe: str, path: Path) -> bytes:
    """The bytes of a recipe's preview."""
    data = path.read_bytes() if path.is_file() else b""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        found = "is no PNG" if data else "is missing or empty"
        raise ArtifactError(f"{path}, the preview of recipe {recipe!r}, {found}; expected a PNG; draw it again")
    return data


def embedded(data: bytes) -> str:
    """A PNG as an address that holds the whole picture."""
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def flat(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested settings as dotted names and words, empty ones left out."""
    found = {name: value for name, value in leaves(values) if value not in (None, "")}
    words = {name: ", ".join(map(str, it)) if isinstance(it, list | tuple) else str(it) for name, it in found.items()}
    return [(name, presentable(text)) for name, text in words.items()]


def template() -> Template:
    """The page; whatever is put into it is escaped."""
    text = (files("distillkit.report") / "report.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)
