"""What ``distillkit look`` does: open a set, describe it, and show the page as a file, from a server, or as a site."""

import re
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.base.files import write_text
from distillkit.look.description import describe
from distillkit.look.opening import Subject, open_subject
from distillkit.look.page import export, few_enough, page, sheets_of
from distillkit.look.server import serving
from distillkit.process.progress import tell

PAGES = Path(".distillkit/look")  # ignored by Git and DVC in a pipeline


@dataclass(frozen=True)
class Wanted:
    """What is asked for, as it is written after ``distillkit look``."""

    path: str
    recipe: str | None = None
    against: str | None = None
    source: Path | None = None
    with_source: bool = True

    def first(self) -> Subject:
        return open_subject(self.path, self.recipe, self.source, self.with_source)

    def other(self) -> Subject | None:
        """The set to compare with: a recipe in the same place, or one that lies elsewhere."""
        if self.against is None:
            return None
        if is_name(self.against):
            return open_subject(self.path, self.against, with_source=False)
        return open_subject(self.against, None if Path(self.against).is_file() else self.recipe, with_source=False)


def is_name(text: str) -> bool:
    """Whether what stands where a place could is the name of a recipe."""
    return "/" not in text and not Path(text).exists()


def look(wanted: Wanted, folder: Path | None, browse: bool) -> dict[str, Any]:
    """Make the page and show it: exported to ``folder``, or opened where ``browse`` is true.

    Returns where the page is and what it takes; a server runs until Ctrl-C.
    """
    subject = wanted.first()
    described, galleries = describe(subject, wanted.other())
    if folder is not None:
        return {"page": str(folder), "files": export(described, galleries, folder)}
    sheets = sheets_of(galleries)
    if few_enough(sheets):
        path = PAGES / f"{re.sub(r'[^A-Za-z0-9_-]+', '-', described['title'])[:80]}.html"
        if not (ignored := PAGES.parent / ".gitignore").exists():
            write_text(ignored, "*\n")  # a page may show images that are not in the set
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
    yield f"{found['page']}: {len(found['files'])} file{'s' * (len(found['files']) != 1)}, {size:,} bytes"
