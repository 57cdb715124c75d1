"""An estimate of the pipeline's duration on this machine: the work of each stage over a measured speed.

The formulas are those of docs/cost.md; ``work.py`` has those of the sets.
"""

from collections.abc import Mapping
from typing import Any

from distillkit.base.machine import cores
from distillkit.base.params import section
from distillkit.estimates.resources import Images, assumed, set_size
from distillkit.estimates.speeds import Speeds
from distillkit.estimates.work import Work, work_of
from distillkit.evaluation.evaluate import CURVE_IMAGES, EvaluationRecipe
from distillkit.pipeline.recipes import read_recipe
from distillkit.training.executors import TRAINED, forward_flops
from distillkit.training.trajectories import ExpertsSpec

START = 2.5  # seconds for the imports of a stage
SMALL, SMALL_STAGES = 0.6, 3  # seconds of a stage without torch; code, shards and results
DVC, EACH = 2.0, 0.1  # seconds of DVC itself, and more for every stage
DECODED = 40e6  # values of JPEGs of usual sizes that a core decodes, resizes and hashes per second


def seconds_of(data: Mapping[str, Any], images: Images | None, speeds: Speeds) -> dict[str, float]:
    """Seconds of each stage, if they run one after another. Raises ParamsError for invalid parameters."""
    images = images or assumed(data)
    spec, evaluation = section(data, "experts", ExpertsSpec), section(data, "evaluation", EvaluationRecipe)
    shards = len(section(data, "expert_shards", list[int]))
    others = evaluation.with_others().values()
    values = images.stored / max(1, images.train + images.test)
    found = {
        "fetch": START + (images.train + images.test) * values / (DECODED * cores()),
        "experts": shards * (START + spec.visits(images.train) / speeds.experts),
        "score": START,
        "reference": tested_seconds(evaluation, images, images.train, speeds, curve=False),
    }
    for name in section(data, "recipes", dict[str, Any]):
        recipe = read_recipe(data, name)
        found[f"distill {name}"] = START + made_seconds(work_of(recipe, images, spec.recipe.network), speeds)
        count = set_size(recipe, images)
        found[f"evaluate {name}"] = tested_seconds(evaluation, images, count, speeds)
        found[f"evaluate {name}"] += sum(other_seconds(evaluation, own, images, count, speeds) for own in others)
    found |= {"report": START, "package": START}
    stages = len(found) + shards - 1 + SMALL_STAGES + 1  # inputs, too
    return found | {"others": START + SMALL * SMALL_STAGES + DVC + EACH * stages}


def made_seconds(work: Work, speeds: Speeds) -> float:
    """Seconds to make a set."""
    images = work.trained / speeds.training + work.unrolled / speeds.unrolled
    return images + work.steps * speeds.step + work.seconds


def tested_seconds(recipe: EvaluationRecipe, images: Images, count: int, speeds: Speeds, curve: bool = True) -> float:
    """Seconds of a stage that trains the networks on a set of ``count`` images and tests them."""
    points = max(0, recipe.curve_points - 1) * min(images.test, CURVE_IMAGES) if curve else 0
    trained = recipe.training.steps * (min(recipe.training.batch, count) if count else recipe.training.batch)
    return START + recipe.runs * (trained + (images.test + points) / TRAINED) / speeds.evaluation


def other_seconds(main: EvaluationRecipe, other: EvaluationRecipe, images: Images, count: int, speeds: Speeds) -> float:
    """Of testing with another network, whose speed follows from that of the main one by their FLOP."""
    flops = [max(1, forward_flops(each.network, images.shape, images.classes)) for each in (main, other)]
    return (tested_seconds(other, images, count, speeds, curve=False) - START) * flops[1] / flops[0]


def in_stages(seconds: Mapping[str, float]) -> str:
    """The time of each stage in the order of the pipeline."""
    names = {"others": "other stages"}
    return ", ".join(f"{names.get(name, name)} {in_words(value)}" for name, value in by_stage(seconds).items())


def by_stage(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage, summed over recipes."""
    kinds: dict[str, float] = {}
    for name, value in seconds.items():
        kinds[name.split()[0]] = kinds.get(name.split()[0], 0.0) + value
    return kinds


def in_words(seconds: float) -> str:
    """A duration with about two digits."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
