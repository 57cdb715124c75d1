"""Sign-offs: what a verification found is written down, travels with the package, and holds for one set and claim."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub_server import Fault, Hub
from huggingface_hub import HfApi
from packages import build_package, contents, rewritten

from distillkit.base.errors import ArtifactError, HubError
from distillkit.base.files import sha256
from distillkit.cli import cli
from distillkit.hub.pull import fetch_sign_offs
from distillkit.hub.push import push
from distillkit.package.manifest import open_package
from distillkit.package.sign_offs import covered, filed_in, filed_with, given, read_sign_off

REPO = "someone/tiny"


def ran(*arguments: str | Path, code: int = 0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="session")
def signed(first, tmp_path_factory) -> Path:
    """Of the default recipe of ``first``: not to be changed."""
    path = tmp_path_factory.mktemp("signed") / "alice.json"
    ran("verify", first, "--sign-off", path, "--by", "Alice <a@b.c>")
    return path


@pytest.fixture
def folder(first, signed, tmp_path) -> Path:
    """A copy of the package with the sign-off beside it."""
    shutil.copytree(first, tmp_path / "tiny")
    (tmp_path / "tiny/sign-offs").mkdir()
    shutil.copyfile(signed, tmp_path / "tiny/sign-offs/alice.json")
    return tmp_path / "tiny"


def shown(folder: Path) -> list[dict]:
    return json.loads(ran("show", folder, "--json").stdout)["sign_offs"]


def test_it_says_what_was_claimed_and_found_and_where(first, signed):
    said, record = json.loads(signed.read_text()), json.loads((first / "random-ipc2/recipe.json").read_text())
    assert said["package"] == {"name": "tiny", "manifest_sha256": sha256(first / "manifest.json")}
    assert said["recipe"] == "random-ipc2" and said["set_sha256"] == sha256(first / "random-ipc2/distilled.safetensors")
    assert said["claim"] == {
        "accuracy": record["results"]["accuracy"],
        "evaluation": record["evaluation"],
        "test": record["test"],
    }
    assert said["found"] == {"accuracy": said["claim"]["accuracy"], "seed": 0, "same_test_images": True}
    assert said["match"] is True and said["by"] == "Alice <a@b.c>"
    assert said["machine"].keys() == {"system", "architecture", "device"}
    assert said["versions"].keys() == {"distillkit", "torch", "python"}


def test_a_claim_that_does_not_hold_is_signed_off_as_such(tmp_path):
    liar = build_package(tmp_path / "liar", ipcs=(1,), mean=0.95, std=0.01)
    ran("verify", liar, "--sign-off", tmp_path / "bob.json", "--by", "Bob", code=3)
    assert json.loads((tmp_path / "bob.json").read_text())["match"] is False
    (liar / "sign-offs").mkdir()
    shutil.move(tmp_path / "bob.json", liar / "sign-offs")
    assert "sign-off bob.json: Bob, 2" in ran("show", liar).stdout
    assert "random-ipc1 does NOT hold" in ran("show", liar).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sign-off", "a.json"], "give both"),
        (["--by", "Alice"], "give both"),
        (["--sign-off", "a.txt", "--by", "Alice"], "ends in .json"),
        (["--sign-off", "a.json", "--by", "A\x1b[0m"], "give both"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(first, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["verify", str(first), *options])
    assert result.exit_code != 0 and message in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_replaced(first, signed):
    result = CliRunner().invoke(cli, ["verify", str(first), "--sign-off", str(signed), "--by", "Eve"])
    assert result.exit_code != 0 and "exists; expected a new file" in str(result.exception)


def test_show_lists_it_and_says_whether_it_is_of_this_set(folder, tmp_path):
    (listed,) = shown(folder)
    assert listed["by"] == "Alice <a@b.c>" and listed["match"] and listed["of_this_set"] and not listed["signature"]
    said = json.loads((folder / "sign-offs/alice.json").read_text())
    for number, change in enumerate(
        (
            {"set_sha256": "0" * 64},
            {"claim": said["claim"] | {"accuracy": said["claim"]["accuracy"] | {"mean": 0.9}}},
            {"claim": said["claim"] | {"evaluation": {}}},
            {"claim": said["claim"] | {"test": {"images": 300, "sha256": "0" * 64}}},
            {"recipe": "random-ipc1"},
            {"recipe": "other"},
        )
    ):
        (folder / f"sign-offs/changed-{number}.json").write_text(json.dumps(said | change))
    assert [each["of_this_set"] for each in shown(folder)] == [True] + [False] * 6
    assert ran("show", folder).stdout.count("FOR ANOTHER SET OR CLAIM") == 6


def test_it_stays_true_when_only_the_card_changes(folder, tmp_path):
    other = rewritten(folder, tmp_path / "other", "README.md", lambda card: card + b"\n")
    package = open_package(other)
    (filed,) = filed_in(other)
    assert covered(package, filed)
    assert filed.sign_off.package.manifest_sha256 != sha256(other / "manifest.json")


@pytest.mark.parametrize(
    "content", [b"{}", b"[", b"\xff", b'{"format": "distillkit-sign-off/1"}', b'{"date": ' + b"1" * 400 + b"}"]
)
def test_what_is_no_sign_off_is_told_and_left_out(folder, content, capsys):
    (folder / "sign-offs/alice.json").write_bytes(content)
    assert filed_in(folder) == []
    error = capsys.readouterr().err
    assert error.startswith("warning: ") and "no sign-off" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("name", ["run.py", "a.pkl", "more/a.json", "x.json.exe", ".hidden.json"])
def test_nothing_else_may_lie_beside_it(folder, name):
    (folder / "sign-offs" / name).parent.mkdir(exist_ok=True)
    (folder / "sign-offs" / name).write_text("{}")
    with pytest.raises(ArtifactError, match=f"also holds sign-offs/{name}"):
        open_package(folder)


# With the package


def test_it_travels_with_push_and_pull(hub: Hub, folder, first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    push(HfApi(endpoint=hub.endpoint, token=hub.token), folder, REPO)
    (folder / "sign-offs/alice.json").rename(folder / "sign-offs/carol.json")
    push(HfApi(endpoint=hub.endpoint, token=hub.token), folder, REPO)
    assert "with 2 files of sign-offs" in ran("pull", REPO, "random-ipc2", "-o", tmp_path / "out").stdout
    assert [each["file"] for each in shown(tmp_path / "out")] == ["alice.json", "carol.json"]
    assert all(each["of_this_set"] for each in shown(tmp_path / "out"))
    push(HfApi(endpoint=hub.endpoint, token=hub.token), first, REPO)
    assert "sign-offs/alice.json" in hub.repos[REPO].files(), "a push removes no sign-off of others"


def test_a_damaged_one_does_not_stay_in_the_cache(hub: Hub, folder, tmp_path):
    api, out = HfApi(endpoint=hub.endpoint, token=hub.token), tmp_path / "out"
    commit = push(api, folder, REPO).commit
    out.mkdir()
    hub.fault(Fault("GET", "/resolve/.*/sign-offs/alice.json", kind="corrupt"))
    with pytest.raises(HubError, match=r"sent a damaged sign-offs/alice.json; try again later"):
        fetch_sign_offs(api, REPO, commit, out)
    assert fetch_sign_offs(api, REPO, commit, out) == ["sign-offs/alice.json"]
    assert contents(out) == {"sign-offs/alice.json": (folder / "sign-offs/alice.json").read_bytes()}


def test_pull_fetches_small_json_and_signatures_only(hub: Hub, first, signed, tmp_path):
    beside = {
        "sign-offs/a.json": signed.read_bytes(),
        "sign-offs/a.json.sig": b"x",
        "sign-offs/big.json": b" " * (2**16 + 1),
        "sign-offs/run.py": b"print()",
        "sign-offs/more/b.json": b"{}",
    }
    hub.create(REPO).commit(contents(first) | beside)
    ran("pull", REPO, "-o", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out/sign-offs").iterdir()} == {"a.json", "a.json.sig"}
    assert [each["signature"] for each in shown(tmp_path / "out")] == [True]


# In the card


def test_the_card_names_who_verified_and_when(folder, first, signed, tmp_path):
    built = Path(shutil.copytree(first, tmp_path / "built"))
    (filed,) = filed_with(built, {str(signed): sha256(signed)}, ["random-ipc1", "random-ipc2"])
    assert filed.by == "Alice <a@b.c>" and (built / "sign-offs/alice.json").read_bytes() == signed.read_bytes()
    date = json.loads(signed.read_text())["date"]
    made = build_package(tmp_path / "again", sign_offs={str(signed): sha256(signed)})
    card = (made / "README.md").read_text()
    assert (
        f"| Verified | by `Alice <a@b.c>` on {date}, who found " in card
        and "% with 3 networks: the claim holds" in card
    )
    assert (made / "sign-offs/alice.json").is_file() and open_package(made).files == open_package(first).files
    ran("verify", made)  # figures of others are no claims of the card's


def test_one_of_another_set_is_told_and_left_out(first, signed, tmp_path, capsys):
    built = Path(shutil.copytree(first, tmp_path / "built"))
    assert filed_with(built, {str(signed): sha256(signed)}, []) == []
    assert "alice.json is about another set or claim than this package has; it is left out" in capsys.readouterr().err
    assert not (built / "sign-offs").exists()


def test_a_file_that_is_another_than_params_yaml_names_is_refused(signed, tmp_path):
    with pytest.raises(ArtifactError, match=r"package\.sign_offs expects 0{64}; correct it there"):
        given(str(signed), "0" * 64)
    with pytest.raises(ArtifactError, match="does not exist; expected a file of distillkit verify --sign-off"):
        read_sign_off(tmp_path / "nobody.json")
