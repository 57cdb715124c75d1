"""Every page of docs/ is followed by a test, or written by tools/walkthrough.py or tools/readme.py."""

import re
from pathlib import Path

from pages import DOCS

RECORDED = {"publishing.md", "speed.md"}


def test_every_page_is_followed():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_docs_*.py"))
    followed = set(re.findall(r'\bfollow\("([\w.-]+)"', tests))
    assert {path.name for path in DOCS.glob("*.md")} == followed | RECORDED


def test_every_page_can_be_found_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text()
    assert [path.name for path in DOCS.glob("*.md") if f"docs/{path.name}" not in readme] == []
