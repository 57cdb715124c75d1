"""Checks that only a dataset's own files are opened, whatever its rows and its card say."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

from distillkit.base.errors import SourceError
from distillkit.sources.folders import ADDRESSED_BY_CONTENT

BUILDERS = (
    "arrow",
    "cache",
    "csv",
    "imagefolder",
    "json",
    "parquet",
    "text",
    "webdataset",
)  # these open only the given files
CARDS = ("README.md", ".huggingface.yaml")  # files that may list the dataset's data files
IN_ARCHIVE = re.compile(r"zip://(?P<inner>[^:]+)::(?P<archive>[^:]+)")
LARGEST = 2**28  # most bytes of a picture in an archive


class Home(NamedTuple):
    """The absolute folders of a dataset's own files; relative paths start at the first of ``places``.

    ``address`` is the prefix of files on the Hub before they are downloaded.
    """

    places: tuple[Path, ...]
    address: str = ""


def home_of(id: str, content: str) -> Home:
    """A local folder and its cache for this ``content``, or the Hub client's cache of a dataset."""
    import datasets
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    folder = Path(id).expanduser()
    if folder.is_dir():
        return Home((folder.resolve(), Path(datasets.config.HF_DATASETS_CACHE).resolve() / content))
    kept = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=id, repo_type="dataset")
    return Home((kept.resolve(),), f"hf://datasets/{id}@")


def own_file(path: str, home: Home) -> Path:
    """The regular file at ``path``. Raises SourceError if it is not one of the dataset's own."""
    if "://" not in path and "::" not in path:
        place = Path(os.path.normpath(home.places[0] / path))
        real = place.resolve()
        by_content = ADDRESSED_BY_CONTENT.search(real.as_posix()) is not None
        for own in home.places:
            if real.is_relative_to(own) or (by_content and place.is_relative_to(own)):
                if not real.exists() or not stat.S_ISREG(real.stat().st_mode):
                    raise SourceError(f"there is no file {path!r}")
                return real
    raise SourceError(f"its path {path!r} is not one of the dataset's own files")


def file_at(path: str | None, home: Home) -> tuple[Path, str]:
    """The dataset's file at the path of a cell, and the name of the image inside it if it is an archive."""
    if path is None:
        raise SourceError("it names no image")
    archived = IN_ARCHIVE.fullmatch(path)
    return own_file(archived["archive"] if archived else path, home), archived["inner"] if archived else ""


def picture_bytes(cell: Mapping[str, Any] | None, home: Home) -> bytes:
    """The encoded image in a cell: its bytes, or the content of the dataset's file at its path."""
    if cell is not None and cell["bytes"] is not None:
        return bytes(cell["bytes"])
    file, inner = file_at(None if cell is None else cell["path"], home)
    if not inner:
        return file.read_bytes()
    try:
        with ZipFile(file) as archive:
            if archive.getinfo(inner).file_size > LARGEST:
                raise SourceError(f"{inner!r} in its archive has more than {LARGEST:,} bytes")
            return archive.read(inner)
    except (BadZipFile, KeyError, NotImplementedError, RuntimeError) as error:  # damaged, or encrypted
        raise SourceError(f"{inner!r} is not in its archive ({error})") from None


def check_card(path: Path) -> None:
    """Raise SourceError if a card (or the YAML file in its place) lists data files outside the dataset."""
    from huggingface_hub import DatasetCard
    from ruamel.yaml import YAML

    if not stat.S_ISREG(path.stat().st_mode):
        raise SourceError(f"{path} is no regular file; expected one; remove it")
    if path.suffix == ".md":
        card = DatasetCard.load(path, ignore_metadata_errors=True).data.to_dict()
    else:
        card = YAML(typ="safe").load(path) or {}
    for pattern in data_files_of(card.get("configs")):
        parts = re.split(r"[/\\]", pattern)
        rooted = PurePosixPath(pattern).is_absolute() or PureWindowsPath(pattern).is_absolute()
        if rooted or ".." in parts or "~" in parts or "://" in pattern or "::" in pattern:
            raise SourceError(f"{path.name} names the data files {pattern!r}; expected the dataset's own; remove them")


def data_files_of(configs: Any) -> Iterator[str]:
    """All texts inside ``data_files`` and ``data_dir``."""
    if isinstance(configs, Mapping):
        for key, value in configs.items():
            yield from texts(value) if key in ("data_files", "data_dir") else data_files_of(value)
    elif isinstance(configs, list):
        for value in configs:
            yield from data_files_of(value)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Iterable):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts(part)


def check_builder(builder: Any, home: Home) -> None:
    """Raise SourceError unless ``datasets`` will read only the dataset's own files, with a reader that opens no
    others.
    """
    if builder.name not in BUILDERS:
        raise SourceError(f"it is of kind {builder.name!r}; expected one of {', '.join(BUILDERS)}")
    for files in (builder.config.data_files or {}).values():
        for path in files:
            if not (home.address and path.startswith(home.address)):
                own_file(path, home)
