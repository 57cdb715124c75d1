"""What a pipeline will take: an estimate of memory and disk from the numbers of params.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from distillkit.evaluate import EvaluationRecipe
from distillkit.networks import NetworkSpec, build_network
from distillkit.parameters import flatten
from distillkit.params import section
from distillkit.protocol import Method
from distillkit.recipes import read_recipe
from distillkit.trajectories import ExpertsSpec

FLOAT = 4  # bytes
BASE = 400 * 2**20  # of a process that has imported torch
KEPT = 3  # copies of its activations that a training step holds at its peak; measured on the ConvNet
UNROLLED = 4  # the same for a step of the unroll with its adjoint
CLASSES = 10  # assumed before the images are fetched: it moves the estimate by little
SHAPE = (3, 32, 32)


@dataclass(frozen=True)
class Demand:
    """Bytes of memory at the peak of the largest stage, and of expert trajectories on disk."""

    memory: int
    largest: str
    disk: int


def demand_of(data: Mapping[str, Any], image_shape: tuple[int, int, int] | None) -> Demand:
    """The estimate. Raises ParamsError for parameters that cannot be read."""
    shape = image_shape or shape_in(data)
    experts = section(data, "experts", ExpertsSpec)
    evaluation = section(data, "evaluation", EvaluationRecipe)
    network = experts.recipe.network
    trajectory = FLOAT * (experts.recipe.epochs + 1) * parameters(network, shape)
    peaks = {
        "experts": experts.per_shard * trajectory + KEPT * experts.recipe.batch * activations(network, shape),
        "evaluate": KEPT * evaluation.training.batch * activations(evaluation.network, shape),
    }
    for name in section(data, "recipes", dict[str, Any]):
        recipe = read_recipe(dict(data), name)
        if isinstance(recipe.method, Method):
            matching = getattr(recipe.method, "matching", None)
            steps, batch = getattr(matching, "student_steps", 1), getattr(matching, "student_batch", 256)
            thetas = FLOAT * steps * parameters(network, shape)
            peaks[f"distill {name}"] = 2 * thetas + UNROLLED * batch * activations(network, shape)
    largest = max(peaks, key=lambda name: peaks[name])
    shards = section(data, "expert_shards", list[int])
    return Demand(BASE + peaks[largest], largest, len(shards) * experts.per_shard * trajectory)


def shape_in(data: Mapping[str, Any]) -> tuple[int, int, int]:
    """The image shape as far as params.yaml says it."""
    source = data.get("data") or {}
    if isinstance(source, Mapping) and isinstance(size := source.get("size"), list) and len(size) == 2:
        return 3, int(size[0]), int(size[1])
    digits = isinstance(source, Mapping) and source.get("source") == {"kind": "digits"}
    return (1, 8, 8) if digits else SHAPE


def parameters(spec: NetworkSpec, shape: tuple[int, int, int]) -> int:
    return len(flatten(build_network(spec, shape, CLASSES, seed=0)))


def activations(spec: NetworkSpec, shape: tuple[int, int, int]) -> int:
    """Bytes of all layers' outputs for one image."""
    network, total = build_network(spec, shape, CLASSES, seed=0).to("meta").eval(), 0

    def count(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * FLOAT

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.empty(1, *shape, device="meta"))
    return total
