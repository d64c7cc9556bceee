"""What is kept of prompts, in how much memory; other kinds of models; passes of bounded size."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MptConfig,
    MptForCausalLM,
    PreTrainedModel,
)

from glossator.errors import ConfigError
from glossator.providers.judging import groups, judged
from glossator.providers.kept import Kept, Past
from glossator.providers.local import LocalLLM
from glossator.providers.passes import Passes
from glossator.providers.prompts import Prompt
from glossator.providers.tree import common_prefix
from tests.tiny_chat import (
    all_replies,
    asked,
    close,
    encoded,
    loaded,
    plain_row,
    prompts,
    rendered,
    roomy,
    save_tiny_chat,
    tokens_read,
)

ANSWERS = ("yes", "no")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_chat(tmp_path_factory.mktemp("models") / "tiny-chat")


@pytest.fixture
def llm(folder: Path) -> LocalLLM:
    return loaded(folder)


# -- what is kept --------------------------------------------------------------------------------


def past_of(ids: tuple[int, ...]) -> Past:
    """One whose keys say which tokens they are of, 8 bytes a token."""
    keys = torch.tensor(ids, dtype=torch.float32)[None, None, :, None]
    return Past(ids, ((keys, keys),))


lists = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple), max_size=9)


@given(lists, st.lists(st.integers(0, 2), max_size=7).map(tuple))
def test_the_longest_beginning_is_found_with_its_own_keys(
    kept_ids: list[tuple[int, ...]], ids: tuple[int, ...]
) -> None:
    kept = Kept(10_000)
    for some in kept_ids:
        kept.keep(past_of(some))
    found = kept.longest(ids)
    wanted = max((common_prefix([ids, some]) for some in kept_ids if ids), default=0)
    assert found.ids == ids[:wanted]
    if wanted:
        assert found.layers[0][0].flatten().tolist() == list(found.ids)


@given(lists, st.integers(0, 80))
def test_memory_is_bounded_and_none_is_the_beginning_of_another(
    kept_ids: list[tuple[int, ...]], most: int
) -> None:
    kept = Kept(most)
    for ids in kept_ids:
        kept.keep(past_of(ids))
        assert kept.n_bytes <= most
        assert kept.longest(ids).ids == ids or len(ids) * 8 > most
    held = list(kept._pasts)
    assert not [(a, b) for a in held for b in held if a != b and a == b[: len(a)]]


def test_what_was_not_used_for_longest_goes_first() -> None:
    kept = Kept(48)
    for ids in ((1, 1), (2, 2), (3, 3)):
        kept.keep(past_of(ids))
    kept.longest((1, 1, 9))
    kept.keep(past_of((4, 4)))
    assert [kept.longest((i, i)).ids for i in (1, 2, 3, 4)] == [(1, 1), (), (3, 3), (4, 4)]


def test_nothing_of_a_kept_past_is_written_to(llm: LocalLLM) -> None:
    requests = [asked(t, max_tokens=0, answers=ANSWERS) for t in prompts(6, 1)]
    all_replies(llm, requests)
    assert llm._passes is not None
    before = [(k.clone(), k) for past in llm._passes.kept._pasts.values() for k, _ in past.layers]
    assert before
    all_replies(llm, [asked(t, max_tokens=5) for t in prompts(6, 1)])
    all_replies(llm, requests[::-1])
    assert all(torch.equal(as_was, now) for as_was, now in before)


def test_the_fixed_part_of_each_kind_of_prompt_is_read_once(llm: LocalLLM) -> None:
    llm = roomy(llm)
    systems = [" ".join(f"{kind}{i}" for i in range(40)) for kind in ("a", "b", "c")]
    fixed = [len(encoded(llm, f"<s>[system]\n{s}<|endoftext|>\n[user]\n")) for s in systems]
    assert min(fixed) > 60
    with tokens_read(llm) as read:
        # Kinds in turn, one prompt at a time: what one needs does not push the others out.
        for i in range(9):
            request = asked(f"the {i}", system=systems[i % 3], max_tokens=0, answers=("0", "1"))
            all_replies(llm, [request])
    ends = [len(encoded(llm, f"the {i}<|endoftext|>\n[assistant]\n")) for i in range(9)]
    assert sum(read) <= sum(fixed) + sum(ends)


def test_prompts_asked_together_are_read_once_each_token(llm: LocalLLM) -> None:
    requests = [
        asked(f"{t} {i}", max_tokens=0, answers=("0", "1")) for i, t in enumerate(prompts(8, 2))
    ]
    ids = [tuple(encoded(llm, rendered(r))) for r in requests]
    distinct = len({i[:n] for i in ids for n in range(1, len(i) + 1)})
    assert llm._passes is not None
    llm._passes.most = distinct
    with tokens_read(llm) as read:
        all_replies(llm, requests)
    assert sum(read) == distinct < sum(map(len, ids))


@given(lists, st.integers(1, 12))
def test_every_prompt_is_in_one_group_and_groups_are_bounded(
    ids: list[tuple[int, ...]], most: int
) -> None:
    found = groups([Prompt(i, (len(i) - 1,)) for i in ids], most)
    assert sorted(i for group in found for i in group) == list(range(len(ids)))
    for group in found:
        some = [ids[i] for i in group]
        shared = common_prefix(some)
        nodes = {i[:n] for i in some for n in range(shared + 1, len(i) + 1)}
        assert len(group) == 1 or len(nodes) <= most


# -- passes of bounded size ------------------------------------------------------------------------


def test_a_long_prompt_is_read_in_pieces_and_gives_the_same(llm: LocalLLM) -> None:
    llm = roomy(llm)
    text = " ".join(prompts(40, 5))
    lines = "".join(f"w{i}\tunknown\n" for i in range(60))
    slots = tuple(f"w{i}\t" for i in range(60))
    requests = [
        asked(text, max_tokens=0, answers=ANSWERS),
        asked(text, max_tokens=4),
        asked(lines, max_tokens=0, answers=("1", "10"), slots=slots),
    ]
    whole = all_replies(roomy(llm), requests)
    assert llm._passes is not None
    llm._passes.most = 100
    with tokens_read(llm) as read:
        pieces = all_replies(llm, requests)
    assert max(read) <= 100
    assert sum(read) > 2000
    for a, b in zip(whole, pieces, strict=True):
        assert a.text == b.text
        assert close(a.answers, b.answers)
        assert all(close(x, y) for x, y in zip(a.slots, b.slots, strict=True))
    assert close(pieces[0].answers, plain_row(llm, encoded(llm, rendered(requests[0])), ANSWERS))


# -- other kinds of models -------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    **{"vocab_size": 300, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
}
MIXED = ["sliding_attention", "full_attention"]


def lively(model: PreTrainedModel) -> PreTrainedModel:
    chance = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3, generator=chance)
    return model.eval()  # type: ignore[no-untyped-call,no-any-return]


GOOD: dict[str, Callable[[], PreTrainedModel]] = {
    "sliding windows": lambda: MistralForCausalLM(MistralConfig(**SIZES, sliding_window=8)),
    "layers of two kinds": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, sliding_window=8, layer_types=MIXED)
    ),
    "capped logits": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, sliding_window=8)),
    "learned positions": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    ),
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("most", [512, 10])
def test_trees_give_what_plain_passes_give(kind: str, most: int) -> None:
    model = lively(GOOD[kind]())
    passes = Passes.of(model)
    passes.most = most
    chance = random.Random(most)
    start = [chance.randrange(300) for _ in range(18)]
    answers = ((5,), (7, 8, 9))
    asked_of = []
    for _ in range(8):
        ids = start[: chance.randint(5, 18)]
        ids += [chance.randrange(300) for _ in range(chance.randint(1, 25))]
        asked_of.append(Prompt(tuple(ids), (len(ids) - 1,), answers))
    with torch.inference_mode():
        assert passes.trees_are_right()
        for _ in range(2):  # The second time, the beginning is kept.
            for prompt, rows in zip(asked_of, judged(passes, asked_of), strict=True):
                wanted = [plainly(model, prompt.ids, answer) for answer in answers]
                assert close(rows[0], wanted)


def plainly(model: PreTrainedModel, ids: tuple[int, ...], answer: tuple[int, ...]) -> float:
    logits = model(input_ids=torch.tensor([ids + answer]), use_cache=False).logits[0]
    log_probs = logits.double().log_softmax(-1)
    return sum(float(log_probs[len(ids) - 1 + i, token]) for i, token in enumerate(answer))


BAD: dict[str, Callable[[], PreTrainedModel]] = {
    "distances in place of positions": lambda: MptForCausalLM(
        MptConfig(vocab_size=300, d_model=32, n_layers=2, n_heads=2)
    ),
    "masks of its own": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=300, hidden_size=32, n_layer=2, n_head=2)
    ),
    "no keys and values": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4)
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", BAD)
def test_a_model_that_trees_do_not_suit_is_refused_before_anything_is_asked(
    llm: LocalLLM, kind: str
) -> None:
    assert asyncio.run(llm.check()) == ""
    other = LocalLLM("hf:other", lively(BAD[kind]()), llm.tokenizer)
    with pytest.raises(ConfigError, match="--base-url"):
        asyncio.run(other.check())
