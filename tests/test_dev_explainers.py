"""Explainers that look at hard text, at several senses, or at what they get wrong on dev."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import glossator as gl
from glossator.bench.oracle import Oracle
from glossator.config import RunConfig
from glossator.datasets.corpora import Corpus
from glossator.datasets.truth import LIBRARY, Ground, plant
from glossator.datasets.truth_text import made_up
from glossator.embedder import Vectors
from glossator.errors import ConfigError, ProviderError, ReplyError
from glossator.explainers.abstention import NO_PATTERN, sees_none
from glossator.explainers.best_of import BestOfExplainer
from glossator.explainers.build import build_explainer, needs_llm
from glossator.explainers.contrastive import ContrastiveExplainer, hard_silent
from glossator.explainers.max_act import MaxActExplainer
from glossator.explainers.revise import ReviseExplainer, mistakes
from glossator.explainers.senses import SensesExplainer, clusters
from glossator.explainers.table import Explainer
from glossator.llm import LLM, Can, Reply, Request, ScriptedLLM
from glossator.types import Explanation, FeatureId, FeatureRecord, Split, Usage
from glossator.units import OnDev, explain_one

NUMBERS = "numbers of one digit"
DIGITS = "numbers of one, two or three digits"
ONE_OR_TWO = "the digits 1 and 2, standing alone"
WATER = "words for fire and heat"
UNDER = "the words under and below"
SENSES = f"{WATER}, and also {UNDER}"
CONTEXT = "words inside round brackets"
TOKEN = 'the word "because"'
NAMES = (NUMBERS, SENSES, CONTEXT, TOKEN)
CONFIG = RunConfig(scorers=("detection",), n_scored=40)


@pytest.fixture(scope="module")
def ground() -> Ground:
    features = [feature for feature in LIBRARY if feature.name in NAMES]
    return plant(features, Corpus.of(made_up(LIBRARY, 700)), tokens=None)


@pytest.fixture(scope="module")
def records(ground: Ground) -> dict[str, FeatureRecord]:
    return {feature.name: record for feature, record in ground.pairs()}


@dataclass
class Heard:
    """The oracle, of which everything that it is asked is kept."""

    oracle: Oracle
    name: str = "oracle"
    requests: list[Request] = field(default_factory=list)

    @property
    def can(self) -> Any:
        """As the oracle."""
        return self.oracle.can

    async def reply(self, request: Request) -> Reply:
        """As the oracle."""
        self.requests.append(request)
        return await self.oracle.reply(request)


@pytest.fixture
def heard(ground: Ground) -> Heard:
    return Heard(Oracle.of(ground))


class Letters:
    """Texts as counts of letters: alike where they are spelt alike."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 26)."""
        rows = np.array([[t.lower().count(chr(97 + i)) for i in range(26)] for t in texts], float)
        found: Vectors = (rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)[:, None]).astype(
            np.float32
        )
        return found


@dataclass(frozen=True)
class Saying:
    """An explainer that says what a function makes of the windows that it is shown."""

    says: Callable[[Split], str]

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """That."""
        return Explanation(feature, self.says(train), "saying")


def trial(record: FeatureRecord, llm: LLM) -> OnDev:
    return OnDev(CONFIG, record, llm, Letters())


def explained(explainer: Explainer, record: FeatureRecord) -> Explanation:
    return asyncio.run(explainer.explain(record.feature, record.train))


# -- nobody sees test ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["contrastive", "senses", "revise", "best-of", "max-act"])
@pytest.mark.parametrize("about", [NUMBERS, SENSES])
def test_no_window_of_test_is_in_any_prompt(
    name: str, about: str, records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[about]
    said = asyncio.run(explain_one(CONFIG, record, name, heard, embedder=Letters()))
    assert said.text
    assert said.explainer == name
    asked = "".join("".join(m.content.split()) for r in heard.requests for m in r.messages)

    def shown(split: Split) -> int:
        texts = ["".join(e.text.replace('"', "'").split()) for e in split.examples]
        return sum(text in asked for text in texts if len(text) > 60)

    assert shown(record.test) == 0
    if name not in ("contrastive", "max-act"):
        assert shown(record.dev) > 0


@pytest.mark.parametrize("name", ["contrastive", "senses", "revise", "best-of"])
def test_with_a_perfect_reader_the_truth_is_found(
    name: str, records: dict[str, FeatureRecord], heard: Heard
) -> None:
    said = asyncio.run(explain_one(CONFIG, records[NUMBERS], name, heard, embedder=Letters()))
    assert said.text == NUMBERS
    assert said.usage.calls == len(heard.requests)


@pytest.mark.parametrize("name", ["contrastive", "senses", "revise", "best-of"])
def test_a_feature_that_never_fires_is_an_abstention(
    name: str, records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[NUMBERS]
    silent = replace(record, train=replace(record.train, firing=(), strata=()))
    said = asyncio.run(explain_one(CONFIG, silent, name, heard, embedder=Letters()))
    assert "nothing fires" in said.abstained
    assert heard.requests == []


# -- abstention ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "seen"),
    [(NO_PATTERN, True), ("The neuron reacts to no pattern.", True), (' "No clear pattern"', True),
     ("patterns of dots", False), ("no patterned cloth", False), ("the word no", False)],
)  # fmt: skip
def test_no_pattern_is_told_from_a_phrase(reply: str, seen: bool) -> None:
    assert sees_none(reply) is seen


def test_who_sees_no_pattern_abstains_and_it_is_no_failure(
    records: dict[str, FeatureRecord],
) -> None:
    record = records[NUMBERS]
    llm = ScriptedLLM(lambda _: NO_PATTERN)
    for explainer in (
        MaxActExplainer(llm),
        ContrastiveExplainer(llm),
        SensesExplainer(llm, Letters(), trial(record, llm)),
    ):
        said = explained(explainer, record)
        assert "no pattern" in said.abstained
        assert said.usage.calls > 0


# -- contrastive -----------------------------------------------------------------------------------


def test_hard_windows_are_silent_ones_of_train_that_look_alike(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[CONTEXT]
    explained(ContrastiveExplainer(heard, n_silent=4), record)
    said = heard.requests[0].messages[-1].content
    above, below = said.split("It reacts to nothing here:\n")
    assert "<<" in above
    assert "<<" not in below
    lines = [line.partition(". ")[2] for line in below.splitlines()]
    silent = {" ".join(e.text.split()) for e in record.train.silent}
    assert len(lines) == 4
    assert set(lines) <= silent


@pytest.mark.parametrize("embedder", [None, Letters()])
def test_the_nearest_silent_window_comes_first(
    embedder: Letters | None, records: dict[str, FeatureRecord]
) -> None:
    train = records[NUMBERS].train
    firing = train.firing[0]
    twin = replace(train.silent[0], tokens=firing.tokens, activations=(0.0,) * len(firing.tokens))
    found = hard_silent([firing], [*train.silent[1:], twin], embedder, 3)
    assert found[0] == twin
    assert len(found) == 3


# -- senses ----------------------------------------------------------------------------------------


def test_two_senses_are_told_apart_and_cover_dev_together(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[SENSES]
    said = explained(SensesExplainer(heard, Words(), trial(record, heard)), record)
    assert set(said.senses) == {WATER, UNDER}
    assert said.text == "; or ".join(said.senses)
    *each, union = said.coverage
    assert all(c is not None and 0.1 < c < 0.95 for c in each)
    assert union == pytest.approx(1)
    assert said.precision == pytest.approx((1, 1, 1))
    assert "together: covers 1.00, right 1.00" in said.note
    assert Explanation.from_json(said.to_json()) == said


class Words:
    """Words of one sense as one direction, of the other as another, and texts as none."""

    name = "words"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, 3)."""
        rows = [
            [t in ("under", "below", "beneath"), " " not in t and len(t) > 2, 0.1] for t in texts
        ]
        return np.array(rows, np.float32)


def test_windows_of_one_sense_stay_together(records: dict[str, FeatureRecord]) -> None:
    class Alike:
        name = "alike"

        def embed(self, texts: Sequence[str]) -> Vectors:
            """All the same."""
            return np.ones((len(texts), 2), np.float32)

    firing = records[NUMBERS].train.firing
    assert set(clusters(firing, Alike(), 4, 3)) == {0}
    assert set(clusters(firing[:4], Letters(), 4, 3)) == {0}


# -- revise ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("draft", [DIGITS, ONE_OR_TWO])
def test_a_draft_that_is_too_broad_or_too_narrow_is_put_right(
    draft: str, records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[NUMBERS]
    reviser = ReviseExplainer(heard, Saying(lambda _: draft), trial(record, heard))
    said = explained(reviser, record)
    assert said.text == NUMBERS
    assert said.explainer == "revise"
    assert "1 rewrites from saying, detection 0." in said.note
    asked = next(r for r in heard.requests if draft in r.messages[-1].content and r.prefill)
    wrong = "takes it in" if draft == DIGITS else "misses it"
    assert wrong in asked.messages[-1].content


def test_a_rewrite_that_is_no_better_on_dev_is_not_kept(records: dict[str, FeatureRecord]) -> None:
    record = records[NUMBERS]

    def rule(request: Request) -> Reply | str:
        if not request.answers:
            return "The neuron reacts to something else"
        right = "something else" not in request.messages[-1].content
        yes = any(c in "0123456789" for c in request.messages[-1].content.split("\n")[0])
        return Reply(answers=(-0.1, -3.0) if yes and right else (-3.0, -0.1))

    llm = ScriptedLLM(rule, can=frozenset({Can.ANSWERS}))
    said = explained(
        ReviseExplainer(llm, Saying(lambda _: "some digits"), trial(record, llm)), record
    )
    assert said.text == "some digits"
    assert "none better" in said.note


def test_mistakes_are_windows_of_dev_on_the_wrong_side(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[NUMBERS]
    on_dev = trial(record, heard)
    broad = asyncio.run(on_dev(Explanation(record.feature, DIGITS, "x")))
    missed, taken = mistakes(broad, record.dev)
    assert missed == []
    assert taken
    assert set(taken) <= set(record.dev.silent)
    narrow = asyncio.run(on_dev(Explanation(record.feature, ONE_OR_TWO, "x")))
    missed, taken = mistakes(narrow, record.dev)
    assert taken == []
    assert missed
    assert set(missed) <= set(record.dev.firing)
    right = asyncio.run(on_dev(Explanation(record.feature, NUMBERS, "x")))
    assert mistakes(right, record.dev) == ([], [])


# -- best of several -------------------------------------------------------------------------------


def test_the_draft_that_does_best_on_dev_is_kept(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[NUMBERS]
    drafts = iter([DIGITS, ONE_OR_TWO, NUMBERS, DIGITS])
    said = explained(
        BestOfExplainer(Saying(lambda _: next(drafts)), trial(record, heard), k=4), record
    )
    assert said.text == NUMBERS
    assert "the best of 3 different drafts: detection 1.00 on dev" in said.note


def test_each_draft_is_made_from_other_windows_the_first_from_all(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[NUMBERS]
    seen: list[Split] = []

    def look(train: Split) -> str:
        seen.append(train)
        return NUMBERS

    explained(BestOfExplainer(Saying(look), trial(record, heard), k=3), record)
    assert seen[0] == record.train
    assert len(seen[1].firing) == len(seen[2].firing) == round(0.6 * len(record.train.firing))
    assert set(seen[1].firing) != set(seen[2].firing)
    assert set(seen[1].firing) < set(record.train.firing)


def test_a_draft_that_cannot_be_read_is_left_out_and_all_of_them_are_an_error(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[NUMBERS]

    @dataclass
    class Failing:
        left: int

        async def explain(self, feature: FeatureId, train: Split) -> Explanation:
            """Fails so many times."""
            self.left -= 1
            if self.left >= 0:
                raise ReplyError("no phrase")
            return Explanation(feature, NUMBERS, "failing")

    assert explained(BestOfExplainer(Failing(2), trial(record, heard)), record).text == NUMBERS
    with pytest.raises(ReplyError, match="no phrase"):
        explained(BestOfExplainer(Failing(9), trial(record, heard)), record)


@dataclass
class Losing:
    """A language model of whose replies one is lost on the way."""

    llm: LLM
    at: int
    """Its number, from 0."""
    asked: int = 0
    name: str = "losing"

    @property
    def can(self) -> Any:
        """As the model inside."""
        return self.llm.can

    async def reply(self, request: Request) -> Reply:
        """As the model inside, but for the one."""
        self.asked += 1
        if self.asked == self.at + 1:
            raise ReplyError("an empty body", usage=Usage(calls=1), broken=True)
        return await self.llm.reply(request)


@pytest.mark.parametrize("name", ["senses", "revise", "best-of", "max-act"])
def test_what_is_said_never_depends_on_which_reply_was_lost(
    name: str, records: dict[str, FeatureRecord], heard: Heard
) -> None:
    record = records[SENSES]
    asyncio.run(explain_one(CONFIG, record, name, heard, embedder=Letters()))
    explaining = [
        i
        for i, request in enumerate(heard.requests)
        if "You study one neuron" in request.messages[0].content
    ]
    assert explaining
    for i in explaining:
        losing = Losing(heard.oracle, i)
        with pytest.raises((ReplyError, ProviderError), match="an empty body") as caught:
            asyncio.run(explain_one(CONFIG, record, name, losing, embedder=Letters()))
        assert not isinstance(caught.value, ReplyError) or caught.value.broken


# -- triage ----------------------------------------------------------------------------------------


def test_triage_asks_nobody_about_a_token(records: dict[str, FeatureRecord], heard: Heard) -> None:
    config = replace(CONFIG, triage=True)
    said = asyncio.run(explain_one(config, records[TOKEN], "max-act", heard))
    assert heard.requests == []
    assert said.explainer == "max-act"
    assert said.words
    assert "triage: unigram has detection 1.00 on dev, which is enough" in said.note


def test_triage_asks_where_tokens_do_not_tell(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    config = replace(CONFIG, triage=True)
    said = asyncio.run(explain_one(config, records[CONTEXT], "max-act", heard))
    assert said.text == CONTEXT
    assert len(heard.requests) == said.usage.calls == 1
    assert said.note.startswith("triage: unigram has detection 0.")
    assert said.note.endswith("so max-act was asked")


def test_triage_changes_nothing_for_who_asks_nobody(records: dict[str, FeatureRecord]) -> None:
    plain, careful = (
        asyncio.run(explain_one(replace(CONFIG, triage=t), records[TOKEN], "unigram", None))
        for t in (False, True)
    )
    assert plain == careful


# -- putting them together -------------------------------------------------------------------------


def test_an_explainer_from_python_is_tried_on_dev_and_starts_from_any_other(
    records: dict[str, FeatureRecord], heard: Heard
) -> None:
    said = gl.run_sync(gl.explain(records[NUMBERS], "revise", heard, draft="unigram"))
    assert said.explainer == "revise"
    assert "rewrites from unigram" in said.note


def test_drafts_are_not_made_from_drafts_and_a_trial_is_needed() -> None:
    llm = ScriptedLLM([])
    for name in ("revise", "best-of", "senses", "contrastive"):
        assert needs_llm(name)
    with pytest.raises(ConfigError, match="--llm"):
        build_explainer("best-of")
    with pytest.raises(ConfigError, match="no trial"):
        build_explainer("revise", llm)
    with pytest.raises(ConfigError, match="--draft"):
        build_explainer("revise", llm, trial=object(), draft="best-of")  # type: ignore[arg-type]
