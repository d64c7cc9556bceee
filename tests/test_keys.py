"""Keys are hidden wherever they stand; words, versions and names of models are told as they are."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.providers.faults import Account
from glossator.providers.keys import HIDDEN, without_keys

BASE62 = string.ascii_letters + string.digits
URL64 = BASE62 + "-_"
HEX = "0123456789abcdef"
SHAPES = {
    "openai": ("sk-", BASE62, 48, ""),
    "openai project": ("sk-proj-", URL64, 156, ""),
    "openai service": ("sk-svcacct-", URL64, 156, ""),
    "anthropic": ("sk-ant-api03-", URL64, 93, "AA"),
    "openrouter": ("sk-or-v1-", HEX, 64, ""),
    "hugging face": ("hf_", BASE62, 34, ""),
    "groq": ("gsk_", BASE62, 52, ""),
    "google": ("AIza", URL64, 35, ""),
    "stripe": ("pk_live_", BASE62, 24, ""),
    # These have no beginning of their own.
    "mistral": ("", BASE62, 32, ""),
    "hex": ("key ", HEX, 32, ""),
    "bearer": ("Bearer ", BASE62 + "+/", 43, "="),
    "token": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx", URL64, 60, ""),
}
"""A beginning, letters that are drawn, how many, and an end."""
AROUND = ("{}", "no: {}, sorry", "you sent '{}'.", "api_key={} is wrong", "(Bearer {})")
WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=14)
PIECES = st.one_of(
    WORDS,
    WORDS.map(str.capitalize),
    st.sampled_from(
        ["8x7B", "A22B", "4o", "3p1", "70b", "api", "key", "sk", "gpt", "bf16", "token"]
    ),
    st.integers(0, 99_999_999).map(str),
    st.dates().map(str),
    st.integers(0, 99).map("v{}".format),
    st.builds("{}{}".format, WORDS, st.integers(0, 9)),
    st.builds("{}.{}".format, st.integers(0, 9), st.integers(0, 99)),
)


def drawn(shape: str, seed: int) -> str:
    begins, letters, n, ends = SHAPES[shape]
    chance = random.Random(seed)
    return begins + "".join(chance.choice(letters) for _ in range(n)) + ends


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("around", AROUND)
def test_keys_of_every_shape_are_hidden_wherever_they_stand(shape: str, around: str) -> None:
    for seed in range(300):
        key = drawn(shape, seed)
        said = without_keys(around.format(key))
        secret = key.split()[-1]
        assert HIDDEN in said, key
        assert not any(secret[i : i + 6] in said for i in range(0, len(secret) - 5)), said


@given(st.lists(PIECES, min_size=2, max_size=6), st.sampled_from("-_"), st.sampled_from(AROUND))
def test_words_versions_and_names_of_models_are_not(
    pieces: list[str], between: str, around: str
) -> None:
    text = around.format(between.join(pieces))
    assert without_keys(text) == text


@pytest.mark.parametrize("begins", ["sk-", "api_", "key-", "sk-learn-"])
@given(name=st.lists(WORDS, min_size=2, max_size=6).map("-".join))
def test_neither_are_words_behind_what_a_key_may_begin_with(begins: str, name: str) -> None:
    assert without_keys(begins + name) == begins + name


@pytest.mark.parametrize(
    "text",
    [
        "api_version_2024-10-21", "sk-learn-something-here", "api-2024-preview-version",
        "model-key_embedding-v3-large", "claude-3-5-sonnet-20241022", "gpt-4o-mini-2024-07-18",
        "accounts/fireworks/models/llama-v3p1-405b-instruct", "meta-llama/Llama-3.3-70B-Instruct",
        "max_completion_tokens: 4096", "the key claude-3-5-sonnet-20241022", "token_type_ids",
        "batch_690a1b2c3d4e5f60718293a4b5c6d7e8", "req_011CSHoEeqs5C35K2UUqR7Fy",
        "ContextWindowExceededError", "123e4567-e89b-12d3-a456-426614174000",
    ],
)  # fmt: skip
def test_what_a_server_says_of_itself_is_told(text: str) -> None:
    assert without_keys(f"there is no {text} here") == f"there is no {text} here"


@given(st.text(string.printable.strip(), min_size=1, max_size=60))
def test_the_key_in_use_is_hidden_whatever_it_looks_like(key: str) -> None:
    said = Account("A", "A_API_KEY", "m", "http://a", key).clean(f"<{key}>")
    assert key not in said.replace(HIDDEN, "") or key in "<>"
