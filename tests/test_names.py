"""One rule for names: what DVC, the package and every file system take for one name."""

import pytest

from distillkit.base import params
from distillkit.base.errors import ParamsError
from distillkit.base.names import check_package_name, is_recipe_name, recipe_name

GOOD = ["selmatch-ipc10", "A", "_x", "0123", "x_y-Z9", 200 * "x"]
BAD = [
    "",
    "mtt-lr0.1",
    ".x",
    "x.",
    "-x",
    "a b",
    "a/b",
    "..",
    "Rosé",
    "写真",
    "con",
    "COM1",
    "default",
    "Default",
    "a\n",
]
BAD += ["${x}", "a@b", "a:b", 201 * "x"]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_are_taken_as_they_are(name):
    assert is_recipe_name(name)
    assert recipe_name(name) == name


@pytest.mark.parametrize("name", BAD)
def test_other_names_become_such(name):
    assert not is_recipe_name(name)
    assert is_recipe_name(recipe_name(name))


@pytest.mark.parametrize(
    ("recipes", "expected"),
    [
        ("mtt-lr0.1: {}", "recipes has the name 'mtt-lr0.1'; expected letters, .*to 'mtt-lr0-1' for example"),
        ("Rosé: {}", "recipes has the name 'Rosé'; expected letters, .*; rename it, to 'Rose' for example"),
        ("-x: {}", "recipes has the name '-x'"),
        ("default: {}", "recipes has the name 'default'"),
        ("5: {}", "recipes has the name 5, which YAML does not read as text; write it in quotes"),
        ("1e5: {}", r"recipes has the name 100000.0, which YAML does not read as text"),
        ("true: {}", "recipes has the name True, which YAML"),
        ("null: {}", "recipes has the name None, which YAML"),
        (
            "a: {}\n  A: {}",
            "recipes has the names 'a' and 'A', the same file on some systems; expected names that differ",
        ),
    ],
)
def test_params_yaml_is_not_read_with_another(tmp_path, recipes, expected):
    (tmp_path / "params.yaml").write_text(f"recipes:\n  {recipes}\n")
    with pytest.raises(ParamsError, match=rf"^{tmp_path}/params.yaml: {expected}") as caught:
        params.load(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_params_yaml_may_have_no_recipes(tmp_path):
    for text in ("seed: 0", "recipes:", "recipes: [a.b]"):  # what is no mapping is refused where it is read
        (tmp_path / "params.yaml").write_text(text)
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", ["digits-v1.0", "-x", "A"])
def test_packages_may_have_versions(name):
    check_package_name(name)


@pytest.mark.parametrize("name", ["", "..", "a/b", ".x", "x.", "nul.x", "é"])
def test_packages_are_plain_folders(name):
    with pytest.raises(ParamsError, match="package name is "):
        check_package_name(name)
