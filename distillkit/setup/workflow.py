"""The GitHub Actions workflow of ``distillkit init --ci``, for the pipeline in one folder."""

import os
from pathlib import Path

from distillkit import __version__
from distillkit.base.arguments import is_pipeline
from distillkit.base.errors import DistillkitError, ParamsError
from distillkit.base.names import check_package_name
from distillkit.base.params import load, section
from distillkit.foreign.importing import quoted
from distillkit.pipeline.packaging import PackageSpec
from distillkit.process.lockfile import dvc_root
from distillkit.setup.new_files import ROOT

VERSIONS = "constraints.txt"


def name_of_pipeline(folder: Path) -> str | None:
    """The package's name if ``folder`` has a pipeline of distillkit, else None. Raises ParamsError for an invalid
    one.
    """
    if not is_pipeline(folder):
        return None
    name = section(load(folder / "params.yaml"), "package", PackageSpec, folder / "params.yaml").name
    check_package_name(name)
    return name


def git_root(folder: Path) -> Path:
    """The folder that contains ``.git``. Raises ParamsError outside a Git and DVC repository."""
    parents = [folder.resolve(), *folder.resolve().parents]
    top = next((path for path in parents if (path / ".git").exists()), None)
    if top is None or dvc_root(folder) is None:
        raise ParamsError(f"{folder} is in no Git and DVC repository; expected one; run `git init && dvc init` first")
    return top


def workflow_files(folder: Path, top: Path, name: str) -> dict[Path, str]:
    """Files by path, as in Plan: the workflow, and the versions that it installs if the folder has no such file."""
    target = Path(os.path.relpath(top / ".github/workflows/distill.yml", folder.resolve()))
    files = {target: workflow_text(folder.resolve(), top, name)}
    if not (folder / VERSIONS).exists():
        files[Path(VERSIONS)] = (ROOT / VERSIONS).read_text(encoding="utf-8")
    return files


def workflow_text(folder: Path, top: Path, name: str) -> str:
    """The workflow for the pipeline in ``folder`` of the repository at ``top``, with package ``name``.

    Raises ParamsError when DVC's repository is not inside Git's, because clones would not contain it.
    """
    data = dvc_root(folder)
    if data is None or not data.is_relative_to(top):
        raise ParamsError(
            f"--ci: the DVC repository of {folder.name} lies above the Git repository; expected it inside; "
            "run dvc init where .git is"
        )
    text = (ROOT / "ci/github.yml").read_text(encoding="utf-8")
    cache = (data / ".dvc/cache").relative_to(top).as_posix()
    for old, new in {
        "working-directory: .": f"working-directory: {quoted(folder.relative_to(top).as_posix())}",
        "path: .dvc/cache": f"path: {quoted(cache)}",
        "DISTILLKIT_VERSION": __version__,
        "PACKAGE_NAME": name,
    }.items():
        text = replaced(text, old, new)
    return text


def replaced(text: str, old: str, new: str) -> str:
    """``text`` with ``old`` replaced. Raises DistillkitError if ``old`` is missing, which is a defect of distillkit."""
    if old not in text:
        raise DistillkitError(
            f"internal error: a template of distillkit {__version__} has no {old!r}; report this line"
        )
    return text.replace(old, new)
