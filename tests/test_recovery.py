"""Figures that other tests share: values and errors by hand, and where they are not told."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from packages import rewritten

from distillkit.cli import cli
from distillkit.evaluation.recovery import Figure, Measured, hard_label_recovery, in_percent, plain, relative_gain
from distillkit.package.card_tables import worth, worth_cells
from distillkit.report import table
from distillkit.report.results import Row

OWN, RANDOM, FULL = Measured(0.9, 0.04, 4), Measured(0.8, 0.02, 4), Measured(1.0, 0.01, 4)


def test_half_of_the_way_is_a_gain_of_a_half():
    """Errors 0.02, 0.01 and 0.005: √(0.02² + (0.5 · 0.01)² + (0.5 · 0.005)²) / 0.2."""
    gain = relative_gain(OWN, RANDOM, FULL)
    assert gain.value == pytest.approx(0.5) and gain.error == pytest.approx(0.1038328, abs=1e-6)
    recovery = hard_label_recovery(OWN, FULL)
    assert recovery.value == pytest.approx(0.1) and recovery.error == pytest.approx(0.0206155, abs=1e-6)


@pytest.mark.parametrize("own", [OWN, Measured(0.75, 0.03, 9), Measured(1.04, 0.02, 2)])
def test_the_error_is_that_of_the_gain_s_derivatives(own):
    def shifted(place: int, by: float) -> float:
        parts = [own, RANDOM, FULL]
        parts[place] = parts[place]._replace(mean=parts[place].mean + by)
        return relative_gain(*parts).value

    slopes = [(shifted(place, 1e-6) - shifted(place, -1e-6)) / 2e-6 for place in range(3)]
    errors = [part.std / part.runs**0.5 for part in (own, RANDOM, FULL)]
    expected = sum((slope * error) ** 2 for slope, error in zip(slopes, errors, strict=True)) ** 0.5
    assert relative_gain(own, RANDOM, FULL).error == pytest.approx(expected, rel=1e-6)


def test_there_is_no_gain_where_nothing_is_to_gain():
    assert relative_gain(OWN, FULL, RANDOM) is None
    assert relative_gain(OWN, Measured(0.98, 0.02, 4), FULL) is None, "0.02 is within two errors of 0.011"
    assert relative_gain(OWN, Measured(0.97, 0.02, 4), FULL) is not None


def test_a_single_network_tells_no_error():
    assert relative_gain(OWN._replace(runs=1), RANDOM, FULL) == Figure(pytest.approx(0.5), None)
    assert in_percent(Figure(0.5, None)) == "50.0" and plain("x", Figure(0.5, None)) == {"x": 0.5}
    assert in_percent(Figure(-0.0123, 0.004), 2) == "−1.23 ± 0.40" and in_percent(None) == "–"
    assert in_percent(Figure(-0.00001, 0.004)) == "0.0 ± 0.4"


def row(recipe: str, method: str, measured: Measured, ipc: int | None = 5, **more) -> Row:
    sizes = {"images": 50, "real": 50, "learned": 0, "easy": 1.0, "middle": 1.0, "hard": 1.0}
    return Row(recipe, method, ipc, accuracy=measured.mean, std=measured.std, runs=measured.runs, **sizes, **more)


def test_the_report_tells_them_where_the_baselines_were_measured_alike():
    random, full = row("r", "random", RANDOM), row("f", "full", FULL, None)
    among = [random, row("m", "mtt", OWN), row("soft", "mtt", OWN, soft=True), row("o", "dd", OWN, replayed=True), full]
    told = {each.recipe: table.details(each, among)[-3:-1] for each in among}
    assert told["m"] == ["50.0 ± 10.4", "10.00 ± 2.06"]
    assert told["soft"] == told["o"] == told["f"] == ["–", "–"]
    assert told["r"] == ["–", "20.00 ± 1.12"], "random images have a recovery, too"
    alone = [among[1], full]
    assert table.details(among[1], alone)[-3:-1] == ["–", "10.00 ± 2.06"]
    assert table.gain(among[1], [row("r", "random", RANDOM, replayed=True), *alone]) is None
    found = table.summary(among)["ipc-5"]
    assert found["m_relative_gain"] == 0.5 and found["m_relative_gain_error"] == 0.103833
    assert found["m_recovery"] == 0.1 and "soft_recovery" not in found


def record(**changes) -> dict:
    def as_dict(measured: Measured) -> dict:
        return {"mean": measured.mean, "std": measured.std, "runs": measured.runs}

    baselines = {
        which: {"recipe": which, "accuracy": as_dict(it)} for which, it in (("random", RANDOM), ("full", FULL))
    }
    results = {"accuracy": as_dict(OWN)}
    return {"name": "m", "method": "mtt", "params": {}, "results": results, "baselines": baselines, **changes}


def test_the_card_tells_the_same():
    assert worth_cells(record()) == "50.0 ± 10.4 | 10.00 ± 2.06"
    for change in (
        {"soft_labels": {"median": 0.5}},
        {"schedule": {"steps": 3}},
        {"notes": {"attack": {}}, "method": "full"},
    ):
        assert worth(record(**change)) == (None, None)
    assert worth(record(baselines={})) == (None, None), "packages of before"


def test_the_table_of_packages_has_them(first, tmp_path: Path):
    """Its random sets have no full set beside them, so it is a dash until one is claimed."""

    def with_full(content: bytes) -> bytes:
        told = json.loads(content)
        accuracy = told["results"]["accuracy"]
        top = {"mean": 1.0, "std": 0.0, "runs": 3}
        told["baselines"] = {"random": None, "full": {"recipe": "full", "accuracy": top}}
        assert accuracy["runs"] == 3
        return json.dumps(told).encode()

    plain = CliRunner().invoke(cli, ["table", str(first), "--recipe", "random-ipc2"])
    assert plain.stdout.splitlines()[-1].endswith(" (3) | – | – |")
    other = rewritten(first, tmp_path / "other", "random-ipc2/recipe.json", with_full)
    found = CliRunner().invoke(cli, ["table", str(other), "--recipe", "random-ipc2", "--json"])
    (line,) = json.loads(found.stdout)["rows"]
    assert line["recovery"] == pytest.approx(1 - line["mean"], abs=1e-6) and line["relative_gain"] is None
    assert line["recovery_error"] == pytest.approx(line["std"] / 3**0.5, abs=1e-6)
