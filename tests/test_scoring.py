"""Difficulty scores, by hand on two images and two experts; selections by hand on eight images."""

import math

import pytest
import torch

from distillkit.base.errors import ParamsError, WindowError
from distillkit.base.randomness import seeded
from distillkit.data.images import channel_statistics
from distillkit.data.selection import rank_hardest_first, select_easiest, select_random, select_wanted, select_window
from distillkit.networks.specs import NetworkSpec
from distillkit.training.difficulty import (
    BY_RUNS,
    SCORES,
    first_epochs,
    score_called,
    score_dual,
    score_tdds,
    scores_of,
)
from distillkit.training.dynamics import Dynamics, dynamics_of, log_probabilities
from distillkit.training.score_file import ScoreSpec
from distillkit.training.trajectories import ExpertRecipe, Recording, record_expert

CORRECT = torch.tensor([[[1, 0], [0, 0], [1, 0], [0, 0]], [[1, 0], [1, 1], [1, 1], [1, 1]]]).bool()  # E=2, L=4, N=2
HALF = torch.full((2, 4, 2), 0.5, dtype=torch.float16)
LABEL, MARGIN = HALF * torch.tensor([1, 0.5]), HALF * torch.tensor([2, -2])
MOVEMENT = torch.tensor([[0.0, 0.0], [0.25, 0.5], [0.5, 0.5], [0.0, 0.5]]).half().repeat(2, 1, 1)
DYNAMICS = Dynamics(CORRECT, LABEL, MARGIN, HALF, HALF * torch.tensor([0.5, -1]), MOVEMENT)
SCORED = ("forgetting", "el2n", "margin", "probability-margin", "confidence", "consistency", "dual", "tdds")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("forgetting", [(2 + 0) / 2, (4 + 0) / 2]),  # image 1 is never learned by expert 0: 4 epochs
        ("el2n", [0.5, 0.5]),
        ("margin", [-1.0, 1.0]),
        ("probability-margin", [-0.25, 0.5]),
        ("confidence", [0.5, 0.75]),
        ("consistency", [1 - 6 / 8, 1 - 3 / 8]),
        ("dual", [0.0, 0.0]),  # probabilities never change
        ("tdds", [0.9 * (0.25**2 + 0.25**2) ** 0.5, 0.0]),  # one run of all four epochs: ¼, ½, 0 around their mean ¼
    ],
)
def test_scores_by_hand(name, expected):
    assert SCORES[name](DYNAMICS).tolist() == pytest.approx(expected)
    assert tuple(SCORES) == SCORED


def test_dual_by_hand():
    """p = 0, ½, 1, 1 in runs of three: deviations ½ and √(1/12), means ½ and 5/6."""
    p = torch.tensor([[[0.0], [0.5], [1.0], [1.0]]]).half()
    found = score_dual(DYNAMICS._replace(probability=p), window=3)
    assert found.tolist() == pytest.approx([(0.5 * 0.5 + (1 / 12) ** 0.5 / 6) / 2])
    one_epoch = torch.tensor([[[0.25]]]).half()
    assert score_dual(DYNAMICS._replace(probability=one_epoch)).tolist() == [0.0], "not nan, which no file takes"


def test_tdds_by_hand():
    """Runs of three epochs: the last moves by 2 and 0, the one before by 1 and 2; the first epoch's number is none."""
    moved = torch.tensor([[[9.0], [1.0], [2.0], [0.0]]]).half()
    found = score_tdds(DYNAMICS._replace(movement=moved), window=3)
    assert found.tolist() == pytest.approx([0.9 * 2**0.5 + 0.09 * 0.5**0.5])


def test_an_image_moves_by_all_its_probabilities():
    """From (½, ¼, ¼) to (½, ½, 0): ½·ln 2 for the second, nothing for one that is gone, whatever the label."""
    before = log_probabilities(torch.tensor([[0.5, 0.25, 0.25]]).log())
    now = torch.tensor([[0.5, 0.5, 0.0]]).log()
    assert dynamics_of(now, torch.tensor([2]), before).movement.tolist() == pytest.approx([0.5 * math.log(2)], abs=1e-3)
    assert dynamics_of(now, torch.tensor([2])).movement.tolist() == [0]


def test_movement_is_that_since_the_epoch_before(digits, monkeypatch):
    """Images come in batches, in any order; without room for probabilities there is no movement, and all else alike."""
    said, visited = [], []
    record = Recording.record

    def spy(work, logits, rows, now):
        said.append(log_probabilities(logits))
        visited.append(rows)
        record(work, logits, rows, now)

    monkeypatch.setattr(Recording, "record", spy)
    recipe = ExpertRecipe(NetworkSpec("convnet", "batch", 1, 2), epochs=2, batch=150, lr=0.1)
    statistics = channel_statistics(digits.images)
    recorded = record_expert(digits, statistics, recipe, seeded(4)).dynamics
    first, second = (torch.cat(said[i : i + 2])[torch.cat(visited[i : i + 2]).argsort()] for i in (0, 2))
    assert torch.equal(recorded.movement[0], torch.zeros(300).half())
    expected = (second.exp() * (second - first)).abs().sum(1)
    assert recorded.movement[1].tolist() == pytest.approx(expected.tolist(), abs=2e-3)
    monkeypatch.setattr("distillkit.training.trajectories.MOVING", 2999)
    small = record_expert(digits, statistics, recipe, seeded(4)).dynamics
    assert not small.movement.any()
    assert torch.equal(small.margin, recorded.margin)


def test_tdds_says_where_it_has_nothing_to_go_by():
    still = DYNAMICS._replace(movement=torch.zeros_like(MOVEMENT))
    scores = scores_of([still])
    with pytest.raises(ParamsError, match="score is tdds, but the experts recorded no movement, as N images"):
        score_called("tdds", scores)
    assert score_called("forgetting", scores) is scores["forgetting"]


def test_runs_are_as_long_as_asked_for():
    p = torch.tensor([[[0.0], [0.5], [1.0], [1.0]]]).half()
    dynamics = DYNAMICS._replace(probability=p, movement=MOVEMENT[:1, :, :1])
    found = scores_of([dynamics], window=3)
    assert found["dual"].item() == score_dual(dynamics, 3).item() != score_dual(dynamics).item()
    with pytest.raises(ParamsError, match=r"score dual looks at 10 epochs together, but uses 4; lower score\.window"):
        ScoreSpec("dual").check_against(4)
    ScoreSpec("dual", window=4).check_against(4)
    with pytest.raises(ParamsError, match="window is 5, but forgetting looks at single epochs; remove it"):
        ScoreSpec("forgetting", window=5)


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
    """On real digits all scores agree on what is hard: rank correlation with confidence above one half.

    But for those of what moves: what is never learned moves as little as what is easy.
    """
    _, dynamics = experts
    reference = SCORES["confidence"](dynamics).argsort().argsort().double()
    for name in set(SCORES) - set(BY_RUNS):
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


def test_wanted_images_come_first_and_the_easiest_of_them():
    """Class 0, easiest first: 0 4 6 2, of which 2 and 4 are wanted and 0 is taken; class 1: 7 1 3 5, none wanted."""
    wanted, taken = (torch.isin(torch.arange(8), torch.tensor(rows)) for rows in ([2, 4], [0]))
    assert select_wanted(LABELS, DIFFICULTY, NAMES, 3, wanted, taken).tolist() == [4, 2, 6, 7, 1, 3]
    assert select_wanted(LABELS, DIFFICULTY, NAMES, 1, wanted, taken).tolist() == [4, 7]


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
