"""Tests the page in Chromium: how it looks, that axe finds nothing in it, and what its buttons do by keyboard.

It needs a Chromium, which no Python package brings, and is skipped without one.
"""

import io
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from tests import run_results
from tests.pictures import STREAM, over_classes
from tests.served import serving
from ucl_jax.results import drawing, page
from ucl_jax.results.load import load_results
from ucl_jax.results.schema import RunResult

needed = "needs Playwright and axe: pip install '.[test]'"
playwright = pytest.importorskip("playwright.sync_api", reason=needed)
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=needed)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
DEMO = pathlib.Path(__file__).parents[2] / "benchmarks/results/demo-digits"
ENTRIES = [{"step": step, "task": step // 5, "loss": -step / 8} for step in range(1, 9)]


def png(colour):
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), colour).save(buffer, "png")
    return buffer.getvalue()


def several():
    """Returns three seeds of each of three methods, as they were measured."""
    names = [f"{recipe}-barlow_twins-seed{seed}" for recipe in ("lump", "finetune", "multitask") for seed in range(3)]
    return [page.Source(load_results(DEMO / f"{name}.json"), [], {}, name) for name in names]


def stream():
    run = over_classes(stream=STREAM)
    return [page.Source(run, ENTRIES, {1: png((200, 0, 0)), 3: png((0, 200, 0))}, "runs/a")]


def unlabelled():
    row = {"spread": 0.5, "effective_rank": 12.0, "rankme": 10.0, "alignment": 0.25, "uniformity": -1.5}
    measured = {"rows": [row, row | {"spread": 0.75, "cka": [0.875]}], "random_init": row}
    more = {"probes": {}, "representation": measured, "classes": [[0], [1]]}
    run = RunResult.from_json(run_results.as_json(benchmark="folder") | more)
    return [page.Source(run, ENTRIES, {}, "runs/folder")]


UNFINISHED = run_results.result("lump", [[90.0, None]], finished=False)
PAGES = {
    "one": lambda: page.build(several()[:1], "max"),
    "several": lambda: page.build(several(), "max"),
    "stream": lambda: page.build(stream(), "max"),
    "unlabelled": lambda: page.build(unlabelled(), "max"),
    "unfinished": lambda: page.build([page.Source(UNFINISHED, ENTRIES, {}, "runs/b")], "max"),
    "empty": lambda: page.build([], "max", stamp="7", begun=["runs/a"]),
}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name, make in PAGES.items():
        (folder / f"{name}.html").write_text(make(), encoding="utf-8")
    return folder


@pytest.fixture
def opened(browser, files):
    """Gives a function (name of a page, settings of the window) -> the page in the browser."""
    contexts, errors, asked = [], [], []

    def open_page(name, width=1440, scheme="light", **more):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more))
        shown = contexts[-1].new_page()
        shown.on("pageerror", lambda error: errors.append(error))
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto((files / f"{name}.html").as_uri())
        return shown

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert [address for address in asked if not address.startswith(("data:", files.as_uri()))] in (
        [],
        ["file:///stamp"],
    )


def test_axe_finds_nothing_at_any_width_by_day_or_by_night(opened):
    """Checks every page, and that none is wider than its window: wide tables scroll in boxes of their own."""
    for name in PAGES:
        for width in (360, 768, 1440):
            for scheme in ("light", "dark"):
                shown = opened(name, width, scheme)
                found = axe.Axe().run(shown).response["violations"]
                assert [(each["id"], each["impact"]) for each in found] == [], (name, width, scheme)
                assert shown.evaluate("document.documentElement.scrollWidth") == width, (name, width)
                pictures = shown.evaluate("[...document.images].map(e => [e.naturalWidth, e.clientWidth])")
                assert all(natural > 0 and seen > 200 for natural, seen in pictures)
                shown.close()


def colours(shown, selector):
    """Returns the pixels of an element, uint8 [N, 3].

    It is moved to the corner of the window: between two pixels, its thin lines would have mixed colours.
    """
    shown.locator(selector).first.evaluate("e => Object.assign(e.style, {position: 'fixed', left: 0, top: 0})")
    with Image.open(io.BytesIO(shown.locator(selector).first.screenshot())) as image:
        return np.asarray(image.convert("RGB")).reshape(-1, 3)


def share(pixels, colour):
    """Returns the per cent of pixels that nearly have a colour, given as "#rrggbb"."""
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return 100 * (np.abs(pixels.astype(int) - wanted).max(axis=1) < 12).mean()


@pytest.mark.parametrize(
    ("scheme", "paper", "ink"), [("light", "#ffffff", drawing.INK), ("dark", "#0f1318", page.DARK_INK)]
)
def test_drawn_pictures_have_the_colours_of_the_page(opened, scheme, paper, ink):
    shown = opened("several", scheme=scheme, device_scale_factor=3)
    pixels = colours(shown, "#s1 ~ .pictures img")
    assert share(pixels, paper) > 60
    assert share(pixels, ink) > 0.5
    assert share(pixels, drawing.COLOURS[0]) > 0.1
    other = {"light": page.DARK_INK, "dark": drawing.INK}[scheme]
    assert share(pixels, other) < 0.5 * share(pixels, ink)


def column(shown, name):
    rows = shown.locator("table.sortable").first.locator("tbody tr")
    place = int(shown.locator(f"th[data-column]:has-text('{name}')").first.get_attribute("data-column"))
    return [rows.nth(row).locator("th, td").nth(place).inner_text() for row in range(rows.count())]


def test_a_table_is_sorted_by_keyboard(opened):
    shown = opened("several")
    head = shown.locator("th[data-column]:has-text('forgetting')").first
    before = column(shown, "forgetting")
    assert head.get_attribute("aria-sort") is None
    head.locator("button").focus()
    shown.keyboard.press("Enter")
    known = sorted((text for text in before if text != "-"), key=lambda text: float(text.split("±")[0]))
    missing = [text for text in before if text == "-"]
    assert (len(known), len(missing)) == (2, 3)
    assert (column(shown, "forgetting"), head.get_attribute("aria-sort")) == ([*known[::-1], *missing], "descending")
    shown.keyboard.press("Space")
    assert (column(shown, "forgetting"), head.get_attribute("aria-sort")) == ([*known, *missing], "ascending")
    shown.locator("th[data-column]:has-text('recipe') button").first.press("Enter")
    assert column(shown, "recipe") == ["chance", "finetune", "lump", "multitask", "untrained network"]
    assert head.get_attribute("aria-sort") is None
    assert shown.locator("[aria-sort]").count() == 1


@pytest.mark.parametrize(("width", "least"), [(360, 600), (1440, 700)])
def test_a_picture_is_enlarged_by_keyboard_and_escape_closes_it(opened, width, least):
    shown = opened("several", width)
    figure = shown.locator("#s1 ~ .pictures figure").first
    small, button = figure.locator("img").bounding_box(), figure.locator("button")
    button.focus()
    shown.keyboard.press("Enter")
    dialog = shown.locator("dialog")
    assert dialog.is_visible()
    large = dialog.locator("img")
    assert large.bounding_box()["width"] > max(least, 1.5 * small["width"])
    assert large.get_attribute("alt") == figure.locator("img").get_attribute("alt")
    assert dialog.locator("p").inner_text() == figure.locator("figcaption span").first.inner_text()
    assert axe.Axe().run(shown).response["violations"] == []
    shown.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("button => button === document.activeElement")


def test_the_first_key_leads_past_the_contents(opened):
    shown = opened("several")
    shown.keyboard.press("Tab")
    link = shown.locator("a.skip")
    assert link.evaluate("link => link === document.activeElement")
    assert link.bounding_box()["y"] > 0
    shown.keyboard.press("Enter")
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.querySelector('main').contains(document.activeElement)")


@pytest.mark.parametrize(("width", "least"), [(360, 3), (1440, 0)])
def test_only_boxes_with_something_to_scroll_are_reached_by_the_keyboard(opened, width, least):
    shown = opened("several", width)
    shown.evaluate(
        "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )  # boxes are measured
    boxes = shown.evaluate(
        "[...document.querySelectorAll('.scroll')].map(e => [e.tabIndex, e.scrollWidth - e.clientWidth])"
    )
    assert [tab for tab, _ in boxes] == [0 if hidden > 0 else -1 for _, hidden in boxes]
    assert [tab for tab, _ in boxes].count(0) >= least


def test_without_javascript_all_is_there_and_no_button_promises_more(opened):
    shown = opened("several", java_script_enabled=False)
    assert shown.locator("tbody tr").count() > 20
    assert shown.locator("button").count() > 2
    assert not any(button.is_visible() for button in shown.locator("button").all())
    assert [shown.locator(".scroll").nth(0).get_attribute("tabindex")] == ["0"]


def test_a_served_page_loads_itself_again(browser, tmp_path):
    with serving(tmp_path) as address:
        shown = browser.new_page()
        shown.goto(address)
        assert shown.locator("h2").count() == 0
        (tmp_path / "one").mkdir()
        run_results.save(tmp_path / "one/results.json", "lump")
        shown.locator("h2").first.wait_for(timeout=60_000)
        assert "lump (simsiam)" in shown.locator("strong").first.inner_text()
        # What a reader did to the page is still so after it has loaded itself again.
        table = "table:has(caption:has-text('Summary'))"
        shown.locator(f"{table} th:has-text('recipe') button").dblclick()
        shown.locator("details").first.locator("summary").click()
        (tmp_path / "two").mkdir()
        run_results.save(tmp_path / "two/results.json", "finetune")
        shown.get_by_text("2 runs, 2 groups").wait_for(timeout=60_000)
        assert shown.locator(f"{table} tbody th").all_inner_texts() == [
            "untrained network",
            "lump",
            "finetune",
            "chance",
        ]
        assert shown.locator("[aria-sort]").count() == 1
        opened = shown.locator("details[open] summary").all_inner_texts()
        assert (len(opened), shown.locator("details").count()) == (1, 2)
        assert opened[0].startswith("lump")
        shown.close()


def test_the_name_of_a_row_stays_in_sight_on_a_phone(opened):
    shown = opened("several", 360)
    for selector in (".scroll:has(.sortable)", ".scroll:has(.heat)"):
        box = shown.locator(selector).first
        row = box.locator("tbody tr").first
        places = []
        for left in (0, 1000):
            box.evaluate("(box, left) => { box.scrollLeft = left; }", left)
            places.append([row.locator(cell).first.bounding_box()["x"] for cell in ("th", "td")])
        (name, first), (name_after, first_after) = places
        assert name_after <= name
        assert name_after >= box.bounding_box()["x"]
        assert first_after < first
        # It covers the cells that scroll below it.
        over = row.locator("th").evaluate("e => getComputedStyle(e).backgroundColor")
        assert over not in ("rgba(0, 0, 0, 0)", "transparent")
