"""Real images and the set of one recipe -> what the set reveals of them: membership inference with shadow sets."""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from pathlib import Path

import click

from distillkit.audit.audit import audit as audited
from distillkit.base import params
from distillkit.base.files import write_json
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.real_images import load_real, real_file
from distillkit.pipeline.code import files_of
from distillkit.pipeline.recipes import AuditSpec
from distillkit.pipeline.stage import run_stage
from distillkit.pipeline.unfinished import unfinished

DECIDE = ("seed", "expert_shards", "experts", "score", "evaluation")  # sections, beside the recipe's own


@click.command()
@click.argument("name")
@click.argument("real", type=Path)
@click.argument("distilled", type=Path)
@click.argument("out", type=Path)
def audit(name: str, real: Path, distilled: Path, out: Path) -> None:
    data = params.load()
    spec = params.section(data, "audit", AuditSpec)
    synthetic, source = load_synthetic(distilled)[0], load_real(real)
    settings = [params.entries(data, "recipes").get(name), *(data.get(section) for section in DECIDE)]
    with unfinished(f"audit-{name}", settings, [*files_of(Path(__file__)), real_file(real)]) as folder:
        write_json(out, audited(synthetic, source, data, name, spec.shadows, folder))


if __name__ == "__main__":
    run_stage(audit)
