"""A dataset folder for the Hub from sets that were made in Python."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distillkit.api.sets import DistilledSet, Evaluation
from distillkit.api.settings import check_folder, check_set_name, expect, tell_if_typed, visiting
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.names import hint
from distillkit.base.params import convert
from distillkit.data.files import artifact
from distillkit.data.files.packed import Storage
from distillkit.data.images import RealData
from distillkit.package.build import Entry, build
from distillkit.package.folders import check_only_listed, check_target
from distillkit.package.recipe_json import digest
from distillkit.pipeline.packaging import Publication, Rai

PAIR = "(set, evaluation), from dk.distill and dk.evaluate"


def save_package(
    folder: str | Path,
    data: RealData,
    sets: Mapping[str, tuple[DistilledSet, Evaluation]],
    default: str | None = None,
    *,
    overwrite: bool = False,
    publication: Mapping[str, Any] | None = None,
    rai: Mapping[str, Any] | None = None,
    storage: Storage = "float32",
) -> None:
    """Write a dataset folder with a card, ready for ``distillkit push``: sets by name, each with its accuracy.

    All sets must be made from ``data`` and measured in the same way. ``random-ipc10`` and ``full`` become baselines.

    Args:
        folder: where to write; its name becomes the package's name.
        data: the images that all sets were made from.
        sets: (set, evaluation) by name.
        default: the name of the set that is loaded if none is named; by default the last one that is no baseline.
        overwrite: whether an earlier package in ``folder`` may be replaced.
        publication: where, by whom and when it is published: the section ``package.publication`` (docs/trust.md).
        rai: your statements about the images: the section ``package.rai``.
        storage: how learned images are stored: float32, float16, or uint8 with a scale and an offset per image. Sets
            with learned images must have been evaluated with the same storage.

    Raises:
        ParamsError: there is no set, they were measured differently, or a statement has an unknown name.
        ArtifactError: ``folder`` has something that may not be replaced.
    """
    path = check_folder("folder", folder)
    expect(data, RealData, "data", "the result of dk.from_torch, dk.from_arrays or dk.fetch")
    check_sets(sets, data)
    check_storage(sets, convert(storage, Storage, "storage"))
    told = said(publication, Publication, "publication"), said(rai, Rai, "rai")
    check_free(path, overwrite)
    first = next(iter(sets.values()))[1].recipe
    shown = [name for name, (small, _) in sets.items() if small.method != "full"] or list(sets)
    check_default(default, shown)
    default = default or ([name for name in shown if sets[name][0].method != "random"] or shown)[-1]
    with visiting(), tempfile.TemporaryDirectory() as temporary:
        tell_if_typed(first.network, *(small.experts.get("network", {}) for small, _ in sets.values()))
        one = sets[default][0]
        build(
            path,
            name=path.resolve().name,
            entries=list(written(sets, Path(temporary), storage)),
            packaged=shown,
            default=default,
            real=data,
            inputs={},
            evaluation=first.plain(),
            pipeline={"seed": one.provenance.get("seed", 0), "experts": dict(one.experts)},
            command="distillkit.distill",
            publication=told[0],
            rai=told[1],
            storage=storage,
        )


def written(sets: Mapping[str, tuple[DistilledSet, Evaluation]], folder: Path, storage: Storage) -> Iterator[Entry]:
    """Each set as a file in ``folder``, with what was measured."""
    for name, (small, found) in sets.items():
        artifact.save_synthetic(file := folder / f"{name}.safetensors", small, small.provenance)
        metrics = {**found.metrics, "storage": storage}  # which does not matter to sets of real images alone
        yield Entry(name, file, metrics, small.params)


def check_default(default: str | None, shown: Sequence[str]) -> None:
    """Raise ParamsError unless ``default`` is None or one of the sets that are ``shown``."""
    if default is not None and default not in shown:
        close = hint(str(default), shown)
        raise ParamsError(f"default is {default!r}{close}; expected the name of a set, one of {', '.join(shown)}")


def said(value: Mapping[str, Any] | None, kind: Any, name: str) -> Any:
    """A publisher's statements as ``kind``. Raises ParamsError when they are invalid."""
    expect({} if value is None else value, Mapping, name, "a mapping")
    return convert(dict(value or {}), kind, name)


def check_storage(sets: Mapping[str, tuple[DistilledSet, Evaluation]], storage: Storage) -> None:
    """Raise ParamsError unless all learned images were evaluated as the package will keep them."""
    for name, (small, found) in sets.items():
        if bool(small.learned.any()) and found.storage != storage:
            raise ParamsError(
                f"{name!r} was evaluated with storage {found.storage!r}, but storage is {storage!r}; expected the "
                f"same; evaluate it again with storage={storage!r}"
            )


def check_free(folder: Path, overwrite: bool) -> None:
    """Raise ArtifactError unless the package may be written to ``folder``."""
    check_target(folder)
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise ArtifactError(
                f"{folder} has a package; expected a new folder; choose another, or give overwrite=True"
            )
        check_only_listed(folder)


def check_sets(sets: Mapping[str, tuple[DistilledSet, Evaluation]], data: RealData) -> None:
    """Raise ParamsError unless each set has its own evaluation, all with one recipe and on the test images of
    ``data``.
    """
    expect(sets, Mapping, "sets", "{name: (set, evaluation)}")
    if not sets:
        raise ParamsError("there is no set to package; expected {name: (set, evaluation)}; give one")
    test = digest(data.test)
    for name, pair in sets.items():
        check_set_name(name)
        expect(pair, tuple, f"{name!r}", PAIR)
        if [type(part) for part in pair] != [DistilledSet, Evaluation]:
            kinds = ", ".join(type(part).__name__ for part in pair)
            raise ParamsError(f"{name!r} is ({kinds}); expected {PAIR}")
        small, found = pair
        if found.of != small.fingerprint:
            raise ParamsError(f"the evaluation of {name!r} is of another set; expected its own; evaluate it again")
        if found.tested_on != test:
            raise ParamsError(
                f"the evaluation of {name!r} is on other images than data.test; expected all of these, as the card "
                "says; evaluate it again on data.test"
            )
    first = next(iter(sets.values()))[1].recipe
    if others := [name for name, (_, found) in sets.items() if found.recipe != first]:
        raise ParamsError(f"{others[0]} was measured by another recipe than the rest; expected one; evaluate it again")
