"""Replies that hold JSON: read strictly, and held against the schema that was asked for.

Whatever a model writes, the outcome is a value that keeps to the schema or a `ReplyError` that
quotes it and says, in words a model can act on, what is wrong with it.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from glossator.errors import ConfigError, CutOff, ReplyError
from glossator.llm import Reply, Request
from glossator.types import JSON

MAX_DEPTH = 64
MAX_DIGITS = 18
"""Of an integer: more do not fit in the 64 bits that other programs read it with."""
MAX_SHOWN = 120
FENCED = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


def with_value(reply: Reply, request: Request) -> Reply:
    """`reply` with its `value`, where `request` has a schema and the reply calls no tool.

    Raises:
        ReplyError: if the text is not JSON of that schema.
        CutOff: if it is not, and the bound on its length was reached.
        ConfigError: if the schema is none.
    """
    if not request.schema or reply.calls:
        return reply
    check = validator(request.schema)
    try:
        value = read_json(reply.text, _openings(check.schema))
        wrong = misfit(value, request.schema)
    except ValueError as error:
        wrong = str(error)
    if not wrong:
        return replace(reply, value=value)
    if reply.finish == "length":
        wrong = f"it was cut off at {request.max_tokens} tokens, so be shorter; {wrong}"
        raise CutOff(wrong, reply.text, reply.usage)
    raise ReplyError(wrong, reply.text, reply.usage)


def read_json(text: str, openings: str = "{[") -> JSON:
    """The one JSON value that `text` is, or the one object or list that it holds.

    Code fences and words around it are let pass; a second value, or anything that strict JSON
    lacks (NaN, a key twice, numbers that no program could keep), is not.

    Args:
        text: What a model wrote.
        openings: What a value inside other text may begin with: `{`, `[` or both.

    Raises:
        ValueError: says what is wrong with it.
    """
    text = THOUGHT.sub("", text).strip()
    if not text:
        raise ValueError("it is empty")
    fenced = FENCED.findall(text)
    if len(fenced) == 1:
        text = fenced[0].strip()
    start = min((at for at in map(text.find, openings) if at >= 0), default=-1)
    # What is no object may be a bare number or string, but only as the whole text.
    start = max(start, 0) if start >= 0 else 0
    try:
        value, end = _DECODER.raw_decode(text, start)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a character, such as \\ud800") from None
    except json.JSONDecodeError as error:
        raise ValueError(_no_json(text, start, error)) from None
    if any(opening in text[end:] for opening in openings):
        raise ValueError("it holds more than one JSON value")
    if not isinstance(value, dict | list) and text[end:].strip():
        raise ValueError("there is no JSON object in it")
    if _deeper_than(value, MAX_DEPTH):
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
    found: JSON = value
    return found


def misfit(value: JSON, schema: str) -> str:
    """Why `value` does not keep to `schema`, a JSON schema as text; empty if it does.

    Raises:
        ConfigError: if the schema is none.
    """
    check = validator(schema)
    try:
        errors = sorted(check.iter_errors(value), key=lambda error: error.json_path)
    except Unresolvable as error:
        raise ConfigError(f"the schema refers to what it does not hold: {error}") from error
    except RecursionError:
        raise ConfigError("the schema refers to itself without end") from None
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return "; ".join(map(_said, errors[:3])) + more


@functools.lru_cache(maxsize=256)
def validator(schema: str) -> Draft202012Validator:
    """What checks values against `schema`, a JSON schema as text; asks no server for others.

    Raises:
        ConfigError: if it is none.
    """
    try:
        parsed = json.loads(schema)
        Draft202012Validator.check_schema(parsed)
    except ValueError as error:
        raise ConfigError(f"the schema is not JSON: {error}") from error
    except SchemaError as error:
        raise ConfigError(f"the schema is no JSON schema: {error.message}") from error
    return Draft202012Validator(parsed, registry=Registry())


def _openings(schema: Any) -> str:
    """What a value of `schema` begins with where it stands in other text."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    return {"object": "{", "array": "["}.get(kind if isinstance(kind, str) else "", "{[")


def _said(error: ValidationError) -> str:
    # Under `anyOf` the deepest failure says more than "is not valid under any of the schemas".
    deepest = best_match([error]) or error
    value = repr(deepest.instance)
    message = deepest.message
    if len(value) > MAX_SHOWN // 2:
        message = message.replace(value, f"{value[: MAX_SHOWN // 2]}...")
    return f"at {deepest.json_path}: {message[:MAX_SHOWN]}"


def _no_json(text: str, start: int, error: json.JSONDecodeError) -> str:
    if text[start : start + 1] not in ("{", "["):
        return "there is no JSON object in it"
    if error.pos >= len(text.rstrip()):
        return "its JSON ends too early"
    line, column = error.lineno, error.colno
    return f"it is not JSON: {error.msg} at line {line}, column {column}"


def _deeper_than(value: JSON, depth: int) -> bool:
    level: Sequence[JSON] = [value]
    for _ in range(depth):
        inner = [list(v.values()) if isinstance(v, dict) else v for v in level if _is_nest(v)]
        level = [v for values in inner for v in values]  # type: ignore[union-attr]
        if not level:
            return False
    return any(map(_is_nest, level))


def _is_nest(value: JSON) -> bool:
    return isinstance(value, dict | list)


def _once(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = [key for key, _ in pairs]
        twice = next(key for key in seen if seen.count(key) > 1)
        raise ValueError(f"the key {twice[:40]!r} stands twice in it")
    return found


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is too large")
    return value


def _small(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"the number {digits[:40]} has too many digits")
    return int(digits)


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_once, parse_float=_finite, parse_int=_small, parse_constant=_refused
)
