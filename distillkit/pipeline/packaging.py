"""The ``package`` section of params.yaml: which recipes are packaged, and the publisher's statements."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from datetime import date
from typing import Any, cast

from distillkit.base import params
from distillkit.base.errors import ParamsError, check_sha256
from distillkit.base.names import check_package_name, check_recipe_names, hint
from distillkit.base.settings import settings
from distillkit.data.files.packed import Storage

URL = re.compile(r"https?://[^\s<>\"]+")
VERSION = re.compile(r"\d+\.\d+\.\d+")


@settings
class Rai:
    """The publisher's statements about the images, in sentences; None means no statement.

    They are shown in the card and, with the names of the Croissant RAI vocabulary, in croissant.json.
    """

    collection: str | None = None
    personal_information: str | None = None
    biases: str | None = None
    limitations: str | None = None
    uses: str | None = None
    social_impact: str | None = None
    maintenance: str | None = None


@settings
class Publication:
    """Where, by whom and when the package is published, if known. ``version`` is MAJOR.MINOR.PATCH."""

    url: str | None = None
    creators: tuple[str, ...] = ()
    published: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.url is not None and not URL.fullmatch(self.url):
            raise ParamsError(f"url is {self.url!r}; expected an address that begins with https://")
        if self.version is not None and not VERSION.fullmatch(self.version):
            raise ParamsError(f"version is {self.version!r}; expected three numbers, such as 1.0.0")
        try:
            date.fromisoformat(self.published or "2000-01-01")
        except ValueError:
            raise ParamsError(f"published is {self.published!r}; expected a day, such as 2026-11-28") from None


@settings
class PackageSpec:
    """The ``package`` section: the folder's name, the default recipe, and which recipes are packaged.

    Without ``recipes``, all recipes except the full set are packaged. ``storage`` is the type in which learned images
    are stored; networks are evaluated on images rounded to it. ``sign_offs`` are files of ``distillkit verify
    --sign-off``, each with its SHA-256, so that DVC notices changes.
    """

    name: str
    default: str
    recipes: tuple[str, ...] | None = None
    storage: Storage = "float32"
    publication: Publication = Publication()
    rai: Rai = Rai()
    sign_offs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path, sha256 in self.sign_offs.items():
            check_sha256(f"sign_offs.{path}", sha256, "as distillkit verify printed them")

    def chosen(self, recipes: Mapping[str, Any]) -> list[str]:
        if self.recipes is not None:
            return list(self.recipes)
        return [name for name, recipe in recipes.items() if recipe.get("method") != "full"]


def storage_in(data: Mapping[str, Any]) -> Storage:
    """How a package keeps learned images, float32 where nothing says so; networks are trained on images so rounded."""
    package = params.section(data, "package", dict) if "package" in data else {}
    found: Storage = params.read(package.get("storage", "float32"), cast(Any, Storage), "package.storage")
    return found


def check_package(name: str, default: str, packaged: Sequence[str], known: Collection[str]) -> None:
    """Raise ParamsError unless the package's name is valid and it has only ``known`` recipes, including the default."""
    check_package_name(name)
    check_recipe_names(packaged)
    for recipe in packaged:
        if recipe not in known:
            raise ParamsError(
                f"recipe {recipe!r} should be packaged, but does not exist{hint(recipe, known)}; "
                f"expected some of {', '.join(known)}"
            )
    if len(set(packaged)) != len(packaged):
        raise ParamsError(f"recipes to package are {', '.join(packaged)}; expected each once; remove duplicates")
    if default not in packaged:
        meant = "" if default in known else hint(default, packaged)
        raise ParamsError(
            f"the default recipe is {default!r}, which is not packaged{meant}; "
            f"expected one of {', '.join(packaged) or 'the packaged recipes, but there are none'}"
        )
