"""A pipeline's folder with small sets to look at, written without running a stage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from distillkit.base.files import write_csv, write_json, write_text
from distillkit.data.files.artifact import provenance_of, save_difficulty, save_synthetic
from distillkit.data.files.real_images import save_real
from distillkit.data.files.snapshots import save_snapshots
from distillkit.data.images import ImageSet, RealData, SyntheticSet, channel_statistics, real_subset
from distillkit.data.origin import SourceInfo
from distillkit.data.rows import to_pixels
from distillkit.evaluation.metrics import CONFUSION

HOSTILE = ('<img src=x onerror="document.title=1">', "</script><script>document.title=2</script>", "a&b\u2028'\"`${1}")
PARAMS = """\
package: {{name: tiny, default: {name}}}
evaluation:
  network: {{name: convnet, depth: 2, width: 32}}
  training: {{steps: 200, batch: 50, lr: 0.05}}
  runs: 5
recipes:
  full: {{method: full}}
  {beside}: {{method: random, ipc: 4}}
  {name}: {{method: selmatch, ipc: 4}}
"""


def real_data(digits: ImageSet) -> RealData:
    """Digits to train, the first 60 of them to test as well, which nothing here minds."""
    info = SourceInfo("folder", "digits", "1", "CC BY 4.0", "https://example.org/digits")
    test = ImageSet(digits.images[:60].clone(), digits.labels[:60].clone(), digits.class_names)
    return RealData(digits, test, channel_statistics(digits.images), info)


def rows_of(real: RealData, first: int) -> torch.Tensor:
    """Four rows of each class, from its ``first`` on."""
    labels = real.train.labels
    return torch.cat([(labels == k).nonzero()[first : first + 4, 0] for k in range(len(real.train.class_names))])


def mixed_set(real: RealData) -> SyntheticSet:
    """Four images a class: two as they are, two moved by 0.1 and 0.2 of a row in the middle of the class."""
    rows = rows_of(real, 4)
    plain = real_subset(real.train, rows, real.normalisation)
    learned = torch.tensor([False, False, True, True]).repeat(len(rows) // 4)
    images = to_pixels(real.train.images[rows])
    for place, by in ((2, 0.1), (3, 0.2)):
        images[place::4] = (images[place::4] * (1 - by)) + by
    return replace(plain, images=images, learned=learned)


def difficulty_of(real: RealData) -> torch.Tensor:
    """The later in the source, the harder."""
    return torch.arange(len(real.train), dtype=torch.float32) / len(real.train)


def confusion(classes: int) -> list[tuple[int, int, int]]:
    """Ten test images of each class; three of class 1 are taken for class 2, one of class 3 for class 0."""
    right = dict.fromkeys(range(classes), 10) | {1: 7, 3: 9}
    return [*((k, k, count) for k, count in right.items()), (1, 2, 3), (3, 0, 1)]


def write_pipeline(
    root: Path, real: RealData, synthetic: SyntheticSet, name: str = "mixed-ipc4", beside: str = "random-ipc4"
) -> Path:
    """The folder, with ``name``, and ``beside`` it rows 3 to 6 of each class, so two images are the same there."""
    artifacts, names = root / "artifacts", real.train.class_names
    save_real(artifacts / "real/real.safetensors", real)
    save_difficulty(artifacts / "difficulty.safetensors", difficulty_of(real), {}, {"score": {"name": "el2n"}})
    random = real_subset(real.train, rows_of(real, 3), real.normalisation)
    for recipe, method, one in ((name, "selmatch", synthetic), (beside, "random", random)):
        params: dict[str, Any] = {"method": method, "ipc": 4}
        save_synthetic(
            artifacts / f"distilled/{recipe}.safetensors", one, provenance_of(recipe, method, params, 0, real)
        )
        write_json(root / f"metrics/{recipe}.json", {"accuracy": {"mean": 0.9, "std": 0.01, "runs": 5}})
    for place, recipe in enumerate((name, beside, "full")):
        accuracies = [round(0.8 + 0.05 * place - 0.1 * (k == 1), 3) for k in range(len(names))]
        rows = [{"class": each, "accuracy": value} for each, value in zip(names, accuracies, strict=True)]
        write_json(root / f"metrics/classes/{recipe}.json", rows)
    write_csv(artifacts / f"confusion/{name}.csv", CONFUSION, confusion(len(names)))
    write_csv(artifacts / f"loss/{name}.csv", ["step", "loss"], [(step, 1 / step) for step in range(1, 21)])
    learned = synthetic.pixels(synthetic.learned.nonzero().squeeze(1))
    levels = (learned.clamp(0, 1) * 255).round().to(torch.uint8)
    snapshots = {5: levels // 4, 10: levels // 2}  # as if it had become brighter and brighter
    save_snapshots(artifacts / f"snapshots/{name}.safetensors", snapshots, synthetic)
    write_text(root / "params.yaml", PARAMS.format(name=name, beside=beside))
    return root


def with_names(real: RealData, names: tuple[str, ...]) -> RealData:
    """The same, with these names before the other classes'."""
    every = names + real.train.class_names[len(names) :]
    splits = {part: replace(getattr(real, part), class_names=every) for part in ("train", "test")}
    return replace(real, **splits)
