"""What the tools that intervene find of features whose effect is known beforehand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from glossator.agent.executor import MOST_BYTES, arguments_of, tool_called
from glossator.agent.lab import Lab, Seen
from glossator.agent.tools.intervals import difference_of, mean_of
from glossator.agent.tools.lists import MOST, together
from glossator.agent.tools.token_importance import at_same_place, replaced
from glossator.blank import BlankEmbedder
from glossator.datasets.collect import collect
from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import collect_planted, word_pieces
from glossator.errors import ConfigError, GlossatorError, Unsupported
from glossator.evidence import About, Finding
from glossator.experiments import Experiments, live_function
from glossator.experiments.passes import chunks_of, ids_of, next_log_probabilities
from glossator.live import NEUTRAL, Activations, Live
from glossator.sae import SparseCoder
from glossator.subject import Subject, load_subject
from glossator.types import Explanation, FeatureRecord, Score
from tests.test_inside import our_hooks
from tests.tiny_llama import WORDS, save_tiny_llama, some_texts

_Result = TypeVar("_Result")

CTX = 24
TEXT = "the old river said that"


def get(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(work)


async def _never(_: Explanation) -> Score:
    raise AssertionError("no tool here scores")


def lab_of(live: Live, record: FeatureRecord, **others: Any) -> Lab:
    return Lab(Seen.of(record), live, BlankEmbedder(), score_on_dev=_never, **others)


def lab_on(experiments: Experiments, record: FeatureRecord, coder: Any = None) -> Lab:
    live = experiments.on(record.feature, record.train.peak, coder)
    subject = experiments.subject

    def cut(text: str) -> Sequence[str]:
        (parts,) = chunks_of(subject, [text], experiments.ctx)
        return [token for part in parts for token in part.tokens]

    return lab_of(live, record, cut=cut, inside=experiments.inside(live))


def run(name: str, lab: Lab, **arguments: Any) -> Finding:
    tool = tool_called(name)
    checked = arguments_of(tool, arguments)
    finding = get(tool.run(checked, lab))
    questions = tool.questions(checked)
    assert len(finding.answers) == len(finding.values) == len(questions)
    assert len(finding.text) <= MOST
    assert len(json.dumps(finding.to_json())) <= MOST_BYTES
    assert tool.cost(checked).passes >= 0
    return finding


# -- a latent that writes ' river' -----------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class World:
    """A model and a latent of its last stream that writes the unembedding of ` river`."""

    experiments: Experiments
    lab: Lab

    @property
    def subject(self) -> Subject:
        return self.experiments.subject

    def logits(self) -> Tensor:
        return next_log_probabilities(self.subject, ids_of(self.subject, NEUTRAL[:6]))


def unembedded(subject: Subject, token: str) -> Tensor:
    """The direction of a token's row of the unembedding, less the mean row."""
    (number,) = subject.tokenizer(token, add_special_tokens=False)["input_ids"]
    rows = subject.model.get_output_embeddings().weight.detach().float()
    return torch.nn.functional.normalize(rows[number] - rows.mean(dim=0), dim=0)


def writes(subject: Subject, token: str) -> Tensor:
    """What raises the logit of `token` far above those of all others, through the norm.

    Rows of an unembedding share a few directions; Fisher's linear discriminant takes those out.
    """
    rows = subject.model.get_output_embeddings().weight.detach().double()
    apart = torch.cov(rows.T) + 1e-6 * torch.eye(subject.d_model)
    row = torch.linalg.solve(apart, unembedded(subject, token).double()).float()
    return torch.nn.functional.normalize(row / subject.body.norm.weight.detach().float(), dim=0)


def river_coder(subject: Subject, site: str, width: float = 8.0) -> SparseCoder:
    """Reads whether ` old` was embedded, by a direction of chance, and writes ` river`."""
    chance = torch.Generator().manual_seed(0)
    reads = torch.randn(subject.d_model, 1, generator=chance)
    return SparseCoder(
        name="river",
        architecture="standard",
        activation="relu",
        W_enc=reads / reads.norm(),
        b_enc=torch.full((1,), -1.0),
        W_dec=width * writes(subject, " river")[None],
        b_dec=torch.zeros(subject.d_model),
        site=site,
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = save_tiny_llama(tmp_path_factory.mktemp("causal") / "tiny")
    subject = load_subject(str(folder), device="cpu", dtype="float32")
    site = "layers.1.resid_post"
    coder = river_coder(subject, site)
    (record,) = collect(
        subject,
        site,
        [0],
        tokens=None,
        corpus=Corpus.of(some_texts(60, 90, seed=3)),
        ctx=CTX,
        window=8,
        coder=coder,
    )
    assert record.train.firing
    assert record.train.silent
    experiments = Experiments(subject, ctx=CTX)
    return World(experiments, lab_on(experiments, record, coder))


def turned(world: World) -> Lab:
    """The same latent, writing the opposite."""
    live: Any = world.lab.live
    coder = replace(live.coder, W_dec=-live.coder.W_dec)
    turned = world.experiments.on(live.feature, live.peak, coder)
    return replace(world.lab, live=turned, inside=world.experiments.inside(turned))


def test_what_it_writes_is_promoted_and_attributed(world: World) -> None:
    promoted = run("promoted_tokens", world.lab, n=5)
    assert promoted.payload["promoted"][0][0] == " river"  # type: ignore[index]
    assert "' river' +" in promoted.text
    text = world.lab.seen.train.firing[0].text
    attributed = run("logit_attribution", world.lab, text=text)
    assert attributed.payload["raised"][0][0] == " river"  # type: ignore[index]
    suppressed = run("promoted_tokens", turned(world), n=5)
    assert suppressed.payload["suppressed"][0][0] == " river"  # type: ignore[index]


def test_steering_answers_yes_for_what_it_writes_and_no_for_others(world: World) -> None:
    river = unembedded(world.subject, " river")
    words = [f" {word}" for word in WORDS]
    words = [w for w in words if len(world.lab.cut(w)) == 1]
    others = sorted(words, key=lambda w: float(unembedded(world.subject, w) @ river))[:4]
    assert float(unembedded(world.subject, others[-1]) @ river) < 0
    found = run("steer", world.lab, tokens=[" river", *others])
    assert found.answers == (True, False, False, False, False)
    assert found.values[0] is not None
    assert found.effects[0].low is not None
    assert 0 < found.effects[0].low < found.values[0]
    assert found.effects[0].n == len(NEUTRAL)
    (question, *_) = tool_called("steer").questions(
        arguments_of(tool_called("steer"), {"tokens": [" river"]})
    )
    assert (question.about, question.text) == (About.PROMOTES, " river")
    assert run("steer", turned(world), tokens=[" river"]).answers == (False,)


def test_steering_tells_the_change_that_an_edited_model_has(world: World) -> None:
    """The oracle: the direction is added to the last stream by a hook of torch's own."""
    subject, live = world.subject, world.lab.live
    prompts = list(NEUTRAL[:4])
    found = run("steer", world.lab, tokens=[" river"], prompts=prompts, strength=2.0)
    coder: Any = live.coder  # type: ignore[attr-defined]
    (number,) = subject.tokenizer(" river")["input_ids"]
    before = next_log_probabilities(subject, ids_of(subject, prompts))[:, number]

    def add(_: Any, __: Any, out: Any) -> Any:
        stream = out[0] if isinstance(out, tuple) else out
        held = 2.0 * world.lab.seen.peak - coder.encode(stream)
        added = stream + held * coder.W_dec[0]
        return (added, *out[1:]) if isinstance(out, tuple) else added

    handle = subject.model.model.layers[1].register_forward_hook(add)
    after = next_log_probabilities(subject, ids_of(subject, prompts))[:, number]
    handle.remove()
    assert found.values[0] == pytest.approx(float((after - before).mean()), rel=1e-4)


def test_a_token_is_compared_with_those_about_as_probable(world: World) -> None:
    (shift,) = get(world.lab.live.shifts(NEUTRAL[:5], [" river"], 5.0, n_like=7))
    assert len(shift.before) == len(shift.after) == 5
    assert len(shift.like) == 7
    subject = world.subject
    usual = next_log_probabilities(subject, ids_of(subject, NEUTRAL[:5])).mean(dim=0)
    (number,) = subject.tokenizer(" river")["input_ids"]
    usual[[number, *subject.left_out_ids]] = float("inf")
    near = (usual - sum(shift.before) / 5).abs().topk(7, largest=False).indices
    assert number not in near.tolist()
    from glossator.experiments.clamping import clamped

    live: Any = world.lab.live
    with clamped(subject, live.feature, live.coder, 5.0):
        held = next_log_probabilities(subject, ids_of(subject, NEUTRAL[:5])).mean(dim=0)
    assert sorted(shift.like) == pytest.approx(sorted((held - usual)[near].tolist()), abs=1e-6)


def test_what_is_not_one_token_has_no_answer(world: World) -> None:
    found = run("steer", world.lab, tokens=[" river old", " river"])
    assert found.answers == (None, True)
    assert "not one token ( river| old)" in found.text
    with pytest.raises(ConfigError, match="none of these is one token"):
        run("steer", world.lab, tokens=[" river old"])
    with pytest.raises(ConfigError, match="not one token of"):
        get(world.lab.live.shifts(NEUTRAL, [" river old"], 1.0))
    refused: Sequence[dict[str, Any]] = (
        {"tokens": []},
        {"tokens": [" a"], "prompts": ["x"]},
        {"tokens": [" a"], "k": 1},
    )
    for wrong in refused:
        with pytest.raises(ConfigError, match="cannot be called so"):
            run("steer", world.lab, **wrong)


def test_ablating_changes_what_comes_where_it_fires_and_nothing_where_it_is_silent(
    world: World,
) -> None:
    found = run("ablate", world.lab)
    fires, silent, more = found.effects
    assert fires.low is not None
    assert fires.value is not None
    assert fires.value > 0.01
    assert silent.value == pytest.approx(0.0, abs=1e-6)
    assert more.value == pytest.approx(fires.value, abs=1e-6)
    assert more.low is not None
    likelier: Any = found.payload["made likelier"]
    assert " river" in dict(likelier)
    quiet = world.lab.seen.train.silent[0].text
    (read,) = get(world.lab.live.activations([quiet]))
    if read.peak <= world.lab.seen.threshold:
        with pytest.raises(Unsupported, match="fires on none"):
            run("ablate", world.lab, texts=[quiet])


def test_held_high_the_model_says_it_and_equal_seeds_draw_equally(world: World) -> None:
    found = run("clamp_text", world.lab, strength=20.0, max_tokens=6)
    before, after = found.payload["as it is"], found.payload["held"]
    assert str(after).count(" river") >= 10  # of 24 tokens
    assert str(before).count(" river") <= 2
    assert run("clamp_text", world.lab, strength=20.0, max_tokens=6) == found
    plain = run("clamp_text", world.lab, strength=20.0, max_tokens=6, seed=5)
    assert plain.payload["as it is"] != found.payload["as it is"]


def test_a_feature_that_never_fires_cannot_be_held_at_multiples_of_its_peak(world: World) -> None:
    lab = replace(world.lab, seen=replace(world.lab.seen, peak=0.0))
    for name, arguments in (("steer", {"tokens": [" river"]}), ("clamp_text", {})):
        with pytest.raises(Unsupported, match="never fires on train text"):
            run(name, lab, **arguments)


# -- what leads to it ------------------------------------------------------------------------------


def a_pair(lab: Lab) -> tuple[str, str]:
    """Two texts of equal length: on the first the latent fires at its first token."""
    words = (" old", " river", " bridge", " Paris", " King", " war", " ship", " stones", " bread")
    read = get(lab.live.activations(words))
    ranked = sorted((one for one in read if len(one.tokens) == 1), key=lambda one: -one.peak)
    assert ranked[0].peak > lab.seen.threshold
    return f"{ranked[0].tokens[0]} said that", f"{ranked[-1].tokens[0]} said that"


def test_upstream_and_patching_say_what_the_model_around_it_says(world: World) -> None:
    lab = world.lab
    assert lab.inside is not None
    clean, corrupt = a_pair(lab)
    found = run("upstream", lab, clean=clean, corrupt=corrupt, n=5)
    wanted = get(lab.inside.upstream(clean, corrupt, 5))
    assert found.payload["sources"] == [[s.component, s.effect] for s in wanted]
    assert found.text.splitlines()[1].startswith(wanted[0].component)
    patched = run("patch_prompts", lab, clean=clean, corrupt=corrupt, n=40)
    assert "stream at token 0" in patched.text
    rows: Any = patched.payload["patched"]
    assert ["layers.0.resid_pre", None] in [row[:2] for row in rows]
    assert patched.effects[0].value == pytest.approx(1.0, abs=1e-6)  # only one token is unlike
    noised = run("patch_prompts", lab, clean=clean, corrupt=corrupt, direction="noise")
    assert noised.text.startswith("noise:")
    with pytest.raises(ConfigError, match="equally many"):
        run("upstream", lab, clean=clean, corrupt=corrupt + " that")


def test_lens_and_attention_are_told_as_they_are(world: World) -> None:
    lab = world.lab
    assert lab.inside is not None
    lens = run("logit_lens", lab, text=TEXT)
    wanted = get(lab.inside.lens(TEXT))
    assert len(lens.payload["layers"]) == 2  # type: ignore[arg-type]
    assert f"layer 1: '{wanted[1].tokens[0][0]}'" in lens.text
    attention = run("attention_pattern", lab, layer=1, head=1, texts=[TEXT])
    (weights,) = get(lab.inside.attention(1, 1, [TEXT]))
    kept: Any = attention.payload["texts"]
    last = kept[0]["most"][-1]
    best = max(range(len(weights.tokens)), key=lambda j: weights.weights[-1][j])
    assert last[0] == [best, round(weights.weights[-1][best], 4)]
    with pytest.raises(ConfigError, match="no head 9"):
        run("attention_pattern", lab, layer=1, head=9, texts=[TEXT])


# -- which tokens matter ---------------------------------------------------------------------------


def planted(rule: Any) -> Lab:
    texts = some_texts(60, 40, seed=1)
    (record,) = collect_planted({"rule": rule}, texts=texts, tokens=None, window=16)
    return lab_of(live_function(rule, record), record, cut=word_pieces)


def test_masking_finds_the_word_that_a_planted_rule_reads() -> None:
    lab = planted(lambda tokens: [2.0 * (t.strip() == "river") for t in tokens])
    found = run("token_importance", lab, text="the old river said that")
    assert found.payload["lost"] == [0, 0, 1, 0, 0]
    assert found.payload["gradient times input"] == []
    assert "No gradient: the feature is a function of the text" in found.text
    with pytest.raises(ConfigError, match="does not fire"):
        run("token_importance", lab, text="the old bridge")
    with pytest.raises(ConfigError, match="at most 64"):
        run("token_importance", lab, text="the river " * 40)


def test_masking_finds_both_words_of_a_rule_that_needs_two() -> None:
    def rule(tokens: Sequence[str]) -> list[float]:
        words = [t.strip() for t in tokens]
        return [float(w == "river" and "old" in words[:i]) for i, w in enumerate(words)]

    found = run("token_importance", planted(rule), text="King and old John said: the river, bread")
    tokens: Any = found.payload["tokens"]
    lost: Any = found.payload["lost"]
    assert [t for t, x in zip(tokens, lost, strict=True) if x] == [" old", " river"]
    assert lost[found.payload["at"]] == 1


def test_a_place_is_found_again_where_a_word_was_cut_in_two() -> None:
    tokens = ("a", " bc", " d", " efg")
    assert replaced(tokens, 1, "xy") == "a xy d efg"
    assert replaced(tokens, 0, "xy") == "xy bc d efg"
    cut = Activations(("a", " x", "y", " d", " efg"), (0.0, 1.0, 2.0, 3.0, 4.0))
    assert at_same_place(tokens, 2, 1, cut) == 3.0
    assert at_same_place(tokens, 1, 1, cut) == 2.0
    assert at_same_place(tokens, 0, 1, cut) == 0.0
    longer = Activations(("a", " bc", " d", " x", "yz", "!"), (0.0, 1.0, 2.0, 3.0, 4.0, 5.0))
    assert at_same_place(tokens, 2, 3, longer) == 2.0


def test_masking_and_gradients_agree_on_what_a_latent_reads(world: World) -> None:
    lab = world.lab
    clean, _ = a_pair(lab)
    found = run("token_importance", lab, text=clean)
    slopes: Any = found.payload["gradient times input"]
    assert lab.inside is not None
    assert slopes[0] == pytest.approx(get(lab.inside.importance(clean, 0)).values[0], abs=1e-5)
    assert len(slopes) == 1
    lost: Any = found.payload["lost"]
    assert len(lost) == 1  # nothing behind the strongest token is tried
    assert lost[0] > 0.2


def test_without_a_model_the_tools_that_need_one_say_what_can_be_done() -> None:
    lab = planted(lambda tokens: [float(t.strip() == "river") for t in tokens])
    asked: dict[str, dict[str, Any]] = {
        "logit_attribution": {"text": TEXT},
        "logit_lens": {"text": TEXT},
        "upstream": {"clean": TEXT, "corrupt": "a"},
        "patch_prompts": {"clean": TEXT, "corrupt": "a"},
        "attention_pattern": {"layer": 0, "head": 0, "texts": [TEXT]},
        "steer": {"tokens": [" river"]},
        "clamp_text": {},
        "promoted_tokens": {},
        "ablate": {},
    }
    for name, arguments in asked.items():
        with pytest.raises(Unsupported, match="function of the text"):
            run(name, lab, **arguments)


# -- numbers and lines -----------------------------------------------------------------------------


def test_intervals_are_student_and_welch() -> None:
    mean = mean_of("x", [1.0, 2.0, 3.0])
    assert (mean.value, mean.n) == (2.0, 3)
    assert mean.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5)
    assert mean_of("x", [1.0]).low is None
    assert mean_of("x", []).value is None
    apart = difference_of("x", [1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert apart.value == 2.0
    assert apart.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-5)
    assert difference_of("x", [1.0], []).value is None
    same = difference_of("x", [1.0, 1.0], [0.0, 0.0])
    assert (same.low, same.high) == (1.0, 1.0)


def test_lines_are_kept_whole_and_few_enough() -> None:
    assert together(["a", "b"]) == "a\nb"
    long = together(["x" * 100] * 40)
    assert len(long) <= MOST
    assert long.endswith("lines more)")


# -- the model is left as it was -------------------------------------------------------------------

SOME = ("the", "old", "river", "King", "bread", "Paris", "walked", "")
a_text = st.lists(st.sampled_from(SOME), min_size=0, max_size=30).map(" ".join)
CALLS = st.one_of(
    st.tuples(st.just("promoted_tokens"), st.fixed_dictionaries({"n": st.integers(0, 9)})),
    st.tuples(st.just("logit_attribution"), st.fixed_dictionaries({"text": a_text})),
    st.tuples(
        st.just("logit_lens"),
        st.fixed_dictionaries({"text": a_text, "at": st.none() | st.integers(0, 30)}),
    ),
    st.tuples(
        st.sampled_from(["upstream", "patch_prompts"]),
        st.fixed_dictionaries({"clean": a_text, "corrupt": a_text}),
    ),
    st.tuples(
        st.just("attention_pattern"),
        st.fixed_dictionaries(
            {
                "layer": st.integers(0, 2),
                "head": st.integers(0, 2),
                "texts": st.lists(a_text, min_size=1, max_size=2),
            }
        ),
    ),
    st.tuples(
        st.just("steer"),
        st.fixed_dictionaries(
            {
                "tokens": st.lists(st.sampled_from([" river", " old river", "the"]), min_size=1),
                "strength": st.sampled_from([1.0, 20.0]),
            }
        ),
    ),
    st.tuples(
        st.just("clamp_text"),
        st.fixed_dictionaries({"strength": st.just(20.0), "max_tokens": st.integers(1, 3)}),
    ),
    st.tuples(st.just("ablate"), st.fixed_dictionaries({"texts": st.lists(a_text, min_size=1)})),
    st.tuples(st.just("token_importance"), st.fixed_dictionaries({"text": a_text})),
    st.tuples(st.just("run_texts"), st.fixed_dictionaries({"texts": st.lists(a_text)})),
)


class _Broken:
    """A coder that fails in the middle of a pass, the more often the longer it is used."""

    def __init__(self, inner: SparseCoder, every: int) -> None:
        self.inner, self.every, self.count = inner, every, 0
        self.name, self.d_in, self.d_sae = inner.name, inner.d_in, inner.d_sae
        self.W_dec, self.transcodes, self.scale = inner.W_dec, False, inner.scale

    def encode(self, acts: Tensor, columns: Any = None) -> Tensor:
        self.count += 1
        if self.count % self.every == 0:
            raise FloatingPointError("broken on purpose")
        return self.inner.encode(acts, columns)


def state_of(subject: Subject) -> list[Any]:
    """What a careless tool could leave behind."""
    model = subject.model
    return [
        model.training,
        model.config._attn_implementation,
        torch.is_grad_enabled(),
        [(p.requires_grad, p.grad is None, p._version) for p in model.parameters()],
        our_hooks(subject),
    ]


def fuzz(lab: Lab, calls: Sequence[tuple[str, dict[str, Any]]]) -> int:
    """How many of the calls gave a finding; the others failed as they may."""
    done = 0
    for name, arguments in calls:
        try:
            run(name, lab, **arguments)
            done += 1
        except (GlossatorError, FloatingPointError):
            continue
    return done


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(CALLS, min_size=1, max_size=6), every=st.integers(2, 9))
def test_after_any_calls_the_logits_are_the_same_to_the_bit(
    world: World, calls: list[tuple[str, dict[str, Any]]], every: int
) -> None:
    live: Any = world.lab.live
    broken: Any = _Broken(live.coder, every)
    fragile = world.experiments.on(live.feature, live.peak, broken)
    lab = replace(world.lab, live=fragile, inside=world.experiments.inside(fragile))
    before, state = world.logits(), state_of(world.subject)
    fuzz(lab, calls)
    assert state_of(world.subject) == state
    assert torch.equal(world.logits(), before)


@pytest.mark.assets
def test_the_tools_on_the_bundled_model_find_what_a_latent_writes_and_leave_it_as_it_was() -> None:
    subject = load_subject("smollm2-135m", device="cpu", dtype="float32")
    site = f"layers.{subject.n_layers - 1}.resid_post"
    coder = replace(
        river_coder(subject, site, width=1.0),
        W_enc=unembedded(subject, " water")[:, None],
        b_enc=torch.full((1,), -30.0),
    )
    (record,) = collect(subject, site, [0], tokens=12_000, coder=coder)
    experiments = Experiments(subject)
    world = World(experiments, lab_on(experiments, record, coder))
    lab = world.lab
    before, state = world.logits(), state_of(subject)
    text = record.train.firing[0].text
    read = get(lab.live.activations([text]))[0]
    begun = "".join(read.tokens[: read.values.index(read.peak)])
    clean, corrupt = begun + read.tokens[read.values.index(read.peak)], begun + " the"
    assert run("steer", lab, tokens=[" river", " teacher", " seven"]).answers == (
        *(True, False, False),
    )
    assert "' river'" in run("promoted_tokens", lab).text.splitlines()[0]
    assert "' river'" in run("logit_attribution", lab, text=text).text.splitlines()[1]
    ablated = run("ablate", lab)
    assert (ablated.effects[0].value or 0) > 10 * (ablated.effects[1].value or 0)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("logit_lens", {"text": clean}),
        ("upstream", {"clean": clean, "corrupt": corrupt}),
        ("patch_prompts", {"clean": clean, "corrupt": corrupt}),
        ("attention_pattern", {"layer": 10, "head": 3, "texts": [clean]}),
        ("clamp_text", {}),
        ("token_importance", {"text": text}),
        ("upstream", {"clean": clean, "corrupt": clean}),
        ("attention_pattern", {"layer": 30, "head": 3, "texts": [clean]}),
    ]
    assert fuzz(lab, calls) == len(calls) - 2
    broken: Any = _Broken(coder, every=2)
    fragile = experiments.on(record.feature, record.train.peak, broken)
    lab = replace(lab, live=fragile, inside=experiments.inside(fragile))
    for name, arguments in (calls[1], ("steer", {"tokens": [" river"]})):
        with pytest.raises(FloatingPointError, match="on purpose"):
            run(name, lab, **arguments)
    assert state_of(subject) == state
    assert torch.equal(world.logits(), before)
