"""Bytes of packages before and after images of 8 bits were kept once, and what rounding costs in accuracy.

    python benchmarks/storage.py --dataset FOLDER    # a Hugging Face folder or id with CIFAR-10 as JPEG; ten minutes
    python benchmarks/storage.py --quick

Bytes are those of distilled.safetensors and parquet together; "before" is the layout in which the parquet had the
floats of all images beside a preview. Real sets are the first images of each class. Learned sets of many images are
such images plus noise, as bytes depend on nothing else of learning; the small one is learned by DM from the folder's
images.
Accuracies are of networks trained on that set and on sets that the pipeline learned from the digits (``--sets``; where
there are none, one is learned by DM). For each of five seeds, networks start alike for all types, so that losses are
those of pairs; ``lost_points`` is their mean over the seeds, with its standard error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click
import torch
from record import conditions, options, write

from distillkit.api.functions import distill
from distillkit.base.device import prepare_device
from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.data.files.packed import Storage
from distillkit.data.images import ImageSet, RealData, SyntheticSet, real_subset
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.evaluation.rounding import stored
from distillkit.networks.specs import NetworkSpec
from distillkit.package.build import as_hf, without_bars, write_parquet
from distillkit.package.packing import pack
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import DigitsSource, HuggingFaceSource
from distillkit.training.loop import TrainingRecipe

STORAGES: tuple[Storage, ...] = get_args(Storage)
NOISE = 0.1  # of pixels from 0 to 1: about what 90 steps of MTT move the digits by
IPC = (10, 250, 1500)
DIGITS = EvaluationRecipe(NetworkSpec("convnet", "batch", depth=2, width=32), TrainingRecipe(200, 50, 0.05), runs=1)
FOLDER = EvaluationRecipe(NetworkSpec("convnet", "instance", depth=3, width=32), TrainingRecipe(200, 100, 0.05), runs=1)
QUICK = TrainingRecipe(5, 50, 0.05)


def first_images(real: RealData, ipc: int) -> SyntheticSet:
    rows = torch.cat([(real.train.labels == label).nonzero()[:ipc, 0] for label in range(len(real.train.class_names))])
    return real_subset(real.train, rows, real.normalisation)


def as_if_learned(chosen: SyntheticSet) -> SyntheticSet:
    moved = chosen.pixels() + NOISE * torch.randn(chosen.images.shape, generator=seeded(0))
    return replace(chosen, images=moved, learned=chosen.learned | True)


def learned_by_dm(real: RealData, network: NetworkSpec, steps: int) -> SyntheticSet:
    """Ten images a class, moved by the published rate and, ``steps`` being few, ten times that."""
    return distill(real, "dm", 10, network=network, seed=0, optim={"steps": steps, "image_lr": 10.0})


# Bytes


def bytes_of(real: RealData, synthetic: SyntheticSet) -> dict[str, int]:
    """Of a package's two files that hold images, by how learned images are kept; and as they were before."""
    with TemporaryDirectory() as temporary, without_bars():
        folder = Path(temporary)
        artifact, old = folder / "set.safetensors", folder / "before.parquet"
        save_synthetic(artifact, synthetic, provenance_of("set", "random", {}, 0, real))
        as_hf(synthetic).to_parquet(old)
        found = {"before": size(artifact) + size(old)}
        for storage in STORAGES if bool(synthetic.learned.any()) else STORAGES[:1]:
            packed, parquet = folder / f"{storage}.safetensors", folder / f"{storage}.parquet"
            pack(packed, artifact, synthetic, storage, parquet.name)
            write_parquet(parquet, synthetic, storage, real.encoded)
            found[storage] = size(packed) + size(parquet)
    return found


def size(path: Path) -> int:
    return path.stat().st_size


def row_of_bytes(real: RealData, what: str, synthetic: SyntheticSet) -> dict[str, Any]:
    """One set's bytes, those of the source's files of the images that it has or began from, and shares of them."""
    assert real.encoded is not None, "the source has no encoded images of their size"
    files = sum(len(real.encoded.file(row)) for row in synthetic.source_row.tolist())
    found = bytes_of(real, synthetic)
    row: dict[str, Any] = {"images": what, "number": len(synthetic), "source_files": files, **found}
    if what == "real":
        row["of_source_files"] = found["float32"] / files
    else:
        row |= {f"{storage}_of_before": found[storage] / found["before"] for storage in STORAGES}
    click.echo(row)
    return row


def table_of_bytes(real: RealData, ipcs: Sequence[int], learned: SyntheticSet) -> list[dict[str, Any]]:
    rows = [row_of_bytes(real, "learned", learned)]
    for ipc in ipcs:
        chosen = first_images(real, ipc)
        rows += [row_of_bytes(real, "real", chosen), row_of_bytes(real, "noisy", as_if_learned(chosen))]
    return rows


# Accuracy


def accuracies(synthetic: SyntheticSet, test: ImageSet, recipe: EvaluationRecipe, seeds: int) -> dict[str, Any]:
    """Means over networks for each seed, by how the images are kept; and the loss against float32, in points."""
    found: dict[str, Any] = {}
    for storage in STORAGES:
        kept = stored(synthetic, storage)
        each = [mean_accuracy(kept, test, recipe, seed) for seed in range(seeds)]
        found[storage] = {"accuracy": each, "mean": mean(each)}
    for storage in STORAGES[1:]:
        pairs = zip(found["float32"]["accuracy"], found[storage]["accuracy"], strict=True)
        lost = [100 * (before - after) for before, after in pairs]
        found[storage] |= {"lost_points": mean(lost), "standard_error": stdev(lost) / len(lost) ** 0.5}
    click.echo({storage: {key: found[storage].get(key) for key in ("mean", "lost_points")} for storage in STORAGES})
    return found


def mean_accuracy(synthetic: SyntheticSet, test: ImageSet, recipe: EvaluationRecipe, seed: int) -> float:
    report = evaluate(synthetic, test, recipe, torch.zeros(len(test)), seeded(seed))
    return float(report.accuracy_R.double().mean())


def moved_by(synthetic: SyntheticSet, real: RealData) -> float:
    """The root mean square by which learned images differ from the training images that they started from."""
    rows = (synthetic.learned & (synthetic.source_row >= 0)).nonzero().squeeze(1)
    before = real.train.pixels(synthetic.source_row[rows])
    return float((synthetic.pixels(rows) - before).square().mean().sqrt())


def measured(
    sets: Mapping[str, SyntheticSet], real: RealData, test: ImageSet, recipe: EvaluationRecipe, seeds: int
) -> dict[str, Any]:
    found = {
        name: {"moved_by": moved_by(synthetic, real), **accuracies(synthetic, test, recipe, seeds)}
        for name, synthetic in sets.items()
    }
    return {"evaluation": asdict(recipe), "tested": len(test), "sets": found}


def sets_of_digits(folder: Path, digits: RealData, quick: bool) -> dict[str, SyntheticSet]:
    named = {path.stem: load_synthetic(path)[0] for path in sorted(folder.glob("*.safetensors")) if not quick}
    learned = {name: synthetic for name, synthetic in named.items() if bool(synthetic.learned.any())}
    return learned or {"dm-ipc10": learned_by_dm(digits, DIGITS.network, 2 if quick else 200)}


@click.command()
@options(rounds=5)
@click.option("--dataset", help="A Hugging Face dataset of encoded images: an id, or a folder.")
@click.option("--sets", type=click.Path(path_type=Path), default=Path("artifacts/distilled"), show_default=True)
@click.option("--networks", default=4, show_default=True, help="Networks for each seed.")
@click.option("--steps", default=50, show_default=True, help="Updates of the set that is learned from the folder.")
@click.option("--tested", default=2000, show_default=True, help="Test images of the folder.")
def main(
    quick: bool, rounds: int, out: Path | None, dataset: str | None, sets: Path, networks: int, steps: int, tested: int
) -> None:
    """Count the bytes of sets of 10, 250 and 1500 images a class; train networks from ROUNDS seeds on each type."""
    prepare_device()
    runs, seeds = 1 if quick else networks, 2 if quick else max(2, rounds)
    small, large = (
        replace(recipe, runs=runs, training=QUICK if quick else recipe.training, curve_points=0)  # nobody looks at it
        for recipe in (DIGITS, FOLDER)
    )
    digits = fetch(DataSpec(DigitsSource()))
    found = {"digits": measured(sets_of_digits(sets, digits, quick), digits, digits.test, small, seeds)}
    result: dict[str, Any] = {"noise": NOISE, "networks": runs, "accuracy": found}
    if dataset is not None:
        real = fetch(DataSpec(HuggingFaceSource(id=dataset), per_class=20 if quick else IPC[-1]))
        learned = learned_by_dm(real, FOLDER.network, 2 if quick else steps)
        result["bytes"] = table_of_bytes(real, IPC[:1] if quick else IPC, learned)
        test = real.test.take(torch.randperm(len(real.test), generator=seeded(0))[:tested])
        found["folder"] = measured({"dm-ipc10": learned}, real, test, large, seeds)
    write({**conditions("storage"), **result}, out, quick)


if __name__ == "__main__":
    main()
