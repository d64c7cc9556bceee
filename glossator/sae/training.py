"""Training a sparse coder of one site: read once, train from disk, save in SAELens' layout.

`OUT/training/` holds activations and a checkpoint while it works, all written whole or not at all
and never pickled. After a kill at any point the same call goes on, and what comes out is the same
to the bit on the same machine. Memory does not grow with the tokens; the disk takes two bytes for
each number.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from glossator.datasets.corpora import Corpus
from glossator.device import pick_dtype
from glossator.errors import AssetError, ConfigError
from glossator.sae import load_coder
from glossator.sae.coder import SparseCoder
from glossator.sae.saving import CONFIG_FILE, save_saelens
from glossator.sae.training_activations import (
    Activations,
    ReadSettings,
    make_folder,
    read_activations,
    shuffled,
    write_whole,
)
from glossator.sae.training_step import StepSettings, Trainer
from glossator.subject import Subject
from glossator.types import to_json

Progress = Callable[[str, int, int, str], None]
"""Told the stage, how much of it is done, how much there is, and how it goes."""

_SAMPLE = 32_768
_SAMPLE_NUMBERS = 1 << 25
"""Rows, and numbers in them, at most, on which scale, centre and variance are measured."""
_STEPS_A_CHECKPOINT = 200
_STEPS_A_REPORT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """Everything that decides which coder comes out, but for the subject and the corpus."""

    read: ReadSettings
    step: StepSettings = field(default_factory=StepSettings)
    epochs: int = 3
    batch: int = 2048
    """Tokens a step."""
    seed: int = 0
    """Of the first weights and of the order of tokens."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")


def train(
    subject: Subject,
    corpus: Corpus,
    settings: TrainSettings,
    out: Path,
    *,
    command: str = "",
    keep_activations: bool = False,
    on_progress: Progress | None = None,
) -> SparseCoder:
    """A coder of the subject's site, trained on the corpus's train pool and saved to `out`.

    Called again with the same arguments it goes on where it was stopped; once the coder is there,
    it is loaded.

    Args:
        subject: the model that is read.
        corpus: the text.
        settings: what is trained, on how much.
        out: folder for `cfg.json` and `sae_weights.safetensors`.
        command: what was typed, for the record.
        keep_activations: leave `out/training` with the activations when the coder is done.
        on_progress: told how it goes.

    Raises:
        ConfigError: for an unknown site, too few tokens, activations that are no numbers, a folder
            that holds another coder, or one that another process trains into.
        CorpusError: if the corpus has no train text.
    """
    subject.resolve(settings.read.site)
    _steps_of_an_epoch(settings.read.tokens, settings.batch)
    step = settings.step
    if step.matmul == "auto":
        fast = pick_dtype("auto", subject.device) is torch.bfloat16
        step = replace(step, matmul="bfloat16" if fast else "float32")
        settings = replace(settings, step=step)
    recipe = _recipe(subject, corpus, settings)
    if (out / CONFIG_FILE).exists():
        return _finished(out, recipe, keep_activations)
    work = out / "training"
    make_folder(work)
    lock = FileLock(work / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"another process trains into {out}; wait, or give another --out"
        ) from error
    try:

        def reading(stage: str, done: int, total: int) -> None:
            if on_progress:
                on_progress(stage, done, total, "")

        acts = read_activations(subject, corpus, settings.read, work / "activations", reading)
        trainer = _trained(acts, settings, work / "checkpoint.safetensors", recipe, subject.device,
                           on_progress)  # fmt: skip
        coder = trainer.coder(out.name, settings.read.site)
        save_saelens(coder, out, metadata=_metadata(trainer, acts, recipe, command))
    finally:
        lock.release()
    return _finished(out, recipe, keep_activations)


def _trained(
    acts: Activations,
    settings: TrainSettings,
    checkpoint: Path,
    recipe: Mapping[str, Any],
    device: str,
    on_progress: Progress | None,
) -> Trainer:
    """The trainer after its last step; goes on from the checkpoint if there is one."""
    per_epoch = _steps_of_an_epoch(acts.n_rows, settings.batch)
    n_steps = per_epoch * settings.epochs
    sample = acts.sample(max(1, min(_SAMPLE, _SAMPLE_NUMBERS // acts.width)))
    trainer = Trainer(sample, settings.step, n_steps, settings.seed, device)
    del sample
    if checkpoint.exists():
        _restore(trainer, checkpoint, recipe)
    for epoch in range(trainer.step_number // per_epoch, settings.epochs):
        done = trainer.step_number - epoch * per_epoch
        for batch in shuffled(acts, settings.batch, settings.seed, epoch, skip=done):
            trainer.step(batch)
            number = trainer.step_number
            if on_progress and (number % _STEPS_A_REPORT == 0 or number == n_steps):
                _, unexplained, l0 = trainer.average()
                note = f"FVU {unexplained:.4f}, L0 {l0:.1f}, {trainer.n_dead} dead"
                on_progress("train", number * settings.batch, n_steps * settings.batch, note)
            if number % _STEPS_A_CHECKPOINT == 0 or number == n_steps:
                _keep(trainer, checkpoint, recipe)
    return trainer


def _steps_of_an_epoch(tokens: int, batch: int) -> int:
    if tokens < batch:
        raise ConfigError(
            f"{tokens} tokens are too few for one step of {batch}; "
            "give more --tokens, a larger corpus or a smaller --batch"
        )
    return tokens // batch


def _keep(trainer: Trainer, file: Path, recipe: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    state = {name: tensor.cpu().contiguous() for name, tensor in trainer.state().items()}
    write_whole(file, save(state, metadata={"recipe": _text(recipe)}))


def _restore(trainer: Trainer, file: Path, recipe: Mapping[str, Any]) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as stored:
            if (stored.metadata() or {}).get("recipe") != _text(recipe):
                raise ConfigError(
                    f"{file.parent} holds a training with other options; "
                    "give another --out, or delete that folder"
                )
            trainer.load({name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118
    except SafetensorError as error:
        raise AssetError(f"{file} is damaged ({error}); delete it to train anew") from error


def _finished(out: Path, recipe: Mapping[str, Any], keep_activations: bool) -> SparseCoder:
    """The coder that is in `out`, if it is the one asked for; clears what it was made from."""
    coder = load_coder(str(out))
    if to_json(dict(coder.metadata).get("recipe")) != json.loads(_text(recipe)):
        raise ConfigError(
            f"{out} holds a coder that was not trained with these options; give another --out"
        )
    if not keep_activations:
        shutil.rmtree(out / "training", ignore_errors=True)
    return coder


def _recipe(subject: Subject, corpus: Corpus, settings: TrainSettings) -> dict[str, Any]:
    """What decides the result; equal recipes give equal coders on one machine."""
    read = {**asdict(settings.read), "pool": settings.read.pool.value}
    return {
        "subject": subject.name,
        "revision": subject.revision,
        "dtype": subject.dtype,
        "device": subject.device.partition(":")[0],
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        **{f"read_{name}": value for name, value in read.items() if name != "site"},
        "site": settings.read.site,
        **asdict(settings.step),
        "epochs": settings.epochs,
        "batch": settings.batch,
        "seed": settings.seed,
    }


def _metadata(
    trainer: Trainer, acts: Activations, recipe: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """What the coder's file says of its making."""
    _, unexplained, l0 = trainer.average()
    return {
        "model_name": recipe["subject"],
        "recipe": dict(recipe),
        "command": command,
        "tokens_read": acts.n_rows,
        "tokens_left_out": dict(acts.left_out),
        "sink_norm": acts.sink_norm,
        "steps": trainer.step_number,
        "train_fvu": unexplained,
        "train_l0": l0,
        "train_unfired": trainer.n_dead,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Releases of what computes here."""
    found = {}
    for package in ("glossator", "torch", "transformers", "safetensors"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _text(recipe: Mapping[str, Any]) -> str:
    return json.dumps(recipe, sort_keys=True)
