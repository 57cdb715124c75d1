"""constraints.txt names one version of everything that pyproject.toml asks for, and all that installs does so by it."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from distillkit.setup.new_files import ROOT

LINES = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
VERSIONS = dict(line.split("==") for line in LINES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
ASKED = sorted({*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)})


def test_versions_that_every_index_has():
    """No address, no hash, no local version such as +cpu, no library of one build of torch; each name once."""
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in LINES)
    assert not [line for line in LINES if line.startswith(("nvidia-", "cuda-", "triton"))]
    assert list(VERSIONS) == sorted(VERSIONS) and len(VERSIONS) == len(LINES)


@pytest.mark.parametrize("line", ASKED)
def test_what_pyproject_asks_for(line):
    asked = Requirement(line)
    assert asked.specifier.contains(VERSIONS[canonicalize_name(asked.name)]), "run tools/constraints.py"


@pytest.mark.parametrize("file", [".ci/run", "ci/github.yml", "docs/ci.md"])
def test_ci_installs_by_it(file):
    installs = re.findall(r"^[ -]*pip install (.*)$", (ROOT / file).read_text(), re.MULTILINE)
    assert installs and all("-c constraints.txt" in line or '"${versions[@]}"' in line for line in installs), installs
