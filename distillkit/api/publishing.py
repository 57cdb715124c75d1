"""A folder for the Hub from sets that were made in Python."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from distillkit.api.sets import DistilledSet, Evaluation
from distillkit.api.settings import check_folder, check_set_name, expect, tell_if_typed, visiting
from distillkit.base.errors import ParamsError
from distillkit.data.files import artifact
from distillkit.data.images import RealData
from distillkit.package.build import Entry, build
from distillkit.package.recipe_json import digest


def save_package(
    folder: str | Path, data: RealData, sets: Mapping[str, tuple[DistilledSet, Evaluation]], default: str | None = None
) -> None:
    """A dataset folder for the Hub with a card, ready for ``distillkit push``: sets by name, each with its accuracy.

    All were made from ``data`` and measured alike; ``random-ipc10`` and ``full`` among them become the baselines.

    Raises:
        ParamsError: there is no set, or they were measured differently.

    """
    path = check_folder("folder", folder)
    expect(data, RealData, "data", "what dk.from_torch, dk.from_arrays or dk.fetch gives")
    check_sets(sets, data)
    first = next(iter(sets.values()))[1].recipe
    shown = [name for name, (small, _) in sets.items() if small.method != "full"] or list(sets)
    with visiting(), tempfile.TemporaryDirectory() as temporary:
        tell_if_typed(first.network, *(small.experts.get("network", {}) for small, _ in sets.values()))
        entries = []
        for name, (small, found) in sets.items():
            artifact.save_synthetic(file := Path(temporary, f"{name}.safetensors"), small, small.provenance)
            entries.append(Entry(name, file, found.metrics, small.params))
        one = sets[default or shown[-1]][0]
        build(
            path,
            name=path.resolve().name,
            entries=entries,
            packaged=shown,
            default=default or shown[-1],
            real=data,
            inputs={},
            evaluation=asdict(first),
            pipeline={"seed": one.provenance.get("seed", 0), "experts": dict(one.experts)},
            command="distillkit.distill",
        )


def check_sets(sets: Mapping[str, tuple[DistilledSet, Evaluation]], data: RealData) -> None:
    """Raise ParamsError unless each has its own evaluation, all of them alike and on the test images of ``data``."""
    if not sets:
        raise ParamsError("there is no set to package; expected {name: (set, evaluation)}; give one")
    test = digest(data.test)
    for name, pair in sets.items():
        check_set_name(name)
        expect(pair, tuple, f"{name!r}", "(set, evaluation), from dk.distill and dk.evaluate")
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
