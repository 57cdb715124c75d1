"""The accuracies that packages claim, or that sign-offs report, and how each was measured, from recipe.json alone."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distillkit.base.arguments import package_reference
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.files import canonical_json
from distillkit.base.params import read
from distillkit.base.references import Reference
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.recovery import Figure
from distillkit.hub.client import connect
from distillkit.hub.pull import fetch_all, fetch_sign_offs, open_remote
from distillkit.networks.specs import NetworkSpec
from distillkit.package.card_tables import worth
from distillkit.package.manifest import ARTIFACT, RECIPE, open_package, printable, read_recipe_json
from distillkit.package.recipe_json import contradiction_in
from distillkit.package.sign_offs import Filed, covers, filed_in
from distillkit.process.progress import tell
from distillkit.report.results import starts_trained

SCHEDULE = ("steps", "batch")  # training settings with their own entries
AGAIN = "expected a package whose parts agree; do not use it"


@dataclass(frozen=True)
class Row:
    """A row of the table: ``mean`` and ``std`` of the accuracy over ``runs`` networks, 0 to 1.

    ``by`` is who measured it, empty for the package's own claim. ``measured`` is how, see
    :func:`measurement`. ``gain`` and ``recovery`` are those of
    :func:`~distillkit.package.card_tables.worth`, None for other people's findings, which have no baselines.
    """

    package: str
    recipe: str
    method: str
    ipc: int | None
    images: int
    real: int
    mean: float
    std: float
    runs: int
    by: str
    measured: Mapping[str, str]
    gain: Figure | None = None
    recovery: Figure | None = None

    def __str__(self) -> str:
        return f"{self.package} {self.recipe}"


@dataclass(frozen=True)
class Source:
    """The data of a package for the table: all its recipes, recipe.json and the set's SHA-256 of those that are there,
    and the sign-offs.
    """

    name: str
    recipes: Sequence[str]
    records: Mapping[str, Mapping[str, Any]]
    sets: Mapping[str, str]
    filed: Sequence[Filed]


def rows_of(places: Sequence[str], recipes: Sequence[str], signed_off: bool) -> list[Row]:
    """The rows of all packages, highest accuracy first; only those of ``recipes``, if any are named.

    Prints which packages lack a recipe. Raises ParamsError when no package has a named recipe, or when there is no
    sign-off with ``signed_off``.
    """
    sources = [source_at(place) for place in places]
    known = {name for source in sources for name in source.records}
    if absent := [name for name in recipes if name not in known]:
        listed = any(absent[0] in source.recipes for source in sources)
        where, remedy = ("not in these folders", "; pull it") if listed else ("in none of the packages", "")
        found = f"--recipe is {absent[0]!r}, which is {where}"
        raise ParamsError(f"{found}; expected some of {', '.join(sorted(known))}{remedy}")
    for source in sources:
        if lacking := [name for name in recipes or source.recipes if name not in source.records]:
            missing = "row for it" if len(lacking) == 1 else "rows for them"
            tell(f"{source.name} has no {', '.join(lacking)}: the table has no {missing}")
    rows = [row for source in sources for row in source_rows(source, recipes or sorted(known), signed_off)]
    if not rows:
        raise ParamsError("none of these sets has a sign-off; expected some in the packages; drop --signed-off")
    return sorted(rows, key=lambda row: (-row.mean, row.package, row.recipe, row.by))


def source_at(place: str) -> Source:
    """A package folder, with all bytes checked, or a package on the Hub, of which only recipe.json files are
    fetched.
    """
    if (reference := package_reference(place)) is not None:
        return source_on_hub(reference)
    package = open_package(Path(place))
    records = {name: record_at(package.folder / name / RECIPE, place) for name in package.recipes}
    sets = {name: package.manifest.files[f"{name}/{ARTIFACT}"].sha256 for name in records}
    return Source(place, package.manifest.recipes, records, sets, filed_in(package.folder))


def source_on_hub(reference: Reference) -> Source:
    api = connect()
    remote = open_remote(api, reference)
    paths = fetch_all(remote, {f"{name}/{RECIPE}" for name in remote.manifest.recipes})
    records = {name: record_at(paths[f"{name}/{RECIPE}"], str(reference)) for name in remote.manifest.recipes}
    sets = {name: remote.manifest.files[f"{name}/{ARTIFACT}"].sha256 for name in records}
    with tempfile.TemporaryDirectory() as folder:
        fetch_sign_offs(api, reference.repo, remote.commit, Path(folder))
        return Source(str(reference), remote.manifest.recipes, records, sets, filed_in(Path(folder)))


def record_at(path: Path, place: str) -> Mapping[str, Any]:
    """A recipe.json. Raises ArtifactError if its claim does not agree with its single networks."""
    record = read_recipe_json(path)
    if found := contradiction_in(record["results"]["accuracy"]):
        raise ArtifactError(f"{place}: {printable(str(record['name']))}/{RECIPE}: {printable(found)}; {AGAIN}")
    return record


def source_rows(source: Source, recipes: Sequence[str], signed_off: bool) -> Iterator[Row]:
    for name, record in source.records.items():
        if name not in recipes:
            continue
        if not signed_off:
            yield row_of(source.name, record, record["results"]["accuracy"], "", measurement(record))
        for filed in source.filed if signed_off else ():
            said = filed.sign_off
            if said.recipe == name and covers(said, record, source.sets[name]):
                measured = measurement(record, said.found.same_test_images)
                yield row_of(source.name, record, said.found.accuracy.model_dump(), filed.by, measured)


def row_of(
    place: str, record: Mapping[str, Any], accuracy: Mapping[str, Any], by: str, measured: Mapping[str, str]
) -> Row:
    images, classes = record["images"], len(record["class_names"])
    each = images.get("per_class") if isinstance(images.get("per_class"), int) else None
    gain, recovery = (None, None) if by else worth(record)
    return Row(
        package=place,
        recipe=printable(record["name"]),
        method=printable(record["method"]),
        ipc=each or (images["total"] // classes if classes and images["total"] % classes == 0 else None),
        images=images["total"],
        real=images["real"],
        mean=accuracy["mean"],
        std=accuracy["std"],
        runs=accuracy["runs"],
        by=by,
        measured=measured,
        gain=gain,
        recovery=recovery,
    )


# Measurements: two can be compared if all their texts are equal


def measurement(record: Mapping[str, Any], same_test_images: bool = True) -> dict[str, str]:
    """The measurement in a recipe.json: network, updates, batch, other training settings, labels, order, and so on.

    The number of networks is not included: it affects the error, not what is measured.
    """
    evaluation, params = with_defaults(record["evaluation"]), record["params"]
    told = evaluation.get("training")
    training: Mapping[str, Any] = told if isinstance(told, Mapping) else {}
    schedule = record.get("schedule")
    zca = record.get("normalisation", {}).get("zca") if isinstance(record.get("normalisation"), Mapping) else None
    test = record["test"]
    return {
        "network": network_words(evaluation.get("network")),
        "updates": compact(training.get("steps")),
        "batch": compact(training.get("batch")),
        "training": compact({key: value for key, value in training.items() if key not in SCHEDULE}),
        "labels": "soft" if record.get("soft_labels") else "hard",
        "order": "the set's own" if schedule or params.get("replay") else "random",
        "start": "trained on real images" if starts_trained(params) else "random weights",
        "pixels": "whitened (ZCA)" if zca else "normalised by channel",
        "poisoned": "yes" if (record.get("notes") or {}).get("attack") else "no",
        "test images": f"{test['images']} ({test['sha256'][:12]})" if same_test_images else "others than claimed on",
    }


def with_defaults(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The evaluation recipe with defaults filled in, which earlier versions left out; unchanged if it cannot be
    read.
    """
    try:
        return asdict(read(evaluation, EvaluationRecipe, "evaluation"))
    except ParamsError:
        return evaluation


def network_words(spec: Any) -> str:
    """The network's name in papers, followed by all settings if these are unusual."""
    try:
        named = NetworkSpec(**spec)
    except (ParamsError, TypeError):
        return compact(spec)
    usual = NetworkSpec(named.name, named.norm, named.depth, named.width)
    return str(named) if named == usual else f"{named} {compact(spec)}"


def compact(value: Any) -> str:
    return printable(value if isinstance(value, str) else canonical_json(value))


def groups_of(rows: Sequence[Row]) -> list[list[Row]]:
    """Groups of rows with the same measurement, in order of their first row."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(canonical_json(dict(row.measured)), []).append(row)
    return list(groups.values())


def check_alike(groups: Sequence[Sequence[Row]]) -> None:
    """Raise ParamsError unless there is one group. The message lists the differences between the first two."""
    if len(groups) > 1:
        one, other = groups[0][0], groups[1][0]
        pairs = ((what, own, other.measured[what]) for what, own in one.measured.items())
        apart = "; ".join(f"{what} {own} and {others}" for what, own, others in pairs if own != others)
        found = f"{one} and {other} were measured in different ways: {apart}"
        raise ParamsError(f"{found}; expected one measurement; choose with --recipe, or use --apart for one table each")
