"""Bytes of packages before and after images of 8 bits were kept once, and what rounding costs in accuracy.

    python benchmarks/storage.py --dataset FOLDER    # a Hugging Face folder or id with CIFAR-10 as JPEG
    python benchmarks/storage.py --quick

Bytes are those of distilled.safetensors and parquet together. Real sets are the first images of each class; "before" is
the layout with all images as float32 in both files, beside 8-bit previews. Learned sets are real images plus noise of
the deviation that learning moves the pixels of digits by, for bytes depend on nothing else of learning. Accuracies are
of networks trained on sets that the pipeline learned from the digits (``--sets``, artifacts/distilled if there are any)
and, of the folder, on a small such noisy set; the networks of all three types start from the same seeds.
"""

from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any, get_args

import click
import torch
from record import conditions, options, write

from distillkit.base.device import prepare_device
from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_synthetic
from distillkit.data.files.packed import Storage
from distillkit.data.images import ImageSet, RealData, SyntheticSet, real_subset
from distillkit.data.networks import NetworkSpec
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.evaluation.rounding import stored
from distillkit.package.build import without_bars, write_parquet
from distillkit.package.storage.packing import pack
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import DigitsSource, HuggingFaceSource
from distillkit.training.loop import TrainingRecipe

STORAGES: tuple[Storage, ...] = get_args(Storage)
NOISE = 0.1  # of pixels from 0 to 1: about what 90 steps of MTT move the digits by


def subset(real: RealData, ipc: int, noise: float) -> SyntheticSet:
    """The first images of every class, unchanged, or as if learned."""
    rows = torch.cat([(real.train.labels == label).nonzero()[:ipc, 0] for label in range(len(real.train.class_names))])
    chosen = real_subset(real.train, rows, real.normalisation)
    if not noise:
        return chosen
    moved = chosen.pixels() + noise * torch.randn(chosen.images.shape, generator=seeded(0))
    return replace(chosen, images=moved, learned=chosen.learned | True)


def bytes_of(real: RealData, synthetic: SyntheticSet, folder: Path) -> dict[str, int]:
    """Of a package's two files that hold images, by how learned images are kept; and as they were before."""
    artifact = folder / "set.safetensors"
    save_synthetic(artifact, synthetic, provenance_of("set", "random", {}, 0, real))
    found = {"before": 4 * synthetic.images.shape.numel() + size(write_before(folder / "before.parquet", synthetic))}
    for storage in STORAGES if bool(synthetic.learned.any()) else STORAGES[:1]:
        packed, parquet = folder / f"{storage}.safetensors", folder / f"{storage}.parquet"
        pack(packed, artifact, synthetic, storage, parquet.name)
        write_parquet(parquet, synthetic, storage, real.encoded)
        found[storage] = size(packed) + size(parquet)
    return found


def write_before(path: Path, synthetic: SyntheticSet) -> Path:
    """The parquet with a preview and the floats of every image."""
    from distillkit.package.build import as_hf

    with without_bars():
        as_hf(synthetic).to_parquet(path)
    return path


def size(path: Path) -> int:
    return path.stat().st_size


def source_bytes(real: RealData, synthetic: SyntheticSet) -> int:
    assert real.encoded is not None, "the source has no encoded images of their size"
    return sum(len(real.encoded.file(row)) for row in synthetic.source_row.tolist())


def table_of_bytes(real: RealData, ipcs: tuple[int, ...]) -> list[dict[str, Any]]:
    rows = []
    for ipc in ipcs:
        for kind, noise in (("real", 0.0), ("learned", NOISE)):
            synthetic = subset(real, ipc, noise)
            with TemporaryDirectory() as folder:
                found = bytes_of(real, synthetic, Path(folder))
            own = source_bytes(real, synthetic)
            row = {"images": kind, "ipc": ipc, "number": len(synthetic), "source_files": own, **found}
            if kind == "real":
                row["of_source_files"] = round(found["float32"] / own, 3)
            else:
                row["uint8_of_before"] = round(found["uint8"] / found["before"], 3)
            rows.append(row)
            click.echo(row)
    return rows


def accuracies(synthetic: SyntheticSet, test: ImageSet, recipe: EvaluationRecipe) -> dict[str, Any]:
    """Of networks from the same seeds, by how the images are kept; and the loss against float32, in points."""
    found: dict[str, Any] = {}
    for storage in STORAGES:
        report = evaluate(stored(synthetic, storage), test, recipe, torch.zeros(len(test)), seeded(0))
        values = [round(value, 6) for value in report.accuracy_R.tolist()]
        found[storage] = {"accuracy": values, "mean": round(mean(values), 6), "std": round(stdev(values), 6)}
    for storage in STORAGES[1:]:
        found[storage]["lost_points"] = round(100 * (found["float32"]["mean"] - found[storage]["mean"]), 3)
    click.echo({storage: 100 * found[storage]["mean"] for storage in STORAGES})
    return found


@click.command()
@options(rounds=5)
@click.option("--dataset", help="A Hugging Face dataset of encoded images: an id, or a folder.")
@click.option("--sets", type=click.Path(path_type=Path), default=Path("artifacts/distilled"), show_default=True)
@click.option("--steps", default=200, show_default=True, help="Updates of a network on images of the folder.")
@click.option("--tested", default=2000, show_default=True, help="Test images of the folder.")
def main(quick: bool, rounds: int, out: Path | None, dataset: str | None, sets: Path, steps: int, tested: int) -> None:
    """Count the bytes of sets of 10, 250 and 1500 images a class; train ROUNDS networks on each type."""
    prepare_device()
    runs = 2 if quick else max(2, rounds)
    digits = fetch(DataSpec(DigitsSource()))
    small = EvaluationRecipe(NetworkSpec("convnet", "batch", depth=2, width=32), TrainingRecipe(200, 50, 0.05), runs)
    if quick:
        small = replace(small, training=TrainingRecipe(5, 50, 0.05))
    named = {path.stem: load_synthetic(path)[0] for path in sorted(sets.glob("*.safetensors")) if not quick}
    learned = {name: synthetic for name, synthetic in named.items() if bool(synthetic.learned.any())}
    learned = learned or {"digits-noise-ipc5": subset(digits, 5, NOISE)}
    found = {name: accuracies(synthetic, digits.test, small) for name, synthetic in learned.items()}
    moved = {name: moved_by(synthetic, digits) for name, synthetic in learned.items()}
    result: dict[str, Any] = {"noise": NOISE, "moved_by": moved, "digits": {"evaluation": asdict(small), "sets": found}}
    if dataset is not None:
        real = fetch(DataSpec(HuggingFaceSource(id=dataset), per_class=20 if quick else 1500))
        result["bytes"] = table_of_bytes(real, (10,) if quick else (10, 250, 1500))
        training = TrainingRecipe(5 if quick else steps, 128, 0.05)
        recipe = EvaluationRecipe(NetworkSpec("convnet", "instance", depth=3, width=32), training, runs)
        test = real.test.take(torch.randperm(len(real.test), generator=seeded(0))[:tested])
        noisy = subset(real, 10, NOISE)
        result["folder"] = {
            "evaluation": asdict(recipe),
            "tested": len(test),
            "noise-ipc10": accuracies(noisy, test, recipe),
        }
    write({**conditions("storage"), **result}, out, quick)


def moved_by(synthetic: SyntheticSet, real: RealData) -> float:
    """The root mean square by which learned images differ from the training images that they started from."""
    rows = (synthetic.learned & (synthetic.source_row >= 0)).nonzero().squeeze(1)
    before = real.train.pixels(synthetic.source_row[rows])
    return round(float((synthetic.pixels(rows) - before).square().mean().sqrt()), 4)


if __name__ == "__main__":
    main()
