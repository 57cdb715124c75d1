"""ZCA whitening: a linear map that makes pixel values nearly uncorrelated and changes images as little as possible.

Axes: N images; C, H, W channels, height, width; D = C·H·W values of an image, and the directions of the basis.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from distillkit.base.errors import SourceError
from distillkit.data.rows import Images, chunks

LARGEST = 12_288  # values of an image, 3 x 64 x 64: the basis has as many rows and columns, 576 MiB in float32


@dataclass(frozen=True)
class Whitening:
    """y = (x − μ) W with W = U diag(1 / s) Uᵀ, and its inverse x = y U diag(s) Uᵀ + μ.

    ``mean_D`` is μ, the columns of ``basis_DD`` are U, orthonormal, and ``scale_D`` is s, above 0.
    """

    mean_D: Tensor
    basis_DD: Tensor
    scale_D: Tensor

    def apply(self, pixels_NCHW: Tensor) -> Tensor:
        """Pixel space to whitened space."""
        centred_ND = pixels_NCHW.flatten(1) - self.mean_D
        return (centred_ND @ self.forward.to(centred_ND.dtype)).view_as(pixels_NCHW)

    def undo(self, whitened_NCHW: Tensor) -> Tensor:
        """Whitened space to pixel space."""
        whitened_ND = whitened_NCHW.flatten(1)
        return (whitened_ND @ self.back.to(whitened_ND.dtype) + self.mean_D).view_as(whitened_NCHW)

    def to(self, device: torch.device) -> "Whitening":
        return Whitening(self.mean_D.to(device), self.basis_DD.to(device), self.scale_D.to(device))

    @cached_property
    def forward(self) -> Tensor:
        return (self.basis_DD / self.scale_D) @ self.basis_DD.T

    @cached_property
    def back(self) -> Tensor:
        return (self.basis_DD * self.scale_D) @ self.basis_DD.T


def whitening_of(mean_D: Tensor, covariance_DD: Tensor, eps: float) -> Whitening:
    """The whitening with the covariance's eigenvectors U, its eigenvalues λ, and s = √(λ + ``eps``).

    This is the formula of kornia's ``zca_mean``. ``eps`` limits how much directions in which images hardly vary are
    amplified.
    """
    values_D, basis_DD = torch.linalg.eigh(covariance_DD)
    return Whitening(mean_D, basis_DD, (values_D.clamp(min=0) + eps).sqrt())


def zca(images: Images, eps: float) -> Whitening:
    """The whitening, in float32, of these images (N, C, H, W): uint8, or floating point in pixel space.

    Its mean and covariance (divisor N − 1) are those of the pixels without normalisation by channel, as in MTT
    (Cazenavette et al. 2022) and its successors, which use ``eps`` 0.1.

    Raises SourceError for one image, and for images of more than ``LARGEST`` values.
    """
    count, size = len(images), images.shape[1:].numel()
    if size > LARGEST:
        raise SourceError(
            f"images have {size:,} values, whose covariance has {size:,} x {size:,}; expected at most {LARGEST:,} for "
            "ZCA whitening (3 x 64 x 64); set data.size, or leave out data.normalisation"
        )
    if count < 2:
        raise SourceError(f"there is {count} training image; expected at least 2 to fit ZCA whitening; add some")
    divisor = 255 if images.dtype == torch.uint8 else 1
    mean_D = sum((part.flatten(1).double().sum(0) for part in chunks(images)), torch.zeros(())) / (count * divisor)
    covariance_DD = torch.zeros(size, size, dtype=torch.float64)
    for part in chunks(images):
        centred_ND = part.flatten(1).double() / divisor - mean_D
        covariance_DD.addmm_(centred_ND.T, centred_ND)
    fitted = whitening_of(mean_D, covariance_DD / (count - 1), eps)
    return Whitening(fitted.mean_D.float(), fitted.basis_DD.float().contiguous(), fitted.scale_D.float())
