"""DD: bookkeeping by hand, exact gradients, replay, poisoning, and adaptation from experts of other images."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError
from distillkit.base.files import sha256
from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, save_synthetic
from distillkit.data.images import Iterate
from distillkit.evaluation.evaluate import EvaluationRecipe, attack_success, evaluate
from distillkit.evaluation.metrics import metrics_of
from distillkit.matching.attack import Attack
from distillkit.matching.distillation import Distillation, Optim
from distillkit.matching.kernels import EagerKernel
from distillkit.matching.pretrained import Pretrained
from distillkit.matching.unroll import InnerStep, unroll
from distillkit.methods.learning.condensation import network_like
from distillkit.methods.learning.dd import DatasetDistillation
from distillkit.networks.parameters import call_with, flatten, load_flat_
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.make import with_files
from distillkit.selection.random_subset import RandomSubset
from distillkit.training.expert_files import save_experts
from distillkit.training.loop import TrainingRecipe, predict, replay
from distillkit.training.trajectories import ExpertRecipe, record_expert

PLAIN = NetworkSpec("convnet", "instance", 1, 4)
SHARD = Pretrained("shard.safetensors", 64 * "0")
DD = DatasetDistillation(2, steps=2, epochs=2, step_size=0.1, initialisation="fixed", network=PLAIN)
ADAPTED = DatasetDistillation(1, 1, 2, 0.05, "random-pretrained", start="random", pretrained=SHARD)
OPTIM = Optim(steps=6, image_lr=0.1, student_lr_lr=0.05, rule="adam", decay=0.5, decay_every=2)
EVALUATION = EvaluationRecipe(NetworkSpec("resnet18"), TrainingRecipe(1, 2, 0.1), runs=2, curve_points=1)


def distilled(method, material, optim=OPTIM):
    run = Distillation(method, method.init(material, seeded(0)), material, optim, seeded(1))
    list(run)
    return run.result()


def evaluated(synthetic, images):
    return evaluate(synthetic, images, EVALUATION, torch.zeros(len(images)), seeded(2))


def test_images_belong_to_steps(material):
    """Two of each class, S = 2, E = 2: the first of each class in steps 0 and 2, the second in 1 and 3."""
    schedule = DD.init(material, seeded(0)).schedule
    assert schedule.step_N.tolist() == [0, 1] * 10
    assert [rows.tolist() for rows in schedule.rows] == [list(range(0, 20, 2)), list(range(1, 20, 2))] * 2
    assert schedule.lr_T.tolist() == pytest.approx([0.1] * 4)


def test_the_loss_is_that_after_the_last_step_by_hand(material):
    """θ ← θ − η_k ∇ℓ, written out, on the first image of each class, the second, and both again; every η is another."""
    method = replace(DD, real_batch=10**6)
    start = method.init(material, seeded(0))
    lr_T = torch.tensor([0.1, 0.2, 0.3, 0.4])
    images_NCHW, theta_P = start.normalisation.apply(start.images), start.schedule.starts_RP[0]
    network = network_like(PLAIN, material, 0, images_NCHW)
    for lr, first in zip(lr_T, (0, 1, 0, 1), strict=True):
        theta_P = theta_P.detach().requires_grad_()
        step = slice(first, None, 2)
        loss = F.cross_entropy(call_with(network, theta_P, images_NCHW[step]), torch.arange(10))
        theta_P = theta_P - lr * torch.autograd.grad(loss, theta_P)[0]
    real_NCHW = material.normalisation.apply(material.real.pixels())
    expected = F.cross_entropy(call_with(network, theta_P, real_NCHW), material.real.labels)
    iterate = Iterate(images_NCHW, start.labels, lr_T, schedule=start.schedule)
    assert method.loss(iterate, material, seeded(3)).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("initialisation", ["random", "fixed"])
def test_gradients_of_every_step_size_agree_with_finite_differences(material, initialisation):
    method = replace(DD, initialisation=initialisation, networks=1 + (initialisation == "random"))
    start = method.init(material, seeded(0))
    images_NCHW = start.normalisation.apply(start.images).double()

    def loss(lr_T):
        return method.loss(Iterate(images_NCHW, start.labels, lr_T, schedule=start.schedule), material, seeded(5))

    lr_T = torch.tensor([0.1, 0.2, 0.15, 0.05], dtype=torch.float64, requires_grad=True)
    (found_T,) = torch.autograd.grad(loss(lr_T), lr_T)
    h = 1e-6
    turns = h * torch.eye(4, dtype=torch.float64)
    expected = [((loss(lr_T + turn) - loss(lr_T - turn)) / (2 * h)).item() for turn in turns]
    assert found_T.tolist() == pytest.approx(expected, rel=1e-4)


def test_evaluation_repeats_the_inner_loop_to_the_bit(material, tmp_path):
    save_synthetic(tmp_path / "set.safetensors", distilled(DD, material), {})
    synthetic, _ = load_synthetic(tmp_path / "set.safetensors")
    images_NCHW, schedule = synthetic.normalisation.apply(synthetic.images), synthetic.schedule
    assert len(schedule.lr_T.unique()) == 4, "every step has learned a size of its own"
    kernel = EagerKernel(network_like(PLAIN, material, 0, images_NCHW))
    iterate = Iterate(images_NCHW, synthetic.labels, schedule.lr_T)
    steps = [InnerStep(rows, []) for rows in schedule.rows]
    trained = [unroll(kernel, schedule.starts_RP[0], iterate, steps, keep=keep)[-1] for keep in (0, 1, None)]
    replayed = replay(images_NCHW, synthetic.labels, 10, schedule, seeded(0), schedule.starts_RP[0])
    assert all(torch.equal(flatten(replayed), trained_P) for trained_P in trained)


def test_a_fixed_start_gives_every_run_the_same_network(material):
    predicted_RN = evaluated(distilled(DD, material), material.real).predicted_RN
    assert torch.equal(predicted_RN[0], predicted_RN[1])


@pytest.mark.parametrize("initialisation", ["random", "fixed", "random-pretrained"])
def test_a_resumed_run_is_the_same_to_the_bit(material, initialisation):
    method = ADAPTED if initialisation == ADAPTED.initialisation else replace(DD, initialisation=initialisation)
    whole = distilled(method, material)
    first = Distillation(method, method.init(material, seeded(0)), material, OPTIM, seeded(1))
    for _ in range(3):
        first.advance()
    second = Distillation(method, method.init(material, seeded(0)), material, OPTIM, seeded(99))
    second.restore(first.state())
    list(second)
    assert torch.equal(second.result().images, whole.images)
    assert torch.equal(second.result().schedule.lr_T, whole.schedule.lr_T)


def test_networks_to_be_tested_on_are_not_trained_on(material):
    """With all experts but the first kept apart, the first is where every network starts."""
    method = replace(ADAPTED, kept_apart=2)
    start = method.init(material, seeded(0))
    last = material.pretrained.trajectories_ETP[:, -1]
    assert torch.equal(start.schedule.starts_RP, last[1:])
    for seed in range(4):
        assert torch.equal(method.start_of(start.schedule, last[1], material, seeded(seed)), last[0])
    with pytest.raises(ParamsError, match=r"^kept_apart is 3; expected between 1 and 2$"):
        replace(ADAPTED, kept_apart=3).init(material, seeded(0))


def test_networks_are_like_the_experts_but_for_batch_normalisation(material):
    assert material.experts.spec.norm == "batch"
    assert replace(DD, network=None).init(material, seeded(0)).schedule.network == PLAIN


def test_poisoning_turns_one_class_into_another(material):
    """From good networks one kept apart takes threes for fives; the rest suffers less."""
    method = replace(ADAPTED, attack=Attack("3", 5))
    synthetic = distilled(method, material, replace(OPTIM, steps=60, decay=1.0, decay_every=None))
    report, labels_N = evaluated(synthetic, material.real), material.real.labels
    modified_R, taken_R = attack_success(report.predicted_RN, labels_N, 3, 5)
    before = predict(start_network(synthetic, material), material.normalisation.apply(material.real.pixels())).argmax(1)
    assert (before[labels_N == 3] == 5).double().mean() < 0.2
    assert taken_R.min() > 0.6
    assert modified_R.min() > 0.6
    assert synthetic.notes["attack"]["warning"].startswith("made to do harm in a test")
    metrics = metrics_of(report, synthetic, material.real, 1)["attack"]
    assert metrics["taken_for_target"]["mean"] == pytest.approx(taken_R.mean().item(), abs=1e-6)
    assert "attack" not in metrics_of(report, replace(synthetic, notes={}), material.real, 1)


def test_success_of_an_attack_by_hand():
    """Class 0 is to become 2: of two zeros one does; of four images 2 and 1 are as the attacker wants them."""
    modified, taken = attack_success(torch.tensor([[2, 0, 1, 1]]), torch.tensor([0, 0, 1, 2]), 0, 2)
    assert (modified.tolist(), taken.tolist()) == ([0.5], [0.5])


def test_adapting_to_another_domain(material):
    """Experts of digits, shown inverted digits: distilled images help more than none and than random real ones."""
    inverted = replace(material, real=replace(material.real, images=255 - material.real.images))
    adapted = distilled(ADAPTED, inverted, replace(OPTIM, steps=60, decay=1.0, decay_every=None))
    random = RandomSubset(1).init(inverted, seeded(0))
    best = max(
        evaluated(replace(random, schedule=scheduled(adapted, lr)), inverted.real).accuracy_R.mean()
        for lr in (0.01, 0.03, 0.1, 0.3)
    )
    untouched = start_network(adapted, inverted)
    images_NCHW = inverted.normalisation.apply(inverted.real.pixels())
    before = (predict(untouched, images_NCHW).argmax(1) == inverted.real.labels).double().mean()
    after = evaluated(adapted, inverted.real).accuracy_R.mean()
    assert after > before + 0.2
    assert after > best + 0.05


def scheduled(synthetic, lr):
    return replace(synthetic.schedule, lr_T=torch.full_like(synthetic.schedule.lr_T, lr))


def start_network(synthetic, material):
    network = network_like(synthetic.schedule.network, material, 0, synthetic.images)
    load_flat_(network, synthetic.schedule.starts_RP[0])
    return network


def test_experts_of_other_images(material):
    method, larger = (
        replace(ADAPTED, start="noise"),
        material.real.images.repeat_interleave(2, 2).repeat_interleave(2, 3),
    )
    for changed in (
        replace(material.real, images=larger),
        replace(material.real, class_names=tuple("0123456789a")),
        replace(material.real, images=material.real.images.expand(-1, 3, -1, -1)),
    ):
        with pytest.raises(ArtifactError, match=r"^shard.safetensors: found networks of \d+ parameters, expected \d"):
            method.init(replace(material, real=changed), seeded(0))


def test_experts_come_from_the_file_that_the_recipe_means(material, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trained = record_expert(
        material.real, material.normalisation, ExpertRecipe(PLAIN, epochs=1, batch=64, lr=0.1), seeded(1)
    )
    save_experts(tmp_path / "shard.safetensors", [trained], PLAIN, {})
    found = replace(SHARD, sha256=sha256(tmp_path / "shard.safetensors"))
    given = with_files(replace(ADAPTED, pretrained=found), material)
    assert torch.equal(given.pretrained.read(0, 1), trained.trajectory_TP[1])
    assert with_files(DD, material) is material
    for other, message in (
        (SHARD, r"^shard.safetensors is not the file that the recipe means: found SHA-256 [0-9a-f]{64}, expected 000"),
        (
            replace(SHARD, file="x"),
            "^file x does not exist; expected what expert training wrote; import or",
        ),
        (replace(SHARD, file="../x"), r"^file is \.\./x; expected a path inside this repository"),
    ):
        with pytest.raises(DistillkitError, match=message):
            with_files(replace(ADAPTED, pretrained=other), material)


def test_batch_normalisation_is_refused(material):
    with pytest.raises(ParamsError, match=r"^the experts are ConvNetBN-1-4, with batch normalisation; a set"):
        replace(ADAPTED, pretrained=None).init(material, seeded(0))
    with pytest.raises(ParamsError, match="give their file"):
        ADAPTED.init(replace(material, pretrained=None), seeded(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DatasetDistillation(5, 2), r"^steps is 2; expected a divisor of ipc \(5\); epochs repeats them$"),
        (lambda: DatasetDistillation(0, 1), "^ipc is 0; expected at least 1$"),
        (lambda: DatasetDistillation(1, 1, 0), "^epochs is 0; expected at least 1$"),
        (lambda: replace(DD, step_size=0.0), "^step_size is 0; expected a finite number above 0$"),
        (lambda: replace(DD, kept_apart=2), "^kept_apart is 2, but initialisation is fixed; remove it, or set init"),
        (lambda: replace(DD, networks=2), "^networks is 2, but initialisation is fixed: there is one; expected 1$"),
        (lambda: replace(DD, network=NetworkSpec("convnet")), "^network is ConvNetBN-3-128, with batch normalisation"),
        (lambda: replace(ADAPTED, network=PLAIN), "^network is given, but initialisation is random-pretrained: netw"),
        (lambda: replace(DD, pretrained=SHARD), "^pretrained is given, but initialisation is fixed; expected one of"),
        (lambda: replace(DD, attack=Attack(3, 5)), "^attack is given, but initialisation is fixed; expected one of"),
        (lambda: Pretrained("x", "12"), "^pretrained.sha256 is '12'; expected the 64 hexadecimal digits of file"),
        (lambda: Attack(3, 3).numbers(tuple("0123")), "^attack.target_class is 3, the attack_class; expected another"),
        (lambda: Attack("2", 2).numbers(tuple("0123")), "^attack.target_class is 2, the attack_class; expected anot"),
        (lambda: Attack("x", 1).numbers(tuple("01")), "^attack.attack_class is 'x'; expected the name of a class, suc"),
        (lambda: Attack(0, 9).numbers(tuple("01")), "^attack.target_class is 9; expected the name .* number, 0 to 1$"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ParamsError, match=message):
        build()
