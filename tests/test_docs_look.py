"""docs/look.md: its commands, and its figures."""

import json
import os

from look_sets import mixed_set, real_data, write_pipeline
from pages import DOCS, desk, follow

from distillkit.look.page import MARK, SCRIPTS
from distillkit.report.document import asset


def test_the_page_can_be_followed(tmp_path, digits):
    real = real_data(digits)
    write_pipeline(tmp_path, real, mixed_set(real), "selmatch-ipc10", "random-ipc10")
    shown = follow("look.md", tmp_path, desk(os.environ, tmp_path) | {"BROWSER": "true"})
    assert shown.count(".distillkit/look/selmatch-ipc10.html: 1 file, ") == 3 and "site: 1 file, " in shown
    assert "site shows images of the source beside those of the set; --without-source leaves them out" in shown


def test_figures_are_those_of_the_benchmark():
    page = (DOCS / "look.md").read_text(encoding="utf-8")
    points = json.loads((DOCS.parent / "benchmarks/results/look-cpu.json").read_text())["points"]
    for point in points:
        seconds, cpu = (", ".join(f"{value:.1f}" for value in point[key]) for key in ("first_view_s", "page_cpu_s"))
        images = point["classes"] * point["ipc"]
        served = " (served)" if point["served"] else ""
        row = f"| {point['name']} | {images:,} | {point['html_bytes'] / 2**20:.1f} MB{served} | {seconds} | {cpu} |"
        assert row in page, row


def test_the_live_page_is_of_the_digits_and_names_no_place_of_a_machine():
    text = (DOCS / "look-digits.html").read_text(encoding="utf-8")
    parts = (
        asset("page.css"),
        asset("tables.js"),
        asset("look.css", "distillkit.look"),
        *(asset(f"scripts/{name}.js", "distillkit.look") for name in SCRIPTS),
    )
    assert all(part in text for part in parts), "the page is of an earlier build; run python tools/look_pictures.py"
    assert MARK.decode() in text
    assert (
        "<title>selmatch-ipc10: 100 images for those of scikit-learn/digits</title>" in text
        and '"scikit-learn/digits"' in text
        and "file:" not in text
    )
