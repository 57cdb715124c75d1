"""The manifest of a package: every file with its size and checksum, and the only way to open a package."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from distillkit.base.arguments import check_package_folder
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.files import sha256
from distillkit.base.names import LONGEST, hint, is_plain
from distillkit.base.outside import UnreadableError, content, read_json
from distillkit.base.settings import settings
from distillkit.package.folders import CARD, CROISSANT, MANIFEST, files_in
from distillkit.process.progress import tell

T = TypeVar("T")
ARTIFACT, PARQUET = "distilled.safetensors", "train-00000-of-00001.parquet"
RECIPE, PREVIEW = "recipe.json", "preview.png"
AGAIN = "fetch the package again, or build it again"
TAKEN = (MANIFEST.casefold(), CARD.casefold(), CROISSANT, "default")  # the last is the config that datasets looks for
SUFFIXES = (".json", ".md", ".parquet", ".png", ".safetensors")  # data only: no code, nothing that is unpickled
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@settings
class FileRecord:
    sha256: Sha256
    size: Annotated[int, Field(ge=0)]


@settings
class Manifest:
    """What manifest.json holds: every other file of the package, by its path in it."""

    name: str
    default: str
    recipes: list[str]
    files: dict[str, FileRecord]
    format: Literal["distillkit-package/1"] = "distillkit-package/1"

    def files_of(self, recipes: Sequence[str]) -> set[str]:
        """The listed files of ``recipes``, and those of the whole package."""
        others = set(self.recipes) - set(recipes)
        return {name for name in self.files if name.split("/")[0] not in others}


class Accuracy(BaseModel):
    mean: Annotated[float, Field(ge=0, le=1)]
    std: Annotated[float, Field(ge=0, le=1)]
    runs: Annotated[int, Field(ge=1, le=1000)]


class Results(BaseModel):
    accuracy: Accuracy
    others: dict[str, "Results"] = Field(default_factory=dict)


class Images(BaseModel):
    total: int
    learned: int
    real: int


class Tested(BaseModel):
    images: Annotated[int, Field(ge=1)]
    sha256: Sha256


class Baseline(BaseModel):
    recipe: str
    accuracy: Accuracy


class RecipeRecord(BaseModel):
    """The fields that every recipe.json has, and the types of optional fields that are read."""

    name: str
    method: str
    params: dict[str, Any]
    class_names: list[str]
    images: Images
    results: Results
    evaluation: dict[str, Any]
    provenance: dict[str, Any]
    test: Tested
    baselines: dict[str, Baseline | None] = Field(default_factory=dict)


def checked(kind: type[T], path: Path, otherwise: str) -> T:
    """Read the JSON file strictly as ``kind``. Raises ArtifactError, saying that the file is ``otherwise``."""
    try:
        text = content(path)
        read_json(text)
        return TypeAdapter(kind).validate_json(text, strict=True)
    except UnreadableError as error:
        raise ArtifactError(f"{path} is {otherwise} ({error}); {AGAIN}") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = printable(".".join(map(str, problem["loc"])))
        raise ArtifactError(f"{path} is {otherwise} ({where}: {problem['msg']}); {AGAIN}") from None


def printable(text: str) -> str:
    """Text from outside, shortened, with escapes for characters that are not printable."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
    return shown if len(shown) <= 200 else f"{shown[:200]}…"


@dataclass(frozen=True)
class Package:
    """A package whose files match its manifest. ``recipes`` are the recipes that are in the folder."""

    folder: Path
    manifest: Manifest
    recipes: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.manifest.name

    def choose(self, recipe: str | None) -> str:
        """``recipe``, or the default one if None. If only another one is in this folder, print a line and take that.

        Raises ArtifactError if several others are.
        """
        chosen = recipe or self.manifest.default
        if recipe is not None or chosen in self.recipes:
            return chosen
        found = f"{self.folder} does not have the default recipe {chosen!r}"
        if len(self.recipes) > 1:
            raise ArtifactError(f"{found}; expected its files; pull it, or name one of {', '.join(self.recipes)}")
        tell(f"{found}; {self.recipes[0]!r} is used in its place")
        return self.recipes[0]

    @property
    def files(self) -> list[str]:
        """Paths in it that were checked."""
        return sorted(self.manifest.files_of(self.recipes))

    def artifact(self, recipe: str) -> Path:
        """The recipe's distilled set, for :func:`distillkit.data.files.artifact.load_synthetic`."""
        return self.file(recipe, ARTIFACT)

    def recipe_json(self, recipe: str) -> dict[str, Any]:
        """The content of the recipe's recipe.json."""
        return read_recipe_json(self.file(recipe, RECIPE))

    def file(self, recipe: str, name: str) -> Path:
        check_recipe(recipe, self.name, self.manifest.recipes)
        if recipe not in self.recipes:
            found = f"{self.folder} does not have the recipe {recipe!r}"
            raise ArtifactError(f"{found}; expected its files; pull it, or name one of {', '.join(self.recipes)}")
        return self.folder / recipe / name


def check_recipe(recipe: str, package: str, known: Sequence[str]) -> None:
    """Raise ParamsError unless ``recipe`` is known."""
    if recipe not in known:
        found = f"package {package!r} has no recipe {recipe!r}{hint(recipe, known)}"
        raise ParamsError(f"{found}; expected one of {', '.join(known)}")


def read_recipe_json(path: Path) -> dict[str, Any]:
    """Raises ArtifactError if required fields are missing."""
    checked(RecipeRecord, path, "no recipe.json of a package")
    return dict(read_json(content(path)))


def manifest_of(folder: Path, name: str, recipes: Sequence[str], default: str) -> Manifest:
    """The manifest of the files in ``folder``."""
    return Manifest(name, default, list(recipes), records_in(folder))


def records_in(folder: Path) -> dict[str, FileRecord]:
    """The files in ``folder`` by their paths in it."""
    files = {path: folder / path for path in files_in(folder)}
    return {path: FileRecord(sha256(file), file.stat().st_size) for path, file in files.items()}


def open_package(folder: Path, whole: bool = False) -> Package:
    """Open the package in ``folder``. Unless ``whole`` is true, whole recipes may be missing.

    Raises ArtifactError unless its files are exactly those of its manifest, with the same bytes.
    """
    check_package_folder(folder)
    manifest = read_manifest(folder / MANIFEST)
    found = files_in(folder)
    here = tuple(name for name in manifest.recipes if whole or any(path.startswith(f"{name}/") for path in found))
    if not here:
        raise ArtifactError(f"{folder} has no recipe; expected some of {', '.join(manifest.recipes)}; {AGAIN}")
    expected = manifest.files_of(here)
    if found != expected:
        problem, remedy = ("lacks", AGAIN) if expected - found else ("also holds", "move it out of the folder")
        name = min(expected - found or found - expected)
        raise ArtifactError(f"{folder} {problem} {name}; expected the files of its {MANIFEST}; {remedy}")
    for name in sorted(expected):
        check_file(folder / name, manifest.files[name])
    if CROISSANT in manifest.files:  # older packages have none
        check_croissant(folder / CROISSANT, manifest)
    return Package(folder, manifest, here)


def check_file(path: Path, record: FileRecord, shown: str | None = None) -> None:
    """Raise ArtifactError unless the file has this size and checksum; the message calls it ``shown``."""
    size, name = path.stat().st_size, shown or str(path)
    if size != record.size:
        raise ArtifactError(f"{name} has {size} bytes; expected {record.size}; {AGAIN}")
    if (digest := sha256(path)) != record.sha256:
        raise ArtifactError(f"{name} has SHA-256 {digest}; expected {record.sha256}; {AGAIN}")


def check_croissant(path: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless the croissant.json at ``path`` lists the manifest's other files with their SHA-256."""
    try:
        found = read_json(content(path))
    except UnreadableError as error:
        raise ArtifactError(f"{path} cannot be read ({error}); expected Croissant; do not use it") from None
    found = found if isinstance(found, Mapping) else {}
    files = found.get("distribution")
    listed = {
        str(file.get("contentUrl")): str(file.get("sha256"))
        for file in (files if isinstance(files, list) else ())
        if isinstance(file, Mapping)
    }
    expected = {file: record.sha256 for file, record in manifest.files.items() if file != CROISSANT}
    if found.get("name") != manifest.name:
        problem = f"it describes another package than {manifest.name!r}"
    elif different := sorted(expected.items() ^ listed.items()):
        problem = f"they differ in {different[0][0]!r}"
    else:
        return
    raise ArtifactError(f"{path} contradicts the manifest: {problem}; expected the same; do not use it")


def check_names(path: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless names in the manifest at ``path`` are plain and differ by more than case."""
    for name in (manifest.name, *manifest.recipes, *(part for file in manifest.files for part in file.split("/"))):
        if not is_plain(name):
            whole = next((file for file in manifest.files if name in file.split("/")), name)
            raise ArtifactError(f"{path} names {shown(whole)}; expected plain names inside the package; {AGAIN}")
    for what, names in (("recipes", manifest.recipes), ("files", manifest.files)):
        count = Counter(name.casefold() for name in names)
        if twice := [name for name in names if count[name.casefold()] > 1]:
            found = f"{path} has several {what} {shown(twice[0])}, ignoring case"
            raise ArtifactError(f"{found}; expected different names; {AGAIN}")
    if taken := [name for name in manifest.recipes if name.casefold() in TAKEN]:
        raise ArtifactError(f"{path} has a recipe {shown(taken[0])}, which is a reserved name; {AGAIN}")


def check_places(path: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless the manifest at ``path`` lists only data files in the places of a package."""
    for name in manifest.files:
        if not name.endswith(SUFFIXES):
            expected = f"expected data only ({', '.join(SUFFIXES)})"
            raise ArtifactError(f"{path} lists {shown(name)}; {expected}; do not use it")
        folder, slash, file = name.partition("/")
        if name not in (CARD, CROISSANT) and not (folder in manifest.recipes and slash and "/" not in file):
            expected = f"expected {CARD}, {CROISSANT} and <recipe>/<file> only"
            raise ArtifactError(f"{path} lists {shown(name)}; {expected}; do not use it")


def shown(name: str) -> str:
    return repr(name if len(name) <= LONGEST else f"{name[:LONGEST]}…")


def read_manifest(path: Path) -> Manifest:
    """The manifest. Raises ArtifactError unless it names only data files of its recipes, all inside its folder."""
    if not path.is_file():
        expected = "expected a package, as in a pipeline's artifacts/hub"
        raise ArtifactError(f"{path.parent} has no {MANIFEST}; {expected}; {AGAIN}")
    manifest = checked(Manifest, path, "no manifest of a package")
    check_names(path, manifest)
    needed = {CARD} | {
        f"{recipe}/{name}" for recipe in manifest.recipes for name in (ARTIFACT, PARQUET, RECIPE, PREVIEW)
    }
    if absent := needed - manifest.files.keys():
        raise ArtifactError(f"{path} does not list {min(absent)}; expected every file of every recipe; {AGAIN}")
    check_places(path, manifest)
    if manifest.default not in manifest.recipes:
        raise ArtifactError(f"{path} has default {shown(manifest.default)}; expected one of its recipes; {AGAIN}")
    return manifest
