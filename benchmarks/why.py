"""Why SelMatch works, or not: what of it matters on the digits, over several splits, all else being equal.

    python benchmarks/why.py

For each seed (of the train/test split, the experts, the methods and the networks that test a set) sets are made that
differ in one thing: where the window starts, which share of it is learned and at which end, where images start, or
which images each step changes. All take the numbers that Python takes by default, so the same number of outer steps,
and all are tested after the same number of updates. What became of the learned images is measured as well: how far they
went, what lies nearest, and how hard experts find them, beside their start images, moved as far by noise. Results are
in benchmarks/results/why_digits.json, of which tools/why.py makes docs/why.md; the command measures only what is
missing there.

Names of sets are IPC/START/SHARE/SEED, START being where the window starts as a fraction of the class, or the name of
another start; or IPC/WORDS/SEED.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import click
import torch
from fates import Fates, tenths
from filelock import FileLock
from torch import Tensor

import distillkit as dk
from distillkit.base import params
from distillkit.base.device import prepare_device
from distillkit.base.files import pretty_json, write_text
from distillkit.base.machine import cores
from distillkit.base.randomness import seeded
from distillkit.data.images import all_of
from distillkit.evaluation.evaluate import THIRDS, EvaluationRecipe, reference_difficulty
from distillkit.look.facts import moved, neighbours, percentiles
from distillkit.networks.parameters import load_flat_, measure_statistics
from distillkit.networks.specs import build_network
from distillkit.package.recipe_json import source_yardstick
from distillkit.pipeline.measure import measure_set
from distillkit.training.difficulty import scores_of
from distillkit.training.features import spread_rows

RESULT = Path(__file__).with_name("results") / "why_digits.json"
KEPT = Path(__file__).parents[1] / ".distillkit/why"  # experts
RUNS, JUDGES, LAST = 4, 4, 30  # networks that test a set, experts that judge images, last steps whose loss is told
IPC, SHOWN_SEED = 10, 0  # of the map; of the images that are shown
STARTS, SHARES, CHOSEN_SHARE = (0.0, 0.2, 0.4, 0.6, 0.8), (0.0, 0.2, 0.5, 0.8, 1.0), 0.8
PLAN = {  # images a class and seeds of each part, the parts in order of worth
    "readings": ((IPC, 5, 25), range(4)),
    "map": ((IPC,), range(3)),
    "large": ((50,), range(3)),
}


class Cell(NamedTuple):
    """A set: its method, its settings, and whether the order inside the window that starts there is turned round."""

    method: str
    settings: Mapping[str, Any] = {}
    turned: float | None = None


def window(start: float, share: float) -> Cell:
    """A window that starts there, of which a share is learned."""
    settings = {"window_start": start}
    return Cell("selmatch", settings | {"distill_fraction": share}) if share else Cell("window", settings)


def cells(part: str, ipc: int, start: float) -> dict[str, Cell]:
    """The sets of a part with so many images a class; the window chosen on held-out images begins at ``start``."""
    if part == "map":
        return {f"{at:g}/{share:g}": window(at, share) for at in STARTS for share in SHARES}
    some = 0.5 if ipc == IPC else 0.4
    found = {f"{start:g}/{share:g}": window(start, share) for share in (CHOSEN_SHARE, 1.0, some, 0.0)}
    found |= {"mtt": Cell("mtt"), "random": Cell("random")}
    chosen, elsewhere, share = {"window_start": start}, {"window_start": None}, {"distill_fraction": CHOSEN_SHARE}
    if ipc != 5:  # of five images there are no two ends
        found[f"harder/{some:g}"] = Cell("selmatch", chosen | {"distill_fraction": some}, turned=start)
    if ipc == IPC:
        top = {"distill_fraction": 1.0, "optim": {"update_fraction": CHOSEN_SHARE}}
        found["top/0.8"] = Cell("selmatch", chosen | top)
        found["confident/0"] = Cell("confident")
        found["confident/0.8"] = Cell("selmatch", elsewhere | share | {"start": "confident"})
        found["confident-top/0.8"] = Cell("selmatch", elsewhere | top | {"start": "confident"})
        found["random/0.8"] = Cell("selmatch", elsewhere | share | {"start": "random"})
    return found


@dataclass(frozen=True)
class Split:
    """The digits, split by ``seed``, and what was trained on them. Axes: N images of a set; M training images."""

    seed: int

    @cached_property
    def data(self) -> Any:
        return dk.fetch("digits", split_seed=self.seed)

    @cached_property
    def experts(self) -> Any:
        return dk.train_experts(self.data, seed=self.seed, folder=KEPT)

    @cached_property
    def difficulty(self) -> Tensor:
        return scores_of(self.experts.dynamics())["confidence"]

    @cached_property
    def percent(self) -> Tensor:
        """Share of its class that is easier, in percent."""
        return percentiles(self.difficulty, self.data.train.labels)

    @cached_property
    def test_difficulty(self) -> Tensor:
        prepare_device()
        everything = all_of(self.data.train, self.data.normalisation)
        return reference_difficulty(everything, self.data.test, evaluation(), seeded(self.seed))

    @cached_property
    def yardstick(self) -> float:
        """Median distance of a training image to the nearest other one."""
        return source_yardstick(self.data.train)

    @cached_property
    def judges(self) -> list[torch.nn.Module]:
        """Some experts after each epoch, in evaluation mode."""
        train, experts = self.data.train, self.experts
        some_NCHW = self.data.normalisation.apply(train.pixels(spread_rows(train.labels)))
        found = []
        for expert, epoch in product(range(JUDGES), range(1, experts.snapshots)):
            network = build_network(experts.spec, train.image_shape, len(train.class_names), seed=0)
            load_flat_(network, experts.read(expert, epoch))
            found.append(measure_statistics(network, some_NCHW))
        return found

    @torch.no_grad()
    def hardness(self, pixels_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """1 - mean probability of the label, over the judges: the difficulty of any image, also of a learned one."""
        images_NCHW = self.data.normalisation.apply(pixels_NCHW)
        found = [network(images_NCHW).softmax(1).gather(1, labels_N[:, None]).squeeze(1) for network in self.judges]
        return 1 - torch.stack(found).mean(0)

    @cached_property
    def hardness_of_train(self) -> Tensor:
        return self.hardness(self.data.train.pixels(), self.data.train.labels)

    def easier(self, pixels_NCHW: Tensor, labels_N: Tensor) -> Tensor:
        """Share of the training images of its class, in percent, that the judges find easier than each image."""
        hard_N, same_NM = self.hardness(pixels_NCHW, labels_N), labels_N[:, None] == self.data.train.labels
        return 100 * ((self.hardness_of_train < hard_N[:, None]) & same_NM).sum(1) / same_NM.sum(1)

    def made(self, ipc: int, cell: Cell) -> Any:
        difficulty_M = self.difficulty
        if cell.turned is not None:
            whole = dk.distill(self.data, "window", ipc, experts=self.experts, window_start=cell.turned)
            rows = whole.source_row.view(-1, ipc)  # class by class, hardest first
            difficulty_M = difficulty_M.scatter(0, rows.flatten(), difficulty_M[rows.flip(1).flatten()])
        material = {"experts": self.experts, "difficulty": difficulty_M, "seed": self.seed}
        return dk.distill(self.data, cell.method, ipc, **material, **cell.settings)

    def measured(self, small: Any) -> dict[str, Any]:
        """Accuracies, and the tenths of its classes by difficulty, the easiest first, that the set's images are of."""
        report = measure_set(small, self.data.test, evaluation(), self.test_difficulty, self.seed)
        thirds = dict(zip(THIRDS, report.third_accuracy_R3.mean(0).tolist(), strict=True))
        figures = {"accuracy": report.accuracy_R.mean().item(), "std": report.accuracy_R.std().item(), **thirds}
        found = {name: round(value, 6) for name, value in figures.items()} | {"images": len(small)}
        found |= {"tenths": tenths(self.percent[small.source_row])}
        if small.history:
            found["loss"] = round(fmean(step.loss for step in small.history[-LAST:]), 6)
            found["learning"] = self.fates(small).summary()
        return found

    def fates(self, small: Any) -> Fates:
        rows = small.learned.nonzero().squeeze(1)
        labels_N, start_N, train = small.labels[rows], small.source_row[rows], self.data.train
        near_N, distance_N = neighbours(small, self.data, rows)
        return Fates(
            labels=labels_N,
            before=train.pixels(start_N),
            after=small.images[rows],
            moved=moved(small, self.data, rows) / self.yardstick,
            nearest=distance_N / self.yardstick,
            still_own=(near_N == start_N).double(),
            same_class=(train.labels[near_N] == labels_N).double(),
            hard_before=self.percent[start_N],
            hard_of_nearest=self.percent[near_N],
            seen_before=self.easier(train.pixels(start_N), labels_N),
            seen_after=self.easier(small.images[rows], labels_N),
        )

    def shaken(self, small: Any, distance: float) -> dict[str, Any]:
        """How hard the start images are for the judges when noise moves each of them so far, in yardsticks."""
        start_NCHW, labels_N = self.data.train.pixels(small.source_row[small.learned]), small.labels[small.learned]
        noise_NCHW = torch.randn(start_NCHW.shape, generator=seeded(self.seed))
        length_N = noise_NCHW.flatten(1).square().mean(1).sqrt()
        shaken_NCHW = start_NCHW + noise_NCHW * (distance * self.yardstick / length_N).view(-1, 1, 1, 1)
        seen_N = self.easier(shaken_NCHW, labels_N)
        return {"seen": round(seen_N.mean().item(), 6), "tenths": tenths(seen_N)}


def evaluation() -> EvaluationRecipe:
    """That of the default pipeline."""
    return replace(params.section(params.load(), "evaluation", EvaluationRecipe), runs=RUNS, curve_points=0)


def known() -> dict[str, Any]:
    """What has been measured."""
    found: dict[str, Any] = {part: {} for part in ("sets", "starts", "pairs", "shaken")}
    return found | (json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {})


def keep(part: str, name: str, found: Any) -> None:
    """Add one measurement to the results; several processes may do so."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with FileLock(KEPT / "lock"):
        record = known() | {"benchmark": "why_digits", "command": "python benchmarks/why.py", "runs": RUNS}
        record |= {"chosen_share": CHOSEN_SHARE, "device": f"{cores()} CPU cores, torch {torch.__version__}"}
        record[part][name] = found
        write_text(RESULT, pretty_json(record))
    click.echo(f"{name}: {found}", err=True)


def start_of(split: Split, ipc: int) -> float:
    """Where the window begins, chosen on held-out training images."""
    if (name := f"{ipc}/{split.seed}") not in known()["starts"]:
        notes = dk.distill(split.data, "window", ipc, experts=split.experts, seed=split.seed).notes
        keep("starts", name, dict(notes))
    return float(known()["starts"][name]["window_start"])


def measure(part: str, split: Split, ipc: int) -> None:
    start, seed = start_of(split, ipc), split.seed
    for name, cell in cells(part, ipc, start).items():
        place, started = f"{ipc}/{name}/{seed}", time.process_time()
        if place not in known()["sets"]:
            small = split.made(ipc, cell)
            keep("sets", place, split.measured(small) | {"cpu_s": round(time.process_time() - started, 1)})
            if (ipc, seed) == (IPC, SHOWN_SEED) and name in ("mtt", f"{start:g}/{CHOSEN_SHARE:g}"):
                keep("pairs", place, split.fates(small).pairs())
        learning = known()["sets"][place].get("learning")
        if learning and place not in known()["shaken"]:
            begun = split.made(ipc, cell._replace(settings={**cell.settings, "optim": {"steps": 1}}))
            keep("shaken", place, split.shaken(begun, learning["moved"]))


@click.command()
@click.option("--only", type=click.Choice([*PLAN]), help="One part alone.")
@click.option("--seed", "seeds", type=int, multiple=True, help="These seeds alone; may be repeated.")
def main(only: str | None, seeds: Sequence[int]) -> None:
    """Measure what is missing."""
    split_of = cache(Split)
    for part in [only] if only else PLAN:
        ipcs, usual = PLAN[part]
        for seed, ipc in product(seeds or usual, ipcs):
            measure(part, split_of(seed), ipc)


if __name__ == "__main__":
    main()
