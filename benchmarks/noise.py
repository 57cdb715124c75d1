"""What wrong labels do to sets, and which score finds them: on the digits, at several rates and seeds.

    python benchmarks/noise.py

For each seed (of the train/test split, the noise, the experts and the methods) and each rate of symmetric noise,
experts are trained on the noisy labels, and sets are made at ten images a class, with the numbers that Python takes by
default. Networks trained on them are tested on clean labels. Then experts alone are trained at more rates and kinds, to
see how often ``second_hump`` warns. Results are in benchmarks/results/noise_digits.json; the command measures only what
is missing there, so it can be stopped and started again.
"""

import json
import time
from collections.abc import Mapping
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

RESULT = Path(__file__).with_name("results") / "noise_digits.json"
LOCK = Path(__file__).parents[1] / ".distillkit/noise.lock"
SEEDS, RATES, IPC, RUNS, EXPERTS = range(5), (0.0, 0.2, 0.4), 10, 3, 4
METHODS: dict[str, dict[str, Any]] = {
    "random": {},
    "window": {},
    "ccs": {},
    "ccs-rate": {},  # hardest_dropped as large as the rate
    "k-centre": {},
    "mtt": {},
    "selmatch": {},
    "full": {},
}
SIGNS = [("clean", 0.0), *((kind, rate) for kind in ("symmetric", "asymmetric") for rate in (0.05, 0.1, 0.2, 0.4))]
SIGN_SEEDS, CLEAN_SEEDS = range(5), range(20)


def data_of(kind: str, rate: float, seed: int) -> tuple[Any, Tensor]:
    """The images, and a mask (N,) of those with a wrong label."""
    clean = dk.fetch("digits", split_seed=seed)
    if not rate:
        return clean, torch.zeros(len(clean.train), dtype=torch.bool)
    data = dk.fetch("digits", split_seed=seed, label_noise={"kind": kind, "rate": rate, "seed": seed})
    return data, data.train.labels != clean.train.labels


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


def set_of(row: str, data: Any, experts: Any, rate: float, seed: int) -> Any:
    if row == "full":
        return dk.distill(data, "full", seed=seed)
    if row == "ccs-rate":
        return dk.distill(data, "ccs", IPC, experts=experts, seed=seed, hardest_dropped=max(0.1, rate))
    return dk.distill(data, row, IPC, experts=experts, seed=seed)


def measured(small: Any, data: Any, wrong_N: Tensor, seed: int) -> dict[str, Any]:
    """Accuracy on clean test labels; the share of images that have, or started with, a wrong label."""
    rows = small.source_row[small.source_row >= 0]
    found = dk.evaluate(small, data.test, runs=RUNS, seed=seed)
    return {
        "accuracy": round(found.mean, 6),
        "std": round(found.std, 6),
        "mislabelled": round(wrong_N[rows].double().mean().item(), 6) if len(rows) else None,
    }


def known() -> dict[str, Any]:
    """What has been measured."""
    if RESULT.is_file():
        found: dict[str, Any] = json.loads(RESULT.read_text(encoding="utf-8"))
        return found
    return {part: {} for part in ("sets", "scores", "signs")}


def keep(part: str, name: str, found: Any) -> None:
    """Add one measurement to the results; several processes may do so."""
    LOCK.parent.mkdir(exist_ok=True)
    with FileLock(LOCK):
        record = known() | {"benchmark": "noise_digits", "command": "python benchmarks/noise.py", "ipc": IPC}
        record |= {"runs": RUNS, "experts": EXPERTS, "device": f"{cores()} CPU cores, torch {torch.__version__}"}
        record[part][name] = found
        write_text(RESULT, pretty_json(record))
    click.echo(f"{name}: {found}", err=True)


@click.command()
@click.option("--only", type=click.Choice(["sets", "signs"]), help="One part alone.")
@click.option("--seed", "seeds", type=int, multiple=True, help="These seeds alone; may be repeated.")
def main(only: str | None, seeds: tuple[int, ...]) -> None:
    """Measure what is missing."""
    if only != "signs":
        for seed in seeds or SEEDS:
            for rate in RATES:
                measure_sets(rate, seed)
    if only != "sets":
        for kind, rate in SIGNS:
            for seed in seeds or (CLEAN_SEEDS if kind == "clean" else SIGN_SEEDS):
                measure_signs(kind, rate, seed)


def measure_sets(rate: float, seed: int) -> None:
    names, done = {row: f"{rate:g}/{row}/{seed}" for row in METHODS}, known()["sets"]
    if all(name in done for name in names.values()):
        return
    data, wrong_N = data_of("symmetric", rate, seed)
    experts = dk.train_experts(data, count=EXPERTS, seed=seed)
    if rate:
        scores = scores_of(experts.dynamics())
        keep("scores", f"{rate:g}/{seed}", {name: found_by(scores[name], wrong_N) for name in SCORES})
    for row, name in names.items():
        if name in done:
            continue
        started = time.process_time()
        found = measured(set_of(row, data, experts, rate, seed), data, wrong_N, seed)
        keep("sets", name, found | {"cpu_s": round(time.process_time() - started, 1)})


def measure_signs(kind: str, rate: float, seed: int) -> None:
    if (name := f"{kind}/{rate:g}/{seed}") in known()["signs"]:
        return
    data, wrong_N = data_of(kind, rate, seed)
    scores = scores_of(dk.train_experts(data, count=EXPERTS, seed=seed).dynamics())
    keep("signs", name, signs_of(scores, wrong_N))


if __name__ == "__main__":
    main()
