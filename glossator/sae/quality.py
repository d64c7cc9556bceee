"""How good a coder is for a subject: what it leaves unexplained, and what the model loses by it.

Everything is measured on documents that no coder of ours is trained on (the dev or the test pool),
without the start token, special tokens and sinks, and summed in float64 as it streams by.

- Fraction of variance unexplained: sum |x - x'|^2 / sum |x - mean|^2 over tokens, the mean over the
  same tokens. 0 is perfect, 1 is what the mean alone achieves, above 1 is worse than that.
- Loss recovered: (CE_ablated - CE_spliced) / (CE_ablated - CE_clean), with CE the mean
  cross-entropy of the next token, where "spliced" puts the reconstruction in the place of the
  activations and "ablated" puts their mean there, or zero. Positions left out above keep their
  activations. 1 is perfect, 0 is as bad as the ablation.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from glossator.datasets.corpora import Corpus
from glossator.datasets.windows import Chunk
from glossator.errors import ConfigError, CorpusError
from glossator.sae.coder import SparseCoder
from glossator.sae.training_activations import (
    SINK_FACTOR,
    ReadSettings,
    batches_of,
    chosen_chunks,
    text_positions,
)
from glossator.subject import Subject, intervening, recording
from glossator.types import Pool

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many tokens are done, and how many there are."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
DENSITY_BINS_A_DECADE = 2
SMALLEST_DENSITY = 1e-6

_ENTRIES = 1 << 24
"""Latents that are held at once, tokens times width."""
_SINK_TOKENS = 8192
"""Tokens on which the length of the median token is measured."""
_LOSS_BATCH = 8
"""Chunks of which all log probabilities are held at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Mean cross-entropies of the next token, in nats, with and without the coder spliced in."""

    tokens: int
    """Predictions that the means are over: all but those made at the start token."""
    clean: float
    spliced: float
    zero_ablated: float
    mean_ablated: float
    recovered_zero: float | None
    """Against zero ablation; None where ablating does not raise the loss."""
    recovered_mean: float | None
    """Against mean ablation; None where ablating does not raise the loss."""
    kl: float
    """Mean Kullback-Leibler divergence of the spliced model's predictions from the clean ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoderReport:
    """What was measured, and on what."""

    coder: str
    digest: str
    architecture: str
    d_in: int
    d_sae: int
    subject: str
    revision: str
    dtype: str
    """In which the subject computed."""
    site: str
    site_out: str
    """What is reconstructed: `site` but for transcoders."""
    corpus: str
    corpus_digest: str
    pool: str
    seed: int
    ctx: int
    tokens: int
    """Tokens that the figures are over."""
    left_out: Mapping[str, int]
    """Tokens read and not counted: `start`, `special`, `sink`."""
    fvu: float | None
    """Fraction of variance unexplained; None where the activations do not vary."""
    cosine: float
    """Mean over tokens of the cosine between activation and reconstruction."""
    norm_ratio: float
    """Mean length of reconstructions over mean length of activations."""
    l0: float
    """Mean number of latents that fire at a token."""
    l0_quantiles: Mapping[str, int]
    """Latents that fire at a token, at the quantiles named."""
    n_dead: int
    """Latents that fired at none of the tokens."""
    dead_share: float
    density_edges: tuple[float, ...]
    """Base-10 logarithms of densities, shape (n_bins + 1,)."""
    density_counts: tuple[int, ...]
    """Latents whose density is in each bin, shape (n_bins,); dead ones are in none."""
    losses: Losses | None
    """None where it was not asked for."""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values; `from_json` takes it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), allow_nan=False))
        return plain

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> CoderReport:
        """The report that `to_json` gave.

        Raises:
            ValueError: if a field is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if set(document) != names:
            raise ValueError(
                f"a coder report has the fields {', '.join(sorted(names))}; "
                f"missing or unknown: {', '.join(sorted(names ^ set(document)))}"
            )
        losses = document["losses"]
        return cls(
            **{
                **document,
                "density_edges": tuple(document["density_edges"]),
                "density_counts": tuple(document["density_counts"]),
                "losses": None if losses is None else Losses(**losses),
                "warnings": tuple(document["warnings"]),
            }
        )


def quality(
    subject: Subject,
    coder: SparseCoder,
    site: str,
    corpus: Corpus,
    *,
    pool: Pool = Pool.DEV,
    tokens: int = 100_000,
    loss_tokens: int = 10_000,
    ctx: int = 128,
    batch: int = 32,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> CoderReport:
    """How well `coder` stands for the subject's activations at `site`.

    Args:
        subject: the model; the coder is moved to its device.
        coder: an autoencoder, or a transcoder whose `site_out` the subject has.
        site: what the coder reads.
        corpus: the text.
        pool: whose documents are read.
        tokens: how many tokens the statistics are over, at most.
        loss_tokens: how many predictions the losses are over, at most; 0 leaves them out.
        ctx: text tokens the model reads at once.
        batch: chunks the model reads at once.
        seed: of the choice of documents, where the pool has more than are wanted.
        on_progress: told how it goes.

    Raises:
        ConfigError: if the coder does not fit the site, or activations are no finite numbers.
        CorpusError: if the pool has no text.
    """
    settings = ReadSettings(site=site, pool=pool, tokens=tokens, ctx=ctx, batch=batch, seed=seed)
    site_out = _site_out(subject, coder, site)
    coder = coder.to(subject.device)
    limit = _sink_norm(subject, corpus, settings)
    sums = _Sums(coder, site, site_out, limit)
    for some in batches_of(chosen_chunks(subject, corpus, settings), batch):
        acts = subject.read([chunk.token_ids for chunk in some], [site, site_out])
        sums.add(subject, some, acts, tokens)
        if on_progress:
            on_progress("measure", sums.n, tokens)
        if sums.n >= tokens:
            break
    if not sums.n:
        raise CorpusError(f"the {pool.value} pool of {corpus.name!r} has no token to measure on")
    losses = None
    if loss_tokens:
        stream = chosen_chunks(subject, corpus, settings)
        losses = _losses(subject, coder, sums, stream, loss_tokens, on_progress)
    fvu = sums.unexplained / sums.variance if sums.variance > 0 else None
    dead = int((sums.fired == 0).sum())
    edges, counts = _densities(sums.fired, sums.n)
    return CoderReport(
        coder=coder.name,
        digest=coder.digest,
        architecture=coder.architecture,
        d_in=coder.d_in,
        d_sae=coder.d_sae,
        subject=subject.name,
        revision=subject.revision,
        dtype=subject.dtype,
        site=site,
        site_out=site_out,
        corpus=corpus.name,
        corpus_digest=corpus.digest,
        pool=pool.value,
        seed=seed,
        ctx=ctx,
        tokens=sums.n,
        left_out=dict(sums.left_out),
        fvu=fvu,
        cosine=sums.cosine / sums.n,
        norm_ratio=sums.length_out / max(sums.length, 1e-300),
        l0=float(sums.fired.sum()) / sums.n,
        l0_quantiles=_quantiles(sums.l0_counts),
        n_dead=dead,
        dead_share=dead / coder.d_sae,
        density_edges=edges,
        density_counts=counts,
        losses=losses,
        warnings=tuple(_warnings(coder, site, site_out, fvu, losses)),
    )


class _Sums:
    """Running sums in float64 over the tokens that count."""

    def __init__(self, coder: SparseCoder, site: str, site_out: str, sink_norm: float) -> None:
        self.coder, self.site, self.site_out, self.sink_norm = coder, site, site_out, sink_norm
        self.left_out = {"start": 0, "special": 0, "sink": 0}
        self.n = 0
        self.total = torch.zeros(coder.d_out, dtype=torch.float64)
        self.squares = self.unexplained = self.cosine = self.length = self.length_out = 0.0
        self.fired = torch.zeros(coder.d_sae, dtype=torch.long)
        self.l0_counts = torch.zeros(coder.d_sae + 1, dtype=torch.long)

    @property
    def mean(self) -> Tensor:
        """Of the activations that are reconstructed, shape (d_out,), float64."""
        return self.total / max(1, self.n)

    @property
    def variance(self) -> float:
        """Sum over tokens of the squared distance to the mean."""
        rest = self.squares - self.n * float(self.mean.square().sum())
        # What rounding leaves of activations that are all the same is no variance.
        return rest if rest > 1e-12 * self.squares else 0.0

    def add(
        self, subject: Subject, some: Sequence[Chunk], acts: Mapping[str, Tensor], most: int
    ) -> None:
        """Takes in a batch's activations, each (batch, ctx, width), up to `most` tokens in all."""
        keep, special = text_positions(subject, some, acts[self.site].shape[1])
        sinks = keep & _sinks(acts, self.sink_norm)
        self.left_out["start"] += len(some)
        self.left_out["special"] += special
        self.left_out["sink"] += int(sinks.sum())
        keep &= ~sinks
        step = max(1, _ENTRIES // self.coder.d_sae)
        given = acts[self.site][keep][: most - self.n].float()  # (rows, d_in)
        wanted = acts[self.site_out][keep][: most - self.n].float()  # (rows, d_out)
        if not bool(given.isfinite().all() and wanted.isfinite().all()):
            raise ConfigError(
                f"{subject.name} gives activations at {self.site} that are no finite numbers in "
                f"{subject.dtype}; try --dtype float32"
            )
        for start in range(0, len(given), step):
            self._add(given[start : start + step], wanted[start : start + step])

    def _add(self, given: Tensor, wanted: Tensor) -> None:
        latents = self.coder.encode(given)  # (rows, d_sae)
        made = _wide(self.coder.decode(latents, given))  # (rows, d_out)
        fires = latents != 0
        self.fired += fires.sum(0).cpu()
        self.l0_counts += torch.bincount(fires.sum(1), minlength=self.coder.d_sae + 1).cpu()
        wanted = _wide(wanted)
        self.n += len(given)
        self.total += wanted.sum(0).cpu()
        self.squares += float(wanted.square().sum())
        self.unexplained += float((wanted - made).square().sum())
        lengths, lengths_out = wanted.norm(dim=1), made.norm(dim=1)
        self.length += float(lengths.sum())
        self.length_out += float(lengths_out.sum())
        products = (wanted * made).sum(1)
        self.cosine += float((products / (lengths * lengths_out).clamp(min=1e-300)).sum())


def _sinks(acts: Mapping[str, Tensor], limit: float) -> Tensor:
    """Positions where any of the sites is beyond the limit, shape (batch, ctx)."""
    return torch.stack([part.float().norm(dim=-1) > limit for part in acts.values()]).any(0)


def _sink_norm(subject: Subject, corpus: Corpus, settings: ReadSettings) -> float:
    """Length above which a token is a sink: so many times that of the median token."""
    norms: list[Tensor] = []
    for some in batches_of(chosen_chunks(subject, corpus, settings), settings.batch):
        acts = subject.read([chunk.token_ids for chunk in some], settings.site)[settings.site]
        keep, _ = text_positions(subject, some, acts.shape[1])
        norms.append(acts[keep].float().norm(dim=1))
        if sum(map(len, norms)) >= _SINK_TOKENS:
            break
    return SINK_FACTOR * float(torch.cat(norms).median()) if norms else math.inf


def _site_out(subject: Subject, coder: SparseCoder, site: str) -> str:
    """What the coder reconstructs, after checking that it fits.

    Raises:
        ConfigError: if a width differs, or a transcoder does not say what it predicts.
    """
    width = subject.resolve(site).width
    if coder.d_in != width:
        raise ConfigError(
            f"coder {coder.name} reads vectors of {coder.d_in}, but {site} of {subject.name} has "
            f"{width}: it was made for another site or model"
        )
    if not coder.transcodes:
        return site
    if coder.site_out is None:
        raise ConfigError(
            f"the transcoder {coder.name} does not say which site it predicts, so it cannot be "
            "held against the model"
        )
    width = subject.resolve(coder.site_out).width
    if coder.d_out != width:
        raise ConfigError(
            f"coder {coder.name} writes vectors of {coder.d_out}, but {coder.site_out} of "
            f"{subject.name} has {width}"
        )
    return coder.site_out


def _losses(
    subject: Subject,
    coder: SparseCoder,
    sums: _Sums,
    stream: Iterator[Chunk],
    most: int,
    on_progress: Progress | None,
) -> Losses:
    """Losses of the model as it is, spliced and ablated, over the same predictions."""
    mean = sums.mean.to(subject.device, torch.float32)
    ways = ("clean", "spliced", "zero_ablated", "mean_ablated")
    total = dict.fromkeys(ways, 0.0)
    kl, n = 0.0, 0
    for some in batches_of(stream, _LOSS_BATCH):
        ids = [chunk.token_ids for chunk in some]
        keep, _ = text_positions(subject, some, max(map(len, ids)))
        with recording(subject, [sums.site, sums.site_out]) as kept:
            logits = {"clean": _logits(subject, ids)}
        acts = {name: kept[name][:, 1:] for name in (sums.site, sums.site_out)}
        keep &= ~_sinks(acts, sums.sink_norm)
        for way in ways[1:]:
            with _changed(subject, coder, sums, keep, way, mean):
                logits[way] = _logits(subject, ids)
        for row, text in enumerate(ids):
            # From position 1 on: what the start token predicts, no change can touch.
            span = slice(1, len(text))
            target = torch.tensor(text[1:], device=subject.device)
            log_p = {way: logits[way][row, span].float().log_softmax(-1) for way in ways}
            for way in ways:
                picked = log_p[way].gather(1, target[:, None])
                total[way] -= float(_wide(picked).sum())
            apart = log_p["clean"].exp() * (log_p["clean"] - log_p["spliced"])
            kl += float(_wide(apart.sum(-1)).sum())
            n += len(target)
        if on_progress:
            on_progress("splice", n, most)
        if n >= most:
            break
    if not n:
        raise CorpusError("no text has two tokens, so no loss can be measured")
    means = {way: total[way] / n for way in ways}

    def recovered(ablated: float) -> float | None:
        lost = ablated - means["clean"]
        return (ablated - means["spliced"]) / lost if lost > 0 else None

    return Losses(
        tokens=n,
        recovered_zero=recovered(means["zero_ablated"]),
        recovered_mean=recovered(means["mean_ablated"]),
        kl=kl / n,
        **means,
    )


def _logits(subject: Subject, ids: Sequence[Sequence[int]]) -> Tensor:
    """Predictions at each position, the start token's first, shape (batch, 1 + ctx, vocabulary)."""
    longest = max(map(len, ids))
    start = subject.start_token_id
    rows = [[start, *text, *[start] * (longest - len(text))] for text in ids]
    with torch.inference_mode():
        out = subject.model(input_ids=torch.tensor(rows).to(subject.device), use_cache=False)
    logits: Tensor = out.logits
    return logits


@contextmanager
def _changed(
    subject: Subject, coder: SparseCoder, sums: _Sums, keep: Tensor, way: str, mean: Tensor
) -> Iterator[None]:
    """Puts something else in the place of the activations where `keep`, shape (batch, ctx)."""
    watching: AbstractContextManager[Mapping[str, Tensor]] = nullcontext({})
    if coder.transcodes:
        watching = recording(subject, sums.site)
    with watching as seen:

        def edit(acts: Tensor) -> Tensor:
            changed = acts.clone()
            text = changed[:, 1:]  # (batch, ctx, width), a view
            if way == "spliced":
                given = (seen[sums.site] if coder.transcodes else acts)[:, 1:][keep].float()
                made = coder.decode(coder.encode(given), given)  # (rows, d_out)
                text[keep] = made.to(acts.dtype)
            else:
                text[keep] = (mean if way == "mean_ablated" else torch.zeros_like(mean)).to(
                    acts.dtype
                )
            return changed

        with intervening(subject, sums.site_out, edit):
            yield


def _wide(tensor: Tensor) -> Tensor:
    """`tensor` as float64, on the CPU where its device has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _quantiles(counts: Tensor) -> dict[str, int]:
    """The smallest L0 that at least a share q of the tokens do not exceed, by name of q."""
    below = counts.cumsum(0)  # (d_sae + 1,)
    return {f"{q:g}": int((below >= math.ceil(q * int(below[-1]))).nonzero()[0]) for q in QUANTILES}


def _densities(fired: Tensor, n: int) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Histogram of log10 densities of the latents that fired at all."""
    first = round(math.log10(SMALLEST_DENSITY) * DENSITY_BINS_A_DECADE)
    edges = [step / DENSITY_BINS_A_DECADE for step in range(first, 1)]
    logs = torch.log10(fired[fired > 0].double() / n).clamp(min=edges[0], max=0.0)
    bins = torch.tensor(edges[1:-1], dtype=torch.float64)
    counts = torch.bincount(torch.bucketize(logs, bins, right=True), minlength=len(edges) - 1)
    return tuple(edges), tuple(counts.tolist())


def _warnings(
    coder: SparseCoder, site: str, site_out: str, fvu: float | None, losses: Losses | None
) -> Iterator[str]:
    """What is wrong enough to say in words."""
    if fvu is None:
        yield f"the activations at {site_out} are the same at every token"
    elif fvu > 1:
        yield (
            f"its reconstruction is worse than the mean of the activations (FVU {fvu:.2f}): "
            f"{coder.name} was not made for {site} of this model, or reads another scale"
        )
    if coder.site is not None and coder.site != site:
        yield f"{coder.name} says it was made for {coder.site}, and was read at {site}"
    if losses is not None:
        lacking = [
            name
            for name, value in (("zero", losses.recovered_zero), ("mean", losses.recovered_mean))
            if value is None
        ]
        for name in lacking:
            yield f"{name} ablation does not raise the loss, so no share of it is recovered"
