from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.datasets.selection import choose_features, feature_ids
from glossator.errors import ConfigError
from glossator.types import FeatureId

A, B = "layers.0.mlp.neurons", "layers.1.mlp.neurons"
SITES = {A: 24, B: 24}


def names(spec: str, **how: object) -> list[str]:
    found = choose_features(spec, "tiny", SITES, **how)  # type: ignore[arg-type]
    return [str(f).removeprefix("tiny//layers.").replace(".mlp.neurons", "") for f in found]


def test_ranges_include_both_ends_at_every_site() -> None:
    assert names("0-2") == ["0/0", "0/1", "0/2", "1/0", "1/1", "1/2"]


def test_a_minus_behind_an_index_is_the_negative_tail() -> None:
    assert names("3,7, 9-,3") == ["0/3", "1/3", "0/7", "1/7", "0/9-", "1/9-"]


@given(n=st.integers(1, 96), seed=st.integers(0, 50))
def test_a_sample_is_seeded_and_holds_no_feature_twice(n: int, seed: int) -> None:
    found = names(f"sample:{n}", seed=seed)
    assert len(set(found)) == n
    assert found == names(f"sample:{n}", seed=seed)


def test_a_sample_of_all_is_every_tail_of_every_site() -> None:
    everything = [f"{s}/{i}{t}" for s in (0, 1) for i in range(24) for t in ("", "-")]
    assert sorted(names("sample:96")) == sorted(everything)
    assert not any(n.endswith("-") for n in names("sample:48", tails="positive"))


def test_the_densest_are_measured_when_asked_for() -> None:
    measured = {A: [0.1] * 24, B: [0.0] * 20 + [0.9, 0.1, 0.3, 0.0]}
    assert names("top-density:3", densities=lambda: measured) == ["1/20", "1/22", "0/0"]
    with pytest.raises(ConfigError, match="not possible"):
        names("top-density:3")


def test_a_file_names_features_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "features.txt"
    file.write_text(f"# mine\n\ntiny//{B}/3-  # this one\n5\n0-1\n", encoding="utf-8")
    assert names(str(file)) == ["1/3-", "0/5", "1/5", "0/0", "0/1", "1/0", "1/1"]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("24", "0 to 23"),
        ("0-24", "0 to 23"),
        ("9-3", "backwards"),
        ("", "names no feature"),
        ("a,b", "names no feature"),
        ("sample:97", "96 features"),
        ("sample:0", "does not fit"),
        ("top-density:49", "48 features"),
        (f"other//{A}/3", "not of tiny"),
        ("tiny//layers.9.mlp.neurons/3", "not of tiny"),
        (f"tiny//{A}/99", "0 to 23"),
        ("tiny//nothing", "is not a feature"),
    ],
)
def test_what_is_not_there_is_said(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        names(spec, densities=lambda: {A: [0.0] * 24, B: [0.0] * 24})


def test_bare_indexes_and_ids_can_be_mixed() -> None:
    given_id = FeatureId("tiny", B, 2, negative=True)
    found = feature_ids("tiny", [A], [1, given_id, "4-"], tails="both")
    assert found == [
        FeatureId("tiny", A, 1),
        FeatureId("tiny", A, 1, negative=True),
        given_id,
        FeatureId("tiny", A, 4, negative=True),
    ]
    with pytest.raises(ConfigError, match="from 0"):
        feature_ids("tiny", [A], [-1])
