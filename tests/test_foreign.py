"""Distilled sets of other code, saved as DC, DSA, DM, MTT and DATM save theirs; no code in a file is ever run."""

import io
import json
import re
import runpy
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import save_file
from torch import Tensor

from distillkit.base import arguments
from distillkit.base import files as base_files
from distillkit.base.errors import ArtifactError, DistillkitError, ParamsError, SourceError
from distillkit.base.names import is_recipe_name
from distillkit.check.show import describe
from distillkit.data.files import artifact
from distillkit.data.files.real_images import save_real
from distillkit.data.images import RealData, SyntheticSet, channel_statistics
from distillkit.data.origin import SourceInfo
from distillkit.foreign import importing
from distillkit.foreign.importing import import_files, quoted
from distillkit.foreign.sets import import_set, statistics_named
from distillkit.training.expert_files import save_experts
from distillkit.training.trajectories import Dynamics, Expert

GREY = "0.5/0.25"
LABELS = torch.tensor([0, 0, 1, 1])
# Two classes of two images of 1x2 pixels; (x * 0.25 + 0.5) by hand below.
NORMALISED = torch.tensor([[-2.0, 2.0], [0.0, 1.0], [-1.0, 4.0], [3.0, 0.5]]).view(4, 1, 1, 2)
PIXELS = torch.tensor([[0.0, 1.0], [0.5, 0.75], [0.25, 1.5], [1.25, 0.625]]).view(4, 1, 1, 2)
SOFT = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [-1.0, 3.0]])
ACCURACIES = {"ConvNet": [np.float64(0.5), np.int64(3), 0.25]}


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def read(*files: Path, **told: Any) -> SyntheticSet:
    statistics = statistics_named(told.pop("statistics", GREY))
    return import_set(files, **{"saved_as": "normalised", "statistics": statistics, "class_names": None} | told)


def refused(kind: type[DistillkitError], *files: Path, **told: Any) -> str:
    """The one line that the import ends with; it never tells how to switch the protection off."""
    with pytest.raises(kind) as caught:
        read(*files, **told)
    line = str(caught.value)
    assert "\n" not in line
    assert "weights_only" not in line
    assert type(caught.value) is kind
    return line


def as_dc(images: Tensor = NORMALISED, labels: Tensor = LABELS) -> dict[str, Any]:
    """DC, DSA and DM: a pair for each experiment, and accuracies that are numpy's numbers."""
    return {"data": [[images, labels], [images + 1, labels]], "accs_all_exps": ACCURACIES}


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


# What is read


@pytest.mark.parametrize(
    "content",
    [
        as_dc(),
        {"data": as_dc()["data"][:1]},
        [NORMALISED, LABELS],
        (LABELS, NORMALISED),
        {"images": NORMALISED, "labels": LABELS},
        {"data": NORMALISED, "target": LABELS, "epoch": 3, "name": "x", "lr": torch.tensor(0.1)},
        {"syn": {"x": torch.nn.Parameter(NORMALISED.clone()), "y": LABELS.int()}, "mean": torch.ones(3)},
        [NORMALISED.half(), LABELS.to(torch.uint8)],
        [NORMALISED.double(), LABELS],
        [NORMALISED.bfloat16(), torch.nn.functional.one_hot(LABELS)],
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_one_file_with_both(tmp_path, content, zipped):
    synthetic = read(saved(tmp_path / "set.pt", content, _use_new_zipfile_serialization=zipped))
    assert torch.equal(synthetic.images, PIXELS)
    assert synthetic.images.dtype == torch.float32
    assert torch.equal(synthetic.labels, LABELS)
    assert synthetic.labels.dtype == torch.int64
    assert synthetic.learned.tolist() == [True] * 4
    assert synthetic.source_row.tolist() == [-1] * 4
    assert (synthetic.class_names, synthetic.student_lr) == (("0", "1"), None)
    assert (synthetic.normalisation.mean.tolist(), synthetic.normalisation.std.tolist()) == ([0.5], [0.25])


@pytest.mark.parametrize("lr", [0.25, torch.tensor(0.25, requires_grad=True)])
def test_files_of_mtt_in_any_order(tmp_path, lr):
    """Images that want a gradient, their labels, and the learned step size as a number alone."""
    images = saved(tmp_path / "images_best.pt", NORMALISED.clone().requires_grad_())
    labels, rate = saved(tmp_path / "labels_best.pt", LABELS), saved(tmp_path / "lr_best.pt", lr)
    first, second = read(images, labels, rate), read(rate, labels, images)
    assert torch.equal(first.images, PIXELS)
    assert not first.images.requires_grad
    assert first.student_lr == 0.25
    assert first.notes == second.notes
    assert first.notes["imported"] == {
        "files": [{"name": path.name, "sha256": base_files.sha256(path)} for path in (images, labels, rate)],
        "index": 0,
        "saved_as": "normalised",
        "statistics": "given",
        "mean": [0.5],
        "std": [0.25],
        "labels": "hard",
    }
    assert refused(SourceError, images, labels, rate, rate).startswith(
        "images_best.pt, labels_best.pt, lr_best.pt and lr_best.pt: found the step size 0.25, 0.25; expected one"
    )


def test_soft_labels_of_datm_need_to_be_told(tmp_path):
    files = (
        saved(tmp_path / "images_best.pt", NORMALISED),
        saved(tmp_path / "labels_best.pt", SOFT.clone().requires_grad_()),
    )
    assert refused(SourceError, *files) == (
        "images_best.pt and labels_best.pt: the labels are soft, rows of -1 to 3 that sum to 1 to 2; expected "
        "probabilities, or --labels logits (as DATM saves), or --labels hard for the "
        "likeliest class alone"
    )
    synthetic = read(*files, labels="logits")
    assert synthetic.labels.tolist() == [0, 0, 1, 1]
    # softmax of two logits is the logistic function of their difference: 0.8, 0.2, -0.6, -4
    assert synthetic.soft_labels[:, 0].tolist() == pytest.approx([0.689974, 0.549834, 0.354344, 0.017986], abs=1e-6)
    assert synthetic.soft_labels.sum(1).tolist() == pytest.approx([1.0] * 4)
    assert synthetic.notes["imported"]["labels"] == "softmax of logits"
    synthetic = read(*files, labels="hard")
    assert synthetic.labels.tolist() == [0, 0, 1, 1]
    assert synthetic.soft_labels is None
    assert synthetic.notes["imported"]["labels"] == "the likeliest class of soft labels"


def test_probabilities_are_taken_as_they_are(tmp_path):
    """Rows that sum to 1 need no telling; half precision rounds, and is rescaled."""
    probability_NK = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.25, 0.75], [0.0, 1.0]])
    path = saved(tmp_path / "p.pt", [NORMALISED, probability_NK])
    synthetic = read(path)
    assert torch.equal(synthetic.soft_labels, probability_NK)
    assert synthetic.labels.tolist() == [0, 1, 1, 1]
    assert synthetic.notes["imported"]["labels"] == "probabilities"
    rounded = saved(tmp_path / "half.pt", [NORMALISED, probability_NK * 1.004])
    assert torch.allclose(read(rounded).soft_labels, probability_NK, atol=1e-7)
    assert torch.equal(read(path, labels="logits").soft_labels, probability_NK.double().softmax(1).float())


def test_labels_are_not_what_they_are_said_to_be(tmp_path):
    path = saved(tmp_path / "s.pt", [NORMALISED, SOFT])
    assert refused(SourceError, path, labels="probabilities") == (
        "s.pt: the labels are rows of -1 to 3 that sum to 1 to 2; expected probabilities from 0 to 1 with sum 1; "
        "use --labels logits or --labels hard"
    )
    whole = saved(tmp_path / "w.pt", [NORMALISED, LABELS])
    assert refused(ParamsError, whole, labels="logits") == (
        "--labels is logits, but w.pt holds one class for each image; leave --labels out"
    )


def test_imported_soft_labels_reach_the_artifact_and_are_told(tmp_path):
    probability_NK = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.0, 1.0]])
    path, out = saved(tmp_path / "p.pt", [NORMALISED, probability_NK]), tmp_path / "p.safetensors"
    found = import_files([path], out, saved_as="normalised", statistics=GREY)
    assert torch.equal(artifact.load_synthetic(out)[0].soft_labels, probability_NK)
    line = next(importing.lines(found))
    assert line.endswith("labels soft (largest probability 0.8 in the median)")


def test_several_experiments(tmp_path, capsys):
    path = saved(tmp_path / "res.pt", as_dc())
    assert torch.equal(read(path).images, PIXELS)
    told = "res.pt holds 2 sets, one for each experiment; using the first; --index chooses another\n"
    assert capsys.readouterr().err == told
    second = read(path, index=1)
    assert torch.equal(second.images, PIXELS + 0.25)
    assert second.notes["imported"]["index"] == 1
    assert capsys.readouterr().err == ""
    assert refused(ParamsError, path, index=2) == "index is 2, but res.pt holds 2 sets, numbered from 0"
    assert refused(ParamsError, path, index=-1).startswith("index is -1, but res.pt holds 2 sets")
    one = saved(tmp_path / "one.pt", [NORMALISED, LABELS])
    assert refused(ParamsError, one, index=1) == "index is 1, but one.pt holds 1 set, numbered from 0"


def test_plain_safetensors(tmp_path):
    save_file({"x": NORMALISED, "y": LABELS}, tmp_path / "whatever.bin")
    assert torch.equal(read(tmp_path / "whatever.bin").images, PIXELS)


def test_pixels(tmp_path):
    levels = torch.tensor([[0, 255], [51, 102], [255, 0], [153, 204]], dtype=torch.uint8).view(4, 1, 1, 2)
    by_hand = torch.tensor([[0.0, 1.0], [0.2, 0.4], [1.0, 0.0], [0.6, 0.8]]).view(4, 1, 1, 2)
    path = saved(tmp_path / "u.pt", [levels, LABELS])
    synthetic = read(path, saved_as="pixels")
    torch.testing.assert_close(synthetic.images, by_hand, rtol=0, atol=1e-7)
    assert synthetic.normalisation.mean.tolist() == [0.5]
    floats = saved(tmp_path / "f.pt", [PIXELS, LABELS])
    assert torch.equal(read(floats, saved_as="pixels").images, PIXELS)
    assert refused(ParamsError, path) == "saved_as is normalised, but u.pt holds uint8 images; expected pixels"


def test_statistics_of_pixels_may_be_their_own(tmp_path):
    path = saved(tmp_path / "f.pt", [PIXELS, LABELS])
    synthetic = import_set([path], saved_as="pixels", statistics=None, class_names=None)
    assert synthetic.normalisation.mean.item() == pytest.approx(5.875 / 8)
    assert synthetic.notes["imported"]["statistics"] == "of the images themselves"
    with pytest.raises(
        ParamsError, match="statistics are missing; expected those that the images were normalised with"
    ):
        import_set([path], saved_as="normalised", statistics=None, class_names=None)


def test_channels_have_their_own_statistics(tmp_path):
    """CIFAR-10's in DC: 1 * 0.2023 + 0.4914 and so on."""
    path = saved(tmp_path / "c.pt", [torch.ones(2, 3, 2, 2), torch.tensor([0, 1])])
    synthetic = read(path, statistics="cifar10")
    assert synthetic.images[0, :, 1, 1].tolist() == pytest.approx([0.6937, 0.6816, 0.6475])
    line = refused(ParamsError, path)
    expected = "the statistics have 1 channel, but the images are float32 (2, 3, 2, 2); expected 3 channels; correct"
    assert line == f"{expected} --statistics"
    three = refused(ParamsError, saved(tmp_path / "g.pt", [NORMALISED, LABELS]), statistics="cifar10")
    assert three.startswith("the statistics have 3 channels, but the images are float32")


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last(tmp_path, channels):
    last = saved(tmp_path / "last.pt", [torch.ones(2, 8, 8, channels), torch.tensor([0, 1])])
    assert refused(SourceError, last) == (
        f"last.pt: the images are float32 (2, 8, 8, {channels}), channels last; expected (N, C, H, W); "
        "save images.permute(0, 3, 1, 2)"
    )


# What is told


def test_statistics_by_name():
    assert torch.equal(statistics_named("mnist").std, torch.tensor([0.3081]))
    assert [len(statistics_named(name).mean) for name in arguments.STATISTICS] == [3, 3, 3, 1, 3, 1, 3, 3]
    assert torch.equal(statistics_named("0.5,0.4/0.2, 1").std, torch.tensor([0.2, 1.0]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cifar-10", "(did you mean 'cifar10'?); expected cifar10, cifar100-dc, cifar100-mtt, fashion-mnist, imagenet"),
        ("cifar100", "expected cifar10, cifar100-dc, cifar100-mtt,"),
        ("", "such as 0.49,0.48,0.45/0.25,0.24,0.26"),
        ("0.5,0.5/0.1", "as many numbers before the slash as behind it, those behind it above 0"),
        ("0.5/0", "those behind it above 0"),
        ("nan/1", "as many numbers"),
        ("0.5/0.1/0.1", "such as 0.49"),
    ],
)
def test_statistics_that_are_none(text, expected):
    with pytest.raises(ParamsError, match=re.escape(f"statistics are {text!r}")) as caught:
        statistics_named(text)
    assert expected in str(caught.value)


def test_class_names(tmp_path):
    path = saved(tmp_path / "s.pt", [NORMALISED, LABELS])
    (tmp_path / "names.txt").write_text("cat\nsea lion\n\n")
    assert read(path, class_names=arguments.classes_named(str(tmp_path / "names.txt"))).class_names == (
        "cat",
        "sea lion",
    )
    assert read(path, class_names=arguments.classes_named("cat, dog")).class_names == ("cat", "dog")
    with pytest.raises(ParamsError, match=r"^classes are 'no.txt', which is no file; expected a text file, or names"):
        arguments.classes_named("no.txt")
    (tmp_path / "names.txt").write_bytes(b"\xff\n")
    with pytest.raises(SourceError, match="is no UTF-8 text; expected one class name per line"):
        arguments.classes_named(str(tmp_path / "names.txt"))
    twice = "classes are a, a; expected different names"
    assert refused(ParamsError, path, class_names=["a", "a"]) == twice
    assert refused(ParamsError, path, class_names=["a", ""]).startswith("classes are a, ; expected different")


# What is refused


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (torch.tensor([-1, 0, 1, 1]), "labels run from -1 to 1; expected 0 to 1 for 2 classes"),
        (
            torch.tensor([0, 1, 3, 3]),
            "no image has label 2; expected images of every class from 0 to 3; import the whole",
        ),
        (torch.tensor([0, 1, 2, 2**60]), "no image has label 3; expected images of every class from 0 to"),
        (torch.tensor([0.0, 0.5, 1.0, 1.0]), "the labels are float32 (4,); expected whole numbers from 0 on; if they "),
        (
            torch.tensor([1, 2, 2, 1]),
            "s.pt: labels start at 1; expected labels from 0; subtract 1, or import the whole",
        ),
        (torch.tensor([True, False, True, True]), "the labels are bool (4,); expected whole numbers"),
        (
            torch.tensor([0, 1, 1]),
            "found float32 (4, 1, 1, 2), int64 (3,), no labels for 4 images; expected exactly one",
        ),
        (torch.full((4, 2), torch.nan), "the soft labels hold NaN or infinity"),
        (torch.zeros(0), "no labels for 4 images"),
    ],
)
def test_labels_that_do_not_fit(tmp_path, labels, expected):
    assert refused(SourceError, saved(tmp_path / "s.pt", [NORMALISED, labels])).startswith("s.pt: ")
    assert expected in refused(SourceError, tmp_path / "s.pt")


def test_classes_that_do_not_fit(tmp_path):
    path = saved(tmp_path / "s.pt", [NORMALISED, LABELS])
    assert refused(SourceError, path, class_names=["a", "b", "c"]).startswith("s.pt: no image has label 2; expected")
    assert "labels run from 0 to 1; expected 0 to 0 for 1 class" in refused(SourceError, path, class_names=["a"])
    soft = saved(tmp_path / "soft.pt", [NORMALISED, SOFT.detach()])
    line = refused(SourceError, soft, class_names=["a", "b", "c"], labels="hard")
    assert line.startswith("soft.pt: labels run from 0 to 1 in 2 columns; expected 0 to 2 for 3 classes")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            NORMALISED,
            "found float32 (4, 1, 1, 2), no labels for 4 images; expected exactly one (4,) or, if soft, (4, cl",
        ),
        (LABELS, "found int64 (4,); expected exactly one tensor of images (N, C, H, W); give other files"),
        ([NORMALISED[:, 0], LABELS], "(N, C, H, W); of one channel, save images[:, None]"),
        ([NORMALISED, NORMALISED, LABELS], "expected exactly one tensor of images (N, C, H, W)"),
        ([NORMALISED, LABELS, LABELS], "several tensors that may be labels for 4 images"),
        (
            [torch.zeros(0, 1, 2, 2), torch.zeros(0).long()],
            "the images are float32 (0, 1, 2, 2); expected at least one",
        ),
        ({"images": "none"}, "found no tensor; expected exactly one tensor of images"),
        ([torch.zeros(1)] * 9, ", float32 (1,) and 3 more; expected exactly one tensor of images"),
        ([NORMALISED.int(), LABELS], "(4, 1, 1, 2); expected uint8 or floating point; save images.float()"),
        ([NORMALISED / 0, LABELS], "in float32; expected finite numbers; use a set that was saved before"),
        ([NORMALISED.double() * 1e300, LABELS], "the images hold NaN or infinity in float32"),
        (
            [LABELS.view(4, 1, 1, 1) * 255, LABELS],
            "int64 (4, 1, 1, 1); expected uint8 or floating point; save images.to(",
        ),
        (
            [NORMALISED.to_sparse(), LABELS],
            "holds a tensor float32 (4, 1, 1, 2) that is sparse or nested; expected plain",
        ),
        ([NORMALISED.to("meta"), LABELS], "holds a tensor float32 (4, 1, 1, 2) that is on the meta device"),
        ([NORMALISED + 1j, LABELS], "holds a tensor complex64 (4, 1, 1, 2) that is complex"),
        (
            [torch.zeros(1).expand(10**4, 3, 10**4, 10**4), LABELS],
            "that is larger than the file; expected plain tensors",
        ),
    ],
    ids=range(16),
)
def test_tensors_that_are_no_set(tmp_path, content, expected):
    assert expected in refused(SourceError, saved(tmp_path / "s.pt", content))


def test_quantised_tensors(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # torch deprecates them; old files still hold them
        quantised = torch.quantize_per_tensor(NORMALISED, 0.1, 0, torch.qint8)
        saved(tmp_path / "s.pt", [quantised, LABELS])
    assert "(4, 1, 1, 2) that is quantised; expected plain tensors" in refused(SourceError, tmp_path / "s.pt")


def test_lists_that_hold_themselves_end(tmp_path):
    endless: list[Any] = [NORMALISED, LABELS]
    endless.append(endless)
    path = saved(tmp_path / "s.pt", endless)
    assert "expected exactly one tensor of images" in refused(SourceError, path)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_is_never_run(tmp_path, zipped):
    path = saved(
        tmp_path / "s.pt", [NORMALISED, LABELS, Bomb(tmp_path / "boom")], _use_new_zipfile_serialization=zipped
    )
    line = refused(SourceError, path)
    assert not (tmp_path / "boom").exists()
    assert re.fullmatch(rf"{path} asks to call [\w.]+; nothing was called; expected only tensors in lists .*", line)
    torch.load(path, weights_only=False)  # noqa: TID251 (what must not happen, made to happen)
    assert (tmp_path / "boom").exists(), "the file does hold code"


def test_a_bare_pickle_with_code(tmp_path):
    (tmp_path / "s.pkl").write_bytes(b"cpathlib\nPath\n(V" + str(tmp_path / "boom").encode() + b"\ntR.")
    assert refused(SourceError, tmp_path / "s.pkl").startswith(f"{tmp_path}/s.pkl ")
    assert not (tmp_path / "boom").exists()


def test_numpy_arrays_are_named(tmp_path):
    line = refused(SourceError, saved(tmp_path / "s.pt", [NORMALISED.numpy(), LABELS]))
    assert "_reconstruct; nothing was called; expected only tensors in lists or mappings; where it was made" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", " is empty; expected a .pt file that torch.save wrote, .npz, or safetensors; get it again"),
        (
            b"one,two\n1,2\n",
            " cannot be read as tensors; expected a .pt file that torch.save wrote, .npz, or safetensors; get",
        ),
        (b"\x80\x02", " cannot be read as tensors"),
        (b"PK\x03\x04" + 60 * b"\x00", " cannot be read as tensors"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{no json", " cannot be read (Error while deserializing header"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", " cannot be read (Error while deserializing header"),
    ],
)
def test_files_that_hold_no_tensors(tmp_path, content, expected):
    (tmp_path / "s.pt").write_bytes(content)
    assert refused(SourceError, tmp_path / "s.pt").startswith(f"{tmp_path}/s.pt{expected}")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file(tmp_path, zipped, part):
    path = saved(tmp_path / "s.pt", as_dc(), _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert refused(SourceError, path).startswith(f"{path} cannot be read as tensors")


def test_a_compressed_archive_is_not_unpacked(tmp_path):
    plain, packed = zipfile.ZipFile(saved(tmp_path / "s.pt", [NORMALISED, LABELS])), io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))
    plain.close()
    (tmp_path / "s.pt").write_bytes(packed.getvalue())
    assert " is a compressed archive; expected a .pt file " in refused(SourceError, tmp_path / "s.pt")


def test_paths_that_are_no_files(tmp_path):
    assert refused(SourceError, tmp_path).startswith(f"{tmp_path} is a folder; expected a .pt file")
    assert refused(SourceError, tmp_path / "no.pt").startswith(f"{tmp_path}/no.pt does not exist; expected a .pt file")
    assert refused(ParamsError).startswith("no file is given; expected the images and their labels")


def test_our_own_artifacts_need_no_import(tmp_path, imported):
    artifact.save_synthetic(tmp_path / "ours.safetensors", imported, {})
    assert " is already an artifact of distillkit" in refused(SourceError, tmp_path / "ours.safetensors")


def test_images_in_another_space_than_was_said(tmp_path, capsys):
    levels = torch.tensor([[0.0, 255.0], [51.0, 102.0], [3.0, 0.0], [7.0, 204.0]]).view(4, 1, 1, 2)
    line = refused(SourceError, saved(tmp_path / "l.pt", [levels, LABELS]), saved_as="pixels")
    assert line == (
        f"l.pt: the images are from 0 to 255 with median 7 and standard deviation {np.std(levels.numpy()):.4g}; "
        "expected pixels mostly in [0, 1]; divide them by 255"
    )
    dark = torch.where(levels < 200, 0, levels)
    assert "divide them by 255" in refused(SourceError, saved(tmp_path / "d.pt", [dark, LABELS]), saved_as="pixels")
    for images in (NORMALISED, NORMALISED - 2):
        line = refused(SourceError, saved(tmp_path / "n.pt", [images, LABELS]), saved_as="pixels")
        assert line.endswith("; use --saved-as normalised with --statistics")
    assert capsys.readouterr().err == ""
    read(saved(tmp_path / "p.pt", [PIXELS.clamp(0, 1), LABELS]))
    assert capsys.readouterr().err == (
        "warning: p.pt: all values lie in [0, 1], which looks like pixels; check --saved-as\n"
    )
    read(tmp_path / "l.pt")
    assert re.fullmatch(
        r"warning: l.pt: undoing the normalisation gives from 0.5 to 64.25 with median 2.25 and standard deviation "
        r"[\d.]+; check --statistics and --saved-as\n",
        capsys.readouterr().err,
    )


# The artifact, and its way through the pipeline


def test_what_the_command_writes_and_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, out = saved(tmp_path / "res.pt", [NORMALISED, LABELS]), Path("imported/dc-ipc2.safetensors")
    said = import_files([path], out, saved_as="normalised", statistics=GREY, classes="cat,dog")
    digest = base_files.sha256(out)
    snippet = said.pop("recipe")
    assert json.loads(json.dumps(said)) == {
        "path": "imported/dc-ipc2.safetensors",
        "sha256": digest,
        "images": 4,
        "image_shape": [1, 1, 2],
        "classes": 2,
        "images_per_class": 2,
        "soft_labels": None,
        "pixel_range": [0.0, 1.5],
    }
    expected = {"method": "imported", "ipc": 2, "file": "imported/dc-ipc2.safetensors", "sha256": digest}
    assert YAML(typ="safe").load(f"recipes:\n{snippet}") == {"recipes": {"dc-ipc2": expected}}

    synthetic, provenance = artifact.load_synthetic(out)
    assert torch.equal(synthetic.images, PIXELS)
    assert synthetic.class_names == ("cat", "dog")
    params = {"method": "imported", "saved_as": "normalised", "statistics": GREY, "labels": None}
    assert provenance == {"recipe": "dc-ipc2", "method": "imported", "params": params}
    assert (describe(out)["method"], describe(out)["images"]) == ("imported", {"total": 4, "learned": 4, "real": 0})
    assert str(tmp_path).encode() not in out.read_bytes(), "no path of this machine"


def test_same_files_same_bytes(tmp_path):
    images, labels = saved(tmp_path / "images.pt", NORMALISED), saved(tmp_path / "labels.pt", LABELS)
    told = {"saved_as": "normalised", "statistics": GREY, "overwrite": True}
    import_files([images, labels], tmp_path / "x.safetensors", **told)
    first = (tmp_path / "x.safetensors").read_bytes()
    import_files([labels, images], tmp_path / "x.safetensors", **told)
    assert (tmp_path / "x.safetensors").read_bytes() == first


def test_nothing_is_overwritten_unasked(tmp_path):
    path, out = saved(tmp_path / "s.pt", [NORMALISED, LABELS]), tmp_path / "x.safetensors"
    out.write_text("mine")
    with pytest.raises(
        ArtifactError, match=r"x.safetensors exists; expected a new file; choose another name, or say --overwrite"
    ):
        import_files([path], out, saved_as="normalised", statistics=GREY)
    assert out.read_text() == "mine"
    with pytest.raises(ParamsError, match=r"x.pt; expected a file name that ends in .safetensors"):
        import_files([path], tmp_path / "x.pt", saved_as="normalised", statistics=GREY)
    with pytest.raises(SourceError):
        import_files([tmp_path / "no.pt"], tmp_path / "new" / "y.safetensors", saved_as="normalised", statistics=GREY)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("dc-ipc2", "dc-ipc2"),
        ("with space", "with-space"),
        ("Ümläut:x", "Umlaut-x"),
        (".hidden", "hidden"),
        ("-x-", "x"),
        ("写真", "imported"),
        ("default", "imported-default"),
        ("mtt-lr0.1", "mtt-lr0-1"),
        ("con", "imported-con"),
        (201 * "x", 100 * "x"),
        ("__", "__"),
        ("a\nb", "a-b"),
    ],
)
def test_recipe_names_are_those_of_packages(tmp_path, monkeypatch, stem, name):
    monkeypatch.chdir(tmp_path)
    path, out = saved(tmp_path / "s.pt", [NORMALISED, LABELS]), Path("sets") / f"{stem}.safetensors"
    said = import_files([path], out, saved_as="normalised", statistics=GREY)
    ((found, recipe),) = YAML(typ="safe").load(f"recipes:\n{said['recipe']}")["recipes"].items()
    assert (found, recipe["file"]) == (name, f"sets/{stem}.safetensors")
    assert is_recipe_name(name)


def test_the_path_is_from_the_folder_of_the_pipeline(tmp_path, monkeypatch):
    """From wherever it is imported; the checksum is that of the file, not of another at that path from here."""
    monkeypatch.chdir(tmp_path)
    for folder in ("sets", "distill/sets"):
        Path(folder).mkdir(parents=True)
    Path("distill/dvc.yaml").write_text("artifacts/hub/")
    Path("sets/mtt.safetensors").write_bytes(b"another")
    path, told = saved(tmp_path / "s.pt", [NORMALISED, LABELS]), {"saved_as": "normalised", "statistics": GREY}
    said = import_files([path], Path("distill/sets/mtt.safetensors"), **told)
    recipe = YAML(typ="safe").load(f"recipes:\n{said['recipe']}")["recipes"]["mtt"]
    assert (recipe["file"], recipe["sha256"]) == (
        "sets/mtt.safetensors",
        base_files.sha256(Path("distill/sets/mtt.safetensors")),
    )


def test_a_set_outside_of_the_working_folder_makes_no_recipe(tmp_path, monkeypatch, capsys):
    for folder in ("repository", "elsewhere"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    (tmp_path / "repository" / "linked").symlink_to(tmp_path / "elsewhere")
    path = saved(tmp_path / "s.pt", [NORMALISED, LABELS])
    told = {"saved_as": "normalised", "statistics": GREY}
    for out in (Path("../x.safetensors"), tmp_path / "elsewhere" / "x.safetensors", Path("linked/../y.safetensors")):
        assert import_files([path], out, **told)["recipe"] is None
        said = (
            f"{out} is outside of {tmp_path}/repository; a recipe needs a path inside the repository; import it there\n"
        )
        assert capsys.readouterr().err == said
    inside = {
        Path("a/../b/x.safetensors"): "b/x",
        tmp_path / "repository/c.safetensors": "c",
        Path("linked/d.safetensors"): "linked/d",
    }
    (tmp_path / "repository" / "a").mkdir()
    for out, file in inside.items():
        assert f"file: {file}.safetensors\n" in import_files([path], out, **told)["recipe"]
    assert capsys.readouterr().err == ""


def test_classes_of_different_sizes_make_no_recipe(tmp_path, capsys):
    path, out = saved(tmp_path / "s.pt", [NORMALISED, torch.tensor([0, 1, 1, 1])]), tmp_path / "x.safetensors"
    said = import_files([path], out, saved_as="normalised", statistics=GREY)
    assert (said["images_per_class"], said["recipe"]) == ([1, 3], None)
    assert "x.safetensors has 1 to 3 images in each of 2 classes, so it has no recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["dc-ipc10", "a/b.safetensors", 60 * "1" + "e123", "0123", "yes", "true", "a: b", "#", "ü d", "~", '"', ""]
)
def test_text_comes_back_from_yaml(text):
    assert YAML(typ="safe").load(f"x: {quoted(text)}") == {"x": text}
    assert (quoted(text) == text) == (text in ("dc-ipc10", "a/b.safetensors", "yes"))


@pytest.fixture
def work(tmp_path, digits, experts, material, monkeypatch) -> Path:
    """A folder as it is before the distill stage, with images of another code for ten classes of digits."""
    trajectories, dynamics = experts
    info = SourceInfo("folder", "digits", "sha", "cc-by-4.0", params={})
    real = RealData(digits, digits.take(torch.arange(60)), channel_statistics(digits.images), info)
    expert = Expert(trajectories.trajectories_ETP[0], Dynamics(*(part[0] for part in dynamics)))
    save_real(tmp_path / "real.safetensors", real)
    save_experts(tmp_path / "experts" / "shard-0.safetensors", [expert], trajectories.spec, {})
    artifact.save_difficulty(tmp_path / "difficulty.safetensors", material.difficulty_N, {}, {})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def distill(monkeypatch, capsys) -> Callable[[str], tuple[int, str]]:
    """Run the distill stage of one recipe in this process, to its exit: its code and what it told."""

    def distill(recipe: str) -> tuple[int, str]:
        inputs = ["real.safetensors", "experts", "difficulty.safetensors"]
        monkeypatch.setattr(sys, "argv", ["distill", recipe, *inputs, f"out/{recipe}.safetensors", f"out/{recipe}.csv"])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(Path(__file__).parents[1] / "stages" / "distill.py"), run_name="__main__")
        return ended.value.code, capsys.readouterr().err

    return distill


def test_an_imported_set_goes_through_the_pipeline(work, distill, imported, material):
    images = imported.normalisation.apply(imported.images)
    path = saved(work / "res_DC_digits_ipc4.pt", {"data": [[images, imported.labels]], "accs_all_exps": ACCURACIES})
    out = Path("imported/dc-ipc4.safetensors")
    said = import_files([path], out, saved_as="normalised", statistics=GREY)
    params = f"seed: 0\nexpert_shards: [0]\nrecipes:\n{said['recipe']}"
    (work / "params.yaml").write_text(params)
    assert distill("dc-ipc4") == (0, "")

    synthetic, provenance = artifact.load_synthetic(work / "out/dc-ipc4.safetensors")
    torch.testing.assert_close(synthetic.images, imported.images, rtol=0, atol=1e-6)
    assert torch.equal(synthetic.normalisation.mean, material.normalisation.mean)
    assert synthetic.notes["imported"]["files"] == [{"name": path.name, "sha256": base_files.sha256(path)}]
    assert synthetic.notes["imported"]["mean"] == [0.5]
    assert provenance["params"] == YAML(typ="safe").load(params)["recipes"]["dc-ipc4"]
    assert provenance["source"]["id"] == "digits"
    assert (work / "out/dc-ipc4.csv").read_text() == "step,loss,student_lr\n"

    before, first = said["sha256"], (work / "out/dc-ipc4.safetensors").read_bytes()
    assert distill("dc-ipc4") == (0, "")
    assert (work / "out/dc-ipc4.safetensors").read_bytes() == first

    changed = import_files([path], out, saved_as="normalised", statistics="0.5/0.24", overwrite=True)["sha256"]
    assert distill("dc-ipc4") == (
        1,
        f"error: imported/dc-ipc4.safetensors is not the file that the recipe means: found SHA-256 {changed}, expected "
        f"{before}; put that file back, or write into the recipe in params.yaml: sha256: '{changed}'\n",
    )
    assert (work / "out/dc-ipc4.safetensors").read_bytes() == first
    out.unlink()
    expected = "error: file imported/dc-ipc4.safetensors does not exist; expected what distillkit import wrote; "
    assert distill("dc-ipc4") == (1, f"{expected}import or pull it first\n")
    for elsewhere in ("/elsewhere/", "../", "imported/../../"):
        (work / "params.yaml").write_text(params.replace("file: ", f"file: {elsewhere}"))
        expected = f"error: file is {elsewhere}imported/dc-ipc4.safetensors; expected a path inside this repository"
        assert distill("dc-ipc4")[1].startswith(expected)
