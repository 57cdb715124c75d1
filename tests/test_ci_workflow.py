"""The workflow that ``distillkit init --ci`` writes, its steps run in order in temporary clones: real git, real dvc, a
Hub on the loopback."""

import shutil
from pathlib import Path

import pytest
from ci_projects import FOLDER, PACKAGE, Project, new_repository
from hub_server import Hub
from interpreter import PYTHON
from marks import long
from ruamel.yaml import YAML
from test_pipeline import EVERYTHING, PARAMS
from workflows import Outcome, run_github

import distillkit
from distillkit import __version__
from distillkit.setup.new_files import ROOT

CHECK, REPRODUCE, SUMMARY, PUBLISH = (
    "dvc.lock is up to date",
    "Reproduce what the DVC remote does not hold",
    "What changed",
    "Publish",
)
STALE = (
    "::error::dvc.lock is stale from the first stage that is not skipped above; run dvc repro and dvc push, "
    "then commit dvc.lock, metrics and reports"
)
ON_MAIN = {"github.ref": "refs/heads/main", "github.ref_name": "main"}
ON_PULL_REQUEST = {"github.ref": "refs/pull/1/merge", "github.ref_name": "1/merge", "github.base_ref": "main"}
ON_TAG = {"github.ref": "refs/tags/v1.0", "github.ref_name": "v1.0"}


def workflow(clone: Path) -> dict:
    return YAML(typ="safe").load(clone / ".github/workflows/distill.yml")


def only(steps: dict, name: str) -> dict:
    """The workflow with one step."""
    (job,) = steps["jobs"].values()
    return {**steps, "jobs": {"check": {**job, "steps": [step for step in job["steps"] if step.get("name") == name]}}}


def check(project: Project, contexts: dict[str, str], branch: str = "main", name: str = "clone", **given) -> Outcome:
    """What CI does in a fresh clone."""
    clone = project.clone(name, branch)
    return run_github(workflow(clone), clone, project.root / f"{name}-runner", contexts, given)


def test_what_the_runner_provides(ci_project):
    """The steps that this file leaves out: they are not run, so they are looked at."""
    (job,) = workflow(ci_project.origin)["jobs"].values()
    provided = {step["uses"].split("@")[0]: step.get("with", {}) for step in job["steps"] if "uses" in step}
    assert provided["actions/checkout"] == {"fetch-depth": 0}
    assert provided["actions/cache"]["path"] == ".dvc/cache"
    assert (ci_project.origin / provided["actions/setup-python"]["cache-dependency-path"]).is_file()
    assert provided["actions/upload-artifact"]["path"] == "${{ runner.temp }}/distill"
    (install,) = (step["run"] for step in job["steps"] if step.get("name") == "Install")
    assert install.splitlines() == [
        "pip install --no-deps -c constraints.txt torch torchvision --index-url https://download.pytorch.org/whl/cpu",
        f'pip install -c constraints.txt "distillkit=={__version__}"',
    ]
    assert (ci_project.folder / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()


@pytest.mark.long
def test_a_first_commit_tagged_with_no_place_to_publish(project):
    """All results are in the remote."""
    project.git("tag", "v1.0")
    ran = check(project, ON_TAG, branch="v1.0")
    assert ran.code == 0, ran.said
    assert [step.name for step in ran.steps] == [CHECK, REPRODUCE, SUMMARY]
    assert ran.stages == [] and all(step.messages == [] for step in ran.steps)
    assert ran.summary == (
        "### Results\n\n| recipe | accuracy |\n| --- | --- |\n| random-ipc2 | 0.5 |\n\n"
        "Nothing to compare with: the commit before is not here.\n"
    )
    assert (project.root / "clone-runner/distill/reports/report.html").is_file()
    assert (project.root / f"clone/{FOLDER}/artifacts/hub/{PACKAGE}/manifest.json").is_file()
    assert not (project.root / f"clone/{FOLDER}/artifacts/experts").exists(), "nothing is fetched but what is shown"


@pytest.mark.long
def test_a_pull_request_is_compared_with_its_base(project):
    project.git("checkout", "-q", "better")
    project.git("commit", "-q", "--allow-empty", "-m", "a second commit of the branch")
    ran = check(project, ON_PULL_REQUEST, branch="better")
    assert ran.code == 0 and ran.stages == [], ran.said
    base = project.git("rev-parse", "main").strip()
    assert f"### Params since {base[:10]}\n" in ran.summary and "| random-ipc2 | 0.75 |" in ran.summary
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in ran.summary.splitlines()]
    assert ["params.yaml", "accuracy", "0.5", "0.75"] in rows
    assert ["metrics/random-ipc2.json", "accuracy.mean", "0.5", "0.75", "0.25"] in rows
    plots = (project.root / "clone-runner/distill/plots/index.html").read_text()
    assert '"loss": "0.75"' in plots and '"rev": "workspace"' in plots


@pytest.mark.long
def test_parameters_changed_without_a_run(project):
    """Nothing is fetched or run before the workflow says so, and the summary is written all the same."""
    project.change("params.yaml", "seed: 0", "seed: 1")
    shutil.rmtree(project.folder / "reports")
    project.commit("forgot to run")
    ran = check(project, ON_MAIN)
    assert ran.code == 1 and ran.stages == []
    assert [(step.name, step.code) for step in ran.steps] == [(CHECK, 1), (SUMMARY, 0)]
    assert ran[CHECK].messages == [STALE]
    assert "### Params since " in ran.summary and "| params.yaml | seed " in ran.summary
    assert "### Metrics since " in ran.summary and "no change" in ran.summary.split("### Metrics")[1]
    assert "### Results" not in ran.summary, "the table of other parameters is not shown"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("numbers.txt", "3", "4", id="a file that a stage reads"),
        long("metrics/random-ipc2.json", "0.5", "0.9", id="a metric by hand"),
        long("dvc.yaml", "cp -r package", "cp -R package", id="a command"),
        long("dvc.lock", "  report:", "  rapport:", id="no entry in dvc.lock"),
        long("dvc.yaml", "stages:", "stags:", id="no pipeline"),
    ],
)
def test_what_makes_the_lock_stale(project, name, old, new):
    project.change(name, old, new)
    project.commit("forgot to run")
    clone = project.clone("clone")
    ran = run_github(only(workflow(clone), CHECK), clone, project.root / "runner", ON_MAIN, {})
    assert ran.code == 1 and ran[CHECK].messages == [STALE], ran.said


@pytest.mark.long
def test_what_the_remote_does_not_hold_is_made_again(project):
    for path in (project.store / "files").rglob("*"):
        path.unlink() if path.is_file() else None
    ran = check(project, ON_MAIN)
    assert ran.code == 0, ran.said
    assert ran.stages == ["experts", "evaluate", "report", "package"]
    (warning,) = ran[REPRODUCE].messages
    assert warning.startswith("::warning::the results above are not in the DVC remote: run dvc push")
    assert "artifacts/experts/shard-0.txt" in ran[REPRODUCE].said
    assert project.git("status", "--porcelain", folder=project.root / "clone") == ""
    assert "| random-ipc2 | 0.5 |" in ran.summary


@pytest.mark.slow
def test_a_machine_that_gives_other_results(project):
    """A stage is made again, and differs."""
    (file,) = [
        path for path in (project.store / "files").rglob("*") if path.is_file() and b"1\n2\n3" in path.read_bytes()
    ]
    file.unlink()
    ran = check(project, ON_MAIN, MACHINE="another")
    assert ran.code == 1 and PUBLISH not in ran
    assert ran[REPRODUCE].messages[-1].startswith("::error::the pipeline gives other results here")
    assert "+++ b/distill/dvc.lock" in ran[REPRODUCE].said


def without_token(hub: Hub, home: Path) -> dict[str, str]:
    """What leads to the Hub on the loopback; the token is a secret of the workflow."""
    found = hub.environment(home, token=None)
    return {name: value for name, value in found.items() if name.startswith("HF_") or name.lower() == "no_proxy"}


def test_a_tag_publishes_once(project, hub, tmp_path):
    project.git("tag", "v1.0")
    contexts = {**ON_TAG, "secrets.HF_TOKEN": hub.token, "vars.HUB_REPOSITORY": "someone/digits"}
    given = without_token(hub, tmp_path / "home")
    ran = check(project, contexts, branch="v1.0", **given)
    clone = project.root / "clone"
    assert ran.code == 0 and PUBLISH in ran, ran.said
    published = hub.repos["someone/digits"]
    head, tags = published.head, dict(published.tags)
    assert tags["v1.0"][0] == head and PACKAGE in published.files()["README.md"].decode()

    again = run_github(only(workflow(clone), PUBLISH), clone, tmp_path / "again", contexts, given)
    assert again.code == 0, again.said
    assert (published.head, published.tags) == (head, tags), "a second run does nothing"

    assert distillkit.load("someone/digits@v1.0", "random-ipc2").images_per_class == [2] * 10
    read = (
        "import datasets; print(len(datasets.load_dataset('someone/digits', 'random-ipc2', revision='v1.0')['train']))"
    )
    assert project.run(PYTHON, "-c", read, folder=project.root, **given).splitlines()[-1] == "20"


@pytest.mark.slow
def test_a_fork_has_no_secrets(project, hub, tmp_path):
    """A private remote cannot be read, and the workflow says so; a public one can."""
    given = without_token(hub, tmp_path / "home")
    hub.create("someone/store", private=True)
    project.dvc("remote", "modify", "store", "url", "hf://datasets/someone/store/dvc")
    project.dvc("push", "-q", HF_TOKEN=hub.token, **given)
    project.commit("a remote on the Hub")
    ran = check(project, ON_PULL_REQUEST, **given)
    assert [(step.name, step.code) for step in ran.steps] == [(CHECK, 0), (REPRODUCE, 1), (SUMMARY, 0)]
    assert ran[REPRODUCE].messages == [
        "::error::the DVC remote cannot be read, see above; a pull request from a fork has no secrets"
    ]
    assert "ERROR: " in ran[REPRODUCE].said and "Traceback" not in ran.said
    hub.repos["someone/store"].private = False
    ran = check(project, ON_PULL_REQUEST, name="public", **given)
    assert ran.code == 0 and ran.stages == [], ran.said


@pytest.mark.slow
def test_the_pipeline_itself(tmp_path):
    """What ``init`` writes, with tiny parameters: a clone runs nothing; without the remote's files all of it, to the
    same bytes."""
    project = new_repository(tmp_path)
    tiny = {
        **PARAMS,
        "distillkit": __version__,
        "package": {"name": PACKAGE, "default": "selmatch-ipc2", "storage": "float32"},
    }
    YAML(typ="safe").dump(tiny, project.folder / "params.yaml")
    project.make("a pipeline")
    ran = check(project, ON_MAIN)
    assert ran.code == 0 and ran.stages == [], ran.said
    assert "selmatch-ipc2" in ran.summary
    shutil.rmtree(project.store / "files")
    ran = check(project, ON_MAIN, name="again")
    assert ran.code == 0, ran.said
    assert set(ran.stages) == EVERYTHING
