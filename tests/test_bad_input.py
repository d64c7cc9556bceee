"""Features, explanations and replies that are no good end in a state that can be read."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glossator.config import RunConfig
from glossator.datasets.collect import collect
from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import collect_planted
from glossator.datasets.pools import pool_of
from glossator.embedder import Vectors
from glossator.errors import ConfigError, NotFinite, Refused, ReplyError
from glossator.explainers.both import parse as parse_both
from glossator.explainers.max_act import read
from glossator.explainers.phrase import phrase_of
from glossator.llm import LLM, Can, Reply, Request, ScriptedLLM
from glossator.runs import RunStatus
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.nulls import choose_wrong
from glossator.store import Store, open_store
from glossator.subject import load_subject
from glossator.types import Explanation, FeatureId, FeatureRecord, Pool, Score, Split
from glossator.units import explain_one
from glossator.web.report import write_report
from tests.loopback import Answer, Asked, Loopback
from tests.pipeline_child import DEAD, config_for, do, kind_of, rule, save_subject, save_texts

SCORERS = ("simulation", "detection", "fuzzing", "embedding", "rubric", "surprisal", "purity")
ABLE = frozenset({Can.ANSWERS})
PLAIN = "the a of and to was with from over under stone bread market bridge door wind".split()  # noqa: SIM905
RULES: dict[str, Callable[[list[str]], list[float]]] = {
    "river": lambda tokens: [2.0 * (t.strip() == "river") for t in tokens],
    "never": lambda tokens: [0.0] * len(tokens),
    "everywhere": lambda tokens: [1.0 + i / 100 for i in range(len(tokens))],
    "alone": lambda tokens: [2.0 * (t.strip() == "alone") for t in tokens],
}


def documents() -> list[str]:
    """Texts of plain words; one, of the test pool, holds the word `alone`."""
    chance = random.Random(0)
    made = [" ".join([*chance.choices([*PLAIN, "river"], k=40), f"number{i}"]) for i in range(300)]
    once = (" ".join(["alone", *chance.choices(PLAIN, k=40), f"lonely{i}"]) for i in range(99))
    return [*made, next(text for text in once if pool_of(text) is Pool.TEST)]


@pytest.fixture(scope="module")
def records() -> dict[str, FeatureRecord]:
    found = collect_planted(RULES, texts=documents(), window=16)
    return dict(zip(RULES, found, strict=True))


class Letters:
    """Texts by their letters; one without any is near to nothing."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 27)."""
        rows = np.array([[*(t.lower().count(chr(97 + i)) for i in range(26)), 0.01] for t in texts])
        found: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return found


def knows(request: Request) -> Reply:
    """Says yes to windows with a river; a passage is likelier behind any description of one."""
    asked = request.messages[-1].content
    if len(request.answers) == 1:
        return Reply(answers=(-40.0 - len(request.answers[0]) % 7,))
    yes = "river" in asked.split("\n")[0]
    if len(request.answers) == 2:
        return Reply(answers=(math.log(0.9), math.log(0.1))[:: 1 if yes else -1])
    return Reply(answers=tuple(math.log(0.97 if i == 3 * yes else 0.01) for i in range(4)))


def scored(
    scorer: str, record: FeatureRecord, text: str, rule: Callable[[Request], Any] = knows
) -> Score:
    explanation = Explanation(record.feature, text, "max-act")
    part = build_scorer(
        scorer,
        explanation,
        choose_wrong(explanation, (), 2, 0),
        simulator="auto",
        llm=ScriptedLLM(rule, can=ABLE | {Can.PROMPT_LOGPROBS}),
        settings=Settings(12),
        embedder=Letters(),
    )
    return asyncio.run(part.score(explanation, record.test, record.dev))


# -- features --------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize(
    ("name", "says"),
    [("never", "never fires in the test pool"), ("everywhere", "fires in every window")],
)
def test_what_fires_never_or_everywhere_has_no_value_and_a_reason(
    records: dict[str, FeatureRecord], scorer: str, name: str, says: str
) -> None:
    found = scored(scorer, records[name], "rivers")
    assert found.value is None
    assert says in found.note
    assert found.usage.calls == 0


@pytest.mark.parametrize("scorer", SCORERS)
def test_what_fires_in_one_document_alone_is_scored_on_what_there_is_and_says_so(
    records: dict[str, FeatureRecord], scorer: str
) -> None:
    record = records["alone"]
    assert len(record.test.firing) == 1
    assert not record.train.firing
    found = scored(scorer, record, "alone")
    assert found.n > 1
    assert "all firing windows that were scored are of one document" in found.note
    assert "one document" not in scored(scorer, records["river"], "rivers").note


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e300])
def test_a_number_that_is_none_is_refused_with_the_name_of_the_feature(number: float) -> None:
    with pytest.raises(ConfigError, match="'odd' gave NaN or an infinite activation"):
        collect_planted({"odd": lambda tokens: [number] * len(tokens)}, texts=documents()[:20])


def broken_subject(folder: Path, neuron: int, value: float) -> Path:
    """A tiny model of which one neuron is never a number, or always too large for one."""
    from safetensors.torch import load_file, save_file

    save_subject(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.mlp.gate_proj.weight"][neuron] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_run_sets_a_feature_that_is_no_number_aside_and_does_the_others(
    tmp_path: Path, server: Loopback, value: float
) -> None:
    broken_subject(tmp_path / "subject", 7, value)
    save_texts(tmp_path / "texts.jsonl")
    config = config_for(tmp_path, server, features="6-8", scorers=["detection"])
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        for stages in (("collect", "explain", "score"), ("explain", "score"), ("collect",)):
            outcome = do(config, store, stages=stages)
            assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.SOME_FAILED, 2, 1)
            (failure,) = store.failures("r1")
            assert failure.feature is not None
            assert (failure.feature.index, failure.stage) == (7, "collect")
            assert "layers.0.mlp.neurons/7: an activation is NaN or infinite" in failure.message
        assert {s.feature.index for s in store.scores_of("r1")} == {6, 8}
        page = write_report(store, "r1", tmp_path / "r.html").read_text()
        assert "NaN or infinite" in page
        alone = config_for(tmp_path, server, features="7", scorers=["detection"])
        outcome = do(alone, store)
        assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.SOME_FAILED, 0, 1)
    subject = load_subject(str(tmp_path / "subject"), device="cpu", dtype="float32")
    corpus = Corpus.of([" ".join(f"word{i}" for i in range(40)) + f" {n}" for n in range(30)])
    with pytest.raises(NotFinite, match="neurons/7: ") as caught:
        collect(subject, "layers.0.mlp.neurons", range(6, 9), corpus=corpus, ctx=64, window=16)
    assert [feature.index for feature in caught.value.features] == [7]


def test_a_feature_that_could_be_collected_after_all_is_no_failure_any_more(
    tmp_path: Path, server: Loopback
) -> None:
    broken_subject(tmp_path / "subject", 7, math.nan)
    save_texts(tmp_path / "texts.jsonl")
    config = config_for(tmp_path, server, features="6-7", scorers=["detection"])
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        do(config, store)
        assert len(store.failures("r1")) == 1
        broken_subject(tmp_path / "subject", 7, 0.5)
        outcome = do(config, store)
        assert outcome.run.id == "r1"
        assert (outcome.status, outcome.done) == (RunStatus.DONE, 2)
        assert store.failures("r1") == []


def test_dead_and_live_features_of_a_run_each_end_in_a_readable_state(
    folder: Path, store: Store, server: Loopback, tmp_path: Path
) -> None:
    config = config_for(
        folder, server, features=f"0,{DEAD}", firing_quantile=0.5,
        scorers=["detection", "fuzzing", "simulation"],
    )  # fmt: skip
    assert do(config, store).status is RunStatus.DONE
    found = {s.feature.index: s for s in store.scores_of("r1") if s.scorer == "detection"}
    assert found[DEAD].value is None
    assert "abstained" in found[DEAD].note
    assert found[0].value is not None or found[0].note
    write_report(store, "r1", tmp_path / "r.html")


# -- explanations ----------------------------------------------------------------------------------


def test_an_empty_explanation_is_refused_where_it_is_made() -> None:
    for text in ("", "  \n"):
        with pytest.raises(ValueError, match="has a text, or a reason to abstain"):
            Explanation.written_by_hand(FeatureId("m", "s", 0), text)


ODD = {
    "greek": "\u03bb\u03ad\u03be\u03b5\u03b9\u03c2 \u03b3\u03b9\u03b1 \u03bd\u03b5\u03c1\u03cc",
    "arabic": "\u0643\u0644\u0645\u0627\u062a \u0639\u0646 \u0627\u0644\u0645\u0627\u0621",
    "chinese": "\u5173\u4e8e\u6cb3\u6d41\u7684\u8bcd",
    "signs": '.\n"<<\u2028>>"\x00',
    "long": " ".join(f"river{i}" for i in range(5000)),
}


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("odd", ODD)
def test_an_explanation_of_any_language_form_and_length_is_scored(
    records: dict[str, FeatureRecord], scorer: str, odd: str
) -> None:
    found = scored(scorer, records["river"], ODD[odd])
    assert found.n_failed == 0
    assert found.n > 1
    assert found.value is not None or "the same" in found.note
    assert Score.from_json(found.to_json()) == found


@dataclass(frozen=True)
class Says:
    """An explainer from outside, with something odd to say."""

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """By the feature, one of `ODD`."""
        return Explanation(feature, list(ODD.values())[feature.index], "says")


def test_odd_explanations_go_through_a_run_a_store_and_a_page(
    folder: Path, store: Store, server: Loopback, tmp_path: Path
) -> None:
    config = config_for(
        folder, server, features="0-4", explainers=["tests.test_bad_input:Says"],
        scorers=["simulation", "detection", "fuzzing", "rubric"],
    )  # fmt: skip
    outcome = do(config, store)
    assert outcome.done + outcome.failed == 5
    for score in store.scores_of("r1"):
        assert score.value is not None or score.note
    write_report(store, "r1", tmp_path / "r.html")


# -- replies ---------------------------------------------------------------------------------------


def explained(name: str, record: FeatureRecord, llm: LLM) -> Explanation:
    return asyncio.run(explain_one(RunConfig(), record, name, llm, embedder=Letters()))


EXPLAINERS = ("max-act", "contrastive", "senses", "revise", "best-of")


def refuses(request: Request) -> Reply:
    raise Refused("it declined", "I cannot help with that.")


@pytest.mark.parametrize("scorer", [s for s in SCORERS if s not in ("embedding", "simulation")])
def test_a_judge_that_refuses_gives_no_score_and_is_counted(
    records: dict[str, FeatureRecord], scorer: str
) -> None:
    found = scored(scorer, records["river"], "rivers", refuses)
    assert found.value is None
    assert set(found.failures) == {"refused"}
    assert "could be judged" in found.note


@pytest.mark.parametrize("way", ["refused", "in words"])
def test_a_refusal_in_a_run_is_a_failure_with_its_reply_and_never_a_score(
    folder: Path, store: Store, way: str
) -> None:
    sorry = "I'm sorry, but I can't help with that."

    def declines(asked: Asked) -> Answer:
        if kind_of(asked.messages) == "explain":
            return rule(asked)
        return Answer(sorry, finish="refused") if way == "refused" else Answer(sorry)

    scorers = ["simulation", "detection", "fuzzing", "rubric", "purity"]
    with Loopback(declines) as server:
        config = config_for(folder, server, features="0", scorers=scorers)
        assert do(config, store).status is RunStatus.SOME_FAILED
    assert store.scores_of("r1") == []
    failures = {f.part.rpartition("/")[2]: f for f in store.failures("r1")}
    assert set(failures) == set(scorers)
    wanted = {"refused": "Refused", "in words": "ReplyError"}[way]
    assert {f.kind for f in failures.values()} == {wanted}
    if way == "in words":
        assert all(sorry in f.reply for f in failures.values())


@pytest.mark.parametrize("name", EXPLAINERS)
def test_an_explainer_whose_model_refuses_says_so(
    records: dict[str, FeatureRecord], name: str
) -> None:
    record = records["river"]
    llm = ScriptedLLM(refuses, can=ABLE)
    with pytest.raises(Refused, match="it declined"):
        explained(name, record, llm)
    empty = ScriptedLLM(lambda _: "  ")
    with pytest.raises(ReplyError, match="holds no explanation"):
        explained(name, record, empty)


@pytest.mark.parametrize(
    "sorry",
    [
        "I'm sorry, but I can't help with that.",
        "I\u2019m really sorry, I cannot say.",
        "I cannot assist with this request.",
        "Sorry, but I am not able to describe this.",
        "As an AI language model, I do not have opinions.",
        "I apologize, but I'm unable to continue.",
        '"I won\'t answer that."',
    ],
)
@pytest.mark.parametrize("name", EXPLAINERS)
def test_a_refusal_in_words_is_no_explanation(
    records: dict[str, FeatureRecord], name: str, sorry: str
) -> None:
    llm = ScriptedLLM(lambda _: sorry)
    with pytest.raises(Refused, match="declined to answer") as caught:
        explained(name, records["river"], llm)
    assert caught.value.reply == sorry
    for reads in (parse_both, lambda reply: phrase_of(reply, "Most of them are")):
        with pytest.raises(Refused):
            reads(sorry)


@pytest.mark.parametrize(
    "reply",
    [
        "The neuron reacts to I cannot and other refusals.",
        "apologies such as I'm sorry",
        "sorry and other words of regret",
        'the word "I" before can\'t',
        "I and other pronouns",
    ],
)
def test_a_description_of_refusals_is_none(reply: str) -> None:
    assert read(Reply(reply))
