"""Sets of the study, and all images, with networks that are trained for more updates: updates.json.

    python updates.py                          # all sets below, at 12,000 updates: 6 to 11 minutes of a core each
    python updates.py --updates 24000 full     # one of them

The evaluation is the study's but for the number of updates, so the learning rate falls to 0 over all of them. What is
in updates.json already is not run again.
"""

import json
from dataclasses import replace
from pathlib import Path

import click
from ruamel.yaml import YAML

from distillkit.base import params
from distillkit.base.files import write_json
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import metrics_of
from distillkit.pipeline.measure import measure_set

HERE = Path(__file__).parent
RESULTS = HERE / "updates.json"
WAYS = ("random", "selmatch", "mtt", "ccfs", "window", "window-late", "selmatch-late", "selmatch-late-all")
IPCS = (1000, 250, 500, 1500)
SETS = ("full", *(f"{way}-ipc{ipc}" for ipc in IPCS for way in WAYS))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--updates", type=click.IntRange(1), default=12_000)
def main(names: tuple[str, ...], updates: int) -> None:
    data = YAML(typ="safe").load(HERE / "params.yaml")
    test = load_real(HERE / "artifacts/real").test
    difficulty_N = artifact.load_reference(HERE / "artifacts/reference.safetensors", len(test))
    usual = params.section(data, "evaluation", EvaluationRecipe)
    recipe = replace(usual, others=(), curve_points=0, training=replace(usual.training, steps=updates))
    for name in names or [name for name in SETS if name in data["recipes"]]:
        if name in known().get(str(updates), {}):
            continue
        synthetic, _ = artifact.load_synthetic(HERE / f"artifacts/distilled/{name}.safetensors")
        report = measure_set(synthetic, test, recipe, difficulty_N, data["seed"], name=name)
        metrics = metrics_of(report, synthetic, test, recipe.neighbours)
        found = known()
        found.setdefault(str(updates), {})[name] = {key: metrics[key] for key in ("accuracy", "hard")}
        write_json(RESULTS, found)


def known() -> dict[str, dict[str, object]]:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


if __name__ == "__main__":
    main()
