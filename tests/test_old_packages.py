"""Packages that earlier versions made can still be loaded, verified and compared: tests/data/old-package/README.md."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import distillkit
from distillkit.cli import cli

OLD = Path(__file__).parent / "data/old-package"


def ran(*arguments: str) -> dict:
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(("folder", "soft"), [("first", False), ("flat", True)])
def test_an_old_package_loads_and_reaches_its_claim(folder, soft):
    synthetic = distillkit.load(OLD / folder, "random-ipc1")
    assert synthetic.images.shape == (10, 1, 8, 8) and synthetic.labels.tolist() == list(range(10))
    assert bool(synthetic.learned.all()) and (synthetic.soft_labels is not None) == soft
    verdict = ran("verify", str(OLD / folder))
    assert verdict["match"] and verdict["same_test_images"] and verdict["files"] == 5
    assert verdict["found"]["mean"] == pytest.approx(verdict["claimed"]["mean"], abs=0.01)


def test_old_packages_are_compared():
    """Every pixel was moved by 0.01 and by 0.02."""
    found = ran("diff", str(OLD / "first"), str(OLD / "flat"))["recipes"]["random-ipc1"]
    assert [pair["after"] for pair in sorted(found["images"]["changed"], key=lambda pair: pair["before"])] == list(
        range(10)
    )
    assert all(pair["rms"] == pytest.approx(0.01, abs=1e-6) for pair in found["images"]["changed"])
    # 0.91 of 1, and 0.01 for each of nine others: half of 0.09 + 9 * 0.01
    assert all(label["distance"] == pytest.approx(0.09) for label in found["soft_labels"])
    one, two = (distillkit.load(OLD / name).images for name in ("first", "flat"))
    assert torch.allclose(two - one, torch.tensor(0.01))
