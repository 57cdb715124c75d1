"""Duplicate images: in one class, in two classes, or in train and test, where they make accuracies too high."""

import hashlib

import numpy as np

from distillkit.data.origin import LEAKED, Tally, count
from distillkit.sources.readers import Split


class Copies:
    """Finds images with equal pixels while rows are read: first all of train, then all of test.

    They are counted in ``notes``. With ``drop``, a training image that repeats an earlier one of its class is dropped,
    and a test image that is also a training image.
    """

    def __init__(self, drop: bool, notes: Tally):
        self.drop, self.notes = drop, notes
        self.label: dict[bytes, int] = {}  # label of the first image with these pixels
        self.more: set[tuple[bytes, int]] = set()  # further labels of the same pixels

    def is_kept(self, split: Split, row: int, label: int, digest: bytes) -> bool:
        """Whether a row is kept; ``digest`` is the hash of its pixels."""
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
    """A hash of 16 bytes of the pixels (C, H, W) uint8."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()
