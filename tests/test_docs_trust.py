"""The commands of docs/trust.md: a sign-off is signed and checked by ssh-keygen, and a changed one does not pass."""

import json
import os
import shutil
import subprocess

import pytest
from pages import DOCS, blocks, desk, follow
from ruamel.yaml import YAML

from distillkit.base import params
from distillkit.pipeline.packaging import PackageSpec

KEYS = shutil.which("ssh-keygen")


@pytest.mark.skipif(KEYS is None, reason="there is no ssh-keygen")
def test_a_sign_off_is_signed_and_checked(tmp_path):
    (tmp_path / "sign-offs").mkdir()
    path = tmp_path / "sign-offs/alice.json"
    path.write_text(json.dumps({"by": "Alice"}))
    subprocess.run([KEYS, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", tmp_path / "key"], check=True)
    environment = desk(os.environ, tmp_path)
    assert 'Good "distillkit" signature for alice' in follow("trust.md", tmp_path, environment)
    path.write_text(json.dumps({"by": "Eve"}))
    check = blocks("trust.md")[0].splitlines()[-1]
    assert check.startswith("ssh-keygen -Y verify")
    done = subprocess.run(["bash", "-c", check], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode != 0


def test_the_section_of_params_yaml_is_read():
    text = (DOCS / "trust.md").read_text().split("```yaml\n")[1].split("```")[0]
    spec = params.section(YAML(typ="safe").load(text), "package", PackageSpec)
    assert spec.publication.version == "1.0.0" and all(vars(spec.rai).values())
