"""The kinds of source, and how each is opened: into labelled splits whose images are not decoded yet."""

import hashlib
import inspect
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distillkit.errors import SourceError
from distillkit.images import SourceInfo
from distillkit.outside import UnreadableError, content, read_yaml
from distillkit.settings import keyword_settings

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
TEST_FOLDERS = ("test", "val", "valid", "validation")
LABEL_COLUMNS = ("label", "labels", "fine_label", "class", "classes", "target", "targets", "category", "y")
LABEL_TYPES = re.compile(r"u?int\d+|(large_)?string|bool")
TORCHVISION_EXAMPLES = "CIFAR10, CIFAR100, MNIST, FashionMNIST, KMNIST, SVHN, STL10, GTSRB, DTD or Imagenette"


@keyword_settings
class DigitsSource:
    """The 1,797 grey 8x8 digits that scikit-learn carries: the test part of UCI's optical digits, never revised."""

    kind: Literal["digits"] = "digits"


@keyword_settings
class HuggingFaceSource:
    """A dataset of the Hub, or a local folder that ``datasets.load_dataset`` reads; columns are found if not named.

    ``revision`` is a commit, tag or branch; for a local folder, the content hash that it must have.
    """

    kind: Literal["huggingface"] = "huggingface"
    id: str
    revision: str | None = None
    config: str | None = None
    image: str | None = None
    label: str | None = None
    train_split: str = "train"
    test_split: str | None = "test"


@keyword_settings
class FolderSource:
    """Images in ``path/train/<class>/`` and ``path/test/<class>/`` (or val), or in ``path/<class>/`` alone."""

    kind: Literal["folder"] = "folder"
    path: str


@keyword_settings
class TorchvisionSource:
    """A torchvision classification dataset with a ``train`` or a ``split`` argument, by class name."""

    kind: Literal["torchvision"] = "torchvision"
    name: str
    root: str = "data/torchvision"
    download: bool = True


Source = DigitsSource | HuggingFaceSource | FolderSource | TorchvisionSource


@dataclass(frozen=True)
class Split:
    """Labelled images that are not decoded: ``read`` opens the image of a source row, ``where`` names it."""

    name: str
    labels: Tensor
    class_names: tuple[str, ...]
    rows: Tensor
    read: Callable[[int], Image.Image]
    where: Callable[[int], str]

    def take(self, chosen: Tensor) -> "Split":
        """The rows of the boolean mask ``chosen``, in source order."""
        return replace(self, labels=self.labels[chosen], rows=self.rows[chosen])

    def counts(self) -> dict[str, int]:
        """Images of each class."""
        counts = torch.bincount(self.labels, minlength=len(self.class_names)).tolist()
        return dict(zip(self.class_names, counts, strict=True))


class Opened(NamedTuple):
    """What a source yields; ``test`` is None where it has no test split."""

    train: Split
    test: Split | None
    info: SourceInfo


def open_source(source: Source) -> Opened:
    match source:
        case DigitsSource():
            return open_digits()
        case HuggingFaceSource():
            return open_huggingface(source)
        case FolderSource():
            return open_folder(source)
        case TorchvisionSource():
            return open_torchvision(source)


def labelled(
    name: str,
    values: Sequence[Any],
    class_names: tuple[str, ...] | None,
    read: Callable[[int], Image.Image],
    where: Callable[[int], str] | None = None,
) -> Split:
    """A split from raw labels: positions in ``class_names``, or values whose sorted distinct ones are the classes."""
    where = where or (lambda row: f"{name} row {row}")
    if not values:
        raise SourceError(f"the {name} split holds no images; expected at least one of each class; check data.source")
    for row, value in enumerate(values):
        if value in (None, -1, ""):
            raise SourceError(
                f"{where(row)} has no label ({value!r}); expected one for every image; remove it or use another split"
            )
        if class_names is not None and not 0 <= value < len(class_names):
            raise SourceError(
                f"{where(row)} has label {value}; expected 0 to {len(class_names) - 1} for {len(class_names)} classes; "
                "correct the label or the class names"
            )
    found = range(len(class_names)) if class_names is not None else sorted(set(values))
    position = {value: label for label, value in enumerate(found)}
    labels = torch.tensor([position[value] for value in values], dtype=torch.int64)
    return Split(name, labels, class_names or tuple(map(str, found)), torch.arange(len(labels)), read, where)


def open_digits() -> Opened:
    """Grey levels 0 to 16 become 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    names = tuple(str(digit) for digit in range(10))
    info = SourceInfo(
        kind="digits",
        id="scikit-learn/digits",
        revision="uci-optdigits-test",
        licence="cc-by-4.0",
        homepage="https://doi.org/10.24432/C50P49",
        citation="E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. "
        "UCI Machine Learning Repository, 1998. https://doi.org/10.24432/C50P49",
    )
    train = labelled("train", digits.target.tolist(), names, lambda row: Image.fromarray(images[row]))
    return Opened(train, None, info)


def open_folder(source: FolderSource) -> Opened:
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        raise SourceError(f"no folder {source.path}; expected one folder of images a class; check data.source.path")
    nested = [path.name for path in subfolders(folder) if subfolders(path)]
    info = SourceInfo("folder", folder_name(source.path), content_hash(folder), "")
    if "train" not in nested:
        if split_names := sorted({name for name in nested if name.lower() in ("train", *TEST_FOLDERS)}):
            raise SourceError(
                f"{source.path} has {listed(split_names)} but no 'train' with class folders; "
                "expected train/<class>/ beside it; rename the folders"
            )
        return Opened(folder_split("train", folder), None, info)
    test = next((name for name in TEST_FOLDERS if name in nested), None)
    return Opened(folder_split("train", folder / "train"), folder_split("test", folder / test) if test else None, info)


def folder_split(name: str, folder: Path) -> Split:
    """The images in the folders below ``folder``, one folder a class; nested folders belong to the class above."""
    class_names = tuple(path.name for path in subfolders(folder))
    if not class_names:
        raise SourceError(f"{folder} has no folders; expected one folder of images a class; check data.source.path")
    loose = [path for path in sorted(folder.iterdir()) if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES]
    if loose:
        raise SourceError(
            f"{loose[0]} lies beside the folders of the classes; expected every image inside one; move or remove it"
        )
    position = {class_name: label for label, class_name in enumerate(class_names)}
    relative = [path.relative_to(folder) for path in files_under(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
    files = [path for path in relative if len(path.parts) > 1]
    values = [position[path.parts[0]] for path in files]
    return labelled(
        name,
        values,
        class_names,
        read=lambda row: Image.open(BytesIO((folder / files[row]).read_bytes())),
        where=lambda row: str(folder / files[row]),
    )


def open_torchvision(source: TorchvisionSource) -> Opened:
    import torchvision

    factory = getattr(torchvision.datasets, source.name, None)
    accepted = inspect.signature(factory).parameters.keys() if inspect.isclass(factory) else set()
    parts: tuple[dict[str, Any], dict[str, Any]] = {"train": True}, {"train": False}
    if "train" not in accepted:
        parts = {"split": "train"}, {"split": "val" if source.name == "Imagenette" else "test"}
    if factory is None or not accepted >= {"root", *parts[0]}:
        raise SourceError(
            f"torchvision has no classification dataset {source.name!r} in a train and a test part; "
            f"expected one like {TORCHVISION_EXAMPLES}; set data.source.name"
        )
    train = torchvision_split(factory, source, "train", parts[0])
    test = torchvision_split(factory, source, "test", parts[1])
    homepage = f"https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.{source.name}.html"
    version = torchvision.__version__.partition("+")[0]
    return Opened(train, test, SourceInfo("torchvision", source.name, f"torchvision-{version}", "", homepage))


def torchvision_split(factory: Any, source: TorchvisionSource, name: str, part: dict[str, Any]) -> Split:
    try:
        data = factory(root=source.root, download=source.download, **part)
        values = [int(label) for label in torchvision_labels(data)]
        titles = getattr(data, "classes", None) or range(max(values) + 1)
    except Exception as error:  # downloads, archives and checks of arguments raise errors of every kind
        raise SourceError(
            f"torchvision's {source.name} cannot be loaded from {source.root} ({brief(error)}); expected one image and "
            f"one class a row; check data.source.root and the connection, or choose one like {TORCHVISION_EXAMPLES}"
        ) from error
    class_names = tuple(title[0] if isinstance(title, tuple) else str(title) for title in titles)
    return labelled(name, values, class_names, read=lambda row: data[row][0])


def torchvision_labels(data: Any) -> Iterable[Any]:
    """The labels, without decoding images where the dataset keeps them: each keeps them in its own way."""
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(data, attribute):
            return getattr(data, attribute)  # type: ignore[no-any-return]
    if hasattr(data, "_samples"):
        return (label for _, label in data._samples)
    return (data[row][1] for row in range(len(data)))


def open_huggingface(source: HuggingFaceSource) -> Opened:
    folder = Path(source.id).expanduser()
    if folder.is_dir():
        info = local_info(source, folder)
        parts = load_parts(str(folder), source.config, content=info.revision.removeprefix("sha256:"))
    elif folder.exists() or source.id.startswith((".", "/", "~")):
        raise SourceError(f"no folder {source.id}; expected a folder or the id of a dataset; check data.source.id")
    else:
        info = hub_info(source)
        parts = load_parts(source.id, source.config, revision=info.revision)
        info = replace(info, revision=settled_revision(info, parts))
    for option, name in (("train_split", source.train_split), ("test_split", source.test_split or "test")):
        if name not in parts and name != "test":
            raise SourceError(f"splits are {listed(sorted(parts))}; expected {name!r}; set data.source.{option}")
    train = huggingface_split("train", parts[source.train_split], source)
    test = huggingface_split("test", parts[source.test_split], source) if source.test_split in parts else None
    described = parts[source.train_split].info
    licence, citation = info.licence or described.license or "", described.citation or ""
    return Opened(train, test, replace(info, licence=licence, citation=citation))


def local_info(source: HuggingFaceSource, folder: Path) -> SourceInfo:
    """A local folder is known by its name and its content; the licence is in its README."""
    revision = content_hash(folder)
    if source.revision not in (None, revision):
        raise SourceError(f"{source.id} has revision {revision}; expected {source.revision}; set data.source.revision")
    return SourceInfo("huggingface", folder_name(source.id), revision, card_licence(front_matter(folder / "README.md")))


def hub_info(source: HuggingFaceSource) -> SourceInfo:
    """The commit and the licence of a dataset on the Hub; offline, the given revision and no licence."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    homepage = f"https://huggingface.co/datasets/{source.id}"
    try:
        found = HfApi().dataset_info(source.id, revision=source.revision)
    except (HfHubHTTPError, HFValidationError) as error:
        raise cannot_load(source.id, error) from error
    except Exception:  # offline: which error says so depends on the HTTP library beneath
        return SourceInfo("huggingface", source.id, source.revision or "", "", homepage)
    return SourceInfo("huggingface", source.id, found.sha or "", card_licence(found.card_data), homepage)


def front_matter(readme: Path) -> Any:
    """The metadata of a dataset's card, None without one. Raises SourceError for what is no YAML."""
    try:
        text = content(readme) if readme.exists() else b""
        matter = re.match(rb"\s*---[ \t]*\r?\n(.*?)(^---[ \t]*\r?$)", text, re.DOTALL | re.MULTILINE)
        return read_yaml(matter[1]) if matter else None
    except UnreadableError as error:
        raise SourceError(f"{readme} has metadata that cannot be read ({error}); correct it, or remove it") from None


def card_licence(card: Any) -> str:
    """The licences that a card's metadata name, and nothing for what are none."""
    found = card.get("license") if isinstance(card, Mapping) else getattr(card, "license", None)
    return ", ".join(part for part in (found if isinstance(found, list) else [found]) if isinstance(part, str))


def settled_revision(info: SourceInfo, parts: Any) -> str:
    """The commit that was loaded, as the cache folder is named; offline, ``datasets`` may load another than asked."""
    files = next(iter(parts.values())).cache_files
    folder = Path(files[0]["filename"]).parent.name if files else ""
    loaded = folder if re.fullmatch("[0-9a-f]{40}", folder) else info.revision
    if not loaded:
        raise SourceError(f"the revision of {info.id} is unknown while offline; connect, or set data.source.revision")
    if re.fullmatch("[0-9a-f]{40}", info.revision) and loaded != info.revision:
        raise SourceError(f"the cache holds {info.id} at {loaded}; expected {info.revision}; connect to fetch it")
    return loaded


def load_parts(id: str, config: str | None, revision: str = "", content: str = "") -> Any:
    """The splits by name, a ``datasets.DatasetDict``; a local folder is cached by its ``content``.

    By itself ``datasets`` knows local files by path and time only, and would load the old ones for others of that time.
    """
    import datasets

    cache = str(Path(datasets.config.HF_DATASETS_CACHE) / content) if content else None
    with quiet_unless_terminal():
        try:
            return datasets.load_dataset(id, name=config, revision=revision or None, cache_dir=cache)
        except Exception as error:  # its readers and its HTTP library raise errors of every kind
            raise cannot_load(id, error) from error


def cannot_load(id: str, error: Exception) -> SourceError:
    if Path(id).is_dir():
        expected = "expected a folder of images, parquet or other data files; check them and data.source.config"
    else:
        expected = "expected a folder or a dataset of the Hub; check data.source.id, data.source.config and the "
        expected += "connection, or run `hf auth login` if it is private or gated"
    return SourceError(f"{id!r} cannot be loaded ({brief(error)}); {expected}")


@contextmanager
def quiet_unless_terminal() -> Iterator[None]:
    """Hide the progress bars of datasets and huggingface_hub while stderr is no terminal."""
    import datasets
    from huggingface_hub import utils

    shown = [library for library in (datasets, utils) if not library.are_progress_bars_disabled()]
    hidden = [] if sys.stderr.isatty() else shown
    for library in hidden:
        library.disable_progress_bars()
    try:
        yield
    finally:
        for library in hidden:
            library.enable_progress_bars()


def huggingface_split(name: str, data: Any, source: HuggingFaceSource) -> Split:
    """Encoded images are read row by row from the memory map; a wanted column of bytes or paths is read as images."""
    import datasets

    features = data.features
    image, label = image_column(features, source.image), label_column(features, source.label)
    try:
        encoded = data.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    except (TypeError, ValueError, NotImplementedError) as error:
        raise unclear_column(features, "an image column", source.image, "image") from error
    decoder = features[image] if isinstance(features[image], datasets.Image) else datasets.Image()
    class_names = tuple(getattr(features[label], "names", None) or ()) or None
    return labelled(name, data[label][:], class_names, read=lambda row: decoder.decode_example(encoded[row][image]))


def image_column(features: Any, wanted: str | None) -> str:
    """``wanted``, or the first column of images."""
    images = [column for column, feature in features.items() if type(feature).__name__ == "Image"]
    if wanted not in features and (wanted or not images):
        raise unclear_column(features, "an image column", wanted, "image")
    return wanted or images[0]


def label_column(features: Any, wanted: str | None) -> str:
    """``wanted``, or the only ClassLabel, or the only integer or string column with a label's name."""
    classes = [column for column, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    plain = [column for column in features if LABEL_TYPES.fullmatch(str(getattr(features[column], "dtype", "")))]
    candidates: list[str] = classes or [column for column in plain if column in LABEL_COLUMNS]
    if wanted is not None and wanted in (*classes, *plain):
        candidates = [wanted]
    if len(candidates) != 1 or wanted not in (None, *candidates):
        raise unclear_column(features, "one label column", wanted, "label")
    return candidates[0]


def unclear_column(features: Any, expected: str, wanted: str | None, option: str) -> SourceError:
    kinds = {name: type(feature).__name__ for name, feature in features.items()}
    found = ", ".join(f"{name} ({features[name].dtype if kind == 'Value' else kind})" for name, kind in kinds.items())
    asked = f"{wanted!r} as {expected}" if wanted else expected
    return SourceError(f"columns are {found}; expected {asked}; set data.source.{option}")


def subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def files_under(folder: Path) -> list[Path]:
    """All files below ``folder``, sorted by relative path; names that begin with a dot are left out."""
    found = []
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def content_hash(folder: Path) -> str:
    """SHA-256 of the lines that ``sha256sum`` prints for the files below, by relative path."""
    lines = hashlib.sha256()
    for path in files_under(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.update(f"{digest}  ".encode() + os.fsencode(path.relative_to(folder).as_posix()) + b"\n")
    return f"sha256:{lines.hexdigest()}"


def folder_name(path: str) -> str:
    return Path(path).expanduser().resolve().name


def listed(names: Sequence[str]) -> str:
    """The first five names, quoted, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more if names else "none"


def brief(error: Exception) -> str:
    """The kind and the message of an error on one line."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")
