"""The table of faults in docs/many-machines.md is the one that was measured, and (slow) each fault ends as it says."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from clusters import MISSING

ROOT = Path(__file__).parents[1]
LACKING = {
    "local": [] if os.geteuid() == 0 else ["root"],
    "ray": [name for name in ("ray",) if find_spec(name) is None] + ([] if os.geteuid() == 0 else ["root"]),
    "slurm": MISSING,
}


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import faults

    return faults


def test_the_page_shows_what_was_measured(faults):
    rows = json.loads(faults.RESULTS.read_text())["faults"]
    assert faults.PAGE.read_text() == faults.page(rows), "run benchmarks/faults.py"
    expected = {
        (f.what, f.when, engine): (f.code, starts) for f in faults.FAULTS for engine, starts in f.starts.items()
    }
    assert {(row["fault"], row["when"], row["engine"]): (row["code"], row["starts"]) for row in rows} == expected


@pytest.mark.slow
@pytest.mark.parametrize("engine", LACKING)
def test_each_fault_ends_as_expected(tmp_path, engine):
    if LACKING[engine]:
        pytest.skip(f"no {', '.join(LACKING[engine])}; see tests/clusters.py")
    command = [sys.executable, str(ROOT / "benchmarks/faults.py"), "--engine", engine, "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
