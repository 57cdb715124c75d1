"""Images that are there twice: in one class, in two, or in train and test, where they make accuracies lie."""

import hashlib

import numpy as np

from distillkit.data.origin import LEAKED, Tally, count
from distillkit.sources.readers import Split


class Copies:
    """Looks out for images whose pixels were there before, as rows come by: all of train, then all of test.

    They are counted in ``notes``. Where copies are to ``drop``, training images that repeat an earlier one of their
    class are, and test images that are training images, too.
    """

    def __init__(self, drop: bool, notes: Tally):
        self.drop, self.notes = drop, notes
        self.label: dict[bytes, int] = {}  # of the first image with these pixels
        self.more: set[tuple[bytes, int]] = set()  # further labels of the same pixels

    def is_kept(self, split: Split, row: int, label: int, digest: bytes) -> bool:
        """Whether a row stays; ``digest`` is the hash of its pixels."""
        dropped_or_kept = "dropped" if self.drop else "kept"
        if split.name == "test":
            if digest not in self.label:
                return True
            return self.counted(f"{LEAKED}, {dropped_or_kept}", split, row)
        if digest not in self.label:
            self.label[digest] = label
            return True
        if self.label[digest] == label or (digest, label) in self.more:
            return self.counted(f"training images that repeat one of their class, {dropped_or_kept}", split, row)
        self.more.add((digest, label))
        self.counted("training images that are also in another class, kept", split, row)
        return True

    def counted(self, what: str, split: Split, row: int) -> bool:
        count(self.notes, what, split.where(row))
        return not self.drop


def pixel_hash(image: np.ndarray) -> bytes:
    """Of the pixels (C, H, W) uint8, 16 bytes."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
