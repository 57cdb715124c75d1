"""Put the results table into README.md, from the committed metrics; with --check, only say whether it is there.

The table is made by the code that makes the report's, so the README can never say more than the last ``dvc repro``.
"""

import sys
from pathlib import Path

from distillkit import params, report
from distillkit.metrics import read_metrics

BEGIN, END = "<!-- results: written by tools/readme.py, do not edit -->\n", "<!-- end of results -->"


def table() -> str:
    recipes = params.load()["recipes"]
    metrics = {name: read_metrics(Path("metrics", f"{name}.json")) for name in recipes}
    return report.markdown_table(report.rows(metrics, recipes))


def main() -> int:
    readme = Path("README.md")
    text = readme.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    wanted = f"{before}{BEGIN}\n{table().strip()}\n\n{END}{after}"
    if "--check" in sys.argv:
        if wanted != text:
            sys.stderr.write("README.md does not show the committed metrics; run: python tools/readme.py\n")
        return int(wanted != text)
    readme.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
