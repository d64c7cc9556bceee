"""What a scripted language model reads in an agent's prompts: headed lines of data, hypotheses."""

from __future__ import annotations

import re
from dataclasses import dataclass

DATA = "| "
_TOLD = re.compile(r"^\| (H\d+): trigger: (.*?)(?:; output effect: (.*))?$", re.MULTILINE)
_EVIDENCE = re.compile(r"^\| (E\d+) (\w+): (.*)$", re.MULTILINE)
_WORD = re.compile(r'"([^"\n]+)"')
_NUMBERED = re.compile(r"^\s*\d+(?: \([^)\n]*\))?[:.] ?(.*)$", re.MULTILINE)
_ON_OUTPUT = re.compile("steer|clamp|ablat|promot|next|effect|lens|attribut")
ANYTHING = "anything"
"""How a hypothesis without a trigger is written."""


@dataclass(frozen=True, slots=True)
class Told:
    """A hypothesis as a prompt tells it."""

    id: str
    trigger: str
    effect: str


def sections(said: str) -> dict[str, list[str]]:
    """The lines of data under each heading, without their mark."""
    found: dict[str, list[str]] = {}
    head = ""
    for line in said.splitlines():
        if line.startswith(DATA):
            found.setdefault(head, []).append(line.removeprefix(DATA))
        else:
            head = line
    return found


def told_in(said: str) -> list[Told]:
    """The hypotheses in a prompt, in their order."""
    return [
        Told(name, "" if trigger == ANYTHING else trigger, effect or "")
        for name, trigger, effect in _TOLD.findall(said)
    ]


def cited(said: str) -> tuple[list[str], list[str]]:
    """Ids of experiments that were read on texts, and of those on the output; none that failed."""
    read: list[str] = []
    held: list[str] = []
    for name, tool, result in _EVIDENCE.findall(said):
        if not result.startswith("failed"):
            (held if _ON_OUTPUT.search(tool) else read).append(name)
    return read, held


def numbered_words(said: str) -> list[str]:
    """What is quoted, or else what stands on numbered lines."""
    quoted = [text for text in _WORD.findall(said) if text.strip()]
    return quoted or [text for text in _NUMBERED.findall(said) if text.strip()]
