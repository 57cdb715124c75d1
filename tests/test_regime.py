"""Sets with soft labels and an order of training, at every edge: package, card, checks, report, diff, show."""

import json
import re
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as arrow
import pytest
import torch
from packages import build_package, rewritten
from pyarrow import parquet
from torch import Tensor

import distillkit
from distillkit.base.errors import ArtifactError
from distillkit.base.randomness import seeded
from distillkit.check.diff.compare import compare
from distillkit.check.diff.result import Version
from distillkit.check.diff.text import as_json, lines
from distillkit.check.evaluation import check_schedule, evaluate_again
from distillkit.check.show import describe
from distillkit.check.show import lines as shown_lines
from distillkit.check.verify import verify
from distillkit.data.files.artifact import load_synthetic, save_synthetic
from distillkit.data.images import Schedule, SyntheticSet
from distillkit.evaluation.protocol import label_lr, labels_words, protocol_of, schedule_words
from distillkit.networks.specs import NetworkSpec
from distillkit.package.folders import CARD
from distillkit.package.manifest import ARTIFACT, PARQUET, RECIPE, open_package
from distillkit.report.results import row_of
from distillkit.report.words import labels_words as label_note

LINEAR = NetworkSpec("convnet", "none", 1, 1)
WEIGHTS = 10 + (16 * 10 + 10)  # one 3x3 kernel with its bias; 4x4 values to ten classes
SOFT = "random-ipc2"


def probabilities(labels: Tensor, own: float = 0.82) -> Tensor:
    """``own`` for the label, the rest for the other nine."""
    rest = (1 - own) / 9
    return torch.full((len(labels), 10), rest).scatter(1, labels[:, None], own)


def schedule_for(synthetic: SyntheticSet, **changes: object) -> Schedule:
    """Two steps in turn, six updates that shrink, two starts."""
    starts_RP = torch.randn(2, WEIGHTS, generator=seeded(3)) / 10
    lr_T = torch.tensor([0.5, 0.5, 0.25, 0.25, 0.125, 0.125])
    return replace(Schedule(LINEAR, torch.arange(len(synthetic)) % 2, lr_T, starts_RP), **changes)


def changed(synthetic: SyntheticSet) -> SyntheticSet:
    """The set of two images a class gets both, the other stays as it is."""
    if len(synthetic) < 20:
        return synthetic
    return replace(synthetic, soft_labels=probabilities(synthetic.labels), schedule=schedule_for(synthetic))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_package(tmp_path_factory.mktemp("regime") / "tiny", change=changed)


@pytest.fixture
def synthetic(folder: Path) -> SyntheticSet:
    return load_synthetic(folder / SOFT / ARTIFACT)[0]


# What it says of itself


def test_the_regime_is_exact_and_in_words(synthetic: SyntheticSet) -> None:
    regime = protocol_of(synthetic, {"optim": {"label_lr": 2.0}})
    assert regime["soft_labels"] == {"median": pytest.approx(0.82), "other_class": 0, "learned": True}
    assert labels_words(regime["soft_labels"]) == "soft, learned (largest probability 0.82 in the median)"
    assert {key: regime["schedule"][key] for key in ("steps", "updates", "starts")} == {
        "steps": 2,
        "updates": 6,
        "starts": 2,
    }
    assert schedule_words(regime["schedule"]) == (
        "6 updates over 2 steps, step sizes 0.5 to 0.125, from 2 initial weights"
    )
    once = schedule_for(synthetic, step_N=torch.zeros(20, dtype=torch.long), lr_T=torch.tensor([0.5]), starts_RP=None)
    assert schedule_words(protocol_of(replace(synthetic, schedule=once))["schedule"]) == (
        "1 update over 1 step, step size 0.5, from fresh weights"
    )
    other = replace(synthetic, soft_labels=probabilities((synthetic.labels + 1) % 10))
    assert protocol_of(other)["soft_labels"]["other_class"] == 20
    assert json.loads(json.dumps(regime)) == regime


@pytest.mark.parametrize("params", [None, 3, {}, {"optim": None}, {"optim": {"label_lr": "much"}}])
def test_parameters_that_tell_nothing_of_labels(params: object) -> None:
    assert label_lr(params) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"lr_T": torch.full((6,), 0.5)},
        {"step_N": (torch.arange(20) + 1) % 2},
        {"starts_RP": torch.zeros(2, WEIGHTS)},
        {"starts_RP": None},
    ],
)
def test_every_tensor_of_a_schedule_is_in_its_fingerprint(synthetic: SyntheticSet, change: dict[str, Tensor]) -> None:
    other = replace(synthetic, schedule=schedule_for(synthetic, **change))
    assert protocol_of(other)["schedule"]["sha256"] != protocol_of(synthetic)["schedule"]["sha256"]


# The package


def test_datasets_finds_the_columns(folder: Path, synthetic: SyntheticSet) -> None:
    data = datasets.load_dataset(str(folder), SOFT, split="train")
    assert torch.equal(torch.tensor(data["soft_label"][:]), synthetic.soft_labels)
    assert data["step"][:] == synthetic.schedule.step_N.tolist()
    plain = datasets.load_dataset(str(folder), "random-ipc1", split="train")
    assert {"soft_label", "step"}.isdisjoint(plain.column_names)


def test_load_gives_the_whole_set(folder: Path) -> None:
    loaded = distillkit.load(folder, SOFT)
    assert torch.equal(loaded.soft_labels, probabilities(loaded.labels))
    expected = schedule_for(loaded)
    assert loaded.schedule.network == expected.network
    for name in ("step_N", "lr_T", "starts_RP"):
        assert torch.equal(getattr(loaded.schedule, name), getattr(expected, name))


def test_recipe_json_states_the_regime_where_it_is_not_the_usual_one(folder: Path, synthetic: SyntheticSet) -> None:
    record = json.loads((folder / SOFT / RECIPE).read_text())
    assert {key: record[key] for key in ("soft_labels", "schedule")} == protocol_of(synthetic)
    assert record["storage"]["safetensors"] == (folder / SOFT / ARTIFACT).stat().st_size
    assert {"soft_labels", "schedule"}.isdisjoint(json.loads((folder / "random-ipc1" / RECIPE).read_text()))


def test_the_card_states_the_regime(folder: Path) -> None:
    card = (folder / CARD).read_text()
    for words in (
        "| `soft_label` | of `random-ipc2`: the probability of each class",
        "| `step` | of `random-ipc2`: the step of training",
        "cross-entropy with hard labels (soft ones for `random-ipc2`)",
        "**Labels** of `random-ipc2`: soft (largest probability 0.82 in the median)",
        "**Schedule** of `random-ipc2`: ConvNet-1-1",
        "step sizes 0.5 to 0.125, from 2 initial weights",
        "**Labels** are hard, except those of `random-ipc2`",
        "`schedule_starts` (initial weights)",
        "The bytes below include soft labels and orders of training with their initial weights.",
    ):
        assert words in card
    assert "\n\n\n" not in card


def test_the_code_on_the_card_takes_the_soft_labels(folder: Path, synthetic: SyntheticSet) -> None:
    for code in re.findall(r"```python\n(.*?)```", (folder / CARD).read_text(), re.DOTALL):
        found: dict[str, Tensor] = {}
        exec(code.replace("REPOSITORY", str(folder)), found)
        assert torch.equal(found["labels"], synthetic.soft_labels)


# Checks


def test_the_claim_is_found_again_to_the_bit(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdict = verify(open_package(folder), SOFT, test=None, runs=None, seed=0)
    assert (verdict.matches, verdict.difference) == (True, 0)
    assert "training 3 networks for 6 updates in the set's own order" in capsys.readouterr().err


def edited(key: str, **changes: object):
    def change(data: bytes) -> bytes:
        record = json.loads(data)
        record[key] = record.get(key, {}) | changes
        return json.dumps(record).encode()

    return change


def without_column(name: str):
    return lambda data: written(parquet.read_table(arrow.BufferReader(data)).drop_columns([name]))


def with_other(name: str, change):
    def changed_bytes(data: bytes) -> bytes:
        table = parquet.read_table(arrow.BufferReader(data))
        field = table.schema.field(name)
        values = arrow.array(change(table[name].to_pylist()), field.type)
        return written(table.set_column(table.schema.get_field_index(name), field, values))

    return changed_bytes


def written(table: arrow.Table) -> bytes:
    sink = arrow.BufferOutputStream()
    parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("recipe", "name", "change", "message"),
    [
        (SOFT, RECIPE, edited("soft_labels", median=0.5), "has soft_labels"),
        (SOFT, RECIPE, edited("schedule", updates=60), "has schedule"),
        ("random-ipc1", RECIPE, edited("schedule", updates=60), "has schedule"),
        (SOFT, PARQUET, without_column("soft_label"), "'soft_label'"),
        (SOFT, PARQUET, without_column("step"), "'step'"),
        (SOFT, PARQUET, with_other("step", lambda steps: steps[::-1]), "'step'"),
        (SOFT, PARQUET, with_other("soft_label", lambda rows: [[1.0] + [0.0] * 9] * len(rows)), "'soft_label'"),
        (SOFT, PARQUET, with_other("soft_label", lambda rows: [row[:9] for row in rows]), "'soft_label'"),
    ],
)
def test_parts_that_contradict_the_artifact_are_refused(folder, tmp_path, recipe, name, change, message) -> None:
    other = rewritten(folder, tmp_path / "other", f"{recipe}/{name}", change)
    with pytest.raises(ArtifactError, match=message) as caught:
        verify(open_package(other), recipe, test=None, runs=None, seed=0)
    assert "contradicts itself" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_T": torch.ones(20_000_000)}, "the set's schedule asks for 20,000,000 steps; expected at most 10,000,000"),
        ({"network": replace(LINEAR, width=8192)}, "asks for 603,979,776 weights in a network"),
        ({"starts_RP": torch.zeros(1, WEIGHTS + 1)}, "starts from 181 weights; expected the 180 of its network"),
    ],
)
def test_a_schedule_that_asks_for_too_much_is_refused(synthetic, tmp_path, changes, message) -> None:
    hostile = schedule_for(synthetic, **changes)
    with pytest.raises(ArtifactError) as caught:
        check_schedule(hostile, synthetic)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_image_visits_of_a_schedule_are_bounded(synthetic: SyntheticSet) -> None:
    """All twenty images in one step, more than ten million times."""
    hostile = schedule_for(synthetic, step_N=torch.zeros(20, dtype=torch.int64), lr_T=torch.ones(1).expand(10_000_000))
    check_schedule(hostile, synthetic)  # 200,000,000 is just as many as may be
    wide = replace(synthetic, images=synthetic.images.repeat(2, 1, 1, 1), labels=synthetic.labels.repeat(2))
    with pytest.raises(ArtifactError, match="asks for 400,000,000 images in a run"):
        check_schedule(hostile, wide)


def test_a_single_artifact_is_bounded_too(synthetic: SyntheticSet, tmp_path: Path) -> None:
    hostile = replace(synthetic, schedule=schedule_for(synthetic, network=replace(LINEAR, width=8192)))
    save_synthetic(tmp_path / "set.safetensors", hostile, {"source": {"params": {"source": {"kind": "digits"}}}})
    (tmp_path / "params.yaml").write_text(
        "evaluation: {network: {name: convnet}, training: {steps: 1, batch: 2, lr: 0.1}, runs: 1}"
    )
    with pytest.raises(ArtifactError, match=r"the set's schedule asks for .* weights in a network"):
        evaluate_again(
            tmp_path / "set.safetensors",
            recipe=None,
            test=None,
            params_file=tmp_path / "params.yaml",
            runs=None,
            seed=0,
        )


# The report


def metrics(**more: int) -> dict[str, object]:
    share = {"mean": 0.5, "std": 0.1, "runs": 3}
    images = {"total": 2, "learned": 0, "real": 2}
    return {"accuracy": share, "easy": share, "middle": share, "hard": share, "images": images | more}


def test_the_note_names_recipes_with_soft_labels() -> None:
    hard, soft = (
        row_of(name, found, {"method": "random"})
        for name, found in (
            ("one", metrics()),
            ("other", metrics(soft_labelled=2) | {"schedule": {"steps": 2, "updates": 6}}),
        )
    )
    assert (hard.soft, hard.replayed, soft.soft, soft.replayed) == (False, False, True, True)
    assert label_note([hard]) == "Hard labels"
    assert (
        label_note([hard, soft]) == "Hard labels (also for random images), except soft labels (probabilities) in other"
    )


# diff and show


def version(synthetic: SyntheticSet) -> Version:
    return Version("a set", synthetic, {"ipc": 2}, None)


def test_a_difference_of_soft_labels_is_measured(synthetic: SyntheticSet) -> None:
    """One image gives 0.72 of its probability to another class; the other nineteen stay."""
    moved = synthetic.soft_labels.clone()
    moved[4] = probabilities((synthetic.labels[4:5] + 1) % 10, 0.82)[0]
    found = compare(version(synthetic), version(replace(synthetic, soft_labels=moved)))
    assert not found.same
    assert [(change.before, change.after) for change in found.targets] == [(4, 4)]
    assert found.targets[0].distance == pytest.approx(0.8)
    text = "\n".join(lines(found))
    assert "labels    soft labels of 1 matched image differ (of the probability moved: median 80.00%" in text
    assert as_json(found)["soft_labels"] == [{"before": 4, "after": 4, "distance": pytest.approx(0.8)}]
    assert compare(version(synthetic), version(synthetic)).same


def test_from_hard_to_soft(synthetic: SyntheticSet) -> None:
    found = compare(version(replace(synthetic, soft_labels=None)), version(synthetic))
    assert found.properties["labels"] == ("hard", "soft")
    assert [change.distance for change in found.targets] == pytest.approx([0.18] * 20)


def test_a_difference_of_schedules_is_named(synthetic: SyntheticSet) -> None:
    lr_T = torch.tensor([0.5, 0.5, 0.25, 0.25, 0.125, 0.1])
    found = compare(version(synthetic), version(replace(synthetic, schedule=schedule_for(synthetic, lr_T=lr_T))))
    assert set(found.properties) == {"schedule.lr.last", "schedule.lr.min", "schedule.sha256"}
    assert not found.same
    gone = compare(version(synthetic), version(replace(synthetic, schedule=None)))
    assert "schedule.updates" in as_json(gone)["properties"]


def test_show_tells_the_regime(folder: Path, synthetic: SyntheticSet) -> None:
    described = describe(folder / SOFT / ARTIFACT)
    assert {key: described[key] for key in ("soft_labels", "schedule")} == protocol_of(synthetic)
    text = "\n".join(shown_lines(described))
    assert "labels soft (largest probability 0.82 in the median), trained on in its own order: 6 updates" in text
    text = "\n".join(shown_lines(describe(folder)))
    assert text.count("labels soft") == 1
