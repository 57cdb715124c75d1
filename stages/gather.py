"""What shards or recipes have left in some folders -> the list of it, and nothing else in these folders.

DVC hashes folders whole. This stage takes out what params.yaml no longer names before a stage that reads them runs, and
the entries of dvc.lock with it; DVC has all of it in its cache.
"""

from distillkit.process.interruption import listen

if __name__ == "__main__":
    listen()  # before the imports that take their time

import os
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.files import write_text
from distillkit.data.leftovers import FOLDERS, set_aside, stems
from distillkit.pipeline.stage import run_stage
from distillkit.process.lockfile import forget_removed


@click.command()
@click.argument("section", type=click.Choice([*FOLDERS]))
@click.argument("folders", nargs=-1, required=True, type=Path)
@click.argument("out", type=Path)
def gather(section: str, folders: tuple[Path, ...], out: Path) -> None:
    wanted = stems(params.load(), section)
    for folder in folders:
        set_aside(folder, wanted)
    if "DVC_STAGE" in os.environ:
        forget_removed()
    write_text(out, "".join(f"{name}\n" for name in wanted))


if __name__ == "__main__":
    run_stage(gather, checked=False)  # it needs nothing that is heavy to import
