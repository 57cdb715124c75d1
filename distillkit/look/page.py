"""The page: one HTML file with all pictures in it, or one that asks for sheets of them as they are scrolled to."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from distillkit.base.errors import ParamsError
from distillkit.base.files import atomic_folder
from distillkit.look.classes import known
from distillkit.look.description import Pictures
from distillkit.process.progress import tell
from distillkit.report.document import asset, data_block, data_url, policy, template

LARGEST = 20 * 2**20  # bytes of pictures in one HTML file
INDEX, SHEETS = "index.html", "sheets"
SCRIPTS = ("pictures", "grid", "panel", "map", "page")  # in this order
MARK = b'<meta name="generator" content="distillkit look">'
ALONE, BESIDE = "data:", "'self' data:"  # where pictures may come from
Sheet = Callable[[], bytes]


def sheets_of(galleries: Pictures) -> dict[str, Sheet]:
    """Every sheet by the name of its file; it is drawn when it is asked for."""
    sheets = ((gallery, number) for gallery in galleries for number in range(gallery.sheets))
    return {gallery.file(number): lru_cache(1)(partial(gallery.sheet, number)) for gallery, number in sheets}


def few_enough(sheets: Mapping[str, Sheet], most: int = LARGEST) -> bool:
    """Whether all pictures fit into one file; no more are drawn than it takes to know."""
    size = 0
    for sheet in sheets.values():
        size += len(sheet())
        if size > most:
            return False
    return True


def page(described: Mapping[str, Any], galleries: Pictures, sheets: Mapping[str, Sheet], alone: bool) -> str:
    """The HTML; with its pictures in it where it is to be read ``alone``, else they lie in the folder beside it."""
    folder = "" if alone else f"{SHEETS}/"
    addresses = {gallery.name: [folder + gallery.file(k) for k in range(gallery.sheets)] for gallery in galleries}
    data = {**described, "galleries": {one.name: one.described(addresses[one.name]) for one in galleries}}
    style = asset("page.css") + asset("look.css", "distillkit.look")
    script = Markup("\n").join(
        [asset("tables.js"), *(asset(f"scripts/{name}.js", "distillkit.look") for name in SCRIPTS)]
    )
    return template("look.html.jinja", "distillkit.look").render(
        policy=policy([script], [style], ALONE if alone else BESIDE),
        style=style,
        script=script,
        data=data_block(data),
        about=described["about"],
        answers=described["answers"],
        missing=described["missing"],
        rows=described["rows"],
        measures=known(described["rows"]),
        pairs=described["pairs"],
        classes=described["classes"],
        against=described["against"],
        title=described["title"],
        tab=described["tab"],
        pictures={name: data_url(sheet(), "webp") for name, sheet in sheets.items()} if alone else {},
    )


def is_site(folder: Path) -> bool:
    """Whether a folder is empty, or has nothing but an earlier export in it."""
    if not folder.is_dir() or not {path.name for path in folder.iterdir()} <= {INDEX, SHEETS}:
        return False
    index = folder / INDEX
    return not index.exists() or (index.is_file() and MARK in index.read_bytes()[:4096])


def export(described: Mapping[str, Any], galleries: Pictures, folder: Path) -> dict[str, int]:
    """Write a static site into ``folder``, in place of an earlier one, and return its files with their sizes.

    Up to 20 MB of pictures it is one file. Raises ParamsError where the folder holds anything else.
    """
    if folder.exists() and not is_site(folder):
        raise ParamsError(f"{folder} has files that are no part of a page; expected a new folder; choose another")
    sheets = sheets_of(galleries)
    alone = few_enough(sheets)
    with atomic_folder(folder) as built:
        (built / INDEX).write_text(page(described, galleries, sheets, alone), encoding="utf-8")
        for name, sheet in () if alone else sheets.items():
            (built / SHEETS).mkdir(exist_ok=True)
            (built / SHEETS / name).write_bytes(sheet())
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    if "source" in {gallery.name for gallery in galleries}:
        tell(f"{folder} shows images of the source beside those of the set; --without-source leaves them out")
    return files
