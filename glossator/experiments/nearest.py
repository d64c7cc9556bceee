"""Features like another: those that write alike, and those that fire at the same tokens.

Of the same site, or of the same coder at it; neurons are held against what those of other layers
write, too. A signed feature has two tails, and the tail that is
alike is named: a neuron that writes the opposite is like the other one's negative tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from glossator.datasets.outputs import projection
from glossator.datasets.readings import Coder, groups_of, is_dense
from glossator.datasets.windows import Chunk
from glossator.errors import Unsupported
from glossator.experiments.clamping import HEADS
from glossator.experiments.of_subject import Experiments
from glossator.experiments.passes import chunks_of
from glossator.types import Example, FeatureId, Split

N_WINDOWS = 200
"""Windows that are read: firing ones, and as many silent ones."""

_VALUES = 1 << 22
"""Activations that are in float64 at once."""
_ROWS = 8192
"""Rows of a decoder in float32 at once."""
_CONSTANT = 1e-12
"""A feature whose variance is a smaller share of its mean square than this does not vary."""


@dataclass(eq=False)
class SubjectNearest:
    """Features like one of a subject; see `glossator.agent.lab.Nearest`."""

    experiments: Experiments
    feature: FeatureId
    texts: Sequence[str]
    """Train and dev windows, some of which the feature fires in; read at the first `by_firing`."""
    coder: Coder | None = None
    """The one that the feature names, if it names one."""
    _correlations: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.feature.coder is None:
            self.coder = None
        coders = {self.coder.name: self.coder} if self.coder is not None else {}
        groups_of(self.experiments.subject, [self.feature], coders)

    @classmethod
    def of(
        cls,
        experiments: Experiments,
        feature: FeatureId,
        train: Split,
        dev: Split,
        coder: Coder | None = None,
        n_windows: int = N_WINDOWS,
    ) -> SubjectNearest:
        """Those like `feature`, on windows of its record.

        Raises:
            ConfigError: if the subject, or the coder, has no such feature.
        """
        firing = _evenly([*train.firing, *dev.firing], n_windows // 2)
        silent = _evenly([*train.silent, *dev.silent], n_windows - len(firing))
        return cls(experiments, feature, tuple(e.text for e in (*firing, *silent)), coder)

    async def by_decoder(self, n: int) -> tuple[tuple[FeatureId, float], ...]:
        """See `Nearest`. Of latents the rows of the decoder, of neurons all projections' columns.

        Raises:
            Unsupported: if the feature writes no one direction, or stands alone.
        """
        return await self.experiments.run(lambda: self._written_alike(n))

    async def by_firing(self, n: int) -> tuple[tuple[FeatureId, float], ...]:
        """See `Nearest`. Pearson's r over the tokens of `texts`, of all features in one reading.

        Raises:
            Unsupported: if the feature does not vary on `texts`, or stands alone.
        """
        return await self.experiments.run(
            lambda: self._like(self._correlated(), n, self.feature.site)
        )

    def _like(self, nearness: Tensor, n: int, site: str) -> tuple[tuple[FeatureId, float], ...]:
        """The nearest of a site by `nearness`, shape (n_features,), to the tail `feature` names."""
        if self.feature.negative:
            nearness = -nearness
        signed = is_dense(self.feature.coder) and not self.feature.site.endswith(HEADS)
        ranked = nearness.abs() if signed else nearness.clone()
        if site == self.feature.site:
            ranked[self.feature.index] = torch.nan
        places = ranked.nan_to_num(nan=-torch.inf).argsort(descending=True, stable=True)
        found = []
        for index in places[: max(0, n)].tolist():
            value = float(ranked[index])
            if value == value:
                negative = signed and float(nearness[index]) < 0
                found.append(
                    (replace(self.feature, site=site, index=index, negative=negative), value)
                )
        return tuple(found)

    def _written_alike(self, n: int) -> tuple[tuple[FeatureId, float], ...]:
        written = self._written()
        self._check_company(sum(map(len, written.values())))
        own = written[self.feature.site][self.feature.index].float()  # (d_out,)
        if not own.norm() > 0:
            raise Unsupported(f"{self.feature} writes nothing, so none writes like it")
        found = [
            near
            for site, rows in written.items()
            for near in self._like(_cosines(rows, own), n, site)
        ]
        return tuple(sorted(found, key=lambda near: -near[1])[: max(0, n)])

    def _written(self) -> dict[str, Tensor]:
        """By site, what each of its features writes: shape (n_features, d_out)."""
        site = self.feature.site
        decoder = getattr(self.coder, "W_dec", None)
        if isinstance(decoder, Tensor):
            return {site: decoder.detach()}
        subject = self.experiments.subject
        (own,) = subject.expand(site)
        found: dict[str, Tensor] = {}
        for name in self._alike(own):
            weight = projection(subject, name) if self.coder is None else None
            if weight is not None:  # (d_model, n_features)
                found[site if name == own else name] = weight.detach().T
        if site not in found:
            raise Unsupported(
                f"{self.feature} writes no direction that can be held against others'; neurons and "
                "latents do, and which features fire with it can be asked"
            )
        return found

    def _alike(self, site: str) -> list[str]:
        """`site`, and the same part of all other layers if it is one of a layer."""
        part = site.split(".", 2)[-1]
        named = site.startswith("layers.")
        return self.experiments.subject.expand(f"layers.*.{part}") if named else [site]

    def _correlated(self) -> Tensor:
        """Shape (n_features,), float32, on the CPU; NaN for those that do not vary."""
        if self._correlations is None:
            self._correlations = self._measured()
        return self._correlations

    def _measured(self) -> Tensor:
        experiments, index = self.experiments, self.feature.index
        subject = experiments.subject
        width = subject.resolve(self.feature.site).width
        n_features = self.coder.d_sae if self.coder is not None else width
        self._check_company(n_features)
        sums = torch.zeros(3, n_features, dtype=torch.float64)  # of x, x^2, and x times its own
        n_tokens = 0

        def take(values: Tensor) -> None:  # (n_tokens, width)
            nonlocal n_tokens
            for part in torch.split(values, max(1, _VALUES // n_features)):
                read = self.coder.encode(part) if self.coder is not None else part
                x = read.detach().float().cpu().double()  # (n_tokens, n_features)
                sums[0] += x.sum(dim=0)
                sums[1] += x.square().sum(dim=0)
                sums[2] += x[:, index] @ x
                n_tokens += len(x)

        cut = [
            chunk for parts in chunks_of(subject, self.texts, experiments.ctx) for chunk in parts
        ]
        cut.sort(key=lambda chunk: len(chunk.token_ids))  # so that little is padded
        for first in range(0, len(cut), experiments.batch):
            some = cut[first : first + experiments.batch]
            inside = _inside(some, subject.left_out_ids)  # (batch, ctx)

            def see(_: str, acts: Tensor, inside: Tensor = inside) -> None:
                take(acts[inside.to(acts.device)])

            subject.scan([chunk.token_ids for chunk in some], self.feature.site, see)
        means, squares, products = sums / max(1, n_tokens)
        variances = squares - means.square()
        variances[variances <= _CONSTANT * squares] = torch.nan
        if not variances[index] > 0:
            raise Unsupported(
                f"{self.feature} is the same at each token of the {len(self.texts)} windows that "
                "were read, so nothing fires with it; collect it on more text"
            )
        scale = (variances * variances[index]).sqrt()
        correlations: Tensor = (products - means * means[index]) / scale  # (n_features,)
        return correlations.clamp(-1, 1).float()

    def _check_company(self, n_features: int) -> None:
        if n_features < 2:
            raise Unsupported(
                f"{self.feature} stands alone: there are no others to hold it against"
            )


def _cosines(rows: Tensor, own: Tensor) -> Tensor:
    """Shape (n_features,), float32, on the CPU; NaN where a feature writes nothing."""
    parts = []
    for part in torch.split(rows, _ROWS):
        each = part.to(own.device).float()
        parts.append(each @ own / (each.norm(dim=1) * own.norm()))  # 0 / 0 is NaN
    return torch.cat(parts).clamp(-1, 1).cpu()


def _inside(batch: Sequence[Chunk], left_out: frozenset[int]) -> Tensor:
    """Which places of the padded batch are text, shape (batch, ctx); special tokens are not."""
    inside = torch.zeros(len(batch), max(len(c.token_ids) for c in batch), dtype=torch.bool)
    for row, chunk in enumerate(batch):
        flags = [token not in left_out for token in chunk.token_ids]
        inside[row, : len(flags)] = torch.tensor(flags)
    return inside


def _evenly(examples: Sequence[Example], n: int) -> list[Example]:
    """`n` of `examples` at even distances, or all of them if there are fewer."""
    if len(examples) <= n:
        return list(examples)
    return [examples[i * len(examples) // n] for i in range(n)]
