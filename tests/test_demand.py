"""What doctor says a pipeline will take: by hand, and against a stage that was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from live import peak_of
from PIL import Image

from distillkit.base.randomness import seeded
from distillkit.data.files.artifact import save_synthetic
from distillkit.data.images import ImageSet, channel_statistics
from distillkit.estimates.duration import START, in_words, seconds_of
from distillkit.estimates.resources import COPIES, SCATTERED, TENSORS, Images, Job, peaks_of
from distillkit.estimates.speeds import Speeds, speeds_of
from distillkit.matching.distillation import Distillation
from distillkit.matching.method import Material
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.recipes import read_recipe
from distillkit.setup.demands import disk_of
from distillkit.setup.inspection import expected
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import FolderSource
from distillkit.training.trajectories import ExpertRecipe, in_memory, record_expert

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
    """Three shards of two experts with four snapshots of 3x4x9 + 3x4 + 64x10 + 10 float32 numbers, and what they
    recorded of 60 images in three epochs: eleven bytes. Eight scores and the one in use. Of five images in ten classes,
    random ones are in the artifact, in the package and in parquet; learned ones are floats in three places."""
    found = disk_of(PARAMS, Images((3, 8, 8), 10, 60, 20))
    assert found["images"] == 80 * 192
    assert found["experts"] == 6 * (4 * 4 * (3 * 4 * 9 + 3 * 4 + 64 * 10 + 10) + 11 * 3 * 60)
    assert found["scores"] == 9 * 4 * 60
    assert found["sets"] == 60 * 192 + 50 * 192 * (1 + 1 + 2) + 50 * 192 * (4 + 4 + 5)


def test_every_stage_that_takes_much_is_counted():
    few, more = (peaks_of(PARAMS, Images((3, 8, 8), 10, count, 100)) for count in (100, 10_100))
    stages = {"experts", "score", "reference", "distill mtt-ipc5", "evaluate", "evaluate full"}
    assert set(few) == stages
    assert more["distill mtt-ipc5"] - few["distill mtt-ipc5"] == 10_000 * 192, "small splits are kept as bytes"
    floats = 10_000 * 192 * 4
    blocks = 900 * 192 * 4  # of 1,000 images instead of 100
    assert more["reference"] - few["reference"] == floats // 4 + 2 * floats + COPIES * blocks, (
        "as floats, and normalised"
    )


def test_memory_does_not_grow_with_images_that_are_read_by_rows():
    """Except what experts record of each image: eleven bytes an epoch, twice while a shard of two is joined; and, while
    each of two experts trains, its ten probabilities of the last epoch in two bytes."""
    many, more = (peaks_of(PARAMS, Images((3, 64, 64), 10, count, 10_000)) for count in (10**6, 2 * 10**6))
    for stage in ("reference", "evaluate", "evaluate full", "distill mtt-ipc5"):
        assert more[stage] == many[stage] < 1.5 * 2**30, stage
    assert more["experts"] - many["experts"] == 10**6 * (11 * 3 * 2 * 2 + 10 * 2 * 2)


@pytest.mark.parametrize(
    ("side", "stored", "trained", "sets", "learned"),
    [
        # 1,331,167 images of 3x64x64; four snapshots of 4,097,120 numbers and 33 bytes an image, six times; of 5,000
        # images, 4 bytes a value of random ones and 13 of learned ones; in memory 14 floats a value of learned ones
        (64, 16_357_380_096, 646_994_586, 1_044_480_000, 3_440_640_000),
        # of 3x224x224; 50,177,120 numbers; parquet has a preview, but no values: 3 bytes and 9
        (224, 200_377_906_176, 5_070_674_586, 9_031_680_000, 42_147_840_000),
    ],
)
def test_imagenet_by_hand(side, stored, trained, sets, learned):
    """1,281,167 training and 50,000 test images of 1,000 classes. The full set refers to the source."""
    images = Images((3, side, side), 1000, 1_281_167, 50_000)
    disk, peaks = disk_of(PARAMS, images), peaks_of(PARAMS, images)
    assert disk == {"images": stored, "experts": trained, "scores": 46_122_012, "sets": sets}
    rest = peaks_of(PARAMS, Images((3, side, side), 1000, 2, 2))["distill mtt-ipc5"] - 4 * 3 * side**2
    assert peaks["distill mtt-ipc5"] == rest and learned < rest < learned + 5e9, "no image of the source is held"


def test_time_by_hand():
    """At 100 images a second of experts, 50 of evaluation, 40 of one network, 20 of a student; 600 training images and
    300 to test.

    Three shards of two experts show 3 epochs: 3600 images in all. Three networks take 5 updates of 10 images, and test
    300 images, and 9 times for the curve, each as a third of a training step. The student of mtt sees 4 batches of 20
    images in 7 steps.
    """
    found = seconds_of(PARAMS, Images((3, 8, 8), 10, 600, 300), Speeds(100, 50, 40, 20))
    assert found["experts"] == pytest.approx(3 * START + 3 * 3600 / 100)
    assert found["reference"] == pytest.approx(START + 3 * (50 + 300 / 3) / 50)
    assert found["evaluate mtt-ipc5"] == pytest.approx(START + 3 * (50 + 300 / 3 + 9 * 300 / 3) / 50)
    assert found["distill random-ipc5"] == START
    assert found["distill mtt-ipc5"] == pytest.approx(START + 7 * 4 * 20 / 20)
    assert [in_words(seconds) for seconds in (59, 600, 7200, 400_000, 90 * 86400)] == [
        "59 s", "10 min", "2 h", "4.6 days", "90 days",
    ]  # fmt: skip


def test_measured_steps_are_of_the_network_and_the_size(monkeypatch):
    """More images of a smaller size in a second, whatever this machine does beside."""
    monkeypatch.setattr("distillkit.estimates.speeds.SECONDS", 0.1)
    small, large = (speeds_of(PARAMS, Images((3, side, side), 10, 600, 300)) for side in (8, 96))
    assert small.experts > 3 * large.experts and small.evaluation > 3 * large.evaluation


def test_copies_of_a_set_that_is_learned(tmp_path):
    """What the tensors of a distillation take more for six images of every class than for two, in copies of those."""
    spec, names = NetworkSpec("convnet", "batch", depth=1, width=4), tuple(map(str, range(100)))
    recipe = read_recipe(PARAMS, "mtt-ipc5")
    optim = replace(recipe.optim, steps=2)

    def distilled(ipc):
        pixels = torch.randint(256, (100 * ipc, 3, 32, 32), dtype=torch.uint8, generator=seeded(0))
        real = ImageSet(pixels, torch.arange(100 * ipc) % 100, names)
        statistics = channel_statistics(real.images)
        expert = record_expert(real, statistics, ExpertRecipe(spec, epochs=3, batch=50, lr=0.01), seeded(0))
        material = Material(real, statistics, experts=in_memory(spec, [expert]))
        method = replace(recipe.method, ipc=ipc)
        return lambda: distil(method, material)

    def distil(method, material):
        run = Distillation(method, method.init(material, seeded(0)), material, optim, seeded(0))
        assert len(list(run)) == 2
        save_synthetic(tmp_path / "set.safetensors", run.result(), {})

    two, six = (peak_of(distilled(ipc)).bytes for ipc in (2, 6))
    assert (six - two) / (4 * 100 * 4 * 3 * 32 * 32) == pytest.approx(TENSORS, abs=0.1)


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
    for found, wanted in [
        *zip(estimated, measured, strict=True),
        (estimated[1] - estimated[0], measured[1] - measured[0]),
    ]:
        assert 1 / 1.6 < found / wanted < 1.6, (estimated, measured)
    assert estimated[1] - estimated[0] > SCATTERED * 250e6


CLASSES, SIZES = 1000, [(375, 500), (400, 400), (500, 333), (281, 450), (240, 390)]  # height, width


def write_classes(folder, classes):
    """Two or three JPEGs a class, of many sizes around 400 pixels, each class of a colour of its own."""
    for label in range(classes):
        colour = colour_of(label)
        place = folder / "images" / f"n{label:08d}"
        place.mkdir(parents=True)
        for number in range(2 + label % 2):
            height, width = SIZES[(label + number) % len(SIZES)]
            Image.new("RGB", (width, height), tuple(level + number for level in colour)).save(place / f"{number}.jpg")


def colour_of(label):
    """The digits of a class's number as red, green and blue."""
    return [25 * (label // 10**place % 10) + 10 for place in range(3)]


@pytest.mark.slow
def test_a_thousand_classes_of_many_sizes_are_fetched(tmp_path):
    """2,500 images, of each class one to test, resized to 64; what the source says before is what came of it."""
    write_classes(tmp_path, CLASSES)
    spec = DataSpec(FolderSource(path=str(tmp_path / "images"), train_split="."), size=(64, 64))
    data = fetch(spec, folder=tmp_path)
    assert expected(spec, tmp_path) == Images((3, 64, 64), 1000, 1500, 1000)
    assert data.train.images.shape == (1500, 3, 64, 64) and data.test.images.shape == (1000, 3, 64, 64)
    assert data.train.class_counts == [1, 2] * 500 and data.test.class_counts == [1] * 1000
    assert data.train.class_names == tuple(f"n{label:08d}" for label in range(1000))
    for split in (data.train, data.test):
        found = 255 * split.pixels().mean((2, 3))
        wanted = torch.tensor([colour_of(label) for label in split.labels.tolist()])
        assert (found - wanted).abs().max() < 6, "an image is under its own class"


def test_a_handful_at_224(tmp_path):
    write_classes(tmp_path, 4)
    source = FolderSource(path=str(tmp_path / "images"), train_split=".")
    data = fetch(DataSpec(source, size=(224, 224)), folder=tmp_path)
    assert data.train.images.shape == (6, 3, 224, 224) and data.test.class_counts == [1] * 4
