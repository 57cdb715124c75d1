"""A set to look at, with what is at hand of its source, its training and its results."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from distillkit.base.arguments import is_pipeline
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError
from distillkit.base.files import read_csv
from distillkit.base.outside import UnreadableError, content, read_json
from distillkit.check.audit import checked, source_of
from distillkit.check.diff.inputs import DISTILLED, accuracy_of, parameters, pipeline_of, version_in, version_of
from distillkit.check.diff.result import Version
from distillkit.data.files.artifact import load_difficulty, load_synthetic
from distillkit.data.files.container import Opened
from distillkit.data.files.real_images import load_real, real_file
from distillkit.data.files.snapshots import load_snapshots, snapshot_file
from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.metrics import read_confusion
from distillkit.hub.pull import pulled
from distillkit.package.folders import MANIFEST
from distillkit.training.expert_files import ExpertFiles

FREE = "digits"  # the kind of source that is read without asking anybody for it


@dataclass(frozen=True)
class Subject:
    """A set, and what is known beside it; ``missing`` says in sentences what is not, and what to do.

    ``real`` are the images that it was made from, ``difficulty_N`` is that of the training images by the score of that
    name (empty: not known), ``by_class`` gives
    accuracies by what networks were trained on (``set``, ``random``, ``full``), ``beside`` the accuracy of the last
    two, ``confused`` counts test images by class and class given, ``loss`` are points (step, loss), ``snapshots``
    earlier states of learned images, by step.
    """

    name: str
    version: Version
    provenance: Mapping[str, Any]
    real: RealData | None = None
    difficulty_N: Tensor | None = None
    score: str = ""
    experts: ExpertFiles | None = None
    by_class: Mapping[str, Sequence[float]] | None = None
    beside: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    confused: Sequence[tuple[int, int, int]] = ()
    loss: Sequence[tuple[int, float]] = ()
    snapshots: Mapping[int, Tensor] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def synthetic(self) -> SyntheticSet:
        return self.version.synthetic


def open_subject(text: str, recipe: str | None, source: Path | None = None, with_source: bool = True) -> Subject:
    """The set that ``text`` means: an artifact, a package's folder, a pipeline's folder, or owner/name on the Hub.

    ``source`` is where its images are, on this machine; without ``with_source`` none of them is read. Raises
    ArtifactError for what is damaged or does not fit, ParamsError for a recipe that is not there.
    """
    path = Path(text)
    if path.is_file():
        if recipe is not None:
            raise ParamsError(f"RECIPE is {recipe!r}, but {path} is a single artifact; leave the recipe out")
        found = of_artifact(path)
    elif path.is_dir() and not (path / MANIFEST).is_file() and ((path / DISTILLED).is_dir() or is_pipeline(path)):
        found = of_artifact(path / DISTILLED / f"{recipe_in(path, recipe)}.safetensors")
    elif path.is_dir() and not (path / MANIFEST).is_file():
        neither = (
            f"{text} holds neither a package nor a pipeline's sets{f', and {recipe!r} is no path' if recipe else ''}"
        )
        raise ArtifactError(f"{neither}; expected a package, a pipeline's folder, an artifact or owner/name; name one")
    else:
        with pulled(text, recipe) as package:
            name = package.choose(recipe)
            synthetic_path = package.artifact(name)
            provenance = load_synthetic(synthetic_path)[1]
            label = f"{package.name if path.is_dir() else text} {name}"  # no path of this machine
            found = Subject(name, replace(version_of(package, name, text), label=label), provenance)
            return with_images(found, synthetic_path, source, with_source)
    return found if found.real and with_source and source is None else with_images(found, path, source, with_source)


def recipe_in(folder: Path, recipe: str | None) -> str:
    """Which recipe of a pipeline is meant: the one named, the default of its package, or the only one."""
    known, settings = sorted(path.stem for path in (folder / DISTILLED).glob("*.safetensors")), parameters(folder)
    if recipe is None and settings:
        recipe = str(settings.get("package", {}).get("default"))
    if recipe is None and len(known) == 1:
        return known[0]
    if recipe not in known:
        found = "no recipe is named" if recipe is None else f"{recipe!r} has no set in {folder / DISTILLED}"
        recipes = settings.get("recipes") or {}
        if recipe in recipes or not (known or recipes):
            which = "" if folder == Path() else f" {shlex.quote(str(folder / 'dvc.yaml'))}"
            raise ParamsError(f"{found}; run dvc repro{which} first")
        raise ParamsError(f"{found}; expected one of {', '.join(known or recipes)}; name one, or run dvc repro")
    return str(recipe)


def of_artifact(path: Path) -> Subject:
    """An artifact, with what its pipeline has beside it."""
    version, provenance = version_in(path, path.stem)
    subject, root = Subject(str(provenance.get("recipe", path.stem)), version, provenance), pipeline_of(path)
    if root is None:
        told = "This artifact is not in the folder of a pipeline, so its results are not known."
        return replace(subject, missing=(told,))
    return with_pipeline(subject, root, path)


def with_pipeline(subject: Subject, root: Path, path: Path) -> Subject:
    """``subject`` with images, difficulty, experts, curves and results of its pipeline, as far as they are there."""
    missing = []
    artifacts, real = root / "artifacts", None
    if real_file(artifacts / "real").is_file():
        real = checked(path, subject.synthetic, load_real(artifacts / "real"))
    else:
        missing.append("The source is missing (artifacts/real); run dvc pull or the fetch stage.")
    difficulty = artifacts / "difficulty.safetensors"
    shards = sorted((artifacts / "experts").glob("shard-*.safetensors"))
    if not difficulty.is_file():
        missing.append("Difficulty is missing (artifacts/difficulty.safetensors); run dvc pull or the score stage.")
    loss, confused = (artifacts / kind / f"{path.stem}.csv" for kind in ("loss", "confusion"))
    others, names = peers(root, subject), list(subject.synthetic.class_names)
    files = {kind: root / f"metrics/classes/{name}.json" for kind, name in {"set": path.stem, **others}.items()}
    by_class = {kind: accuracies_in(file, names) for kind, file in files.items() if file.is_file()}
    found = {kind: accuracy_of(root, name) for kind, name in others.items() if name != path.stem}
    if not by_class:
        missing.append("Accuracy by class is missing (metrics/classes); run the evaluate stage.")
    return replace(
        subject,
        real=real,
        difficulty_N=load_difficulty(difficulty, len(real.train))[0] if real and difficulty.is_file() else None,
        score=score_in(difficulty) if difficulty.is_file() else "",
        experts=ExpertFiles(shards[:1]) if shards else None,
        by_class=by_class or None,
        beside={kind: accuracy for kind, accuracy in found.items() if accuracy is not None},
        confused=read_confusion(confused, len(subject.synthetic.class_names)) if confused.is_file() else (),
        loss=read_csv(loss, "step", "loss") if loss.is_file() else (),
        snapshots=load_snapshots(snapshot_file(path), subject.synthetic),
        missing=tuple(missing),
    )


def score_in(difficulty: Path) -> str:
    """The name of the score that difficulty is; empty where the file does not have it."""
    score = Opened(difficulty, "difficulty").header.get("score")
    return str(score["name"]) if isinstance(score, dict) and "name" in score else ""


def peers(root: Path, subject: Subject) -> dict[str, str]:
    """The recipes of as many random images and of all images, by those names, where the pipeline has them."""
    recipes = parameters(root).get("recipes", {})
    ipc = subject.version.params.get("ipc")
    same = [key for key, value in recipes.items() if value.get("method") == "random" and value.get("ipc") == ipc]
    every = [key for key, value in recipes.items() if value.get("method") == "full"]
    return {kind: found[0] for kind, found in (("random", same), ("full", every)) if found}


def accuracies_in(path: Path, class_names: list[str]) -> list[float]:
    """The accuracy of every class, in order. Raises ArtifactError when the file holds anything else."""
    try:
        rows = read_json(content(path))
        values = [float(row["accuracy"]) for row in rows]
        if [row["class"] for row in rows] == class_names and all(0 <= value <= 1 for value in values):
            return values
        problem = "other classes, or accuracies that are not between 0 and 1"
    except (UnreadableError, KeyError, TypeError, ValueError) as error:
        problem = str(error)
    raise ArtifactError(f"{path} does not hold the accuracy of every class ({problem}); run its evaluate stage again")


def with_images(subject: Subject, artifact: Path, source: Path | None, wanted: bool) -> Subject:
    """``subject`` with the images that it was made from, where they may be read without asking anybody for them."""
    if not wanted:
        told = "Images of the source are left out, as you asked; so are distances, difficulty and the map."
        return replace(subject, real=None, difficulty_N=None, experts=None, missing=(*subject.missing, told))
    recorded = subject.version.source
    if source is None and recorded.get("kind") != FREE:
        told = "The source is missing, so beginnings, distances and the map are not shown; name it with --source."
        return replace(subject, missing=(*subject.missing, told))
    try:
        found = source_of(artifact, subject.synthetic, subject.provenance, source)
        return replace(subject, real=checked(artifact, subject.synthetic, found))
    except DistillkitError:
        if source is not None:
            raise
        told = "The source that the set names does not fit it, so beginnings, distances and the map are not shown."
        return replace(subject, missing=(*subject.missing, told))
