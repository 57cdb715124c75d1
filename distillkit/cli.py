"""The ``distillkit`` command. Heavy imports happen inside commands, so that ``--help`` answers at once."""

import json
from pathlib import Path
from typing import Any

import click

from distillkit import __version__
from distillkit.stage import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "DISTILLKIT"})
@click.version_option(__version__, prog_name="distillkit")
def cli() -> None:
    """Distilled datasets: look into them, and check what they are worth."""


@cli.command()
@click.argument("path", type=Path)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def show(path: Path, as_json: bool) -> None:
    """Say what an artifact (.safetensors) or a packaged folder holds; a folder is checked against its manifest."""
    from distillkit.describe import describe, lines

    description = describe(path)
    click.echo(json.dumps(description, sort_keys=True) if as_json else "\n".join(lines(description)))


@cli.command()
@click.argument("path", type=Path)
@click.option("--recipe", help="Which recipe of a packaged folder; its default when missing.")
@click.option("--real", type=Path, help="A real.safetensors with the test split; fetched from the source when missing.")
@click.option("--params", "params_file", type=Path, help="Take the evaluation recipe from this params.yaml.")
@click.option(
    "--runs", type=click.IntRange(1), help="Networks to train; as many as the evaluation recipe says when missing."
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def evaluate(
    path: Path,
    recipe: str | None,
    real: Path | None,
    params_file: Path | None,
    runs: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Train fresh networks on a distilled set (an artifact or a packaged folder) and print their test accuracy.

    The evaluation recipe is the packaged folder's own; for a single artifact, that of params.yaml in this folder.
    """
    from distillkit.reevaluate import reevaluate

    result = reevaluate(path, recipe=recipe, real=real, params_file=params_file, runs=runs, seed=seed)
    click.echo(json.dumps(result, sort_keys=True) if as_json else sentence(result))


def sentence(result: dict[str, Any]) -> str:
    accuracy = result["accuracy"]
    networks = "1 network" if accuracy["runs"] == 1 else f"{accuracy['runs']} networks"
    found = f"{accuracy['mean']:.2%} ± {accuracy['std']:.2%} test accuracy over {networks}"
    claimed = result["claimed"]
    if claimed is None:
        return found
    return f"{found}; claimed {claimed['mean']:.2%} ± {claimed['std']:.2%} over {claimed['runs']}"


def main() -> None:
    """Entry point of the console script."""
    run(cli)
