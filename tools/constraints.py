"""Write constraints.txt: the newest versions of all that distillkit and its extras bring, resolved together.

Run it with the oldest Python that distillkit supports, as newer ones take releases that the oldest cannot install; then
run ``.ci/run``, which installs by that file, and commit it.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAD = "# The versions that distillkit is tested with, for `pip install -c`. Written by its tools/constraints.py.\n"
OF_TORCH = ("nvidia-", "cuda-", "triton")  # each build of a version of torch, for CUDA 12, 13 or the CPU, pins its own


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = re.fullmatch(r">=(\d+\.\d+)", project["requires-python"])[1]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != oldest:
        raise SystemExit(
            f"error: this is Python {here}; expected {oldest}, the oldest supported; run it with python{oldest}"
        )
    extras = ",".join(project["optional-dependencies"])
    lines = pinned(resolved(f"{ROOT}[{extras}]"), project["name"])
    (ROOT / "constraints.txt").write_text(HEAD + "".join(f"{line}\n" for line in lines), encoding="utf-8")


def resolved(requirement: str) -> list[dict]:
    """What pip would install into an empty environment, as its report has it."""
    options = ["--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, requirement], stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit("error: pip finds no versions that fit together, see above; change pyproject.toml")
    return json.loads(done.stdout)["install"]


def pinned(installs: list[dict], but: str) -> list[str]:
    """``name==version`` by name; without what differs between builds: torch's libraries, local parts such as +cpu."""
    found = {re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower(): item["metadata"]["version"] for item in installs}
    kept = sorted(name for name in found if name != but and not name.startswith(OF_TORCH))
    return [f"{name}=={found[name].partition('+')[0]}" for name in kept]


if __name__ == "__main__":
    main()
