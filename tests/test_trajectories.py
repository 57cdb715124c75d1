"""Experts in training: stopped anywhere, kept epoch by epoch, to the same bytes."""

from itertools import count

import pytest
import torch

from distillkit.base.randomness import seeded
from distillkit.data.files.container import load_state, save_state
from distillkit.data.images import channel_statistics
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.checkpoints import finish_in_parts
from distillkit.process.interruption import Interrupted, check
from distillkit.process.progress import Counter
from distillkit.training.compute import Compute
from distillkit.training.trajectories import DYNAMICS, ExpertRecipe, Recording, record_expert

RECIPE = ExpertRecipe(NetworkSpec("convnet", "batch", depth=1, width=4), epochs=3, batch=64, lr=0.05, momentum=0.5)


@pytest.fixture
def recording(digits):
    def recording(recipe=RECIPE, compute=Compute()):
        return Recording(digits, channel_statistics(digits.images), recipe, seeded(1), compute)

    return recording


def same(found, expected) -> bool:
    pairs = [(found.trajectory_TP, expected.trajectory_TP), *zip(found.dynamics, expected.dynamics, strict=True)]
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("point", "attempts"), [(7, 4), (9, 3)])
def test_stopped_again_and_again(recording, digits, tmp_path, monkeypatch, point, attempts):
    """A signal is looked for at the start, after each of five updates and after their epoch.

    So the seventh time is after one epoch, and the ninth after two updates of the next, which are lost.
    """
    whole = record_expert(digits, channel_statistics(digits.images), RECIPE, seeded(1))
    for attempt in count(1):
        points = count(1)
        monkeypatch.setattr("distillkit.process.interruption.asked", lambda points=points: next(points) == point)
        work, counter = recording(compute=Compute(on_update=check)), Counter("epochs", 3)
        try:
            finish_in_parts(work, tmp_path / "expert", counter)
            break
        except Interrupted as stopped:
            assert str(stopped) == "interrupted, what is done is kept; run the same command again to go on"
            assert work.done == attempt
    assert (attempt, counter.done) == (attempts, 3)
    assert same(work.result(), whole)
    states = [load_state(path) for path in tmp_path.iterdir()]
    assert sum(len(state["trajectory"]) for state in states) == 3, "each epoch is written once"
    again = recording()
    finish_in_parts(again, tmp_path / "expert", counter)
    assert same(again.result(), whole)


def test_a_checkpoint_holds_what_has_come_since_the_last(recording, tmp_path, monkeypatch):
    """The first after two epochs, the last at the end; a minute has passed once."""
    now = iter([0.0, 59.0, 60.0, 61.0])
    monkeypatch.setattr("distillkit.pipeline.checkpoints.time.monotonic", lambda: next(now, 61.0))
    work = recording()
    finish_in_parts(work, tmp_path / "expert", lambda *_, **__: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expert-0.safetensors", "expert-2.safetensors"]
    first, last = (load_state(tmp_path / f"expert-{since}.safetensors") for since in (0, 2))
    assert torch.equal(torch.cat([first["trajectory"], last["trajectory"]]), work.trajectory_TP[1:])
    assert set(first) == {"since", "trajectory", "generator", "before", *DYNAMICS}


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda state: state | {"since": torch.tensor(2)}, r"it holds epochs 3 to 3 of 3, 0 of which are known"),
        (
            lambda state: state | {"correct": state["correct"][:, 1:]},
            r"it holds torch.bool \(1, 299\); expected \(1, 300",
        ),
        (lambda state: state | {"trajectory": state["trajectory"].half()}, r"it holds torch.float16"),
        (lambda state: {name: part for name, part in state.items() if name != "margin"}, r"'margin'"),
        (lambda state: state | {"generator": torch.zeros(3, dtype=torch.uint8)}, r"RNG state"),
    ],
)
def test_a_part_that_does_not_fit_changes_nothing(recording, tmp_path, capsys, spoil, found):
    work, whole = recording(), recording()
    work.advance()
    save_state(tmp_path / "expert-0.safetensors", spoil(work.state()))
    again = recording()
    with pytest.raises((ValueError, KeyError, RuntimeError), match=found):
        again.restore(load_state(tmp_path / "expert-0.safetensors"))
    for recorded in (again, whole):
        finish_in_parts(recorded, tmp_path / "expert", lambda *_, **__: None)
        (tmp_path / "expert-0.safetensors").unlink()
    assert same(again.result(), whole.result())
    assert capsys.readouterr().err.count("cannot be resumed (") == 1


def test_a_part_without_an_epoch_does_not_hold_up(recording, tmp_path):
    save_state(tmp_path / "expert-0.safetensors", recording().state())
    finish_in_parts(work := recording(), tmp_path / "expert", lambda *_, **__: None)
    assert work.done == 3
