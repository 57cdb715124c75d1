"""What ``distillkit look`` shows: numbers worked out by hand, the artifact's pixels, and nothing that it should not."""

import base64
import html
import http.client
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from huggingface_hub import HfApi
from look_sets import HOSTILE, mixed_set, real_data, with_names, write_pipeline
from PIL import Image

from distillkit.base.errors import ArtifactError, ParamsError
from distillkit.cli import cli
from distillkit.data.files.artifact import load_synthetic
from distillkit.hub.push import push
from distillkit.look.answers import below_random, lost
from distillkit.look.description import describe
from distillkit.look.facts import percentiles
from distillkit.look.opening import open_subject
from distillkit.look.page import SHEETS, export, few_enough, page, sheets_of
from distillkit.look.server import Server, serving
from distillkit.look.sheets import Gallery
from distillkit.report.document import data_block, digest, policy
from distillkit.report.pictures import as_levels


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits) -> Path:
    """A pipeline with the set that tests/look_sets.py describes; not to be changed."""
    real = real_data(digits)
    return write_pipeline(tmp_path_factory.mktemp("look"), real, mixed_set(real))


@pytest.fixture(scope="module")
def described(folder):
    return describe(open_subject(str(folder), None))


def data_in(text: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_percentiles_within_the_class():
    """Class 0 has difficulties 3, 1, 2; class 1 has one image; equal ones are ranked by their row."""
    difficulty, labels = torch.tensor([3.0, 9.0, 1.0, 2.0, 5.0, 5.0]), torch.tensor([0, 1, 0, 0, 2, 2])
    assert percentiles(difficulty, labels).tolist() == [100, 0, 0, 50, 0, 100]


def test_what_is_said_of_each_image(described, folder):
    found, _ = described
    images = found["images"]
    synthetic, _ = load_synthetic(folder / "artifacts/distilled/mixed-ipc4.safetensors")
    assert images["label"] == sorted(synthetic.labels.tolist()) and len(images["row"]) == 40
    assert images["learned"] == [0, 0, 1, 1] * 10
    assert images["from"] == synthetic.source_row[images["row"]].tolist()
    for place, (row, learned) in enumerate(zip(images["row"], images["learned"], strict=True)):
        if not learned:
            assert images["moved"][place] == images["distance"][place] == 0 and images["start"][place] == -1
            assert images["near"][place] == images["from"][place]
            continue
        start = synthetic.pixels()[row] - found_start(folder, images["from"][place])
        assert images["moved"][place] == pytest.approx(start.double().square().mean().sqrt().item(), abs=1e-5)
        assert images["distance"][place] <= images["moved"][place]


def found_start(folder: Path, row: int) -> torch.Tensor:
    return open_subject(str(folder), None).real.train.pixels(slice(row, row + 1))[0]


def test_difficulty_of_the_middle_of_a_class(described, folder):
    """Rows 4 to 7 of each class in a source whose difficulty grows with the row."""
    subject = open_subject(str(folder), None)
    counts = subject.real.train.class_counts
    expected = [round(100 * place / (count - 1), 1) for count in counts for place in (4, 5, 6, 7)]
    assert described[0]["images"]["harder"] == expected
    for tenth, found in enumerate(described[0]["tenths"]):
        inside = [10 * tenth <= value < 10 * tenth + 10 for value in expected]
        assert found == {"real": sum(inside[0::4] + inside[1::4]), "learned": sum(inside[2::4] + inside[3::4])}


def test_classes_and_pairs_and_sentences(described):
    found, _ = described
    first = found["rows"][1]
    assert (first["name"], first["images"], first["learned"]) == ("1", 4, 2)
    assert (first["set"], first["random"], first["full"]) == (0.7, 0.75, 0.8)
    assert found["pairs"] == [
        {"class": 1, "taken": 2, "count": 3, "of": 10},
        {"class": 3, "taken": 0, "count": 1, "of": 10},
    ]
    words = " ".join(sentence for sentence, _ in found["answers"])
    assert not re.search(r"\d %", words), "no line begins with a sign"
    words = words.replace("\u00a0", " ")
    assert words.startswith(
        "A training set of 40 images in 10 classes, made by the method SelMatch to replace the 300 t"
    )
    assert "training images of digits (13.33 % as many): 20 learned, 20 real." in words
    assert found["tab"] == "mixed-ipc4: 40 images for those of digits" and "the score “el2n” of" in found["difficulty"]
    each = "90.00 ± 1.00 % (n = 5)"
    assert f"Accuracy: {each} with this set, {each} with as many random images. ± is over n networks," in words
    assert (
        "a ConvNetBN-2-32 (2 blocks of 32 channels, with batch normalisation), trained for 200 updates and t" in words
    )
    assert "updates and tested on 60 images." in words
    assert "70.00 % of its test images are right (75.00 % with as many random images, 80.00 % with all images)" in words
    assert "30.00 % are taken for 2. A class has 2 test images: one that all 5 networks get" in words, "10 of 5"
    assert "networks get wrong lowers the accuracy of its class by up to 50.00 %." in words
    assert "to the hardest image (100 %), nothing comes from 0 to 10 % and 30 to 100 %." in words
    assert "20 images of 40 are images of the source, unchanged" in words
    most = max(range(40), key=lambda place: found["images"]["moved"][place])
    assert f"Changed most: image {found['images']['row'][most]}, of class" in words


def test_the_class_that_loses_most_against_all_images():
    rows = [{"name": str(k), "set": own, "full": full} for k, (own, full) in enumerate([(0.5, 0.5), (0.7, 1), (1, 1)])]
    words = "Against networks trained on all images, the set loses most in class 1 (70.00 % instead of 100.00 %)."
    assert [*lost(rows)] == [(words, "class=1")]
    assert [*lost([{**row, "full": row["set"]} for row in rows])] == []
    assert [*lost([rows[0], {**rows[1], "full": None}])] == []


def test_classes_that_random_images_teach_better():
    """By 0.1, not at all, by 0.2, and one of which nothing is known."""
    pairs = [(0.5, 0.6), (0.7, 0.7), (0.6, 0.8), (None, 0.9)]
    rows = [{"name": str(k), "set": own, "random": random} for k, (own, random) in enumerate(pairs)]
    named = "2 (60.00 % instead of 80.00 %), 0 (50.00 % instead of 60.00 %)"
    assert [*below_random(rows)] == [(f"As many random images are better in 2 classes: {named}.", "classes")]
    more = [*below_random([{"name": "x", "set": 0.0, "random": 1.0}] * 5)]
    assert more[0][0].count("x (") == 3 and more[0][0].endswith(") and 2 more.")
    assert [*below_random(rows[1:2])] == []


def test_what_is_said_of_the_source_is_what_the_page_holds(folder, monkeypatch):
    """The counts of the sentences, counted anew from the columns and the pictures."""
    monkeypatch.setattr("distillkit.look.answers.NEAR", 1.0)  # of the two learned images of a class, one or so
    found, galleries = describe(open_subject(str(folder), None))
    images, words = found["images"], {state: sentence for sentence, state in found["answers"]}
    learned = [place for place in range(40) if images["learned"][place]]
    state = next(state for state in words if "distanceTo" in state)
    limit = float(re.search(r"distanceTo=([\d.]+)", state)[1])
    assert limit == pytest.approx(found["yardstick"], rel=0.005)
    near = sum(images["distance"][place] <= limit for place in learned)
    still = sum(images["near"][place] == images["from"][place] for place in learned)
    assert (
        0 < near < 20
        and f" {near} are at most" in words[state]
        and words[state].startswith(f"For {still} of 20 learned")
    )
    beside = {*galleries[1].rows.tolist()} - {images["from"][place] for place in range(40) if place not in learned}
    assert len(beside) >= 20 and f"This page also shows {len(beside)} images of the source" in words[""]


def test_pixels_in_the_page_are_those_of_the_artifact(described, folder):
    """Decoded from the one file, at the place that the page's script looks at."""
    text = page(*described, sheets_of(described[1]), alone=True)
    data, (synthetic, _) = data_in(text), load_synthetic(folder / "artifacts/distilled/mixed-ipc4.safetensors")
    gallery = data["galleries"]["set"]
    decoded = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(address))))
        for name, address in re.findall(r'id="sheet-([^"]+)">data:image/webp;base64,([^<]+)<', text)
    }
    assert set(decoded) == {name for one in data["galleries"].values() for name in one["sheets"]}
    for place, row in enumerate(data["images"]["row"]):
        top, left = (side * 8 for side in divmod(place % gallery["each"], gallery["columns"]))
        shown = decoded[gallery["sheets"][place // gallery["each"]]][top : top + 8, left : left + 8]
        expected = (synthetic.image(row).clamp(0, 1) * 255).round().to(torch.uint8)[0].numpy()
        assert (shown == expected[:, :, None]).all(), place


def test_colours_and_sheets():
    """Three sheets of 100, 100 and 50; colours as they are, values outside of [0, 1] clipped, two channels as grey."""
    images = torch.rand(250, 3, 4, 5) * 1.5 - 0.25
    gallery = Gallery("set", images, torch.arange(250))
    assert gallery.sheets == 3 and gallery.each == 100
    last = np.asarray(Image.open(io.BytesIO(gallery.sheet(2))))
    assert last.shape == (20, 50, 3) and (last[16:20, 45:50] == as_levels(images[249:])[0]).all()
    assert as_levels(torch.tensor([[[[-1.0]], [[2.0]], [[0.5]]]])).tolist() == [[[[0, 255, 128]]]]
    assert as_levels(torch.tensor([[[[0.2]], [[0.9]]]])).tolist() == [[[[51, 51, 51]]]]
    assert Gallery("set", torch.zeros(2, 3, 2000, 2000), torch.arange(2)).each == 1


def test_hostile_names_are_text(tmp_path, digits):
    real = with_names(real_data(digits), HOSTILE)
    root = write_pipeline(tmp_path, real, mixed_set(real))
    found, galleries = describe(open_subject(str(root), None))
    text = page({**found, "title": HOSTILE[0]}, galleries, sheets_of(galleries), alone=True)
    assert data_in(text)["classes"][:3] == list(HOSTILE)
    assert not [name for name in HOSTILE[:2] if name in text] and html.escape(HOSTILE[0], quote=False)[:8] in text
    assert len(re.findall(r"<script", text)) == len(re.findall(r"</script>", text))
    assert "\u2028" not in data_block(HOSTILE)


def test_policy_lets_in_what_the_page_has_and_nothing_else(described):
    text = page(*described, sheets_of(described[1]), alone=True)
    stated = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1])
    script, style = (
        re.search(r"<script>(.*)</script>\n</body>", text, re.DOTALL)[1],
        re.search("<style>(.*)</style>", text, re.DOTALL)[1],
    )
    assert stated == policy([script], [style]) and digest(script) in stated and "default-src 'none'" in stated
    assert not re.search(r"unsafe|https?:", stated)
    places = re.findall(r"""(?:src|href)=["'](?!#|data:,)([^"']*)""", text.replace(script, ""))
    assert places == ["https://example.org/digits"], "where the source has its home; it is asked only if it is clicked"
    assert "innerHTML" not in script and not re.search(
        r"\beval\b|new Function|insertAdjacentHTML|document\.write", script
    )


def test_snapshots_belong_to_the_learned_images(described, folder):
    found, galleries = described
    learned = open_subject(str(folder), None).synthetic.learned
    assert [one["step"] for one in found["snapshots"]] == [5, 10]
    assert [place for place in found["snapshots"][0]["place"] if place >= 0] == list(range(int(learned.sum())))
    shown = as_levels(galleries[-1].images[galleries[-1].rows])[:, :, :, 0]
    rows = [
        row for row, is_learned in zip(found["images"]["row"], found["images"]["learned"], strict=True) if is_learned
    ]
    synthetic, _ = load_synthetic(folder / "artifacts/distilled/mixed-ipc4.safetensors")
    assert (shown == as_levels(synthetic.pixels(torch.tensor(rows)))[:, :, :, 0] // 2).all()


def test_against_another_set(folder):
    first, other = open_subject(str(folder), None), open_subject(str(folder), "random-ipc4")
    found, galleries = describe(first, other)
    against = found["against"]
    assert against["name"] == "random-ipc4" and against["why"] is None
    # rows 3 to 6 there; rows 4 and 5 as they are, 6 and 7 learned here: 6 is a change, 7 new, 3 gone
    assert against["kind"] == ["same", "same", "changed", "added"] * 10
    assert against["other"] == [place + 1 if place % 4 < 3 else -1 for place in range(40)]
    assert against["removed"] == list(range(0, 40, 4))
    assert against["rms"][2] == found["images"]["moved"][2] > 0
    same = describe(first, first)[0]["against"]
    assert same["kind"] == ["same"] * 40 and same["removed"] == [] and same["other"] == list(range(40))
    assert same["summary"] == [
        f"{first.version.label} and {first.version.label} are the same: 40 images, parameters, accuracy"
    ]
    assert ("method", "random", "selmatch") in against["changes"]
    assert against["summary"][0].startswith("Images: 40 → 40: 20 unchanged, 10 changed")
    assert [gallery.name for gallery in galleries] == ["set", "source", "step-5", "step-10", "other"]


def test_without_the_source_nothing_of_it_is_shown(folder):
    found, galleries = describe(open_subject(str(folder), None, with_source=False))
    assert "source" not in [gallery.name for gallery in galleries] and found["map"] is None and found["tenths"] is None
    assert not [sentence for sentence, _ in found["answers"] if "This page also shows" in sentence]
    assert set(found["images"]["moved"]) == {None} and "left out, as you asked" in found["missing"][-1]


def test_a_package_shows_what_it_has(first, tmp_path):
    """Its source is the digits, which need no download; their rows are not those of this package's source."""
    found, _ = describe(open_subject(str(first), None))
    assert found["title"] == "tiny random-ipc2" and len(found["images"]["row"]) == 20
    assert found["rows"][0]["set"] is None and found["images"]["moved"] == [0] * 20
    with pytest.raises(ParamsError, match="random-ipc9"):
        open_subject(str(first), "random-ipc9")
    assert str(first) not in json.dumps(found) and str(tmp_path.parent) not in json.dumps(found)


def test_a_package_on_the_hub(hub, first, tmp_path):
    """Pulled, checked and shown; nothing of it stays on this machine but what the client keeps."""
    push(HfApi(endpoint=hub.endpoint, token=hub.token), first, "someone/tiny", receipt=tmp_path / "receipt.json")
    found, galleries = describe(open_subject("someone/tiny", "random-ipc1"))
    assert found["title"] == "someone/tiny random-ipc1" and len(found["images"]["row"]) == 10
    synthetic, _ = load_synthetic(first / "random-ipc1/distilled.safetensors")
    assert (as_levels(galleries[0].images[galleries[0].rows]) == as_levels(synthetic.pixels())).all()


def test_the_server_answers_only_who_knows_its_token(described):
    sheets = sheets_of(described[1])
    with serving("<p>page", sheets) as server:
        right = f"/{server.token}/"
        assert ask(server, right) == (200, b"<p>page")
        status, sheet = ask(server, f"{right}{SHEETS}/set-0.webp")
        assert status == 200 and sheet == sheets["set-0.webp"]()
        for path in (
            "/",
            f"/{'x' * len(server.token)}/",
            f"/{server.token}",
            f"/{server.token[:-1]}/",
            "//",
            "/%C3%A9/",
        ):
            assert ask(server, path)[0] == 404, path
        for name in ("../page.py", "..%2f..%2fetc/passwd", "set-0.webp/..", "set-9.webp", "", "/etc/passwd"):
            assert ask(server, f"{right}{SHEETS}/{name}")[0] == 404, name
        for host in ("example.org", "localhost", f"example.org:{server.server_address[1]}", ""):
            assert ask(server, right, host)[0] == 404, host
        assert ask(server, right, method="POST")[0] == 501
        assert server.server_address[0] == "127.0.0.1"


def ask(server: Server, path: str, host: str | None = None, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", server.host if host is None else host)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_export_is_one_file_or_sheets_beside_it(described, tmp_path, monkeypatch):
    files = export(*described, tmp_path / "site")
    assert list(files) == ["index.html"] and files["index.html"] == (tmp_path / "site/index.html").stat().st_size
    before = (tmp_path / "site/index.html").read_bytes()
    assert export(*described, tmp_path / "site") == files and (tmp_path / "site/index.html").read_bytes() == before
    monkeypatch.setattr("distillkit.look.page.few_enough", lambda sheets: False)
    files = export(*described, tmp_path / "site")
    assert set(files) == {"index.html", *(f"sheets/{name}-0.webp" for name in ("set", "source", "step-5", "step-10"))}
    text = (tmp_path / "site/index.html").read_text()
    assert (
        data_in(text)["galleries"]["set"]["sheets"] == ["sheets/set-0.webp"] and "img-src &#39;self&#39; data:;" in text
    )
    (tmp_path / "site/notes.txt").touch()
    with pytest.raises(ParamsError, match="has files that are no part of a page"):
        export(*described, tmp_path / "site")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/index.html").write_text("<html>my page")
    with pytest.raises(ParamsError, match="has files that are no part of a page"):
        export(*described, tmp_path / "own")
    assert (tmp_path / "own/index.html").read_text() == "<html>my page"


def test_no_more_is_drawn_than_it_takes_to_know_that_it_is_too_much():
    drawn = []
    sheets = {str(number): lambda number=number: drawn.append(number) or b"12345" for number in range(10)}
    assert not few_enough(sheets, most=12) and drawn == [0, 1, 2]
    assert few_enough(sheets, most=50)


def test_the_command(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "pipeline")
    monkeypatch.chdir(tmp_path / "pipeline")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    found = CliRunner().invoke(cli, ["look", "random-ipc4", "--json"], catch_exceptions=False)
    assert json.loads(found.stdout)["page"] == ".distillkit/look/random-ipc4.html"
    assert opened == [Path(".distillkit/look/random-ipc4.html").resolve().as_uri()]
    found = CliRunner().invoke(cli, ["look", ".", "--against", "random-ipc4", "--no-open"], catch_exceptions=False)
    assert found.stdout.startswith(".distillkit/look/mixed-ipc4.html: 1 file, ") and len(opened) == 1
    with pytest.raises(
        ParamsError, match=r"^'nope' has no set in artifacts/distilled; expected one of mixed-ipc4, random-"
    ):
        CliRunner().invoke(cli, ["look", "nope"], catch_exceptions=False)


def test_a_pipeline_that_has_not_run(folder, tmp_path, monkeypatch):
    """What to run is said, from wherever; a recipe that params.yaml does not have is told apart."""
    shutil.copyfile(folder / "params.yaml", tmp_path / "params.yaml")
    (tmp_path / "dvc.yaml").write_text("stages: {package: {cmd: x, outs: [artifacts/hub/]}}\n")
    with pytest.raises(ParamsError, match=rf"^'mixed-ipc4' has no set in .*; run dvc repro {tmp_path}/dvc.yaml first$"):
        open_subject(str(tmp_path), None)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # without the folder of sets, and with an empty one
        for given in ([], ["."], ["full"], [".", "full"]):
            ended = CliRunner().invoke(cli, ["look", *given, "--no-open"])
            recipe = "full" if "full" in given else "mixed-ipc4"
            assert str(ended.exception) == f"{recipe!r} has no set in artifacts/distilled; run dvc repro first"
        (tmp_path / "artifacts/distilled").mkdir(parents=True, exist_ok=True)
    with pytest.raises(ParamsError, match=r"'nope' has no set in .*; expected one of full, random-ipc4, mixed-ipc4; "):
        open_subject(".", "nope")
    for given in (["artifacts/distilled/full.safetensors"], [".", "--against", "artifacts/distilled/full.safetensors"]):
        ended = CliRunner().invoke(cli, ["look", *given])
        assert str(ended.exception).startswith("artifacts/distilled/full.safetensors does not exist; ")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("10,1,3", "beyond the 10"),
        ("1,-1,3", "beyond the 10"),
        ("1,2,-3", "beyond the 10"),
        ("x,1,1", "is no table of"),
    ],
)
def test_a_confusion_table_that_is_none(folder, tmp_path, line, message):
    shutil.copytree(folder, tmp_path / "pipeline")
    (tmp_path / "pipeline/artifacts/confusion/mixed-ipc4.csv").write_text(f"label,taken,count\n{line}\n")
    with pytest.raises(ArtifactError, match=message):
        open_subject(str(tmp_path / "pipeline"), None)
