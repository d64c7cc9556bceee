"""Core types: what goes to JSON comes back equal, and what is not allowed cannot be built."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import glossator.types as types_module
from glossator.types import (
    SILENT,
    TOP,
    Example,
    ExperimentResult,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureSummary,
    Kind,
    Measure,
    NgramPath,
    Null,
    Pool,
    Prediction,
    Scale,
    Score,
    Simulation,
    Split,
    Stratum,
    Usage,
)

# --- any value of each type ---------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
shares = st.floats(0, 1)
counts = st.integers(0, 10**12)
texts = st.text(max_size=8)
some = st.text(min_size=1, max_size=8).filter(str.strip)
printable = st.characters(min_codepoint=32, exclude_categories=["Cs"])


def names(refused: str) -> st.SearchStrategy[str]:
    """Texts of one character or more without those of `refused`, likely to hold the others."""
    odd = st.sampled_from([c for c in "/@-. :#" + "\u2028\x7f\u00e9\U0001f642" if c not in refused])
    character = st.one_of(odd, printable.filter(lambda c: c not in refused))
    return st.text(character, min_size=1, max_size=6)


models = st.one_of(
    names("/"), st.tuples(names("/"), names("/")).map("/".join), names("/").map("/{}".format)
)
features = st.builds(
    FeatureId,
    model=models,
    site=names("/@"),
    index=st.integers(0, 10**9),
    coder=st.none() | names(""),
    negative=st.booleans(),
)
amounts = st.floats(0, 1e12)
usages = st.builds(
    Usage,
    calls=counts,
    cached_calls=counts,
    prompt_tokens=counts,
    completion_tokens=counts,
    cost=st.none() | amounts,
    seconds=amounts,
)


@st.composite
def examples(
    draw: st.DrawFn, threshold: float = 0.0, fires: bool | None = None, prefix: str = ""
) -> Example:
    tokens = draw(st.lists(texts, min_size=1, max_size=4))
    below = st.floats(-1e6, threshold)
    activations = draw(st.lists(below, min_size=len(tokens), max_size=len(tokens)))
    if fires if fires is not None else draw(st.booleans()):
        activations[-1] = draw(st.floats(threshold, 1e6, exclude_min=True))
    return Example(
        tuple(tokens),
        tuple(activations),
        prefix + draw(texts),
        draw(counts),
        draw(st.sampled_from([TOP, "q1", "q5"])) if fires else SILENT,
        draw(st.floats(1e-3, 1e6)),
    )


@st.composite
def splits(draw: st.DrawFn, pool: Pool | None = None) -> Split:
    chosen = pool or draw(st.sampled_from(Pool))
    threshold = draw(st.floats(-10, 10))
    firing = draw(st.lists(examples(threshold, True, chosen.value), max_size=2))
    silent = draw(st.lists(examples(threshold, False, chosen.value), max_size=2))
    strata = draw(
        st.just(()) | st.just(tuple(Stratum(name, 10, 2) for name in (TOP, "q1", "q5", SILENT)))
    )
    return Split(chosen, threshold, tuple(firing), tuple(silent), strata)


@st.composite
def records(draw: st.DrawFn) -> FeatureRecord:
    histogram = draw(st.lists(counts, max_size=3))
    edges = draw(st.lists(finite, min_size=len(histogram) + 1, max_size=len(histogram) + 1))
    return FeatureRecord(
        draw(features),
        train=draw(splits(Pool.TRAIN)),
        dev=draw(splits(Pool.DEV)),
        test=draw(splits(Pool.TEST)),
        density=draw(shares),
        threshold=draw(finite),
        threshold_rule=draw(texts),
        peak=draw(finite),
        mean=draw(finite),
        std=draw(finite),
        n_tokens=draw(counts),
        kind=draw(st.sampled_from(Kind)),
        histogram_edges=tuple(edges) if histogram else (),
        histogram=tuple(histogram),
        provenance=draw(st.dictionaries(texts, texts, max_size=2)),
        kind_evidence=draw(st.dictionaries(texts, finite, max_size=2)),
    )


@st.composite
def summaries(draw: st.DrawFn) -> FeatureSummary:
    return FeatureSummary(
        draw(features),
        draw(st.sampled_from(Kind)),
        draw(shares),
        threshold=draw(finite),
        peak=draw(finite),
        mean=draw(finite),
        std=draw(finite),
        n_tokens=draw(counts),
        lowest=draw(st.none() | finite),
        n_windows=draw(st.none() | counts),
        evidence=draw(st.dictionaries(texts, finite, max_size=2)),
    )


ends = st.lists(texts, min_size=1, max_size=2).map(tuple)
paths = st.builds(
    lambda first, middle, last, activation: NgramPath((first, *middle, last), activation),
    ends,
    st.lists(st.lists(texts, max_size=2).map(tuple), max_size=2),
    ends,
    finite,
)


@st.composite
def explanations(draw: st.DrawFn) -> Explanation:
    text, abstained = draw(st.tuples(some, st.just("")) | st.tuples(st.just(""), some))
    several = st.lists(texts, max_size=2).map(tuple)
    return Explanation(
        draw(features),
        text,
        draw(texts),
        senses=draw(several),
        exceptions=draw(several),
        words=draw(st.lists(st.tuples(texts, finite), max_size=2).map(tuple)),
        paths=draw(st.lists(paths, max_size=2).map(tuple)),
        abstained=abstained,
        usage=draw(usages),
    )


@st.composite
def simulations(draw: st.DrawFn) -> Simulation:
    pairs = draw(st.lists(st.tuples(texts, finite), max_size=3))
    return Simulation(
        tuple(t for t, _ in pairs),
        tuple(v for _, v in pairs),
        draw(st.sampled_from(Scale)),
        draw(usages),
    )


@st.composite
def predictions(draw: st.DrawFn) -> Prediction:
    pairs = draw(st.lists(st.tuples(finite, finite), min_size=1, max_size=3))
    failed = draw(st.booleans())
    return Prediction(
        draw(texts),
        draw(texts),
        draw(finite),
        draw(texts),
        tuple(a for a, _ in pairs),
        () if failed else tuple(p for _, p in pairs),
        draw(st.sampled_from([*Scale, "probability"])),
        draw(st.lists(texts, max_size=2).map(tuple)),
        draw(some) if failed else "",
        draw(texts),
    )


measures = st.builds(Measure, st.none() | finite, st.none() | finite, st.none() | finite)
nulls = st.builds(
    Null,
    st.sampled_from(["shuffled", "decoys", "empty", "unigram"]),
    st.none() | finite,
    st.lists(finite, max_size=2).map(tuple),
    st.lists(texts, max_size=2).map(tuple),
)


@st.composite
def scores(draw: st.DrawFn) -> Score:
    failures = draw(st.dictionaries(texts, st.integers(1, 9), max_size=2))
    value = draw(st.none() | finite)
    return Score(
        draw(features),
        draw(texts),
        draw(texts),
        value=value,
        null=draw(st.none() | finite),
        p=draw(st.none() | st.floats(0, 1, exclude_min=True)),
        n=draw(counts),
        n_failed=sum(failures.values()),
        failures=failures,
        note=draw(texts if value is not None else some),
        measures=draw(st.dictionaries(texts, measures, max_size=2)),
        nulls=draw(st.lists(nulls, max_size=2).map(tuple)),
        predictions=draw(st.lists(predictions(), max_size=2).map(tuple)),
        usage=draw(usages),
    )


results = st.builds(
    ExperimentResult,
    explanations(),
    st.lists(scores(), max_size=2).map(tuple),
    texts,
    st.integers(),
    st.dictionaries(texts, texts, max_size=2),
    st.none() | finite,
    finite,
)
strata = st.builds(Stratum, texts, st.integers(10, 20), st.integers(0, 10))

EVERY: dict[type[Any], st.SearchStrategy[Any]] = {
    FeatureId: features,
    Example: examples(),
    Stratum: strata,
    Split: splits(),
    FeatureRecord: records(),
    FeatureSummary: summaries(),
    Usage: usages,
    NgramPath: paths,
    Explanation: explanations(),
    Simulation: simulations(),
    Prediction: predictions(),
    Measure: measures,
    Null: nulls,
    Score: scores(),
    ExperimentResult: results,
}
every_type = pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)


def test_every_type_of_the_module_is_among_those_tested() -> None:
    found = {
        thing
        for thing in vars(types_module).values()
        if isinstance(thing, type) and dataclasses.is_dataclass(thing)
    }
    assert found == set(EVERY)


# --- JSON ---------------------------------------------------------------------------------------


@every_type
@given(data=st.data())
@settings(max_examples=40)
def test_a_value_goes_to_json_text_and_comes_back_equal(
    kind: type[Any], data: st.DataObject
) -> None:
    value = data.draw(EVERY[kind])
    text = json.dumps(value.to_json(), allow_nan=False)
    assert kind.from_json(json.loads(text)) == value


@every_type
def test_a_value_cannot_be_changed_and_holds_nothing_but_its_fields(kind: type[Any]) -> None:
    assert kind.__dataclass_params__.frozen
    assert "__slots__" in vars(kind)
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)


def damaged(draw: st.DrawFn, plain: Any) -> Any:
    """`plain` with one part of it replaced by something else."""
    if isinstance(plain, dict) and plain and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(plain)))
        return plain | {key: damaged(draw, plain[key])}
    if isinstance(plain, list) and plain and draw(st.booleans()):
        at = draw(st.integers(0, len(plain) - 1))
        return [*plain[:at], damaged(draw, plain[at]), *plain[at + 1 :]]
    return draw(junk)


@every_type
@given(data=st.data())
@settings(max_examples=60)
def test_damaged_json_is_refused_or_gives_a_value_that_goes_to_json_again(
    kind: type[Any], data: st.DataObject
) -> None:
    plain = data.draw(EVERY[kind]).to_json()
    broken = data.draw(st.composite(lambda draw: damaged(draw, plain))())
    try:
        value = kind.from_json(broken)
    except ValueError:
        return
    again = kind.from_json(json.loads(json.dumps(value.to_json())))
    assert repr(again) == repr(value)  # equal, where NaN is equal to itself


@every_type
def test_an_unknown_or_missing_field_is_refused_by_name(kind: type[Any]) -> None:
    with pytest.raises(ValueError, match="no field called colour"):
        kind.from_json({"colour": 1})
    if any(f.default is f.default_factory is dataclasses.MISSING for f in dataclasses.fields(kind)):
        with pytest.raises(ValueError, match=f"not a {kind.__name__}"):
            kind.from_json({})


# --- feature ids --------------------------------------------------------------------------------


@given(features)
@settings(max_examples=300)
def test_a_feature_id_is_read_as_it_was_printed(feature: FeatureId) -> None:
    assert FeatureId.parse(str(feature)) == feature
    assert str(feature).startswith(f"{feature.source}/")


@given(features, features)
@settings(max_examples=200)
def test_two_features_never_print_alike(one: FeatureId, other: FeatureId) -> None:
    assume(one != other)
    assert str(one) != str(other)


@given(st.text(st.sampled_from("ab/@-0123.\n"), max_size=16))
@settings(max_examples=500)
def test_what_is_read_as_a_feature_id_prints_as_one_that_is_read_alike(text: str) -> None:
    try:
        feature = FeatureId.parse(text)
    except ValueError:
        return
    assert FeatureId.parse(str(feature)) == feature


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("smollm2-135m//layers.7.mlp.neurons/123", ("smollm2-135m", "layers.7.mlp.neurons", 123)),
        ("m//s/5-", ("m", "s", 5, None, True)),
        ("org/name//s@default-sae/4051", ("org/name", "s", 4051, "default-sae")),
        ("m//s@org/coder@v2/0-", ("m", "s", 0, "org/coder@v2", True)),
    ],
)
def test_the_written_forms_of_the_design_are_read(text: str, feature: tuple[Any, ...]) -> None:
    assert FeatureId.parse(text) == FeatureId(*feature)
    assert str(FeatureId(*feature)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "m", "m//s", "m/s/3", "m//s/", "m//s/x", "m//s/-3", "m//s/3--", "m//s/3.0", "//s/3"),
        *(
            "m///3",
            "m//@c/3",
            "m//s@/3",
            "a/b/c//s/3",
            "m//a/b/3",
            "m//s/\u0663",
            "m\n//s/3",
            "m///s/3",
        ),
    ],
)
def test_what_is_no_feature_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"feature|model|site|coder"):
        FeatureId.parse(text)


# --- what cannot be built -----------------------------------------------------------------------

FEATURE = FeatureId("m", "s", 0)
LOUD = Example(("a",), (2.0,), "d1", 0, TOP, 1.0)
QUIET = Example(("a",), (0.0,), "d2", 0, SILENT, 1.0)
TRAIN, DEV, TEST = (Split(pool, 1.0) for pool in (Pool.TRAIN, Pool.DEV, Pool.TEST))


def record(**changes: Any) -> FeatureRecord:
    given: dict[str, Any] = {
        "feature": FEATURE,
        "train": TRAIN,
        "dev": DEV,
        "test": TEST,
        "density": 0.1,
        "threshold": 1.0,
        "threshold_rule": "above 1",
        "peak": 2.0,
        "mean": 0.0,
        "std": 1.0,
        "n_tokens": 10,
        "kind": Kind.OTHER,
    }
    return FeatureRecord(**given | changes)


def summary(**changes: Any) -> FeatureSummary:
    return dataclasses.replace(FeatureSummary.of(record()), **changes)


def holding(split: Split, *firing: Example) -> Split:
    return dataclasses.replace(split, firing=firing)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: FeatureId("", "s", 0), "model name"),
        (lambda: FeatureId("a//b", "s", 0), "model name"),
        (lambda: FeatureId("a/b/c", "s", 0), "model name"),
        (lambda: FeatureId("a/", "s", 0), "model name"),
        (lambda: FeatureId("m", "", 0), "site"),
        (lambda: FeatureId("m", "a@b", 0), "site"),
        (lambda: FeatureId("m", "s", -1), "index"),
        (lambda: FeatureId("m", "s", 0, ""), "coder"),
        (lambda: FeatureId("m\n", "s", 0), "control"),
        (lambda: Example((), (), "d", 0, TOP, 1.0), "at least one token"),
        (lambda: Example(("a", "b"), (1.0,), "d", 0, TOP, 1.0), "2 tokens but 1 activations"),
        (lambda: Example(("a",), (math.nan,), "d", 0, TOP, 1.0), "NaN"),
        (lambda: Example(("a",), (math.inf,), "d", 0, TOP, 1.0), "infinite"),
        (lambda: Example(("a",), (1.0,), "d", 0, TOP, 0.0), "weight"),
        (lambda: Example(("a",), (1.0,), "d", 0, TOP, math.nan), "weight"),
        (lambda: Stratum(TOP, 3, 4), "4 sampled out of 3"),
        (lambda: Stratum(TOP, 3, -1), "sampled"),
        (lambda: Split(Pool.TRAIN, 2.0, (LOUD,)), "firing example"),
        (lambda: Split(Pool.TRAIN, 1.0, (), (LOUD,)), "silent example"),
        (lambda: Split(Pool.TRAIN, 1.0, (LOUD,), (), (Stratum("q1", 1, 1),)), "strata"),
        (lambda: record(train=TEST, test=TRAIN), "train split holds the pool test"),
        (lambda: record(density=1.5), "density"),
        (lambda: record(density=math.nan), "density"),
        (lambda: record(histogram=(1,), histogram_edges=(0.0,)), "edge"),
        (
            lambda: record(train=holding(TRAIN, LOUD), test=holding(TEST, LOUD)),
            "d1 is in train and in test",
        ),
        (
            lambda: record(dev=holding(DEV, LOUD), test=holding(TEST, LOUD)),
            "d1 is in dev and in test",
        ),
        (lambda: summary(density=1.5), "share between 0 and 1"),
        (lambda: summary(mean=math.nan), "finite"),
        (lambda: summary(evidence={"density": math.inf}), "finite"),
        (lambda: Explanation(FEATURE, "", "x"), "a reason to abstain"),
        (lambda: Explanation(FEATURE, "  ", "x"), "a reason to abstain"),
        (lambda: Explanation(FEATURE, "text", "x", abstained="why"), "not both"),
        (lambda: Simulation(("a",), ()), "1 tokens but 0 predictions"),
        (lambda: Simulation(("a",), (math.nan,)), "NaN"),
        (lambda: Prediction("k", TOP, 1.0, "d", (1.0,), (), "raw"), "not both"),
        (
            lambda: Prediction("k", TOP, 1.0, "d", (1.0,), (1.0,), "raw", failure="parse"),
            "not both",
        ),
        (lambda: Prediction("k", TOP, 1.0, "d", (1.0, 2.0), (1.0,), "raw"), "1 predictions of 2"),
        (lambda: Measure(math.nan), "finite"),
        (lambda: Measure(0.5, math.inf), "finite"),
        (lambda: Score(FEATURE, "x", "y"), "says why"),
        (lambda: Score(FEATURE, "x", "y", value=math.nan), "finite"),
        (lambda: Score(FEATURE, "x", "y", value=1.0, p=0.0), "permutation p"),
        (lambda: Score(FEATURE, "x", "y", value=1.0, n_failed=1), "1 failed"),
        (lambda: Score(FEATURE, "x", "y", value=1.0, failures={"parse": 1}), "0 failed"),
    ],
)
def test_what_is_not_allowed_cannot_be_built(build: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        build()


# --- sums and views -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost": float("nan")}, {"cost": -0.01}, {"cost": float("inf")}, {"seconds": -1.0},
        {"calls": -1}, {"prompt_tokens": -5}, {"completion_tokens": -1}, {"cache_read_tokens": -1},
    ],
)  # fmt: skip
def test_what_was_used_is_counted_and_nothing_of_it_is_given_back(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"below 0|finite"):
        Usage(**wrong)


@given(usages, usages)
def test_an_unknown_cost_makes_the_sum_unknown_and_never_smaller(one: Usage, other: Usage) -> None:
    total = one + other
    assert (total.cost is None) == (one.cost is None or other.cost is None)
    assert total.calls == one.calls + other.calls
    assert one + Usage() == one


def test_an_example_shows_its_text_peak_and_key() -> None:
    example = Example(("Par", "is"), (-1.0, 3.5), "d7", 12, TOP, 2.0)
    assert (example.text, example.peak, example.key) == ("Paris", 3.5, "d7:12")


def test_a_record_stored_before_kinds_had_evidence_is_still_read() -> None:
    plain = record().to_json()
    del plain["kind_evidence"]
    assert FeatureRecord.from_json(plain) == record()


def test_a_summary_says_what_its_record_says_of_the_whole_feature() -> None:
    strata = (Stratum(TOP, 2, 0), Stratum(SILENT, 8, 0))
    found = FeatureSummary.of(
        record(
            train=dataclasses.replace(TRAIN, strata=strata),
            dev=dataclasses.replace(DEV, strata=strata),
            kind=Kind.POSITIONAL,
            kind_evidence={"position_information": 0.5},
        )
    )
    assert (found.feature, found.kind, found.peak) == (FEATURE, Kind.POSITIONAL, 2.0)
    assert (found.n_windows, found.evidence) == (20, {"position_information": 0.5})
    assert FeatureSummary.of(record()).n_windows is None


def test_a_record_hands_out_one_split_at_a_time() -> None:
    whole = record(train=holding(TRAIN, LOUD))
    assert [whole.split(pool) for pool in Pool] == [whole.train, whole.dev, whole.test]
    assert whole.train.peak == 2.0
    assert whole.dev.peak == 0.0
    assert dataclasses.replace(whole.train, silent=(QUIET,)).examples == (LOUD, QUIET)


def test_a_hand_written_explanation_is_a_persons() -> None:
    explanation = Explanation.written_by_hand(FEATURE, "numbers")
    assert (explanation.text, explanation.explainer, explanation.model) == ("numbers", "human", "")


def test_an_effect_without_an_interval_says_why() -> None:
    from glossator.evidence import Effect

    assert Effect("KL", 0.5, 0.2, 0.8, 9).said == "KL 0.5 [0.2, 0.8], n 9"
    assert Effect("KL", 0.5, n=2, note="too few").said == "KL 0.5 (no interval: too few), n 2"
