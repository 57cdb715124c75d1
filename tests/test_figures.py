"""Pictures: known pixels at known places, whole PNGs of the expected size, the same bytes twice."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from distillkit.data.images import Normalisation, SyntheticSet
from distillkit.report import pictures, plots, results
from distillkit.report.pictures import FRAME, GAP, LEARNED_COLOUR, LINE, MARGIN, REAL_COLOUR, TEXT_COLOUR, preview_grid
from distillkit.report.results import Row

HOSTILE = ["_hidden", "$x$ $", "<script>alert(1)</script>", "a|b*c_", "x" * 300, "two\nlines", ""]


def synthetic(images: torch.Tensor, labels: list[int], learned: list[bool], names: tuple[str, ...]) -> SyntheticSet:
    channels = images.shape[1]
    return SyntheticSet(
        images=images,
        labels=torch.tensor(labels),
        class_names=names,
        learned=torch.tensor(learned),
        source_row=torch.arange(len(labels)),
        normalisation=Normalisation(torch.zeros(channels), torch.ones(channels)),
    )


def grid(tmp_path: Path, *args: SyntheticSet, columns: int = 10) -> Image.Image:
    path = tmp_path / "grid.png"
    preview_grid(*args, path, columns)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.convert("RGB")


def left_edge(picture: Image.Image, y: int) -> int:
    """The first coloured pixel of a row, past the class's name: where the first frame begins."""
    line = np.asarray(picture)[y].astype(int)
    coloured = [(line == colour).all(1) for colour in (LEARNED_COLOUR, REAL_COLOUR)]
    return int(np.flatnonzero(coloured[0] | coloured[1])[0])


def row(recipe: str = "a", method: str = "random", ipc: int | None = 5, accuracy: float = 0.9, runs: int = 3) -> Row:
    return Row(recipe, method, ipc, 50, 50, 0, accuracy, 0.01, runs, 0.99, 0.95, 0.8)


ROWS = [
    row("random-ipc5"),
    row("selmatch-ipc5", "selmatch", accuracy=0.95, runs=1),
    row("mtt-ipc10", "mtt", 10, 0.96),
    row("full", "full", None, 0.99),
]
CURVES = {"mtt-ipc10": [(1, 1.2), (2, 1.0), (3, 0.9)], "mtt-ipc5": [(1, 1.3)], "random-ipc5": []}
PLOTS: dict[str, Callable[[Path], None]] = {
    "accuracy": lambda path: plots.accuracy_plot(ROWS, path),
    "coverage": lambda path: plots.coverage_plot(ROWS, path),
    "loss": lambda path: plots.loss_plot({"Loss": CURVES}, path, {"mtt-ipc10": "mtt", "mtt-ipc5": "mtt"}),
    "training": lambda path: plots.training_plot(CURVES, path, {}),
    "no accuracy": lambda path: plots.accuracy_plot([], path),
    "full alone": lambda path: plots.accuracy_plot([row("full", "full", None)], path),
    "no coverage": lambda path: plots.coverage_plot([], path),
    "no loss": lambda path: plots.loss_plot({}, path, {}),
    "two losses": lambda path: plots.loss_plot({"One": CURVES, "Other": CURVES}, path, {}),
    "no training": lambda path: plots.training_plot({}, path, {}),
}


def test_small_images_are_enlarged_in_frames_that_tell_learned_from_real(tmp_path: Path) -> None:
    images = torch.tensor([0.0, 1.0, -3.0, 5.0]).view(4, 1, 1, 1).expand(4, 1, 8, 8).contiguous()
    images[0, 0, 0, 1] = 0.5
    picture = grid(tmp_path, synthetic(images, [0, 0, 1, 1], [False, True, True, False], ("a", "b")))
    tile = 6 * 8 + 2 * FRAME  # 48 / 8 = 6 times
    x, y, step = left_edge(picture, MARGIN + FRAME), MARGIN, 6 * 8 + 2 * FRAME + GAP
    assert picture.height == MARGIN + 2 * step + 2 * LINE + MARGIN
    assert picture.width >= x + 2 * tile + GAP + MARGIN
    for column, line, frame, inside in [
        (0, 0, REAL_COLOUR, (0, 0, 0)),
        (1, 0, LEARNED_COLOUR, (255, 255, 255)),
        (0, 1, LEARNED_COLOUR, (0, 0, 0)),  # -3 is clipped to black
        (1, 1, REAL_COLOUR, (255, 255, 255)),  # 5 is clipped to white
    ]:
        left, top = x + column * step, y + line * step
        for corner in [(left, top), (left + tile - 1, top + tile - 1), (left + FRAME - 1, top + tile // 2)]:
            assert picture.getpixel(corner) == frame
        assert picture.getpixel((left + FRAME, top + FRAME)) == inside
        assert picture.getpixel((left + tile - FRAME - 1, top + tile - FRAME - 1)) == inside
        assert picture.getpixel((left + tile, top)) == (255, 255, 255)
    # The half grey pixel (row 0, column 1) is 6x6 sharp pixels of round(127.5) = 128.
    block = np.asarray(picture)[y + FRAME : y + FRAME + 6, x + FRAME + 6 : x + FRAME + 12]
    assert (block == 128).all()
    assert picture.getpixel((x + FRAME + 5, y + FRAME)) == (0, 0, 0)
    assert picture.getpixel((x + FRAME + 12, y + FRAME)) == (0, 0, 0)


def test_colours_keep_their_channels_and_rectangles_their_shape(tmp_path: Path) -> None:
    images = torch.zeros(1, 3, 12, 24)
    images[:, 0] = 1.0
    images[:, 2] = 0.2
    picture = grid(tmp_path, synthetic(images, [0], [True], ("only",)))
    x = left_edge(picture, MARGIN)
    assert picture.getpixel((x + FRAME, MARGIN + FRAME)) == (255, 0, 51)
    assert picture.getpixel((x + FRAME + 47, MARGIN + FRAME + 23)) == (255, 0, 51)  # 24x12, twice as large
    assert picture.getpixel((x + FRAME + 48, MARGIN + FRAME + 23)) == LEARNED_COLOUR
    assert picture.getpixel((x + FRAME + 47, MARGIN + FRAME + 24)) == LEARNED_COLOUR


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((1, 1), (48, 48)),
        ((8, 8), (48, 48)),
        ((28, 28), (56, 56)),
        ((32, 32), (64, 64)),
        ((96, 96), (96, 96)),
        ((224, 112), (96, 48)),
        ((128, 256), (48, 96)),
        ((2, 900), (1, 96)),
    ],
)
def test_images_are_shown_at_a_size_between_48_and_96(shape: tuple[int, int], shown: tuple[int, int]) -> None:
    picture = pictures.as_tile(torch.rand(1, *shape))
    assert (picture.height - 2 * FRAME, picture.width - 2 * FRAME) == shown


def test_columns_are_spread_from_the_first_image_of_a_class_to_its_last(tmp_path: Path) -> None:
    labels = [0] * 7 + [1] * 2
    levels = torch.linspace(0, 1, 9)
    several = synthetic(levels.view(9, 1, 1, 1).expand(9, 1, 8, 8), labels, [True] * 9, ("a", "b"))
    assert pictures.class_sample(several, 0, 3) == [0, 3, 6]
    assert pictures.class_sample(several, 0, 1) == [0]
    assert pictures.class_sample(several, 1, 3) == [7, 8]
    picture = grid(tmp_path, several, columns=3)
    x, step = left_edge(picture, MARGIN), 48 + 2 * FRAME + GAP
    seen = [picture.getpixel((x + FRAME + column * step, MARGIN + FRAME)) for column in range(3)]
    assert seen == [(0, 0, 0), (96, 96, 96), (191, 191, 191)]  # 0, 3/8 and 6/8 of 255, rounded
    assert picture.getpixel((x + 2 * step, MARGIN + step)) == (255, 255, 255)  # class b has no third image


def test_a_class_without_images_is_an_empty_row(tmp_path: Path) -> None:
    picture = grid(tmp_path, synthetic(torch.rand(1, 1, 8, 8), [1], [False], ("none", "some")))
    step = 48 + 2 * FRAME + GAP
    assert picture.height == MARGIN + 2 * step + 2 * LINE + MARGIN
    x = left_edge(picture, MARGIN + step)
    assert (np.asarray(picture)[MARGIN : MARGIN + step, x:] == 255).all()


def lines_below(synthetic: SyntheticSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The words that a preview has below its rows."""
    drawn: list[tuple[str, Any]] = []
    draw = pictures.picture_of
    monkeypatch.setattr(pictures, "picture_of", lambda rows, notes: (drawn.extend(notes), draw(rows, notes))[1])
    grid(tmp_path, synthetic)
    return drawn


def test_of_many_classes_the_first_twenty_are_shown_and_it_is_said(tmp_path, monkeypatch) -> None:
    names = tuple(f"class {label}" for label in range(200))
    many = synthetic(torch.rand(200, 1, 8, 8), list(range(200)), [True] * 50 + [False] * 150, names)
    assert lines_below(many, tmp_path, monkeypatch) == [
        ("■ learned 50", LEARNED_COLOUR),
        ("■ real 150", REAL_COLOUR),
        ("first 20 of 200 classes", TEXT_COLOUR),
    ]
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.height == MARGIN + 20 * (48 + 2 * FRAME + GAP) + 3 * LINE + MARGIN


def test_both_colours_are_explained_at_the_bottom(tmp_path: Path) -> None:
    picture = grid(tmp_path, synthetic(torch.rand(1, 1, 8, 8), [0], [True], ("a",)))
    bottom = np.asarray(picture)[-2 * LINE - MARGIN :].reshape(-1, 3)
    for colour in (LEARNED_COLOUR, REAL_COLOUR):
        assert (bottom == colour).all(1).sum() > 20


def test_a_grid_is_the_same_bytes_twice_and_leaves_nothing_else(tmp_path: Path) -> None:
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    example = synthetic(images, [0, 0, 1, 1, 2, 2], [True, False] * 3, (*HOSTILE[:2], "ß 漢"))
    for name in ("one.png", "two.png"):
        preview_grid(example, tmp_path / "new" / name)
    assert (tmp_path / "new/one.png").read_bytes() == (tmp_path / "new/two.png").read_bytes()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["one.png", "two.png"]


@pytest.mark.parametrize("name", PLOTS)
def test_plots_are_whole_pngs_1280_wide_without_metadata(name: str, tmp_path: Path) -> None:
    PLOTS[name](tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        picture.load()
        assert picture.width == 1280
        assert 400 <= picture.height <= 720 * (2 if name.startswith("two") else 1)
        assert set(picture.info) <= {"dpi"}
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None and len(colours) > 1  # something is drawn


@pytest.mark.parametrize("name", ["accuracy", "loss"])
def test_plots_are_the_same_bytes_twice_whatever_the_users_settings(name: str, tmp_path: Path) -> None:
    PLOTS[name](tmp_path / "one.png")
    with matplotlib.rc_context({"axes.facecolor": "red", "font.size": 30, "savefig.dpi": 50, "text.parse_math": True}):
        before = dict(matplotlib.rcParams)
        PLOTS[name](tmp_path / "two.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_hostile_names_are_drawn_as_they_stand(tmp_path: Path) -> None:
    rows = [row(name, "selmatch", accuracy=0.5 + 0.01 * place) for place, name in enumerate(HOSTILE)]
    plots.accuracy_plot(rows, tmp_path / "accuracy.png")
    plots.coverage_plot(rows, tmp_path / "coverage.png")
    plots.loss_plot({"Loss": {name: [(1, 1.0), (2, 0.5)] for name in HOSTILE}}, tmp_path / "loss.png", {})
    assert len(list(tmp_path.iterdir())) == 3


def test_plots_grow_with_the_number_of_recipes(tmp_path: Path) -> None:
    rows = [row(f"recipe-{place}", accuracy=place / 40) for place in range(40)]
    plots.accuracy_plot(rows, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.size == (1280, round((1.3 + 0.3 * 41) * 160))  # 40 recipes and one heading


def test_a_failed_drawing_leaves_the_old_picture(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    path.write_bytes(b"old")
    with pytest.raises(AttributeError):
        plots.accuracy_plot([None], path)  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["plot.png"]


def test_smoothing_averages_a_tenth_of_the_curve_and_less_at_its_ends() -> None:
    values = np.arange(30, dtype=np.float64)  # a window of 3
    smooth = plots.smoothed(values)
    assert smooth[0] == pytest.approx(0.5)  # (0 + 1) / 2
    assert smooth[10] == pytest.approx(10)
    assert smooth[29] == pytest.approx(28.5)
    assert plots.smoothed(np.array([7.0, 1.0])).tolist() == [7.0, 1.0]


def test_recipes_of_one_method_share_its_colour_and_differ_in_dashes() -> None:
    looks = plots.line_looks(["a", "b", "c"], {"a": "mtt", "b": "selmatch", "c": "mtt"})
    assert looks["a"]["color"] == looks["c"]["color"] == results.COLOURS["mtt"]
    assert looks["b"]["color"] == results.COLOURS["selmatch"]
    assert looks["a"]["linestyle"] == looks["b"]["linestyle"] != looks["c"]["linestyle"]


def test_every_method_has_a_colour_of_its_own() -> None:
    from distillkit.methods import METHODS

    assert list(results.COLOURS) == list(METHODS), "in the order of tables"
    colours = [results.colour_of(method) for method in [*METHODS, "one of tomorrow"]]
    assert len(set(colours)) == len(colours)
