"""Values from outside, wrong in every way: each ends in a result or in one line, never in a traceback.

A document that is right (params.yaml, the header of an artifact, metrics, a recipe.json, a README) gets one wrong value
at one place, and is read by what reads it in earnest. ``pytest`` tries a small sample, ``pytest -m long`` a larger
one, ``pytest -m slow tests/test_fuzz.py`` everything.
"""

import hashlib
import io
import json
import os
import random
import shutil
import signal
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from marks import long
from safetensors import safe_open
from safetensors.torch import save_file
from test_bad_input import MTT, PARAMS

from distillkit.base import params
from distillkit.base.files import read_csv
from distillkit.check import show
from distillkit.check.consistency import check_parts
from distillkit.check.diff import text as difference_views
from distillkit.check.diff.inputs import difference
from distillkit.check.held_out import recorded_source
from distillkit.data.files import artifact
from distillkit.data.files.real_images import load_real, save_real
from distillkit.data.images import RealData, channel_statistics, real_subset
from distillkit.data.origin import SourceInfo
from distillkit.estimates.duration import seconds_of
from distillkit.estimates.resources import peaks_of
from distillkit.estimates.speeds import Speeds
from distillkit.evaluation.evaluate import EvaluationRecipe
from distillkit.evaluation.metrics import read_metrics
from distillkit.package.build import Entry, build
from distillkit.package.manifest import open_package
from distillkit.package.recipe_json import accuracy
from distillkit.pipeline.packaging import PackageSpec
from distillkit.pipeline.recipes import read_recipe
from distillkit.process.command import run
from distillkit.report import page, results, table, words
from distillkit.report.plots import loss_plot
from distillkit.setup.demands import disk_of, duration, memory
from distillkit.sources.fetch import DataSpec
from distillkit.sources.folders import files_in
from distillkit.sources.huggingface import local_info
from distillkit.sources.readers import HuggingFaceSource
from distillkit.training.expert_files import ExpertFiles, save_experts, shard_paths
from distillkit.training.score_file import ScoreSpec, read_score_file
from distillkit.training.trajectories import Dynamics, Expert, ExpertsSpec

SAMPLE = 110  # cells of each kind of document in the larger sample
LONGEST = 20  # seconds for a cell
MARK = "@ here @"
RIGHT = "nothing wrong"
WRONG = {  # as JSON, of which the readers of YAML take all but the last ones
    "null": "null",
    "true": "true",
    "minus one": "-1",
    "zero": "0",
    "half": "0.5",
    "2**63": str(2**63),
    "2**200": str(2**200),
    "beyond float32": "1e39",
    "beyond float64": "1e999",
    "minus beyond float64": "-1e999",
    "5,000 digits": "9" * 5000,
    "5,000 digits after the point": "0." + "3" * 5000,
    "nothing": '""',
    "word": '"word"',
    "escape": '"\\u001b[31m\\u0007"',
    "half a letter": '"\\udc80"',
    "a million letters": '"' + "a" * 10**6 + '"',
    "empty list": "[]",
    "list": '[1, "two", null]',
    "empty mapping": "{}",
    "mapping": '{"a": {"b": [1]}}',
    "2,000 deep": "[" * 2000 + "]" * 2000,
    "300 deep": '{"a": ' * 300 + "1" + "}" * 300,
    "100,000 deep": "[" * 100_000,
    "nan": "NaN",
    "infinity": "Infinity",
}
YAML_ONLY = {
    "no date": "2024-99-99",
    "date": "2024-02-02",
    "binary": "!!binary x",
    "binary text": "!!binary aGk=",
    "python": "!!python/object/apply:os.system [true]",
    "own tag": "!mine {a: 1}",
    "set": "!!set {a, b}",
    "pairs": "!!omap [a: 1]",
    "itself": "&me [*me]",
    "itself, a mapping": "&me {me: *me}",
    "unknown alias": "*nobody",
    "a list as key": "{[1, 2]: 3}",
    "a mapping as key": "{{a: 1}: 3}",
    "many laughs": "[&a [l,l,l,l,l,l,l,l,l], "
    + ", ".join(f"&{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcde", "bcdef", strict=True))
    + "]",
    "twice the same key": "{a: 1, a: 2}",
    "base sixty": "190:20:30",
    "merge of a word": "{<<: word}",
    "tab": "\tx",
    "no end": "[1, 2",
    "control": '"\x01"',
    "directive": "%YAML 9.9",
    "document": "\n---\nx: 1\n...",
    "int of nothing": "!!int x",
    "float of nothing": "!!float x",
    "stamp of nothing": "!!timestamp x",
}


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, inner ones as well."""
    yield path
    entries = document.items() if isinstance(document, Mapping) else ()
    entries = enumerate(document[:2]) if isinstance(document, list) else entries
    for key, part in entries:
        yield from places(part, (*path, key))


def spoilt(document: Any, path: tuple[Any, ...], wrong: str) -> str:
    """The document as JSON with the text ``wrong`` at ``path``, as it is where that is nothing."""
    if not wrong:
        return json.dumps(document)
    copy = json.loads(json.dumps({"": document}))
    inner = copy
    for key in ("", *path)[:-1]:
        inner = inner[key]
    inner[("", *path)[-1]] = MARK
    return json.dumps(copy[""]).replace(json.dumps(MARK), wrong)


def too_long(*_: Any) -> None:
    raise TimeoutError(f"not done within {LONGEST} s")


Cell = tuple[str, Callable[[], Any]]


def ends(action: Callable[[], Any]) -> int:
    """The exit code of a command that does it; 70 stands for what nobody foresaw."""

    def command(**context: Any) -> None:
        action()

    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        run(command)
    except SystemExit as ended:
        return int(ended.code or 0)
    except Exception:
        return 70
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Check:
    """Tries cells, and says which of them end in anything but a result or one line."""

    def __init__(self, capsys: Any, share: float | None):
        self.capsys, self.share = capsys, share

    def __call__(self, cells: Sequence[Cell], sample: int = SAMPLE) -> None:
        draw = random.Random(0)
        right = [cell for cell in cells if cell[0].endswith(RIGHT)]
        some = len(cells) if self.share is None else min(int(sample * self.share), len(cells))
        chosen = [*right, *draw.sample(cells, some)]
        wrong, codes = [], Counter()
        for name, action in chosen:
            code = ends(action)
            out, err = self.capsys.readouterr()
            codes[code] += 1
            lines = [line for line in err.splitlines() if not line.startswith("warning: ")]
            fine = code in ((0,) if name.endswith(RIGHT) else (0, 1)) and len(lines) == code and not out
            if not fine or len(err) > 2000 or not err.replace("\n", "").isprintable():
                wrong.append(f"{name}: exit {code}, {err[:300]!r}")
        if log := os.environ.get("FUZZ_LOG"):
            with Path(log).open("a") as file:
                file.write(f"{len(chosen)} cells, {dict(codes)}, {len(wrong)} wrong\n")
                file.writelines(f"  {line}\n" for line in wrong)
        assert not wrong, f"{len(wrong)} of {len(chosen)}: " + "\n".join(wrong[:20])


EVERYTHING = pytest.param(None, marks=pytest.mark.slow, id="everything")


@pytest.fixture(params=[pytest.param(0.3, id="small sample"), long(1, id="sample"), EVERYTHING])
def check(request, capsys, monkeypatch, tmp_path) -> Iterator[Check]:
    monkeypatch.chdir(tmp_path)
    earlier = signal.signal(signal.SIGALRM, too_long)
    with monkeypatch.context() as patched:
        patched.setattr("signal.signal", lambda *_: None)
        yield Check(capsys, request.param)
    signal.signal(signal.SIGALRM, earlier)


# params.yaml

SCAN = {"candidates": [0.1, 0.2], "holdout": 0.2, "training": PARAMS["evaluation"]["training"], "runs": 1}
FULL: dict[str, Any] = {
    "data": {
        "source": {"kind": "huggingface", "id": "a/b", "revision": "main", "image": "image"},
        "size": [8, 8],
        "test_fraction": 0.25,
        "split_seed": 0,
        "per_class": 5,
        "licence": "mit",
        "normalisation": {"kind": "zca", "eps": 0.1},
    },
    "recipes": {
        "mtt": MTT | {"labels": "learned", "optim": MTT["optim"] | {"label_lr": 1.0}},
        "window": {"method": "window", "ipc": 5, "window_start": SCAN},
    },
    "score": {"name": "file", "file": "x.npy", "larger_means": "harder"},
}


def read_params() -> None:
    data = params.load()
    params.section(data, "seed", int)
    params.section(data, "data", DataSpec)
    shard_paths(data, Path())
    params.section(data, "experts", ExpertsSpec)
    params.section(data, "score", ScoreSpec)
    params.section(data, "evaluation", EvaluationRecipe)
    package = params.section(data, "package", PackageSpec)
    for name in params.section(data, "recipes", dict[str, Any]):
        read_recipe(data, name)
    package.chosen(params.section(data, "recipes", dict[str, Any]))
    memory(peaks_of(data, None), "")
    disk_of(data, None)
    duration(seconds_of(data, None, Speeds(1, 1, 1, 1)), "")


def test_params(check):
    def cell(path: tuple[Any, ...], wrong: str) -> Callable[[], Any]:
        def action() -> None:
            Path("params.yaml").write_text(spoilt(PARAMS | FULL, path, wrong))
            read_params()

        return action

    document = PARAMS | FULL
    cells = [
        (f"params.yaml {'.'.join(map(str, path))}: {name}", cell(path, wrong))
        for path in places(document)
        for name, wrong in (WRONG | YAML_ONLY).items()
    ]
    check([*cells, ("params.yaml: " + RIGHT, cell((), ""))])


# Artifacts


@pytest.fixture(scope="session")
def originals(tmp_path_factory, digits, experts, material) -> dict[str, Path]:
    """An artifact of every kind."""
    folder = tmp_path_factory.mktemp("originals")
    trajectories, dynamics = experts
    few = digits.take(torch.arange(40))
    source = {"kind": "folder", "path": "digits"}
    data = {"source": source, "size": None, "test_fraction": 0.25, "split_seed": 0, "per_class": 4}
    info = SourceInfo("folder", "digits", "sha", "cc-by-4.0", "https://a.b", "A. Author", {**data, "licence": None})
    real = RealData(few, digits.take(torch.arange(40, 80)), channel_statistics(digits.images), info)
    trained = [
        Expert(trajectories.trajectories_ETP[row], Dynamics(*(part[row] for part in dynamics))) for row in range(2)
    ]
    found = {kind: folder / f"{kind}.safetensors" for kind in ("real", "experts", "difficulty", "reference")}
    save_real(found["real"], real)
    save_experts(found["experts"], trained, trajectories.spec, {"epochs": 4})
    artifact.save_difficulty(found["difficulty"], material.difficulty_N, {}, {"score": {"name": "el2n"}})
    artifact.save_reference(found["reference"], torch.zeros(40), {"evaluation": {"runs": 1}})
    notes = {
        "window_start": 0.1,
        "holdout_accuracy_by_window_start": {"0.1": 0.5, "0.2": 0.6},
        "set": 1,
        "imported": {"files": [{"name": "a", "sha256": "b"}], "saved_as": "normalised", "mean": [0.5], "std": [0.2]},
        "attack": {"attack_class": "1", "target_class": "2", "attack_label": 1, "target_label": 2},
    }
    section = {"method": "window", "ipc": 1, "window_start": 0.1}
    provenance = artifact.provenance_of("window", "window", section, 0, real)
    rows = torch.stack([(few.labels == label).nonzero()[0, 0] for label in range(10)])
    synthetic = replace(real_subset(few, rows, real.normalisation), notes=notes, student_lr=0.1)
    for name in ("synthetic", "other"):
        found[name] = folder / f"{name}.safetensors"
        artifact.save_synthetic(found[name], synthetic, provenance)
        synthetic = replace(synthetic, images=synthetic.images * 0.5, learned=torch.ones(10, dtype=torch.bool))
    metrics = json.loads(json.dumps(METRICS))
    build(
        folder / "package",
        name="tiny",
        entries=[Entry("window", found["synthetic"], metrics, section)],
        packaged=["window"],
        default="window",
        real=real,
        inputs={"a": "b"},
        evaluation=PARAMS["evaluation"],
        pipeline={"seed": 0},
    )
    return {**found, "package": folder / "package"}


METRICS = {
    "accuracy": {"mean": 0.5, "std": 0.0, "runs": 1, "run_1": 0.5},
    **{third: {"mean": 0.5, "std": 0.1} for third in ("easy", "middle", "hard")},
    "images": {"total": 10, "learned": 0, "real": 10, "soft_labelled": 10},
    "schedule": {"steps": 2, "updates": 2},
    "start": {"accuracy": {"mean": 0.1, "std": 0.0}},
    "knn": {"accuracy": 0.5, "neighbours": 1},
    "attack": {"modified_accuracy": {"mean": 0.5, "std": 0.1}, "taken_for_target": {"mean": 0.5, "std": 0.1}},
}


def header_of(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["distillkit"])  # noqa: SIM118


def read_artifact(kind: str, path: Path, other: Path) -> None:
    """All that is read of an artifact of this kind."""
    description = show.describe(path)
    json.dumps(description)
    list(show.lines(description))
    match kind:
        case "real":
            real = load_real(path)
            save_real(Path("again.safetensors"), real)
            page.flat(real.info.params)
        case "experts":
            ExpertFiles([path]).dynamics()
        case "difficulty":
            artifact.load_difficulty(path, 300)
        case "reference":
            artifact.load_reference(path, 40)
        case "synthetic":
            read_synthetic(path, other)


def read_synthetic(path: Path, other: Path) -> None:
    synthetic, provenance = artifact.load_synthetic(path)
    found = difference(str(path), str(other), None)
    list(difference_views.lines(found))
    json.dumps(difference_views.as_json(found))
    section = {"method": "window", "ipc": 1, "window_start": 0.1}
    rows = results.rows({"window": METRICS}, {"window": section})
    starts, _ = page.scan_table(rows, {"window": synthetic.notes.get("holdout_accuracy_by_window_start") or {}})
    assert all(isinstance(start, str) for start in starts)
    page.flat(provenance.get("source", {}))
    recorded_source(path, synthetic, provenance)
    if attack := synthetic.notes.get("attack"):
        assert 0 <= attack["attack_label"] != attack["target_label"]
    artifact.save_synthetic(Path("again.safetensors"), synthetic, provenance)


@pytest.mark.parametrize("kind", ["real", "experts", "difficulty", "reference", "synthetic"])
def test_headers(check, originals, kind):
    tensors, header = header_of(originals[kind])

    def cell(path: tuple[Any, ...], wrong: str) -> Callable[[], Any]:
        def action() -> None:
            text = spoilt(header, path, wrong)
            save_file(tensors, "spoilt.safetensors", metadata={"distillkit": text})
            read_artifact(kind, Path("spoilt.safetensors"), originals["other"])

        return action

    cells = [
        (f"header of {kind} {'.'.join(map(str, path))}: {name}", cell(path, wrong))
        for path in places(header)
        for name, wrong in WRONG.items()
    ]
    check([*cells, ("header: " + RIGHT, cell((), ""))], 2 * SAMPLE if kind == "synthetic" else SAMPLE // 4)


def test_notes_that_are_packaged(check, originals):
    """The card is written from them."""
    tensors, header = header_of(originals["synthetic"])
    real = load_real(originals["real"])

    def cell(path: tuple[Any, ...], wrong: str) -> Callable[[], Any]:
        def action() -> None:
            text = spoilt(header, path, wrong)
            save_file(tensors, "spoilt.safetensors", metadata={"distillkit": text})
            build(
                Path("package"),
                name="tiny",
                entries=[Entry("window", Path("spoilt.safetensors"), METRICS, header["provenance"]["params"])],
                packaged=["window"],
                default="window",
                real=real,
                inputs={},
                evaluation=PARAMS["evaluation"],
                pipeline={"seed": 0},
            )

        return action

    printed = ("notes", "student_lr", "class_names", "distillkit")
    cells = [
        (f"packaged {'.'.join(map(str, path))}: {name}", cell(path, wrong))
        for path in places(header)
        for name, wrong in WRONG.items()
        if path and path[0] in printed
    ]
    check([*cells, ("packaged: " + RIGHT, cell((), ""))], SAMPLE // 4)


# Packages

JSON_FILES = ("window/recipe.json", "croissant.json", "manifest.json")


def test_recipe_files(check, originals):
    """recipe.json and croissant.json of a package whose manifest lists them as they are."""
    package = Path("package")
    shutil.copytree(originals["package"], package)
    documents = {name: json.loads((package / name).read_text()) for name in JSON_FILES}

    def cell(name: str, path: tuple[Any, ...], wrong: str) -> Callable[[], Any]:
        def action() -> None:
            for other, document in documents.items():
                (package / other).write_text(json.dumps(document))
            data = spoilt(documents[name], path, wrong).encode()
            (package / name).write_bytes(data)
            if name != "manifest.json":
                manifest = json.loads(json.dumps(documents["manifest.json"]))
                manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
            if name == "window/recipe.json":  # as croissant.json would tell that it is another
                (package / "croissant.json").unlink()
                del manifest["files"]["croissant.json"]
            if name != "manifest.json":
                (package / "manifest.json").write_text(json.dumps(manifest))
            json.dumps(show.describe(package))
            list(show.lines(show.describe(package)))
            opened = open_package(package)
            record = opened.recipe_json("window")
            check_parts(opened, "window", *artifact.load_synthetic(opened.artifact("window")), record)

        return action

    cells = [
        (f"{name} {'.'.join(map(str, path))}: {kind}", cell(name, path, wrong))
        for name, document in documents.items()
        for path in places(document)
        for kind, wrong in WRONG.items()
    ]
    check([*cells, ("recipe.json: " + RIGHT, cell("window/recipe.json", (), ""))], SAMPLE)


# Metrics and curves


def test_metrics(check):
    section = {"method": "random", "ipc": 1, "attack": {"attack_class": "1", "target_class": "2"}}

    def cell(path: tuple[Any, ...], wrong: str) -> Callable[[], Any]:
        def action() -> None:
            Path("random.json").write_text(spoilt(METRICS, path, wrong))
            metrics = read_metrics(Path("random.json"))
            rows = results.rows({"random": metrics}, {"random": section})
            table.markdown_table(rows)
            [table.details(row, rows) for row in rows]
            words.warnings(rows)
            json.dumps(table.summary(rows))
            accuracy(Entry("random", Path(), metrics, section))

        return action

    cells = [
        (f"metrics {'.'.join(map(str, path))}: {name}", cell(path, wrong))
        for path in places(METRICS)
        for name, wrong in WRONG.items()
    ]
    check([*cells, ("metrics: " + RIGHT, cell((), ""))])


NUMBERS = ["nan", "inf", "-inf", "1e999", "1e300", "-1e300", "1e39", "9" * 5000, "", "x", "-1", "0", "0.5", "1_0", "٣"]


def test_curves(check):
    def cell(step: str, loss: str) -> Callable[[], Any]:
        def action() -> None:
            Path("loss.csv").write_text(f"step,loss\n1,0.5\n{step},{loss}\n3,0.2\n")
            curves = {"mtt": read_csv(Path("loss.csv"), "step", "loss")}
            loss_plot({"Distance": curves}, Path("loss.png"), {"mtt": "mtt"})

        return action

    def text(data: bytes) -> Callable[[], Any]:
        def action() -> None:
            Path("loss.csv").write_bytes(data)
            read_csv(Path("loss.csv"), "step", "loss")

        return action

    cells = [("curve: " + RIGHT, cell("2", "0.1"))]
    cells += [(f"curve {step[:9]}, {loss[:9]}", cell(step, loss)) for step in ("2", *NUMBERS) for loss in NUMBERS]
    files = (b"", b"\n", b"\xff\xfe", b"step\n1\n", b"step,loss\n1\n", b"\0")
    check([*cells, *((f"curve of {data!r}", text(data)) for data in files)], SAMPLE // 2)


# Scores


def archive(data: bytes, encrypted: bool = False, method: int | None = None, name: str = "scores.npy") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr(name, data)
    found = bytearray(file.getvalue())
    central = found.index(b"PK\x01\x02")
    for place in (6, central + 8):
        found[place] |= int(encrypted)
    if method is not None:
        for place in (8, central + 10):
            found[place : place + 2] = method.to_bytes(2, "little")
    return bytes(found)


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def array(values: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, values, allow_pickle=True)
    return file.getvalue()


def test_score_files(check):
    good = array(np.arange(10.0))
    shapes = ["(10,)", "(1000000000000,)", "(-1,)", "(10,) * 9", "(10.0,)", "10", "((((((10,", "(True,)", "('a',)"]
    shapes += ["(" * 3000 + ")" * 3000, f"({2**62}, {2**62})", f"({2**200},)", "(10, 0)", f"({'9' * 5000},)"]
    types = ["<f8", "|O", "<M8[s]", "|S0", "<c16", "<U99999999", "x", "|V8", "<f16", "|b1", "[('a', '<f8')]"]
    headers = {f"shape {shape[:30]}": ("<f8", shape) for shape in shapes}
    headers |= {f"type {kind}": (kind, "(10,)") for kind in types}
    files = {
        name: npy(f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}", bytes(160))
        for name, (kind, shape) in headers.items()
    }
    files |= {f"compressed by {method}": archive(good, method=method) for method in (1, 6, 9, 12, 14, 93, 95, 99)}
    files |= {"encrypted": archive(good, encrypted=True), "no array": archive(b"x"), "text": b"1\n2\n"}
    files |= {"other": archive(b"x", name="x.txt"), "empty": b"", "zip": b"PK\x03\x04", "magic": b"\x93NUMPY"}
    files |= {"objects": array(np.array([None] * 10)), "version 3": b"\x93NUMPY\x03\x00" + b"\xff" * 8, RIGHT: good}
    files |= {f"{name} in an archive": archive(data) for name, data in list(files.items())}
    files |= {"packed, " + RIGHT: archive(good), "version 9": b"\x93NUMPY\x09\x09"}
    draw = random.Random(0)
    for base, whole in (("array", good), ("archive", archive(good))):
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(draw.randint(1, 4)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            files[f"{base} with {len(files)}"] = bytes(data[: draw.choice((len(data), draw.randrange(len(data))))])

    def cell(data: bytes) -> Callable[[], Any]:
        def action() -> None:
            Path("scores.npy").write_bytes(data)
            read_score_file(ScoreSpec("file", file="scores.npy"), 10)

        return action

    check([(f"scores: {name}", cell(data)) for name, data in files.items()], 2 * SAMPLE)


# A source's README

MATTER = {
    RIGHT: "---\nlicense: [mit, cc0-1.0]\n---\n",
    "none": "",
    "not closed": "---\nlicense: mit\n",
    "list": "---\n- a\n---\n",
    "word": "---\nword\n---\n",
    "number": "---\n7\n---\n",
    "null": "---\nnull\n---\n",
    "empty": "---\n---\n",
    "broken": "---\n{a: [\n---\n",
    "tab": "---\na:\tb\n\t- c\n---\n",
    "number as key": "---\n1: 2\n---\n",
    "nothing as key": "---\nnull: 2\n? \n---\n",
    "dataset_info": "---\ndataset_info: 3\nconfigs: x\n---\n",
    "model-index": "---\nmodel-index: 3\n---\n",
    "eval_results": "---\neval_results: x\nmodel_name: 1\n---\n",
    "self": "---\nself: 1\n---\n",
    "returns": "---\r\nlicense: mit\r\n---\r\n",
    "no UTF-8": "---\nlicense: \udcff\n---\n",
    "two": "---\na: 1\n---\n---\nb: 2\n---\n",
}


def test_front_matter(check):
    keys = ("license", "tags", "configs", "size_categories", "pretty_name", "language", "ignore_metadata_errors")
    files = MATTER | {
        f"{key}, {name}": f"---\n{key}: {wrong}\n---\n# Title\n"
        for key in keys
        for name, wrong in (WRONG | YAML_ONLY).items()
    }

    def cell(text: str) -> Callable[[], Any]:
        def action() -> None:
            folder = Path("data")
            folder.mkdir(exist_ok=True)
            (folder / "README.md").write_bytes(text.encode(errors="surrogateescape"))
            info = local_info(HuggingFaceSource(id="data"), folder, files_in(folder))
            assert isinstance(info.licence, str)
            json.dumps(info.licence)
            info.licence.encode()

        return action

    check([(f"README: {name}", cell(text)) for name, text in files.items()])
