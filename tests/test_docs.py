"""Every page of docs/ with commands is followed by a test, and every page can be found."""

import re
from pathlib import Path

from pages import BLOCK, DOCS


def test_every_page_with_commands_is_followed():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_docs_*.py"))
    followed = set(re.findall(r'\bfollow\("([\w.-]+)"', tests))
    assert {path.name for path in DOCS.glob("*.md") if BLOCK.search(path.read_text())} <= followed


def test_every_page_can_be_found_from_the_readme():
    readme = (DOCS.parent / "README.md").read_text()
    assert [path.name for path in DOCS.glob("*.md") if f"docs/{path.name}" not in readme] == []
