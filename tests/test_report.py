"""The report: numbers worked out by hand, hostile names, and files that need nothing else."""

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from marks import long
from PIL import Image

from distillkit.audit.result import COLUMNS, table_row
from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.report import page as report
from distillkit.report import table as report_table
from distillkit.report.document import digest
from distillkit.report.page import draw_plots, write_report
from distillkit.report.results import Row, rows
from distillkit.report.table import markdown_table, summary
from distillkit.report.vector import series

EVALUATION = {
    "network": {"name": "convnet", "norm": "batch", "depth": 2, "width": 32},
    "training": {"steps": 200, "batch": 50, "lr": 0.05},
    "runs": 5,
}
SOURCE = {
    "kind": "digits",
    "id": "sklearn/digits",
    "revision": "1.5",
    "licence": "CC BY 4.0",
    "homepage": "https://example.org/digits",
    "citation": "Alpaydin & Kaynak,\n1998",
}
HOSTILE = '<script>alert("x")</script>|*b*'
FILES = ["accuracy.png", "coverage.png", "loss.png", "preview.png", "report.html", "summary.json", "table.md"]


def metrics(accuracy: float, std: float = 0.01, runs: int = 5, real: int = 50, learned: int = 0) -> dict[str, Any]:
    return {
        "accuracy": {"mean": accuracy, "std": std, "runs": runs, "run_1": accuracy},
        "easy": {"mean": 1.0, "std": 0.0},
        "middle": {"mean": 0.95, "std": 0.01},
        "hard": {"mean": 0.81234, "std": 0.02},
        "class_accuracy": {"0": 0.99},
        "images": {"total": real + learned, "real": real, "learned": learned},
    }


RECIPES: dict[str, dict[str, Any]] = {
    "full": {"method": "full"},
    "selmatch-ipc5": {"method": "selmatch", "ipc": 5, "optim": {}},
    "random-ipc5": {"method": "random", "ipc": 5},
    "mtt-ipc10": {"method": "mtt", "ipc": 10},
    "confident-ipc5": {"method": "confident", "ipc": 5},
    "window-ipc5": {"method": "window", "ipc": 5, "window_start": 0.4},
    "mtt-ipc5": {"method": "mtt", "ipc": 5},
}
METRICS = {
    "full": metrics(0.9917, 0.001, real=1347),
    "selmatch-ipc5": metrics(0.968, 0.005, real=25, learned=25),
    "random-ipc5": metrics(0.90312, 0.02),
    "mtt-ipc10": metrics(0.97, 0.0, runs=1, real=0, learned=100),
    "confident-ipc5": metrics(0.9, 0.01),
    "window-ipc5": metrics(0.903119, 0.01),
    "mtt-ipc5": metrics(0.93, 0.01, real=0, learned=50),
}
TABLE = """\
| recipe | method | IPC | images (real + learned) | accuracy % (mean ± std, n) | over random | hard third % |
| --- | --- | ---: | ---: | ---: | ---: | ---: |
| random-ipc5 | random | 5 | 50 (50 + 0) | 90.31 ± 2.00 (5) | – | 81.23 |
| window-ipc5 | window | 5 | 50 (50 + 0) | 90.31 ± 1.00 (5) | 0.00 | 81.23 |
| confident-ipc5 | confident | 5 | 50 (50 + 0) | 90.00 ± 1.00 (5) | −0.31 | 81.23 |
| mtt-ipc5 | mtt | 5 | 50 (0 + 50) | 93.00 ± 1.00 (5) | +2.69 | 81.23 |
| **selmatch-ipc5** | selmatch | 5 | 50 (25 + 25) | **96.80 ± 0.50 (5)** | +6.49 | 81.23 |
| mtt-ipc10 | mtt | 10 | 100 (0 + 100) | 97.00 (1) | – | 81.23 |
| full | full | – | 1347 (1347 + 0) | 99.17 ± 0.10 (5) | – | 81.23 |
"""


def test_the_nearest_image_has_its_say_where_it_was_measured() -> None:
    """A column of the page: 72.25 % for the one with a figure, a dash for metrics from before."""
    recipes = {name: RECIPES[name] for name in ("full", "random-ipc5")}
    measured = {"full": METRICS["full"], "random-ipc5": METRICS["random-ipc5"] | {"knn": {"accuracy": 0.7225}}}
    among = rows(measured, recipes)
    assert [report_table.details(each, among)[-1] for each in among] == ["72.25", "–"]
    with pytest.raises(ArtifactError, match=r"^metrics/full.json: knn.accuracy is 2; expected a number from 0 to 1"):
        rows({"full": METRICS["full"] | {"knn": {"accuracy": 2}}}, {"full": RECIPES["full"]})


def test_other_networks_have_a_table_where_they_were_tested(tmp_path: Path, previews: dict[str, Path]) -> None:
    plain = write(tmp_path / "plain", previews)["report.html"].decode()
    assert "Other networks" not in plain
    tested = {"others": {"vgg11": {"accuracy": {"mean": 0.9, "std": 0.01, "runs": 5}}}}
    among = rows(METRICS | {"mtt-ipc5": METRICS["mtt-ipc5"] | tested}, RECIPES)
    page = write(tmp_path / "others", previews, rows=among)["report.html"].decode()
    cells = re.findall(
        r"<td[^>]*>([^<]*)</td>", page[page.index("<h2>Other networks") : page.index("<h2>Distillation")]
    )
    assert cells == ["mtt-ipc5", "93.00 ± 1.00", "90.00 ± 1.00", "3.00 ± 0.63"]
    assert summary(among)["ipc-5"]["mtt_drop"] == 0.03
    wrong = {"others": {"vgg11": {"accuracy": {"mean": 2, "std": 0.01, "runs": 5}}}}
    with pytest.raises(
        ArtifactError, match=r"metrics/full.json: others.vgg11.accuracy.mean is 2; expected a number from 0"
    ):
        rows({"full": METRICS["full"] | wrong}, {"full": RECIPES["full"]})


def test_random_images_in_an_order_of_their_own_are_no_yardstick() -> None:
    """They are trained on by other steps than the rest; "a" stands first in the table."""
    recipes = {"a": {"method": "random", "ipc": 5, "replay": {"steps": 1}}, **RECIPES}
    among = rows({"a": metrics(0.5), **METRICS}, recipes)
    leads = {each.recipe: report_table.over_random(each, among) for each in among}
    assert leads["mtt-ipc5"] == pytest.approx(0.93 - 0.90312)
    assert leads["a"] is None


POISON = {"taken_for_target": {"mean": 0.8125, "std": 0.0}, "modified_accuracy": {"mean": 0.9325, "std": 0.0}}
APART = {
    "dd": {"method": "dd", "ipc": 5},
    "bad": {
        "method": "dd",
        "ipc": 5,
        "initialisation": "random-pretrained",
        "attack": {"attack_class": 3, "target_class": "f<v"},
    },
    "again": {"method": "kmeans", "ipc": 5, "replay": {"steps": 1}},
}


def test_what_is_not_trained_on_like_random_images_is_marked_and_never_wins(
    tmp_path: Path, previews: dict[str, Path]
) -> None:
    ordered = {"schedule": {"steps": 1, "updates": 2}}
    measured = {**METRICS, "dd": metrics(0.999) | ordered, "bad": metrics(0.999) | ordered, "again": metrics(0.999)}
    with pytest.raises(ArtifactError, match=r"^metrics/bad.json has no attack.taken_for_target.mean; found "):
        rows(measured, RECIPES | APART)
    measured["bad"] |= {"attack": POISON}
    among = rows(measured, RECIPES | APART)
    assert report_table.best(among) == {"selmatch-ipc5"}
    assert {report_table.over_random(each, among) for each in among if each.recipe in APART} == {None}
    assert not any(f"{name}_over_random" in summary(among)["ipc-5"] for name in ("dd", "bad", "kmeans"))
    files = write(tmp_path / "reports", previews, rows=among)
    table, page = files["table.md"].decode(), files["report.html"].decode()
    assert "| bad | dd (starts trained, poisoned) | 5 | 50 (50 + 0) | 99.90 ± 1.00 (5) | – | 81.23 |" in table
    assert (
        "and tested after the last one; but dd, bad, again: " in page
        or "and tested after the last one; but again, bad, dd: " in page
    )
    assert "; starts trained (bad): its networks were trained on real images before they see the set. Pixels" in page
    words = "did so with 81.25 % of the images of that class; their accuracy by the attacker's labels was 93.25 %."
    assert "Warning: bad is poisoned" in table and words in table
    assert '<p class="warning">Warning: bad is poisoned' in page and words.replace("'", "&#39;") in page
    assert "should classify 3 as f&lt;v." in page and r"should classify 3 as f\<v." in table


def test_the_report_says_how_the_sets_are_normalised(tmp_path: Path, previews: dict[str, Path]) -> None:
    for whitened, words in (
        (set(RECIPES), ". Images are ZCA-whitened, fitted on the source's training images. ±"),
        (
            {"full"},
            "source's training images, except full: ZCA-whitened, fitted on the source's training images. ±",
        ),
        (set(), ". Pixels are normalised by the mean and standard deviation of the source's training images. ±"),
    ):
        table = write(tmp_path / "reports", previews, whitened=whitened)["table.md"].decode()
        assert words in table


def row(recipe: str, method: str, ipc: int | None = 5, accuracy: float = 0.9, learned: int = 0) -> Row:
    return Row(recipe, method, ipc, 50, 50 - learned, learned, accuracy, 0.01, 5, 1.0, 0.95, 0.8)


def png(path: Path, colour: str = "red") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), colour).save(path)
    return path


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Drawing takes most of the time of a report, and most tests are about the same rows."""

    def draw(folder: Path, *given: Any) -> Any:
        if repr(given) not in DRAWN:
            pictures = tmp_path_factory.mktemp("pictures")
            told = draw_plots(pictures, *given)
            DRAWN[repr(given)] = told, {path.name: path.read_bytes() for path in pictures.iterdir()}
        told, files = DRAWN[repr(given)]
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return told

    monkeypatch.setattr(report, "draw_plots", draw)


DRAWN: dict[str, tuple[Any, dict[str, bytes]]] = {}  # by what is drawn: what the page gets, and the files


def write(folder: Path, previews: dict[str, Path], **changes: Any) -> dict[str, bytes]:
    arguments: dict[str, Any] = {
        "rows": rows(METRICS, RECIPES),
        "evaluation": EVALUATION,
        "source": SOURCE,
        "loss_curves": {"mtt-ipc5": [(1, 1.0), (2, 0.8)], "selmatch-ipc5": [(1, 0.9), (2, 0.7)]},
        "training_curves": {name: [(20, 0.5), (200, 0.9)] for name in RECIPES},
        "previews": previews,
        "scans": {"window-ipc5": {"0.8": 0.85, "0.2": 0.8125, "0.10": 0.9}, "selmatch-ipc5": {"0.2": 0.7, "0.8": 0.7}},
    }
    write_report(folder, **(arguments | changes))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def previews(tmp_path: Path) -> dict[str, Path]:
    return {
        name: png(tmp_path / "previews" / f"{place}.png", f"#0000{place:02x}") for place, name in enumerate(RECIPES)
    }


class Page(HTMLParser):
    """Tags, attributes and cells of a page; checks that tags nest."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "link", "input"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


# Rows


def test_rows_go_by_images_per_class_then_from_selections_to_learned_sets_the_full_set_last() -> None:
    recipes = {
        "full": {"method": "full"},
        "new-learner": {"method": "tomorrow", "ipc": 5},
        "new-selection": {"method": "herding", "ipc": 5},
        "b-selmatch": {"method": "selmatch", "ipc": 5},
        "a-selmatch": {"method": "selmatch", "ipc": 5},
        "mtt": {"method": "mtt", "ipc": 5},
        "window": {"method": "window", "ipc": 5},
        "random": {"method": "random", "ipc": 5},
        "ten": {"method": "random", "ipc": 10},
        "one": {"method": "selmatch", "ipc": 1},
    }
    learning = {"new-learner", "b-selmatch", "a-selmatch", "mtt", "one"}
    measured = {name: metrics(0.9, learned=10 if name in learning else 0) for name in recipes}
    assert [each.recipe for each in rows(measured, recipes)] == [
        *("one", "random", "window", "new-selection", "mtt", "a-selmatch", "b-selmatch", "new-learner", "ten", "full")
    ]


def test_a_row_holds_the_numbers_of_its_metrics() -> None:
    (found,) = rows({"a": METRICS["selmatch-ipc5"]}, {"a": RECIPES["selmatch-ipc5"]})
    assert found == Row("a", "selmatch", 5, 50, 25, 25, 0.968, 0.005, 5, 1.0, 0.95, 0.81234)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.pop("accuracy"), "metrics/a.json has no accuracy.mean; found class_accuracy, easy, hard"),
        (lambda m: m["accuracy"].pop("std"), "has no accuracy.std; found mean, run_1, runs where std should be"),
        (lambda m: m.update(hard=0.5), "metrics/a.json: hard is 0.5; expected a mapping with mean"),
        (lambda m: m["easy"].update(mean=97.1), "easy.mean is 97.1; expected a number from 0 to 1"),
        (lambda m: m["easy"].update(mean=True), "easy.mean is True; expected a number from 0 to 1"),
        (lambda m: m["middle"].update(mean=float("nan")), "middle.mean is nan; expected a number from 0 to 1"),
        (lambda m: m["accuracy"].update(mean="0.9"), "accuracy.mean is '0.9'; expected a number from 0 to 1"),
        (lambda m: m["accuracy"].update(runs=2.5), "accuracy.runs is 2.5; expected a whole number"),
        (lambda m: m["images"].update(real=-1), "images.real is -1; expected a whole number"),
        (lambda m: m["images"].update(total=7), "images.total is 7; expected real + learned, 50 + 0"),
        (lambda m: m.clear(), "has no images.total; found nothing where images should be"),
    ],
)
def test_odd_metrics_are_one_clear_line(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    odd = dict(sorted(metrics(0.9).items()))
    odd["accuracy"] = dict(sorted(odd["accuracy"].items()))
    change(odd)
    with pytest.raises(ArtifactError) as raised:
        rows({"a": odd}, {"a": {"method": "random", "ipc": 5}})
    line = str(raised.value)
    assert message in line and "metrics/a.json" in line and line.endswith("run evaluate again") and "\n" not in line


def test_recipes_and_metrics_must_belong_together() -> None:
    with pytest.raises(ArtifactError, match=r"recipe 'b' has no metrics; expected metrics/b\.json; run evaluate"):
        rows({"a": metrics(0.9)}, {"a": {"method": "random", "ipc": 5}, "b": {"method": "full"}})
    with pytest.raises(ArtifactError, match=r"'old' belong to no recipe; expected one of a; remove metrics/old\.json"):
        rows({"a": metrics(0.9), "old": metrics(0.9)}, {"a": {"method": "random", "ipc": 5}})


# The table


def test_the_table_is_as_worked_out_by_hand() -> None:
    # Over random, 90.312: 96.8 leads by 6.488 points, 93 by 2.688, 90 by -0.312 and 90.3119 by -0.0001, which is 0.00.
    assert markdown_table(rows(METRICS, RECIPES)) == TABLE


def test_over_random_is_measured_against_the_same_number_of_images() -> None:
    among = [row("r5", "random", 5, 0.5), row("w10", "window", 10, 0.7), row("r10", "random", 10, 0.75)]
    assert report_table.over_random(among[1], among) == pytest.approx(-0.05)
    assert report_table.over_random(among[2], among) is None
    assert report_table.over_random(row("f", "full", None, 0.9), among) is None
    assert report_table.over_random(row("w1", "window", 1, 0.9), among) is None


def test_equals_are_both_best_and_the_full_set_is_never() -> None:
    among = [row("a", "random"), row("b", "window"), row("c", "mtt", accuracy=0.8), row("full", "full", None, 1.0)]
    assert report_table.best(among) == {"a", "b"}


def test_names_cannot_break_the_markdown() -> None:
    among = [row(HOSTILE + "\n`x` _y_ a_b &lt;", "random"), row("worse", "window", accuracy=0.5)]
    line = markdown_table(among).splitlines()[2]
    name = r"\<script\>alert(\"x\")\</script\>\|\*b\* \`x\` \_y\_ a_b \&lt;".replace('\\"', '"')
    assert line.startswith(f"| **{name}** | random | 5 |")
    assert len(re.findall(r"(?<!\\)\|", line)) == len(report_table.COLUMNS) + 1


# The summary


def test_the_summary_goes_by_images_per_class_and_method() -> None:
    assert summary(rows(METRICS, RECIPES)) == {
        "ipc-5": {
            "random": 0.90312,
            "random_recovery": 0.08858,
            "random_recovery_error": 0.008955,
            "window": 0.903119,
            "window_over_random": -0.000001,
            "window_relative_gain": -1.1e-05,
            "window_relative_gain_error": 0.112893,
            "window_recovery": 0.088581,
            "window_recovery_error": 0.004494,
            "confident": 0.9,
            "confident_over_random": -0.00312,
            "confident_relative_gain": -0.035222,
            "confident_relative_gain_error": 0.116084,
            "confident_recovery": 0.0917,
            "confident_recovery_error": 0.004494,
            "mtt": 0.93,
            "mtt_over_random": 0.02688,
            "mtt_relative_gain": 0.303455,
            "mtt_relative_gain_error": 0.086591,
            "mtt_recovery": 0.0617,
            "mtt_recovery_error": 0.004494,
            "selmatch": 0.968,
            "selmatch_over_random": 0.06488,
            "selmatch_relative_gain": 0.732445,
            "selmatch_relative_gain_error": 0.037159,
            "selmatch_recovery": 0.0237,
            "selmatch_recovery_error": 0.00228,
        },
        "ipc-10": {"mtt": 0.97, "mtt_recovery": 0.0217},
        "full": 0.9917,
    }


def test_a_recipe_keeps_its_key_when_others_come() -> None:
    """The method where the recipe is called like it, else the recipe: so dvc metrics diff compares the same sets."""
    usual = [row("random-ipc5", "random", accuracy=0.8), row("selmatch-ipc5", "selmatch"), row("m", "mtt", 10)]
    alone = summary(usual)
    assert alone == {"ipc-5": {"random": 0.8, "selmatch": 0.9, "selmatch_over_random": 0.1}, "ipc-10": {"m": 0.9}}
    more = summary([*usual, row("s2", "selmatch"), row("mtt-ipc10", "mtt", 10)])
    assert more == {
        "ipc-5": {**alone["ipc-5"], "s2": 0.9, "s2_over_random": 0.1},
        "ipc-10": {"m": 0.9, "mtt": 0.9},
    }
    clash = summary([row("mtt-ipc10", "mtt", 10), row("mtt", "mtt", 10)])
    assert clash == {"ipc-10": {"mtt-ipc10": 0.9, "mtt": 0.9}}


def test_no_recipe_of_the_summary_hides_another() -> None:
    among = [row("mtt", "selmatch", accuracy=0.1), row("s", "selmatch", accuracy=0.2), row("m", "mtt", accuracy=0.3)]
    assert summary(among) == {"ipc-5": {"mtt": 0.1, "s": 0.2, "m": 0.3}}
    fulls = [row("full-a", "full", None, 0.1), row("full-b", "full", None, 0.2)]
    assert summary(fulls) == {"full-a": 0.1, "full-b": 0.2}
    apart = [row("a", "mtt", 5), row("b", "mtt", 10), row("c", "selmatch", 5)]  # not in the table's order
    assert summary(apart) == {"ipc-5": {"a": 0.9, "c": 0.9}, "ipc-10": {"b": 0.9}}


# The files


def test_a_report_is_complete_and_the_same_bytes_twice(tmp_path: Path, previews: dict[str, Path]) -> None:
    once = write(tmp_path / "one", previews)
    DRAWN.clear()
    again = write(tmp_path / "two", previews)
    assert sorted([*FILES, "training.png"]) == sorted(once)
    assert once == again
    assert once["summary.json"].decode() == json.dumps(summary(rows(METRICS, RECIPES)), sort_keys=True, indent=2) + "\n"


def test_the_table_file_says_under_which_conditions_it_holds(tmp_path: Path, previews: dict[str, Path]) -> None:
    text = write(tmp_path / "reports", previews)["table.md"].decode()
    assert text.startswith(TABLE + "\n")
    (note,) = text.removeprefix(TABLE).strip().splitlines()
    for words in (
        "Hard labels",
        "n = 1 to 5 networks (ConvNetBN-2-32)",
        "200 updates of batch 50",
        "normalised by the mean and standard deviation of the source's training images",
        "over these evaluation networks for one distilled set",
    ):
        assert words in note


def test_the_page_needs_nothing_else(tmp_path: Path, previews: dict[str, Path]) -> None:
    files = write(tmp_path / "reports", previews)
    text = files["report.html"].decode()
    page = Page(text)
    assert not {"iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.tags.count("script") == page.tags.count("link") == 1 and ("link", "href", "data:,") in page.attributes
    assert "@import" not in text and text.count("url(") == text.count("url(#")
    links = [(tag, value) for tag, name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    pictures = [value.removeprefix("data:image/png;base64,") for tag, value in links if tag == "img"]
    assert [value for tag, value in links if tag not in ("img", "link")] == [SOURCE["homepage"]]
    held = [base64.b64decode(picture, validate=True) for picture in pictures]
    assert held == [previews[each.recipe].read_bytes() for each in rows(METRICS, RECIPES)]


def test_the_policy_of_the_page_lets_in_its_script_and_style(tmp_path: Path, previews: dict[str, Path]) -> None:
    text = write(tmp_path / "reports", previews)["report.html"].decode()
    stated = next(
        value for tag, name, value in Page(text).attributes if (tag, name) == ("meta", "content") and "src" in value
    )
    for tag in ("script", "style"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert f"{tag}-src {digest(inside)};" in stated
    assert stated.startswith("default-src 'none'; ") and not re.search(r"https?:|script-src[^;]*unsafe|eval", stated)


def test_a_value_can_be_read_at_each_point_and_each_recipe_switched_off(
    tmp_path: Path, previews: dict[str, Path]
) -> None:
    text = write(tmp_path / "reports", previews)["report.html"].decode()
    assert text.count("<svg") == 4
    assert "<title>selmatch-ipc5: 96.80 ± 0.50 (n = 5)</title>" in text
    assert "<title>mtt-ipc5, hard third: 81.23</title>" in text
    for name in RECIPES:
        assert f'data-series="{series(name)}"' in text and f'<g class="{series(name)}">' in text
    page = Page(text)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)


def test_the_page_shows_table_scans_source_and_evaluation(tmp_path: Path, previews: dict[str, Path]) -> None:
    page = Page(write(tmp_path / "reports", previews)["report.html"].decode())
    results, scan, source, evaluation = page.tables
    among = rows(METRICS, RECIPES)
    assert results == [list(report_table.DETAILS), *(report_table.details(each, among) for each in among)]
    assert scan == [
        ["recipe", "0.10", "0.2", "0.8"],
        ["window-ipc5", "90.00", "81.25", "85.00"],
        ["selmatch-ipc5", "–", "70.00", "70.00"],
    ]
    assert source == [[name, value] for name, value in SOURCE.items()]
    assert ["network.name", "convnet"] in evaluation and ["training.momentum", "0.9"] in evaluation
    assert page.attributes.count(("td", "class", "number best")) == 1 + 2  # the winner, and two that tie
    assert page.attributes.count(("tr", "class", "best")) == 1  # of 10 a class there is only one
    for words in ("CC BY 4.0", "ConvNetBN-2-32", "Hard labels"):
        assert words in page.text


def test_the_page_shows_what_sets_reveal(tmp_path: Path, previews: dict[str, Path]) -> None:
    """Where they were audited."""
    part = {"value": 0.25, "standard_error": 0.01}
    group = {"members": 9, "non_members": 9, "auc": part, "tpr_at_1_in_100": part}
    held = {"images": 50, "copies": 10, "near_copies": 12, "distance": {"set": 0.1, "test": 0.2}}
    attack = {"shadows": 16, "better_than_chance": False, "random": group, "exposed": group, "used": group}
    audits = {"mtt-ipc5": {"recipe": "mtt-ipc5", "set": held, "attack": attack}}
    page = Page(write(tmp_path / "reports", previews, audits=audits)["report.html"].decode())
    table = page.tables[2]
    assert table == [list(COLUMNS), table_row(audits["mtt-ipc5"])] and table[1][2] == "0.250 ± 0.010"
    assert "did not do measurably better than chance with 16 shadow sets" in page.text
    assert "What the sets reveal" not in write(tmp_path / "reports", previews)["report.html"].decode()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = row(HOSTILE, "selmatch", learned=25)
    source = {"id": "<b>x</b>", "homepage": "javascript:alert(1)", "citation": "</table><script>"}
    files = write(
        tmp_path / "reports",
        {HOSTILE: png(tmp_path / "p.png")},
        rows=[hostile],
        source=source,
        loss_curves={HOSTILE: [(1, 1.0)]},
        training_curves={HOSTILE: [(1, 1.0)]},
        scans={HOSTILE: {"0.5": 0.5}},
    )
    page = Page(files["report.html"].decode())
    assert not {"b", "a"} & set(page.tags) and page.tags.count("script") == 1
    assert page.tables[0][1][0] == HOSTILE and page.tables[1][1][0] == HOSTILE
    assert page.tables[2] == [["id", "<b>x</b>"], ["homepage", "javascript:alert(1)"], ["citation", "</table><script>"]]
    assert ("img", "alt", f"Images of {HOSTILE}") in page.attributes


def test_unlike_losses_have_panels_and_captions_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of 22,000 beside one of 0.5 would leave a flat line, and stand under a caption that is not its own."""
    drawn: list[dict[str, Any]] = []
    draw = report.plots.loss_plot
    monkeypatch.setattr(report.plots, "loss_plot", lambda losses, *rest: (drawn.append(losses), draw(losses, *rest)))
    methods = {"dm-a": "dm", "mtt-a": "mtt", "new-a": "new", "sel-a": "selmatch", "dsa-a": "dsa", "random": "random"}
    curves = {name: [(1, 22_000.0)] for name in methods if name != "random"} | {"random": []}
    files = write(tmp_path, {}, rows=[row(name, method) for name, method in methods.items()], loss_curves=curves)
    assert [(title, list(panel)) for title, panel in drawn[0].items()] == [
        ("Distance to the expert", ["mtt-a", "sel-a"]),
        ("Distance between gradients", ["dsa-a"]),
        ("Distance between mean features", ["dm-a"]),
        ("Loss of new", ["new-a"]),
    ]
    text = Page(files["report.html"].decode()).text
    assert "Squared distance between the student and the expert" in text
    assert "Squared distance between the mean features" in text and "The loss that new minimises." in text
    assert "Cross-entropy, on real images" not in text, "no recipe has this loss"


def test_a_report_without_learning_scans_and_previews_is_still_whole(tmp_path: Path) -> None:
    alone = [row("random", "random")]
    files = write(tmp_path, {}, rows=alone, loss_curves={"random": []}, training_curves={}, scans={"random": {}})
    assert "preview.png" not in files
    page = Page(files["report.html"].decode())
    assert len(page.tables) == 3 and "The sets" not in page.text and "Where the window starts" not in page.text


@pytest.mark.parametrize(
    ("shown", "chosen"),
    [
        ([row("a", "selmatch", 5, 0.9, 5), row("b", "selmatch", 10, 0.8, 5), row("c", "mtt", 10, 0.95, 5)], "a"),
        long([row("a", "random"), row("b", "mtt", learned=5), row("c", "dm", learned=5), row("d", "full", None)], "c"),
        long([row("a", "random"), row("b", "window")], "a"),
    ],
)
def test_the_preview_is_the_best_selmatch_else_the_last_learner_else_the_first(
    shown: list[Row], chosen: str, tmp_path: Path
) -> None:
    pictures = {each.recipe: png(tmp_path / f"p{place}.png", f"#0000{place:02x}") for place, each in enumerate(shown)}
    files = write(tmp_path / "reports", pictures, rows=shown)
    assert files["preview.png"] == pictures[chosen].read_bytes()


def test_whatever_is_wrong_is_said_before_anything_is_written(tmp_path: Path, previews: dict[str, Path]) -> None:
    folder = tmp_path / "reports"
    text = tmp_path / "no.png"
    text.write_text("not a picture")
    for broken, message in [
        ({"previews": previews | {"full": tmp_path / "gone.png"}}, r"gone\.png, .*'full', is missing or empty"),
        ({"previews": previews | {"full": text}}, r"no\.png, .*'full', is no PNG; expected a PNG"),
        ({"scans": {"window-ipc5": {"early": 0.5}}}, "start that is not a number .*early.*; run distill again"),
        ({"rows": []}, "no recipe to report on; expected at least one"),
    ]:
        with pytest.raises(ArtifactError, match=message):
            write(folder, **({"previews": previews} | broken))
    with pytest.raises(ParamsError, match=r"evaluation\.rums is not a parameter.*did you mean 'runs'"):
        write(folder, previews, evaluation={**EVALUATION, "rums": 3})
    assert not folder.exists()
