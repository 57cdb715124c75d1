"""A folder for the Hub from sets that were made in Python."""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillkit.api.sets import DistilledSet, Evaluation
from distillkit.api.settings import expect, visiting
from distillkit.base.errors import ParamsError
from distillkit.base.params import convert
from distillkit.data import artifact
from distillkit.data.images import RealData
from distillkit.package.build import Entry, build
from distillkit.pipeline.packaging import Publication, Rai


def save_package(
    folder: str | Path,
    data: RealData,
    sets: Mapping[str, tuple[DistilledSet, Evaluation]],
    default: str | None = None,
    *,
    publication: Mapping[str, Any] | None = None,
    rai: Mapping[str, Any] | None = None,
) -> None:
    """A dataset folder for the Hub with a card, ready for ``distillkit push``: sets by name, each with its accuracy.

    All were made from ``data`` and measured alike; ``random-ipc10`` and ``full`` among them become the baselines.
    ``publication`` and ``rai`` are what these sections of ``package`` in params.yaml say (docs/trust.md): where and by
    whom it is published, and what you state of the images.

    Raises:
        ParamsError: there is no set, they were measured differently, or a statement is none of those known.

    """
    expect(data, RealData, "data", "what dk.from_torch, dk.from_arrays or dk.fetch gives")
    for name, pair in sets.items():
        expect(pair, tuple, f"{name!r}", "(set, evaluation), from dk.distill and dk.evaluate")
        if pair[1].of != pair[0].fingerprint:
            raise ParamsError(f"the evaluation of {name!r} is of another set; expected its own; evaluate it again")
    told = convert(dict(publication or {}), Publication, "publication"), convert(dict(rai or {}), Rai, "rai")
    if not sets:
        raise ParamsError("there is no set to package; expected {name: (set, evaluation)}; give one")
    first = next(iter(sets.values()))[1].recipe
    if others := [name for name, (_, found) in sets.items() if found.recipe != first]:
        raise ParamsError(f"{others[0]} was measured by another recipe than the rest; expected one; evaluate it again")
    shown = [name for name, (small, _) in sets.items() if small.method != "full"] or list(sets)
    with visiting(), tempfile.TemporaryDirectory() as temporary:
        entries = []
        for name, (small, found) in sets.items():
            artifact.save_synthetic(path := Path(temporary, f"{name}.safetensors"), small, small.provenance)
            entries.append(Entry(name, path, found.metrics, small.params))
        one = sets[default or shown[-1]][0]
        build(
            Path(folder),
            name=Path(folder).resolve().name,
            entries=entries,
            packaged=shown,
            default=default or shown[-1],
            real=data,
            inputs={},
            evaluation=asdict(first),
            pipeline={"seed": one.provenance.get("seed", 0), "experts": dict(one.experts)},
            command="distillkit.distill",
            publication=told[0],
            rai=told[1],
        )
