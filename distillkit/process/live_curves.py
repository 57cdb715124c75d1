"""Curves that grow while a stage runs, in the file format of DVCLive.

They are in an ignored folder and are removed when the stage succeeds: the tracked curve is an output of the stage.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from distillkit.base.files import write_text

Row = TypeVar("Row", bound=NamedTuple)

LIVE = Path(".distillkit/live")
SECONDS_BETWEEN_WRITES = 1.0


def shown(
    steps: Iterable[Row], folder: Path, before: Sequence[Row] = (), clock: Callable[[], float] = time.monotonic
) -> Iterator[Row]:
    """Yield ``steps``, and append them to the curves in ``folder`` about once a second, after the steps ``before``.

    A step is a NamedTuple of numbers, its count first. plots/metrics/NAME.tsv gets a line for each number that is not
    None; metrics.json has the last step. Curves of an earlier run are removed first, so that no step appears twice.
    """
    clear(folder)
    rows, written = list(before), -math.inf
    try:
        for step in steps:
            rows.append(step)
            if clock() - written >= SECONDS_BETWEEN_WRITES:
                append(folder, rows)
                rows, written = [], clock()
            yield step
    finally:
        append(folder, rows)


def clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def append(folder: Path, rows: Sequence[Any]) -> None:
    """Append ``rows`` to the curves."""
    if not rows:
        return
    curves = folder / "plots/metrics"
    curves.mkdir(parents=True, exist_ok=True)
    count, *names = rows[0]._fields
    for place, name in enumerate(names, start=1):
        known = [row for row in rows if row[place] is not None]
        if not known:
            continue
        with (curves / f"{name}.tsv").open("a", encoding="utf-8") as file:
            header = "" if file.tell() else f"{count}\t{name}\n"
            file.write(header + "".join(f"{row[0]}\t{row[place]:.8g}\n" for row in known))
    last = {name: value for name, value in rows[-1]._asdict().items() if value is not None}
    write_text(folder / "metrics.json", json.dumps(last, indent=4) + "\n")
