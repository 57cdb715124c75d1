"""The source of images, and facts about reading it that the images do not show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class SourceInfo:
    """The source of images: what is needed to fetch them again and to cite them."""

    kind: str
    id: str
    revision: str
    licence: str
    homepage: str = ""
    citation: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


Tally = dict[str, tuple[int, str]]  # for each observation: how often it was made, and the place of the first


def count(tally: Tally, what: str, where: str) -> None:
    """Add one observation ``what`` at the place ``where``."""
    times, first = tally.get(what, (0, where))
    tally[what] = times + 1, first


CHANGED = "training labels that are not the source's"
LEAKED = "test images that are training images, too"


@dataclass(frozen=True)
class Found:
    """Facts about reading a source that its images do not show.

    ``train`` and ``test`` are the source's names of the splits; ``test`` is None if the test images were drawn from
    ``train``. ``left_out`` counts images and files that were not used, by reason. ``notes`` counts images that could be
    read in several ways, duplicates, and changed labels.
    """

    train: str = "train"
    test: str | None = "test"
    left_out: Tally = field(default_factory=dict)
    notes: Tally = field(default_factory=dict)

    @property
    def relabelled(self) -> int:
        """The number of training images whose label differs from the source's."""
        return self.notes.get(CHANGED, (0, ""))[0]

    @property
    def leaked(self) -> int:
        """The number of test images that were kept although they are also training images."""
        return self.notes.get(f"{LEAKED}, kept", (0, ""))[0]
