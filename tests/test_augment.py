"""Augmentations: exact on hand-made images, differentiable, and a function of their draws only."""

import pytest
import torch

from distillkit.base.errors import ParamsError
from distillkit.base.randomness import seeded
from distillkit.data import augment
from distillkit.data.augment import OPERATIONS, Augmentation, Step


def half(*values: float) -> torch.Tensor:
    return torch.tensor([list(values)])


def test_brightness_alone():
    """u = (0.75, 0.5, 0.5): +0.25, saturation and contrast factors 2 * 0.5 and 0.5 + 0.5, both 1."""
    x = torch.rand(1, 3, 4, 4)
    assert torch.allclose(augment.color(x, half(0.75, 0.5, 0.5)), x + 0.25, atol=1e-6)


def test_contrast_alone():
    """u = (0.5, 0.5, 0): contrast factor 0.5 about the mean of the image."""
    x = torch.tensor([[[[0.0, 2.0]]]])
    assert torch.equal(augment.color(x, half(0.5, 0.5, 0.0)), torch.tensor([[[[0.5, 1.5]]]]))


def test_crop_shifts_by_whole_pixels_and_fills_with_zero():
    """Side 8: shift by −1, 0 or 1. u = (0, 0.5): one row down, no column."""
    x = torch.arange(64.0).view(1, 1, 8, 8) + 1
    moved = augment.crop(x, half(0.0, 0.5, 0.0))
    assert torch.equal(moved[0, 0, 1:], x[0, 0, :-1])
    assert not moved[0, 0, 0].any()


@pytest.mark.parametrize(
    ("side", "pad", "most"),
    [(64, None, 4), (32, None, 4), (28, None, 4), (16, None, 2), (8, None, 1), (8, 3, 3), (64, 0, 0)],
)
def test_simple_moves_by_four_pixels_and_small_images_by_less(side, pad, most):
    """Both ways, by every number of pixels up to the most; DSA's crop goes by the side alone."""
    x = torch.arange(1.0, side + 1).expand(1, 1, side, side)
    shift, flip = augment.draw(Augmentation("simple", pad=pad), 1, seeded(0))
    assert (shift.operation, flip.operation) == ("shift", "flip")
    grid = [(2 * i + 1) / (2 * (2 * most + 1)) for i in range(2 * most + 1)]
    seen = [augment.apply(x, [shift._replace(numbers_NR=half(0.5, u, 0))])[0, 0] for u in grid]
    for right, row in zip(range(-most, most + 1), (image[side // 2] for image in seen), strict=True):
        expected = torch.arange(1, side + 1) + right
        assert row.tolist() == [v if 1 <= v <= side else 0 for v in expected.tolist()]
    furthest = augment.apply(torch.ones(1, 1, side, side), [shift._replace(numbers_NR=half(0, 0.5, 0))])
    assert furthest.sum() == side * (side - most)
    assert augment.crop(torch.ones(1, 1, side, side), half(0, 0.5, 0)).sum() == side * (side - (side + 4) // 8)


def test_combined_moves_real_images_by_pad_and_learned_ones_by_the_side():
    learned = torch.tensor([True, False] * 50)
    steps = augment.draw(Augmentation("combined", ("crop",), pad=3), 100, seeded(0), learned)
    assert [(step.operation, len(step.rows), step.pad) for step in steps] == [
        ("shift", 50, 3),
        ("flip", 50, None),
        ("crop", 50, None),
    ]


def test_a_pad_below_zero():
    with pytest.raises(ParamsError, match=r"augmentation.pad is -1; expected"):
        Augmentation("simple", pad=-1)


def test_cutout_removes_a_square():
    """Side 8, hole 4: centred on row and column 4 it covers rows and columns 2 to 5."""
    x = torch.ones(1, 2, 8, 8)
    hole = augment.cutout(x, half(4.5 / 9, 4.5 / 9, 0.0))
    expected = torch.ones(8, 8)
    expected[2:6, 2:6] = 0
    assert torch.equal(hole[0, 0], expected)
    assert torch.equal(hole[0, 1], expected)


def test_flip_with_probability_one_half():
    x = torch.arange(4.0).view(1, 1, 1, 4)
    assert torch.equal(augment.flip(x, half(0.49, 0.0, 0.0)), x.flip(3))
    assert torch.equal(augment.flip(x, half(0.5, 0.0, 0.0)), x)


@pytest.mark.parametrize(("name", "u"), [("scale", (1 - 1 / 1.2) / (1.2 - 1 / 1.2)), ("rotate", 0.5)])
def test_neutral_draw_changes_nothing(name, u):
    """A zoom of 1 and a turn of 0 degrees."""
    x = torch.rand(1, 3, 6, 8)
    assert torch.allclose(OPERATIONS[name](x, half(u, u, u)), x, atol=1e-5)


@pytest.mark.parametrize("operation", [*OPERATIONS, "shift"])
def test_gradients(operation):
    x = torch.rand(2, 3, 6, 8, dtype=torch.float64, generator=seeded(3), requires_grad=True)
    numbers = torch.rand(2, 3, dtype=torch.float64, generator=seeded(4))
    assert torch.autograd.gradcheck(lambda x: augment.apply(x, [Step(operation, None, numbers)]), [x])


def test_dsa_draws_one_operation_for_the_batch_and_numbers_for_each_image():
    (step,) = augment.draw(Augmentation("dsa"), 5, seeded(0))
    assert step.rows is None
    assert len(set(step.numbers_NR[:, 0].tolist())) == 5


def test_combined_leaves_each_image_to_its_own_kind():
    """Real images are cropped and flipped; every learned image gets one operation; each row exactly once a kind."""
    learned = torch.tensor([True, False, True, True, False])
    steps = augment.draw(Augmentation("combined"), 5, seeded(0), learned)
    real = [step for step in steps if step.rows.tolist() == [1, 4]]
    assert [step.operation for step in real] == ["shift", "flip"]
    touched = sorted(row for step in steps if step.rows.tolist() != [1, 4] for row in step.rows.tolist())
    assert touched == [0, 2, 3]


def test_no_operations_to_draw_from():
    with pytest.raises(ParamsError, match="operations is empty; expected some of color, crop"):
        Augmentation("dsa", ())


def test_same_draw_same_images():
    x = torch.rand(5, 3, 8, 8)
    steps = augment.draw(Augmentation("combined"), 5, seeded(1), torch.tensor([True] * 3 + [False] * 2))
    assert torch.equal(augment.apply(x, steps), augment.apply(x, steps))
    assert augment.draw(Augmentation(), 5, seeded(1)) == []
