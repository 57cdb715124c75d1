"""Following a page of docs/: its bash blocks, one after another, in one shell, as a reader would type them."""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from interpreter import path

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def sections(page: str) -> Iterator[tuple[str, str]]:
    """The sections of a page, each with its heading; what stands before the first has none."""
    first, *rest = HEADING.split((DOCS / page).read_text())
    yield "", first
    yield from zip(rest[::2], rest[1::2], strict=True)


def blocks(page: str, only: str | None = None, but: Sequence[str] = ()) -> list[str]:
    """The text of every bash block of a page, in order; of one section ``only``, or of all ``but`` some."""
    found = dict(sections(page))
    assert {*but, *([] if only is None else [only])} <= found.keys(), f"docs/{page} has the sections {list(found)}"
    chosen = [text for heading, text in found.items() if heading not in but and only in (None, heading)]
    return [block for text in chosen for block in BLOCK.findall(text)]


def follow(
    page: str, folder: Path, environment: Mapping[str, str], only: str | None = None, but: Sequence[str] = ()
) -> str:
    """Type all blocks of a page in ``folder``; what was shown, each line before what it gave. No command may fail."""
    script = "\n".join(blocks(page, only, but))
    assert script, f"docs/{page} has no bash block"
    shell = ["bash", "-e", "-o", "pipefail", "-v", "-c", script]
    done = subprocess.run(
        shell, cwd=folder, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def desk(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """``environment`` as a reader has it who has activated this one and set up Git; DVC's own files in ``folder``."""
    names = {f"GIT_{who}_{what}": "reader" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {
        **{name: value for name, value in environment.items() if name not in ("SHELL", "VIRTUAL_ENV")},
        **names,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH": path(),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / "site"),
    }
