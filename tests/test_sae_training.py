"""Training coders: what is read, what is learned, and that a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glossator.datasets.corpora import Corpus
from glossator.datasets.windows import chunks
from glossator.errors import AssetError, ConfigError, CorpusError
from glossator.sae.coder import SparseCoder
from glossator.sae.training import TrainSettings, train
from glossator.sae.training_activations import (
    Activations,
    ReadSettings,
    read_activations,
    shuffled,
)
from glossator.sae.training_step import StepSettings, Trainer
from glossator.subject import Subject, intervening, load_subject
from glossator.types import Pool
from tests.tiny_llama import save_tiny_llama, some_texts

SITE = "layers.0.resid_post"
D_IN, D_SAE, K = 24, 64, 4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def subject(model: Path) -> Subject:
    return load_subject(str(model), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.of(some_texts(300))


def small(tokens: int = 4000, **step: object) -> TrainSettings:
    """Settings of a training that takes a second."""
    given = {"latents": 32, "k": 4, "matmul": "float32", **step}
    return TrainSettings(
        read=ReadSettings(site=SITE, tokens=tokens, ctx=32, batch=8),
        step=StepSettings(**given),  # type: ignore[arg-type]
        epochs=2,
        batch=256,
    )


# What is read


def test_rows_are_those_of_a_plain_forward_pass_over_the_train_documents(
    subject: Subject, tmp_path: Path
) -> None:
    corpus = Corpus.of(some_texts(60))
    acts = read_activations(subject, corpus, ReadSettings(site=SITE, ctx=32), tmp_path)
    expected = []
    for chunk in chunks(corpus, subject.tokenizer, 32):
        if chunk.pool is not Pool.TRAIN:
            continue
        ids = torch.tensor([[subject.start_token_id, *chunk.token_ids]])
        with torch.no_grad():
            hidden = subject.model(ids, output_hidden_states=True).hidden_states[1]
        plain = [token not in subject.left_out_ids for token in chunk.token_ids]
        expected.append(hidden[0, 1:][torch.tensor(plain)])
    wanted = torch.cat(expected)
    wanted = wanted[wanted.norm(dim=1) <= acts.sink_norm]
    got = acts.sample(acts.n_rows)
    assert got.shape == wanted.shape
    apart = torch.cdist(got, wanted)
    assert float(apart.amin(dim=0).max()) < 0.01 * float(wanted.norm(dim=1).median())
    assert float(apart.amin(dim=1).max()) < 0.01 * float(wanted.norm(dim=1).median())


def test_tokens_much_longer_than_the_median_are_left_out_and_counted(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    plain = read_activations(subject, corpus, ReadSettings(site=SITE), tmp_path / "plain")

    def stretch(acts: Tensor) -> Tensor:
        changed = acts.clone()
        changed[:, 2:3] *= 100  # the text's second token: the start token is before it
        return changed

    with intervening(subject, SITE, stretch):
        acts = read_activations(subject, corpus, ReadSettings(site=SITE), tmp_path / "sinks")
    assert acts.left_out["sink"] > 0
    assert acts.n_rows + acts.left_out["sink"] == plain.n_rows + plain.left_out["sink"]
    assert float(acts.sample(acts.n_rows).norm(dim=1).max()) <= acts.sink_norm


def test_documents_come_from_the_whole_corpus_and_from_the_train_pool_alone(
    subject: Subject, tmp_path: Path
) -> None:
    class Watched:
        def __init__(self, texts: list[str]) -> None:
            self.corpus = Corpus.of(texts)

    corpus = Watched(some_texts(600)).corpus
    seen: list[tuple[int, Pool]] = []
    numbers = {document.id: number for number, document in enumerate(corpus)}
    from glossator.sae.training_activations import chosen_chunks

    for chunk in chosen_chunks(subject, corpus, ReadSettings(site=SITE, tokens=4000)):
        seen.append((numbers[chunk.document], chunk.pool))
    assert {pool for _, pool in seen} == {Pool.TRAIN}
    assert min(n for n, _ in seen) < 60
    assert max(n for n, _ in seen) > 540


def test_another_seed_chooses_other_documents(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    one, other = (
        read_activations(
            subject, corpus, ReadSettings(site=SITE, tokens=800, seed=seed), tmp_path / str(seed)
        ).sample(800)
        for seed in (0, 1)
    )
    assert one.shape[0] == other.shape[0] == 800
    assert not torch.equal(one, other)


def test_a_folder_of_other_activations_is_refused(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    read_activations(subject, corpus, ReadSettings(site=SITE, tokens=500), tmp_path)
    with pytest.raises(ConfigError, match="tokens 500 and not 600"):
        read_activations(subject, corpus, ReadSettings(site=SITE, tokens=600), tmp_path)


def test_a_pool_without_a_document_is_said(subject: Subject, tmp_path: Path) -> None:
    texts = [text for text in some_texts(60) if Corpus.of([text]).n_documents]
    only_test = [text for text in texts if all(d.pool is not Pool.TRAIN for d in Corpus.of([text]))]
    with pytest.raises(CorpusError, match="train pool"):
        read_activations(subject, Corpus.of(only_test), ReadSettings(site=SITE), tmp_path)


def test_activations_that_are_no_numbers_are_refused(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    def break_one(acts: Tensor) -> Tensor:
        changed = acts.clone()
        changed[0, -1, 0] = float("nan")
        return changed

    with intervening(subject, SITE, break_one), pytest.raises(ConfigError, match="no finite"):
        read_activations(subject, corpus, ReadSettings(site=SITE), tmp_path)


def numbered(folder: Path, sizes: list[int]) -> Activations:
    """Shards whose rows hold their own number, exact in bfloat16 below 256 * 256."""
    from glossator.sae.training_activations import Shard

    shards, first = [], 0
    for name, size in enumerate(sizes):
        numbers = torch.arange(first, first + size)
        rows = torch.stack([numbers // 256, numbers % 256], dim=1).to(torch.bfloat16)
        (folder / str(name)).write_bytes(rows.view(torch.int16).numpy().tobytes())
        shards.append(Shard(str(name), size, 1))
        first += size
    return Activations(folder, 2, tuple(shards), {}, 0.0, {})


def drawn(acts: Activations, batch: int, epoch: int = 0, skip: int = 0, buffer: int = 64) -> Tensor:
    batches = shuffled(acts, batch, seed=1, epoch=epoch, skip=skip, buffer=buffer)
    numbers = [rows[:, 0] * 256 + rows[:, 1] for rows in batches]
    return torch.stack(numbers)  # (n_batches, batch)


def test_each_epoch_has_every_row_once_in_another_order(tmp_path: Path) -> None:
    acts = numbered(tmp_path, [50, 7, 31, 64, 48])
    first, second = drawn(acts, 10, 0), drawn(acts, 10, 1)
    assert sorted(first.flatten().tolist()) == sorted(second.flatten().tolist()) == list(range(200))
    assert not torch.equal(first, second)
    assert torch.equal(first, drawn(acts, 10, 0))


def test_a_rest_shorter_than_a_batch_is_left_out(tmp_path: Path) -> None:
    rows = drawn(numbered(tmp_path, [50, 7]), 10).flatten().tolist()
    assert len(rows) == len(set(rows)) == 50


@pytest.mark.parametrize("skip", [0, 1, 7, 19, 20])
def test_skipping_gives_the_batches_that_come_after(tmp_path: Path, skip: int) -> None:
    acts = numbered(tmp_path, [50, 7, 31, 64, 48])
    every = drawn(acts, 10)
    if skip == len(every):
        assert not list(shuffled(acts, 10, seed=1, epoch=0, skip=skip, buffer=64))
    else:
        assert torch.equal(drawn(acts, 10, skip=skip), every[skip:])


# What is learned


def directions(seed: int = 0) -> Tensor:
    rows = torch.randn(48, D_IN, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def planted(n: int, generator: torch.Generator) -> Tensor:
    """Sums of a few of 48 known directions, off the origin, in units of their own."""
    fires = torch.rand(n, 48, generator=generator) < K / 48
    strength = 1 + torch.rand(n, 48, generator=generator)
    rows: Tensor = 30 * (fires * strength) @ directions()
    return rows + torch.linspace(-50, 50, D_IN)


def trained(architecture: str, steps: int = 1200) -> SparseCoder:
    generator = torch.Generator().manual_seed(1)
    settings = StepSettings(
        latents=D_SAE,
        k=K,
        architecture=architecture,  # type: ignore[arg-type]
        lr=3e-3,
        dead_after=20_000,
        matmul="float32",
    )
    trainer = Trainer(planted(4096, generator), settings, steps, seed=0)
    for _ in range(steps):
        trainer.step(planted(512, generator))
    return trainer.coder("planted", "layers.0.resid_post")


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu"])
def test_a_planted_dictionary_is_found(architecture: str) -> None:
    coder = trained(architecture)
    best = (directions() @ coder.W_dec.T).amax(dim=1)  # (48,)
    assert float(best.mean()) > 0.95
    assert float(best.min()) > 0.8
    x = planted(20_000, torch.Generator().manual_seed(2))
    z = coder.encode(x)
    l0 = float((z > 0).sum(1).float().mean())
    assert abs(l0 - K) < 0.1 * K
    error = (x - coder.decode(z)).square().sum() / (x - x.mean(0)).square().sum()
    assert float(error) < 0.15
    torch.testing.assert_close(coder.W_dec.norm(dim=1), torch.ones(D_SAE))


def test_exactly_batch_times_k_activations_are_kept() -> None:
    x = planted(256, torch.Generator().manual_seed(3))
    settings = StepSettings(latents=D_SAE, k=K, matmul="float32")
    trainer = Trainer(x, settings, 10, seed=0)
    for _ in range(5):
        _, l0 = trainer.step(x)
        assert l0 == K


def gradients(trainer: Trainer) -> dict[str, Tensor]:
    """Of the one step that was made: Adam's first moment is 1 - beta1 = 0.1 of the gradient."""
    state = trainer.state()
    return {name: state[f"adam.{name}.exp_avg"] / 0.1 for name in trainer.weights}


def along_the_sphere(gradient: Tensor, rows: Tensor) -> Tensor:
    """`gradient` without what would only change the length of each row."""
    return gradient - (gradient * rows).sum(1, keepdim=True) * rows


def test_the_gradients_written_by_hand_are_those_autograd_finds() -> None:
    x = planted(64, torch.Generator().manual_seed(4))
    settings = StepSettings(latents=D_SAE, k=K, dead_after=10**9, matmul="float32")
    trainer = Trainer(x, settings, 10, seed=0)
    weights = {n: w.clone().requires_grad_() for n, w in trainer.weights.items()}
    scaled = x * trainer.scale
    pre = torch.relu((scaled - weights["b_dec"]) @ weights["W_enc"].T + weights["b_enc"])
    kept = pre.flatten().topk(64 * K).values.min()
    z = torch.where(pre >= kept, pre, 0.0)
    loss = (z @ weights["W_dec"] + weights["b_dec"] - scaled).square().sum() / (
        64 * trainer.variance
    )
    wanted = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    wanted["W_dec"] = along_the_sphere(wanted["W_dec"], weights["W_dec"].detach())
    unexplained, _ = trainer.step(x)
    assert unexplained == pytest.approx(loss.item(), rel=1e-5)
    for name, gradient in gradients(trainer).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-6)


class Jump(torch.autograd.Function):
    """JumpReLU and its pseudo-derivatives, equations 11 and 12 of Rajamanoharan et al. 2024."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        return pre * (pre > theta)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None]:
        pre, theta = ctx.saved_tensors
        kernel = ((pre - theta).abs() < ctx.width / 2).float()
        return outer[0] * (pre > theta), -(theta / ctx.width) * kernel * outer[0], None


class Step(torch.autograd.Function):
    """The Heaviside step and its pseudo-derivative by the threshold."""

    @staticmethod
    def forward(ctx: Any, pre: Tensor, theta: Tensor, width: float) -> Tensor:
        ctx.save_for_backward(pre, theta)
        ctx.width = width
        return (pre > theta).float()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[None, Tensor, None]:
        pre, theta = ctx.saved_tensors
        kernel = ((pre - theta).abs() < ctx.width / 2).float()
        return None, -(1 / ctx.width) * kernel * outer[0], None


def test_the_gradients_of_jumprelu_are_the_papers_straight_through_estimates() -> None:
    x = planted(256, torch.Generator().manual_seed(6))
    settings = StepSettings(
        latents=D_SAE, k=K, architecture="jumprelu", dead_after=10**9, bandwidth=0.5,
        matmul="float32",
    )  # fmt: skip
    trainer = Trainer(x, settings, 10, seed=0)
    for name in ("log_threshold", "b_enc"):  # so that L0 is not what is asked for
        trainer.weights[name] += 0.1
    weights = {n: w.clone().requires_grad_() for n, w in trainer.weights.items()}
    scaled = x * trainer.scale
    pre = (scaled - weights["b_dec"]) @ weights["W_enc"].T + weights["b_enc"]
    theta = weights["log_threshold"].exp().expand_as(pre)
    z: Tensor = Jump.apply(pre, theta, trainer.width)  # type: ignore[no-untyped-call]
    l0 = Step.apply(pre, theta, trainer.width).sum() / 256  # type: ignore[no-untyped-call]
    error = z @ weights["W_dec"] + weights["b_dec"] - scaled
    loss = error.square().sum() / (256 * trainer.variance) + (l0 / K - 1) ** 2
    wanted = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    wanted["W_dec"] = along_the_sphere(wanted["W_dec"], weights["W_dec"].detach())
    _, found = trainer.step(x)
    assert found == pytest.approx(l0.item())
    assert abs(found / K - 1) > 0.01
    for name, gradient in gradients(trainer).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-6)


def test_latents_that_died_come_back() -> None:
    generator = torch.Generator().manual_seed(5)
    settings = StepSettings(latents=D_SAE, k=K, lr=3e-3, dead_after=2000, matmul="float32")
    alive = {}
    for aux_weight in (0.0, 1 / 32):
        trainer = Trainer(
            planted(4096, generator), replace(settings, aux_weight=aux_weight), 400, 0
        )
        # Half of the latents look the wrong way: never the largest, but for a few tokens.
        trainer.weights["b_enc"][: D_SAE // 2] -= 1.0
        for _ in range(300):
            trainer.step(planted(512, generator))
        alive[aux_weight] = int((trainer.unfired < 2000).sum())
    assert alive[1 / 32] > alive[0.0]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"k": 65, "latents": 64}, "k is from 1 to the number of latents, not 65 of 64"),
        ({"k": 0}, "not 0 of"),
        ({"architecture": "gated"}, "batchtopk, jumprelu"),
        ({"lr": 0.0}, "learning rate"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        StepSettings(**wrong)  # type: ignore[arg-type]


def test_activations_that_never_vary_or_are_no_numbers_are_refused() -> None:
    settings = StepSettings(latents=8, k=2, matmul="float32")
    with pytest.raises(ConfigError, match="the same at every token"):
        Trainer(torch.ones(10, 4), settings, 1, 0)
    with pytest.raises(ConfigError, match="not finite"):
        Trainer(torch.full((10, 4), float("nan")), settings, 1, 0)


# The whole of it

CHILD = """
import json, os, signal, sys
from pathlib import Path

import torch

from glossator.datasets.corpora import Corpus
from glossator.sae import training, training_activations
from glossator.subject import load_subject
from tests.test_sae_training import small
from tests.tiny_llama import some_texts

training_activations._SHARD_BYTES = 1 << 13
training._STEPS_A_CHECKPOINT = 5
rename = os.replace

def run(model, out, kill_before):
    renames = 0

    def counted(*args, **kwargs):
        nonlocal renames
        renames += 1
        if renames == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*args, **kwargs)

    os.replace = counted
    torch.set_num_threads(1)
    subject = load_subject(model, device="cpu", dtype="float32")
    training.train(subject, Corpus.of(some_texts(300)), small(), Path(out))
    os._exit(renames)

model, *runs = sys.argv[1:]
codes = []
for given in runs:
    out, _, kill_before = given.partition(":")
    # Nothing has been computed here yet, so there are no threads that a fork would lose.
    child = os.fork()
    if not child:
        run(model, out, int(kill_before))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def in_children(model: Path, runs: list[tuple[Path, int]]) -> list[int]:
    """Trains into folders, each in a process that is killed before it renames its n-th file.

    Returns:
        How each process ended: how many files it renamed, or the signal that killed it, negative.
    """
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(model), *(f"{out}:{n}" for out, n in runs)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    codes: list[int] = json.loads(done.stdout)
    return codes


def test_killed_again_and_again_it_ends_with_the_same_bytes(model: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # Undisturbed it renames 47 files: 19 shards with a manifest after each, a last manifest,
    # a checkpoint every 5 of 30 steps, weights and config. Each of these goes on where the one
    # before was killed: before a shard, a manifest, the third checkpoint (in the first epoch), the
    # fifth (in the second), and between weights and config.
    kills = [5, 8, 32, 3, 4]
    codes = in_children(model, [(whole, 0), *((killed, n) for n in kills), (killed, 0)])
    assert codes == [47, *[-signal.SIGKILL] * len(kills), 2]
    for name in ("cfg.json", "sae_weights.safetensors"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert not (killed / "training").exists()


@pytest.mark.parametrize("site", ["layers.1.mlp.neurons", "layers.0.attn.out"])
def test_any_site_can_be_trained_on_and_the_coder_says_how_it_was_made(
    subject: Subject, corpus: Corpus, tmp_path: Path, site: str
) -> None:
    settings = small()
    settings = replace(settings, read=replace(settings.read, site=site), epochs=1)
    coder = train(subject, corpus, settings, tmp_path / "coder", command="glossator sae train")
    assert (coder.d_in, coder.d_sae) == (subject.resolve(site).width, 32)
    assert coder.site == site
    assert coder.activation == "jumprelu"
    made = coder.metadata
    assert made["command"] == "glossator sae train"
    assert made["recipe"]["corpus_digest"] == corpus.digest
    assert made["recipe"]["revision"] == subject.revision
    assert made["tokens_read"] == 4000
    assert sorted(path.name for path in (tmp_path / "coder").iterdir()) == [
        "cfg.json",
        "sae_weights.safetensors",
    ]


def test_the_same_call_again_does_nothing_and_another_one_is_refused(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    train(subject, corpus, small(), tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    train(subject, corpus, small(), tmp_path)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before
    with pytest.raises(ConfigError, match="not trained with these options"):
        train(subject, corpus, small(k=5), tmp_path)


def test_memory_and_weights_are_as_without_scaling(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    """The coder of activations a thousand times as large is the same coder, in their units."""
    plain = train(subject, corpus, small(), tmp_path / "plain")

    def enlarge(acts: Tensor) -> Tensor:
        return acts * 1024

    with intervening(subject, SITE, enlarge):
        large = train(subject, corpus, small(), tmp_path / "large")
    torch.testing.assert_close(large.W_dec, plain.W_dec, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(large.b_dec, plain.b_dec * 1024, rtol=1e-2, atol=1.0)
    assert large.threshold is not None
    assert plain.threshold is not None
    torch.testing.assert_close(large.threshold, plain.threshold * 1024, rtol=1e-2, atol=0.0)


def test_a_site_that_is_not_there_names_the_near_ones(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    settings = replace(small(), read=ReadSettings(site="layers.0.resid_pots"))
    with pytest.raises(ConfigError, match="resid_post"):
        train(subject, corpus, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_few_tokens_for_a_step_are_said(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="100 tokens are too few for one step of 256"):
        train(subject, corpus, small(tokens=100), tmp_path)


def test_a_folder_that_another_process_trains_into_is_left_alone(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    from filelock import FileLock

    (tmp_path / "training").mkdir()
    with FileLock(tmp_path / "training" / ".lock"), pytest.raises(ConfigError, match="another pro"):
        train(subject, corpus, small(), tmp_path)


def test_a_training_with_other_options_is_not_gone_on_with(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int, note: str) -> None:
        if stage == "train" and done == total:
            raise Stop

    with pytest.raises(Stop):
        train(subject, corpus, small(), tmp_path, on_progress=stop)
    # Killed before its last checkpoint, and asked for otherwise: nothing of it is taken over.
    (tmp_path / "training" / "checkpoint.safetensors").unlink(missing_ok=True)
    train(subject, corpus, small(k=3), tmp_path)


def test_a_damaged_shard_or_manifest_is_said(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    settings = ReadSettings(site=SITE, tokens=500)
    read_activations(subject, corpus, settings, tmp_path)
    shard = tmp_path / "00000.bf16"
    shard.write_bytes(shard.read_bytes()[:-2])
    with pytest.raises(AssetError, match=r"00000\.bf16 is missing or damaged; delete"):
        read_activations(subject, corpus, settings, tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(AssetError, match="manifest"):
        read_activations(subject, corpus, settings, tmp_path)


def test_a_folder_that_cannot_be_made_is_said(
    subject: Subject, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        train(subject, corpus, small(), tmp_path / "file" / "out")
