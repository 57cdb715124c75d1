"""A source of images -> artifacts/real, a folder."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.files import atomic_folder, remove_leftovers
from distillkit.data.files.real_images import REAL, save_real
from distillkit.pipeline.stage import run_stage
from distillkit.process.interruption import check
from distillkit.process.progress import tell, track
from distillkit.sources import fetch as sources
from distillkit.sources import summary


@click.command()
@click.argument("real", type=Path)
def fetch(real: Path) -> None:
    spec = params.section(params.load(), "data", sources.DataSpec)
    remove_leftovers(real)
    with atomic_folder(real) as folder:
        data = sources.fetch(spec, track, folder)
        save_real(folder / REAL, data)
    check()
    for line in summary.lines(summary.summary_of(data)):
        tell(line)


if __name__ == "__main__":
    run_stage(fetch)
