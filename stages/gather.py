"""Shards or recipes of params.yaml -> a file that says which, and nothing of others in the folders that they write to.

DVC hashes folders whole. This stage takes out what params.yaml no longer names before a stage that reads them runs, and
the entries of dvc.lock with it; DVC has all of it in its cache.
"""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

import os
from pathlib import Path

import click

from distillkit.base import params
from distillkit.base.files import pretty_json, write_text
from distillkit.data.leftovers import FOLDERS, set_aside, stems
from distillkit.pipeline.stage import run_stage
from distillkit.process.lockfile import forget_removed


@click.command()
@click.argument("section", type=click.Choice([*FOLDERS]))
@click.argument("folders", nargs=-1, required=True, type=Path)
@click.argument("out", type=Path)
def gather(section: str, folders: tuple[Path, ...], out: Path) -> None:
    data = params.load()
    wanted = stems(data, section)
    for folder in folders:
        set_aside(folder, wanted)
    for folder in FOLDERS["audit"] if section == "recipes" else ():
        set_aside(Path(folder), stems(data, "audit"))
    if "DVC_STAGE" in os.environ:
        forget_removed()
    write_text(out, pretty_json(data[section]))  # stages that need all of it depend on this file


if __name__ == "__main__":
    run_stage(gather, checked=False)  # it needs nothing that is heavy to import
