"""What ``distillkit look`` does: open a set, describe it, and show the page as a file, from a server, or as a site."""

import re
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distillkit.base.errors import counted
from distillkit.base.files import write_text
from distillkit.look.description import describe
from distillkit.look.opening import open_subject
from distillkit.look.page import export, few_enough, page, sheets_of
from distillkit.look.server import serving
from distillkit.process.locks import keep_from_git
from distillkit.process.progress import tell

PAGES = Path(".distillkit/look")  # ignored by Git and DVC in a pipeline


def look(
    place: str,
    recipe: str | None,
    *,
    against: str | None,
    source: Path | None,
    with_source: bool,
    folder: Path | None,
    browse: bool,
) -> dict[str, Any]:
    """Make the page and show it: exported to ``folder``, or opened where ``browse`` is true.

    Returns where the page is and its size in bytes; a server runs until Ctrl-C. ``against`` is the set to compare with:
    another recipe in the same place, or a set that is elsewhere.
    """
    subject, other = open_subject(place, recipe, source, with_source), None
    if against is not None and "/" not in against and not Path(against).exists():
        other = open_subject(place, against, with_source=False)
    elif against is not None:
        other = open_subject(against, None if Path(against).is_file() else recipe, with_source=False)
    described, galleries = describe(subject, other)
    if folder is not None:
        return {"page": str(folder), "files": export(described, galleries, folder)}
    sheets = sheets_of(galleries)
    if few_enough(sheets):
        path = PAGES / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', described['title'])[:80]}.html"
        keep_from_git()  # a page may show images that are not in the set
        write_text(path, page(described, galleries, sheets, alone=True))
        opened(path.resolve().as_uri(), browse)
        return {"page": str(path), "files": {path.name: path.stat().st_size}}
    with serving(page(described, galleries, sheets, alone=False), sheets) as server:
        tell(f"{server.address} shows {described['title']}, to this machine only; Ctrl-C ends it")
        opened(server.address, browse)
        threading.Event().wait()
    raise AssertionError("only a signal ends the wait")


def opened(address: str, browse: bool) -> None:
    """Open a browser, if one is wanted and there is one; else nothing, for the address is told anyway."""
    if browse and not webbrowser.open(address):
        tell("no browser could be started; open the page yourself")


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    size = sum(found["files"].values())
    yield f"{found['page']}: {counted(len(found['files']), 'file')}, {size:,} bytes"
