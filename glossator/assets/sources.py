"""Where assets can be had over a network: the hub, and the package index the user configured."""

from __future__ import annotations

import configparser
import os
import ssl
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from glossator.assets.download import SourceFailed

if TYPE_CHECKING:
    from unearth import Link
    from unearth.fetchers import PyPIClient

    from glossator.assets.table import Asset

_DEFAULT_HUB = "https://huggingface.co"
_DEFAULT_INDEX = "https://pypi.org/simple"
_SECONDS_TO_ANSWER = 4.0


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """Which package indexes to ask; the same ones that pip would."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    certificates: str | None = None
    """A file of certificates to trust instead of the system's."""


def index_settings() -> IndexSettings:
    """What pip is configured to use, from its environment variables and its configuration files.

    A variable wins over files; the file of the virtual environment over the user's, and that over
    the machine's.
    """
    values: dict[str, str] = {}
    for path in _pip_files():
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue  # pip itself reports a broken file; here the other files still count
        for section in ("global", "download", "install"):
            if parser.has_section(section):
                values.update({k.replace("_", "-"): v for k, v in parser.items(section)})
    for key in ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert"):
        variable = os.environ.get(f"PIP_{key.upper().replace('-', '_')}")
        if variable:
            values[key] = variable
    urls = [values.get("index-url", _DEFAULT_INDEX), *values.get("extra-index-url", "").split()]
    if values.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        urls = []
    return IndexSettings(
        index_urls=tuple(dict.fromkeys(urls)),
        find_links=tuple(values.get("find-links", "").split()),
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        certificates=values.get("cert"),
    )


def _pip_files() -> Iterator[Path]:
    """The configuration files of pip, the weakest first."""
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    machine = platformdirs.site_config_dir("pip", appauthor=False, multipath=True)
    for folder in reversed(machine.split(os.pathsep)):
        yield Path(folder) / name
    if sys.platform != "win32":
        yield Path("/etc") / name
    yield Path.home() / (".pip" if sys.platform != "win32" else "pip") / name
    yield Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True)) / name
    yield Path(sys.prefix) / name
    if chosen:
        yield Path(chosen)


def open_client(settings: IndexSettings) -> PyPIClient:
    """A client for indexes and files, with the user's certificates and logins; close it."""
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    verify: ssl.SSLContext | bool = True
    if settings.certificates and Path(settings.certificates).is_file():
        verify = ssl.create_default_context(cafile=settings.certificates)
    client = PyPIClient(
        trusted_hosts=settings.trusted_hosts, verify=verify, timeout=30.0, follow_redirects=True
    )
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=list(settings.index_urls))
    return client


def hub_address(client: PyPIClient, asset: Asset) -> str:
    """The asset's address on the hub, after a quick look whether the hub answers at all.

    Raises:
        SourceFailed: if it does not, or the asset is not there, or the user forbids it.
    """
    import httpx2

    if not asset.hub_repository:
        raise SourceFailed("not there")
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SourceFailed("HF_HUB_OFFLINE is set")
    hub = os.environ.get("HF_ENDPOINT", _DEFAULT_HUB).rstrip("/")
    url = f"{hub}/{asset.hub_repository}/resolve/main/{asset.hub_file}"
    try:
        answer = client.head(url, timeout=_SECONDS_TO_ANSWER, follow_redirects=False)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceFailed(f"{hub} cannot be reached ({type(error).__name__})") from error
    if answer.status_code >= 400:
        raise SourceFailed(f"{hub} answered {answer.status_code}")
    return url


def package_links(
    client: PyPIClient, settings: IndexSettings, requirement: str
) -> Sequence[tuple[str, str | None]]:
    """Addresses of the archives that satisfy `requirement`, wheels first, with their SHA-256.

    The digest is None where the index does not say.

    Raises:
        SourceFailed: if there is none.
    """
    import httpx2
    from unearth import PackageFinder
    from unearth.errors import UnpackError, URLError

    finder = PackageFinder(
        session=client,  # type: ignore[arg-type]  # fits; the protocol leaves out a parameter
        index_urls=settings.index_urls,
        find_links=settings.find_links,
        trusted_hosts=settings.trusted_hosts,
        ignore_compatibility=True,
    )
    try:
        found = [package.link for package in finder.find_matches(requirement, allow_yanked=True)]
    except (httpx2.HTTPError, URLError, UnpackError, OSError) as error:
        raise SourceFailed(f"{requirement}: {type(error).__name__}: {error}") from error
    found.sort(key=lambda link: not link.is_wheel)
    if not found:
        asked = ", ".join(_without_login(u) for u in (*settings.index_urls, *settings.find_links))
        raise SourceFailed(f"{requirement} is not on {asked or 'any index: none is configured'}")
    return [(link.url_without_fragment, _digest(link)) for link in found]


def _digest(link: Link) -> str | None:
    """The SHA-256 that the index states, in its JSON or behind the `#` of the address."""
    stated = (link.hash_option or {}).get("sha256", [])
    return (link.hashes or {}).get("sha256") or (stated[0] if stated else None)


def _without_login(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
