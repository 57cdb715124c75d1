"""Training on a synthetic set with 'combined' augmentation: images per second of the reference's epoch and of ours.

python benchmarks/evaluation.py
"""

from pathlib import Path
from typing import Literal

import click
from cases import EvaluationCase
from harness import chosen_device
from record import conditions, measure_point, options, write

IMAGES = {"cpu": 512, "cuda": 5120}  # of the synthetic set: 4 batches take seconds on a CPU, 40 on a GPU
QUICK = EvaluationCase(images=32, batch=16, width=4, depth=1, side=8)
Name = Literal["convnet", "resnet18"]
NETWORKS: tuple[Name, ...] = ("convnet", "resnet18")


@click.command()
@options(rounds=5)
@click.option(
    "--network", "networks", multiple=True, type=click.Choice(NETWORKS), help="May be repeated; default both."
)
@click.option("--batch", default=128, show_default=True, type=click.IntRange(2))
def main(quick: bool, rounds: int, out: Path | None, networks: tuple[Name, ...], batch: int) -> None:
    """Epochs of a ConvNetBN-3-128 and of a ResNet18BN on a set of which every other image is learned."""
    device = chosen_device()
    full = [EvaluationCase(IMAGES[device.type], batch, network=name) for name in networks or NETWORKS]
    points = [measure_point("evaluation", case, rounds, quick) for case in ([QUICK] if quick else full)]
    write({**conditions("evaluation"), "points": points}, out, quick)


if __name__ == "__main__":
    main()
