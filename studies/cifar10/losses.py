"""The matching loss at the end of each run: losses.json.

    python losses.py

It needs the loss curves in artifacts/loss. The figure is a mean over the last 50 steps: the loss of a step depends on
the epoch that its student starts from.
"""

from pathlib import Path
from statistics import mean

from distillkit.base.files import read_csv, write_json

HERE = Path(__file__).parent
LAST = 50


def main() -> None:
    found = {}
    for path in sorted((HERE / "artifacts/loss").glob("*.csv")):
        if curve := read_csv(path, "step", "loss"):  # selections have none
            found[path.stem] = {"steps": len(curve), "loss": round(mean(loss for _, loss in curve[-LAST:]), 4)}
    write_json(HERE / "losses.json", found)


if __name__ == "__main__":
    main()
