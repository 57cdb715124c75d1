"""Check the claims of a package: its bytes, that its parts agree, and its accuracy, by training on it again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from distillkit.base.errors import ArtifactError, ParamsError, counted
from distillkit.check.consistency import check_parts, contradiction
from distillkit.check.evaluation import evaluation_recipe, measure, name_network, other_network
from distillkit.check.held_out import held_out_images
from distillkit.data.files.artifact import load_synthetic
from distillkit.package.card_words import percent
from distillkit.package.folders import MANIFEST
from distillkit.package.manifest import RECIPE, Package, printable
from distillkit.package.recipe_json import contradiction_in, digest

CONFIDENCE = 0.99
FLOOR = 0.01  # even for a std of 0: rounding on another machine can have the effect of another seed
CEILING = 0.05  # whatever std and n a package claims
LONE_FLOOR = 0.03  # for a claim of a single network, which has no std


@dataclass(frozen=True)
class Verdict:
    """Both accuracies (``mean``, ``std``, ``runs``) and the largest allowed difference; ``files`` were checked.

    ``source`` is the package's name of its source. ``test_images`` is the number of test images, and
    ``same_test_images`` whether they are those of the claim.
    """

    package: str
    recipe: str
    files: int
    claimed: Mapping[str, Any]
    found: Mapping[str, Any]
    tolerance: float
    source: str
    test_images: int
    same_test_images: bool
    network: str | None = None  # another than the main one

    @property
    def difference(self) -> float:
        return float(self.found["mean"] - self.claimed["mean"])

    @property
    def matches(self) -> bool:
        return abs(self.difference) <= self.tolerance


def verify(
    package: Package,
    recipe: str | None,
    *,
    test: Path | None,
    runs: int | None,
    seed: int,
    network: str | None = None,
) -> Verdict:
    """Train again on one recipe of an opened package (its hashes are checked) with its own evaluation recipe.

    Raises ArtifactError when its parts contradict each other or it asks for too much, and SourceError when the test
    images are not available. ``network`` is one of the package's other networks, whose claim is then checked, or as in
    :func:`~distillkit.check.evaluation.name_network`.
    """
    name = package.choose(recipe)
    synthetic, provenance = load_synthetic(package.artifact(name))
    record = package.recipe_json(name)
    check_parts(package, name, synthetic, provenance, record)
    evaluation, claimed = evaluation_recipe(record, len(synthetic)), record["results"]["accuracy"]
    if network is not None and ":" not in network:
        evaluation, claimed = other_network(network, evaluation, synthetic), claim_with(network, package, name, record)
    else:
        name_network(network, evaluation, synthetic)
    tested = record["test"]
    images = held_out_images(package.artifact(name), synthetic, provenance, test, tested["sha256"])
    if (len(images), images.class_names) != (tested["images"], synthetic.class_names):
        found, expected = how_many(len(images), images.class_names), how_many(tested["images"], synthetic.class_names)
        raise ArtifactError(f"there are {found}; expected the {expected} that {name!r} was measured on; check --test")
    source = provenance.get("source")
    accuracy = measure(synthetic, images, evaluation, runs, seed)["accuracy"]
    return Verdict(
        package=package.name,
        recipe=name,
        files=len(package.files),
        claimed=claimed,
        found=accuracy,
        tolerance=tolerance(claimed, accuracy["runs"], len(images)),
        source=printable(str(source.get("id", "unknown"))) if isinstance(source, Mapping) else "unknown",
        test_images=len(images),
        same_test_images=digest(images) == tested["sha256"],
        network=network,
    )


def how_many(images: int, class_names: Sequence[str]) -> str:
    return f"{counted(images, 'test image')} in {counted(len(class_names), 'class')}"


def claim_with(network: str, package: Package, name: str, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the package claims for another network. Raises ParamsError where that is nothing."""
    claims = record["results"].get("others", {})
    if network not in claims:
        own = "factory" in record["evaluation"]["network"]
        known = [*map(printable, claims), *(["package.module:function"] if own else [])]
        expected = f"expected one of {', '.join(known)}" if known else "expected no --network"
        found = f"--network is {network}, but {package.name} claims no accuracy of it for {name!r}"
        raise ParamsError(f"{found}; {expected}; distillkit evaluate --network {network} measures it")
    claimed: Mapping[str, Any] = claims[network]["accuracy"]
    if wrong := contradiction_in(claimed):
        raise contradiction(package, f"{name}/{RECIPE}, {network}: {printable(wrong)}")
    return claimed


def tolerance(claimed: Mapping[str, Any], runs: int, test_images: int) -> float:
    """The largest allowed difference between the mean of ``runs`` new networks and the claimed mean, 0 to 1.

    min(t · s · sqrt(1/n + 1/m), 5 points), with the claimed deviation s of n networks, m new ones and Student's t with
    n - 1 degrees of freedom at 99 %; at least one point (three for a claim of one network), and at least two test
    images.
    """
    from scipy.stats import t

    resolution = 2 / test_images
    if claimed["runs"] < 2:
        return max(LONE_FLOOR, resolution)
    quantile = float(t.ppf((1 + CONFIDENCE) / 2, claimed["runs"] - 1))
    spread = quantile * float(claimed["std"]) * sqrt(1 / claimed["runs"] + 1 / runs)
    return round(max(min(spread, CEILING), FLOOR, resolution), 6)


def lines(verdict: Verdict) -> Iterator[str]:
    """The verdict as lines of text."""
    files = f"{counted(verdict.files, 'file')}, all as {MANIFEST} says"
    yield f"{verdict.package}: {files}; all parts of {verdict.recipe} agree"
    yield f"  claimed  {percent(verdict.claimed)}" + (f", with network {verdict.network}" if verdict.network else "")
    yield f"  found    {percent(verdict.found)}"
    allowed = f"up to {100 * verdict.tolerance:.2f} are allowed, from the claim's deviation and n"
    limits = f"never more than {100 * CEILING:g}, or less than two test images"
    yield f"  apart    {100 * verdict.difference:+.2f} points; {allowed} ({limits})"
    yield f"  tested   on {counted(verdict.test_images, 'image')} of {verdict.source}"
    if not verdict.same_test_images:
        yield (
            "warning: the test images are not bit for bit those of the claim (another decoder or revision, or other "
            "images), so the figures may not be comparable; give the claim's with --test"
        )
    yield "match" if verdict.matches else "MISMATCH: the claim does not hold here"


def as_dict(verdict: Verdict) -> dict[str, Any]:
    return asdict(verdict) | {"match": verdict.matches, "difference": round(verdict.difference, 6)}
