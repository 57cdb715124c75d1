"""Images that are there twice: in one class, in two, or in train and test, where they make accuracies lie."""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

from distillkit.data.images import Tally, count
from distillkit.sources.readers import Split


class Copies(NamedTuple):
    """Masks over rows: training images that repeat an earlier one of their class, or of another; test images that are
    training images, too."""

    train: Tensor
    otherwise: Tensor
    test: Tensor


def find_copies(train_images: Tensor, train: Split, test_images: Tensor) -> Copies:
    """By the hash of their pixels, in one pass."""
    first: dict[bytes, int] = {}  # the label of the first image with these pixels
    more: set[tuple[bytes, int]] = set()  # further labels of the same pixels
    copies = Copies(*(torch.zeros(rows, dtype=torch.bool) for rows in (len(train_images),) * 2 + (len(test_images),)))
    for row, (image, label) in enumerate(zip(train_images, train.labels.tolist(), strict=True)):
        if (known := first.setdefault(digest := pixel_hash(image), -1)) == -1:
            first[digest] = label
        elif known == label or (digest, label) in more:
            copies.train[row] = True
        else:
            copies.otherwise[row] = True
            more.add((digest, label))
    for row, image in enumerate(test_images):
        copies.test[row] = pixel_hash(image) in first
    return copies


def pixel_hash(image: Tensor) -> bytes:
    return hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest()


def tally_copies(copies: Copies, train: Split, test: Split, dropped: bool, notes: Tally) -> None:
    """Add them to ``notes``."""
    dropped_or_kept = "dropped" if dropped else "kept"
    for what, mask, split in (
        (f"training images that repeat one of their class, {dropped_or_kept}", copies.train, train),
        ("training images that are also in another class, kept", copies.otherwise, train),
        (f"test images that are training images, too, {dropped_or_kept}", copies.test, test),
    ):
        for row in split.rows[mask].tolist():
            count(notes, what, split.where(row))
