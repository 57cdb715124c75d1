"""Accuracy of networks trained from scratch on a set: always mean, standard deviation and number of networks.

Axes: R runs; K classes; N test images; S points of the training curve.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from distillkit.base.errors import ArtifactError, check_range
from distillkit.base.randomness import spawn
from distillkit.base.settings import settings
from distillkit.data.images import ImageSet, Schedule, SyntheticSet
from distillkit.data.rows import Images, chosen, normalised
from distillkit.evaluation.neighbours import nearest_classes
from distillkit.evaluation.others import Other, Usual, by_name
from distillkit.networks.parameters import load_flat_
from distillkit.networks.specs import Network, build_network
from distillkit.training.compute import Compute
from distillkit.training.loop import Lot, TrainingRecipe, fit_all, logits_of, predicted_classes, replay

CURVE_IMAGES = 2000  # most test images for a point of the training curve, spread evenly over the split
THIRDS = ("easy", "middle", "hard")


@settings
class EvaluationRecipe:
    """One recipe for all sets: network, training and number of runs. Accuracy is measured after the last update.

    ``neighbours`` is the number of nearest images of the set that vote when test images are classified without a
    network. ``others`` are additional networks that sets are tested with, for the same number of updates, see
    :mod:`~distillkit.evaluation.others`. ``curve_points`` is the number of points of the training curve.
    """

    network: Network
    training: TrainingRecipe
    runs: int
    curve_points: int = 10
    neighbours: int = 1
    others: tuple[Usual | Other, ...] = ()

    def __post_init__(self) -> None:
        check_range("runs", self.runs, 1)
        check_range("curve_points", self.curve_points, 0)
        check_range("neighbours", self.neighbours, 1)
        by_name(self.others)

    @property
    def visits(self) -> int:
        """The number of images shown to all networks, for a set with at least as many images as a batch."""
        return self.runs * self.training.steps * self.training.batch

    def with_others(self) -> "dict[str, EvaluationRecipe]":
        """This recipe for each of the other networks, by its name: another network and learning rate, nothing else."""
        return {name: self.on(other) for name, other in by_name(self.others).items()}

    def on(self, other: Other) -> "EvaluationRecipe":
        training = replace(self.training, lr=other.lr)
        return replace(self, network=other.network, training=training, curve_points=0, others=())

    def plain(self) -> dict[str, Any]:
        """The recipe as JSON values. ``others`` is left out if it is empty, so that older files remain valid."""
        return {key: value for key, value in asdict(self).items() if key != "others" or value}


@dataclass(frozen=True)
class Report:
    """Test accuracies, 0 to 1, and the training curve ``curve_RS`` at the updates ``curve_steps``.

    Points of the curve before the last are measured on a part of the test images. ``third_accuracy_R3`` is for the
    easy, middle and hard third of the test images. ``class_accuracy_RK`` has a column for each class that the test
    images have. ``predicted_RN`` is the class that each run's network predicts for each image.
    """

    accuracy_R: Tensor
    class_accuracy_RK: Tensor
    third_accuracy_R3: Tensor
    curve_steps: list[int]
    curve_RS: Tensor
    predicted_RN: Tensor


class Runs(NamedTuple):
    """The predicted classes of some trained networks for the test images, and their accuracy during training."""

    predicted_RN: Tensor
    curve_RS: Tensor


def evaluate(
    synthetic: SyntheticSet,
    test: ImageSet,
    recipe: EvaluationRecipe,
    test_difficulty_N: Tensor,
    generator: Generator,
    compute: Compute = Compute(),
) -> Report:
    """Train ``recipe.runs`` new networks on ``synthetic`` and test them on ``test``.

    ``test_difficulty_N`` comes from :func:`reference_difficulty`. The same generator state gives the same initial
    weights for every set, so that sets can be compared pairwise. For a set with a schedule, networks are trained by
    that schedule, from its initial weights if it has any, and only ``runs`` and ``curve_points`` of ``recipe`` are
    used.

    Raises ArtifactError when ``test`` does not fit the set, DivergedError when a network's training diverges.
    """
    check_fit(test, synthetic)
    train_NCHW = compute.seen(synthetic.images, synthetic.normalisation, synthetic.labels.device)
    test_NCHW = compute.seen(test.images, synthetic.normalisation, test.device)
    curve_steps, part = spaced(updates_of(synthetic, recipe), recipe.curve_points), curve_part(len(test))
    part_NCHW, part_labels = chosen(test_NCHW, part), test.labels[part]

    def evaluate_group(group: list[tuple[int, Generator]]) -> Runs:
        curves: list[list[Tensor]] = [[] for _ in group]

        def record(step: int, place: int, network: nn.Module) -> None:
            if step in curve_steps[:-1]:
                curves[place].append(accuracy(predicted_classes(network, part_NCHW), part_labels).cpu())

        networks = trained(synthetic, train_NCHW, recipe, group, record, compute)
        predicted_RN = torch.stack([predicted_classes(network, test_NCHW) for network in networks])
        return Runs(predicted_RN.cpu(), torch.tensor(curves, dtype=torch.float64))

    found = list(compute.run(evaluate_group, compute.groups(enumerate(spawn(generator, recipe.runs)))))
    predicted_RN, curve_RS = (torch.cat(parts) for parts in zip(*found, strict=True))
    return summarise(predicted_RN, test.labels.cpu(), test_difficulty_N.cpu(), curve_steps, curve_RS)


def trained(
    synthetic: SyntheticSet,
    train_NCHW: Images,
    recipe: EvaluationRecipe,
    group: Sequence[tuple[int, Generator]],
    on_step: Callable[[int, int, nn.Module], None],
    compute: Compute,
) -> list[nn.Module]:
    """The networks of the runs in ``group``: trained by the set's schedule if it has one, else by the recipe.

    ``on_step`` gets the step, the place in the group and the network.
    """
    targets, classes, schedule = synthetic.targets, len(synthetic.class_names), synthetic.schedule
    if schedule is None:
        lots = [Lot(train_NCHW, targets, generator, synthetic.learned) for _, generator in group]
        return fit_all(recipe.network, lots, classes, recipe.training, on_step=on_step, compute=compute)

    def replayed(place: int, number: int, generator: Generator) -> nn.Module:
        def on(step: int, network: nn.Module) -> None:
            on_step(step, place, network)

        start_P = start_of(schedule, number)
        return replay(train_NCHW[:], targets, classes, schedule, generator, start_P, on_step=on, compute=compute)

    return [replayed(place, *run) for place, run in enumerate(group)]


def curve_part(images: int) -> Tensor:
    """Evenly spaced rows, at most CURVE_IMAGES, of ``images`` test images, on which the curve is measured."""
    return torch.arange(0, images, math.ceil(images / CURVE_IMAGES))


def updates_of(synthetic: SyntheticSet, recipe: EvaluationRecipe) -> int:
    """The number of updates of each network, from the set's schedule if it has one, else from the recipe."""
    return recipe.training.steps if synthetic.schedule is None else len(synthetic.schedule.lr_T)


def workload(synthetic: SyntheticSet, recipe: EvaluationRecipe) -> tuple[Network, int]:
    """The network that :func:`evaluate` trains, and the number of images shown to all networks; from the schedule if
    the set has one.
    """
    schedule = synthetic.schedule
    if schedule is None:
        return recipe.network, recipe.visits
    rounds = len(schedule.lr_T) // (int(schedule.step_N.max()) + 1)
    return schedule.network, recipe.runs * rounds * len(synthetic)


def neighbour_accuracy(synthetic: SyntheticSet, test: ImageSet, neighbours: int) -> float:
    """The share of test images whose class is that of the nearest image of the set, in normalised pixels.

    Several ``neighbours`` vote. The result is deterministic. Raises ArtifactError when ``test`` does not fit the set.
    """
    check_fit(test, synthetic)
    norm, device = synthetic.normalisation, test.device
    tested, others = normalised(test.images, norm, device), normalised(synthetic.images, norm, device)
    found_N = nearest_classes(tested, others, synthetic.labels, len(synthetic.class_names), neighbours)
    return (found_N == test.labels).double().mean().item()


def start_of(schedule: Schedule, run: int) -> Tensor | None:
    """The initial weights (P,) of one run; None if the set has none. Runs take the set's initial weights in turn."""
    starts_RP = schedule.starts_RP
    return None if starts_RP is None else starts_RP[run % len(starts_RP)]


def start_accuracy(synthetic: SyntheticSet, test: ImageSet) -> Tensor | None:
    """Test accuracy (R,) of the set's initial weights before any update; None if the set has none."""
    schedule, classes = synthetic.schedule, len(test.class_names)
    if schedule is None or schedule.starts_RP is None:
        return None
    test_NCHW = normalised(test.images, synthetic.normalisation, test.device)
    network = build_network(schedule.network, test.image_shape, classes, seed=0).to(test_NCHW.device)
    found = []
    for start_P in schedule.starts_RP:
        load_flat_(network, start_P)
        found.append(accuracy(predicted_classes(network, test_NCHW), test.labels))
    return torch.stack(found).cpu()


def check_fit(test: ImageSet, synthetic: SyntheticSet) -> None:
    """Raise ArtifactError unless the test images have the classes and the shape of the synthetic images."""
    if test.class_names != synthetic.class_names or test.images.shape[1:] != synthetic.images.shape[1:]:
        if sorted(test.class_names) != sorted(synthetic.class_names) and len(test.class_names) == len(
            synthetic.class_names
        ):
            own, other = (", ".join(part.class_names[:5]) for part in (synthetic, test))
            raise ArtifactError(f"the test classes are {other}; expected {own}; give the test split of one source")
        raise ArtifactError(
            f"test images are {tuple(test.images.shape[1:])} in {len(test.class_names)} classes, distilled ones "
            f"{tuple(synthetic.images.shape[1:])} in {len(synthetic.class_names)}; give the test split of one source"
        )


def summarise(
    predicted_RN: Tensor, labels_N: Tensor, test_difficulty_N: Tensor, curve_steps: list[int], curve_RS: Tensor
) -> Report:
    """A Report from the predicted classes of each run.

    ``curve_RS`` lacks its last point, which is the accuracy.
    """
    share_RN = (predicted_RN == labels_N).double()
    classes = [share_RN[:, labels_N == label].mean(1) for label in labels_N.unique().tolist()]
    thirds = test_difficulty_N.argsort(stable=True).tensor_split(3)
    return Report(
        accuracy_R=share_RN.mean(1),
        class_accuracy_RK=torch.stack(classes, 1),
        third_accuracy_R3=torch.stack([share_RN[:, rows].mean(1) for rows in thirds], 1),
        curve_steps=curve_steps,
        curve_RS=torch.cat([curve_RS, share_RN.mean(1, keepdim=True)], 1)[:, : len(curve_steps)],
        predicted_RN=predicted_RN,
    )


def attack_success(predicted_RN: Tensor, labels_N: Tensor, attack: int, target: int) -> tuple[Tensor, Tensor]:
    """For a set made to have class ``attack`` classified as ``target``: two rates for each run, both (R,), 0 to 1.

    They are the accuracy for the attacker's labels, and the share of the attacked class that is classified as the
    target (Wang et al. 2018).
    """
    modified_N = labels_N.masked_fill(labels_N == attack, target)
    taken_R = (predicted_RN[:, labels_N == attack] == target).double().mean(1)
    return (predicted_RN == modified_N).double().mean(1), taken_R


def reference_difficulty(
    train: SyntheticSet, test: ImageSet, recipe: EvaluationRecipe, generator: Generator, compute: Compute = Compute()
) -> Tensor:
    """Difficulty (N,) of each test image: 1 − mean probability of its label in networks trained on ``train``.

    It is used only to report accuracy by difficulty; no choice depends on it.
    """
    train_NCHW = compute.seen(train.images, train.normalisation, train.labels.device)
    test_NCHW = compute.seen(test.images, train.normalisation, test.device)

    def label_probabilities(generators: list[Generator]) -> Tensor:
        lots = [Lot(train_NCHW, train.labels, own) for own in generators]
        networks = fit_all(recipe.network, lots, len(train.class_names), recipe.training, compute=compute)
        return torch.stack([probability_of(test.labels, logits_of(network, test_NCHW)) for network in networks]).cpu()

    groups = compute.groups(spawn(generator, recipe.runs))
    return (1 - torch.cat(list(compute.run(label_probabilities, groups))).mean(0)).float()


def probability_of(labels_N: Tensor, logits: Iterable[tuple[slice, Tensor]]) -> Tensor:
    """The probability (N,) of each label, float64, from an iterable of rows and their logits (B, K)."""
    found_N = torch.empty(len(labels_N), dtype=torch.float64, device=labels_N.device)
    for rows, logits_BK in logits:
        found_N[rows] = logits_BK.double().softmax(1).gather(1, labels_N[rows, None]).squeeze(1)
    return found_N


def accuracy(predicted_N: Tensor, labels_N: Tensor) -> Tensor:
    """Share of rows where the predicted class is the label, float64."""
    return (predicted_N == labels_N).double().mean()


def spaced(steps: int, points: int) -> list[int]:
    """At most ``points`` distinct step numbers, evenly spaced, the last one ``steps``."""
    return sorted({max(1, round(steps * (i + 1) / points)) for i in range(points)})
