"""The audit of a finished set: find its source and the parameters that made it, then measure what it reveals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distillkit.audit.audit import audit
from distillkit.base import params
from distillkit.base.errors import ArtifactError, DistillkitError
from distillkit.check.evaluation import evaluation_recipe, set_at
from distillkit.check.held_out import source_images
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.images import RealData, SyntheticSet
from distillkit.evaluation.evaluate import check_fit
from distillkit.package.manifest import Package
from distillkit.package.recipe_json import verify_real
from distillkit.pipeline.checks import admit_all
from distillkit.pipeline.code import files_of
from distillkit.pipeline.unfinished import unfinished

DECIDE = ("seed", "expert_shards", "experts", "score", "evaluation")  # sections that decide a set, besides its recipe


def audit_again(path: Path, recipe: str | None, source: Path | None, shadows: int) -> dict[str, Any]:
    """The result of an audit of an artifact, or of one recipe of a package. ``source`` is the location of its images.

    The parameters come from the package; for an artifact, from params.yaml in this folder. Raises ArtifactError for
    damaged or unfitting files, ParamsError for wrong options, SourceError when the images are not available.
    """
    package, artifact = set_at(path, recipe, "RECIPE")
    synthetic, provenance = load_synthetic(artifact)
    name = str(provenance.get("recipe", artifact.stem))
    data = parameters(package, name, provenance, len(synthetic)) if shadows else {}
    real = checked(artifact, synthetic, source_of(artifact, synthetic, provenance, source))
    decisive = [provenance.get("params"), *(data.get(key) for key in DECIDE)]
    with unfinished(f"audit-{name}", decisive, [artifact, *files_of(Path(__file__))]) as folder:
        return audit(synthetic, real, data, name, shadows, folder)


def parameters(package: Package | None, name: str, provenance: Mapping[str, Any], images: int) -> dict[str, Any]:
    """The sections of params.yaml that made recipe ``name``. Raises ArtifactError when one is missing."""
    made = provenance.get("params")
    if package is None:
        admit_all(data := params.load())
        return {**data, "recipes": {name: made}}
    record = package.recipe_json(name)
    evaluation_recipe(record, images)  # checks that the work is within limits
    found = {**record.get("pipeline", {}), "recipes": {name: made}, "evaluation": record["evaluation"]}
    if missing := [key for key in DECIDE if key not in found]:
        raise ArtifactError(
            f"{package.folder} does not record {missing[0]!r}, on which its sets depend; expected a package from a "
            "pipeline; use --shadows 0"
        )
    return found


def source_of(artifact: Path, synthetic: SyntheticSet, provenance: Mapping[str, Any], given: Path | None) -> RealData:
    """The images, with the normalisation and description that they had when the set was made."""
    try:
        found = source_images(artifact, synthetic, provenance, given)
    except DistillkitError as error:  # its messages are for commands with --test
        raise type(error)(str(error).replace("--test", "--source")) from None
    recorded = provenance.get("source")
    told = recorded.get("params", {}) if isinstance(recorded, Mapping) else {}
    return replace(found, normalisation=synthetic.normalisation, info=replace(found.info, params=told))


def checked(artifact: Path, synthetic: SyntheticSet, real: RealData) -> RealData:
    """``real``. Raises ArtifactError if the set cannot have been made from these images."""
    check_fit(real.test, synthetic)
    if (last := int(synthetic.source_row.max())) >= (rows := len(real.train)):
        found = f"{artifact} names training image {last}, but the source has {rows}"
        raise ArtifactError(f"{found}; expected the source that it was made from; name it with --source")
    verify_real(artifact, synthetic, real.train)
    return real
