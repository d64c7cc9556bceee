"""What the global options say, and the two streams: results on stdout, all else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from glossator.cli.options import GLOBAL, checked_file
from glossator.cli.text import visible
from glossator.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from glossator.store import Store

STORE = "sqlite:///glossator.db"

_WIDTH_ELSEWHERE = 140
"""Columns of a table that goes to a file or another program."""


@dataclass(frozen=True, slots=True)
class Session:
    """The global options, resolved."""

    store_url: str = STORE
    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of runs that the config file gives, and `seed`."""

    @classmethod
    def of(cls, context: typer.Context) -> Session:
        """The session of the command that is running."""
        session = context.obj
        if not isinstance(session, cls):
            raise TypeError("the command was not called through the app")
        return session

    def open_store(self, *, to_write: bool = False) -> Store:
        """The store, which commands that only read need not be able to write to.

        Args:
            to_write: make one where none is. Otherwise that is refused, so that a mistyped name
                leaves no file.
        """
        from glossator.store import open_as_may_be, open_store

        if to_write:
            return open_store(self.store_url)
        if (file := sqlite_file(self.store_url)) and not file.exists():
            raise StoreError(
                f"there is no store at {self.store_url}; `glossator run` makes one, "
                "--store names another"
            )
        return open_as_may_be(self.store_url)

    def read_store(self) -> Store | None:
        """The store, of which nothing is changed; None if there is none yet."""
        from glossator.store import open_to_read

        file = sqlite_file(self.store_url)
        return None if file is not None and not file.exists() else open_to_read(self.store_url)

    def console(self) -> Console:
        """Where results go."""
        return _console(sys.stdout)

    def say(self, message: str) -> None:
        """One line for people, on stderr."""
        if not self.quiet:
            print(visible(message, lines=True), file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        """What ended a command before its time, on stderr, also where it is to be quiet."""
        print(f"glossator: {visible(message, lines=True)}", file=sys.stderr, flush=True)

    def print_json(self, document: Mapping[str, Any]) -> None:
        """The one JSON document that `--json` promises."""
        # ASCII alone: control characters of texts reach a terminal only as escapes.
        print(json.dumps(document, indent=2, allow_nan=False))

    def again(self, command: str) -> str:
        """`glossator COMMAND` for the same store, as one would type it."""
        import shlex

        store = "" if self.store_url == STORE else f"--store {shlex.quote(self._shown_url())} "
        return f"glossator {store}{command}"

    def _shown_url(self) -> str:
        if self.store_url.startswith("sqlite"):
            return self.store_url
        from sqlalchemy.engine import make_url

        return make_url(self.store_url).render_as_string(hide_password=True)


def make_session(flags: Mapping[str, Any]) -> Session:
    """The session that the global `flags` and the config file among them give; flags win.

    Raises:
        ConfigError: if the file cannot be read or holds an unknown key.
    """
    file = read_config_file(Path(flags["config"])) if flags.get("config") else {}
    given = {name: value for name, value in flags.items() if value is not None}
    merged = {**file, **given}
    kinds = {"store": str, "json": bool, "quiet": bool, "verbose": bool}
    for name, kind in kinds.items():
        if name in merged and not isinstance(merged[name], kind):
            wanted = "a text" if kind is str else "true or false"
            raise ConfigError(f"{name} is {wanted}, not {merged[name]!r}")
    options = {n: v for n, v in merged.items() if n not in GLOBAL or n == "seed"}
    return Session(
        store_url=merged.get("store", STORE),
        as_json=merged.get("json", False),
        quiet=merged.get("quiet", False),
        verbose=merged.get("verbose", False),
        options=options,
    )


def read_config_file(path: Path) -> dict[str, Any]:
    """The options that a YAML file holds.

    Raises:
        ConfigError: if it cannot be read, is no YAML mapping, or holds an unknown key.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(f"{path} is not YAML: {first}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no options; write lines such as `tokens: 200k`")
    return checked_file(content, str(path))


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite store; None for any other, or if `url` is none."""
    prefix = "sqlite:///"
    return Path(url.removeprefix(prefix)) if url.startswith(prefix) else None


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # A terminal that is unknown or told to show no colours still has a width.
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDTH_ELSEWHERE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
