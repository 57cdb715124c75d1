"""``distillkit doctor``: what is found on machines that are ready and on machines that are not."""

import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from dvc.repo import Repo
from dvc_objects.fs.base import ObjectFileSystem
from dvc_objects.fs.local import LocalFileSystem
from interpreter import PYTHON, SCRIPTS, path
from marks import long
from packages import digits_data
from PIL import Image
from test_init import QUIET, distillkit, run

from distillkit import __version__
from distillkit.base import machine, params
from distillkit.base.errors import HubError, SourceError
from distillkit.base.files import sha256
from distillkit.cli import cli
from distillkit.data.files.artifact import save_synthetic
from distillkit.data.files.real_images import save_real
from distillkit.data.images import real_subset
from distillkit.estimates.resources import Images
from distillkit.estimates.speeds import Speeds
from distillkit.setup import demands, diagnostics, doctor, remotes
from distillkit.setup.diagnostics import Finding
from distillkit.setup.local_source import imported_sets
from distillkit.sources.fetch import DataSpec, fetch
from distillkit.sources.readers import DigitsSource

ROOT = Path(__file__).parents[1]
PIPELINE = (ROOT / "params.yaml").read_text()
NETWORK = "network: {name: convnet, depth: 2, width: 32, norm: batch}"


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A Git and DVC repository with the parameters of this one."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", path(SCRIPTS))
    monkeypatch.setattr(demands, "speeds_of", lambda *_: Speeds(1000, 1000, 1000, 1000))  # measuring takes a second
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    Repo.init(str(tmp_path)).close()
    (tmp_path / "params.yaml").write_text(f"distillkit: {__version__}\n{PIPELINE}")
    return tmp_path


def examined(folder: Path) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor.examine(folder)}


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "params.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def remote(folder: Path, url: str) -> Finding:
    """What is found of a remote at an address."""
    (folder / ".dvc/config").write_text(f"['remote \"store\"']\n    url = {url}\n")
    (found,) = remotes.dvc_remotes(folder)
    assert found.check == "dvc remote store"
    return found


def findings_of(folder: Path, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    ran = distillkit(folder, "doctor", "--json", **environment)
    report = json.loads(ran.stdout)
    assert (ran.returncode == 0) == report["ready"], ran.stderr
    return ran.returncode, {finding["check"]: finding for finding in report["findings"]}


def test_a_healthy_machine(repository):
    code, found = findings_of(repository, HF_TOKEN="hf_secret")
    assert code == 0
    for check in ("python", "dvc", "torch", "device", "distillkit", "memory", "disk", "Hugging Face token"):
        assert found[check]["status"] == "ok", found[check]
    assert found["git"] == {
        "check": "git",
        "status": "warning",
        "found": "no commit yet, which dvc exp and dvc metrics diff need",
        "remedy": "dvc add images that lie here, then git add -A && git commit",
    }
    assert found["dvc remote"]["status"] == "warning"
    assert "hf_secret" not in json.dumps(found)


def test_another_version_is_told(repository):
    change(repository, f"distillkit: {__version__}", "distillkit: 0.0.1")
    found = examined(repository)["distillkit"]
    assert found.status == "warning" and f"0.0.1 in {repository / 'params.yaml'}" in found.found


def test_lines_for_people(repository):
    (repository / "params.yaml").unlink()
    ran = distillkit(repository, "doctor")
    assert "ok       torch: torch " in ran.stdout and "         → distillkit init" in ran.stdout


def test_what_is_wrong_has_a_remedy(repository, tmp_path_factory):
    """All of it in one report, of a process whose PATH has neither Git nor the environment."""
    empty = tmp_path_factory.mktemp("empty")
    (repository / ".dvc/config").write_text("['remote \"store\"']\n    url = http://127.0.0.1:9/nowhere\n")
    (repository / "params.yaml").write_text("experts: 5\n")
    code, found = findings_of(repository, PATH=str(empty), HF_TOKEN="", HF_HOME=str(empty))
    assert code == 1
    for check in ("python", "dvc", "git", "dvc remote store", "params.yaml"):
        assert found[check]["status"] == "failure" and found[check]["remedy"], found[check]
    assert found["git"]["found"] == "not on the PATH"
    assert found["Hugging Face token"]["status"] == "warning"


# Remotes


def test_a_remote_that_is_dead_is_a_failure(repository):
    found = remote(repository, "http://127.0.0.1:9/store")
    assert found.status == "failure" and "127.0.0.1:9" in found.found and "dvc remote modify" in found.remedy


@pytest.mark.parametrize(("status", "expected"), [(200, "ok"), (404, "ok"), (403, "failure"), (501, "failure")])
def test_a_web_server_that_answers(repository, status, expected):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        found = remote(repository, f"http://127.0.0.1:{server.server_port}/store")
    finally:
        server.shutdown()
        server.server_close()
    assert found.status == expected, found


def test_a_remote_in_a_folder(repository):
    (repository / "store").mkdir()
    assert remote(repository, "../store").status == "ok"
    later = remote(repository, "../later")
    assert later.status == "warning" and later.remedy == "dvc push makes it"
    gone = remote(repository, "/nowhere/at/all")
    assert gone.status == "failure" and "neither the folder nor its parent exists" in gone.found
    (repository / "file").write_text("")
    assert remote(repository, "../file").status == "failure"


def test_a_bucket_without_the_folder(tmp_path):
    """In an object store a folder is but a name: any part of its path that is there will do."""

    class Bucket(LocalFileSystem, ObjectFileSystem):
        pass

    path = str(tmp_path / "a/b/c")
    assert str(tmp_path) in remotes.parents(Bucket(), path)
    assert remotes.parents(LocalFileSystem(), path) == [str(tmp_path / "a/b")]


def test_a_plugin_that_is_missing_is_named(repository, monkeypatch):
    monkeypatch.setitem(sys.modules, "dvc_ssh", None)
    found = remote(repository, "ssh://127.0.0.1:9/store")
    assert (found.status, found.remedy) == ("failure", "pip install dvc-ssh")


def test_nobody_waits_for_a_remote_that_does_not_answer(repository, tmp_path):
    """Neither the report nor the end of the process."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (repository / ".dvc/config").write_text(
            f"['remote \"store\"']\n    url = http://127.0.0.1:{silent.getsockname()[1]}/store\n"
        )
        code = (
            "from pathlib import Path\nfrom distillkit.setup import diagnostics, remotes\ndiagnostics.PATIENCE = 1\n"
            "print(*remotes.dvc_remotes(Path()), flush=True)\n"
        )
        ran = run(repository, sys.executable, "-c", code)  # which times out where the process waits
    assert "no answer in 1 s" in ran.stdout and ran.returncode == 0, ran.stderr


def test_a_question_without_an_answer_leaves_no_thread_to_wait_for(monkeypatch):
    monkeypatch.setattr(diagnostics, "PATIENCE", 0.05)
    before = set(threading.enumerate())
    found = diagnostics.answered("remote", lambda: time.sleep(3))
    assert found.status == "failure" and "no answer" in found.found
    assert [thread.daemon for thread in set(threading.enumerate()) - before] == [True]


# params.yaml, and what goes wrong in looking


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\nseed: 0\n", "\n", "has no section 'seed'"),
        ("data:\n", "data:\n  size: [a, 32]\n", 'data.size.0 is "a"'),
        ("data:\n", "data:\n  size: [-4, 32]\n", "data.size is [-4, 32]"),
        ("width: 32", "width: 1000000000000", "expected between 1 and 8192"),
        ("data:\n", "data:\n  size: [10000000000, 10000000000]\n", "lower its width or data.size"),
        ("depth: 2", "depth: 1000000000000", "network.depth is 1e+12"),
    ],
)
def test_parameters_that_cannot_be_are_one_failure(repository, old, new, message):
    change(repository, old, new)
    found = examined(repository)[str(repository / "params.yaml")]
    assert found.status == "failure" and message in f"{found.found}; {found.remedy}", found


def test_a_wide_network_is_estimated_without_its_memory(repository):
    change(repository, "width: 32", "width: 8000")
    assert examined(repository)["memory"].status == "warning"


def test_an_error_nobody_thought_of_is_a_finding_and_not_the_end(repository, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(doctor, "git", broken)
    monkeypatch.setattr(doctor, "version", broken)
    found = examined(repository)
    assert found["git"].status == "failure" and "ZeroDivisionError: by nothing" in found["git"].found
    assert found["pipeline"].status == "failure" and found["dvc remote"].status == "warning"


def test_without_git(repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    found = examined(repository)
    assert found["git"] == Finding("git", "failure", "not on the PATH", "install Git") and "memory" in found


def test_a_folder_that_is_not_there(tmp_path):
    found = examined(tmp_path / "nowhere")
    assert found["folder"].status == "failure" and found["folder"].found.endswith("nowhere does not exist")
    assert not {"git", "dvc remote", "pipeline"} & found.keys()


def test_a_terminal_without_arrows(tmp_path):
    narrow = "sys.stdout.reconfigure(encoding='latin-1', errors='strict')"
    code = f"import sys; {narrow}; from distillkit.cli import main; main()"
    ran = run(tmp_path, PYTHON, "-c", code, "doctor")
    assert ran.returncode == 1 and "? git init" in ran.stdout and not ran.stderr


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path):
    ended = CliRunner().invoke(cli, ["doctor", str(tmp_path / "nowhere")])
    assert (
        str(ended.exception) == f"{tmp_path}/nowhere does not exist; expected the folder that holds dvc.yaml; name that"
    )


def test_files_that_are_not_committed_are_counted(repository):
    (repository / "one").touch()
    git("-C", str(repository), "commit", "-qm", "none", "--allow-empty")
    git("-C", str(repository), "add", "-A")
    assert doctor.git(repository).found.endswith(" uncommitted files")
    git("-C", str(repository), "commit", "-qm", "all")
    assert doctor.git(repository).found == "all committed"
    (repository / "one").write_text("more")
    assert doctor.git(repository) == Finding("git", "ok", "1 uncommitted file")


def test_a_section_that_is_misspelt(repository):
    """Those of a user's own stages are let be, also where their names begin like one of ours."""
    change(repository, "seed: 0", "seed: 0\naudits: {recipes: []}\ndataset: {x: 1}\nprepare: 1\n2024: 3\nrecipies: {}")
    found = [found for found in doctor.pipeline(repository) if found.check == str(repository / "params.yaml")]
    assert found == [
        Finding(
            str(repository / "params.yaml"),
            "warning",
            f"has a section {name!r}, which distillkit does not read",
            f"rename it to {meant!r}, unless your own stages read it",
        )
        for name, meant in {"audits": "audit", "recipies": "recipes"}.items()
    ]


def test_the_images_of_fetch_in_the_run_cache(repository):
    """As by the dvc.yaml of an earlier version; nothing is said of the one of now, and of stages that are not ours."""
    file, now = repository / "dvc.yaml", (ROOT / "dvc.yaml").read_text()
    assert "dvc.yaml" not in {Path(check).name for check in examined(repository)}
    before = now.replace("    - artifacts/real: {persist: true}\n", "    - artifacts/real\n")
    for text, told in {before: True, now: False, "stages: {fetch: {cmd: x}}": False, "- x": False, "{": False}.items():
        file.write_text(text)
        found = list(doctor.run_cache(file))
        assert bool(found) == told, text
        if told:
            assert found == [examined(repository)[str(file)]]
            assert found[0].status == "warning" and found[0].remedy.endswith("- artifacts/real: {persist: true}")


# Memory, cores and disk


def test_memory_on_a_gpu_is_not_that_of_the_system(repository, monkeypatch):
    """The estimate is one for a CPU, and says so."""
    import torch

    for module in ("base.device", "setup.demands"):
        monkeypatch.setattr(f"distillkit.{module}.prepare_device", lambda: torch.device("cuda"))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda _: (2**20, 2**30))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda _: "a GPU")
    found = examined(repository)["memory"]
    assert found.status == "warning" and "GiB on a CPU" in found.found and "0.0 free on the GPU" in found.found


def test_trajectories_that_are_there_take_nothing_more(repository):
    before = examined(repository)["disk"].found
    (repository / "artifacts/experts").mkdir(parents=True)
    for shard in (0, 1):
        with (repository / f"artifacts/experts/shard-{shard}.safetensors").open("wb") as file:
            file.truncate(2**30)
    change(repository, "epochs: 12", "epochs: 12000")
    assert before.startswith("about 6.26 MiB to write (images 0.11, experts 5.71, ")
    data = doctor.params.load(repository / "params.yaml")
    parts, found = demands.disk_of(data, Images((1, 8, 8), 10, 1347, 450)), examined(repository)["disk"]
    assert parts["experts"] > 3 * 2**30 and found.found.startswith(f"about {sum(parts.values()) / 2**30 - 2:.2f} GiB")
    assert found.numbers == parts, "for programs, all of it"


def test_images_that_are_not_fetched_are_those_that_the_source_says_it_has(repository):
    """1,347 of the digits, 450 where 45 of each class are drawn; nothing where the source cannot be read."""
    found = examined(repository)
    assert "reference, for the 1,347 training images of the source, not fetched yet" in found["memory"].found
    assert found["disk"].numbers["images"] == (1347 + 450) * 64
    assert set(found["time"].numbers) > {"fetch", "experts", "distill mtt-ipc5", "evaluate full", "package"}
    assert re.fullmatch(r"about .* for all stages here \(.*\), one after another, estimated .*", found["time"].found)
    change(repository, "  test_fraction", "  per_class: 45\n  test_fraction")
    assert "for the 450 training images of the source" in examined(repository)["memory"].found
    change(repository, "source: {kind: digits}", "source: {kind: folder, path: nowhere}")
    assert "without the images, which are not fetched yet" in examined(repository)["memory"].found


def test_time_is_not_measured_where_memory_does_not_suffice(repository, monkeypatch):
    monkeypatch.setattr(demands, "memory_available", lambda: 2**20)
    found = examined(repository)
    assert found["memory"].status == "warning" and found["memory"].remedy.startswith("lower data.size, batch, ")
    assert found["time"] == Finding("time", "warning", "not measured: the steps may not fit into memory", "see memory")


def test_the_limits_of_a_container(tmp_path):
    """Version 2: a limit of 1000 bytes, 600 of them used, 100 of those forgettable; and one and a half cores."""
    inner = tmp_path / "root/a/b"
    inner.mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    (inner / "memory.max").write_text("max\n")
    (inner.parent / "memory.max").write_text("1000\n")
    (inner.parent / "memory.current").write_text("600\n")
    (inner.parent / "memory.stat").write_text("anon 500\ninactive_file 100\n")
    (inner / "cpu.max").write_text("150000 100000\n")
    (inner.parent / "cpu.max").write_text("max 100000\n")
    assert list(machine.memory_left(tmp_path / "root", tmp_path / "own")) == [500]
    assert list(machine.quotas(tmp_path / "root", tmp_path / "own")) == [2]


def test_the_limits_of_an_old_container(tmp_path):
    """Version 1, where the group's own path is not seen from inside."""
    (tmp_path / "own").write_text("5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n0::/\n")
    for name, files in {
        "memory": {"memory.limit_in_bytes": "1000", "memory.usage_in_bytes": "300"},
        "cpu": {"cpu.cfs_quota_us": "300000", "cpu.cfs_period_us": "100000"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert list(machine.memory_left(tmp_path, tmp_path / "own")) == [700]
    assert list(machine.quotas(tmp_path, tmp_path / "own")) == [3]


def test_the_limits_are_what_is_told(monkeypatch):
    monkeypatch.setattr(machine, "memory_left", lambda: iter([17]))
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setattr(machine, "quotas", lambda: iter([]))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    assert machine.memory_available() == 17 and machine.cores() == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert machine.cores() == 2, "where Slurm binds no cores, it says at least how many"
    monkeypatch.setattr(machine, "quotas", lambda: iter([1]))
    assert machine.cores() == 1


def test_a_recipe_that_needs_diffusers(repository, monkeypatch):
    """Told where a recipe has the method and the package is missing, and only there."""
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "diffusers" not in examined(repository)
    made = "made: {method: diffusion, ipc: 1, model: {network: {kind: unet}, training: {steps: 1, batch: 1, lr: 1}}}"
    change(repository, "recipes:\n", f"recipes:\n  {made}\n")
    found = examined(repository)["diffusers"]
    assert (found.status, found.found) == ("failure", "not installed, but made needs it")
    assert found.remedy == "pip install 'distillkit[diffusion]'"
    monkeypatch.undo()
    assert "diffusers" not in examined(repository)


def test_a_score_file_is_checked_before_experts_are_trained(repository):
    """That it exists, at once; its numbers as soon as the images are there."""
    assert "score file" not in examined(repository)
    change(repository, "name: confidence ", "name: file\n  file: mine.npy ")
    found = examined(repository)["score file"]
    assert found.status == "failure" and f"score.file {repository / 'mine.npy'} does not exist" in found.found
    mine = "mine: {cmd: ./mine, outs: [mine.npy: {cache: false}]}"
    (repository / "dvc.yaml").write_text(f"stages: {{{mine}, score: {{cmd: ./score}}}}")
    told = list(doctor.score_file(params.load(repository / "params.yaml"), repository, None))
    assert [each.status for each in told] == ["warning", "ok"]
    assert told[0].found.startswith("mine.npy is no dependency of stage score")
    (repository / "dvc.yaml").write_text(f"stages: {{{mine}, score: {{cmd: ./score, deps: [mine.npy]}}}}")
    found = examined(repository)["score file"]
    assert (found.status, found.found) == ("ok", "mine.npy is an output of stage mine, which has not run here")
    (repository / "dvc.yaml").unlink()
    np.save(repository / "mine.npy", np.zeros(5))
    assert "score file" not in examined(repository)
    (repository / "artifacts/real").mkdir(parents=True)
    data = fetch(DataSpec(DigitsSource(), per_class=40, test_per_class=5))
    save_real(repository / "artifacts/real/real.safetensors", data)
    found = examined(repository)["score file"]
    images = len(data.train)
    assert found.status == "failure" and f"shape (5,); expected one number for each of the {images}" in found.found
    np.save(repository / "mine.npy", np.zeros(images))
    assert examined(repository)["score file"].status == "ok"


def test_a_mistake_is_told_once_with_what_to_do(repository, monkeypatch):
    """It is found in the file as its path is typed here."""
    monkeypatch.chdir(repository.parent)
    name = f"{repository.name}/params.yaml"
    change(repository, "method: full", "method: fool")
    found = examined(Path(repository.name))[name]
    assert found.found.startswith("recipes.full.method is 'fool'") and "params.yaml" not in found.found
    change(repository, "seed: 0", "seed: 0\n\tx: 1")
    found = examined(Path(repository.name))[name]
    assert re.match(r"line \d is not valid YAML: found character '\\t' that cannot start any token$", found.found)
    assert (found.status, found.remedy) == ("failure", "correct it")


@pytest.fixture
def pets(repository, monkeypatch) -> Path:
    """A folder of images in the repository, the source of its pipeline, which is the current folder."""
    change(repository, "{kind: digits}", "{kind: folder, path: data/pets}")
    for label in ("cat", "dog"):
        (repository / "data/pets" / label).mkdir(parents=True)
        (repository / f"data/pets/{label}/0.png").write_bytes(label.encode())
    monkeypatch.chdir(repository)
    return repository


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True, capture_output=True)


def about(repository: Path) -> dict[str, Finding]:
    """What is found of the images, without the rest of the report."""
    found = doctor.local_images(spec_of(repository).source, repository)
    return {finding.check: finding for finding in found}


def dvc(*arguments: str) -> None:
    assert run(Path(), PYTHON, "-m", "dvc", *arguments, "-q").returncode == 0


def test_images_that_no_clone_will_have_are_told(pets):
    """With the command that lets them in, which is another one where Git has some of them."""
    lacking = "data/pets: 2 files (0.0 MiB) are in neither Git nor DVC, so clones and CI lack them"
    expected = Finding("source", "warning", lacking, "dvc add data/pets, before any git add")
    assert next(found for found in doctor.pipeline(pets) if found.check == "source") == expected
    assert about(pets) == {"source": expected}
    (pets / ".gitignore").write_text("data/\n")
    remedy = "remove the line data/ from .gitignore, which hides pets.dvc from Git, then dvc add data/pets, before"
    assert about(pets)["source"].remedy.startswith(remedy)
    (pets / ".gitignore").unlink()
    git("add", "data/pets/cat")
    some = about(pets)["source"]
    assert some.found.startswith("data/pets: 1 of 2 files (")
    assert some.remedy == "git add data/pets; or all into DVC: git rm -rq --cached data/pets && dvc add data/pets"
    git("rm", "-rq", "--cached", "data/pets")
    dvc("add", "data/pets")
    assert about(pets) == {"source": Finding("source", "ok", "data/pets, in DVC")}
    (pets / "data/pets/cat/1.png").write_bytes(b"new")
    stale = about(pets)["source"]
    assert stale.found == "data/pets has changed since dvc add, so clones get the earlier images"
    assert stale.remedy == "dvc add data/pets; or dvc checkout data/pets"


def test_images_that_git_should_not_have(pets, monkeypatch):
    git("add", "data")
    assert about(pets)["source"] == Finding("source", "ok", "data/pets, in Git")
    monkeypatch.setattr("distillkit.setup.local_source.IN_GIT", 5)
    heavy = about(pets)["source"]
    assert heavy.status == "warning" and "is in Git with 2 files of 0 MiB" in heavy.found
    subprocess.run(heavy.remedy.replace("dvc add", "true"), shell=True, check=True)
    dvc("add", "data/pets")
    assert about(pets)["source"].found == "data/pets, in DVC"


def shards(root: Path, missing: bool) -> None:
    """Two files of two images each, the second cut off or missing."""
    image, label = datasets.Image(), datasets.ClassLabel(names=["cat", "dog"])
    data = {"image": [Image.new("L", (8, 8), level) for level in (1, 2, 3, 4)], "label": [0, 1, 0, 1]}
    made = datasets.Dataset.from_dict(data, datasets.Features({"image": image, "label": label}))
    for shard in (0, 1):
        made.shard(2, shard).to_parquet(file := root / f"train-0000{shard}-of-00002.parquet")
    file.unlink() if missing else file.write_bytes(file.read_bytes()[:50])


def owl(root: Path) -> None:
    """A class folder without an image."""
    (root / "owl").mkdir()
    (root / "owl/notes.txt").touch()


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("folder, path", owl, "no training images in 'owl'; expected some in each"),
        ("folder, path", lambda root: (root / "dog/1.png").unlink(), "only 1 image in 'dog'; expected at least 2"),
        ("folder, path", lambda root: (root / "cat/1.png").write_bytes(b""), "cat/1.png cannot be read (it is empty)"),
        ("huggingface, id", lambda root: shards(root, missing=True), "train-00001-of-00002.parquet is missing, found"),
        ("huggingface, id", lambda root: shards(root, missing=False), "train-00001-of-00002.parquet is cut off or dam"),
    ],
    ids=["empty class", "one image", "empty file", "missing shard", "cut shard"],
)
@pytest.mark.parametrize("again", [False, long(True)])
def test_images_that_fetch_will_refuse(pets, monkeypatch, kind, spoil, message, again):
    """In its own words; also where it has run, if they have changed since then."""
    root, fetch_it = pets / "data/pets", {"cmd": "true", "deps": ["data/pets"]}
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", pets / "cache")
    if kind.startswith("huggingface"):
        shutil.rmtree(root)
        root.mkdir()
        (root / "README.md").touch()
    for name in ("cat/0", "cat/1", "dog/0", "dog/1") if kind.startswith("folder") else ():
        Image.new("L", (8, 8)).save(root / f"{name}.png")
    change(pets, "folder, path", kind)
    change(pets, "test_fraction: 0.25", "test_fraction: 0.01")
    if again:
        save_real(pets / "artifacts/real/real.safetensors", digits_data())
        (pets / "dvc.yaml").write_text(json.dumps({"stages": {"fetch": fetch_it}}))
        dvc("repro")
        assert refused() == []
    spoil(root)
    (told,) = refused()
    assert message in told
    with pytest.raises(SourceError) as caught:
        fetch(spec_of(pets))
    assert told == str(caught.value)


def test_a_new_class_folder_without_images_is_no_change_to_dvc(pets):
    for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
        Image.new("L", (8, 8)).save(pets / f"data/pets/{name}.png")
    save_real(pets / "artifacts/real/real.safetensors", digits_data())
    (pets / "dvc.yaml").write_text(json.dumps({"stages": {"fetch": {"cmd": "true", "deps": ["data/pets"]}}}))
    dvc("repro")
    assert refused() == []
    (pets / "data/pets/owl").mkdir()
    assert "fetch" not in about(pets)
    remedy = "add some, or remove the class: its folder, or its label, and number the others without gaps"
    assert refused() == [f"no training images in 'owl'; expected some in each class; {remedy}"]
    assert "for the" not in str(examined(pets)), "estimates are for the images that were fetched"


def refused() -> list[str]:
    found = (found for found in doctor.pipeline(Path()) if found.check == "source" and found.status == "failure")
    return [f"{finding.found}; {finding.remedy}" for finding in found]


def test_a_dataset_that_is_not_there(pets):
    """One line: with what to do in DVC where a folder of that name could be there, else that of fetch."""
    change(pets, "path: data/pets", "path: data/dogs")
    assert refused() == [f"{pets}/data/dogs does not exist; dvc pull, or correct data.source in params.yaml"]
    change(pets, "kind: folder, path: data/dogs", "kind: huggingface, id: ./dogs")
    assert refused() == ["no folder ./dogs; expected a folder or the id of a dataset; check data.source.id"]
    change(pets, "id: ./dogs", "id: data/dogs")
    assert refused() == [], "it could be on the Hub"
    (pets / "dvc.yaml").write_text(json.dumps({"stages": {"fetch": {"cmd": "true", "deps": ["data/dogs"]}}}))
    assert refused() == [f"{pets}/data/dogs does not exist; dvc pull, or correct data.source in params.yaml"]


def test_an_empty_folder_is_in_no_git_and_no_dvc(pets):
    shutil.rmtree(pets / "data/pets/cat")
    (pets / "data/pets/dog/0.png").unlink()
    assert about(pets) == {}


def test_images_outside_or_nowhere(pets, tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere")
    change(pets, "path: data/pets", f"path: {place}")
    found = about(pets)["source"]
    assert f"{place} is outside the repository" in found.found and found.remedy.startswith("move it inside")
    place.rmdir()
    assert about(pets)["source"].status == "failure"


def test_images_that_have_changed_since_fetch(pets, monkeypatch):
    """Nothing before fetch; a file more; a file of as many bytes, unless that would take too long to know; settings."""
    fetch = {"cmd": "true", "deps": ["data/pets"], "params": ["data"]}
    (pets / "dvc.yaml").write_text(json.dumps({"stages": {"fetch": fetch}}))
    assert "fetch" not in about(pets)
    dvc("repro")
    assert "fetch" not in about(pets)
    (pets / "data/pets/dog/1.png").write_bytes(b"new")
    remedy = "dvc repro fetches again, and runs what depends on it"
    changed = Finding("fetch", "warning", "data/pets has changed since fetch", remedy)
    assert about(pets)["fetch"] == changed
    (pets / "data/pets/dog/1.png").unlink()
    assert "fetch" not in about(pets)
    (pets / "data/pets/dog/0.png").write_bytes(b"DOG")
    assert about(pets)["fetch"] == changed
    monkeypatch.setattr("distillkit.setup.local_source.HASHED", 5)
    assert "fetch" not in about(pets)
    change(pets, "path: data/pets}", "path: data/pets}\n  size: [32, 32]")
    assert about(pets)["fetch"].found == f"data in {pets / 'params.yaml'} has changed since fetch"
    (pets / "dvc.lock").write_text("half a lo")
    assert about(pets) == {}, "half a lock is a finding of its own"


@pytest.mark.parametrize(
    ("source", "licence", "found"),
    [
        ("{kind: digits}", None, None),
        ("{kind: digits}", "CC-BY-ND-4.0", "the licence of the source, CC-BY-ND-4.0, forbids derived works"),
        ("{kind: folder, path: data/pets}", None, "no licence of the source is recorded"),
        ("{kind: folder, path: data/pets}", "Research only", "'Research only', has no known SPDX identifier"),
        ("{kind: torchvision, name: CIFAR10}", None, "no licence of the source is recorded"),
        ("{kind: huggingface, id: cards}", None, "the licence of the source, CC-BY-NC-ND-4.0, forbids derived works"),
    ],
)
def test_a_licence_that_stops_a_push_is_told_before_anything_runs(repository, source, licence, found):
    (repository / "cards").mkdir()
    (repository / "cards/README.md").write_text("---\nlicense: cc-by-nc-nd-4.0\n---\n")
    change(repository, "{kind: digits}", source)
    if licence:
        change(repository, "  test_fraction", f"  licence: {licence}\n  test_fraction")
    (told,) = doctor.source_licence(spec_of(repository), repository)
    assert (found or "cc-by-4.0") in told.found
    assert told.status == ("warning" if found else "ok") and ("--i-may-publish" in told.remedy) == bool(found)


def test_a_licence_that_only_the_hub_knows(repository, monkeypatch):
    """Nothing is said where it does not answer; what fetch recorded comes before."""
    change(repository, "{kind: digits}", "{kind: huggingface, id: someone/cats}")
    spec = spec_of(repository)
    monkeypatch.setattr("distillkit.setup.inspection.card_of", lambda _: {"license": "mit"})
    assert [told.found for told in doctor.source_licence(spec, repository)] == ["mit"]

    def silent(_):
        raise HubError("the Hub does not answer")

    monkeypatch.setattr("distillkit.setup.inspection.card_of", silent)
    assert list(doctor.source_licence(spec, repository)) == []
    save_real(repository / "artifacts/real/real.safetensors", digits_data())
    assert [told.found for told in doctor.source_licence(spec, repository)] == ["cc-by-4.0"]


def test_a_licence_of_imported_images_is_told_too(repository):
    data = digits_data()
    rows = torch.arange(0, 80, 8)
    for name, notes in {"one": {}, "two": {"imported": {"licence": "mit"}}}.items():
        synthetic = replace(real_subset(data.train, rows, data.normalisation), notes=notes)
        save_synthetic(repository / f"{name}.safetensors", synthetic, {})
    recipes = {name: {"method": "imported", "file": f"{name}.safetensors"} for name in ("one", "two", "missing")}
    for name in ("one", "two"):
        recipes[name]["sha256"] = sha256(repository / f"{name}.safetensors")
    told, missing = imported_sets({"recipes": {"mtt": {"method": "mtt"}, **recipes}}, repository)
    assert missing.status == "failure" and missing.found.endswith("missing.safetensors of missing does not exist")
    assert told.found == "no licence of the imported images of one is recorded" and "--licence" in told.remedy


def test_imported_sets_that_the_stage_would_refuse(repository):
    synthetic = real_subset(digits_data().train, torch.arange(0, 80, 8), digits_data().normalisation)
    other = replace(synthetic, notes={"imported": {"licence": "mit"}})
    save_synthetic(repository.parent / "outside.safetensors", other, {})
    recipe = {"method": "imported", "file": "../outside.safetensors", "sha256": "0" * 64}
    found = [each.found for each in imported_sets({"recipes": {"mine": recipe}}, repository)]
    assert "is outside of the pipeline's folder" in found[0] and "another sha256 than the recipe" in found[1]


def test_a_broken_imported_set_does_not_hide_the_next(repository):
    (repository / "broken.safetensors").write_bytes(b"no container")
    recipes = {name: {"method": "imported", "file": f"{name}.safetensors"} for name in ("broken", "missing")}
    recipes["broken"]["sha256"] = sha256(repository / "broken.safetensors")
    found = list(imported_sets({"recipes": recipes}, repository))
    assert [each.status for each in found] == ["failure", "failure"]
    assert "broken.safetensors" in found[0].found and "missing.safetensors" in found[1].found


def test_the_licence_is_one_of_the_findings(repository):
    assert examined(repository)["licence"] == Finding("licence", "ok", "cc-by-4.0")


def spec_of(folder: Path) -> DataSpec:
    return params.section(params.load(folder / "params.yaml"), "data", DataSpec)


def test_what_only_dvc_cannot_read(repository):
    """A colon without quotes, as DVC's parser is stricter than ours; and what Git leaves of a conflict."""
    change(repository, NETWORK, "network: {factory: nets:net}")
    found = examined(repository)["params.yaml"]
    assert found.status == "failure" and re.search(r"\(line \d+: found unexpected ':'\)$", found.found), found
    assert found.remedy == "correct it; a text with a colon needs quotes"
    (repository / "dvc.lock").write_text("stages:\n<<<<<<< ours\n  a: 1\n=======\n  a: 2\n>>>>>>> theirs\n")
    found = examined(repository)["dvc.lock"]
    assert (found.status, found.found) == ("failure", "has a merge conflict at line 2")
    assert found.remedy == "keep one version of each stage"
    change(repository, "seed: 0", "<<<<<<< ours\nseed: 0\n=======\nseed: 1\n>>>>>>> theirs")
    found = examined(repository)[str(repository / "params.yaml")]
    assert found.status == "failure" and re.match(r"has a merge conflict at line \d+$", found.found)


def test_a_clone_without_the_merge_driver(repository):
    (repository / ".gitattributes").write_text("dvc.lock merge=dvc-lock\n")
    found = examined(repository)["dvc.lock"]
    assert (found.status, found.remedy) == ("warning", "distillkit merge-lock --install")
    run(repository, "git", "config", "merge.dvc-lock.driver", "distillkit merge-lock %O %A %B %P")
    assert "dvc.lock" not in examined(repository)


def test_networks_of_the_folder_that_is_named(repository):
    """As stages run there."""
    change(repository, NETWORK, 'network: {factory: "nets:net"}')
    named = partial(distillkit, repository.parent, "doctor", repository.name)
    assert "network.factory is nets:net, which cannot be imported here" in named().stdout
    lines = ["from torch import nn", "def net(shape, classes):"]
    lines += ["    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))"]
    (repository / "nets.py").write_text("\n".join(lines))
    told = "nets.py is no dependency of any stage, so an edit of it runs nothing again"
    assert named().returncode == 0 and told in named().stdout, named().stdout
    (repository / "dvc.yaml").write_text("stages: {evaluate: {foreach: [a], do: {cmd: x, deps: [nets.py]}}}\n")
    assert told not in named().stdout


def test_half_a_rwlock_is_a_failure(repository):
    name = ".dvc/tmp/rwlock"
    assert name not in examined(repository)
    for text, broken in (("{}", False), ("", True), ('{"read": {}, "wri', True)):
        (repository / name).write_text(text)
        found = examined(repository).get(name)
        assert (found is not None) == broken
    assert (found.status, found.remedy) == ("failure", "distillkit repro deletes it")


def test_half_a_lock_is_a_failure(repository):
    assert "dvc.lock" not in examined(repository)
    (repository / "dvc.lock").touch()
    found = examined(repository)["dvc.lock"]
    assert (found.status, found.remedy) == ("failure", "distillkit repro restores it from Git and the run-cache")
    assert examined(repository)["git"].status == "warning"
