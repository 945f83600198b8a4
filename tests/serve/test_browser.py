"""The chat page in a real browser with nothing but the server to reach: `make slow`, where there is a browser."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: python -m pip install playwright")

HERE, SRC = Path(__file__).parent, Path(__file__).parents[2] / "src"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="needs chromium or chrome")]
IDLE = ".composer:not(.busy)"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("pages")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SRC), str(HERE)])}
    argv = [sys.executable, str(HERE / "pages_process.py"), str(folder)]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.terminate()


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


class Tab:
    """A page that reaches the server alone; what else it asks for and what it complains about is noted."""

    def __init__(self, browser: "playwright.Browser", url: str, **how: object) -> None:
        self.page = browser.new_context(**{"locale": "en-US", **how}).new_page()
        self.page.set_default_timeout(60_000)
        self.asked_elsewhere: list[str] = []
        self.errors: list[str] = []

        def route(route: "playwright.Route") -> None:
            if route.request.url.startswith(url):
                route.continue_()
            else:
                self.asked_elsewhere.append(route.request.url)
                route.abort()

        self.page.route("**/*", route)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"{url}/")
        self.page.wait_for_selector(".pick")

    def say(self, text: str) -> None:
        count = self.page.locator(".turn").count()
        self.page.fill(".composer-text", text)
        self.page.press(".composer-text", "Enter")
        self.page.wait_for_function("n => document.querySelectorAll('.turn').length > n", arg=count)

    def wait(self) -> None:
        self.page.wait_for_selector(".answer:last-child .figures")
        self.page.wait_for_selector(IDLE)


def test_a_conversation_from_the_first_question_to_the_reloaded_page(browser: "playwright.Browser", url: str) -> None:
    tab = Tab(browser, url)
    page = tab.page
    assert page.url.endswith("/ui/") and "What shall we think about?" in page.inner_text(".hello")
    page.press(".composer-text", "Shift+Enter")
    assert page.locator(".turn").count() == 0
    tab.say("3 + 4?")
    page.wait_for_selector(".thought.live")
    assert "3 and 4 make 7" not in page.content()
    tab.wait()
    assert page.inner_text(".answer strong") == "7" and page.locator(".answer math").count() == 1
    page.click(".thought summary")
    page.wait_for_selector(".thought .prose >> text=3 and 4 make 7")
    assert page.title() == "3 + 4? · dokja"  # the answer's script did not run
    page.reload()
    page.wait_for_selector(".answer strong")
    assert "3 and 4 make 7" not in page.content()
    # at the end of the answer, with the keyboard in the text field
    assert page.evaluate("document.activeElement.className") == "composer-text"
    left = "(s => s.scrollHeight - s.scrollTop - s.clientHeight)(document.querySelector('.scroll'))"
    assert page.evaluate(left) < 2
    assert (tab.asked_elsewhere, tab.errors) == ([], [])


def test_stop_switch_and_another_conversation(browser: "playwright.Browser", url: str) -> None:
    tab = Tab(browser, url)
    page = tab.page
    page.keyboard.press("Control+.")
    page.wait_for_selector(".think:not(.on)")
    tab.say("at once")
    page.wait_for_selector(".answer .prose p")
    page.keyboard.press("Escape")
    page.wait_for_selector("text=Stopped.")
    assert page.locator(".thought").count() == 0
    page.keyboard.press("Control+Shift+O")
    page.wait_for_selector(".hello")
    page.click(".thread a >> text=at once")
    page.wait_for_selector("text=Stopped.")
    assert "/ui/t/" in page.url and tab.errors == []


def test_hangul_that_is_being_composed_is_not_sent(browser: "playwright.Browser", url: str) -> None:
    tab = Tab(browser, url)
    page = tab.page
    page.fill(".composer-text", "한그")
    page.evaluate(
        "document.querySelector('.composer-text').dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true, cancelable: true}))"
    )
    page.wait_for_timeout(300)
    assert page.input_value(".composer-text") == "한그" and page.locator(".turn").count() == 0


def test_two_models_and_a_picture(browser: "playwright.Browser", url: str, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (40, 30), "teal").save(tmp_path / "teal.png")
    tab = Tab(browser, url)
    page = tab.page
    page.click("[aria-label='Compare with']")
    page.click(".q-menu .choice >> text=exaone-4.5-33b")
    page.wait_for_selector(".pick >> nth=1")
    tab.say("both")
    page.wait_for_selector(".answer >> nth=1")
    page.wait_for_function("document.querySelectorAll('.figures').length == 2")
    left, right = (page.locator(".answer").nth(n).bounding_box() for n in (0, 1))
    assert abs(left["y"] - right["y"]) < 2 and left["x"] + left["width"] <= right["x"] + 20
    page.keyboard.press("Control+Shift+O")
    page.wait_for_selector(".hello")
    page.click("[aria-label='One model again']")
    page.click(".pick")
    page.click(".q-menu .choice >> text=exaone-4.5-33b")
    page.wait_for_selector(".composer.sees")
    with page.expect_file_chooser() as chosen:
        page.click(".add-picture")
    chosen.value.set_files(tmp_path / "teal.png")
    page.wait_for_selector(".waits img")
    tab.say("what is it?")
    page.wait_for_function("document.querySelector('.said img')?.naturalWidth == 40")
    assert (tab.asked_elsewhere, tab.errors) == ([], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_nothing_beside_the_screen(browser: "playwright.Browser", url: str, scheme: str) -> None:
    size = {"width": 390, "height": 844}
    tab = Tab(browser, url, viewport=size, has_touch=True, is_mobile=True, color_scheme=scheme, locale="ko-KR")
    page = tab.page
    page.fill(".composer-text", "3 더하기 4는?")
    page.tap(".send")
    page.wait_for_selector(".turn")
    tab.wait()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.querySelector('.scroll').scrollWidth") == 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(26, 25, 24)"
    assert dark == (scheme == "dark")
    page.tap(".top .side-toggle")
    page.wait_for_selector(".app.side-open .thread")
    assert "새 대화" in page.inner_text(".side") and tab.errors == []
