"""Names of datasets on the Hub: owner/name, optionally with a branch, tag or commit."""

import re
from dataclasses import dataclass

from distillkit.base.errors import ParamsError

MAIN = "main"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[A-Za-z0-9][\w./+-]*", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
PREFIXES = ("hf://datasets/", "https://huggingface.co/datasets/", "datasets/")


@dataclass(frozen=True)
class Reference:
    """A dataset repository on the Hub, and optionally a branch, tag or commit."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_reference(text: str) -> Reference:
    """Parse ``owner/name`` or ``owner/name@revision``, with or without one of ``PREFIXES``. Raises ParamsError for
    other texts.
    """
    prefix = next((prefix for prefix in PREFIXES if text.startswith(prefix)), "")
    repo, at, revision = text.removeprefix(prefix).partition("@")
    if not REPOSITORY.fullmatch(repo) or ".." in repo or len(repo) > 193:
        raise ParamsError(f"{text!r} names no dataset of the Hub; expected owner/name or owner/name@revision")
    if at and (not REVISION.fullmatch(revision) or ".." in revision):
        raise ParamsError(f"{text!r} has revision {revision!r}; expected a branch, a tag or a commit")
    return Reference(repo, revision if at else None)
