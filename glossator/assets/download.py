"""One file from one address to one path: resumed, bounded, and whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from glossator.errors import AssetError

if TYPE_CHECKING:
    from unearth.fetchers import PyPIClient

Progress = Callable[[str, int, int], None]
"""Told what is being fetched, bytes had so far, and bytes in all (0 if nobody knows)."""

ATTEMPTS = 5
"""Attempts in a row that bring nothing before a source is given up."""
PAUSE = 0.5
"""Seconds before the second attempt; doubled for each further one."""


class SourceFailed(Exception):
    """This source did not give the file; says why. The next one is tried."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns a full disk or a read-only folder into a message that says which one it is.

    Raises:
        AssetError: if something inside could not be written.
    """
    try:
        yield
    except OSError as error:
        raise AssetError(
            f"cannot write in {folder}: {error.strerror or error}; make room there, or set "
            "GLOSSATOR_CACHE to another folder and run the command again"
        ) from error


def check_space(folder: Path, needed: int) -> None:
    """Nothing, if `needed` bytes are free where `folder` is.

    Raises:
        AssetError: if they are not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise AssetError(
            f"needs {needed / 1e6:.0f} MB free in {folder}, which has {free / 1e6:.0f} MB; make "
            "room there, or set GLOSSATOR_CACHE to another folder"
        )


def download(
    client: PyPIClient, url: str, target: Path, progress: Progress | None = None, what: str = ""
) -> None:
    """Fetches `url` into `target`, going on with `target.part` where an earlier attempt stopped.

    Addresses that begin with `file:` are copied.

    Raises:
        SourceFailed: if it could not be had.
        AssetError: if it could not be written.
    """
    part = target.with_name(target.name + ".part")
    if urlsplit(url).scheme == "file":
        source = Path(url2pathname(urlsplit(url).path))
        if not source.is_file():
            raise SourceFailed(f"{source} is not there")
        with writing(target.parent):
            shutil.copyfile(source, part)
            os.replace(part, target)
        return
    failures = 0
    while True:
        had = part.stat().st_size if part.exists() else 0
        problem = _attempt(client, url, part, had, progress, what)
        if problem is None:
            break
        gained = part.exists() and part.stat().st_size > had
        failures = 1 if gained else failures + 1
        if failures >= ATTEMPTS:
            raise SourceFailed(problem)
        time.sleep(PAUSE * 2 ** (failures - 1))
    with writing(target.parent):
        os.replace(part, target)


def _attempt(
    client: PyPIClient, url: str, part: Path, had: int, progress: Progress | None, what: str
) -> str | None:
    """One request that adds to `part`; None when the file is whole, else what went wrong."""
    import httpx2

    # without this a server may compress the file on its way, and a range would count other bytes
    headers = {"Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    try:
        with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
            code = response.status_code
            if code == 416:  # nothing is left to send: it was whole, or it was another file
                if response.headers.get("content-range", "") == f"bytes */{had}":
                    return None
                part.unlink()
                return "the server has nothing beyond what was fetched before"
            if code in (408, 425, 429) or code >= 500:
                return f"the server answered {code}"
            if code not in (200, 206):
                raise SourceFailed(f"the server answered {code}")
            begin = _begin(response.headers.get("content-range", "")) if code == 206 else 0
            if begin not in (0, had):
                raise SourceFailed("the server sent another range than the one asked for")
            length = int(response.headers.get("content-length") or 0)
            total = begin + length if length else 0
            done = begin
            with writing(part.parent), part.open("r+b" if part.exists() else "wb") as file:
                file.seek(begin)
                file.truncate()
                # As they come, so that a broken connection loses nothing that arrived. Errors of
                # the network are no OSError, so `writing` sees only those of the disk.
                for block in response.iter_raw():
                    file.write(block)
                    done += len(block)
                    if progress:
                        progress(what, done, total)
            if total and done != total:
                return f"the connection ended after {done} of {total} bytes"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _begin(content_range: str) -> int:
    """Where a `Content-Range: bytes 5-9/10` begins; -1 if that is not what it is."""
    unit, _, rest = content_range.partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdigit() else -1
