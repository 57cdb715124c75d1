"""The manifest of a package: every file with its size and checksum, and the only way to open a package."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from distillkit.artifact import sha256
from distillkit.errors import ArtifactError, ParamsError
from distillkit.params import hint
from distillkit.settings import settings

T = TypeVar("T")
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
SUFFIXES = (".json", ".md", ".parquet", ".png", ".safetensors")  # data only: no code, nothing that is unpickled


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

    def files_of(self, recipes: Sequence[str]) -> set[str]:
        """The listed files without those of recipes other than ``recipes``."""
        others = set(self.recipes) - set(recipes)
        return {name for name in self.files if name.split("/")[0] not in others}


class Accuracy(BaseModel):
    mean: Annotated[float, Field(ge=0, le=1)]
    std: Annotated[float, Field(ge=0, le=1)]
    runs: Annotated[int, Field(ge=1)]


class Results(BaseModel):
    accuracy: Accuracy


class Images(BaseModel):
    total: int
    learned: int
    real: int


class RecipeRecord(BaseModel):
    """What every recipe.json says at least."""

    name: str
    method: str
    params: dict[str, Any]
    class_names: list[str]
    images: Images
    results: Results
    evaluation: dict[str, Any]
    provenance: dict[str, Any]


def checked(kind: type[T], path: Path, otherwise: str) -> T:
    """The JSON file as ``kind``, strictly. Raises ArtifactError, which says ``otherwise``."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes(), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"]))
        raise ArtifactError(f"{path} is {otherwise} ({where}: {problem['msg']}); {AGAIN}") from None


@dataclass(frozen=True)
class Package:
    """A package whose files have been checked against its manifest; of its recipes, ``recipes`` are here."""

    folder: Path
    manifest: Mapping[str, Any]
    recipes: tuple[str, ...]

    @property
    def name(self) -> str:
        return str(self.manifest["name"])

    @property
    def default(self) -> str:
        """The default recipe, or the first that is here when it is not."""
        default = str(self.manifest["default"])
        return default if default in self.recipes else self.recipes[0]

    @property
    def files(self) -> list[str]:
        """Paths in it that were checked."""
        absent = set(self.manifest["recipes"]) - set(self.recipes)
        return sorted(name for name in self.manifest["files"] if name.split("/")[0] not in absent)

    def artifact(self, recipe: str) -> Path:
        """The recipe's distilled set, for :func:`distillkit.artifact.load_synthetic`."""
        return self.file(recipe, ARTIFACT)

    def recipe_json(self, recipe: str) -> dict[str, Any]:
        """How the recipe's set was made and what it achieves. Raises ArtifactError when it does not say so."""
        path = self.file(recipe, RECIPE)
        checked(RecipeRecord, path, "no recipe.json of a package")
        described: dict[str, Any] = json.loads(path.read_bytes())
        return described

    def file(self, recipe: str, name: str) -> Path:
        check_recipe(recipe, self.name, self.manifest["recipes"])
        if recipe not in self.recipes:
            raise ArtifactError(
                f"{self.folder} has {', '.join(self.recipes)} only; expected {recipe!r} too; pull that recipe"
            )
        return self.folder / recipe / name


def check_recipe(recipe: str, package: str, known: Sequence[str]) -> None:
    """Raise ParamsError unless ``recipe`` is known."""
    if recipe not in known:
        raise ParamsError(
            f"package {package!r} has no recipe {recipe!r}{hint(recipe, known)}; expected one of {', '.join(known)}"
        )


def manifest_of(folder: Path, name: str, recipes: Sequence[str], default: str) -> Manifest:
    """The manifest of the files in ``folder``."""
    records = {path: record_of(folder / path) for path in files_in(folder)}
    return Manifest(name, default, list(recipes), records)


def record_of(path: Path) -> FileRecord:
    return FileRecord(sha256(path), path.stat().st_size)


def files_in(folder: Path) -> set[str]:
    """Paths in ``folder`` of all files (and links to folders) but the manifest and what the Hub adds."""
    paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in paths}
    return {name for name in names - {MANIFEST} if name.split("/")[0] not in FROM_THE_HUB}


def open_package(folder: Path, whole: bool = False) -> Package:
    """The package in ``folder``, of which whole recipes may be missing unless ``whole``.

    Raises ArtifactError unless its files are exactly those of its manifest, with the same bytes.
    """
    manifest = read_manifest(folder / MANIFEST)
    found = files_in(folder)
    here = tuple(name for name in manifest.recipes if whole or any(path.startswith(f"{name}/") for path in found))
    if not here:
        raise ArtifactError(f"{folder} has none of its recipes {', '.join(manifest.recipes)}; {AGAIN}")
    expected = manifest.files_of(here)
    if found != expected:
        problem = "lacks" if expected - found else "also holds"
        name = min(expected - found or found - expected)
        raise ArtifactError(f"{folder} {problem} {name}; expected the files of its {MANIFEST}; {AGAIN}")
    for name in sorted(expected):
        check_file(folder / name, manifest.files[name])
    return Package(folder, asdict(manifest), here)


def check_file(path: Path, record: FileRecord, shown: str | None = None) -> None:
    """Raise ArtifactError unless the file has this size and checksum; the message calls it ``shown``."""
    size, name = path.stat().st_size, shown or str(path)
    if size != record.size:
        raise ArtifactError(f"{name} has {size} bytes; expected {record.size}; {AGAIN}")
    if (digest := sha256(path)) != record.sha256:
        raise ArtifactError(f"{name} has SHA-256 {digest}; expected {record.sha256}; {AGAIN}")


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder``, itself empty or a package, when the block ends well."""
    if folder.exists() and not (folder.is_dir() and ((folder / MANIFEST).is_file() or not any(folder.iterdir()))):
        raise ArtifactError(
            f"{folder} exists and is no package; expected nothing or an earlier package there; "
            "remove it or choose another folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent) as temporary:
        built = Path(temporary, "new")
        built.mkdir()
        yield built
        if folder.exists():
            folder.rename(Path(temporary, "old"))
        built.rename(folder)


def read_manifest(path: Path) -> Manifest:
    """The manifest, once it is sure that it names no file outside its folder."""
    if not path.is_file():
        raise ArtifactError(f"{path.parent} has no {MANIFEST}; expected a package; {AGAIN}")
    manifest = checked(Manifest, path, "no manifest of a package")
    for name in (manifest.name, *manifest.recipes, *manifest.files):
        if not all(NAME.fullmatch(part) for part in name.split("/")):
            raise ArtifactError(f"{path} names {name!r}; expected plain names inside the package; {AGAIN}")
    for name in manifest.files:
        if not name.endswith(SUFFIXES):
            raise ArtifactError(f"{path} lists {name!r}; expected data only ({', '.join(SUFFIXES)}); do not use it")
    needed = {CARD} | {f"{recipe}/{name}" for recipe in manifest.recipes for name in CONFIG_FILES}
    if absent := needed - manifest.files.keys():
        raise ArtifactError(f"{path} does not list {min(absent)}; expected every file of every recipe; {AGAIN}")
    if manifest.default not in manifest.recipes:
        raise ArtifactError(f"{path} has default {manifest.default!r}; expected one of its recipes; {AGAIN}")
    return manifest
