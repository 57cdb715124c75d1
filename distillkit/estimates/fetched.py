"""The images that a pipeline has fetched already."""

from pathlib import Path

from distillkit.data.files.container import Opened
from distillkit.data.files.real_images import REAL
from distillkit.estimates.resources import Images
from distillkit.sources import summary


def fetched(folder: Path) -> Opened | None:
    """The file that describes the fetched images; None if nothing was fetched."""
    places = (folder / "artifacts/real" / REAL, folder / "artifacts" / REAL)  # the second is from earlier versions
    return next((Opened(place, "real") for place in places if place.is_file()), None)


def images_in(opened: Opened | None) -> Images | None:
    """The fetched images' shape and numbers, or None."""
    if opened is None:
        return None
    found = summary.read_summary(opened)
    return Images(found.shapes[0], len(found.classes), sum(found.classes.values()), found.test)
