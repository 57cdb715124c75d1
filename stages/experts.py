"""Real images -> one shard of expert trajectories, with what the experts found hard on the way."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.data.files.real_images import load_real, real_file
from distillkit.pipeline import checks
from distillkit.pipeline.code import files_of
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.train import train_experts
from distillkit.pipeline.unfinished import unfinished
from distillkit.training.expert_files import save_experts
from distillkit.training.trajectories import ExpertsSpec


@click.command()
@click.argument("shard", type=int)
@click.argument("real", type=Path)
@click.argument("out", type=Path)
def experts(shard: int, real: Path, out: Path) -> None:
    data = params.load()
    spec = params.section(data, "experts", ExpertsSpec)
    seed = params.section(data, "seed", int)
    source = load_real(real)
    checks.check_images(data, source.train)
    members = range(shard * spec.per_shard, (shard + 1) * spec.per_shard)
    with unfinished(f"experts-{shard}", [asdict(spec), seed], [*files_of(Path(__file__)), real_file(real)]) as folder:
        trained = train_experts(source, spec.recipe, members, seed, folder, f"experts, shard {shard}")
        save_experts(out, trained, spec.recipe.network, asdict(spec.recipe))


if __name__ == "__main__":
    run_stage(experts)
