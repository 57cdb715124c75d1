"""``init`` says what its pipeline takes, and chooses numbers that fit a given time."""

from dataclasses import replace
from functools import partial

import pytest

from distillkit.base.errors import ParamsError
from distillkit.base.outside import read_yaml
from distillkit.base.params import read
from distillkit.data.origin import Found
from distillkit.estimates import duration
from distillkit.estimates.duration import START, by_stage, other_seconds, seconds_of
from distillkit.estimates.resources import Images
from distillkit.estimates.speeds import Speeds
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.pipeline.checks import check_params
from distillkit.pipeline.packaging import PackageSpec
from distillkit.setup import fitting
from distillkit.setup.defaults import Effort
from distillkit.setup.fitting import LEVELS, budget_words, with_room
from distillkit.setup.init import resized
from distillkit.setup.inspection import images_of
from distillkit.setup.params_template import params_text
from distillkit.sources.readers import FolderSource
from distillkit.sources.summary import Summary

MNIST = Summary(dict.fromkeys("0123456789", 6000), 10_000, [(1, 28, 28)], Found())
SOURCE, PACKAGE = FolderSource(path="data/mnist"), PackageSpec("mnist", "selmatch-ipc300")


def text_for(effort: Effort, ipc: int = 300) -> str:
    return params_text(SOURCE, MNIST, (ipc,), ("window", "mtt", "selmatch"), PACKAGE, effort)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([(3, 20, 31), (3, 40, 40)], "32x32"),
        ([(3, 224, 224)], "32x32"),
        ([(3, 96, 64)], None),
    ],
)
def test_init_says_that_images_will_be_resized(shapes, expected):
    """As params.yaml then says: those of several sizes, or of one too large for a laptop."""
    found = replace(MNIST, shapes=shapes)
    words = () if expected is None else (f"all images will be resized to {expected} (data.size in params.yaml)",)
    assert resized(found) == words
    assert ("  size: [32, 32] " in params_text(SOURCE, found, (1,), ("random",), PACKAGE)) == (expected is not None)


@pytest.fixture
def machine(monkeypatch):
    """One that trains 2,000 images a second at width 32, in proportion to the width below."""

    def speeds(data, images):
        speed = 2000 * 32 / data["evaluation"]["network"]["width"]
        return Speeds(speed, speed, speed, speed / 4)

    monkeypatch.setattr(fitting, "speeds_of", speeds)
    yield speeds


def chosen(minutes: int | None, ipc: int = 300):
    return fitting.fitting(minutes, ipc, partial(text_for, ipc=ipc), partial(images_of, MNIST, (28, 28)))


def test_without_a_limit_the_numbers_are_the_usual_ones(machine):
    effort, seconds = chosen(None)
    assert effort == Effort() and "per_class" not in text_for(effort)
    assert sum(seconds.values()) > 40 * 60, "MNIST took over 40 minutes"


@pytest.mark.parametrize("minutes", [5, 10, 30])
def test_what_is_chosen_fits_by_the_arithmetic_of_doctor(machine, minutes):
    effort, seconds = chosen(minutes)
    assert sum(seconds.values()) <= 60 * minutes
    data = read_yaml(text_for(effort).encode())
    check_params(data)
    images = images_of(MNIST, (28, 28), effort.per_class)
    assert seconds == seconds_of(data, images, machine(data, images))
    levels = [with_room(level, 300) for level in LEVELS]
    better = levels[levels.index(effort) - 1]
    data = read_yaml(text_for(better).encode())
    images = images_of(MNIST, (28, 28), better.per_class)
    assert sum(seconds_of(data, images, machine(data, images)).values()) > 60 * minutes, "nothing better fits"


def test_every_level_can_be_read_and_takes_less_than_the_one_before(machine, monkeypatch):
    monkeypatch.setattr("test_minutes.PACKAGE", PackageSpec("mnist", "selmatch-ipc10"))
    taken = []
    for effort in LEVELS:
        data = read_yaml(text_for(effort, ipc=10).encode())
        check_params(data)
        assert data["experts"]["recipe"]["network"]["width"] == effort.width == data["evaluation"]["network"]["width"]
        assert data["data"].get("per_class") == effort.per_class
        assert data["recipes"]["mtt-ipc10"]["optim"]["steps"] == effort.steps
        assert data["recipes"]["mtt-ipc10"]["matching"]["max_start_epoch"] < effort.epochs
        images = images_of(MNIST, (28, 28), effort.per_class)
        taken.append(sum(seconds_of(data, images, machine(data, images)).values()))
    assert taken == sorted(taken, reverse=True) and len(set(taken)) == len(taken)


def test_a_cap_leaves_room_for_the_sets(machine):
    """Classes keep twice as many images as the largest set takes, so that a window can move."""
    assert [with_room(level, 300).per_class for level in LEVELS] == [None] * 4 + [1000, 600, 600, 600]


def test_no_cap_is_written_that_no_class_reaches(machine):
    """Classes of 800 images at most: neither 1,000 nor, where it would make room for a set, 800."""
    assert [with_room(level, 300, 800).per_class for level in LEVELS] == [None] * 5 + [600] * 3
    assert [with_room(level, 400, 800).per_class for level in LEVELS] == [None] * 8
    seen = []
    fitting.fitting(10**9, 300, text_for, lambda cap: seen.append(cap) or images_of(MNIST, (28, 28), cap), 800)
    with pytest.raises(ParamsError):
        fitting.fitting(0, 300, text_for, lambda cap: seen.append(cap) or images_of(MNIST, (28, 28), cap), 800)
    assert set(seen) == {None, 600}


def test_what_cannot_fit_is_refused(machine, monkeypatch):
    monkeypatch.setattr(fitting, "speeds_of", lambda *_: Speeds(10, 10, 10, 10))
    with pytest.raises(ParamsError, match=r"^--minutes is 1, but the least that init offers takes about \d+ (min|h)"):
        chosen(1)


def test_it_is_told_stage_by_stage(machine):
    effort, seconds = chosen(10)
    first, second = budget_words(seconds, 10, effort)
    for stage in ("fetch", "experts", "score", "reference", "distill", "evaluate", "report", "package"):
        assert f"{stage} " in first
    assert second.startswith("to fit 10 min: ") and f"per_shard {effort.per_shard} instead of 4" in second
    assert list(budget_words(seconds, None, Effort())) == [first]
    assert by_stage({"distill a": 1.0, "distill b": 2.0, "score": 1.0}) == {"distill": 3.0, "score": 1.0}


def test_other_networks_take_time_by_their_flop():
    """An MLP on 8x8 images: 2 (64 x 128 + 128 x 128 + 128 x 10) FLOP."""
    told = {
        "network": {"name": "convnet", "depth": 1, "width": 4},
        "training": {"steps": 100, "batch": 10, "lr": 0.1},
        "runs": 2,
    }
    main = read(told, EvaluationRecipe, "evaluation")
    other = replace(main, others=("mlp",)).with_others()["mlp"]
    images, speeds = Images((1, 8, 8), 10, 600, 300), Speeds(100, 50, 40, 20)
    own = duration.tested_seconds(other, images, 10, speeds, curve=False) - START
    flops = 2 * (64 * 128 + 128 * 128 + 128 * 10), 2 * (4 * 9 * 64 + 64 * 10)
    assert other_seconds(main, other, images, 10, speeds) == pytest.approx(own * flops[0] / flops[1])
