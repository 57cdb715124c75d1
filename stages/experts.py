"""Real images -> one shard of expert trajectories, with what the experts found hard on the way."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.randomness import seed_for, seeded
from distillkit.data import artifact
from distillkit.pipeline import checks
from distillkit.pipeline.checkpoints import finish_in_parts
from distillkit.pipeline.code import files_of
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import unfinished
from distillkit.process.progress import counting
from distillkit.training.executors import plan_compute
from distillkit.training.expert_files import save_experts
from distillkit.training.trajectories import Expert, ExpertsSpec, Recording


@click.command()
@click.argument("shard", type=int)
@click.argument("real", type=Path)
@click.argument("out", type=Path)
def experts(shard: int, real: Path, out: Path) -> None:
    data = params.load()
    spec = params.section(data, "experts", ExpertsSpec)
    seed = params.section(data, "seed", int)
    device = prepare_device()
    source = artifact.load_real(real).to(device)
    train = source.train
    checks.check_images(data, train)
    compute = plan_compute(
        device, train.image_shape, spec.recipe.network, len(train.class_names), spec.visits(len(train))
    )

    members = range(shard * spec.per_shard, (shard + 1) * spec.per_shard)
    epochs = spec.per_shard * spec.recipe.epochs
    with (
        unfinished(f"experts-{shard}", [asdict(spec), seed], [*files_of(Path(__file__)), real]) as folder,
        counting(f"epochs of the experts, shard {shard}", epochs) as count,
    ):

        def train_expert(member: int) -> Expert:
            generator = seeded(seed_for(seed, "expert", member))
            work = Recording(train, source.normalisation, spec.recipe, generator, compute)
            finish_in_parts(work, folder / f"expert-{member}", count)
            return work.result()

        trained = list(compute.run(train_expert, members))
        save_experts(out, trained, spec.recipe.network, asdict(spec.recipe))


if __name__ == "__main__":
    run_stage(experts)
