"""What wrong labels do to sets, and which score finds them: at several rates and seeds.

    python benchmarks/noise.py digits
    python benchmarks/noise.py cifar10 --data FOLDER_OR_HUB_ID    # 500 training images a class, as 16x16

For each seed (of the images taken, the noise, the experts and the methods) and each rate of symmetric noise, experts
are trained on the noisy labels, and sets are made with the numbers that Python takes by default. Networks trained on
them are tested on clean labels. Then experts alone are trained at more rates and kinds, to see how often
``second_hump`` warns. Results are in benchmarks/results/noise_NAME.json; the command measures only what is missing
there, so it can be stopped and started again.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from filelock import FileLock
from torch import Tensor

import distillkit as dk
from distillkit.base.files import pretty_json, write_text
from distillkit.base.machine import cores
from distillkit.training.difficulty import SCORES, scores_of
from distillkit.training.noise_signs import second_hump

RESULTS = Path(__file__).with_name("results")
LOCK = Path(__file__).parents[1] / ".distillkit/noise.lock"
RATES, RUNS, EXPERTS = (0.0, 0.2, 0.4), 3, 4
METHODS = ("random", "window", "ccs", "ccs-rate", "k-centre", "mtt", "selmatch", "full")
"""``ccs-rate`` is ccs with ``hardest_dropped`` as large as the rate."""


@dataclass(frozen=True)
class Study:
    """Images, sets of ``ipc`` images a class, networks trained on them for as many updates as Python takes by default,
    or as ``training`` says, and seeds of all this. ``signs`` are kinds and rates of noise with their seeds.
    """

    name: str
    source: str
    ipc: int
    seeds: Sequence[int]
    signs: Sequence[tuple[str, float, int]]
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def result(self) -> Path:
        return RESULTS / f"noise_{self.name}.json"

    def images(self, kind: str, rate: float, seed: int) -> tuple[Any, Tensor]:
        """The images, and a mask (N,) of those with a wrong label."""
        clean = dk.fetch(self.source, split_seed=seed, **self.options)
        if not rate:
            return clean, torch.zeros(len(clean.train), dtype=torch.bool)
        noise = {"kind": kind, "rate": rate, "seed": seed}
        data = dk.fetch(self.source, split_seed=seed, label_noise=noise, **self.options)
        return data, data.train.labels != clean.train.labels

    def known(self) -> dict[str, Any]:
        """What has been measured."""
        if self.result.is_file():
            found: dict[str, Any] = json.loads(self.result.read_text(encoding="utf-8"))
            return found
        return {part: {} for part in ("sets", "scores", "signs")}

    def keep(self, part: str, name: str, found: Any) -> None:
        """Add one measurement to the results; several processes may do so."""
        LOCK.parent.mkdir(exist_ok=True)
        with FileLock(LOCK):
            record = self.known() | {
                "benchmark": f"noise_{self.name}",
                "command": f"python benchmarks/noise.py {self.name}",
            }
            record |= {"ipc": self.ipc, "runs": RUNS, "experts": EXPERTS, "options": dict(self.options)}
            record |= {"training": dict(self.training), "device": f"{cores()} CPU cores, torch {torch.__version__}"}
            record[part][name] = found
            write_text(self.result, pretty_json(record))
        click.echo(f"{name}: {found}", err=True)


def digits() -> Study:
    noisy = [
        (kind, rate, seed)
        for kind in ("symmetric", "asymmetric")
        for rate in (0.05, 0.1, 0.2, 0.4)
        for seed in range(5)
    ]
    return Study("digits", "digits", 10, range(5), [*(("clean", 0.0, seed) for seed in range(20)), *noisy])


def cifar10(source: str) -> Study:
    options = {"size": 16, "per_class": 500, "test_per_class": 200}
    signs = [("asymmetric", rate, seed) for rate in (0.2, 0.4) for seed in range(3)]
    training = {"steps": 600, "batch": 64, "lr": 0.05}
    return Study("cifar10", source, 25, range(3), signs, options, training)


def average_precision(score_N: Tensor, wrong_N: Tensor) -> float:
    """Mean over wrong labels of the share of wrong ones among all that score at least as high."""
    hits_N = wrong_N[score_N.argsort(descending=True, stable=True)].double()
    precision_N = hits_N.cumsum(0) / torch.arange(1, len(hits_N) + 1)
    return (precision_N * hits_N).sum().item() / max(1.0, hits_N.sum().item())


def found_by(score_N: Tensor, wrong_N: Tensor) -> dict[str, float]:
    """Where as many are called wrong as are wrong, precision is recall."""
    top = score_N.argsort(descending=True, stable=True)[: int(wrong_N.sum())]
    return {
        "precision_at_rate": round(wrong_N[top].double().mean().item(), 6),
        "average_precision": round(average_precision(score_N, wrong_N), 6),
    }


def signs_of(scores: Mapping[str, Tensor], wrong_N: Tensor) -> dict[str, Any]:
    """Whether there is a warning; if so, the share that it names, and how many of these labels are wrong."""
    margin_N = scores["probability-margin"]
    hump = second_hump(margin_N)
    if hump is None:
        return {"warns": False}
    called_N = margin_N > hump.threshold
    hits = float((called_N & wrong_N).sum())
    return {
        "warns": True,
        "share": round(hump.share, 6),
        "precision": round(hits / float(called_N.sum()), 6),
        "recall": round(hits / max(1.0, float(wrong_N.sum())), 6),
    }


def set_of(study: Study, row: str, data: Any, experts: Any, rate: float, seed: int) -> Any:
    if row == "full":
        return dk.distill(data, "full", seed=seed)
    if row == "ccs-rate":
        return dk.distill(data, "ccs", study.ipc, experts=experts, seed=seed, hardest_dropped=max(0.1, rate))
    return dk.distill(data, row, study.ipc, experts=experts, seed=seed)


def measured(study: Study, small: Any, data: Any, wrong_N: Tensor, seed: int) -> dict[str, Any]:
    """Accuracy on clean test labels; the share of images that have, or started with, a wrong label."""
    rows = small.source_row[small.source_row >= 0]
    found = dk.evaluate(small, data.test, runs=RUNS, seed=seed, **study.training)
    return {
        "accuracy": round(found.mean, 6),
        "std": round(found.std, 6),
        "mislabelled": round(wrong_N[rows].double().mean().item(), 6) if len(rows) else None,
    }


@click.command()
@click.argument("name", type=click.Choice(["digits", "cifar10"]))
@click.option("--data", "source", help="CIFAR-10: a folder, or the Hub's uoft-cs/cifar10.")
@click.option("--only", type=click.Choice(["sets", "signs"]), help="One part alone.")
@click.option("--seed", "seeds", type=int, multiple=True, help="These seeds alone; may be repeated.")
def main(name: str, source: str | None, only: str | None, seeds: tuple[int, ...]) -> None:
    """Measure what is missing."""
    if (name == "cifar10") != (source is not None):
        raise click.UsageError("cifar10 needs --data, a folder or an id of the Hub; digits has its own images")
    study = cifar10(source) if source else digits()
    if only != "signs":
        for seed in seeds or study.seeds:
            for rate in RATES:
                measure_sets(study, rate, seed)
    if only != "sets":
        for kind, rate, seed in study.signs:
            if not seeds or seed in seeds:
                measure_signs(study, kind, rate, seed)


def measure_sets(study: Study, rate: float, seed: int) -> None:
    names, done = {row: f"{rate:g}/{row}/{seed}" for row in METHODS}, study.known()["sets"]
    if all(name in done for name in names.values()):
        return
    data, wrong_N = study.images("symmetric", rate, seed)
    experts = dk.train_experts(data, count=EXPERTS, seed=seed)
    scores = scores_of(experts.dynamics())
    if rate:
        study.keep("scores", f"{rate:g}/{seed}", {name: found_by(scores[name], wrong_N) for name in SCORES})
    study.keep("signs", f"{'symmetric' if rate else 'clean'}/{rate:g}/{seed}", signs_of(scores, wrong_N))
    for row, name in names.items():
        if name in done:
            continue
        started = time.process_time()
        found = measured(study, set_of(study, row, data, experts, rate, seed), data, wrong_N, seed)
        study.keep("sets", name, found | {"cpu_s": round(time.process_time() - started, 1)})


def measure_signs(study: Study, kind: str, rate: float, seed: int) -> None:
    if (name := f"{kind}/{rate:g}/{seed}") in study.known()["signs"]:
        return
    data, wrong_N = study.images(kind, rate, seed)
    scores = scores_of(dk.train_experts(data, count=EXPERTS, seed=seed).dynamics())
    study.keep("signs", name, signs_of(scores, wrong_N))


if __name__ == "__main__":
    main()
