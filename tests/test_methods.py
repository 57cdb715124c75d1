"""One contract for every method, on real digits."""

import re
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import torch
from marks import long

from distillkit.base.about import options_of
from distillkit.base.errors import ArtifactError, ParamsError, WindowError
from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, save_synthetic
from distillkit.data.images import Iterate, to_pixels
from distillkit.data.selection import class_rows
from distillkit.matching.attack import Attack
from distillkit.matching.difficulty_correction import DifficultyCorrection
from distillkit.matching.distillation import Distillation, Optim
from distillkit.matching.method import Method, uses_experts
from distillkit.matching.objectives import closest_step, trajectory_matching_loss
from distillkit.matching.pretrained import Pretrained
from distillkit.matching.replay import Replay, StepSizeScan
from distillkit.matching.soft_labels import mean_of_those_right
from distillkit.methods import METHODS
from distillkit.methods.generator.denoising import Sampling
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.generator.networks import AutoencoderSpec, DiTSpec, FitSpec, GeneratorSpec, UNetSpec
from distillkit.methods.learning.att import AutomaticTrajectories
from distillkit.methods.learning.ccfs import CurriculumSelection, shares
from distillkit.methods.learning.dc import DatasetCondensation, GradientMatching, SiameseCondensation
from distillkit.methods.learning.dd import DatasetDistillation
from distillkit.methods.learning.dm import DistributionMatching
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.methods.learning.selmatch import SelMatch
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.checkpoints import finishing, kept, resumed
from distillkit.pipeline.unfinished import remembering
from distillkit.process.interruption import Interrupted
from distillkit.selection.confident import ConfidentSubset
from distillkit.selection.coresets import CoverageCentric, Herding, KCentre, Moderate
from distillkit.selection.dual import DualSampling
from distillkit.selection.full import FullSet
from distillkit.selection.imported import Imported
from distillkit.selection.means import Centroids, ClassMeans
from distillkit.selection.optimised import OptimisedSubset
from distillkit.selection.random_subset import RandomSubset
from distillkit.selection.rded import RealisticCrops, composed, framed, random_crop
from distillkit.selection.rules import distance_to_median, herd, middle
from distillkit.selection.window import WindowScan, WindowSubset
from distillkit.training.compute import Compute
from distillkit.training.features import expert_features
from distillkit.training.loop import TrainingRecipe, predict
from distillkit.training.trajectories import KindOfExperts

IPC = 4
MATCHING = Matching(student_steps=3, student_batch=20, expert_epochs=1, max_start_epoch=2)
OPTIM = Optim(steps=6, image_lr=5, student_lr_init=0.05, student_lr_lr=0.01, label_lr=1.0)
OPTIM_OF_A_PART = Optim(steps=6, image_lr=5, student_lr_init=0.05, student_lr_lr=0.01)
INSTANCE = NetworkSpec("convnet", "instance", depth=1, width=4)
CORRECTION = DifficultyCorrection(0.01, final_weight=0.005, over=5)
SCAN = WindowScan((0.0, 0.4), holdout=0.2, runs=1, training=TrainingRecipe(steps=20, batch=20, lr=0.05))
CONDENSING = GradientMatching(updates=4, inner_epochs=3, real_batch=64)
REPLAY = Replay(steps=2, epochs=3, step_size=StepSizeScan((0.01, 0.1), holdout=0.2, runs=1))
FIT = FitSpec(steps=4, batch=8, lr=1e-3)
PRETRAINED = Pretrained("experts.safetensors", 64 * "0")
EXAMPLES = {
    "full": [FullSet()],
    "random": [RandomSubset(IPC), RandomSubset(IPC, REPLAY)],
    "window": [WindowSubset(IPC, 0.25), WindowSubset(IPC, SCAN), WindowSubset(IPC, 0.5, "ipc")],
    "confident": [ConfidentSubset(IPC)],
    "herding": [Herding(IPC), Herding(IPC, experts=2)],
    "k-centre": [KCentre(IPC)],
    "moderate": [Moderate(IPC), Moderate(IPC, experts=2)],
    "ccs": [CoverageCentric(IPC, 0.3), CoverageCentric(IPC, 0.0, strata=3)],
    "dual": [DualSampling(IPC), DualSampling(IPC, exponent=1.0)],
    "optimised": [
        OptimisedSubset(IPC, sets=3, runs=1, holdout=0.2, training=TrainingRecipe(steps=20, batch=20, lr=0.05)),
        OptimisedSubset(IPC, sets=2, runs=1, holdout=0.2, replay=REPLAY, best_fraction=1.0),
    ],
    "kmeans": [Centroids(IPC, tries=2), Centroids(IPC, tries=1, replay=REPLAY)],
    "average": [ClassMeans(1), ClassMeans(1, replace(REPLAY, steps=1))],
    "dd": [
        DatasetDistillation(IPC, steps=2, step_size=0.1, networks=2),
        DatasetDistillation(IPC, 1, 2, 0.1, "fixed", start="random", labels="learned"),
        DatasetDistillation(IPC, 4, 1, 0.1, "random-pretrained", pretrained=PRETRAINED, attack=Attack("3", 5)),
        DatasetDistillation(IPC, 2, 1, 0.1, "fixed-pretrained", pretrained=PRETRAINED),
    ],
    "dm": [DistributionMatching(IPC), DistributionMatching(IPC, "noise", network=INSTANCE)],
    "dc": [
        DatasetCondensation(IPC, matching=CONDENSING),
        DatasetCondensation(IPC, "random", replace(CONDENSING, updates=3, inner_epochs=2, network=INSTANCE)),
    ],
    "dsa": [
        SiameseCondensation(IPC, matching=CONDENSING),
        SiameseCondensation(
            IPC, matching=replace(CONDENSING, updates=1, network=INSTANCE, difficulty_correction=CORRECTION)
        ),
    ],
    "mtt": [
        TrajectoryMatching(IPC, MATCHING),
        TrajectoryMatching(IPC, MATCHING, "window", 0.25),
        TrajectoryMatching(IPC, MATCHING, "confident"),
        TrajectoryMatching(IPC, replace(MATCHING, first_max_start_epoch=1, widen_steps=20), labels="learned"),
        TrajectoryMatching(IPC, replace(MATCHING, difficulty_correction=CORRECTION)),
    ],
    "att": [AutomaticTrajectories(IPC, MATCHING), AutomaticTrajectories(IPC, MATCHING, "window", 0.25, "learned")],
    "selmatch": [
        SelMatch(IPC, 0.5, MATCHING, 0.25),
        SelMatch(IPC, 0.75, MATCHING, start="confident"),
        SelMatch(IPC, 0.5, MATCHING, 0.25, labels="learned"),
    ],
    "ccfs": [
        CurriculumSelection(
            IPC, 0.25, MATCHING, OPTIM_OF_A_PART, TrainingRecipe(steps=20, batch=20, lr=0.05), rounds=2
        ),
        CurriculumSelection(IPC, 0.5, MATCHING, OPTIM_OF_A_PART, TrainingRecipe(10, 20, 0.05), labels="soft"),
    ],
    "rded": [RealisticCrops(IPC), RealisticCrops(IPC, factor=2, crops=2, pool=16, experts=2)],
    "diffusion": [
        Diffusion(IPC, GeneratorSpec(UNetSpec("unet", (8, 16), 1), FIT), Sampling(steps=3)),
        Diffusion(IPC, GeneratorSpec(DiTSpec("dit", 1, 2, 8), FIT, AutoencoderSpec(FIT, (8, 8), 2)), Sampling(steps=3)),
    ],
    "imported": [Imported(IPC, "imported/set.safetensors", 64 * "0")],
}
ALL = [pytest.param(method, id=f"{name}-{i}") for name, methods in EXAMPLES.items() for i, method in enumerate(methods)]
MADE = [param for param in ALL if isinstance(param.values[0], Centroids | ClassMeans | Diffusion | RealisticCrops)]
SELECTING = [
    param for param in ALL if param not in MADE and not isinstance(param.values[0], Imported | CurriculumSelection)
]
LEARNING = [param for param in ALL if isinstance(param.values[0], Method)]


def first_of_each(examples):
    """Every day the first example of each method; all of them in the long run."""
    return [param if param.id.endswith("-0") else long(*param.values, id=param.id) for param in examples]


def test_every_method_is_under_the_contract():
    assert set(EXAMPLES) == set(METHODS)
    assert all(isinstance(method, METHODS[name]) for name, methods in EXAMPLES.items() for method in methods)


@pytest.mark.parametrize("name", METHODS)
def test_people_can_read_what_it_is(name):
    about = METHODS[name].about
    assert about.title
    assert re.match(r"[A-Z].*\.$", about.summary)
    assert re.match(r"@\w+\{", about.paper) or not about.paper
    assert set(about.builds_on) < set(METHODS) - {name}
    if hasattr(METHODS[name], "loss"):
        assert about.paper, "a method belongs here when it has a paper"


@pytest.mark.parametrize("method", SELECTING)
def test_starts_from_images_of_every_class(method, material):
    """Real ones, or noise that says of every image that it comes from none."""
    synthetic = method.init(material, seeded(0))
    if not isinstance(method, FullSet):
        assert synthetic.images_per_class == [IPC] * 10
    if getattr(method, "start", None) == "noise":
        assert (synthetic.source_row == -1).all()
        assert synthetic.learned.all()
        normalised = synthetic.normalisation.apply(synthetic.pixels())
        assert (abs(normalised.mean()) < 0.1, 0.9 < normalised.std() < 1.1) == (True, True)
        return
    assert torch.equal(synthetic.pixels(), to_pixels(material.real.images[synthetic.source_row]))
    assert torch.equal(synthetic.labels, material.real.labels[synthetic.source_row])
    assert len(set(synthetic.source_row.tolist())) == len(synthetic)


@pytest.mark.parametrize("method", MADE)
def test_made_images_are_of_every_class_and_of_no_row(method, material):
    synthetic = method.init(material, seeded(0))
    assert synthetic.images_per_class == [method.ipc] * 10
    assert synthetic.learned.all()
    assert (synthetic.source_row == -1).all()
    assert (synthetic.images.dtype, synthetic.images.shape[1:]) == (torch.float32, material.real.images.shape[1:])
    assert synthetic.images.min() >= 0
    assert synthetic.images.max() <= 1


@pytest.mark.parametrize("method", first_of_each(ALL))
def test_same_generator_same_bytes_however_often_it_is_interrupted(method, material, whole, tmp_path, monkeypatch):
    """Kept as its stage keeps it, with a checkpoint at each step and a signal at every third safe point."""
    save_synthetic(tmp_path / "whole", whole(method), {})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distillkit.pipeline.checkpoints.SECONDS_BETWEEN_CHECKPOINTS", 0)
    points, interrupted = count(1), 0
    monkeypatch.setattr("distillkit.process.interruption.asked", lambda: next(points) % 3 == 0)
    while True:
        compute = remembering(Compute(finish=finishing(Path("model"), "made")), Path("work"), torch.Tensor)
        try:
            synthetic = finished(method, replace(material, compute=compute), Path("work/state"))
            break
        except Interrupted:
            interrupted += 1
    save_synthetic(tmp_path / "parts", synthetic, {})
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert interrupted >= 2 or not isinstance(method, Method | Diffusion)


@pytest.mark.parametrize("method", ALL)
def test_artifact_round_trip(method, whole, tmp_path):
    synthetic = whole(method)
    save_synthetic(tmp_path / "set.safetensors", synthetic, {"recipe": "x"})
    loaded, provenance = load_synthetic(tmp_path / "set.safetensors")
    names = [
        "images",
        "labels",
        "learned",
        "source_row",
        *(["soft_labels"] if synthetic.soft_labels is not None else []),
    ]
    for name in names:
        assert torch.equal(getattr(loaded, name), getattr(synthetic, name))
    assert (loaded.student_lr, loaded.class_names, provenance) == (
        synthetic.student_lr,
        synthetic.class_names,
        {"recipe": "x"},
    )


@pytest.mark.parametrize("method", LEARNING)
def test_only_learned_images_change(method, material, whole):
    start, end = method.init(material, seeded(0)), whole(method)
    assert torch.equal(start.learned, end.learned)
    assert torch.equal(start.pixels()[~start.learned], end.images[~start.learned]), "real images must stay bit for bit"
    assert (start.pixels() != end.images).flatten(1).any(1)[start.learned].all()
    if start.soft_labels is not None:
        assert torch.equal(start.soft_labels[~start.learned], end.soft_labels[~start.learned])
        assert (start.soft_labels != end.soft_labels).any(1)[start.learned].all()
        torch.testing.assert_close(end.soft_labels.sum(1), torch.ones(len(end)))


@pytest.mark.parametrize("method", first_of_each(LEARNING))
def test_loss_falls(method, material):
    dear = isinstance(method, DatasetCondensation | SiameseCondensation)  # a step of five others
    optim = replace(optim_for(method), **{"steps": 20, "image_lr": 15} if dear else {"steps": 24})
    run = Distillation(method, method.init(material, seeded(0)), material, optim, seeded(1))
    losses, part = [step.loss for step in run], optim.steps // 4
    assert sum(losses[-part:]) < 0.9 * sum(losses[:part])
    assert (run.result().student_lr is not None) == method.student


@pytest.mark.parametrize("method", LEARNING)
def test_gradient_agrees_with_finite_differences(method, material):
    """Along a random direction, in float64: (L(x + hd) − L(x − hd)) / 2h."""
    start = method.init(material, seeded(0))
    images = start.normalisation.apply(start.images).double()
    student = replace(material, experts=as_double(material.experts), pretrained=as_double(material.pretrained))
    student.kernel.network.double()
    direction = torch.rand(images.shape, dtype=torch.float64, generator=seeded(3)) - 0.5
    turn = torch.rand(len(start), 10, dtype=torch.float64, generator=seeded(4)) - 0.5

    step_size = torch.tensor(0.05, dtype=torch.float64) if start.schedule is None else start.schedule.lr_T.double()

    def loss(amount):
        labels = start.labels if start.soft_labels is None else (turn * amount + start.soft_labels.double()).softmax(1)
        iterate = Iterate(images + amount * direction, labels, step_size, schedule=start.schedule)
        return method.loss(iterate, student, seeded(7))

    amount = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(amount), amount)
    h = 1e-5
    assert slope.item() == pytest.approx((loss(h) - loss(-h)).item() / (2 * h), rel=1e-4)


def test_the_range_of_start_epochs_widens():
    matching = Matching(1, 1, 1, max_start_epoch=9, min_start_epoch=2, first_max_start_epoch=4, widen_steps=10)
    assert [matching.max_start_at(step) for step in (0, 1, 2, 9, 10, 99)] == [4, 4, 5, 8, 9, 9]


def test_att_matches_the_step_that_comes_closest(material):
    """With all three steps matched one by one, the loss is that of one of them: of the closest in L1."""
    method = AutomaticTrajectories(IPC, MATCHING)
    start = method.init(material, seeded(0))
    iterate = Iterate(start.normalisation.apply(start.images), start.labels, torch.tensor(5.0))
    start_P, thetas, target_P = MATCHING.stretch(iterate, material, seeded(7))
    closest = min(thetas, key=lambda theta_P: (theta_P - target_P).abs().sum())
    assert closest is thetas[0], "such large steps lead away"
    expected = trajectory_matching_loss(closest, start_P, target_P)
    assert method.loss(iterate, material, seeded(7)).item() == expected.item()


def test_closest_step():
    """Distances 3, 1, 1 in L1: the last of equals; in L2 the first of them would be further."""
    thetas = [torch.tensor(x) for x in ([3.0, 0.0], [0.5, 0.5], [0.0, 1.0])]
    assert closest_step(thetas, torch.zeros(2)) == 2
    assert closest_step([torch.full((2,), 1e6), torch.full((2,), 2e6)], torch.zeros(2)) == 0


def test_learned_labels_start_from_the_experts_that_are_right():
    """Experts 1 and 2 are right about image 1, so logits (2, 0) and (4, 0) count; nobody about image 2: all count."""
    logits = torch.tensor([[[2.0, 0.0], [3.0, 0.0]], [[4.0, 0.0], [1.0, 0.0]], [[0.0, 9.0], [2.0, 0.0]]])
    assert mean_of_those_right(logits, torch.tensor([0, 1])).tolist() == [[3.0, 0.0], [2.0, 0.0]]


def test_what_an_expert_says_of_an_image_does_not_depend_on_its_neighbours(material):
    expert = material.expert(1)
    images = material.normalisation.apply(material.real.pixels())
    torch.testing.assert_close(predict(expert, images)[:3], predict(expert, images[:3]))
    assert (predict(expert, images).argmax(1) == material.real.labels).double().mean() > 0.4


def test_selmatch_learns_the_easier_end_of_the_window(material):
    """ipc 4, fraction 0.75: of every class the hardest image stays real, the three easier ones are learned."""
    start = SelMatch(IPC, 0.75, MATCHING, 0.25).init(material, seeded(0))
    assert start.learned.tolist() == [False, True, True, True] * 10
    difficulty = material.difficulty_N[start.source_row].view(10, IPC)
    assert (difficulty.diff(dim=1) <= 0).all(), "hardest first"


@pytest.mark.parametrize("method", EXAMPLES["ccfs"])
def test_ccfs_adds_the_easiest_images_that_are_still_wrong(method, material, whole, monkeypatch):
    """Learned ones first. What a round adds is wrong for its network and right for the expert, while there is such."""
    said = []
    predicted = CurriculumSelection.predicted

    def spy(self, chosen, *others):
        said.append((chosen, predicted(self, chosen, *others)))
        return said[-1][1]

    monkeypatch.setattr(CurriculumSelection, "predicted", spy)
    found, real = method.init(material, seeded(0)), material.real
    assert found.learned.tolist() == [row < method.learned for row in range(IPC)] * 10
    kept = ~found.learned
    assert torch.equal(found.pixels()[kept], to_pixels(real.images[found.source_row[kept]]))
    assert torch.equal(found.labels, real.labels[found.source_row])
    assert len(set(found.source_row.tolist())) == len(found)
    assert (found.soft_labels is None) == (method.labels == "hard")
    parts = shares(IPC - method.learned, method.rounds)
    assert len(said) == len(parts)
    known = predict(material.expert(0), material.normalised(torch.arange(300))).argmax(1) == real.labels
    (before, first), (after, _) = said[0], (said[1] if len(said) > 1 else (found, None))
    for label in range(10):
        free = (real.labels == label) & ~torch.isin(torch.arange(300), before.source_row)
        wanted = (free & known & (first != label)).nonzero().squeeze(1)
        easiest = wanted[material.difficulty_N[wanted].argsort(stable=True)][: parts[0]].tolist()
        added = after.source_row[(after.labels == label) & ~after.learned].tolist()
        assert added[: len(easiest)] == easiest


def test_rounds_share_what_is_to_be_selected():
    assert shares(8, 3) == [3, 3, 2]
    assert shares(2, 3) == [1, 1]


def test_crops_are_judged_in_the_middle_of_the_mean_colour(material):
    """Of 4 x 4 in 8 x 8: two pixels of what normalises to 0 on each side."""
    crops = material.real.pixels(torch.arange(2))[:, :, :4, :4]
    shown = framed(crops, (8, 8), material.normalisation)
    assert torch.equal(shown[:, :, 2:6, 2:6], material.normalisation.apply(crops))
    shown[:, :, 2:6, 2:6] = 0
    assert shown.abs().max() < 1e-6


def test_crops_fill_cells_of_all_images_one_after_the_other():
    """Eight crops of one colour each, two images of 5 x 4: crops 0 and 1 are the top left cells, which are larger."""
    crops = torch.arange(8.0)[:, None, None, None].expand(8, 1, 2, 2)
    found = composed(crops, 2, (5, 4))
    assert found.shape == (2, 1, 5, 4)
    assert found[0, 0].tolist() == [[0, 0, 2, 2]] * 3 + [[4, 4, 6, 6]] * 2
    assert found[1, 0].tolist() == [[1, 1, 3, 3]] * 3 + [[5, 5, 7, 7]] * 2


def test_crops_cover_from_a_twelfth_of_the_image_to_all_of_it():
    """Of a 10 x 10 image whose pixels tell their column, at its own size: sides 3 to 10, anywhere inside."""
    image, generator = (torch.arange(10.0) / 10).expand(1, 10, 10), seeded(0)
    crops = torch.stack([random_crop(image, (10, 10), generator) for _ in range(300)])
    spans = 10 * (crops.amax((1, 2, 3)) - crops.amin((1, 2, 3))) + 1
    assert {round(span) for span in spans.tolist()} == set(range(3, 11))
    assert crops[spans.argmax()].allclose(image)
    assert {round(10 * low) for low in crops.amin((1, 2, 3)).tolist()} >= set(range(7))


def test_rded_keeps_the_crops_that_the_expert_classifies_best(material, monkeypatch):
    """One crop an image, of the smallest loss of all that were drawn of it, and then the images of the smallest."""
    method, drawn = RealisticCrops(2, crops=3, pool=12), []
    best_crops = RealisticCrops.best_crops

    def spy(self, *arguments):
        drawn.append(best_crops(self, *arguments))
        return drawn[-1]

    monkeypatch.setattr(RealisticCrops, "best_crops", spy)
    found = method.init(material, seeded(0))
    for label, (crops, losses) in enumerate(drawn):
        assert len(crops) == 12
        said = predict(material.expert(0), framed(crops, (8, 8), material.normalisation)).log_softmax(1)[:, label].neg()
        torch.testing.assert_close(said, losses)
        assert torch.equal(found.images[found.labels == label], crops[losses.argsort()[:2]])


def test_rded_needs_as_many_images_as_crops(material):
    with pytest.raises(ParamsError, match="pool is 15, but ipc 4 images of 2 x 2 crops take 16; expected at least as"):
        RealisticCrops(4, factor=2, pool=15)
    with pytest.raises(WindowError, match=r"take 36 images of a class, but class '.' has 2\d; lower ipc or factor"):
        RealisticCrops(4, factor=3, pool=36).init(material, seeded(0))


def test_imported_keeps_the_pixels_and_takes_the_names_and_statistics_of_the_data(material, imported):
    """What the package shares must be the real data's; what came with the set stays in its notes."""
    names = tuple("abcdefghij")
    named = replace(
        material, real=replace(material.real, class_names=names), imported=replace(imported, student_lr=0.5)
    )
    synthetic = EXAMPLES["imported"][0].init(named, seeded(0))
    assert torch.equal(synthetic.images, imported.images)
    assert torch.equal(synthetic.labels, imported.labels)
    assert synthetic.images_per_class == [IPC] * 10
    assert (synthetic.class_names, synthetic.student_lr) == (names, 0.5)
    assert synthetic.normalisation is material.normalisation
    assert synthetic.learned.all()
    assert (synthetic.source_row == -1).all()
    assert synthetic.notes == {"imported": {"saved_as": "pixels", "mean": [0.5], "std": [0.25]}}


def test_imported_does_not_believe_the_rows_of_another_source(material, imported):
    real = replace(imported, learned=~imported.learned, source_row=torch.arange(40))
    synthetic = EXAMPLES["imported"][0].init(replace(material, imported=real), seeded(0))
    assert (synthetic.source_row == -1).all()
    assert not synthetic.learned.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"images": torch.zeros(40, 3, 8, 8)},
            r"^x has images of \(3, 8, 8\); expected \(1, 8, 8\); change data.size$",
        ),
        ({"class_names": tuple("0123456789a")}, r"^x has 11 classes; expected 10, as the data has; import"),
        ({"class_names": tuple("1023456789")}, r"^x calls a class '1'; expected '0', in the order of the data's"),
        (
            {"labels": torch.arange(10).repeat(4).sort().values.clamp(max=8)},
            r"^ipc is 4, but x has 0 to 8 images per cl",
        ),
    ],
)
def test_imported_sets_that_do_not_fit(material, imported, changes, message):
    with pytest.raises(ParamsError, match=message):
        Imported(IPC, "x", 64 * "0").init(replace(material, imported=replace(imported, **changes)), seeded(0))


def test_imported_with_another_ipc(material):
    with pytest.raises(ParamsError, match=r"^ipc is 5, but x has 4 images per class; expected the same$"):
        Imported(5, "x", 64 * "0").init(material, seeded(0))


def test_confident_takes_the_most_probable_labels(material):
    chosen = ConfidentSubset(1).init(material, seeded(0)).source_row
    best = [material.confidence_N[material.real.labels == label].max() for label in range(10)]
    assert torch.equal(material.confidence_N[chosen], torch.stack(best))


def test_one_centre_is_the_average(material):
    """k-means with one cluster a class, and each class's mean pixels by hand."""
    centre, average = (method.init(material, seeded(0)) for method in (Centroids(1), ClassMeans(1)))
    sevens = to_pixels(material.real.images[material.real.labels == 7])
    assert torch.allclose(average.images[7], sevens.mean(0), atol=1e-6)
    assert torch.allclose(centre.images, average.images, atol=1e-6)


def test_k_centre_covers_better_than_random_images(material):
    """The farthest image of a class is nearer to the chosen ones than it is to as many random ones, in features."""
    features = expert_features(material.experts, 1, material.real, material.normalisation)(torch.arange(300))

    def radius(method):
        rows = method.init(material, seeded(0)).source_row
        same = material.real.labels[:, None] == material.real.labels[rows]
        return torch.cdist(features, features[rows]).masked_fill(~same, torch.inf).amin(1).max()

    assert radius(KCentre(IPC)) < radius(RandomSubset(IPC))


def moderate(features_ND, count):
    return middle(distance_to_median(features_ND), count)


@pytest.mark.parametrize(("method", "rule"), [(Herding(IPC), herd), (Moderate(IPC), moderate)])
def test_rules_are_applied_to_the_features_of_each_class(material, method, rule):
    features = expert_features(material.experts, 1, material.real, material.normalisation)
    rows = class_rows(material.real.labels, 10)
    expected = torch.cat([own[rule(features(own), IPC)] for own in rows])
    assert torch.equal(method.init(material, seeded(0)).source_row, expected)


def test_moderate_as_published_ranks_all_classes_together(material):
    """The distances are those of the classes, the middle ranks those of the whole set."""
    features = expert_features(material.experts, 1, material.real, material.normalisation)
    distance = torch.zeros(300, dtype=torch.float64)
    for own in class_rows(material.real.labels, 10):
        distance[own] = distance_to_median(features(own))
    synthetic = Moderate(IPC, balanced=False).init(material, seeded(0))
    first = (300 - 10 * IPC) // 2
    assert set(synthetic.source_row.tolist()) == set(distance.argsort()[first : first + 10 * IPC].tolist())
    assert len(set(synthetic.images_per_class)) > 1
    assert (synthetic.labels.diff() >= 0).all()


def test_herding_keeps_the_mean_better_than_random_images(material):
    features = expert_features(material.experts, 1, material.real, material.normalisation)(torch.arange(300))

    def gap(method):
        rows = method.init(material, seeded(0)).source_row.view(10, IPC)
        means = torch.stack([features[material.real.labels == label].mean(0) for label in range(10)])
        return (features[rows].mean(1) - means).norm(dim=1).sum()

    assert gap(Herding(IPC)) < 0.7 * gap(RandomSubset(IPC))


def test_coverage_leaves_out_the_hardest_of_every_class(material):
    rows = CoverageCentric(IPC, 0.5).init(material, seeded(0)).source_row
    for label in range(10):
        own = material.difficulty_N[material.real.labels == label].sort(descending=True).values
        chosen = material.difficulty_N[rows[material.real.labels[rows] == label]]
        assert chosen.max() <= own[round(0.5 * len(own))]


def test_coverage_as_published_is_over_all_classes(material):
    """As many images in all, of the easier half of the whole set, whatever their classes, and kept class by class."""
    synthetic = CoverageCentric(IPC, 0.5, strata=10, balanced=False).init(material, seeded(0))
    assert len(synthetic) == 10 * IPC
    assert set(synthetic.images_per_class) != {IPC}
    assert (synthetic.labels.diff() >= 0).all()
    assert material.difficulty_N[synthetic.source_row].max() <= material.difficulty_N.sort().values[150]


def test_optimised_takes_the_best_set_or_one_of_the_best():
    accuracies = [0.1, 0.5, 0.9, 0.9, 0.3, 0.2, 0.6, 0.0, 0.4, 0.8]
    best = OptimisedSubset(IPC, sets=10, runs=1, holdout=0.2, training=TrainingRecipe(steps=20, batch=20, lr=0.05))
    assert best.chosen(accuracies, seeded(0)) == 2
    among = replace(best, best_fraction=0.3)
    assert {among.chosen(accuracies, seeded(seed)) for seed in range(30)} == {2, 3, 9}
    assert replace(best, best_fraction=0.01).chosen(accuracies, seeded(0)) == 2


def test_scan_chooses_on_held_out_training_images(material):
    synthetic = WindowSubset(IPC, SCAN).init(material, seeded(0))
    accuracy = synthetic.notes["holdout_accuracy_by_window_start"]
    assert set(accuracy) == {"0", "0.4"}
    assert synthetic.notes["window_start"] == float(max(accuracy, key=accuracy.get))
    fixed = WindowSubset(IPC, synthetic.notes["window_start"]).init(material, seeded(0))
    assert torch.equal(fixed.images, synthetic.images)


def test_scan_leaves_out_windows_that_do_not_fit(material):
    """About 24 images of a class remain beside the holdout: four from rank 22 on are too many."""
    scan = replace(SCAN, candidates=(0.4, 0.9))
    assert set(WindowSubset(IPC, scan).init(material, seeded(0)).notes["holdout_accuracy_by_window_start"]) == {"0.4"}
    with pytest.raises(WindowError, match=r"no window of 4 images .* holdout of 0.2 leaves \d+ images"):
        WindowSubset(IPC, replace(SCAN, candidates=(0.9,))).init(material, seeded(0))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Matching(1, 1, 1, 5, widen_steps=3), "first_max_start_epoch and widen_steps belong together"),
        (lambda: Matching(1, 1, 1, 5, 2, first_max_start_epoch=2, widen_steps=1), "is 2; expected between 3 and 5"),
        (lambda: Optim(1, 1, skip_above=0), "optim.skip_above is 0; expected a finite number above 0"),
        (lambda: Optim(1, 1, decay_every=0), "optim.decay_every is 0; expected at least 1"),
        (lambda: Optim(1, 1, image_average=1), "optim.image_average is 1; expected between 0 and 0.99999"),
        (lambda: Optim(1, 1, decay=0.5), "optim.decay is 0.5, but decay_every is missing; add it, or remove decay"),
        (lambda: Optim(1, 1, decay_every=9), "optim.decay_every is 9, but decay is 1; expected it below 1; add decay"),
        (lambda: Optim(1, 1, decay=2), "optim.decay is 2; expected between 0 and 1"),
        (lambda: SelMatch(4, 0.1, MATCHING, 0.5), "distill_fraction 0.1 of ipc 4 is no image"),
        (lambda: SelMatch(4, 1.5, MATCHING, 0.5), "distill_fraction is 1.5; expected between 0 and 1"),
        (lambda: SelMatch(4, 0.5, MATCHING), "start is window, but window_start is missing"),
        (lambda: TrajectoryMatching(4, MATCHING, window_start=0.5), "start is random, which has no window_start"),
        (lambda: SelMatch(4, 0.5, MATCHING, 1.5), "window_start is 1.5; expected between 0 and 1"),
        (lambda: WindowSubset(4, 1.5), "window_start is 1.5; expected between 0 and 1"),
        (lambda: Matching(0, 1, 1, 1), "matching.student_steps is 0; expected at least 1"),
        (lambda: Matching(1, 1, 1, 1, min_start_epoch=1), "matching.min_start_epoch is 1; expected between 0 and 0"),
        (lambda: Herding(4, experts=0), "experts is 0; expected at least 1"),
        (lambda: KCentre(4, experts=0), "experts is 0; expected at least 1"),
        (lambda: Moderate(4, experts=0), "experts is 0; expected at least 1"),
        (lambda: CoverageCentric(0, 0.1), "ipc is 0; expected at least 1"),
        (lambda: CoverageCentric(4, 1.0), "hardest_dropped is 1; expected between 0 and 0.999"),
        (lambda: CoverageCentric(4, 0.1, strata=0), "strata is 0; expected at least 1"),
        (lambda: OptimisedSubset(4, 0, 1, 0.2, SCAN.training), "sets is 0; expected at least 1"),
        (lambda: OptimisedSubset(4, 1, 0, 0.2, SCAN.training), "runs is 0; expected at least 1"),
        (lambda: OptimisedSubset(4, 1, 1, 0.0, SCAN.training), "holdout is 0; expected between 0.01 and 0.9"),
        (lambda: OptimisedSubset(4, 1, 1, 0.2, SCAN.training, best_fraction=2), "best_fraction is 2; expected between"),
        (lambda: OptimisedSubset(4, 1, 1, 0.2, SCAN.training, best_fraction=0), "best_fraction is 0; expected between"),
        (lambda: OptimisedSubset(4, 1, 1, 0.2), "training is missing; expected either training or replay"),
        (lambda: OptimisedSubset(4, 1, 1, 0.2, SCAN.training, REPLAY), "training is given beside replay; expected"),
        (lambda: Centroids(4, tries=0), "tries is 0; expected at least 1"),
        (lambda: ClassMeans(2), "ipc is 2; expected 1: a class has one average; use method: kmeans"),
        (lambda: Imported(0, "x", 64 * "0"), "ipc is 0; expected at least 1"),
        (lambda: Imported(1, "x", "0123"), "sha256 is '0123'; expected the 64 hexadecimal digits of file"),
        (lambda: Optim(1, -1, 1, 1), "optim.image_lr is -1; expected a finite number above 0"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ParamsError, match=message):
        build()


def test_too_many_images(material):
    sets = OptimisedSubset(99, 1, 1, 0.2, SCAN.training)
    selections = (RandomSubset(99), WindowSubset(99, 0.0), ConfidentSubset(99), SelMatch(99, 0.5, MATCHING, 0.0))
    coresets = (Herding(99), KCentre(99), Moderate(99), CoverageCentric(99, 0.0))
    for method in (*selections, *coresets, Centroids(99), sets):
        with pytest.raises(WindowError, match=r"ipc is 99, but class '.' has .. training images"):
            method.init(material, seeded(0))


def test_matching_past_the_trajectory(material):
    method = TrajectoryMatching(IPC, Matching(3, 20, expert_epochs=2, max_start_epoch=4))
    with pytest.raises(ParamsError, match=r"reaches epoch 5 .* but the experts have 4 epochs"):
        method.init(material, seeded(0))


def test_experts_of_other_images(material):
    """Experts of 8x8 images cannot teach students of 16x16 ones."""
    images = material.real.images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    larger = replace(material, real=replace(material.real, images=images))
    start = TrajectoryMatching(IPC, MATCHING).init(larger, seeded(0))
    run = Distillation(TrajectoryMatching(IPC, MATCHING), start, larger, OPTIM, seeded(0))
    with pytest.raises(ArtifactError, match=r"experts have \d+ parameters, but ConvNetBN-1-4 for these images has \d+"):
        run.advance()


def test_methods_say_what_they_miss(material):
    bare = replace(material, difficulty_N=None, confidence_N=None, experts=None, imported=None)
    for method, what in [
        (WindowSubset(IPC, 0.5), "run the score stage"),
        (ConfidentSubset(IPC), "experts' confidence"),
        (Herding(IPC), "run the experts stage"),
        (CoverageCentric(IPC, 0.3), "run the score stage"),
        (RandomSubset(IPC, REPLAY), "run the experts stage"),
        (TrajectoryMatching(IPC, MATCHING), "run the experts stage"),
        (Imported(IPC, "x", 64 * "0"), "run distillkit import"),
    ]:
        with pytest.raises(ParamsError, match=what):
            method.init(bare, seeded(0))


def optim_for(method):
    if isinstance(method, DatasetDistillation):
        return replace(OPTIM, image_lr=0.3, rule="adam", student_lr_init=None, student_lr_lr=0.05)
    return OPTIM if method.student else replace(OPTIM, student_lr_init=None, student_lr_lr=0.0)


def finished(method, material, checkpoint=None):
    """The method's result: its start when it learns nothing, else after a few steps, kept where a checkpoint is named.

    What comes before the steps is done again where they are resumed, as in the stage.
    """
    start = method.init(material, seeded(0))
    if not isinstance(method, Method):
        return start
    run = Distillation(method, start, material, optim_for(method), seeded(1))
    if checkpoint is not None:
        resumed(run, checkpoint)
    list(run if checkpoint is None else kept(run, checkpoint))
    return run.result()


@pytest.fixture(scope="module")
def whole(material):
    """The result of a method in one go; of the same method always the same object."""
    return cache(lambda method: finished(method, material))


def as_double(experts):
    return replace(experts, trajectories_ETP=experts.trajectories_ETP.double())


@pytest.mark.parametrize(
    ("method", "visits"),
    [
        (DistributionMatching(2, real_batch=30), 10 * (2 + 30)),
        # three updates a network, and before two of them four epochs of 20 images
        (DatasetCondensation(2, "noise", GradientMatching(3, 4, 30)), 10 * (2 + 30) + 20 * 4 * 2 // 3),
        (SiameseCondensation(2, "noise", GradientMatching(1, 9, 30)), 10 * (2 + 30)),
        (TrajectoryMatching(2, Matching(5, 15, 1, 2)), 5 * 15),
        (TrajectoryMatching(2, Matching(5, 50, 1, 2)), 5 * 20),  # no more than there are
        (DatasetDistillation(2, steps=2, epochs=3, networks=4, real_batch=100), 4 * (3 * 20 + 100)),
    ],
)
def test_images_shown_in_one_outer_step_by_hand(method, visits):
    """Of ten classes."""
    assert method.visits(10) == visits


@pytest.mark.parametrize("method", LEARNING)
def test_images_shown_count_every_class(method):
    assert method.visits(1000) >= method.visits(10) > 0


@pytest.mark.parametrize(
    ("method", "keys"),
    [
        (TrajectoryMatching(2, MATCHING), []),
        (TrajectoryMatching(2, MATCHING, labels="learned"), ["guo2024datm"]),
        (AutomaticTrajectories(2, replace(MATCHING, first_max_start_epoch=1, widen_steps=9)), ["guo2024datm"]),
        (SelMatch(2, 0.5, replace(MATCHING, difficulty_correction=CORRECTION), 0.1), ["wang2024sdc"]),
        (DatasetCondensation(2, matching=replace(CONDENSING, difficulty_correction=CORRECTION)), ["wang2024sdc"]),
        (DatasetDistillation(2, 1, labels="learned"), ["guo2024datm"]),
        (None, []),
    ],
)
def test_options_name_the_papers_that_they_come_from(method, keys):
    assert [re.search(r"\{(\w+),", paper).group(1) for paper, _ in options_of(method)] == keys
    assert all(sentence.endswith(".") for _, sentence in options_of(method)), "each says what it does"


@pytest.mark.parametrize("method", [param for param in ALL if not uses_experts(param.values[0])])
def test_who_says_to_use_no_experts_needs_none(method, material):
    """Then another shard, or another difficulty, makes none of their sets anew."""
    kind = KindOfExperts(replace(material.experts.spec, norm="instance"))
    alone = replace(material, experts=kind, difficulty_N=None, confidence_N=None)
    synthetic = method.init(alone, seeded(0))
    if isinstance(method, Method):
        Distillation(method, synthetic, alone, optim_for(method), seeded(1)).advance()


def test_recipes_that_use_experts():
    users = {name for name, methods in EXAMPLES.items() for method in methods if uses_experts(method)}
    assert not users & {"full", "random", "dm", "dc", "dsa", "kmeans", "average", "imported", "diffusion"}
    own = DatasetDistillation(IPC, 2, 1, 0.1, "fixed-pretrained")
    assert uses_experts(own)
    assert not uses_experts(replace(own, pretrained=PRETRAINED))
    assert uses_experts(replace(own, pretrained=PRETRAINED, labels="learned"))
