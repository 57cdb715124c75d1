"""The progress of stages, for people and programs: a live table on a terminal, otherwise plain lines or JSON."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from distillkit.engines.plan import Plan
from distillkit.process.progress import presentable

ROWS = 20  # of the table; more stages are counted below it
ENDED = ("done", "failed", "stopped")
ORDER = ("running", "failed", "stopped", "waiting", "done")  # of the rows in the table


class Board:
    """Plain lines, each with the name of its stage first. ``now`` gets every change, ``said`` every line of a stage."""

    quiet = False

    def __init__(self, write: Callable[[str], None]):
        self.write = write  # writes a whole line
        self.states: dict[str, tuple[str, str, float]] = {}  # state, node, and start time (or duration, once ended)
        self.spoke: set[str] = set()  # stages of which DVC said that they run, or where their results come from

    @contextmanager
    def shown(self, plan: Plan) -> Iterator[None]:
        """Show the stages of a plan while the block runs."""
        began = time.monotonic()
        self.states = {stage: ("waiting", "", began) for stage in plan.before if stage in plan.stale}
        with self.living():
            yield

    def living(self) -> Any:
        return nullcontext()

    def now(self, stage: str, state: str, node: str = "") -> None:
        """A stage is waiting, running (on a node), done, failed or stopped."""
        now = time.monotonic()
        before, _, since = self.states.get(stage, ("", "", now))
        took = now - since if before == "running" and state != "running" else 0
        self.states[stage] = (state, node, took if state in ENDED else now)
        self.tell(stage, state, node, took)

    def tell(self, stage: str, state: str, node: str, seconds: float) -> None:
        where = f" on {node}" if node else ""
        if state in ENDED:
            done = sum(each == "done" for each, _, _ in self.states.values())
            took = f" after {seconds:.0f} s" if seconds or node else ""
            count = f", {done} of {len(self.states)}" if state == "done" else ""
            word = "unchanged" if state == "done" and not node and stage not in self.spoke else state
            self.write(presentable(f"{stage}: {word}{where}{took}{count}"))
        elif node and state == "running":
            self.write(presentable(f"{stage}: running{where}"))

    def said(self, stage: str, line: str) -> None:
        self.spoke.add(stage)
        self.write(presentable(f"{stage}: {line}"))

    def note(self, line: str) -> None:
        """Show a line that belongs to no stage."""
        self.write(presentable(line))


class Events(Board):
    """JSON, one object a line: ``{"stage": …, "state": …}``, ``{"stage": …, "line": …}`` or ``{"note": …}``."""

    quiet = True

    def tell(self, stage: str, state: str, node: str, seconds: float) -> None:
        self.put({"stage": stage, "state": state, "node": node, "seconds": round(seconds, 1)})

    def said(self, stage: str, line: str) -> None:
        self.put({"stage": stage, "line": line})

    def note(self, line: str) -> None:
        self.put({"note": line})

    def put(self, event: dict[str, Any]) -> None:
        self.write(presentable(json.dumps(event)))


class Table(Board):
    """A table at the bottom of the terminal; the output of stages scrolls above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(file=sys.stdout, markup=False, highlight=False, emoji=False)
        super().__init__(lambda line: self.console.print(line, soft_wrap=True))

    def living(self) -> Any:
        from rich.live import Live

        return Live(get_renderable=self.table, console=self.console, refresh_per_second=2, redirect_stdout=False)

    def tell(self, stage: str, state: str, node: str, seconds: float) -> None:
        """Print nothing: the table shows it."""

    def table(self) -> Any:
        from rich.table import Table as Rows

        now, rows = time.monotonic(), Rows("stage", "state", "node", "seconds", box=None)
        found = sorted(self.states.items(), key=lambda item: ORDER.index(item[1][0]))
        for stage, (state, node, since) in found[:ROWS]:
            seconds = since if state in ENDED else now - since
            rows.add_row(presentable(stage), state, presentable(node), "" if state == "waiting" else f"{seconds:.0f}")
        counts = Counter(state for state, _, _ in self.states.values())
        rows.caption = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
        return rows


def board(as_json: bool, write: Callable[[str], None]) -> Board:
    """JSON if asked for, a table on a terminal, otherwise plain lines."""
    if as_json:
        return Events(write)
    return Table() if sys.stdout.isatty() else Board(write)
