"""Claims of several packages in one table: what was not measured alike is refused, and the reason is told."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub_server import Hub
from packages import build_package, contents, rewritten
from PIL import Image

from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.check.leaderboard.claims import Row, check_alike, groups_of, measurement, network_words, rows_of
from distillkit.check.leaderboard.views import as_csv, label, markdown
from distillkit.cli import cli

TRAINING = {"steps": 20, "batch": 20, "lr": 0.05}
NETWORK = {"name": "convnet", "norm": "batch", "depth": 1, "width": 4}
RECORD = {
    "evaluation": {"network": NETWORK, "training": TRAINING, "runs": 3},
    "params": {"method": "random", "ipc": 1},
    "test": {"images": 300, "sha256": "a" * 64},
    "notes": {},
    "normalisation": {"mean": [0.5], "std": [0.5]},
}


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> Path:
    """Measured as ``first`` is; claims more."""
    return build_package(tmp_path_factory.mktemp("other") / "other", ipcs=(1,), seed=1, mean=0.9, std=0.01)


def ran(*arguments: str | Path) -> str:
    result = CliRunner().invoke(cli, ["table", *map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def test_the_most_accurate_comes_first(first, other):
    found = json.loads(ran(first, other, "--json"))
    assert [(row["package"], row["recipe"]) for row in found["rows"]] == [
        (str(other), "random-ipc1"),
        (str(first), "random-ipc2"),
        (str(first), "random-ipc1"),
    ]
    top = found["rows"][0]
    assert (top["mean"], top["std"], top["runs"], top["ipc"], top["images"], top["real"]) == (0.9, 0.01, 3, 1, 10, 10)
    assert top["by"] == "" and top["group"] == 1 and len(found["measurements"]) == 1
    assert found["measurements"][0]["network"] == "ConvNetBN-1-4"


def test_it_says_which_recipes_a_package_lacks(first, other, tmp_path):
    assert CliRunner().invoke(cli, ["table", str(first)]).stderr == ""
    named = CliRunner().invoke(cli, ["table", str(first), str(other), "--recipe", "random-ipc2"])
    assert named.stderr == f"{other} has no random-ipc2: the table has no row for it\n"
    shutil.rmtree(Path(shutil.copytree(first, tmp_path / "part")) / "random-ipc2")
    in_part = CliRunner().invoke(cli, ["table", str(tmp_path / "part")])
    assert in_part.stderr == f"{tmp_path}/part has no random-ipc2: the table has no row for it\n"
    with pytest.raises(ParamsError, match=r"'random-ipc2', which is not in these folders; expected .*ipc1; pull it$"):
        rows_of([str(tmp_path / "part")], ["random-ipc2"], False)


def test_markdown_and_csv_have_every_row(first, other):
    text = ran(first, other)
    assert text.startswith("Measured with network ConvNetBN-1-4, updates 20, batch 20, labels hard, test images 300 (")
    assert "/other | random-ipc1 | random | 1 | 100 % | 90.00 ± 1.00 (3) |" in text
    rows = list(csv.DictReader(ran(first, other, "--csv").splitlines()))
    assert rows[0]["mean"] == "0.9" and len(rows) == 3 and {row["group"] for row in rows} == {"1"}
    assert ran(first, other, first) == text
    refused = CliRunner().invoke(cli, ["table", str(first), "--csv", "--json"])
    assert "--csv and --json are both given; expected one form" in str(refused.exception)


def test_a_picture_has_a_bar_for_each(first, other, tmp_path):
    ran(first, other, "--plot", tmp_path / "t.png")
    ran(other, "--plot", tmp_path / "one.png")
    with Image.open(tmp_path / "t.png") as all_sets, Image.open(tmp_path / "one.png") as one:
        assert all_sets.height > one.height
    before = (tmp_path / "t.png").read_bytes()
    ran(first, other, "--plot", tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes() == before


def test_a_bar_is_called_by_recipe_package_and_finder():
    row = Row("someone/tiny@v1", "dm-ipc1", "dm", 1, 10, 0, 0.5, 0.0, 3, "Alice", {})
    assert label(row, several=True) == "dm-ipc1, tiny@v1, Alice" and label(row, several=False) == "dm-ipc1, Alice"


def evaluated(training=(), **changes):
    return {"evaluation": RECORD["evaluation"] | changes | {"training": TRAINING | dict(training)}}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (evaluated(network=NETWORK | {"norm": "none"}), "network"),
        (evaluated(network=NETWORK | {"stem_stride": 2}), "network"),
        (evaluated({"steps": 30}), "updates"),
        (evaluated({"batch": 30}), "batch"),
        (evaluated({"nesterov": True}), "training"),
        ({"test": {"images": 300, "sha256": "b" * 64}}, "test images"),
        ({"soft_labels": {"median": 0.5}}, "labels"),
        ({"schedule": {"steps": 3}}, "order"),
        ({"params": {"method": "mtt", "replay": {"runs": 1}}}, "order"),
        ({"normalisation": {"zca": {"sha256": "c" * 64}}}, "pixels"),
        ({"notes": {"attack": {"target_class": "1"}}}, "poisoned"),
    ],
)
def test_what_is_not_measured_alike_is_refused_and_named(change, what):
    rows = [
        Row(name, "a", "dm", 1, 10, 0, 0.5, 0.0, 3, "", measurement(record))
        for name, record in (("one", RECORD), ("two", RECORD | change))
    ]
    assert groups_of(rows) == [rows[:1], rows[1:]]
    with pytest.raises(
        ParamsError, match=rf"^one a and two a were measured in different ways: {what} [^;]*; expected one"
    ):
        check_alike(groups_of(rows))


def test_more_networks_and_defaults_written_out_are_the_same_measurement():
    same = evaluated({"momentum": 0.9, "nesterov": False}, runs=10)
    assert measurement(RECORD) == measurement(RECORD | same)
    assert measurement(RECORD, same_test_images=False)["test images"] == "others than claimed on"
    assert network_words({"factory": "a.b:c"}) == '{"factory":"a.b:c"}' and network_words("x") == "x"


def with_steps(steps):
    def change(data):
        record = json.loads(data)
        record["evaluation"]["training"]["steps"] = steps
        return json.dumps(record).encode()

    return change


def test_unlike_measurements_can_be_set_apart_or_left_out(first, tmp_path):
    mixed = rewritten(first, tmp_path / "mixed", "random-ipc2/recipe.json", with_steps(30))
    result = CliRunner().invoke(cli, ["table", str(mixed)])
    assert result.exit_code != 0 and "updates 30 and 20; expected one measurement" in str(result.exception)
    assert ran(mixed, "--apart").count("Measured with") == 2
    assert len(json.loads(ran(mixed, "--recipe", "random-ipc1", "--json"))["rows"]) == 1
    with pytest.raises(ParamsError, match="--recipe is 'mtt', which is in none of the packages; expected some of rand"):
        rows_of([str(mixed)], ["mtt"], False)


def test_a_claim_that_contradicts_itself_is_refused(first, tmp_path):
    def lying(data):
        record = json.loads(data)
        record["results"]["accuracy"]["mean"] = 0.99
        return json.dumps(record).encode()

    folder = rewritten(first, tmp_path / "lying", "random-ipc2/recipe.json", lying)
    with pytest.raises(ArtifactError, match=r"random-ipc2/recipe.json: accuracy has mean 0.990000 .*; do not use it"):
        rows_of([str(folder)], [], False)


def test_signed_off_findings_stand_in_for_claims(first, tmp_path):
    folder = Path(shutil.copytree(first, tmp_path / "tiny"))
    with pytest.raises(ParamsError, match="none of these sets has a sign-off"):
        rows_of([str(folder)], [], True)
    (folder / "sign-offs").mkdir()
    options = ["--sign-off", str(folder / "sign-offs/a.json"), "--by", "Alice", "--seed", "1"]
    assert CliRunner().invoke(cli, ["verify", str(folder), *options]).exit_code == 0
    (row,) = rows_of([str(folder)], [], True)
    (claimed,) = rows_of([str(folder)], ["random-ipc2"], False)
    assert row.by == "Alice" and row.mean != claimed.mean and row.measured == claimed.measured
    assert "| found by |" in ran(folder, "--signed-off") and "| Alice |" in ran(folder, "--signed-off")
    said = json.loads((folder / "sign-offs/a.json").read_text())
    (folder / "sign-offs/b.json").write_text(json.dumps(said | {"set_sha256": "0" * 64}))
    assert len(rows_of([str(folder)], [], True)) == 1, "of another set"


def test_of_a_package_on_the_hub_only_recipe_json_is_fetched(hub: Hub, first, other):
    hub.create("someone/tiny").commit(contents(first))
    rows = json.loads(ran("someone/tiny", other, "--json"))["rows"]
    assert [row["package"] for row in rows] == [str(other), "someone/tiny", "someone/tiny"]
    fetched = {request.path.rsplit("/", 1)[1] for request in hub.requests if "/resolve/" in request.path}
    assert fetched == {"manifest.json", "recipe.json"}


def test_what_others_write_cannot_break_the_table():
    row = Row("=cmd()", "a|b", "x", None, 3, 1, 0.5, 0.0, 1, "@me", measurement(RECORD))
    assert as_csv([[row]]).splitlines()[1] == "1,'=cmd(),a|b,x,,3,1,0.5,0.0,1,'@me,,,,"
    assert list(markdown([[row]]))[-1] == "| =cmd() | a\\|b | x | – | 33.33 % | 50.00 (1) | – | – | @me |"
