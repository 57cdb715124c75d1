"""The loopback Hub, asked by the real clients; digests and orders of requests are written out by hand."""

import hashlib
import json
import re
import subprocess
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
from datasets import Dataset
from hub_server import FAULT_KINDS, Fault, Hub
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    HfApi,
    HfFileSystem,
    errors,
    file_download,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.utils import _http
from interpreter import PYTHON

NAME = "someone/digits"
CARD = b"---\nlicense: other\nsize_categories: n<1K\ntags: [dataset-distillation]\n---\n# Digits\n"
WEIGHTS = bytes(range(256)) * 4  # 1 KiB, sent by LFS for its suffix
FILES = {"README.md": CARD, "digits/recipe.json": b"{}", "digits/distilled.safetensors": WEIGHTS}
WHERE = {"repo_id": NAME, "repo_type": "dataset"}


@pytest.fixture
def api(hub) -> HfApi:
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    api.create_repo(**WHERE)
    return api


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """The seconds the client would have slept."""
    waits: list[float] = []
    for module in (_http, file_download):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waits.append))
    return waits


def adds(files: dict[str, bytes]) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, data) for path, data in files.items()]


def commit(api: HfApi, files: dict[str, bytes] = FILES, **options) -> str:
    return api.create_commit(**WHERE, operations=adds(files), commit_message="Add", **options).oid


def asked(hub: Hub, path: str) -> list[tuple[str, int]]:
    """Method and status of the requests whose path holds a regular expression."""
    return [(request.method, request.status) for request in hub.requests if re.search(path, request.path)]


def run_python(environment: dict[str, str], code: str, *arguments: str) -> str:
    command = [PYTHON, "-c", code, *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_repository_is_made_once_and_deleted(hub, api):
    assert api.whoami()["name"] == "someone"
    assert api.create_repo(**WHERE, exist_ok=True) == f"{hub.endpoint}/datasets/{NAME}"
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        api.create_repo(**WHERE)
    assert not hub.repos[NAME].private
    api.update_repo_settings(**WHERE, visibility="private")
    assert hub.repos[NAME].private
    api.delete_repo(**WHERE)
    assert not api.repo_exists(**WHERE)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.repo_info("someone/digits", repo_type="model")


def test_a_commit_holds_large_and_regular_files(hub, api):
    repo = hub.repos[NAME]
    first = repo.head
    oid = commit(api, parent_commit=first)
    assert repo.head == oid and [c.oid for c in repo.commits] == [first, oid] and repo.commits[1].parent == first
    files = repo.files()
    assert files.pop(".gitattributes")
    assert files == FILES
    assert asked(hub, "/lfs/|/batch|/verify|/commit/") == [("POST", 200), ("PUT", 200), ("POST", 200), ("POST", 200)]
    header = json.loads(hub.requests[-1].body_bytes.splitlines()[0])["value"]
    assert header == {"summary": "Add", "description": "", "parentCommit": first}


def test_the_same_files_make_no_commit(hub, api):
    first = commit(api)
    before = len(hub.requests)
    assert commit(api) == first
    assert len(hub.repos[NAME].commits) == 2
    assert not [request for request in hub.requests[before:] if re.search("/commit/|^/lfs/", request.path)]
    assert commit(api, {"digits/recipe.json": b"[]"}) != first


def test_a_stale_parent_is_refused(hub, api):
    stale = hub.repos[NAME].head
    theirs = hub.repos[NAME].commit({"theirs.txt": b"1"}, "Theirs")
    with pytest.raises(errors.HfHubHTTPError, match="412") as refused:
        commit(api, parent_commit=stale)
    assert refused.value.response.status_code == 412
    assert hub.repos[NAME].head == theirs
    assert asked(hub, "/commit/") == [("POST", 412)]


def test_of_two_commits_with_one_parent_one_wins(hub, api):
    parent, together = hub.repos[NAME].head, Barrier(2)
    hub.fault(Fault("POST", "/commit/", kind="call", times=2, call=lambda _: together.wait(10)))

    def write(name: str) -> int:
        try:
            commit(api, {name: b"1"}, parent_commit=parent)
        except errors.HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(write, ("a.txt", "b.txt"))) == [200, 412]
    assert len(hub.repos[NAME].commits) == 2 and len(hub.repos[NAME].files()) == 2


def test_parallel_commits_without_a_parent_all_land(hub, api):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: commit(api, {f"{n}.txt": b"1", f"{n}.parquet": b"%d" % n}), range(8)))
    assert len(hub.repos[NAME].files()) == 17
    assert all(after.parent == before.oid for before, after in pairwise(hub.repos[NAME].commits))


def test_deleting_files_and_folders(hub, api):
    commit(api)
    delete = {**WHERE, "commit_message": "Delete"}
    api.create_commit(operations=[CommitOperationDelete("digits/"), CommitOperationDelete("README.md")], **delete)
    assert set(hub.repos[NAME].files()) == {".gitattributes"}
    with pytest.raises(errors.RemoteEntryNotFoundError, match="doesn't exist"):
        api.create_commit(operations=[CommitOperationDelete("README.md")], **delete)


def test_bytes_that_were_never_uploaded_are_refused(hub, api):
    line = {"path": "a.safetensors", "algo": "sha256", "oid": "0" * 64, "size": 3}
    body = [{"key": "header", "value": {"summary": "Forged"}}, {"key": "lfsFile", "value": line}]
    data = "\n".join(map(json.dumps, body)).encode()
    put = urllib.request.Request(f"{hub.endpoint}/lfs/{NAME}/{'0' * 64}", b"abc", method="PUT")
    post = urllib.request.Request(f"{hub.endpoint}/api/datasets/{NAME}/commit/main", data)
    post.add_header("Authorization", f"Bearer {hub.token}")
    for request, reason in ((put, "BadDigest"), (post, "does not exist")):
        with pytest.raises(urllib.request.HTTPError) as refused:
            urllib.request.urlopen(request)
        with refused.value as answer:
            assert answer.status == 400 and reason in json.load(answer)["error"]
    assert len(hub.repos[NAME].commits) == 1


def test_tags_and_branches_are_revisions(hub, api):
    oid = commit(api)
    api.create_tag(**WHERE, tag="v1", tag_message="First")
    api.create_branch(**WHERE, branch="next", revision="v1")
    later = commit(api, {"digits/recipe.json": b"[]"}, revision="next")
    refs = api.list_repo_refs(**WHERE)
    assert {ref.name: ref.target_commit for ref in refs.tags} == {"v1": oid}
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": oid, "next": later}
    assert hub.repos[NAME].tags == {"v1": (oid, "First")}
    with pytest.raises(errors.HfHubHTTPError, match="409"):
        api.create_tag(**WHERE, tag="v1")
    api.create_tag(**WHERE, tag="v1", exist_ok=True)
    assert [c.title for c in api.list_repo_commits(**WHERE, revision="next")] == ["Add", "Add", "initial commit"]
    assert api.dataset_info(NAME, revision="v1").sha == oid
    api.delete_tag(**WHERE, tag="v1")
    api.delete_branch(**WHERE, branch="next")
    for revision in ("v1", "next"):
        with pytest.raises(errors.RevisionNotFoundError):
            api.dataset_info(NAME, revision=revision)
    assert api.dataset_info(NAME, revision=later).sha == later


# ── reading ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_listing_has_the_digests_of_git_and_lfs(hub, api):
    commit(api)
    listed = {entry.path: entry for entry in api.list_repo_tree(**WHERE, recursive=True, expand=True)}
    assert list(listed) == [
        ".gitattributes",
        "README.md",
        "digits",
        "digits/distilled.safetensors",
        "digits/recipe.json",
    ]
    assert listed["digits/recipe.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"  # git hash-object of {}
    large = listed["digits/distilled.safetensors"]
    assert large.size == large.lfs.size == 1024
    assert large.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert large.last_commit.title == "Add" and listed[".gitattributes"].last_commit.title == "initial commit"
    assert [entry.path for entry in api.list_repo_tree(**WHERE)] == [".gitattributes", "README.md", "digits"]
    found = api.get_paths_info(**WHERE, paths=["digits", "digits/recipe.json", "absent"])
    assert [entry.path for entry in found] == ["digits", "digits/recipe.json"]
    with pytest.raises(errors.RemoteEntryNotFoundError):
        list(api.list_repo_tree(**WHERE, path_in_repo="absent"))


def test_a_long_listing_comes_in_pages(hub, api):
    hub.page_size = 2
    commit(api)
    assert sorted(api.list_repo_files(**WHERE)) == sorted([".gitattributes", *FILES])
    hub.requests.clear()
    assert len(list(api.list_repo_tree(**WHERE, recursive=True))) == 5
    assert asked(hub, "/tree/") == [("GET", 200)] * 3


def test_a_file_by_branch_tag_and_commit(hub, api):
    oid = commit(api)
    api.create_tag(**WHERE, tag="v1")
    hub.repos[NAME].commit({"digits/distilled.safetensors": b"newer"})
    for revision, expected in (("main", b"newer"), ("v1", WEIGHTS), (oid, WEIGHTS)):
        path = hf_hub_download(**WHERE, filename="digits/distilled.safetensors", revision=revision)
        assert Path(path).read_bytes() == expected
    with pytest.raises(errors.RemoteEntryNotFoundError):
        hf_hub_download(**WHERE, filename="absent")
    with pytest.raises(errors.RevisionNotFoundError):
        hf_hub_download(**WHERE, filename="README.md", revision="v2")


def test_a_second_read_needs_no_hub(hub, api, tmp_path):
    commit(api)
    api.create_tag(**WHERE, tag="v1")
    read = f"from huggingface_hub import snapshot_download as s; print(s('{NAME}', repo_type='dataset', revision='v1'))"
    online = hub.environment(tmp_path / "home", token=None)

    first, before = run_python(online, read), len(hub.requests)
    assert first == run_python({**online, "HF_HUB_OFFLINE": "1"}, read)
    assert len(hub.requests) == before


def test_load_dataset_reads_one_config_of_a_tag(hub, api, tmp_path):
    files = {"README.md": b"---\nconfigs:\n"}
    for name in ("one", "two"):
        Dataset.from_dict({"label": [1, 2] if name == "one" else [3]}).to_parquet(tmp_path / f"{name}.parquet")
        files[f"{name}/train.parquet"] = (tmp_path / f"{name}.parquet").read_bytes()
        files["README.md"] += f"- config_name: {name}\n  data_files: {name}/train.parquet\n".encode()
    commit(api, {**files, "README.md": files["README.md"] + b"---\n"})
    api.create_tag(**WHERE, tag="v1")
    hub.repos[NAME].commit({"one/train.parquet": b"broken"})
    read = (
        f"from datasets import load_dataset as l; print(l('{NAME}', 'one', revision='v1', split='train')['label'][:])"
    )
    assert run_python(hub.environment(tmp_path / "home"), read) == "[1, 2]"
    assert ("GET", 200) in asked(hub, "/resolve/.*one/train") and not asked(hub, "/resolve/.*two/train")


def test_the_file_system_lists_reads_and_writes(hub, api, tmp_path):
    commit(api)
    disk = HfFileSystem(endpoint=hub.endpoint, token=hub.token, skip_instance_cache=True)
    root = f"datasets/{NAME}"
    assert disk.ls(root, detail=False) == [f"{root}/.gitattributes", f"{root}/README.md", f"{root}/digits"]
    assert disk.find(f"{root}/digits") == [f"{root}/digits/{name}" for name in ("distilled.safetensors", "recipe.json")]
    with disk.open(f"{root}/digits/distilled.safetensors", block_size=100) as file:
        file.seek(200)
        assert file.read(100) == WEIGHTS[200:300]
    assert hub.requests[-1].status == 206
    (tmp_path / "new.txt").write_bytes(b"new")
    disk.put(str(tmp_path / "new.txt"), f"{root}/new.txt")
    assert hub.repos[NAME].files()["new.txt"] == b"new"
    assert [(Path(at).name, sorted(folders), len(files)) for at, folders, files in disk.walk(root, refresh=True)] == [
        ("digits", ["digits"], 3),
        ("digits", [], 2),
    ]
    assert disk.exists(f"{root}/new.txt") and not disk.exists(f"{root}/absent")
    disk.rm(f"{root}/digits", recursive=True)
    assert set(hub.repos[NAME].files()) == {".gitattributes", "README.md", "new.txt"}


UPLOAD = """
import sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, HfApi
data = Path(sys.argv[1]).read_bytes()
files = {"path.safetensors": sys.argv[1], "digits/bytes.parquet": data[:-1], "small.txt": b"1"}
adds = [CommitOperationAdd(name, source) for name, source in files.items()]
print(HfApi().create_commit("someone/digits", adds, commit_message="Add", repo_type="dataset").oid)
"""
DOWNLOAD = """
import sys
from huggingface_hub import snapshot_download
print(snapshot_download("someone/digits", repo_type="dataset", revision=sys.argv[1]))
"""


@pytest.mark.parametrize("xet", [True, "local"])
def test_with_xet_enabled(tmp_path, xet):
    data = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(10_000))  # some five chunks
    (tmp_path / "data").write_bytes(data)
    expected = {"path.safetensors": data, "digits/bytes.parquet": data[:-1], "small.txt": b"1"}
    with Hub(xet=xet) as hub:
        repo = hub.create(NAME)
        oid = run_python(hub.environment(tmp_path / "writer"), UPLOAD, str(tmp_path / "data"))
        assert repo.head == oid and {name: repo.files()[name] for name in expected} == expected
        folder = Path(run_python(hub.environment(tmp_path / "reader"), DOWNLOAD, oid))
        assert {name: (folder / name).read_bytes() for name in expected} == expected
        assert not asked(hub, "/batch|^/lfs/")
        assert ("GET", 200) in asked(hub, "/resolve/.*small")
        through_xet = xet == "local"
        assert bool(asked(hub, "/xet-write-token/")) == bool(asked(hub, "/xet-read-token/")) == through_xet
        assert (("GET", 200) in asked(hub, "/resolve/.*(parquet|safetensors)")) != through_xet


# ── who may ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_private_repository_is_its_owners(hub, api):
    api.update_repo_settings(**WHERE, private=True)
    commit(api)
    hub.tokens["token-of-the-owner-to-read"] = ("someone", "read")
    assert api.dataset_info(NAME).private
    assert HfApi(endpoint=hub.endpoint, token="token-of-the-owner-to-read").dataset_info(NAME).private
    for token, status in ((False, 401), (hub.reader_token, 404)):
        with pytest.raises(errors.RepositoryNotFoundError) as refused:
            HfApi(endpoint=hub.endpoint, token=token).dataset_info(NAME)
        assert refused.value.response.status_code == status
        with pytest.raises(errors.RepositoryNotFoundError):
            snapshot_download(**WHERE, token=token)


def test_a_token_that_reads_does_not_write(hub, api):
    hub.tokens["token-of-the-owner-to-read"] = ("someone", "read")
    for token, status in ((hub.reader_token, 403), ("token-of-the-owner-to-read", 403), (False, 401)):
        other = HfApi(endpoint=hub.endpoint, token=token)
        assert other.dataset_info(NAME).id == NAME
        calls = [
            lambda other=other: commit(other),
            lambda other=other: other.create_tag(**WHERE, tag="v1"),
            lambda other=other: other.create_repo("someone/other", repo_type="dataset"),
            lambda other=other: other.delete_repo(**WHERE),
        ]
        for call in calls:
            with pytest.raises(errors.HfHubHTTPError) as refused:
                call()
            assert refused.value.response.status_code == status
    assert list(hub.repos) == [NAME] and len(hub.repos[NAME].commits) == 1


def test_a_wrong_token_is_refused(hub, api):
    wrong = HfApi(endpoint=hub.endpoint, token="token-of-nobody")
    with pytest.raises(errors.HfHubHTTPError, match="Invalid user token"):
        wrong.whoami()
    for call in (lambda: wrong.dataset_info(NAME), lambda: commit(wrong)):
        with pytest.raises(errors.HfHubHTTPError, match="401") as refused:
            call()
        assert not isinstance(refused.value, errors.RepositoryNotFoundError)


# ── cards ──────────────────────────────────────────────────────────────────────────────────────────────────────────

GOOD = """license: [mit, cc-by-4.0]
tags: [distilled]
task_categories: [image-classification]
size_categories: n<1K
configs:
- {config_name: a, default: true, data_files: a.parquet}
- {config_name: b, data_files: [{split: train, path: b.parquet}]}"""
BAD = {
    "license: public": "license",
    "license: 3": "license",
    "tags: distilled": "tags",
    "tags: [2026]": "tags",
    "task_categories: image-classification": "task_categories",
    "size_categories: 500": "size_categories",
    "size_categories: n<2K": "size_categories",
    "configs: {config_name: a, data_files: a}": "configs",
    "configs: [{data_files: a.parquet}]": "config_name",
    "configs: [{config_name: a}]": "data_files",
    "configs: [{config_name: a, data_files: {path: a}}]": "data_files",
    "configs: [{config_name: a, data_files: a}, {config_name: a, data_files: b}]": "unique",
    "license: [mit": "parse",
}


def test_a_good_card_is_accepted(hub, api):
    DatasetCard(f"---\n{GOOD}\n---\n# Digits").validate()
    assert commit(api, {"README.md": f"---\n{GOOD}\n---\n".encode()})
    assert hub.repos[NAME].files()["README.md"].startswith(b"---")
    assert api.dataset_info(NAME).card_data.license == ["mit", "cc-by-4.0"]


@pytest.mark.parametrize("yaml", BAD)
def test_a_bad_card_is_refused(hub, api, yaml):
    card = f"---\n{yaml}\n---\n# Digits"
    with pytest.raises(ValueError, match=BAD[yaml]):
        commit(api, {"README.md": card.encode()})
    if BAD[yaml] != "parse":  # the client's own card class cannot hold one that does not parse
        shown = DatasetCard("")
        shown.content = card
        with pytest.raises(ValueError, match=BAD[yaml]):
            shown.validate()
    assert len(hub.repos[NAME].commits) == 1


def test_a_card_without_metadata_is_a_warning(hub, api):
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        commit(api, {"README.md": b"# Digits"})


# ── faults ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_is_not_tried_again(hub, api, waits):
    for kind in ("status", "status-after"):
        hub.fault(Fault("POST", "/commit/", kind=kind, status=503))
    for landed in (0, 1):
        with pytest.raises(errors.HfHubHTTPError, match="503"):
            commit(api, {f"{landed}.txt": b"1"})
        assert len(hub.repos[NAME].commits) == 1 + landed
    for kind, landed in (("drop", 1), ("drop-after", 2)):
        hub.fault(Fault("POST", "/commit/", kind=kind))
        with pytest.raises(Exception, match="disconnected"):
            commit(api, {f"{kind}.txt": b"1"})
        assert len(hub.repos[NAME].commits) == 1 + landed
    assert waits == [] and asked(hub, "/commit/") == [("POST", 503), ("POST", 503), ("POST", 0), ("POST", 0)]


@pytest.mark.parametrize("fault", [Fault("PUT", "^/lfs/", status=500), Fault("PUT", "^/lfs/", kind="drop")])
def test_an_upload_is_tried_again(hub, api, waits, fault):
    fault.seen = 0
    hub.fault(fault)
    commit(api)
    assert waits == [1] and fault.hits == 1
    assert [status for _, status in asked(hub, "^/lfs/")] == [fault.status or 0, 200]


def test_too_many_requests_waits_as_told(hub, api, waits):
    hub.fault(Fault("POST", "/preupload/", status=429, headers={"Retry-After": "3"}))
    hub.fault(Fault("POST", "/preupload/", status=503, times=2))
    commit(api)
    assert waits == [4, 2, 4]  # a second more than told; then its own 1, 2, 4 … of which one went with the first


def test_a_call_acts_behind_the_clients_back(hub, api):
    parent = hub.repos[NAME].head
    theirs = Fault("POST", "/commit/", kind="call", call=lambda hub: hub.repos[NAME].commit({"theirs.txt": b"1"}))
    hub.fault(theirs)
    with pytest.raises(errors.HfHubHTTPError, match="412"):
        commit(api, parent_commit=parent)
    assert theirs.hits == 1 and "theirs.txt" in hub.repos[NAME].files()


def test_faults_pass_some_and_hit_some(hub, api):
    hub.fault(Fault("*", "/whoami", status=503, after=1, times=2))
    statuses = []
    for _ in range(4):
        try:
            statuses.append(api.whoami() and 200)
        except errors.HfHubHTTPError as error:
            statuses.append(error.response.status_code)
    assert statuses == [200, 503, 503, 200]


@pytest.mark.parametrize("name", ["digits/distilled.safetensors", "digits/recipe.json"])
def test_a_truncated_download_is_taken_up_again(hub, api, waits, name, monkeypatch):
    monkeypatch.setattr(file_download.constants, "DOWNLOAD_CHUNK_SIZE", 1)
    data = WEIGHTS if name in FILES and name.endswith("safetensors") else b'{"a": 1}'
    commit(api, {name: data})
    hub.fault(Fault("GET", "/resolve/", kind="truncate"))
    assert Path(hf_hub_download(**WHERE, filename=name)).read_bytes() == data
    first, second = (request for request in hub.requests if request.method == "GET" and "/resolve/" in request.path)
    assert "range" not in first.headers and second.headers["range"] == f"bytes={len(data) // 2}-"
    assert (first.status, second.status, waits) == (200, 206, [1])


@pytest.mark.parametrize("name", ["digits/distilled.safetensors", "digits/recipe.json"])
def test_the_client_takes_a_corrupt_file(hub, api, name):
    commit(api)
    hub.fault(Fault("GET", f"/resolve/.*{name}", kind="corrupt"))
    found = Path(hf_hub_download(**WHERE, filename=name)).read_bytes()
    assert len(found) == len(FILES[name]) and found != FILES[name]
    assert sum(a != b for a, b in zip(found, FILES[name], strict=True)) == 1


@pytest.mark.parametrize("name", ["digits/distilled.safetensors", "digits/recipe.json"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_size_that_lies_is_refused(hub, api, name, method):
    commit(api)
    hub.fault(Fault(method, f"/resolve/.*{name}", kind="wrong-size"))
    with pytest.raises(OSError, match="Consistency check failed"):
        hf_hub_download(**WHERE, filename=name)


def test_a_listing_may_lie_too(hub, api):
    commit(api)
    hub.fault(Fault("GET", "/tree/", kind="wrong-size"))
    listed = {entry.path: entry for entry in api.list_repo_tree(**WHERE, path_in_repo="digits")}
    assert listed["digits/recipe.json"].size == 3 and listed["digits/distilled.safetensors"].lfs.size == 1025


def test_a_fault_says_what_it_lacks():
    assert "corrupt" in FAULT_KINDS
    for wrong in ({"kind": "lost"}, {"kind": "status"}, {"kind": "drop", "status": 500}, {"kind": "call"}):
        with pytest.raises(AssertionError):
            Fault("GET", "/", **wrong)


def test_an_error_of_the_server_is_raised_at_the_end():
    with pytest.raises(ZeroDivisionError), Hub() as hub:
        hub.fault(Fault("GET", "/whoami", kind="call", call=lambda _: 1 / 0))
        with pytest.raises(ConnectionError):
            urllib.request.urlopen(f"{hub.endpoint}/api/whoami-v2")
