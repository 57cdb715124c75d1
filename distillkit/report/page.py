"""The results of all recipes: a table, numbers for DVC, plots and one self-contained HTML file.

Accuracies are fractions (0 to 1) in data and percent in text. All numbers come from the metrics.
"""

from collections.abc import Collection, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from distillkit.audit.result import COLUMNS, Result, audit_words, table_row
from distillkit.base import params
from distillkit.base.errors import ArtifactError
from distillkit.base.files import atomic_write, pretty_json, write_text
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.process.progress import presentable
from distillkit.report import plots
from distillkit.report.document import asset, data_url, policy, template
from distillkit.report.results import Row
from distillkit.report.table import (
    CROSS_WORDS,
    DETAILS,
    MOST,
    best,
    cross_table,
    details,
    escaped,
    leading,
    markdown_table,
    part_words,
    summary,
)
from distillkit.report.vector import series
from distillkit.report.words import Curves, Loss, by_loss, leaves, percent, protocol, warnings

PICTURES, LARGE = 2**21, 2**18  # bytes: of all previews in the page, and of the largest one that stays a PNG
CURVES = 12  # at most, in a plot
PNG = b"\x89PNG\r\n\x1a\n"
Scan = dict[str, list[tuple[str, bool]]]  # by recipe, for every start: an accuracy and whether it is the best


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
    held-out training images; ``whitened`` are the recipes whose sets have a ZCA whitening; ``audits`` are results of
    audits by recipe. All inputs are checked before the first file is written.
    """
    if not rows:
        raise ArtifactError("there is no recipe to report on; expected at least one; add it to recipes in params.yaml")
    recipe = params.read(evaluation, EvaluationRecipe, "evaluation")
    pictures = {row.recipe: checked_png(row.recipe, previews[row.recipe]) for row in rows if row.recipe in previews}
    starts, scan = scan_table(rows, scans)
    notes = [*warnings(rows), protocol(rows, recipe, whitened)]
    write_text(folder / "table.md", "\n".join([tables(rows), *(f"{escaped(note)}\n" for note in notes)]))
    write_text(folder / "summary.json", pretty_json(summary(rows)))
    first, previewed = leading(rows), [row for row in rows if row.recipe in pictures]
    losses, drawn = draw_plots(folder, first, loss_curves, training_curves)
    page = template("report.html.jinja").render(
        **page_parts(first),
        **table_parts(rows, recipe, audits),
        evaluation=flat(recipe.plain()),
        **preview_parts(folder, pictures, previewed),
        warnings=notes[:-1],
        note=notes[-1],
        losses=losses,
        plots={name: Markup(svg) for name, svg in drawn.items()},
        starts=starts,
        scan=scan,
        most=MOST,
        source=flat(source),
    )
    write_text(folder / "report.html", page)


def tables(rows: Sequence[Row]) -> str:
    """The table in Markdown; a long one comes after a part of it."""
    first = leading(rows)
    if len(first) == len(rows):
        return markdown_table(rows)
    words = part_words(len(first), len(rows), "all of them below")
    return f"{words}\n\n{markdown_table(rows, first)}\nAll recipes:\n\n{markdown_table(rows)}"


def page_parts(first: Sequence[Row]) -> dict[str, Any]:
    """Style, script, the policy that allows only these, and a switch for each recipe."""
    style, script = asset("page.css") + asset("report.css"), asset("tables.js") + asset("switches.js")
    return {
        "policy": policy([script], [style], more="style-src-attr 'unsafe-inline'"),  # for Matplotlib's SVG
        "style": style,
        "script": script,
        "switches": [(row.recipe, series(row.recipe)) for row in first],
    }


def table_parts(rows: Sequence[Row], recipe: EvaluationRecipe, audits: Mapping[str, Result]) -> dict[str, Any]:
    """The table: the rows to show first, all rows, and which are bold; the tables of other networks and of audits."""
    first, bold = leading(rows), best(rows)
    return {
        "columns": DETAILS,
        "rows": [(details(row, rows), row.recipe in bold) for row in first],
        "every": [(details(row, rows), row.recipe in bold) for row in rows],
        "part": part_words(len(first), len(rows), "all of them below"),
        "cut": " This plot has only the best recipes of each method and IPC." if len(rows) > CURVES else "",
        "audit_columns": COLUMNS,
        "audits": [(table_row(result), audit_words(result)) for result in audits.values()],
        "cross": cross_table(str(recipe.network), [(row.recipe, row.measured, row.others) for row in rows]),
        "cross_words": CROSS_WORDS,
        "neighbours": "" if recipe.neighbours == 1 else f" (by the {recipe.neighbours} nearest)",
    }


def preview_parts(folder: Path, pictures: Mapping[str, Path], rows: Sequence[Row]) -> dict[str, Any]:
    """The previews that the page shows; the most representative one is also written as preview.png."""
    if rows:
        with atomic_write(folder / "preview.png") as temporary:
            temporary.write_bytes(pictures[representative(rows)].read_bytes())
    shown = within({row.recipe: pictures[row.recipe] for row in leading(rows)})
    return {"previews": shown, "not_shown": len(pictures) - len(shown)}


def draw_plots(
    folder: Path, rows: Sequence[Row], loss_curves: Curves, training_curves: Curves
) -> tuple[Mapping[Loss, Curves], dict[str, str]]:
    """Write the four plots; curves are in the order of the rows, and only the leading ones if they are many.

    Returns the losses by kind, and the plots as SVG by name.
    """

    def chosen(curves: Curves) -> dict[str, str]:
        return {row.recipe: row.method for row in leading([row for row in rows if curves.get(row.recipe)], CURVES)}

    learning, trained = chosen(loss_curves), chosen(training_curves)
    losses = by_loss({recipe: loss_curves[recipe] for recipe in learning}, learning)
    trainings = {recipe: training_curves[recipe] for recipe in trained}
    by_title = {loss.title: curves for loss, curves in losses.items()}
    return losses, {
        "accuracy": plots.accuracy_plot(rows, folder / "accuracy.png"),
        "coverage": plots.coverage_plot(rows, folder / "coverage.png"),
        "loss": plots.loss_plot(by_title, folder / "loss.png", learning),
        "training": plots.training_plot(trainings, folder / "training.png", trained),
    }


def representative(rows: Sequence[Row]) -> str:
    """The recipe whose preview represents all: the most accurate of SelMatch, else the last learned, else the first."""
    selmatch = [row for row in rows if row.method == "selmatch"]
    learning = [row for row in rows if row.learned]
    if selmatch:
        return max(selmatch, key=lambda row: row.accuracy).recipe
    return learning[-1].recipe if learning else rows[0].recipe


def scan_table(rows: Sequence[Row], scans: Mapping[str, Mapping[str, float]]) -> tuple[list[str], Scan]:
    """All window starts in ascending order, and each recipe's accuracy at each of them."""
    try:
        starts = sorted({start for scan in scans.values() for start in scan}, key=float)
    except ValueError as error:
        raise ArtifactError(f"a window scan has a start that is not a number ({error}); run distill again") from None
    table: Scan = {}
    for recipe, scan in [(row.recipe, found) for row in rows if (found := scans.get(row.recipe))]:
        highest = max(scan.values())
        table[recipe] = [(percent(scan[at]), scan[at] == highest) if at in scan else ("–", False) for at in starts]
    return starts, table


def checked_png(recipe: str, path: Path) -> Path:
    """``path``, if it is the PNG of a recipe's preview. Raises ArtifactError if not."""
    found = "is missing or empty"
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(len(PNG))
        if head == PNG:
            return path
        found = "is no PNG" if head else found
    raise ArtifactError(f"{path}, the preview of recipe {recipe!r}, {found}; expected a PNG; draw it again")


def within(pictures: Mapping[str, Path], most: int = PICTURES) -> dict[str, str]:
    """PNGs by recipe as data URLs, in their order, as many as fit into ``most`` bytes; always the first."""
    found: dict[str, str] = {}
    for recipe, path in pictures.items():
        data = path.read_bytes()
        address = data_url(data, "png") if len(data) <= LARGE else data_url(as_jpeg(data), "jpeg")
        if found and sum(map(len, found.values())) + len(address) > most:
            break
        found[recipe] = address
    return found


def as_jpeg(data: bytes) -> bytes:
    """A PNG as a JPEG, which is a tenth of the size for photographs."""
    file = BytesIO()
    Image.open(BytesIO(data)).convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


def flat(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested settings as dotted names and text, without empty ones."""
    found = {name: value for name, value in leaves(values) if value not in (None, "")}
    words = {name: ", ".join(map(str, it)) if isinstance(it, list | tuple) else str(it) for name, it in found.items()}
    return [(name, presentable(text)) for name, text in words.items()]
