"""What can go wrong, in one place.

DistillkitError
├── ParamsError      a parameter is unknown, missing, of the wrong type or out of range
├── SourceError      a dataset cannot be found, read or trusted
├── WindowError      a selection asks a class for images it does not have
├── ArtifactError    a file is not the artifact it should be
├── HubError         the Hub refuses, cannot be reached, or sends something else than it should
└── DivergedError    a computation left the finite numbers

Every message says what was found, what was expected and what to do, on one line.
"""

import re

MOST = 2**53  # of anything that is counted: epochs, steps, images
FEWEST_SHADOWS = 4  # sets that an audit makes anew: of each image some are made with it, and some without
LARGEST = 3.4028234663852886e38  # of the finite float32


class DistillkitError(Exception):
    """Base of every error that a user of distillkit can cause and mend."""


class ParamsError(DistillkitError):
    """A parameter is unknown, missing, of the wrong type or out of range."""


class SourceError(DistillkitError):
    """A dataset cannot be found, read or trusted."""


class WindowError(DistillkitError):
    """A selection asks a class for images it does not have."""


class ArtifactError(DistillkitError):
    """A file is not the artifact it should be."""


class HubError(DistillkitError):
    """The Hub refuses, cannot be reached, or sends something else than it should.

    ``transient``: the same request may succeed later, after ``wait`` seconds if the Hub asked for some.
    """

    def __init__(self, message: str, transient: bool = False, wait: float | None = None):
        super().__init__(message)
        self.transient = transient
        self.wait = wait


class DivergedError(DistillkitError):
    """A computation left the finite numbers."""


def check_range(name: str, value: float | None, low: float, high: float | None = None) -> None:
    """Raise ParamsError unless ``low <= value <= high``, by default what any machine can count or compute with.

    None, a setting that was left out, is in every range; in :func:`check_positive`, too.
    """
    if value is None:
        return
    most = high if high is not None else MOST if isinstance(value, int) else LARGEST
    if not low <= value <= most:
        expected = f"at least {low:g}" if high is None and value < low else f"between {low:g} and {most:g}"
        raise ParamsError(f"{name} is {shown(value)}; expected {expected}")


def check_positive(name: str, value: float | None) -> None:
    """Raise ParamsError unless ``value > 0`` and a float32."""
    if value is not None and not 0 < value <= LARGEST:
        limit = f" up to {LARGEST:g}" if value > 0 else ""
        raise ParamsError(f"{name} is {shown(value)}; expected a finite number above 0{limit}")


def check_sha256(name: str, value: str, whence: str) -> None:
    """Raise ParamsError unless ``value`` looks like a SHA-256; ``whence`` says where people find it."""
    if not re.fullmatch("[0-9a-f]{64}", value):
        raise ParamsError(f"{name} is {value!r}; expected the 64 hexadecimal digits of file, {whence}")


def check_shadows(count: int) -> None:
    """Raise ParamsError unless so many shadow sets make an audit; 0 makes none."""
    check_range("shadows", count, 0)
    if 0 < count < FEWEST_SHADOWS:
        expected = f"0 for none, or at least {FEWEST_SHADOWS}; fewer do not tell what to expect of an image"
        raise ParamsError(f"shadows is {count}; expected {expected}")


def counted(number: int, noun: str) -> str:
    """ "1 file", "1,200 files"; "classes" for "class"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def shown(value: float) -> str:
    """A number in few digits; a whole number may be larger than any float."""
    try:
        return f"{value:g}"
    except OverflowError:
        return "beyond 1e308" if value > 0 else "below -1e308"
