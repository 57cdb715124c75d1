"""``distillkit repro --on slurm`` on a real Slurm of this machine: one controller and two nodes of one core each.

tests/test_faults.py breaks nodes, the command, the remote and disks. Needs
what tests/clusters.py says, and ``pip install -e '.[slurm]'``; ``pytest -m slow``.
"""

import os
import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
from clusters import MISSING, call, slurm_cluster, until
from interpreter import SCRIPTS
from pages import DOCS, follow
from ruamel.yaml import YAML
from test_engines import FOUR, contents, four, plain, ran
from test_pipeline import environment
from test_repro import UNTIL, ended, start

__all__ = ["four"]  # a fixture
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}; see the top of tests/clusters.py"),
]


@pytest.fixture(scope="module")
def slurm():
    """Its folder."""
    with slurm_cluster() as folder:
        yield folder


def on_slurm(folder: Path, *arguments: str):
    return start(folder, "--on", "slurm", *arguments, env=environment(SCRIPTS) | {"RAN": os.environ["RAN"]})


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    with on_slurm(folder, *arguments) as running:
        return ended(running)


def test_the_same_files_on_two_nodes(slurm, four):
    meet = {
        name: FOUR[name] | {"cmd": f"touch $RAN.{name}; {UNTIL.format('$RAN.' + other)}; {FOUR[name]['cmd']}"}
        for name, other in (("b", "c"), ("c", "b"))
    }
    YAML(typ="safe").dump({"stages": FOUR | meet}, four / "dvc.yaml")
    code, said = run(four, "--partition", "test", "--memory", "0.5", "--minutes", "5")
    assert code == 0, said
    placed = dict(re.findall(r"^(\w): running on (\w+)$", said, re.M))
    assert {placed["b"], placed["c"]} == {"n1", "n2"}
    assert contents(four) == plain(four)
    assert not list((four / ".distillkit/jobs").iterdir())


def long(folder: Path, seconds: int) -> None:
    """One stage, which says by a line in $RAN that it has begun."""
    stages = {"b": {"cmd": f"echo x >> $RAN; sleep {seconds}; cat in > one", "deps": ["in"], "outs": ["one"]}}
    YAML(typ="safe").dump({"stages": stages}, folder / "dvc.yaml")


def test_a_job_that_somebody_cancels_is_submitted_again(slurm, four):
    long(four, 6)
    with on_slurm(four) as running:
        until(Path(os.environ["RAN"]).exists, "the stage has begun")
        call("scancel", call("squeue", "-h", "-o", "%i").split()[0])
        code, said = ended(running)
    assert code == 0, said
    assert re.search(r"^b: Slurm ended job \d+; it is submitted again$", said, re.M)
    assert ran(four) == 2


def test_what_slurm_refuses_is_one_line(slurm, four):
    for arguments, found in (
        (("--partition", "nope"), "invalid partition specified: nope"),
        (("--memory", "500"), "Requested node configuration is not available"),
        (("--gpus", "1"), "Invalid generic resource|Requested node configuration is not available"),
    ):
        began = time.monotonic()
        code, said = run(four, *arguments)
        assert code == 1
        assert re.fullmatch(rf"error: Slurm refuses a: .*({found}).*; correct the options and run it again\n", said), (
            said
        )
        assert time.monotonic() - began < 30


def test_sbatch_reads_its_environment(slurm, four, monkeypatch):
    monkeypatch.setenv("SBATCH_CONSTRAINT", "nowhere")
    code, said = run(four)
    assert code == 1
    assert re.fullmatch(r"error: Slurm refuses a: .*Invalid feature specification.*; correct the options .*\n", said), (
        said
    )


def test_no_cluster_is_one_line(slurm, four, monkeypatch, tmp_path):
    (tmp_path / "slurm.conf").write_text((slurm / "slurm.conf").read_text().replace("Port=16817", "Port=16818"))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    code, said = run(four)
    assert code == 1
    assert re.fullmatch(
        r"error: no Slurm cluster answers here \(.+\); expected its controller to answer; run .*\n", said
    ), said


def test_the_page(slurm, four):
    here = environment(SCRIPTS) | {"RAN": os.environ["RAN"]}
    assert re.search(r"^d: done on n\d", follow("many-machines.md", four, here, only="A Slurm cluster"), re.M)
    assert contents(four) == plain(four)


def test_the_command_itself_in_a_job(slurm, four):
    """As the page has it; jobs then have the other node."""
    [command] = re.findall(r"`(sbatch --wrap .*)`", (DOCS / "many-machines.md").read_text())
    here = environment(SCRIPTS) | {"RAN": os.environ["RAN"]}
    subprocess.run([*shlex.split(command), "--output", "job.txt"], cwd=four, env=here, check=True)
    until(lambda: not call("squeue", "-h"), "the job has ended", 120)
    assert (four / "job.txt").read_text().endswith("Data and pipelines are up to date.\n")
    (four / "job.txt").unlink()
    assert contents(four) == plain(four)
