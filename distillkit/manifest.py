"""The manifest of a package: every file with its size and checksum, and the only way to open a package."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from distillkit.artifact import sha256
from distillkit.errors import ArtifactError, ParamsError
from distillkit.params import hint
from distillkit.settings import settings

MANIFEST, CARD = "manifest.json", "README.md"
ARTIFACT, PARQUET, RECIPE, PREVIEW = (
    "distilled.safetensors",
    "train-00000-of-00001.parquet",
    "recipe.json",
    "preview.png",
)
CONFIG_FILES = (ARTIFACT, PARQUET, RECIPE, PREVIEW)
AGAIN = "fetch the package again, or build it again"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
FROM_THE_HUB = (".gitattributes", ".cache")  # what the Hub and its client add to a folder


@settings
class FileRecord:
    sha256: str
    size: int


@settings
class Manifest:
    """What manifest.json holds: every other file of the package, by its path in it."""

    name: str
    default: str
    recipes: list[str]
    files: dict[str, FileRecord]
    format: Literal["distillkit-package/1"] = "distillkit-package/1"


@dataclass(frozen=True)
class Package:
    """A package whose files have been checked against its manifest."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def default(self) -> str:
        return str(self.manifest["default"])

    @property
    def recipes(self) -> list[str]:
        return list(self.manifest["recipes"])

    def artifact(self, recipe: str) -> Path:
        """The recipe's distilled set, for :func:`distillkit.artifact.load_synthetic`."""
        return self.file(recipe, ARTIFACT)

    def recipe_json(self, recipe: str) -> dict[str, Any]:
        """How the recipe's set was made and what it achieves."""
        described: dict[str, Any] = json.loads(self.file(recipe, RECIPE).read_bytes())
        return described

    def file(self, recipe: str, name: str) -> Path:
        if recipe not in self.recipes:
            raise ParamsError(
                f"package {self.name!r} has no recipe {recipe!r}{hint(recipe, self.recipes)}; "
                f"expected one of {', '.join(self.recipes)}"
            )
        return self.folder / recipe / name


def manifest_of(folder: Path, name: str, recipes: Sequence[str], default: str) -> Manifest:
    """The manifest of the files in ``folder``."""
    records = {path: FileRecord(sha256(folder / path), (folder / path).stat().st_size) for path in files_in(folder)}
    return Manifest(name, default, list(recipes), records)


def files_in(folder: Path) -> set[str]:
    """Paths in ``folder`` of all files (and links to folders) but the manifest and what the Hub adds."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in paths}
    return {name for name in names - {MANIFEST} if name.split("/")[0] not in FROM_THE_HUB}


def open_package(folder: Path) -> Package:
    """The package in ``folder``. Raises ArtifactError unless its files are exactly those of its manifest."""
    manifest = read_manifest(folder / MANIFEST)
    found, expected = files_in(folder), manifest.files.keys()
    if found != expected:
        problem = "lacks" if expected - found else "also holds"
        name = min(expected - found or found - expected)
        raise ArtifactError(f"{folder} {problem} {name}; expected the files of its {MANIFEST}; {AGAIN}")
    for name, record in manifest.files.items():
        size = (folder / name).stat().st_size
        if size != record.size:
            raise ArtifactError(f"{folder / name} has {size} bytes; expected {record.size}; {AGAIN}")
        if (digest := sha256(folder / name)) != record.sha256:
            raise ArtifactError(f"{folder / name} has SHA-256 {digest}; expected {record.sha256}; {AGAIN}")
    return Package(folder, asdict(manifest))


def read_manifest(path: Path) -> Manifest:
    """The manifest, once it is sure that it names no file outside its folder."""
    if not path.is_file():
        raise ArtifactError(f"{path.parent} has no {MANIFEST}; expected a package; {AGAIN}")
    try:
        manifest = TypeAdapter(Manifest).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ArtifactError(f"{path} is no manifest of a package ({where}: {problem['msg']}); {AGAIN}") from None
    for name in (manifest.name, *manifest.files):
        if not all(NAME.fullmatch(part) for part in name.split("/")):
            raise ArtifactError(f"{path} names {name!r}; expected plain names inside the package; {AGAIN}")
    needed = {CARD} | {f"{recipe}/{name}" for recipe in manifest.recipes for name in CONFIG_FILES}
    if absent := needed - manifest.files.keys():
        raise ArtifactError(f"{path} does not list {min(absent)}; expected every file of every recipe; {AGAIN}")
    if manifest.default not in manifest.recipes:
        raise ArtifactError(f"{path} has default {manifest.default!r}; expected one of its recipes; {AGAIN}")
    return manifest
