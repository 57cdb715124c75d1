"""CI on this machine: the steps of a GitHub workflow or a GitLab job, in order, in one clone, as their runners do it.

What a runner provides (checkout, interpreter, caches, uploads: ``uses:``; the installation: ``pip install``) is left
out; the clone and the environment of this process stand for it.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interpreter import path

Values = Mapping[str, str]


@dataclass(frozen=True)
class Ran:
    """A step that ran: its exit code and all it said."""

    name: str
    code: int
    said: str

    @property
    def messages(self) -> list[str]:
        """What GitHub shows on the run's page."""
        return re.findall(r"^::(?:error|warning)::.*$", self.said, re.MULTILINE)


@dataclass
class Outcome:
    """All steps that ran, in order, and the Markdown of the summary."""

    steps: list[Ran] = field(default_factory=list)
    summary: str = ""

    @property
    def code(self) -> int:
        return next((step.code for step in self.steps if step.code), 0)

    @property
    def said(self) -> str:
        return "".join(step.said for step in self.steps)

    def __getitem__(self, name: str) -> Ran:
        return next(step for step in self.steps if step.name == name)

    def __contains__(self, name: str) -> bool:
        return any(step.name == name for step in self.steps)

    @property
    def stages(self) -> list[str]:
        """The stages that ran; what a dry run would run does not count."""
        said = "".join(step.said for step in self.steps if step.name != "dvc.lock is up to date")
        return re.findall(r"^Running stage '([^']+)'", said, re.MULTILINE)


def environment(temporary: Path, given: Values) -> dict[str, str]:
    """A bare machine with this interpreter's commands: no token, no settings of who runs the tests."""
    site = temporary / "dvc"  # DVC keeps an index of each remote there
    git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    foreign = ("HF_", "GITHUB_", "CI_", "DVC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, **git, "PATH": path(), "DVC_SITE_CACHE_DIR": str(site), "HF_HUB_DISABLE_TELEMETRY": "1", **given}


def shell(name: str, script: str, folder: Path, given: Values, pipefail: bool = True) -> Ran:
    command = ["bash", "--noprofile", "--norc", "-e", *(["-o", "pipefail"] if pipefail else []), "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=dict(given), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900
    )
    return Ran(name, done.returncode, done.stdout)


# GitHub


def run_github(workflow: dict[str, Any], clone: Path, temporary: Path, contexts: Values, hub: Values) -> Outcome:
    """Every ``run`` step of the only job. ``contexts`` has the values of ``github.ref`` and its like; ``hub`` is what
    leads to the Hub, were it not on the loopback."""
    (job,) = workflow["jobs"].values()
    defaults = workflow["defaults"]["run"]
    temporary.mkdir(parents=True, exist_ok=True)
    summary = temporary / "summary.md"
    given = {
        **{f"GITHUB_{name.upper()}": contexts.get(f"github.{name}", "") for name in ("ref", "ref_name", "base_ref")},
        "GITHUB_STEP_SUMMARY": str(summary),
        "RUNNER_TEMP": str(temporary),
    }
    outcome = Outcome()
    for step in job["steps"]:
        if "run" not in step or step["run"].startswith("pip install"):
            continue
        if not holds(str(step.get("if", "success()")), contexts, outcome.code != 0):
            continue
        extra = {**job.get("env", {}), **step.get("env", {})}
        variables = environment(temporary, {**hub, **given, **{key: fill(extra[key], contexts) for key in extra}})
        folder = clone / step.get("working-directory", defaults["working-directory"])
        pipefail = step.get("shell", defaults.get("shell")) == "bash"  # without the key there is none
        outcome.steps.append(shell(step["name"], fill(step["run"], contexts), folder, variables, pipefail))
    outcome.summary = summary.read_text() if summary.exists() else ""
    return outcome


def fill(text: str, contexts: Values) -> str:
    """``${{ ... }}`` by its value; what is not set is empty, as on GitHub."""
    return re.sub(r"\$\{\{\s*([\w.-]+)\s*\}\}", lambda found: contexts.get(found[1], ""), str(text))


def holds(condition: str, contexts: Values, failed: bool) -> bool:
    """An ``if:`` of terms joined by ``&&``; without a status function in it, it stands for success as well."""
    terms = [term.strip() for term in condition.split("&&")]
    asks_status = any(re.search(r"\b(always|failure|success|cancelled)\(\)", term) for term in terms)
    return (asks_status or not failed) and all(term_holds(term, contexts, failed) for term in terms)


def term_holds(term: str, contexts: Values, failed: bool) -> bool:
    status = {"always()": True, "success()": not failed, "failure()": failed}
    if term in status:
        return status[term]
    if found := re.fullmatch(r"startsWith\(([\w.]+), '([^']*)'\)", term):
        return contexts.get(found[1], "").startswith(found[2])
    found = re.fullmatch(r"([\w.]+) (==|!=) '([^']*)'", term)
    assert found, f"a condition that this runner does not know: {term}"
    return (contexts.get(found[1], "") == found[3]) == (found[2] == "==")


# GitLab


def run_gitlab(job: dict[str, Any], variables: Values, clone: Path, temporary: Path, given: Values) -> Outcome:
    """``before_script`` and ``script`` in one shell, then ``after_script`` in another, whatever came of the first."""
    temporary.mkdir(parents=True, exist_ok=True)
    known = environment(temporary, {**given, **variables, "CI_PROJECT_DIR": str(clone)})
    outcome = Outcome([shell("script", lines([*job.get("before_script", []), *job["script"]]), clone, known)])
    if "after_script" in job:
        outcome.steps.append(shell("after_script", lines(job["after_script"]), clone, known))
    return outcome


def lines(script: Sequence[str]) -> str:
    return "\n".join(without_installation(script))


def without_installation(script: Sequence[str]) -> Iterator[str]:
    yield from (line for line in script if not line.startswith("pip install"))
