"""Two versions of a set: which image is which, by hand-derived numbers; as lines, as JSON and as a picture."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.check.diff import inputs
from distillkit.check.diff.compare import compare, compare_packages
from distillkit.check.diff.images import partners
from distillkit.check.diff.picture import amplification, draw
from distillkit.check.diff.result import ABSENT, Difference, PackageDifference, Version
from distillkit.check.diff.text import as_json, lines, package_as_json, package_lines
from distillkit.data.images import Normalisation, SyntheticSet
from distillkit.report.pictures import FRAME, GAP, LEARNED_COLOUR, spread

NAMES = ("crane", "heron")
GOOD, BETTER = {"mean": 0.9, "std": 0.03, "runs": 9}, {"mean": 0.92, "std": 0.04, "runs": 4}


def synthetic(levels: list[float], labels: list[int] | None = None, rows: list[int] | None = None) -> SyntheticSet:
    """Images of 2x2, each of one level, all of class 0 and begun from noise unless said."""
    count = len(levels)
    return SyntheticSet(
        images=torch.tensor(levels).view(count, 1, 1, 1).repeat(1, 1, 2, 2),
        labels=torch.tensor(labels or [0] * count),
        class_names=NAMES,
        learned=torch.ones(count, dtype=torch.bool),
        source_row=torch.tensor(rows or [-1] * count),
        normalisation=Normalisation(torch.tensor([0.5]), torch.tensor([0.25])),
    )


def version(images: SyntheticSet, **changes: Any) -> Version:
    return replace(Version("a set", images, {"ipc": 2}, GOOD), **changes)


def difference(before: SyntheticSet, after: SyntheticSet) -> Difference:
    return compare(version(before), version(after))


def pairs(found: Any) -> list[tuple[int, int]]:
    return [(pair.before, pair.after) for pair in found]


# Which image is which


def test_equal_copies_count_one_by_one() -> None:
    found = difference(synthetic([0.1, 0.5, 0.5, 0.5]), synthetic([0.5, 0.1, 0.5]))
    assert pairs(found.images.unchanged) == [(0, 1), (1, 0), (2, 2)]
    assert (found.images.removed, found.images.added) == ([3], [])
    assert found.reordered


def test_both_zeros_are_equal() -> None:
    assert difference(synthetic([0.0]), synthetic([-0.0])).same


def test_equal_pixels_of_another_class_are_relabelled() -> None:
    found = difference(synthetic([0.1, 0.6], [0, 0]), synthetic([0.1, 0.6], [0, 1]))
    assert pairs(found.images.unchanged) == [(0, 0)]
    assert pairs(found.images.relabelled) == [(1, 1)]
    assert found.counts == {"unchanged": 1, "changed": 0, "relabelled": 1, "added": 0, "removed": 0}


def test_the_training_row_tells_which_image_changed_and_rms_how_much() -> None:
    """Pixels 0.3, 0, 0, 0.4 of difference: √((0.09 + 0.16) / 4) = 0.25. Row 8 of the other class is another image."""
    before = synthetic([0.0, 0.9, 0.0], [0, 0, 0], rows=[7, 8, 9])
    after = synthetic([0.9, 0.0, 0.7], [1, 0, 0], rows=[8, 7, 5])
    after.images[1] = torch.tensor([[0.3, 0.0], [0.0, -0.4]])
    before.images[0] = 0.0
    before.images[2] = 0.2
    found = difference(before, after)
    assert pairs(found.images.relabelled) == [(1, 0)]
    assert pairs(found.images.changed) == [(0, 1)]
    assert found.images.changed[0].rms == pytest.approx(0.25)
    assert (found.images.removed, found.images.added) == ([2], [2])


def test_a_training_row_used_twice_is_paired_in_order_and_the_most_changed_come_first() -> None:
    found = difference(synthetic([0.1, 0.2, 0.3], rows=[4, 4, 4]), synthetic([0.15, 0.5], rows=[4, 4]))
    assert [(p.before, p.after, round(p.rms, 6)) for p in found.images.changed] == [(1, 1, 0.3), (0, 0, 0.05)]
    assert found.images.removed == [2]


def test_training_rows_of_different_sources_mean_nothing_to_one_another() -> None:
    before, after = synthetic([0.1, 0.9], rows=[4, 5]), synthetic([0.2, 0.8], rows=[5, 4])
    here, there = ({"kind": "folder", "id": name, "revision": "1", "params": {}} for name in ("here", "there"))
    assert pairs(compare(version(before, source=here), version(after, source=here)).images.changed) == [(0, 1), (1, 0)]
    found = compare(version(before, source=here), version(after, source=there))
    assert pairs(found.images.changed) == [(0, 0), (1, 1)]
    assert any("different sources" in line for line in lines(found))
    relicensed = compare(version(before, source=here), version(after, source={**here, "licence": "mit"}))
    assert pairs(relicensed.images.changed) == [(0, 1), (1, 0)]


def test_images_from_noise_are_paired_where_twice_as_near_as_any_other() -> None:
    """0.10 and 0.14 are 0.04 apart, and 0.1 from the next; 0.40 is 0.16 from 0.24 and 0.2 from 0.60."""
    found = difference(synthetic([0.10, 0.40]), synthetic([0.14, 0.24, 0.60]))
    assert pairs(found.images.changed) == [(0, 0)]
    assert (found.images.removed, found.images.added) == ([1], [1, 2])


def test_an_unchanged_image_of_the_class_may_be_the_nearer_one() -> None:
    apart = difference(synthetic([0.3, 0.5]), synthetic([0.3, 0.2]))
    assert (pairs(apart.images.changed), apart.images.removed, apart.images.added) == ([], [1], [1])
    assert pairs(difference(synthetic([0.3, 0.9]), synthetic([0.3, 0.8])).images.changed) == [(1, 1)]


def test_only_one_training_row_need_be_unknown() -> None:
    """An imported copy has lost its rows; two different rows are different images, however near."""
    known = synthetic([0.2, 0.8], rows=[3, 4])
    assert len(difference(known, synthetic([0.21, 0.81])).images.changed) == 2
    assert difference(known, synthetic([0.21, 0.81], rows=[5, 6])).images.changed == []


def test_images_from_noise_are_paired_within_their_class() -> None:
    found = difference(synthetic([0.2, 0.8], [0, 1]), synthetic([0.7, 0.3], [0, 1]))
    assert sorted(pairs(found.images.changed)) == [(0, 0), (1, 1)]


def test_partners_are_mutual_and_twice_as_near() -> None:
    assert partners(synthetic([0.0, 0.1, 0.3, 1.0]).images) == [(0, 1), (1, 0)]
    assert partners(synthetic([0.0, 1.0]).images) == [(0, 1), (1, 0)]
    assert partners(synthetic([0.0, 0.1, 0.25]).images) == []  # 0.1 is only 1.5 times as near to 0.0


@pytest.mark.parametrize("rows", [[1, 2, 3, 4, 5, 6], [-1] * 6, [1, -1, 3, -1, 5, -1]])
def test_sides_swapped_say_the_same(rows: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    before = synthetic([0.0] * 6, [0, 0, 0, 1, 1, 1], rows)
    images = torch.rand(6, 1, 2, 2, generator=generator)
    noise = 0.02 * torch.randn(6, 1, 2, 2, generator=generator) * torch.tensor([0, 1, 1, 0, 1, 1]).view(6, 1, 1, 1)
    before = replace(before, images=images)
    order = torch.tensor([5, 0, 1, 3, 4])
    after = replace(before, images=(images + noise)[order], labels=before.labels[order].clone())
    after = replace(after, learned=before.learned[order], source_row=before.source_row[order])
    after.labels[3] = 0  # the image that was row 3
    forth, back = difference(before, after), difference(after, before)
    assert forth.counts == {"unchanged": 1, "changed": 3, "relabelled": 1, "added": 0, "removed": 1}
    for kind in ("unchanged", "changed", "relabelled"):
        there, here = getattr(forth.images, kind), getattr(back.images, kind)
        assert {(p.after, p.before, p.rms) for p in there} == {(p.before, p.after, p.rms) for p in here}
    assert (forth.images.removed, forth.images.added) == (back.images.added, back.images.removed)
    assert forth.properties == {name: (new, old) for name, (old, new) in back.properties.items()}


@pytest.mark.parametrize(
    ("after", "sentence"),
    [
        (replace(synthetic([0.1]), images=torch.zeros(1, 3, 2, 2)), "images are 1x2x2 before and 3x2x2 after"),
        (replace(synthetic([0.1]), class_names=("crane", "egret")), "class 1 is 'heron' before and 'egret' after"),
        (replace(synthetic([0.1]), class_names=("crane",)), "there are 2 classes before and 1 after"),
    ],
)
def test_images_of_other_kinds_are_not_compared_and_it_is_said(
    after: SyntheticSet, sentence: str, tmp_path: Path
) -> None:
    found = compare(version(synthetic([0.1, 0.2])), version(after, params={"ipc": 1}))
    assert found.incomparable == sentence
    assert not found.same
    assert f"images    2 → 1, not compared: {sentence}" in list(lines(found))
    assert found.params == {"ipc": (2, 1)}
    assert as_json(found)["images"]["counts"] is None
    draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0


# Numbers


def test_parameters_are_compared_by_leaf_and_absence_is_not_null() -> None:
    old = {"method": "mtt", "optim": {"steps": 30, "image_lr": 1}, "start": None, "flag": 1, "window_start": 0.2}
    new = {"method": "mtt", "optim": {"steps": 90, "image_lr": 1.0}, "flag": True, "window_start": {"runs": 2}}
    found = compare(version(synthetic([0.1]), params=old), version(synthetic([0.1]), params=new))
    assert found.params == {
        "optim.steps": (30, 90),
        "start": (None, ABSENT),
        "flag": (1, True),
        "window_start": (0.2, ABSENT),
        "window_start.runs": (ABSENT, 2),
    }
    assert as_json(found)["params"]["start"] == {"before": None}
    table = [line.split() for line in lines(found)]
    assert ["optim.steps", "30", "90"] in table
    assert ["start", "null", "–"] in table
    assert ["flag", "1", "true"] in table


def test_what_a_side_does_not_know_is_no_difference_but_is_told() -> None:
    lone = version(synthetic([0.1]), params={}, accuracy=None)
    found = compare(version(synthetic([0.1])), lone)
    assert found.same
    assert list(lines(found)) == [
        "a set and a set are the same: 1 image (not known on both sides: parameters, accuracy)"
    ]
    changed = compare(version(synthetic([0.1])), replace(lone, synthetic=synthetic([0.2])))
    assert any("parameters are not known" in line for line in lines(changed))
    assert any("accuracy  90.00 ± 3.00 % (n = 9) → not known" in line for line in lines(changed))
    assert as_json(changed)["not_known"] == ["parameters", "accuracy"]


def test_properties_of_the_set_are_compared() -> None:
    before = synthetic([0.1, 0.2])
    after = replace(
        before,
        student_lr=0.5,
        learned=torch.tensor([True, False]),
        normalisation=Normalisation(torch.tensor([0.1]), torch.tensor([0.25])),
        notes={"window_start": 0.2},
    )
    assert difference(before, after).properties == {
        "learned": (2, 1),
        "normalisation.mean": ([0.5], [0.1]),
        "student_lr": (None, 0.5),
        "notes.window_start": (ABSENT, 0.2),
    }


def test_accuracies_differ_within_a_margin_of_noise() -> None:
    """Errors 3/√9 = 1 and 4/√4 = 2 points, together √5. Welch's ν = 25 / (1/8 + 16/3) = 4.58; t there is 2.644."""
    found = compare(version(synthetic([0.1])), version(synthetic([0.1]), accuracy=BETTER))
    change = found.accuracy
    assert change is not None and change.standard_error is not None
    assert change.points == pytest.approx(2.0)
    assert change.standard_error == pytest.approx(5**0.5)
    assert change.margin == pytest.approx(5**0.5 * 2.644, rel=1e-3)
    assert change.within_noise
    assert not found.same
    words = "90.00 ± 3.00 % (n = 9) → 92.00 ± 4.00 % (n = 4): +2.00 points, within noise (± 5.91 at 95 %)"
    assert f"accuracy  {words}" in list(lines(found))
    beyond = compare(version(synthetic([0.1])), version(synthetic([0.1]), accuracy={**BETTER, "mean": 0.99})).accuracy
    assert beyond is not None and beyond.within_noise is False


def test_a_single_network_tells_nothing_of_noise_and_no_spread_is_no_margin() -> None:
    single = version(synthetic([0.1]), accuracy={"mean": 0.95, "std": 0.0, "runs": 1})
    found = compare(version(synthetic([0.1])), single)
    assert found.accuracy is not None and found.accuracy.within_noise is None
    assert any("+5.00 points, and one network cannot show" in line for line in lines(found))
    exact = [version(synthetic([0.1]), accuracy={"mean": mean, "std": 0.0, "runs": 3}) for mean in (0.5, 0.6)]
    assert compare(*exact).accuracy.within_noise is False  # type: ignore[union-attr]
    assert compare(exact[0], exact[0]).same


def test_accuracies_measured_in_different_ways_are_told() -> None:
    sides = [version(synthetic([0.1]), evaluation={"training": {"steps": steps}}) for steps in (200, 300)]
    found = compare(*sides)
    assert found.evaluation == {"training.steps": (200, 300)}
    assert any("measured in different ways" in line for line in lines(found))
    assert ["evaluation.training.steps", "200", "300"] in [line.split() for line in lines(found)]


# For people and programs


def test_sets_that_are_the_same_take_one_line() -> None:
    found = difference(synthetic([0.1, 0.2]), synthetic([0.1, 0.2]))
    assert found.same
    assert list(lines(found)) == ["a set and a set are the same: 2 images, parameters, accuracy"]


def test_another_order_is_a_difference() -> None:
    found = difference(synthetic([0.1, 0.2]), synthetic([0.2, 0.1]))
    assert not found.same
    assert "images    2 → 2: 2 unchanged, unchanged ones in another order" in list(lines(found))


def test_lines_count_by_class_and_say_how_much() -> None:
    before = synthetic([0.1, 0.5, 0.9, 0.3], [0, 0, 0, 1], rows=[1, 2, 3, 4])
    after = synthetic([0.1, 0.6, 0.8, 0.4, 0.3], [0, 0, 0, 0, 1], rows=[1, 2, 3, 9, 4])
    after.images[2] = 0.6
    found = list(lines(difference(before, after)))
    assert "images    4 → 5: 4 unchanged" not in found
    assert "images    4 → 5: 2 unchanged, 2 changed (RMS median 0.2, largest 0.3), 1 added" in found
    table = [line.split() for line in found]
    assert ["class", "unchanged", "changed", "added"] in table
    assert ["crane", "1", "2", "1"] in table
    assert "heron" not in [cells[0] for cells in table if cells]


def test_long_tables_are_cut_and_say_so() -> None:
    names = tuple(f"bird{label}" for label in range(30))
    before = replace(synthetic([0.1] * 30, list(range(30))), class_names=names)
    after = replace(before, images=before.images + 0.1)
    params = [{f"knob{index}": index + side for index in range(50)} for side in (0, 1)]
    found = list(lines(compare(version(before, params=params[0]), version(after, params=params[1]))))
    assert "… and 10 more classes" in found
    assert "… and 10 more parameters" in found


def test_values_too_long_for_the_table_are_cut_unless_the_rest_differs() -> None:
    sides = [version(synthetic([0.1]), params={"one": first * 99, "two": "x" * 99 + first}) for first in "ab"]
    found = "\n".join(lines(compare(*sides)))
    assert "a" * 47 + "…" in found
    assert "x" * 99 + "b" in found


def test_a_name_cannot_move_the_terminals_cursor() -> None:
    before = replace(synthetic([0.1]), class_names=("\x1b[2J", "heron"))
    sides = version(before, label="a\rb"), version(replace(before, images=before.images + 0.1))
    found = list(lines(compare(*sides)))
    assert all(line.isprintable() for line in found)


def test_json_is_plain_and_names_every_image() -> None:
    before = synthetic([0.1, 0.5, 0.9], [0, 0, 1], rows=[1, 2, 3])
    after = synthetic([0.1, 0.75, 0.3], [0, 0, 1], rows=[1, 2, 4])
    found = as_json(compare(version(before), version(after, accuracy=BETTER)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["images"]["counts"] == {"unchanged": 1, "changed": 1, "relabelled": 0, "added": 1, "removed": 1}
    assert found["images"]["changed"] == [{"before": 1, "after": 1, "class": "crane", "rms": 0.25}]
    assert found["images"]["added"] == [{"after": 2, "class": "heron"}]
    assert found["images"]["removed"] == [{"before": 2, "class": "heron"}]
    assert found["accuracy"]["before"] == GOOD
    assert found["accuracy"]["points"] == pytest.approx(2.0)
    assert found["same"] is False


def test_recipes_without_files_are_not_compared(first: Path, tmp_path: Path) -> None:
    """Of a package that was pulled in part, the missing recipes are told, and do not count as removed."""
    part, one = shutil.copytree(first, tmp_path / "part"), str(first / "random-ipc2/distilled.safetensors")
    shutil.rmtree(part / "random-ipc1")
    for before, after in ((first, part), (part, first)):
        found = inputs.difference(str(before), str(after), None)
        assert isinstance(found, PackageDifference) and found.same and list(found.common) == ["random-ipc2"]
        told = "not compared, because their files are not in both folders: random-ipc1"
        assert list(package_lines(found)) == [told, "1 of 2 recipes compared, no difference: random-ipc2"]
        assert package_as_json(found)["not_compared"] == ["random-ipc1"] and not package_as_json(found)["same"]
    with pytest.raises(
        ArtifactError,
        match=r"part does not have the recipe 'random-ipc1'; expected its files; pull it,",
    ):
        inputs.difference(str(first), str(part), "random-ipc1")
    with pytest.raises(ParamsError, match=r"has recipes random-ipc1, random-ipc2; expected one"):
        inputs.difference(str(first), one, None)
    assert isinstance(inputs.difference(str(part), one, None), Difference)
    shutil.rmtree(shutil.copytree(first, other := tmp_path / "other") / "random-ipc2")
    found = inputs.difference(str(part), str(other), None)
    assert isinstance(found, PackageDifference) and list(package_lines(found))[1:] == ["nothing to compare"]


def test_packages_are_compared_recipe_by_recipe() -> None:
    old, new = version(synthetic([0.1, 0.5])), version(synthetic([0.1, 0.9, 0.2]), accuracy=BETTER)
    found = compare_packages({"mtt": old, "random": old, "window": old}, {"mtt": new, "window": old, "selmatch": new})
    assert (list(found.added), list(found.removed)) == (["selmatch"], ["random"])
    table = {line.split("  ")[0]: line for line in package_lines(found)}
    assert "2 → 3: 1 unchanged, 2 added, 1 removed" in table["mtt"]
    assert "90.00 → 92.00 % (+2.00 points, within noise)" in table["mtt"]
    assert "the same" in table["window"]
    assert "recipe added: 3 images" in table["selmatch"]
    assert "recipe removed: 2 images" in table["random"]
    plain = package_as_json(found)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["recipes"]["window"]["same"] is True
    assert list(package_lines(compare_packages({"mtt": old}, {"mtt": old}))) == ["every recipe is the same: mtt"]


# The picture


def everything() -> Difference:
    before = synthetic([0.1, 0.2, 0.5, 0.9, 0.95], [0, 0, 0, 1, 1], rows=[1, 2, 3, 4, 5])
    after = synthetic([0.1, 0.3, 0.5, 0.65, 0.7], [0, 0, 1, 1, 1], rows=[1, 2, 3, 4, 6])
    return difference(before, after)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.convert("RGB")


def test_the_picture_shows_before_after_and_difference(tmp_path: Path) -> None:
    """The most changed image goes from 0.9 to 0.65: levels 230 and 166; 0.5 - 0.25 · 2 = 0 is black."""
    assert everything().counts == {"unchanged": 1, "changed": 2, "relabelled": 1, "added": 1, "removed": 1}
    draw(everything(), tmp_path / "picture.png")
    pixels = np.asarray(opened(tmp_path / "picture.png")).astype(int)
    frames = (pixels == LEARNED_COLOUR).all(2)
    y = int(np.flatnonzero(frames.sum(1) >= 2 * 48)[0])  # the first row of frames
    x = int(np.flatnonzero(frames[y])[0])
    inside = slice(x + FRAME, x + FRAME + 48)
    step = 48 + 2 * FRAME + GAP
    for place, level in enumerate((230, 166, 0)):
        top = y + FRAME + place * step
        assert (pixels[top : top + 48, inside] == level).all()


def test_a_picture_is_the_same_bytes_twice_and_leaves_nothing_else(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        draw(everything(), tmp_path / "new" / name)
    assert (tmp_path / "new/one.png").read_bytes() == (tmp_path / "new/two.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["one.png", "two.png"]


def test_more_columns_make_a_wider_picture(tmp_path: Path) -> None:
    found = difference(synthetic([0.5]), synthetic([index / 50 for index in range(1, 40)], rows=list(range(39))))
    for columns in (16, 30):
        draw(found, tmp_path / f"{columns}.png", columns)
    assert opened(tmp_path / "30.png").width - opened(tmp_path / "16.png").width == 14 * (48 + 2 * FRAME + GAP)


def test_a_picture_of_nothing_says_so(tmp_path: Path) -> None:
    draw(difference(synthetic([0.1]), synthetic([0.1])), tmp_path / "picture.png")
    picture = opened(tmp_path / "picture.png")
    assert picture.height < 150
    assert np.asarray(picture).min() < 100  # words


def test_hostile_names_do_not_break_the_picture(tmp_path: Path) -> None:
    before = replace(synthetic([0.1, 0.2], [0, 1]), class_names=("x\n" * 300, "\x1b[2J"))
    sides = version(before, label="y" * 5000), version(replace(before, images=before.images + 0.3))
    draw(compare(*sides), tmp_path / "picture.png")
    picture = opened(tmp_path / "picture.png")
    assert picture.width <= 1300
    assert picture.height < 400


def test_a_folder_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no regular file"):
        draw(everything(), tmp_path)


@pytest.mark.parametrize(("largest", "factor"), [(0.5, 1), (0.3, 1), (0.25, 2), (0.04, 8), (1.0, 0.5), (1e-9, 1024)])
def test_differences_are_amplified_by_a_power_of_two(largest: float, factor: float) -> None:
    assert amplification([torch.full((1, 2, 2), largest)]) == factor


def test_strips_spread_over_all_rows() -> None:
    assert spread([3, 5, 7], 16) == [3, 5, 7]
    assert spread(list(range(31)), 4) == [0, 10, 20, 30]
    assert spread([3, 5], 1) == [3]
