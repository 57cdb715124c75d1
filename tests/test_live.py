"""The curves that grow while a stage runs: what DVCLive would have written, each step once, gone when all is well."""

import json
import shutil
import signal
from pathlib import Path

import forked
import pytest
from forked import Moment
from test_interrupted import SELMATCH, TINY, command, until
from test_pipeline import OPTIM, write_params

from distillkit.base.files import read_csv, write_csv
from distillkit.matching.distillation import Step, loss_table
from distillkit.process.live_curves import LIVE, append, shown

STEPS = [Step(1, 0.5, 0.05), Step(2, 0.4321098765, 0.051), Step(3, 1e-9, 0.052)]
LOSS = "step\tloss\n1\t0.5\n2\t0.43210988\n3\t1e-09\n"


def test_the_files_are_those_of_dvclive(tmp_path):
    """A header and tabs, one file for each curve; the last step as JSON (dvclive 3.49)."""
    assert list(shown(iter(STEPS), tmp_path / "a")) == STEPS
    assert (tmp_path / "a/plots/metrics/loss.tsv").read_text() == LOSS
    assert (
        tmp_path / "a/plots/metrics/student_lr.tsv"
    ).read_text() == "step\tstudent_lr\n1\t0.05\n2\t0.051\n3\t0.052\n"
    assert json.loads((tmp_path / "a/metrics.json").read_text()) == {"step": 3, "loss": 1e-9, "student_lr": 0.052}


def test_a_method_without_a_student_has_no_curve_of_its_step_size(tmp_path):
    """The tracked curve and the live one leave the column out."""
    steps = [Step(1, 0.5), Step(2, 0.4321098765), Step(3, 1e-9)]
    list(shown(iter(steps), tmp_path))
    assert (tmp_path / "plots/metrics/loss.tsv").read_text() == LOSS
    assert not (tmp_path / "plots/metrics/student_lr.tsv").exists()
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"step": 3, "loss": 1e-9}
    write_csv(tmp_path / "loss.csv", *loss_table(steps))
    assert (tmp_path / "loss.csv").read_text() == LOSS.replace("\t", ",")
    assert read_csv(tmp_path / "loss.csv", "step", "loss") == [(1, 0.5), (2, 0.43210988), (3, 1e-9)]
    assert loss_table(STEPS)[0] == loss_table([])[0] == ["step", "loss", "student_lr"]


def test_steps_done_before_are_there_once(tmp_path):
    list(shown(iter(STEPS), tmp_path))
    assert list(shown(iter(STEPS[2:]), tmp_path, STEPS[:2])) == STEPS[2:]
    assert (tmp_path / "plots/metrics/loss.tsv").read_text() == LOSS


def test_it_is_written_once_a_second_and_at_the_end(tmp_path):
    now = iter([10.0, 10.0, 10.9, 11.0, 11.0])
    loss = tmp_path / "plots/metrics/loss.tsv"
    steps = shown(iter(STEPS), tmp_path, clock=lambda: next(now))
    assert [len(rows(loss, "\t")) - 1 for _ in steps] == [1, 1, 3]


def test_who_reads_the_last_step_reads_a_whole_file(tmp_path):
    append(tmp_path, STEPS[:1])
    with (tmp_path / "metrics.json").open() as reader:
        append(tmp_path, STEPS[1:])
        assert json.load(reader)["step"] == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["step"] == 3


def test_an_interrupted_loop_has_written_its_steps(tmp_path):
    def failing():
        yield from STEPS
        raise ValueError

    with pytest.raises(ValueError):
        list(shown(failing(), tmp_path))
    assert (tmp_path / "plots/metrics/loss.tsv").read_text() == LOSS


@pytest.fixture
def project(tmp_path) -> Path:
    """Everything that a distillation of many steps needs."""
    project = tmp_path / "project"
    shutil.copytree(Path(forked.__file__).parents[1] / "stages", project / "stages")
    recipe = SELMATCH | {"window_start": 0.2, "optim": OPTIM | {"steps": 400}}
    write_params(project, TINY | {"recipes": {"selmatch": recipe}})
    for stage in ("fetch", "experts", "score"):
        assert forked.run(project, command(stage)).code == 0
    return project


def rows(path: Path, separator: str) -> list[list[str]]:
    """Step and loss; nothing where there is no file yet, and no line that is being written."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return [line.split(separator)[:2] for line in text[: text.rfind("\n") + 1].splitlines()]


@pytest.mark.long
def test_the_curve_grows_while_the_stage_runs(project):
    """Read in the middle of two runs, the first of them terminated: always a beginning of the curve that comes out."""
    loss, seen = project / LIVE / "selmatch/plots/metrics/loss.tsv", []
    for number in (signal.SIGTERM, None):
        before = len(seen[-1]) if seen else 1
        running = forked.begin(project, command("distill"), Moment(signal.SIGKILL, 10_000))
        until(lambda before=before: len(rows(loss, "\t")) > before, "there are more steps")
        assert running.poll() is None
        seen.append(rows(loss, "\t"))
        if number:
            running.terminate()
            assert forked.end(project, running).code == 128 + number
            seen.append(rows(loss, "\t"))
    assert forked.end(project, running).code == 0
    final = rows(project / "artifacts/loss/selmatch.csv", ",")
    assert len(final) == 401
    assert 2 <= len(seen[0]) <= len(seen[1]) < len(seen[2]) <= 401
    assert all(part == final[: len(part)] for part in seen)
    assert not (project / LIVE / "selmatch").exists()
