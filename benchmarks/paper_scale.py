"""The SelMatch preset for CIFAR-10 from raw images to the table of accuracies, on one GPU, within a budget of minutes.

    python benchmarks/paper_files.py FOLDER_OR_HUB_ID build/cifar10.npz     # where the package datasets is installed
    python benchmarks/paper_scale.py build/paper --data build/cifar10.npz --precision bf16

The defaults come to 25 minutes in all (two sets are learned). Each phase fits its work to its minutes: as many experts
and outer steps as there is time for, and one number of updates for all sets, settled by a probe before the first
evaluation. Whatever is finished lies in WORK; stopped at any moment, the same command goes on, and other arguments are
refused. Minutes are those of finished work, whenever it was done. For toy sizes give a preset of your own
(tests/test_paper_scale.py has one) and ``--data digits``, or change entries with ``--set experts.recipe.epochs=50``.

Needs torch, torchvision, numpy, Pillow, safetensors, click, PyYAML and tqdm, and for a pack of images nothing else.
"""

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch
from paper_files import (
    Entry,
    build,
    digest,
    load_images,
    note,
    noted,
    read_entries,
    read_preset,
    report,
    settle,
    table,
)
from record import command, device_name

from distillkit import __version__
from distillkit.base.device import prepare_device
from distillkit.base.errors import DivergedError, ParamsError
from distillkit.base.files import pretty_json, write_text
from distillkit.base.randomness import seed_for, seeded
from distillkit.data.files.artifact import (
    load_difficulty,
    load_synthetic,
    provenance_of,
    save_difficulty,
    save_synthetic,
)
from distillkit.data.files.container import Opened, load_state, save, save_state
from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe, evaluate
from distillkit.matching.distillation import Distillation
from distillkit.matching.method import Material
from distillkit.pipeline.checkpoints import resumed
from distillkit.process.command import run as run_command
from distillkit.process.progress import tell
from distillkit.training.compute import Compute
from distillkit.training.difficulty import SCORES, first_epochs
from distillkit.training.loop import fit
from distillkit.training.trajectories import Dynamics, ExpertsInMemory, ExpertsSpec, record_expert

PRESET = Path(__file__).parents[1] / "presets/selmatch-cifar10.yaml"
CHECKPOINT_SECONDS = 20.0
MARGIN = 0.9  # share of the evaluation's minutes that is planned for: compiling and testing take the rest
WARM_UPDATES, TIMED_UPDATES = 20, 60  # of the probe
DYNAMICS = [f"dynamics.{name}" for name in Dynamics._fields]


@dataclass(frozen=True)
class Job:
    """What all phases work from; ``seconds`` is the budget of each."""

    work: Path
    data: RealData
    device: torch.device
    compute: Compute
    seed: int
    experts: ExpertsSpec
    most_experts: int
    score: Mapping[str, Any]
    entries: Mapping[str, Entry]
    evaluation: EvaluationRecipe
    seconds: Mapping[str, float]

    def expert(self, member: int) -> Path:
        return self.work / "experts" / f"{member:03d}.safetensors"

    def set(self, name: str) -> Path:
        return self.work / "sets" / f"{name}.safetensors"

    @property
    def trained(self) -> int:
        """How many experts there are, numbered from 0 on."""
        return next(member for member in range(self.most_experts + 1) if not self.expert(member).exists())


def train_experts(job: Job) -> None:
    """Experts one after another, until the next is not expected to end within the budget; at least one."""
    while (member := job.trained) < job.most_experts:
        spent = [noted(job.expert(done))["seconds"] for done in range(member)]
        if spent and sum(spent) + spent[-1] > job.seconds["experts"]:
            return
        started, generator = time.monotonic(), seeded(seed_for(job.seed, "expert", member))
        recipe, train = job.experts.recipe, job.data.train
        expert = record_expert(train, job.data.normalisation, recipe, generator, compute=job.compute)
        seconds, path = round(time.monotonic() - started, 3), job.expert(member)
        dynamics = dict(zip(DYNAMICS, expert.dynamics, strict=True))
        accuracy = expert.dynamics.correct[-1].double().mean().item()
        note(path, {"seconds": seconds, "training_accuracy": round(accuracy, 6)})
        save(path, "expert", {"trajectory": expert.trajectory_TP, **dynamics}, {"recipe": asdict(recipe)})
        tell(f"expert {member + 1}: {seconds:.1f} s, {accuracy:.2%} of the training images right in its last epoch")


def score_images(job: Job) -> None:
    """The preset's score, from the training dynamics of all experts."""
    path = job.work / "difficulty.safetensors"
    if path.exists():
        return
    started = time.monotonic()
    opened = [Opened(job.expert(member), "expert").file for member in range(job.trained)]
    dynamics = Dynamics(*(torch.stack([file.get_tensor(name) for file in opened]) for name in DYNAMICS))
    difficulty_N = SCORES[job.score["name"]](first_epochs(dynamics, job.score.get("epochs")))
    note(path, {"seconds": round(time.monotonic() - started, 3), "experts": job.trained})
    save_difficulty(path, difficulty_N, {}, {"score": dict(job.score)})


def make_sets(job: Job) -> None:
    """All sets of the table: the learned ones within their budget each."""
    missing = [name for name in job.entries if not job.set(name).exists()]
    if not missing:
        return
    train = job.data.train
    difficulty_N = load_difficulty(job.work / "difficulty.safetensors", len(train))[0].to(job.device)
    experts: Any = load_experts(job) if any(job.entries[name].optim for name in missing) else None
    material = Material(train, job.data.normalisation, difficulty_N, None, experts, job.compute)
    for name in missing:
        make_set(job, name, material)


def load_experts(job: Job) -> ExpertsInMemory:
    """All trajectories on the device: 13 GB for 100 published experts."""
    shape = Opened(job.expert(0), "expert").file.get_slice("trajectory").get_shape()
    trajectories_ETP = torch.empty(job.trained, *shape, device=job.device)
    for member, trajectory_TP in enumerate(trajectories_ETP):
        trajectory_TP.copy_(Opened(job.expert(member), "expert").tensor("trajectory", shape, torch.float32))
    return ExpertsInMemory(job.experts.recipe.network, trajectories_ETP)


def make_set(job: Job, name: str, material: Material) -> None:
    started, entry, generator = time.monotonic(), job.entries[name], seeded(seed_for(job.seed, "distill"))
    synthetic, found = entry.method.init(material, generator), {}
    if entry.optim is not None:
        run = Distillation(entry.method, synthetic, material, entry.optim, generator)  # type: ignore[arg-type]
        found = distil(job, name, run)
        synthetic = run.result()
    path, params = job.set(name), json.loads(json.dumps(asdict(entry.method)))  # type: ignore[call-overload]
    note(path, {"seconds": round(time.monotonic() - started, 3), **found})
    save_synthetic(path, synthetic, provenance_of(name, entry.method_name, params, job.seed, job.data))
    checkpoint(job, name).unlink(missing_ok=True)


def checkpoint(job: Job, name: str) -> Path:
    return job.work / "checkpoints" / f"{name}.safetensors"


def distil(job: Job, name: str, run: Distillation) -> dict[str, Any]:
    """Outer steps until the budget is used up, at least one; where it diverges, the last good set counts."""
    path, spent, diverged = checkpoint(job, name), 0.0, None
    resumed(run, path)
    if run.history:
        spent = load_state(path)["seconds"].item()
    saved = time.monotonic()
    try:
        while run.steps_left and (spent < job.seconds["distil"] or not run.history):
            started = time.monotonic()
            step = run.advance()
            spent += time.monotonic() - started
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                save_state(path, run.state() | {"seconds": torch.tensor(spent, dtype=torch.float64)})
                saved = time.monotonic()
                tell(f"{name}: step {step.step} of {run.optim.steps}, loss {step.loss:.4f}, {spent:.0f} s")
    except DivergedError as error:
        if not run.history:
            raise
        diverged = str(error)
        tell(f"warning: {name}: {diverged}; going on with the set after step {len(run.history)}")
    losses = [round(step.loss, 6) for step in run.history]
    tell(f"{name}: {len(losses)} of {run.optim.steps} steps in {spent:.0f} s, loss {losses[0]} to {losses[-1]}")
    steps = {"steps": len(losses), "steps_wanted": run.optim.steps, "loss_first": losses[0], "loss_last": losses[-1]}
    return {"seconds": round(spent, 3), "diverged": diverged, **steps}


def load_set(job: Job, name: str) -> SyntheticSet:
    return load_synthetic(job.set(name))[0].to(job.device)


def plan_updates(job: Job) -> int:
    """Updates of every network: as many as the recipe asks for, or as the budget allows; settled once and kept."""
    path, wanted = job.work / "plan.json", job.evaluation.training.steps
    if not path.exists():
        started = time.monotonic()
        per_update = seconds_per_update(job)
        probed = time.monotonic() - started
        networks = len(job.entries) * job.evaluation.runs
        allowed = int((MARGIN * job.seconds["evaluation"] - probed) / networks / per_update)
        updates = max(1, min(wanted, allowed - allowed % 100 if allowed > 100 else allowed))
        seconds = {"seconds": round(probed, 3), "seconds_per_update": round(per_update, 9)}
        note(path, {"updates": updates, "updates_wanted": wanted, **seconds})
        tell(f"{1000 * per_update:.2f} ms an update: {updates} of {wanted} updates for each of {networks} networks")
    return int(noted(path)["updates"])


def seconds_per_update(job: Job) -> float:
    """Of the set with most learned and real images beside each other, whose augmentation costs most."""
    name = next((name for name, entry in job.entries.items() if entry.kind == "selmatch"), next(iter(job.entries)))
    synthetic, ticks = load_set(job, name), dict[int, float]()

    def tick(step: int, _: torch.nn.Module) -> None:
        if step in (WARM_UPDATES, WARM_UPDATES + TIMED_UPDATES):
            if job.device.type == "cuda":
                torch.cuda.synchronize()
            ticks[step] = time.perf_counter()

    fit(
        job.evaluation.network,
        job.compute.layout(synthetic.normalisation.apply(synthetic.images)),
        synthetic.labels,
        len(synthetic.class_names),
        replace(job.evaluation.training, steps=WARM_UPDATES + TIMED_UPDATES),
        seeded(seed_for(job.seed, "probe")),
        learned_N=synthetic.learned,
        on_step=tick,
        compute=job.compute,
    )
    first, last = ticks.values()
    return (last - first) / TIMED_UPDATES


def evaluated(job: Job, name: str, run: int) -> Path:
    return job.work / "evaluations" / f"{name}-run{run}.json"


def evaluate_sets(job: Job) -> int:
    """Network by network, each run over all sets before the next run; the runs that there was time for, at least one.

    Run r has the same initial weights whatever the set.
    """
    updates = plan_updates(job)
    training = replace(job.evaluation.training, steps=updates)
    recipe = replace(job.evaluation, runs=1, curve_points=0, training=training)
    for run in range(job.evaluation.runs):
        if run and noted(job.work / "plan.json")["seconds"] + sum(spent_on(job, run)) >= job.seconds["evaluation"]:
            return run
        for name in job.entries:
            if not (path := evaluated(job, name, run)).exists():
                started, generator = time.monotonic(), seeded(seed_for(job.seed, "evaluate", run))
                unused_N = torch.zeros(len(job.data.test))  # thirds of the test images are not reported here
                found = evaluate(load_set(job, name), job.data.test, recipe, unused_N, generator, job.compute)
                accuracy = round(found.accuracy_R.item(), 6)
                note(path, {"accuracy": accuracy, "seconds": round(time.monotonic() - started, 3)})
                tell(f"{name}, run {run + 1} of {job.evaluation.runs}: {accuracy:.2%}")
    return job.evaluation.runs


def spent_on(job: Job, runs: int) -> Iterator[float]:
    """The seconds of every evaluation of the first ``runs`` runs."""
    return (noted(evaluated(job, name, run))["seconds"] for run in range(runs) for name in job.entries)


def outcome(job: Job, runs: int) -> dict[str, Any]:
    """What was run and found, all of it read from the work folder."""
    experts = [noted(job.expert(member)) for member in range(job.trained)]
    plan, score = noted(job.work / "plan.json"), noted(job.work / "difficulty.safetensors")
    sets = {name: noted(job.set(name)) for name in job.entries}
    for name, entry in job.entries.items():
        learned = load_synthetic(job.set(name))[0].learned
        # type: ignore[call-overload]
        sets[name] |= {"ipc": entry.ipc, "kind": entry.kind, "method": asdict(entry.method)}
        sets[name] |= {"optim": asdict(entry.optim) if entry.optim else None}
        sets[name] |= {"images": len(learned), "learned": int(learned.sum())}
        sets[name]["accuracies"] = [noted(evaluated(job, name, run))["accuracy"] for run in range(runs)]
    seconds = {
        "experts": sum(expert["seconds"] for expert in experts),
        "score": score["seconds"],
        "sets": sum(found["seconds"] for found in sets.values()),
        "evaluation": plan["seconds"] + sum(spent_on(job, runs)),
    }
    return {
        "data": asdict(job.data.info) | {"train": len(job.data.train), "test": len(job.data.test)},
        "experts": {"count": len(experts), "most": job.most_experts, "recipe": asdict(job.experts.recipe)}
        | {"seconds": [expert["seconds"] for expert in experts]}
        | {"training_accuracies": [expert["training_accuracy"] for expert in experts]},
        "score": dict(job.score),
        "evaluation": asdict(job.evaluation) | plan | {"runs_wanted": job.evaluation.runs, "runs": runs},
        "sets": sets,
        "seconds": {phase: round(value, 1) for phase, value in seconds.items()},
    }


def check(job: Job) -> None:
    """Raise at once what a phase would raise only after the minutes of those before it."""
    if job.score["name"] not in SCORES:
        raise ParamsError(f"score.name is {job.score['name']!r}; expected one of {', '.join(SCORES)}; choose one")
    epochs = job.experts.recipe.epochs
    first_epochs(Dynamics(*[torch.zeros(1, epochs, 1)] * len(Dynamics._fields)), job.score.get("epochs"))
    nothing_learned: Any = ExpertsInMemory(job.experts.recipe.network, torch.zeros(1, epochs + 1, 1))
    train = job.data.train
    flat_N = torch.zeros(len(train), device=job.device)
    material = Material(train, job.data.normalisation, flat_N, flat_N, nothing_learned)
    for entry in job.entries.values():
        entry.method.init(material, seeded(0))


def recorded_command(work: Path, data: str, preset: Path) -> str:
    """The command line, folders replaced by names."""
    shown = {str(work): "WORK", data: Path(data).name, str(preset): preset.name}
    words = [argument.partition("=") if argument.startswith("--") else ("", "", argument) for argument in sys.argv]
    return command([option + equals + shown.get(value, value) for option, equals, value in words])


@click.command()
@click.argument("work", type=click.Path(path_type=Path, file_okay=False))
@click.option("--data", required=True, help="A pack (.npz), real.safetensors, digits, or a dataset folder or Hub id.")
@click.option("--ipc", "ipcs", multiple=True, default=[250], show_default=True, type=click.IntRange(1))
@click.option("--preset", default=PRESET, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--set", "changes", multiple=True, metavar="A.B=VALUE", help="Another value for an entry of the preset.")
@click.option("--full", is_flag=True, help="Evaluate all training images too.")
@click.option("--experts-minutes", default=8.0, show_default=True, type=click.FloatRange(0))
@click.option(
    "--distil-minutes", default=4.0, show_default=True, type=click.FloatRange(0), help="For each learned set."
)
@click.option("--evaluation-minutes", default=8.0, show_default=True, type=click.FloatRange(0), help="For all sets.")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1), help="Networks for each set.")
@click.option(
    "--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "bf16"]), help="Evaluation's."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where the JSON goes beside WORK.")
def main(
    work: Path,
    data: str,
    ipcs: tuple[int, ...],
    preset: Path,
    changes: tuple[str, ...],
    full: bool,
    experts_minutes: float,
    distil_minutes: float,
    evaluation_minutes: float,
    runs: int,
    precision: str,
    out: Path | None,
) -> None:
    """Run the preset from raw images to accuracies in the folder WORK; the same command again goes on."""
    minutes = {"experts": experts_minutes, "distil": distil_minutes, "evaluation": evaluation_minutes}
    arguments = {"ipc": sorted(set(ipcs)), "full": full, "runs": runs, "precision": precision, "minutes": minutes}
    arguments["preset"] = read_preset(preset, changes)
    device, source = prepare_device(), load_images(data)
    arguments["images"] = digest(source)
    tf32 = device.type == "cuda" and torch.backends.cudnn.allow_tf32
    versions = {"torch": torch.__version__, "distillkit": __version__}
    where = {"device": device_name(), "tf32_convolutions": tf32, "versions": versions}
    job = prepare(work, source.to(device), device, arguments)
    settle(work, arguments | where)
    train_experts(job)
    score_images(job)
    make_sets(job)
    result = report(outcome(job, evaluate_sets(job)))
    result = {"benchmark": "paper-scale", "command": recorded_command(work, data, preset), **where, **result}
    write_text(work / "result.json", pretty_json(result))
    if out is not None or (preset == PRESET and not changes):
        write_text(out or default_out(), pretty_json(result))
    click.echo(table(result))


def prepare(work: Path, data: RealData, device: torch.device, arguments: Mapping[str, Any]) -> Job:
    """The job, checked as far as can be before it starts."""
    preset = arguments["preset"]
    experts = build(ExpertsSpec, preset["experts"], "experts")
    evaluation = build(EvaluationRecipe, preset["evaluation"], "evaluation")
    training = replace(evaluation.training, precision=arguments["precision"])
    on_gpu = device.type == "cuda"
    job = Job(
        work=work,
        data=data,
        device=device,
        compute=Compute(channels_last=on_gpu, compile=on_gpu, say=tell),
        seed=preset["seed"],
        experts=experts,
        most_experts=len(preset["expert_shards"]) * experts.per_shard,
        score=preset["score"],
        entries=read_entries(preset, arguments["ipc"], arguments["full"]),
        evaluation=replace(evaluation, runs=arguments["runs"], training=training),
        seconds={phase: 60 * minutes for phase, minutes in arguments["minutes"].items()},
    )
    check(job)
    return job


def default_out() -> Path:
    slug = re.sub(r"[^a-z0-9]+", "-", device_name().lower())
    return PRESET.parents[1] / f"benchmarks/results/paper-scale-{slug}.json"


if __name__ == "__main__":
    run_command(main)
