"""What is installed, reachable and missing, and how to get what is missing.

Everything here looks and changes nothing: no file is fetched, no store is made, no key is shown.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from glossator.errors import ConfigError, GlossatorError
from glossator.types import JSON, to_json


class State(StrEnum):
    """How one thing stands."""

    OK = "ok"
    NOTE = "note"
    """Works, with something to know."""
    OPTIONAL = "optional"
    """Missing, and only some commands need it."""
    WAITING = "waiting"
    """Missing, and fetched at first use."""
    BROKEN = "broken"
    """Nothing works without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one thing."""

    area: str
    name: str
    state: State
    detail: str
    advice: str = ""
    """What to do about it; empty if nothing."""

    def to_json(self) -> JSON:
        """The finding as `--json` prints it."""
        return to_json(self)


_NEEDED = (
    *("torch", "transformers", "safetensors", "gguf", "sqlalchemy", "alembic", "pandas"),
    *("pyarrow", "scipy", "scikit-learn", "openai", "anthropic"),
)
_EXTRAS = {"psycopg": "postgres", "huggingface-hub": "hub", "datasets": "hub"}
_FOR = {"postgres": "a PostgreSQL store", "hub": "models and data sets of the hub"}
_PROVIDERS = {
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL", "https://api.openai.com"),
    "anthropic": ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
}
_SECONDS_TO_ANSWER = 4.0
_LITTLE_ROOM = 2_000_000_000
"""Bytes; a converted model and a run's results fit into that."""


def examine(
    store_url: str, *, offline: bool = False, environ: Mapping[str, str] = os.environ
) -> list[Finding]:
    """All findings, in the order to be shown.

    Args:
        store_url: the store to look at; it is not made if it is not there.
        offline: never try the network.
        environ: where keys are looked for; only whether they are there is told.
    """
    findings = [*_packages(), *_machine(), *_assets(), *_store(store_url)]
    return [*findings, *_keys(environ), *_network(offline, environ)]


def _packages() -> Iterable[Finding]:
    yield Finding("installed", "python", State.OK, platform.python_version())
    own = _installed("glossator")
    yield Finding("installed", "glossator", State.OK, own or "a checkout that is not installed")
    for name in _NEEDED:
        found = _installed(name)
        if found:
            yield Finding("installed", name, State.OK, found)
        else:
            advice = "pip install --force-reinstall glossator"
            yield Finding("installed", name, State.BROKEN, "is not installed", advice)
    for name, extra in _EXTRAS.items():
        found = _installed(name)
        if found:
            yield Finding("installed", name, State.OK, found)
        else:
            why = (
                f"is not installed; {_FOR[extra]} need it"
                if extra == "hub"
                else (f"is not installed; {_FOR[extra]} needs it")
            )
            advice = f"pip install 'glossator[{extra}]'"
            yield Finding("installed", name, State.OPTIONAL, why, advice)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine() -> Iterable[Finding]:
    cores = os.cpu_count() or 1
    yield Finding("machine", "processor", State.OK, f"{platform.machine()}, {cores} cores")
    memory = _memory()
    if memory:
        yield Finding("machine", "memory", State.OK, f"{memory / 1e9:.1f} GB")
    from glossator.device import pick_device, pick_dtype

    try:
        device = pick_device("auto")
        dtype = str(pick_dtype("auto", device)).removeprefix("torch.")
    except (ImportError, OSError) as error:
        # torch names what it misses: a library of the system, or itself.
        yield Finding(
            "machine", "device", State.BROKEN, f"torch cannot be loaded: {error}",
            "pip install --force-reinstall torch",
        )  # fmt: skip
        return
    yield Finding("machine", "device", State.OK, f"{device}, computing in {dtype}")


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _assets() -> Iterable[Finding]:
    from glossator.assets import cache_folder, status

    folder = cache_folder()
    free = _free(folder)
    little = free is not None and free < _LITTLE_ROOM
    room = "" if free is None else f", {free / 1e9:.1f} GB free"
    advice = "make room there, or set GLOSSATOR_CACHE to another folder" if little else ""
    yield Finding(
        "assets", "cache folder", State.NOTE if little else State.OK, f"{folder}{room}", advice
    )
    for row in status():
        detail = f"{row.state}: {row.title}; {row.licence}"
        if row.state == "ready":
            yield Finding("assets", row.name, State.OK, detail)
        else:
            state = State.NOTE if row.state == "fetched" else State.WAITING
            yield Finding("assets", row.name, state, detail, row.advice)


def _free(folder: Path) -> int | None:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _store(url: str) -> Iterable[Finding]:
    from glossator.store import open_store, open_to_read

    file = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None
    if file is not None and not file.exists():
        yield _place_for(file, url)
        return
    try:
        with open_store(url) as store:
            yield Finding("store", store.url, State.OK, f"{len(store.runs())} runs")
            for notice in store.notices:
                yield Finding("store", "sqlite", State.NOTE, notice)
    except GlossatorError as error:
        # The message shows no password; the URL may hold one.
        broken = Finding("store", url.partition(":")[0], State.BROKEN, str(error))
    else:
        return
    try:
        reading = open_to_read(url)
    except GlossatorError:
        reading = None
    if reading is None:
        yield broken
        return
    with reading as store:
        told = f"{len(store.runs())} runs, which can be read; no run can go on: {broken.detail}"
        yield Finding("store", store.url, State.NOTE, told)


def _place_for(file: Path, url: str) -> Finding:
    folder = file.absolute().parent
    if not folder.is_dir():
        advice = f"make the folder {folder}, or name another store with --store"
        return Finding("store", url, State.BROKEN, "its folder is not there", advice)
    if not os.access(folder, os.W_OK):
        advice = "name another store with --store, or get leave to write there"
        return Finding("store", url, State.BROKEN, f"{folder} cannot be written to", advice)
    return Finding("store", url, State.OK, "is not there yet; the first run makes it")


def _keys(environ: Mapping[str, str]) -> Iterable[Finding]:
    for provider, (key, _, _) in _PROVIDERS.items():
        if environ.get(key, "").strip():
            yield Finding("keys", key, State.OK, "is set")
        else:
            detail = f"is not set; models called {provider}:MODEL need it"
            yield Finding("keys", key, State.OPTIONAL, detail, f"export {key}=...")


def _network(offline: bool, environ: Mapping[str, str]) -> list[Finding]:
    if offline:
        return [Finding("network", "all", State.NOTE, "not tried, as --offline asks")]
    from glossator.assets.sources import index_settings

    hub = environ.get("HF_ENDPOINT", "https://huggingface.co")
    asked = [("hub", hub, "models and text then come from the package index")]
    try:
        urls = index_settings().index_urls
    except ConfigError:
        urls = ()
    asked += [("package index", url, "what is not in the cache cannot be fetched") for url in urls]
    for provider, (_, variable, home) in _PROVIDERS.items():
        url = environ.get(variable) or home
        asked.append((provider, url, f"models called {provider}:MODEL do not answer"))
    look: Callable[[tuple[str, str, str]], Finding] = lambda one: _reached(*one)  # noqa: E731
    with ThreadPoolExecutor(len(asked)) as threads:
        return list(threads.map(look, asked))


def _reached(name: str, url: str, without: str) -> Finding:
    import httpx2

    # Host or path alone: an address may hold a login.
    try:
        parts = urlsplit(url)
        host = parts.hostname or parts.path
    except ValueError:
        parts, host = urlsplit(""), "what is no address"
    if parts.scheme == "file" or not parts.scheme:
        there = Path(parts.path).exists()
        detail = f"{host} is {'there' if there else f'not there; {without}'}"
        return Finding("network", name, State.OK if there else State.OPTIONAL, detail)
    try:
        httpx2.head(url, timeout=_SECONDS_TO_ANSWER, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        detail = f"{host} cannot be reached ({type(error).__name__}); {without}"
        return Finding("network", name, State.OPTIONAL, detail)
    # Any answer will do, a refusal too: keys are not tried.
    return Finding("network", name, State.OK, f"{host} answers")


def is_sound(findings: Iterable[Finding]) -> bool:
    """Whether nothing is broken."""
    return all(finding.state is not State.BROKEN for finding in findings)
