"""`generation`, `intervention` and `heads`, judged by models that know what is planted."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch

from glossator.datasets.directions import Direction, projector
from glossator.datasets.planted import collect_planted
from glossator.errors import ConfigError, ProviderError, Refused, Unsupported
from glossator.experiments import Experiments, FunctionLive, SubjectLive, live_function
from glossator.live import Activations, Attention, NextToken, Promotion, TokenShift
from glossator.llm import Can, Reply, Request, ScriptedLLM
from glossator.scorers.build import build_scorer
from glossator.scorers.choice import rotations
from glossator.scorers.generation import GenerationScorer
from glossator.scorers.heads import HeadsScorer
from glossator.scorers.intervention import InterventionScorer
from glossator.scorers.nulls import Wrong
from glossator.subject import load_subject
from glossator.types import Explanation, FeatureId, FeatureRecord, Pool, Score, Split
from tests.tiny_llama import save_tiny_llama, some_texts

WORDS = {
    "the word river": "river",
    "words for ships": "ship",
    "kinds of bread": "bread",
    "stones": "stone",
    "old things": "old",
    "markets": "market",
}
"""Descriptions, and the word that stands for each."""
PEAK = 2.71828


def river(tokens: list[str]) -> list[float]:
    return [PEAK * (t.strip().lower() == "river") for t in tokens]


@pytest.fixture(scope="module")
def record() -> FeatureRecord:
    return collect_planted({"river": river}, texts=some_texts(300, 80, seed=5))[0]


def said(record: FeatureRecord, text: str) -> Explanation:
    return Explanation(record.feature, text, "max-act")


def wrong_for(record: FeatureRecord, text: str, n: int = 4) -> Wrong:
    others = [t for t in WORDS if t != text][:n]
    features = [replace(record.feature, index=80 + i) for i in range(n)]
    return Wrong(
        "shuffled",
        tuple(Explanation(f, t, "max-act") for f, t in zip(features, others, strict=True)),
    )


# -- generation ------------------------------------------------------------------------------------


def writer(twist: Callable[[str], str] = str) -> ScriptedLLM:
    """Writes texts that hold the word of what they are about, and twins that do not."""

    def rule(request: Request) -> str:
        asked = request.messages[3].content  # behind it are what was wrong with earlier replies
        about = asked.partition(":")[2].strip().partition("\n")[0]
        if "must not occur" in asked:
            n = len(re.findall(r"^\d+\. ", asked, re.MULTILINE))
            return twist("\n".join(f"{i}. they all saw no {i} of them" for i in range(1, n + 1)))
        return twist(
            "\n".join(f"{i}. they all saw {i} of the {WORDS[about]}" for i in range(1, 11))
        )

    return ScriptedLLM(rule)


def generated(record: FeatureRecord, text: str, llm: ScriptedLLM) -> Score:
    scorer = GenerationScorer(llm, live_function(river, record), wrong_for(record, text))
    return asyncio.run(scorer.score(said(record, text), record.test, record.dev))


def test_texts_of_the_truth_reach_the_peak_and_their_twins_do_not(record: FeatureRecord) -> None:
    score = generated(record, "the word river", writer())
    assert score.value == pytest.approx(1)
    assert score.low is not None
    assert 0.7 < score.low < 1
    assert score.null == 0
    assert score.lift == pytest.approx(1)
    assert score.p == 1 / 5
    assert score.measures["AUC, written against avoided"].value == 1
    assert score.measures["share reached, avoided"].value == 0
    assert score.measures["share of written texts that fire"].value == 1
    assert (score.n, score.n_failed) == (20, 0)
    assert {p.stratum for p in score.predictions} == {"written", "avoided"}


def test_texts_of_another_thing_are_no_better_than_the_null(record: FeatureRecord) -> None:
    score = generated(record, "kinds of bread", writer())
    assert score.value == 0
    assert score.null == pytest.approx(1 / 4)  # the truth is among the wrong ones here
    assert score.measures["AUC, written against avoided"].value == 0.5
    assert score.p is not None
    assert score.p > 0.5


def test_no_prompt_holds_an_activation_or_a_text_of_the_corpus(record: FeatureRecord) -> None:
    llm = writer()
    generated(record, "the word river", llm)
    for request in llm.requests:
        whole = "\n".join(m.content for m in request.messages)
        assert not re.search(r"2\.71|0\.\d", whole)
        assert not any(e.text in whole for e in record.test.examples if len(e.tokens) > 9)


def test_texts_that_cannot_be_had_are_failures_and_no_score(record: FeatureRecord) -> None:
    score = generated(record, "the word river", ScriptedLLM(lambda _: "I would rather not"))
    assert score.value is None
    assert (score.n, dict(score.failures)) == (0, {"parse": 1})
    assert score.predictions[0].raw == "I would rather not"

    def refuses(request: Request) -> str:
        raise Refused("it declines", "no")

    refused = generated(record, "the word river", ScriptedLLM(refuses))
    assert dict(refused.failures) == {"refused": 1}


def test_wrong_explanations_that_get_no_texts_are_no_part_of_the_null(
    record: FeatureRecord,
) -> None:
    score = generated(
        record,
        "the word river",
        writer(lambda reply: "no" if "bread" in reply or "stone" in reply else reply),
    )
    (shuffled, _) = score.nulls
    assert shuffled.explanations == ("words for ships", "old things")
    assert score.p == 1 / 3


def test_without_twins_the_written_texts_still_count(record: FeatureRecord) -> None:
    score = generated(
        record, "the word river", writer(lambda reply: "no" if "no 1 of" in reply else reply)
    )
    assert score.value == pytest.approx(1)
    assert score.measures["AUC, written against avoided"].value is None
    assert dict(score.failures) == {"parse": 1}


def test_what_cannot_be_generated_from_has_no_value_and_a_reason(record: FeatureRecord) -> None:
    live = live_function(river, record)
    scorer = GenerationScorer(ScriptedLLM([]), live, Wrong("shuffled", ()))
    silent = Explanation(record.feature, "", "max-act", abstained="it knows nothing")
    assert "abstained" in asyncio.run(scorer.score(silent, record.test)).note
    never = replace(scorer, live=replace(live, peak=0.0))
    assert "never fires" in asyncio.run(never.score(said(record, "x"), record.test)).note


def test_a_provider_that_is_down_is_no_failed_text(record: FeatureRecord) -> None:
    def down(request: Request) -> str:
        raise ProviderError("it is down")

    with pytest.raises(ProviderError):
        generated(record, "the word river", ScriptedLLM(down))


# -- intervention ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> SubjectLive:
    """A direction at the last layer that makes the model say " river", and nothing else."""
    folder = save_tiny_llama(tmp_path_factory.mktemp("steered") / "tiny")
    subject = load_subject(str(folder), device="cpu", dtype="float32")
    token = subject.tokenizer(" river", add_special_tokens=False)["input_ids"][-1]
    head = subject.model.get_output_embeddings().weight.detach()
    ways = torch.linalg.lstsq(head, torch.eye(len(head))[:, token]).solution
    direction = projector(Direction("river", "layers.1.resid_post", ways))
    feature = FeatureId("tiny", "layers.1.resid_post", 0, direction.name)
    return Experiments(subject).on(feature, 0.0625, direction)


def options_in(question: str) -> dict[str, str]:
    return dict(re.findall(r"^([A-J]): (.*)$", question, re.MULTILINE))


def wordy(request: Request) -> str:
    """The letter of the option whose word is said most with the neuron changed."""
    question = request.messages[-1].content
    changed = " ".join(re.findall(r'made strong: "(.*)"', question))
    options = options_in(question)
    counts = {letter: changed.count(WORDS.get(text, "?")) for letter, text in options.items()}
    return max(counts, key=lambda letter: (counts[letter], letter == "A"))


def telling(request: Request) -> Reply:
    letter = wordy(request)
    yes, no = math.log(0.8), math.log(0.05)
    return Reply(answers=tuple(yes if each == letter else no for each in request.answers))


JUDGES = {
    "votes": lambda: ScriptedLLM(wordy),
    "odds": lambda: ScriptedLLM(telling, can=frozenset({Can.ANSWERS})),
}


def intervened(live: SubjectLive, text: str, llm: ScriptedLLM, **others: int) -> Score:
    record = Explanation(live.feature, text, "output", output_effect=text)
    wrong = Wrong(
        "shuffled",
        tuple(
            Explanation(replace(live.feature, index=9 + i), t, "output")
            for i, t in enumerate(t for t in WORDS if t != text)
        ),
    )
    scorer = InterventionScorer(llm, live, wrong, strengths=(0.0, 1.0, 8.0, 64.0), **others)
    return asyncio.run(scorer.score(record, Split(Pool.TEST, 0.0)))


@pytest.mark.parametrize("judge", JUDGES)
def test_the_truth_is_picked_where_its_effect_can_be_seen(steered: SubjectLive, judge: str) -> None:
    llm = JUDGES[judge]()
    score = intervened(steered, "the word river", llm)
    share = {k: score.measures[f"chosen at {k} peaks"].value for k in (0, 1, 8, 64)}
    best = 1 if judge == "votes" else 0.8
    assert share[64] == pytest.approx(best)
    assert share[0] == pytest.approx(1 / 5)  # ablating shows this judge nothing
    assert score.null == 1 / 5
    slope = score.measures["slope, per doubling"].value
    assert slope is not None
    assert slope > 0
    kl = [score.measures[f"KL at {k} peaks, nats"].value for k in (1, 8, 64)]
    assert kl == sorted(kl, key=lambda value: value or 0.0)
    assert score.p == 1 / 5
    assert score.n == 20
    assert all("0.06" not in r.messages[-1].content for r in llm.requests)


def test_what_is_not_true_is_not_picked(steered: SubjectLive) -> None:
    score = intervened(steered, "kinds of bread", JUDGES["votes"]())
    assert score.measures["chosen at 64 peaks"].value == 0
    assert score.value is not None
    assert score.value < 1 / 5
    assert score.lift is not None
    assert score.lift < 0
    assert score.p is not None
    assert score.p > 0.5


@pytest.mark.parametrize("place", "ABCDE")
@pytest.mark.parametrize("by", ["votes", "odds"])
def test_a_judge_who_likes_a_place_gets_chance_exactly(
    steered: SubjectLive, place: str, by: str
) -> None:
    """The trap: models favour positions, and a scorer that does not turn them rewards that."""

    def rule(request: Request) -> Reply:
        likes = tuple(math.log(0.9 if a == place else 0.025) for a in request.answers)
        return Reply(place, answers=likes)

    can = frozenset({Can.ANSWERS}) if by == "odds" else frozenset[Can]()
    score = intervened(steered, "the word river", ScriptedLLM(rule, can=can), max_tokens=1)
    assert score.value == pytest.approx(1 / 5)
    assert score.lift == pytest.approx(0)


def test_a_judge_who_says_nothing_is_a_failure_and_no_choice(steered: SubjectLive) -> None:
    score = intervened(
        steered, "the word river", ScriptedLLM(lambda _: "all of them"), max_tokens=1
    )
    assert score.value is None
    assert dict(score.failures) == {"parse": 20}


def test_too_few_wrong_explanations_are_made_up_for_by_decoys_and_it_says_so(
    steered: SubjectLive,
) -> None:
    explanation = Explanation(steered.feature, "the word river", "output")
    scorer = InterventionScorer(
        JUDGES["votes"](), steered, Wrong("shuffled", ()), strengths=(64.0,), max_tokens=2
    )
    score = asyncio.run(scorer.score(explanation, Split(Pool.TEST, 0.0)))
    assert score.value == 1
    assert [null.kind for null in score.nulls] == ["decoys", "empty"]


def test_a_feature_that_cannot_be_held_has_no_value_and_a_reason(record: FeatureRecord) -> None:
    scorer = InterventionScorer(
        ScriptedLLM([]), live_function(river, record), Wrong("shuffled", ())
    )
    score = asyncio.run(scorer.score(said(record, "the word river"), record.test))
    assert score.value is None
    assert "function of the text" in score.note


@pytest.mark.parametrize("n", range(2, 11))
def test_each_option_stands_once_at_each_place_in_all_orders(n: int) -> None:
    orders = rotations(n, n)
    for place in range(n):
        assert sorted(order[place] for order in orders) == list(range(n))
    assert len({tuple(order) for order in rotations(n, 2)}) == 2


# -- heads -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PlantedHead:
    """A head whose weights are a function of the tokens: a live feature that only attends."""

    feature: FeatureId
    peak: float = 1.0

    async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        return await FunctionLive(river).activations(texts)

    async def attention(self, texts: Sequence[str]) -> tuple[Attention, ...]:
        return tuple(Attention(t, rows_of(t)) for t in map(tuple, map(pieces, texts)))

    async def promoted(self, n: int = 20) -> Promotion:
        raise Unsupported("no")

    async def next_tokens(
        self, texts: Sequence[str], clamp: float, n: int = 10
    ) -> tuple[NextToken, ...]:
        raise Unsupported("no")

    async def shifts(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int = 50
    ) -> tuple[TokenShift, ...]:
        raise Unsupported("no")

    async def continuations(
        self,
        texts: Sequence[str],
        clamp: float | None = None,
        max_tokens: int = 12,
        seed: int | None = None,
    ) -> tuple[str, ...]:
        raise Unsupported("no")


def pieces(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def looks(later: str, earlier: str) -> bool:
    """The planted rule: from any word to a river before it."""
    return earlier.strip(" .,") == "river" and later.strip(" .,") != "river"


def rows_of(tokens: Sequence[str]) -> tuple[tuple[float, ...], ...]:
    rows = []
    for q, later in enumerate(tokens):
        hits = [k for k in range(q) if looks(later, tokens[k])]
        rows.append(tuple((0.9 / len(hits) if k in hits else 0.0) for k in range(len(tokens))))
    return tuple(rows)


def marked(request: Request) -> tuple[str, str, str]:
    """Description, later and earlier word of a question."""
    content = request.messages[-1].content
    later, earlier = re.search(r"\[\[(.*?)\]\]", content), re.search(r"<<(.*?)>>", content)
    assert later is not None
    assert earlier is not None
    return content.partition("\n")[0].partition(": ")[2], later[1], earlier[1]


def knows_heads(request: Request) -> Reply:
    about, later, earlier = marked(request)
    fits = looks(later, earlier) if about == "to a river before it" else len(earlier) % 2 == 0
    yes = 0.9 if fits else 0.1
    return Reply("yes" if fits else "no", answers=(math.log(yes), math.log(1 - yes)))


def headed(record: FeatureRecord, text: str, llm: ScriptedLLM, n: int = 40) -> Score:
    wrong = [Explanation(replace(record.feature, index=7), "to an even word", "max-act")]
    scorer = HeadsScorer(llm, PlantedHead(record.feature), Wrong("shuffled", tuple(wrong)), n)
    return asyncio.run(scorer.score(said(record, text), record.test))


@pytest.mark.parametrize("can", [frozenset({Can.ANSWERS}), frozenset[Can]()])
def test_the_truth_about_a_head_tells_its_pairs_from_others(
    record: FeatureRecord, can: frozenset[Can]
) -> None:
    score = headed(record, "to a river before it", ScriptedLLM(knows_heads, can=can))
    assert score.value == 1
    assert score.null is not None
    assert score.null < 0.8
    (_, empty) = score.nulls
    assert empty.value == 0.5
    assert 20 <= score.n <= 40


def test_pairs_of_both_sorts_are_as_far_apart_so_that_distance_tells_nothing(
    record: FeatureRecord,
) -> None:
    """The trap: heads look at near tokens, and a judge who knows that alone must get 0.5."""
    llm = ScriptedLLM(knows_heads, can=frozenset({Can.ANSWERS}))
    score = headed(record, "to a river before it", llm)
    gaps: dict[str, list[int]] = {}
    for p in score.predictions:
        place = int(p.example.partition(":")[2]) % 1_000_000
        gaps.setdefault(p.stratum, []).append(place // 1000 - place % 1000)
    assert sorted(gaps["attends"]) == sorted(gaps["silent"])

    def near(request: Request) -> Reply:
        text = request.messages[-1].content
        gap = abs(text.index("[[") - text.index("<<"))
        yes = min(0.95, 1 / (1 + gap / 20))
        return Reply(answers=(math.log(yes), math.log(1 - yes)))

    by_distance = headed(record, "x", ScriptedLLM(near, can=frozenset({Can.ANSWERS})))
    assert by_distance.value is not None
    assert 0.35 < by_distance.value < 0.68


def test_marks_in_the_text_itself_cannot_pass_for_marks(record: FeatureRecord) -> None:
    seen: list[str] = []

    def rule(request: Request) -> Reply:
        seen.append(request.messages[-1].content)
        return Reply(answers=(-0.7, -0.7))

    def planted(tokens: list[str]) -> list[float]:
        return river([t.strip("<>[] ") for t in tokens])

    texts = [t.replace("river", "<<x>> [[y]] river") for t in some_texts(200, 60, seed=2)]
    tricky = collect_planted({"river": planted}, texts=texts)[0]
    headed(tricky, "x", ScriptedLLM(rule, can=frozenset({Can.ANSWERS})), 8)
    assert seen
    assert all(text.count("<<") == text.count("[[") == 1 for text in seen)


def test_what_is_no_head_has_no_value_and_a_reason(record: FeatureRecord) -> None:
    live = live_function(river, record)
    scorer = HeadsScorer(ScriptedLLM([]), live, Wrong("shuffled", ()))
    score = asyncio.run(scorer.score(said(record, "x"), record.test))
    assert score.value is None
    assert "no attention" in score.note


# -- how they are built ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["generation", "intervention", "heads"])
def test_a_scorer_that_makes_experiments_says_what_it_lacks(
    record: FeatureRecord, name: str
) -> None:
    explanation, wrong = said(record, "x"), Wrong("shuffled", ())
    with pytest.raises(ConfigError, match="live_on"):
        build_scorer(name, explanation, wrong, llm=ScriptedLLM([]))
    with pytest.raises(ConfigError, match="--llm"):
        build_scorer(name, explanation, wrong, live=live_function(river, record))
    live = live_function(river, record)
    assert build_scorer(name, explanation, wrong, llm=ScriptedLLM([]), live=live)
