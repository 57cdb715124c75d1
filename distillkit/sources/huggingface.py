"""Datasets that the library ``datasets`` reads, from the Hub or from a local folder.

A dataset is other people's data. Only labels and encoded images of its rows are read, and no path, URL or pattern in it
is followed to anything but the dataset's own files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from distillkit.base.errors import SourceError
from distillkit.base.outside import UnreadableError, content, read_yaml
from distillkit.data.origin import Found, SourceInfo, Tally, count
from distillkit.sources.failures import cannot_load, quiet
from distillkit.sources.folders import Files, composed, content_hash, files_in, is_made_by_system
from distillkit.sources.own_files import CARDS, Home, check_builder, check_card, home_of, picture_bytes
from distillkit.sources.pictures import MOST_NAMED, check_readable, is_picture, open_picture
from distillkit.sources.places import absent, check_complete, place_namer
from distillkit.sources.readers import (
    TEST_NAMES,
    TRAIN_NAMES,
    HuggingFaceSource,
    OpenedSource,
    Split,
    choice,
    folder_name,
    labelled,
    listed,
    option,
)

LABEL_COLUMNS = (
    *("label", "labels", "fine_label", "class", "classes", "class_id", "cls", "target", "targets", "category", "y"),
)
LABEL_TYPES = re.compile(r"u?int\d+|(large_)?string|bool")


def open_huggingface(source: HuggingFaceSource) -> OpenedSource:
    folder, files = Path(source.id).expanduser(), None
    if folder.is_dir():
        info = local_info(source, folder, files := files_in(folder))
        parts, read = load_parts(str(folder), source.config, content=info.revision.removeprefix("sha256:"))
    elif is_place(source.id):
        raise SourceError(f"no folder {source.id}; expected a folder or the id of a dataset; check data.source.id")
    else:
        info = hub_info(source)
        parts, read = load_parts(source.id, source.config, revision=info.revision)
        info = replace(info, revision=loaded_revision(info, parts))
    train, test = split_names(list(parts), source)
    check_complete([file for split in (train, test) if split for file in read.get(split, ())])
    home = home_of(source.id, info.revision.removeprefix("sha256:"))
    found = Found(train, test, left_out=unused(parts, {train, test}))
    if files is not None and parts[train].info.builder_name == "imagefolder":
        check_image_files(parts, folder, files, found.left_out)
    opened = huggingface_split("train", parts[train], source, home, train, read.get(train, ()))
    tested = huggingface_split("test", parts[test], source, home, test, read.get(test, ())) if test else None
    described = parts[train].info
    licence, citation = info.licence or described.license or "", described.citation or ""
    info = replace(info, licence=licence, citation=citation)
    return OpenedSource(opened, tested, info, found)


def is_place(id: str) -> bool:
    """Whether a dataset is one of this machine, even if there is nothing."""
    return id.startswith((".", "/", "~")) or Path(id).expanduser().exists()


def split_names(names: list[str], source: HuggingFaceSource) -> tuple[str, str | None]:
    """The splits to train and to test on; the latter is None if test images will be drawn from the training images."""
    train = choice(names, source.train_split, TRAIN_NAMES)
    if train is None:
        raise SourceError(f"splits are {listed(sorted(names))}; expected 'train'; set {option('train_split')}")
    if source.test_split is None:
        return train, None
    others = [name for name in names if name != train]
    return train, choice(others if source.test_split == "test" else names, source.test_split, TEST_NAMES)


def unused(parts: Any, used: set[str | None]) -> Tally:
    """The number of images in splits that are not used."""
    rest = {name: data.num_rows for name, data in parts.items() if name not in used}
    return {f"images in the split {name!r}": (rows, f"{name} row 0") for name, rows in rest.items() if rows}


def check_image_files(parts: Any, folder: Path, files: Files, left_out: Tally) -> None:
    """Count the pictures in ``folder`` that are in no row. Raises SourceError for rows that are system files."""
    root, read = folder.resolve(), set[Path]()
    for data in parts.values():
        for chunk in data.data.column("image").chunks if "image" in data.column_names else ():
            read |= {Path(path) for path in chunk.field("path").to_pylist() if path}
    for path in read:
        if path.is_relative_to(root) and any(map(is_made_by_system, path.relative_to(root).parts)):
            raise SourceError(f"{path} is a file of a system or an archive; expected images; remove it")
    for kept in files.kept:
        if root / kept not in read and is_picture(folder / kept):
            count(left_out, "images in no row of the dataset", kept.as_posix())
    for other, reason in files.others:
        count(left_out, reason, other.as_posix())


def local_info(source: HuggingFaceSource, folder: Path, files: Files) -> SourceInfo:
    """The description of a local folder: its name, a hash of its content as revision, and the licence from its
    README.
    """
    revision = content_hash(folder, files)
    if source.revision not in (None, revision):
        raise SourceError(f"{source.id} has revision {revision}; expected {source.revision}; set data.source.revision")
    return SourceInfo("huggingface", folder_name(source.id), revision, card_licence(front_matter(folder / "README.md")))


def hub_info(source: HuggingFaceSource) -> SourceInfo:
    """The commit and licence of a dataset on the Hub; offline, the given revision and no licence."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    homepage = f"https://huggingface.co/datasets/{source.id}"
    try:
        found = HfApi().dataset_info(source.id, revision=source.revision)
    except (HfHubHTTPError, HFValidationError) as error:
        raise cannot_load(source.id, error) from error
    except Exception:  # offline: the type of error depends on the HTTP library
        return SourceInfo("huggingface", source.id, source.revision or "", "", homepage)
    return SourceInfo("huggingface", source.id, found.sha or "", card_licence(found.card_data), homepage)


def front_matter(readme: Path) -> Any:
    """The metadata in a dataset's card; None without a card. Raises SourceError for invalid YAML."""
    try:
        text = content(readme) if readme.exists() else b""
        matter = re.match(rb"\s*---[ \t]*\r?\n(.*?)(^---[ \t]*\r?$)", text, re.DOTALL | re.MULTILINE)
        return read_yaml(matter[1]) if matter else None
    except UnreadableError as error:
        raise SourceError(f"{readme} has metadata that cannot be read ({error}); correct it, or remove it") from None


def card_licence(card: Any) -> str:
    """The licences in a card's metadata; entries that are not text are ignored."""
    found = card.get("license") if isinstance(card, Mapping) else getattr(card, "license", None)
    return ", ".join(part for part in (found if isinstance(found, list) else [found]) if isinstance(part, str))


def loaded_revision(info: SourceInfo, parts: Any) -> str:
    """The commit that was loaded, from the name of the cache folder. Offline, ``datasets`` may load another than
    requested.

    Raises SourceError if it is unknown or another one.
    """
    files = next(iter(parts.values())).cache_files
    folder = Path(files[0]["filename"]).parent.name if files else ""
    loaded = folder if re.fullmatch("[0-9a-f]{40}", folder) else info.revision
    if not loaded:
        raise SourceError(f"the revision of {info.id} is unknown while offline; connect, or set data.source.revision")
    if re.fullmatch("[0-9a-f]{40}", info.revision) and loaded != info.revision:
        raise SourceError(f"the cache holds {info.id} at {loaded}; expected {info.revision}; connect to fetch it")
    return loaded


def load_parts(
    id: str, config: str | None, revision: str = "", content: str = ""
) -> tuple[Any, Mapping[str, Sequence[str]]]:
    """The splits by name, a ``datasets.DatasetDict``, and the files of each.

    A local folder is cached by a hash of its ``content``. ``datasets`` itself identifies local files by path and time
    only, and would load old files for new ones with the same time.
    """
    import datasets

    cache = str(Path(datasets.config.HF_DATASETS_CACHE) / content) if content else None
    with quiet() as logged:
        try:
            for card in cards(id, revision):
                check_card(card)
            builder = datasets.load_dataset_builder(id, name=config, revision=revision or None, cache_dir=cache)
            check_builder(builder, home_of(id, content))
            builder.download_and_prepare()
            return builder.as_dataset(), builder.config.data_files or {}
        except Exception as error:  # its readers and its HTTP library raise errors of many types
            raise cannot_load(id, error, logged) from error


def cards(id: str, revision: str) -> Iterator[Path]:
    """The files that may list the dataset's data files; for a dataset on the Hub, those that are available."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    folder = Path(id).expanduser()
    for name in CARDS:
        if folder.is_dir():
            if (folder / name).exists():
                yield folder / name
            continue
        try:
            yield Path(hf_hub_download(id, name, repo_type="dataset", revision=revision or None))
        except EntryNotFoundError:  # its subclass is raised offline; then only data of an earlier load is available
            continue


def huggingface_split(
    name: str, data: Any, source: HuggingFaceSource, home: Home, own_name: str, files: Sequence[str]
) -> Split:
    """Encoded images are read row by row from the memory map. A chosen column of bytes or paths is read as images."""
    import datasets

    features = data.features
    image, label = image_column(features, source.image), label_column(features, source.label)
    try:
        encoded = data.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise unclear_column(features, "an image column", source.image, "image") from error
    column = encoded.data.column(image)  # in the memory map
    where = place_namer(own_name, files, column, home)
    check_readable(list(islice(absent(column, home, where), MOST_NAMED)))
    values, class_names = composed_labels(data[label][:], getattr(features[label], "names", None) or ())

    def encoded_at(row: int) -> bytes:
        return picture_bytes(column[row].as_py(), home)

    return labelled(name, values, class_names, lambda row: open_picture(encoded_at(row)), where, encoded_at)


def composed_labels(values: list[Any], names: Sequence[str]) -> tuple[list[Any], tuple[str, ...] | None]:
    """Labels, and the class names that they are indices of, each name in one Unicode form."""
    class_names = tuple(map(composed, names))
    if len(set(class_names)) < len(class_names):  # replace indices by names, because a name has several indices
        known = dict(enumerate(class_names))
        return [known.get(value, value) for value in values], None
    return [composed(value) if isinstance(value, str) else value for value in values], class_names or None


def image_column(features: Any, wanted: str | None) -> str:
    """``wanted``, or the only image column; if there are several, the one called image.

    If no column has the type Image, the only column of encoded bytes (with or without a path) is used.
    """
    images = [column for column, feature in features.items() if type(feature).__name__ == "Image"]
    images = images or [column for column, feature in features.items() if is_encoded(feature)]
    candidates = ["image"] if "image" in images else images
    if wanted not in features and (wanted or len(candidates) != 1):
        raise unclear_column(features, "an image column", wanted, "image")
    return wanted or candidates[0]


def is_encoded(feature: Any) -> bool:
    """Whether a column has bytes, or mappings of bytes and a path."""
    inner = feature.get("bytes") if isinstance(feature, dict) and feature.keys() <= {"bytes", "path"} else feature
    return str(getattr(inner, "dtype", "")) in ("binary", "large_binary")


def label_column(features: Any, wanted: str | None) -> str:
    """``wanted``, or the only ClassLabel column, or the only integer or string column with a usual name."""
    classes = [column for column, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    plain = [column for column in features if LABEL_TYPES.fullmatch(str(getattr(features[column], "dtype", "")))]
    candidates: list[str] = classes or [column for column in plain if column in LABEL_COLUMNS]
    if wanted is not None and wanted in (*classes, *plain):
        candidates = [wanted]
    if len(candidates) != 1 or wanted not in (None, *candidates):
        raise unclear_column(features, "one label column", wanted, "label")
    return candidates[0]


def unclear_column(features: Any, expected: str, wanted: str | None, setting: str) -> SourceError:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    found = ", ".join(f"{name} ({features[name].dtype if kind == 'Value' else kind})" for name, kind in kinds.items())
    asked = f"{wanted!r} as {expected}" if wanted else expected
    return SourceError(f"columns are {found}; expected {asked}; set {option(setting)}")
