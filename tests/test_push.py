"""Publishing against a Hub on the loopback: what arrives, what is refused, and that no fault leaves a half."""

import errno
import json
import shutil
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from hub_server import Fault, Hub
from huggingface_hub import DatasetCard, HfApi
from marks import long
from packages import build_package, contents, rewritten, run

from distillkit.base.errors import ArtifactError, DistillkitError, HubError, ParamsError
from distillkit.base.references import parse_reference
from distillkit.hub.client import listing, resolve, shorten_wait
from distillkit.hub.errors import hub_errors
from distillkit.hub.push import push
from distillkit.hub.receipts import Pushed
from distillkit.package.folders import MANIFEST
from distillkit.process.progress import presentable

REPO = "someone/tiny"
FOREVER = 1000
COMMIT = "/commit/"


@pytest.fixture(scope="session")
def second(tmp_path_factory) -> Path:
    """A later version: one recipe less, one more, another draw."""
    return build_package(tmp_path_factory.mktemp("second") / "tiny", ipcs=(2, 3), seed=1)


class Publisher:
    """``distillkit push`` with a clock that does not wait; ``waited`` are the seconds it would have."""

    def __init__(self, hub: Hub):
        self.hub, self.waited = hub, hub.waited

    def __call__(self, folder: Path, token: str | None = None, **options) -> Pushed:
        api = HfApi(endpoint=self.hub.endpoint, token=token or self.hub.token)
        return push(api, folder, REPO, **options)

    @property
    def files(self) -> dict[str, bytes]:
        files = self.hub.repos[REPO].files()
        return {name: data for name, data in files.items() if name != ".gitattributes"}

    @property
    def commits(self) -> int:
        return len(self.hub.repos[REPO].commits)

    def requests(self, part: str) -> int:
        return sum(part in request.path for request in self.hub.requests)


@pytest.fixture
def publish(hub) -> Publisher:
    return Publisher(hub)


def test_the_hub_holds_the_folder_and_nothing_else(hub, publish, first, tmp_path):
    pushed = publish(first, tag="v1.0", receipt=tmp_path / "published.json")
    assert publish.files == contents(first)
    repo = hub.repos[REPO]
    assert publish.commits == 2  # the Hub's own first one, and ours
    assert repo.tags == {"v1.0": (repo.head, "tiny v1.0")}
    assert pushed.sent == sorted(contents(first)) and pushed.removed == []
    receipts = json.loads((tmp_path / "published.json").read_text())
    assert receipts == {
        REPO: {
            "commit": repo.head,
            "endpoint": hub.endpoint,
            "manifest_sha256": pushed.manifest_sha256,
            "tags": {"v1.0": repo.head},
        }
    }


def from_source(licence, **changes):
    """recipe.json of images under another licence."""

    def change(data):
        record = json.loads(data) | changes
        record["provenance"]["source"]["licence"] = licence
        return json.dumps(record).encode()

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (from_source("unknown"), "no licence of the source is recorded"),
        (from_source("cc-by-nc-nd-4.0"), "the licence of the source, CC-BY-NC-ND-4.0, forbids derived works"),
        (from_source("Research only"), "'Research only', has no known SPDX identifier"),
        (from_source("mit", method="imported"), "no licence of the imported images of random-ipc1 is recorded"),
    ],
)
def test_images_that_may_not_be_shared_are_pushed_only_if_the_user_says_so(
    hub, publish, first, tmp_path, capsys, change, found
):
    folder = rewritten(first, tmp_path / "copy", "random-ipc1/recipe.json", change)
    with pytest.raises(ArtifactError, match=rf"{found}.*; expected one that allows derived sets; .* --i-may-publish"):
        publish(folder)
    assert REPO not in hub.repos and hub.requests == []
    publish(folder, may_publish=True)
    assert capsys.readouterr().err.startswith("warning: ") and publish.files
    publish(first)
    assert "licence" not in capsys.readouterr().err


def test_a_second_push_of_the_same_sends_nothing(hub, publish, first, tmp_path):
    receipt = tmp_path / "published.json"
    publish(first, tag="v1.0", receipt=receipt)
    before, head = receipt.read_bytes(), hub.repos[REPO].head
    for options in ({"tag": "v1.0"}, {}, {"tag": "v1.1"}):
        pushed = publish(first, **options)
        assert (pushed.sent, pushed.removed, pushed.commit) == ([], [], head)
    assert publish.requests(COMMIT) == 1
    assert hub.repos[REPO].tags["v1.1"][0] == head
    publish(first, tag="v1.0", receipt=receipt)
    assert receipt.read_bytes() == before


def test_a_new_version_replaces_the_old_one_and_leaves_what_is_not_ours(hub, publish, first, second, tmp_path, capsys):
    publish(first, tag="v1.0", receipt=tmp_path / "published.json")
    repo = hub.repos[REPO]
    repo.commit({"LICENSE": b"mine", "README.md": b"---\n---\nedited by hand\n"})
    pushed = publish(second, tag="v2.0", receipt=tmp_path / "published.json")
    assert publish.files == contents(second) | {"LICENSE": b"mine"}
    assert all(name.startswith("random-ipc1/") for name in pushed.removed) and len(pushed.removed) == 4
    assert not any(name.startswith("random-ipc1/") for name in pushed.sent)
    assert "README.md was edited on the Hub" in capsys.readouterr().err
    assert repo.files("v1.0").items() >= contents(first).items()
    receipt = json.loads((tmp_path / "published.json").read_text())[REPO]
    assert receipt["commit"] == receipt["tags"]["v2.0"] == repo.head
    assert receipt["tags"]["v1.0"] == repo.tags["v1.0"][0] != repo.head


def test_an_old_version_pushed_again_changes_nothing(hub, publish, first, second, tmp_path, capsys):
    receipt = tmp_path / "published.json"
    publish(first, tag="v1.0", receipt=receipt)
    publish(second, tag="v2.0", receipt=receipt)
    before = receipt.read_bytes()
    pushed = publish(first, tag="v1.0", receipt=receipt)
    assert pushed.sent == [] and pushed.commit == hub.repos[REPO].tags["v1.0"][0]
    assert receipt.read_bytes() == before and publish.files == contents(second)
    assert "main has a later commit" in capsys.readouterr().err
    publish(second, receipt=receipt)
    assert receipt.read_bytes() == before


def test_a_damaged_file_on_the_hub_is_sent_again(hub, publish, first):
    publish(first)
    hub.repos[REPO].commit({"random-ipc1/recipe.json": b"{}"})
    assert publish(first).sent == ["random-ipc1/recipe.json"]
    assert publish.files == contents(first)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda folder: (folder / "notes.txt").write_text("x"), "also holds notes.txt"),
        (lambda folder: (folder / "random-ipc1/recipe.json").unlink(), "lacks random-ipc1/recipe.json"),
        (lambda folder: shutil.rmtree(folder / "random-ipc1"), "lacks random-ipc1/"),
        (lambda folder: (folder / "README.md").write_text("mine"), r"README.md has 4 bytes; expected \d+"),
        (lambda folder: (folder / MANIFEST).unlink(), "has no manifest.json"),
    ],
)
def test_a_folder_that_is_not_its_manifest_is_not_sent(hub, publish, first, tmp_path, harm, message):
    folder = Path(shutil.copytree(first, tmp_path / "copy"))
    harm(folder)
    with pytest.raises(ArtifactError, match=message):
        publish(folder)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag": tag}, f"tag is '{tag}'; expected a name such as v1.0")
        for tag in ("main", "HEAD", "a b", "../x", "v1..0", "v1/2", "a.lock", "-x", "0" * 40, "refs/heads/main")
    ],
)
def test_tags_that_cannot_be_are_refused_at_once(hub, publish, first, options, message):
    with pytest.raises(ParamsError, match=message):
        publish(first, **options)
    assert hub.requests == []


def test_a_receipt_that_is_something_else_is_not_overwritten(hub, publish, first, tmp_path):
    (tmp_path / "params.yaml").write_text("seed: 0\n")
    with pytest.raises(ArtifactError, match=r"params.yaml"):
        publish(first, receipt=tmp_path / "params.yaml")
    assert (tmp_path / "params.yaml").read_text() == "seed: 0\n"
    assert hub.requests == []


def test_a_receipt_that_cannot_be_written_stops_before_anything_is_published(hub, publish, first, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"published.json cannot be written .*; choose another place"):
        publish(first, receipt=tmp_path / "file" / "published.json")
    assert hub.requests == []


def test_a_branch_is_no_tag(hub, publish, first):
    publish(first)
    HfApi(endpoint=hub.endpoint, token=hub.token).create_branch(REPO, branch="draft", repo_type="dataset")
    with pytest.raises(HubError, match="has a branch 'draft'"):
        publish(first, tag="draft")


def test_what_was_checked_is_what_is_sent(hub, publish, first, tmp_path):
    """A file that changes while it is pushed, to another content of the same size."""
    folder = Path(shutil.copytree(first, tmp_path / "copy"))
    path = folder / "random-ipc1/recipe.json"
    changed = path.read_bytes().replace(b"random", b"change")
    hub.fault(Fault("POST", "/preupload/", kind="call", call=lambda _: path.write_bytes(changed)))
    publish(folder)
    assert publish.files == contents(first)


def test_offline_nothing_is_pushed(hub, publish, first, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set, so nothing can be pushed"):
        publish(first)


def test_a_tag_never_moves(hub, publish, first, second):
    publish(first, tag="v1.0")
    with pytest.raises(HubError, match=r"tag 'v1.0' at commit \w+, which has other files"):
        publish(second, tag="v1.0")
    assert publish.files == contents(first)


def test_a_repository_with_other_data_is_left_alone(hub, publish, first):
    HfApi(endpoint=hub.endpoint, token=hub.token).create_repo(REPO, repo_type="dataset")
    hub.repos[REPO].commit({"data.csv": b"1,2"})
    with pytest.raises(HubError, match=r"holds data.csv and no manifest.json"):
        publish(first)
    assert publish.files == {"data.csv": b"1,2"}


def test_private_means_private(hub, publish, first):
    publish(first, private=True)
    assert hub.repos[REPO].private
    assert publish(first).sent == []


def test_private_is_refused_where_the_repository_is_public(hub, publish, first):
    HfApi(endpoint=hub.endpoint, token=hub.token).create_repo(REPO, repo_type="dataset")
    with pytest.raises(HubError, match="exists and is public"):
        publish(first, private=True)
    assert publish.files == {}


def test_without_a_token_nothing_is_asked(hub, first, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match=r"no token for the Hub.*hf auth login"):
        push(HfApi(endpoint=hub.endpoint), first, REPO)
    assert hub.requests == []


@pytest.mark.parametrize(("token", "message"), [("reader_token", r"may not do that \(403\)"), ("wrong", r"\(401\)")])
def test_a_token_that_may_not_write_is_told_so(hub, publish, first, token, message):
    token = getattr(hub, token, "hf_unknown")
    with pytest.raises(HubError, match=message) as caught:
        publish(first, token=token)
    assert token not in str(caught.value)
    assert REPO not in hub.repos


def test_the_card_is_valid(hub, first):
    DatasetCard.load(first / "README.md").validate(repo_type="dataset")
    assert [request.path for request in hub.requests] == ["/api/validate-yaml"]


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [(b"license: cc-by-4.0", b"license: mine", "license"), (b"- config_name:", b"- name:", "configs")],
)
def test_a_card_that_the_hub_does_not_take_stops_everything(hub, publish, first, tmp_path, old, new, found):
    folder = rewritten(first, tmp_path / "copy", "README.md", lambda data: data.replace(old, new))
    with pytest.raises(HubError, match="the Hub rejects the card") as caught:
        publish(folder)
    assert found in str(caught.value) and "\n" not in str(caught.value)
    assert publish.files == {} and publish.commits == 1


@pytest.mark.parametrize(
    "storage", [long(True, id="not needed"), pytest.param("local", id="Xet"), long(False, id="none, so LFS")]
)
def test_the_command_with_the_xet_client_installed(first, tmp_path, storage):
    """The Hub may store without it or through it; where the Hub does not know it, the error says how to do without."""
    with Hub(xet=storage) as hub:
        environment = {"HF_HUB_DISABLE_XET": "0"}
        command = ["-m", "distillkit", "push", str(first), REPO, "--tag", "v1.0"]
        ran = run(hub, tmp_path / "home", *command, **environment)
        assert any("xet-write-token" in request.path for request in hub.requests) == (storage is not True)
        if not storage:
            assert ran.returncode == 1 and ran.stderr.splitlines()[-1].startswith(
                f"error: {REPO}: the Xet client failed"
            )
            assert ran.stderr.endswith("set HF_HUB_DISABLE_XET=1\n")
            environment = {"HF_HUB_DISABLE_XET": "1"}
            ran = run(hub, tmp_path / "home", *command, **environment)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout.startswith(f"{REPO}@v1.0: 11 files sent, commit ")
        files = hub.repos[REPO].files()
        assert {name: data for name, data in files.items() if name != ".gitattributes"} == contents(first)
        pulled = run(hub, tmp_path / "home", "-m", "distillkit", "pull", f"{REPO}@v1.0", "-o", "out", **environment)
        assert pulled.returncode == 0, pulled.stderr
        assert contents(tmp_path / "out") == contents(first)


def test_the_command_says_what_is_wrong_in_one_line(hub, first, tmp_path):
    command = ["-m", "distillkit", "push", str(first), "other/tiny"]
    ran = run(hub, tmp_path / "home", *command)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("error: other/tiny: your token may not do that (403)")
    assert len(ran.stderr.splitlines()) == 1 and hub.token not in ran.stderr
    assert not (tmp_path / "published.json").exists()


# Faults

LOST = [
    Fault("POST", COMMIT, status=500),
    Fault("POST", COMMIT, status=503, times=3),
    Fault("POST", COMMIT, status=429, headers={"Retry-After": "7"}),
    Fault("POST", COMMIT, status=409),
    Fault("POST", COMMIT, status=412),
    Fault("POST", COMMIT, kind="drop"),
    Fault("POST", COMMIT, kind="status-after", status=503),
    Fault("POST", COMMIT, kind="status-after", status=500),
    Fault("POST", COMMIT, kind="drop-after"),
    Fault("POST", "/api/repos/create", status=503),
    Fault("POST", "/preupload/", status=503),
    Fault("POST", "/info/lfs/objects/batch", kind="drop"),
    Fault("POST", "/tag/", kind="drop-after"),
    Fault("POST", "/tag/", status=503),
]


@pytest.mark.parametrize("fault", LOST, ids=lambda fault: f"{fault.path} {fault.kind} {fault.status or ''}")
def test_a_passing_fault_costs_a_wait_and_never_a_second_commit(hub, publish, first, fault):
    hub.fault(fault)
    publish(first, tag="v1.0")
    assert publish.files == contents(first)
    assert publish.commits == 2
    assert hub.repos[REPO].tags["v1.0"][0] == hub.repos[REPO].head
    assert fault.hits >= 1
    assert fault.status != 429 or 7.0 in publish.waited


LASTING = [
    (401, "does not know your token"),
    (403, "may not do that"),
    (404, "does not find it"),
    (409, "conflict"),
    (412, "committed meanwhile"),
    (413, "too large for the Hub"),
    (429, "too many requests"),
    (500, "answered 500"),
    (503, "answered 503"),
]


@pytest.mark.parametrize(("status", "message"), LASTING)
def test_a_lasting_fault_is_one_line_and_the_old_version_stays_whole(
    hub, publish, first, second, status, message, capsys
):
    publish(first, tag="v1.0")
    hub.fault(Fault("POST", COMMIT, status=status, times=FOREVER, headers={"X-Error-Message": f"for {hub.token}"}))
    with pytest.raises(HubError, match=message) as caught:
        publish(second, tag="v2.0")
    told = capsys.readouterr()
    assert hub.token not in f"{caught.value}{told.out}{told.err}" and "\n" not in str(caught.value)
    assert publish.files == contents(first)
    assert list(hub.repos[REPO].tags) == ["v1.0"]
    hub.faults.clear()
    publish(second, tag="v2.0")
    assert publish.files == contents(second)


def test_a_hub_that_is_gone_is_one_line(hub, first):
    api = HfApi(endpoint="http://127.0.0.1:9", token=hub.token)
    with pytest.raises(HubError, match="cannot be reached") as caught:
        push(api, first, REPO)
    assert "\n" not in str(caught.value)


def test_the_password_of_an_endpoint_is_not_told(hub, first):
    api = HfApi(endpoint="http://me:secret@127.0.0.1:9", token=hub.token)
    with pytest.raises(HubError, match=r"the Hub at http://127.0.0.1:9 cannot be reached") as caught:
        push(api, first, REPO)
    assert "secret" not in str(caught.value)


def test_a_silent_hub_is_left_after_a_while(hub, first, monkeypatch):
    """It takes the connection and says nothing."""
    monkeypatch.setattr("distillkit.hub.client.SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        api = HfApi(endpoint=f"http://127.0.0.1:{server.getsockname()[1]}", token=hub.token)
        with pytest.raises(HubError, match="cannot be reached"):
            resolve(api, parse_reference(REPO))


@pytest.mark.parametrize(
    ("asked", "left"),
    [("7", "7"), ("60", "60"), ("61", "60"), ("9" * 30, "60"), ("Wed, 21 Oct 2099 07:28:00 GMT", "60")],
)
def test_no_hub_makes_us_wait_for_long(asked, left):
    response = httpx2.Response(429, headers={"Retry-After": asked, "ratelimit": '"api";r=0;t=99999'})
    shorten_wait(response)
    assert response.headers["Retry-After"] == left and "ratelimit" not in response.headers


def test_the_token_is_masked_before_messages_are_shortened(hub, publish, first):
    said = "x" * 190 + hub.token
    hub.fault(Fault("POST", COMMIT, status=403, headers={"X-Error-Message": said}))
    with pytest.raises(HubError) as caught:
        publish(first)
    assert hub.token[:6] not in str(caught.value)


def test_what_people_see_has_neither_token_nor_escapes(hub):
    assert presentable(f"a {hub.token} \x1b[31mred\x07\nb") == "a <token> �[31mred�\nb"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at https://me:secret@host/a", "at https://host/a"),
        ("s3://key:se@cret@bucket:9000", "s3://bucket:9000"),
        ("ssh://git@host/x https://token@host", "ssh://host/x https://host"),
        ("hf://datasets/a/b@v1.0/x", "hf://datasets/a/b@v1.0/x"),
        ("me@host, https://host/@x?y=a@b", "me@host, https://host/@x?y=a@b"),
        ('{"a": "https://host", "b": "x@y"}', '{"a": "https://host", "b": "x@y"}'),
        ("a\u202egnp.exe \udc80", "a�gnp.exe �"),
        ("全角\u3000空白", "全角\u3000空白"),
    ],
)
def test_what_people_see_has_no_passwords_and_turns_no_text(text, expected):
    assert presentable(text) == expected


@pytest.mark.parametrize(
    "entry",
    [
        {"path": "a", "size": "12", "blob_id": "0", "lfs": None},
        {"path": None, "size": 1, "blob_id": "0", "lfs": None},
        {"path": "a", "size": 1, "blob_id": 7, "lfs": None},
        {"blob_id": "0"},
    ],
)
def test_a_listing_that_makes_no_sense_is_one_line(hub, entry, monkeypatch):
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    monkeypatch.setattr(api, "list_repo_tree", lambda *_, **__: [SimpleNamespace(**entry)])
    with pytest.raises(HubError, match="cannot read the Hub"):
        listing(api, REPO, "main")


def test_a_full_disk_is_not_the_hubs_fault(hub):
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    with pytest.raises(OSError, match="No space left"), hub_errors(api, REPO):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
    with pytest.raises(ArtifactError), hub_errors(api, REPO):
        raise ArtifactError("xet is in this name")


def test_a_stale_parent_is_a_conflict_and_the_others_commit_stays(hub, publish, first, second):
    publish(first)
    hub.fault(Fault("POST", COMMIT, kind="call", call=lambda _: hub.repos[REPO].commit({"LICENSE": b"theirs"})))
    with pytest.raises(HubError, match=r"somebody else has committed to .* meanwhile: \w{12} after \w{12}"):
        publish(second)
    assert publish.files == contents(first) | {"LICENSE": b"theirs"}
    publish(second)
    assert publish.files == contents(second) | {"LICENSE": b"theirs"}


def both(publish: Publisher, folders: tuple[Path, Path]) -> list[str]:
    """Two pushes that meet at their commits; what became of each."""
    barrier, outcomes = threading.Barrier(2), list[str]()
    publish.hub.fault(Fault("POST", COMMIT, kind="call", times=2, call=lambda _: barrier.wait(timeout=30)))

    def run(folder: Path) -> None:
        try:
            publish(folder)
            outcomes.append("done")
        except DistillkitError as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run, args=[folder]) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return sorted(outcomes, key=len)


def test_of_two_pushes_at_once_one_wins_and_the_other_is_told(hub, publish, first, second):
    HfApi(endpoint=hub.endpoint, token=hub.token).create_repo(REPO, repo_type="dataset")
    outcomes = both(publish, (first, second))
    assert outcomes[0] == "done" and "meanwhile" in outcomes[1]
    assert publish.files in (contents(first), contents(second))


def test_two_pushes_of_the_same_at_once_make_one_commit(hub, publish, first, tmp_path):
    HfApi(endpoint=hub.endpoint, token=hub.token).create_repo(REPO, repo_type="dataset")
    assert both(publish, (first, Path(shutil.copytree(first, tmp_path / "same")))) == ["done", "done"]
    assert publish.files == contents(first)
    assert publish.commits == 2


def test_bytes_that_arrive_otherwise_are_noticed(hub, publish, first):
    """A Hub that stores something else than it was sent."""
    spoiled = contents(first)["random-ipc1/recipe.json"] + b" "
    publish(first)
    real = hub.repos[REPO].write
    hub.repos[REPO].write = lambda files, *rest, **named: real(
        {
            name: replace(blob, data=spoiled) if name == "random-ipc2/recipe.json" else blob
            for name, blob in files.items()
        },
        *rest,
        **named,
    )
    hub.repos[REPO].commit({"random-ipc2/recipe.json": b"{}"})
    with pytest.raises(HubError, match=r"has other bytes in random-ipc2/recipe.json than were sent"):
        publish(first)
