"""How many updates of the evaluation networks, and at which learning rate, all images need: rates.json.

    python rates.py 6000 0.05 0.1 0.2      # 6,000 updates at three learning rates

Trained on nine tenths of the training images and tested on the other tenth, one network each. What is in rates.json
already is not run again.
"""

import json
from dataclasses import replace
from pathlib import Path

import click
import torch
from ruamel.yaml import YAML

from distillkit.base import params
from distillkit.base.files import write_json
from distillkit.base.randomness import seeded
from distillkit.data.files.real_images import load_real
from distillkit.data.images import all_of
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.pipeline.measure import measure_set

HERE = Path(__file__).parent
RESULTS = HERE / "rates.json"


@click.command()
@click.argument("updates", type=click.IntRange(1))
@click.argument("rates", type=float, nargs=-1, required=True)
def main(updates: int, rates: tuple[float, ...]) -> None:
    data = YAML(typ="safe").load(HERE / "params.yaml")
    usual = params.section(data, "evaluation", EvaluationRecipe)
    real = load_real(HERE / "artifacts/real")
    order_N = torch.randperm(len(real.train), generator=seeded(0))
    held_out, train = (real.train.take(rows) for rows in order_N.split([len(order_N) // 10, 9 * len(order_N) // 10]))
    for rate in rates:
        if f"{rate:g}" in known().get(str(updates), {}):
            continue
        recipe = replace(usual, runs=1, curve_points=0, training=replace(usual.training, steps=updates, lr=rate))
        unknown_N = torch.zeros(len(held_out))  # difficulty
        report = measure_set(all_of(train, real.normalisation), held_out, recipe, unknown_N, data["seed"])
        found = known()
        found.setdefault(str(updates), {})[f"{rate:g}"] = round(report.accuracy_R.item(), 4)
        write_json(RESULTS, found)


def known() -> dict[str, dict[str, float]]:
    return dict(json.loads(RESULTS.read_text())) if RESULTS.exists() else {}


if __name__ == "__main__":
    main()
