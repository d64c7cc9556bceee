from __future__ import annotations

from pathlib import Path

import pytest
import torch

from glossator.errors import AssetError, ConfigError
from glossator.subject import Subject, intervening, load_subject, recording
from tests.tiny_llama import save_tiny_llama

NEURONS = "layers.1.mlp.neurons"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")
    return load_subject(str(folder), device="cpu", dtype="float32")


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
        with intervening(subject, site, lambda acts: acts):
            assert torch.equal(before, logits(subject)), site


def hooks(subject: Subject) -> int:
    modules = subject.model.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_an_exception_leaves_the_model_as_it_was(subject: Subject) -> None:
    before = logits(subject)
    hooks_before = hooks(subject)  # transformers leaves some of its own for hidden states
    with pytest.raises(RuntimeError, match="mine"), recording(subject, subject.sites()):
        raise RuntimeError("mine")

    def broken(acts: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("in the edit")

    with (
        pytest.raises(RuntimeError, match="in the edit"),
        intervening(subject, NEURONS, broken),
    ):
        logits(subject)
    with (
        pytest.raises(ConfigError, match="shape"),
        intervening(subject, NEURONS, lambda acts: acts[:, :1]),
    ):
        logits(subject)
    subject.read([[5]], NEURONS)
    assert torch.equal(before, logits(subject))
    assert hooks(subject) == hooks_before


def test_a_star_means_every_layer(subject: Subject) -> None:
    assert subject.expand("layers.*.mlp.neurons") == ["layers.0.mlp.neurons", NEURONS]


@pytest.mark.parametrize("site", ["layers.7.mlp.neurons", "layers.1.mlp.neuron", "nonsense", ""])
def test_an_unknown_site_is_answered_with_the_known_ones(subject: Subject, site: str) -> None:
    with pytest.raises(ConfigError, match=r"mlp\.neurons"):
        subject.resolve(site)


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


@pytest.mark.assets
def test_the_bundled_subject_has_the_neurons_it_is_said_to_have() -> None:
    subject = load_subject("smollm2-135m", device="cpu")
    assert (subject.n_layers, subject.d_model, subject.d_mlp) == (30, 576, 1536)
    ids = subject.tokenizer("The capital of France is", add_special_tokens=False)["input_ids"]
    assert subject.read([ids], "layers.3.mlp.neurons")["layers.3.mlp.neurons"].shape == (
        1,
        len(ids),
        1536,
    )
