"""The real images that a learning method can start from, by name."""

from typing import Literal

from distillkit.base.errors import ParamsError
from distillkit.data.selection import WindowUnit
from distillkit.matching.method import Selection
from distillkit.selection.confident import ConfidentSubset
from distillkit.selection.random_subset import RandomSubset
from distillkit.selection.window import WindowScan, WindowSubset

Start = Literal["random", "window", "confident"]


def check_start(start: Start, window_start: float | WindowScan | None, window_unit: WindowUnit = "class") -> None:
    """Raise ParamsError unless ``window_start`` is in range and is given exactly when ``start`` is window."""
    if start == "window" and window_start is None:
        raise ParamsError("start is window, but window_start is missing; expected a fraction of the class, 0 to 1")
    if start != "window" and window_start is not None:
        raise ParamsError(f"start is {start}, which has no window_start; remove it or set start: window")
    if window_start is not None:
        WindowSubset(1, window_start, window_unit)  # checks the range


def starting_selection(
    start: Start, ipc: int, window_start: float | WindowScan | None, window_unit: WindowUnit = "class"
) -> Selection:
    check_start(start, window_start, window_unit)
    if start == "window" and window_start is not None:
        return WindowSubset(ipc, window_start, window_unit)
    return ConfidentSubset(ipc) if start == "confident" else RandomSubset(ipc)
