"""`output`, `both` and `sasc`: what they show, what they make of it, and when they abstain."""

from __future__ import annotations

import asyncio
import re

import pytest

from glossator.config import RunConfig
from glossator.datasets.planted import collect_planted
from glossator.errors import ConfigError, ProviderError, ReplyError
from glossator.experiments import Experiments, SubjectLive, live_function
from glossator.explainers.both import BothExplainer, parse
from glossator.explainers.build import build_explainer, needs_live
from glossator.explainers.output import OutputExplainer
from glossator.explainers.phrase import phrase_of
from glossator.explainers.sasc import SascExplainer
from glossator.llm import Reply, Request, ScriptedLLM
from glossator.subject import load_subject
from glossator.types import FeatureId, FeatureRecord, Pool, Split, Usage
from glossator.units import explain_one
from tests.tiny_llama import save_tiny_llama, some_texts


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> SubjectLive:
    folder = save_tiny_llama(tmp_path_factory.mktemp("live") / "tiny")
    subject = load_subject(str(folder), device="cpu", dtype="float32")
    return Experiments(subject).on(FeatureId("tiny", "layers.1.mlp.neurons", 5), 2.0)


def river(tokens: list[str]) -> list[float]:
    return [2.0 * (t.strip().lower() == "river") for t in tokens]


@pytest.fixture(scope="module")
def record() -> FeatureRecord:
    return collect_planted({"river": river}, texts=some_texts(300, 80, seed=5))[0]


# -- output ----------------------------------------------------------------------------------------


def test_output_shows_what_is_promoted_and_what_moves_and_nothing_of_the_text(
    live: SubjectLive, record: FeatureRecord
) -> None:
    llm = ScriptedLLM([Reply("The neuron promotes names of ships.", usage=Usage(calls=1))])
    found = asyncio.run(OutputExplainer(llm, live).explain(live.feature, record.train))
    assert (found.text, found.output_effect) == ("promotes names of ships", "names of ships")
    assert found.usage.calls == 1
    asked = llm.requests[0].messages[-1].content
    names = [line.partition(":")[0] for line in asked.splitlines()]
    assert names == [
        "Promoted",
        "Suppressed",
        "Likelier next when it is strong",
        "Less likely next",
    ]
    promoted = asyncio.run(live.promoted(15)).promoted
    readable = [t.strip() for t, _ in promoted if t.strip().isprintable() and "\ufffd" not in t]
    assert len(readable) > 5
    assert asked.splitlines()[0] == "Promoted: " + ", ".join(f'"{t}"' for t in readable)
    assert not re.search(r"\d\.\d", asked)  # no activation and no probability
    assert record.train.firing[0].text not in asked


@pytest.mark.parametrize("reply", ["The neuron promotes nothing clear.", "nothing clear"])
def test_output_that_says_nothing_is_an_abstention_that_was_paid_for(
    live: SubjectLive, record: FeatureRecord, reply: str
) -> None:
    llm = ScriptedLLM([Reply(reply, usage=Usage(calls=1))])
    found = asyncio.run(OutputExplainer(llm, live).explain(live.feature, record.train))
    assert "nothing clear" in found.abstained
    assert found.usage.calls == 1


def test_output_of_a_feature_without_one_is_an_abstention_that_asks_nobody(
    record: FeatureRecord,
) -> None:
    llm = ScriptedLLM([])
    planted = live_function(river, record)
    found = asyncio.run(OutputExplainer(llm, planted).explain(record.feature, record.train))
    assert "function of the text" in found.abstained
    assert not llm.requests


def test_a_head_has_no_direction_but_a_change_of_what_comes_next(
    live: SubjectLive, record: FeatureRecord
) -> None:
    head = live.experiments.on(FeatureId("tiny", "layers.1.attn.heads", 1), 2.0)
    llm = ScriptedLLM(["names of ships"])
    asyncio.run(OutputExplainer(llm, head).explain(head.feature, record.train))
    asked = llm.requests[0].messages[-1].content
    assert "Likelier next" in asked
    assert "Promoted" not in asked


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("names of ships", "names of ships"),
        ("The neuron promotes: names of ships.\nmore", "names of ships"),
        ('words such as "a", "b", "a", "b", "a"', 'words such as "a", "b"'),
        ("the neuron promotes", None),
        ("", None),
        ("??", None),
    ],
)
def test_a_phrase_is_read_or_refused(reply: str, wanted: str | None) -> None:
    if wanted is None:
        with pytest.raises(ReplyError, match="no explanation"):
            phrase_of(reply, "The neuron promotes")
    else:
        assert phrase_of(reply, "The neuron promotes") == wanted


# -- both ------------------------------------------------------------------------------------------


def test_both_labels_its_evidence_and_fills_both_parts(
    live: SubjectLive, record: FeatureRecord
) -> None:
    llm = ScriptedLLM(['Trigger: the word "river".\nEffect: names of ships.'])
    found = asyncio.run(BothExplainer(llm, live).explain(live.feature, record.train))
    assert found.trigger == 'the word "river"'
    assert found.output_effect == "names of ships"
    assert found.text == 'the word "river"; promotes names of ships'
    asked = llm.requests[0].messages[-1].content
    inside, outside = asked.removeprefix("INPUT\n").split("\nOUTPUT\n")
    assert "<<river>>" in inside
    assert outside.startswith("Promoted: ")


def test_both_of_a_feature_without_an_output_is_of_the_input_alone_and_says_so(
    record: FeatureRecord,
) -> None:
    llm = ScriptedLLM(["Trigger: rivers\nEffect: invented"])
    planted = live_function(river, record)
    found = asyncio.run(BothExplainer(llm, planted).explain(record.feature, record.train))
    assert (found.text, found.output_effect) == ("rivers", "")
    assert "input alone" in found.note
    assert "OUTPUT\n(unknown)" in llm.requests[0].messages[-1].content
    empty = Split(Pool.TRAIN, 0.0)
    assert asyncio.run(BothExplainer(llm, planted).explain(record.feature, empty)).abstained


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("Trigger: a\nEffect: b", ("a", "b")),
        (" a.\n\n**Effect**: none", ("a", "")),
        ("Trigger: a\nEffect: to, on, to, on", ("a", "to, on")),
        ("trigger: a\neffect: nothing clear", ("a", "")),
        ("Trigger: a", None),
        ("Effect: b", None),
        ("Trigger:\nEffect: b", None),
        ("", None),
    ],
)
def test_both_lines_are_wanted(reply: str, wanted: tuple[str, str] | None) -> None:
    if wanted is None:
        with pytest.raises(ReplyError, match="Trigger"):
            parse(reply)
    else:
        assert parse(reply) == wanted


# -- sasc ------------------------------------------------------------------------------------------

WORDS = {"rivers": "river", "ships": "ship", "bread": "bread"}


def writer(proposals: list[str]) -> ScriptedLLM:
    """Proposes in order, and writes texts that hold the word of what they are about."""
    left = iter(proposals)

    def rule(request: Request) -> str:
        asked = request.messages[-1].content
        about = asked.partition(":")[2].strip().partition("\n")[0]
        if "must not occur" in asked:
            n = len(re.findall(r"^\d+\. ", asked, re.MULTILINE))
            return "\n".join(f"{i}. they saw no {i} of them" for i in range(1, n + 1))
        if "must occur" in asked:
            return "\n".join(f"{i}. they saw the {i} {WORDS[about]}" for i in range(1, 9))
        return f"Most of them are {next(left)}."

    return ScriptedLLM(rule)


def test_sasc_keeps_the_proposal_that_raises_the_feature(record: FeatureRecord) -> None:
    llm = writer(["ships", "rivers", "bread"])
    explainer = SascExplainer(llm, live_function(river, record))
    found = asyncio.run(explainer.explain(record.feature, record.train))
    assert found.text == "rivers"
    assert "sd on 8 texts" in found.note
    # two of three texts of a half at least hold the word that it responds to
    proposing = [r for r in llm.requests if "must" not in r.messages[-1].content]
    lines = proposing[0].messages[-1].content.splitlines()
    assert sum("river" in line for line in lines) > len(lines) / 2
    assert not any("2.0" in line for line in lines)


def test_sasc_abstains_where_no_proposal_raises_it(record: FeatureRecord) -> None:
    llm = writer(["ships", "bread", "ships"])
    explainer = SascExplainer(llm, live_function(river, record))
    found = asyncio.run(explainer.explain(record.feature, record.train))
    assert "do not raise it" in found.abstained
    assert found.usage.calls


def test_sasc_without_a_usable_reply_is_an_error_with_its_cost(record: FeatureRecord) -> None:
    llm = ScriptedLLM(lambda _: Reply("?", usage=Usage(calls=1)))
    with pytest.raises(ReplyError) as caught:
        asyncio.run(
            SascExplainer(llm, live_function(river, record)).explain(record.feature, record.train)
        )
    assert caught.value.usage is not None
    assert caught.value.usage.calls == len(llm.requests)


def test_sasc_gives_up_where_the_provider_lost_a_proposal(record: FeatureRecord) -> None:
    given = writer(["rivers", "bread"]).rule
    assert callable(given)
    proposals = 0

    def rule(request: Request) -> Reply | str:
        nonlocal proposals
        proposals += "must" not in request.messages[-1].content
        if proposals == 2 and "must" not in request.messages[-1].content:
            raise ReplyError("an empty body", broken=True)
        return given(request)

    live = live_function(river, record)
    with pytest.raises(ProviderError, match="a reply was lost on the way: an empty body"):
        asyncio.run(explain_one(RunConfig(), record, "sasc", ScriptedLLM(rule), live))
    assert proposals == 3


def test_sasc_of_what_never_fires_asks_nobody(record: FeatureRecord) -> None:
    llm = ScriptedLLM([])
    explainer = SascExplainer(llm, live_function(river, record))
    found = asyncio.run(explainer.explain(record.feature, Split(Pool.TRAIN, 0.0)))
    assert "nothing fires" in found.abstained


# -- how they are built ----------------------------------------------------------------------------


def test_who_makes_experiments_says_so(record: FeatureRecord) -> None:
    assert [n for n in ("both", "max-act", "n2g", "output", "sasc") if needs_live(n)] == [
        "both",
        "n2g",
        "output",
        "sasc",
    ]
    with pytest.raises(ConfigError, match="live_on"):
        build_explainer("n2g")
    with pytest.raises(ConfigError, match="--llm"):
        build_explainer("sasc", live=live_function(river, record))
    built = build_explainer("both", ScriptedLLM([]), n_shown=3, live=live_function(river, record))
    assert isinstance(built, BothExplainer)
    assert built.n_shown == 3
