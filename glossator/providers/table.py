"""Names of language models, and what they stand for."""

from __future__ import annotations

import importlib
import importlib.util
import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from glossator.errors import ConfigError, NotRegistered
from glossator.llm import LLM, as_llm
from glossator.providers.outside import blamed_on, outside
from glossator.registry import Registry, nearest

LLMS = Registry(
    "language model",
    {
        "local": "glossator.providers.local:LocalLLM",
        "hf": "glossator.providers.local:LocalLLM",
        "gguf": "glossator.providers.local:LocalLLM",
        "openai": "glossator.providers.openai:OpenAILLM",
        "openai-responses": "glossator.providers.openai_responses:OpenAIResponsesLLM",
        "anthropic": "glossator.providers.anthropic:AnthropicLLM",
    },
)
SPELLINGS = (
    *("local", "local:small", "openai:MODEL", "openai-responses:MODEL", "anthropic:MODEL"),
    *("hf:ID", "gguf:PATH", "package.module:name"),
)
REMOTE = ("openai", "openai-responses", "anthropic")
LOCAL = ("local", "hf", "gguf")
"""Kinds that run in this process."""


def make_llm(
    spec: str,
    *,
    base_url: str | None = None,
    offline: bool = False,
    device: str = "auto",
    timeout: float = 120.0,
    environ: Mapping[str, str] = os.environ,
) -> LLM:
    """The language model that people call `spec`.

    Args:
        spec: One of `SPELLINGS`. The last is of a class without arguments, an object or a function
            that `as_llm` takes; a module that is in no package will do.
        base_url: Where a server of the same protocol is, for the kinds in `REMOTE`.
        offline: Whether the network is out of bounds; servers on this machine are not.
        device: Where local models run.
        timeout: Seconds for one request to a provider.
        environ: Where its key is, and if not given, its address.

    Raises:
        NotRegistered: if nothing has that name.
        ConfigError: if a model name or key is missing, or the options contradict each other.
    """
    kind, rest = check_spec(spec)
    if kind not in LLMS.paths:
        return _imported(kind, rest)
    if kind not in REMOTE:
        if base_url is not None:
            kinds = ", ".join(f"{kind}:" for kind in REMOTE)
            raise ConfigError(f"--base-url goes with {kinds} models, not {spec!r}")
        return as_llm(LLMS.load(kind).load(spec, device=device, offline=offline))  # type: ignore[attr-defined]
    check_address(spec, base_url, offline=offline)
    connect = LLMS.load(kind).connect  # type: ignore[attr-defined]
    return as_llm(connect(rest.strip(), base_url=base_url, timeout=timeout, environ=environ))


def check_address(spec: str, base_url: str | None, *, offline: bool) -> None:
    """Refuses what is no URL of a server, or a server that may not be asked; asks nobody.

    Raises:
        ConfigError: naming what can be done.
    """
    if base_url is not None:
        _check_url(base_url)
    if offline and not _is_here(base_url):
        raise ConfigError(
            f"{spec} needs the network, and --offline forbids it: use --llm local, or a server on "
            "this machine with --base-url"
        )


def check_spec(spec: str) -> tuple[str, str]:
    """The kind and the rest of `spec`, if it has the form of a language model's name.

    Raises:
        NotRegistered: if there is no such kind, and no module of that name.
        ConfigError: if it names no model.
    """
    kind, colon, rest = spec.strip().partition(":")
    if colon and "." in kind:
        return kind, rest
    if kind not in LLMS.paths and rest.isidentifier() and _is_module(kind):
        return kind, rest
    if kind not in LLMS.paths:
        known = nearest(spec, list(SPELLINGS))
        raise NotRegistered(f"no language model is called {spec!r}; {known}")
    if kind == "local" and spec.strip() not in ("local", "local:small"):
        raise NotRegistered(f"no local model is called {spec!r}; there are: local, local:small")
    if kind != "local" and not rest.strip():
        raise ConfigError(f"{spec!r} names no model; it should look like {_example(kind)}")
    return kind, rest


def _example(kind: str) -> str:
    return next(s for s in SPELLINGS if s.startswith(f"{kind}:"))


def _is_module(name: str) -> bool:
    """Whether there is a module `name`, which is not imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # One that runs as a script.
        return False


def _imported(module: str, name: str) -> LLM:
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotRegistered(f"no language model at '{module}:{name}': {error}") from error
    with blamed_on(f"{module}:{name}"):
        llm = as_llm(found() if isinstance(found, type) else found)
    # Our own say themselves what goes wrong.
    return llm if type(llm).__module__.startswith("glossator.providers.") else outside(llm)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{url!r} is no URL; it should look like http://127.0.0.1:8000/v1")


def _is_here(url: str | None) -> bool:
    host = urlsplit(url).hostname if url else None
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
