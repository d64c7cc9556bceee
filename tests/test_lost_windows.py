"""Windows that the provider lost are no judgements: the score is asked for again, and paid once."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import glossator as gl
from glossator import models
from glossator.config import RunConfig
from glossator.errors import CutOff, OutOfRange, PromptTooLong, ProviderError, Refused, ReplyError
from glossator.health import health_of, kind_of
from glossator.llm import Request, ScriptedLLM
from glossator.providers.metered import Metered, Retries
from glossator.runs import RunStatus
from glossator.store import Store, open_store
from glossator.types import Explanation, FeatureId, Prediction, Score
from glossator.units import Watched, _unusable
from tests.knowing import RIVER, planted
from tests.loopback import Answer, Asked, Fault, Loopback, sends, status
from tests.pipeline_child import config_for, do, rows, rule
from tests.pipeline_child import kind_of as about

HASTE = Retries(3, 0.01, 0.01, 0.0)
LOST = {"500": status(500, "no such luck"), "html": sends("<!doctype html>", "text/html")}


@dataclass
class Hasty(Metered):
    """The meter, less patient."""

    retries: Retries = HASTE


class Losing:
    """A server that answers each `every`-th question of a kind with a fault, while it is ill."""

    def __init__(self, fault: Fault, every: int = 5, kind: str = "detect") -> None:
        self.ill, self.kind = True, kind
        self.lost: list[str] = []
        self._seen: list[str] = []
        self._fault, self.every = fault, every
        self.server = Loopback(rule, admit=self._admit)

    def _admit(self, now: float) -> Fault | None:
        asked = self.server.log[-1]
        if not self.ill or about(asked.messages) != self.kind:
            return None
        body = json.dumps(asked.body)
        if body not in self._seen:
            self._seen.append(body)
            if len(self._seen) % self.every == 0:
                self.lost.append(body)
        return self._fault if body in self.lost else None


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "Metered", Hasty)


def undisturbed(config: RunConfig, folder: Path) -> list[dict[str, object]]:
    with open_store(f"sqlite:///{folder}/whole.db") as store:
        assert do(config, store).status is RunStatus.DONE
        return rows(store)


@pytest.mark.parametrize("way", LOST)
def test_a_score_of_which_windows_were_lost_is_given_up_and_the_same_command_mends_it(
    folder: Path, tmp_path: Path, store: Store, way: str, hasty: None
) -> None:
    losing = Losing(LOST[way])
    with losing.server as server:
        config = config_for(folder, server, features="0", scorers=["detection"], per_call=2)
        losing.ill = False
        expected = undisturbed(config, tmp_path)
        whole = Counter(json.dumps(asked.body) for asked in server.log)
        server.log.clear()
        losing.ill = True
        outcome = do(config, store)
        assert losing.lost
        assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.SOME_FAILED, 0, 1)
        assert store.scores_of("r1") == []
        (failure,) = store.failures("r1")
        assert (failure.part, kind_of(failure)) == ("max-act/detection", "provider")
        (health,) = health_of([], [failure])
        assert health.given_up == {"provider": 1}
        answered = {json.dumps(a.body) for a in server.log} - set(losing.lost)
        before = len(server.log)
        losing.ill = False
        assert do(config, store).status is RunStatus.DONE
        asked = [json.dumps(a.body) for a in server.log[before:]]
        assert not set(asked) & answered  # No reply is paid for twice.
        assert len(asked) == len(set(asked))
        assert set(asked) | answered == set(whole)
        if way == "html":
            # The others were waited for, so just the lost ones are left.
            assert set(asked) == set(losing.lost)
        assert rows(store) == expected
        assert store.failures("r1") == []


def test_a_lost_reply_of_a_wrong_explanation_or_of_dev_counts_as_much(
    folder: Path, tmp_path: Path, store: Store, hasty: None
) -> None:
    losing = Losing(LOST["html"])
    with losing.server as server:
        config = config_for(folder, server, features="0", scorers=["detection"], per_call=2)
        losing.ill = False
        expected = undisturbed(config, tmp_path)
        questions = [json.dumps(a.body) for a in server.log if about(a.messages) == "detect"]
        for question in questions[::3]:
            losing.ill, losing.every, losing.lost = True, len(questions) + 1, [question]
            with open_store(f"sqlite:///{tmp_path}/{len(server.log)}.db") as fresh:
                assert do(config, fresh).status is RunStatus.SOME_FAILED
                losing.ill = False
                assert do(config, fresh).status is RunStatus.DONE
                assert rows(fresh) == expected


@pytest.mark.parametrize("explainer", ["best-of", "revise"])
def test_an_explanation_of_which_a_reply_was_lost_is_given_up_and_mended(
    folder: Path, tmp_path: Path, store: Store, explainer: str, hasty: None
) -> None:
    losing = Losing(LOST["html"], every=2, kind="explain")
    with losing.server as server:
        config = config_for(
            folder, server, features="0", explainers=[explainer], scorers=["detection"]
        )
        losing.ill = False
        expected = undisturbed(config, tmp_path)
        losing.ill = True
        assert do(config, store).status is RunStatus.SOME_FAILED
        assert losing.lost
        (failure,) = store.failures("r1")
        assert (failure.stage, failure.part, kind_of(failure)) == ("explain", explainer, "provider")
        assert store.explanations_of("r1") == []
        losing.ill = False
        assert do(config, store).status is RunStatus.DONE
        assert rows(store) == expected
        assert store.failures("r1") == []


@pytest.mark.parametrize("answer", [Answer("maybe"), Answer("", finish="refused")])
def test_replies_that_came_and_could_not_be_used_are_counted_and_the_score_stands(
    folder: Path, store: Store, answer: Answer
) -> None:
    seen: list[str] = []

    def mumbles(asked: Asked) -> Answer:
        if about(asked.messages) == "detect":
            if asked.last not in seen:
                seen.append(asked.last)
            if any(text in seen[::7] for _, text in asked.messages):
                return answer
        return rule(asked)

    with Loopback(mumbles) as server:
        config = config_for(folder, server, features="0", scorers=["detection"], per_call=2)
        # one at a time, so that the same ones come first each time
        assert do(config, store, concurrency=1).status is RunStatus.DONE
    (score,) = store.scores_of("r1")
    assert score.n > score.n_failed > 0
    assert "provider" not in score.failures


def test_replies_that_are_all_cut_off_are_counted_so_and_asked_for_again(
    folder: Path, store: Store
) -> None:
    ill = True

    def cuts(asked: Asked) -> Answer:
        if ill and about(asked.messages) == "simulate":
            return Answer('{"1": 0, "2"', finish="length")
        return rule(asked)

    with Loopback(cuts) as server:
        config = config_for(folder, server, features="0")
        assert do(config, store).status is RunStatus.SOME_FAILED
        (failure,) = store.failures("r1")
        assert failure.kind == "CutOff"
        (health,) = health_of([], [failure])
        assert health.given_up == {"cut off": 1}
        ill, before = False, len(server.log)
        assert do(config, store).status is RunStatus.DONE
        assert len(server.log) > before


def test_what_the_provider_lost_is_noted_and_what_the_model_said_wrongly_is_not() -> None:
    said: Sequence[Exception] = [
        ReplyError("no number"), Refused("no"), CutOff("short"), OutOfRange("11"),
        PromptTooLong("long", again=False),
    ]  # fmt: skip
    lost: Sequence[Exception] = [ReplyError("an empty body", broken=True), ProviderError("500")]
    for errors, n in ((said, 0), (lost, 2)):
        watched = Watched(ScriptedLLM(list(errors)))
        for _ in errors:
            with pytest.raises((ReplyError, ProviderError)):
                asyncio.run(watched.reply(Request(())))
        assert len(watched.lost) == n
    with pytest.raises(ProviderError, match="2 replies were lost on the way: an empty body"):
        watched.check()


@pytest.mark.parametrize("loses", [False, True])
def test_from_python_a_lost_reply_gives_the_score_up_too(loses: bool) -> None:
    first: list[Request] = []

    def answer(request: Request) -> str:
        first[:] = first or [request]
        if loses and request == first[0]:
            raise ReplyError("a page in its place", broken=True)
        return "yes" if "river" in request.messages[-1].content.split('"')[1] else "no"

    record = planted()[RIVER]
    explanation = Explanation.written_by_hand(record.feature, RIVER)
    scoring = gl.score(
        explanation, record, "detection", ScriptedLLM(answer), n_scored=8, per_call=1
    )
    if loses:
        with pytest.raises(ProviderError, match="lost on the way: a page in its place"):
            gl.run_sync(scoring)
    else:
        (found,) = gl.run_sync(scoring)
        assert found.n_failed == 0


@pytest.mark.parametrize(
    ("failures", "error"),
    [
        ({"parse": 3}, ReplyError),
        ({"refused": 2, "parse": 1}, Refused),
        ({"cut off": 3}, CutOff),
        ({"range": 3}, OutOfRange),
        ({"provider": 3}, PromptTooLong),
        ({"of an outsider": 3}, ReplyError),
    ],
)
def test_a_score_without_any_judgement_is_given_up_as_what_it_is(
    failures: dict[str, int], error: type[ReplyError]
) -> None:
    kinds = [kind for kind, n in failures.items() for _ in range(n)]
    predictions = tuple(
        Prediction(f"d:{i}", "top", 1.0, "d", (1.0,), (), "probability", (" a",), kind, f"{kind}!")
        for i, kind in enumerate(kinds)
    )
    feature = FeatureId("m", "s", 0)
    score = Score(
        feature, "max-act", "detection", n_failed=len(kinds), failures=failures,
        note="no window could be judged", predictions=predictions,
    )  # fmt: skip
    found = _unusable(score)
    assert type(found) is error
    assert found.reply == f"{max(failures, key=lambda k: failures[k])}!"
