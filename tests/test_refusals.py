"""A provider that calls one request bad, and one that calls all of them so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from glossator.errors import GlossatorError, ProviderRefused, RequestRefused
from glossator.health import health_of
from glossator.llm import Message, Purpose, Request, working_on
from glossator.providers.refusals import IN_A_ROW, Refusals
from glossator.runs import RunStatus
from glossator.store import Store
from glossator.types import FeatureId
from tests.loopback import Asked, Fault, Loopback, status
from tests.pipeline_child import config_for, do, kind_of, rule

SAID = "Invalid content in messages[1]"


class Picky(Loopback):
    """A server that calls some requests bad."""

    def __init__(self, bad: Callable[[Asked], bool]) -> None:
        super().__init__(rule)
        self.bad = bad

    async def _answer(self, asked: Asked, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        refused = asked in self.log and self.bad(asked)
        return await super()._answer(asked, status(400, SAID) if refused else fault, writer)


def first_of_kind(kind: str) -> Callable[[Asked], bool]:
    """Whether a request is the same as the first of that kind."""
    first: list[str] = []

    def bad(asked: Asked) -> bool:
        if kind_of(asked.messages) != kind:
            return False
        first.append(asked.last)
        return asked.last == first[0]

    return bad


def test_one_bad_request_fails_its_item_however_often_it_is_tried(
    folder: Path, store: Store
) -> None:
    with Picky(first_of_kind("simulate")) as server:
        config = config_for(folder, server)
        for _ in range(3):
            outcome = do(config, store)
            assert outcome.stopped is None
            assert outcome.status is store.run("r1").status is RunStatus.SOME_FAILED
            assert (outcome.done, outcome.failed) == (2, 1)
            (failure,) = store.failures("r1")
            assert failure.feature in {e.feature for e in store.explanations_of("r1")}
            assert (failure.stage, failure.part) == ("score", "max-act/simulation")
            assert failure.kind == "RequestRefused"
            assert SAID in failure.message
        assert len(store.scores_of("r1")) == 2 * 3 - 1
        health = {h.scorer: dict(h.given_up) for h in health_of(store.scores_of("r1"), [failure])}
        assert health["simulation"] == {"provider": 1}
        server.bad = lambda asked: False
        assert do(config, store).status is RunStatus.DONE


def test_items_that_were_refused_before_do_not_stop_the_next_start(
    folder: Path, store: Store
) -> None:
    with Picky(lambda asked: kind_of(asked.messages) == "simulate") as server:
        config = config_for(folder, server, features="0-4")
        do(config, store, stages=("collect", "explain"))
        for said in store.explanations_of("r1"):
            unit = ("score", "max-act/simulation")
            store.put_failure("r1", said.feature, *unit, "RequestRefused", SAID)
        outcome = do(config, store)
        assert outcome.status is RunStatus.SOME_FAILED
        assert len(store.failures("r1")) == len(store.scores_of("r1")) == 5 > IN_A_ROW


def test_the_first_request_of_a_run_stops_it_if_it_is_called_bad(
    folder: Path, store: Store
) -> None:
    with Picky(lambda asked: True) as server:
        for _ in range(2):
            outcome = do(config_for(folder, server), store)
            assert isinstance(outcome.stopped, ProviderRefused)
            assert SAID in str(outcome.stopped)
            assert outcome.status is RunStatus.REFUSED
        assert len(server.log) == 2


def test_a_server_that_begins_to_call_all_requests_bad_stops_the_run(
    folder: Path, store: Store
) -> None:
    with Picky(lambda asked: kind_of(asked.messages) != "explain") as server:
        outcome = do(config_for(folder, server), store, concurrency=1)
        assert isinstance(outcome.stopped, ProviderRefused)
        assert outcome.stopped.exit_code == 3
        assert len(store.failures("r1")) == IN_A_ROW - 1
        assert store.scores_of("r1") == []


# -- whom it is about ------------------------------------------------------------------------------

BAD = ProviderRefused("all requests are refused", "this request is refused")


def weighed(refusals: Refusals, index: int, error: ProviderRefused = BAD) -> GlossatorError:
    with working_on(item(index)):
        return refusals.weigh(error, request("?"))


def item(index: int) -> Purpose:
    return Purpose("score", FeatureId("m", "layers.0.mlp.neurons", index), "max-act/detection")


def request(text: str) -> Request:
    return Request((Message("user", text),))


def test_many_refusals_of_one_item_are_one() -> None:
    refusals = Refusals(answered=True)
    assert all(isinstance(weighed(refusals, 1), RequestRefused) for _ in range(9))


def test_items_in_a_row_are_all_of_them_and_a_reply_ends_the_row() -> None:
    refusals = Refusals(answered=True)
    for _ in range(2):
        found = [weighed(refusals, index) for index in range(IN_A_ROW)]
        assert [type(one) for one in found[:-1]] == [RequestRefused] * (IN_A_ROW - 1)
        assert found[-1] is BAD
        refusals.note_reply()


def test_items_that_were_refused_before_say_nothing_of_the_others() -> None:
    refusals = Refusals(True, frozenset(item(index) for index in range(9)))
    assert all(isinstance(weighed(refusals, index), RequestRefused) for index in range(9))
    assert isinstance(weighed(refusals, 10), RequestRefused)


def test_where_nobody_says_what_a_request_is_for_each_is_an_item() -> None:
    refusals = Refusals(answered=True)
    found = [refusals.weigh(BAD, request(str(i))) for i in range(IN_A_ROW)]
    assert found[-1] is BAD
    assert isinstance(found[0], RequestRefused)


@pytest.mark.parametrize("refusals", [Refusals(), Refusals(answered=True)])
def test_a_key_that_is_refused_is_never_about_one_request(refusals: Refusals) -> None:
    key = ProviderRefused("no such key")
    assert weighed(refusals, 1, key) is key
