"""A source of images -> artifacts/real.safetensors."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from pathlib import Path

import click

from distillkit.base import params
from distillkit.data import artifact
from distillkit.pipeline.stage import run_stage
from distillkit.process.progress import tell, track
from distillkit.sources import fetch as sources
from distillkit.sources import summary


@click.command()
@click.argument("real", type=Path)
def fetch(real: Path) -> None:
    spec = params.section(params.load(), "data", sources.DataSpec)
    data = sources.fetch(spec, track)
    artifact.save_real(real, data)
    for line in summary.lines(summary.summary_of(data)):
        tell(line)


if __name__ == "__main__":
    run_stage(fetch)
