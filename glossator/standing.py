"""Stand-ins for the language models that a run names, made without a key and without weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from glossator.assets import ASSETS
from glossator.config import RunLimits
from glossator.errors import ConfigError
from glossator.llm import LLM
from glossator.models import Who
from glossator.providers.desks import desk_of
from glossator.providers.local import LocalLLM
from glossator.providers.prices import FREE
from glossator.providers.rehearsal import Rehearsal
from glossator.providers.table import REMOTE, make_llm
from glossator.providers.tokens import TokenCount
from glossator.types import Usage

KEYS = {"OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none"}
"""Stand for the keys that are missing. Nothing is sent with them to where keys are needed."""

Asked = Callable[[str], Mapping[tuple[str, str], Usage]]
"""From a model's name to what its replies used in earlier runs, by stage and part."""


async def stand_in_for(who: Who, limits: RunLimits, asked: Asked) -> tuple[Rehearsal, str]:
    """The stand-in of the model `who`, and a notice to show; empty if there is none.

    A server that is not the provider's own is asked for its models, as the run would do.

    Raises:
        ConfigError, NotRegistered, ProviderRefused: as the run would.
    """
    tokens = TokenCount.of(who.spec)
    if who.is_local:
        revision = ASSETS[who.spec].sha256[:12] if who.spec in ASSETS else ""
        can = LocalLLM.can
        return Rehearsal(
            who.spec, can, FREE, tokens, "", revision, 0, _lengths(asked, who.spec)
        ), ""
    llm, elsewhere = _connected(who, limits)
    try:
        check = getattr(llm, "check", None)
        notice = await check() if elsewhere and check is not None else ""
        able: Any = desk_of(llm).llm if limits.batch else llm
        return Rehearsal.of(able, tokens, _lengths(asked, llm.name)), notice
    finally:
        close = getattr(llm, "aclose", None)
        if close is not None:
            await close()


def _connected(who: Who, limits: RunLimits) -> tuple[LLM, bool]:
    """The model, with whatever key there is; and whether another than its maker serves it."""
    if who.spec.partition(":")[0] not in REMOTE:
        return make_llm(who.spec), False
    options: dict[str, Any] = {"base_url": who.base_url or None, "offline": limits.offline}
    keyless = {name: value for name, value in os.environ.items() if name not in KEYS}
    try:
        make_llm(who.spec, **options, environ=keyless)
    except ConfigError:
        # Its maker takes nobody without a key; and what is refused with one is refused here.
        return make_llm(who.spec, **options, environ={**KEYS, **os.environ}), False
    return make_llm(who.spec, **options), True


def _lengths(asked: Asked, name: str) -> dict[tuple[str, str], float]:
    found = asked(name)
    return {of: used.completion_tokens / used.calls for of, used in found.items() if used.calls}
