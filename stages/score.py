"""Training dynamics of all experts, or the user's score file -> the difficulty of every training image."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from dataclasses import asdict
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.errors import ArtifactError
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real
from distillkit.pipeline.stage import run_stage
from distillkit.process.progress import tell
from distillkit.training.difficulty import first_epochs, score_called, scores_of
from distillkit.training.expert_files import ExpertFiles, shard_paths
from distillkit.training.noise_signs import second_hump, warning
from distillkit.training.score_file import ScoreSpec, read_score_file


@click.command()
@click.argument("real", type=Path)
@click.argument("experts", type=Path)
@click.argument("out", type=Path)
def score(real: Path, experts: Path, out: Path) -> None:
    data = params.load()
    spec = params.section(data, "score", ScoreSpec)
    images = len(load_real(real).train)
    trained = ExpertFiles(shard_paths(data, experts))
    if (seen := trained.images) != images:
        raise ArtifactError(f"the experts saw {seen} images, {real} holds {images}; train them again")
    scores = scores_of((first_epochs(dynamics, spec.epochs) for dynamics in trained.dynamics()), spec.run)
    chosen = read_score_file(spec, images) if spec.name == "file" else score_called(spec.name, scores)
    if (found := warning(second_hump(scores["probability-margin"]))) is not None:
        tell(f"warning: {found}")
    artifact.save_difficulty(out, chosen, scores, {"score": asdict(spec)})


if __name__ == "__main__":
    run_stage(score)
