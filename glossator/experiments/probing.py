"""A feature read in a forward pass so that its gradient can be taken.

No weight's gradient is asked for and no setting of a weight is touched: gradients are of
activations alone, by `torch.autograd.grad`, which writes to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glossator.architectures import linear_weight
from glossator.datasets.readings import Coder
from glossator.errors import ConfigError, Unsupported
from glossator.experiments.clamping import HEADS
from glossator.experiments.passes import chunks_of
from glossator.hooks import Edit, intervening, recording
from glossator.subject import Subject
from glossator.types import FeatureId

EMBEDDING = "layers.0.resid_pre"
"""What enters the first layer: embeddings of tokens, and of places where a model adds those."""


@dataclass(frozen=True, eq=False)
class Text:
    """A text as the model reads it, at once."""

    tokens: tuple[str, ...]
    """Shape (n_tokens,): without the start token."""
    ids: Tensor
    """Shape (1, 1 + n_tokens), a start token first, on the subject's device."""

    @classmethod
    def of(cls, subject: Subject, text: str, ctx: int) -> Text:
        """`text`, of at most `ctx` tokens.

        Raises:
            ConfigError: for a text without a token, or with more.
        """
        (parts,) = chunks_of(subject, [text], ctx)
        if len(parts) > 1:
            raise ConfigError(
                f"at most {ctx} tokens are read at once, and this text has more: cut it"
            )
        ids = torch.tensor([[subject.start_token_id, *parts[0].token_ids]], device=subject.device)
        return cls(parts[0].tokens, ids)

    @classmethod
    def pair(cls, subject: Subject, first: str, second: str, ctx: int) -> tuple[Text, Text]:
        """Two texts of equally many tokens.

        Raises:
            ConfigError: as `of`; if they differ in length or in nothing.
        """
        a, b = cls.of(subject, first, ctx), cls.of(subject, second, ctx)
        if len(a.tokens) != len(b.tokens):
            raise ConfigError(
                f"both texts need equally many tokens, but one has {len(a.tokens)} and the other "
                f"{len(b.tokens)}: {'|'.join(a.tokens)!r:.200} and {'|'.join(b.tokens)!r:.200}"
            )
        if torch.equal(a.ids, b.ids):
            raise ConfigError("both texts are the same; change at least one token")
        return a, b

    def first_unlike(self, other: Text) -> int:
        """The first token in which it differs from another of the same length, from 0."""
        return int((self.ids != other.ids).nonzero()[0, 1]) - 1

    def strongest(self, acts: Tensor, other: Text) -> int:
        """The strongest token of `acts`, shape (1 + n_tokens,), from the first unlike one on.

        Before it, both texts are read alike.
        """
        first = self.first_unlike(other)
        return first + int(acts[1 + first :].argmax())

    def place(self, at: int | None, acts: Tensor) -> int:
        """`at`, checked; the strongest token of `acts`, shape (1 + n_tokens,), if it is None."""
        if at is None:
            return int(acts[1:].argmax())
        if not 0 <= at < len(self.tokens):
            raise ConfigError(f"the text has tokens 0 to {len(self.tokens) - 1}, and no {at}")
        return at


@dataclass
class Kept:
    """What a pass left."""

    acts: Tensor = field(default_factory=lambda: torch.empty(0))
    """Shape (batch, 1 + ctx), float32: the feature in its own sign."""
    at_site: dict[str, Tensor] = field(default_factory=dict)
    """Of the sites asked for, shape (batch, 1 + ctx, width), part of the graph."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Reads one feature."""

    subject: Subject
    feature: FeatureId
    coder: Coder | None = None

    @property
    def is_head(self) -> bool:
        """Whether it is how much an attention head adds."""
        return self.feature.site.endswith(HEADS) and self.coder is None

    @property
    def tensor_site(self) -> str:
        """The site whose tensor it is computed from."""
        if not self.is_head:
            return self.feature.site
        return self.feature.site.removesuffix("heads") + "z"

    def of(self, acts: Tensor) -> Tensor:
        """The feature, shape (batch, ctx), from what passes `tensor_site`; float32."""
        index = self.feature.index
        if self.is_head:
            place = self.subject.resolve(self.tensor_site)
            n_heads = self.subject.architecture.n_heads
            width = place.width // n_heads
            part = slice(index * width, (index + 1) * width)
            weight = linear_weight(place.module)[:, part].float()  # (d_model, d_head)
            added = acts[:, :, part].float() @ weight.T  # (batch, ctx, d_model)
            size: Tensor = torch.linalg.vector_norm(added, dim=-1)
            return size
        if self.coder is not None:
            columns = torch.tensor([index], device=acts.device)
            found = self.coder.encode(acts, columns)[:, :, 0].float()
        else:
            found = acts[:, :, index].float()
        return -found if self.feature.negative else found

    def read(self, ids: Tensor, edits: Sequence[tuple[str, Edit]] = ()) -> Tensor:
        """The feature on texts, shape (batch, 1 + ctx), float32, with `edits` made; no gradients.

        The pass ends where the feature is read.
        """
        with torch.inference_mode():
            return self._pass(ids, edits, ()).acts

    @contextmanager
    def graph(self, ids: Tensor, sites: Sequence[str] = ()) -> Iterator[Kept]:
        """The feature on texts, and what passes `sites`, as a graph that begins at the embedding.

        Raises:
            Unsupported: if the feature does not come of the embedding, as one that is read before.
        """
        with torch.inference_mode(False), torch.enable_grad():
            begun: list[Tensor] = []

            def begin(acts: Tensor) -> Tensor:
                begun.append(acts.detach().clone().requires_grad_())
                return begun[0]

            # a list of hooks is run in its own order: what is kept is what the graph goes on with
            kept = self._pass(ids, [(EMBEDDING, begin)], [s for s in sites if s != EMBEDDING])
            if not begun or not kept.acts.requires_grad:
                raise Unsupported(
                    f"{self.feature} is read before the first layer, so nothing leads to it; "
                    "its activations can be read"
                )
            if EMBEDDING in sites:
                kept.at_site[EMBEDDING] = begun[0]
            yield kept

    def _pass(self, ids: Tensor, edits: Sequence[tuple[str, Edit]], sites: Sequence[str]) -> Kept:
        kept = Kept()

        def keep(site: str) -> Edit:
            def look(acts: Tensor) -> Tensor:
                kept.at_site[site] = acts
                return acts

            return look

        def read(acts: Tensor) -> Tensor:
            kept.acts = self.of(acts)
            return acts

        looks = [*edits, *((site, keep(site)) for site in sites), (self.tensor_site, read)]
        with ExitStack() as hooks:
            for site, edit in looks:
                hooks.enter_context(intervening(self.subject, site, edit))
            # no copy is needed of it, but it ends the pass where all has been seen
            hooks.enter_context(recording(self.subject, self.feature.site, stop=True))
            self.subject.body(input_ids=ids, use_cache=False)
        return kept


def gradients(value: Tensor, of: Sequence[Tensor]) -> list[Tensor | None]:
    """Of a number by each tensor; None where it does not come of it. Frees the graph."""
    with_graph = [tensor for tensor in of if tensor.requires_grad]
    found = iter(torch.autograd.grad(value, with_graph, allow_unused=True))
    return [next(found) if tensor.requires_grad else None for tensor in of]
