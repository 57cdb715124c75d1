"""What people read in Python names arguments, whoever of the package says it: no params.yaml, no stages, no options."""

import ast
import inspect
import re

import pytest
from test_layers import PACKAGE, imported

import distillkit as dk
from distillkit.api.words import in_python, python_words
from distillkit.base.errors import HubError
from distillkit.process.progress import tell
from distillkit.sources.fetch import DataSpec

OPTIONS = "|".join(set(inspect.signature(DataSpec).parameters))
PIPELINE = rf"params\.yaml|\bstages?\b|\bdata\.(?:{OPTIONS})\b|(?<![\w-])--\w|dvc repro|experts\.|same command"
# Where params.yaml or a command line is read, and what Python never calls.
ELSEWHERE = {"api/words.py", "base/arguments.py", "data/leftovers.py", "process/command.py", "report/results.py"}
NO_MESSAGE = {
    "dvc repro",  # of cards
    "X (not part of distillkit: install its code and name it with `--network`)",
    "params.yaml has no recipes.XX; found X",
    "  --shadows 16 makes 16 new sets, each from a random half of the source, and attacks them",  # of a command
    "X does not exist; expected a file of distillkit verify --sign-off; correct the path",  # of a command
}
COMMAND = "import it with --classes in that order"  # of the command line in any case


def modules_of_python():
    """What ``dk`` can run."""
    waiting, found = set((PACKAGE / "api").glob("*.py")), set()
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= imported(path) - found
    return sorted(path for path in found if path.relative_to(PACKAGE).as_posix() not in ELSEWHERE)


def messages(path):
    """Texts that a module raises, tells or keeps to do so: line and text, ``X`` for what is filled in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in documents | parts:
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", modules_of_python(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_message_speaks_of_the_pipeline(path):
    told = {line: in_python(text).replace(COMMAND, "") for line, text in messages(path) if text not in NO_MESSAGE}
    for line, text in told.items():
        assert not re.search(PIPELINE, text) or " " not in text, f"{path.name}, line {line}: {text}"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("expected one size; set data.size to resize them all", "expected one size; give size= to resize them all"),
        ("share it, and set data.licence in params.yaml", "share it, and give licence="),
        ("params.yaml: recipes.mtt-ipc1.optim.stepz is not a parameter", "optim.stepz is not a parameter"),
        ("params.yaml: experts.epochs is 0", "epochs is 0"),
        ("training a network gave nan; lower training.lr (3)", "training a network gave nan; lower lr (3)"),
        ("data.zip and runs/experts.safetensors are no folder", "data.zip and runs/experts.safetensors are no folder"),
        ("m.safetensors does not exist; run the stage that writes it", "m.safetensors does not exist; make it again"),
        ("set data.source.follow_links, or init's --follow-links", "set source={..., 'follow_links': ...}"),
        ("interrupted; run the same command again to go on", "interrupted; make the same call again to go on"),
        (
            "expected data.test; train on these experts. Then stop",
            "expected data.test; train on these experts. Then stop",
        ),
    ],
)
def test_words(said, meant):
    assert in_python(said) == meant


def test_errors_stay_what_they_are_and_lines_are_translated(capsys):
    with pytest.raises(HubError, match=r"^it is 3; give size=$") as caught, python_words():
        tell("warning: set data.licence in params.yaml")
        raise HubError("params.yaml: it is 3; set data.size", transient=True, wait=2)
    assert caught.value.transient and caught.value.wait == 2
    tell("set data.licence in params.yaml")
    assert capsys.readouterr().err == "warning: give licence=\nset data.licence in params.yaml\n"


def test_a_package_without_a_licence_says_which_argument(tmp_path, capsys):
    data = dk.fetch("digits", per_class=3, test_per_class=2, licence="unknown")
    small = dk.distill(data, "random", 1)
    report = dk.evaluate(small, data.test, runs=1, steps=2)
    dk.save_package(tmp_path / "small", data, {"random-ipc1": (small, report)})
    assert capsys.readouterr().err.endswith("before you share the package, and give licence=\n")
