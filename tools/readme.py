"""Put the results into README.md, from committed files; with --check, only say whether they are there.

The tables are made from metrics/ (by the code that makes the report's) and from benchmarks/results/, so the README can
never say more than the last ``dvc repro`` and the last benchmark.
"""

import json
import sys
from pathlib import Path

from distillkit import params, report
from distillkit.metrics import read_metrics

NOTE = "written by tools/readme.py, do not edit -->\n"


def results() -> str:
    recipes = params.load()["recipes"]
    metrics = {name: read_metrics(Path("metrics", f"{name}.json")) for name in recipes}
    return report.markdown_table(report.rows(metrics, recipes))


def splits() -> str:
    summary = json.loads(Path("benchmarks/results/digits_splits.json").read_text(encoding="utf-8"))["summary"]

    def cell(recipe: str) -> str:
        return f"{100 * summary[recipe]['mean']:.2f} ± {100 * summary[recipe]['std']:.2f}"

    methods = ("random", "window", "mtt", "selmatch")
    lines = ["| accuracy % | " + " | ".join(methods) + " | full |", "| --- |" + " ---: |" * (len(methods) + 1)]
    for ipc in (5, 10):
        cells = [cell(f"{method}-ipc{ipc}") for method in methods]
        lines.append(f"| IPC {ipc} | {' | '.join(cells)} | {cell('full')} |")
    return "\n".join(lines)


def put(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the markers called ``name``."""
    begin, end = f"<!-- {name}: {NOTE}", f"<!-- end of {name} -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{table.strip()}\n\n{end}{after}"


def main() -> int:
    readme = Path("README.md")
    text = readme.read_text(encoding="utf-8")
    wanted = put(put(text, "results", results()), "splits", splits())
    if "--check" in sys.argv:
        if wanted != text:
            sys.stderr.write("README.md does not show the committed figures; run: python tools/readme.py\n")
        return int(wanted != text)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
