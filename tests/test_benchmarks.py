"""The benchmarks' arithmetic, by hand, and (slow) one toy run of each: speed itself is never asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
CONDITIONS = {"benchmark", "command", "device", "threads", "tf32_convolutions", "versions"}
POINT = {"case", "network", "unit", "flop_per_unit", "ceiling_gflops", "variants"}
VARIANT = {
    *("implementation", "allocator", "precision", "prepare_s", "first_run_s", "runs_per_round", "s_per_unit"),
    *("best_s_per_unit", "median_s_per_unit", "units_per_s", "ratio", "ratio_to_plain"),
    *("fraction_of_ceiling", "executed_fraction"),
}
SETTINGS = {"experts": [], "evaluation": [], "distillation": ["--sweep"]}
OURS = {"experts": "compiled bf16", "evaluation": "compiled bf16", "distillation": "compiled"}


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import harness

    return harness


def test_ratio_of_best_rounds_and_median_of_pairs(harness):
    found = harness.ratio([4.0, 9.0, 6.0], [2.0, 3.0, 12.0])
    assert found.best == 4.0 / 2.0
    assert found.median == 2.0  # of 4/2, 9/3, 6/12


def test_expected_peak_is_on_the_line_through_the_two_longest_runs(harness):
    assert harness.expected_peak({}, 40) == 0
    assert harness.expected_peak({5: 100}, 10) == 200
    assert harness.expected_peak({5: 0, 10: 500, 20: 800}, 40) == 1400


def test_flop_are_those_of_the_formulas(harness):
    """One block of width 4 on 3x8x8, a linear layer from 4x4x4 to 10; an image's forward is F = conv + linear.

    Training: forward and weight gradient of both, image gradient of the linear layer only. Each of these products has
    two factors to differentiate, so an unrolled step with its graph kept is three times that.
    """
    import ceiling
    from cases import DistillationCase, ExpertsCase

    convolution, linear = 2 * 4 * 3 * 9 * 64, 2 * 64 * 10
    training = 2 * convolution + 3 * linear
    sizes = {"width": 4, "depth": 1, "side": 8}
    assert ceiling.flop_per_unit(ExpertsCase(images=32, **sizes)) == training
    unroll = DistillationCase(batch=10, **sizes)
    assert ceiling.training_flop_per_unit(unroll) == 10 * training
    assert ceiling.flop_per_unit(unroll) == 3 * 10 * training


@pytest.mark.long
def test_a_worker_that_dies_says_why(harness):
    import torch
    from cases import ExpertsCase

    case, variant = ExpertsCase(images=32), harness.Variant("nobody's", "plain")
    with pytest.raises(harness.WorkerError, match=r"(?s)the worker of experts, nobody's plain ended \(1\).*KeyError"):
        harness.peak_memory("experts", case, variant, torch.device("cpu"))


def test_the_command_is_recorded_without_where_its_file_went(harness):
    import record

    arguments = [
        "/somewhere/benchmarks/experts.py",
        "--rounds",
        "2",
        "--data",
        "/over/there",
        "--out",
        "/elsewhere/x.json",
        "--quick",
    ]
    assert record.command(arguments) == "python benchmarks/experts.py --rounds 2 --data there --quick"


def toy_run(name: str, out: Path, *arguments: str) -> dict:
    command = [
        sys.executable,
        str(BENCHMARKS / f"{name}.py"),
        "--quick",
        "--rounds",
        "2",
        "--out",
        str(out),
        *arguments,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(text in done.stdout for text in ("| reference plain", "| cold", "peak MB", "| quick"))
    assert str(ROOT) not in out.read_text()
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_toy_run_leaves_the_documented_fields(tmp_path, name):
    found = toy_run(name, tmp_path / "found.json", *SETTINGS[name])
    assert set(found) == CONDITIONS | {"points"}
    for point in found["points"]:
        assert set(point["ceiling_gflops"]) == {"fp32", "bf16"}
        assert set(point) == POINT
        assert {"reference plain", f"{OURS[name]} plain"} <= set(point["variants"])
        for variant in point["variants"].values():
            assert set(variant) == VARIANT
            assert len(variant["s_per_unit"]) == 2
            assert min(variant["s_per_unit"]) == variant["best_s_per_unit"] > 0
        assert point["variants"]["reference plain"]["ratio"] == {"best": 1, "median": 1}
    if name == "distillation":
        assert len(found["points"]) == 2


@pytest.mark.slow
def test_a_toy_memory_run_leaves_the_documented_fields(tmp_path):
    found = toy_run("distillation", tmp_path / "found.json", "--memory")
    assert set(found) == CONDITIONS | {"memory"}
    assert {entry["case"]["steps"] for entry in found["memory"]} == {2, 3}
    assert all(entry["peak_mb"] >= 0 for entry in found["memory"])


@pytest.mark.slow
def test_a_toy_pipeline_leaves_the_documented_fields(tmp_path):
    found = toy_run("pipeline", tmp_path / "found.json", "--rounds", "1")
    assert set(found) == CONDITIONS | {"cold_s", "unchanged_s", "repeats"}
    (repeat,) = found["repeats"]
    assert {"fetch", "experts", "distill", "evaluate", "package"} <= set(repeat["stages_s"])
    assert sum(repeat["stages_s"].values()) == pytest.approx(found["cold_s"], rel=0.01)
    assert set(repeat["cpu_s"]) == {*repeat["stages_s"], "dvc"}
    assert all(repeat["cpu_s"][name] > 0.5 for name in ("experts", "distill", "evaluate", "dvc"))  # all import a lot
    assert found["unchanged_s"] < found["cold_s"]


@pytest.mark.slow
def test_a_toy_demand_leaves_the_documented_fields(tmp_path):
    found = toy_run("demand", tmp_path / "found.json", "--rounds", "1")
    assert set(found) == CONDITIONS | {"cases"}
    stages = found["cases"]["quick"]["stages"]
    assert set(stages) == {"experts", "reference", "distill", "evaluate"}
    for numbers in stages.values():
        assert numbers["ratio"] == pytest.approx(numbers["estimate_mb"] / numbers["measured_mb"], rel=1e-3)


def test_the_estimate_of_demand_is_within_its_factor_of_what_was_measured():
    found = json.loads((BENCHMARKS / "results/demand-cpu.json").read_text())["cases"]
    ratios = [numbers["ratio"] for case in found.values() for numbers in case["stages"].values()]
    assert len(ratios) >= 28 and min(ratios) > 1 / 1.5 and max(ratios) < 1.5
