"""Licences: what SPDX calls them, what forbids derived sets, and what was meant as an identifier."""

import pytest

from distillkit.base.errors import ParamsError
from distillkit.sources.fetch import DataSpec
from distillkit.sources.licences import LICENCES, licence_identifier, obstacle, spdx
from distillkit.sources.readers import DigitsSource


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cc-by-4.0", "CC-BY-4.0"),
        ("CC BY 4.0", "CC-BY-4.0"),
        ("The MIT License", "MIT"),
        ("odbl", "ODbL-1.0"),
        ("CC-BY-SA-2.5", "CC-BY-SA-2.5"),  # the Hub has no name for it
        ("MIT AND CC-BY-4.0", "MIT AND CC-BY-4.0"),
        ("LicenseRef-mine", "LicenseRef-mine"),
        ("gpl", None),
        ("Research only", None),
        ("", None),
    ],
)
def test_what_spdx_calls_it(text, expected):
    assert spdx(text) == expected


def test_every_name_of_the_hub_is_known_to_spdx_but_families():
    assert {name for name in LICENCES.split() if spdx(name) is None} == {"bsd", "cc", "gfdl", "gpl", "lgpl", "unknown"}
    assert all(licence_identifier(spdx(name)) for name in ("mit", "cc0-1.0", "apache-2.0"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("mit", None),
        ("mit, cc0-1.0", None),
        ("gpl", None),
        ("cc-by-nc-4.0", None),
        ("CC BY-ND 4.0", "CC-BY-ND-4.0, forbids derived works"),
        ("mit, CC-BY-NC-ND-3.0-IGO", "CC-BY-NC-ND-3.0-IGO, forbids derived works"),
        ("MIT AND CC-BY-ND-4.0", "forbids derived works"),
        ("", "no licence of the source is recorded"),
        ("unknown", "no licence of the source is recorded"),
        ("cc", "'cc', is none that is known"),
        ("mit, unknown", "'unknown', is none that is known"),
        ("LicenseRef-mine", "'LicenseRef-mine', is none that is known"),
    ],
)
def test_what_keeps_a_derived_set_from_being_published(text, found):
    assert (obstacle(text) is None) if found is None else (found in obstacle(text))


@pytest.mark.parametrize("text", ["CC-BY-5.0", "Apache-2", "cc-by-40", "mit, GPL-4.0"])
def test_an_identifier_with_a_mistake_is_refused(text):
    with pytest.raises(ParamsError, match=r"^data.licence is .*, which is no SPDX identifier \(did you mean '"):
        DataSpec(DigitsSource(), licence=text)


@pytest.mark.parametrize("text", ["cc-by-4.0", "CC BY 4.0", "Research only", "my-terms", "LicenseRef-mine", None])
def test_a_licence_in_other_words_is_taken(text):
    assert DataSpec(DigitsSource(), licence=text).licence == text
