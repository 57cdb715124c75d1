"""The accuracy of a set by its evaluation recipe: the same numbers from a stage, the command and Python."""

from pathlib import Path

import torch
from torch import Tensor

from distillkit.base.device import prepare_device
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.images import ImageSet, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe, Report, Runs, evaluate, updates_of, workload
from distillkit.pipeline.unfinished import remembering
from distillkit.process.progress import counting
from distillkit.training.executors import plan_compute


def measure_set(
    synthetic: SyntheticSet,
    test: ImageSet,
    recipe: EvaluationRecipe,
    test_difficulty_N: Tensor,
    seed: int,
    folder: Path | None = None,
    name: str = "the set",
) -> Report:
    """Train and test new networks on this machine. Finished ones are kept in ``folder``, if given."""
    device, (spec, visits), updates = prepare_device(), workload(synthetic, recipe), updates_of(synthetic, recipe)
    compute = plan_compute(device, test.image_shape, spec, len(test.class_names), visits)
    with counting(f"updates of the networks on {name}", recipe.runs * updates) as count:
        compute = remembering(compute, folder, Runs, count, lambda group: updates * len(group))
        generator = seeded(seed_for(seed, "evaluate"))
        return evaluate(synthetic.to(device), test.to(device), recipe, test_difficulty_N, generator, compute)


def measure_others(
    synthetic: SyntheticSet,
    test: ImageSet,
    recipe: EvaluationRecipe,
    seed: int,
    folder: Path | None = None,
    name: str = "the set",
) -> dict[str, Report]:
    """:func:`measure_set` with each of the recipe's other networks, by its name.

    None for a set with an order of its own, which goes with one network.
    """
    if synthetic.schedule is not None:
        return {}
    order_N = torch.zeros(len(test))  # thirds by difficulty are not told
    return {
        other: measure_set(
            synthetic, test, own, order_N, seed, folder and folder / f"other-{number}", f"{name}, {other}"
        )
        for number, (other, own) in enumerate(recipe.with_others().items())
    }
