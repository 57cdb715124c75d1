"""The pages in a real browser: what is counted, drawn, linked to, reached by keyboard, and asked of others."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from look_sets import HOSTILE, mixed_set, real_data, with_names, write_pipeline
from packages import EVALUATION

from distillkit.data.files.artifact import load_synthetic
from distillkit.look.description import describe
from distillkit.look.opening import open_subject
from distillkit.look.page import export, page, sheets_of
from distillkit.look.server import serving
from distillkit.report.page import write_report
from distillkit.report.results import Row
from distillkit.report.vector import series

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver"
)
webdriver = pytest.importorskip("selenium.webdriver", reason="no Selenium: pip install selenium")
support = pytest.importorskip("selenium.webdriver.support.ui")
WebDriverWait = support.WebDriverWait
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1200")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for option in OPTIONS:
        options.add_argument(option)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def quiet(browser) -> Iterator[Any]:
    """The browser, in which nothing may have been said and nobody asked but the page's own place."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    yield browser
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"]["request"]["url"] for one in asked if one["method"] == "Network.requestWillBeSent"]
    assert sent and not [url for url in sent if not url.startswith(("file:", "data:", "about:", "http://127.0.0.1:"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits) -> Path:
    real = real_data(digits)
    return write_pipeline(tmp_path_factory.mktemp("pipeline"), real, mixed_set(real))


@pytest.fixture(scope="module")
def site(folder) -> str:
    """The address of the page of that pipeline, one file, set against random images."""
    both = [open_subject(str(folder), recipe) for recipe in (None, "random-ipc4")]
    export(*describe(*both), folder / "site")
    return (folder / "site/index.html").as_uri()


def count(browser) -> str:
    return browser.find_element("id", "count").text


def until(met: Callable[[], Any]) -> None:
    WebDriverWait(None, 10).until(lambda _: met())


def cells(browser) -> int:
    return len(browser.find_elements("css selector", ".cell"))


def settle(browser) -> None:
    """Wait until the page knows what is near the window, two frames later."""
    browser.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));")


def filled(browser, number: int) -> None:
    """Wait until so many images are in the grid: the page fills it, near the window, as it finds time."""
    browser.execute_script("grid.scrollIntoView()")
    until(lambda: cells(browser) >= number)


def open_image(browser, place: int) -> None:
    filled(browser, place + 1)
    browser.find_elements("css selector", ".cell")[place].click()


def map_of(browser) -> Any:
    """The map, in the middle of the window and drawn."""
    board = browser.find_element("css selector", "#map canvas")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", board)
    until(lambda: browser.execute_script("return mapIsNear && Boolean(measured)"))
    return board


def follow(browser, link: str) -> None:
    """Click a link to a state of the page, and wait until the page has taken it over, which is after the click."""
    listen = "followed = false; addEventListener('hashchange', () => { followed = true; }, { once: true });"
    browser.execute_script(listen)
    browser.find_element("css selector", link).click()
    until(lambda: browser.execute_script("return followed"))


def set_field(browser, name: str, value: str) -> None:
    """As a person would."""
    script = "const f=document.forms[0].elements[arguments[0]]; if(f.type==='checkbox') f.checked=!!arguments[1]; "
    script += "else f.value=arguments[1]; f.dispatchEvent(new Event('input',{bubbles:true}))"
    browser.execute_script(script, name, value)


FILTERS = [
    ({"class": "3"}, 4),
    ({"kind": "learned"}, 20),
    ({"kind": "real", "class": "3"}, 2),
    ({"moved": "0.0001"}, 20),
    ({"movedTo": "0"}, 20),
    ({"distanceTo": "0"}, 20),
    ({"harder": "0", "harderTo": "15"}, None),
    ({"harderTo": "5"}, 0),
    ({"differs": "changed"}, 10),
    ({"differs": "same"}, 20),
    ({"sort": "moved", "down": "yes", "together": "yes"}, 40),
]


@pytest.mark.parametrize(("filters", "left"), FILTERS)
def test_counts_after_each_filter_and_from_a_link(quiet, site, filters, left):
    quiet.get(site)
    assert count(quiet) == "40 of 40 images"
    for name, value in filters.items():
        set_field(quiet, name, value)
    if left is None:
        data = quiet.execute_script("return data.images.harder")
        left = sum(value <= 15 for value in data)
        assert 0 < left < 40
    filled(quiet, left)
    assert count(quiet) == f"{left} of 40 images" and cells(quiet) == left
    link = quiet.current_url
    quiet.get("about:blank")
    quiet.get(link)
    assert count(quiet) == f"{left} of 40 images"
    for name, value in filters.items():
        field = quiet.find_element("css selector", f"#filters [name={name}]")
        assert field.is_selected() if value == "yes" else field.get_attribute("value") == value
    quiet.find_element("css selector", "[type=reset]").click()
    assert count(quiet) == "40 of 40 images" and "#" not in quiet.current_url


def drawn(browser, selector: str) -> list[list[list[int]]]:
    """The first channel of all canvases, read from the screen's own memory."""
    script = """
    const [selector, done] = arguments;
    const all = [...document.querySelectorAll(selector)];
    Promise.all(all.map((one) => one.drawn)).then(() => done(all.map((one) => {
      const { data } = one.getContext("2d").getImageData(0, 0, one.width, one.height);
      return [...data].filter((_, at) => at % 4 === 0);
    })));"""
    return browser.execute_async_script(script, selector)


def levels(image: torch.Tensor) -> list[int]:
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)[0].flatten().tolist()


def test_pixels_on_the_screen_are_those_of_the_artifact(quiet, site, folder):
    quiet.get(site)
    synthetic, _ = load_synthetic(folder / "artifacts/distilled/mixed-ipc4.safetensors")
    rows = quiet.execute_script("return order.map((image) => data.images.row[image])")
    filled(quiet, 40)
    assert drawn(quiet, ".cell canvas") == [levels(synthetic.image(row)) for row in rows]


def described_rows(browser, *images: int) -> list[int]:
    return browser.execute_script("return arguments[0].map((image) => data.images.row[image])", images)


def signed(image: list[int], other: list[int]) -> list[int]:
    """The picture of a difference: grey where there is none."""
    return [min(255, max(0, 128 + 2 * (a - b))) for a, b in zip(image, other, strict=True)]


def test_the_panel_shows_beginning_end_and_difference(quiet, site, folder):
    quiet.get(f"{site}#kind=learned")
    subject = open_subject(str(folder), None)
    open_image(quiet, 0)
    row = int(quiet.find_element("id", "panel-title").text.split()[1].rstrip(","))
    begun = levels(subject.real.train.pixels(slice(int(subject.synthetic.source_row[row]), None))[0])
    became = levels(subject.synthetic.image(row))
    found = drawn(quiet, "#panel-pictures canvas")
    assert found[0] == begun and found[1] == became
    assert found[2] == signed(became, begun) and max(found[2]) > 128
    script = """const done = arguments[0], made = difference(["set", 0], ["set", 39]);
    made.id = "made"; document.body.append(made); made.drawn.then(done);"""
    quiet.execute_async_script(script)
    (apart,) = drawn(quiet, "#made")
    assert apart == signed(*(levels(subject.synthetic.image(row)) for row in described_rows(quiet, 0, 39)))
    assert {0, 128, 255} <= set(apart), "of two classes: as far as it goes, both ways"
    captions = [one.text for one in quiet.find_elements("css selector", "#panel-pictures figcaption")]
    assert (
        captions[0] == f"began as training image {int(subject.synthetic.source_row[row])}" and captions[1] == "became"
    )
    moved = quiet.execute_script("return [data.images.moved[current], data.images.distance[current]]")
    assert captions[2].startswith(f"moved by {moved[0]:.3f}; grey: no difference; lighter: this image is")
    assert captions[3].startswith("nearest training image, ") and captions[3].endswith(f", at {moved[1]:.3f}")
    facts = quiet.find_element("id", "panel-facts").text
    assert "kind learned" in facts and "difficulty harder than" in facts and "to the nearest training image" in facts
    assert f"image={row}" in quiet.current_url


def test_snapshots_and_the_loss_beside_them(quiet, site, folder):
    """The set itself, then step 10, then step 5, whose pictures are half and a quarter as bright."""
    quiet.get(f"{site}#kind=learned")
    open_image(quiet, 0)
    became = drawn(quiet, "#panel-set canvas")[0]
    slider = quiet.find_element("id", "snapshot")
    slider.send_keys(webdriver.Keys.ARROW_LEFT)
    assert drawn(quiet, "#panel-set canvas")[0] == [value // 2 for value in became]
    assert quiet.find_element("id", "snapshot-words").text == "after step 10, loss 0.100"
    slider.send_keys(webdriver.Keys.ARROW_LEFT)
    assert drawn(quiet, "#panel-set canvas")[0] == [value // 4 for value in became]
    assert quiet.find_element("css selector", "#loss line").get_attribute("x1") == "150"
    quiet.find_element("id", "close").click()
    quiet.get("about:blank")
    quiet.get(f"{site}#kind=real&image=0")
    assert quiet.find_element("id", "panel").is_displayed()
    assert not quiet.find_element("id", "panel-snapshots").is_displayed()


def press(browser, key: str) -> None:
    browser.switch_to.active_element.send_keys(getattr(webdriver.Keys, key))


def test_answers_lead_to_what_they_speak_of(quiet, site):
    quiet.get(site)
    shown = [one.get_attribute("href").split("#")[1] for one in quiet.find_elements("css selector", ".answers a")]
    assert [state for state in shown if state.startswith("class=")] == ["class=1"] * 2 and "kind=real" in shown
    assert "coverage" in shown and quiet.find_element("id", "coverage").is_displayed()
    follow(quiet, ".answers a[href='#class=1']")
    assert count(quiet) == "4 of 40 images" and quiet.switch_to.active_element.text == "Images"
    follow(quiet, ".answers a[href*='distanceTo=']")
    limit = quiet.execute_script("return [Number(state.distanceTo), data.images.learned, data.images.distance]")
    near = sum(bool(learned) and distance <= limit[0] for learned, distance in zip(*limit[1:], strict=True))
    assert limit[0] > 0 and count(quiet) == f"{near} of 40 images"
    follow(quiet, ".answers a[href*='image=']")
    assert count(quiet) == "20 of 40 images"
    moved = quiet.execute_script("return data.images.moved")
    assert quiet.execute_script("return current") == moved.index(max(moved))


def test_what_is_chosen_far_below_leads_to_the_images(quiet, site):
    """A tenth, whose images are those that the table counts, and a class: seen, and where the keyboard goes on."""
    quiet.get(site)
    for tenth in range(10):
        expected = quiet.execute_script(
            "return data.tenths[arguments[0]].learned + data.tenths[arguments[0]].real", tenth
        )
        quiet.find_elements("css selector", "#tenths th button")[tenth].click()
        assert count(quiet) == f"{expected} of 40 images"
        assert quiet.switch_to.active_element.get_attribute("id") == "images-title"
    quiet.find_element("css selector", "[data-class='3'] button").click()
    assert count(quiet) == "4 of 40 images"
    press(quiet, "TAB")
    assert quiet.switch_to.active_element.tag_name == "summary"
    top = quiet.execute_script("return document.getElementById('images').getBoundingClientRect().top")
    assert abs(top) < 2


def test_by_keyboard_alone(quiet, site):
    quiet.get(f"{site}#class=2")
    filled(quiet, 4)
    quiet.execute_script("document.querySelector('.cell').focus()")
    press(quiet, "ARROW_RIGHT")
    press(quiet, "ENTER")
    assert quiet.find_element("id", "panel").is_displayed()
    first = quiet.find_element("id", "panel-title").text
    press(quiet, "ARROW_RIGHT")
    second = quiet.find_element("id", "panel-title").text
    assert first != second
    press(quiet, "ARROW_LEFT")
    assert quiet.find_element("id", "panel-title").text == first
    for _ in range(9):
        press(quiet, "ARROW_RIGHT")
    assert not quiet.find_element("id", "next").is_enabled()
    press(quiet, "ESCAPE")
    until(lambda: "image=" not in quiet.current_url)
    assert not quiet.find_element("id", "panel").is_displayed()
    assert quiet.switch_to.active_element.get_attribute("class").startswith("cell")
    press(quiet, "HOME")
    assert quiet.switch_to.active_element.get_attribute("data-place") == "0"


def test_a_region_of_the_map_by_keyboard_and_by_hand(quiet, site):
    quiet.get(site)
    board = map_of(quiet)
    board.send_keys(webdriver.Keys.ARROW_RIGHT)
    chosen = quiet.execute_script("return [state.region, order.length]")
    left, right, bottom, top = map(float, chosen[0].split(","))
    x, y = quiet.execute_script("return [data.map.x, data.map.y]")
    inside = sum(left <= a <= right and bottom <= b <= top for a, b in zip(x, y, strict=True))
    assert chosen[1] == inside and 0 < inside < 40 and count(quiet) == f"{inside} of 40 images"
    see = quiet.find_element("id", "map-see")
    assert see.text == f"See the images ({inside})"
    see.click()
    assert quiet.switch_to.active_element.text == "Images"
    board.send_keys(webdriver.Keys.ESCAPE)
    assert count(quiet) == "40 of 40 images"
    chain = webdriver.ActionChains(quiet).move_to_element_with_offset(board, -400, -200).click_and_hold()
    chain.move_by_offset(800, 400).release().perform()
    assert "region=" in quiet.current_url and int(count(quiet).split()[0]) > inside


def test_the_map_shows_classes(quiet, site):
    """By a sign, which the legend explains, and by colour; what is chosen stays in the address."""
    quiet.get(f"{site}#class=3")
    map_of(quiet)
    legend, words = (quiet.find_element("id", name) for name in ("map-legend", "map-words"))
    assert legend.text == "" and "Small blue dots" in words.text
    support.Select(quiet.find_element("id", "map-signs")).select_by_visible_text("classes")
    assert legend.text == "3" and "Every sign is a class" in words.text and "signs=class" in quiet.current_url
    edge = """const image = order.at(-1), x = view().toX(data.map.x[image]), y = view().toY(data.map.y[image]);
    const dot = element("canvas").getContext("2d");
    dot.fillStyle = colour(`--class-${images.label[image]}`);
    dot.fillRect(0, 0, 1, 1);
    const left = Math.round(x - (images.learned[image] ? 8 : 7.2) * view().dense);
    const found = [[board.getContext("2d"), left, Math.round(y)], [dot, 0, 0]];
    return found.map(([pen, a, b]) => [...pen.getImageData(a, b, 1, 1).data]);"""
    drawn_edge, expected = quiet.execute_script(edge)
    assert max(abs(a - b) for a, b in zip(drawn_edge, expected, strict=True)) < 60 and expected[3] == 255
    quiet.find_element("css selector", "[type=reset]").click()
    assert legend.text == "" and "signs" not in quiet.current_url
    quiet.get("about:blank")
    quiet.get(f"{site}#signs=class")
    quiet.find_element("id", "map").click()
    until(lambda: quiet.find_element("id", "map-legend").text.split() == [*"0123456789"])
    made = "return [['a', 'bb'], ['cat', 'dog'], [...Array(27)].map((_, k) => `name ${k}`)].map(codesOf)"
    short, letters, numbers = quiet.execute_script(made)
    assert (short, letters, numbers[-1]) == (["a", "bb"], ["A", "B"], "27")


def test_a_point_of_the_map_opens_its_image(quiet, site):
    quiet.get(f"{site}#kind=learned")
    board = map_of(quiet)
    script = """const image = order[7], { width, height } = board.getBoundingClientRect();
    const [x, y] = [view().toX(data.map.x[image]), view().toY(data.map.y[image])];
    return [image, x / view().dense - width / 2, y / view().dense - height / 2];"""
    image, x, y = quiet.execute_script(script)
    webdriver.ActionChains(quiet).move_to_element_with_offset(board, round(x), round(y)).click().perform()
    assert quiet.find_element("id", "panel").is_displayed() and quiet.execute_script("return current") == image
    assert board.get_attribute("title") == quiet.execute_script("return words(current)")
    corner = quiet.find_element("tag name", "html")
    left, top = (5 - corner.rect["width"] // 2, 5 - quiet.execute_script("return innerHeight") // 2)
    webdriver.ActionChains(quiet).move_to_element_with_offset(corner, left, top).click().perform()
    until(lambda: "image=" not in quiet.current_url)
    assert quiet.switch_to.active_element == board


def test_tables_sort(quiet, site):
    quiet.get(site)
    heading = quiet.find_elements("css selector", "#class-table thead button")[1]
    heading.click()
    cells = [row.text.split() for row in quiet.find_elements("css selector", "#class-table tbody tr")]
    assert cells[0][0] == "1" and cells[0][1] == "70.00"
    assert quiet.find_elements("css selector", "#class-table th")[1].get_attribute("aria-sort") == "ascending"
    heading.click()
    assert quiet.find_elements("css selector", "#class-table tbody tr")[-1].text.split()[0] == "1"
    pairs = [row.text for row in quiet.find_elements("css selector", "#pair-table tbody tr")]
    assert pairs == ["1 2 30.00 3", "3 0 10.00 1"]


def test_what_only_the_other_set_has_is_as_large_as_the_rest(quiet, site):
    quiet.get(site)
    filled(quiet, 40)
    own = [quiet.find_element("css selector", f"{where} canvas").rect for where in ("#grid .real", "#removed")]
    assert len(quiet.find_elements("css selector", "#removed canvas")) == 10
    assert own[1]["width"] >= own[0]["width"] > 40


def resized(browser, width: int) -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


# What a finger cannot hit: less than 44 pixels high, or wide. A box to tick is hit by its label, a link in a text by
# the line.
SMALL = """return [...document.querySelectorAll("button,select,input,summary,nav a,#filters label")].filter((one) => {
  const { width, height } = one.getBoundingClientRect();
  return one.checkVisibility() && !one.matches("[type=checkbox]") && (width < 43.9 || height < 43.9);
}).map((one) => one.outerHTML.slice(0, 100))"""


def test_at_the_width_of_a_phone(quiet, site):
    resized(quiet, 360)
    try:
        quiet.get(site)
        wide = "return [document.documentElement.scrollWidth, innerWidth]"
        assert quiet.execute_script(wide) == [360, 360]
        assert not quiet.find_element("id", "filters").is_displayed(), "the pictures come first"
        quiet.find_element("css selector", "#choices summary").click()
        assert quiet.execute_script(SMALL) == []
        open_image(quiet, 3)
        box = quiet.find_element("id", "panel").rect
        assert box["width"] <= 360 and quiet.execute_script(wide)[0] == 360
        assert quiet.execute_script(SMALL) == []
    finally:
        quiet.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


CONTRAST = """
const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((v) => { v /= 255;
  return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const paper = (one) => { for (; one; one = one.parentElement) { const c = getComputedStyle(one).backgroundColor;
  if (!/, 0\\)$/.test(c)) return c; } return "rgb(255,255,255)"; };
const found = [];
for (const one of document.querySelectorAll("h1,h2,h3,p,a,td,th,label,legend,figcaption,span,output,main button")) {
  if (!one.checkVisibility() || !one.textContent.trim()) continue;
  const [a, b] = [light(getComputedStyle(one).color), light(paper(one))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) found.push(one.outerHTML.slice(0, 80));
}
return found;"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(quiet, site, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        quiet.get(site)
        paper = quiet.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        assert quiet.execute_script(CONTRAST) == []
    finally:
        quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_everything_has_a_name(quiet, site):
    quiet.get(f"{site}#image=2")
    script = """return [...document.querySelectorAll("button,input,select,canvas,svg,img")].filter((one) =>
      one.checkVisibility() && !one.closest(".cell > *") && !(one.getAttribute("aria-label") || one.textContent.trim()
      || one.labels?.length || one.closest("label"))).map((one) => one.outerHTML)"""
    assert quiet.execute_script(script) == []


def test_hostile_names_stay_text(quiet, tmp_path, digits):
    real = with_names(real_data(digits), HOSTILE)
    root = write_pipeline(tmp_path, real, mixed_set(real))
    described, galleries = describe(open_subject(str(root), None), open_subject(str(root), "random-ipc4"))
    described = {**described, "title": HOSTILE[1], "tab": f"{HOSTILE[1]}: 40 images"}
    export(described, galleries, tmp_path / "site")
    quiet.get(f"{(tmp_path / 'site/index.html').as_uri()}#image=0&class=%3Cb%3E")
    quiet.get("about:blank")
    quiet.get(f"{(tmp_path / 'site/index.html').as_uri()}#image=0")
    assert quiet.title == f"{HOSTILE[1]}: 40 images" and quiet.find_element("css selector", "h1").text == HOSTILE[1]
    assert quiet.execute_script("return document.images.length + document.scripts.length") == 2 + len(galleries)
    shown = quiet.find_element("css selector", ".group h3").get_attribute("textContent")
    assert shown == f"{HOSTILE[0]} (4)"


def test_a_large_set_is_served_and_loads_what_is_scrolled_to(quiet, folder, monkeypatch):
    """The same page from the server, with a sheet for each class: those far below are asked for when they come near."""
    monkeypatch.setattr("distillkit.look.sheets.MOST", 4)
    described, galleries = describe(open_subject(str(folder), None))
    sheets, asked = sheets_of(galleries), []

    def counted(name: str) -> Any:
        return lambda: asked.append(name) or sheets[name]()

    html = page(described, galleries, sheets, alone=False)
    with serving(html, {name: counted(name) for name in sheets}) as server:
        quiet.get(f"{server.address}#size=192")
        synthetic, _ = load_synthetic(folder / "artifacts/distilled/mixed-ipc4.safetensors")
        rows = quiet.execute_script("return order.map((image) => data.images.row[image])")
        until(lambda: cells(quiet) >= 4)
        first = drawn(quiet, ".group:first-child .cell canvas")
        assert first == [levels(synthetic.image(row)) for row in rows[:4]]
        assert 0 < len(asked) < 10 and "set-9.webp" not in asked
        quiet.execute_script("grid.lastChild.scrollIntoView()")
        until(lambda: "set-9.webp" in asked)
        last = drawn(quiet, ".group:last-child .cell canvas")
        assert last == [levels(synthetic.image(row)) for row in rows[-4:]]


def test_on_paper(quiet, site):
    """Printing draws every image, leaves the controls out and is light whatever the screen is."""
    quiet.get(site)
    settle(quiet)
    quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        quiet.execute_script("window.dispatchEvent(new Event('beforeprint'))")
        assert cells(quiet) == 40
        drawn_map = (
            "return board.getContext('2d').getImageData(0, 0, board.width, board.height).data.some((one) => one)"
        )
        assert quiet.execute_script(drawn_map), "however far it was from the window"
        assert not quiet.find_element("id", "filters").is_displayed()
        assert quiet.find_element("id", "class-table").is_displayed()
        assert quiet.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"].startswith("JVBERi")
    finally:
        quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_without_javascript_the_tables_stay(quiet, site):
    quiet.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        quiet.get(site)
        assert len(quiet.find_elements("css selector", "#class-table tbody tr")) == 10
        assert "need JavaScript" in quiet.find_element("css selector", "noscript p").text
    finally:
        quiet.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


# The report


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    """The address of a report of two recipes, one with a name that means to be markup."""
    folder = tmp_path_factory.mktemp("report")
    found = [
        Row(name, method, 5, 50, 50, 0, accuracy, 0.01, 5, 1.0, 0.95, accuracy - 0.1)
        for name, method, accuracy in (("random-ipc5", "random", 0.9), (HOSTILE[0], "mtt", 0.7), ("full", "full", 0.95))
    ]
    write_report(
        folder,
        rows=found,
        evaluation=asdict(EVALUATION),
        source={"id": HOSTILE[1], "licence": "CC0-1.0"},
        loss_curves={HOSTILE[0]: [(1, 1.0), (2, 0.5)]},
        training_curves={row.recipe: [(1, 0.5), (20, row.accuracy)] for row in found},
        previews={},
        scans={},
    )
    return (folder / "report.html").as_uri()


def visible(browser, recipe: str) -> set[str | None]:
    """The visibilities of what belongs to a recipe in the plots."""
    script = (
        "return [...document.querySelectorAll('svg .' + arguments[0])].map((one) => getComputedStyle(one).visibility)"
    )
    return set(browser.execute_script(script, series(recipe)))


def test_the_report_switches_recipes_and_sorts(quiet, report):
    quiet.get(report)
    box = quiet.find_element("css selector", f"input[data-series={series(HOSTILE[0])}]")
    assert visible(quiet, HOSTILE[0]) == visible(quiet, "random-ipc5") == {"visible"}
    box.click()
    assert visible(quiet, HOSTILE[0]) == {"hidden"} and visible(quiet, "random-ipc5") == {"visible"}
    box.click()
    assert visible(quiet, HOSTILE[0]) == {"visible"}
    titles = [one.get_attribute("textContent") for one in quiet.find_elements("css selector", ".hit title")]
    assert "random-ipc5: 90.00 ± 1.00 (n = 5)" in titles
    assert f"{HOSTILE[0]}, outer step 2: 0.5" in titles
    heading = quiet.find_elements("css selector", "table.sorts thead button")[4]
    heading.click()
    first = quiet.find_elements("css selector", "table.sorts tbody tr td")[0]
    assert first.text == HOSTILE[0] and quiet.title == "Distillation report"


def test_a_value_lies_on_its_point(quiet, report):
    """The place that shows a value covers the marker that Matplotlib drew for it, to less than two pixels."""
    quiet.get(report)
    script = """const middle = (one) => {
      const { x, y, width, height } = one.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    };
    const plot = document.querySelector(".plot svg"), name = arguments[0];
    const marks = [...plot.querySelectorAll(`.${name} use`)].map(middle);
    return [middle(plot.querySelector(`.${name} .hit`)), marks];"""
    (x, y), marks = quiet.execute_script(script, series("random-ipc5"))
    assert min(abs(x - left) + abs(y - top) for left, top in marks) < 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_of_the_report(quiet, report, scheme):
    quiet.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        quiet.get(report)
        assert quiet.execute_script(CONTRAST) == []
    finally:
        quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_the_report_on_a_phone_on_paper_and_without_javascript(quiet, report):
    resized(quiet, 360)
    try:
        quiet.get(report)
        assert quiet.execute_script("return document.documentElement.scrollWidth") == 360
        labels = quiet.find_elements("css selector", ".switches label")
        assert labels and min(one.rect["height"] for one in labels) >= 44
    finally:
        quiet.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    quiet.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        quiet.get(report)
        assert not quiet.find_element("css selector", ".switches").is_displayed()
        assert len(quiet.find_elements("css selector", "table.sorts tbody tr")) == 3
        assert all(one.is_displayed() for one in quiet.find_elements("css selector", ".plot > svg"))
    finally:
        quiet.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
        quiet.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
