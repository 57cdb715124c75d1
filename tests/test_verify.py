"""A claim is checked: it holds, it does not, it contradicts itself, or it cannot be checked here."""

import json
import shutil
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
import torch
from huggingface_hub import HfApi
from packages import build_package, digits_data, rewritten, run
from PIL import Image, PngImagePlugin
from pyarrow import parquet

import distillkit
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError, SourceError
from distillkit.check import held_out
from distillkit.check.consistency import check_accuracy, differing_column, is_preview
from distillkit.check.evaluation import evaluate_again, evaluation_recipe
from distillkit.check.held_out import held_out_images
from distillkit.check.verify import Verdict, as_dict, lines, tolerance, verify
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.real_images import save_real
from distillkit.data.images import RealData
from distillkit.hub.push import push
from distillkit.package.manifest import open_package
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import FolderSource, HuggingFaceSource, TorchvisionSource

RECIPE = "random-ipc2"


@pytest.fixture(scope="session")
def liar(tmp_path_factory) -> Path:
    """Claims 25 points more than it has."""
    return build_package(tmp_path_factory.mktemp("liar") / "tiny", mean=0.95, std=0.01)


@pytest.fixture(scope="module")
def learned(tmp_path_factory) -> Path:
    """A package whose parquet has the floats of all images: not to be changed."""
    return build_package(tmp_path_factory.mktemp("learned") / "tiny", learned=0.01)


def check(folder: Path, recipe: str | None = RECIPE, **options) -> Verdict:
    return verify(open_package(folder), recipe, **({"test": None, "runs": None, "seed": 0} | options))


@pytest.mark.parametrize(
    ("claimed", "runs", "images", "expected"),
    [
        # t at 99.5 % of 4 degrees is 4.604095; sqrt(1/5 + 1/5) is 0.632456
        ({"mean": 0.9, "std": 0.01, "runs": 5}, 5, 10_000, 4.604095 * 0.01 * 0.632456),
        # of 1 degree it is 63.656741; sqrt(1/2 + 1/1) is 1.224745
        ({"mean": 0.9, "std": 0.0005, "runs": 2}, 1, 10_000, 63.656741 * 0.0005 * 1.224745),
        # 4.604095 * 0.05 * 0.632456 is 0.1456, and 63.656741 * 0.01 * 1 is 0.6366: no claim may choose so much
        ({"mean": 0.9, "std": 0.05, "runs": 5}, 5, 10_000, 0.05),
        ({"mean": 0.9, "std": 0.01, "runs": 2}, 2, 10_000, 0.05),
        ({"mean": 0.9, "std": 0.05, "runs": 5}, 5, 25, 0.08),
        ({"mean": 0.9, "std": 0.0, "runs": 5}, 5, 10_000, 0.01),
        ({"mean": 0.9, "std": 0.0, "runs": 1}, 5, 10_000, 0.03),
        ({"mean": 0.9, "std": 0.0, "runs": 5}, 5, 50, 0.04),
    ],
)
def test_the_tolerance_follows_from_the_claim(claimed, runs, images, expected):
    assert tolerance(claimed, runs, images) == pytest.approx(expected, abs=2e-6)


def test_an_honest_claim_is_found_again_to_the_bit(first):
    verdict = check(first)
    assert verdict.matches and verdict.found == verdict.claimed and verdict.same_test_images is True
    assert verdict.files == 10


def test_other_seeds_may_differ_within_the_tolerance(first):
    verdict = check(first, seed=1, runs=4)
    assert verdict.found["runs"] == 4 and 0 < abs(verdict.difference) <= 0.05
    assert verdict.matches and verdict.tolerance == 0.05


def test_a_lie_is_a_mismatch(liar):
    verdict = check(liar)
    assert not verdict.matches
    assert verdict.claimed["mean"] == 0.95 and verdict.found["mean"] < 0.8


@pytest.mark.parametrize(
    ("found", "matches"), [(0.9, True), (0.85, True), (0.95, True), (0.849, False), (0.951, False)]
)
def test_a_claim_matches_up_to_the_tolerance(found, matches):
    claimed = {"mean": 0.9, "std": 0.0, "runs": 3}
    measured = {"mean": found, "std": 0.0, "runs": 3}
    assert Verdict("tiny", RECIPE, 9, claimed, measured, 0.0500001, "digits", 300, True).matches == matches


def test_one_recipe_without_the_default_can_be_checked(first, tmp_path, capsys):
    """As it is pulled: the default recipe's folder is not here. That is said unless another recipe is asked for."""
    shutil.copytree(first, tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / RECIPE)
    told = f"{tmp_path}/tiny does not have the default recipe '{RECIPE}'"
    assert check(tmp_path / "tiny", "random-ipc1").matches and told not in capsys.readouterr().err
    assert check(tmp_path / "tiny", None).recipe == "random-ipc1" and told in capsys.readouterr().err
    assert len(distillkit.load(tmp_path / "tiny")) == 10 and told in capsys.readouterr().err
    assert len(distillkit.load(tmp_path / "tiny", "random-ipc1")) == 10 and told not in capsys.readouterr().err
    found = evaluate_again(tmp_path / "tiny", recipe=None, test=None, params_file=None, runs=1, seed=0)
    assert found["recipe"] == "random-ipc1" and capsys.readouterr().err.count(told) == 1


def test_of_several_recipes_without_the_default_one_is_to_be_named(tmp_path):
    build_package(tmp_path / "tiny", ipcs=(1, 2, 3))
    shutil.rmtree(tmp_path / "tiny/random-ipc3")
    expected = "recipe 'random-ipc3'; expected its files; pull it, or name one of random-ipc1, random-ipc2"
    with pytest.raises(ArtifactError, match=expected):
        distillkit.load(tmp_path / "tiny")
    assert len(distillkit.load(tmp_path / "tiny", "random-ipc2")) == 20


def edited(**changes):
    """recipe.json with ``changes``."""
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def claiming(**changes):
    """recipe.json with ``changes`` of its accuracy; None leaves a key out."""

    def change(data):
        record = json.loads(data)
        accuracy = record["results"]["accuracy"] | changes
        record["results"]["accuracy"] = {key: value for key, value in accuracy.items() if value is not None}
        return json.dumps(record).encode()

    return change


def evaluating(network=(), training=(), **changes):
    """recipe.json with another evaluation recipe."""

    def change(data):
        record = json.loads(data)
        evaluation = record["evaluation"] | changes
        evaluation["network"] |= dict(network)
        evaluation["training"] |= dict(training)
        return json.dumps(record | {"evaluation": evaluation}).encode()

    return change


def spoilt(old: bytes, new: bytes):
    """A file with ``new`` for ``old``, which it must have."""

    def change(data):
        assert old in data
        return data.replace(old, new)

    return change


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (f"{RECIPE}/recipe.json", edited(method="mtt"), 'method "mtt", but the artifact has "random"'),
        (f"{RECIPE}/recipe.json", edited(name="other"), 'name "other", but the artifact has "random-ipc2"'),
        (f"{RECIPE}/recipe.json", edited(params={"method": "random", "ipc": 9}), "has params"),
        (
            f"{RECIPE}/recipe.json",
            edited(images={"total": 9, "learned": 0, "real": 9}),
            "images.total 9, but the artifact has 20",
        ),
        (f"{RECIPE}/recipe.json", edited(provenance={}), "has provenance {}, but the artifact has"),
        (f"{RECIPE}/recipe.json", edited(student_lr=0.1), "has student_lr 0.1, but the artifact has null"),
        (f"{RECIPE}/recipe.json", edited(notes={"a": 1}), 'has notes {"a": 1}, but the artifact has {}'),
        (f"{RECIPE}/recipe.json", edited(image_shape=[3, 8, 8]), "has image_shape"),
        (f"{RECIPE}/recipe.json", edited(normalisation={"mean": [0.5], "std": [1.0]}), "has normalisation"),
        (
            f"{RECIPE}/recipe.json",
            edited(images={"total": 20, "learned": 0, "real": 19}),
            "images.real 19, but the artifact has 20",
        ),
        (
            f"{RECIPE}/recipe.json",
            edited(baselines={"random": {"recipe": "random-ipc1", "accuracy": {"mean": 0.1, "std": 0.0, "runs": 3}}}),
            "another accuracy of baseline 'random' than random-ipc1/recipe.json",
        ),
        ("README.md", spoilt(b" % (n = 3)", b"9 % (n = 3)"), "claims .* the card .* does not claim it"),
        (
            "README.md",
            spoilt(b" % (n = 3) |", b"9 % (n = 3) |"),
            "does not claim it in its results",
        ),
        (
            "README.md",
            spoilt(b" % (n = 3) |", b" % (n = 3) to 99.00 % (n = 3) |"),
            "does not claim it in its results",
        ),
        (
            "README.md",
            spoilt(b"| `random-ipc2` | Random |", b"| `random` | Random |"),
            "does not claim it in its results",
        ),
        ("README.md", spoilt(b" % (n = 3)** on", b"9 % (n = 3)** on"), "claims .* does not claim it in bold"),
        ("README.md", spoilt(b" % (n = 3)** on", b" % (n = 3) on"), "claims .* does not claim it in bold"),
        (
            "README.md",
            lambda data: data + b"On all images 99.00 % (n = 3).",
            r"claims 99.00 % \(n = 3\), but no",
        ),
        ("README.md", lambda data: data + b"\xff", "README.md is no UTF-8"),
        (f"{RECIPE}/recipe.json", lambda _: b"[]", "recipe.json"),
        (f"{RECIPE}/recipe.json", lambda _: b"{", "recipe.json"),
        (f"{RECIPE}/recipe.json", lambda _: b"{}", "recipe.json"),
        (f"{RECIPE}/recipe.json", edited(test=None), r"no recipe.json of a package \(test"),
        (f"{RECIPE}/recipe.json", edited(test={"images": 0, "sha256": "0" * 64}), r"\(test.images"),
        (f"{RECIPE}/recipe.json", edited(test={"images": 300, "sha256": "x"}), r"\(test.sha256"),
        (f"{RECIPE}/recipe.json", edited(test={"images": "300", "sha256": "0" * 64}), r"\(test.images"),
        (f"{RECIPE}/recipe.json", edited(baselines=[]), r"\(baselines"),
        (f"{RECIPE}/recipe.json", edited(baselines={"random": 1}), r"\(baselines.random"),
        (f"{RECIPE}/recipe.json", edited(results={"accuracy": {}}), r"\(results.accuracy.mean"),
        (f"{RECIPE}/recipe.json", edited(images=None), r"\(images"),
        (f"{RECIPE}/recipe.json", edited(extra=10**400), "holds the number 1000"),
        (f"{RECIPE}/recipe.json", edited(extra=-(10**4000)), "holds the number -1000"),
        (f"{RECIPE}/recipe.json", edited(extra=float("nan")), "recipe.json"),
        (f"{RECIPE}/recipe.json", lambda data: data.replace(b'"notes": {}', b'"notes": {"a": 1e400}'), "number 1e400"),
        (f"{RECIPE}/recipe.json", lambda _: b"[" * 100_000, "recipe.json"),
    ],
)
def test_a_package_that_contradicts_itself_is_refused(first, tmp_path, name, change, message):
    folder = rewritten(first, tmp_path / "copy", name, change)
    with pytest.raises(ArtifactError, match=message):
        check(folder)


NOT_ITS_RUNS = r"expected mean 0\.\d{6} and std 0\.\d{6}, computed from 3 runs"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (claiming(mean=0.95), "accuracy has mean 0.950000 .*" + NOT_ITS_RUNS),
        (claiming(std=0.3), "std 0.300000; " + NOT_ITS_RUNS),
        (claiming(run_2=0.999), NOT_ITS_RUNS),
        (claiming(run_2=None), "accuracy.run_2 is missing or not between 0 and 1, but accuracy.runs is 3"),
        (claiming(run_1=None, run_2=None, run_3=None), "accuracy.run_1 is missing"),
        (claiming(run_2="0.5"), "accuracy.run_2 is missing or not"),
        (claiming(run_2=True), "accuracy.run_2 is missing or not"),
        (claiming(run_2=1.5), "accuracy.run_2 is missing or not"),
        (claiming(run_4=0.5), "accuracy has run_4, but accuracy.runs is 3"),
        (claiming(runs=2, run_3=None), "claims 2 networks, but its evaluation recipe trains 3"),
        (claiming(runs=1001), r"\(results.accuracy.runs"),
    ],
)
def test_a_claim_that_is_not_of_its_own_runs_is_refused(first, tmp_path, change, message):
    """Else it could choose a deviation or an n that allows for any mean."""
    folder = rewritten(first, tmp_path / "copy", f"{RECIPE}/recipe.json", change)
    with pytest.raises(ArtifactError, match=message):
        check(folder)


def test_the_deviation_of_a_claim_is_the_sample_one(first):
    """0.6, 0.7 and 0.8: mean 0.7; the squares 0.01, 0, 0.01 over 2 are 0.01, so 0.1. One network has none."""
    package = open_package(first)

    def told(**accuracy):
        check_accuracy(package, RECIPE, {"results": {"accuracy": accuracy}, "evaluation": {"runs": accuracy["runs"]}})

    runs = {"run_1": 0.6, "run_2": 0.7, "run_3": 0.8}
    told(mean=0.7, std=0.1, runs=3, **runs)
    told(mean=0.700001, std=0.099999, runs=3, **runs)
    told(mean=0.6, std=0.0, runs=1, run_1=0.6)
    for wrong in ({"mean": 0.70001, "std": 0.1}, {"mean": 0.7, "std": 0.081650}):  # the latter over 3, not 2
        with pytest.raises(ArtifactError, match="contradicts itself"):
            told(runs=3, **wrong, **runs)
    with pytest.raises(ArtifactError, match="contradicts itself"):
        told(mean=0.6, std=0.1, runs=1, run_1=0.6)


# Parquet


def read_table(data: bytes):
    return parquet.read_table(BytesIO(data))


def written(table) -> bytes:
    file = BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def with_column(name: str, values, kind=None):
    """The parquet with other values in a column."""

    def change(data):
        table = read_table(data)
        array = arrow.array(values(table[name]), kind or table.schema.field(name).type)
        return written(table.set_column(table.schema.names.index(name), name, array))

    return change


def with_preview(of):
    """The parquet with another first preview."""
    return with_column(
        "image", lambda column: [{"bytes": of(column[0].as_py()["bytes"]), "path": None}, *column.to_pylist()[1:]]
    )


def png(size: tuple[int, int], mode: str = "L") -> bytes:
    file = BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def bomb(_: bytes, side: int = 50_000) -> bytes:
    """A PNG that says that it has 2.5 thousand million pixels."""
    small, header = png((8, 8)), b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


PARQUETS = [
    (with_column("label", lambda column: [0] * len(column)), "label"),
    (with_column("label", lambda column: column.to_pylist(), arrow.int32()), "label"),
    (with_column("label", lambda column: [None] * len(column)), "label"),
    (with_column("learned", lambda column: [False] * len(column)), "learned"),
    (with_column("source_row", lambda column: [str(row) for row in column.to_pylist()], arrow.string()), "source_row"),
    (with_column("image", lambda column: [None] * len(column)), "image"),
    (with_column("image", lambda column: [b"x"] * len(column), arrow.binary()), "image"),
    (with_preview(lambda _: None), "image"),
    (with_preview(lambda _: b"no picture"), "image"),
    (with_preview(lambda data: data[:50]), "image"),
    (with_preview(lambda _: png((8, 8))), "image"),
    (with_preview(lambda _: png((4, 16))), "image"),
    (with_preview(lambda _: png((8, 8), "RGB")), "image"),
    (with_preview(lambda data: data + b"x" * 200_000), "image"),
    (with_preview(bomb), "image"),
    (lambda data: written(read_table(data).drop_columns(["pixels"])), "pixels"),
    (lambda data: written(read_table(data).append_column("code", arrow.array(["x"] * 20))), "code"),
    (lambda data: written(read_table(data).slice(0, 19)), "rows"),
    (lambda data: written(arrow.concat_tables([read_table(data)] * 2)), "rows"),
]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("change", "column"), PARQUETS)
def test_parquet_that_is_not_the_artifact_is_one_line(learned, tmp_path, change, column):
    folder = rewritten(learned, tmp_path / "copy", f"{RECIPE}/train-00000-of-00001.parquet", change)
    with pytest.raises(ArtifactError, match=f"has other values of '{column}' than the artifact") as caught:
        check(folder)
    assert "\n" not in str(caught.value) and "BytesIO" not in str(caught.value)


def plain_pixels(data: bytes, change) -> bytes:
    """The parquet with other pixels, in lists without the type that ``datasets`` registers."""
    table = read_table(data)
    lists = [change(image) for image in table["pixels"].to_pylist()]
    array = arrow.array(lists, arrow.list_(arrow.list_(arrow.list_(arrow.float32()))))
    place = table.schema.names.index("pixels")
    return written(table.set_column(place, "pixels", array).replace_schema_metadata(None))


@pytest.mark.parametrize(
    ("change", "agrees"),
    [
        (lambda image: image, True),
        (lambda image: [[[0.0] * 8 for _ in range(8)]], False),
        (lambda image: [[row + other for row, other in zip(image[0][::2], image[0][1::2], strict=True)]], False),
        (lambda image: [[[*row[:7], None] for row in image[0]]], False),
        (lambda image: image * 1000, False),
    ],
)
def test_pixels_are_compared_with_their_shape(learned, tmp_path, change, agrees):
    """The same lists, black ones, the same values in rows of 16, with nulls, and a thousand times as many."""
    name = f"{RECIPE}/train-00000-of-00001.parquet"
    folder = rewritten(learned, tmp_path / "copy", name, lambda data: plain_pixels(data, change))
    synthetic, _ = load_synthetic(folder / RECIPE / "distilled.safetensors")
    assert differing_column(open_package(folder), RECIPE, synthetic) == (None if agrees else "pixels")


def test_many_rows_in_a_small_file_are_never_read(learned, tmp_path, monkeypatch):
    """Ten million rows of one repeated value take some kilobytes; the footer says how many there are."""
    table = arrow.table({"label": arrow.array(np.zeros(10_000_000, dtype=np.int64))})
    data = written(table)
    assert len(data) < 100_000
    folder = rewritten(learned, tmp_path / "copy", f"{RECIPE}/train-00000-of-00001.parquet", lambda _: data)
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(ArtifactError, match="other values of 'rows'"):
        check(folder)


def test_many_values_in_few_rows_are_never_read(learned, tmp_path, monkeypatch):
    name = f"{RECIPE}/train-00000-of-00001.parquet"
    folder = rewritten(learned, tmp_path / "copy", name, lambda data: plain_pixels(data, lambda image: image * 1000))
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("data were read"))
    with pytest.raises(ArtifactError, match="other values of 'pixels'"):
        check(folder)


def test_a_preview_of_another_size_is_never_decoded(monkeypatch):
    """81 million pixels are too few for Pillow to refuse them."""
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda _: pytest.fail("it was decoded"))
    assert not is_preview({"bytes": bomb(b"", 9_000), "path": None}, torch.zeros(1, 8, 8))


@pytest.mark.parametrize("recipe", ["random-ipc1", RECIPE])
def test_parquet_of_another_set_is_noticed(learned, tmp_path, recipe):
    """Of another size, then of the same size with other images."""
    other = build_package(tmp_path / "other", ipcs=(2,), seed=5, learned=0.01)
    data = (other / RECIPE / "train-00000-of-00001.parquet").read_bytes()
    folder = rewritten(learned, tmp_path / "copy", f"{recipe}/train-00000-of-00001.parquet", lambda _: data)
    with pytest.raises(ArtifactError, match=r"has other values of '(rows|source_row)' than the artifact"):
        check(folder, recipe)


def test_damaged_parquet_is_one_line(first, tmp_path):
    folder = rewritten(first, tmp_path / "copy", f"{RECIPE}/train-00000-of-00001.parquet", lambda data: data[:100])
    with pytest.raises(ArtifactError, match=r"cannot be read.*expected a? ?parquet"):
        check(folder)


# What a package may ask of this machine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (evaluating(runs=1001), "asks for 1,001 runs; expected at most 1,000"),
        (evaluating(training={"steps": 10_000_001}), "asks for 10,000,001 steps; expected at most 10,000,000"),
        (
            evaluating(network={"width": 8192}),
            "asks for 603,979,776 weights in a network; expected at most 200,000,000",
        ),
        # 9 * 16 * 4096 * 4096 = 2,415,919,104
        (evaluating(network={"depth": 16, "width": 4096}), "2,415,919,104 weights in a network"),
        (evaluating(training={"steps": 10**15}), "asks for 1,000,000,000,000,000 steps"),
    ],
)
def test_too_large_a_measurement_is_refused(first, change, message):
    record = json.loads(change((first / RECIPE / "recipe.json").read_bytes()))
    with pytest.raises(ArtifactError, match=message):
        evaluation_recipe(record, 20)


def test_image_visits_are_bounded_by_the_set(first):
    """1,000,000 updates of 200 images are 200 million visits; of a set of 201 images in batches of 201, too many."""
    data = (first / RECIPE / "recipe.json").read_bytes()
    record = json.loads(evaluating(training={"steps": 1_000_000, "batch": 201})(data))
    assert evaluation_recipe(record, 200).training.batch == 201
    with pytest.raises(ArtifactError, match="asks for 201,000,000 images in a run; expected at most 200,000,000"):
        evaluation_recipe(record, 201)


@pytest.mark.parametrize(
    ("network", "training", "images"),
    [
        ({"name": "resnet18"}, {"steps": 20_000, "batch": 128}, 50_000),  # 2.6 million visits
        ({"name": "convnet", "depth": 4, "width": 128}, {"steps": 300 * 50_000 // 256, "batch": 256}, 50_000),
    ],
)
def test_the_papers_measurements_are_not_too_large(first, network, training, images):
    data = (first / RECIPE / "recipe.json").read_bytes()
    record = json.loads(evaluating(network, training, runs=5)(data))
    assert evaluation_recipe(record, images).training.steps == training["steps"]


def test_a_verdict_bounds_what_it_computes(first, tmp_path):
    folder = rewritten(first, tmp_path / "copy", f"{RECIPE}/recipe.json", evaluating(network={"width": 8192}))
    with pytest.raises(ArtifactError, match=r"asks for .* weights in a network"):
        check(folder)


HOME = "~/pictures"
SOURCES = [
    ({"kind": "folder", "path": "data/private"}, "folder 'data/private'"),
    ({"kind": "folder", "path": "/etc"}, "folder '/etc'"),
    ({"kind": "folder", "path": HOME}, f"folder '{HOME}'"),
    ({"kind": "huggingface", "id": "/etc"}, "huggingface '/etc'"),
    ({"kind": "huggingface", "id": HOME}, f"huggingface '{HOME}'"),
    ({"kind": "huggingface", "id": "./data"}, "huggingface './data'"),
    ({"kind": "huggingface", "id": "../data"}, "huggingface '../data'"),
    ({"kind": "huggingface", "id": "data"}, "huggingface 'data'"),
    ({"kind": "huggingface", "id": "local/data"}, "huggingface 'local/data'"),
    ({"kind": "huggingface", "id": "datasets/local/data"}, "huggingface 'datasets/local/data'"),
    ({"kind": "huggingface", "id": "a/b/c"}, "huggingface 'a/b/c'"),
    ({"kind": "huggingface", "id": "own\x1b/x"}, r"huggingface 'own\\x1b/x'"),
    ({"kind": "huggingface", "id": "someone/pictures", "revision": "../x"}, "huggingface 'someone/pictures'"),
]


def sourced(first: Path, source: dict, **more):
    """A set, and provenance that says it was made from ``source``."""
    synthetic, _ = load_synthetic(first / RECIPE / "distilled.safetensors")
    return synthetic, {"source": {"params": {"source": source, **more}, "revision": "abc"}}


@pytest.fixture
def fetched(monkeypatch) -> list[DataSpec]:
    """What is fetched, which no test here may really do."""
    specs: list[DataSpec] = []

    def fetch(spec, track):
        del track
        specs.append(spec)
        return digits_data()

    monkeypatch.setattr(held_out, "fetch", fetch)
    return specs


@pytest.mark.parametrize(("source", "message"), SOURCES)
def test_a_package_opens_nothing_on_this_machine(first, tmp_path, monkeypatch, fetched, source, message):
    (tmp_path / "local" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = first / RECIPE / "distilled.safetensors"
    with pytest.raises(SourceError, match=f"made from {message}, which is on .*; give it with --test"):
        held_out_images(path, *sourced(first, source), None)
    assert fetched == []


def test_what_is_fetched_is_pinned_and_told(first, tmp_path, monkeypatch, capsys, fetched):
    monkeypatch.chdir(tmp_path)
    path = first / RECIPE / "distilled.safetensors"
    held_out_images(path, *sourced(first, {"kind": "huggingface", "id": "someone/pictures"}), None)
    assert fetched[0].source == HuggingFaceSource(id="someone/pictures", revision="abc")
    recorded = {"kind": "torchvision", "name": "MNIST", "root": "/elsewhere/secrets", "download": False}
    held_out_images(path, *sourced(first, recorded), None)
    assert fetched[1].source == TorchvisionSource(name="MNIST", root="data/torchvision", download=True)
    told = "test images: dataset someone/pictures of the Hub at abc\ntest images: torchvision's MNIST, fetched to data/"
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"kind": "folder", "path": "/etc"}, lambda folder: FolderSource(path=folder)),
        ({"kind": "huggingface", "id": "/etc"}, lambda folder: HuggingFaceSource(id=folder)),
        (
            {"kind": "torchvision", "name": "MNIST", "root": "/root"},
            lambda folder: TorchvisionSource(name="MNIST", root=folder, download=False),
        ),
    ],
)
def test_a_folder_given_takes_the_place_of_the_recorded_one(first, tmp_path, fetched, source, expected):
    held_out_images(first / RECIPE / "distilled.safetensors", *sourced(first, source), tmp_path)
    assert fetched[0].source == expected(str(tmp_path))


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"size": [50_000, 50_000]}, ArtifactError, r"size \(50000, 50000\), but has images of \(8, 8\)"),
        ({"per_class": -(10**400)}, ParamsError, "per_class is below -1e308; expected at least 1"),
        ({"split_seed": 10**400}, ParamsError, "split_seed is beyond 1e308; expected between 0 and"),
        ({"size": "large"}, ParamsError, "provenance.source.params.size"),
    ],
)
def test_a_source_that_no_fetch_should_try(first, fetched, more, error, message):
    with pytest.raises(error, match=message):
        held_out_images(first / RECIPE / "distilled.safetensors", *sourced(first, {"kind": "digits"}, **more), None)
    assert fetched == []


def test_no_test_images_where_they_should_be(first, tmp_path):
    with pytest.raises(ParamsError, match=r"--test is .*none.safetensors, which does not exist; expected a real"):
        check(first, test=tmp_path / "none.safetensors")


# Test images


def save_test(path: Path, **changes) -> Path:
    real = digits_data()
    test = real.test.take(changes["rows"]) if "rows" in changes else real.test
    if "shift" in changes:
        test = type(test)(test.images + changes["shift"], test.labels, test.class_names)
    save_real(path, RealData(real.train, test, real.normalisation, real.info))
    return path


def test_test_images_may_be_given(first, tmp_path):
    verdict = check(first, test=save_test(tmp_path / "real.safetensors"))
    assert verdict.found == verdict.claimed and verdict.same_test_images is True
    assert not any(line.startswith("warning") for line in lines(verdict))
    assert (as_dict(verdict)["source"], as_dict(verdict)["test_images"]) == ("scikit-learn/digits", 300)


@pytest.fixture
def unavailable(first, tmp_path, monkeypatch) -> Path:
    """A package in a pipeline's folder. Its images lie on the machine that made it."""

    def nowhere(*_, **__):
        raise SourceError("the source lies elsewhere; give it with --test")

    monkeypatch.setattr(held_out, "source_images", nowhere)
    return Path(shutil.copytree(first, tmp_path / "pipeline/artifacts/hub/tiny"))


@pytest.mark.parametrize("here", [".", "pipeline"])
def test_the_project_may_have_the_test_images(unavailable, tmp_path, monkeypatch, capsys, here):
    """From the repository's root and from the pipeline's folder."""
    save_test(tmp_path / "pipeline/artifacts/real/real.safetensors")
    monkeypatch.chdir(tmp_path / here)
    verdict = check(unavailable)
    assert verdict.found == verdict.claimed and verdict.same_test_images is True
    place = "artifacts/real" if here == "pipeline" else "pipeline/artifacts/real"
    assert capsys.readouterr().err.startswith(f"test images: {place}, exactly those of the claim\n")


def test_the_project_has_the_images_of_an_artifact(unavailable, tmp_path, monkeypatch, capsys):
    """Without a claim, images of the source that the artifact records; of another source they are not used."""
    save_test(tmp_path / "pipeline/artifacts/real/real.safetensors")
    monkeypatch.chdir(tmp_path / "pipeline")
    artifact = Path(shutil.copytree(unavailable / RECIPE, "artifacts/distilled")) / "distilled.safetensors"
    synthetic, provenance = load_synthetic(artifact)
    assert len(held_out_images(artifact, synthetic, provenance, None)) == 300
    assert capsys.readouterr().err == "test images: artifacts/real, of the source that the set records\n"
    other = {**provenance, "source": {**provenance["source"], "revision": "other"}}
    with pytest.raises(SourceError, match="the source lies elsewhere; give it with --test"):
        held_out_images(artifact, synthetic, other, None)


@pytest.mark.parametrize("spoil", [lambda path: save_test(path, shift=1), lambda path: path.write_text("{}"), None])
def test_other_images_of_the_project_are_not_used(unavailable, tmp_path, monkeypatch, spoil):
    monkeypatch.chdir(tmp_path / "pipeline")
    (real := tmp_path / "pipeline/artifacts/real/real.safetensors").parent.mkdir()
    if spoil is not None:
        spoil(real)
    with pytest.raises(SourceError, match="the source lies elsewhere; give it with --test"):
        check(unavailable)


def test_other_test_images_are_told(first, tmp_path):
    verdict = check(first, test=save_test(tmp_path / "real.safetensors", shift=1))
    assert verdict.same_test_images is False
    told = list(lines(verdict))
    assert "  tested   on 300 images of scikit-learn/digits" in told
    assert [line for line in told if line.startswith("warning") and "not be comparable" in line and "--test" in line]


def test_another_number_of_test_images_is_refused(first, tmp_path):
    with pytest.raises(DistillkitError, match=r"20 test images.*expected the 300"):
        check(first, test=save_test(tmp_path / "real.safetensors", rows=torch.arange(20)))


def test_a_folder_for_a_source_that_needs_none_is_refused(first, tmp_path):
    with pytest.raises(ParamsError, match="source digits needs no folder"):
        check(first, test=tmp_path)


def test_the_command_answers_by_its_exit_code(hub, first, liar, tmp_path):
    """0 for a claim that holds, 3 for one that does not, 1 for what cannot be checked; from the Hub and a folder."""
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    push(api, first, "someone/honest", tag="v1.0")
    home = tmp_path / "home"
    ran = run(hub, home, "-m", "distillkit", "verify", "someone/honest@v1.0", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["match"] and found["found"] == found["claimed"] and found["files"] == 10

    ran = run(hub, home, "-m", "distillkit", "verify", str(liar), RECIPE)
    assert ran.returncode == 3
    assert "claimed  95.00 ± 1.00 % (n = 3)" in ran.stdout and "MISMATCH" in ran.stdout
    (tmp_path / "broken").mkdir()
    ran = run(hub, home, "-m", "distillkit", "verify", str(tmp_path / "broken"))
    assert ran.returncode == 1 and len(ran.stderr.splitlines()) == 1
    ran = run(hub, home, "-m", "distillkit", "verify", "nowhere")
    assert ran.returncode == 1 and "no path here and no owner/name of the Hub" in ran.stderr
