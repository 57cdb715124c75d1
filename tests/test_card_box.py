"""The box at the top of a card answers what a reviewer asks first; long tables are folded, and nothing is lost."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from datasets import load_dataset
from packages import build_package

from distillkit.package.card_box import box, licence_words, publisher, real, verified
from distillkit.package.card_tables import FOLDED, NAMED, named
from distillkit.package.croissant.document import licences
from distillkit.package.front_matter import shared_licence, tags
from distillkit.pipeline.packaging import Publication, Rai
from distillkit.sources.licences import licence_of_imported

ACCURACY = {"mean": 0.5, "std": 0.01, "runs": 3}
RECIPE = {
    "name": "mine",
    "method": "dm",
    "params": {},
    "notes": {},
    "class_names": list("abcd"),
    "image_shape": [3, 8, 16],
    "images": {"total": 8, "per_class": 2, "real": 2, "learned": 6, "learned_from_source": 4},
    "results": {"accuracy": ACCURACY},
    "test": {"images": 300},
    "baselines": {"random": None, "full": {"recipe": "full", "accuracy": ACCURACY | {"mean": 0.9}}},
    "provenance": {"source": {"licence": "cc-by-4.0", "homepage": ""}},
    "rai": asdict(Rai()),
    "publication": asdict(Publication()),
}


def rows(recipe: dict) -> dict[str, str]:
    return dict(box(recipe, "DM", lambda accuracy: f"{100 * accuracy['mean']:g} %", []))


def test_what_is_known_and_what_is_not():
    found = rows(RECIPE)
    assert found["Method"] == "DM"
    assert found["Images"] == "8 in 4 classes, 8 x 16 pixels, colour; 2 of each class (IPC)"
    assert found["Real"] == (
        "25 % are unchanged source images; 50 % were learned from a source image; "
        "25 % were made from the source, but from no single image"
    )
    assert found["Test accuracy"] == "**50 %** on 300 test images, of networks trained from scratch on this set"
    assert found["All training images"] == "90 %" and "As many random images" not in found
    assert found["Privacy audit"].startswith("none was made")
    assert found["Personal data"] == "the publisher states nothing about it"
    assert found["Published"] == "the publisher states neither who, where nor when"
    assert found["Licence"] == "`CC-BY-4.0`, the source's"
    assert found["Verified"].startswith("by nobody else, as far as this card knows")
    assert "private" not in str(found).lower()


def test_what_the_publisher_states():
    rai = asdict(Rai(personal_information="Faces | of <b>people</b>\nin `code`."))
    told = {"url": "https://a.b/c", "creators": ["A. Person", "B"], "published": "2026-11-28", "version": "1.0.0"}
    found = rows(RECIPE | {"rai": rai, "publication": told, "audit": {"tpr": 0.1}})
    assert found["Personal data"] == "the publisher states: Faces / of &lt;b>people&lt;/b> in 'code'."
    assert found["Published"] == "by `A. Person`, `B` at <https://a.b/c> on 2026-11-28 as version 1.0.0"
    assert found["Privacy audit"] == "an attack was tried: what it found is [below](#limits)"
    assert publisher(asdict(Publication(version="2.0.0"))) == "as version 2.0.0"


@pytest.mark.parametrize(
    ("licence", "method", "expected"),
    [
        ("unknown", "dm", "**not recorded**: look it up at the source before you share this"),
        ("Research only", "dm", "`Research only`, the source's"),
        ("mit, odbl", "dm", "`MIT, ODbL-1.0`, the source's"),
        ("mit", "imported", "`MIT`, the source's; that of the imported images is not recorded"),
    ],
)
def test_the_licence_in_words(licence, method, expected):
    assert licence_words(RECIPE | {"method": method, "provenance": {"source": {"licence": licence}}}) == expected


def test_a_licence_that_was_recorded_on_import_stands_everywhere():
    recipe = RECIPE | {"method": "imported", "notes": {"imported": {"licence": "CC BY-SA 4.0"}}}
    assert licence_words(recipe) == "`CC-BY-4.0`, the source's; that of the imported images `CC-BY-SA-4.0`"
    source = RECIPE["provenance"]["source"]
    assert shared_licence(source, [RECIPE, recipe]) == {"license": ["cc-by-4.0", "cc-by-sa-4.0"]}
    assert shared_licence(source, [RECIPE]) == {"license": "cc-by-4.0"}
    addresses = [f"https://spdx.org/licenses/{name}.html" for name in ("CC-BY-4.0", "CC-BY-SA-4.0")]
    assert licences(source, [recipe, recipe]) == addresses
    assert licence_of_imported(recipe) == "CC BY-SA 4.0" and licence_of_imported(RECIPE) == ""
    assert licence_of_imported(RECIPE | {"method": "imported", "notes": []}) == "unknown"


def test_imported_images_come_from_nobody_knows_where():
    images = RECIPE["images"] | {"learned_from_source": 0}
    assert real(RECIPE | {"method": "imported", "images": images}).startswith("not known")
    assert next(verified(RECIPE, [])).startswith("by nobody else")


def test_many_names_are_cut():
    names = [f"c{number}" for number in range(50)]
    assert named(names[:2]) == "`c0`, `c1`"
    assert named(names[: NAMED + 1]).count("`c") == NAMED + 1
    assert named(names).endswith("`c7` and 42 more")


def test_tags_that_people_search_by():
    learned = {"method": "dm", "images": {"learned": 20, "per_class": 2}}
    chosen = {"method": "window", "images": {"learned": 0, "per_class": 10}}
    assert {"dataset-distillation", "dataset-compression", "dm", "ipc-2"} <= set(tags([learned]))
    assert "dataset-pruning" not in tags([learned])
    assert {"dataset-pruning", "window", "ipc-10", "ipc-2"} <= set(tags([learned, chosen]))


def card_of(folder: Path) -> str:
    return (folder / "README.md").read_text().split("---\n", 2)[2]


def test_the_box_comes_first_and_few_configs_are_not_folded(first):
    card = card_of(first)
    top = card.split("\n## ")[0]
    assert top.lstrip().startswith("# tiny\n\n| Default config | `random-ipc2`, one of 2 ([all results](#results)) |\n")
    assert "The classes are `0`, `1`, `2`" in top
    assert [summary for summary in re.findall("<summary>(.*?)</summary>", card) if summary != "Parameters"] == []


def test_many_configs_are_folded_and_complete(tmp_path, monkeypatch):
    monkeypatch.setattr("distillkit.package.card.FOLDED", 1)
    card = card_of(build_package(tmp_path / "tiny", learned=0.01))
    assert FOLDED > 1 and card.count("<details>") == card.count("</details>") == 4
    assert "<details><summary>Results of all 2 configs</summary>\n\n| Config |" in card
    assert re.search(r"\| `random-ipc1` \| Random .*\n\| `random-ipc2` .*\n\n</details>\n\nHow the accuracy", card)
    assert "\n\n\n" not in card


def test_many_classes_are_folded(tmp_path, monkeypatch):
    monkeypatch.setattr("distillkit.package.card.CLASSES", 5)
    card = card_of(build_package(tmp_path / "tiny", ipcs=(1,)))
    assert "<details><summary>The 10 classes</summary>\n\n`0`, `1`, `2`" in card and "The classes are" not in card
    assert "\n\n\n" not in card


def test_of_very_many_class_names_the_parquet_alone_tells(tmp_path, monkeypatch):
    monkeypatch.setattr("distillkit.package.front_matter.MOST_NAMES", 5)
    folder = build_package(tmp_path / "tiny", ipcs=(1,))
    assert "dataset_info" not in (folder / "README.md").read_text()
    assert load_dataset(str(folder), "random-ipc1", split="train").features["label"].names == list("0123456789")
