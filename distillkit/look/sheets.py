"""Many small pictures in few files: lossless sheets of up to a hundred images each."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from distillkit.data.rows import Images
from distillkit.report.pictures import as_levels

COLUMNS, MOST = 10, 100  # pictures side by side, and on a sheet
LARGEST = 2**20  # pixels of a sheet, unless one picture has more


@dataclass(frozen=True)
class Gallery:
    """Pictures called ``name``, in the order of ``rows`` (N,) of ``images``."""

    name: str
    images: Images
    rows: Tensor

    @property
    def each(self) -> int:
        """Pictures on a sheet."""
        height, width = self.images.shape[2:]
        return max(1, min(MOST, LARGEST // (height * width)))

    @property
    def sheets(self) -> int:
        return -(-len(self.rows) // self.each)

    def sheet(self, number: int) -> bytes:
        """A WebP, lossless, with the pictures from ``number * each`` on, row by row."""
        levels = as_levels(self.images[self.rows[number * self.each : (number + 1) * self.each]])
        count, height, width, _ = levels.shape
        canvas = np.zeros((-(-count // COLUMNS) * height, min(count, COLUMNS) * width, 3), np.uint8)
        for place, picture in enumerate(levels):
            top, left = place // COLUMNS * height, place % COLUMNS * width
            canvas[top : top + height, left : left + width] = picture
        file = BytesIO()
        # the quickest way to write it, and smaller than PNG
        Image.fromarray(canvas).save(file, "WEBP", lossless=True, quality=0, method=0)
        return file.getvalue()

    def file(self, number: int) -> str:
        """What a sheet is called where it is a file of its own."""
        return f"{self.name}-{number}.webp"

    def described(self, addresses: list[str]) -> dict[str, Any]:
        """What the page has to know; ``addresses`` are those of the sheets."""
        height, width = self.images.shape[2:]
        return {
            "count": len(self.rows),
            "each": self.each,
            "columns": COLUMNS,
            "width": width,
            "height": height,
            "sheets": addresses,
        }
