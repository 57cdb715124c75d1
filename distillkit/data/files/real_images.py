"""Files of real images: ``real.safetensors`` and, if there are many images, files of images beside it."""

from collections.abc import Mapping
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch

from distillkit.base.errors import ArtifactError
from distillkit.base.files import sha256
from distillkit.data.files.container import (
    Opened,
    checked_images,
    class_names_of,
    normalisation_tensors,
    read_normalisation,
    save,
)
from distillkit.data.files.shards import NAME
from distillkit.data.images import ImageSet, RealData
from distillkit.data.origin import Found, SourceInfo
from distillkit.data.rows import Encoded, FileRows, Images, tensor_part

REAL = "real.safetensors"
ENCODED, ENDS = "train_encoded", "train_encoded_ends"
TENSORS = {"train": "train_images", "test": "test_images", ENCODED: ENCODED}


def save_real(path: Path, data: RealData) -> None:
    """Write images, labels and statistics to ``path``.

    Images in files beside ``path`` stay there, and the header lists these files. ``data.encoded`` is left out if its
    number of images differs from that of the training images.
    """
    splits: Mapping[str, ImageSet] = {"train": data.train, "test": data.test}
    images = {name: split.images for name, split in splits.items()}
    encoded = data.encoded if data.encoded is not None and len(data.encoded.ends_N) == len(data.train) else None
    images |= {} if encoded is None else {ENCODED: encoded.data}
    listed = {name: shard_list(held) for name, held in images.items() if is_beside(held, path)}
    tensors = {
        **{TENSORS[name]: held[:] for name, held in images.items() if name not in listed},
        **{f"{name}_labels": split.labels for name, split in splits.items()},
        **({} if encoded is None else {ENDS: encoded.ends_N}),
        **normalisation_tensors(data.normalisation),
    }
    header = {"class_names": list(data.train.class_names), "source": asdict(data.info)}
    if listed:
        header["shards"] = listed
    if data.found != usual(data.info.kind):
        header["found"] = asdict(data.found)
    save(path, "real", tensors, header)


def is_beside(images: Images, path: Path) -> bool:
    """Whether the images are in other files in the folder of ``path``."""
    if not isinstance(images, FileRows) or any(part.path == path for part in images.parts):
        return False
    return all(part.path.resolve().parent == path.resolve().parent for part in images.parts)


def shard_list(images: Images) -> list[dict[str, Any]]:
    """The entries of the header for the files of ``images``: name, rows and SHA-256."""
    parts = images.parts if isinstance(images, FileRows) else []
    return [{"file": part.path.name, "rows": part.rows, "sha256": sha256(part.path)} for part in parts]


def real_file(path: Path) -> Path:
    """The file that describes real images: ``path`` itself, or ``real.safetensors`` in a folder."""
    return path / REAL if (path / REAL).exists() else path


def split_shape(opened: Opened, split: str) -> list[int]:
    """(N, C, H, W) of the images of ``train`` or ``test``, without reading them."""
    if opened.has(f"{split}_images"):
        shape: list[int] = opened.file.get_slice(f"{split}_images").get_shape()
        return shape
    return list(shards_of(opened, split).shape)


def read_images(opened: Opened, split: str) -> Images:
    """The images of ``train`` or ``test``, uint8 (N, C, H, W): a tensor or, if there are many, :class:`FileRows`."""
    name = f"{split}_images"
    return opened.images(name) if opened.has(name) else shards_of(opened, split)


def shards_of(opened: Opened, split: str, axes: int = 3) -> FileRows:
    """The images of a split that are in files beside ``opened``.

    A row has ``axes`` axes: three for images, none for single bytes. Raises ArtifactError when a file is missing, or
    has another length or row shape than expected.
    """
    listed = opened.field("shards", dict).get(split)
    opened.require(bool(listed), f" lists no files of {split} images")
    parts, shapes = [], set()
    for entry in listed:
        path, again = opened.path.parent / entry["file"], "run its stage again, or dvc pull"
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; expected {entry['rows']:,} {split} images; {again}")
        try:
            part, image_shape = tensor_part(path, NAME)
            whole = part.offset + part.rows * prod(image_shape)
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read ({type(error).__name__}: {error}); {again}") from None
        if part.rows != entry["rows"] or path.stat().st_size != whole:
            found = f"{part.rows:,} images in {path.stat().st_size:,} bytes"
            raise ArtifactError(f"{path} has {found}; expected {entry['rows']:,} in {whole:,} bytes; {again}")
        parts.append(part)
        shapes.add(tuple(image_shape))
    opened.require(len(shapes) == 1 and len(min(shapes)) == axes, f": its files of {split} images have several shapes")
    return FileRows(parts, min(shapes))


def read_encoded(opened: Opened, images: int) -> Encoded | None:
    """The encoded files of the training images, which are read on access; None if the artifact has none."""
    if not opened.has(ENDS):
        return None
    ends_N = opened.tensor(ENDS, [images], torch.int64)
    if opened.has(ENCODED):
        part, shape = tensor_part(opened.path, ENCODED)
        opened.require(shape == [], f": {ENCODED!r} has rows of shape {shape}; expected single bytes")
        data = FileRows([part], [])
    else:
        data = shards_of(opened, ENCODED, axes=0)
    in_order = int(ends_N[0]) >= 0 and bool((ends_N.diff() >= 0).all()) and int(ends_N[-1]) == len(data)
    opened.require(in_order, f": {ENDS!r} does not divide {len(data):,} bytes into {images:,} files")
    return Encoded(data, ends_N)


def usual(kind: str) -> Found:
    """The :class:`Found` that is not written to the header: splits train and test, for digits without a test split."""
    return Found(test=None) if kind == "digits" else Found()


def read_found(opened: Opened) -> Found:
    """The :class:`Found` of an artifact of real images; :func:`usual` if the header has none."""
    source = opened.field("source", dict)
    if "found" not in opened.header:
        return usual(str(source.get("kind")))
    found = opened.field("found", dict)
    try:
        tallies = {
            name: {str(what): (int(times), str(first)) for what, (times, first) in found[name].items()}
            for name in ("left_out", "notes")
        }
        test = None if found["test"] is None else str(found["test"])
        return Found(str(found["train"]), test, **tallies)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{opened.path} does not say what was left out ({error}); run its stage again") from None


def load_real(path: Path) -> RealData:
    """Real images from a file, or from ``real.safetensors`` in a folder. Large splits are read on access.

    Raises ArtifactError when anything is missing or invalid, in the file or in the files of images beside it.
    """
    opened = Opened(real_file(path), "real")
    names = class_names_of(opened)
    splits = [
        checked_images(
            opened,
            read_images(opened, split),
            opened.tensor(f"{split}_labels", [None], torch.int64),
            names,
        )
        for split in ("train", "test")
    ]
    try:
        info = SourceInfo(**opened.field("source", dict))  # of the right types: see headers.py
    except TypeError as error:
        raise ArtifactError(f"{path} does not say where its images come from ({error}); run its stage again") from None
    normalisation = read_normalisation(opened, splits[0].image_shape)
    encoded = read_encoded(opened, len(splits[0]))
    return RealData(splits[0], splits[1], normalisation, info, read_found(opened), encoded)
