"""What doctor says a pipeline will take: by hand, and against a stage that was measured."""

from pathlib import Path

import pytest

from distillkit.data.networks import NetworkSpec
from distillkit.setup.resources import SCATTERED, Images, Job, peaks_of, resources_of

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
NETWORK = {"name": "convnet", "depth": 1, "width": 4, "norm": "batch"}
MATCHING = {"student_steps": 4, "student_batch": 20, "expert_epochs": 1, "max_start_epoch": 2}
OPTIM = {"steps": 7, "image_lr": 30, "student_lr_init": 0.05, "student_lr_lr": 0.01}
PARAMS = {
    "data": {"source": {"kind": "folder", "path": "images"}, "size": [8, 8]},
    "expert_shards": [0, 1, 2],
    "experts": {"per_shard": 2, "recipe": {"network": NETWORK, "epochs": 3, "batch": 60, "lr": 0.05}},
    "recipes": {
        "full": {"method": "full"},
        "random-ipc5": {"method": "random", "ipc": 5},
        "mtt-ipc5": {"method": "mtt", "ipc": 5, "matching": MATCHING, "optim": OPTIM},
    },
    "evaluation": {"network": NETWORK, "training": {"steps": 5, "batch": 10, "lr": 0.05}, "runs": 3},
}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import demand

    return demand


def test_a_network_by_hand():
    """Width 4 on 1x8x8: convolution, norm and ReLU give 4x8x8, pooling and flattening 4x4x4, the linear layer 10."""
    job = Job(NetworkSpec("convnet", "batch", depth=1, width=4), Images((1, 8, 8), 10, 0, 0), visits=1)
    assert job.outputs == [1024, 1024, 1024, 256, 256, 40]
    assert job.theta == 4 * (4 * 9 + 4 + 4 + 4 + 64 * 10 + 10)


def test_disk_by_hand():
    """Three shards of two experts with four snapshots of 3x4x9 + 3x4 + 64x10 + 10 float32 numbers."""
    assert resources_of(PARAMS, None).disk == 3 * 2 * 4 * 4 * (3 * 4 * 9 + 3 * 4 + 64 * 10 + 10)


def test_every_stage_that_trains_is_counted_and_images_once_they_are_known():
    few, many = (Images((3, 8, 8), 10, count, 100) for count in (100, 100_000))
    small, large = peaks_of(PARAMS, few), peaks_of(PARAMS, many)
    assert set(small) == {"experts", "reference", "distill mtt-ipc5", "evaluate", "evaluate full"}
    bytes_more = (100_000 - 100) * 3 * 8 * 8
    assert large["distill mtt-ipc5"] - small["distill mtt-ipc5"] == bytes_more, "kept as bytes"
    assert large["reference"] - small["reference"] == bytes_more * (1 + 3 * 4), "and as floats"
    assert resources_of(PARAMS, many).largest == "experts", "where each worker has its own"


@pytest.mark.slow
def test_the_estimate_against_what_a_distillation_takes(benchmark, tmp_path):
    """Two peaks, and what eight kept graphs more take, 300 MB, so that no fixed part hides an error in them."""
    cases = [
        benchmark.Case(images=60, epochs=1, student_batch=50, student_steps=steps, outer_steps=1) for steps in (1, 9)
    ]
    benchmark.peaks(cases[0], tmp_path, ["experts", "score"])
    measured = [benchmark.peaks(case, tmp_path, ["distill"])["distill"] for case in cases]
    images = Images(cases[0].shape, 10, 60, cases[0].test_images)
    estimated = [peaks_of(benchmark.parameters_of(case), images)["distill mtt"] for case in cases]
    for found, expected in [
        *zip(estimated, measured, strict=True),
        (estimated[1] - estimated[0], measured[1] - measured[0]),
    ]:
        assert 1 / 1.6 < found / expected < 1.6, (estimated, measured)
    assert estimated[1] - estimated[0] > SCATTERED * 250e6
