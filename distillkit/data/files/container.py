"""Artifacts: safetensors files with a JSON header, written atomically and checked when they are read."""

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distillkit import __version__
from distillkit.base.errors import ArtifactError, DivergedError, SourceError
from distillkit.base.files import atomic_write, canonical_json, error_number
from distillkit.base.outside import UnreadableError, read_json, shown
from distillkit.data.files.headers import FORMS, misfits
from distillkit.data.images import ImageSet, Normalisation
from distillkit.data.rows import IN_MEMORY, FileRows, Images, tensor_part
from distillkit.data.whitening import Whitening

FORMAT = "distillkit/1"

KEY = "distillkit"


def save(path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write one artifact. The same tensors and header give the same bytes.

    Raises DivergedError for NaN and infinity, which readers reject, and ArtifactError when the file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DivergedError(f"{path} is not written: {name!r} holds nan or infinity; lower the learning rates")
    write_tensors(path, kind, tensors, header)


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """:func:`save` without the check for NaN and infinity."""
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
    """An artifact opened for lazy, checked reading.

    Raises ArtifactError when the file is missing, cannot be read, has an invalid header, or is not of ``kind`` (None:
    any kind).
    """

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
        """Raise ArtifactError, with the path and ``problem``, unless ``holds`` is true."""
        if not holds:
            raise ArtifactError(f"{self.path}{problem}; run its stage again")

    def field(self, name: str, *kinds: type) -> Any:
        """A header entry. Raises ArtifactError if it is missing, or of none of ``kinds`` if any are given."""
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
        self,
        name: str,
        shape: Sequence[int | None],
        dtype: torch.dtype = torch.float32,
        finite: bool = True,
        rows: slice | None = None,
    ) -> Tensor:
        """A tensor, or ``rows`` of it.

        Raises ArtifactError unless it has this type, this shape (None: any length but 0) and, if ``finite``, no NaN or
        infinity.
        """
        if not self.has(name):
            found = ", ".join(self.file.keys())
            raise ArtifactError(f"{self.path} has no tensor {name!r}; found {found}; run its stage again")
        tensor: Tensor = self.file.get_tensor(name) if rows is None else self.file.get_slice(name)[rows]
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

    def images(self, name: str) -> Images:
        """uint8 images (N, C, H, W): a tensor, or :class:`FileRows` if they have more than ``IN_MEMORY`` bytes."""
        held = self.file.get_slice(name)
        if held.get_dtype() != "U8" or prod(held.get_shape()) <= IN_MEMORY:
            return self.tensor(name, [None, None, None, None], torch.uint8)
        part, image_shape = tensor_part(self.path, name)
        self.require(len(image_shape) == 3, f": {name!r} has shape {held.get_shape()}; expected (N, C, H, W)")
        return FileRows([part], image_shape)


def class_names_of(opened: Opened) -> tuple[str, ...]:
    names = opened.field("class_names", list)
    are_text = all(isinstance(name, str) for name in names)
    opened.require(are_text, f" has class_names {shown(names)}; expected a list of names")
    return tuple(names)


def checked_images(opened: Opened, images: Images, labels: Tensor, class_names: tuple[str, ...]) -> ImageSet:
    try:
        return ImageSet(images, labels, class_names)
    except SourceError as error:
        raise ArtifactError(f"{opened.path}: {error}; run its stage again") from error


def read_normalisation(opened: Opened, image_shape: Sequence[int]) -> Normalisation:
    """The normalisation of images of this shape (C, H, W). Raises ArtifactError for an invalid one."""
    values = prod(image_shape)
    mean, std = (opened.tensor(name, [image_shape[0]], torch.float32) for name in ("mean", "std"))
    opened.require((std > 0).all(), f": 'std' is {std.tolist()}; expected numbers above 0")
    return Normalisation(mean, std, read_whitening(opened, values) if opened.has("zca_mean") else None)


def read_whitening(opened: Opened, values: int) -> Whitening:
    """The whitening of images of ``values`` values. Raises ArtifactError unless the columns of its basis have length 1
    and its scales are above 0.
    """
    mean_D, basis_DD = opened.tensor("zca_mean", [values]), opened.tensor("zca_basis", [values, values])
    scale_D = opened.tensor("zca_scale", [values])
    opened.require((scale_D > 0).all(), f": 'zca_scale' has {scale_D.min():g}; expected all above 0")
    lengths_D = basis_DD.square().sum(0)
    opened.require(((lengths_D - 1).abs() < 1e-3).all(), ": 'zca_basis' is no basis of unit vectors")
    return Whitening(mean_D, basis_DD, scale_D)


def normalisation_tensors(normalisation: Normalisation) -> dict[str, Tensor]:
    """A normalisation as tensors of a file: mean, standard deviation and, if there is one, the whitening."""
    tensors = {"mean": normalisation.mean, "std": normalisation.std}
    if (zca := normalisation.whitening) is not None:
        tensors |= {"zca_mean": zca.mean_D, "zca_basis": zca.basis_DD, "zca_scale": zca.scale_D}
    return tensors


def save_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a checkpoint of an unfinished stage, bit for bit. NaN and infinity are allowed."""
    write_tensors(path, "checkpoint", state, {})


def load_state(path: Path) -> dict[str, Tensor]:
    opened = Opened(path, "checkpoint")
    return {name: opened.file.get_tensor(name) for name in opened.file.keys()}  # noqa: SIM118
