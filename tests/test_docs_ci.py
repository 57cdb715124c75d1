"""docs/ci.md: its commands, and its GitLab job as a runner of GitLab's would run it."""

import re
import shutil

import pytest
from ci_projects import Project
from pages import DOCS, follow
from ruamel.yaml import YAML
from workflows import Outcome, environment, run_gitlab

from distillkit import __version__

PAGE = (DOCS / "ci.md").read_text()


def job() -> dict:
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (job,) = YAML(typ="safe").load(text).values()
    return job


def check(project: Project, branch: str = "main", **variables: str) -> tuple[Outcome, str]:
    """What GitLab does in a fresh clone, and the summary."""
    clone = project.clone("clone", branch)
    ran = run_gitlab(job(), variables, clone, project.root / "runner", {})
    return ran, (clone / "distill-report/summary.md").read_text()


@pytest.mark.long
def test_the_page_can_be_followed(project, tmp_path):
    """Where a pipeline is, whose parameters changed."""
    shutil.rmtree(project.origin / ".github")
    project.git("init", "-q", "--bare", str(tmp_path / "upstream"))
    project.git("remote", "add", "origin", str(tmp_path / "upstream"))
    project.git("config", "push.autoSetupRemote", "true")
    project.change("params.yaml", "accuracy: 0.5", "accuracy: 0.25")
    author = {f"GIT_{who}_{what}": "author" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    shown = follow("ci.md", project.origin, environment(tmp_path / "author", author))
    assert "wrote .github/workflows/distill.yml; next: dvc repro distill/dvc.yaml" in shown
    assert "Data and pipelines are up to date.\n" in shown.split("dvc repro --dry")[1]
    assert "Not in cache" in shown and "Not in remote:" not in shown
    assert project.git("ls-tree", "--name-only", "HEAD", ".github/workflows/") == ".github/workflows/distill.yml\n"
    assert project.git("rev-parse", "HEAD") == project.git("--git-dir", str(tmp_path / "upstream"), "rev-parse", "main")


def test_the_messages_are_those_of_the_workflow():
    """What the page explains is what is said."""
    workflow = (DOCS.parent / "ci/github.yml").read_text()
    explained = re.findall(r"^\| (?:warning: )?`(?!error:)([^`]+)` \|", PAGE.split("## When it fails")[1], re.MULTILINE)
    assert len(explained) == 5
    for message in explained:
        assert re.search(f"::(error|warning)::.*{message}", workflow), message
        assert re.search(f'echo "(error|warning): .*{message}', PAGE), message


def test_the_gitlab_job_installs_what_the_workflow_installs():
    installed = [line for line in job()["before_script"] if line.startswith("pip install")]
    assert installed[-1] == f'pip install -c constraints.txt "distillkit=={__version__}"'
    workflow = (DOCS.parent / "ci/github.yml").read_text()
    assert all(line.replace(__version__, "DISTILLKIT_VERSION") in workflow for line in installed)


@pytest.mark.long
def test_gitlab_merge_request(project):
    base = project.git("rev-parse", "HEAD").strip()
    ran, summary = check(project, branch="better", CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert ran.code == 0 and ran.stages == [], ran.said
    assert "| random-ipc2 | 0.75 |" in summary
    assert re.search(r"\| accuracy +\| 0.5 +\| 0.75 +\|", summary) and re.search(r"\| accuracy.mean +\|", summary)
    assert (project.root / "clone/distill-report/plots/index.html").is_file()


@pytest.mark.long
def test_gitlab_stale_lock(project):
    project.change("params.yaml", "seed: 0", "seed: 1")
    project.commit("forgot to run")
    ran, summary = check(project)
    assert [step.code for step in ran.steps] == [1, 0] and "Running stage 'evaluate'" not in ran.said
    assert "\nerror: dvc.lock is stale" in ran["script"].said and re.search(r"\| seed +\| 0 +\| 1 +\|", summary)


@pytest.mark.slow
def test_gitlab_missing_results_are_made_again_and_published(project, hub, tmp_path):
    for path in (project.store / "files").rglob("*"):
        path.unlink() if path.is_file() else None
    project.git("tag", "v1.0")
    found = hub.environment(tmp_path / "home")
    known = {name: value for name, value in found.items() if name.startswith("HF_") or name.lower() == "no_proxy"}
    ran, _ = check(project, branch="v1.0", CI_COMMIT_TAG="v1.0", HUB_REPOSITORY="someone/digits", **known)
    assert ran.code == 0, ran.said
    assert ran.stages == ["experts", "evaluate", "report", "package"] and "warning: the results above" in ran.said
    assert hub.repos["someone/digits"].tags["v1.0"][0] == hub.repos["someone/digits"].head
