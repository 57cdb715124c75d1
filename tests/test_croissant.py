"""croissant.json: valid, loads as the artifact, says what is known and no more, and cannot contradict the manifest."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
import torch
from marks import long
from packages import AUDIT, build_package, half_moved, rewritten

from distillkit.base.errors import ArtifactError
from distillkit.base.files import sha256
from distillkit.data.files.artifact import load_synthetic
from distillkit.package.croissant import (
    UNSTATED,
    derivation,
    description,
    document,
    licences,
    published,
    responsible,
)
from distillkit.package.manifest import open_package

NEURIPS = {  # what the 2026 track asks of every dataset
    *("rai:dataLimitations", "rai:dataBiases", "rai:personalSensitiveInformation", "rai:dataUseCases"),
    *("rai:dataSocialImpact", "rai:hasSyntheticData", "prov:wasDerivedFrom", "prov:wasGeneratedBy"),
}
SOURCE = {"kind": "folder", "id": "cats", "revision": "", "licence": "unknown", "homepage": "", "citation": ""}
STATED = ("collection", "personal_information", "biases", "limitations", "uses", "social_impact", "maintenance")
RECIPE = {
    "name": "dm-ipc2",
    "method": "dm",
    "image_shape": [3, 8, 8],
    "class_names": ["cat", "dog"],
    "images": {"total": 4, "real": 0, "learned": 4, "per_class": 2},
    "provenance": {"source": SOURCE},
    "versions": {"distilled": "0.1.0"},
    "rai": dict.fromkeys(STATED),
    "publication": {"url": None, "creators": [], "published": None, "version": None},
}


@pytest.fixture(scope="module")
def soft(tmp_path_factory) -> Path:
    """Learned images with soft labels."""

    def softened(synthetic):
        labels = torch.full((len(synthetic), 10), 0.05).scatter(1, synthetic.labels[:, None], 0.55)
        return replace(synthetic, soft_labels=labels)

    return build_package(tmp_path_factory.mktemp("soft") / "soft", ipcs=(2,), learned=0.01, change=softened)


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory) -> Path:
    """Of two recipes, one was audited."""
    return build_package(tmp_path_factory.mktemp("audited") / "audited", audit=AUDIT)


def mixed(folder: Path, storage: str) -> Path:
    """Real and learned images."""
    return build_package(folder / "mixed", ipcs=(2,), change=half_moved, storage=storage)


def written(folder: Path) -> dict:
    return json.loads((folder / "croissant.json").read_text())


def opened(folder: Path):
    """As somebody with mlcroissant opens it; what that library says goes into ``issues``."""
    croissant = pytest.importorskip("mlcroissant")
    return croissant.Dataset(jsonld=str(folder / "croissant.json"))


@pytest.fixture
def without_datasets():
    """As in a process without ``datasets``, whose type of arrays in pandas mlcroissant 1.1 cannot iterate over."""
    from datasets.features.features import Array3DExtensionType

    kind = Array3DExtensionType((1, 1, 1), "float32")
    arrow.unregister_extension_type(kind.extension_name)
    yield
    arrow.register_extension_type(kind)


def pixels_in(record: dict, recipe: str) -> torch.Tensor:
    """The image (C, H, W) as the descriptions of the fields say."""
    if (pixels := record.get(f"{recipe}/pixels")) is not None:
        return torch.tensor(pixels, dtype=torch.float32)
    levels = torch.from_numpy(np.array(record[f"{recipe}/image"]))[None].float() / 255
    return levels * record.get(f"{recipe}/scale", 1.0) + record.get(f"{recipe}/offset", 0.0)


@pytest.mark.filterwarnings("ignore")  # that library's
@pytest.mark.parametrize("which", ["first", "soft", long("looked_at"), long("float32"), "float16", "uint8"])
def test_it_is_valid_and_loads_record_by_record_as_the_artifact(which, request, tmp_path, without_datasets):
    made = which in ("first", "soft", "looked_at")
    folder = request.getfixturevalue(which) if made else mixed(tmp_path, which)
    dataset = opened(folder)
    assert not dataset.metadata.ctx.issues.errors
    assert all("is recommended" in issue for issue in dataset.metadata.ctx.issues.warnings)
    for recipe in open_package(folder).recipes:
        synthetic, _ = load_synthetic(folder / recipe / "distilled.safetensors")
        records = list(dataset.records(recipe))
        assert len(records) == len(synthetic)
        assert [record[f"{recipe}/label"] for record in records] == synthetic.labels.tolist()
        assert torch.equal(torch.stack([pixels_in(record, recipe) for record in records]), synthetic.images)
        if f"{recipe}/scale" not in records[0]:
            shown = [list(record[f"{recipe}/image"].getdata()) for record in records]
            assert shown == (synthetic.images.clamp(0, 1) * 255).round().int().flatten(1).tolist()
        if synthetic.soft_labels is not None:
            found = torch.tensor([record[f"{recipe}/soft_label"] for record in records], dtype=torch.float32)
            assert torch.equal(found, synthetic.soft_labels)


@pytest.mark.filterwarnings("ignore")
def test_the_validator_finds_a_fault(first, tmp_path):
    """So that the test above can fail."""
    document = written(first)
    document["recordSet"][1]["field"][0]["source"]["fileObject"]["@id"] = "nowhere.parquet"
    (tmp_path / "croissant.json").write_text(json.dumps(document))
    with pytest.raises(Exception, match=r"nowhere\.parquet"):
        opened(tmp_path)


def test_every_file_is_listed_with_its_checksum(first):
    listed = {file["contentUrl"]: file["sha256"] for file in written(first)["distribution"]}
    paths = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert listed.keys() == paths - {"croissant.json", "manifest.json"}
    assert all(digest == sha256(first / path) for path, digest in listed.items())


def test_what_the_page_of_neurips_asks_for_is_there(first):
    assert written(first).keys() >= NEURIPS
    assert written(first)["prov:wasDerivedFrom"] == [
        {
            "@id": "https://doi.org/10.24432/C50P49",
            "@type": "prov:Entity",
            "prov:label": "scikit-learn/digits",
            "sc:citation": "E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning "
            "Repository, 1998. https://doi.org/10.24432/C50P49",
            "sc:license": "CC-BY-4.0",
            "sc:version": "uci-optdigits-test",
        }
    ]
    assert written(first)["rai:hasSyntheticData"] is False


def test_the_publishers_own_words_stand_beside_ours():
    silent = responsible([RECIPE], RECIPE)
    assert silent["rai:personalSensitiveInformation"][0] == silent["rai:dataSocialImpact"] == UNSTATED
    assert "rai:dataReleaseMaintenancePlan" not in silent and silent["rai:hasSyntheticData"] is True
    told = {key: f"My {key}." for key in STATED}
    said = responsible([RECIPE], RECIPE | {"rai": told})
    assert said["rai:personalSensitiveInformation"][0] == "My personal_information."
    assert said["rai:dataBiases"][-1] == "My biases." and len(said["rai:dataBiases"]) == 2
    assert said["rai:dataCollection"].endswith(" My collection.")
    assert said["rai:dataUseCases"] == ["My uses."] and said["rai:dataSocialImpact"] == "My social_impact."
    assert said["rai:dataReleaseMaintenancePlan"] == "My maintenance."


def test_what_an_audit_found_stands_there(first, looked_at):
    """Of the recipe that was audited, in the card's words; never that a set is private."""
    said = written(looked_at)["rai:personalSensitiveInformation"]
    assert said[:2] == written(first)["rai:personalSensitiveInformation"]
    (found,) = said[2:]
    assert found == (
        "Audit of random-ipc2: Membership inference did better than chance: it recognised 6.0 ± 0.5 % of the images "
        "that a set was made from, and 6.0 ± 0.5 % of the most exposed, with 1 % false positives (AUC 0.583 ± 0.006, "
        "16 shadow sets)."
    )
    assert found.partition(": ")[2] in (looked_at / "README.md").read_text()


def test_there_is_no_address_person_or_date_but_the_publishers():
    assert published(RECIPE["publication"]) == {}
    told = {"url": "https://a.b/c", "creators": ["A. Person"], "published": "2026-11-28", "version": "1.0.0"}
    assert published(told) == {
        "url": "https://a.b/c",
        "creator": [{"@type": "sc:Person", "name": "A. Person"}],
        "datePublished": "2026-11-28",
        "version": "1.0.0",
    }


@pytest.mark.parametrize(
    ("licence", "homepage", "expected"),
    [
        ("cc-by-4.0", "", ["https://spdx.org/licenses/CC-BY-4.0.html"]),
        ("MIT License, odbl", "", ["https://spdx.org/licenses/MIT.html", "https://spdx.org/licenses/ODbL-1.0.html"]),
        ("unknown", "", [{"@type": "sc:CreativeWork", "name": "none was recorded; look it up at the source before you "
                                                              "share this"}]),
        ("My terms", "https://a.b", [{"@type": "sc:CreativeWork", "name": "My terms", "url": "https://a.b"}]),
        ("My terms", "javascript:x", [{"@type": "sc:CreativeWork", "name": "My terms"}]),
    ],
)  # fmt: skip
def test_licences_are_spdx_addresses_or_words(licence, homepage, expected):
    assert licences(SOURCE | {"licence": licence, "homepage": homepage}, [RECIPE]) == expected


def test_what_was_imported_has_a_licence_of_its_own():
    found = licences(SOURCE | {"licence": "mit"}, [RECIPE | {"method": "imported"}])
    assert found[0] == "https://spdx.org/licenses/MIT.html" and "imported images" in found[1]["name"]
    foreign = RECIPE | {"name": "rded", "method": "imported"}
    collected = [
        responsible(recipes, RECIPE)["rai:dataCollection"] for recipes in ([RECIPE], [RECIPE, foreign], [foreign])
    ]
    first, own, other = (
        "No image was collected for this package.",
        "images come from the source or were made from its images.",
        "rded",
    )
    assert collected == [
        f"{first} All {own}",
        f"{first} Other code made the images of {other}; its method is not recorded. All other {own}",
        f"{first} Other code made the images of {other}; its method is not recorded.",
    ]


def test_a_source_without_an_address_has_none():
    assert derivation(SOURCE) == [{"@type": "prov:Entity", "prov:label": "cats", "sc:license": "unknown"}]
    assert "4 images of 3x8x8 in 2 classes" in description(RECIPE)


def test_a_config_called_as_the_package_has_the_hubs_name():
    found = document("dm-ipc2", [RECIPE], "dm-ipc2", {"dm-ipc2": ["label"]}, {})
    assert [part["@id"] for part in found["recordSet"]] == ["package.classes", "record_set_dm-ipc2"]
    assert found["recordSet"][0]["data"][1] == {"package.classes/label": 1, "package.classes/name": "dog"}


def changed(**changes):
    return lambda data: json.dumps(json.loads(data) | changes).encode()


def without_a_file(data):
    document = json.loads(data)
    return json.dumps(document | {"distribution": document["distribution"][1:]}).encode()


def with_another_sum(data):
    document = json.loads(data)
    document["distribution"][0]["sha256"] = "0" * 64
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (changed(name="other"), "it describes another package than 'tiny'"),
        (changed(distribution=7), "they differ in 'README.md'"),
        (without_a_file, "they differ in 'README.md'"),
        (with_another_sum, "they differ in 'README.md'"),
        (lambda data: b"[]", "it describes another package than 'tiny'"),
        (lambda data: b"{", "cannot be read"),
    ],
)
def test_a_package_whose_croissant_contradicts_the_manifest_is_refused(first, tmp_path, change, found):
    lying = rewritten(first, tmp_path / "tiny", "croissant.json", change)
    with pytest.raises(ArtifactError, match=rf"croissant.json .*{found}.*; do not use it"):
        open_package(lying)
