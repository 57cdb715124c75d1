"""Artifacts: what goes in comes out, in the same bytes everywhere; what is damaged or foreign is refused."""

import errno
import hashlib
import json
import math
import os
import re
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from distillkit.base import files
from distillkit.base import files as base_files
from distillkit.base.errors import ArtifactError, DivergedError
from distillkit.base.files import read_csv, write_csv, write_json
from distillkit.base.randomness import seeded
from distillkit.data.files import artifact, container
from distillkit.data.files.real_images import load_real, save_real
from distillkit.data.images import ImageSet, Normalisation, RealData, Schedule, SyntheticSet, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.evaluation.metrics import read_metrics
from distillkit.matching.distillation import Distillation, Optim
from distillkit.methods.learning.mtt import Matching, TrajectoryMatching
from distillkit.networks.specs import NetworkSpec
from distillkit.pipeline.checkpoints import checkpointed, resumed
from distillkit.process.interruption import Interrupted
from distillkit.training.expert_files import ExpertFiles, save_experts
from distillkit.training.trajectories import Dynamics, Expert

TINY = SyntheticSet(
    images=torch.tensor([[[[0.0, 0.5]]], [[[1.25, -0.25]]]]),
    labels=torch.tensor([0, 1]),
    class_names=("a", "ü"),
    learned=torch.tensor([False, True]),
    source_row=torch.tensor([4, -1]),
    normalisation=Normalisation(torch.tensor([0.5]), torch.tensor([0.25])),
    student_lr=0.05,
    notes={"window_start": 0.4},
)
PROVENANCE = {"recipe": "r", "seed": 0}
HEADER = (  # by hand: tensors by falling size of their numbers, then by name; offsets follow from the shapes
    '{"__metadata__":{"distillkit":"{'
    r"\"class_names\":[\"a\",\"ü\"],\"distillkit\":\"0.0.0\",\"format\":\"distillkit/1\",\"kind\":\"synthetic\","
    r"\"notes\":{\"window_start\":0.4},\"provenance\":{\"recipe\":\"r\",\"seed\":0},\"student_lr\":0.05"
    '}"},'
    '"labels":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},'
    '"source_row":{"dtype":"I64","shape":[2],"data_offsets":[16,32]},'
    '"images":{"dtype":"F32","shape":[2,1,1,2],"data_offsets":[32,48]},'
    '"mean":{"dtype":"F32","shape":[1],"data_offsets":[48,52]},'
    '"std":{"dtype":"F32","shape":[1],"data_offsets":[52,56]},'
    '"learned":{"dtype":"BOOL","shape":[2],"data_offsets":[56,58]}}'
)
NUMBERS = struct.pack("<4q6f2?", 0, 1, 4, -1, 0.0, 0.5, 1.25, -0.25, 0.5, 0.25, False, True)


def same(left: Any, right: Any) -> bool:
    """Equal to the bit, type and shape included, for tensors and what holds them."""
    if isinstance(left, torch.Tensor):
        return left.dtype == right.dtype and left.shape == right.shape and torch.equal(left, right)
    if isinstance(left, tuple):
        return all(same(a, b) for a, b in zip(left, right, strict=True))
    if hasattr(left, "__dataclass_fields__"):
        return all(same(getattr(left, name), getattr(right, name)) for name in left.__dataclass_fields__)
    return left == right


def refused(call: Callable[[], Any], path: Path) -> str:
    """The one line that ``call`` is refused with, without the path, which it must name."""
    with pytest.raises(ArtifactError) as caught:
        call()
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line
    return line.replace(str(path), "FILE")


def pickled(tensor: torch.Tensor) -> bytes:
    """What ``torch.save`` writes, and nobody should read."""
    file = BytesIO()
    torch.save(tensor, file)
    return file.getvalue()


def write_tiny(path: Path, header: dict[str, Any] | None = None, **tensors: torch.Tensor | None) -> Path:
    """TINY with some tensors replaced, or left out where None, and some header entries replaced."""
    artifact.save_synthetic(path, TINY, PROVENANCE)
    opened = container.Opened(path)
    found = {name: opened.file.get_tensor(name) for name in opened.file.keys()} | tensors  # noqa: SIM118
    kept = {name: tensor for name, tensor in found.items() if tensor is not None}
    container.save(path, "synthetic", kept, {**opened.header, **(header or {})})
    return path


def real_data(digits: ImageSet) -> RealData:
    info = SourceInfo("folder", "digits", "sha", "cc-by-4.0", citation="Ä. Nother", params={"path": "x", "size": None})
    return RealData(digits, digits.take(torch.arange(60)), channel_statistics(digits.images), info)


@pytest.fixture(scope="session")
def trained(experts) -> list[Expert]:
    """The session's experts one by one."""
    trajectories, dynamics = experts
    return [
        Expert(trajectories.trajectories_ETP[row], Dynamics(*(part[row] for part in dynamics)))
        for row in range(len(trajectories))
    ]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    artifact.save_synthetic(path, TINY, PROVENANCE)
    return path


def test_real(tmp_path, digits):
    data, path = real_data(digits), tmp_path / "real.safetensors"
    save_real(path, data)
    assert same(load_real(path), data)


def test_synthetic(tiny):
    synthetic, provenance = artifact.load_synthetic(tiny)
    assert same(synthetic, TINY)
    assert provenance == PROVENANCE


def test_synthetic_without_a_step_size(tmp_path):
    unlearned = replace(TINY, student_lr=None, notes={})
    artifact.save_synthetic(tmp_path / "x", unlearned, {})
    assert same(artifact.load_synthetic(tmp_path / "x"), (unlearned, {}))


NETWORK = NetworkSpec("convnet", "instance", 1, 2)


def scheduled(step: list[int], lr: list[float], starts: torch.Tensor | None = None) -> SyntheticSet:
    schedule = Schedule(NETWORK, torch.tensor(step), torch.tensor(lr), starts)
    return replace(TINY, soft_labels=torch.tensor([[0.75, 0.25], [0.0, 1.0]]), schedule=schedule)


@pytest.mark.parametrize("starts", [None, torch.rand(3, 7)])
def test_soft_labels_and_a_schedule(tmp_path, starts):
    written = scheduled([1, 0], [0.5, 0.25, 0.125, 2.0], starts)
    artifact.save_synthetic(tmp_path / "x", written, {})
    assert same(artifact.load_synthetic(tmp_path / "x"), (written, {}))
    assert [rows.tolist() for rows in written.schedule.rows] == [[1], [0], [1], [0]]


@pytest.mark.parametrize(
    ("step", "lr"), [([0, 2], [1.0, 1.0]), ([0, 1], [1.0, 1.0, 1.0]), ([0, 1], [1.0, 0.0]), ([-1, 0], [1.0, 1.0])]
)
def test_a_schedule_with_a_gap(tmp_path, step, lr):
    artifact.save_synthetic(tmp_path / "x", scheduled(step, lr), {})
    line = refused(lambda: artifact.load_synthetic(tmp_path / "x"), tmp_path / "x")
    assert re.fullmatch(r"FILE has a schedule of 2 steps and \d step sizes; expected steps counted from 0.*", line)


@pytest.mark.parametrize("network", [{"name": "convnet", "width": 0}, {"name": "other"}, {"x": 1}])
def test_a_schedule_for_no_network(tiny, network):
    schedule = {"schedule_step": torch.tensor([0, 1]), "schedule_lr": torch.tensor([1.0, 1.0])}
    write_tiny(tiny, {"schedule_network": network}, **schedule)
    line = refused(lambda: artifact.load_synthetic(tiny), tiny)
    assert re.match(r"FILE: schedule_network.*; run its stage again$", line)


@pytest.mark.parametrize("labels", [[[0.5, 0.4], [0.5, 0.5]], [[1.5, -0.5], [0.5, 0.5]]])
def test_soft_labels_that_are_no_probabilities(tiny, labels):
    write_tiny(tiny, soft_labels=torch.tensor(labels))
    line = refused(lambda: artifact.load_synthetic(tiny), tiny)
    assert line == "FILE: 'soft_labels' are no probabilities; expected rows that sum to 1"


def test_difficulty_and_confidence(tmp_path):
    difficulty, confidence = torch.tensor([0.5, 2.0]), torch.tensor([0.25, 0.75])
    artifact.save_difficulty(tmp_path / "x", difficulty, {"confidence": confidence}, {})
    found = artifact.load_difficulty(tmp_path / "x", 2)
    assert same(found[0], difficulty)
    assert found[1].tolist() == [0.75, 0.25]  # 1 - what is stored: how probable the experts found the label


def test_difficulty_alone(tmp_path):
    artifact.save_difficulty(tmp_path / "x", torch.tensor([0.5, 2.0]), {}, {})
    assert artifact.load_difficulty(tmp_path / "x", 2)[1] is None


def test_reference(tmp_path):
    artifact.save_reference(tmp_path / "x", torch.tensor([0.5, 2.0]), {"evaluation": {"runs": 1}})
    assert artifact.load_reference(tmp_path / "x", 2).tolist() == [0.5, 2.0]
    assert container.Opened(tmp_path / "x").header["evaluation"] == {"runs": 1}


def test_checkpoint(tmp_path):
    state = {"history": torch.zeros(0, 3, dtype=torch.float64), "generator": seeded(3).get_state()}
    container.save_state(tmp_path / "x", state)
    found = container.load_state(tmp_path / "x")
    assert found.keys() == state.keys()
    assert all(same(found[name], state[name]) for name in state)


def test_metrics_and_curves(tmp_path):
    write_json(tmp_path / "m.json", {"accuracy": {"mean": 0.5}})
    assert read_metrics(tmp_path / "m.json") == {"accuracy": {"mean": 0.5}}
    write_csv(tmp_path / "c.csv", ["step", "loss", "lr"], [(1, 0.5, 0.1), (2, 1 / 3, 0.2)])
    assert read_csv(tmp_path / "c.csv", "step", "lr") == [(1, 0.1), (2, 0.2)]
    assert (tmp_path / "c.csv").read_text().splitlines()[2] == "2,0.33333333,0.2"


def test_a_tiny_set_byte_by_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "__version__", "0.0.0")
    artifact.save_synthetic(tmp_path / "x", TINY, PROVENANCE)
    written = (tmp_path / "x").read_bytes()
    length = struct.unpack("<Q", written[:8])[0]
    assert written[8 : 8 + length].decode().rstrip(" ") == HEADER
    assert written[8 + length :] == NUMBERS


def test_another_process_writes_the_same_bytes(tiny):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import test_artifact as t; from pathlib import Path\n"
    code += "t.artifact.save_synthetic(Path(sys.argv[2]), t.TINY, dict(reversed(t.PROVENANCE.items())))"
    other = tiny.with_name("other.safetensors")
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-c", code, Path(__file__).parent, other], check=True, env=environment)
    assert other.read_bytes() == tiny.read_bytes()


def test_sha256(tiny):
    assert base_files.sha256(tiny) == hashlib.sha256(tiny.read_bytes()).hexdigest()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tiny, monkeypatch, error):
    before = tiny.read_bytes()

    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half")
        raise error

    monkeypatch.setattr(container, "save_file", interrupted)
    with pytest.raises(error):
        artifact.save_synthetic(tiny, replace(TINY, student_lr=0.1), {})
    assert tiny.read_bytes() == before
    assert list(tiny.parent.iterdir()) == [tiny]


def test_the_next_write_removes_what_a_killed_one_left(tiny):
    """Of this file only: a neighbour may be at work."""
    neighbours = [tiny.with_name(f".{tiny.name}{end}") for end in ("", "2.0123.tmp", ".0123.png")]
    for path in (*neighbours, tiny.with_name(f".{tiny.name}.0123.tmp")):
        path.write_text("half")
    files.write_text(tiny, "whole")
    assert set(tiny.parent.iterdir()) == {tiny, *neighbours}


@pytest.mark.parametrize(
    ("library", "error"),
    [
        (
            "data.files.container.save_file",
            SafetensorError("I/O error: No space left on device (os error 28)"),
        ),
        ("data.files.container.save_file", OSError(errno.ENOSPC, "No space left on device")),
        ("base.files.os.fsync", OSError(errno.EDQUOT, "Disk quota exceeded")),
    ],
    ids=["safetensors", "write", "quota"],
)
def test_a_full_disk_names_the_file_and_what_it_takes(tiny, monkeypatch, library, error):
    before = tiny.read_bytes()

    def full(*_, **__):
        raise error

    monkeypatch.setattr(f"distillkit.{library}", full)
    line = refused(lambda: artifact.save_synthetic(tiny, TINY, PROVENANCE), tiny)
    assert re.fullmatch(
        r"FILE is not written: .+ \(it takes 58 bytes, [\d,]+ bytes are free\); make room, then run.*", line
    )
    assert tiny.read_bytes() == before
    assert list(tiny.parent.iterdir()) == [tiny]


def test_text_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    line = refused(lambda: files.write_text(tmp_path / "x", "ü"), tmp_path / "x")
    assert line.startswith("FILE is not written: No space left on device (it takes 2 bytes, ")
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_too_large_is_one_line_and_leaves_the_old_file(tiny):
    before = tiny.read_bytes()
    with files_no_larger_than(100):
        line = refused(lambda: artifact.save_synthetic(tiny, TINY, PROVENANCE), tiny)
    assert line.startswith("FILE cannot be written (")
    assert tiny.read_bytes() == before
    assert list(tiny.parent.iterdir()) == [tiny]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(tiny, value):
    images, before = TINY.images.clone(), tiny.read_bytes()
    images[1, 0, 0, 1] = value
    with pytest.raises(DivergedError, match=r"is not written: 'images' holds nan or infinity; lower the learning rate"):
        artifact.save_synthetic(tiny, replace(TINY, images=images), {})
    assert tiny.read_bytes() == before
    tiny.write_bytes(before.replace(struct.pack("<f", -0.25), struct.pack("<f", value)))
    expected = "FILE: 'images' holds nan or infinity; run its stage again"
    assert refused(lambda: artifact.load_synthetic(tiny), tiny) == expected


def test_nothing_that_json_has_not_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        artifact.save_synthetic(tmp_path / "x", replace(TINY, student_lr=float("nan")), {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "x", "ä")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode
    assert (tmp_path / "x").read_bytes() == "ä".encode()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_of_artifacts_follow_the_umask(tmp_path, umask, mode):
    """Whatever the library that writes them gives."""
    before = os.umask(umask)
    try:
        artifact.save_synthetic(tmp_path / "x", TINY, {})
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == mode


def test_folders_on_the_way_are_made(tmp_path):
    artifact.save_synthetic(tmp_path / "a" / "b" / "x", TINY, {})
    assert same(artifact.load_synthetic(tmp_path / "a" / "b" / "x")[0], TINY)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole + b"x",
        lambda whole: b"",
        lambda whole: pickled(TINY.images),
        lambda whole: b"<html>not found</html>",
        lambda whole: bytes(100),
    ],
    ids=["last byte cut", "half", "a byte more", "empty", "pickle", "html", "zeros"],
)
def test_bytes_that_are_no_safetensors(tiny, damage):
    tiny.write_bytes(damage(tiny.read_bytes()))
    line = refused(lambda: artifact.load_synthetic(tiny), tiny)
    assert line.startswith("FILE cannot be read (")
    assert line.endswith("expected a complete safetensors file; run its stage again")


def test_no_file(tmp_path):
    missing = tmp_path / "missing.safetensors"
    expected = "FILE does not exist; expected a distillkit artifact; run the stage that writes it"
    assert refused(lambda: load_real(missing), missing) == expected
    expected = "FILE is a folder; expected a distillkit artifact; name a file in it"
    assert refused(lambda: load_real(tmp_path), tmp_path) == expected


NESTED = '{"kind": ' + "[" * 100_000 + "]" * 100_000 + "}"
DIGITS = '{"kind": ' + "9" * 10_000 + "}"


@pytest.mark.parametrize("text", ["{", "[]", NESTED, DIGITS, None], ids=["cut", "list", "nested", "digits", "none"])
def test_a_foreign_safetensors_file(tmp_path, text):
    metadata = {"format": "pt"} if text is None else {"distillkit": text}
    path = tmp_path / "x"
    save_file({"images": TINY.images}, path, metadata=metadata)
    line = refused(lambda: artifact.load_synthetic(path), path)
    assert line.startswith("FILE is a safetensors file, but not one of distillkit's; expected 'distillkit/1'")


def test_another_kind(tiny):
    line = refused(lambda: load_real(tiny), tiny)
    assert line == "FILE holds 'synthetic'; expected an artifact of kind 'real'"


def test_a_newer_format(tiny):
    write_tiny(tiny, {"format": "distillkit/2"})
    line = refused(lambda: artifact.load_synthetic(tiny), tiny)
    assert line.startswith("FILE has format \"distillkit/2\"; expected 'distillkit/1'; use the distillkit version")


@pytest.mark.parametrize("name", ["images", "labels", "learned", "source_row", "mean", "std"])
def test_a_missing_tensor(tiny, name):
    write_tiny(tiny, **{name: None})
    line = refused(lambda: artifact.load_synthetic(tiny), tiny)
    assert line.startswith(f"FILE has no tensor {name!r}; found ")


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        ("images", TINY.images.double(), "'images' is torch.float64 (2, 1, 1, 2); expected torch.float32 (at lea"),
        ("images", TINY.images[:, 0], "'images' is torch.float32 (2, 1, 2); expected torch.float32 (at least 1, a"),
        ("images", TINY.images[:0], "'images' is torch.float32 (0, 1, 1, 2); expected torch.float32 (at least 1,"),
        ("images", TINY.images[..., :0], "'images' is torch.float32 (2, 1, 1, 0); expected torch.float32 (at le"),
        ("labels", TINY.labels.int(), "'labels' is torch.int32 (2); expected torch.int64 (2); run its stage again"),
        ("labels", torch.zeros(3).long(), "'labels' is torch.int64 (3); expected torch.int64 (2); run its stage a"),
        ("labels", TINY.labels + 1, "labels run from 1 to 2; expected 0 to 1 for 2 classes"),
        ("labels", TINY.labels - 1, "labels run from -1 to 0; expected 0 to 1 for 2 classes"),
        ("learned", TINY.labels, "'learned' is torch.int64 (2); expected torch.bool (2); run its stage again"),
        ("mean", torch.zeros(3), "'mean' is torch.float32 (3); expected torch.float32 (1); run its stage again"),
        ("std", torch.zeros(1), "'std' is [0.0]; expected numbers above 0; run its stage again"),
    ],
)
def test_a_tensor_that_does_not_fit(tiny, name, tensor, expected):
    write_tiny(tiny, **{name: tensor})
    assert refused(lambda: artifact.load_synthetic(tiny), tiny).startswith(f"FILE: {expected}")


@pytest.mark.parametrize(
    ("entry", "value"),
    [("class_names", 3), ("class_names", ["a", 2]), ("student_lr", "x"), ("notes", [1]), ("provenance", None)],
)
def test_a_header_entry_of_the_wrong_type(tiny, entry, value):
    write_tiny(tiny, {entry: value})
    line = refused(lambda: artifact.load_synthetic(tiny), tiny)
    assert entry in line
    assert json.dumps(value) in line
    assert line.endswith("run its stage again")


def test_a_header_that_lacks_an_entry(tmp_path):
    path = tmp_path / "x"
    container.save(path, "synthetic", {"images": TINY.images, "labels": TINY.labels}, {})
    expected = "FILE says nothing of 'class_names' in its header; run its stage again"
    assert refused(lambda: artifact.load_synthetic(path), path) == expected


def test_real_images_without_their_source(tmp_path, digits):
    path = tmp_path / "real.safetensors"
    save_real(path, real_data(digits))
    opened = container.Opened(path)
    tensors = {name: opened.file.get_tensor(name) for name in opened.file.keys()}  # noqa: SIM118
    container.save(path, "real", tensors, {**opened.header, "source": {"king": "digits"}})
    assert refused(lambda: load_real(path), path).startswith("FILE does not say where its images come fr")


def test_difficulty_of_other_images(tmp_path):
    path = tmp_path / "x"
    artifact.save_difficulty(path, torch.zeros(3), {}, {})
    line = refused(lambda: artifact.load_difficulty(path, 4), path)
    assert line == "FILE: 'difficulty' is torch.float32 (3); expected torch.float32 (4); run its stage again"


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, "does not exist"), ("{", "is not valid JSON"), ("[1]", "holds list; expected a mapping")],
)
def test_metrics_that_are_none(tmp_path, text, expected):
    path = tmp_path / "m.json"
    if text is not None:
        path.write_text(text)
    assert refused(lambda: read_metrics(path), path).startswith(f"FILE {expected}")


@pytest.mark.parametrize("text", [None, "", "step\n1\n", "step,loss\n1\n", "step,loss\n1,x\n", "step,loss\n1.5,2\n"])
def test_curves_that_are_none(tmp_path, text):
    path = tmp_path / "c.csv"
    if text is not None:
        path.write_text(text)
    expected = "FILE does not exist" if text is None else "FILE is no table of step and loss"
    assert refused(lambda: read_csv(path, "step", "loss"), path).startswith(expected)


@pytest.fixture
def shards(tmp_path, experts, trained) -> list[Path]:
    """Three experts in two shards: the first alone, then both."""
    paths = [tmp_path / "shard-0.safetensors", tmp_path / "shard-1.safetensors"]
    save_experts(paths[0], trained[:1], experts[0].spec, {"epochs": 4})
    save_experts(paths[1], trained, experts[0].spec, {"epochs": 4})
    return paths


def test_a_snapshot_is_found_across_shards(shards, experts):
    trajectories, files = experts[0], ExpertFiles(shards)
    assert (len(files), files.snapshots, files.spec) == (3, 5, trajectories.spec)
    for row, original in enumerate([0, 0, 1]):
        for snapshot in (0, 4):
            assert same(files.read(row, snapshot), trajectories.read(original, snapshot))


def test_dynamics_of_all_shards_in_order(shards, experts):
    expected = Dynamics(*(part[[0, 0, 1]] for part in experts[1]))
    found = list(ExpertFiles(shards).dynamics())
    assert [len(part) for each in found for part in each] == [1] * 3 * len(Dynamics._fields)
    assert same(Dynamics(*map(torch.cat, zip(*found, strict=True))), expected)


def test_only_the_snapshot_asked_for_is_read(tmp_path):
    """64 MiB of trajectories cost no memory."""
    trajectory = torch.arange(256.0).repeat_interleave(2**14).view(256, 2**14)
    dynamics = Dynamics(torch.ones(255, 2, dtype=torch.bool), *(torch.zeros(5, 255, 2, dtype=torch.float16)))
    path = tmp_path / "x"
    save_experts(path, [Expert(trajectory, dynamics)] * 4, NetworkSpec("convnet"), {})
    before = anonymous_memory()
    snapshot = ExpertFiles([path]).read(3, 200)
    assert snapshot.tolist() == [200.0] * 2**14
    assert anonymous_memory() - before < 2**24


def test_shards_of_different_networks(shards, experts, trained):
    save_experts(shards[1], trained, replace(experts[0].spec, width=5), {})
    line = refused(lambda: ExpertFiles(shards), shards[1])
    assert line.startswith(f"FILE holds other networks than {shards[0]}; train both again")


def test_shards_of_different_length(shards, experts, trained):
    shorter = [expert._replace(trajectory_TP=expert.trajectory_TP[:-1]) for expert in trained]
    save_experts(shards[1], shorter, experts[0].spec, {})
    assert "holds other networks than" in refused(lambda: ExpertFiles(shards), shards[1])


def test_shards_that_saw_different_images(shards, experts, trained):
    fewer = [expert._replace(dynamics=Dynamics(*(part[:, :-1] for part in expert.dynamics))) for expert in trained]
    save_experts(shards[1], fewer, experts[0].spec, {})
    line = refused(lambda: list(ExpertFiles(shards).dynamics()), shards[1])
    assert line.startswith("FILE: 'dynamics.correct' is torch.bool (1, 4, 299); expected torch.bool (1, 4, 300); run")


def test_a_missing_shard(shards):
    shards[1].unlink()
    assert refused(lambda: ExpertFiles(shards), shards[1]).startswith("FILE does not exist; expected a distillkit")
    with pytest.raises(ArtifactError, match="no expert shards were given; expected at least one"):
        ExpertFiles([])


@pytest.mark.parametrize("trajectories", [None, torch.zeros(2, 3), torch.zeros(1, 2, 3).double(), torch.zeros(0, 2, 3)])
def test_a_shard_without_trajectories(tmp_path, trajectories):
    path = tmp_path / "x"
    tensors = {"other": torch.zeros(1)} if trajectories is None else {"trajectories": trajectories}
    container.save(path, "experts", tensors, {"network": {"name": "convnet"}})
    assert refused(lambda: ExpertFiles([path]), path).startswith("FILE has no trajectories (experts, snapshots, par")


def test_a_shard_of_a_network_that_there_is_not(tmp_path):
    path = tmp_path / "x"
    container.save(path, "experts", {"trajectories": torch.zeros(1, 2, 3)}, {"network": {"name": "vgg"}})
    line = refused(lambda: ExpertFiles([path]), path)
    known = "'convnet', 'resnet18', 'lenet', 'alexcifarnet', 'vgg11', 'alexnet', 'mlp' or 'vit'"
    assert line == f'FILE: network.name is "vgg"; expected {known}; train it again'


def anonymous_memory() -> int:
    """Bytes of this process's memory that no file backs."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


OPTIM = Optim(steps=6, image_lr=30, student_lr_init=0.05, student_lr_lr=0.01, update_fraction=0.5)


def distillation(material, **changes) -> Distillation:
    method, generator = TrajectoryMatching(1, Matching(2, 10, 1, 2)), seeded(5)
    optim = replace(OPTIM, **changes)
    return Distillation(method, method.init(material, generator), material, optim, generator)


def test_a_resumed_run_gives_the_same_bytes(material, tmp_path):
    whole, half = distillation(material), distillation(material)
    list(whole)
    for _ in range(3):
        half.advance()
    container.save_state(tmp_path / "state", half.state())
    again = distillation(material)
    resumed(again, tmp_path / "state")
    assert again.steps_left == 3
    list(again)
    for name, run in (("whole", whole), ("again", again)):
        artifact.save_synthetic(tmp_path / name, run.result(), {})
    assert (tmp_path / "again").read_bytes() == (tmp_path / "whole").read_bytes()
    assert again.history == whole.history


@pytest.mark.parametrize("damage", ["kind", "missing", "shape", "generator", "bytes"])
def test_a_checkpoint_that_does_not_fit_starts_again_from_the_start(material, tmp_path, capsys, damage):
    path, run = tmp_path / "state", distillation(material)
    run.advance()
    state = run.state() | {"generator": torch.zeros(3, dtype=torch.uint8)}
    {
        "kind": lambda: artifact.save_synthetic(path, TINY, {}),
        "missing": lambda: container.save_state(path, {"history": state["history"]}),
        "shape": lambda: container.save_state(path, state | {"learned_images": torch.zeros(3, 1, 8, 8)}),
        "generator": lambda: container.save_state(path, state),
        "bytes": lambda: path.write_bytes(b"x"),
    }[damage]()
    again, fresh = distillation(material), distillation(material)
    resumed(again, path)
    assert capsys.readouterr().err.startswith(f"warning: {path} cannot be resumed (")
    assert all(same(again.state()[name], tensor) for name, tensor in fresh.state().items())


def test_a_checkpoint_is_kept_bit_for_bit_whatever_its_numbers(tmp_path):
    """A squared gradient may overflow in Adam's moments, and the run goes on; no reader takes such a set."""
    state = {"moments": torch.tensor([math.inf, -math.inf, math.nan, -0.0]), "nothing": torch.zeros(0, 3)}
    container.save_state(tmp_path / "state", state)
    found = container.load_state(tmp_path / "state")
    assert {name: part.numpy().tobytes() for name, part in found.items()} == {
        name: part.numpy().tobytes() for name, part in state.items()
    }
    with pytest.raises(DivergedError, match="'moments' holds nan or infinity"):
        container.save(tmp_path / "set", "synthetic", state, {})


def test_a_run_that_has_not_begun_is_kept_too(material, tmp_path):
    run, again = distillation(material), distillation(material)
    container.save_state(tmp_path / "state", run.state())
    list(again)
    again.restore(container.load_state(tmp_path / "state"))
    assert (again.history, again.steps_left) == ([], 6)
    assert all(same(part, again.state()[name]) for name, part in run.state().items())


def test_without_a_checkpoint_nothing_is_said(material, tmp_path, capsys):
    run = distillation(material)
    resumed(run, tmp_path / "none")
    assert (run.history, capsys.readouterr().err) == ([], "")


def test_checkpoints_are_written_now_and_then(material, tmp_path, monkeypatch):
    path = tmp_path / "work" / "state"
    for step in checkpointed(distillation(material), path, {}):
        assert not path.exists(), f"written at step {step.step}, long before a minute has passed"
    monkeypatch.setattr("distillkit.pipeline.checkpoints.SECONDS_BETWEEN_CHECKPOINTS", 0)
    list(checkpointed(distillation(material), path, {}))
    assert len(container.load_state(path)["history"]) == 6


def test_a_run_that_is_asked_to_stop_keeps_the_step_it_is_at(material, tmp_path, monkeypatch):
    whole, half, again, path = (
        distillation(material),
        distillation(material),
        distillation(material),
        tmp_path / "state",
    )
    list(whole)
    monkeypatch.setattr("distillkit.process.interruption.asked", lambda: half.done == 3)
    with pytest.raises(Interrupted, match=r"^interrupted at step 3 of 6, kept; run the same command again to go on$"):
        list(checkpointed(half, path, {}))
    resumed(again, path)
    assert again.steps_left == 3
    list(again)
    assert again.history == whole.history
    assert same(again.result(), whole.result())


def test_a_diverging_run_keeps_its_last_finite_set(material, tmp_path):
    run, path = distillation(material, image_lr=1e30), tmp_path / "work" / "state.safetensors"
    with pytest.raises(DivergedError, match=r"lower optim.image_lr \(1e\+30\)") as caught:
        list(checkpointed(run, path, PROVENANCE))
    kept = tmp_path / "work-last-good.safetensors"
    assert str(caught.value).endswith(f"the set after step {len(run.history)} is kept in {kept}")
    assert same(artifact.load_synthetic(kept), (run.result(), PROVENANCE))


def test_a_diverged_set_that_is_not_finite_is_not_kept(material, tmp_path):
    run = distillation(material, image_lr=1e30)
    with torch.no_grad():
        run.images.value.fill_(float("inf"))
    with pytest.raises(DivergedError, match="the set after step 0 is not finite either, so nothing is kept"):
        list(checkpointed(run, tmp_path / "work" / "state.safetensors", {}))
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_a_header_is_lost_in_json(tiny):
    """The header is one canonical JSON text, so any JSON reader sees what we see."""
    length = struct.unpack("<Q", tiny.read_bytes()[:8])[0]
    metadata = json.loads(tiny.read_bytes()[8 : 8 + length])["__metadata__"]
    assert json.loads(metadata["distillkit"]) == container.Opened(tiny).header
    assert metadata["distillkit"] == base_files.canonical_json(container.Opened(tiny).header)
