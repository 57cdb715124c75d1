"""Jobs whose only meeting place is a remote: a folder that fails, ``hf://`` on the loopback, and S3 (moto)."""

import re
import shutil

import pytest
from test_engines import contents, four, plain, ran, run
from test_pipeline import dvc
from test_s3 import MISSING, bucket

__all__ = ["bucket", "four", "run"]  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep:DeprecationWarning")


def check_remote(four, run) -> None:
    """All files are those of plain dvc, and the remote alone is enough to have them again."""
    expected = plain(four)
    failed, said = run("shared")
    assert not failed, said
    assert contents(four) == expected
    before = ran(four)
    for path in (four / "dvc.lock", four / ".dvc/cache"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    failed, said = run("shared")
    assert not failed, said
    assert contents(four) == expected
    assert ran(four) == before
    assert not any("running on" in line for line in said)


@pytest.mark.long
def test_hf(four, run, hub):
    hub.create("someone/store")
    dvc(four, "remote", "add", "shared", "hf://datasets/someone/store/dvc")
    check_remote(four, run)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed; pip install -e '.[test-s3]'")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_s3(four, run, bucket):
    dvc(four, "remote", "add", "shared", "s3://distilled/store")
    dvc(four, "remote", "modify", "shared", "endpointurl", bucket)
    check_remote(four, run)


@pytest.mark.long
def test_a_remote_that_cannot_be_written_to(four, run, tmp_path):
    """One line, with the node; nothing has to be cleared up afterwards."""
    (tmp_path / "file").write_text("no folder")
    dvc(four, "remote", "add", "shared", "../file/store")
    failed, said = run("shared")
    assert re.fullmatch(r"on \S+: DVC remote shared fails: .*; check it: dvc push -r shared; then run .*", failed["a"])
    (tmp_path / "file").unlink()
    failed, said = run("shared")
    assert not failed, said
