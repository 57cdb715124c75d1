"""Whether bfloat16 layers cost accuracy: networks trained in float32 and in bfloat16, same seeds, real images.

    python benchmarks/precision.py --data FOLDER              # a Hugging Face folder or id with CIFAR-10
    python benchmarks/precision.py --quick                    # digits, a toy network

Expert recipe (no augmentation, constant rate) and evaluation recipe (momentum, cosine, crop and flip); accuracy on test
images. JSON: accuracies by recipe and precision, their means and standard deviations.
"""

from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click
import torch
from record import conditions, options, write

from distillkit.base.device import prepare_device
from distillkit.base.params import read
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.augment import Augmentation
from distillkit.data.images import RealData
from distillkit.networks.specs import NetworkSpec
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.training.compute import Compute
from distillkit.training.loop import TrainingRecipe, fit, predict


def recipes(steps: int) -> dict[str, TrainingRecipe]:
    """The two ways that networks are trained in the pipeline, in float32."""
    plain = TrainingRecipe(steps, 256, lr=0.05, momentum=0.0, weight_decay=0.0, final_lr_fraction=1.0)
    return {
        "expert": plain,
        "evaluation": TrainingRecipe(steps, 128, lr=0.1, final_lr_fraction=0.01, augmentation=Augmentation("simple")),
    }


def accuracy(data: RealData, spec: NetworkSpec, recipe: TrainingRecipe, seed: int, compute: Compute) -> float:
    images_NCHW = compute.layout(data.normalisation.apply(data.train.pixels()))
    classes = len(data.train.class_names)
    network = fit(spec, images_NCHW, data.train.labels, classes, recipe, seeded(seed), compute=compute)
    test_NCHW = compute.layout(data.normalisation.apply(data.test.pixels()))
    return (predict(network, test_NCHW).argmax(1) == data.test.labels).double().mean().item()


@click.command()
@options(rounds=3)
@click.option("--data", help="A Hugging Face dataset: an id, or a folder.")
@click.option("--per-class", default=500, show_default=True, help="Training images of every class.")
@click.option("--tested", default=2000, show_default=True, help="Test images.")
@click.option("--steps", default=150, show_default=True)
@click.option("--network", default="convnet", type=click.Choice(["convnet", "resnet18"]), show_default=True)
def main(quick: bool, rounds: int, out: Path | None, data: str | None, network: Any, **sizes: int) -> None:
    """Train ROUNDS seeds of a network under both precisions and compare their accuracies."""
    device = prepare_device()
    if quick or data is None:
        source: dict[str, Any] = {"source": {"kind": "digits"}, "test_fraction": 0.25}
        spec = NetworkSpec("convnet", depth=1, width=4)
    else:
        source = {"source": {"kind": "huggingface", "id": data}, "per_class": sizes["per_class"]}
        spec = NetworkSpec(network)
    real = fetch(read(source, DataSpec, "data", Path("benchmarks/precision.py")), lambda items, *_: items).to(device)
    real = replace(real, test=real.test.take(torch.arange(min(sizes["tested"], len(real.test)), device=device)))
    compute = Compute(channels_last=True, compile=not quick)
    found: dict[str, Any] = {}
    for name, recipe in recipes(20 if quick else sizes["steps"]).items():
        for precision in ("fp32", "bf16"):
            own = replace(recipe, precision=precision)
            seeds = [seed_for(0, name, seed) for seed in range(max(2, rounds))]
            accuracies = [accuracy(real, spec, own, seed, compute) for seed in seeds]
            found[f"{name} {precision}"] = {
                "accuracy": accuracies,
                "mean": mean(accuracies),
                "std": stdev(accuracies),
                "updates": own.steps,
            }
            click.echo(f"{name} {precision}: {100 * mean(accuracies):.2f} ± {100 * stdev(accuracies):.2f} %")
    sizes_used = {"train_images": len(real.train), "test_images": len(real.test), "network": str(spec)}
    write({**conditions("precision"), **sizes_used, "recipes": found}, out, quick)


if __name__ == "__main__":
    main()
