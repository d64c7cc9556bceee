"""The passages of BIG-bench's reading tasks: what of each file was written to be read.

Questions, answers, summaries and instructions are left aside, labels are taken off, and text that
came split into words and marks is put together again.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks/"
_SQUAD = re.compile(r"squad_shifts/(amazon_reviews|new_wiki|nyt|reddit|squaddev)_v1\.[01]\.json")
_INSTRUCTIONS = re.compile(
    r"natural_instructions/subtask\d+_(quoref|drop|ropes|cosmosqa|multirc)_\w+/task\.json"
)
_FIXED = {
    "paragraph_segmentation/task.json": "paragraph_segmentation",
    "coqa_conversational_question_answering/coqa.test.json": "coqa",
    "gem/wikilingua_en/task.json": "wikilingua_en",
    "gem/xsum/task.json": "xsum",
}

SHORTEST = 100
"""A passage has at least so many characters."""

_ASKS = re.compile(
    r"\s*\n\s*(?:Question|Story|Answer type|(?:Correct |Incorrect )?Answer)\s*[:\-].*", re.DOTALL
)
_STORY = re.compile(r"\n\s*Story\s*:\s*(.*)", re.DOTALL)
_LABEL = re.compile(r"^\s*(?:Passage|Context|Paragraph|Background Paragraph)\s*[:\-]\s*")
_SENTENCE_LABEL = re.compile(r"\s*\bSent(?:ence)? \d+\s*:\s*")
_STRAY_END = re.compile(r"(?<=[.!?])(?:(\")\.|(?<=\.)\?|(?<=[!?])\.)$")
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]{0,200})?/?>")
_TEMPLATE = re.compile(r"\{ ?\{[^{}]{0,80}\} ?\}\.?|\bLINKREMOVED\b")
_REFERENCE = re.compile(r"(?<=[\w.,)\"”'\]])\[\d{1,3}\]")
_EMPTIED = re.compile(r" ?\((?:\s*[;,])*\s*\)")
_EMPTIED_START = re.compile(r"\((?:\s*[;,])+\s*")
_MISSED_SPACE = re.compile(r"(?<=[a-z]{2})([.!?])(?=[A-Z][a-z]+ )")
_MISREAD = re.compile(r"[ÂÃ][^\x00-\x7f]|â[^\x00-\x7f]{2}")
_BROKEN = re.compile(r"<\\/|[ÃÂ][^\x00-\x7f]|â€|\ufffd|\|:?--|error: ?lang")
"""Leftovers of a page's source, wrongly decoded text, tables: such a passage is left out."""
_SPACED_STOP = re.compile(r" +([.,])(?=\s|$)")
_SPACED_MARK = re.compile(r" +([.,!?;:%)\]}])(?=\s|$|[\"'.,!?)])")
_SPACED_CLITIC = re.compile(r" (n't|'(?:s|re|ve|ll|d|m))\b", re.IGNORECASE)
_SPACED_OPENING = re.compile(r"([(\[{$#]) +(?=\w)")
_SPACED_QUOTES = re.compile(r"(?<!\S)\" +([^\"]{1,400}?) +\"(?!\w)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BLANKS = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n(?: ?\n)+ ?")
_FUNCTION_WORDS = frozenset(
    re.split(
        " ",
        "the of and to that it for with he she his her are be this from have you they but were "
        "which my their has its been not there who",
    )
)
_WORD = re.compile(r"[^\W\d_]+")


def source_of(member: str) -> str | None:
    """What to call the texts of this file of the archive; None if it is not read."""
    path = member.removeprefix(_TASKS)
    if path in _FIXED:
        return _FIXED[path]
    if match := _SQUAD.fullmatch(path):
        return f"squad_shifts/{match[1]}"
    if match := _INSTRUCTIONS.fullmatch(path):
        return f"natural_instructions/{match[1]}"
    return None


def passages(source: str, content: bytes) -> Iterator[str]:
    """The passages in one file of the archive, cleaned, not yet deduplicated.

    Args:
        source: as `source_of` named it.
        content: the file, JSON in UTF-8.
    """
    web = source in ("squad_shifts/reddit", "wikilingua_en")
    # one passage comes with many questions, so most texts come many times
    for text in dict.fromkeys(_raw(source, json.loads(content))):
        cleaned = clean(text)
        if not web:  # there a full stop without a space is an address or code
            cleaned = _MISSED_SPACE.sub(r"\1 ", _REFERENCE.sub("", cleaned))
        if len(cleaned) >= SHORTEST and not _BROKEN.search(cleaned) and is_english(cleaned):
            yield cleaned


def _raw(source: str, data: Mapping[str, Any]) -> Iterator[str]:
    if source.startswith("squad_shifts/"):
        for article in data["data"]:
            for paragraph in article["paragraphs"]:
                yield paragraph["context"]
    elif source == "coqa":
        for item in data["data"]:
            yield item["story"]
    elif source == "paragraph_segmentation":
        for example in data["examples"]:
            yield _paragraphs(example["input"], example["target"])
    elif source.startswith("natural_instructions/"):
        for example in data["examples"]:
            yield from _instruction_passages(example["input"])
    else:
        for example in data["examples"]:
            yield example["input"]


def _paragraphs(sentences: str, ends: str) -> str:
    """Sentences, one a line, joined into paragraphs: `ends` holds a 1 for each that ends one."""
    lines = sentences.strip("\n").split("\n")
    marks = ends.split()
    if len(lines) != len(marks):
        return " ".join(lines)
    return "".join(
        line + ("\n\n" if mark == "1" else " ") for line, mark in zip(lines, marks, strict=True)
    )


def _instruction_passages(text: str) -> Iterator[str]:
    """The passage before the question, and where there is one the story after it."""
    if text.startswith("Sentence:"):  # one sentence out of another example's passage
        return
    yield _ASKS.sub("", _LABEL.sub("", text))
    if story := _STORY.search(text):
        yield _ASKS.sub("", story[1])


def clean(text: str) -> str:
    """`text` without labels and markup, with ordinary spacing."""
    text = _MISREAD.sub(_read_again, _SENTENCE_LABEL.sub(" ", text))
    for _ in range(2):  # some sources escaped twice
        text = html.unescape(text)
    text = _TEMPLATE.sub("", _TAG.sub(" ", text))
    text = _EMPTIED_START.sub("(", _EMPTIED.sub("", text))
    text = _CONTROL.sub("", text)
    text = _BLANKS.sub(" ", text.replace("\r", "\n"))
    if "``" in text:
        text = text.replace("``", '"').replace("''", '"')
    if text.count(" . ") + text.count(" , ") + text.count(" n't") >= 2 or text.endswith(" ."):
        text = _put_together(text)
    text = _SPACED_STOP.sub(r"\1", text)
    return _STRAY_END.sub(r"\1", _LINES.sub("\n\n", text).strip())


def _read_again(match: re.Match[str]) -> str:
    """Characters of UTF-8 that somebody read as Windows-1252, such as `Â£`, as they were meant."""
    try:
        return match[0].encode("cp1252").decode("utf-8")
    except UnicodeError:
        return match[0]


def _put_together(text: str) -> str:
    """Text that came as words and marks with a space between any two, as it is usually written."""
    text = _SPACED_QUOTES.sub(r'"\1"', text)
    text = _SPACED_CLITIC.sub(r"\1", text)
    return _SPACED_OPENING.sub(r"\1", _SPACED_MARK.sub(r"\1", text))


def is_english(text: str) -> bool:
    """Whether a text reads as English: Latin letters, and one word in nine a common English one.

    The common words are ones that other languages do not share. On Wikipedia in nine languages
    they are 14% to 44% of the words of an English text, and below 9% of nearly all others.
    """
    words = _WORD.findall(text.lower())
    letters = sum(map(len, words))
    ascii_letters = sum(len(word) for word in words if word.isascii())
    if not words or ascii_letters < 0.8 * letters:
        return False
    return sum(word in _FUNCTION_WORDS for word in words) >= len(words) / 9
