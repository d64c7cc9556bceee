"""`--control random-weights`: the same run on a subject that has learned nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glossator.cli.app import call
from glossator.config import RunConfig
from glossator.control import load_control
from glossator.errors import ConfigError
from glossator.progress import Progress
from glossator.reading import control_notice
from glossator.runs import RunStatus
from glossator.store import Store
from glossator.subject import load_subject
from tests.loopback import Answer, Asked, Loopback
from tests.pipeline_child import config_for, do, rule
from tests.tiny_llama import WORDS, save_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_llama(tmp_path_factory.mktemp("control") / "tiny"))


def test_every_weight_is_another_and_about_as_large(tiny: str) -> None:
    real = load_subject(tiny, "cpu", "float32")
    control = load_control(tiny, 3, "cpu", "float32")
    drawn = {n: p.detach() for n, p in control.model.named_parameters()}
    for name, parameter in real.model.named_parameters():
        weight = parameter.detach()
        if weight.std(correction=0) == 0:
            continue  # the norms of a fresh model are all 1, so their draws are, too
        assert not torch.equal(drawn[name], weight), name
        assert float(drawn[name].std()) == pytest.approx(float(weight.std()), rel=0.3)
        assert float(drawn[name].mean()) == pytest.approx(float(weight.mean()), abs=0.1)
    assert control.name == real.name
    assert control.revision == f"random-weights 3 in place of {real.revision}"


def test_the_same_seed_draws_the_same_weights_and_leaves_the_chance_of_others_alone(
    tiny: str,
) -> None:
    before = torch.random.get_rng_state()
    one, same, other = (load_control(tiny, seed, "cpu", "float32") for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    name = "model.layers.0.mlp.down_proj.weight"
    first, second, third = (s.model.get_parameter(name) for s in (one, same, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_no_other_control_is_known() -> None:
    with pytest.raises(ConfigError, match="random-weights"):
        RunConfig(control="random-weight")
    assert RunConfig().collection_digest != RunConfig(control="random-weights").collection_digest


def test_a_coder_that_stays_is_told_of() -> None:
    class Coder:
        name = "mine"

    config = RunConfig(control="random-weights", seed=5)
    assert control_notice(RunConfig(), None) == ""
    assert "seed 5" in control_notice(config, None)
    assert "mine stays" in control_notice(config, Coder())  # type: ignore[arg-type]


@pytest.mark.usefixtures("in_a_folder")
def test_a_run_and_its_control_share_nothing_and_are_told_apart(
    folder: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # A path as the model's name is folded otherwise.
    told: list[Progress] = []
    plain = config_for(folder, explainers=["unigram"], scorers=["simulation"], llm="local")
    control = config_for(
        folder,
        explainers=["unigram"],
        scorers=["simulation"],
        llm="local",
        control="random-weights",
    )
    first, second = do(plain, store), do(control, store, tell=told.append)
    assert first.status is second.status is RunStatus.DONE
    assert first.run.collection != second.run.collection
    assert any("drawn anew" in progress.note for progress in told)
    real, random = (store.results(run.id) for run in (first.run, second.run))
    assert [r.explanation.feature for r in real] == [r.explanation.feature for r in random]
    assert [r.explanation.text for r in real] != [r.explanation.text for r in random]
    feature = real[0].explanation.feature
    record = store.record(second.run.collection, feature)
    assert record is not None
    assert record.provenance["revision"].startswith("random-weights 0 in place of ")
    assert second.run.config["control"] == "random-weights"
    assert call(["--store", store.url, "list", "--runs"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "with random-weights" in shown
    # the same command again finds it all there
    again = do(control, store)
    assert again.run.id == second.run.id


# -- what needs the live subject, in a run ---------------------------------------------------------


def writing(asked: Asked) -> Answer:
    """The rule of other runs, and texts where texts are asked for."""
    if "You write short texts" in asked.messages[0][1]:
        n = 12
        twin = "must not occur" in asked.last
        words = [WORDS[(i + twin) % len(WORDS)] for i in range(n)]
        return Answer("\n".join(f"{i}. the {i} {word}" for i, word in enumerate(words, 1)), {})
    if "short pieces of text" in asked.messages[0][1]:
        return Answer("Most of them are words of a story", {})
    if "both sides" in asked.messages[0][1]:
        return Answer("Trigger: a word\nEffect: another word", {})
    if "model's output" in asked.messages[0][1]:
        return Answer("names of things", {})
    if "goes on from the beginnings" in asked.messages[0][1]:
        return Answer("B", {})
    return rule(asked)


def test_a_run_makes_experiments_where_its_parts_want_them(folder: Path, store: Store) -> None:
    with Loopback(writing) as server:
        config = config_for(
            folder,
            server,
            features="0,1-",
            explainers=["n2g", "output", "both", "sasc"],
            scorers=["generation", "intervention", "heads", "simulation"],
            simulator="lexical",
        )
        outcome = do(config, store)
    assert outcome.status is RunStatus.DONE, store.failures(outcome.run.id)
    results = store.results(outcome.run.id)
    assert {r.explanation.explainer for r in results} == {"n2g", "output", "both", "sasc"}
    for result in results:
        assert {s.scorer for s in result.scores} == set(config.scorers)
        for score in result.scores:
            assert score.value is not None or score.note
        (heads,) = [s for s in result.scores if s.scorer == "heads"]
        assert heads.value is None
        assert "no attention head" in heads.note or result.explanation.abstained
    said = [r.explanation for r in results if not r.explanation.abstained]
    assert any(e.paths for e in said if e.explainer == "n2g")
    assert all(e.output_effect for e in said if e.explainer in ("output", "both"))
    values = [
        s.value for r in results for s in r.scores if s.scorer in ("generation", "intervention")
    ]
    assert sum(v is not None for v in values) >= len(values) // 2
