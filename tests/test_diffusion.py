"""Diffusion: the maths by hand, training that can stop and go on, and a generator as a folder."""

import json
import math
import os
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from interpreter import PYTHON
from marks import long
from safetensors.torch import load_file, save_file

from distillkit.base.errors import ArtifactError, DivergedError, ParamsError
from distillkit.base.randomness import seeded
from distillkit.cli import main
from distillkit.data.files.artifact import load_synthetic
from distillkit.data.files.container import load_state, save_state
from distillkit.data.files.real_images import save_real
from distillkit.data.images import Normalisation, RealData, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.data.whitening import zca
from distillkit.generators.folder import (
    DESCRIPTION,
    STATISTICS,
    SavedGenerator,
    ddim,
    load_generator,
    save_generator,
)
from distillkit.generators.sampling import build, seed_of
from distillkit.generators.sampling import draw as draw_set
from distillkit.methods.generator.denoising import (
    Sampling,
    ddim_step,
    denoising_loss,
    draw,
    guided,
    mixed,
    sample,
    signal_levels,
    walk,
)
from distillkit.methods.generator.diffusion import Diffusion
from distillkit.methods.generator.image_generator import (
    Fit,
    ImageGenerator,
    autoencoder_loss,
    denoiser_loss,
    make_images,
    train_generator,
    velocity,
)
from distillkit.methods.generator.networks import (
    AutoencoderSpec,
    DiTSpec,
    FitSpec,
    GeneratorSpec,
    UNetSpec,
    new_autoencoder,
    new_denoiser,
)
from distillkit.pipeline.checkpoints import finishing, resumed
from distillkit.pipeline.recipes import read_recipe
from distillkit.process.interruption import Interrupted
from distillkit.training.compute import Compute

FIT = FitSpec(steps=6, batch=8, lr=1e-3)
UNET, DIT = UNetSpec("unet", (8, 16), 1), DiTSpec("dit", 1, 2, 8)
SAMPLING = Sampling(steps=3)
AUTOENCODER = AutoencoderSpec(FIT, (8, 8), 2)
SPECS = {
    "unet": GeneratorSpec(UNET, FIT),
    "dit": GeneratorSpec(DIT, FIT, flip=True),
    "latent": GeneratorSpec(replace(UNET, attention=False), FIT, AUTOENCODER),
}
RECIPE = {
    "method": "diffusion",
    "ipc": 3,
    "sampling": {"steps": 4, "guidance": 2},
    "model": {
        "network": {"kind": "unet", "widths": [8, 16], "layers": 1},
        "training": {"steps": 6, "batch": 8, "lr": 0.001},
        "autoencoder": {
            "training": {"steps": 3, "batch": 8, "lr": 0.001},
            "widths": [8, 8],
            "channels": 2,
        },
    },
}
PARAMS = """\
seed: 1
experts: {per_shard: 1, recipe: {network: {name: convnet, depth: 1, width: 4}, epochs: 1, batch: 8, lr: 0.1}}
recipes:
  random: {method: random, ipc: 1}
  made: %s
"""


# The maths


def test_signal_levels():
    """With 4 levels: ᾱ_t = f(t + 1) / f(0), for all β but the last are below 0.999; and the last is 0.001 of ᾱ_2."""
    f = [math.cos((t / 4 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(5)]
    found = signal_levels(4)
    assert found.dtype == torch.float64
    assert found[:3].tolist() == pytest.approx([f[1] / f[0], f[2] / f[0], f[3] / f[0]])
    assert found[3].item() == pytest.approx(found[2].item() * 0.001)
    assert 0.9999 < signal_levels()[0] < 1


def test_mixture():
    """ᾱ = 0.36: x_t = 0.6 x + 0.8 ε and v = 0.6 ε − 0.8 x, for x = 1, ε = −2."""
    noisy, wanted = mixed(torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), -2.0), torch.tensor([0.36]))
    assert (noisy.item(), wanted.item()) == (pytest.approx(-1.0), pytest.approx(-2.0))


def test_a_step_back():
    """From ᾱ = 0.36 with the true v of x = 1, ε = −2 to ᾱ' = 0.64: 0.8 · 1 + 0.6 · (−2); at ᾱ' = 1 it is x."""
    x, v = torch.full((1,), -1.0), torch.full((1,), -2.0)
    assert ddim_step(x, v, 0.36, 0.64).item() == pytest.approx(-0.4)
    assert ddim_step(x, v, 0.36, 1.0).item() == pytest.approx(1.0)


def test_guidance():
    """v_∅ + w (v_y − v_∅) with v_y = 10 + label and v_∅ = 4: at w = 3 and label 1, 4 + 3 · 7."""

    def denoise(x, level, labels):
        assert torch.equal(level, torch.full_like(level, 5))
        return torch.where(labels == 9, 4.0, 10.0 + labels)[:, None, None, None].expand_as(x)

    arguments = torch.zeros(2, 1, 1, 1), torch.tensor([5, 5]), torch.tensor([1, 2])
    assert guided(denoise, 9, 3.0)(*arguments).flatten().tolist() == [25.0, 28.0]
    assert guided(denoise, 9, 1.0)(*arguments).flatten().tolist() == [11.0, 12.0]
    assert guided(denoise, 9, 0.0)(*arguments).flatten().tolist() == [4.0, 4.0]


def test_guidance_in_between():
    """Asked twice at once between 0.2 and 0.6 of the levels, and once beyond."""
    sizes = []

    def denoise(x, level, labels):
        sizes.append(len(x))
        return x

    sampling = Sampling(steps=5, guidance=2.0, guided=(0.2, 0.6))
    sample(sampling.denoise_at(denoise, 9), torch.zeros(1, 1, 1, 1), torch.tensor([0]), sampling.steps)
    assert (walk(5), sizes) == ([999, 799, 599, 399, 199], [1, 1, 2, 2, 1])


def test_walk():
    assert walk(4) == [999, 749, 499, 249]
    assert walk(3) == [999, 666, 332]
    assert (walk(1), walk(1000)) == ([999], list(range(999, -1, -1)))


def test_a_perfect_network_leads_back_to_the_image():
    """A network that knows the one image x: v = (√ᾱ x_t − x) / √(1 − ᾱ), whatever the noise."""
    image, signal_T = torch.full((2, 1, 2, 2), 0.25, dtype=torch.float64), signal_levels()

    def denoise(x, level, labels):
        signal = signal_T[level][:, None, None, None]
        return (signal.sqrt() * x - image) / (1 - signal).sqrt()

    noise = torch.randn(2, 1, 2, 2, generator=seeded(0), dtype=torch.float64)
    for steps in (1, 7, 50):
        torch.testing.assert_close(sample(lambda level: denoise, noise, torch.tensor([0, 1]), steps), image)


def test_ddim_is_that_of_diffusers():
    """The walk of our sampler and of diffusers' scheduler with the settings that a generator's folder has."""

    scheduler = ddim(ImageGenerator(SPECS["unet"], (1, 8, 8), 10, torch.nn.Identity()))
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), signal_levels(), rtol=1e-3, atol=1e-9)
    x = noise = torch.randn(2, 1, 4, 4, generator=seeded(0))
    weights = torch.randn(4, 4, generator=seeded(1)) / 4

    def denoise(x, level, labels):
        return (x @ weights + level[:, None, None, None] / 1000).sin()

    scheduler.set_timesteps(10)
    assert scheduler.timesteps.tolist() == walk(10)
    for level in scheduler.timesteps:
        x = scheduler.step(denoise(x, level.repeat(2), None), level, x, use_clipped_model_output=True).prev_sample
    found = sample(lambda level: denoise, noise, torch.tensor([0, 1]), 10, limit=1.0)
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-3)


def test_labels_are_left_out():
    """All of them at a share of 1, none at 0, and then they are the class after the last."""
    seen = []

    def denoise(x, level, labels):
        seen.append(labels.tolist())
        return x

    for share in (0.0, 1.0):
        drawn = draw(torch.Size([3, 1, 2, 2]), share, seeded(0))
        denoising_loss(denoise, torch.zeros(3, 1, 2, 2), torch.tensor([4, 5, 6]), 10, drawn)
    assert seen == [[4, 5, 6], [10, 10, 10]]


@pytest.mark.parametrize("network", [UNET, DIT])
def test_gradient_agrees_with_finite_differences(network):
    """Of the loss, along a random direction of all weights, in float64."""
    model = new_denoiser(GeneratorSpec(network, FIT), (1, 8, 8), 3, seed=0).double()
    images = torch.rand(4, 1, 8, 8, dtype=torch.float64, generator=seeded(1)) * 2 - 1
    drawn, labels = draw(images.shape, 0.5, seeded(2)), torch.tensor([0, 1, 2, 0])
    start, random = [p.detach().clone() for p in model.parameters()], seeded(3)
    direction = [torch.randn(p.shape, dtype=torch.float64, generator=random) for p in start]

    def loss(amount):
        with torch.no_grad():
            for p, first, turn in zip(model.parameters(), start, direction, strict=True):
                p.copy_(first + amount * turn)
        return denoising_loss(partial(velocity, model), images, labels, 3, drawn)

    gradients = torch.autograd.grad(loss(0.0), list(model.parameters()))
    slope = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)).item()
    h = 1e-6
    assert slope == pytest.approx((loss(h) - loss(-h)).item() / (2 * h), rel=1e-5)


def test_loss_of_the_autoencoder(digits):
    """μ = 0.5 and ln σ² = 0: KL is (0.25 + 1 − 1 − 0) / 2; a decoder that says 0 is wrong by the mean of (2x − 1)²."""

    class Fake:
        def encode(self, x):
            moments = SimpleNamespace(mean=torch.full_like(x, 0.5), logvar=torch.zeros_like(x))
            return SimpleNamespace(latent_dist=moments)

        def decode(self, z):
            return SimpleNamespace(sample=torch.zeros_like(z))

    one = replace(digits, images=digits.images[:1], labels=digits.labels[:1])
    spec = replace(SPECS["latent"], autoencoder=replace(AUTOENCODER, divergence=2.0))
    error = (2 * one.pixels() - 1).square().mean().item()
    assert autoencoder_loss(Fake(), spec, one, Compute(), seeded(0)).item() == pytest.approx(error + 2 * 0.125)


# Training


def test_rates_and_averages():
    """The cosine falls from lr to 0; the average's memory grows from 1 / 10 to its limit."""
    spec = FitSpec(steps=4, batch=1, lr=0.2, average=0.3)
    assert [spec.lr_at(step) for step in (0, 2, 4)] == pytest.approx([0.2, 0.1, 0.0])
    assert [spec.average_at(step) for step in (0, 1, 5)] == [0.1, 2 / 11, 0.3]


def test_one_step_of_a_fit():
    """p = 1, loss p²: Adam's first step is lr, so p = 0.9; the average of 1 and it is 0.1 · 1 + 0.9 · 0.9."""
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    fit = Fit("toy", network, lambda generator: network.weight.square().sum(), FitSpec(2, 1, 0.1), seed=0)
    assert fit.advance() == 1.0
    assert network.weight.item() == pytest.approx(0.9)
    assert fit.result().weight.item() == pytest.approx(0.1 + 0.81)


@pytest.mark.parametrize("name", [long("unet"), "dit"])
def test_loss_falls(digits, name):
    spec = replace(SPECS[name], training=FitSpec(80, 32, 3e-3), autoencoder=None)
    fits = []
    train_generator(spec, digits, seeded(0), Compute(finish=recorded(fits)))
    (fit,) = fits
    assert sum(fit.losses[-20:]) < 0.85 * sum(fit.losses[:20])


@pytest.mark.long
def test_loss_of_the_autoencoder_falls(digits):
    spec = replace(SPECS["latent"], autoencoder=replace(AUTOENCODER, training=FitSpec(60, 32, 5e-3)))
    fits = []
    generator = train_generator(spec, digits, seeded(0), Compute(finish=recorded(fits)))
    assert sum(fits[0].losses[-10:]) < 0.7 * sum(fits[0].losses[:10])
    codes = generator.autoencoder.encode(digits.pixels() * 2 - 1).latent_dist.mean * generator.scale
    assert codes.std().item() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("name", [long("unet"), long("dit"), "latent"])
def test_trained_twice_it_is_the_same_and_nobody_else_is_touched(digits, name):
    state = torch.get_rng_state()
    first, second = (train_generator(SPECS[name], digits, seeded(0), Compute()) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    other = train_generator(SPECS[name], digits, seeded(1), Compute())
    assert not all(torch.equal(a, b) for a, b in zip(weights(first), weights(other), strict=True))


def test_a_smaller_set_is_the_beginning_of_a_larger_one(digits):
    generator = train_generator(SPECS["unet"], digits, seeded(0), Compute())
    small, large = (make_images(generator, count, 5, SAMPLING, Compute()).view(10, count, 64) for count in (2, 5))
    torch.testing.assert_close(small, large[:, :2])


def test_the_rate_is_told(digits):
    said = []
    generator = train_generator(SPECS["unet"], digits, seeded(0), Compute())
    make_images(generator, 2, 0, SAMPLING, Compute(say=said.append))
    assert [line.split(" in ")[0] for line in said] == ["made 20 images"]
    assert said[0].endswith(" a second")


def test_a_network_that_diverges(digits):
    spec = replace(SPECS["unet"], training=replace(FIT, lr=1e30, steps=20))
    with pytest.raises(DivergedError, match=r"^the denoiser's loss is \w+ at step \d+; .* lower lr \(1e\+30\)"):
        train_generator(spec, digits, seeded(0), Compute())


def test_weights_that_the_last_step_has_ruined():
    """No later loss would tell."""
    fit = Fit("denoiser", torch.nn.Linear(1, 1), lambda _: torch.zeros(()), FIT, seed=4)
    fit.kept["average"][0].fill_(math.inf)
    with pytest.raises(DivergedError, match=r"^the denoiser's weights hold nan or infinity .*; lower its lr \("):
        fit.result()


# Stopping and going on


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_goes_on_bit_for_bit(digits, tmp_path, stop):
    def fit():
        model = new_denoiser(SPECS["unet"], (1, 8, 8), 10, seed=3)
        loss = partial(denoiser_loss, replace(untrained(SPECS["unet"]), denoiser=model), digits, Compute())
        return Fit("denoiser", model, loss, FIT, seed=4)

    whole, half, rest = fit(), fit(), fit()
    while whole.done < whole.steps:
        whole.advance()
    for _ in range(stop):
        half.advance()
    save_state(tmp_path / "state", half.state())
    resumed(rest, tmp_path / "state")
    assert rest.done == stop
    while rest.done < rest.steps:
        rest.advance()
    assert rest.losses == whole.losses
    assert all(torch.equal(a, b) for a, b in zip(rest.result().parameters(), whole.result().parameters(), strict=True))


def test_interrupted_it_is_kept_and_then_not_trained_again(digits, tmp_path, monkeypatch, capsys):
    """Stopped at every step of the autoencoder and of the denoiser, it ends as if it never had been."""
    monkeypatch.chdir(tmp_path)
    spec = SPECS["latent"]
    whole, calls = train_generator(spec, digits, seeded(0), Compute()), 0
    signals = cycle([False, True])  # looked for before the first step, and after it
    monkeypatch.setattr("distillkit.process.interruption.asked", lambda: next(signals))
    finish = finishing(tmp_path / "model", "made")
    while True:
        calls += 1
        try:
            found = train_generator(spec, digits, seeded(0), Compute(finish=finish))
        except Interrupted:
            continue
        break
    assert calls == 13, "six steps of each, and once to find both done"
    assert found.scale == whole.scale
    assert all(torch.equal(a, b) for a, b in zip(weights(found), weights(whole), strict=True))
    assert set(load_state(tmp_path / "model/denoiser.safetensors")) == {"average", "losses"}
    said = capsys.readouterr().err
    assert "resumed at step 5 of 6" in said
    assert f"resumed at step 6 of 6 from {tmp_path / 'model/denoiser.safetensors'}" in said


@pytest.mark.parametrize("spoil", ["other", "short", "text"])
def test_a_state_that_is_none_is_told_and_trained_again(digits, tmp_path, monkeypatch, capsys, spoil):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model/denoiser.safetensors"
    finish = finishing(tmp_path / "model", "made")
    whole = train_generator(SPECS["unet"], digits, seeded(0), Compute(finish=finish))
    state = load_state(path)
    if spoil == "text":
        path.write_text("no")
    else:
        save_state(path, {"losses": state["losses"]} | ({"average": torch.ones(3)} if spoil == "short" else {}))
    again = train_generator(SPECS["unet"], digits, seeded(0), Compute(finish=finish))
    assert f"warning: {path} cannot be resumed" in capsys.readouterr().err
    assert all(torch.equal(a, b) for a, b in zip(weights(again), weights(whole), strict=True))


# Settings


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: UNetSpec("unet", ()), r"widths is \[\]; expected one or several multiples of 8"),
        (lambda: UNetSpec("unet", (8, 12)), r"widths is \[8, 12\]; expected"),
        (lambda: UNetSpec("unet", (8_000_000_000,)), r"widths is \[8e\+09\]; expected .* multiples of 8 up to 8192"),
        (lambda: DiTSpec("dit", heads=1000, head_width=1000), "heads is 1000, heads x head_width 1000000; expected"),
        (lambda: UNetSpec("unet", layers=0), "layers is 0; expected between 1 and"),
        (lambda: DiTSpec("dit", depth=0), "depth is 0; expected between 1 and"),
        (lambda: DiTSpec("dit", heads=1, head_width=6), "head_width is 6; expected 4 to divide heads x head_width"),
        (lambda: FitSpec(0, 1, 1), "steps is 0; expected at least 1"),
        (lambda: FitSpec(1, 0, 1), "batch is 0; expected between 1 and 65536"),
        (lambda: FitSpec(1, 10**15, 1), r"batch is 1e\+15; expected between 1 and 65536"),
        (lambda: FitSpec(1, 1, 0), "lr is 0; expected a finite number above 0"),
        (lambda: FitSpec(1, 1, 1, average=1), "average is 1; expected between 0 and 0.99999"),
        (lambda: AutoencoderSpec(FIT, (8,), 0), "channels is 0; expected between 1 and 1000"),
        (lambda: AutoencoderSpec(FIT, divergence=-1), "divergence is -1; expected at least 0"),
        (lambda: GeneratorSpec(UNET, FIT, label_dropout=2), "label_dropout is 2; expected between 0 and 0.999"),
        (lambda: GeneratorSpec(UNET, FIT, label_dropout=1.0), "label_dropout is 1; expected between 0 and 0.999"),
        (lambda: Diffusion(0, SPECS["unet"]), "ipc is 0; expected at least 1"),
        (lambda: Sampling(guidance=-1), "guidance is -1; expected between 0 and 100"),
        (lambda: Sampling(steps=1001), "steps is 1001; expected between 1 and 1000"),
        (lambda: Sampling(guided=(-1, 1)), "guided is -1; expected between 0 and 1"),
        (lambda: Sampling(guided=(0.5, 0.2)), "guided is 0.2; expected between 0.5 and 1"),
        (
            lambda: SPECS["unet"].noise_shape((1, 9, 8)),
            "network.widths has 2 entries, but 9x8 cannot be halved 1 times",
        ),
        (lambda: SPECS["latent"].noise_shape((1, 6, 6)), "network.widths has 2 entries, but 3x3 cannot be halved"),
        (lambda: SPECS["latent"].noise_shape((1, 7, 8)), "autoencoder.widths has 2 entries, but 7x8 cannot"),
        (lambda: SPECS["dit"].noise_shape((1, 8, 6)), "network.patch is 2, but a transformer would have to see 8x6"),
    ],
)
def test_bad_parameters(build, message):
    with pytest.raises(ParamsError, match=f"^{message}"):
        build()


@pytest.mark.parametrize("ipc", [2**36 // (10 * 64 * 4) + 1, 10**12, 10**15])
def test_more_images_than_fit_are_refused_before_anything_is_trained(material, ipc):
    expected = (
        r"^ipc is .*, but 10 classes of so many images of 1x8x8 are more than 64 GiB; expected at most 26,843,545"
    )
    with pytest.raises(ParamsError, match=expected):
        Diffusion(ipc, SPECS["unet"]).init(material, seeded(0))
    with pytest.raises(ParamsError, match=expected):
        make_images(untrained(SPECS["unet"]), ipc, 0, Sampling(), Compute())


def test_a_model_of_too_many_parameters_is_refused_before_it_is_built(digits):
    spec = GeneratorSpec(UNetSpec("unet", (8192, 8192), 1), FIT)
    with pytest.raises(ParamsError, match=r"^network of the model has 1\d,\d{3},\d{3},\d{3} parameters; expected"):
        train_generator(spec, digits, seeded(0), Compute())
    spec = GeneratorSpec(UNET, FIT, AutoencoderSpec(FIT, (8192, 8192)))
    with pytest.raises(ParamsError, match=r"^autoencoder of the model has \d\d,\d{3},\d{3},\d{3} parameters"):
        train_generator(spec, digits, seeded(0), Compute())


def test_shape_of_what_is_diffused():
    assert SPECS["unet"].noise_shape((3, 32, 16)) == (3, 32, 16)
    assert SPECS["latent"].noise_shape((3, 32, 16)) == (2, 16, 8)


def test_recipes_are_read_strictly():
    assert read_recipe({"recipes": {"x": RECIPE}}, "x").method.model.network == UNetSpec("unet", (8, 16), 1)
    wrong = RECIPE | {"model": RECIPE["model"] | {"network": {"kind": "unet", "width": 8}}}
    with pytest.raises(ParamsError, match=r"recipes.x.model.network.width is not a parameter \(did you mean 'widths'"):
        read_recipe({"recipes": {"x": wrong}}, "x")


def test_without_diffusers(material, monkeypatch):
    """The method can be read, and says what it misses in one line when it is to work."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ParamsError, match=r"^method diffusion needs .*; run pip install 'distillkit\[diffusion\]'$"):
        Diffusion(1, SPECS["unet"]).init(material, seeded(0))


# Folders


@pytest.mark.parametrize("name", SPECS)
def test_a_folder_gives_the_generator_back(digits, tmp_path, name):
    saved = trained(digits, SPECS[name])
    expected = make_images(saved.generator, 2, 1, SAMPLING, Compute())
    save_generator(tmp_path / "folder", saved)
    assert not [path.name for path in tmp_path.iterdir() if path.name != "folder"]
    loaded = load_generator(tmp_path / "folder", torch.device("cpu"))
    torch.testing.assert_close(make_images(loaded.generator, 2, 1, SAMPLING, Compute()), expected)
    assert all(torch.equal(a, b) for a, b in zip(weights(loaded.generator), weights(saved.generator), strict=True))
    assert (loaded.class_names, loaded.provenance) == (saved.class_names, saved.provenance)
    assert torch.equal(loaded.normalisation.apply(digits.pixels()), saved.normalisation.apply(digits.pixels()))
    with pytest.raises(ParamsError, match="folder is there already; expected the name of a new folder"):
        save_generator(tmp_path / "folder", saved)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_follow_the_umask(digits, tmp_path, umask, mode):
    saved, before = trained(digits, SPECS["latent"]), os.umask(umask)
    try:
        save_generator(tmp_path / "folder", saved)
    finally:
        os.umask(before)
    found = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in found} == {mode}
    assert sum(path.name == "diffusion_pytorch_model.safetensors" for path in found) == 2


def test_defaults_stand_in_the_folder(digits, tmp_path):
    """So that a folder stays what it is when a default changes; without them it is read all the same."""
    saved, short = trained(digits, SPECS["unet"]), {key: RECIPE["model"][key] for key in ("network", "training")}
    params = saved.provenance["params"] | {"model": short}
    save_generator(tmp_path / "folder", replace(saved, provenance={**saved.provenance, "params": params}))
    path = tmp_path / "folder/generator.json"
    described = json.loads(path.read_text())
    model = described["model"]
    assert (model["label_dropout"], model["flip"], model["autoencoder"]) == (0.1, False, None)
    assert model["network"] == {"kind": "unet", "widths": [8, 16], "layers": 1, "attention": True}
    assert set(model["training"]) == {"steps", "batch", "lr", "average", "precision"}
    assert load_generator(tmp_path / "folder", torch.device("cpu")).generator.spec == SPECS["unet"]
    path.write_text(json.dumps(described | {"model": short}))
    assert load_generator(tmp_path / "folder", torch.device("cpu")).generator.spec == SPECS["unet"]


def test_a_folder_without_diffusers(digits, tmp_path, monkeypatch):
    """Nothing is wrong with the folder, which is not to be made again."""
    save_generator(tmp_path / "folder", trained(digits, SPECS["unet"]))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ParamsError, match=r"^method diffusion needs .*; run pip install 'distillkit\[diffusion\]'$"):
        load_generator(tmp_path / "folder", torch.device("cpu"))


def test_whitening_goes_with_the_folder(digits, tmp_path):
    whitened = replace(
        trained(digits, SPECS["unet"]),
        normalisation=channel_statistics(digits.images)._replace(whitening=zca(digits.images, 0.1)),
    )
    save_generator(tmp_path / "folder", whitened)
    loaded = load_generator(tmp_path / "folder", torch.device("cpu"))
    assert torch.equal(loaded.normalisation.apply(digits.pixels()), whitened.normalisation.apply(digits.pixels()))


def test_diffusers_reads_its_parts(digits, tmp_path):
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel

    saved = trained(digits, SPECS["latent"])
    save_generator(tmp_path / "folder", saved)
    denoiser = UNet2DModel.from_pretrained(tmp_path / "folder/denoiser", use_safetensors=True)
    autoencoder = AutoencoderKL.from_pretrained(tmp_path / "folder/autoencoder", use_safetensors=True)
    x, level, label = torch.randn(1, 2, 4, 4, generator=seeded(0)), torch.tensor([7]), torch.tensor([3])
    assert torch.equal(denoiser(x, level, label).sample, saved.generator.denoiser(x, level, label).sample)
    assert autoencoder.config.scaling_factor == saved.generator.scale
    assert DDIMScheduler.from_pretrained(tmp_path / "folder/scheduler").config.prediction_type == "v_prediction"


def edited(**changes):
    def edit(folder):
        value = json.loads((folder / DESCRIPTION).read_text())
        (folder / DESCRIPTION).write_text(json.dumps(value | changes))

    return edit


def without(name):
    def edit(folder):
        value = json.loads((folder / DESCRIPTION).read_text())
        del value[name]
        (folder / DESCRIPTION).write_text(json.dumps(value))

    return edit


def weights_as(change):
    def edit(folder):
        path = folder / "denoiser/diffusion_pytorch_model.safetensors"
        save_file(change(load_file(path)), path)

    return edit


def written(path, data):
    return lambda folder: (folder / path).write_bytes(data)


HUGE = {"network": {"kind": "unet", "widths": [8192]}, "training": {"steps": 1, "batch": 1, "lr": 1}}
MANY = {"network": {"kind": "dit", "depth": 10**9}, "training": {"steps": 1, "batch": 1, "lr": 1}}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / DESCRIPTION).unlink(), "generator.json does not exist; expected a folder that"),
        (written(DESCRIPTION, b"{"), "generator.json cannot be read"),
        (written(DESCRIPTION, b"[" * 10**5), "generator.json cannot be read"),
        (written(DESCRIPTION, b"[]"), r"generator is \[\]; expected a mapping"),
        (edited(kind="synthetic"), 'generator.kind is "synthetic"; expected'),
        (edited(more=1), "generator.more is not a parameter"),
        (without("scale"), "generator.scale is missing"),
        (edited(scale=0), "scale is 0; expected a finite number above 0"),
        (edited(image_shape=[1, 8, -8]), "image_shape is .*; expected channels, height and width"),
        (edited(image_shape=[1, 8, 9]), "network.widths has 2 entries, but 8x9 cannot be halved"),
        (edited(image_shape=[2, 8, 8]), "has other weights than generator.json says"),
        (edited(class_names=[]), "class_names is empty"),
        (edited(class_names=["a"]), "has other weights than generator.json says"),
        (written(STATISTICS, b"no"), "normalisation.safetensors cannot be read"),
        (lambda folder: (folder / STATISTICS).unlink(), "normalisation.safetensors does not exist"),
        (edited(provenance={}), "provenance says nothing of params; expected"),
        (edited(model=HUGE), "has other weights than generator.json says"),
        (edited(model=MANY), "depth is 1e\\+09; expected between"),
        (written("denoiser/diffusion_pytorch_model.safetensors", b"no"), "cannot be read .* expected a complete"),
        (lambda folder: (folder / "denoiser/diffusion_pytorch_model.safetensors").unlink(), "cannot be read"),
        (weights_as(lambda found: {name: part.half() for name, part in found.items()}), "not finite 32-bit numbers"),
        (weights_as(lambda found: {name: part * math.nan for name, part in found.items()}), "not finite 32-bit"),
        (weights_as(lambda found: dict(list(found.items())[1:])), "has other weights than generator.json says"),
    ],
)
def test_broken_folders(digits, tmp_path, spoil, message):
    save_generator(tmp_path / "folder", trained(digits, SPECS["unet"]))
    spoil(tmp_path / "folder")
    with pytest.raises(ArtifactError, match=message) as caught:
        load_generator(tmp_path / "folder", torch.device("cpu"))
    assert "\n" not in str(caught.value)


# The commands


@pytest.fixture
def pipeline(digits, material, tmp_path, monkeypatch):
    """A folder with parameters and images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS % json.dumps(RECIPE))
    test = replace(digits, images=digits.images[:20].clone(), labels=digits.labels[:20].clone())
    data = RealData(digits, test, material.normalisation, SourceInfo("digits", "digits", "1", "cc-by-4.0"))
    save_real(tmp_path / "real.safetensors", data)
    return tmp_path


def test_a_generator_and_sets_of_any_size_from_it(pipeline, digits, material):
    built = build("made", pipeline / "folder", pipeline / "real.safetensors")
    assert (built["recipe"], built["classes"]) == ("made", 10)
    drawn = draw_set(pipeline / "folder", pipeline / "five.safetensors", 5, {}, None)
    assert (drawn["images"], drawn["seed"]) == (50, 1)
    synthetic, provenance = load_synthetic(pipeline / "five.safetensors")
    assert synthetic.images_per_class == [5] * 10
    assert (provenance["method"], provenance["recipe"], provenance["params"]["ipc"]) == ("diffusion", "made", 5)
    draw_set(pipeline / "folder", pipeline / "other.safetensors", 5, {"guidance": 1.0, "steps": 2}, 7)
    other, provenance = load_synthetic(pipeline / "other.safetensors")
    assert (provenance["seed"], provenance["params"]["sampling"]) == (7, {"steps": 2, "guidance": 1.0})
    assert not torch.equal(synthetic.images, other.images)
    own = read_recipe({"recipes": {"x": RECIPE}}, "x").method.init(material, seeded(0))
    assert own.images.shape[0] == 30


def test_its_set_is_that_of_the_recipe(pipeline, material):
    """What the stage makes with the seed of params.yaml."""
    build("made", pipeline / "folder", pipeline / "real.safetensors")
    draw_set(pipeline / "folder", pipeline / "three.safetensors", 3, {}, None)
    method, seed = read_recipe({"recipes": {"x": RECIPE}}, "x").method, seed_of(1)
    expected = method.images(method.trained(material, seed), seed, Compute())
    torch.testing.assert_close(load_synthetic(pipeline / "three.safetensors")[0].images, expected, rtol=0, atol=1e-3)


def test_what_the_commands_refuse(pipeline):
    real = pipeline / "real.safetensors"
    with pytest.raises(ParamsError, match="recipe random has method random; expected diffusion"):
        build("random", pipeline / "folder", real)
    with pytest.raises(ParamsError, match=r"real\.safetensors is there already"):
        build("made", real, real)
    with pytest.raises(ParamsError, match=r"--out is set\.pt; expected a file name that ends in \.safetensors"):
        draw_set(pipeline / "folder", Path("set.pt"), 1, {}, None)
    build("made", pipeline / "folder", real)
    edited(provenance={"params": {"method": "random"}, "seed": 0, "recipe": "", "source": {}, "source_images": {}})(
        pipeline / "folder"
    )
    with pytest.raises(ParamsError, match=r"folder/generator\.json: params\.model is missing; add it"):
        draw_set(pipeline / "folder", Path("set.safetensors"), 1, {}, None)


def test_commands(pipeline):
    def call(*arguments):
        command = [PYTHON, "-m", "distillkit", *arguments]
        return subprocess.run(command, cwd=pipeline, capture_output=True, text=True, check=False)

    done = call("generator", "made", "folder", "--real", "real.safetensors")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("folder: the generator of made, 10 classes, ")
    done = call("sample", "folder", "--per-class", "2", "--out", "set.safetensors", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"path": "set.safetensors", "images": 20, "classes": 10, "seed": 1}
    assert "made 20 images in " in done.stderr
    done = call("sample", "nowhere", "--per-class", "2", "--out", "other.safetensors")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: nowhere/generator.json does not exist; expected a folder")


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (
            ("--per-class", "2"),
            1,
            "error: set.safetensors exists; expected a new file; choose another name, or say --o",
        ),
        (("--per-class", "2", "--seed", "-1"), 2, "Invalid value for '--seed': -1 is not in the range x>=0"),
        (
            ("--per-class", str(10**12), "--overwrite"),
            1,
            "error: ipc is 1e+12, but 10 classes of so many images of 1x8x8",
        ),
    ],
)
def test_what_sample_refuses(digits, tmp_path, monkeypatch, capsys, arguments, code, expected):
    monkeypatch.chdir(tmp_path)
    save_generator(Path("folder"), trained(digits, SPECS["unet"]))
    Path("set.safetensors").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["distillkit", "sample", "folder", "--out", "set.safetensors", *arguments])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert expected in capsys.readouterr().err
    assert Path("set.safetensors").read_text() == "mine"


def test_sample_overwrites_when_told(digits, tmp_path):
    out = tmp_path / "set.safetensors"
    save_generator(tmp_path / "folder", trained(digits, SPECS["unet"]))
    out.write_text("mine")
    draw_set(tmp_path / "folder", out, 1, {"steps": 1}, 0, overwrite=True)
    assert len(load_synthetic(out)[0]) == 10


def untrained(spec, shape=(1, 8, 8)):

    autoencoder = None if spec.autoencoder is None else new_autoencoder(spec.autoencoder, shape, seed=2)
    return ImageGenerator(spec, shape, 10, new_denoiser(spec, shape, 10, seed=1), autoencoder)


def recorded(fits):
    """To the end, and each fit is put into a list."""

    def finish(work, name):
        fits.append(work)
        while work.done < work.steps:
            work.advance()

    return finish


def weights(generator):
    found = list(generator.denoiser.parameters())
    return found if generator.autoencoder is None else [*found, *generator.autoencoder.parameters()]


def trained(digits, spec):
    generator = untrained(spec)
    generator.denoiser.requires_grad_(False)
    statistics = Normalisation(torch.tensor([0.25]), torch.tensor([0.5]))
    provenance = {
        "recipe": "made",
        "method": "diffusion",
        "params": {"method": "diffusion", "ipc": 1, "model": plain(spec)},
        "seed": 0,
        "source": {},
        "source_images": {},
    }
    return SavedGenerator(replace(generator, scale=0.75), digits.class_names, statistics, provenance)


def plain(spec):
    return json.loads(json.dumps(asdict(spec)))
