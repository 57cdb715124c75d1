"""The box at the top of a card answers what a reviewer asks first; long tables are folded, and nothing is lost."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
from datasets import load_dataset
from packages import AUDIT, build_package

from distillkit.audit.result import audit_words
from distillkit.package.card_box import box, licence_words, publisher, real, verified
from distillkit.package.card_tables import FOLDED
from distillkit.package.card_words import NAMED, about, named, network
from distillkit.package.croissant import licences
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
    "provenance": {"source": {"kind": "folder", "id": "A", "licence": "cc-by-4.0", "homepage": ""}},
    "rai": asdict(Rai()),
    "publication": asdict(Publication()),
    "evaluation": {"network": {"name": "convnet"}, "training": {"steps": 200, "batch": 50}},
}


def rows(recipe: dict) -> dict[str, str]:
    return dict(box(recipe, []))


def test_what_is_known_and_what_is_not():
    found = rows(RECIPE)
    assert found["Method"].startswith(f"{about('dm').title}: ") and "More](#how-it-was-made)" in found["Method"]
    assert found["Method"].count(". ") == 1
    assert found["Made from"] == "the folder `A`; [details](#source-and-licence)"
    assert found["Images"] == "8 in 4 classes, 8 x 16 pixels, colour; 2 of each class (IPC)"
    assert found["Real"] == (
        "25 % (2 of 8) are unchanged images of the source; 50 % (4 of 8) were learned from a source image; "
        "25 % (2 of 8) were made from the source, but from no single image"
    )
    assert found["Test accuracy"] == (
        "**50.00 ± 1.00 % (n = 3)** on 300 test images: mean ± standard deviation of n networks, each trained from "
        "scratch on this set alone"
    )
    assert found["Measured with"] == (
        f"{network({'name': 'convnet'})}, 200 updates of at most 50 images each, the same for all configs; "
        "[details](#results)"
    )
    assert found["All training images"] == "90.00 ± 1.00 % (n = 3)" and "As many random images" not in found
    assert found["Privacy audit"].startswith("**this config was not audited**")
    assert found["Personal data"] == "the publisher states nothing about it"
    assert found["Published"] == "the publisher does not state by whom, where or when"
    assert found["Licence"] == "`CC-BY-4.0`, the licence of the source; treat this set as if it had the same licence"
    assert found["Verified"].startswith("no sign-off yet")
    assert "previews" in found["How to load"]
    assert found["Do not conclude"].startswith("that the images are anonymous; that another network")
    assert "private" not in str(found).lower()


def test_a_set_of_learned_or_of_real_images_alone():
    """How many are unchanged is told in any case; real images can be taken as a viewer shows them."""
    images = RECIPE["images"] | {"real": 0, "learned": 8, "learned_from_source": 8}
    unchanged, learned = "are unchanged images of the source", "were learned from a source image"
    assert real(RECIPE | {"images": images}) == f"0 % (0 of 8) {unchanged}; 100 % (8 of 8) {learned}"
    chosen = RECIPE | {"images": RECIPE["images"] | {"real": 8, "learned": 0, "learned_from_source": 0}}
    assert real(chosen) == f"100 % (8 of 8) {unchanged}" and "previews" not in rows(chosen)["How to load"]


def test_how_a_set_was_trained_on():
    """One network has no deviation; a set with an order of its own is not trained on as others are."""
    one = RECIPE | {"results": {"accuracy": ACCURACY | {"runs": 1}}}
    assert rows(one)["Test accuracy"].endswith(": one network trained from scratch on this set alone")
    own = rows(RECIPE | {"schedule": {"network": {"name": "mlp", "norm": "none"}}})["Measured with"]
    assert own.startswith(f"{network({'name': 'mlp', 'norm': 'none'})}, trained in the set's own order;")


def test_what_the_publisher_states():
    rai = asdict(Rai(personal_information="Faces | of <b>people</b>\nin `code`."))
    told = {"url": "https://a.b/c", "creators": ["A. Person", "B"], "published": "2026-11-28", "version": "1.0.0"}
    found = rows(RECIPE | {"rai": rai, "publication": told, "audit": AUDIT})
    assert found["Personal data"] == "the publisher states: Faces / of &lt;b>people&lt;/b> in 'code'."
    assert found["Published"] == "by `A. Person`, `B` at <https://a.b/c> on 2026-11-28 as version 1.0.0"
    assert found["Privacy audit"] == audit_words(AUDIT) and "did better than chance" in found["Privacy audit"]
    assert publisher(asdict(Publication(version="2.0.0"))) == "as version 2.0.0"


@pytest.mark.parametrize(
    ("licence", "method", "expected"),
    [
        ("unknown", "dm", "**not recorded**: look it up at the source before you share this"),
        (
            "Research only",
            "dm",
            "`Research only`, the licence of the source; treat this set as if it had the same licence",
        ),
        ("mit, odbl", "dm", "`MIT, ODbL-1.0`, the licence of the source; treat this set as if it had the same licence"),
        (
            "mit",
            "imported",
            "`MIT`, the licence of the source; that of the imported images is not recorded",
        ),
    ],
)
def test_the_licence_in_words(licence, method, expected):
    assert licence_words(RECIPE | {"method": method, "provenance": {"source": {"licence": licence}}}) == expected


def test_a_licence_that_was_recorded_on_import_stands_everywhere():
    recipe = RECIPE | {"method": "imported", "notes": {"imported": {"licence": "CC BY-SA 4.0"}}}
    assert (
        licence_words(recipe) == "`CC-BY-4.0`, the licence of the source; that of the imported images is `CC-BY-SA-4.0`"
    )
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
    assert next(verified(RECIPE, [])).startswith("no sign-off yet")


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


def test_audits_have_a_section_where_there_is_one(first, tmp_path, monkeypatch):
    assert "## Privacy audit" not in card_of(first) and "No audit was made." in card_of(first)
    folder = build_package(tmp_path / "tiny", audit=AUDIT)
    card = card_of(folder)
    found = f"- `random-ipc2`: {audit_words(AUDIT)}"
    section = card.split("## Privacy audit")[1].split("\n## ")[0]
    assert found in section and "Configs that are not listed here were not audited." in section
    assert f"| Privacy audit | {audit_words(AUDIT)} |" in card and "No audit was made." not in card
    assert "<details><summary>Audits" not in card and "\n\n\n" not in card


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
