"""How a job uses the machine: the decision, and that results do not depend on it beyond rounding."""

import platform
import time

import pytest
import torch
from marks import long

from distillkit.base.device import reuse_freed_memory
from distillkit.base.errors import ParamsError
from distillkit.base.randomness import seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import channel_statistics
from distillkit.networks.parameters import flatten
from distillkit.networks.specs import NetworkSpec
from distillkit.process.interruption import Interrupted
from distillkit.training.compute import Compute
from distillkit.training.executors import UNROLLED, forward_flops, plan_compute, side_by_side
from distillkit.training.loop import TrainingRecipe, fit, predict
from distillkit.training.trajectories import ExpertRecipe, record_expert

SMALL, LARGE = NetworkSpec("convnet", depth=2, width=32), NetworkSpec("convnet", depth=3, width=128)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    threads = torch.get_num_threads()
    for name in ("DISTILLKIT_COMPILE", "DISTILLKIT_KEEP"):
        monkeypatch.delenv(name, raising=False)
    yield
    torch.set_num_threads(threads)


def test_forward_flops_by_hand():
    """One block of 4 channels on 3x8x8: 2 · 4·3·9 · 64 for the convolution, 2 · 64·10 for the linear layer."""
    assert forward_flops(NetworkSpec("convnet", depth=1, width=4), (3, 8, 8), 10) == 2 * 4 * 3 * 9 * 64 + 2 * 64 * 10


def test_small_networks_share_cores_and_stay_eager():
    found = plan_compute(CPU, (1, 8, 8), SMALL, 10, visits=10**9)
    assert (found.run, found.channels_last, found.compile) == (side_by_side, True, False)


def test_no_more_cores_than_the_process_may_use(monkeypatch):
    """Whatever is built in: one worker for each of its cores."""
    at_once, most = [], []

    def task(item: int) -> None:
        at_once.append(item)
        time.sleep(0.01)
        most.append(len(at_once))
        at_once.remove(item)

    for cores in (1, 3):
        monkeypatch.setattr("distillkit.training.executors.cores", lambda cores=cores: cores)
        list(side_by_side(task, range(6)))
        assert max(most) == cores


def test_a_signal_is_looked_for_after_every_update(monkeypatch):
    compute = plan_compute(CPU, (1, 8, 8), SMALL, 10, visits=1)
    compute.on_update()
    monkeypatch.setattr("distillkit.process.interruption.asked", lambda: True)
    with pytest.raises(Interrupted):
        compute.on_update()


def test_long_jobs_are_compiled_and_short_ones_are_not():
    """101 MFLOP an image, 3 passes a training step: 10^14 is reached between 300,000 and 400,000 images."""
    short, long = (plan_compute(CPU, (3, 32, 32), LARGE, 10, visits) for visits in (300_000, 400_000))
    assert (short.compile, long.compile) == (False, True)
    assert short.channels_last and long.channels_last
    assert plan_compute(CPU, (3, 32, 32), LARGE, 10, 100_000, UNROLLED).compile


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True), ("auto", False), (" ", False)])
def test_the_environment_decides(monkeypatch, value, expected):
    monkeypatch.setenv("DISTILLKIT_COMPILE", value)
    monkeypatch.setenv("DISTILLKIT_KEEP", "7")
    found = plan_compute(CPU, (1, 8, 8), SMALL, 10, visits=1)
    assert (found.compile, found.keep) == (expected, 7)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DISTILLKIT_COMPILE", "yes", "DISTILLKIT_COMPILE is 'yes'; expected auto or 0 or 1; correct it or unset it"),
        ("DISTILLKIT_COMPILE", "2", "DISTILLKIT_COMPILE is '2'; expected auto or 0 or 1; correct it or unset it"),
        ("DISTILLKIT_KEEP", "-1", "DISTILLKIT_KEEP is '-1'; expected auto or a whole number; correct it or unset it"),
    ],
)
def test_a_bad_environment(monkeypatch, name, value, message):
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError) as error:
        plan_compute(CPU, (1, 8, 8), SMALL, 10, visits=1)
    assert str(error.value) == message


def test_the_allocator_is_asked_where_there_is_glibc():
    assert reuse_freed_memory() == (platform.libc_ver()[0] == "glibc")


@pytest.fixture
def trained(digits):
    """A function that trains a small network in one way of computing."""
    normalisation = channel_statistics(digits.images)

    def train(compute: Compute, precision="fp32", steps=80):
        recipe = TrainingRecipe(steps, batch=50, lr=0.1, augmentation=Augmentation("simple"), precision=precision)
        images = compute.layout(normalisation.apply(digits.pixels()))
        spec = NetworkSpec("convnet", depth=1, width=8)
        network = fit(spec, images, digits.labels, 10, recipe, seeded(0), compute=compute)
        return network, (predict(network, images).argmax(1) == digits.labels).double().mean().item()

    return train


@pytest.mark.parametrize("compute", [Compute(channels_last=True), long(Compute(channels_last=True, compile=True))])
def test_layout_and_compiler_change_rounding_only(trained, compute):
    """Until a ReLU falls on its other side, within 1e-5; the accuracies agree even then."""
    (plain, _), (other, _) = trained(Compute(), steps=10), trained(compute, steps=10)
    assert torch.allclose(flatten(plain), flatten(other), rtol=1e-5, atol=1e-5)
    accuracy, found = trained(Compute())[1], trained(compute)[1]
    assert accuracy > 0.8
    assert abs(accuracy - found) < 0.03


def test_bfloat16_layers_keep_float32_parameters_and_learn(trained):
    (plain, accuracy), (network, found) = trained(Compute()), trained(Compute(channels_last=True), "bf16")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not torch.equal(flatten(plain), flatten(network))
    assert found > accuracy - 0.05


def test_bfloat16_experts_have_float32_trajectories(digits):
    recipe = ExpertRecipe(NetworkSpec("convnet", depth=1, width=4), epochs=1, batch=64, lr=0.05, precision="bf16")
    expert = record_expert(digits, channel_statistics(digits.images), recipe, seeded(0), compute=Compute())
    assert expert.trajectory_TP.dtype == torch.float32
    assert expert.dynamics.probability.isfinite().all()
