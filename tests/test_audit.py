"""The audit: its formulas by hand, its verdict where the truth is known, and shadow sets that see one half only."""

import json
import math
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from marks import long
from packages import digits_data
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from test_pipeline import MATCHING, OPTIM, PARAMS, SELMATCH

from distillkit.audit import result, shadows
from distillkit.audit.audit import attack_on
from distillkit.audit.bounds import bounds_of
from distillkit.audit.likelihood import calibrated, copy_evidence, gaussian_evidence, log_odds, most_exposed, shrunk
from distillkit.audit.records import HALF_LEVEL, Observed, alignments, confidences, distances, logit_margin
from distillkit.audit.roc import beats_chance, measured, ranked, rates
from distillkit.audit.shadows import Pipeline, half_of, make_from, read_pipeline, restricted, shadow_sets
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.base.files import write_json
from distillkit.base.randomness import seeded
from distillkit.cli import cli
from distillkit.data.files.artifact import save_synthetic
from distillkit.data.files.real_images import save_real
from distillkit.data.images import ImageSet, RealData, channel_statistics, made_set, real_subset
from distillkit.data.rows import to_pixels
from distillkit.pipeline.checks import check_facts, check_params
from distillkit.process.interruption import Interrupted
from distillkit.training.compute import Compute

DIFFUSION = {
    "method": "diffusion",
    "ipc": 1,
    "model": {
        "network": {"kind": "unet", "widths": [8], "layers": 1},
        "training": {"steps": 4, "batch": 8, "lr": 0.01},
    },
    "sampling": {"steps": 2},
}
RECIPES = {
    "random": {"method": "random", "ipc": 1},
    "selmatch": {**SELMATCH, "matching": MATCHING, "optim": OPTIM},
    "dm": {"method": "dm", "ipc": 1, "optim": {"steps": 2, "image_lr": 1}},
    "diffusion": DIFFUSION,
    "imported": {"method": "imported", "ipc": 1, "file": "mine.safetensors", "sha256": "0" * 64},
}


def parameters(**changes) -> dict:
    return {**PARAMS, "recipes": RECIPES, "expert_shards": [0], **changes}


@pytest.fixture(scope="module")
def source() -> RealData:
    """Eight digits a class to train, thirty to test."""
    return digits_data()


def pairs(score: list[float], member: list[bool]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    scores, members = torch.tensor([score], dtype=torch.float64), torch.tensor([member])
    return scores, members, torch.ones_like(members)


# The likelihood ratio


def test_a_ratio_by_hand():
    """In: 3, 5. Out: 0, 2. Attacked: 6. So b = 1, δ = 3, σ² = (2 + 2) / 2 = 2, as two normal densities have it."""
    statistic = torch.tensor([[3.0], [5.0], [0.0], [2.0], [6.0]])
    member = torch.tensor([[True], [True], [False], [False], [True]])
    found = gaussian_evidence(statistic, member)
    assert found.score_MN[4].item() == pytest.approx(5.25)
    assert found.score_MN[4].item() == pytest.approx(norm(4, math.sqrt(2)).logpdf(6) - norm(1, math.sqrt(2)).logpdf(6))
    assert found.exposure_MN[4].item() == pytest.approx(9 / 2)


def test_an_attacker_does_not_look_at_the_truth_of_the_attacked_set():
    generator = seeded(0)
    statistic, member = torch.randn(6, 40, generator=generator), torch.rand(6, 40, generator=generator) < 0.5
    copied = torch.rand(6, 40, generator=generator) < 0.2
    other = member.clone()
    other[2] = ~other[2]
    for judge, seen in (
        (gaussian_evidence, statistic),
        (copy_evidence, copied),
        (lambda s, m: calibrated(gaussian_evidence, s, m), statistic),
    ):
        one, two = judge(seen, member), judge(seen, other)
        for before, after in zip(one, two, strict=True):
            assert torch.equal(before[2], after[2])
            assert not torch.equal(before[3], after[3]), "others learn from it"


def test_missing_and_constant_values_say_nothing():
    statistic = torch.randn(5, 3, generator=seeded(1))
    statistic[4, 0] = torch.nan
    member = torch.rand(5, 3, generator=seeded(2)) < 0.5
    found = gaussian_evidence(statistic, member)
    assert found.score_MN[4, 0] == 0 and (found.score_MN[4, 1:] != 0).all() and found.score_MN.isfinite().all()
    assert (gaussian_evidence(torch.ones(5, 3), member).score_MN == 0).all()


def test_own_shifts_are_drawn_to_their_mean_by_as_much_as_they_are_noise():
    """Shifts 1 and 3, noise 1/2 each: g = 2, τ² = 1 − 1/2, so half of each distance to g remains."""
    shift, noise = torch.tensor([1.0, 3.0, 100.0]).double(), torch.tensor([0.5, 0.5, torch.inf]).double()
    assert shrunk(shift, noise).tolist() == pytest.approx([1.5, 2.5, 2.0])


def test_evidence_of_copies_by_hand():
    """For the third set: in, 1 copy of 2; out, 0 of 2; with half a case more each: rates 1.5/3 and 0.5/3."""
    copied = torch.tensor([[True, False], [False, False], [True, False]])
    member = torch.tensor([[True, False], [False, True], [False, False]])
    assert copy_evidence(copied, member).score_MN[2].tolist() == pytest.approx([math.log(3), math.log(0.5 / (2.5 / 3))])


def test_log_odds_never_fall_and_pool_what_would():
    import numpy as np

    found = log_odds(np.array([3.0, 0, 1, 2]), np.array([True, False, False, True]), np.array([-9.0, 1, 2, 9]))
    assert found.tolist() == pytest.approx([math.log(0.2), math.log(0.2), math.log(5), math.log(5)])
    assert log_odds(np.array([0.0, 1]), np.array([True, False]), np.array([0.0, 1])).tolist() == [0, 0]


def test_most_exposed_is_a_share_of_each_set():
    chosen = most_exposed(torch.tensor([[3.0, 1, 2, 0], [0.0, 0, 0, 9]]), 0.26)
    assert chosen.tolist() == [[True, False, True, False], [True, False, False, True]]


# Rates and their errors


def test_area_and_rates_by_hand_and_by_scikit_learn():
    found = ranked(*pairs([5, 4, 4, 3, 2, 1], [True, True, False, False, True, False]))
    given = rates(found, torch.ones(6).numpy())
    assert given["auc"] == pytest.approx((1.5 + 2 + 3) / 9 + 0)
    assert given["auc"] == pytest.approx(roc_auc_score([1, 1, 0, 0, 1, 0], [5, 4, 4, 3, 2, 1]))
    assert given["tpr_at_1_in_100"] == pytest.approx(1 / 3 + 0.01 * 3 * 1 / 3), "on the line of the tie from 0 to 1/3"


def test_ties_are_chance():
    given = rates(ranked(*pairs([1] * 400, [True, False] * 200)), torch.ones(400).numpy())
    assert given == pytest.approx({"auc": 0.5, "tpr_at_1_in_100": 0.01, "tpr_at_1_in_1000": 0.001})


def test_a_rate_of_less_than_one_non_member_is_left_out():
    found = measured(*pairs(list(range(200)), [False] * 100 + [True] * 100), seed=0)
    assert found["non_members"] == 100 and found["tpr_at_1_in_100"]["value"] == 1 and "tpr_at_1_in_1000" not in found
    assert measured(*pairs([1, 2], [True, True]), seed=0) == {"members": 2, "non_members": 0}


def test_the_error_is_that_of_theory():
    """One set, no signal: the area's deviation is sqrt((n + m + 1) / (12 n m)) (Mann and Whitney)."""
    score = torch.rand(2000, generator=seeded(3)).tolist()
    found = measured(*pairs(score, [True] * 1000 + [False] * 1000), seed=0)["auc"]
    assert found["standard_error"] == pytest.approx(math.sqrt(2001 / 12e6), rel=0.15)
    assert abs(found["value"] - 0.5) < 3 * found["standard_error"]


def test_better_than_chance_is_three_errors():
    part = {"auc": {"value": 0.53, "standard_error": 0.0101}}
    assert not beats_chance(part) and beats_chance({"auc": {"value": 0.53, "standard_error": 0.0099}})
    assert beats_chance({**part, "tpr_at_1_in_1000": {"value": 0.005, "standard_error": 0.001}})


# What is seen of a record


def digit_set(*rows: tuple[float, float], labels: list[int]) -> ImageSet:
    return ImageSet(torch.tensor(rows).view(-1, 1, 1, 2), torch.tensor(labels), ("a", "b", "c"))


def test_distances_and_alignments_by_hand():
    records = digit_set((0.0, 0.0), (0.2, 0.4), (0.5, 0.5), (0.9, 0.1), labels=[0, 0, 1, 2])
    chosen = digit_set((0.0, 0.2), (0.4, 0.4), (0.5, 0.5), labels=[0, 0, 1])
    synthetic = real_subset(chosen, torch.arange(3), channel_statistics(chosen.images))
    found = distances(synthetic, records).tolist()
    assert found == pytest.approx([math.sqrt(0.04 / 2), math.sqrt(0.04 / 2), 0, math.inf])
    # class a: μ = (.1, .2), mean of the set (.2, .3): (−.1, −.2)·(.1, .1) / 2 and (.1, .2)·(.1, .1) / 2
    found = alignments(synthetic, records).tolist()
    assert found[:3] == pytest.approx([-0.015, 0.015, 0], abs=1e-7) and math.isnan(found[3])


def test_the_margin_is_the_logit_of_the_probability():
    logits, labels = torch.randn(5, 4, generator=seeded(4)), torch.tensor([0, 1, 2, 3, 0])
    p = logits.double().softmax(1)[torch.arange(5), labels]
    assert torch.allclose(logit_margin(logits, labels), p.log() - (1 - p).log())
    assert logit_margin(torch.tensor([[1e3, -1e3]]), torch.tensor([0])).tolist() == [2000]


def test_networks_are_surer_of_what_they_were_trained_on(source):
    pipeline = read_pipeline(parameters(), "random")
    evaluation = replace(pipeline.evaluation, training=replace(pipeline.evaluation.training, steps=60))
    rows = half_of(source.train.labels, 10, seeded(5))
    synthetic = real_subset(source.train, rows, source.normalisation)
    found = confidences(synthetic, source.train, evaluation, seeded(6), Compute())
    inside = torch.zeros(80, dtype=torch.bool)
    inside[rows] = True
    assert found.shape == (80,) and found[inside].mean() > found[~inside].mean() + 1


# Shadow sets


def test_halves():
    labels = torch.tensor([0] * 8 + [1] * 5)
    counts = [torch.bincount(labels[half_of(labels, 2, seeded(seed))]).tolist() for seed in range(20)]
    assert {zero for zero, _ in counts} == {4} and {one for _, one in counts} == {2, 3}
    rows = [half_of(labels, 2, seeded(seed)) for seed in range(400)]
    share = torch.stack([torch.zeros(13).scatter(0, own, 1.0) for own in rows]).mean(0)
    assert ((share - 0.5).abs() < 0.1).all(), "four deviations: each record is in about half"


@pytest.mark.parametrize("name", ["random", "selmatch", "dm", "diffusion"])
def test_a_shadow_set_depends_on_its_half_only(source, tmp_path, name):
    """All that is not in the half is turned upside down: pixels, and so statistics, experts, difficulty, generators."""
    if name == "diffusion":
        pytest.importorskip("diffusers")
    pipeline, rows = read_pipeline(parameters(), name), half_of(source.train.labels, 10, seeded(7))
    images = 255 - source.train.images
    images[rows] = source.train.images[rows]
    train = ImageSet(images, source.train.labels, source.train.class_names)
    other = replace(source, train=train, normalisation=channel_statistics(images))
    made = [make_from(pipeline, given, rows, 1, tmp_path / str(place)) for place, given in enumerate((source, other))]
    assert torch.equal(made[0].images, made[1].images) and torch.equal(made[0].source_row, made[1].source_row)
    assert torch.equal(made[0].normalisation.mean, made[1].normalisation.mean)
    again = make_from(pipeline, other, torch.arange(80), 1, tmp_path / "all")
    assert again.images.shape == made[0].images.shape and not torch.equal(again.images, made[0].images)


def test_a_half_is_whitened_by_itself():
    from distillkit.sources.fetch import ZCA

    whole = digits_data(ZCA("zca", eps=0.3))
    rows = half_of(whole.train.labels, 10, seeded(8))
    half = restricted(whole, rows)
    from distillkit.data.whitening import zca

    assert torch.equal(half.normalisation.whitening.scale_D, zca(whole.train.images[rows], 0.3).scale_D)
    assert torch.equal(half.normalisation.mean, channel_statistics(whole.train.images[rows]).mean)


def test_random_images_are_found_and_done_sets_are_kept(source, tmp_path, monkeypatch):
    pipeline = read_pipeline(parameters(), "random")
    done = []
    make = shadows.one_shadow

    def one_shadow(*given):
        if len(done) == 3:
            raise Interrupted
        done.append(make(*given))
        return done[-1]

    monkeypatch.setattr(shadows, "one_shadow", one_shadow)
    with pytest.raises(Interrupted):
        shadow_sets(pipeline, source, 4, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"shadow-{number}.safetensors" for number in range(3)]
    monkeypatch.setattr(shadows, "one_shadow", make)
    found = shadow_sets(pipeline, source, 4, tmp_path)
    for kept, made in zip(found, done, strict=False):
        assert all(torch.equal(*parts) or parts[0].isnan().any() for parts in zip(kept, made, strict=True))
    for observed in found:
        assert observed.member.sum() == 40 and (observed.used <= observed.member).all() and observed.used.sum() == 10
        assert torch.equal(observed.used, observed.copied), "random images are copies, others are not"
    attack = attack_on(found)
    assert attack["used"]["auc"]["value"] == attack["used"]["tpr_at_1_in_100"]["value"] == 1
    assert attack["random"]["tpr_at_1_in_100"]["value"] == pytest.approx(0.25, abs=0.02), (
        "a quarter of each half is used"
    )
    assert attack["better_than_chance"]


def simulated(effect: float, seed: int, sets: int = 12, records: int = 300) -> list[Observed]:
    """Sets whose statistics move by ``effect`` deviations where a record is in; records and sets differ anyway."""
    generator = seeded(seed)
    own = torch.randn(3, 1, records, generator=generator)
    found = []
    for _ in range(sets):
        member = torch.zeros(records, dtype=torch.bool)
        member[torch.randperm(records, generator=generator)[: records // 2]] = True
        noise, level = torch.randn(3, records, generator=generator), torch.randn(3, 1, generator=generator)
        statistics = own[:, 0] + 0.5 * noise + level
        statistics[0] += 0.5 * effect * member
        nothing = torch.zeros_like(member)
        found.append(Observed(member, nothing, nothing, *statistics.double()))
    return found


@pytest.mark.parametrize("seeds", [3, long(8)])
def test_nothing_is_found_where_nothing_is(seeds):
    attacks = [attack_on(simulated(0, seed)) for seed in range(seeds)]
    assert not any(attack["better_than_chance"] for attack in attacks)
    z = [(a["random"]["auc"]["value"] - 0.5) / a["random"]["auc"]["standard_error"] for a in attacks]
    assert max(map(abs, z)) < 3 and abs(sum(z)) / math.sqrt(len(z)) < 3


def test_a_small_effect_is_found_as_well_as_can_be():
    """Half a deviation of one statistic: no attack has more than AUC Φ(0.5 / √2) = 0.638, whose b and δ are known."""
    attack = attack_on(simulated(0.5, 0, sets=16))
    assert attack["better_than_chance"] and 0.6 < attack["random"]["auc"]["value"] < 0.638
    assert attack["by"]["distance"]["auc"] > 0.6 > 0.53 > attack["by"]["confidence"]["auc"]
    assert attack["random"]["non_members"] == 16 * 150 and attack["exposed"]["non_members"] < 16 * 30


def test_a_class_too_small_for_half_is_told(source):
    pipeline = read_pipeline(parameters(recipes={"random": {"method": "random", "ipc": 5}}), "random")
    with pytest.raises(
        ParamsError, match=r"^an audit makes sets from half of .*: ipc is 5, but class '0' has 4 .*; lower"
    ):
        shadow_sets(pipeline, source, 4, Path("nowhere"))
    counts = dict.fromkeys("ab", 8)
    data = {"recipes": {"random": {"method": "random", "ipc": 5}}}
    check_facts({**data, "audit": {"recipes": []}}, (1, 8, 8), counts)
    with pytest.raises(ParamsError, match=r"^params.yaml: recipes.random: an audit makes sets from half of .*: ipc is"):
        check_facts({**data, "audit": {"recipes": ["random"]}}, (1, 8, 8), counts)


# Without shadow sets


def test_bounds_of_copies_and_of_noise(source):
    rows = torch.arange(0, 80, 8)
    copies = bounds_of(real_subset(source.train, rows, source.normalisation), source)
    assert (copies["images"], copies["copies"], copies["near_copies"]) == (10, 10, 10)
    assert copies["source_copied"] == 0.125 and copies["distance"]["set"] == 0 < copies["distance"]["test"]
    assert copies["attack"]["non_members"] == 300 and copies["attack"]["tpr_at_1_in_100"]["value"] >= 0.125
    noise = bounds_of(
        made_set(torch.rand(10, 1, 8, 8, generator=seeded(9)), source.train.class_names, source.normalisation), source
    )
    assert (noise["copies"], noise["near_copies"], noise["source_copied"]) == (0, 0, 0)
    assert not noise["attack"]["better_than_chance"]


def test_a_near_copy_is_nearer_than_test_images_are(source):
    pixels = to_pixels(source.train.images[:4])
    moved = replace(
        real_subset(source.train, torch.arange(4), source.normalisation),
        images=pixels + torch.tensor([0, HALF_LEVEL / 2, 0.02, 0.5]).view(4, 1, 1, 1),
    )
    found = bounds_of(moved, source)
    assert (found["copies"], found["near_copies"]) == (2, 3)


# Parameters


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"recipes": ["randon"], "shadows": 4}, "recipe 'randon' should be audited, but does not exist (did you mean"),
        ({"recipes": ["random", "random"]}, "recipes to audit are random, random; expected each once; remove"),
        ({"shadows": 3}, "audit.shadows is 3; expected 0 for none, or at least 4"),
        ({"recipes": ["imported"]}, "the set of recipe imported was made elsewhere; expected one that can be made"),
        ({"recipes": 3}, "audit.recipes is 3; expected a list"),
        ({"recipe": []}, "audit.recipe is not a parameter (did you mean 'recipes'?); expected recipes, shadows"),
    ],
)
def test_mistakes_in_params_are_told_first(audit, message):
    with pytest.raises(ParamsError) as caught:
        check_params(parameters(audit=audit, package={"name": "tiny", "default": "random"}))
    assert message in str(caught.value) and str(caught.value).startswith("params.yaml: ")


def test_bounds_of_an_imported_set_can_be_asked_for():
    good = {"recipes": ["imported"], "shadows": 0}
    check_params(parameters(audit=good, package={"name": "tiny", "default": "random"}))


# The stage, the command, and what people read


@pytest.fixture(scope="module")
def folder(tmp_path_factory, source) -> Path:
    """A pipeline's folder with the set of a recipe."""
    from distillkit.data.files.artifact import provenance_of

    folder = tmp_path_factory.mktemp("audited")
    data = parameters(audit={"recipes": ["random"], "shadows": 4}, package={"name": "tiny", "default": "random"})
    (folder / "params.yaml").write_text(json.dumps(data))
    save_real(folder / "real.safetensors", source)
    made = make_from(read_pipeline(data, "random"), source, torch.arange(80), 0, folder / "work")
    provenance = provenance_of("random", "random", RECIPES["random"], 0, source)
    save_synthetic(folder / "random.safetensors", made, provenance)
    return folder


def test_stage_and_command_find_the_same(folder, monkeypatch):
    monkeypatch.chdir(folder)
    stage = runpy.run_path(str(Path(__file__).parents[1] / "stages/audit.py"))["audit"]
    ran = CliRunner().invoke(stage, ["random", "real.safetensors", "random.safetensors", "metrics/audit/random.json"])
    assert ran.exit_code == 0, ran.output
    assert not any(Path(".distillkit/work").iterdir()), "unfinished work goes when it is finished"
    text = Path("metrics/audit/random.json").read_text()
    found = CliRunner().invoke(cli, ["audit", "random.safetensors", "--shadows", "4", "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout) == json.loads(text)
    assert json.loads(text)["set"]["copies"] == 10 and json.loads(text)["attack"]["better_than_chance"]
    assert result.read_audits(Path("metrics"), {"full": {}, "random": {}}).keys() == {"random"}
    bounds = CliRunner().invoke(cli, ["audit", "random.safetensors", "--source", "real.safetensors"])
    assert "random: Of 10 images, 10 are copies of a training image, and 0 more are nearer" in bounds.stdout
    assert "--shadows 16 makes 16 new sets" in bounds.stdout


def test_mistakes_in_the_command(folder, monkeypatch, tmp_path, first):
    monkeypatch.chdir(folder)
    few = tmp_path / "few.safetensors"
    save_real(few, digits_few())
    for arguments, message in {
        (
            "random.safetensors",
            "random",
        ): "RECIPE is 'random', but random.safetensors is a single artifact; drop RECIPE",
        (
            "random.safetensors",
            "--source",
            str(few),
        ): "random.safetensors names training image .*, but the source has 20;",
        (str(first), "--shadows", "4"): "does not record 'seed', on which its sets depend; .*; use --shadows 0",
    }.items():
        ran = CliRunner().invoke(cli, ["audit", *arguments])
        assert ran.exit_code == 1 and re.search(message, str(ran.exception)), ran.exception


def digits_few() -> RealData:
    whole = digits_data()
    rows = torch.cat([(whole.train.labels == label).nonzero()[:2, 0] for label in range(10)])
    return replace(whole, train=whole.train.take(rows))


def test_a_package_is_audited_against_its_recorded_source(first):
    ran = CliRunner().invoke(cli, ["audit", str(first), "random-ipc1", "--json"])
    assert ran.exit_code == 0, ran.output
    found = json.loads(ran.stdout)
    assert found["recipe"] == "random-ipc1" and found["set"]["copies"] == found["set"]["images"] == 10
    assert found["set"]["attack"]["better_than_chance"] is True and "attack" not in found


def outcome(better: bool, shadow_sets: bool = True) -> dict:
    part = {"value": 0.25, "standard_error": 0.01}
    group = {"members": 9, "non_members": 9, "auc": part, "tpr_at_1_in_100": part, "tpr_at_1_in_1000": part}
    held = {"images": 10, "copies": 1, "near_copies": 3, "source_copied": 0.1, "distance": {"set": 0.1, "test": 0.2}}
    found = {"recipe": "mine", "set": {**held, "attack": {**group, "better_than_chance": better}}}
    attack = {"shadows": 16, "records": 9, "better_than_chance": better, "by": {}}
    attack |= dict.fromkeys(("random", "exposed", "used"), group)
    return found | ({"attack": attack} if shadow_sets else {})


@pytest.mark.parametrize("shadow_sets", [True, False])
@pytest.mark.parametrize("better", [True, False])
def test_no_result_calls_a_set_private(better, shadow_sets):
    """Nor safe, nor anonymous: whatever was found, what was not found is no proof."""
    found = outcome(better, shadow_sets)
    words = " ".join([result.audit_words(found), *result.lines(found), *result.table_row(found)])
    assert not re.search(r"\b(private|privacy|safe|anonymous|protect\w*)\b", words)
    assert better or "not prove that the set reveals nothing" in words
    assert ("better than chance" in words) and (better != ("not do" in words or "not measurably" in words))


def test_words_by_hand():
    assert result.audit_words(outcome(True)) == (
        "Membership inference did better than chance: it recognised 25.0 ± 1.0 % of the images that a set was made "
        "from, and 25.0 ± 1.0 % of the most exposed, with 1 % false positives (AUC 0.250 ± 0.010, 16 shadow "
        "sets)."
    )
    cells = ["mine", "1 of 10", "0.250 ± 0.010", *["25.0 ± 1.0"] * 4, "yes"]
    assert result.table_row(outcome(True)) == cells and len(cells) == len(result.COLUMNS)


@pytest.mark.parametrize("text", ["[]", "{}", "x", '{"recipe": "a", "set": {}}'])
def test_a_file_that_is_no_result(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"a.json is no.*; run its audit stage again$"):
        result.read_audit(tmp_path / "a.json")


def test_results_can_be_read_back(tmp_path):
    write_json(tmp_path / "audit/mine.json", outcome(True))
    assert result.read_audits(tmp_path, {"mine": {}, "other": {}}) == {"mine": outcome(True)}


def test_pipeline_is_read_from_params():
    found = read_pipeline(parameters(), "selmatch")
    assert isinstance(found, Pipeline) and found.evaluation.runs == shadows.NETWORKS and found.shards == [0]


@pytest.mark.long
def test_rows_of_the_benchmark_are_joined_with_those_of_the_file(tmp_path, monkeypatch):
    """Each says by what it was measured; with --resume those stay that would be measured so again, and no others."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    benchmark = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks/audit.py"))
    done, out = [], tmp_path / "found.json"

    def measure(name, source, data, ipc, shadows, kept):
        done.append(name)
        return {"row": name, **outcome(True), **benchmark["conditions"](data["seed"], shadows), "cpu_s": 1}

    benchmark["main"].callback.__globals__["measure"] = measure

    def run(*options: str) -> list[tuple[str, int]]:
        done.clear()
        ran = CliRunner().invoke(benchmark["main"], ["--out", str(out), *options])
        assert ran.exit_code == 0, ran.output
        return [(row["row"], row["shadows"]) for row in json.loads(out.read_text())["results"]]

    assert run("--only", "dm", "--only", "noise") == [("noise", 16), ("dm", 16)] and done == ["dm", "noise"]
    assert run("--only", "dm", "--shadows", "4") == [("noise", 16), ("dm", 4)]
    assert ("diffusion", 8) in run("--resume") and "noise" not in done and done.count("dm") == 1 and len(done) == 8
    run("--resume")
    assert done == []
    edited = json.loads(out.read_text())
    edited["results"][0]["versions"]["torch"] = "1.0"
    out.write_text(json.dumps(edited))
    run("--resume")
    assert done == ["noise"]
    ran = CliRunner().invoke(benchmark["main"], ["--out", str(out), "--ipc", "1"])
    assert ran.exit_code and "found.json has rows of other sets" in str(ran.exception)


@pytest.mark.slow
def test_the_benchmark_finds_members_and_nothing_in_noise(tmp_path):
    script, out = Path(__file__).parents[1] / "benchmarks/audit.py", tmp_path / "found.json"
    only = ("--only", "noise", "--only", "random", "--shadows", "4", "--kept", str(tmp_path / "kept"))
    subprocess.run([sys.executable, script, *only, "--out", out], check=True)
    noise, random = json.loads(out.read_text())["results"]
    assert not noise["attack"]["better_than_chance"] and noise["set"]["near_copies"] == 0
    assert random["attack"]["used"]["tpr_at_1_in_1000"]["value"] == 1 and random["set"]["copies"] == 50
