"""A repository of somebody else's with a DVC remote, for CI to check: what ``distillkit init --ci`` writes, its stages
replaced by ones that take no time and have the same outputs."""

import shutil
import subprocess
from pathlib import Path

from interpreter import PYTHON
from packages import build_package
from workflows import environment

FOLDER, PACKAGE = "distill", "digits-distilled"
PIPELINE = """stages:
  experts:
    cmd: mkdir -p artifacts/experts && { sort numbers.txt; echo "$MACHINE"; } > artifacts/experts/shard-0.txt
    deps: [numbers.txt]
    params: [seed]
    outs: [artifacts/experts/shard-0.txt]
  evaluate:
    cmd: >-
      mkdir -p metrics artifacts/loss &&
      printf '{"accuracy": {"mean": %s}}' ${accuracy} > metrics/random-ipc2.json &&
      printf 'step,loss\\n0,1\\n1,%s\\n' ${accuracy} > artifacts/loss/random-ipc2.csv
    deps: [artifacts/experts]
    params: [accuracy]
    metrics:
    - metrics/random-ipc2.json: {cache: false}
    plots:
    - artifacts/loss/random-ipc2.csv: {x: step, y: loss}
  report:
    cmd: >-
      printf '| recipe | accuracy |\\n| --- | --- |\\n| random-ipc2 | %s |\\n' ${accuracy} > reports/table.md &&
      cp metrics/random-ipc2.json reports/report.html
    deps: [metrics]
    params: [accuracy]
    outs: [reports/table.md, reports/report.html]
  package:
    cmd: mkdir -p artifacts/hub && cp -r package artifacts/hub/digits-distilled
    deps: [package, artifacts/experts]
    outs: [artifacts/hub/digits-distilled]
"""
PARAMS = f"seed: 0\naccuracy: 0.5\npackage: {{name: {PACKAGE}, default: random-ipc2}}\n"


class Project:
    """The author's checkout, in ``root/origin``; its remote is ``root/store``."""

    def __init__(self, root: Path):
        self.root, self.origin, self.store = root, root / "origin", root / "store"
        self.folder = self.origin / FOLDER

    def run(self, *command: str, folder: Path | None = None, **given: str) -> str:
        """A command that must succeed, as the author types it."""
        done = subprocess.run(
            command,
            cwd=folder or self.folder,
            env=environment(self.root / "author", given),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dvc(self, *arguments: str, **given: str) -> str:
        return self.run(PYTHON, "-m", "dvc", *arguments, **given)

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        author = ("-c", "user.name=author", "-c", "user.email=author@example.org")
        return self.run("git", *author, *arguments, folder=folder or self.origin)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def change(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def make(self, message: str) -> None:
        """Run the pipeline, push and commit, as the workflow asks for."""
        self.dvc("repro", "-q")
        self.dvc("push", "-q")
        self.commit(message)

    def clone(self, name: str, branch: str = "main") -> Path:
        self.git("clone", "-q", "--branch", branch, str(self.origin), str(self.root / name), folder=self.root)
        return self.root / name

    def copy(self, root: Path) -> "Project":
        for name in ("origin", "store"):
            shutil.copytree(self.root / name, root / name, symlinks=True)
        return Project(root)


def new_repository(root: Path) -> Project:
    """What ``distillkit init --ci`` writes, in a Git and DVC repository with a remote; no commit yet."""
    project = Project(root)
    project.folder.mkdir(parents=True)
    project.store.mkdir()
    project.git("init", "-q", "-b", "main")
    project.run(PYTHON, "-m", "dvc", "init", "-q", folder=project.origin)
    options = ["--dataset", "digits", "--ipc", "2", "--method", "random", "--ci"]  # whose speed need not be measured
    project.run(PYTHON, "-m", "distillkit", "init", FOLDER, *options, folder=project.origin)
    project.run(PYTHON, "-m", "dvc", "remote", "add", "-q", "-d", "store", "../store", folder=project.origin)
    return project


def new_project(root: Path) -> Project:
    """One commit on main, another on the branch ``better``; everything made and pushed."""
    project = new_repository(root)
    (project.folder / "dvc.yaml").write_text(PIPELINE)
    (project.folder / "params.yaml").write_text(PARAMS)
    (project.folder / "numbers.txt").write_text("3\n1\n2\n")
    (project.folder / "reports").mkdir()
    build_package(project.folder / "package", name=PACKAGE)
    shutil.rmtree(project.folder / "package-artifacts")
    project.make("a pipeline")
    project.git("checkout", "-q", "-b", "better")
    project.change("params.yaml", "accuracy: 0.5", "accuracy: 0.75")
    project.make("better")
    project.git("checkout", "-q", "main")
    project.dvc("checkout", "-q")
    return project
