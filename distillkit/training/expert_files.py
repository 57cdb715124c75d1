"""Files of expert trajectories: one safetensors file per shard, read lazily."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distillkit.base.errors import ArtifactError
from distillkit.data.files.artifact import read_network
from distillkit.data.files.container import Opened, save
from distillkit.data.leftovers import stems
from distillkit.networks.specs import Network
from distillkit.training.dynamics import DYNAMICS, Dynamics
from distillkit.training.trajectories import Expert, described


def shard_paths(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files of the shards that ``expert_shards`` lists. Other files in ``folder`` are ignored."""
    return [folder / f"{stem}.safetensors" for stem in stems(data, "expert_shards")]


def save_experts(
    path: Path, experts: Sequence[Expert], spec: Network, recipe: Mapping[str, Any], trained_on: str = ""
) -> None:
    """Save one shard: trajectories (E, T, P) and dynamics, each (E, L, N).

    ``trained_on`` identifies the training images. It is empty in a pipeline, where DVC tracks them.
    """
    dynamics = {
        f"dynamics.{name}": torch.stack([getattr(e.dynamics, name) for e in experts]) for name in Dynamics._fields
    }
    tensors = {"trajectories": torch.stack([expert.trajectory_TP for expert in experts]), **dynamics}
    header = {"network": asdict(spec), "recipe": recipe}
    save(path, "experts", tensors, header | ({"trained_on": trained_on} if trained_on else {}))


class ExpertFiles:
    """Experts in one or more shard files. A snapshot is read from disk on access.

    Raises ArtifactError when there is no file, or when a file is invalid or has other networks or training images.
    """

    def __init__(self, paths: Sequence[Path]):
        self.shards = [Opened(path, "experts") for path in paths]
        if not self.shards:
            raise ArtifactError("no expert shards were given; expected at least one; name some under expert_shards")
        self.slices = [trajectories_of(shard) for shard in self.shards]
        shapes = [part.get_shape() for part in self.slices]
        specs = [read_network(shard, "network", "train it again") for shard in self.shards]
        self.spec, self.trained_on = specs[0], str(self.shards[0].header.get("trained_on", ""))
        for shard, shape, spec in zip(self.shards, shapes, specs, strict=True):
            if spec != specs[0] or shape[1:] != shapes[0][1:]:
                raise ArtifactError(f"{shard.path} holds other networks than {self.shards[0].path}; train both again")
            if shard.header.get("trained_on", "") != self.trained_on:
                raise ArtifactError(f"{shard.path} is for other images than {self.shards[0].path}; train both again")
        self.snapshots: int = shapes[0][1]
        self.index = [(part, row) for part, shape in zip(self.slices, shapes, strict=True) for row in range(shape[0])]

    def __repr__(self) -> str:
        return described(self)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def images(self) -> int:
        """The number of images that the experts were trained on."""
        return next(self.dynamics()).correct.shape[2]

    def read(self, expert: int, snapshot: int) -> Tensor:
        part, row = self.index[expert]
        parameters: Tensor = part[row, snapshot]
        return parameters

    def dynamics(self) -> Iterator[Dynamics]:
        """Yield the dynamics of one expert at a time, each (1, L, N)."""
        shape: list[int | None] = [1, None, None]
        for shard, part in zip(self.shards, self.slices, strict=True):
            for expert in range(part.get_shape()[0]):
                rows = slice(expert, expert + 1)
                found = {
                    name: shard.tensor(f"dynamics.{name}", shape, dtype, rows=rows) for name, dtype in DYNAMICS.items()
                }
                shape = list(found["correct"].shape)
                yield Dynamics(**found)


def trajectories_of(shard: Opened) -> Any:
    """The shard's trajectories (E, T, P) as a lazy slice. Raises ArtifactError when they are missing or malformed."""
    found = shard.file.get_slice("trajectories") if "trajectories" in shard.file.keys() else None  # noqa: SIM118
    if found is None or found.get_dtype() != "F32" or len(found.get_shape()) != 3 or 0 in found.get_shape():
        raise ArtifactError(f"{shard.path} has no trajectories (experts, snapshots, parameters); train it again")
    return found
