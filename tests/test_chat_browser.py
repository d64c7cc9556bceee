"""A turn of a conversation and a text to try, in a browser: followed, and nothing wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loopback import Loopback
from tests.source_tree import ROOT
from tests.test_chat_command import FEATURE, OPTIONS, speak
from tests.test_report import HOSTILE
from tests.watched import chromium, needs_chromium, watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = needs_chromium

LONG = 60_000.0
"""Milliseconds that loading the subject may take."""


@pytest.fixture(scope="module")
def address(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of its own process, with a scripted model to talk with."""
    url = f"sqlite:///{tmp_path_factory.mktemp('browser')}/results.db"
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k"}
    glossator = [sys.executable, "-m", "glossator", "--store", url]
    with Loopback(speak) as talker:
        llm = ["--llm", "openai:some-model", "--base-url", talker.openai_url]
        features = ["--site", "layers.0.mlp.neurons", "--features", "0-2"]
        run = [*glossator, "run", *OPTIONS, *features, "--explainer", "unigram", *llm]
        subprocess.run(run, cwd=folder, check=True, env=environ)
        command = [*glossator, "review", "--port", "0", "--offline", *llm]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=folder, env=environ
        )
        assert process.stdout is not None
        yield process.stdout.readline().strip().rstrip("/")
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def browser(address: str) -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """A page that notes what it must not do, of which nothing may be left at the end."""
    with watched(browser, address) as (opened, wrong):
        opened.set_default_timeout(LONG)
        yield opened
    assert wrong == []


def photographed(page: Page, name: str) -> None:
    """Pictures of the page, light and dark, wide and narrow, where somebody wants to look at them.

    They fit: nothing is wider than the window.
    """
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            if folder := os.environ.get("GLOSSATOR_PICTURES"):
                page.screenshot(path=f"{folder}/{name}-{scheme}-{width}.png", full_page=True)
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert page.evaluate((Path(__file__).parent / "contrast.js").read_text()) == []


def test_a_turn_is_held_approved_and_seen_in_a_second_tab(page: Page) -> None:
    page.goto("/chat")
    page.fill("input[name=feature]", FEATURE)
    page.fill("textarea", "it fires on the word river")
    page.click("button:has-text('Begin')")
    page.wait_for_url("**/chat/c1**")
    page.wait_for_selector("#now[data-going=no]", state="attached")
    page.wait_for_selector("text=of peak more than elsewhere")
    page.fill("textarea", 'call score_on_dev {"text": "rivers"}')
    page.click("button:text-is('Say')")
    other = page.context.new_page()
    other.set_default_timeout(LONG)
    other.goto("/chat/c1")
    other.wait_for_selector("button:has-text('Deny')")
    page.wait_for_selector("button:has-text('Approve')")
    photographed(page, "asked")
    page.click("button:has-text('Approve')")
    page.wait_for_selector("text=The tools have shown it.")
    other.wait_for_selector("text=The tools have shown it.")
    page.fill("textarea", 'call run_texts {"texts": ["the river of Paris", "a market"]}')
    page.click("button:text-is('Say')")
    page.wait_for_selector("#t3 .drawn", state="attached")
    page.wait_for_selector("#now[data-going=no]", state="attached")
    page.click("button:has-text('Score H1 on test text')")
    page.wait_for_selector("text=Kept as the explanation by human in run")
    photographed(page, "chat")


def test_hostile_words_are_text_in_a_conversation(page: Page) -> None:
    page.goto(f"/chat?feature={FEATURE}")
    title = page.title()
    page.fill("textarea", "".join(HOSTILE[:5])[:3000])
    page.click("button:has-text('Begin')")
    page.wait_for_url("**/chat/c*")
    page.wait_for_selector("#t1 .model")
    assert page.locator("script").count() == 1
    assert page.locator("main img").count() == 0
    assert page.title() != title
    assert page.title().endswith("layers.0.mlp.neurons/1 \u00b7 glossator")


def test_a_text_is_run_and_the_feature_held(page: Page) -> None:
    page.goto("/features/2?run=r1")
    page.fill("form[action$=test] textarea", "the river of Paris <script>alert(1)</script>")
    page.click("button:has-text('Run the text')")
    page.wait_for_selector("#trial h3:has-text('Activations')")
    assert page.locator("#trial .live").inner_text().startswith("the")
    photographed(page, "tested")
    page.fill("form[action$=steer] textarea", "the river of")
    page.fill("input[name=strength]", "4")
    page.click("button:has-text('Compare')")
    page.wait_for_selector("#trial h3:has-text('Held at 4 peaks')")
    assert page.locator("#trial tbody tr").count() == 20
    photographed(page, "held")


def test_all_of_it_works_without_the_script(browser: Browser, address: str) -> None:
    context = browser.new_context(base_url=address, java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(LONG)
    page.goto("/chat")
    page.fill("input[name=feature]", FEATURE)
    page.fill("textarea", "What is it?")
    page.click("button:has-text('Begin')")
    # The page loads itself again until the turn is done.
    page.wait_for_selector("text=You said: What is it?")
    page.goto("/features/2?run=r1")
    page.fill("form[action$=test] textarea", "the river of Paris")
    page.click("button:has-text('Run the text')")
    page.wait_for_selector("#trial h3:has-text('Activations')")
    context.close()
