"""A pipeline's outputs and run-cache on an S3 server on the loopback, and a fresh clone that runs no stage.

Needs ``pip install -e '.[test-s3]'``, and ``pytest -m slow``.
"""

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from interpreter import PYTHON, path
from ruamel.yaml import YAML

MISSING = [name for name in ("dvc_s3", "moto", "flask") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not installed; pip install -e '.[test-s3]'"),
]
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
STAGES = {
    "count": {"cmd": "python -c \"open('count.txt', 'w').write(str(len(open('in.txt').read())))\"", "deps": ["in.txt"]},
    "copy": {"cmd": "mkdir folder && cp count.txt folder/a && cp in.txt folder/b", "deps": ["count.txt", "in.txt"]},
}
OUTPUTS = {"count": "count.txt", "copy": "folder"}


@pytest.fixture
def bucket(monkeypatch):
    """The endpoint of a server of this test alone, with one bucket."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    endpoint = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="distilled")
    yield endpoint
    server.stop()


def dvc(project: Path, *arguments: str) -> str:
    environment = {
        **os.environ,
        "PATH": path(),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(project / ".site"),
    }
    command = [PYTHON, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(project: Path, *arguments: str) -> None:
    author = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", *author, *arguments], cwd=project, check=True, capture_output=True)


def test_a_fresh_clone_runs_no_stage(bucket, tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    git(project, "init", "-q")
    dvc(project, "init", "-q")
    dvc(project, "remote", "add", "-d", "s3", "s3://distilled/store")
    dvc(project, "remote", "modify", "s3", "endpointurl", bucket)
    (project / "in.txt").write_text("some input\n")
    stages = {name: {**stage, "outs": [OUTPUTS[name]]} for name, stage in STAGES.items()}
    YAML(typ="safe").dump({"stages": stages}, project / "dvc.yaml")
    assert dvc(project, "repro").count("Running stage") == 2
    dvc(project, "push", "--run-cache")
    git(project, "add", "-A", ":!.site")
    git(project, "commit", "-qm", "all")

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    assert not (clone / "count.txt").exists()
    assert "Running stage" not in dvc(clone, "repro", "--pull", "--allow-missing")
    dvc(clone, "pull")
    assert (clone / "folder/a").read_text() == "11"

    (clone / "dvc.lock").unlink()  # only the run-cache knows now
    for name in OUTPUTS.values():
        shutil.rmtree(clone / name) if (clone / name).is_dir() else (clone / name).unlink()
    shutil.rmtree(clone / ".dvc/cache")
    dvc(clone, "pull", "--run-cache", "--allow-missing")
    assert "Running stage" not in dvc(clone, "repro", "--pull")
    assert (clone / "folder/b").read_text() == "some input\n"
