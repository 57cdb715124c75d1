"""All errors of distillkit.

DistillkitError
├── ParamsError      a parameter is unknown, missing, of the wrong type or out of range
├── SourceError      a dataset cannot be found, read or trusted
├── WindowError      a selection needs more images of a class than there are
├── ArtifactError    a file is not the expected artifact
├── HubError         the Hub refuses a request, cannot be reached, or sends unexpected data
└── DivergedError    a computation gave NaN or infinity

Every message says on one line what was found, what was expected and what to do.
"""

import re

MOST = 2**53  # the largest count of anything: epochs, steps, images
FEWEST_SHADOWS = 4  # shadow sets of an audit: for each image, some are made with it and some without it
LARGEST = 3.4028234663852886e38  # the largest finite float32


class DistillkitError(Exception):
    """Base of all errors that a user of distillkit can cause and correct."""


class ParamsError(DistillkitError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class SourceError(DistillkitError):
    """A dataset cannot be found, read or trusted."""


class WindowError(DistillkitError):
    """A selection needs more images of a class than there are."""


class ArtifactError(DistillkitError):
    """A file is not the expected artifact."""


class HubError(DistillkitError):
    """The Hub refuses a request, cannot be reached, or sends unexpected data.

    ``transient``: the same request may succeed later, after ``wait`` seconds if the Hub gave a waiting time.
    """

    def __init__(self, message: str, transient: bool = False, wait: float | None = None):
        super().__init__(message)
        self.transient = transient
        self.wait = wait


class DivergedError(DistillkitError):
    """A computation gave NaN or infinity."""


def check_range(name: str, value: float | None, low: float, high: float | None = None) -> None:
    """Raise ParamsError unless ``low <= value <= high``.

    Without ``high``, the limit is ``MOST`` for integers and ``LARGEST`` for floats. None (a setting that was left out)
    passes.
    """
    if value is None:
        return
    most = high if high is not None else MOST if isinstance(value, int) else LARGEST
    if not low <= value <= most:
        expected = f"at least {low:g}" if high is None and value < low else f"between {low:g} and {most:g}"
        raise ParamsError(f"{name} is {shown(value)}; expected {expected}")


def check_positive(name: str, value: float | None) -> None:
    """Raise ParamsError unless ``value`` is above 0 and within float32's range. None passes."""
    if value is not None and not 0 < value <= LARGEST:
        limit = f" up to {LARGEST:g}" if value > 0 else ""
        raise ParamsError(f"{name} is {shown(value)}; expected a finite number above 0{limit}")


def check_sha256(name: str, value: str, where: str) -> None:
    """Raise ParamsError unless ``value`` looks like a SHA-256; ``where`` says where users find the right one."""
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ParamsError(f"{name} is {value!r}; expected the 64 hexadecimal digits of file, {where}")


def check_shadows(count: int) -> None:
    """Raise ParamsError unless ``count`` is 0 (no shadow sets) or enough for an audit."""
    check_range("shadows", count, 0)
    if 0 < count < FEWEST_SHADOWS:
        expected = f"0 for none, or at least {FEWEST_SHADOWS}; fewer are not enough to estimate an image's effect"
        raise ParamsError(f"shadows is {count}; expected {expected}")


def counted(number: int, noun: str) -> str:
    """A count with its noun, such as "1 file", "1,200 files" or "2 classes"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def shown(value: float) -> str:
    """A number with six significant digits. An integer may be larger than the largest float."""
    try:
        return f"{value:g}"
    except OverflowError:
        return "beyond 1e308" if value > 0 else "below -1e308"
