"""One cell of benchmarks/methods.py: one recipe and one seed, distilled and evaluated in a process of its own.

A request has name, seed, params (recipes and evaluation, as in params.yaml), material (a folder with real.safetensors,
experts/ and difficulty.safetensors), record and synthetic, the paths to write (synthetic may be None). On a CPU
everything is on one thread and nothing is compiled, so that CPU seconds compare.
"""

import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import sklearn.cluster  # noqa: F401  # what methods import only when they are used, is not to count as their memory
import torch
from torch import Tensor
from worker import finish, reset_peak, status_bytes

from distillkit.base import files, params
from distillkit.base import files as base_files
from distillkit.base.device import prepare_device
from distillkit.base.errors import DistillkitError
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real
from distillkit.data.images import ImageSet, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate, workload
from distillkit.matching.distillation import Distillation
from distillkit.matching.method import Material
from distillkit.networks.parameters import call_with, flatten
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.recipes import Recipe, read_recipe
from distillkit.process.interruption import end_with_parent
from distillkit.training.compute import Compute
from distillkit.training.executors import UNROLLED, plan_compute
from distillkit.training.expert_files import ExpertFiles


class Cost(NamedTuple):
    """Of the distillation alone: seconds, CPU seconds and the most memory held, whole and above what was read."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    growth_mb: float


class Meter:
    """Time and memory from its making to :meth:`read`: of the process on a CPU, of tensors on CUDA."""

    def __init__(self, device: torch.device):
        self.device = device
        finish(device.type)
        if device.type == "cpu":
            reset_peak()
        else:
            torch.cuda.reset_peak_memory_stats()
        self.held = self.bytes("VmRSS") if device.type == "cpu" else torch.cuda.memory_allocated()
        self.wall_s, self.cpu_s = time.perf_counter(), time.process_time()

    def bytes(self, field: str) -> int:
        return status_bytes(field)

    def read(self) -> Cost:
        finish(self.device.type)
        peak = self.bytes("VmHWM") if self.device.type == "cpu" else torch.cuda.max_memory_allocated()
        wall_s, cpu_s = time.perf_counter() - self.wall_s, time.process_time() - self.cpu_s
        return Cost(wall_s, cpu_s, peak / 2**20, (peak - self.held) / 2**20)


def compute_for(device: torch.device, train: ImageSet, spec: NetworkSpec, visits: int, passes: int = 3) -> Compute:
    planned = plan_compute(device, train.image_shape, spec, len(train.class_names), visits, passes)
    return replace(planned, run=Compute().run, compile=False) if device.type == "cpu" else planned


def read_material(folder: Path, recipe: Recipe, device: torch.device) -> tuple[Material, ImageSet]:
    """What methods work from, and the test images."""
    real = load_real(folder / "real.safetensors").to(device)
    scores = artifact.load_difficulty(folder / "difficulty.safetensors", len(real.train))
    difficulty_N, confidence_N = (None if score is None else score.to(device) for score in scores)
    experts = ExpertFiles(sorted((folder / "experts").glob("*.safetensors")))
    compute = compute_for(device, real.train, experts.spec, recipe.visits(len(real.train.class_names)), UNROLLED)
    return Material(real.train, real.normalisation, difficulty_N, confidence_N, experts, compute), real.test


def warm_up(material: Material) -> None:
    """One forward and backward pass, so that what libraries set up once is no method's time or memory."""
    network = material.kernel.network
    theta_P = flatten(network).requires_grad_()
    loss = call_with(network, theta_P, material.normalised(torch.arange(8))).square().mean()
    torch.autograd.grad(loss, theta_P)


def distil(recipe: Recipe, material: Material, seed: int) -> SyntheticSet:
    """As stages/distill.py does it."""
    generator = seeded(seed_for(seed, "distill"))
    synthetic = recipe.method.init(material, generator)
    if recipe.optim is None:
        return synthetic
    distillation = Distillation(recipe.method, synthetic, material, recipe.optim, generator)
    for _ in distillation:
        pass
    return distillation.result()


def accuracies(synthetic: SyntheticSet, test: ImageSet, recipe: EvaluationRecipe, seed: int) -> Tensor:
    """Of ``recipe.runs`` networks, whose initial weights depend on ``seed`` alone: sets are compared pair by pair."""
    spec, visits = workload(synthetic, recipe)
    compute = compute_for(test.images.device, test, spec, visits)
    order_N = torch.arange(len(test))  # thirds by difficulty are not shown
    return evaluate(synthetic, test, recipe, order_N, seeded(seed_for(seed, "evaluate")), compute).accuracy_R


def measured(request: dict[str, Any]) -> dict[str, Any]:
    """The record of one cell; a set with an order of its own is also evaluated by that."""
    device, seed = prepare_device(), request["seed"]
    if device.type == "cpu":
        torch.set_num_threads(1)
    recipe = read_recipe(request["params"], request["name"])
    evaluation = replace(params.section(request["params"], "evaluation", EvaluationRecipe), curve_points=0)
    material, test = read_material(Path(request["material"]), recipe, device)
    warm_up(material)
    meter = Meter(device)
    synthetic = distil(recipe, material, seed)
    cost, evaluating = meter.read(), Meter(device)
    found = accuracies(replace(synthetic, schedule=None), test, evaluation, seed)
    own = accuracies(synthetic, test, evaluation, seed) if synthetic.schedule else None
    if request["synthetic"]:
        artifact.save_synthetic(Path(request["synthetic"]), synthetic, {"recipe": recipe.name})
    return {
        "accuracy": found.tolist(),
        "own_accuracy": None if own is None else own.tolist(),
        "images": len(synthetic),
        "soft_labels": synthetic.soft_labels is not None,
        **cost._asdict(),
        "evaluation_cpu_s": evaluating.read().cpu_s,
    }


def measure(request: dict[str, Any], answer: Connection) -> None:
    """Write the record of one cell; answer what went wrong, or nothing."""
    end_with_parent()
    try:
        files.write_text(Path(request["record"]), base_files.pretty_json(measured(request)))
        answer.send("")
    except (DistillkitError, OSError, RuntimeError) as error:
        answer.send(" ".join(str(error).split()))
    except KeyboardInterrupt:
        answer.send("interrupted; run the same command again to go on")
