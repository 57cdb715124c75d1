"""Safetensors files that describe themselves, written atomically and checked before use."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distillkit import __version__
from distillkit.base.errors import ArtifactError, DivergedError
from distillkit.base.files import atomic_write, canonical_json, error_number
from distillkit.base.outside import UnreadableError, read_json, shown
from distillkit.data.headers import FORMS, misfits

FORMAT = "distillkit/1"

KEY = "distillkit"


def save(path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write one artifact; the same tensors and header give the same bytes.

    Raises DivergedError for nan and infinity, which no reader would take, and ArtifactError on a full disk.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DivergedError(f"{path} is not written: {name!r} holds nan or infinity; lower the learning rates")
    write_tensors(path, kind, tensors, header)


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """:func:`save`, whatever the numbers."""
    described = {"format": FORMAT, "kind": kind, "distillkit": __version__, **header}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_write(path, sum(tensor.nbytes for tensor in contiguous.values())) as temporary:
        try:
            save_file(contiguous, temporary, metadata={KEY: canonical_json(described)})
        except SafetensorError as error:
            if error_number(error) is not None:
                raise
            raise ArtifactError(f"{path} cannot be written ({error}); check the disk and try again") from error


class Opened:
    """An artifact opened for lazy, checked reading. Raises ArtifactError when it is not of ``kind``."""

    def __init__(self, path: Path, kind: str | None = None):
        self.path = path
        if path.is_dir():
            raise ArtifactError(f"{path} is a folder; expected a distillkit artifact; name a file in it")
        if not path.is_file():
            raise ArtifactError(f"{path} does not exist; expected a distillkit artifact; run the stage that writes it")
        try:
            self.file = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"{path} cannot be read ({error}); expected a complete safetensors file; run its stage again"
            ) from error
        self.header = self.read_header()
        if kind is not None and self.header["kind"] != kind:
            raise ArtifactError(f"{path} holds {self.header['kind']!r}; expected an artifact of kind {kind!r}")

    def read_header(self) -> dict[str, Any]:
        text = (self.file.metadata() or {}).get(KEY)
        foreign = f"{self.path} is a safetensors file, but not one of distillkit's; expected {FORMAT!r}; name another"
        try:
            header = read_json(text or "null")
        except UnreadableError as error:
            raise ArtifactError(f"{foreign} (its header cannot be read: {error})") from None
        if not isinstance(header, dict) or "kind" not in header:
            raise ArtifactError(foreign)
        if header.get("format") != FORMAT:
            other = f"{self.path} has format {shown(header.get('format'))}"
            raise ArtifactError(f"{other}; expected {FORMAT!r}; use the distillkit version that wrote it")
        if found := next(misfits(header, FORMS, "header"), None):
            raise ArtifactError(f"{self.path} has {found.removeprefix('header.')}; run its stage again")
        return header

    def require(self, holds: bool | Tensor, problem: str) -> None:
        """Raise ArtifactError, the path followed by the ``problem``, unless something ``holds``."""
        if not holds:
            raise ArtifactError(f"{self.path}{problem}; run its stage again")

    def field(self, name: str, *kinds: type) -> Any:
        """A header entry that must be there, of one of ``kinds`` if any are given."""
        if name not in self.header:
            raise ArtifactError(f"{self.path} says nothing of {name!r} in its header; run its stage again")
        value = self.header[name]
        if kinds and not isinstance(value, kinds):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise ArtifactError(
                f"{self.path} has {name!r} {shown(value)} in its header; expected {expected}; run its stage again"
            )
        return value

    def has(self, name: str) -> bool:
        """Whether there is a tensor of this name."""
        return name in self.file.keys()  # noqa: SIM118 (safe_open is no mapping)

    def tensor(
        self, name: str, shape: Sequence[int | None], dtype: torch.dtype = torch.float32, finite: bool = True
    ) -> Tensor:
        """A tensor that must have this type and shape (None: any length) and only finite numbers."""
        if not self.has(name):
            found = ", ".join(self.file.keys())
            raise ArtifactError(f"{self.path} has no tensor {name!r}; found {found}; run its stage again")
        tensor: Tensor = self.file.get_tensor(name)
        fits = len(tensor.shape) == len(shape) and all(
            have > 0 if want is None else have == want for have, want in zip(tensor.shape, shape, strict=True)
        )
        found = ", ".join(map(str, tensor.shape))
        wanted = ", ".join("at least 1" if size is None else str(size) for size in shape)
        described = f"{name!r} is {tensor.dtype} ({found}); expected {dtype} ({wanted})"
        self.require(fits and tensor.dtype == dtype, f": {described}")
        may_be_any = not (finite and tensor.is_floating_point())
        self.require(may_be_any or tensor.isfinite().all(), f": {name!r} holds nan or infinity")
        return tensor


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """A checkpoint of an unfinished stage, bit for bit: whether its numbers are any good is not for it to say."""
    write_tensors(path, "checkpoint", state, {})


def load_state(path: Path) -> dict[str, Tensor]:
    opened = Opened(path, "checkpoint")
    return {name: opened.file.get_tensor(name) for name in opened.file.keys()}  # noqa: SIM118
