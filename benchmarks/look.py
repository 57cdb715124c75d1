"""Pages of sets of several sizes: how long they take to be made, their bytes, and when their first pictures are seen.

python benchmarks/look.py

Sets are made of smooth random images, half of them learned, each with a source of as many images more. A page is opened
in headless Chromium three times; *first view* is from the start of the navigation until every picture in the window is
drawn, by the page's own clock. Bytes are of the HTML; of a set that is served, the pictures come on top as they are
scrolled to.
"""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from record import conditions, write
from selenium import webdriver

from distillkit.check.diff.result import Version
from distillkit.data.images import ImageSet, RealData, channel_statistics, real_subset
from distillkit.data.origin import SourceInfo
from distillkit.data.rows import to_pixels
from distillkit.look.description import describe
from distillkit.look.opening import Subject
from distillkit.look.page import few_enough, page, sheets_of
from distillkit.look.server import serving

OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900")
ROUNDS = 3
FIRST = "return performance.getEntriesByName('first-view')[0]?.startTime"
CPU = {"timeDomain": "threadTicks"}  # of the page's own thread, which other work on the machine does not count towards


@dataclass(frozen=True)
class Size:
    """Of a set: classes, images of each, and the shape (C, side, side)."""

    name: str
    classes: int
    ipc: int
    channels: int
    side: int


SIZES = (
    Size("digits", 10, 10, 1, 8),
    Size("CIFAR-10", 10, 50, 3, 32),
    Size("Tiny-ImageNet", 200, 10, 3, 64),
    Size("1,000 classes", 1000, 50, 3, 32),
)


def made(size: Size) -> Subject:
    """A set of which half is learned, with its source, twice as many images."""
    generator = torch.Generator().manual_seed(0)
    count = 2 * size.classes * size.ipc
    coarse = torch.randint(256, (count, size.channels, 4, 4), generator=generator, dtype=torch.uint8)
    parts = [torch.nn.functional.interpolate(part.float(), size.side, mode="bilinear") for part in coarse.split(1000)]
    images = torch.cat([part.round().to(torch.uint8) for part in parts])
    labels = torch.arange(size.classes).repeat_interleave(2 * size.ipc)
    names = tuple(f"class {label}" for label in range(size.classes))
    train = ImageSet(images, labels, names)
    real = RealData(train, train, channel_statistics(images), SourceInfo("folder", "made", "1", "CC0-1.0"))
    plain = real_subset(train, torch.arange(0, count, 2), real.normalisation)
    learned = torch.arange(len(plain)) % 2 == 0
    pixels = to_pixels(plain.images[:])
    pixels[learned] = pixels[learned] * 0.8 + 0.1
    synthetic = replace(plain, images=pixels, learned=learned)
    difficulty = torch.rand(count, generator=generator)
    return Subject(size.name, Version(size.name, synthetic, {}, None), {}, real, difficulty)


def first_view(address: str) -> tuple[float, float]:
    """Seconds to the first view, and of the page's thread in it, in a browser of its own with nothing in its cache."""
    options = webdriver.ChromeOptions()
    for option in OPTIONS:
        options.add_argument(option)
    with webdriver.Chrome(options=options, service=webdriver.ChromeService("/usr/bin/chromedriver")) as browser:
        browser.execute_cdp_cmd("Performance.enable", CPU)
        browser.get(address)
        while (found := browser.execute_script(FIRST)) is None:
            time.sleep(0.05)
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    spent = next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")
    return round(found / 1000, 3), round(spent, 3)


def measured(size: Size) -> dict[str, Any]:
    """All figures of one size."""
    subject, started = made(size), time.monotonic()
    described, galleries = describe(subject)
    sheets = sheets_of(galleries)
    alone = few_enough(sheets)
    html = page(described, galleries, sheets, alone)
    taken = time.monotonic() - started
    with ExitStack() as stack:
        if alone:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = Path(folder, "index.html")
            path.write_text(html, encoding="utf-8")
            address = path.as_uri()
        else:
            address = stack.enter_context(serving(html, sheets)).address
        views = [first_view(address) for _ in range(ROUNDS)]
    found = {"made_s": round(taken, 1), "html_bytes": len(html.encode()), "served": not alone}
    found |= {"first_view_s": [seconds for seconds, _ in views], "page_cpu_s": [spent for _, spent in views]}
    click.echo(f"{size.name}: {found}")
    return {**asdict(size), **found}


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes.")
@click.option("--only", help="A size by its name.")
def main(out: Path | None, only: str | None) -> None:
    """Make and open a page for each size."""
    points = [measured(size) for size in SIZES if only in (None, size.name)]
    write({**conditions("look"), "points": points}, out, quick=only is not None)


if __name__ == "__main__":
    main()
