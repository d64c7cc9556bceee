"""How near `--dry-run` comes: what it says before a run, beside what the ledger says after it.

    python benchmarks/estimate.py --store sqlite:///demo/demo.db
    python benchmarks/estimate.py --provider --md benchmarks/estimate.md

The first line holds a run of a store against the estimate that its options give where there is no
store yet. `--provider` does the same for the run's options with the language models replaced by
one that the fake provider of the tests serves, at the list's price of gpt-4.1-mini; it counts
tokens with the subject's tokenizer, which the estimate does not use. See `benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import os
import random
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glossator.config import RunConfig, RunLimits, option_names
from glossator.estimate import Plan, plan
from glossator.pipeline import run
from glossator.store import Store, open_store
from glossator.subject import load_subject
from glossator.types import Usage
from tests.loopback import Answer, Asked, Loopback
from tests.pipeline_child import kind_of, rule

AROUND = 4
"""Tokens that the fake provider counts around each message, as OpenAI's models do."""


def planned(config: RunConfig) -> Plan:
    """The estimate where there is no store yet."""
    return plan(config, RunLimits(), None)


def table(title: str, before: Plan, used: Usage, disk: int) -> str:
    """The two side by side."""
    rows: list[tuple[str, float | None, float | None]] = [
        ("calls", before.calls, used.calls),
        ("prompt tokens", before.prompt_tokens, used.prompt_tokens),
        ("completion tokens", before.completion_tokens, used.completion_tokens),
        ("dollars, low", before.dollars_low, used.cost),
        ("dollars, high", before.dollars_high, used.cost),
        ("MB of store", round(before.disk_bytes / 1e6, 2), round(disk / 1e6, 2)),
    ]
    lines = [f"{title}\n", "| | estimate | actual | off by |", "|---|---|---|---|"]
    for name, guess, real in rows:
        off = f"{guess / real - 1:+.1%}" if guess is not None and real else "-"
        lines.append(f"| {name} | {_number(guess)} | {_number(real)} | {off} |")
    return "\n".join([*lines, f"\nTime: about {before.seconds:.0f} s were expected."])


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def answered(asked: Asked) -> Answer:
    """Explanations as long as models write them; the rest by the rule of the tests."""
    if kind_of(asked.messages) != "explain":
        return rule(asked)
    words = re.findall(r'"([^"\s]+)"', asked.last.rpartition("Marked: ")[2]) or ["words"]
    listed = ", ".join(words[: random.Random(asked.last).randint(1, 8)])
    return Answer(f"The neuron reacts to words and parts of words such as {listed}.")


def with_provider(config: RunConfig) -> tuple[Plan, Usage, int]:
    """The same options against the fake provider."""
    spec = "tests.pipeline_child:Listed"
    config = dataclasses.replace(config, llm=spec, scorer_llm=spec, base_url="", scorer_base_url="")
    tokenizer = load_subject(config.model, dtype=config.dtype).tokenizer
    with Loopback(answered) as server, tempfile.TemporaryDirectory() as folder:
        server.count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
        server.around = AROUND
        os.environ["OPENAI_BASE_URL"] = server.openai_url
        before = planned(config)
        url = f"sqlite:///{folder}/run.db"
        with open_store(url) as store:
            asyncio.run(run(config, RunLimits(), store))
            used = store.used("r1")
        return before, used, Path(folder, "run.db").stat().st_size


def config_of(store: Store, name: str) -> tuple[str, RunConfig]:
    """A run's name and its options, those left out that this version does not know."""
    found = store.run(name) if name else store.runs()[-1]
    known = option_names(RunConfig)
    options: dict[str, Any] = {k: v for k, v in found.config.items() if k in known}
    return found.id, RunConfig.from_mapping(options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", default="sqlite:///demo/demo.db")
    parser.add_argument("--run", default="", help="the newest if left out")
    parser.add_argument("--provider", action="store_true", help="and run against a fake provider")
    parser.add_argument("--md", type=Path, help="write the tables here too")
    options = parser.parse_args()
    with open_store(options.store) as store:
        name, config = config_of(store, options.run)
        used = store.used(name)
    disk = Path(options.store.removeprefix("sqlite:///")).stat().st_size
    who = ", ".join(dict.fromkeys([config.llm, config.scorer_llm or config.llm]))
    parts = [table(f"Run {name} with {who}:", planned(config), used, disk)]
    if options.provider:
        parts.append(table("The same with a provider at a known price:", *with_provider(config)))
    text = "\n\n".join(parts)
    print(text)
    if options.md:
        options.md.write_text(f"# Estimates held against ledgers\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
