"""Experts and difficulty -> for each recipe a small file that changes when something changes that its set is made from.

So another expert shard makes no set anew that uses no experts.
"""

from distillkit.process.startup import begin

if __name__ == "__main__":
    begin()  # before the imports that take their time

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from distillkit.base import params
from distillkit.base.errors import ParamsError
from distillkit.base.files import pretty_json, sha256, write_text
from distillkit.data.files.real_images import load_real
from distillkit.matching.method import uses_experts
from distillkit.pipeline import checks
from distillkit.pipeline.recipes import read_recipe
from distillkit.pipeline.stage import run_stage
from distillkit.training.expert_files import ExpertFiles, shard_paths


def may_use_experts(data: Mapping[str, Any], name: str) -> bool:
    """Whether recipe ``name`` uses experts; one that cannot be read may: its own stage says so."""
    try:
        return uses_experts(read_recipe(data, name).method)
    except ParamsError:
        return True


def check_storage(data: Mapping[str, Any]) -> None:
    """Raise ParamsError, before hours of work, where params.yaml has no ``package.storage``: evaluate asks for it."""
    if "storage" not in params.section(data, "package", dict):
        found = "params.yaml has no package.storage, which dvc.yaml asks for; expected float32, float16 or uint8"
        raise ParamsError(f"{found}; add storage: float32 to the section package")


@click.command()
@click.argument("real", type=Path)
@click.argument("experts", type=Path)
@click.argument("difficulty", type=Path)
@click.argument("out", type=Path)
def inputs(real: Path, experts: Path, difficulty: Path, out: Path) -> None:
    data = params.load()
    check_storage(data)
    checks.check_images(data, load_real(real).train)  # before DVC removes a set that cannot be made anew
    recipes, shards = params.entries(data, "recipes"), shard_paths(data, experts)
    network = {"network": asdict(ExpertFiles(shards).spec)}
    everything = network | {path.as_posix(): sha256(path) for path in (*shards, difficulty)}
    for name in recipes:
        used = everything if may_use_experts(data, name) else network
        write_text(out / f"{name}.json", pretty_json(used))


if __name__ == "__main__":
    run_stage(inputs)
