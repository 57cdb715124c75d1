"""The commands of docs/remotes.md: those of the Hub against one on the loopback, those of S3 against moto."""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from hub_server import Hub
from pages import desk, follow
from ruamel.yaml import YAML

IMAGES = {f"data/train/{kind}/{row}.png": f"{kind} {row}".encode() for kind in ("rose", "tulip") for row in range(3)}
STAGE = {"cmd": "wc -c < in.txt > count.txt", "deps": ["in.txt"], "outs": ["count.txt"]}
S3 = [name for name in ("dvc_s3", "moto", "flask") if find_spec(name) is None]


def new_repository(folder: Path, environment: dict[str, str]) -> Path:
    """A Git and DVC repository with a pipeline of one stage, which has run."""
    folder.mkdir()
    (folder / "in.txt").write_text("four")
    YAML(typ="safe").dump({"stages": {"count": STAGE}}, folder / "dvc.yaml")
    script = "git init -q && dvc init -q && dvc repro -q && git add -A && git commit -qm first"
    subprocess.run(["sh", "-ec", script], cwd=folder, env=environment, check=True)
    return folder


@pytest.mark.long
def test_the_hub(tmp_path):
    with Hub() as hub:
        flowers = hub.create("someone/flowers")
        flowers.commit({**IMAGES, "labels.csv": b"old\n", "README.md": b"Flowers\n"})
        flowers.tags["v1.0"] = (flowers.head, "")
        flowers.commit({"labels.csv": b"new\n", "data/train/rose/0.png": b"another rose"})
        environment = desk(hub.environment(tmp_path / "hf"), tmp_path)
        repository = new_repository(tmp_path / "repository", environment)
        shown = follow("remotes.md", repository, environment, but=["S3"])
        store = hub.repos["someone/store"]
    found = {str(path.relative_to(repository)): path.read_bytes() for path in repository.glob("data/**/*.png")}
    assert found == IMAGES, "what the tag names, not what main has now"
    assert (repository / "labels.csv").read_bytes() == b"new\n"
    assert (repository / "README.md").read_bytes() == b"Flowers\n"
    assert "data/train/tulip/2.png" in shown and "Cache and remote 'hub' are in sync." in shown
    kept = {path for path in store.files() if path.startswith("dvc/files/")}
    assert store.private and len(kept) == len(IMAGES) + 3, "the images, their list, labels.csv and count.txt"
    assert any(path.startswith("dvc/runs/") for path in store.files())


@pytest.mark.slow
@pytest.mark.skipif(bool(S3), reason=f"{', '.join(S3)} not installed; pip install -e '.[test-s3]'")
def test_s3(tmp_path):
    import boto3
    from moto.server import ThreadedMotoServer

    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        session = boto3.Session(keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
        session.client("s3", endpoint_url=endpoint).create_bucket(Bucket="flowers")
        environment = desk({**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint}, tmp_path)
        shown = follow("remotes.md", new_repository(tmp_path / "repository", environment), environment, only="S3")
    finally:
        server.stop()
    assert (tmp_path / "elsewhere/.dvc/config").is_file() and "Running stage" not in shown
