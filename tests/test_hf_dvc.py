"""``hf://`` in plain ``dvc``, against a Hub on the loopback: as a source, as a remote, and when things fail."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hub_server import Fault, Hub
from interpreter import PYTHON, path
from marks import long
from ruamel.yaml import YAML

SOURCE = "someone/flowers"
STORE = "someone/store"
MODEL, NOTES = b"a model" * 20, b"rose\n"
FILES = {
    "data/model.safetensors": MODEL,
    "data/notes.txt": NOTES,
    "data/more/last.txt": b"tulip\n",
    "top.txt": b"top\n",
}


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def source(hub):
    """A dataset with a tag."""
    repo = hub.create(SOURCE)
    repo.commit(FILES)
    repo.tags["v1.0"] = (repo.head, "")
    return repo


@pytest.fixture
def run(hub, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs dvc in a folder as a user of this Hub does."""

    def run(project: Path, *arguments: str, token: str | None = hub.token) -> subprocess.CompletedProcess:
        here = {"PATH": path(), "DVC_NO_ANALYTICS": "1"}
        # each project has a site cache of its own: DVC keeps there what it knows of a remote
        environment = {**hub.environment(tmp_path / "hf", token), **here, "DVC_SITE_CACHE_DIR": str(project / ".site")}
        command = [PYTHON, "-m", "dvc", *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=180)

    return run


@pytest.fixture
def dvc(run) -> Callable[..., str]:
    """The output of a dvc command that must succeed."""

    def dvc(project: Path, *arguments: str, **options: str) -> str:
        done = run(project, *arguments, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return dvc


def new_project(folder: Path) -> Path:
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    return folder


@pytest.fixture
def project(tmp_path):
    return new_project(tmp_path / "project")


@pytest.fixture
def store(hub, project, dvc):
    """The project's remote, empty."""
    repo = hub.create(STORE)
    dvc(project, "remote", "add", "-d", "hub", f"hf://datasets/{STORE}/dvc")
    return repo


def write_folder(folder: Path, count: int, start: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(start, start + count):
        (folder / f"{number}.txt").write_text(f"content {number}\n")


def forget_cache(project: Path) -> None:
    shutil.rmtree(project / ".dvc/cache")


def stored(repo) -> set[str]:
    """Paths of DVC objects in a store."""
    return {path for path in repo.files() if path.startswith("dvc/")}


def only_line(done: subprocess.CompletedProcess) -> str:
    """What DVC says of an error, which must be a single line."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("ERROR: ")
    return lines[0]


def read_yaml(path: Path) -> dict:
    return YAML(typ="safe").load(path)


# ── as a source ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_import_of_a_file_at_a_tag_pins_its_sha256(project, source, dvc):
    dvc(project, "import-url", f"hf://datasets/{SOURCE}@v1.0/data/model.safetensors")
    assert (project / "model.safetensors").read_bytes() == MODEL
    (dep,) = read_yaml(project / "model.safetensors.dvc")["deps"]
    assert dep["path"] == f"hf://datasets/{SOURCE}@v1.0/data/model.safetensors"
    assert (dep["etag"], dep["size"]) == (hashlib.sha256(MODEL).hexdigest(), len(MODEL))


def test_import_of_a_folder(project, source, dvc, hub):
    dvc(project, "import-url", f"hf://datasets/{SOURCE}@v1.0/data")
    found = {str(path.relative_to(project)): path.read_bytes() for path in (project / "data").rglob("*.*")}
    assert found == {name: data for name, data in FILES.items() if name.startswith("data/")}


@pytest.mark.long
def test_update_leaves_a_tag_and_follows_a_branch(project, source, dvc):
    for name, revision in {"pinned.txt": "@v1.0", "moving.txt": "", "main.txt": "@main"}.items():
        dvc(project, "import-url", f"hf://datasets/{SOURCE}{revision}/top.txt", name)
    source.commit({"top.txt": b"changed\n"})
    dvc(project, "update", "pinned.txt.dvc", "moving.txt.dvc", "main.txt.dvc")
    assert (project / "pinned.txt").read_bytes() == b"top\n"
    assert (project / "moving.txt").read_bytes() == (project / "main.txt").read_bytes() == b"changed\n"


@pytest.mark.long
def test_get_url_and_ls_url(project, source, dvc):
    dvc(project, "get-url", f"hf://datasets/{SOURCE}@v1.0/data", "copy")
    assert (project / "copy/more/last.txt").read_bytes() == b"tulip\n"
    dvc(project, "get-url", f"hf://datasets/{SOURCE}/top.txt")
    assert (project / "top.txt").read_bytes() == b"top\n"
    listed = dvc(project, "ls-url", f"hf://datasets/{SOURCE}@v1.0/data").split()
    assert sorted(listed) == ["model.safetensors", "more", "notes.txt"]
    listed = dvc(project, "ls-url", "-R", f"hf://datasets/{SOURCE}").split()
    assert sorted(listed) == [".gitattributes", *sorted(FILES)]


@pytest.mark.long
def test_a_stage_depends_on_the_hub(project, source, dvc):
    address = f"hf://datasets/{SOURCE}/top.txt"
    stage = {"cmd": f"dvc get-url --force {address} got.txt", "deps": [address], "outs": ["got.txt"]}
    YAML(typ="safe").dump({"stages": {"get": stage}}, project / "dvc.yaml")
    dvc(project, "repro")
    (dep,) = read_yaml(project / "dvc.lock")["stages"]["get"]["deps"]
    assert dep["etag"] == source.at("main").files["top.txt"].oid
    assert "didn't change" in dvc(project, "repro")
    source.commit({"top.txt": b"changed\n"})
    dvc(project, "repro")
    assert (project / "got.txt").read_bytes() == b"changed\n"


# ── as a remote ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.long
def test_push_status_pull_and_gc(project, store, dvc):
    write_folder(project / "data", 5)
    (project / "single.txt").write_text("one\n")
    dvc(project, "add", "data", "single.txt")
    assert json.loads(dvc(project, "status", "-c", "--json")) != {}
    before = len(store.commits)
    dvc(project, "push")
    assert len(stored(store)) == 7
    assert len(store.commits) == before + 1, "a whole push is one commit"
    dvc(project, "push")
    assert len(store.commits) == before + 1, "nothing new, no commit"
    assert json.loads(dvc(project, "status", "-c", "--json")) == {}
    forget_cache(project)
    shutil.rmtree(project / "data")
    dvc(project, "pull")
    assert (project / "data/3.txt").read_text() == "content 3\n"
    write_folder(project / "data", 1, start=5)
    (project / "data/0.txt").unlink()
    dvc(project, "add", "data")
    dvc(project, "push")
    assert len(stored(store)) == 9
    dvc(project, "gc", "-w", "-c", "-f")
    assert len(stored(store)) == 7
    assert json.loads(dvc(project, "status", "-c", "--json")) == {}


@pytest.mark.long
def test_the_run_cache_goes_with_the_same_commit(project, store, dvc, tmp_path):
    stages = {name: {"cmd": f"echo {name} > {name}", "deps": ["in"], "outs": [name]} for name in "abcd"}
    YAML(typ="safe").dump({"stages": stages}, project / "dvc.yaml")
    (project / "in").write_text("in\n")
    dvc(project, "repro")
    before = len(store.commits)
    dvc(project, "push", "--run-cache")
    assert len(store.commits) == before + 1
    assert sum("/runs/" in path for path in stored(store)) == 4
    clone = Path(shutil.copytree(project, tmp_path / "clone", ignore=shutil.ignore_patterns("cache", "tmp", *"abcd")))
    (clone / "dvc.lock").unlink()
    dvc(clone, "pull", "--run-cache", "--allow-missing")
    assert "Running stage" not in dvc(clone, "repro", "--pull")
    assert (clone / "c").read_text() == "c\n"


@pytest.mark.slow
def test_a_thousand_objects_are_few_commits(hub, project, store, dvc):
    write_folder(project / "data", 1000)
    dvc(project, "add", "data")
    before, asked = len(store.commits), len(hub.requests)
    dvc(project, "push", "-j", "4")
    assert len(stored(store)) == 1001
    assert len(store.commits) - before == 11
    assert len(hub.requests) - asked < 11 * 4 + 10
    folder = next(commit for commit in store.commits if any(path.endswith(".dir") for path in commit.files))
    assert folder is store.commits[-1], "the list of a folder must not land before its files"


@pytest.mark.long
def test_two_pushes_at_once(hub, project, store, dvc, tmp_path):
    other = new_project(tmp_path / "other")
    shutil.copy(project / ".dvc/config", other / ".dvc/config")
    for each, start in {project: 0, other: 100}.items():
        write_folder(each / "data", 150, start=start)
        dvc(each, "add", "data")
    conflict = Fault("POST", "/commit/", kind="status", status=412, times=2, headers={"Retry-After": "0"})
    hub.fault(conflict)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda each: dvc(each, "push"), (project, other)))
    assert conflict.hits == 2
    assert len(stored(store)) == 250 + 2
    for each in (project, other):
        assert json.loads(dvc(each, "status", "-c", "--json")) == {}


# ── when things fail ──────────────────────────────────────────────────────────────────────────────────────────────────

RETRY_AT_ONCE = {"Retry-After": "0"}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault("POST", "/commit/", kind="drop-after"), id="lost answer"),
        long(Fault("POST", "/commit/", kind="status", status=503, headers=RETRY_AT_ONCE), id="busy"),
        long(Fault("POST", "/commit/", kind="status-after", status=504, headers=RETRY_AT_ONCE), id="slow answer"),
        long(Fault("GET", "/revision/main", kind="drop"), id="dropped connection"),
    ],
)
def test_a_push_survives_a_fault(hub, project, store, dvc, fault):
    (project / "single.txt").write_text("one\n")
    dvc(project, "add", "single.txt")
    before = len(store.commits)
    hub.fault(fault)
    dvc(project, "push")
    assert fault.hits == 1
    assert len(stored(store)) == 1
    assert len(store.commits) == before + 1, "a commit whose answer was lost is not made twice"


@pytest.mark.long
def test_a_push_that_failed_half_way_is_completed_by_the_next(hub, project, store, run, dvc):
    write_folder(project / "data", 250)
    dvc(project, "add", "data")
    hub.fault(Fault("POST", "/commit/", kind="status", status=503, times=5, after=1, headers=RETRY_AT_ONCE))
    done = run(project, "push")
    assert done.returncode != 0
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert "100 files sent, run this again for the rest" in error
    assert len(stored(store)) == 100
    assert json.loads(dvc(project, "status", "-c", "--json")) != {}
    dvc(project, "push")
    assert len(stored(store)) == 251


def test_what_came_with_other_bytes_is_not_kept(hub, project, source, run):
    hub.fault(Fault("GET", "/resolve/", kind="corrupt", times=100))
    done = run(project, "get-url", f"hf://datasets/{SOURCE}/data/model.safetensors")
    assert done.returncode != 0
    assert "has other bytes than the Hub lists" in done.stderr.splitlines()[-1]
    assert not list(project.glob("model*"))


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("hf://datasets/someone/nothing/file.txt", "someone/nothing@main is not on the Hub"),
        long(f"hf://datasets/{SOURCE}@v9/top.txt", f"{SOURCE}@v9 does not exist on the Hub"),
        long(f"hf://datasets/{SOURCE}/nothing.txt", f"The path 'hf://datasets/{SOURCE}/nothing.txt' does not exist"),
        long("hf://datasets/someone", "hf://datasets/someone is no address of a dataset"),
        long("hf://someone/model/file.txt", "hf://someone/model/file.txt is no address of a dataset"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(project, source, run, address, expected):
    assert expected in only_line(run(project, "get-url", address))
    assert expected.removeprefix("The path ") in only_line(run(project, "import-url", address)).replace("\n", " ")


@pytest.mark.long
def test_no_access_is_told_in_one_line_without_the_token(hub, project, store, run, dvc):
    (project / "single.txt").write_text("one\n")
    dvc(project, "add", "single.txt")
    line = only_line(run(project, "push", token=hub.reader_token))
    assert "your token may not do that (403)" in line
    assert hub.reader_token not in line
    store.private = True
    line = only_line(run(project, "push", token=None))
    assert f"{STORE}@main is not on the Hub" in line
    assert "run `hf auth login`" in line
    assert "not open to you" in only_line(run(project, "status", "-c", token=None))
    assert "does not know your token (401)" in only_line(run(project, "push", token="hf_wrong"))


@pytest.mark.long
def test_a_tag_is_no_place_to_push_to(project, store, run, dvc):
    store.tags["v1"] = (store.head, "")
    dvc(project, "remote", "modify", "hub", "url", f"hf://datasets/{STORE}@v1/dvc")
    (project / "single.txt").write_text("one\n")
    dvc(project, "add", "single.txt")
    assert "expected a branch" in only_line(run(project, "push"))


def test_options_that_hf_does_not_have_are_refused(project, store, source, run):
    assert "extra keys not allowed" in run(project, "remote", "modify", "hub", "token", "x").stderr
    done = run(project, "import-url", "--to-remote", f"hf://datasets/{SOURCE}/top.txt")
    assert "hf:// does not support --to-remote" in only_line(done)
