"""Train experts: the same bytes from a stage and from Python."""

from collections.abc import Sequence
from pathlib import Path

from distillkit.base.device import prepare_device
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.images import RealData
from distillkit.pipeline.checkpoints import finish_in_parts
from distillkit.process.progress import counting
from distillkit.training.executors import plan_compute
from distillkit.training.trajectories import Expert, ExpertRecipe, Recording


def train_experts(
    source: RealData,
    recipe: ExpertRecipe,
    members: Sequence[int],
    seed: int,
    folder: Path | None,
    name: str,
) -> list[Expert]:
    """Train the experts with the numbers ``members``, each from its own seed. ``folder`` keeps finished epochs, if
    given.
    """
    source = source.to(device := prepare_device())
    train, epochs = source.train, len(members) * recipe.epochs
    compute = plan_compute(device, train.image_shape, recipe.network, len(train.class_names), epochs * len(train))
    with counting(f"epochs of the {name}", epochs) as count:

        def train_expert(member: int) -> Expert:
            generator = seeded(seed_for(seed, "expert", member))
            work = Recording(train, source.normalisation, recipe, generator, compute)
            finish_in_parts(work, None if folder is None else folder / f"expert-{member}", count)
            return work.result()

        return list(compute.run(train_expert, members))
