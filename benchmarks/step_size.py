"""The student's step size under three rules, where the best one lies far above the start, as on CIFAR-10.

    python benchmarks/step_size.py          # writes benchmarks/results/step_size-cpu.json, a minute

Digits, MTT at 10 images a class with the numbers that decide stability in MTT's and SelMatch's CIFAR-10 settings: the
experts make seven steps for one of the student, their rate is 0.01, the step size starts at 0.001 with a published rate
of 1e-5 (``student_lr_lr: 10``) and momentum 0.5. *published* is plain SGD on the step size, *logarithm* is what
distillkit did until 0.1, *ours* is plain SGD that never takes more than half of it.
"""

import json
from pathlib import Path

import torch

from distillkit.base import params
from distillkit.base.errors import DivergedError
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.images import RealData
from distillkit.matching.distillation import Distillation
from distillkit.matching.method import Material
from distillkit.matching.optim import Optim
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks.specs import NetworkSpec
from distillkit.sources import fetch
from distillkit.training.trajectories import ExpertRecipe, ExpertsInMemory, record_expert

OUT = Path(__file__).parent / "results/step_size-cpu.json"
RULES = ("published", "logarithm", "ours")
RECIPE = ExpertRecipe(NetworkSpec("convnet", depth=2, width=32, norm="batch"), epochs=12, batch=64, lr=0.01)
METHOD = TrajectoryMatching(10, Matching(student_steps=6, student_batch=50, expert_epochs=2, max_start_epoch=10))
OPTIM = Optim(steps=120, image_lr=100, student_lr_init=0.001, student_lr_lr=10)


def material(data: RealData, count: int = 4) -> Material:
    experts = [
        record_expert(data.train, data.normalisation, RECIPE, seeded(seed_for(0, "expert", member)))
        for member in range(count)
    ]
    trajectories = torch.stack([expert.trajectory_TP for expert in experts])
    return Material(data.train, data.normalisation, experts=ExpertsInMemory(RECIPE.network, trajectories))


def run(rule: str, given: Material, seed: int) -> dict[str, object]:
    """Step sizes and losses, as far as the run goes, and why it ended."""
    generator = seeded(seed)
    work = Distillation(METHOD, METHOD.init(given, generator), given, OPTIM, generator)
    if rule != "ours":
        work.step_sizes.learned.least_share = None
    if rule == "logarithm":
        work.step_sizes.exponential = True
        work.step_sizes.learned.value.data.zero_()
    ended = "ran to its end"
    try:
        list(work)
    except DivergedError as error:
        ended = str(error)
    return {
        "rule": rule,
        "seed": seed,
        "ended": ended,
        "step_size": [float(f"{step.student_lr:.4g}") for step in work.history],
        "loss": [round(step.loss, 4) for step in work.history],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = material(fetch.fetch(params.read({"source": {"kind": "digits"}}, fetch.DataSpec, "data")))
    runs = [run(rule, given, seed) for seed in range(3) for rule in RULES]
    OUT.write_text(json.dumps({"command": "python benchmarks/step_size.py", "runs": runs}, indent=1) + "\n")
