"""Difficulty scores, by hand on two images and two experts; selections by hand on eight images."""

import pytest
import torch

from distillkit.base.errors import ParamsError, WindowError
from distillkit.base.randomness import seeded
from distillkit.data.images import channel_statistics
from distillkit.data.networks import NetworkSpec
from distillkit.data.selection import rank_hardest_first, select_easiest, select_random, select_window
from distillkit.training.difficulty import SCORES, first_epochs
from distillkit.training.trajectories import Dynamics, ExpertRecipe, dynamics_of, record_expert

CORRECT = torch.tensor([[[1, 0], [0, 0], [1, 0], [0, 0]], [[1, 0], [1, 1], [1, 1], [1, 1]]]).bool()  # E=2, L=4, N=2
HALF = torch.full((2, 4, 2), 0.5, dtype=torch.float16)
LABEL, MARGIN = HALF * torch.tensor([1, 0.5]), HALF * torch.tensor([2, -2])
DYNAMICS = Dynamics(CORRECT, LABEL, MARGIN, HALF, HALF * torch.tensor([0.5, -1]))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("forgetting", [(2 + 0) / 2, (4 + 0) / 2]),  # image 1 is never learned by expert 0: 4 epochs
        ("el2n", [0.5, 0.5]),
        ("margin", [-1.0, 1.0]),
        ("probability-margin", [-0.25, 0.5]),
        ("confidence", [0.5, 0.75]),
        ("consistency", [1 - 6 / 8, 1 - 3 / 8]),
    ],
)
def test_scores_by_hand(name, expected):
    assert SCORES[name](DYNAMICS).tolist() == pytest.approx(expected)
    assert set(SCORES) == {"forgetting", "el2n", "margin", "probability-margin", "confidence", "consistency"}


def test_first_epochs_only():
    assert SCORES["consistency"](first_epochs(DYNAMICS, 1)).tolist() == [0.0, 1.0]
    assert first_epochs(DYNAMICS, None) is DYNAMICS
    with pytest.raises(ParamsError, match=r"score.epochs is 5; expected 1 to 4"):
        first_epochs(DYNAMICS, 5)


def test_dynamics_of_one_visit():
    """Logits (0, ln 3): softmax (¼, ¾)."""
    logits = torch.tensor([[0.0, 3.0]]).clamp(max=torch.tensor(3.0).log().item()).repeat(2, 1)
    seen = dynamics_of(logits, torch.tensor([1, 0]))
    assert seen.correct.tolist() == [True, False]
    assert seen.probability.tolist() == pytest.approx([0.75, 0.25], abs=1e-3)
    assert seen.margin.tolist() == pytest.approx([1.0986, -1.0986], abs=1e-3)
    assert seen.probability_margin.tolist() == pytest.approx([0.5, -0.5], abs=1e-3)
    assert seen.error_norm.tolist() == pytest.approx([0.25 * 2**0.5, 0.75 * 2**0.5], abs=1e-3)


def test_the_margin_of_an_image_got_wholly_wrong():
    """Of three classes; the label's probability is no float16 above 0, and the margin −1 all the same."""
    seen = dynamics_of(torch.tensor([[-40.0, 0.0, -50.0]]), torch.tensor([0]))
    assert (seen.probability_margin.item(), seen.margin.item()) == (-1, -40)


def test_harder_images_score_higher_whatever_the_score(digits, experts):
    """On real digits all scores agree on what is hard: rank correlation with confidence above one half."""
    _, dynamics = experts
    reference = SCORES["confidence"](dynamics).argsort().argsort().double()
    for name in SCORES:
        rank = SCORES[name](dynamics).argsort(stable=True).argsort().double()
        assert torch.corrcoef(torch.stack([reference, rank]))[0, 1] > 0.5, name


LABELS = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])
DIFFICULTY = torch.tensor([0.1, 0.5, 0.4, 0.5, 0.2, 0.9, 0.3, 0.0])  # class 0 hardest first: 2 6 4 0; class 1: 5 1 3 7
NAMES = ("even", "odd")


def test_ranks_hardest_first_with_ties_in_dataset_order():
    assert rank_hardest_first(torch.tensor([1, 3, 5, 7]), DIFFICULTY).tolist() == [5, 1, 3, 7]


@pytest.mark.parametrize(
    ("ipc", "start", "expected"),
    [(2, 0.0, [2, 6, 5, 1]), (2, 0.25, [6, 4, 1, 3]), (2, 0.5, [4, 0, 3, 7]), (4, 0.0, [2, 6, 4, 0, 5, 1, 3, 7])],
)
def test_window_by_hand(ipc, start, expected):
    assert select_window(LABELS, DIFFICULTY, NAMES, ipc, start).tolist() == expected


def test_window_start_as_a_fraction_of_ipc_by_name():
    """0.5 of ipc 2 is rank 1, where 0.5 of the class is rank 2."""
    assert select_window(LABELS, DIFFICULTY, NAMES, 2, 0.5, "ipc").tolist() == [6, 4, 1, 3]


def test_counts_round_and_do_not_truncate():
    """0.29 of 100 is 29, not 28 as int() would have it."""
    labels, difficulty = torch.zeros(100, dtype=torch.int64), torch.arange(100.0, 0, -1)
    assert select_window(labels, difficulty, ("only",), 1, 0.29).tolist() == [29]


def test_window_past_the_class():
    with pytest.raises(WindowError, match=r"'even' covers ranks 3 to 4, but it has 4 images.*at most 0.5"):
        select_window(LABELS, DIFFICULTY, NAMES, 2, 0.75)


def test_ipc_above_the_class():
    with pytest.raises(WindowError, match=r"ipc is 5, but class 'even' has 4 training images; lower ipc"):
        select_random(LABELS, NAMES, 5, seeded(0))
    with pytest.raises(ParamsError, match=r"ipc is 0; expected at least 1"):
        select_window(LABELS, DIFFICULTY, NAMES, 0, 0)


def test_easiest_and_random():
    assert select_easiest(LABELS, DIFFICULTY, NAMES, 2).tolist() == [4, 0, 3, 7]
    rows = select_random(LABELS, NAMES, 2, seeded(1))
    assert LABELS[rows].tolist() == [0, 0, 1, 1]
    assert len(set(rows.tolist())) == 4
    assert rows.tolist() == select_random(LABELS, NAMES, 2, seeded(1)).tolist()


def test_expert_snapshots_are_copies_and_repeat(digits):
    recipe = ExpertRecipe(NetworkSpec("convnet", "batch", 1, 2), epochs=3, batch=100, lr=0.1)
    statistics = channel_statistics(digits.images)
    first, second = (record_expert(digits, statistics, recipe, seeded(4)) for _ in range(2))
    assert first.trajectory_TP.shape == (4, len(second.trajectory_TP[0]))
    steps = (first.trajectory_TP[1:] - first.trajectory_TP[:-1]).abs().sum(1)
    assert (steps > 0).all(), "neighbouring snapshots must differ"
    assert torch.equal(first.trajectory_TP, second.trajectory_TP)
    assert first.dynamics.correct.shape == (3, 300)
    assert first.dynamics.correct[-1].float().mean() > first.dynamics.correct[0].float().mean()
