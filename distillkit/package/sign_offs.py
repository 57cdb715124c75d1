"""Sign-offs: small JSON files that say who trained on a set again, when and where, and with what result.

A sign-off is about one recipe. It names the set by the SHA-256 of ``distilled.safetensors``, and the claim by accuracy,
evaluation recipe and test images, so it stays valid when the card or another recipe changes. It does not prove who
wrote it; a signature ``NAME.json.sig`` beside it, made by ``ssh-keygen -Y sign -n distillkit``, does.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from distillkit.base.errors import ArtifactError
from distillkit.base.files import sha256
from distillkit.base.outside import content, read_json
from distillkit.package.folders import SIGN_OFF, SIGN_OFFS, sign_offs_in
from distillkit.package.manifest import ARTIFACT, RECIPE, Accuracy, Package, Sha256, Tested, checked, printable
from distillkit.process.progress import tell

SIGNATURE = ".sig"
LARGEST, MOST = 2**16, 200  # bytes of a file, files of a package
Line = Annotated[str, Field(max_length=200)]


class Claim(BaseModel):
    accuracy: Accuracy
    evaluation: dict[str, Any]
    test: Tested


class Finding(BaseModel):
    accuracy: Accuracy
    seed: int
    same_test_images: bool


class Signed(BaseModel):
    name: Line
    manifest_sha256: Sha256


class SignOff(BaseModel):
    """The content of the file. ``match`` says whether the claim held within ``tolerance``, a fraction from 0 to 1."""

    format: Literal["distillkit-sign-off/1"]
    package: Signed
    recipe: Line
    set_sha256: Sha256
    claim: Claim
    found: Finding
    tolerance: Annotated[float, Field(ge=0, le=1)]
    match: bool
    by: Line
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    machine: dict[str, Line]
    versions: dict[str, Line]


@dataclass(frozen=True)
class Filed:
    """A sign-off and its file; ``signed`` says whether there is a signature beside it, which is not checked here."""

    path: Path
    sign_off: SignOff
    signed: bool

    @property
    def by(self) -> str:
        return printable(self.sign_off.by)


def read_sign_off(path: Path) -> Filed:
    """Raises ArtifactError if the file is no sign-off."""
    if not path.is_file():
        raise ArtifactError(f"{path} does not exist; expected a file of distillkit verify --sign-off; correct the path")
    return Filed(path, checked(SignOff, path, "no sign-off"), path.with_name(path.name + SIGNATURE).is_file())


def filed_in(folder: Path) -> list[Filed]:
    """The sign-offs beside a package, sorted by name. Other files are left out with a warning."""
    found = []
    for name in [name for name in sign_offs_in(folder) if not name.endswith(SIGNATURE)][:MOST]:
        try:
            found.append(read_sign_off(folder / name))
        except ArtifactError as error:
            tell(f"warning: {str(error).rpartition('; ')[0]}; it is left out")
    return found


def covers(sign_off: SignOff, record: Mapping[str, Any], set_sha256: str) -> bool:
    """Whether the sign-off is about exactly this set and the present claim of its recipe.json."""
    claim = sign_off.claim
    return (
        sign_off.set_sha256 == set_sha256
        and claim.accuracy == Accuracy.model_validate(record["results"]["accuracy"])
        and claim.evaluation == record["evaluation"]
        and claim.test == Tested.model_validate(record["test"])
    )


def covered(package: Package, filed: Filed) -> bool:
    """Whether a sign-off is about a recipe of this package."""
    name = filed.sign_off.recipe
    if name not in package.recipes:
        return False
    return covers(filed.sign_off, package.recipe_json(name), package.manifest.files[f"{name}/{ARTIFACT}"].sha256)


def given(name: str, expected: str) -> Filed:
    """A sign-off in params.yaml. Raises ArtifactError if its SHA-256 is another."""
    filed = read_sign_off(Path(name))
    if (found := sha256(filed.path)) != expected:
        raise ArtifactError(f"{name} has SHA-256 {found}; package.sign_offs expects {expected}; correct it there")
    if not SIGN_OFF.fullmatch(filed.path.name):
        raise ArtifactError(f"{name} is not a valid file name on every system; use letters, digits, - and _")
    return filed


def filed_with(built: Path, files: Mapping[str, str], recipes: Sequence[str]) -> list[Filed]:
    """Copy the sign-offs about these recipes into the package ``built``. Others are left out with a warning."""
    sets = {
        name: (read_json(content(built / name / RECIPE)), sha256(built / name / ARTIFACT)) for name in recipes if files
    }
    kept = []
    for filed in [given(name, expected) for name, expected in files.items()]:
        if (own := sets.get(filed.sign_off.recipe)) is None or not covers(filed.sign_off, *own):
            tell(f"warning: {filed.path} is about another set or claim than this package has; it is left out")
            continue
        (built / SIGN_OFFS).mkdir(exist_ok=True)
        for name in (filed.path.name, *([filed.path.name + SIGNATURE] if filed.signed else [])):
            shutil.copyfile(filed.path.with_name(name), built / SIGN_OFFS / name)
        kept.append(filed)
    return kept
