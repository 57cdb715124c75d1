"""Draw docs/look-*.png and write docs/look-digits.html, which the documentation's site shows live.

python tools/look_pictures.py --cifar FOLDER_OR_HUB_ID

It needs the artifacts of the default pipeline, Chromium and chromedriver. Of CIFAR-10 it shows a random set; without
--cifar those pictures stay as they are.
"""

import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import torch
from PIL import Image
from selenium import webdriver

from distillkit.base.randomness import seeded
from distillkit.check.diff.result import Version
from distillkit.data.images import ImageSet, RealData, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.look.description import describe
from distillkit.look.opening import Subject, open_subject
from distillkit.look.page import export
from distillkit.matching.method import Material
from distillkit.selection.random_subset import RandomSubset
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import HuggingFaceSource

DOCS = Path(__file__).resolve().parents[1] / "docs"
RECIPE, IPC = "selmatch-ipc10", 20
WIDTHS, HEIGHT, SCALE = (1280, 390), 1100, 0.6
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")


def random_set(name: str, real: RealData, ipc: int) -> Subject:
    """Random images, which need no training."""
    synthetic = RandomSubset(ipc).init(Material(real.train, real.normalisation), seeded(0))
    return Subject(name, Version(name, synthetic, {"method": "random", "ipc": ipc}, None), {}, real)


def wide_source() -> RealData:
    """Two hundred classes of smooth colours, 64x64, as no such data may be passed on."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(200, 1, 3, 4, 4, generator=generator) + 0.3 * torch.randn(200, 12, 3, 4, 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse.flatten(0, 1), 64, mode="bicubic")
    images = (fine.clamp(0, 1) * 255).round().to(torch.uint8)
    names = tuple(f"made-{label:03d}" for label in range(200))
    train = ImageSet(images, torch.arange(200).repeat_interleave(12), names)
    return RealData(train, train, channel_statistics(images), SourceInfo("folder", "made", "1", "CC0-1.0"))


def subjects(cifar: str | None) -> Iterator[tuple[str, Subject]]:
    yield "digits", open_subject(".", RECIPE)
    if cifar is not None:
        source = fetch(DataSpec(HuggingFaceSource(id=cifar), per_class=500, test_per_class=10))
        yield "cifar10", random_set("CIFAR-10 (JPEG copy), random", source, IPC)
    yield "200-classes", random_set("200 made classes", wide_source(), 10)


def browser() -> webdriver.Chrome:
    options = webdriver.ChromeOptions()
    for option in OPTIONS:
        options.add_argument(option)
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))


def shot(driver: webdriver.Chrome, address: str, width: int, scheme: str) -> Image.Image:
    """The top of the page, as wide as a screen or a phone."""
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    size = {"width": width, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get("about:blank")
    driver.get(address)
    drawn = "Promise.all([...document.querySelectorAll('canvas')].map((one) => one.drawn)).then(arguments[0])"
    driver.execute_async_script(drawn)
    return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Reduced, and with few colours, as they lie in Git."""
    small = [picture.resize((round(picture.width * SCALE), round(picture.height * SCALE))) for picture in pictures]
    whole = Image.new("RGB", (sum(one.width + 8 for one in small) - 8, small[0].height), "#888888")
    left = 0
    for one in small:
        whole.paste(one, (left, 0))
        left += one.width + 8
    return whole.quantize(96, dither=Image.Dither.NONE)


@click.command()
@click.option("--cifar", help="CIFAR-10: a folder of parquet files here, or a dataset on the Hub.")
def main(cifar: str | None) -> None:
    """Draw all pictures."""
    with browser() as driver, tempfile.TemporaryDirectory() as temporary:
        for name, subject in subjects(cifar):
            folder = Path(temporary, name)
            export(*describe(subject), folder)
            address = (folder / "index.html").as_uri()
            for scheme in ("light", "dark"):
                picture = side_by_side([shot(driver, address, width, scheme) for width in WIDTHS])
                picture.save(DOCS / f"look-{name}-{scheme}.png", optimize=True)
            if name == "digits":
                shutil.copyfile(folder / "index.html", DOCS / "look-digits.html")


if __name__ == "__main__":
    main()
