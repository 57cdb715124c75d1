"""Curves that grow while a stage runs, in the files that DVCLive writes, for whatever reads those.

They lie in an ignored folder and go when the stage ends well: the tracked curve is an output of the stage.
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
    """Yield ``steps`` and write them into ``folder``, about once a second, after those that were done ``before``.

    A step is numbers under names, the first its count: plots/metrics/NAME.tsv gets a line for each that is not None,
    metrics.json holds the last one. What an earlier run has left there goes, so no step is there twice.
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
    """Lines for ``rows`` at the end of the curves."""
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
