"""Distances derived by hand, and every shortcut beside the plain computation."""

import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

from distillkit.base.errors import ArtifactError
from distillkit.evaluation.neighbours import nearest, root_mean_square


def images(*rows):
    """Images of 1 x 1 x 2 pixels."""
    return torch.tensor(rows, dtype=torch.float32)[:, None, None, :]


def random_images(count, seed, shape=(3, 5, 4)):
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Found(NamedTuple):
    distance_N: torch.Tensor
    row_N: torch.Tensor


def nearest_source(images_NCHW, source_MCHW, exclude_N=None, chunk=None):
    """The nearest one, and its root mean square."""
    chunked = {} if chunk is None else {"chunk": chunk}
    found = nearest(images_NCHW, source_MCHW, exclude_N=exclude_N, **chunked)
    return Found((found.squared_Nk[:, 0] / images_NCHW[0].numel()).sqrt(), found.row_Nk[:, 0])


def plain(images_NCHW, source_MCHW):
    """All distances (N, M), one pair after the other."""
    return torch.stack([root_mean_square(image.expand_as(source_MCHW), source_MCHW) for image in images_NCHW])


def test_distances_derived_by_hand():
    """(0, 0) to (0.3, 0.4): sqrt((0.09 + 0.16) / 2) = 0.353553; to (0.1, 0.7): sqrt(0.5 / 2) = 0.5."""
    found = nearest_source(images((0, 0), (0.1, 0.6)), images((0.1, 0.7), (0.3, 0.4)))
    assert found.row_N.tolist() == [1, 0]
    assert found.distance_N.tolist() == pytest.approx([0.125**0.5, 0.005**0.5], abs=1e-7)
    assert found.distance_N.dtype == torch.float64


def test_bytes_are_shares_of_255():
    found = nearest_source(torch.full((1, 1, 2, 2), 0.2), torch.full((1, 1, 2, 2), 102, dtype=torch.uint8))
    assert found.distance_N.item() == pytest.approx(0.2, abs=1e-7)


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_a_copy_is_at_distance_zero(chunk):
    """Bright images, at which |x|² - 2 x·s + |s|² in float32 is far from 0."""
    source = random_images(40, 0, (3, 32, 32)) // 8 + 224
    rows = torch.tensor([3, 39, 0])
    found = nearest_source(source[rows].float() / 255, source, chunk=chunk)
    assert found.distance_N.tolist() == [0.0, 0.0, 0.0]
    assert found.row_N.tolist() == rows.tolist()
    moved = source[rows].float() / 255
    moved[:, 0, 0, 0] += 1e-3
    assert (nearest_source(moved, source).distance_N > 0).all()


@pytest.mark.parametrize("chunk", [None, 1, 2, 3])
def test_of_equally_near_images_the_lowest_row_counts(chunk):
    source = images((0.9, 0.9), (0.5, 0.25), (0.25, 0.5), (0.5, 0.25), (0.25, 0.5))
    found = nearest_source(images((0.25, 0.25), (0.5, 0.25), (0.25, 0.5)), source, chunk=chunk)
    assert found.row_N.tolist() == [1, 1, 2]


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_an_excluded_row_is_not_compared_with(chunk):
    source = images((0, 0), (0.1, 0), (0.7, 0))
    found = nearest_source(source, source, exclude_N=torch.tensor([0, 1, 2]), chunk=chunk)
    assert found.row_N.tolist() == [1, 0, 1]
    assert found.distance_N.tolist() == pytest.approx([0.005**0.5, 0.005**0.5, 0.18**0.5], abs=1e-7)
    assert nearest_source(source, source, exclude_N=torch.tensor([-1, 1, -1])).row_N.tolist() == [0, 0, 2]


@pytest.mark.parametrize("chunk", [None, 1, 8, 30, 64])
def test_blocks_do_not_matter(chunk):
    """The plain computation's result, to the bit; every image is near several others."""
    source = random_images(60, 1)
    source[30:] = source[:30] + (random_images(30, 2) == 0)
    queries = source.float() / 255 + 0.001 * torch.randn(source.shape, generator=torch.Generator().manual_seed(3))
    expected = plain(queries, source.float() / 255)
    found = nearest_source(queries, source, chunk=chunk)
    assert torch.equal(found.distance_N, expected.amin(1))
    assert torch.equal(found.row_N, expected.argmin(1))


def test_differences_below_the_rounding_of_float32_are_seen():
    """Two source images 1e-6 apart: the expansion in float32 cannot tell them apart, the result must."""
    query = torch.full((1, 3, 16, 16), 0.75)
    near, nearer = query + 0.1, query + 0.1
    near[0, 0, 0, 0] += 1e-6
    assert nearest_source(query, torch.cat([near, nearer])).row_N.item() == 1
    assert nearest_source(query, torch.cat([nearer, near])).row_N.item() == 0


@pytest.mark.long
def test_memory_stays_flat():
    """20,000 images of 3 x 32 x 32 as float32 would be 246 MB; the blocks need far less. So do 900 pairs of large
    images of noise, of which hardly any is ruled out: the differences of all would be 1.1 GB."""
    code = """
import resource, torch
from distillkit.evaluation.neighbours import nearest
torch.set_num_threads(1)
source = torch.randint(0, 256, (20_000, 3, 32, 32), dtype=torch.uint8)
nearest(source[:2], source[:9])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(source[:64], source, chunk=1000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
large = torch.randn(75, 3, 224, 224)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
nearest(large[:15], large[15:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    few, large = map(int, done.stdout.split())
    assert few < 150_000 and large < 400_000, "kB"


def test_other_shapes_and_empty_sources_are_refused():
    with pytest.raises(ArtifactError, match=r"images are \(1, 1, 2\), source images \(1, 2, 1\); expected the same"):
        nearest_source(images((0, 0)), torch.zeros(3, 1, 2, 1))
    with pytest.raises(ArtifactError, match="there are 0 images to compare with; expected at least 1 that"):
        nearest_source(images((0, 0)), images((0, 0)), exclude_N=torch.tensor([0]))
    with pytest.raises(ArtifactError, match="there are 0 images to compare with"):
        nearest_source(images((0, 0)), torch.zeros(0, 1, 1, 2))
