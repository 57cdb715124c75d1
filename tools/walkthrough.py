"""Run the commands of docs/publishing.md against a Hub on the loopback and put what they print into the page.

    python tools/walkthrough.py           # after `dvc repro`
    python tools/walkthrough.py --check   # fail unless the page shows what the commands print

Every ``console`` block of the page is run, in order, in one folder that holds the package as the pipeline leaves it.
Numbers and commits differ with the machine that made the package: the check compares all but those.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/publishing.md"
PICTURE = ROOT / "docs/diff.png"
PACKAGE = Path("artifacts/hub/digits-distilled")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PUBLIC = "https://huggingface.co"
sys.path.insert(0, str(ROOT / "tests"))


def main() -> None:
    from hub_server import Hub

    page = PAGE.read_text(encoding="utf-8")
    with Hub() as hub, tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary, "repository")
        shutil.copytree(ROOT / PACKAGE, here / PACKAGE)
        environment = hub.environment(Path(temporary, "home")) | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        }
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        shown = BLOCK.sub(lambda block: f"```console\n{replayed(block[1], here, environment, hub.endpoint)}```", page)
        picture = (here / "diff.png").read_bytes()
    if "--check" not in sys.argv:
        PICTURE.write_bytes(picture)
        PAGE.write_text(shown, encoding="utf-8")
    elif blurred(shown) != blurred(page):
        sys.exit(f"{PAGE.relative_to(ROOT)} does not show what its commands print; run: python tools/walkthrough.py")


def replayed(block: str, here: Path, environment: dict[str, str], endpoint: str) -> str:
    """The block's commands, each with what it prints now and, unless it is 0, its exit code."""
    lines = []
    for command in re.findall(r"^\$ (.*(?:\n> .*)*)", block, re.MULTILINE):
        shell = command.replace("\n> ", "\n")
        ran = subprocess.run(shell, shell=True, cwd=here, env=environment, capture_output=True, text=True, check=False)
        printed = (ran.stdout + ran.stderr).replace(endpoint, PUBLIC)
        lines += [f"$ {command}\n", printed, f"(exit code {ran.returncode})\n" if ran.returncode else ""]
    return "".join(lines)


def blurred(page: str) -> str:
    """The page without what may differ."""
    return re.sub(r"\b[0-9a-f]{12,64}\b|[+-]?\d[\d.,]*", "…", page)


if __name__ == "__main__":
    main()
