"""Pages of docs/methods: what they show can be read, and every setting of a method is on its page."""

import re
from dataclasses import fields
from typing import Any

import pytest
from pages import DOCS
from ruamel.yaml import YAML

from distillkit.methods import METHODS
from distillkit.pipeline.recipes import read_recipe

PAGES = sorted(path for path in (DOCS / "methods").glob("*.md") if path.name != "README.md")
WITHOUT_A_PAGE = {"full", "confident", "imported"}


def recipes_of(text: str) -> dict[str, Any]:
    """All recipes of a page's yaml blocks, by name; a name stands once."""
    recipes: dict[str, Any] = {}
    for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found = YAML(typ="safe").load(block)
        assert not set(found) & set(recipes)
        recipes |= found
    return recipes


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_recipes_can_be_read(path):
    recipes = recipes_of(path.read_text(encoding="utf-8"))
    assert recipes
    for name in recipes:
        read_recipe({"recipes": recipes}, name)


@pytest.mark.parametrize("name", sorted(set(METHODS) - WITHOUT_A_PAGE))
def test_every_method_and_its_settings_are_shown(name):
    """On a page of its own, or one that it shares."""
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    showing = [text for text in texts if any(recipe["method"] == name for recipe in recipes_of(text).values())]
    assert showing, f"no page of docs/methods has a recipe of {name}"
    shown = {key for recipe in recipes_of(showing[0]).values() if recipe["method"] == name for key in recipe}
    assert {field.name for field in fields(METHODS[name])} <= shown | settings_named(showing[0])


def settings_named(text: str) -> set[str]:
    """Settings that the running text has as code, alone or with their path or value: `a`, `of.a`, `a: 1`."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    named = (re.fullmatch(r"(?:\w+\.)*(\w+)(?:: .*)?", code) for code in re.findall(r"`([^`\n]+)`", prose))
    return {found[1] for found in named if found}


def test_a_word_of_other_code_names_no_setting():
    assert settings_named("`a`, `of.b`, `c: 1`; `d + e`, `f()`\n```yaml\n`g`\n```\n") == {"a", "b", "c"}


def test_every_method_that_learns_has_a_page_of_its_own():
    learning = {name for name, method in METHODS.items() if hasattr(method, "loss")} - WITHOUT_A_PAGE
    assert learning <= {path.stem for path in PAGES}
