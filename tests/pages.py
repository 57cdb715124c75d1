"""Following a page of docs/: its bash blocks, one after another, in one shell, as a reader would type them."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[str]:
    """The text of every bash block of a page, in order."""
    return BLOCK.findall((DOCS / page).read_text())


def follow(page: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Type all blocks of a page in ``folder``; what was shown, each line before what it gave. No command may fail."""
    script = "\n".join(blocks(page))
    assert script, f"docs/{page} has no bash block"
    shell = ["bash", "-e", "-o", "pipefail", "-v", "-c", script]
    done = subprocess.run(
        shell, cwd=folder, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
