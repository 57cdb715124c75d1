"""How large the matching gradient of one image is, by the number of images in the set: gradients.json.

    python gradients.py

It needs the study's experts. Each set is of random images; the student makes 30 steps of 125 images, as in params.yaml.
``rms`` is the root mean square over images of the gradient's norm, in normalised pixels, averaged over draws of the
expert and its start.
"""

import json
from pathlib import Path

import torch
from ruamel.yaml import YAML

from distillkit.base.randomness import seeded
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real
from distillkit.matching.distillation import Distillation
from distillkit.pipeline.make import material_for
from distillkit.pipeline.recipes import read_recipe
from distillkit.training.expert_files import ExpertFiles, shard_paths

HERE = Path(__file__).parent
IPCS, DRAWS = (10, 50, 250, 500, 1000), 6


def main() -> None:
    data = YAML(typ="safe").load(HERE / "params.yaml")
    source = load_real(HERE / "artifacts/real")
    scores = artifact.load_difficulty(HERE / "artifacts/difficulty.safetensors", len(source.train))
    experts = ExpertFiles(shard_paths(data, HERE / "artifacts/experts"))
    found = []
    for ipc in IPCS:
        recipe = read_recipe({"recipes": {"mtt": {**data["recipes"]["mtt-ipc250"], "ipc": ipc}}}, "mtt")
        material, generator = material_for(recipe, source, experts, scores), seeded(0)
        run = Distillation(recipe.method, recipe.method.init(material, generator), material, recipe.optim, generator)
        norms = []
        for _ in range(DRAWS):
            loss = recipe.method.loss(run.iterate(), material, generator)
            (gradient_NCHW,) = torch.autograd.grad(loss, [run.images.value])
            norms.append(gradient_NCHW.flatten(1).norm(dim=1).square().mean().sqrt().item())
        found.append({"ipc": ipc, "images": len(run.images.value), "rms": sum(norms) / DRAWS, "draws": norms})
    (HERE / "gradients.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
