"""New training on a finished set, to compare the result with the claim.

Packages come from other people. So the work that they ask for is limited, and they can use nothing of this machine
except its network connection.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from distillkit.base import params
from distillkit.base.arguments import check_test
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError, SourceError, counted
from distillkit.base.files import canonical_json
from distillkit.base.references import parse_reference
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.images import ImageSet, RealData, Schedule, SyntheticSet
from distillkit.evaluation.evaluate import EvaluationRecipe, check_fit
from distillkit.evaluation.metrics import accuracy_of, classes_of
from distillkit.evaluation.others import USUAL
from distillkit.evaluation.rounding import stored
from distillkit.networks.factories import NetworkFactory, admit, factory_of
from distillkit.networks.specs import Network, build_network
from distillkit.package.manifest import Package, open_package, printable
from distillkit.package.recipe_json import digest
from distillkit.pipeline.checks import admit_all
from distillkit.pipeline.measure import measure_set
from distillkit.pipeline.packaging import storage_in
from distillkit.process.progress import tell, track
from distillkit.sources.cleaning.noise import LabelFile
from distillkit.sources.fetch import ChannelWise, DataSpec, fetch
from distillkit.sources.readers import DigitsSource, FolderSource, HuggingFaceSource, Source, TorchvisionSource

# Far above the papers' numbers, and still feasible: the row indices of a whole run are in memory.
LARGEST = {"runs": 1000, "steps": 10_000_000, "weights in a network": 200_000_000, "images in a run": 200_000_000}


def evaluate_again(
    path: Path,
    *,
    recipe: str | None,
    test: Path | None,
    params_file: Path | None,
    runs: int | None,
    seed: int,
    network: str | None = None,
) -> dict[str, Any]:
    """The accuracy found, the package's claim (None for an artifact), and the recipe's name.

    Raises ArtifactError for a damaged package or one that asks for too much, ParamsError for wrong options, SourceError
    when the test images are not available.
    """
    packaged, artifact = set_at(path, recipe, "--recipe")
    synthetic, provenance = load_synthetic(artifact)
    record = packaged.recipe_json(artifact.parent.name) if packaged else None
    evaluation = evaluation_recipe(record, len(synthetic), params_file)
    kept = synthetic if packaged else stored(synthetic, storage_in(params.load(params_file or params.FILE)))
    claims: Any = record["results"] if record else {}
    if network is not None and ":" not in network:
        evaluation = other_network(network, evaluation, synthetic)
        claims = claims.get("others", {}).get(network, {})
    else:
        name_network(network, evaluation, synthetic)
    tested = record["test"]["sha256"] if record else None
    images = held_out_images(artifact, synthetic, provenance, test, tested)
    found = measure(kept, images, evaluation, runs, seed)
    return {"recipe": provenance.get("recipe"), "claimed": claims.get("accuracy")} | found


def set_at(path: Path, recipe: str | None, option: str) -> tuple[Package | None, Path]:
    """The package at ``path``, if it is one, and the artifact of the recipe that ``option`` names."""
    if path.is_dir():
        package = open_package(path)
        return package, package.artifact(package.choose(recipe))
    if recipe is not None:
        raise ParamsError(f"{option} is {recipe!r}, but {path} is a single artifact; drop {option} or name a folder")
    return None, path


def measure(
    synthetic: SyntheticSet, test: ImageSet, evaluation: EvaluationRecipe, runs: int | None, seed: int
) -> dict[str, Any]:
    """Accuracy, in total and by class, of ``runs`` new networks (None: the number in the recipe).

    Raises ArtifactError when the set's schedule asks for more than LARGEST.
    """
    check_fit(test, synthetic)
    evaluation = replace(evaluation, runs=runs or evaluation.runs, curve_points=0)  # the curve is not needed here
    schedule = synthetic.schedule
    batch = counted(min(evaluation.training.batch, len(synthetic)), "image")
    work = f"{counted(evaluation.training.steps, 'update')} of {batch}"
    if schedule is not None:
        check_schedule(schedule, synthetic)
        work = f"{counted(len(schedule.lr_T), 'update')} in the set's own order"
    tell(f"training {counted(evaluation.runs, 'network')} for {work}")
    report = measure_set(synthetic, test, evaluation, torch.zeros(len(test)), seed)
    by_class = {row["class"]: row["accuracy"] for row in classes_of(report, synthetic)}
    return {"accuracy": accuracy_of(report), "class_accuracy": by_class}


# How to train


def evaluation_recipe(
    record: Mapping[str, Any] | None, images: int, params_file: Path | None = None
) -> EvaluationRecipe:
    """The evaluation recipe of a package's recipe.json, or of ``params_file`` (without a package: params.yaml).

    Raises ArtifactError when a package asks for more than LARGEST; it has so many ``images``.
    """
    if record is not None and params_file is None:
        recipe = params.read(record["evaluation"], EvaluationRecipe, "evaluation", Path("recipe.json"))
        for each in (recipe, *recipe.with_others().values()):
            batch = min(each.training.batch, images)
            check_within("recipe.json", each.network, each.training.steps, batch, each.runs)
        return recipe
    file = params_file or params.FILE
    admit_all(data := params.load(file))
    return params.section(data, "evaluation", EvaluationRecipe, file)


def other_network(name: str, evaluation: EvaluationRecipe, synthetic: SyntheticSet) -> EvaluationRecipe:
    """The evaluation with another network of distillkit's: one of the recipe's own others, or a usual one.

    Raises ParamsError for a name that is neither, and for a set that comes with a network of its own.
    """
    known = evaluation.with_others()
    if name not in known and name not in USUAL:
        expected = ", ".join(dict.fromkeys([*USUAL, *known]))
        raise ParamsError(f"--network is {name}; expected package.module:function, or one of {expected}; correct it")
    if synthetic.schedule is not None:
        found = "the set has its own order of training"
        raise ParamsError(f"--network is {name}, but {found}, made for one network; drop --network")
    return known.get(name) or evaluation.on(USUAL[name])


def name_network(network: str | None, evaluation: EvaluationRecipe, synthetic: SyntheticSet) -> None:
    """Import the user's own ``network``, an import path, if the recipe or the set's schedule needs one.

    A network that only a package names is never imported. Raises ParamsError when the package names one and the user
    does not, and when the user names one that is not needed.
    """
    specs = [evaluation.network, *([] if synthetic.schedule is None else [synthetic.schedule.network])]
    own = [spec for spec in specs if isinstance(spec, NetworkFactory)]
    if network is not None and not own:
        raise ParamsError(f"--network is {network}, but the network is {specs[-1]}, distillkit's own; drop --network")
    for spec in own:
        if network is not None:
            admit(network, spec.factory)
        factory_of(spec)


def check_within(who: str, network: Network, steps: int, batch: float, runs: int = 1) -> None:
    """Raise ArtifactError when ``who`` asks for more than LARGEST: ``steps``, each on ``batch`` images on average."""
    weights = 0 if isinstance(network, NetworkFactory) else 9 * network.depth * network.width**2  # 0: unknown
    asked = {"runs": runs, "steps": steps, "weights in a network": weights, "images in a run": round(steps * batch)}
    for what, found in asked.items():
        if found > LARGEST[what]:
            raise ArtifactError(f"{who} asks for {found:,} {what}; expected at most {LARGEST[what]:,}; do not use it")


def check_schedule(schedule: Schedule, synthetic: SyntheticSet) -> None:
    """Raise ArtifactError when the set's schedule asks for more than LARGEST, or its initial weights do not fit its
    network.
    """
    batch, starts_RP = len(synthetic) / (int(schedule.step_N.max()) + 1), schedule.starts_RP
    check_within("the set's schedule", schedule.network, len(schedule.lr_T), batch)
    if starts_RP is None:
        return
    channels, height, width = synthetic.images.shape[1:]
    with torch.device("meta"):
        network = build_network(schedule.network, (channels, height, width), len(synthetic.class_names), 0)
    if (found := starts_RP.shape[1]) != (expected := sum(part.numel() for part in network.parameters())):
        wrong = f"the set's schedule starts from {found:,} weights"
        raise ArtifactError(f"{wrong}; expected the {expected:,} of its network, {schedule.network}; do not use it")


# What to test on


def held_out_images(
    path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any], given: Path | None, tested: str | None = None
) -> ImageSet:
    """The test split for the set at ``path``; see :func:`source_images`.

    If the source is not available, the project's own images are used, but only those with the digest ``tested``, or
    without a digest those of the recorded source.
    """
    try:
        return source_images(path, synthetic, provenance, given, labels=False).test
    except DistillkitError:
        if given is not None or (found := project_images(path, provenance.get("source"), tested)) is None:
            raise
        return found


def project_images(path: Path, source: Any, tested: str | None) -> ImageSet | None:
    """The test images in artifacts/real, of this folder or of the pipeline that ``path`` lies in, that match."""
    pipelines = [parent for parent in path.resolve().parents if parent.name == "artifacts"]
    for place in (Path("artifacts/real"), *(folder / "real" for folder in pipelines)):
        with suppress(DistillkitError):
            if not real_file(place).is_file():
                continue
            real = load_real(place)
            if tested is not None and digest(real.test) == tested:
                found = "exactly those of the claim"
            elif tested is None and json.loads(canonical_json(asdict(real.info))) == source:
                found = "of the source that the set records"
            else:
                continue
            tell(f"test images: {os.path.relpath(place)}, {found}")
            return real.test
    return None


def source_images(
    path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any], given: Path | None, labels: bool = True
) -> RealData:
    """The images that the set at ``path`` was made from: from a real.safetensors, or fetched as the set records it.

    They are normalised by channel; the set has its own normalisation. Without ``labels``, training labels are the
    source's, without noise. ``given`` is such a file, or the folder of the recorded source on this machine. Raises
    ParamsError when it does not fit, ArtifactError when no source is recorded, and SourceError when the source is not
    available, or when it is a path on this machine that only the package names.
    """
    check_test(given)
    if given is not None and real_file(given).is_file():
        return load_real(given)
    spec, revision = recorded_source(path, synthetic, provenance)
    source = fetchable(path, spec.source, revision) if given is None else in_folder(spec.source, given)
    noise = spec.label_noise if labels else None
    if isinstance(noise, LabelFile):
        file = printable(noise.file)
        found = f"{path} was made with training labels from the file '{file}', which only its maker has"
        raise SourceError(f"{found}; expected a real.safetensors with these labels; give it in place of the source")
    try:
        return fetch(replace(spec, source=source, normalisation=ChannelWise(), label_noise=noise), track)
    except SourceError as error:
        raise SourceError(f"{error}; or name the source's folder here, or a real.safetensors, with --test") from None


def recorded_source(path: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any]) -> tuple[DataSpec, str | None]:
    """The source that the artifact at ``path`` records, and its revision. Raises ArtifactError or SourceError."""
    source = provenance.get("source")
    if isinstance(source, Mapping) and source.get("kind") == "python":
        raise SourceError(
            f"{path} was made from images in Python, {printable(str(source.get('id')))}, which nobody else can fetch; "
            "expected a real.safetensors with the test split, as data.save writes it; give it with --test"
        )
    if not isinstance(source, Mapping) or "params" not in source:
        expected = "expected one to fetch test images from; name them, such as --test artifacts/real"
        raise ArtifactError(f"{path} does not record its source; {expected}")
    try:
        spec = params.read(source["params"], DataSpec, "provenance.source.params", path)
    except (ValueError, OverflowError, RecursionError):  # values that the message cannot contain
        raise ArtifactError(f"the source that {path} records cannot be read; give --test") from None
    shape = tuple(synthetic.images.shape[2:])
    if spec.size not in (None, shape):
        found = f"{path} records images of size {spec.size}, but has images of {shape}"
        raise ArtifactError(f"{found}; expected the same; give a real.safetensors with --test")
    revision = source.get("revision")
    return spec, revision if isinstance(revision, str) and revision else None


def fetchable(path: Path, source: Source, revision: str | None) -> Source:
    """The recorded source at the recorded revision, if any machine can fetch it. Raises SourceError otherwise."""
    match source:
        case DigitsSource():
            tell("test images: scikit-learn's digits")
            return source
        case TorchvisionSource(name=name):
            found = TorchvisionSource(name=name)
            tell(f"test images: torchvision's {name}, fetched to {found.root} if they are not there yet")
            return found
        case HuggingFaceSource(id=id) if is_on_hub(id, source.revision or revision):
            pinned = source.revision or revision
            tell(f"test images: dataset {id} of the Hub" + (f" at {pinned}" if pinned else ""))
            return replace(source, revision=pinned)
    where = source.path if isinstance(source, FolderSource) else source.id
    elsewhere = f"{path} was made from {source.kind} '{printable(where)}', which is on the machine that made it"
    raise SourceError(f"{elsewhere}; expected the source's folder here, or a real.safetensors; give it with --test")


def is_on_hub(id: str, revision: str | None) -> bool:
    """Whether ``datasets`` reads ``id`` as owner/name on the Hub, and not as a path on this machine."""
    try:
        reference = parse_reference(f"{id}@{revision}" if revision else id)
    except ParamsError:
        return False
    return reference.repo == id and not Path(id).exists()


def in_folder(source: Source, folder: Path) -> Source:
    """The recorded source, located in ``folder``. Raises ParamsError for a source that has no folder."""
    match source:
        case HuggingFaceSource():
            return replace(source, id=str(folder), revision=None)
        case TorchvisionSource(name=name):
            return TorchvisionSource(name=name, root=str(folder), download=False)
        case FolderSource():
            return replace(source, path=str(folder))
        case DigitsSource():
            raise ParamsError(f"--test is {folder}, but source {source.kind} needs no folder; drop --test")
