"""Where images came from, and what of a source cannot be seen in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SourceInfo:
    """Where images came from: enough to fetch them again and to cite them."""

    kind: str
    id: str
    revision: str
    licence: str
    homepage: str = ""
    citation: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


Tally = dict[str, tuple[int, str]]  # how often what was met, and where first


def count(tally: Tally, what: str, where: str) -> None:
    """One more of ``what``."""
    times, first = tally.get(what, (0, where))
    tally[what] = times + 1, first


CHANGED = "training labels that are not the source's"
LEAKED = "test images that are training images, too"


@dataclass(frozen=True)
class Found:
    """What cannot be seen in the images that were taken from a source.

    ``train`` and ``test`` are its names for the splits, ``test`` None where a part of ``train`` was drawn. ``left_out``
    are images and files that were not taken, by reason; ``notes`` count images that could be read in several ways, and
    those that are there twice.
    """

    train: str = "train"
    test: str | None = "test"
    left_out: Tally = field(default_factory=dict)
    notes: Tally = field(default_factory=dict)

    @property
    def relabelled(self) -> int:
        """How many training images have another label than the source gives them."""
        return self.notes.get(CHANGED, (0, ""))[0]

    @property
    def leaked(self) -> int:
        """How many of the test images that were kept are training images, too."""
        return self.notes.get(f"{LEAKED}, kept", (0, ""))[0]
