"""Progress for people: a bar on a terminal, a plain line now and then elsewhere; always on stderr."""

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
WORDS: list[Callable[[str], str]] = []  # see in_words
HARMLESS = "\n\u00a0\u3000\u200c\u200d"  # spaces and joiners that some scripts need


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield ``items``, showing how far we are and how long the rest will take."""
    if total is None and isinstance(items, Collection):
        total = len(items)
    with counting(description, total) as count:
        for item in items:
            yield item
            count()


@contextmanager
def counting(description: str, total: int | None) -> Iterator["Counter"]:
    """A block with a :class:`Counter` of ``total`` things."""
    counter = Counter(description, total)
    try:
        yield counter
    finally:
        if counter.bar is not None:
            counter.bar.close()


class Counter:
    """To be called whenever something more is done, from any thread; it shows how far we are.

    What an ``earlier`` run has done counts, but says nothing of the speed of this one.
    """

    def __init__(self, description: str, total: int | None):
        self.description, self.total, self.lock = description, total, Lock()
        self.done = self.earlier = 0
        self.started = self.shown = time.monotonic()
        self.bar: Any = None
        if has_bars():
            from tqdm import tqdm  # takes 0.06 s that a stage without a terminal saves

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
    """Whether what we write can be written over: on a terminal and in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def left(done: int, total: int | None, each: float) -> str:
    """``each`` takes so many seconds."""
    if total is None:
        return f" in {each * done:.0f} s"
    return f" of {total}, about {each * (total - done):.0f} s left"


def tell(line: str) -> None:
    """One line on stderr."""
    for translate in WORDS[-1:]:
        line = translate(line)
    sys.stderr.write(presentable(line) + "\n")
    sys.stderr.flush()


@contextmanager
def in_words(translate: Callable[[str], str]) -> Iterator[None]:
    """A block that tells its lines in other words, in all threads."""
    WORDS.append(translate)
    try:
        yield
    finally:
        WORDS.pop()


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
