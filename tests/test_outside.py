"""JSON and YAML from outside: what is within bounds is read as ever, what is not is refused in no time."""

import json
import time
from pathlib import Path

import pytest

from distillkit.base.outside import DEEPEST, MOST, UnreadableError, content, read_json, read_yaml, shown
from distillkit.data.files.headers import FORMS, NOTES, misfits


def laughs(times: int, levels: int) -> str:
    """``times`` to the power of ``levels`` laughs, in a few lines."""
    lines = [f"a0: &a0 [{', '.join(['lol'] * times)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * times)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null, true, "ü", ""]}', "[]", "7", '"\\u00fc"', "1e38", str(2**64)])
def test_json_is_read_as_ever(text):
    assert read_json(text) == json.loads(text)
    assert read_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "Expecting property name"),
        ("", "Expecting value"),
        (b"\xff", "it is no UTF-8"),
        ("NaN", "it holds the number NaN"),
        ("-Infinity", "it holds the number -Infinity"),
        ("1e39", "it holds the number 1e39"),
        ("1e999", "it holds the number 1e999"),
        ("9" * 5000, "it holds the number 9999"),
        ("[" * 100_000, f"it is nested deeper than {DEEPEST} levels"),
        ("[" * 100 + "]" * 100, f"it is nested deeper than {DEEPEST} levels"),
        ('"\\ud800"', "it holds '\\ud800', which is not valid Unicode"),
        ('{"\\udc80": 1}', "it holds '\\udc80', which is not valid Unicode"),
    ],
)
def test_json_that_is_refused(text, problem):
    with pytest.raises(UnreadableError) as caught:
        read_json(text)
    assert str(caught.value).startswith(problem)
    assert len(str(caught.value)) < 120


def test_a_billion_laughs_end_at_once():
    begun = time.perf_counter()
    for text in (laughs(10, 9), laughs(10, 9).replace(": &a3 [", ": &a3 {<<: [").replace("*a2]", "*a2]}")):
        with pytest.raises(UnreadableError, match=f"more than {MOST:,} values, with every alias written out"):
            read_yaml(text.encode())
    assert time.perf_counter() - begun < 1


def test_aliases_within_bounds_are_read():
    assert read_yaml(b"a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }
    assert read_yaml(laughs(3, 5).encode())["a4"][2][2][2][2] == ["lol"] * 3


@pytest.mark.parametrize(
    ("text", "problem", "line"),
    [
        ("a: 1\nb: &x [*x]\n", "what is called 'x' holds itself", 2),
        ("a: 2024-99-99", "month must be in 1..12", None),
        ("a: " + "9" * 5000, "Exceeds the limit", None),
        ("[" * 2000 + "]" * 2000, f"it is nested deeper than {DEEPEST} levels", None),
        ('a: "\\ud800"', "it holds '\\ud800', which is not valid Unicode", None),
        ("a: [1\n", "expected ',' or ']'", 2),
    ],
)
def test_yaml_that_is_refused(text, problem, line):
    with pytest.raises(UnreadableError) as caught:
        read_yaml(text.encode())
    assert str(caught.value).startswith(problem)
    assert caught.value.line == line


def test_only_regular_files_of_some_size_are_read(tmp_path):
    with pytest.raises(OSError, match="no regular file"):
        content(Path("/dev/zero"))
    with (tmp_path / "x").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(UnreadableError, match=r"it has 1,073,741,824 bytes, more than 16,777,216"):
        content(tmp_path / "x")


def test_a_value_is_shown_shortened():
    assert shown({"a": [1, "ü"]}) == '{"a": [1, "ü"]}'
    assert shown("a" * 100) == '"' + "a" * 79 + "…"


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ({}, []),
        ({"a note of another version": [1]}, []),
        ({"attack": {}}, ["notes.attack without attack_class; expected one"]),
        ({"imported": []}, ["notes.imported []; expected a mapping"]),
        ({"imported": {"files": [{"name": "a", "sha256": "b"}, 3]}}, ["notes.imported.files.1 3; expected a mapping"]),
        ({"imported": {"saved_as": "<b>"}}, ['notes.imported.saved_as "<b>"; expected a few plain words']),
        ({"imported": {"mean": [True]}}, ["notes.imported.mean.0 true; expected a number"]),
        (
            {"holdout_accuracy_by_window_start": {"0.1": 1, "0.2": 1.5}},
            ["notes.holdout_accuracy_by_window_start.0.2 1.5; expected a number from 0 to 1"],
        ),
    ],
)
def test_forms_of_notes(notes, expected):
    assert list(misfits(notes, NOTES, "notes")) == expected


def test_a_header_may_lack_everything():
    assert list(misfits({}, FORMS, "header")) == []
