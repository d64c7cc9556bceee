"""The agent with a competent language model: it finds what is planted, and leaves the rest open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from glossator.bench.config import TruthConfig
from glossator.bench.equal import AGENT
from glossator.bench.ranking import Reader
from glossator.bench.tables import TruthReport
from glossator.bench.truth import bench_truth
from glossator.config import RunLimits
from glossator.datasets.truth import LIBRARY
from glossator.datasets.truth_causal import CAUSAL, FALLING, NO_RULE
from glossator.types import Measure


def bench(n_features: int, n_causal: int, explainers: Sequence[str] = (AGENT,)) -> TruthReport:
    config = TruthConfig(
        readers=(Reader("detection"),),
        explainers=tuple(explainers),
        n_features=n_features,
        n_causal=n_causal,
        corpus="made-up",
        embeds=False,
        n_scored=16,
        n_unrelated=2,
    )
    return asyncio.run(bench_truth(config, RunLimits(offline=True)))


def value(measure: Measure | None) -> float:
    assert measure is not None
    assert measure.value is not None
    return measure.value


def share_in_class(report: TruthReport) -> float:
    """Of features that act by making words likelier, or do nothing, all of it right."""
    (row,) = [row for row in report.causal if row.explainer == AGENT]
    groups = {name: m for name, m in row.groups.items() if name not in (FALLING, NO_RULE)}
    n = {name: sum(feature.group == name for feature in CAUSAL) for name in groups}
    return sum(value(m) * n[name] for name, m in groups.items()) / sum(n.values())


@pytest.fixture(scope="module")
def report() -> TruthReport:
    return bench(14, 20, (AGENT, "max-act", "n2g"))


def test_it_finds_what_features_do_and_leaves_open_what_has_no_rule(report: TruthReport) -> None:
    (row,) = [row for row in report.causal if row.explainer == AGENT]
    assert share_in_class(report) >= 0.9
    assert value(row.left_open) >= 0.8


def test_it_finds_what_sets_features_off(report: TruthReport) -> None:
    (row,) = [row for row in report.explainers if row.explainer == AGENT]
    assert value(row.true) >= 0.9


def test_it_is_held_against_others_that_had_as_many_calls(report: TruthReport) -> None:
    rows = {(row.other, row.what): row for row in report.paired}
    assert {other for other, _ in rows} == {"max-act", "n2g"}
    for other in ("max-act", "n2g"):
        row = rows[other, "output part right"]
        assert row.difference.low is not None
        assert row.difference.low > 0
        assert value(rows[other, "left open where there is no rule"].difference) > 0
        assert (other, "score by detection") in rows
    agents, others = rows["max-act", "output part right"].calls
    assert 0 < others <= agents
    assert any("equal budget" in table.title for table in report.tables())


@pytest.mark.slow
def test_it_finds_nine_of_ten_of_the_whole_library() -> None:
    report = bench(len(LIBRARY), len(CAUSAL))
    (row,) = [row for row in report.explainers if row.explainer == AGENT]
    assert value(row.true) >= 0.9
    assert share_in_class(report) >= 0.9
    (causal,) = [row for row in report.causal if row.explainer == AGENT]
    assert value(causal.left_open) >= 0.8
