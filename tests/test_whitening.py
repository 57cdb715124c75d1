"""ZCA whitening: two pixels by hand, its inverse, its files, and a pipeline that goes through it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from packages import build_package, digits_data
from safetensors.torch import load_file

import distillkit
from distillkit.base import params
from distillkit.base.errors import ArtifactError, ParamsError, SourceError
from distillkit.base.randomness import seeded
from distillkit.check.diff.result import properties
from distillkit.check.show import describe, lines
from distillkit.check.verify import verify
from distillkit.data import rows
from distillkit.data.files.artifact import load_synthetic, save_synthetic
from distillkit.data.files.container import Opened, save
from distillkit.data.files.real_images import load_real, save_real
from distillkit.data.images import Normalisation, real_subset
from distillkit.data.whitening import Whitening, whitening_of, zca
from distillkit.matching.distillation import Distillation, Optim
from distillkit.matching.method import Material
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks.specs import NetworkSpec
from distillkit.package.manifest import open_package
from distillkit.sources.fetch import ZCA, DataSpec, fetch
from distillkit.sources.readers import DigitsSource
from distillkit.training.trajectories import ExpertRecipe, ExpertsInMemory, record_expert

PLAIN = NetworkSpec("convnet", "instance", depth=1, width=4)
NUMBERS = [[6**0.5, 6**0.5], [-(6**0.5), -(6**0.5)], [1.5, -1.5], [-1.5, 1.5]]


@pytest.fixture(scope="module")
def white():
    return digits_data(ZCA("zca"))


def correlated(count: int, seed: int = 0) -> torch.Tensor:
    """Images (N, 1, 2, 3) in float64 whose values depend on one another."""
    generator = seeded(seed)
    mixing = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    return (torch.randn(count, 6, generator=generator, dtype=torch.float64) @ mixing).view(count, 1, 2, 3) + 0.5


def test_two_pixels_by_hand():
    """Variances along (1, 1) and (1, -1): 24 / 3 = 8 and 9 / 3 = 3. With eps 1, s is 3 and 2.

    W = (1, 1)(1, 1)' / 6 + (1, -1)(1, -1)' / 4 = [[5, -1], [-1, 5]] / 12.
    """
    images = torch.tensor(NUMBERS).view(4, 1, 1, 2) + 0.25
    found = zca(images, eps=1)
    assert found.mean_D.tolist() == pytest.approx([0.25, 0.25])
    assert sorted(found.scale_D.tolist()) == pytest.approx([2, 3])
    assert torch.allclose(found.forward, torch.tensor([[5.0, -1.0], [-1.0, 5.0]]) / 12, atol=1e-6)
    whitened = found.apply(images).view(4, 2)
    expected = torch.tensor(NUMBERS) / torch.tensor([[3], [3], [2], [2]])
    assert torch.allclose(whitened, expected, atol=1e-6)


def test_with_a_small_eps_the_covariance_is_the_identity():
    images = correlated(500)
    covariance = zca(images, eps=1e-9).apply(images).flatten(1).T.cov()
    assert torch.allclose(covariance, torch.eye(6, dtype=torch.float64), atol=1e-4)


def test_of_all_whitenings_it_is_the_symmetric_one():
    forward = zca(correlated(50), eps=0.1).forward
    assert torch.allclose(forward, forward.T, atol=1e-6)


def test_undo_inverts_apply_in_float64():
    images = correlated(40)
    flat = images.flatten(1)
    found = whitening_of(flat.mean(0), flat.T.cov(), eps=0.1)
    assert torch.allclose(found.undo(found.apply(images)), images, atol=1e-12)
    assert torch.allclose(found.apply(found.undo(images)), images, atol=1e-12)


def test_undo_inverts_apply_to_the_rounding_of_float32(white):
    pixels = white.test.pixels()
    back = white.normalisation.undo(white.normalisation.apply(pixels))
    assert back.dtype == torch.float32 and (back - pixels).abs().max() < 1e-5


def in_chunks_of_seven(images, eps, monkeypatch):
    monkeypatch.setattr(rows, "CHUNK", 7 * images[0].numel())
    return zca(images, eps)


def test_bytes_and_floats_and_chunks_say_the_same(digits, monkeypatch):
    found = zca(digits.images, 0.1)
    for other in (zca(digits.pixels(), 0.1), in_chunks_of_seven(digits.images, 0.1, monkeypatch)):
        assert torch.allclose(found.forward, other.forward, atol=1e-5)
        assert torch.allclose(found.mean_D, other.mean_D, atol=1e-6)


def test_gradients_pass_through_it_as_finite_differences_say():
    images = correlated(5)
    flat = images.flatten(1)
    found = whitening_of(flat.mean(0), flat.T.cov(), eps=0.1)
    assert torch.autograd.gradcheck(found.apply, images.requires_grad_())


def test_what_cannot_be_whitened_is_refused():
    with pytest.raises(SourceError, match=r"^images have 12,675 values.*at most 12,288.*set data.size"):
        zca(torch.zeros(2, 3, 65, 65, dtype=torch.uint8), 0.1)
    with pytest.raises(SourceError, match="there is 1 training image; expected at least 2"):
        zca(torch.zeros(1, 1, 2, 2), 0.1)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({"kind": "zca", "eps": 0}, "data.normalisation.eps is 0; expected between 1e-08 and 1000"),
        ({"kind": "zca", "eps": -0.1}, "data.normalisation.eps is -0.1; expected"),
        ({"kind": "zac"}, r"data.normalisation.kind is \"zac\" \(did you mean 'zca'\?\); expected one of channel, zca"),
        ({"eps": 0.1}, "data.normalisation.kind is missing; expected one of channel, zca"),
        ({"kind": "channel", "eps": 0.1}, "data.normalisation.eps is not a parameter"),
        ("zca", 'data.normalisation is "zca"; expected a mapping'),
    ],
)
def test_bad_parameters_are_one_line(value, error):
    with pytest.raises(ParamsError, match=error):
        params.read({"source": {"kind": "digits"}, "normalisation": value}, DataSpec, "data")


def test_normalisation_by_channel_is_what_it_was(tmp_path):
    """Said or not: the same bytes, in which there is no word of it."""
    files = []
    for name, said in (("said", {"normalisation": {"kind": "channel"}}), ("unsaid", {})):
        spec = params.read({"source": {"kind": "digits"}, "per_class": 3, **said}, DataSpec, "data")
        save_real(tmp_path / name, fetch(spec))
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert "normalisation" not in Opened(tmp_path / "said").header["source"]["params"]
    assert not any("zca" in key for key in load_file(tmp_path / "said"))


def test_it_is_fitted_on_training_images_only(white):
    assert torch.equal(white.normalisation.whitening.basis_DD, zca(white.train.images, 0.1).basis_DD)
    assert white.info.params["normalisation"] == {"kind": "zca", "eps": 0.1}


def test_files_hold_it(white, tmp_path):
    save_real(tmp_path / "real", white)
    synthetic = real_subset(white.train, torch.arange(20), white.normalisation)
    save_synthetic(tmp_path / "set", synthetic, {})
    for found in (load_real(tmp_path / "real"), load_synthetic(tmp_path / "set")[0]):
        for name in ("mean_D", "basis_DD", "scale_D"):
            own, other = (getattr(part.normalisation.whitening, name) for part in (white, found))
            assert torch.equal(own, other)
    assert describe(tmp_path / "set")["normalisation"] == "zca"
    assert any("to be ZCA-whitened" in line for line in lines(describe(tmp_path / "set") | {"recipe": "a"}))


@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        ("zca_scale", lambda part: 0 * part, "'zca_scale' has 0; expected all above 0"),
        ("zca_basis", lambda part: 2 * part, "'zca_basis' is no basis of unit vectors"),
        ("zca_basis", lambda part: part[:, :5].clone(), r"'zca_basis' is torch.float32 \(64, 5\); expected"),
        ("zca_mean", lambda part: part * torch.nan, "'zca_mean' holds nan"),
    ],
)
def test_a_damaged_file_is_refused(white, tmp_path, name, change, error):
    save_synthetic(tmp_path / "set", real_subset(white.train, torch.arange(20), white.normalisation), {})
    opened = Opened(tmp_path / "set")
    header = {key: value for key, value in opened.header.items() if key not in ("format", "kind", "distillkit")}
    tensors = load_file(tmp_path / "set")
    if "nan" in error:
        from safetensors.torch import save_file

        tensors[name] = change(tensors[name])
        save_file(tensors, tmp_path / "bad", metadata=opened.file.metadata())
    else:
        save(tmp_path / "bad", "synthetic", {**tensors, name: change(tensors[name])}, header)
    with pytest.raises(ArtifactError, match=error):
        load_synthetic(tmp_path / "bad")


def test_a_difference_of_whitening_is_told(white):
    synthetic = real_subset(white.train, torch.arange(20), white.normalisation)
    without = replace(synthetic, normalisation=white.normalisation._replace(whitening=None))
    told, plain = (properties(part)["normalisation"] for part in (synthetic, without))
    assert told.keys() - plain.keys() == {"zca"}
    assert re.fullmatch("[0-9a-f]{64}", told["zca"]["sha256"])


def test_it_moves_with_its_normalisation():
    own = Normalisation(torch.zeros(1), torch.ones(1), Whitening(torch.zeros(2), torch.eye(2), torch.ones(2)))
    assert own.to(torch.device("meta")).whitening.basis_DD.device.type == "meta"


def test_experts_and_distillation_go_through_it(white):
    """Trained and learned in whitened space; frozen images stay bit for bit, learned ones come back as pixels."""
    recipe = ExpertRecipe(PLAIN, epochs=4, batch=16, lr=0.05)
    trained = [record_expert(white.train, white.normalisation, recipe, seeded(seed)) for seed in (0, 1)]
    experts = ExpertsInMemory(PLAIN, torch.stack([expert.trajectory_TP for expert in trained]))
    material = Material(white.train, white.normalisation, experts=experts)
    method = TrajectoryMatching(2, Matching(4, 20, 1, 2))
    start = method.init(material, seeded(0))
    start = replace(start, learned=torch.arange(20) < 15)
    run = Distillation(method, start, material, Optim(20, 5.0, 0.05), seeded(0))
    assert torch.equal(run.iterate().images_NCHW, white.normalisation.apply(start.images))
    losses = [step.loss for step in run]
    assert sum(losses[-5:]) < sum(losses[:5])
    learned = run.result()
    assert torch.equal(learned.images[15:], start.images[15:])
    moved = (learned.images - start.images)[:15].abs().amax((1, 2, 3))
    assert (moved > 1e-4).all() and moved.max() < 5


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    return build_package(tmp_path_factory.mktemp("white") / "tiny", normalisation=ZCA("zca"))


def test_a_package_tells_and_verifies(package):
    verdict = verify(open_package(package), "random-ipc2", test=None, runs=None, seed=0)
    assert verdict.matches and verdict.found == verdict.claimed
    record = json.loads((package / "random-ipc2/recipe.json").read_text())
    assert record["normalisation"].keys() == {"mean", "std", "zca"}
    assert record["pipeline"]["data"]["normalisation"] == {"kind": "zca", "eps": 0.1}


def test_the_card_says_how_to_whiten_and_its_code_does(package):
    card = (package / "README.md").read_text()
    assert "**ZCA-whitened**" in card and "with eps 0.1" in card
    assert "std[:, None, None]" not in card
    expected = distillkit.load(str(package), "random-ipc2")
    whitened = expected.normalisation.apply(expected.images)
    blocks = [block for block in re.findall("```python\n(.*?)```", card, re.DOTALL) if "images" in block]
    assert len(blocks) == 2
    for block in blocks:
        names: dict = {}
        exec(block.replace("REPOSITORY", str(package)), names)
        assert torch.allclose(names["images"], whitened, atol=1e-4)


def test_a_card_without_it_has_no_word_of_it(first):
    assert "hiten" not in (first / "README.md").read_text()


def test_a_set_of_another_whitening_is_not_packaged(white, tmp_path):
    other = fetch(DataSpec(DigitsSource(), per_class=8, test_per_class=30, normalisation=ZCA("zca", 0.2)))
    changed = lambda synthetic: replace(synthetic, normalisation=other.normalisation)  # noqa: E731
    with pytest.raises(ArtifactError, match="differ: whitening"):
        build_package(tmp_path / "tiny", normalisation=ZCA("zca"), change=changed)
