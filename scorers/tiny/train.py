"""Trains the simulator `tiny`: `python -m glossator.scorers.tiny.train --out FOLDER`.

Seeded, and resumable: run it again with the same settings and it goes on from its last checkpoint.
It needs WordNet (Debian's `wordnet-base`), the default corpus, the bundled subject's tokenizer and
the encoder. Checkpoints and the trained weights are safetensors; nothing is pickled.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from glossator.scorers.tiny.lessons.examples import Example, examples
from glossator.scorers.tiny.lessons.source import Lessons, lessons
from glossator.scorers.tiny.network import Lower, Pairs, Upper, halves
from glossator.scorers.tiny.pieces import pieces_of
from glossator.scorers.tiny.reading import lower_all, side_by_side, window_of
from glossator.scorers.tiny.validation import Judged, by_family, calibration, quality
from glossator.scorers.tiny.weights import SHIPPED, base_weights, save_trained

CHECKPOINT, STATE, LOG = "checkpoint.safetensors", "state.json", "log.jsonl"


@dataclass(frozen=True)
class TrainSettings:
    """How it is trained."""

    steps: int = 2000
    windows: int = 12
    """Windows of a step, each with `each` descriptions."""
    each: int = 4
    chunk: int = 8
    """Steps whose windows are drawn together and sorted by length, so that little is padded."""
    rate: float = 2e-4
    """Of the encoder's layers; new parts learn faster by `faster`."""
    faster: float = 5.0
    warmup: int = 100
    decay: float = 0.33
    """Share of the steps, the last ones, over which the rate falls to 0."""
    graded: bool = True
    """Whether activations are learned as they are, or only whether there is one."""
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    validate: int = 500
    """Steps between two looks at what was held out."""
    checkpoint: int = 100
    n_validation: int = 240
    """Windows of held-out concepts that are looked at, three descriptions each; a third as many of
    those trained on."""
    trained: int = 4
    """Layers that are trained, the last ones; at most 4."""


@dataclass(frozen=True)
class Batch:
    """Pairs with what they should give."""

    pairs: Pairs
    wanted: Tensor
    """Shape (batch, n_tokens): activations from 0 to 10."""
    counted: Tensor
    """Shape (batch, n_tokens): False at padding and where a token has no piece."""


def batch_of(examples: Sequence[Example], tokenizer: Any, lower: Lower) -> Batch:
    """Examples on their way into the upper half."""
    texts = list(dict.fromkeys("".join(e.tokens) for e in examples))
    said = list(dict.fromkeys(e.description for e in examples))
    read = lower_all(lower, [pieces_of(tokenizer, text) for text in (*texts, *said)])
    found = dict(zip((*texts, *said), read, strict=True))
    windows = {e.tokens: window_of(e.tokens, found["".join(e.tokens)]) for e in examples}
    pairs = side_by_side(
        [(e.description, found[e.description], windows[e.tokens]) for e in examples]
    )
    wanted = torch.zeros(pairs.parts.shape)
    counted = torch.zeros(pairs.parts.shape, dtype=torch.bool)
    for row, e in enumerate(examples):
        wanted[row, : len(e.tokens)] = torch.tensor(e.activations)
        counted[row, : len(e.tokens)] = True
    device = pairs.hidden.device
    counted = counted.to(device) & (pairs.ranges[..., 1] > pairs.ranges[..., 0])
    return Batch(pairs, wanted.to(device), counted)


def loss_of(logits: Tensor, batch: Batch, graded: bool) -> Tensor:
    """Cross entropy of firing, and of the activation's tenth as a soft label, so of its mean."""
    counted = batch.counted
    level, fires = logits.float()[counted].unbind(-1)  # each (n_counted,)
    wanted = batch.wanted[counted]
    binary = (wanted > 0).float()
    share = wanted / 10 if graded else binary
    return functional.binary_cross_entropy_with_logits(
        level, share
    ) + 0.5 * functional.binary_cross_entropy_with_logits(fires, binary)


def steps_of(source: Lessons, settings: TrainSettings, begin: int) -> Iterator[list[Example]]:
    """The examples of each step from number `begin` on, the same ones however often resumed."""
    number, skipped = divmod(begin, settings.chunk)
    while True:
        seed = settings.seed * 1_000_003 + number
        stream = examples(
            source.train, source.documents, source.tokenizer, seed, settings.each, source.real
        )
        groups = list(islice(stream, settings.windows * settings.chunk))
        groups.sort(key=lambda group: len(group[0].tokens))
        batches = [
            [e for group in groups[i : i + settings.windows] for e in group]
            for i in range(0, len(groups), settings.windows)
        ]
        Random(seed).shuffle(batches)
        yield from batches[skipped:]
        number, skipped = number + 1, 0


def predict(
    examples: Sequence[Example], tokenizer: Any, lower: Lower, upper: Upper
) -> list[Judged]:
    """What the network says of examples."""
    found: list[Judged] = []
    order = sorted(range(len(examples)), key=lambda i: len(examples[i].tokens))
    for begin in range(0, len(order), 48):
        some = [examples[i] for i in order[begin : begin + 48]]
        batch = batch_of(some, tokenizer, lower)
        with torch.no_grad():
            level, fires = upper(batch.pairs).float().unbind(-1)  # each (batch, n_tokens)
            level = level.sigmoid() * batch.counted
        for e, row, logits in zip(some, level.tolist(), fires.tolist(), strict=True):
            n = len(e.tokens)
            found.append(Judged(e.family, e.activations, tuple(row[:n]), tuple(logits[:n])))
    return found


def train(
    source: Lessons,
    settings: TrainSettings,
    out: Path,
    base: tuple[Any, Any],
    stop: int | None = None,
) -> Upper:
    """Trains, or goes on training, and leaves the weights in `out`; `stop` is a step to end at."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(settings.threads)
    tokenizer, weights = base
    lower, upper = halves(weights, settings.seed)
    low = torch.bfloat16
    lower.to(settings.device, low)
    upper.to(settings.device)
    work = Upper().to(settings.device, low)
    frozen = tuple(f"layers.{i}." for i in range(len(upper.layers) - settings.trained))
    named = {n: p for n, p in upper.named_parameters() if not (frozen and n.startswith(frozen))}
    worked = dict(work.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for n, p in named.items() if n.startswith("layers.")], "scale": 1.0},
            {
                "params": [p for n, p in named.items() if not n.startswith("layers.")],
                "scale": settings.faster,
            },
        ],
        lr=settings.rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
    )
    begin = _resume(out, upper, optimizer, named, settings)
    held = [
        list(islice(examples(shelf, source.validation, source.tokenizer, 7, 3), n))
        for shelf, n in (
            (source.held, settings.n_validation),
            (source.train, settings.n_validation // 3),
        )
    ]
    tests = [[e for group in groups for e in group] for groups in held]
    work.load_state_dict(upper.state_dict())
    started, total = time.monotonic(), 0.0
    stream = steps_of(source, settings, begin)
    for step in range(begin, min(settings.steps, stop or settings.steps)):
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * group["scale"] * _share(step, settings)
        batch = batch_of(next(stream), tokenizer, lower)
        loss = loss_of(work(batch.pairs), batch, settings.graded)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, p in named.items():
            grad = worked[name].grad
            p.grad = None if grad is None else grad.float()
        work.zero_grad(set_to_none=True)
        torch.nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, p in named.items():
                worked[name].copy_(p)
        total += loss.item()
        done = step + 1
        if done % 20 == 0:
            seconds = (time.monotonic() - started) / (done - begin)
            _log(out, {"step": done, "loss": round(total / 20, 4), "s_per_step": round(seconds, 2)})
            total = 0.0
        if done % settings.checkpoint == 0 or done == settings.steps:
            _keep(out, upper, optimizer, named, done, settings)
        if done % settings.validate == 0 or done == settings.steps:
            report: dict[str, object] = {"step": done}
            fitted: dict[str, float] = {}
            for name, some in zip(("held_out", "seen"), tests, strict=True):
                if not some:
                    continue
                judged = predict(some, tokenizer, lower, work)
                report[name] = asdict(quality(judged))
                if name == "held_out":
                    fitted = calibration(judged)
                    report["families"] = {f: asdict(q) for f, q in by_family(judged).items()}
            _log(out, report)
            about = {"step": done, **fitted, **asdict(settings)}
            about["real"] = [feature.name for feature in source.real]
            save_trained(upper, out / f"step-{done}.safetensors", about)
            if done == settings.steps:
                os.replace(out / f"step-{done}.safetensors", out / SHIPPED)
    return upper


def _share(step: int, settings: TrainSettings) -> float:
    """The rate at `step`, as a share of the full one: up, level, and down in a line."""
    left = (settings.steps - step) / max(1, math.ceil(settings.steps * settings.decay))
    return min(1.0, (step + 1) / settings.warmup, left)


def _log(out: Path, row: dict[str, object]) -> None:
    with (out / LOG).open("a") as file:
        file.write(json.dumps(row) + "\n")


def _keep(
    out: Path,
    upper: Upper,
    optimizer: torch.optim.Optimizer,
    named: dict[str, torch.nn.Parameter],
    step: int,
    settings: TrainSettings,
) -> None:
    from safetensors.torch import save_file

    tensors = {f"p/{name}": p.detach().contiguous() for name, p in upper.state_dict().items()}
    for name, p in named.items():
        for kind in ("exp_avg", "exp_avg_sq", "step"):
            if kind in optimizer.state[p]:
                tensors[f"{kind}/{name}"] = optimizer.state[p][kind].clone()
    save_file(tensors, out / f"{CHECKPOINT}.new", {"step": str(step)})
    os.replace(out / f"{CHECKPOINT}.new", out / CHECKPOINT)
    (out / STATE).write_text(json.dumps({"step": step, "settings": asdict(settings)}, indent=1))


def _resume(
    out: Path,
    upper: Upper,
    optimizer: torch.optim.Optimizer,
    named: dict[str, torch.nn.Parameter],
    settings: TrainSettings,
) -> int:
    """Fills both from the checkpoint, if there is one; the step to go on with."""
    from safetensors import safe_open

    if not (out / CHECKPOINT).is_file():
        return 0
    with safe_open(out / CHECKPOINT, framework="pt", device=settings.device) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        step = int(file.metadata()["step"])
    upper.load_state_dict({n.removeprefix("p/"): t for n, t in tensors.items() if n[:2] == "p/"})
    for name, p in named.items():
        optimizer.state[p] = {
            kind: tensors[f"{kind}/{name}"]
            for kind in ("exp_avg", "exp_avg_sq", "step")
            if f"{kind}/{name}" in tensors
        }
    return step


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and weights")
    for name, value in asdict(TrainSettings()).items():
        kind = type(value)
        if kind is bool:
            parser.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(f"--{name}", type=kind, default=value)
    parser.add_argument(
        "--real",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read the bundled subject, and train on some of its features, too",
    )
    given = vars(parser.parse_args())
    out, with_real = given.pop("out"), given.pop("real")
    settings = TrainSettings(**given)
    train(lessons(settings.seed, with_real), settings, out, base_weights())


if __name__ == "__main__":
    main()
