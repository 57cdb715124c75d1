"""Write the result of a verification, for others to check: ``distillkit verify --sign-off``."""

import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from distillkit import __version__
from distillkit.base.arguments import check_sign_off
from distillkit.base.device import prepare_device
from distillkit.base.files import sha256, write_json
from distillkit.check.verify import Verdict
from distillkit.package.folders import MANIFEST
from distillkit.package.manifest import ARTIFACT, Package
from distillkit.package.sign_offs import SIGNATURE, Filed, SignOff, covered


def sign_off(package: Package, verdict: Verdict, by: str, seed: int, path: Path) -> dict[str, Any]:
    """Write the verdict on a recipe of the opened package to ``path``, and return its content."""
    check_sign_off(path, by)
    record = package.recipe_json(verdict.recipe)
    said = {
        "format": "distillkit-sign-off/1",
        "package": {"name": package.name, "manifest_sha256": sha256(package.folder / MANIFEST)},
        "recipe": verdict.recipe,
        "set_sha256": package.manifest.files[f"{verdict.recipe}/{ARTIFACT}"].sha256,
        "claim": {
            "accuracy": verdict.claimed,
            "evaluation": record["evaluation"],
            "test": {"images": record["test"]["images"], "sha256": record["test"]["sha256"]},
        },
        "found": {"accuracy": verdict.found, "seed": seed, "same_test_images": verdict.same_test_images},
        "tolerance": verdict.tolerance,
        "match": verdict.matches,
        "by": by,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": {"distillkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }
    SignOff.model_validate(said, strict=True)
    write_json(path, said)
    return said


def machine() -> dict[str, str]:
    """The properties of the machine that can affect a result, without anything that identifies it."""
    device = prepare_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"system": platform.system(), "architecture": platform.machine(), "device": name}


def written_lines(path: Path, recipe: str) -> Iterator[str]:
    """Lines of text on what to do with the file."""
    yield f"{path}: signed off {recipe}"
    yield f"to sign the file: ssh-keygen -Y sign -f KEY -n distillkit {path} (writes {path.name}{SIGNATURE})"
    yield "to show it on the card, add this to package in params.yaml (paths start at its folder), and run dvc repro:"
    yield f"  sign_offs:\n    {path.as_posix()}: {sha256(path)}"


def describe(package: Package, filed: Filed) -> dict[str, Any]:
    """A sign-off of a package, as plain data."""
    said = filed.sign_off
    return {
        "file": filed.path.name,
        "recipe": said.recipe,
        "by": filed.by,
        "date": said.date,
        "found": said.found.accuracy.model_dump(),
        "match": said.match,
        "of_this_set": covered(package, filed),
        "signature": filed.signed,
    }


def line(described: Mapping[str, Any]) -> str:
    """The description of a sign-off as a line of text."""
    found, how = described["found"], "holds" if described["match"] else "does NOT hold"
    signature = "with a signature to check" if described["signature"] else "no signature"
    said = f"{described['recipe']} {how}, {found['mean']:.2%} ± {found['std']:.2%}; {signature}"
    other = "" if described["of_this_set"] else " — FOR ANOTHER SET OR CLAIM than this package's"
    return f"  sign-off {described['file']}: {described['by']}, {described['date']}: {said}{other}"
