"""The page in headless Chromium: a study dropped, its report as it is written, where a word looked, two users at once.

RADSCRIBE_CHROMIUM names the browser where `chromium` is not on the path. Playwright brings none: nothing is loaded.
"""

import json
import os
import re
import shutil
import time

import pytest
from PIL import Image

pytest.importorskip("gradio", reason="the page needs Gradio: pip install radscribe[demo]")
playwright = pytest.importorskip(
    "playwright.sync_api", reason="a browser is driven by playwright: pip install playwright"
)

from radscribe.training import app, drafts  # noqa: E402
from radscribe.training.generate import generate  # noqa: E402
from radscribe.training.page.explain_page import explain_to_files  # noqa: E402

CHROMIUM = os.environ.get("RADSCRIBE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no `chromium` on the path, and RADSCRIBE_CHROMIUM names none"),
]
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
PATIENCE = 60_000  # ms; the cores may be busy


@pytest.fixture(scope="module")
def models(talkers):
    return list(map(str, talkers))


@pytest.fixture(scope="module")
def page_url(models):
    patch = pytest.MonkeyPatch()
    listen = drafts._Listener.__call__

    def listen_slowly(self, *arguments, **more):  # so that a browser shows more than the last word
        time.sleep(0.15)
        return listen(self, *arguments, **more)

    patch.setattr(drafts._Listener, "__call__", listen_slowly)
    with app.run_page(models, "127.0.0.1") as page:
        yield page.local_url
    patch.undo()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield running
        running.close()


@pytest.fixture
def open_page(browser, page_url):
    """open_page(width=1280, ...): the page in a session of its own, which must ask nobody else for anything."""
    contexts, elsewhere = [], []

    def asked(request):
        if not request.url.startswith((page_url, "data:", "blob:", "about:")):
            elsewhere.append(request.url)

    def make(width=1280, height=800, **settings):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **settings))
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", asked)
        page.goto(page_url)
        page.wait_for_selector("#start")
        return page

    yield make
    for context in contexts:
        context.close()
    assert elsewhere == []


@pytest.fixture
def films(draw_film):
    return [draw_film("DOE^JOHN.png"), draw_film("lateral.png", 40, 48)]


def drop(page, *films):
    page.set_input_files("#drop input[type=file]", films)
    page.wait_for_function("n => document.querySelectorAll('.films img').length == n", arg=len(films))


def write(page, model=None):
    if model is not None:
        page.get_by_label(model, exact=True).check()
    page.click("#start")


def written(page):
    """The report in the viewer, once it is there."""
    return inside(page)["report"]


def inside(page):
    """What the viewer was given, once it is there."""
    page.wait_for_selector("iframe.viewer")
    return json.loads(page.frame_locator("iframe.viewer").locator("#data").text_content())


def test_two_views_are_written_of_word_by_word_and_end_in_generate_s_report(open_page, films, models):
    page = open_page()
    drop(page, *films)
    page.evaluate("""() => { window.seen = []; new MutationObserver(() => {
        const text = document.querySelector('#draft p')?.textContent;
        if (text && text !== window.seen.at(-1)) window.seen.push(text);
    }).observe(document.querySelector('#draft'), {subtree: true, childList: true, characterData: true}); }""")
    write(page)
    expected = generate(films, None, "test", None, models[0], None)[0]["report"]
    assert written(page) == expected
    seen = page.evaluate("window.seen")
    assert len(seen) > 3 and seen[-1] == expected
    assert [len(text) for text in seen[:-1]] == sorted(len(text) for text in seen[:-1])


def test_a_click_on_a_word_changes_what_is_painted_on_the_films(open_page, films):
    page = open_page()
    drop(page, *films)
    write(page)
    written(page)
    viewer = page.frame_locator("iframe.viewer")
    pictures = []
    for word in (0, 3):
        viewer.locator(".words button").nth(word).click()
        assert viewer.locator(".words button").nth(word).get_attribute("aria-pressed") == "true"
        pictures.append(viewer.locator("canvas").first.evaluate("canvas => canvas.toDataURL()"))
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize("content", [b"", b"no film", b"\x89PNG\r\n\x1a\n cut"])
def test_a_bad_file_is_answered_in_the_page_and_the_next_one_is_taken(open_page, films, tmp_path, content):
    page = open_page()
    (tmp_path / "<b>bad.png").write_bytes(content)
    page.set_input_files("#drop input[type=file]", str(tmp_path / "<b>bad.png"))
    line = page.wait_for_selector("#line [role=alert]").inner_text()
    assert line.startswith("Upload 1 ") and "bad.png" not in line and "/" not in line
    drop(page, films[0])


def test_two_users_at_once_get_their_own_reports(open_page, films, models):
    first, second = open_page(), open_page()
    drop(first, films[0])
    drop(second, films[1])
    names = [model.rpartition("/")[2] for model in models]
    write(first, names[0])
    write(second, names[1])
    for page, film, model in ((first, films[0], models[0]), (second, films[1], models[1])):
        assert written(page) == generate([film], None, "test", None, model, None)[0]["report"]
        size = inside(page)["views"][0]
        assert (size["width"], size["height"]) == Image.open(film).size


def test_writing_is_stopped_and_begun_again(open_page, films):
    page = open_page()
    drop(page, *films)
    write(page)
    page.wait_for_selector("#draft p")
    with page.expect_response("**/cancel"):
        page.click("#stop")
    page.wait_for_function("document.querySelector('#line').innerText.includes('Stopped')")
    assert page.locator("iframe.viewer").count() == 0
    write(page)
    assert written(page)


def test_all_is_reached_by_keyboard(open_page):
    page, reached = open_page(), []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText || document.activeElement.type"))
        if reached[-1] == "Phantom 1":
            page.keyboard.press("Enter")
        if reached[-1] == "Write the report":
            page.wait_for_selector(".films img")
            page.keyboard.press("Enter")
    assert {"Phantom 1", "Phantom 2", "New study", "radio", "Write the report", "Stop"} <= set(reached)
    assert written(page)
    page.frame_locator("iframe.viewer").locator(".words button").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.frame_locator("iframe.viewer").locator(".words [aria-pressed=true]").count() == 1


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_and_says_what_it_is_in_light_and_dark(open_page, width, scheme):
    page = open_page(width, color_scheme=scheme)
    claim = page.wait_for_selector(".claim")
    assert claim.inner_text() == app.CLAIM and claim.bounding_box()["y"] < 800
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    ground = re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (int(ground[0]) > 128) == (scheme == "light")


def test_what_is_written_of_one_study_does_not_arrive_beside_the_next(open_page, films):
    page = open_page()
    drop(page, *films)
    write(page)
    page.wait_for_selector("#draft p")
    page.get_by_role("button", name="Phantom 2").click()
    page.wait_for_function("!document.querySelector('#draft').innerText.trim()")
    time.sleep(2)  # as long as several words would take
    assert not page.locator("#draft").inner_text().strip() and page.locator("iframe.viewer").count() == 0
    write(page)
    assert [view["width"] for view in inside(page)["views"]] == [224, 224]


def test_the_viewer_is_as_dark_as_the_page_around_it_whatever_the_system_is(browser, page_url):
    page = browser.new_context(color_scheme="light").new_page()
    page.goto(page_url + "?__theme=dark")
    page.get_by_role("button", name="Phantom 1").click()
    page.wait_for_selector(".films img")
    write(page)
    page.frame_locator("iframe.viewer").locator("html.dark").wait_for()
    page.context.close()


@pytest.mark.parametrize(("width", "height"), [(320, 640), (360, 640), (667, 375), (1280, 800)])
def test_the_viewers_films_never_cover_all_of_the_report(browser, talkers, draw_film, tmp_path, width, height):
    """Its text is reached by mouse and keyboard on every screen."""
    films = [draw_film("a.png", 100, 120), draw_film("b.png", 100, 120)]
    target = tmp_path / "why.html"
    explain_to_files(films, str(talkers[0]), None, None, target)
    page = browser.new_context(viewport={"width": width, "height": height}).new_page()
    page.goto(target.as_uri())
    for part in (page.locator(".words button").first, page.locator(".whole").last, page.locator("#copy")):
        part.click(timeout=5000)
        box = part.bounding_box()
        middle = [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]
        assert part.evaluate("(it, [x, y]) => it.contains(document.elementFromPoint(x, y))", middle)
    page.context.close()
