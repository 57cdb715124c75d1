"""Sets of the study with networks of other kinds: networks.json.

    python networks.py                              # all sets and networks below: many hours of one core
    python networks.py --network alexnet --ipc 250  # some of them

Each is trained as the study's own network is, with the learning rate of :mod:`distillkit.evaluation.others`, but once
and for fewer updates, the same for all sets of a size: one of 128 images takes 0.6 to 1.8 seconds of a core. What is in
networks.json already is not run again.
"""

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import click
from ruamel.yaml import YAML

from distillkit.base import params
from distillkit.base.files import write_json
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import accuracy_of
from distillkit.evaluation.others import USUAL
from distillkit.pipeline.measure import measure_set

HERE = Path(__file__).parent
RESULTS = HERE / "networks.json"
NETWORKS = ("alexnet", "vit", "vgg11", "resnet18")
UPDATES = {"250": 1_000, "10": 300, "500": 500}  # by images a class
OF_RESNET18 = 500  # at most
METHODS = ("random", "mtt", "selmatch", "window")


@click.command()
@click.option("--network", "networks", type=click.Choice(NETWORKS), multiple=True, default=NETWORKS)
@click.option("--ipc", "ipcs", type=click.Choice(list(UPDATES)), multiple=True, default=UPDATES)
def main(networks: tuple[str, ...], ipcs: tuple[str, ...]) -> None:
    data = YAML(typ="safe").load(HERE / "params.yaml")
    recipe = params.section(data, "evaluation", EvaluationRecipe)
    for ipc, network, method in product(ipcs, networks, METHODS):
        name, updates = f"{method}-ipc{ipc}", UPDATES[ipc]
        if network == "resnet18":
            updates = min(updates, OF_RESNET18)
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        if name in found.get(network, {}):
            continue
        synthetic, _ = artifact.load_synthetic(HERE / f"artifacts/distilled/{name}.safetensors")
        test = load_real(HERE / "artifacts/real").test
        order_N = test.labels.double()  # thirds by difficulty are not told
        training = replace(recipe.training, steps=updates)
        once = replace(recipe, runs=1, curve_points=0, training=training).on(USUAL[network])
        report = measure_set(synthetic, test, once, order_N, data["seed"], name=f"{name}, {network}")
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found.setdefault(network, {})[name] = {"updates": updates, "accuracy": accuracy_of(report)["mean"]}
        write_json(RESULTS, found)


if __name__ == "__main__":
    main()
