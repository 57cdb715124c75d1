"""Progress for people: a bar on a terminal, a plain line now and then elsewhere; always on stderr."""

import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0
USER = re.compile(r"(?<=:)//[^\s/?#\"'<>\\]*@")
HARMLESS = "\n\u00a0\u3000\u200c\u200d"  # spaces and joiners that some scripts need


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items``, showing how far we are and how long the rest will take."""
    if total is None and isinstance(items, Collection):
        total = len(items)
    if sys.stderr.isatty():
        yield from tqdm(items, desc=presentable(description), total=total, dynamic_ncols=True)
    else:
        yield from plain_lines(items, description, total)


def plain_lines(items: Iterable[T], description: str, total: int | None) -> Iterator[T]:
    started = shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_LINES and done != total:
            shown = now
            tell(f"{description}: {done}{left(done, total, now - started)}")


def left(done: int, total: int | None, elapsed: float) -> str:
    if total is None:
        return f" in {elapsed:.0f} s"
    return f" of {total}, about {elapsed / done * (total - done):.0f} s left"


def tell(line: str) -> None:
    """One line on stderr."""
    sys.stderr.write(presentable(line) + "\n")
    sys.stderr.flush()


def presentable(text: str) -> str:
    """``text`` for a terminal or a page: without secrets, and without characters that move the cursor or turn text.

    Names, messages and headers that others wrote may hold either.
    """
    if client := sys.modules.get("huggingface_hub"):
        token = client.get_token()
        text = text.replace(token, "<token>") if token else text
    return "".join(letter if letter.isprintable() or letter in HARMLESS else "�" for letter in without_passwords(text))


def without_passwords(text: str) -> str:
    """``text`` with all addresses in it as anybody may see them: without a user's name and password."""
    return USER.sub("//", text)
