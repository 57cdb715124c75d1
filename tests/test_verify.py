"""A claim is checked: it holds, it does not, it contradicts itself, or it cannot be checked here."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from packages import build_package, digits_data, rewritten, run

from distillkit.artifact import save_real
from distillkit.errors import ArtifactError, DistillkitError, ParamsError
from distillkit.images import RealData
from distillkit.manifest import open_package
from distillkit.push import push
from distillkit.verify import Verdict, tolerance, verify

RECIPE = "random-ipc2"


@pytest.fixture(scope="session")
def honest(tmp_path_factory) -> Path:
    return build_package(tmp_path_factory.mktemp("honest") / "tiny")


@pytest.fixture(scope="session")
def liar(tmp_path_factory) -> Path:
    """Claims 25 points more than it has."""
    return build_package(tmp_path_factory.mktemp("liar") / "tiny", mean=0.95, std=0.01)


def check(folder: Path, recipe: str | None = RECIPE, **options) -> Verdict:
    return verify(open_package(folder), recipe, **({"test": None, "runs": None, "seed": 0} | options))


@pytest.mark.parametrize(
    ("claimed", "runs", "images", "expected"),
    [
        # t at 99.5 % of 4 degrees is 4.604095; sqrt(1/5 + 1/5) is 0.632456
        ({"mean": 0.9, "std": 0.01, "runs": 5}, 5, 10_000, 4.604095 * 0.01 * 0.632456),
        # of 1 degree it is 63.656741; sqrt(1/2 + 1/1) is 1.224745
        ({"mean": 0.9, "std": 0.001, "runs": 2}, 1, 10_000, 63.656741 * 0.001 * 1.224745),
        ({"mean": 0.9, "std": 0.0, "runs": 5}, 5, 10_000, 0.01),
        ({"mean": 0.9, "std": 0.0, "runs": 1}, 5, 10_000, 0.03),
        ({"mean": 0.9, "std": 0.0, "runs": 5}, 5, 50, 0.04),
    ],
)
def test_the_tolerance_follows_from_the_claim(claimed, runs, images, expected):
    assert tolerance(claimed, runs, images) == pytest.approx(expected, abs=2e-6)


def test_an_honest_claim_is_found_again_to_the_bit(honest):
    verdict = check(honest)
    assert verdict.matches and verdict.found == verdict.claimed and verdict.same_test_images is True
    assert verdict.files == 9


def test_other_seeds_may_differ_within_the_tolerance(honest):
    verdict = check(honest, seed=1, runs=4)
    assert verdict.found["runs"] == 4 and verdict.found["mean"] != verdict.claimed["mean"]
    assert verdict.matches == (abs(verdict.found["mean"] - verdict.claimed["mean"]) <= verdict.tolerance)


def test_a_lie_is_a_mismatch(liar):
    verdict = check(liar)
    assert not verdict.matches
    assert verdict.claimed["mean"] == 0.95 and verdict.found["mean"] < 0.8


def edited(**changes):
    """recipe.json with ``changes``."""
    return lambda data: json.dumps(json.loads(data) | changes).encode()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (f"{RECIPE}/recipe.json", edited(method="mtt"), 'method "mtt", the artifact "random"'),
        (f"{RECIPE}/recipe.json", edited(name="other"), 'name "other", the artifact "random-ipc2"'),
        (f"{RECIPE}/recipe.json", edited(params={"method": "random", "ipc": 9}), "has params"),
        (
            f"{RECIPE}/recipe.json",
            edited(images={"total": 9, "learned": 0, "real": 9}),
            "images.total 9, the artifact 20",
        ),
        ("README.md", lambda data: data.replace(b" % (n = 3)", b"9 % (n = 3)"), "claims .* the card .* does not"),
        (f"{RECIPE}/recipe.json", lambda _: b"[]", "recipe.json"),
        (f"{RECIPE}/recipe.json", lambda _: b"{", "recipe.json"),
        (f"{RECIPE}/recipe.json", lambda _: b"{}", "recipe.json"),
    ],
)
def test_a_package_that_contradicts_itself_is_refused(honest, tmp_path, name, change, message):
    folder = rewritten(honest, tmp_path / "copy", name, change)
    with pytest.raises(ArtifactError, match=message):
        check(folder)


@pytest.mark.parametrize("recipe", ["random-ipc1", RECIPE])
def test_parquet_of_another_set_is_noticed(honest, tmp_path, recipe):
    """Of another size, then of the same size with other images."""
    other = build_package(tmp_path / "other", ipcs=(2,), seed=5)
    data = (other / RECIPE / "train-00000-of-00001.parquet").read_bytes()
    folder = rewritten(honest, tmp_path / "copy", f"{recipe}/train-00000-of-00001.parquet", lambda _: data)
    with pytest.raises(ArtifactError, match=r"has other values of '(rows|source_row)' than the artifact"):
        check(folder, recipe)


def test_damaged_parquet_is_one_line(honest, tmp_path):
    folder = rewritten(honest, tmp_path / "copy", f"{RECIPE}/train-00000-of-00001.parquet", lambda data: data[:100])
    with pytest.raises(ArtifactError, match=r"cannot be read.*expected parquet"):
        check(folder)


def save_test(path: Path, **changes) -> Path:
    real = digits_data()
    test = real.test.take(changes["rows"]) if "rows" in changes else real.test
    if "shift" in changes:
        test = type(test)(test.images + changes["shift"], test.labels, test.class_names)
    save_real(path, RealData(real.train, test, real.normalisation, real.info))
    return path


def test_test_images_may_be_given(honest, tmp_path):
    verdict = check(honest, test=save_test(tmp_path / "real.safetensors"))
    assert verdict.found == verdict.claimed and verdict.same_test_images is True


def test_other_test_images_are_told(honest, tmp_path):
    verdict = check(honest, test=save_test(tmp_path / "real.safetensors", shift=1))
    assert verdict.same_test_images is False


def test_another_number_of_test_images_is_refused(honest, tmp_path):
    with pytest.raises(DistillkitError, match=r"20 test images.*expected the 300"):
        check(honest, test=save_test(tmp_path / "real.safetensors", rows=torch.arange(20)))


def test_a_folder_for_a_source_that_needs_none_is_refused(honest, tmp_path):
    with pytest.raises(ParamsError, match="source digits needs no folder"):
        check(honest, test=tmp_path)


def test_the_command_answers_by_its_exit_code(hub, honest, liar, tmp_path):
    """0 for a claim that holds, 3 for one that does not, 1 for what cannot be checked; from the Hub and a folder."""
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    push(api, honest, "someone/honest", tag="v1.0")
    home = tmp_path / "home"
    ran = run(hub, home, "-m", "distillkit", "verify", "someone/honest@v1.0", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["match"] and found["found"] == found["claimed"] and found["files"] == 9

    ran = run(hub, home, "-m", "distillkit", "verify", str(liar), RECIPE)
    assert ran.returncode == 3
    assert "claimed  95.00 ± 1.00 % (n = 3)" in ran.stdout and "MISMATCH" in ran.stdout
    (tmp_path / "broken").mkdir()
    ran = run(hub, home, "-m", "distillkit", "verify", str(tmp_path / "broken"))
    assert ran.returncode == 1 and len(ran.stderr.splitlines()) == 1
    ran = run(hub, home, "-m", "distillkit", "verify", "nowhere")
    assert ran.returncode == 1 and "no folder here and no owner/name of the Hub" in ran.stderr
