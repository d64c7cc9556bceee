"""The bench: with a perfect reader, scorers rank truth above near misses above unrelated ones."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glossator.bench.config import TruthConfig, benched
from glossator.bench.figures import above, gap_of_first, mean_of, share_of
from glossator.bench.ranking import BLIND, READS_NOTHING, Reader
from glossator.bench.tables import ScorerRow, TruthReport, ranking_table
from glossator.bench.truth import bench_truth
from glossator.cli.app import call
from glossator.config import RunLimits
from glossator.datasets.truth import LIBRARY
from glossator.errors import ConfigError, NotRegistered
from glossator.llm import Reply, Request
from glossator.store import Store
from glossator.types import Measure, Usage

SCORERS = ("detection", "fuzzing", "generation", "intruder", "purity", "rubric", "surprisal")
READERS = (*(Reader(name) for name in SCORERS), Reader("simulation", "logprob"))
LIMITS = RunLimits(offline=True)


def bench(config: TruthConfig, store: Store | None = None) -> TruthReport:
    return asyncio.run(bench_truth(config, LIMITS, store))


def number(measure: Measure) -> float:
    assert measure.value is not None
    return measure.value


@pytest.fixture(scope="module")
def report() -> TruthReport:
    """All scorers on features of all classes, read by the oracle."""
    config = benched("oracle", quick=True, explainers=["max-act", "unigram", "n2g"])
    return bench(replace(config, readers=READERS, n_scored=30))


# -- what must be shown ----------------------------------------------------------------------------


def test_every_scorer_that_applies_ranks_truth_above_unrelated(report: TruthReport) -> None:
    rows = [row for row in report.scorers if row.scorer not in READS_NOTHING]
    assert {row.scorer for row in rows} == {*SCORERS, "simulation"} - READS_NOTHING
    for row in rows:
        assert number(row.true_over_unrelated) >= 0.95, row.scorer
        assert row.undefined == 0, row.scorer


def test_every_scorer_that_applies_ranks_truth_above_near_misses(report: TruthReport) -> None:
    for row in report.scorers:
        if row.scorer not in READS_NOTHING:
            assert number(row.true_over_near) >= 0.85, row.scorer
            assert number(row.near_over_unrelated) >= 0.6, row.scorer


def test_with_shuffled_explanations_no_scorer_differs_from_its_null(report: TruthReport) -> None:
    for row in report.scorers:
        if row.scorer not in READS_NOTHING:
            low, high = row.shuffled.low, row.shuffled.high
            assert low is not None and high is not None  # noqa: PT018
            assert low <= 0 <= high, row.scorer


def test_what_a_scorer_is_said_to_be_blind_to_it_does_not_notice(report: TruthReport) -> None:
    """Else it would be left out of the figures for nothing."""
    for row in report.scorers:
        for miss in BLIND.get(row.scorer, ()):
            noticed = row.by_miss.get(miss.value, Measure(None)).value
            assert noticed is None or noticed < 0.85, (row.scorer, miss)


def test_the_intruder_is_found_without_a_description(report: TruthReport) -> None:
    (row,) = [row for row in report.scorers if row.scorer == "intruder"]
    assert number(row.true) > 0.85
    assert row.true_over_near.value is None


def test_explanations_are_read_and_patterns_are_run(report: TruthReport) -> None:
    rows = {row.explainer: row for row in report.explainers}
    assert number(rows["max-act"].true or Measure(None)) > 0.7
    for name in ("unigram", "n2g"):
        (by_tokens,) = [r for r in rows[name].readings if r.scorer == "simulation"]
        assert 0.4 < number(by_tokens.value) < 0.95
        assert number(by_tokens.lost) > 0
        assert rows[name].cost.calls == 0
    (best,) = [r for r in rows["max-act"].readings if r.scorer == "detection"]
    assert number(best.value) > 0.95
    assert number(best.f1) > 0.95


def test_a_report_has_rows_for_programs_people_and_pages(report: TruthReport) -> None:
    plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert {row["scorer"] for row in plain["scorers"]} == {*SCORERS, "simulation"}
    assert plain["scorers"][0]["true_over_near"]["low"] < 1
    page = report.markdown("glossator bench truth")
    assert "    glossator bench truth" in page
    for table in report.tables():
        assert table.title in page
        assert all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.slow
def test_all_scorers_rank_the_whole_library_rightly() -> None:
    config = TruthConfig(readers=READERS, corpus="made-up", n_features=len(LIBRARY))
    for row in bench(config).scorers:
        if row.scorer not in READS_NOTHING:
            assert number(row.true_over_unrelated) >= 0.95, row.scorer
            assert number(row.true_over_near) >= 0.85, row.scorer
            assert row.shuffled.low is not None and row.shuffled.high is not None  # noqa: PT018
            assert row.shuffled.low <= 0 <= row.shuffled.high, row.scorer


# -- a reader that cannot read ---------------------------------------------------------------------


class Yes:
    """Says yes to everything, for somebody who wants to see the bench notice it."""

    name = "yes"
    can = frozenset[Any]()

    async def reply(self, request: Request) -> Reply:
        """Yes."""
        text = "\n".join(f"{i}: yes" for i in range(1, request.lines + 1)) or "yes"
        return Reply(text=text, usage=Usage(calls=1, prompt_tokens=10, completion_tokens=1))


def test_a_reader_that_says_yes_to_all_ranks_nothing_and_costs_what_it_costs(store: Store) -> None:
    config = TruthConfig(
        "tests.test_bench:Yes",
        readers=(Reader("detection"), Reader("surprisal")),
        n_features=6,
        corpus="made-up",
        n_scored=10,
        n_unrelated=1,
    )
    found = bench(config, store)
    (row,) = found.scorers
    assert row.scorer == "detection"
    assert row.true_over_unrelated.value == row.true_over_near.value == 0
    # 10 windows and 5 of dev, or a few more where each stratum has one; 5 votes of up to ten each
    assert 10 <= row.cost.calls <= 15
    assert any("surprisal needs" in note for note in found.notes)


def test_a_bench_goes_on_where_it_stopped(store: Store) -> None:
    config = TruthConfig(
        "tests.test_bench:Yes",
        readers=(Reader("detection"),),
        n_features=4,
        corpus="made-up",
        n_scored=6,
        n_unrelated=1,
    )
    first = bench(config, store)
    (run,) = store.runs()
    asked = store.used(run.id).calls
    assert asked > 0
    second = bench(config, store)
    assert [r.id for r in store.runs()] == [run.id]
    assert store.used(run.id).calls == asked
    assert second.scorers[0].true == first.scorers[0].true
    assert second.scorers[0].cost.tokens == 0 < first.scorers[0].cost.tokens


# -- settings and figures --------------------------------------------------------------------------


def test_what_cannot_be_benched_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="cannot be benched"):
        TruthConfig(readers=(Reader("intervention"),))
    with pytest.raises(NotRegistered):
        TruthConfig(readers=(Reader("detektion"),))
    with pytest.raises(NotRegistered):
        TruthConfig(readers=(Reader("simulation", "reply2"),))
    with pytest.raises(NotRegistered):
        TruthConfig(explainers=("max-akt",))
    with pytest.raises(ConfigError, match="planted features"):
        TruthConfig(n_features=len(LIBRARY) + 1)
    with pytest.raises(ConfigError, match="at least 2 windows"):
        TruthConfig(n_scored=1)


def test_defaults_leave_out_what_makes_no_sense() -> None:
    config = benched("oracle", quick=True)
    assert "intervention" not in {reader.scorer for reader in config.readers}
    assert "output" not in config.explainers
    assert benched("oracle", explainers=["none"]).explainers == ()
    local = {reader.simulator for reader in benched("local:small").readers}
    remote = {reader.simulator for reader in benched("openai:any").readers}
    assert "logprob" in local
    assert "logprob" not in remote
    named = benched("oracle", scorers=["simulation"], simulators=["reply"])
    assert named.readers == (Reader("simulation", "reply"),)


@pytest.mark.parametrize(
    ("value", "other", "wanted"),
    [(1, 0.5, 1), (0.5, 0.5, 0), (0.5, 0.5 + 1e-12, 0), (0.4, 0.5, 0), (None, 0.5, 0),
     (-0.2, None, 1), (None, None, 0)],
)  # fmt: skip
def test_a_tie_is_not_above_and_no_score_is_under_all(
    value: float | None, other: float | None, wanted: float
) -> None:
    assert above(value, other) == wanted


def test_intervals_of_shares_stay_open_at_the_ends_and_hold_the_share() -> None:
    found = share_of([1.0] * 28)
    assert found.value == found.high == 1
    assert found.low == pytest.approx(0.879, abs=0.001)  # Wilson 1927, 28 of 28
    assert share_of([]).value is None
    assert mean_of([]).value is None
    assert mean_of([2.0, 2.0]) == Measure(2.0, 2.0, 2.0)


def test_the_gap_of_a_shuffled_description_has_0_inside_as_often_as_it_says() -> None:
    """Heavy tails included, which a bootstrap of few features gets wrong."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        rows = (rng.random((28, 2)) ** 12).tolist()
        found = gap_of_first(rows)
        assert found.low is not None and found.high is not None  # noqa: PT018
        inside += found.low <= 0 <= found.high
    assert inside >= 182
    apart = gap_of_first([[1.0, 0.0, 0.1]] * 28)
    assert apart.low is not None
    assert apart.low > 0
    assert gap_of_first([[1.0]]).value is None


def test_a_row_without_any_feature_has_no_figures() -> None:
    row = ScorerRow.of(Reader("detection"), [])
    assert row.true.value is row.true_over_near.value is row.half_width is None
    assert ranking_table([row]).rows[0][3] == "-"


# -- the command -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_a_folder")
def test_the_command_prints_a_document_or_a_table_and_writes_a_page(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["bench", "truth", "--quick", "--features", "4", "--windows", "6", "--unrelated", "1"]
    asked += ["--scorer", "rubric", "--explainer", "unigram", "--offline", "--quiet"]
    assert call([*asked, "--json", "--out", "page.md"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["scorer"] for row in found["scorers"]] == ["rubric"]
    assert [row["explainer"] for row in found["explainers"]] == ["unigram"]
    assert found["settings"]["corpus"] == "made-up"
    assert "| rubric |" in (tmp_path / "page.md").read_text()
    assert not (tmp_path / "glossator.db").exists()
    assert call(asked) == 0
    assert "true > near" in capsys.readouterr().out


@pytest.mark.usefixtures("in_a_folder")
@pytest.mark.parametrize(
    "wrong",
    [["--features", "1"], ["--scorer", "heads"], ["--llm", "nobody"], ["--explainer", "x"]],
)
def test_a_wrong_option_is_a_line_and_exit_code_2(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["bench", "truth", "--quick", *wrong]) == 2
    assert capsys.readouterr().err.startswith("glossator: ")
