"""The Python names, as the contract gives them, on a tiny subject."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import glossator as gl
from glossator.config import RunConfig, RunLimits
from glossator.errors import BudgetSpent, ConfigError, NotRegistered, Unsupported
from glossator.llm import ScriptedLLM
from glossator.pipeline import run
from tests.loopback import Loopback
from tests.panels import asked_windows
from tests.pipeline_child import function, options, rule, save_subject, save_texts, texts

SITE = "layers.0.mlp.neurons"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("api")
    save_subject(place / "subject")
    save_texts(place / "texts.jsonl")
    return place


@pytest.fixture(scope="module")
def records(folder: Path) -> list[gl.FeatureRecord]:
    subject = gl.load_subject(str(folder / "subject"), device="auto")
    return gl.collect(
        subject, site=SITE, features=range(3), tokens=8000, corpus=str(folder / "texts.jsonl"),
        ctx=64, window=16,
    )  # fmt: skip


async def my_function(messages: Sequence[Mapping[str, str]]) -> str:
    return function(messages)


def test_records_have_what_the_contract_names(records: list[gl.FeatureRecord]) -> None:
    assert [r.feature.index for r in records] == [0, 1, 2]
    for record in records:
        assert 0 < record.density < 1
        assert record.kind
        for split in (record.train, record.dev, record.test):
            assert isinstance(split, gl.Split)
            for example in split.firing + split.silent:
                assert isinstance(example, gl.Example)
                assert len(example.tokens) == len(example.activations)
                assert example.document
                assert example.weight > 0


@pytest.mark.parametrize("llm", [function, my_function])
def test_a_function_explains_and_scores(records: list[gl.FeatureRecord], llm: object) -> None:
    async def whole() -> list[gl.Score]:
        explanation = await gl.explain(records[0], explainer="max-act", llm=llm)
        assert explanation.text.startswith("the word")
        return await gl.score(
            explanation, records[0], scorers=["simulation", "detection"], llm=llm, n_scored=4
        )

    scores = gl.run_sync(whole())
    assert [s.scorer for s in scores] == ["simulation", "detection"]
    for score in scores:
        assert score.value is not None
        assert score.low is not None
        assert score.high is not None
        assert score.low <= score.value <= score.high
        assert score.null is not None
        assert score.p is not None
        assert score.n == len(score.predictions)
        assert score.n_failed == 0
        assert isinstance(score.note, str)
        assert score.usage.calls > 0


def test_what_is_written_by_hand_is_scored_like_any_other(
    records: list[gl.FeatureRecord],
) -> None:
    by_hand = gl.Explanation.written_by_hand(records[0].feature, "capitalised words")
    work = gl.score(by_hand, records[0], scorers=["detection"], llm=my_function, n_scored=4)
    (score,) = gl.run_sync(work)
    assert (score.explainer, score.scorer) == ("human", "detection")
    (same,) = gl.run_sync(
        gl.score(by_hand, records[0], scorers="detection", llm=my_function, n_scored=4)
    )
    assert same.value == score.value


def test_planted_features_go_the_same_way() -> None:
    records = gl.collect_planted(
        {"capitalised": lambda tokens: [float(t.strip()[:1].isupper()) for t in tokens]},
        texts=texts(),
    )
    explanation = gl.Explanation.written_by_hand(records[0].feature, "capitalised words")

    def oracle(messages: Sequence[Mapping[str, str]]) -> str:
        about, windows, _ = asked_windows(messages[-1]["content"])
        fits = [
            about == "capitalised words" and any(w[:1].isupper() for w in window.split())
            for window in windows
        ]
        return "\n".join(f"{i}: {'yes' if fit else 'no'}" for i, fit in enumerate(fits, 1))

    (score,) = gl.run_sync(gl.score(explanation, records[0], scorers=["detection"], llm=oracle))
    assert score.value is not None
    assert score.value > 0.9


def test_the_baseline_asks_nobody(records: list[gl.FeatureRecord]) -> None:
    async def whole() -> list[gl.Score]:
        explanation = await gl.explain(records[0], explainer="unigram", llm=None)
        return await gl.score(explanation, records[0], llm=None)

    scores = gl.run_sync(whole())
    assert {s.simulator for s in scores} == {"symbolic", "maximum of symbolic"}
    assert all(s.usage.calls == 0 for s in scores)


def test_run_sync_works_inside_and_outside_of_a_loop() -> None:
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        return 2 * n

    async def breaks() -> None:
        raise KeyError("gone")

    async def notebook() -> int:
        with pytest.raises(KeyError, match="gone"):
            gl.run_sync(breaks())
        return gl.run_sync(double(4))

    assert gl.run_sync(double(3)) == 6
    assert asyncio.run(notebook()) == 8
    with pytest.raises(KeyError, match="gone"):
        gl.run_sync(breaks())


def test_the_store_gives_its_scores_as_a_data_frame(folder: Path, tmp_path: Path) -> None:
    import pandas as pd

    url = f"sqlite:///{tmp_path}/glossator.db"
    with gl.open_store(url) as store, Loopback(rule) as server:
        config = RunConfig.from_mapping(
            options(folder, base_url=server.openai_url, features="0", scorers=["detection"])
        )
        gl.run_sync(run(config, RunLimits(), store))
    with gl.open_store(url) as store:
        scores = store.scores()
    assert isinstance(scores, pd.DataFrame)
    assert {"feature", "explainer", "scorer", "value", "low", "high", "null", "p"} <= set(scores)
    assert list(scores["scorer"]) == ["detection"]


def test_an_explanation_of_another_feature_is_refused(records: list[gl.FeatureRecord]) -> None:
    of_another = gl.Explanation.written_by_hand(records[1].feature, "capitalised words")
    with pytest.raises(ValueError, match=r"neurons/1, the record of .*neurons/0"):
        gl.run_sync(gl.score(of_another, records[0], llm=my_function))


def test_names_that_are_not_there_are_refused(records: list[gl.FeatureRecord]) -> None:
    by_hand = gl.Explanation.written_by_hand(records[0].feature, "capitalised words")
    with pytest.raises(NotRegistered, match="max-act"):
        gl.run_sync(gl.explain(records[0], explainer="max-akt", llm=my_function))
    with pytest.raises(NotRegistered, match="openai:MODEL"):
        gl.run_sync(gl.explain(records[0], llm="opnai:x"))
    with pytest.raises(NotRegistered, match="detection"):
        gl.run_sync(gl.score(by_hand, records[0], scorers=["detektion"], llm=my_function))
    with pytest.raises(NotRegistered, match="reply"):
        gl.run_sync(gl.score(by_hand, records[0], simulator="replay", llm=my_function))
    with pytest.raises(Unsupported, match="--simulator reply"):
        gl.run_sync(gl.score(by_hand, records[0], simulator="logprob", llm=my_function))
    with pytest.raises(ConfigError, match="language model"):
        gl.run_sync(gl.explain(records[0], llm=3))
    with pytest.raises(AttributeError, match="it has"):
        _ = gl.no_such_name


def test_what_a_model_raises_arrives_alone_and_not_in_a_group(
    records: list[gl.FeatureRecord],
) -> None:
    def spent(n: int) -> ScriptedLLM:
        said = "\n".join(f"{i}: yes" for i in range(1, 13))
        return ScriptedLLM([*[said] * n, *[BudgetSpent("no more")] * 10_000])

    by_hand = gl.Explanation.written_by_hand(records[0].feature, "capitalised words")
    for n in (0, 10, 20, 26, 28):
        with pytest.raises(BudgetSpent, match="no more"):
            gl.run_sync(
                gl.score(by_hand, records[0], scorers=["detection"], llm=spent(n), n_scored=4)
            )
