"""``distillkit merge-lock``: dvc.lock by stage, by itself and as the driver of a real git merge and git rebase."""

import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from marks import long
from ruamel.yaml import YAML
from test_pipeline import dvc, environment
from test_repro import copy, names, project

from distillkit.base.errors import ArtifactError
from distillkit.cli import cli
from distillkit.process.merge_lock import ATTRIBUTE, install, merge_lock, merged

AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def test_each_entry_is_merged_by_itself():
    base = {"same": 1, "ours": 1, "theirs": 1, "gone": 1, "both": 1, "edited and removed": 1, "differ": 1}
    ours = {"same": 1, "ours": 2, "theirs": 1, "new": 1, "both": 2, "edited and removed": 2, "differ": 2, "own": 5}
    theirs = {"other": 6, "same": 1, "ours": 1, "theirs": 3, "gone": 1, "new": 1, "both": 2, "differ": 3}
    result = merged(base, ours, theirs)
    assert result.conflicts == {"edited and removed": (2, None), "differ": (2, 3)}
    clean = {name: entry for name, entry in result.entries.items() if name not in result.conflicts}
    assert clean == {"same": 1, "ours": 2, "theirs": 3, "new": 1, "both": 2, "own": 5, "other": 6}
    assert list(result.entries) == [*ours, "other"]
    assert merged({}, {}, {}) == ({}, {})


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["git", *AUTHOR, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    assert git(folder, "commit", "-qm", "a version").returncode == 0


def add_stage(folder: Path, name: str, word: str) -> None:
    """Declare a stage, run it, and commit."""
    stages = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    stages[name] = {"cmd": f"cat words > {name}", "deps": ["a"], "params": [{"words": [name]}], "outs": [name]}
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")  # sorted
    (folder / "words").write_text(f"{name}: {word}\n")
    dvc(folder, "repro", name)
    (folder / "words").write_text("")
    commit(folder)


@pytest.fixture
def branches(tmp_path, monkeypatch) -> Path:
    """Two branches that each add a stage, as two people add a recipe each; the driver is installed."""
    folder = project(tmp_path / "two", {name: copy(name) for name in ("a", "b", "c", "d")})
    git(folder, "checkout", "-qb", "main")
    (folder / ".gitignore").write_text("/a\n/b\n/c\n/d\n/z\n/A\n/same\n/words\n")
    monkeypatch.chdir(folder)
    dvc(folder, "repro")
    assert "by stage" in CliRunner().invoke(cli, ["merge-lock", "--install"]).output
    commit(folder)
    git(folder, "checkout", "-qb", "other")
    add_stage(folder, "A", "theirs")
    git(folder, "checkout", "-q", "main")
    add_stage(folder, "z", "ours")
    return folder


@pytest.mark.parametrize("command", ["merge", long("rebase")])
def test_two_new_stages_merge_and_nothing_runs_again(branches, command):
    done = git(branches, command, "other", *(["--no-edit"] if command == "merge" else []))
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(names(branches / "dvc.lock")) == {"a", "b", "c", "d", "A", "z"}
    dvc(branches, "checkout")
    (branches / "words").write_text("A: theirs\nz: ours\n")
    assert "up to date" in dvc(branches, "status")
    assert ((branches / "A").read_text(), (branches / "z").read_text()) == ("A: theirs\n", "z: ours\n")
    lock = (branches / "dvc.lock").read_bytes()
    assert "Running" not in dvc(branches, "repro")
    assert (branches / "dvc.lock").read_bytes() == lock, "it is as DVC writes it"


def test_a_stage_that_both_changed_is_a_conflict_with_both_versions(branches):
    for branch, word in (("other", "one"), ("main", "two")):
        git(branches, "checkout", "-q", branch)
        add_stage(branches, "same", word)
    done = git(branches, "merge", "other")
    assert done.returncode == 1
    assert "error: dvc.lock: both sides changed same; expected one version" in done.stdout + done.stderr
    text = (branches / "dvc.lock").read_text()
    ours, theirs = text.partition("<<<<<<< ours\n")[2].partition(">>>>>>> theirs\n")[0].split("=======\n")
    for side, word in ((ours, "two"), (theirs, "one")):
        assert YAML(typ="safe").load(side)["same"]["params"] == {"words": {"same": word}}
    rest = text.replace(f"<<<<<<< ours\n{ours}=======\n{theirs}>>>>>>> theirs\n", ours)
    assert set(YAML(typ="safe").load(rest)["stages"]) == {"a", "b", "c", "d", "A", "z", "same"}

    git(branches, "merge", "--abort")
    install(rerun=True)
    said = git(branches, "merge", "other").stdout
    assert "conflict in dvc.yaml" in said, "which is for a person"
    assert "conflict in dvc.lock" not in said
    assert set(names(branches / "dvc.lock")) == {"a", "b", "c", "d", "A", "z"}


def test_what_is_no_lock_is_merged_by_lines(tmp_path):
    base, ours, theirs = (tmp_path / name for name in ("base", "ours", "theirs"))
    base.write_text("schema: '2.0'\n")
    ours.write_text("schema: '2.0'\nstages: [\n")
    theirs.write_text("schema: '2.0'\nstages: {}\n")
    with pytest.raises(ArtifactError, match=r"^dvc.lock: one side cannot be read \(.*\); expected a whole dvc.lock; "):
        merge_lock(base, ours, theirs, "dvc.lock")
    assert "<<<<<<< ours\nstages: [\n=======\nstages: {}\n>>>>>>> theirs\n" in ours.read_text()


def test_sides_without_a_common_version_merge(tmp_path):
    entry = "schema: '2.0'\nstages:\n  {0}:\n    cmd: echo {0}\n"
    (tmp_path / "base").touch()
    for name in ("ours", "theirs"):
        (tmp_path / name).write_text(entry.format(name))
    assert merge_lock(tmp_path / "base", tmp_path / "ours", tmp_path / "theirs", "dvc.lock") == []
    assert names(tmp_path / "ours") == ["ours", "theirs"]


def test_installing_twice_and_where_there_is_no_repository(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".gitattributes").write_text("*.png binary")
    assert "commit .gitattributes" in install()[0]
    assert "already" in install()[0]
    assert (tmp_path / ".gitattributes").read_text() == f"*.png binary\n{ATTRIBUTE}\n"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(ArtifactError, match="expected a Git repository; run this in one"):
        install()
    assert CliRunner().invoke(cli, ["merge-lock", "one"]).exit_code == 2
