"""Uploads gathered into few commits: in order, from many threads, and after a refusal."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hub_server import Fault
from huggingface_hub import HfApi

from distillkit.base.errors import HubError
from distillkit.hub.dvc import commits
from distillkit.hub.dvc.commits import CommitQueue, Upload, delete_files

STORE = "someone/store"
AT_ONCE = {"Retry-After": "0"}


@pytest.fixture
def store(hub):
    return hub.create(STORE)


@pytest.fixture
def queue(hub, store):
    return CommitQueue(HfApi(endpoint=hub.endpoint, token=hub.token), STORE, "main")


def uploads(count: int, start: int = 0) -> list[Upload]:
    return [Upload(f"files/{n}", b"content %d" % n, 10) for n in range(start, start + count)]


def held(repo) -> set[str]:
    return {path for path in repo.files() if path.startswith("files/")}


def test_gathered_files_land_with_the_batch_they_fill(queue, store, monkeypatch):
    monkeypatch.setattr(commits, "FILES_PER_COMMIT", 10)
    before = len(store.commits)
    for upload in uploads(25):
        queue.gather(upload)
    assert len(held(store)) == 20
    queue.finish()
    assert len(held(store)) == 25
    assert len(store.commits) - before == 3


def test_bytes_fill_a_batch_too(queue, store, monkeypatch):
    monkeypatch.setattr(commits, "BYTES_PER_COMMIT", 30)
    before = len(store.commits)
    for upload in uploads(7):
        queue.gather(upload)
    queue.finish()
    assert len(store.commits) - before == 3


def test_gathered_files_of_many_threads_share_commits(queue, store):
    before = len(store.commits)
    with ThreadPoolExecutor(30) as pool:
        list(pool.map(queue.gather, uploads(60)))
    queue.finish()
    assert len(held(store)) == 60
    assert len(store.commits) - before == 1


def test_after_a_refusal_nothing_more_lands_until_the_next_push(hub, queue, store, monkeypatch):
    monkeypatch.setattr(commits, "FILES_PER_COMMIT", 10)
    hub.fault(Fault("POST", "/commit/", kind="status", status=403, after=1))
    for upload in uploads(35):
        queue.gather(upload)
    with pytest.raises(HubError, match=r"may not do that .* 10 files sent, run this again for the rest"):
        queue.finish()
    assert held(store) == {upload.path for upload in uploads(10)}
    for upload in uploads(35):
        queue.gather(upload)
    queue.finish()
    assert len(held(store)) == 35


def test_deletion_takes_what_is_there_and_survives_a_lost_answer(hub, queue, store):
    store.commit({f"files/{n}": b"x" for n in range(5)})
    before = len(store.commits)
    hub.fault(Fault("POST", "/commit/", kind="status-after", status=504, headers=AT_ONCE))
    delete_files(queue.api, STORE, "main", ["files/1", "files/3", "files/99"])
    assert held(store) == {"files/0", "files/2", "files/4"}
    assert len(store.commits) == before + 1


def test_a_file_that_is_gone_is_told(queue, store, tmp_path):
    queue.gather(Upload("files/1", str(tmp_path / "nothing"), 1))
    with pytest.raises(HubError, match="is not a file"):
        queue.finish()
