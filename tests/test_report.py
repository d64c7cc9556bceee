import asyncio
import base64
import dataclasses
import hashlib
import random
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from glossator.config import RunConfig
from glossator.datasets.planted import collect_planted
from glossator.errors import StoreError
from glossator.explainers.unigram import UnigramExplainer
from glossator.scorers.build import build_scorer
from glossator.scorers.nulls import choose_wrong
from glossator.store import Run, Store, open_store
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    Kind,
    Measure,
    Null,
    Pool,
    Prediction,
    Score,
    Split,
    Stratum,
    Usage,
)
from glossator.web.figures import LEVELS, Axis, level
from glossator.web.heldout import held_out
from glossator.web.report import write_report
from glossator.web.verdicts import standing
from glossator.web.views import Room
from glossator.web.words import attribute, duration, figure, natural, shown

HOSTILE = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "javascript:alert(3)",
    "</title></style></script><svg onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202eb\u2066c\u200b\x00\x1b",
    "\ud800",
)
VOID = {"meta", "br", "wbr", "img", "link", "input", "hr"}
ALLOWED = frozenset(
    re.findall(
        r"\w+",
        "html head meta title style body a p time h1 h2 h3 h4 nav ul li header main section div "
        "footer strong span i b sub bdi ol figure svg line circle path rect text g dl dt dd "
        "table caption thead tbody tr th td details summary pre script br wbr",
    )
)


class Page(HTMLParser):
    """What a browser would find: elements, their attributes, and text; refuses wrong nesting."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def feature(index: int, site: str = "layers.7.mlp.neurons") -> FeatureId:
    return FeatureId("smollm2-135m", site, index)


def record_of(number: int = 0, word: str = " Paris", kind: Kind = Kind.TOKEN) -> FeatureRecord:
    def split(pool: Pool) -> Split:
        firing = tuple(
            Example(("in", word, " now"), (0.0, 2.0 + i, 0.25), f"{pool}{i}", 0, TOP, 1.0)
            for i in range(3)
        )
        silent = (Example(("a", "b", "c"), (0.0, -1.0, 0.0), f"{pool}s", 0, SILENT, 9.0),)
        return Split(pool, 1.0, firing, silent, (Stratum(TOP, 3, 3), Stratum(SILENT, 9, 1)))

    return FeatureRecord(
        feature(number),
        train=split(Pool.TRAIN),
        dev=split(Pool.DEV),
        test=split(Pool.TEST),
        density=0.04,
        threshold=1.0,
        threshold_rule="99th percentile of 50 train tokens",
        peak=4.0,
        mean=0.1,
        std=0.5,
        n_tokens=36,
        kind=kind,
        histogram_edges=(-1.0, 0.0, 1.0, 4.0),
        histogram=(3, 24, 9),
        provenance={"corpus": "default", "hook": "down_proj"},
    )


def predicted(record: FeatureRecord, values: tuple[float, ...], scale: str) -> list[Prediction]:
    return [
        Prediction(e.key, e.stratum, e.weight, e.document, e.activations, values, scale, e.tokens)
        for e in record.test.examples
    ]


def score_of(record: FeatureRecord, explainer: str, values: tuple[float, ...]) -> Score:
    made = predicted(record, values, "tenths")
    return Score(
        record.feature,
        *(explainer, "simulation", "lexical", "Pearson over tokens"),
        value=0.41,
        low=0.2,
        high=0.6,
        null=0.05,
        lift=0.38,
        p=0.25,
        n=4,
        measures={"Spearman": Measure(0.31, 0.1, 0.5)},
        nulls=(Null("shuffled", 0.05, (0.0, 0.1, 0.05), ("x", "y", "z")),),
        predictions=tuple(made),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path / 'results.db'}") as opened:
        yield opened


def begin(store: Store, **options: Any) -> Run:
    return store.begin_run(RunConfig(**options), versions={"glossator": "0.1.0"}, fresh=True)


def report(store: Store, run: str | None = None) -> tuple[str, Page]:
    path = Path(store.url.removeprefix("sqlite:///")).with_name("report.html")
    html = write_report(store, run, path).read_bytes().decode()
    return html, Page(html)


def filled(store: Store) -> Run:
    """One feature that `max-act` gets wrong and `unigram` gets right."""
    run = begin(store)
    record = record_of()
    store.put_record(run.collection, record)
    text = "names of capitals"
    said = Explanation(record.feature, text, "max-act", "local", usage=Usage(1, 0, 9, 9, 0.25, 3.0))
    store.put_explanation(run.id, said)
    store.put_explanation(run.id, Explanation(record.feature, 'the token "Paris"', "unigram"))
    store.put_score(run.id, score_of(record, "max-act", (8.0, 0.0, 0.0)))
    store.put_score(run.id, score_of(record, "unigram", (0.0, 9.0, 0.0)))
    store.finish_run(run.id)
    return run


# The whole page


def test_the_page_shows_what_was_run_and_every_figure_of_a_score(store: Store) -> None:
    filled(store)
    _, page = report(store)
    for expected in (
        "What 1 feature of smollm2-135m means",
        "names of capitals",
        "0.41 [0.20, 0.60]",
        "null 0.05 · lift 0.38 · p 0.25",
        "n 4 · 0 failed",
        "Spearman",
        "knows nothing of meaning or order",
        "$0.25",
        "down_proj",
        "Train. What explainers may see",
        "Test, held out.",
    ):
        assert expected in page.text


def test_how_an_explanation_was_made_is_told_beside_it(store: Store) -> None:
    run = filled(store)
    assert "Note:" not in report(store)[1].text
    note = "4 of 10 examples were left out: the prompt was too long for <local>"
    said = Explanation(feature(0), "birds", "contrastive", "local", note=note)
    none = Explanation(feature(0), "", "senses", abstained="no pattern", note="triage: asked")
    for one in (said, none):
        store.put_explanation(run.id, one)
    _, page = report(store)
    assert f"Note: {note}" in page.text
    assert "Note: triage: asked" in page.text


def test_the_verdict_counts_pairs_that_the_baseline_won(store: Store) -> None:
    filled(store)
    _, page = report(store)
    assert "None of 1 explanation by max-act predicted held-out" in page.text
    assert "The baseline was better on 1" in page.text


def test_the_verdict_on_planted_features_favours_the_description_that_knows_more(
    store: Store,
) -> None:
    def after_a_comma(tokens: list[str]) -> list[float]:
        return [0.0, *(float(token == ",") for token in tokens[:-1])]

    words = ["red", "green", "blue", "grey", "pink", "gold", "teal", "rust"]
    chance = random.Random(0)
    texts = [
        " ".join(chance.choice(words) + ("," if chance.random() < 0.02 else "") for _ in range(60))
        for _ in range(60)
    ]
    (record,) = collect_planted({"after a comma": after_a_comma}, texts=texts)
    run = begin(store)
    store.put_record(run.collection, record)
    made = [
        Prediction(e.key, e.stratum, e.weight, e.document, e.activations, e.activations, "raw")
        for e in record.test.examples
    ]
    made = [
        dataclasses.replace(p, tokens=e.tokens)
        for p, e in zip(made, record.test.examples, strict=True)
    ]
    oracle = Explanation(record.feature, "the token behind a comma", "max-act", "a judge")
    store.put_explanation(run.id, oracle)
    store.put_score(
        run.id,
        Score(
            record.feature, "max-act", "simulation", "oracle", value=1.0, predictions=tuple(made)
        ),
    )

    async def baseline() -> None:
        said = await UnigramExplainer().explain(record.feature, record.train)
        store.put_explanation(run.id, said)
        scorer = build_scorer("simulation", said, choose_wrong(said, [], 3, 0))
        store.put_score(run.id, await scorer.score(said, record.test, record.dev))

    asyncio.run(baseline())
    _, page = report(store)
    assert "1 of 1 explanation by max-act predicted held-out" in page.text
    assert "1 of them by more than the choice of documents explains" in page.text


def test_without_simulation_the_verdict_is_by_a_scorer_that_reads_explanations(
    store: Store,
) -> None:
    words = ["red", "green", "blue", "grey", "pink", "gold", "teal", "rust"]
    chance = random.Random(0)
    texts = [" ".join(chance.choice(words) for _ in range(60)) for _ in range(60)]
    meaning = {"red": lambda tokens: [float(t.strip() == "red") for t in tokens]}
    (record,) = collect_planted(meaning, texts=texts)
    run = begin(store)
    store.put_record(run.collection, record)
    store.put_score(
        run.id, Score(record.feature, "max-act", "intruder", value=0.9, n=4, metric="accuracy")
    )

    async def scored(said: Explanation) -> None:
        store.put_explanation(run.id, said)
        scorer = build_scorer("detection", said, choose_wrong(said, [], 3, 0))
        store.put_score(run.id, await scorer.score(said, record.test, record.dev))

    wrong = Explanation(record.feature, "the word green", "max-act", "a judge")
    asyncio.run(scored(wrong))
    asyncio.run(scored(asyncio.run(UnigramExplainer().explain(record.feature, record.train))))
    _, page = report(store)
    assert "None of 1 explanation by max-act had a higher detection score" in page.text
    assert "The baseline was better on 1" in page.text
    assert "intruder score of both" not in page.text


def test_nothing_on_the_page_reaches_for_the_network_and_only_our_script_may_run(
    store: Store,
) -> None:
    filled(store)
    html, page = report(store)
    policies = [m["content"] for m in page.all("meta") if m.get("http-equiv")]
    (policy,) = policies
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        assert tag in ALLOWED
        assert not {"src", "srcset", "style", "action", "data"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert "url(" not in html
    assert "@import" not in html


def test_links_within_the_page_lead_somewhere(store: Store) -> None:
    filled(store)
    _, page = report(store)
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    assert {a["href"][1:] for a in page.all("a")} <= set(ids)
    for landmark in ("header", "nav", "main", "footer"):
        assert len(page.all(landmark)) == 1


# Hostile text


@pytest.mark.parametrize("bad", HOSTILE)
def test_text_from_corpus_and_models_is_shown_and_never_obeyed(store: Store, bad: str) -> None:
    run = begin(store)
    record = dataclasses.replace(record_of(word=bad), provenance={bad: bad}, threshold_rule=bad)
    store.put_record(run.collection, record)
    store.put_explanation(
        run.id,
        Explanation(
            record.feature,
            f"x{bad}",
            "max-act",
            f"m{bad}",
            *(bad, bad, bad),
            senses=(bad,),
            exceptions=(bad,),
            words=((bad, 1.0),),
        ),
    )
    score = score_of(record, "max-act", (8.0, 0.0, 0.0))
    failed = dataclasses.replace(score.predictions[0], predicted=(), failure=bad, raw=bad)
    score = dataclasses.replace(
        score,
        metric=bad,
        note=bad,
        model=bad,
        n_failed=1,
        failures={bad: 1},
        measures={bad: Measure(0.1)},
        predictions=(*score.predictions[1:], failed),
    )
    store.put_score(run.id, score)
    store.put_failure(run.id, record.feature, "score", "max-act", "parse", bad, bad)
    html, page = report(store)
    assert {tag for tag, _ in page.elements} <= ALLOWED
    assert len(page.all("script")) == 1
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "src" for name in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search("[\x00-\x08\x0b-\x1f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", html)
    visible = "".join(shown(bad).striptags().split())
    assert visible in "".join(page.text.split())


def test_invisible_characters_are_named_and_ordinary_ones_are_left_alone() -> None:
    assert shown("a\u202eb") == 'a<span class="ctl">U+202E</span>b'
    assert attribute("a\u200bb") == "a⟨U+200B⟩b"
    assert shown("naïve 東京\u00a0שלום & <b>") == "naïve 東京\u00a0שלום &amp; &lt;b&gt;"
    assert shown("x" * 50, 10).endswith("(40 more characters)")


# Runs of every kind


def test_an_empty_run_says_that_nothing_was_explained(store: Store) -> None:
    run = begin(store)
    _, page = report(store, run.id)
    assert "Nothing has been explained in this run yet." in page.text
    assert "marked “running”" in page.text


def test_a_run_of_failures_alone_lists_them(store: Store) -> None:
    run = begin(store)
    store.put_failure(run.id, feature(3), "explain", "max-act", "parse", "no line could be read")
    store.put_failure(run.id, None, "collect", "", "corpus", "the text is gone")
    _, page = report(store)
    assert page.text.count("no line could be read") >= 2
    assert "the text is gone" in page.text
    assert "2 pieces of work failed" in page.text


def test_a_score_without_a_value_gives_its_reason_and_no_number(store: Store) -> None:
    run = begin(store)
    record = record_of()
    store.put_record(run.collection, record)
    store.put_explanation(run.id, Explanation(record.feature, "cities", "max-act", "m"))
    why = "no reply could be read"
    store.put_score(
        run.id,
        Score(
            *(record.feature, "max-act", "detection"),
            note=why,
            n_failed=2,
            failures={"parse": 1, "refused": 1},
        ),
    )
    _, page = report(store)
    assert f"no value {why}" in page.text
    assert "2 windows not judged : 1 × parse, 1 × refused" in page.text.replace(
        "judged:", "judged :"
    )
    assert "could not be held against the unigram baseline : it was not run" in page.text.replace(
        "baseline:", "baseline :"
    )


def test_abstentions_and_dead_features_are_results(store: Store) -> None:
    run = begin(store)
    dead = dataclasses.replace(
        record_of(kind=Kind.DEAD),
        train=Split(Pool.TRAIN, 1.0),
        dev=Split(Pool.DEV, 1.0),
        test=Split(Pool.TEST, 1.0),
        histogram=(),
        histogram_edges=(),
        peak=0.0,
    )
    store.put_record(run.collection, dead)
    why = "nothing fires in the training windows"
    store.put_explanation(run.id, Explanation(dead.feature, "", "max-act", abstained=why))
    store.put_score(
        run.id, Score(dead.feature, "max-act", "simulation", note=f"the explainer abstained: {why}")
    )
    _, page = report(store)
    assert f"abstained {why}" in page.text
    assert "dead It fired in no training window." in page.text
    assert "1 abstention:" in page.text
    assert "without a value" not in page.text


def test_two_hundred_features_stay_a_few_megabytes_and_say_what_is_left_out(store: Store) -> None:
    run = begin(store)
    tokens = tuple(f" token{i}" for i in range(32))
    acts = tuple(float(i % 7) for i in range(32))

    def split(pool: Pool) -> Split:
        return Split(
            pool,
            0.5,
            tuple(Example(tokens, acts, f"{pool}{i}", 0, TOP, 1.0) for i in range(8)),
            strata=(Stratum(TOP, 8, 8),),
        )

    train, dev, test = (split(pool) for pool in Pool)
    whole = dataclasses.replace(record_of(), train=train, dev=dev, test=test, peak=6.0)
    with store.transaction():
        for number in range(200):
            record = dataclasses.replace(whole, feature=feature(number))
            store.put_record(run.collection, record)
            for name in ("max-act", "unigram"):
                store.put_explanation(run.id, Explanation(record.feature, "x" * 80, name, "m"))
                store.put_score(run.id, score_of(record, name, acts))
    html, page = report(store)
    assert len(page.all("details")) >= 200
    assert len(html) < 8_000_000
    assert "3 of 8 windows are shown, 5 left out" in page.text
    rows = [a for a in page.all("tbody") if "data-order" in a]
    assert len(rows) == 200


def test_features_of_other_runs_of_the_same_collection_are_left_out(store: Store) -> None:
    run = filled(store)
    other = begin(store, features="0-3")
    assert other.collection == run.collection
    store.put_record(run.collection, record_of(99))
    _, page = report(store, run.id)
    assert "neurons/99" not in page.text


def test_the_newest_run_is_reported_unless_one_is_named(store: Store) -> None:
    first = begin(store)
    second = begin(store)
    assert f"run {second.id} " in report(store)[1].text
    assert f"run {first.id} " in report(store, first.id)[1].text


def test_a_run_that_is_not_there_or_a_folder_that_is_not_is_one_clear_error(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(StoreError, match="no run to report on"):
        write_report(store, None, tmp_path / "x.html")
    begin(store)
    with pytest.raises(StoreError, match="no run is called 'r9'"):
        write_report(store, "r9", tmp_path / "x.html")
    with pytest.raises(StoreError, match="cannot write the report"):
        write_report(store, None, tmp_path / "nowhere" / "x.html")
    assert not list(tmp_path.glob("*.html"))


# Parts


def test_misses_and_false_alarms_are_named_with_both_numbers() -> None:
    record = record_of()
    shown_windows = held_out([(score_of(record, "max-act", (8.0, 0.0, 0.0)), 0)], 4.0, 9)
    assert shown_windows is not None
    worst = shown_windows.windows[0]
    found = {(m.kind, str(m.token), m.actual, m.predicted) for m in worst.misses}
    assert found == {("missed", "Paris", "4", "0"), ("false alarm", "in", "0", "8")}


def test_windows_come_worst_first() -> None:
    record = record_of()
    shown_windows = held_out([(score_of(record, "max-act", (0.0, 9.0, 0.0)), 0)], 4.0, 9)
    assert shown_windows is not None
    # All are predicted to fire at the full: the silent one is the worst, the strongest the best.
    assert [w.stratum for w in shown_windows.windows] == [SILENT, TOP, TOP, TOP]
    assert shown_windows.windows[-1].document == "test2"


def test_counts_against_the_null_take_only_scores_that_have_both() -> None:
    record = record_of()
    good = score_of(record, "max-act", (0.0, 9.0, 0.0))
    below = dataclasses.replace(good, value=0.01, low=-0.1, high=0.1)
    nothing = dataclasses.replace(good, value=None, low=None, high=None, note="why")
    found = standing([good, below, nothing], [0.04, 0.5, None])
    assert (found.n, found.valued, found.with_null) == (3, 2, 2)
    assert (found.above, found.clear, found.beats_all, found.significant) == (1, 1, 1, 1)
    assert found.least_p == 0.25
    assert found.without == {"why": 1}


def test_the_colour_scale_ends_at_the_peak_and_starts_at_nothing() -> None:
    assert [level(v, 8.0) for v in (-3.0, 0.0, 4.0, 8.0, 99.0)] == [0, 0, 4, LEVELS, LEVELS]
    assert level(5.0, 0.0) == 0


def test_an_axis_holds_every_value_in_quarters() -> None:
    assert Axis.over([0.2, 1.0, None]) == Axis(0.0, 1.0)
    assert Axis.over([-0.3, 0.5]) == Axis(-0.5, 1.0)
    assert Axis(0.0, 1.0).at(0.25) == "25%"
    assert Axis(-0.5, 1.0).at(-9.0) == "0%"
    assert Axis(0.0, 1.0).ticks == (0.0, 0.25, 0.5, 0.75, 1.0)


def test_more_features_leave_less_room_for_each() -> None:
    rooms = [Room.for_features(n) for n in (1, 24, 80, 300)]
    assert [r.predicted for r in rooms] == sorted((r.predicted for r in rooms), reverse=True)
    assert all(r.top and r.predicted for r in rooms)


def test_numbers_are_written_as_people_read_them() -> None:
    assert [figure(v) for v in (None, -0.5, -0.001, 1)] == ["–", "−0.50", "0.00", "1.00"]
    assert [duration(v) for v in (1.2, 41, 725, 12_000, None)] == [
        *("1.2 s", "41 s", "12 min 5 s", "3 h 20 min", "unknown"),
    ]


def test_features_are_in_the_order_of_the_model() -> None:
    ids = [feature(3, "layers.10.mlp.out"), feature(20, "layers.2.mlp.out"), feature(3)]
    assert sorted([*ids, feature(7, "layers.2.mlp.out")], key=natural) == [
        *(feature(7, "layers.2.mlp.out"), ids[1], ids[2], ids[0]),
    ]


# Colours


def colours() -> Iterator[tuple[str, dict[str, str]]]:
    css = (Path(__file__).parent.parent / "glossator/web/templates/report.css").read_text("utf-8")
    light, dark = css.split("@media (prefers-color-scheme: dark)")
    dark = dark[: dark.index("* {")]
    for name, part in (("light", light), ("dark", dark)):
        yield name, dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("scheme", "named"), [*colours()])
def test_text_stands_out_from_every_colour_behind_it(scheme: str, named: dict[str, str]) -> None:
    for ink in ("ink", "soft", "link", "warn"):
        for behind in ("paper", "card"):
            assert contrast(named[ink], named[behind]) >= 4.5, (scheme, ink, behind)
    assert contrast(named["warn"], named["warn-wash"]) >= 4.5
    assert contrast(named["ink"], named["warn-wash"]) >= 4.5
    for step in range(1, LEVELS + 1):
        ink = named["r-ink-lo"] if step <= 4 else "#141210" if step == 5 else named["r-ink-hi"]
        assert contrast(ink, named[f"r{step}"]) >= 4.5, (scheme, step)
    for mark in ("s0", "s1", "s2", "base", "null"):
        assert contrast(named[mark], named["paper"]) >= 3, (scheme, mark)


@pytest.mark.parametrize(("scheme", "named"), [*colours()])
def test_the_scales_change_steadily_in_lightness(scheme: str, named: dict[str, str]) -> None:
    # What does not rest on hue can be read without seeing hue.
    for letter in "rpq":
        steps = [luminance(named[f"{letter}{step}"]) for step in range(1, LEVELS + 1)]
        assert steps == sorted(steps, reverse=scheme == "light"), letter
