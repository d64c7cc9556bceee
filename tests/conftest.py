"""What holds for every test: no network beyond this machine, no keys, no deadline of Hypothesis.

Tests marked `assets` may fetch the models and the text on the first run, from the hub or the
package index, so they and whatever fixtures they use may reach the network. Tests marked `paid` may
use keys, too. What a test starts as another process is held to nothing here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from glossator.store import Store
    from tests.loopback import Loopback

LOOPBACK = ["127.0.0.1", "::1"]
ENDINGS_OF_SECRETS = ("_API_KEY", "_AUTH_TOKEN", "_BASE_URL")

# A shared machine can be slow for a second; how long an example takes is not what they are about.
settings.register_profile("glossator", deadline=None)
settings.load_profile("glossator")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Holds every test to this machine that does not say that it needs more."""
    for item in items:
        if not (item.get_closest_marker("assets") or item.get_closest_marker("paid")):
            item.add_marker(pytest.mark.allow_hosts(LOOPBACK))
        elif not item.get_closest_marker("timeout"):
            # The first one may have to fetch half a gigabyte and build the corpus from it.
            item.add_marker(pytest.mark.timeout(1500))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Takes the user's keys and addresses of providers away, so that no test can spend money."""
    with pytest.MonkeyPatch.context() as patch:
        if not item.get_closest_marker("paid"):
            for name in [n for n in os.environ if n.endswith(ENDINGS_OF_SECRETS)]:
                patch.delenv(name)
        return (yield)


@pytest.fixture
def in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """For tests that call the command in this process: a folder of its own, and a wide terminal."""
    # The command sets these where they are not set; here they are to be put back.
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", os.environ.get("TRANSFORMERS_VERBOSITY", "error"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


# Of the tests of whole runs; what they import takes seconds, which others need not wait for.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the subject and the text of a run that takes a second."""
    from tests.pipeline_child import save_subject, save_texts

    place = tmp_path_factory.mktemp("pipeline")
    save_subject(place / "subject")
    save_texts(place / "texts.jsonl")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of its own."""
    from glossator.store import open_store

    with open_store(f"sqlite:///{tmp_path}/glossator.db") as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[Loopback]:
    """Answers by the rule of `tests.pipeline_child`."""
    from tests.loopback import Loopback
    from tests.pipeline_child import rule

    with Loopback(rule) as opened:
        yield opened
