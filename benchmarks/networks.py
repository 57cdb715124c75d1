"""The learning rate of each usual network beside the main one, chosen on a fifth of the digits' training images.

    python benchmarks/networks.py

Each network is trained as the default ``evaluation`` trains (200 updates of batch 50, SGD with momentum, cosine) at
each rate, on ten random images a class and on all images, of four fifths of the training images; it is tested on the
rest. The best mean of both accuracies counts, which ``distillkit/evaluation/others.py`` writes down. No test image is
looked at. The command takes up an earlier result: it measures only what is missing in
benchmarks/results/networks_digits.json.
"""

import json
import time
from pathlib import Path
from typing import Any

import click
import torch

from distillkit.base.files import pretty_json, write_text
from distillkit.base.machine import cores
from distillkit.base.randomness import seeded
from distillkit.data.images import SyntheticSet, all_of
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.others import USUAL, Other
from distillkit.matching.method import Material
from distillkit.pipeline.measure import measure_set
from distillkit.selection.random_subset import RandomSubset
from distillkit.sources.fetch import DataSpec, draw, fetch
from distillkit.sources.readers import DigitsSource, Split
from distillkit.training.loop import TrainingRecipe

RESULT = Path(__file__).with_name("results") / "networks_digits.json"
RATES = (0.003, 0.01, 0.03, 0.1)
HELD_OUT, IPC, SEED = 0.2, 10, 0
TRAINING = TrainingRecipe(steps=200, batch=50, lr=0.05)


def sets() -> tuple[dict[str, SyntheticSet], Any]:
    """The two sets, and the held-out images."""
    real = fetch(DataSpec(DigitsSource()))
    train = real.train
    split = Split("train", train.labels, train.class_names, torch.arange(len(train)), lambda _: None, str)  # type: ignore
    held_out_N = draw(split, lambda images: round(HELD_OUT * images), SEED)
    rest = train.take((~held_out_N).nonzero()[:, 0])
    few = RandomSubset(IPC).init(Material(rest, real.normalisation), seeded(SEED))
    return {f"random-ipc{IPC}": few, "all": all_of(rest, real.normalisation)}, train.take(held_out_N.nonzero()[:, 0])


def chosen(points: dict[str, float]) -> dict[str, float]:
    """For each network that was measured at every rate, the one with the best mean over both sets.

    Keys are network/rate/set.
    """
    means: dict[str, dict[float, list[float]]] = {}
    for key, accuracy in points.items():
        network, rate, _ = key.split("/")
        means.setdefault(network, {}).setdefault(float(rate), []).append(accuracy)
    whole = {network: rates for network, rates in means.items() if sum(map(len, rates.values())) == 2 * len(RATES)}
    return {network: max(rates, key=lambda rate, of=rates: sum(of[rate])) for network, rates in whole.items()}


@click.command()
def main() -> None:
    """Measure what is missing."""
    known = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {"points": {}, "seconds": 0.0}
    found, held_out = sets()
    points, seconds = dict(known["points"]), known["seconds"]
    for network, usual in sorted(USUAL.items(), key=lambda item: item[0] == "resnet18"):  # the slowest last
        for rate in RATES:
            for name, small in found.items():
                if (key := f"{network}/{rate:g}/{name}") in points:
                    continue
                started = time.process_time()
                recipe = EvaluationRecipe(usual.network, TRAINING, runs=1, curve_points=0).on(
                    Other(usual.network, rate)
                )
                report = measure_set(small, held_out, recipe, torch.zeros(len(held_out)), SEED)
                points[key] = round(report.accuracy_R.mean().item(), 6)
                seconds += time.process_time() - started
                record = {
                    "benchmark": "networks_digits",
                    "command": "python benchmarks/networks.py",
                    "device": f"{cores()} CPU cores, torch {torch.__version__}",
                    "held_out": len(held_out),
                    "points": points,
                    "chosen": chosen(points),
                    "seconds": round(seconds, 1),
                }
                write_text(RESULT, pretty_json(record))
                click.echo(f"{key}: {100 * points[key]:.2f} %", err=True)


if __name__ == "__main__":
    main()
