"""The check that croissant.json and the manifest list the same files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from distillkit.base.errors import ArtifactError
from distillkit.base.outside import UnreadableError, content, read_json

CROISSANT = "croissant.json"


class Record(Protocol):
    """A file of the manifest."""

    @property
    def sha256(self) -> str: ...


def check_listing(path: Path, name: str, records: Mapping[str, Record]) -> None:
    """Raise ArtifactError unless the croissant.json at ``path`` lists the manifest's other files with their SHA-256."""
    try:
        found = read_json(content(path))
    except UnreadableError as error:
        raise ArtifactError(f"{path} cannot be read ({error}); expected Croissant; do not use it") from None
    if not isinstance(found, Mapping) or found.get("name") != name:
        raise contradiction(path, f"it describes another package than {name!r}")
    listed = checksums(found.get("distribution"))
    expected = {file: record.sha256 for file, record in records.items() if file != CROISSANT}
    if different := sorted(expected.items() ^ listed.items()):
        raise contradiction(path, f"they differ in {different[0][0]!r}")


def checksums(distribution: Any) -> dict[str, str]:
    """SHA-256 by path; empty if ``distribution`` is no list of files."""
    files = distribution if isinstance(distribution, list) else []
    found = [(file.get("contentUrl"), file.get("sha256")) for file in files if isinstance(file, Mapping)]
    return {str(url): str(digest) for url, digest in found}


def contradiction(path: Path, found: str) -> ArtifactError:
    return ArtifactError(f"{path} contradicts the manifest: {found}; expected the same; do not use it")
