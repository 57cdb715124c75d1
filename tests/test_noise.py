"""Labels that are not the source's: drawn, read from a file, told, and told apart by how experts train."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from packages import EVALUATION

import distillkit as dk
from distillkit.base.errors import ParamsError, SourceError
from distillkit.base.files import sha256
from distillkit.base.params import read
from distillkit.check.held_out import source_images
from distillkit.data.files.artifact import load_synthetic, provenance_of, save_difficulty, save_synthetic
from distillkit.data.files.real_images import load_real, save_real
from distillkit.data.images import real_subset
from distillkit.package.build import Entry, build
from distillkit.setup.doctor import labels as labels_finding
from distillkit.sources.cleaning.noise import LabelNoise, numbers_of
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.training.expert_files import save_experts
from distillkit.training.noise_signs import second_hump, warning
from distillkit.training.trajectories import Dynamics, Expert

ROOT = Path(__file__).parents[1]
DIGITS = {"source": {"kind": "digits"}}


def fetched(noise: Any = None, **options: Any):
    told = {**DIGITS, **options} | ({"label_noise": noise} if noise else {})
    return fetch(read(told, DataSpec, "data"))


CLEAN = fetched()


@pytest.mark.parametrize("rate", [0.2, 0.4])
def test_exactly_a_share_of_every_class_is_wrong_and_test_labels_are_not(rate):
    noisy = fetched({"kind": "symmetric", "rate": rate})
    wrong_N, labels_N = noisy.train.labels != CLEAN.train.labels, CLEAN.train.labels
    counts = [int(wrong_N[labels_N == label].sum()) for label in range(10)]
    assert counts == [round(rate * int((labels_N == label).sum())) for label in range(10)]
    assert torch.equal(noisy.train.images, CLEAN.train.images) and torch.equal(noisy.test.labels, CLEAN.test.labels)
    shifts = ((noisy.train.labels - labels_N) % 10)[wrong_N].bincount(minlength=10)
    assert shifts[0] == 0 and (shifts[1:] - sum(counts) / 9).abs().max() < 3.5 * (sum(counts) / 9) ** 0.5
    assert noisy.found.relabelled == sum(counts)
    again, other = (fetched({"kind": "symmetric", "rate": rate, "seed": seed}) for seed in (0, 1))
    assert torch.equal(again.train.labels, noisy.train.labels) and not torch.equal(
        other.train.labels, noisy.train.labels
    )


def test_asymmetric_noise_goes_to_the_next_class_or_the_one_that_is_named():
    wrong = fetched({"kind": "asymmetric", "rate": 0.3}).train.labels
    changed_N = wrong != CLEAN.train.labels
    assert torch.equal(wrong[changed_N], (CLEAN.train.labels[changed_N] + 1) % 10)
    named = fetched({"kind": "asymmetric", "rate": 0.3, "to": {"1": "7"}}).train.labels
    changed_N = named != CLEAN.train.labels
    assert set(CLEAN.train.labels[changed_N].tolist()) == {1} and set(named[changed_N].tolist()) == {7}


def test_a_clean_source_is_recorded_as_before():
    assert "label_noise" not in CLEAN.info.params and CLEAN.found.relabelled == 0
    noisy = fetched({"kind": "symmetric", "rate": 0.1})
    assert noisy.info.params["label_noise"] == {"kind": "symmetric", "rate": 0.1, "seed": 0, "to": None}
    assert read(noisy.info.params, DataSpec, "data").label_noise == LabelNoise("symmetric", 0.1)


@pytest.mark.parametrize(
    ("noise", "error", "message"),
    [
        ({"kind": "symmetric", "rate": 1.0}, ParamsError, r"data.label_noise.rate is 1; expected between 0 and 0.95"),
        (
            {"kind": "symmetric", "rate": 0.1, "to": {"1": "2"}},
            ParamsError,
            r"to is for kind asymmetric, but kind is sym",
        ),
        (
            {"kind": "asymmetric", "rate": 0.1, "to": {"1": "x"}},
            SourceError,
            r"^data.label_noise.to names 'x', which is no",
        ),
        ({"kind": "file", "file": "none.npy", "sha256": ""}, SourceError, r"none.npy is no file; expected a .npy"),
    ],
)
def test_mistakes_are_told(noise, error, message):
    with pytest.raises(error, match=message):
        fetched(noise)


# From a file


def as_file(path: Path, content: Any) -> dict[str, str]:
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)
    return {"kind": "file", "file": str(path), "sha256": sha256(path)}


def in_source_order() -> torch.Tensor:
    """The digits' own labels, of all rows."""
    from sklearn.datasets import load_digits

    return torch.from_numpy(load_digits().target).long()


def test_labels_of_a_file_are_those_of_the_source_s_rows(tmp_path):
    """Numbers and names; with half of the images of every class, and a part drawn for testing."""
    own_N = in_source_order()
    wrong_N = torch.where(torch.arange(len(own_N)) % 3 == 0, (own_N + 1) % 10, own_N)
    options = {"per_class": 60, "split_seed": 3}
    clean = fetched(**options)
    noisy = fetched(as_file(tmp_path / "n.npy", wrong_N.numpy()), **options)
    names = fetched(as_file(tmp_path / "n.txt", "\n".join(map(str, wrong_N.tolist()))), **options)
    assert torch.equal(noisy.train.labels, names.train.labels) and torch.equal(noisy.test.labels, clean.test.labels)
    share = (noisy.train.labels != clean.train.labels).double().mean().item()
    assert 0.28 < share < 0.39 and noisy.found.relabelled == round(share * len(clean.train))
    assert ((noisy.train.labels - clean.train.labels) % 10 <= 1).all()
    assert noisy.info.params["label_noise"]["file"] == "n.npy", "no machine's path"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            np.arange(5),
            r"has labels of shape \(5,\); expected one for each of the 1797 images of the source's training",
        ),
        (np.full(1797, 10), r"has labels from 10 to 10; expected 0 to 9"),
        (np.zeros(1797), r"holds float64; expected whole numbers, the classes' own"),
        (
            np.array([{}], dtype=object),
            r"is no .npy of numbers; expected one that numpy.save has written",
        ),
        ("0\nseven\n", r"line 2 is 'seven'; expected the name or number of a class on each line"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, content, message):
    with pytest.raises(SourceError, match=message):
        fetched(as_file(tmp_path / ("x.txt" if isinstance(content, str) else "x.npy"), content))


def test_a_class_named_like_the_number_of_another_is_not_guessed(tmp_path):
    """Folders 0 to 10 are in the order of their names: 0, 1, 10, 2. The lines may end in a blank one."""
    file, names = tmp_path / "n.txt", ("0", "1", "10", "2")
    file.write_text("0\n1\n\n", encoding="utf-8-sig")
    assert numbers_of(file, names).tolist() == [0, 1]
    file.write_text("10\n0\n")  # no class has this number, so it is a name
    assert numbers_of(file, names).tolist() == [2, 0]
    file.write_text("0\n2\n")
    with pytest.raises(SourceError, match="line 2 is '2', the name of one class and the number of another, '10'; give"):
        numbers_of(file, names)


def test_labels_in_another_order_are_refused(tmp_path):
    shuffled = in_source_order()[torch.randperm(1797, generator=torch.Generator().manual_seed(0))]
    with pytest.raises(
        SourceError, match=r"agrees with \d+ % of the source's labels, no more than chance; expected them"
    ):
        fetched(as_file(tmp_path / "x.npy", shuffled.numpy()))


def test_a_file_that_has_changed_is_refused(tmp_path):
    told = as_file(tmp_path / "x.npy", in_source_order().numpy()) | {"sha256": "0" * 64}
    with pytest.raises(SourceError, match=r"has SHA-256 [0-9a-f]{64}; expected 0000"):
        fetched(told)


# In set and card


def noisy_package(folder: Path, noise: dict[str, Any]) -> tuple[Path, Path]:
    """A package of ten real images with noisy labels, and its set."""
    real = fetched(noise, per_class=8, test_per_class=5)
    rows = torch.tensor([int((real.train.labels == label).nonzero()[0]) for label in range(10)])
    artifact, params = folder / "x.safetensors", {"method": "random", "ipc": 1}
    save_synthetic(
        artifact, real_subset(real.train, rows, real.normalisation), provenance_of("x", "random", params, 0, real)
    )
    accuracy = {"mean": 0.5, "std": 0.0, "runs": 3, "run_1": 0.5, "run_2": 0.5, "run_3": 0.5}
    build(
        folder / "tiny",
        name="tiny",
        entries=[Entry("x", artifact, {"accuracy": accuracy}, params)],
        packaged=["x"],
        default="x",
        real=real,
        inputs={},
        evaluation=EVALUATION.plain(),
        pipeline={},
    )
    return folder / "tiny", artifact


def test_the_card_says_that_labels_are_noisy(tmp_path):
    package, _ = noisy_package(tmp_path, {"kind": "symmetric", "rate": 0.25, "seed": 4})
    line = (
        "| Training labels | **noisy**: 20 of 80 training labels (25.0 %) are not the source's (made on purpose, "
        "symmetric, seed 4); test labels are the source's |"
    )
    assert line in (package / "README.md").read_text()
    assert json.loads((package / "x/recipe.json").read_text())["label_noise"] == {"changed": 20, "images": 80}


def test_test_images_are_had_without_the_file_and_training_labels_are_not(tmp_path):
    told = as_file(tmp_path / "mine.npy", in_source_order().numpy())
    _, artifact = noisy_package(tmp_path, told)
    (tmp_path / "mine.npy").unlink()
    synthetic, provenance = load_synthetic(artifact)
    assert len(source_images(artifact, synthetic, provenance, None, labels=False).test) == 50
    with pytest.raises(
        SourceError, match=r"made with training labels from the file 'mine.npy', which only its maker has"
    ):
        source_images(artifact, synthetic, provenance, None)


def test_what_was_changed_stays_known_in_the_file(tmp_path):
    save_real(tmp_path / "real.safetensors", fetched({"kind": "symmetric", "rate": 0.5}, per_class=4, test_per_class=2))
    assert load_real(tmp_path / "real.safetensors").found.relabelled == 20


# How it shows


def of_counts(counts: list[int]) -> torch.Tensor:
    """Difficulties whose histogram over [-1, 1] this is."""
    return torch.cat([torch.full((count,), -1 + 2 * (bin + 0.5) / 20) for bin, count in enumerate(counts)])


def test_a_hump_beyond_a_valley_is_found_by_hand():
    """The top is bin 4, the valley bin 11, whose middle is 0.15, the second top bin 15: (81 - 19) / √100 = 6.2."""
    counts = [0, 0, 0, 100, 300, 250, 150, 100, 50, 22, 20, 19, 20, 30, 25, 81, 20, 0, 0, 0]
    hump = second_hump(of_counts(counts))
    assert hump.threshold == pytest.approx(0.15) and hump.share == pytest.approx(176 / sum(counts))
    assert f"about {100 * hump.share:.0f} % of the training labels look wrong" in warning(hump)


@pytest.mark.parametrize(
    "counts",
    [
        [0, 30, 431, 323, 223, 125, 82, 51, 40, 20, 8, 7, 3, 2, 2, 0, 0, 0, 0, 0],  # digits as they are
        # CIFAR-10 (JPEG copy), all 50,000 images: a long tail that only falls
        [
            2797,
            5211,
            4670,
            4149,
            3816,
            3560,
            3438,
            3343,
            3233,
            3020,
            2994,
            2611,
            2495,
            2003,
            1287,
            722,
            391,
            172,
            78,
            10,
        ],
        [0] * 9 + [1] + [0] * 10,
    ],
)
def test_a_tail_is_no_hump(counts):
    assert second_hump(of_counts(counts)) is None and warning(None) is None


@pytest.mark.long
def test_experts_on_noisy_digits_give_the_warning_and_on_clean_ones_none(tmp_path, monkeypatch):
    """Through the stage and doctor: one line each, and nothing for labels as they are."""
    spec = importlib.util.spec_from_file_location("score_stage", ROOT / "stages/score.py")
    stage = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(stage)
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    monkeypatch.setattr(stage, "tell", said.append)
    (tmp_path / "artifacts/experts").mkdir(parents=True)
    for rate in (0.0, 0.2):
        data = dk.fetch("digits", **({"label_noise": {"kind": "symmetric", "rate": rate}} if rate else {}))
        found = dk.train_experts(data, count=2)
        records = [Expert(found.trajectories_ETP[e], Dynamics(*(part[e] for part in found.recorded))) for e in range(2)]
        save_experts(Path("artifacts/experts/shard-0.safetensors"), records, found.spec, {})
        save_real(tmp_path / "real.safetensors", data)
        Path("params.yaml").write_text(json.dumps({"expert_shards": [0], "score": {"name": "confidence"}}))
        paths = ["real.safetensors", "artifacts/experts", "artifacts/difficulty.safetensors"]
        result = CliRunner().invoke(stage.score, paths)
        assert result.exit_code == 0, (result.output, result.exception)
        findings = list(labels_finding(tmp_path))
        if not rate:
            assert said == findings == []
    assert [line[:15] for line in said] == ["warning: about "]
    assert findings[0].status == "warning" and findings[0].remedy.startswith("look at the images with the largest")
    assert 15 < int(said[0].split()[2]) < 25


def test_doctor_says_nothing_before_there_are_scores(tmp_path):
    assert list(labels_finding(tmp_path)) == []
    (tmp_path / "artifacts").mkdir()
    save_difficulty(tmp_path / "artifacts/difficulty.safetensors", torch.zeros(3), {"el2n": torch.zeros(3)}, {})
    assert list(labels_finding(tmp_path)) == []
