"""The code of distillkit -> for each stage script the list of files that it can run, with their checksums."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from pathlib import Path

import click

from distillkit.base.files import write_text
from distillkit.pipeline.code import listing
from distillkit.pipeline.stage import run_stage


@click.command()
@click.argument("out", type=Path)
def list_code(out: Path) -> None:
    for script in sorted(Path(__file__).parent.glob("*.py")):
        write_text(out / f"{script.stem}.txt", listing(script))


if __name__ == "__main__":
    run_stage(list_code, checked=False)  # it needs nothing that is heavy to import
