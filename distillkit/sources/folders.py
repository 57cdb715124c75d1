"""Images in folders: which files are used, which folder is which split, and one folder for each class."""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import NamedTuple

from distillkit.base.errors import SourceError
from distillkit.data.origin import Found, SourceInfo, count
from distillkit.sources.pictures import is_picture, open_picture, suffixes
from distillkit.sources.readers import (
    TEST_NAMES,
    TRAIN_NAMES,
    FolderSource,
    HuggingFaceSource,
    OpenedSource,
    Source,
    Split,
    choice,
    folder_name,
    labelled,
    listed,
    option,
)

MADE_BY_SYSTEMS = {  # files and folders of archives, NAS, Windows and Python; also names that begin with a dot
    *("__macosx", "__pycache__", "@eadir", "@__thumb", "#recycle", "#snapshot", "$recycle.bin", "lost+found"),
    *("system volume information", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
}
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
ADDRESSED_BY_CONTENT = re.compile(r"/([0-9a-f]{2}/[0-9a-f]{30}|blobs/[0-9a-f]{40,64})$")  # DVC's cache, and the Hub's


class Files(NamedTuple):
    """Paths relative to a folder, sorted: regular files that are used, and other files with the reason why they are
    not.
    """

    kept: list[Path]
    others: list[tuple[Path, str]]


def is_made_by_system(name: str) -> bool:
    return name.startswith(".") or name.casefold() in MADE_BY_SYSTEMS


def files_in(folder: Path, follow_links: bool = False) -> Files:
    """All files below ``folder``. System folders are not searched.

    Raises SourceError for a link that is broken, circular or leads out of the folder, and for a name that is not UTF-8.
    """
    root, kept, others = folder.resolve(), [], []
    for parent, folders, names in os.walk(folder, followlinks=True):
        here, is_file = Path(parent).relative_to(folder), dict.fromkeys(folders, False) | dict.fromkeys(names, True)
        for name in is_file:
            check_text(path := Path(parent, name))
            if is_made_by_system(name):
                others.append((here / name, "files or folders hidden or made by a system"))
                continue
            if path.is_symlink():
                check_link(path, root, follow_links)
            if is_file[name] and stat.S_ISREG(path.stat().st_mode):
                kept.append(here / name)
            elif is_file[name]:
                others.append((here / name, "pipes and other files that are not regular"))
        folders[:] = [name for name in folders if not is_made_by_system(name)]
    return Files(sorted(kept, key=Path.as_posix), sorted(others))


def check_text(path: Path) -> None:
    """Raise SourceError for a name that is not UTF-8, which artifacts, cards and params.yaml cannot contain."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise SourceError(f"the name of {path} is not UTF-8; expected UTF-8 for files and classes; rename it") from None


def check_link(path: Path, root: Path, follow_links: bool = False) -> None:
    """Raise SourceError unless a link leads to a path in ``root``, or to a file in a cache that is named by its
    hash.
    """
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise SourceError(f"{path} is a link to nothing; expected a file; restore or remove it") from None
    if path.parent.resolve().is_relative_to(target):
        raise SourceError(f"{path} is a link to a folder that contains it; expected a file; remove it")
    if not (follow_links or target.is_relative_to(root) or ADDRESSED_BY_CONTENT.search(target.as_posix())):
        raise SourceError(
            f"{path} is a link out of its folder; expected files in it; copy them there, or, for folders of classes, "
            "set data.source.follow_links, or init's --follow-links"
        )


def content_hash(folder: Path, files: Files) -> str:
    """SHA-256 of the lines that ``sha256sum`` would print for the files, with relative paths."""
    lines = hashlib.sha256()
    for path in files.kept:
        with (folder / path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.update(f"{digest}  ".encode() + os.fsencode(path.as_posix()) + b"\n")
    return f"sha256:{lines.hexdigest()}"


def open_folder(source: FolderSource, hashed: bool = True) -> OpenedSource:
    """The splits in a folder of images. Unless they are ``hashed``, the source has no revision."""
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise SourceError(
            f"no folder {source.path}; expected one folder of images for each class; check data.source.path"
        )
    files = files_in(folder, source.follow_links)
    check_classes_are_folders(folder, files)
    train, test = split_folders(source, folder)
    info = SourceInfo("folder", folder_name(source.path), content_hash(folder, files) if hashed else "", "")
    found = Found("train" if train == "." else train, test)
    for path in files.kept if "." not in (train, test) else ():
        if path.parts[0] not in (train, test) and path.suffix.lower() in suffixes():
            count(found.left_out, "images outside the splits in use", path.as_posix())
    for path, reason in files.others:
        count(found.left_out, reason, path.as_posix())
    opened = folder_split("train", folder, train, test, files.kept, found)
    tested = folder_split("test", folder, test, None, files.kept, found) if test else None
    return OpenedSource(opened, tested, info, found)


def check_classes_are_folders(folder: Path, files: Files) -> None:
    """Raise SourceError for labels in a metadata file, in a folder or split without class folders."""
    for path in (path for path in files.kept if path.name in METADATA):
        below, name = subfolders(folder / path.parent), path.parent.name.casefold()
        if name in ("", *TRAIN_NAMES, *TEST_NAMES) and len(below) < 2 and not any(map(subfolders, below)):
            found = f"{folder / path} stands in place of class folders; expected a folder for each class"
            remedy = "write kind: huggingface and id: in place of kind: folder and path: in data.source"
            raise SourceError(f"{found}; for the labels of {path.name}, {remedy}")


def split_folders(source: FolderSource, folder: Path) -> tuple[str, str | None]:
    """The folders that contain the class folders of training and test images; "." is ``folder`` itself.

    Raises SourceError when folders can be either splits or classes.
    """
    names = [path.name for path in subfolders(folder)]
    nested = [name for name in names if subfolders(folder / name)]
    train = "." if source.train_split == "." else choice(nested, source.train_split, TRAIN_NAMES)
    rest = [name for name in nested if name != train]
    if source.test_split is None or (train == "." and source.test_split == "test"):
        return train or ".", None
    test = choice(rest, source.test_split, TEST_NAMES)
    if train is None and test is not None:
        raise SourceError(
            f"{source.path} has {test!r} but no 'train' with class folders; expected train/<class>/ beside it; rename "
            f"the folders, or set {option('train_split')}: a folder's name, or . if {test!r} is a class"
        )
    alike = [[name for name in names if set(words(name)) & set(usual)] for usual in (TRAIN_NAMES, TEST_NAMES)]
    if train is None and all(alike):
        raise SourceError(
            f"{listed([*alike[0], *alike[1]])} in {source.path} could be splits or classes; expected, as splits, a "
            "folder for each class, or kind: huggingface and a metadata.csv that names the labels; say which: set "
            f"{option('train_split')}: {alike[0][0]!r} with {option('test_split')}, or . for classes"
        )
    return train or ".", test


def words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.casefold())


def folder_split(name: str, folder: Path, part: str, test: str | None, kept: list[Path], found: Found) -> Split:
    """The images in the class folders in ``part`` of ``folder``. Images in nested folders belong to the class above.

    Files that are left out are added to ``found``.
    """
    depth = len(PurePath(part).parts)
    inside = [path for path in kept if (path.parts[0] != test if part == "." else path.is_relative_to(part))]
    class_names = classes_in(folder / part, test if part == "." else None, found)
    pictures = []
    for path in inside:
        loose = len(path.parts) == depth + 1
        if is_picture(folder / path):
            pictures.append(path)
            if loose:
                where = f"{folder / path} is not in the folder of a class"
                raise SourceError(f"{where}; expected every image inside one; move or remove it")
        elif path.name in METADATA:
            count(found.left_out, "metadata files, because folders name the classes", path.as_posix())
        else:
            count(found.left_out, "files that are not images in a supported format", path.as_posix())
    position = {class_name: label for label, class_name in enumerate(class_names)}
    return labelled(
        name,
        [position[composed(path.parts[depth])] for path in pictures],
        class_names,
        read=lambda row: open_picture((folder / pictures[row]).read_bytes()),
        where=lambda row: pictures[row].as_posix(),
        encoded=lambda row: (folder / pictures[row]).read_bytes(),
    )


def classes_in(folder: Path, other: str | None, found: Found) -> tuple[str, ...]:
    """The names of the class folders, each in one Unicode form; ``other`` is not a class."""
    names: dict[str, str] = {}
    for path in subfolders(folder):
        if path.name == other:
            continue
        if (name := composed(path.name)) in names:
            count(found.notes, "folders used as one class, because their names differ only in Unicode form", name)
        names[name] = path.name
    if not names:
        raise SourceError(
            f"{folder} has no folders; expected one for each class; restore them, or check data.source.path"
        )
    return tuple(sorted(names))


def composed(name: str) -> str:
    """A name in Unicode form NFC, which has one character for a letter with its accent."""
    return unicodedata.normalize("NFC", name)


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_made_by_system(path.name))


# While they are read


@contextmanager
def unchanged(source: Source) -> Iterator[None]:
    """Raise SourceError at the end where a file of a local folder has been added, removed or written to meanwhile."""
    if (folder := folder_of(source)) is None:
        yield
        return
    before = state_of(folder)
    yield
    if state_of(folder) != before:
        found = f"files in {folder} were added, removed or changed while they were read"
        raise SourceError(f"{found}; expected the same files until the end; run it again when nothing writes there")


def folder_of(source: Source) -> Path | None:
    """The folder on this machine that a source names, if it names one."""
    if not isinstance(source, FolderSource | HuggingFaceSource):
        return None
    folder = Path(source.path if isinstance(source, FolderSource) else source.id).expanduser()
    return folder if folder.is_dir() else None


def state_of(folder: Path) -> tuple[int, int]:
    """The number of files, and a sum over their names, sizes and times, which differs where any of them does.

    A sum, because a list of a million names would take hundreds of megabytes. Files that systems make do not count.
    """
    files = total = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_made_by_system(name)]
        for name in names:
            if is_made_by_system(name):
                continue
            with suppress(OSError):  # it has gone meanwhile
                status = (path := Path(parent, name)).stat()
                files, total = files + 1, total + hash((path, status.st_size, status.st_mtime_ns))
    return files, total
