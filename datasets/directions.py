"""Directions: named unit vectors at a site, as features of one's own; stored or learned.

The feature `MODEL//SITE@direction:NAME/0` is the projection of the site's activations on the vector
NAME. It is dense and signed, so both tails mean something.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glossator.errors import AssetError, ConfigError, StoreError
from glossator.registry import nearest
from glossator.subject import Subject
from glossator.types import JSON, FeatureId

Method = Literal["difference", "logistic", "pca"]
"""How a direction is learned; see `learn_direction`."""
At = Literal["last", "mean", "max"]
"""How a text's tokens become one vector: its last token, their mean, or the largest value of each
coordinate."""

PREFIX = "direction:"
"""Before a direction's name where a feature id names its coder."""
FOLDER = "directions"
"""Where directions are kept unless another folder is named."""
AT_CHANCE = 0.05
"""A direction whose held-out AUC is no rarer than this under shuffled labels is warned about."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_KEY = "direction"
_METADATA = "glossator"
_LARGEST_FILE = 16 << 20
_PENALTY = 1.0
_SOURCES: Mapping[Method, str] = MappingProxyType(
    {
        "difference": "difference of means (Marks and Tegmark 2023; Rimsky et al. 2023)",
        "logistic": f"logistic regression, standardised, L2 penalty |w|^2 / (2 * {_PENALTY:g})",
        "pca": "first principal component (Zou et al. 2023)",
    }
)

_Vectors: TypeAlias = npt.NDArray[np.float64]
_Flags: TypeAlias = npt.NDArray[np.bool_]
_Whole: TypeAlias = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """A named direction at a site.

    Raises:
        ConfigError: for a name that is none, or a vector that is empty, zero, NaN or infinite.
    """

    name: str
    """Letters, digits, `.`, `_` and `-`, at most 64, the first a letter or digit."""
    site: str
    """Where it is read, such as `layers.7.resid_post`."""
    vector: Tensor
    """Shape (d,), float32, on the CPU, of length 1: whatever is given is brought to that."""
    how: Mapping[str, JSON] = field(default_factory=dict)
    """How it came about: method, texts, held-out estimate; for people and provenance."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.site or "/" in self.site or "@" in self.site:
            raise ConfigError(f"a site is not empty and holds no '/' and no '@': {self.site!r}")
        given = self.vector.detach().to("cpu", torch.float64)
        if given.dim() != 1 or not len(given):
            raise ConfigError(
                f"the direction {self.name} is one vector, shape (d,), not {tuple(given.shape)}"
            )
        if not bool(given.isfinite().all()):
            raise ConfigError(f"the direction {self.name} holds NaN or an infinite number")
        largest = given.abs().max()
        if not largest:
            raise ConfigError(f"the direction {self.name} is all zero, so it points nowhere")
        scaled = given / largest  # or the squares of very small or large numbers would be lost
        object.__setattr__(self, "vector", (scaled / scaled.norm()).float())
        object.__setattr__(self, "how", MappingProxyType(dict(self.how)))

    def feature(self, model: str) -> FeatureId:
        """The feature that it is in the subject called `model`."""
        return FeatureId(model, self.site, 0, PREFIX + self.name)


@dataclass(frozen=True, slots=True, eq=False)
class Projector:
    """A direction behind the interface of a coder: one latent, dense and signed."""

    direction: Direction

    @property
    def name(self) -> str:
        """What features call it, `direction:NAME`."""
        return PREFIX + self.direction.name

    @property
    def site(self) -> str:
        """Where it is read."""
        return self.direction.site

    @property
    def d_in(self) -> int:
        """Width of the site it reads."""
        return len(self.direction.vector)

    @property
    def d_sae(self) -> int:
        """How many features it has: one."""
        return 1

    @property
    def W_dec(self) -> Tensor:  # noqa: N802
        """Shape (1, d_in): what more of the feature adds at the site."""
        return self.direction.vector[None]

    def encode(self, acts: Tensor, columns: Tensor | Sequence[int] | slice | None = None) -> Tensor:
        """The projections of `acts`, on any device.

        Args:
            acts: shape (..., d_in), any floating dtype; not changed.
            columns: shape (n,), which features, all of them 0; None means the one there is.

        Returns:
            Shape (..., 1) or (..., n), float32, on the device of `acts`.

        Raises:
            ConfigError: if the last axis of `acts` is not d_in.
        """
        if acts.shape[-1:] != (self.d_in,):
            raise ConfigError(
                f"the direction {self.direction.name} is {self.d_in} wide ({self.site}); it was "
                f"given activations of width {acts.shape[-1] if acts.dim() else 0}"
            )
        vector = self.direction.vector.to(acts.device)
        latents = (acts.float() @ vector)[..., None]  # (..., 1)
        return latents if columns is None else latents[..., columns]


def projector(direction: Direction) -> Projector:
    """`direction` as what the collector takes for a coder."""
    return Projector(direction)


def check_name(name: str) -> None:
    """Refuses names that are no plain file names.

    Raises:
        ConfigError: says what a name may be.
    """
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise ConfigError(
            f"a direction is called by letters, digits, '.', '_' and '-', at most 64 and the first "
            f"a letter or digit, not {name!r:.80}"
        )


def direction_names(folder: str | Path = FOLDER) -> list[str]:
    """The names of the directions kept in `folder`, sorted; none if it is not there."""
    found = Path(folder).expanduser().glob("*.safetensors")
    return sorted(file.stem for file in found if _NAME.fullmatch(file.stem))


def save_direction(
    direction: Direction, folder: str | Path = FOLDER, *, replace: bool = False
) -> Path:
    """Writes `NAME.safetensors` to `folder`, whole or not at all; gives its path.

    Args:
        direction: what to keep.
        folder: made if it is not there.
        replace: write over one of that name.

    Raises:
        ConfigError: if there is one of that name and it is not to be replaced.
        StoreError: if it cannot be written.
    """
    from safetensors.torch import save

    path = Path(folder).expanduser() / f"{direction.name}.safetensors"
    metadata = {"name": direction.name, "site": direction.site, "how": dict(direction.how)}
    content = save({_KEY: direction.vector}, {_METADATA: json.dumps(metadata, allow_nan=False)})
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not replace:
            raise ConfigError(
                f"there is a direction {direction.name} in {folder}; choose another name, or "
                "replace it"
            )
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def load_direction(
    name: str, folder: str | Path = FOLDER, *, site: str | None = None, width: int | None = None
) -> Direction:
    """The direction called `name` in `folder`. Nothing is ever unpickled.

    Args:
        name: as it was saved, without `.safetensors`.
        folder: where.
        site: where it is going to be read, to be checked; None takes any.
        width: of that site, to be checked; None takes any.

    Raises:
        ConfigError: if there is none of that name, or it is of another site or width.
        AssetError: if the file is no direction.
    """
    from safetensors import SafetensorError, safe_open

    check_name(name)
    path = Path(folder).expanduser() / f"{name}.safetensors"
    if not path.is_file():
        known = direction_names(folder)
        said = nearest(name, known) if known else "there is none; `glossator direction learn`"
        raise ConfigError(f"no direction is called {name!r} in {folder}; {said}")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise AssetError(f"{path} is far too large to be a direction")
        with safe_open(path, framework="pt") as file:
            data = json.loads((file.metadata() or {}).get(_METADATA, ""))
            found = Direction(name, data["site"], file.get_tensor(_KEY), data.get("how", {}))
    except (SafetensorError, OSError) as error:
        raise AssetError(
            f"{path} is no safetensors file ({error}); directions are read from nothing else"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetError(
            f"{path} is no direction; one is saved by `glossator direction learn` or "
            f"save_direction ({error!r})"
        ) from error
    if site is not None and found.site != site:
        raise ConfigError(f"the direction {name} is one of {found.site}, not of {site}")
    if width is not None and len(found.vector) != width:
        raise ConfigError(
            f"the direction {name} is {len(found.vector)} wide, but {found.site} of this subject "
            f"is {width} wide; it was made for another subject"
        )
    return found


def learn_direction(
    subject: Subject,
    site: str,
    positive: Sequence[str],
    negative: Sequence[str],
    method: Method = "difference",
    *,
    name: str,
    at: At = "mean",
    paired: bool = False,
    ctx: int = 512,
    batch: int = 32,
    n_null: int = 39,
    seed: int = 0,
) -> Direction:
    """The direction at `site` that tells `positive` texts from `negative` ones.

    Each text becomes one vector, and from those:

    - `difference`: mean of the positive ones less mean of the negative ones (Marks and Tegmark
      2023, arXiv:2310.06824; Rimsky et al. 2023, arXiv:2312.06681).
    - `logistic`: the weights of a logistic regression on coordinates whose variance within each
      kind is 1, both kinds counting equally, taken back to raw units. Its penalty is |w|^2 / 2
      beside the summed loss.
    - `pca`: the first principal component (Zou et al. 2023, arXiv:2310.01405): of the differences
      within pairs, about 0; or without pairs of all texts, about the midpoint of the two means.

    Positive texts project higher. `how` says how well held-out texts are told apart: `auc` is the
    share of (positive, negative) pairs in the right order, each pair inside one of up to five folds
    whose texts were not learned from; `auc_null` is its mean under shuffled labels, and `auc_p` how
    often these reach it. What is at chance by that is warned about, and `how["warning"]` says so.

    Args:
        subject: the model.
        site: such as `layers.7.resid_post`.
        positive: texts.
        negative: texts, none of them positive.
        method: as above.
        name: what it shall be called.
        at: which tokens stand for a text. Special tokens are left out.
        paired: text i of one set belongs to text i of the other: they are held out together.
        ctx: tokens of a text that are read; the last ones if `at` is `last`, else the first.
        batch: texts read at once.
        n_null: how often labels are shuffled.
        seed: of folds and shuffles.

    Raises:
        ConfigError: for an unknown site or method, an empty set or text, a text in both sets, pairs
            that do not match, or activations that are all the same or not finite.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    check_name(name)
    _check_choices(method, at, ctx, batch, n_null)
    texts, is_positive, n_repeated = _labelled(positive, negative, paired)
    vectors, n_cut = _vectors(subject, site, texts, at, ctx, batch)  # (n_texts, d)
    group = np.tile(np.arange(len(texts) // 2), 2) if paired else np.arange(len(texts))
    with threadpool_limits(1):  # matrices this small are slower on several threads
        vector = _learned(vectors, is_positive, method, group, paired)
        estimate = _held_out(vectors, is_positive, method, group, paired, n_null, seed)
    if not vector.any():
        raise ConfigError(f"the texts do not differ at {site}, so there is no direction to learn")
    projected = vectors @ vector
    how: dict[str, JSON] = {
        "method": method,
        "source": _SOURCES[method],
        "at": at,
        "paired": paired,
        "n_positive": int(is_positive.sum()),
        "n_negative": int((~is_positive).sum()),
        "n_repeated": n_repeated,
        "n_cut": n_cut,
        "ctx": ctx,
        "positive_sha256": _digest(positive),
        "negative_sha256": _digest(negative),
        "mean_positive": float(projected[is_positive].mean()),
        "mean_negative": float(projected[~is_positive].mean()),
        "subject": subject.name,
        "revision": subject.revision,
        "dtype": subject.dtype,
        "seed": seed,
        **estimate,
    }
    if warning := _warning(how):
        how["warning"] = warning
        warnings.warn(f"the direction {name}: {warning}", stacklevel=2)
    return Direction(name, site, torch.from_numpy(vector), how)


def _check_choices(method: str, at: str, ctx: int, batch: int, n_null: int) -> None:
    for what, chosen, known in (("method", method, Method), ("place", at, At)):
        if chosen not in get_args(known):
            raise ConfigError(
                f"no {what} to learn a direction is called {chosen!r}; "
                f"{nearest(chosen, list(get_args(known)))}"
            )
    if ctx < 1 or batch < 1 or n_null < 1:
        raise ConfigError(f"ctx, batch and n_null are at least 1, not {ctx}, {batch} and {n_null}")


def _labelled(
    positive: Sequence[str], negative: Sequence[str], paired: bool
) -> tuple[list[str], _Flags, int]:
    """The texts, positive ones first, none twice in a set; which are positive; how many were."""
    for kind, texts in (("positive", positive), ("negative", negative)):
        if isinstance(texts, str):
            raise ConfigError(f"the {kind} texts are a list of texts, not one text")
        if not texts:
            raise ConfigError(f"there is no {kind} text to learn from")
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"{kind} text {number} is empty, or no text")
    if paired:
        if len(positive) != len(negative):
            raise ConfigError(
                f"{len(positive)} positive and {len(negative)} negative texts are no pairs"
            )
        pairs = list(dict.fromkeys(zip(positive, negative, strict=True)))
        kept = [[p for p, _ in pairs], [n for _, n in pairs]]
    else:
        kept = [list(dict.fromkeys(positive)), list(dict.fromkeys(negative))]
    if both := set(kept[0]) & set(kept[1]):
        raise ConfigError(f"a text is both positive and negative: {min(both)!r:.80}")
    texts = kept[0] + kept[1]
    is_positive = np.arange(len(texts)) < len(kept[0])
    return texts, is_positive, len(positive) + len(negative) - len(texts)


def _vectors(
    subject: Subject, site: str, texts: Sequence[str], at: str, ctx: int, batch: int
) -> tuple[_Vectors, int]:
    """One vector a text, shape (n_texts, d), read in float32; how many texts were cut."""
    subject.resolve(site)  # a star, which reading would take, is no one site
    tokenized = subject.tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    longest = getattr(subject.model.config, "max_position_embeddings", None)
    limit = min(ctx, longest - 1) if longest else ctx
    ids = [text[-limit:] if at == "last" else text[:limit] for text in tokenized]
    for text, tokens in zip(texts, ids, strict=True):
        if subject.left_out_ids.issuperset(tokens):
            raise ConfigError(f"a text has no token that can be read: {text!r:.80}")
    by_length = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors: _Vectors | None = None
    for first in range(0, len(ids), batch):
        chosen = by_length[first : first + batch]
        acts = subject.read([ids[i] for i in chosen], site)[site]  # (batch, ctx, d)
        if vectors is None:
            vectors = np.empty((len(ids), acts.shape[2]))
        for row, i in enumerate(chosen):
            read = [k for k, token in enumerate(ids[i]) if token not in subject.left_out_ids]
            vectors[i] = _pooled(acts[row, read].float(), at).cpu().numpy()
    if vectors is None or not np.isfinite(vectors).all():
        raise ConfigError(f"activations at {site} are NaN or infinite; try --dtype float32")
    cut = sum(len(text) > limit for text in tokenized)
    return vectors, cut


def _pooled(acts: Tensor, at: str) -> Tensor:
    """One vector, shape (d,), for a text's tokens, shape (n_tokens, d)."""
    if at == "last":
        return acts[-1]
    return acts.mean(dim=0) if at == "mean" else acts.amax(dim=0)


def _learned(
    vectors: _Vectors, is_positive: _Flags, method: Method, group: _Whole, paired: bool
) -> _Vectors:
    """The unit vector, shape (d,), along which positive texts have the larger mean, or zeros."""
    apart = vectors[is_positive].mean(axis=0) - vectors[~is_positive].mean(axis=0)  # (d,)
    if method == "difference":
        found = apart
    elif method == "logistic":
        found = _regressed(vectors, is_positive)
    elif paired:
        ordered = [vectors[kind][np.argsort(group[kind])] for kind in (is_positive, ~is_positive)]
        found = _first_component(ordered[0] - ordered[1])
    else:
        middle = (vectors[is_positive].mean(axis=0) + vectors[~is_positive].mean(axis=0)) / 2
        found = _first_component(vectors - middle)
    length = float(np.linalg.norm(found))
    if not length:
        return np.zeros_like(apart)
    unit: _Vectors = found / length
    return -unit if float(unit @ apart) < 0 else unit


def _regressed(vectors: _Vectors, is_positive: _Flags) -> _Vectors:
    """Weights in raw units of a logistic regression on standardised coordinates."""
    from sklearn.linear_model import LogisticRegression

    inside = vectors.copy()
    for kind in (is_positive, ~is_positive):
        inside[kind] -= vectors[kind].mean(axis=0)
    # not the spread of all texts: where the kinds are far apart, that is their distance, and a
    # coordinate would count the less the better it tells them apart
    spread = inside.std(axis=0)  # (d,)
    spread[spread == 0] = 1.0
    model = LogisticRegression(C=_PENALTY, class_weight="balanced", max_iter=10_000)
    model.fit((vectors - vectors.mean(axis=0)) / spread, is_positive)
    weights: _Vectors = model.coef_[0] / spread
    return weights


def _first_component(rows: _Vectors) -> _Vectors:
    """The direction of the largest mean square of `rows`, shape (n, d), about 0: shape (d,)."""
    from scipy.linalg import eigh

    wide = rows.shape[0] < rows.shape[1]
    moments = rows @ rows.T if wide else rows.T @ rows  # the smaller of both
    last = len(moments) - 1
    _, found = eigh(moments, subset_by_index=[last, last])  # (min(n, d), 1)
    component: _Vectors = rows.T @ found[:, 0] if wide else found[:, 0]
    return component


def _held_out(
    vectors: _Vectors,
    is_positive: _Flags,
    method: Method,
    group: _Whole,
    paired: bool,
    n_null: int,
    seed: int,
) -> dict[str, JSON]:
    """The AUC of held-out texts and what it is under shuffled labels; None with too few texts."""
    rng = np.random.default_rng(seed)
    n_folds = min(5, int(is_positive.sum()), int((~is_positive).sum()))
    if n_folds < 2:
        return {"auc": None, "auc_null": None, "auc_p": None, "n_folds": 0}

    def auc(labels: _Flags) -> float:
        fold = _folds(labels, group, paired, n_folds, rng)
        right = pairs = 0.0
        for k in range(n_folds):
            inside = fold == k
            vector = _learned(vectors[~inside], labels[~inside], method, group[~inside], paired)
            projected, kinds = vectors[inside] @ vector, labels[inside]
            gaps = projected[kinds][:, None] - projected[~kinds]  # (n_positive, n_negative)
            right += float((gaps > 0).sum() + (gaps == 0).sum() / 2)
            pairs += gaps.size
        return right / pairs

    found = auc(is_positive)
    null = [auc(_shuffled(is_positive, paired, rng)) for _ in range(n_null)]
    reached = sum(value >= found for value in null)
    return {
        "auc": found,
        "auc_null": float(np.mean(null)),
        "auc_p": (1 + reached) / (1 + n_null),
        "n_null": n_null,
        "n_folds": n_folds,
    }


def _folds(
    labels: _Flags, group: _Whole, paired: bool, n_folds: int, rng: np.random.Generator
) -> _Whole:
    """Which fold holds each text out: both kinds spread evenly, pairs together."""
    fold = np.empty(len(labels), dtype=np.intp)
    if paired:
        of_pair: _Whole = rng.permutation(len(labels) // 2) % n_folds
        return of_pair[group]
    for kind in (labels, ~labels):
        fold[kind] = rng.permutation(int(kind.sum())) % n_folds
    return fold


def _shuffled(labels: _Flags, paired: bool, rng: np.random.Generator) -> _Flags:
    """Labels dealt anew; within pairs, if there are."""
    if not paired:
        return rng.permutation(labels)
    first = rng.random(len(labels) // 2) < 0.5
    return np.concatenate([first, ~first])


def _warning(how: Mapping[str, JSON]) -> str:
    """What to know before trusting the direction, or nothing."""
    auc, null, p = how["auc"], how["auc_null"], how["auc_p"]
    if not isinstance(auc, float):
        return "too few texts to hold any out, so nobody knows whether it tells others apart"
    if isinstance(p, float) and p > AT_CHANCE:
        return (
            f"at chance on held-out texts: AUC {auc:.2f}, and {null:.2f} with shuffled labels "
            f"(p {p:.2f}); give more texts, or another site or method"
        )
    return ""


def _digest(texts: Sequence[str]) -> str:
    """First 16 hex digits of the SHA-256 over the texts, in order."""
    joined = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(joined).hexdigest()[:16]
