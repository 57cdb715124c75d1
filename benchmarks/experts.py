"""Training an expert: images per second of the reference's epoch and of ours.

python benchmarks/experts.py
"""

from pathlib import Path

import click
from cases import ExpertsCase
from harness import chosen_device
from record import conditions, measure_point, options, write

IMAGES = {"cpu": 1024, "cuda": 51_200}  # of one epoch: 4 batches take seconds on a CPU, 200 on a GPU
QUICK = ExpertsCase(images=32, batch=16, width=4, depth=1, side=8)


@click.command()
@options(rounds=5)
@click.option("--width", default=128, show_default=True, type=click.IntRange(1))
@click.option("--batch", default=256, show_default=True, type=click.IntRange(2))
def main(quick: bool, rounds: int, out: Path | None, width: int, batch: int) -> None:
    """Epochs of a ConvNetBN-3 on random images of CIFAR's shape."""
    device = chosen_device()
    case = QUICK if quick else ExpertsCase(IMAGES[device.type], batch, width=width)
    points = [measure_point("experts", case, rounds, quick)]
    write({**conditions("experts"), "points": points}, out, quick)


if __name__ == "__main__":
    main()
