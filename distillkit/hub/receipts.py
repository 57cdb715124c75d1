"""Receipts of pushes: a file in the user's repository that lists what was published where."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillkit.base.errors import ArtifactError
from distillkit.base.files import pretty_json, write_text
from distillkit.base.outside import content, read_json


@dataclass(frozen=True)
class Pushed:
    """The result of a push: ``commit`` of ``repo`` has the package whose manifest.json has ``manifest_sha256``.

    ``sent`` and ``removed`` are paths, both empty if the Hub had everything already.
    """

    repo: str
    endpoint: str
    commit: str
    tag: str | None
    manifest_sha256: str
    sent: list[str]
    removed: list[str]


def check_receipt(path: Path) -> None:
    """Raise ArtifactError unless receipts can be written to ``path``. Called before anything is published."""
    read_receipts(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written ({error.strerror}); choose another place") from None


def write_receipt(path: Path, pushed: Pushed, is_head: bool) -> None:
    """Add to the receipts in ``path``: for each repository the last pushed commit, and the commit of each tag."""
    receipts = read_receipts(path)
    entry = receipts.setdefault(pushed.repo, {"tags": {}})
    if is_head or "commit" not in entry:
        entry |= {key: getattr(pushed, key) for key in ("endpoint", "commit", "manifest_sha256")}
    if pushed.tag is not None:
        entry["tags"][pushed.tag] = pushed.commit
    write_text(path, pretty_json(receipts))


def read_receipts(path: Path) -> dict[str, Any]:
    """The receipts in the file. Raises ArtifactError when it is not a file of receipts."""
    if not path.exists():
        return {}
    try:
        receipts = read_json(content(path))
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); expected receipts of pushes; choose another") from None
    entries = receipts.values() if isinstance(receipts, dict) else [None]
    if not all(isinstance(entry, dict) and isinstance(entry.get("tags"), dict) for entry in entries):
        raise ArtifactError(f"{path} holds no receipts of distillkit push; choose another file with --receipt")
    return dict(receipts)
