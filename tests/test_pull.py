"""Fetching from a Hub on the loopback: only what was asked for, every byte checked, nothing half-written."""

import json
import pickle  # noqa: TID251 (to write what must not be read)
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hub_server import Fault, Hub
from huggingface_hub import HfApi, file_download
from huggingface_hub.utils import _http
from packages import build_package, contents, run

import distillkit
from distillkit.base.errors import ArtifactError, DistillkitError, HubError, ParamsError
from distillkit.base.files import sha256
from distillkit.base.references import parse_reference
from distillkit.data.files.artifact import load_synthetic
from distillkit.hub.pull import pull
from distillkit.hub.push import push
from distillkit.package.folders import MANIFEST
from distillkit.package.manifest import Package

REPO = "someone/tiny"
FOREVER = 1000
RECIPE = "random-ipc2"
LARGE = f"/resolve/.*/{RECIPE}/distilled.safetensors"
SMALL = f"/resolve/.*/{RECIPE}/recipe.json"


@pytest.fixture(scope="session")
def second(tmp_path_factory) -> Path:
    return build_package(tmp_path_factory.mktemp("second") / "tiny", seed=1)


@pytest.fixture
def published(hub, first, second) -> Hub:
    """Version 1 under a tag, version 2 at the head."""
    repo = hub.create(REPO)
    repo.tags["v1.0"] = (repo.commit(contents(first)), "")
    repo.commit(contents(second))
    return hub


def fetch(hub: Hub, out: Path, reference: str = f"{REPO}@v1.0", recipe: str | None = RECIPE) -> Package:
    """``distillkit pull``."""
    return pull(HfApi(endpoint=hub.endpoint), parse_reference(reference), recipe, out)[0]


def of(folder: Path, *recipes: str) -> dict[str, bytes]:
    """What a pull of ``recipes`` leaves of the package in ``folder``."""
    return {name: data for name, data in contents(folder).items() if "/" not in name or name.split("/")[0] in recipes}


def asked(hub: Hub) -> set[str]:
    """Files that were downloaded."""
    return {
        request.path.split("/resolve/")[1].split("/", 1)[1] for request in hub.requests if "/resolve/" in request.path
    }


def test_only_the_recipe_asked_for_is_fetched(published, first, tmp_path):
    package = fetch(published, tmp_path / "out")
    assert package.recipes == (RECIPE,)
    assert contents(tmp_path / "out") == of(first, RECIPE)
    assert asked(published) == set(of(first, RECIPE))


def test_without_a_recipe_all_of_it_comes(published, first, second, tmp_path):
    fetch(published, tmp_path / "old", recipe=None)
    fetch(published, tmp_path / "new", REPO, recipe=None)
    assert contents(tmp_path / "old") == contents(first)
    assert contents(tmp_path / "new") == contents(second)


def test_a_commit_pins_as_a_tag_does(published, first, tmp_path):
    commit = published.repos[REPO].tags["v1.0"][0]
    fetch(published, tmp_path / "out", f"hf://datasets/{REPO}@{commit}")
    assert contents(tmp_path / "out") == of(first, RECIPE)


def test_a_second_recipe_joins_the_first_and_another_version_replaces_both(published, first, second, tmp_path):
    fetch(published, tmp_path / "out")
    published.requests.clear()
    assert set(fetch(published, tmp_path / "out", recipe="random-ipc1").recipes) == {"random-ipc1", RECIPE}
    assert not any(RECIPE in path for path in asked(published))
    assert contents(tmp_path / "out") == contents(first)
    fetch(published, tmp_path / "out", REPO)
    assert contents(tmp_path / "out") == of(second, RECIPE)


def test_what_is_there_already_is_not_fetched_again(published, tmp_path):
    fetch(published, tmp_path / "out")
    before = (tmp_path / "out").stat()
    fetch(published, tmp_path / "out")
    assert (tmp_path / "out").stat().st_ino == before.st_ino


@pytest.mark.parametrize("name", ["notes.txt", "random-ipc2/mine.csv"])
def test_a_folder_with_other_files_is_not_replaced(published, tmp_path, name):
    fetch(published, tmp_path / "out")
    (tmp_path / "out" / name).write_text("keep me")
    with pytest.raises(ArtifactError, match=f"also holds {name}.*; it is not replaced; remove .*, or choose another"):
        fetch(published, tmp_path / "out", REPO)
    assert (tmp_path / "out" / name).read_text() == "keep me"


def test_a_folder_of_something_else_is_left_alone(published, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ArtifactError, match="exists and is no package"):
        fetch(published, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "x"


def test_where_one_cannot_write_is_told_before_anything_is_fetched(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out, message in {
        tmp_path / "file": "exists and is no package",
        tmp_path / "file" / "deep": "is no folder, so .* cannot be in it",
        tmp_path / "dangling": "is a link to a missing target",
        Path(): "contains the current folder",
        Path("..", "here"): "contains the current folder",
    }.items():
        with pytest.raises(ArtifactError, match=message):
            fetch(published, out)
    assert published.requests == []


def test_what_the_client_and_file_browsers_leave_does_no_harm(published, first, second, tmp_path):
    out = tmp_path / "out"
    fetch(published, out)
    (out / ".DS_Store").write_bytes(b"junk")
    (out / RECIPE / ".DS_Store").write_bytes(b"junk")
    (out / ".cache").mkdir()
    (out / ".cache" / "mine").write_text("keep")
    fetch(published, out, REPO)
    assert contents(out) == of(second, RECIPE) | {".cache/mine": b"keep"}


def test_a_link_to_a_folder_stays_a_link(published, first, second, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    fetch(published, tmp_path / "link")
    fetch(published, tmp_path / "link", REPO)
    assert (tmp_path / "link").is_symlink() and contents(tmp_path / "real") == of(second, RECIPE)


@pytest.mark.parametrize("error", [OSError(5, "broken"), KeyboardInterrupt()])
def test_a_swap_that_fails_leaves_the_old_package(published, first, tmp_path, monkeypatch, error):
    out, rename = tmp_path / "out", Path.rename
    fetch(published, out)

    def fail(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(type(error)):
        fetch(published, out, REPO)
    assert contents(out) == of(first, RECIPE)
    assert {path.name for path in tmp_path.iterdir()} == {"hf", "out"}


def test_another_version_is_replaced_and_told(published, tmp_path, capsys):
    fetch(published, tmp_path / "out", recipe=None)
    fetch(published, tmp_path / "out", REPO)
    assert "has another version of 'tiny', which is replaced, and its random-ipc1 removed" in capsys.readouterr().err


def test_another_package_is_not_replaced(published, first, tmp_path):
    build_package(tmp_path / "out", ipcs=(1,), name="other")
    before = contents(tmp_path / "out")
    with pytest.raises(ArtifactError, match="has package 'other', not 'tiny'"):
        fetch(published, tmp_path / "out")
    assert contents(tmp_path / "out") == before


# In Python


def test_load_gives_the_set(published, first, monkeypatch):
    loaded = distillkit.load(f"{REPO}@v1.0", RECIPE)
    expected, _ = load_synthetic(first / RECIPE / "distilled.safetensors")
    assert torch.equal(loaded.images, expected.images) and torch.equal(loaded.labels, expected.labels)
    images = f"{RECIPE}/train-00000-of-00001.parquet"  # all of them are real
    assert asked(published) == {MANIFEST, f"{RECIPE}/distilled.safetensors", images}
    assert torch.equal(distillkit.load(f"{REPO}@v1.0").images, expected.images)  # the default recipe


def test_load_takes_folders_and_files_too(first):
    for reference in (first, str(first)):
        assert len(distillkit.load(reference, RECIPE)) == 20
    assert len(distillkit.load(first / RECIPE / "distilled.safetensors")) == 20
    with pytest.raises(ParamsError, match="is a single set; expected no recipe"):
        distillkit.load(first / RECIPE / "distilled.safetensors", RECIPE)


def test_a_path_that_exists_comes_before_the_hub(published, tmp_path, monkeypatch):
    (tmp_path / REPO).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        distillkit.load(REPO)
    assert published.requests == []


def test_load_checks_what_came(published):
    published.fault(Fault("GET", LARGE, kind="corrupt", times=FOREVER))
    with pytest.raises(HubError, match="SHA-256"):
        distillkit.load(f"{REPO}@v1.0", RECIPE)


SAME = """
import json, sys, torch, distillkit
from datasets import load_dataset
read = load_dataset("someone/tiny", "random-ipc2", revision="v1.0", split="train").with_format("torch")
loaded = distillkit.load("someone/tiny@v1.0", "random-ipc2")
assert torch.equal(read["image"][:] / 255, loaded.images), "floats"
assert torch.equal(read["label"][:], loaded.labels), "labels"
assert read.features["label"].names == list(loaded.class_names)
print(len(loaded))
"""


def test_load_dataset_gives_the_same_labels_and_floats(published, tmp_path):
    ran = run(published, tmp_path / "home", "-c", SAME)
    assert (ran.returncode, ran.stdout) == (0, "20\n"), ran.stderr


def test_a_second_pull_works_offline(published, first, tmp_path):
    command = ["-m", "distillkit", "pull", f"{REPO}@v1.0", RECIPE, "-o"]
    offline = {"HF_HUB_OFFLINE": "1"}
    refused = run(published, tmp_path / "home", *command, "never", **offline)
    assert refused.returncode == 1 and "HF_HUB_OFFLINE" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert run(published, tmp_path / "home", *command, "online").returncode == 0
    published.requests.clear()
    ran = run(published, tmp_path / "home", *command, "offline", **offline)
    assert ran.returncode == 0, ran.stderr
    assert contents(tmp_path / "offline") == contents(tmp_path / "online") == of(first, RECIPE)
    assert published.requests == [] and not (tmp_path / "never").exists()
    other = run(published, tmp_path / "home", "-m", "distillkit", "pull", f"{REPO}@v1.0", "random-ipc1", **offline)
    assert other.returncode == 1 and len(other.stderr.splitlines()) == 1
    assert "is not in the cache, and HF_HUB_OFFLINE is set; unset it" in other.stderr
    assert not (tmp_path / "tiny").exists()


# Faults


@pytest.mark.parametrize("path", [LARGE, SMALL, f"/resolve/.*/{MANIFEST}"])
@pytest.mark.parametrize("kind", ["corrupt", "truncate", "drop"])
def test_a_passing_fault_is_mended(published, first, tmp_path, path, kind):
    published.fault(Fault("GET", path, kind=kind))
    fetch(published, tmp_path / "out")
    assert contents(tmp_path / "out") == of(first, RECIPE)


LASTING = [
    (Fault("GET", LARGE, kind="corrupt", times=FOREVER), r"SHA-256 \w+; expected \w+; the download was deleted"),
    (Fault("GET", SMALL, kind="corrupt", times=FOREVER), r"SHA-256 \w+; expected \w+; the download was deleted"),
    (Fault("GET", f"/resolve/.*/{MANIFEST}", kind="corrupt", times=FOREVER), "damaged manifest.json"),
    (Fault("POST", "/paths-info/", kind="wrong-size", times=FOREVER), "damaged manifest.json"),
    (
        Fault("POST", "/paths-info/", kind="wrong-size", times=FOREVER, after=1),
        r"of \d+ bytes, but the Hub has \d+ bytes",
    ),
    (Fault("GET", LARGE, kind="truncate", times=FOREVER), "cannot be reached|Consistency check"),
    (Fault("GET", LARGE, status=404, times=FOREVER), "does not find it"),
    (Fault("GET", LARGE, status=403, times=FOREVER), "403"),
]


@pytest.mark.parametrize(("fault", "message"), LASTING, ids=lambda value: getattr(value, "kind", None))
def test_a_lasting_fault_is_one_line_and_nothing_is_written(published, tmp_path, fault, message, monkeypatch):
    for module in (_http, file_download):  # the client's own waiting
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda _: None))
    published.fault(fault)
    with pytest.raises(HubError, match=message) as caught:
        fetch(published, tmp_path / "out")
    assert "\n" not in str(caught.value) and published.token not in str(caught.value)
    assert [path for path in tmp_path.iterdir() if path.name != "hf"] == []


def test_a_corrupted_download_does_not_stay_in_the_cache(published, first, tmp_path):
    published.fault(Fault("GET", LARGE, kind="corrupt", times=FOREVER))
    with pytest.raises(HubError):
        fetch(published, tmp_path / "out")
    published.faults.clear()
    fetch(published, tmp_path / "out")
    assert contents(tmp_path / "out") == of(first, RECIPE)


def test_a_fault_leaves_the_version_that_was_there(published, first, tmp_path):
    fetch(published, tmp_path / "out")
    published.fault(Fault("GET", LARGE, kind="corrupt", times=FOREVER))
    with pytest.raises(HubError):
        fetch(published, tmp_path / "out", REPO)
    assert contents(tmp_path / "out") == of(first, RECIPE)


@pytest.mark.parametrize(
    ("reference", "recipe", "error", "message"),
    [
        (f"{REPO}@v9", RECIPE, HubError, "someone/tiny@v9 does not exist on the Hub; expected a branch, tag or commit"),
        ("someone/nothing", RECIPE, HubError, "someone/nothing@main is not on the Hub at .* or not open to you"),
        (REPO, "random-ipc3", ParamsError, "no recipe 'random-ipc3' .did you mean 'random-ipc2'"),
    ],
)
def test_what_is_not_there_is_told(published, tmp_path, reference, recipe, error, message):
    with pytest.raises(error, match=message):
        fetch(published, tmp_path / "out", reference, recipe)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text",
    ["tiny", "a/b/c", "../x/y", "someone/..", "someone/tiny@", "someone/tiny@../x", "some one/tiny", "/etc/passwd"],
)
def test_names_that_cannot_be_are_refused(text):
    with pytest.raises(ParamsError, match="expected"):
        parse_reference(text)


def test_a_private_package_is_hidden_from_strangers(hub, first, tmp_path, monkeypatch):
    push(HfApi(endpoint=hub.endpoint, token=hub.token), first, REPO, private=True)
    fetch(hub, tmp_path / "mine", REPO)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="not open to you; check the name, or run `hf auth login`"):
        fetch(hub, tmp_path / "theirs", REPO)


# Hostile packages: the Hub serves them faithfully


def relist(files: dict[str, bytes], **changes: object) -> bytes:
    """The manifest with ``changes``, its checksums true to ``files``."""
    manifest = json.loads(files[MANIFEST])
    return json.dumps(manifest | changes).encode()


def listed(files: dict[str, bytes], name: str, data: bytes) -> dict[str, bytes]:
    """The package with one more file, listed with its true checksum."""
    import hashlib

    manifest = json.loads(files[MANIFEST])
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    return {name: data, MANIFEST: json.dumps(manifest).encode()}


def also_listing(files: dict[str, bytes], changes: dict[str, dict[str, object]]) -> bytes:
    """The manifest with ``changes`` of what it says of files."""
    manifest = json.loads(files[MANIFEST])
    for name, change in changes.items():
        manifest["files"][name] = {"sha256": "0" * 64, "size": 0} | manifest["files"].get(name, {}) | change
    return json.dumps(manifest).encode()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


HOSTILE: list[tuple[Callable[[dict[str, bytes], Path], dict[str, bytes]], str]] = [
    (lambda files, _: listed(files, "tiny.py", b"print(1)"), r"lists 'tiny.py'; expected data only"),
    (
        lambda files, mark: listed(files, f"{RECIPE}/x.pkl", pickle.dumps(Bomb(mark))),
        r"lists .*x.pkl'; expected data only",
    ),
    (lambda files, _: listed(files, "../escaped.json", b"{}"), r"names '../escaped.json'; expected plain names"),
    (lambda files, _: listed(files, "/escaped.json", b"{}"), r"names '/escaped.json'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=["..", RECIPE])}, r"names '..'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "absent"])}, r"does not list absent/"),
    (lambda files, _: {MANIFEST: relist(files, format="distillkit-package/9")}, r"no manifest of a package \(format"),
    (lambda files, _: {MANIFEST: b"{"}, r"no manifest of a package"),
    (lambda files, _: {MANIFEST: b"\xff\xfe"}, r"no manifest of a package"),
    (lambda files, _: {MANIFEST: None}, r"no manifest.json"),
    (lambda files, mark: {f"{RECIPE}/distilled.safetensors": pickle.dumps(Bomb(mark))}, r"has \d+ bytes"),
    (lambda files, _: {f"{RECIPE}/recipe.json": files[f"{RECIPE}/recipe.json"].replace(b"0", b"1", 1)}, "SHA-256"),
    (
        lambda files, _: listed(files, "notes.md", b"x"),
        r"lists 'notes.md'; expected README.md, croissant.json and",
    ),
    (
        lambda files, _: listed(files, "other/x.json", b"{}"),
        r"lists 'other/x.json'; expected README.md, croissant.json",
    ),
    (
        lambda files, _: listed(files, f"{RECIPE}/sub/x.json", b"{}"),
        r"lists .*/sub/x.json'; expected README.md, croi",
    ),
    (lambda files, _: listed(files, f"{RECIPE}/Recipe.JSON", b"{}"), r"several files .*, ignoring case"),
    (lambda files, _: listed(files, "Readme.md", b"{}"), r"several files '(README|Readme).md', ignoring case"),
    (lambda files, _: listed(files, f"{RECIPE}/aux.json", b"{}"), r"names .*/aux.json'; expected plain names"),
    (lambda files, _: listed(files, f"{RECIPE}/x.json.", b"{}"), r"names .*/x.json.'; expected plain names"),
    (lambda files, _: {MANIFEST: also_listing(files, {MANIFEST: {}})}, r"lists 'manifest.json'; expected README.md"),
    (lambda files, _: {MANIFEST: relist(files, name="a/b")}, r"names 'a/b'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, f"{RECIPE}/x"])}, r"names .*/x'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, RECIPE])}, r"several recipes 'random-ipc2'"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "Random-ipc2"])}, r"several recipes .*, ignoring case"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "readme.MD"])}, r"has a recipe 'readme.MD'"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "Manifest.json"])}, r"has a recipe 'Manifest.json'"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "CON"])}, r"names 'CON'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "lpt1.x"])}, r"names 'lpt1.x'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "x."])}, r"names 'x.'; expected plain names"),
    (lambda files, _: {MANIFEST: relist(files, recipes=[RECIPE, "x" * 300])}, r"names 'x{200}…'; expected plain names"),
    (lambda files, _: {MANIFEST: also_listing(files, {"README.md": {"size": -1}})}, r"files.README.md.size"),
    (lambda files, _: {MANIFEST: also_listing(files, {"README.md": {"sha256": "A" * 64}})}, r"README.md.sha256"),
    (lambda files, _: {MANIFEST: also_listing(files, {"README.md": {"sha256": "a" * 63}})}, r"README.md.sha256"),
    (lambda files, _: {MANIFEST: also_listing(files, {"x\x1b[2J": {"size": -1}})}, r"\(files\.x\\x1b\[2J\.size"),
]


@pytest.mark.parametrize(("harm", "message"), HOSTILE)
def test_a_package_that_lies_is_refused_and_nothing_runs(published, tmp_path, harm, message):
    repo, mark = published.repos[REPO], tmp_path / "hf" / "executed"
    repo.commit(harm(repo.files(), mark))
    with pytest.raises(DistillkitError, match=message) as caught:
        fetch(published, tmp_path / "out", REPO)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert [path for path in tmp_path.iterdir() if path.name != "hf"] == []


def test_a_consistent_pickle_is_refused_by_its_reader(published, tmp_path):
    """Even one that the manifest lists under the artifact's name with its true checksum."""
    repo, mark = published.repos[REPO], tmp_path / "hf" / "executed"
    repo.commit(listed(repo.files(), f"{RECIPE}/distilled.safetensors", pickle.dumps(Bomb(mark))))
    with pytest.raises(ArtifactError, match="cannot be read"):
        distillkit.load(REPO, RECIPE)
    assert not mark.exists()


def test_what_the_manifest_does_not_list_is_never_fetched(published, second, tmp_path):
    published.repos[REPO].commit({"tiny.py": b"raise SystemExit", f"{RECIPE}/extra.pkl": b"x"})
    fetch(published, tmp_path / "out", REPO)
    assert contents(tmp_path / "out") == of(second, RECIPE)
    assert not {"tiny.py", f"{RECIPE}/extra.pkl"} & asked(published)


def test_a_copy_of_part_of_a_package_cannot_be_pushed(published, tmp_path, hub):
    fetch(published, tmp_path / "out")
    with pytest.raises(ArtifactError, match="lacks random-ipc1"):
        push(HfApi(endpoint=hub.endpoint, token=hub.token), tmp_path / "out", REPO)


def test_the_checksums_are_of_the_bytes(first):
    manifest = json.loads((first / MANIFEST).read_text())
    assert {name: record["sha256"] for name, record in manifest["files"].items()} == {
        name: sha256(first / name) for name in contents(first) if name != MANIFEST
    }
