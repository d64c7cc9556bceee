"""`Live` on a loaded subject: neurons, coordinates, latents, directions and attention heads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from glossator.datasets.outputs import Outputs
from glossator.datasets.readings import Coder, groups_of, scan_of
from glossator.errors import ConfigError, Unsupported
from glossator.experiments.clamping import HEADS, clamped
from glossator.experiments.inside_subject import SubjectInside
from glossator.experiments.passes import (
    attended,
    chunks_of,
    continued,
    ids_of,
    next_log_probabilities,
)
from glossator.live import Activations, Attention, NextToken, Promotion, Shift, TokenShift
from glossator.subject import Subject
from glossator.types import FeatureId

_Result = TypeVar("_Result")


@dataclass(eq=False)
class Experiments:
    """One subject, and the one thread that experiments on it run in."""

    subject: Subject
    ctx: int = 128
    """Text tokens that it reads at once, as in collection."""
    batch: int = 64
    """Texts read at once."""
    _thread: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "experiments"), init=False, repr=False
    )

    def __post_init__(self) -> None:
        most = self.subject.max_ctx
        if most is not None and self.ctx + 1 > most:
            raise ConfigError(
                f"{self.subject.name} reads at most {most - 1} tokens at once, not {self.ctx}"
            )

    @cached_property
    def outputs(self) -> Outputs | None:
        """What directions do to logits; measured when it is first asked for."""
        return Outputs.of(self.subject)

    def on(self, feature: FeatureId, peak: float = 0.0, coder: Coder | None = None) -> SubjectLive:
        """Experiments with one feature.

        Args:
            feature: of the subject.
            peak: the strongest activation on train text, from its record.
            coder: the one that it names, if it names one.

        Raises:
            ConfigError: if the subject, or the coder, has no such feature.
        """
        groups_of(self.subject, [feature], {coder.name: coder} if coder is not None else {})
        return SubjectLive(self, feature, peak, coder if feature.coder is not None else None)

    def cut(self, text: str) -> tuple[str, ...]:
        """The tokens of `text`, as the subject cuts it; none where there is nothing to read."""
        try:
            (parts,) = chunks_of(self.subject, [text], self.ctx)
        except ConfigError:
            return ()
        return tuple(token for chunk in parts for token in chunk.tokens)

    def inside(self, live: SubjectLive) -> SubjectInside:
        """The model around a feature."""
        return SubjectInside(live)

    async def run(self, work: Callable[[], _Result]) -> _Result:
        """What `work` gives in the thread; one after the other, whoever asks."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@dataclass(frozen=True, eq=False)
class SubjectLive:
    """See `glossator.live.Live`."""

    experiments: Experiments
    feature: FeatureId
    peak: float
    coder: Coder | None = None

    async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        """See `Live`. Special tokens that a text spells out are read, too, as in collection."""
        return await self.experiments.run(lambda: self._activations(texts))

    async def promoted(self, n: int = 20) -> Promotion:
        """See `Live`. As z over the vocabulary, the final norm's weight taken in."""
        return await self.experiments.run(lambda: self._promoted(n))

    async def next_tokens(
        self, texts: Sequence[str], clamp: float, n: int = 10
    ) -> tuple[NextToken, ...]:
        """See `Live`."""
        return await self.experiments.run(lambda: self._next_tokens(texts, clamp, n))

    async def shifts(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int = 50
    ) -> tuple[TokenShift, ...]:
        """See `Live`."""
        return await self.experiments.run(lambda: self._shifted(texts, tokens, clamp, n_like))

    async def continuations(
        self,
        texts: Sequence[str],
        clamp: float | None = None,
        max_tokens: int = 12,
        seed: int | None = None,
    ) -> tuple[str, ...]:
        """See `Live`."""
        subject = self.experiments.subject
        return await self.experiments.run(
            lambda: tuple(
                continued(
                    subject,
                    texts,
                    max_tokens,
                    seed,
                    lambda: clamped(subject, self.feature, self.coder, clamp),
                )
            )
        )

    async def attention(self, texts: Sequence[str]) -> tuple[Attention, ...]:
        """See `Live`.

        Raises:
            Unsupported: if the feature is no attention head.
        """
        if not self.feature.site.endswith(HEADS) or self.coder is not None:
            raise Unsupported(f"{self.feature} is no attention head; one is layers.0.attn.heads/0")
        layer = int(self.experiments.subject.resolve(self.feature.site).site.split(".")[1])
        subject, head = self.experiments.subject, self.feature.index
        return await self.experiments.run(lambda: attended(subject, layer, head, texts))

    def _activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        if not texts:
            return ()
        experiments, feature = self.experiments, self.feature
        subject = experiments.subject
        coders = {self.coder.name: self.coder} if self.coder is not None else {}
        scan = scan_of(subject, groups_of(subject, [feature], coders))
        cut = chunks_of(subject, texts, experiments.ctx)
        every = [(i, chunk) for i, parts in enumerate(cut) for chunk in parts]
        values: dict[tuple[int, int], list[float]] = {}
        # those of like length together, so that little is padded
        ordered = sorted(every, key=lambda one: len(one[1].token_ids))
        for first in range(0, len(ordered), experiments.batch):
            some = ordered[first : first + experiments.batch]

            def see(_: int, acts: Tensor, some: Any = some) -> None:  # (batch, ctx, 1)
                for (i, chunk), row in zip(some, acts[:, :, 0].float(), strict=True):
                    read = (-row if feature.negative else row)[: len(chunk.token_ids)]
                    values[i, chunk.start] = read.tolist()

            scan([chunk for _, chunk in some], see)
        return tuple(
            Activations(
                tuple(token for chunk in parts for token in chunk.tokens),
                tuple(value for chunk in parts for value in values[i, chunk.start]),
            )
            for i, parts in enumerate(cut)
        )

    def _promoted(self, n: int) -> Promotion:
        outputs = self.experiments.outputs
        if outputs is None:
            raise Unsupported(
                f"the unembedding of {self.experiments.subject.name} does not fit its residual "
                "stream, so nothing can be read out there; next_tokens can be asked"
            )
        direction = outputs.of_feature(self.feature, self.coder)
        if direction is None:
            raise Unsupported(
                f"{self.feature} does not write one direction to the residual stream; "
                "next_tokens can be asked"
            )
        z = outputs.readout.on_all(direction)  # (vocab,)
        known = self.n_known
        top = min(n, known)
        best, worst = z[:known].topk(top), (-z[:known]).topk(top)
        return Promotion(
            tuple(zip(self.named(best.indices), best.values.tolist(), strict=True)),
            tuple(zip(self.named(worst.indices), (-worst.values).tolist(), strict=True)),
        )

    def _next_tokens(self, texts: Sequence[str], clamp: float, n: int) -> tuple[NextToken, ...]:
        if not texts:
            return ()
        before, after = self._before_and_after(texts, clamp)  # each (n_texts, vocab)
        kl = (before.exp() * (before - after)).sum(dim=-1).clamp(min=0)  # (n_texts,)
        gain = after.exp() - before.exp()
        up, down = gain.topk(n).indices, (-gain).topk(n).indices  # (n_texts, n)
        return tuple(
            NextToken(
                float(kl[i]),
                self._shifts(up[i], before[i], after[i]),
                self._shifts(down[i], before[i], after[i]),
            )
            for i in range(len(texts))
        )

    def _shifted(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int
    ) -> tuple[TokenShift, ...]:
        ids = [self._id_of(token) for token in tokens]
        if not texts or not ids:
            return ()
        before, after = self._before_and_after(texts, clamp)  # each (n_texts, vocab)
        others = torch.ones(self.n_known, dtype=torch.bool)
        others[[*ids, *(i for i in self.experiments.subject.left_out_ids if i < len(others))]] = 0
        places = others.nonzero()[:, 0]  # (n_others,)
        usual = before.mean(dim=0)  # (vocab,)
        gain = (after - before).mean(dim=0)  # (vocab,)
        found = []
        for token, i in zip(tokens, ids, strict=True):
            apart = (usual[places] - usual[i]).abs()
            near = places[apart.topk(min(n_like, len(places)), largest=False).indices]
            was, held = tuple(before[:, i].tolist()), tuple(after[:, i].tolist())
            found.append(TokenShift(token, was, held, tuple(gain[near].tolist())))
        return tuple(found)

    def _before_and_after(self, texts: Sequence[str], clamp: float) -> tuple[Tensor, Tensor]:
        """Log probabilities of what comes next, each of shape (n_texts, vocab)."""
        subject = self.experiments.subject
        ids = ids_of(subject, texts)
        before = next_log_probabilities(subject, ids)
        with clamped(subject, self.feature, self.coder, clamp):
            after = next_log_probabilities(subject, ids)
        if not bool(after.isfinite().all()):
            raise Unsupported(
                f"{subject.name} computes no finite numbers with {self.feature} at {clamp:g}; "
                "take a smaller value"
            )
        return before, after

    def _id_of(self, token: str) -> int:
        ids = self.experiments.subject.tokenizer(token, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            pieces = [self.experiments.subject.tokenizer.decode([i]) for i in ids]
            raise ConfigError(
                f"{token!r:.80} is not one token of {self.experiments.subject.name} but "
                f"{len(ids)}: {pieces!r:.200}; name one, with the space before it if it has one"
            )
        return int(ids[0])

    def _shifts(self, tokens: Tensor, before: Tensor, after: Tensor) -> tuple[Shift, ...]:
        values = zip(
            self.named(tokens), before[tokens].tolist(), after[tokens].tolist(), strict=True
        )
        return tuple(Shift(*each) for each in values)

    @property
    def n_known(self) -> int:
        """Rows of the unembedding that are tokens of the tokenizer; others may be behind them."""
        subject = self.experiments.subject
        head = subject.model.get_output_embeddings()
        return min(len(subject.tokenizer), int(head.weight.shape[0]))

    def named(self, tokens: Tensor) -> list[str]:
        """The texts of tokens, given their ids, shape (n,)."""
        tokenizer = self.experiments.subject.tokenizer
        return [tokenizer.decode([token]) for token in tokens.tolist()]
