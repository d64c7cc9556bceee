"""Prompts that are too long: whole examples are left out and that is said, or it is recorded."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import PromptTooLong, ReplyError
from glossator.explainers.excerpts import excerpt
from glossator.explainers.max_act import MaxActExplainer
from glossator.llm import Reply, Request, ScriptedLLM, ask, with_fewer
from glossator.providers.faults import Account, from_status
from glossator.providers.local import LocalLLM
from glossator.runs import RunStatus
from glossator.store import Store
from glossator.types import TOP, Example, FeatureId, Pool, Split
from tests.loopback import Fault, Loopback, status
from tests.pipeline_child import config_for, do, rule
from tests.tiny_llama import save_tiny_llama

FEATURE = FeatureId("m", "s", 0)
TOO_LONG = status(400, "This model's maximum context length is 8192 tokens")


def train(n: int) -> Split:
    """`n` windows in each of which its second word fires."""
    examples = [
        Example((f"before{i}", f" word{i}", " after"), (0.0, 9.0 - i / n, 0.0), f"d{i}", 0, TOP, 1)
        for i in range(n)
    ]
    return Split(Pool.TRAIN, 0.0, tuple(examples))


def excerpts_in(prompt: str) -> list[str]:
    return re.findall(r"^\d+\. (.*)$", prompt, re.MULTILINE)


def takes(most: int) -> ScriptedLLM:
    """A model whose prompt may hold so many excerpts."""

    def answer(request: Request) -> str:
        if len(excerpts_in(request.messages[-1].content)) > most:
            raise PromptTooLong("the prompt is too long", again=False)
        return "The neuron reacts to words"

    return ScriptedLLM(answer)


# -- what is left out, and what is said of it ----------------------------------------------------


def test_whole_examples_are_left_out_until_the_prompt_fits_and_the_note_says_so() -> None:
    llm = takes(3)
    found = asyncio.run(MaxActExplainer(llm).explain(FEATURE, train(12)))
    assert [len(excerpts_in(r.messages[-1].content)) for r in llm.requests] == [10, 5, 2]
    assert found.text == "words"
    assert found.note == ("8 of 10 examples were left out: the prompt was too long for scripted")
    whole = {excerpt(e, 0.0) for e in train(12).firing}
    assert set(excerpts_in(llm.requests[-1].messages[-1].content)) < whole


def test_nothing_is_said_where_all_fit_and_none_is_counted_that_is_not_there() -> None:
    assert asyncio.run(MaxActExplainer(takes(10)).explain(FEATURE, train(12))).note == ""
    short = asyncio.run(MaxActExplainer(takes(2)).explain(FEATURE, train(4)))
    assert short.note.startswith("2 of 4 examples")


def test_a_single_example_that_is_too_long_is_an_error() -> None:
    llm = takes(0)
    with pytest.raises(PromptTooLong):
        asyncio.run(MaxActExplainer(llm).explain(FEATURE, train(12)))
    assert len(llm.requests) == 4


@given(st.integers(1, 10_000), st.integers(0, 10_000))
def test_at_least_a_third_of_what_fits_is_shown_and_few_are_asked(n: int, most: int) -> None:
    asked: list[int] = []

    async def about(k: int) -> int:
        asked.append(k)
        if k > most:
            raise PromptTooLong("too long", again=False)
        return k

    if most == 0:
        with pytest.raises(PromptTooLong):
            asyncio.run(with_fewer(takes(0), n, about))
        assert asked[-1] == 1
        return
    found, note = asyncio.run(with_fewer(takes(0), n, about))
    assert min(n, most) / 3 <= found <= min(n, most)
    assert bool(note) == (found < n)
    assert len(asked) <= n.bit_length() + 1


def test_any_other_error_leaves_nothing_out() -> None:
    llm = ScriptedLLM([ReplyError("the prompt is too long, or so", again=False)])
    with pytest.raises(ReplyError) as caught:
        asyncio.run(MaxActExplainer(llm).explain(FEATURE, train(12)))
    assert not isinstance(caught.value, PromptTooLong)
    assert len(llm.requests) == 1


def test_a_prompt_that_is_too_long_is_not_asked_again_as_it_was() -> None:
    llm = takes(0)
    request = Request(())
    llm.rule = lambda _: Reply()
    asyncio.run(ask(llm, request, lambda reply: reply.text))
    llm = ScriptedLLM([PromptTooLong("too long", again=False)])
    with pytest.raises(PromptTooLong):
        asyncio.run(ask(llm, request, lambda reply: reply.text))


# -- who says so ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (400, "This model's maximum context length is 8192 tokens"),
        (400, "prompt is too long: 210000 tokens > 200000 maximum"),
        (413, "request_too_large"),
        (429, "Request too large for gpt-x on tokens per min"),
    ],
)
def test_what_a_provider_says_of_long_prompts_is_known_by_its_type(code: int, message: str) -> None:
    account = Account("OpenAI", "OPENAI_API_KEY", "some-model", "http://127.0.0.1:1/v1")
    error = from_status(account, code, {"error": {"message": message}})
    assert isinstance(error, PromptTooLong)
    assert not error.again
    assert error.usage is not None
    assert error.usage.calls == 0


def test_a_model_in_this_process_says_so_too(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "tiny")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.content }}\n{% endfor %}", encoding="utf-8"
    )
    llm = LocalLLM.load(str(folder), device="cpu", dtype="float32")
    with pytest.raises(PromptTooLong, match="takes 512"):
        asyncio.run(MaxActExplainer(llm).explain(FEATURE, train(12)))


# -- in a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_a_run_explains_with_fewer_examples_and_show_tells(
    folder: Path, store: Store, kind: str
) -> None:
    said = TOO_LONG if kind == "openai" else status(400, "prompt is too long: 9 tokens > 8 maximum")
    faults: list[Fault | None] = [said, said, None]
    with Loopback(rule, faults) as server:
        url = server.openai_url if kind == "openai" else server.anthropic_url
        config = config_for(
            folder, base_url=url, llm=f"{kind}:some-model", features="0", scorers=["detection"]
        )
        assert do(config, store).status is RunStatus.DONE
        lengths = [len(excerpts_in(asked.last)) for asked in server.log[:3]]
    assert lengths[0] > lengths[1] > lengths[2] >= 1
    (explanation,) = store.explanations_of("r1")
    assert explanation.note.startswith(f"{lengths[0] - lengths[2]} of {lengths[0]} examples")
    if kind == "openai":
        command = [sys.executable, "-m", "glossator", "--store", store.url]
        shown = subprocess.run(
            [*command, "show", str(explanation.feature)], capture_output=True, text=True
        )
        assert explanation.note in shown.stdout, shown.stderr


def test_a_run_records_why_an_explanation_could_not_be_had(folder: Path, store: Store) -> None:
    with Loopback(rule, [TOO_LONG] * 9) as server:
        config = config_for(folder, server, features="0", scorers=["detection"])
        outcome = do(config, store)
        assert len(server.log) <= 5
    assert (outcome.status, outcome.failed) == (RunStatus.SOME_FAILED, 1)
    (failure,) = store.failures("r1")
    assert failure.kind == "PromptTooLong"
    assert "maximum context length is 8192" in failure.message
    assert store.explanations_of("r1") == []
