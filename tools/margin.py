"""Fail unless every SelMatch recipe beats random selection of its size by five points, and the full set beats both."""

import json
import sys
from pathlib import Path

from distillkit.base import params

MARGIN = 0.05


def accuracy(recipe: str) -> float:
    mean: float = json.loads(Path("metrics", f"{recipe}.json").read_text())["accuracy"]["mean"]
    return mean


def main() -> int:
    recipes = params.load()["recipes"]
    randoms = {r["ipc"]: accuracy(name) for name, r in recipes.items() if r["method"] == "random"}
    matched = {name: (accuracy(name), randoms[r["ipc"]]) for name, r in recipes.items() if r["method"] == "selmatch"}
    for name, (mean, random) in matched.items():
        sys.stdout.write(f"{name}: {mean:.2%}, random of the same size {random:.2%}, margin {mean - random:+.2%}\n")
    low = [name for name, (mean, random) in matched.items() if mean - random < MARGIN or mean > accuracy("full")]
    return int(bool(low) or not matched)


if __name__ == "__main__":
    sys.exit(main())
