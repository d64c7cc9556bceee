from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from glossator.datasets.pools import Document
from glossator.datasets.windows import chunks
from glossator.errors import AssetError, ConfigError
from glossator.subject import Subject, intervening, load_subject, recording
from tests.tiny_llama import save_tiny_llama
from tests.tiny_models import tiny_model, tiny_tokenizer

NEURONS = "layers.1.mlp.neurons"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")
    return load_subject(str(folder), device="cpu", dtype="float32")


def one_document(text: str) -> Iterator[Document]:
    yield Document.of(text, "test")


def logits(subject: Subject) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = subject.model(torch.tensor([[1, 5, 9, 20, 7]])).logits
    return found


def test_a_folder_is_loaded_with_its_sizes(subject: Subject) -> None:
    assert (subject.name, subject.n_layers, subject.d_model, subject.d_mlp) == ("tiny", 2, 16, 24)
    assert subject.start_token_id == subject.tokenizer.bos_token_id
    assert {0, 1} <= subject.left_out_ids
    assert len(subject.revision) == 16
    assert not subject.model.training


def test_neurons_are_what_enters_the_down_projection(subject: Subject) -> None:
    mlp = subject.model.model.layers[1].mlp
    seen = []
    handle = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    logits(subject)
    handle.remove()
    with recording(subject, NEURONS) as kept:
        logits(subject)
    with torch.inference_mode():
        by_hand = mlp.act_fn(mlp.gate_proj(seen[0])) * mlp.up_proj(seen[0])
    assert torch.allclose(kept[NEURONS], by_hand, atol=1e-6)
    assert kept[NEURONS].shape == (1, 5, 24)


def test_residual_sites_are_the_hidden_states(subject: Subject) -> None:
    sites = ["layers.0.resid_post", "layers.1.resid_pre"]
    with recording(subject, sites) as kept, torch.inference_mode():
        out = subject.model(torch.tensor([[1, 5, 9]]), output_hidden_states=True)
    for site in sites:
        assert torch.equal(kept[site], out.hidden_states[1])


def test_reading_leaves_out_the_start_token_and_padding_changes_nothing(subject: Subject) -> None:
    together = subject.read([[5, 9, 20, 7], [30, 8]], NEURONS)[NEURONS]
    alone = subject.read([[30, 8]], NEURONS)[NEURONS]
    assert together.shape == (2, 4, 24)
    assert torch.allclose(together[1, :2], alone[0], atol=1e-5)
    with recording(subject, NEURONS) as kept, torch.inference_mode():
        subject.model(torch.tensor([[subject.start_token_id, 30, 8]]))
    assert torch.allclose(alone[0], kept[NEURONS][0, 1:], atol=1e-5)


def test_reading_stops_after_the_deepest_site(subject: Subject) -> None:
    ran = []
    last = subject.model.model.layers[1]
    handle = last.register_forward_hook(lambda *_: ran.append(1))
    subject.read([[5]], "layers.0.mlp.neurons")
    handle.remove()
    assert not ran


def test_an_intervention_acts_inside_the_block_and_nowhere_else(subject: Subject) -> None:
    before = logits(subject)
    with intervening(subject, NEURONS, torch.zeros_like):
        inside = logits(subject)
    assert not torch.allclose(before, inside)
    assert torch.equal(before, logits(subject))


def test_an_edit_that_changes_nothing_changes_no_logit(subject: Subject) -> None:
    before = logits(subject)
    for site in subject.sites():
        if not site.endswith("attn.heads"):
            with intervening(subject, site, lambda acts: acts):
                assert torch.equal(before, logits(subject)), site


def test_a_star_means_every_layer(subject: Subject) -> None:
    every = ["layers.0.mlp.neurons", NEURONS]
    assert subject.expand("layers.*.mlp.neurons") == every
    assert subject.expand("blocks.*.mlp.hook_post") == every
    assert subject.expand("model.layers.*.mlp.down_proj:in") == every
    assert subject.expand("model.layers.*:in") == ["layers.0.resid_pre", "layers.1.resid_pre"]
    assert (
        subject.expand([NEURONS, "layers.*.mlp.neurons", "blocks.1.mlp.hook_post"]) == every[::-1]
    )


@pytest.mark.parametrize(
    "site", ["layers.7.mlp.neurons", "layers.1.mlp.neuron", "layers.*.mlp", "nonsense", "", ":in"]
)
def test_an_unknown_site_is_answered_with_the_known_ones(subject: Subject, site: str) -> None:
    with pytest.raises(ConfigError, match=r"mlp\.neurons"):
        subject.expand(site)


@pytest.mark.parametrize(
    ("site", "near"),
    [
        ("layers.1.mlp.neuron", "layers.1.mlp.neurons"),
        ("blocks.1.hook_resid_pos", "blocks.1.hook_resid_post"),
        ("model.layers.1.mlp.down_prj:in", "model.layers.1.mlp.down_proj:in"),
        ("model.layers.1.self_atn", "model.layers.1.self_attn"),
    ],
)
def test_an_unknown_site_is_answered_with_the_near_ones(
    subject: Subject, site: str, near: str
) -> None:
    with pytest.raises(ConfigError, match=f"did you mean.*{re.escape(near)}"):
        subject.resolve(site)


def test_a_model_in_memory_is_read_as_the_same_one_from_a_folder(subject: Subject) -> None:
    here = Subject.of(subject.model, subject.tokenizer, name="here", revision="mine")
    for site in subject.sites():
        assert torch.equal(here.read([[5, 9]], site)[site], subject.read([[5, 9]], site)[site])
    fields = ("device", "dtype", "n_layers", "d_model", "d_mlp", "start_token_id", "left_out_ids")
    for field in fields:
        assert getattr(here, field) == getattr(subject, field)
    assert (here.name, here.revision) == ("here", "mine")


def test_a_model_in_training_is_refused(subject: Subject) -> None:
    subject.model.train()
    try:
        with pytest.raises(ConfigError, match=r"eval\(\)"):
            Subject.of(subject.model, subject.tokenizer, name="training")
    finally:
        subject.model.eval()


@pytest.mark.parametrize(("adds", "start"), [("nothing", 1), ("start", 1), ("end", 0)])
def test_each_text_is_read_after_one_start_token_whatever_the_tokenizer_adds(
    adds: Literal["nothing", "start", "end"], start: int
) -> None:
    subject = Subject.of(tiny_model("llama"), tiny_tokenizer(adds), name=adds)
    assert subject.start_token_id == start
    text = next(chunks(one_document("the old bridge"), subject.tokenizer, ctx=16)).token_ids
    assert not {0, 1} & set(text) or adds == "nothing"
    embedded: list[torch.Tensor] = []
    handle = subject.model.model.embed_tokens.register_forward_pre_hook(
        lambda _, args: embedded.append(args[0])
    )
    acts = subject.read([text, text[:2]], "layers.0.resid_pre")["layers.0.resid_pre"]
    handle.remove()
    assert embedded[0][:, 0].tolist() == [start, start]
    assert embedded[0][0, 1:].tolist() == list(text)
    table = subject.model.model.embed_tokens.weight
    assert torch.equal(acts[0], table[list(text)])


def test_without_a_start_token_anywhere_one_has_to_be_given() -> None:
    model = tiny_model("llama")
    model.config.bos_token_id = None
    bare = tiny_tokenizer("nothing")
    assert Subject.of(model, bare, name="end").start_token_id == 0
    model.config.eos_token_id = [7, 8]
    assert Subject.of(model, bare, name="ends").start_token_id == 7
    model.config.eos_token_id = None
    with pytest.raises(ConfigError, match="start_token_id"):
        Subject.of(model, bare, name="none")
    assert Subject.of(model, bare, name="given", start_token_id=9).start_token_id == 9


@pytest.mark.parametrize("texts", [[], [[]], [[5], []], [[5, 376]], [[-1]], [[5] * 512]])
def test_what_cannot_be_read_is_refused_before_the_model_runs(
    subject: Subject, texts: list[list[int]]
) -> None:
    with pytest.raises(ConfigError):
        subject.read(texts, NEURONS)


def test_an_unknown_model_is_answered_with_the_near_one() -> None:
    with pytest.raises(ConfigError, match="smollm2-135m"):
        load_subject("smollm-135m", offline=True)
    with pytest.raises(ConfigError, match="no GGUF file"):
        load_subject("gguf:/nowhere/at/all.gguf")


def test_a_hub_id_offline_fails_at_once() -> None:
    with pytest.raises(AssetError, match="not on this machine"):
        load_subject("nobody/no-such-model", offline=True)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(AssetError, match="pickled"):
        load_subject(str(folder))


def test_malformed_weights_are_one_clear_error(tmp_path: Path) -> None:
    folder = save_tiny_llama(tmp_path / "cut")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AssetError, match="could not be loaded"):
        load_subject(str(folder))


def test_weights_with_one_missing_are_refused_and_not_made_up(tmp_path: Path) -> None:
    file = save_tiny_llama(tmp_path / "holes") / "model.safetensors"
    tensors = load_file(file)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(AssetError, match=r"layers\.1\.mlp\.down_proj\.weight is missing"):
        load_subject(str(tmp_path / "holes"))


@pytest.mark.parametrize("name", ["gpt2", "falcon-new", "opt", "gemma3-with-images", "qwen3-moe"])
def test_a_saved_model_reads_as_it_did_in_memory(tmp_path: Path, name: str) -> None:
    model, tokenizer = tiny_model(name), tiny_tokenizer("start")
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    before = Subject.of(model, tokenizer, name=name)
    loaded = load_subject(str(tmp_path / "saved"), device="cpu", dtype="float32")
    assert loaded.sites() == before.sites()
    for site, acts in loaded.read([[5, 9, 20]], loaded.sites()).items():
        assert torch.allclose(acts, before.read([[5, 9, 20]], site)[site], atol=1e-4), site


@pytest.fixture(scope="module")
def bundled() -> Subject:
    return load_subject("smollm2-135m", device="cpu", dtype="float32")


@pytest.mark.assets
def test_the_bundled_subject_has_the_neurons_it_is_said_to_have(bundled: Subject) -> None:
    assert (bundled.n_layers, bundled.d_model, bundled.d_mlp) == (30, 576, 1536)
    assert bundled.max_ctx == 8192
    ids = bundled.tokenizer("The capital of France is", add_special_tokens=False)["input_ids"]
    site = "layers.3.mlp.neurons"
    assert bundled.read([ids], site)[site].shape == (1, len(ids), 1536)


@pytest.mark.assets
def test_the_bundled_subject_adds_up_at_every_layer(bundled: Subject) -> None:
    text = "In 1912 the ship sailed north."
    ids = bundled.tokenizer(text, add_special_tokens=False)["input_ids"]
    found = bundled.read([ids], bundled.sites())
    with torch.inference_mode():
        start = torch.tensor([[bundled.start_token_id, *ids]])
        states = bundled.model(start, output_hidden_states=True).hidden_states
    for layer in range(30):
        parts = ("resid_pre", "attn.out", "mlp.out", "resid_post")
        before, attention, mlp, after = (found[f"layers.{layer}.{part}"] for part in parts)
        assert torch.allclose(before, states[layer][:, 1:], atol=1e-3)
        assert torch.allclose(before + attention + mlp, after, atol=1e-3)
        heads = found[f"layers.{layer}.attn.heads"]
        assert heads.shape == (1, len(ids), 9)
        # a sum is no longer than its parts together
        assert (attention.norm(dim=-1) <= heads.sum(dim=-1) * 1.0001).all()
