"""Progress on stderr: a bar on a terminal, else a line from time to time."""

import re
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TypeVar

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0
USER = re.compile(r"(?<=:)//[^\s/?#\"'<>\\]*@")
WORDS: list[Callable[[str], str]] = []  # the translations of in_words, the innermost last
HARMLESS = "\n\u00a0\u3000\u200c\u200d"  # newline, and spaces and joiners that some scripts need


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items`` and show the progress and the remaining time."""
    if total is None and isinstance(items, Collection):
        total = len(items)
    with counting(description, total) as count:
        for item in items:
            yield item
            count()


@contextmanager
def counting(description: str, total: int | None) -> Iterator["Counter"]:
    """A block with a :class:`Counter` that counts to ``total``."""
    counter = Counter(description, total)
    try:
        yield counter
    finally:
        if counter.bar is not None:
            counter.bar.close()


class Counter:
    """Counts finished items and shows the progress. May be called from any thread.

    Items of an ``earlier`` run are counted, but not used to estimate the speed.
    """

    def __init__(self, description: str, total: int | None):
        self.description, self.total, self.lock = description, total, Lock()
        self.done = self.earlier = 0
        self.started = self.shown = time.monotonic()
        self.bar: Any = None
        if has_bars():
            from tqdm import tqdm  # the import takes 0.06 s, and only terminals need it

            self.bar = tqdm(desc=presentable(description), total=total, dynamic_ncols=True)

    def __call__(self, more: int = 1, earlier: bool = False) -> None:
        with self.lock:
            self.done += more
            self.earlier += more if earlier else 0
            if self.bar is not None:
                self.bar.initial = self.earlier
                self.bar.update(more)
            else:
                self.tell()

    def tell(self) -> None:
        now, new = time.monotonic(), self.done - self.earlier
        if new and now - self.shown >= SECONDS_BETWEEN_LINES and self.done != self.total:
            self.shown = now
            tell(f"{self.description}: {self.done}{left(self.done, self.total, (now - self.started) / new)}")


def has_bars() -> bool:
    """Whether the output can be overwritten: on a terminal or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def left(done: int, total: int | None, each: float) -> str:
    """The end of a progress line; ``each`` is the time of one item in seconds."""
    if total is None:
        return f" in {each * done:.0f} s"
    return f" of {total}, about {each * (total - done):.0f} s left"


def tell(line: str) -> None:
    """Write one line to stderr."""
    for translate in WORDS[-1:]:
        line = translate(line)
    sys.stderr.write(presentable(line) + "\n")
    sys.stderr.flush()


@contextmanager
def in_words(translate: Callable[[str], str]) -> Iterator[None]:
    """A block in which ``translate`` changes all lines of :func:`tell`, in all threads."""
    WORDS.append(translate)
    try:
        yield
    finally:
        WORDS.pop()


def presentable(text: str) -> str:
    """``text`` made safe for a terminal or a page: without secrets and control characters, which other people's names
    and messages may contain.
    """
    if client := sys.modules.get("huggingface_hub"):
        token = client.get_token()
        text = text.replace(token, "<token>") if token else text
    return "".join(letter if letter.isprintable() or letter in HARMLESS else "�" for letter in without_passwords(text))


def without_passwords(text: str) -> str:
    """``text`` without user names and passwords in URLs."""
    return USER.sub("//", text)
