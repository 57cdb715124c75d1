"""Windows by other scores of difficulty, at 5 %: scores.json.

    python scores.py

It needs the study's images, experts and difficulty. Each window is window-ipc250 of params.yaml, with another score and
more starts to choose from, on the same held-out images; the evaluation is the study's. A score that is in scores.json
already is not run again.
"""

import json
from pathlib import Path

from ruamel.yaml import YAML

from distillkit.base import params
from distillkit.base.files import write_json
from distillkit.data.files import artifact
from distillkit.data.files.container import Opened
from distillkit.data.files.real_images import load_real
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import metrics_of
from distillkit.pipeline.make import make, material_for
from distillkit.pipeline.measure import measure_set
from distillkit.pipeline.recipes import read_recipe
from distillkit.training.expert_files import ExpertFiles, shard_paths

HERE = Path(__file__).parent
RESULTS = HERE / "scores.json"
SCORES, STARTS = ("dual", "tdds"), [0.2, 0.4, 0.5, 0.6, 0.7, 0.8]


def main() -> None:
    data = YAML(typ="safe").load(HERE / "params.yaml")
    source = load_real(HERE / "artifacts/real")
    experts = ExpertFiles(shard_paths(data, HERE / "artifacts/experts"))
    reference = artifact.load_reference(HERE / "artifacts/reference.safetensors", len(source.test))
    settings = data["recipes"]["window-ipc250"]
    settings["window_start"]["candidates"] = STARTS
    recipe = read_recipe({"recipes": {"window": settings}}, "window")
    evaluation = params.section(data, "evaluation", EvaluationRecipe)
    opened = Opened(HERE / "artifacts/difficulty.safetensors", "difficulty")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in (name for name in SCORES if name not in found):
        difficulty_N = opened.tensor(name, [len(source.train)])
        synthetic, _ = make(recipe, material_for(recipe, source, experts, (difficulty_N, None)), data["seed"], {})
        report = measure_set(synthetic, source.test, evaluation, reference, data["seed"], name=name)
        metrics = metrics_of(report, synthetic, source.test, evaluation.neighbours)
        chosen = {key: synthetic.notes[key] for key in ("window_start", "holdout_accuracy_by_window_start")}
        found[name] = {**chosen, **{key: metrics[key] for key in ("accuracy", "hard")}}
        write_json(RESULTS, found)


if __name__ == "__main__":
    main()
