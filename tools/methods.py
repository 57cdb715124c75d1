"""Put the tables of benchmarks/methods.py into docs/methods/README.md, and pictures of its sets beside the pages.

With --check, only say whether the page shows the committed figures. Pictures are drawn from the sets that the command
keeps in .distillkit/methods; where they are no longer there, the pictures stay as they are.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from PIL import Image
from readme import put

from distillkit.data.files.artifact import load_synthetic
from distillkit.data.images import SyntheticSet
from distillkit.methods import METHODS
from distillkit.report import pictures

PAGE = Path("docs/methods/README.md")
PICTURES = Path("docs/methods/pictures")
KEPT = Path(".distillkit/methods")
RESULTS = Path("benchmarks/results")
NOTE = "written by tools/methods.py, do not edit -->\n"
CAPS = {"per_class": "learn from", "test_per_class": "test on"}
MADE = {
    "kmeans": "averages of real images",
    "average": "averages of real images",
    "diffusion": "from a generator",
    "rded": "crops of real images",
    "ccfs": "images learned, and real ones chosen",
}
ROWS_SHOWN, BETWEEN = 5, 4
Cells = Sequence[Mapping[str, Any]]


def percent(values: Sequence[float]) -> str:
    """Mean ± sample standard deviation over seeds, in percent, of shares; empty without any."""
    if not values:
        return ""
    return f"{100 * mean(values):.1f}" + (f" ± {100 * stdev(values):.1f}" if len(values) > 1 else "")


def of_seeds(cells: Cells, field: str = "accuracy") -> list[float]:
    """Each seed's mean over its networks."""
    return [mean(cell[field]) for cell in cells if cell[field]]


def group_of(method: str) -> str:
    """The kind of set that a method makes."""
    if hasattr(METHODS[method], "loss"):
        return "images learned for an order of their own" if METHODS[method].about.ordered else "images learned"
    return MADE.get(method, "real images chosen")


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    rule = ["---"] * text_columns + ["---:"] * (len(header) - text_columns)
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])


def by_row(found: Mapping[str, Any]) -> dict[str, dict[int | None, list[Mapping[str, Any]]]]:
    """Cells by row and number of images, in the order of the table's recipes."""
    rows: dict[str, dict[int | None, list[Mapping[str, Any]]]] = {}
    for cell in found["cells"]:
        rows.setdefault(cell["row"], {}).setdefault(cell["ipc"], []).append(cell)
    return rows


def ipcs_of(found: Mapping[str, Any]) -> list[int]:
    return sorted({cell["ipc"] for cell in found["cells"]} - {None})


def accuracy_table(found: Mapping[str, Any]) -> str:
    """A line for each row; a set with an order of its own has a second one, marked †, where it was followed."""
    ipcs, lines = ipcs_of(found), []
    for row, cells in by_row(found).items():
        first = next(iter(cells.values()))[0]
        labels = "soft" if first["soft_labels"] else "hard"
        shown = [percent(of_seeds(cells.get(ipc, []))) for ipc in ipcs]
        if None in cells:
            shown = [percent(of_seeds(cells[None]))] * len(ipcs)
        lines.append([f"`{row}`", group_of(first["method"]), labels, *shown])
        own = [percent(of_seeds(cells.get(ipc, []), "own_accuracy")) for ipc in ipcs]
        if any(own):
            lines.append([f"`{row}` †", "the same, in its own order", labels, *own])
    header = ["accuracy %", "what the set is", "labels", *(f"IPC {ipc}" for ipc in ipcs)]
    return markdown(header, lines, text_columns=3)


def cost_table(found: Mapping[str, Any]) -> str:
    """Means over seeds of CPU seconds and of memory above what was read."""
    ipcs, lines = ipcs_of(found), []
    for row, cells in by_row(found).items():
        if None in cells:
            continue
        seconds = [f"{mean(c['cpu_s'] for c in cells[ipc]):.1f}" if ipc in cells else "" for ipc in ipcs]
        memory = [f"{mean(c['growth_mb'] for c in cells[ipc]):.0f}" if ipc in cells else "" for ipc in ipcs]
        lines.append([f"`{row}`", *seconds, *memory])
    header = ["cost", *(f"CPU s, IPC {ipc}" for ipc in ipcs), *(f"MB, IPC {ipc}" for ipc in ipcs)]
    return markdown(header, lines)


def lead_table(found: Mapping[str, Any]) -> str:
    """By kind of set: how many points its rows are above random images, on average and at best."""
    ipcs, rows = ipcs_of(found), by_row(found)
    leads: dict[str, dict[int, list[float]]] = {}
    for row, cells in rows.items():
        for ipc in ipcs:
            if row != "random" and ipc in cells and ipc in rows.get("random", {}):
                lead = mean(of_seeds(cells[ipc])) - mean(of_seeds(rows["random"][ipc]))
                leads.setdefault(group_of(cells[ipc][0]["method"]), {}).setdefault(ipc, []).append(100 * lead)
    lines = [
        [group, *(f"{mean(own[ipc]):+.1f} ({max(own[ipc]):+.1f})" if ipc in own else "" for ipc in ipcs)]
        for group, own in leads.items()
    ]
    return markdown(["points above `random`: mean (best)", *(f"IPC {ipc}" for ipc in ipcs)], lines)


def conditions(found: Mapping[str, Any]) -> str:
    """Where and how the figures were made."""
    evaluation, experts = found["evaluation"], found["experts"]
    training, network = evaluation["training"], named(evaluation["network"])
    count, seeds = experts["per_shard"] * len(found["expert_shards"]), len(found["seeds"])
    augmented = training.get("augmentation", {"kind": "none"})["kind"]
    data = found["data"]
    parts = [f"{data[key]} images a class to {do}" for key, do in CAPS.items() if data.get(key)]
    return (
        f"`{found['command']}` on {found['device']}, torch {found['versions']['torch']}. Every set trains {network} by "
        f"{training['steps']} updates of {training['batch']} images, augmentation: {augmented}; pixels are "
        f"{normalised(data)}. Mean ± standard deviation over {seeds} seeds, each with its own "
        f"start images, its own distillation and {evaluation['runs']} network{'s'[: evaluation['runs'] > 1]}, tested "
        f"after the last update. {capital(', '.join(parts))}{count} experts ({named(experts['recipe']['network'])}, "
        f"{experts['recipe']['epochs']} epochs) were trained once for all seeds, in {found['experts_cpu_s']:.0f} CPU "
        "seconds."
    )


def normalised(data: Mapping[str, Any]) -> str:
    """How networks see pixels."""
    found = data.get("normalisation") or {"kind": "channel"}
    if found["kind"] == "zca":
        return f"ZCA-whitened (eps {found['eps']:g}), by the training images"
    return "normalised by the training images' statistics, without ZCA whitening"


def capital(text: str) -> str:
    """As a sentence before another, where there is any."""
    return f"{text[:1].upper()}{text[1:]}. " if text else ""


def named(network: Mapping[str, Any]) -> str:
    """A network as the pages call it."""
    return f"a {network['name']} of depth {network.get('depth')}, width {network.get('width')}, {network['norm']} norm"


def digits_section(found: Mapping[str, Any]) -> str:
    costs = (
        "Cost of making the set alone, one thread, beside the experts: CPU seconds, and the most memory held above "
        "what imports and the material take."
    )
    parts = [conditions(found), accuracy_table(found), lead_table(found), costs, cost_table(found)]
    return "\n\n".join(parts)


def published_section(found: Mapping[str, Any]) -> str:
    """Accuracies beside published ones of another, full-size run."""
    published = (found.get("published") or {}).get("accuracy", {})
    lines = []
    for row, cells in by_row(found).items():
        for ipc, own in cells.items():
            figure = published.get(f"{row}-ipc{ipc}", "")
            lines.append([f"`{row}`", str(ipc or ""), percent(of_seeds(own)), str(figure)])
    table = markdown(["", "IPC", "accuracy %, here", "published, full size"], lines)
    note = (found.get("published") or {}).get("note", "")
    return "\n\n".join(part for part in [conditions(found), table, note.strip()] if part)


def whitened_section(found: Mapping[str, Any]) -> str:
    """The same rows as in the table of all methods."""
    return "\n\n".join([conditions(found), accuracy_table(found)])


SECTIONS = {
    "digits": digits_section,
    "digits-zca": whitened_section,
    "cifar10": published_section,
    "full": published_section,
}


def written(text: str) -> str:
    """The page with the tables of all results that there are."""
    for name, section in SECTIONS.items():
        path = RESULTS / f"methods_{name}.json"
        if path.exists():
            text = put(text, name, section(json.loads(path.read_text(encoding="utf-8"))), NOTE)
    return text


def sets_to_draw() -> Iterator[tuple[str, Path]]:
    """For each row the kept set of five images a class, or what there is, of the first seed."""
    path = RESULTS / "methods_digits.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": []}
    for row, cells in by_row(found).items():
        own = cells.get(5) or next(iter(cells.values()))
        kept = [KEPT / cell["set"] for cell in own if "set" in cell]
        if row != "full" and kept and kept[0].exists():
            yield row, kept[0]


def draw(synthetic: SyntheticSet, path: Path) -> None:
    """A column for each class, at most five images in each; frames as in the report's previews."""
    columns = [
        [pictures.tile(synthetic, row) for row in pictures.class_sample(synthetic, label, ROWS_SHOWN)]
        for label in range(len(synthetic.class_names))
    ]
    width, height = (side + BETWEEN for side in columns[0][0].size)
    size = (width * len(columns) - BETWEEN, height * max(map(len, columns)) - BETWEEN)
    canvas = Image.new("RGB", size, "white")
    for x, column in enumerate(columns):
        for y, each in enumerate(column):
            canvas.paste(each, (x * width, y * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(64).save(path, optimize=True)


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    wanted = written(text)
    if "--check" in sys.argv:
        if wanted != text:
            sys.stderr.write(f"{PAGE} does not show the committed figures; run: python tools/methods.py\n")
        return int(wanted != text)
    PAGE.write_text(wanted, encoding="utf-8")
    for row, path in sets_to_draw():
        draw(load_synthetic(path)[0], PICTURES / f"{row}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
