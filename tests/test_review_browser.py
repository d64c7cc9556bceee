"""The review pages in a browser: no errors, no request to another host, and all of it by keys."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from glossator.store import open_store
from glossator.types import Explanation, Kind
from tests.review_store import feature_of, fill, record_of
from tests.source_tree import ROOT
from tests.test_report import HOSTILE
from tests.watched import chromium, needs_chromium, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

SEEN = (
    *("/runs", "/runs/r1", "/features", "/features/4?run=r1", "/review?feature=5&who=Zoe"),
    *("/review?feature=5&who=Zoe&ab=1", "/review/agreement", "/ask", "/chat", "/api/", "/nowhere"),
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process, as `glossator review` starts it."""
    place = tmp_path_factory.mktemp("browser")
    url = f"sqlite:///{place}/results.db"
    with open_store(url) as store:
        run = fill(store)
        record = record_of(feature_of(900), Kind.TOKEN, (HOSTILE[0], *HOSTILE[1:5]))
        store.put_record("key", record)
        for explainer, text in (("max-act", HOSTILE[1]), ("unigram", HOSTILE[3])):
            store.put_explanation(run.id, Explanation(record.feature, text, explainer))
        store.finish_run(run.id)
    command = [sys.executable, "-m", "glossator", "--store", url, "review", "--port", "0"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert process.stdout is not None
    yield process.stdout.readline().strip().rstrip("/")
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that notes what it must not do, of which nothing may be left at the end."""
    with watched(browser, address) as (opened, wrong):
        yield opened
    # A browser notes every page that is not found as an error of the console.
    assert [text for text in wrong if "404 (Not Found)" not in text] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_and_runs_without_errors(page: Page, scheme: str, width: int) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 800})
    for path in SEEN:
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.evaluate("document.styleSheets.length") == 2


def test_texts_of_a_page_run_nothing(page: Page) -> None:
    page.goto("/features?number=900")
    page.click("table.list tbody th a")
    assert page.title().startswith("layers.2.mlp.neurons/900")
    assert page.locator("script").count() == 1
    assert page.locator("main img").count() == 0


def test_features_are_searched_sorted_opened_and_compared(page: Page) -> None:
    page.goto("/features")
    page.fill("input[name=q]", "rivers")
    page.click("button[type=submit]")
    page.click("thead a:has-text('simulation')")
    assert "q=rivers" in page.url
    assert "sort=-simulation" in page.url
    values = [
        float(t.replace("\u2212", "-"))
        for t in page.locator("td[data-label=simulation] strong").all_inner_texts()
    ]
    assert len(values) > 3
    assert values == sorted(values, reverse=True)
    page.click("table.list tbody th a >> nth=0")
    page.select_option("select[name=a]", index=1)
    page.click("form:has(select[name=a]) button")
    assert page.locator("select[name=a]").input_value() == "unigram/lexical"
    page.go_back()
    page.go_back()
    page.click("ul.chips a")
    assert "q=" not in page.url


def test_a_list_is_walked_by_keys_alone(page: Page) -> None:
    page.goto("/features")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("/")
    page.keyboard.type("rivers")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=rivers**")
    page.keyboard.press("j")
    page.keyboard.press("j")
    second = page.locator("table.list tbody th a >> nth=1").get_attribute("href")
    assert page.evaluate("document.activeElement.getAttribute('href')") == second
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{second}")
    assert page.locator("h1").count() == 1


def test_letters_stand_out_from_what_is_behind_them(page: Page) -> None:
    """At least 4.5 to 1 between a text and its own background, as WCAG AA asks."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for path in SEEN[:7]:
            page.goto(path)
            page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            assert page.evaluate((Path(__file__).parent / "contrast.js").read_text()) == []


def test_pages_work_without_the_script(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.goto("/features")
    page.click("thead a:has-text('Peak')")
    page.click("nav.pager a[rel=next]")
    assert "after=" in page.url
    page.click("table.list tbody th a >> nth=0")
    page.wait_for_load_state()
    assert page.locator("h1").count() == 1
    context.close()


def test_twenty_features_are_reviewed_by_keys_alone_and_one_is_undone(page: Page) -> None:
    def press(key: str) -> None:
        with page.expect_navigation():
            page.keyboard.press(key)

    page.goto("/review?run=r1")
    for _ in range(25):
        if page.evaluate("document.activeElement.name") == "name":
            break
        page.keyboard.press("Tab")
    page.keyboard.type("Ann")
    press("Enter")
    seen = []
    for number in range(20):
        seen.append(page.url.partition("feature=")[2].partition("&")[0])
        for _ in range(page.locator("[data-card]").count()):
            press(str(number % 5 + 1))
        assert page.locator("[data-card] .tag.live").count() == page.locator("[data-card]").count()
        press("j")
    assert len(set(seen)) == 20
    counted = page.locator(".reviewbar .over")
    assert "20 of " in counted.inner_text()
    press("k")
    rated = page.locator("[data-card] .tag.live").count()
    press("u")
    assert page.locator("[data-card] .tag.live").count() == rated - 1
    assert page.locator(".acts .tag").first.inner_text() == "taken back"
    page.keyboard.press("?")
    assert page.locator(".keys dl").is_visible()
    page.keyboard.press("e")
    page.keyboard.type("Better: ")
    press("Control+Enter")
    assert page.locator(".edited bdi").first.inner_text().startswith("Better: ")


def test_a_review_needs_no_script(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()

    def click(what: str) -> None:
        with page.expect_navigation():
            page.click(what)

    page.goto("/review?run=r1&feature=5")
    page.fill("input[name=name]", "Bob")
    click("button:has-text('Begin')")
    click("button[aria-label='Rate A 2 of 5']")
    assert page.locator("[data-card] .tag.live").count() == 1
    page.click("summary:has-text('Comment') >> nth=0")
    page.fill("textarea[name=value]:visible", "<b>why</b>")
    click("button:has-text('Comment'):visible")
    assert page.locator(".comment").inner_text() == "Bob <b>why</b>"
    click("button:has-text('Undo')")
    assert page.locator(".comment").count() == 0
    context.close()
