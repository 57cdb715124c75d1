"""Reads the tensors of other people's ``.pt``, ``.npz`` and safetensors files. Code in these files never runs.

Only this file calls ``torch.load``, with ``weights_only=True``: it loads only tensors, lists, mappings and numbers.
Official code saves these files:

- DC, DSA and DM (main.py and main_DM.py of VICO-UoE/DatasetCondensation): a mapping with ``accs_all_exps`` and
  ``data: [[images, labels], ...]``, a pair for each experiment.
- MTT (distill.py of GeorgeCazenavette/mtt-distillation) and its successors: ``images_best.pt`` and ``labels_best.pt``.
- DATM (distill/DATM.py of NUS-HPC-AI-Lab/DATM): the same, with logits as labels, and ``lr_best.pt``.
- MTT and DATM with ``--zca``: also ``images_zca_*.pt``, which are pixels with the whitening undone.
"""

import re
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, is_zipfile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distillkit.base.arguments import KINDS, check_foreign
from distillkit.base.errors import SourceError
from distillkit.data.files.container import KEY

LARGEST = 2**33  # bytes of arrays, unpacked
DEEPEST = 4  # lists in lists; DC's file needs three


class Skipped:
    """Replaces the numpy numbers among DC's accuracies, so that they are skipped without calling numpy."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, _: Any) -> None:
        pass


SKIPPED: list[Any] = [
    (Skipped, name) for name in ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "numpy.dtype")
]


def read_sets(path: Path) -> list[list[Tensor | float]]:
    """The dense tensors and the numbers of every set in the file; DC's have one set for each experiment.

    Raises SourceError if the file cannot be read without running code, or its tensors are not plain.
    """
    check_foreign(path)
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise SourceError(f"{path} is empty; expected {KINDS}; get it again")
    content = content_of(path, head)
    if isinstance(content, Mapping) and isinstance(content.get("data"), list | tuple | Mapping):
        content = content["data"]
    several = (
        isinstance(content, list | tuple)
        and len(content) > 0
        and all(isinstance(part, list | tuple | Mapping) for part in content)
    )
    sets = [list(leaves(part)) for part in (content if several else [content])]
    for tensor in (leaf for leaves_ in sets for leaf in leaves_ if isinstance(leaf, Tensor)):
        check_plain(path, tensor)
    if isinstance(content, Tensor) and content.ndim == 0 and content.is_floating_point():
        return [[content.item()]]  # DATM's lr_best.pt
    return [[leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves_] for leaves_ in sets]


def content_of(path: Path, head: bytes) -> Any:
    """The content; name or first bytes decide how to read it, as NumPy and torch.save both write ZIP archives."""
    if path.suffix == ".npz":
        return read_npz(path)
    return read_safetensors(path) if head[8:].startswith(b"{") else read_torch(path)  # JSON after its length


def read_npz(path: Path) -> dict[str, Tensor]:
    """NumPy's arrays by name; Python objects are refused, because they would be unpickled.

    Images with channels last, or grey images without a channel axis, are returned as (N, C, H, W).
    """
    try:
        with ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > LARGEST:
            raise SourceError(f"{path} unpacks to {size:,} bytes; expected at most {LARGEST:,}; do not use it")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: channels_first(torch.from_numpy(arrays[name])) for name in sorted(arrays.files)}
    except (BadZipFile, ValueError, TypeError, NotImplementedError, EOFError, zlib.error) as error:
        found = " ".join(str(error).split())[:200]
        raise SourceError(f"{path} cannot be read as arrays ({found}); expected plain numbers, from np.savez") from None


def channels_first(tensor: Tensor) -> Tensor:
    if tensor.ndim == 3:
        return tensor[:, None]
    last = tensor.ndim == 4 and tensor.shape[3] in (1, 3) and tensor.shape[1] not in (1, 3)
    return tensor.permute(0, 3, 1, 2).contiguous() if last else tensor


def read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if KEY in (file.metadata() or {}):
                expected = "expected a file that other code made; use it as it is"
                raise SourceError(f"{path} is already an artifact of distillkit; {expected}")
            return {name: file.get_tensor(name) for name in sorted(file.keys())}
    except SafetensorError as error:
        found = " ".join(str(error).split())
        raise SourceError(f"{path} cannot be read ({found}); expected {KINDS}; get it again") from None


def read_torch(path: Path) -> Any:
    """The file's content, on the CPU. Damaged and hostile files raise all kinds of errors, so all are caught.

    Messages of torch are not shown, because they advise users to turn off the protection. Its warnings are about
    tensors that :func:`check_plain` refuses, and are not shown either.
    """
    check_unpacked_size(path)
    try:
        with torch.serialization.safe_globals(SKIPPED), warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise SourceError(f"{path} cannot be read as tensors; expected {KINDS}; get it again") from None
        expected = "expected only tensors in lists or mappings; where it was made, save only [images, labels]"
        raise SourceError(f"{path} asks to call {asked[1]}; nothing was called; {expected}") from None


def check_unpacked_size(path: Path) -> None:
    """torch.save never compresses; a file that does could unpack to more than memory holds."""
    if not is_zipfile(path):
        return
    try:
        with ZipFile(path) as file:
            stored = all(member.compress_type == ZIP_STORED for member in file.infolist())
    except (BadZipFile, ValueError, NotImplementedError):
        return  # torch will report the error
    if not stored:
        raise SourceError(f"{path} is a compressed archive; expected {KINDS}; unpack it and name the files")


def leaves(value: Any, depth: int = 0) -> Iterator[Tensor | float]:
    """Tensors in order; a number only if it is the whole file (some ``lr_best.pt``)."""
    if isinstance(value, Tensor) or (depth == 0 and isinstance(value, float)):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth < DEEPEST:
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(part, depth + 1)


def check_plain(path: Path, tensor: Tensor) -> None:
    """Raise SourceError unless the tensor is dense, has numbers, and is not larger than the file."""
    if tensor.is_meta:
        found = "on the meta device, without numbers"
    elif tensor.is_quantized:
        found = "quantised"
    elif tensor.layout != torch.strided or tensor.is_nested:
        found = "sparse or nested"
    elif tensor.is_complex():
        found = "complex"
    elif path.suffix != ".npz" and tensor.numel() * tensor.element_size() > path.stat().st_size:
        found = "larger than the file"
    else:
        return
    expected = "expected plain tensors; save plain contiguous copies where it was made"
    raise SourceError(f"{path} holds a tensor {described(tensor)} that is {found}; {expected}")


def described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def listed(tensors: Sequence[Tensor], limit: int = 6) -> str:
    """Types and shapes, for errors."""
    more = f" and {len(tensors) - limit} more" if len(tensors) > limit else ""
    return (", ".join(described(tensor) for tensor in tensors[:limit]) or "no tensor") + more


def enumerated(names: Sequence[str]) -> str:
    """Names for a sentence."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)
