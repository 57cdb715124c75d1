"""What the scans of window starts measured: scans.json.

    python scans.py

It needs the windows in artifacts/distilled: a scan leaves the accuracies on held-out images in its set's notes.
"""

from pathlib import Path

from ruamel.yaml import YAML

from distillkit.base.files import write_json
from distillkit.data.files.container import Opened

HERE = Path(__file__).parent


def main() -> None:
    found = {}
    for name, recipe in YAML(typ="safe").load(HERE / "params.yaml")["recipes"].items():
        if recipe["method"] == "window":
            notes = Opened(HERE / f"artifacts/distilled/{name}.safetensors", "synthetic").field("notes", dict)
            updates = recipe["window_start"]["training"]["steps"]
            found[name] = {"updates": updates, "accuracy": notes["holdout_accuracy_by_window_start"]}
    write_json(HERE / "scans.json", found)


if __name__ == "__main__":
    main()
