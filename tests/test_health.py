"""What could not be judged is told apart by kind, counted and shown; q is of a run and scorer."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from glossator.cli.app import call
from glossator.config import RunConfig
from glossator.datasets.planted import collect_planted
from glossator.errors import CutOff, OutOfRange, PromptTooLong, Refused, ReplyError
from glossator.health import KINDS, Health, health_of
from glossator.llm import Reply, Request, ScriptedLLM, ask
from glossator.scorers.build import Settings, build_scorer
from glossator.scorers.nulls import Wrong
from glossator.store import Store, open_store
from glossator.types import Explanation, FeatureId, FeatureRecord, Score

PLAIN = ("the", "a", "of", "and", "in", "to", "was", "with", "stone", "bread", "door", "wind")


@pytest.fixture(scope="module")
def record() -> FeatureRecord:
    rng = random.Random(0)
    texts = [
        " ".join("river" if rng.random() < 0.05 else rng.choice(PLAIN) for _ in range(60))
        for _ in range(250)
    ]
    rivers = {"rivers": lambda tokens: [float(t.strip() == "river") for t in tokens]}
    return collect_planted(rivers, texts=texts)[0]


def n_tokens(request: Request) -> int:
    return len(request.messages[3].content.split("Tokens:\n")[1].splitlines())


def right(request: Request) -> str:
    lines = request.messages[3].content.split("Tokens:\n")[1].splitlines()
    return json.dumps({str(i): 10 * line.endswith("river") for i, line in enumerate(lines, 1)})


def refuses(_: Request) -> str:
    raise Refused("it declined", "I cannot")


def too_long(_: Request) -> str:
    raise PromptTooLong("the prompt is too long", again=False)


def lost(_: Request) -> str:
    raise ReplyError("an empty body", broken=True)


WAYS: dict[str, Callable[[Request], Reply | str]] = {
    "parse": lambda _: "I think it fires on rivers",
    "refused": refuses,
    "range": lambda r: json.dumps({str(i + 1): 11 for i in range(n_tokens(r))}),
    "cut off": lambda _: Reply('{"1": 0, "2": ', finish="length"),
    "provider": lost,
}


def simulated(record: FeatureRecord, rule: Callable[[Request], Reply | str]) -> Score:
    said = Explanation(record.feature, "rivers", "max-act")
    scorer = build_scorer(
        "simulation",
        said,
        Wrong("shuffled", ()),
        simulator="reply",
        llm=ScriptedLLM(rule),
        settings=Settings(20),
    )
    return asyncio.run(scorer.score(said, record.test, record.dev))


def test_there_is_a_way_to_fail_for_each_kind() -> None:
    assert tuple(WAYS) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_failures_are_told_apart_and_stay_in_the_denominator(
    record: FeatureRecord, kind: str
) -> None:
    whole = simulated(record, right)
    windows = sorted("".join(p.tokens) for p in whole.predictions)
    broken = set(windows[::3])

    def rule(request: Request) -> Reply | str:
        lines = request.messages[3].content.split("Tokens:\n")[1].splitlines()
        text = "".join(f" {line.partition(': ')[2]}" for line in lines)
        return (
            WAYS[kind](request) if text.strip() in {b.strip() for b in broken} else right(request)
        )

    score = simulated(record, rule)
    assert score.failures == {kind: len(broken)}
    assert score.n + score.n_failed == whole.n
    assert {p.failure for p in score.predictions} == {"", kind}
    assert score.value == pytest.approx(1, abs=1e-6)  # no failure became a low score


def test_a_prompt_that_is_too_long_is_the_providers_word(record: FeatureRecord) -> None:
    assert simulated(record, too_long).failures["provider"] > 0


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply("maybe", finish="stop"), ReplyError),
        (Reply("well, per", finish="length"), CutOff),
    ],
)
def test_a_reply_at_its_bound_was_cut_off(reply: Reply, error: type[ReplyError]) -> None:
    def read(_: Reply) -> int:
        raise ReplyError("it is no number")

    llm = ScriptedLLM(lambda _: reply)
    with pytest.raises(ReplyError) as caught:
        asyncio.run(ask(llm, Request((), max_tokens=3), read))
    assert type(caught.value) is error
    assert "it is no number" in str(caught.value)
    assert len(llm.requests) == 3
    told = llm.requests[-1].messages[-1].content
    assert ("cut off at 3 tokens" in told) == (error is CutOff)


def test_a_value_out_of_range_keeps_its_kind_when_it_was_cut_off_too() -> None:
    def read(_: Reply) -> int:
        raise OutOfRange("11 is above 10")

    llm = ScriptedLLM(lambda _: Reply("11", finish="length"))
    with pytest.raises(OutOfRange):
        asyncio.run(ask(llm, Request(()), read))


# -- of a run ---------------------------------------------------------------------------------


FEATURE = FeatureId("m", "s", 0)


def scored(index: int, scorer: str, p: float | None = None, **failures: int) -> Score:
    return Score(
        FeatureId("m", "s", index),
        "max-act",
        scorer,
        value=0.5 if p is not None else None,
        note="" if p is not None else "nothing fires",
        p=p,
        n=40 - sum(failures.values()),
        n_failed=sum(failures.values()),
        failures=failures,
    )


def stored(store: Store, scores: list[Score], **config: int) -> str:
    run = store.begin_run(RunConfig(**config), versions={}, collection="c")  # type: ignore[arg-type]
    for score in scores:
        store.put_explanation(run.id, Explanation(score.feature, "rivers", "max-act"))
        store.put_score(run.id, score)
    return run.id


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"sqlite:///{tmp_path}/glossator.db")


def test_health_counts_each_scorers_windows_and_what_was_given_up(store: Store) -> None:
    scores = [
        scored(0, "detection", 0.1, parse=3, refused=1),
        scored(1, "detection", 0.2, parse=2, range=1),
        scored(2, "detection"),
        scored(0, "simulation", 0.1),
    ]
    run = stored(store, scores)
    for kind in ("CutOff", "ProviderError", "ReplyError"):
        store.put_failure(run, FEATURE, "score", f"{kind}/fuzzing", kind, "no", "")
    store.put_failure(run, FEATURE, "explain", "max-act", "Refused", "no", "")
    found = {h.scorer: h for h in health_of(store.scores_of(run), store.failures(run))}
    assert found == {
        "detection": Health("detection", 113, {"parse": 5, "refused": 1, "range": 1}, 3, 1),
        "simulation": Health("simulation", 40, {}, 1, 0),
        "fuzzing": Health("fuzzing", 0, {}, 0, 0, {"cut off": 1, "provider": 1, "parse": 1}),
    }
    assert found["detection"].line == (
        "detection: 7 of 120 windows could not be judged (5 parse, 1 refused, 1 range); "
        "1 of 3 scores have no value"
    )
    assert found["fuzzing"].line.endswith("3 scores given up (1 parse, 1 cut off, 1 provider)")
    assert found["detection"].to_json()["failures"] == {
        "parse": 5, "refused": 1, "range": 1, "cut off": 0, "provider": 0,
    }  # fmt: skip


def test_show_tells_it_to_people_and_programs(
    tmp_path: Path, store: Store, record: FeatureRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    run = store.begin_run(RunConfig(), versions={}, collection="c")
    store.put_record("c", record)
    store.put_explanation(run.id, Explanation(record.feature, "rivers", "max-act"))
    score = simulated(record, WAYS["range"])
    store.put_score(run.id, score)
    place = ["--store", f"sqlite:///{tmp_path}/glossator.db"]
    assert call(["show", "function/0", *place]) == 0
    assert f"windows could not be judged ({score.n_failed} range)" in capsys.readouterr().out
    assert call(["show", "function/0", "--json", *place]) == 0
    (health,) = json.loads(capsys.readouterr().out)["health"]
    assert health["failures"]["range"] == health["n_failed"] == score.n_failed
    assert (health["n"], health["n_undefined"]) == (0, 1)


def test_q_is_benjamini_and_hochbergs_among_the_p_of_a_run_and_scorer(store: Store) -> None:
    rng = np.random.default_rng(0)
    families = {}
    for seed in (0, 1):
        scores = []
        for scorer in ("detection", "simulation"):
            p = [float(v) for v in rng.random(12).round(2) + 0.001]
            families[f"r{seed + 1}", scorer] = p
            scores += [scored(i, scorer, min(v, 1.0)) for i, v in enumerate(p)]
            scores.append(scored(12, scorer))
        stored(store, scores, seed=seed)
    table = store.scores()
    for (run, scorer), p in families.items():
        own = table[(table["run"] == run) & (table["scorer"] == scorer)]
        assert list(own["q"].dropna()) == pytest.approx(multipletests(p, method="fdr_bh")[1])
        assert own["q"].isna().sum() == 1  # a p that is None enters no family
        alone = store.scores(run)
        assert list(alone[alone["scorer"] == scorer]["q"].dropna()) == list(own["q"].dropna())
