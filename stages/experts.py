"""Real images -> one shard of expert trajectories, with what the experts found hard on the way."""

from dataclasses import asdict
from pathlib import Path

import click

from distillkit import artifact, checks, params
from distillkit.device import prepare_device
from distillkit.executors import plan_compute
from distillkit.expert_files import save_experts
from distillkit.progress import track
from distillkit.randomness import seed_for, seeded
from distillkit.stage import run_stage
from distillkit.trajectories import Expert, ExpertsSpec, record_expert
from distillkit.work import remembering, unfinished


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

    def train_expert(member: int) -> Expert:
        generator = seeded(seed_for(seed, "expert", member))
        return record_expert(train, source.normalisation, spec.recipe, generator, compute=compute)

    members = range(shard * spec.per_shard, (shard + 1) * spec.per_shard)
    with unfinished(f"experts-{shard}", [asdict(spec), seed], [Path(__file__), real]) as folder:
        run = remembering(compute, folder, Expert).run
        trained = list(track(run(train_expert, members), f"experts, shard {shard}", spec.per_shard))
        save_experts(out, trained, spec.recipe.network, asdict(spec.recipe))


if __name__ == "__main__":
    run_stage(experts)
