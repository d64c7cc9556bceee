"""Runs one experiment; what goes wrong with it is recorded as its failure, never as a result."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from glossator.agent.lab import Lab
from glossator.agent.tools.shown import plain
from glossator.agent.tools.table import TOOLS, Arguments, Tool
from glossator.errors import ConfigError, NotRegistered, ReplyError, Unsupported
from glossator.evidence import Evidence, Experiment, Finding
from glossator.types import JSON

SECONDS = 300.0
"""What a tool may take."""
MOST_SAID = 600
"""Characters of a failure, which may quote what a language model wrote."""
MOST_BYTES = 200_000
"""Of a finding's payload as JSON; a longer one is left out, and the finding says so."""


def tool_called(name: str) -> Tool[Any]:
    """The tool of that name.

    Raises:
        NotRegistered: if there is none. A dotted path is none, for a language model may write it.
    """
    if name not in TOOLS.paths:
        raise NotRegistered(
            f"no tool is called {name!r:.80}; there are: {', '.join(TOOLS.names())}"
        )
    built: Tool[Any] = TOOLS.load(name)()
    return built


def arguments_of(tool: Tool[Any], given: Mapping[str, JSON]) -> Arguments:
    """`given`, checked.

    Raises:
        ConfigError: naming the first thing that is wrong.
    """
    try:
        return tool.arguments.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "arguments"
        raise ConfigError(f"{tool.name} cannot be called so: {where}: {first['msg']}") from None


def digest_of(tool: str, arguments: Mapping[str, JSON]) -> str:
    """Twelve hex digits that name a call: equal calls have equal ones."""
    plain = json.dumps([tool, dict(arguments)], sort_keys=True)
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:12]


async def carry_out(experiment: Experiment, lab: Lab, seconds: float = SECONDS) -> Evidence:
    """What `experiment` shows, or why it could not be run.

    Raises:
        ProviderError, BudgetSpent: as a language model that the tool asks does.
    """
    begun = time.monotonic()
    finding: Finding | None = None
    failure = ""
    try:
        tool = tool_called(experiment.tool)
        arguments = arguments_of(tool, experiment.arguments)
        async with asyncio.timeout(seconds):
            finding = await tool.run(arguments, lab)
    except TimeoutError:
        failure = f"it took more than {seconds:g} s; ask for fewer or shorter texts"
    except (Unsupported, ConfigError, NotRegistered, ReplyError) as error:
        failure = plain(str(error))[:MOST_SAID] or type(error).__name__
    if finding is not None:
        finding = _bounded(finding)
    return Evidence(experiment, finding, failure, seconds=time.monotonic() - begun)


def _bounded(finding: Finding) -> Finding:
    if len(json.dumps(finding.to_json()["payload"])) <= MOST_BYTES:
        return finding
    said = f"{finding.text}\n(details left out: more than {MOST_BYTES // 1000} kB)"
    return Finding(said, finding.answers, finding.values, finding.effects, {}, finding.usage)
