"""docs/pipeline.md: it names every section, key of the data, score and method, and no others."""

import re
from dataclasses import fields

import pytest
from pages import sections
from ruamel.yaml import YAML

from distillkit.base.params import section
from distillkit.methods import METHODS
from distillkit.pipeline.checks import SECTIONS
from distillkit.sources.fetch import DataSpec
from distillkit.sources.readers import FolderSource, HuggingFaceSource, TorchvisionSource
from distillkit.training.difficulty import SCORES

PARTS = dict(sections("pipeline.md"))
SOURCES = {"digits": set(), "folder": FolderSource, "huggingface": HuggingFaceSource, "torchvision": TorchvisionSource}


def named(heading: str, column: int = 0) -> list[str]:
    """What stands in backticks in a column of the tables of a section."""
    rows = re.findall(r"^\| (.*) \|$", PARTS[heading], re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[column])]


@pytest.mark.parametrize(
    ("heading", "expected"),
    [
        ("", {*SECTIONS, "expert_shards", "recipes", "params.yaml"}),
        ("Methods", set(METHODS)),
        ("Data", {*(field.name for field in fields(DataSpec)), *SOURCES, "kind"}),
        ("Difficulty scores", {*SCORES, "file", "score.name"}),
    ],
    ids=["sections", "methods", "data", "scores"],
)
def test_its_tables_name_all(heading, expected):
    assert set(named(heading)) == expected


@pytest.mark.parametrize("kind", SOURCES)
def test_it_names_the_keys_of_every_source(kind):
    (row,) = re.findall(rf"^\| `{kind}` \| (.*) \|$", PARTS["Data"], re.MULTILINE)
    keys = {field.name for field in fields(SOURCES[kind])} - {"kind"} if SOURCES[kind] else set()
    assert keys <= set(re.findall(r"`(\w+)`", row))


def test_its_data_can_be_read():
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", PARTS["Data"], re.MULTILINE | re.DOTALL)
    for line in re.findall(r"^  #? ?(source: {.*})", block, re.MULTILINE):
        data = {"data": YAML(typ="safe").load(line) | {"size": [32, 32], "per_class": 500}}
        assert section(data, "data", DataSpec).size == (32, 32)
