import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.config import (
    RunConfig,
    RunLimits,
    from_options,
    merge,
    option_names,
    parse_tokens,
)
from glossator.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2M", 2_000_000),
        ("200k", 200_000),
        ("200K", 200_000),
        ("1_000", 1_000),
        ("1.5M", 1_500_000),
        ("0.001k", 1),
        (" 7 ", 7),
        ("1b", 1_000_000_000),
        ("1.1M", 1_100_000),
    ],
)
def test_a_number_of_tokens_is_read(text: str, count: int) -> None:
    assert parse_tokens(text) == count


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k",
        "-1",
        "0",
        "0k",
        "1.5",
        "1.0001k",
        "2MM",
        "2 000",
        "1e6",
        "1__0",
        "٣",
        "2T",
        "9" * 30,
    ],
)
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a number of tokens"):
        parse_tokens(text)


@given(st.integers(1, 10**12))
def test_a_plain_number_reads_as_itself(count: int) -> None:
    assert parse_tokens(str(count)) == count == parse_tokens(f"{count:_}")


def test_the_digest_is_the_sha256_of_sorted_json() -> None:
    config = RunConfig(seed=3)
    by_hand = json.dumps(dataclasses.asdict(config), sort_keys=True, separators=(",", ":"))
    assert config.digest == hashlib.sha256(by_hand.encode()).hexdigest()


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    options = {"model": "a/b", "seed": 4, "tokens": "2M", "site": ["layers.1.mlp.neurons"]}
    turned = dict(reversed(options.items()))
    assert list(options) != list(turned)
    assert RunConfig.from_mapping(options).digest == RunConfig.from_mapping(turned).digest


def test_every_option_that_decides_results_changes_the_digest() -> None:
    other: dict[str, Any] = {
        "sites": ["layers.1.mlp.neurons"],
        "explainers": ["unigram"],
        "scorers": ["detection"],
        "triage": True,
        "most_seconds": 60.0,
        "base_url": "http://localhost:1/v1",
        "scorer_base_url": "http://localhost:1/v1",
    }
    digests = {RunConfig().digest}
    for option in dataclasses.fields(RunConfig):
        named = option.metadata.get("among") or [{"int": 33, "float": 0.9}.get(str(option.type))]
        value = other.get(option.name, named[-1] or "something")
        digests.add(RunConfig.from_mapping({option.name: value}).digest)
    assert len(digests) == len(dataclasses.fields(RunConfig)) + 1


def test_an_int_given_for_a_number_has_the_digest_of_the_float() -> None:
    assert RunConfig(firing_quantile=1).digest == RunConfig(firing_quantile=1.0).digest


def test_what_is_collected_does_not_depend_on_who_explains_it() -> None:
    config = RunConfig()
    same = dataclasses.replace(config, explainers=("unigram",), llm="local:small", features="0-9")
    other = dataclasses.replace(config, tokens=300_000)
    assert config.collection_digest == same.collection_digest
    assert config.collection_digest != other.collection_digest


def test_a_config_comes_back_from_its_json() -> None:
    config = RunConfig(sites=("layers.1.mlp.neurons", "layers.2.mlp.neurons"), firing_quantile=0.9)
    assert RunConfig.from_mapping(json.loads(json.dumps(config.to_json()))) == config


def test_an_unknown_key_is_refused_and_the_near_one_named() -> None:
    with pytest.raises(ConfigError, match=r"no option 'tokns'.*did you mean tokens"):
        RunConfig.from_mapping({"tokns": 5})
    with pytest.raises(ConfigError, match="did you mean budget"):
        from_options({"bugdet": 5})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": 1.5}, "tokens is a whole number"),
        ({"tokens": True}, "tokens is a whole number"),
        ({"tokens": 0}, "tokens is at least 1"),
        ({"tokens": "many"}, "not a number of tokens"),
        ({"sites": "  "[:0]}, "names one thing twice, or nothing"),
        ({"sites": []}, "no site is named"),
        ({"sites": 3}, "sites is a list of names"),
        ({"sites": [3]}, "sites is a list of names"),
        ({"scorers": ["detection", "detection"]}, "names one thing twice"),
        ({"model": None}, "model is a text"),
        ({"model": " "}, "model is empty"),
        ({"model": "a\x00b"}, "cannot be printed"),
        ({"window": 256}, "cannot be cut from a ctx of 128"),
        ({"firing_quantile": float("nan")}, "finite"),
        ({"firing_quantile": 1.5}, "at most 1"),
        ({"seed": -1}, "seed is at least 0"),
        ({"base_url": "localhost:8000"}, "such as http://localhost:8000/v1"),
        ({"base_url": "http://[bad"}, "such as http://localhost:8000/v1"),
        ({"site": "a", "sites": "b"}, "sites is given twice"),
        ({3: "a"}, "an option has a name"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_mapping(options)


def test_a_key_in_an_address_is_refused_and_not_repeated() -> None:
    for url in ("https://me:sk-secret@host/v1", "https://host/v1?api_key=sk-secret"):
        with pytest.raises(ConfigError) as refused:
            RunConfig(base_url=url)
        assert "sk-secret" not in str(refused.value)


def test_limits_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="max_calls is at least 0"):
        RunLimits(max_calls=-1)
    with pytest.raises(ConfigError, match="offline is true or false"):
        RunLimits.from_mapping({"offline": "yes"})
    assert RunLimits(budget=2).budget == 2.0


def test_flags_win_over_the_file_and_the_file_over_the_defaults() -> None:
    merged = merge(
        {"seed": 1, "tokens": 10, "scorer": ["a"]},
        {"seed": 2, "scorer-llm": "local", "scorers": ["b"]},
        {"seed": 3, "tokens": None, "scorer": []},
    )
    assert merged == {"seed": 3, "tokens": 10, "scorers": ["b"], "scorer_llm": "local"}


def test_a_flag_that_says_no_or_nought_was_given() -> None:
    assert merge({}, {"offline": True, "seed": 2}, {"offline": False, "seed": 0}) == {
        "offline": False,
        "seed": 0,
    }


def test_one_mapping_gives_both_config_and_limits() -> None:
    config, limits = from_options({"tokens": "2M", "max-calls": 7, "site": "layers.3.mlp.neurons"})
    assert config == RunConfig(tokens=2_000_000, sites=("layers.3.mlp.neurons",))
    assert limits == RunLimits(max_calls=7)


def test_no_option_is_in_both_config_and_limits() -> None:
    assert not set(option_names(RunConfig)) & set(option_names(RunLimits))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("budget", -0.01),
        ("budget", float("nan")),
        ("budget", float("inf")),
        ("max_calls", -1),
        ("max_calls", 2.5),
        ("concurrency", 0),
        ("concurrency", 5000),
        ("batch", "yes"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        RunLimits.from_mapping({name: value})


def test_nothing_at_all_is_a_limit() -> None:
    assert from_options({"budget": 0, "max-calls": 0})[1] == RunLimits(budget=0.0, max_calls=0)
