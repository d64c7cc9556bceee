import json

import pytest

from glossator.providers.prices import (
    FREE,
    Discounted,
    FlatPrice,
    ListedPrice,
    find_price,
    price_snapshot,
    worst_cost,
)


def test_a_known_model_costs_what_its_maker_says() -> None:
    price = find_price("openai", "gpt-4o-mini")
    assert price is not None
    # 0.15 dollars per million prompt tokens and 0.60 per million of completion, since July 2024.
    assert price.cost(1_000, 500) == pytest.approx(1_000 * 0.15e-6 + 500 * 0.60e-6)


def test_prompt_tokens_from_the_providers_cache_are_cheaper() -> None:
    price = find_price("openai", "gpt-4o-mini")
    assert price is not None
    assert price.cost(1_000, 0, cache_read=1_000) == pytest.approx(1_000 * 0.075e-6)


def test_writing_to_anthropics_cache_costs_a_quarter_more() -> None:
    price = find_price("anthropic", "claude-sonnet-4-5")
    assert price is not None
    assert price.cost(1_000, 0, cache_write=1_000) == pytest.approx(1.25 * price.cost(1_000, 0))
    assert worst_cost(price, 1_000, 0) == pytest.approx(1_000 * 3.75e-6)


def test_an_unknown_model_has_no_price_and_never_the_price_0() -> None:
    assert find_price("openai", "gpt-nobody-made") is None
    with pytest.raises(LookupError):
        ListedPrice("gpt-nobody-made", "openai").cost(1, 1)


def test_another_server_has_not_the_price_of_the_models_maker() -> None:
    assert find_price("openai", "gpt-4o-mini", "http://127.0.0.1:8000/v1") is None
    routed = find_price("openai", "openai/gpt-4o-mini", "https://openrouter.ai/api/v1")
    assert routed is not None
    assert routed.cost(1_000_000, 0) == pytest.approx(0.15)


def test_local_models_cost_nothing() -> None:
    assert FREE.cost(1_000_000, 1_000_000) == 0.0


def test_a_price_is_not_negative() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        FlatPrice(-1.0, 0.0)


def test_a_batch_costs_half() -> None:
    price = find_price("anthropic", "claude-sonnet-4-5")
    assert price is not None
    half = Discounted(price)
    counts = {"cache_read": 100, "cache_write": 50}
    assert half.cost(1_000, 500, **counts) == pytest.approx(price.cost(1_000, 500, **counts) / 2)
    assert json.loads(price_snapshot(half))["share"] == 0.5
    assert json.loads(price_snapshot(half))["input"] == pytest.approx(1.5)


def test_a_snapshot_says_what_each_class_of_token_cost_and_whose_list_it_was() -> None:
    price = find_price("openai", "gpt-4o-mini")
    assert price is not None
    kept = json.loads(price_snapshot(price))
    assert (kept["input"], kept["output"], kept["cache_read"]) == (0.15, 0.6, 0.075)
    assert (kept["source"], kept["provider"]) == ("genai-prices", "openai")
    assert kept["version"]
    assert kept["per"] == 1_000_000
