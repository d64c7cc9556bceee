"""A sparse coder: what reads activations as many latents of which few fire, and writes them back.

The rules by which pre-activations become latents, with x the input and n the latent:

- `relu`: z = max(0, pre) (Bricken et al. 2023, "Towards Monosemanticity").
- `gated`: z = 1[pre > 0] max(0, exp(r_mag) (pre - b_enc) + b_mag), the encoder shared by gate and
  magnitude (Rajamanoharan et al. 2024a, arXiv:2404.16014).
- `topk`: the k largest pre-activations of each token, the rest 0 (Gao et al. 2024,
  arXiv:2406.04093).
- `jumprelu`: z = pre 1[pre > threshold] (Rajamanoharan et al. 2024b, arXiv:2407.14435). Coders
  trained with batch-top-k (Bussmann et al. 2024, arXiv:2412.06410), and Matryoshka coders built on
  it (Bussmann et al. 2025, arXiv:2503.17547), are read this way: one threshold learned in training
  stands for the batch, so that a token's latents do not depend on its neighbours.
- `abstopk`: the k of largest magnitude, signs kept.
- `groupmax`: latents in k groups, the largest of each group.

With pre = (x - b_dec) W_enc + b_enc, or without b_dec where the file says so. Decoding is
z W_dec + b_dec, for a skip transcoder + W_skip x (Dunefsky et al. 2024, arXiv:2406.11944; Paulo et
al. 2025, arXiv:2501.18823).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from glossator.errors import ConfigError

Activation = Literal["relu", "gated", "topk", "jumprelu", "abstopk", "groupmax"]
"""How pre-activations become latents."""

Normalisation = Literal["none", "layer_norm", "constant_norm_rescale"]
"""What is done to each token's vector first, and undone after decoding."""

Columns = Tensor | Sequence[int] | slice
"""Which latents: their numbers in any order, or a slice."""

_LN_EPS = 1e-5
_FOLD_BLOCK = 1 << 22
"""Entries of W_enc that are in float64 at once while the bias is folded."""


@dataclass(frozen=True, slots=True, eq=False)
class SparseCoder:
    """A sparse autoencoder or transcoder, ready to encode and decode.

    Raises:
        ValueError: if shapes do not fit together or the activation lacks what it needs.
    """

    name: str
    """What features call it: `default`, a folder's name, `RELEASE/ID`."""
    architecture: str
    """What it was trained as: `standard`, `gated`, `topk`, `batchtopk`, `jumprelu`, `matryoshka`,
    `transcoder`, ...; `activation` says how it computes."""
    activation: Activation
    W_enc: Tensor
    """Shape (d_in, d_sae)."""
    b_enc: Tensor
    """Shape (d_sae,); of a gated coder the gate's bias."""
    W_dec: Tensor
    """Shape (d_sae, d_out)."""
    b_dec: Tensor
    """Shape (d_out,)."""
    threshold: Tensor | None = None
    """Shape (d_sae,), for `jumprelu`; a latent never fires at or below 0, whatever it says."""
    k: int | None = None
    """For `topk`, `abstopk` and `groupmax`: latents that fire at each token."""
    r_mag: Tensor | None = None
    """Shape (d_sae,), for `gated`: logarithm of the magnitude's scale."""
    b_mag: Tensor | None = None
    """Shape (d_sae,), for `gated`."""
    W_skip: Tensor | None = None
    """Shape (d_out, d_in), of a skip transcoder."""
    apply_b_dec_to_input: bool = False
    """Whether `b_dec` is taken off the input."""
    normalisation: Normalisation = "none"
    transcodes: bool = False
    """Whether it predicts another site rather than its own input."""
    site: str | None = None
    """Where it was trained, in our names, such as `layers.14.resid_post`, if the file tells."""
    site_out: str | None = None
    """What a transcoder predicts, if the file tells."""
    digest: str = ""
    """First 16 hex digits of the SHA-256 of the weight file."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the file says besides."""
    _bias: Tensor = field(init=False, repr=False)
    """Shape (d_sae,): `b_enc` less b_dec W_enc, where that is taken off the input."""
    _floor: Tensor | float = field(init=False, repr=False, default=0.0)
    """Of `jumprelu`: max(0, threshold), one number where it is the same for all latents."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        self._check()
        with torch.no_grad():
            object.__setattr__(self, "_bias", self._folded_bias())
            if self.threshold is not None:
                fine = torch.promote_types(self.threshold.dtype, torch.float32)
                floor = self.threshold.to(fine).clamp(min=0)
                one = bool((floor == floor[0]).all())
                object.__setattr__(self, "_floor", float(floor[0]) if one else floor)

    @property
    def d_in(self) -> int:
        """Width of the site it reads."""
        return int(self.W_enc.shape[0])

    @property
    def d_sae(self) -> int:
        """How many latents it has."""
        return int(self.W_enc.shape[1])

    @property
    def d_out(self) -> int:
        """Width of what it writes."""
        return int(self.W_dec.shape[1])

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.W_enc.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its matrices; biases and thresholds are at least float32."""
        return self.W_enc.dtype

    @property
    def decode_needs_acts(self) -> bool:
        """Whether `decode` must be given the input: a skip connection, or a norm to put back."""
        return self.W_skip is not None or (self.normalisation != "none" and not self.transcodes)

    def encode(self, acts: Tensor, columns: Columns | None = None) -> Tensor:
        """Latents of `acts`, of all or of chosen columns: the same numbers, but for rounding.

        Args:
            acts: shape (..., d_in), any floating dtype, on the coder's device; not changed.
            columns: shape (n,), only these latents, in this order. It saves work except where a
                token's latents compete (`topk`, `abstopk`, `groupmax`).

        Returns:
            Shape (..., d_sae) or (..., n), float32 (float64 for a float64 coder).

        Raises:
            ConfigError: if the last axis of `acts` is not d_in.
        """
        if acts.shape[-1:] != (self.d_in,):
            raise ConfigError(
                f"coder {self.name} reads vectors of {self.d_in}"
                + (f" ({self.site})" if self.site else "")
                + f"; it was given shape {tuple(acts.shape)}"
            )
        flat = acts.reshape(-1, self.d_in)  # (n_tokens, d_in)
        competing = self.activation in {"topk", "abstopk", "groupmax"}
        chosen = None if competing else _index(columns, self.device)
        latents = self._activate(self._pre(self._normalised(flat), chosen), chosen)
        if competing and columns is not None:
            latents = latents[:, _index(columns, self.device)]
        return latents.view(*acts.shape[:-1], latents.shape[1])

    def decode(self, latents: Tensor, acts: Tensor | None = None) -> Tensor:
        """What the latents stand for.

        Args:
            latents: shape (..., d_sae).
            acts: shape (..., d_in), the input that was encoded; only used, and then needed, where
                `decode_needs_acts`.

        Returns:
            Shape (..., d_out), float32 (float64 for a float64 coder).

        Raises:
            ConfigError: if the last axis of `latents` is not d_sae, or `acts` is needed.
        """
        if latents.shape[-1:] != (self.d_sae,):
            raise ConfigError(
                f"coder {self.name} has {self.d_sae} latents; "
                f"it was given shape {tuple(latents.shape)}"
            )
        if self.decode_needs_acts and acts is None:
            raise ConfigError(f"coder {self.name} decodes with its input: give acts to decode")
        flat = latents.reshape(-1, self.d_sae)  # (n_tokens, d_sae)
        out = _affine(flat, self.W_dec, self.b_dec)  # (n_tokens, d_out)
        if acts is not None and self.decode_needs_acts:
            given = acts.reshape(-1, self.d_in)
            if self.normalisation != "none" and not self.transcodes:
                shift, scale, _ = self._moments(given.to(out.dtype))
                out = out.mul_(scale).add_(shift)
            if self.W_skip is not None:
                out = out.add_((given.to(self.dtype) @ self.W_skip.T).to(out.dtype))
        return out.view(*latents.shape[:-1], self.d_out)

    def scale(self, acts: Tensor) -> Tensor:
        """What decoding multiplies each token's latents with to put a norm back: 1 without one.

        Args:
            acts: shape (..., d_in), the input that was encoded.

        Returns:
            Shape (..., 1), float32 (float64 for a float64 coder).
        """
        acts = acts.to(torch.promote_types(self.dtype, torch.float32))
        if self.normalisation == "none" or self.transcodes:
            return torch.ones_like(acts[..., :1])
        return self._moments(acts)[1]

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> SparseCoder:
        """The same coder on `device`, its matrices in `dtype`; vectors stay at least float32."""
        matrices = {name: getattr(self, name) for name in ("W_enc", "W_dec", "W_skip")}
        vectors = {
            name: getattr(self, name) for name in ("b_enc", "b_dec", "threshold", "r_mag", "b_mag")
        }
        fine = torch.promote_types(dtype, torch.float32)
        moved = {
            name: tensor.to(device, kind)
            for tensors, kind in ((matrices, dtype), (vectors, fine))
            for name, tensor in tensors.items()
            if tensor is not None
        }
        same = all(
            tensor.device == getattr(self, name).device
            and tensor.dtype == getattr(self, name).dtype
            for name, tensor in moved.items()
        )
        return self if same else replace(self, **moved)

    def _normalised(self, acts: Tensor) -> Tensor:
        """`acts`, shape (n_tokens, d_in), as the encoder takes it; the same object if it can be."""
        if self.normalisation == "none":
            return acts
        acts = acts.to(torch.promote_types(self.dtype, torch.float32))
        shift, _, divisor = self._moments(acts)
        return (acts - shift) / divisor

    def _moments(self, acts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each token's shift, the scale to put back, and the divisor; each (n_tokens, 1)."""
        if self.normalisation == "layer_norm":
            std, mean = torch.std_mean(acts, dim=-1, keepdim=True)
            return mean, std, std + _LN_EPS
        scale = acts.norm(dim=-1, keepdim=True) / self.d_in**0.5
        return torch.zeros_like(scale), scale, scale

    def _pre(self, acts: Tensor, columns: Tensor | slice | None) -> Tensor:
        """Pre-activations, shape (n_tokens, d_sae) or (n_tokens, n), in memory of their own."""
        weight = self.W_enc if columns is None else self.W_enc[:, columns]
        if not _is_fine(self.dtype) and self.apply_b_dec_to_input:
            # Halves lose the bias if it is added to a product rounded to eight bits.
            return _affine(acts.float() - self.b_dec, weight, _pick(self.b_enc, columns))
        return _affine(acts, weight, _pick(self._bias, columns))

    def _activate(self, pre: Tensor, columns: Tensor | slice | None) -> Tensor:
        """Latents of pre-activations, which it may write over."""
        if self.activation == "relu":
            return pre.relu_()
        if self.activation == "jumprelu":
            if isinstance(self._floor, float):
                return torch.threshold_(pre, self._floor, 0.0)
            return pre.masked_fill_(pre <= _pick(self._floor, columns), 0.0)
        if self.activation == "gated":
            assert self.r_mag is not None
            assert self.b_mag is not None
            scale = _pick(self.r_mag, columns).exp()
            # exp(r) (pre - b_enc) + b_mag = exp(r) pre + (b_mag - exp(r) b_enc)
            offset = _pick(self.b_mag, columns) - scale * _pick(self.b_enc, columns)
            closed = pre <= 0
            # closed first: what relu gives is not written over, so that gradients go through
            return pre.mul_(scale).add_(offset).masked_fill_(closed, 0.0).relu_()
        assert self.k is not None
        if self.activation == "groupmax":
            groups = pre.view(len(pre), self.k, self.d_sae // self.k)  # (n_tokens, k, d_sae / k)
            values, index = groups.max(dim=-1, keepdim=True)
            groups.zero_().scatter_(-1, index, values.relu_())
            return pre
        if self.activation == "topk":
            values, index = pre.topk(self.k, dim=-1, sorted=False)
            return pre.zero_().scatter_(-1, index, values.relu_())
        index = pre.abs().topk(self.k, dim=-1, sorted=False).indices
        return torch.zeros_like(pre).scatter_(-1, index, pre.gather(-1, index))

    def _folded_bias(self) -> Tensor:
        """`b_enc`, less b_dec W_enc summed in float64 where that is taken off the input."""
        if not self.apply_b_dec_to_input:
            return self.b_enc
        wide = torch.float32 if self.device.type == "mps" else torch.float64
        total = self.b_enc.to(wide, copy=True)
        step = max(1, _FOLD_BLOCK // self.d_sae)
        for start in range(0, self.d_in, step):
            rows = slice(start, start + step)
            total -= self.b_dec[rows].to(wide) @ self.W_enc[rows].to(wide)
        return total.to(self.b_enc.dtype)

    def _check(self) -> None:
        """Refuses parts that do not fit together."""
        if self.activation not in get_args(Activation):
            raise ValueError(
                f"no activation is called {self.activation!r}; "
                f"there are: {', '.join(get_args(Activation))}"
            )
        if self.W_enc.dim() != 2 or self.W_dec.dim() != 2 or 0 in self.W_enc.shape:
            raise ValueError(
                "W_enc and W_dec are matrices, (d_in, d_sae) and (d_sae, d_out); they have shapes "
                f"{tuple(self.W_enc.shape)} and {tuple(self.W_dec.shape)}"
            )
        wanted = {
            "b_enc": (self.d_sae,),
            "W_dec": (self.d_sae, self.d_out),
            "b_dec": (self.d_out,),
            "threshold": (self.d_sae,),
            "r_mag": (self.d_sae,),
            "b_mag": (self.d_sae,),
            "W_skip": (self.d_out, self.d_in),
        }
        for name, shape in wanted.items():
            tensor: Tensor | None = getattr(self, name)
            if tensor is not None and tensor.shape != shape:
                raise ValueError(
                    f"{name} has shape {tuple(tensor.shape)}, but W_enc {tuple(self.W_enc.shape)} "
                    f"and W_dec {tuple(self.W_dec.shape)} ask for {shape}"
                )
        if not self.transcodes and self.d_out != self.d_in:
            raise ValueError(
                f"an autoencoder writes what it reads, but d_in is {self.d_in} and d_out "
                f"{self.d_out}: only a transcoder may differ"
            )
        if self.apply_b_dec_to_input and self.d_out != self.d_in:
            raise ValueError(
                f"b_dec of length {self.d_out} cannot be taken off inputs of length {self.d_in}"
            )
        for activation, needs in _NEEDS.items():
            lacking = [name for name in needs if getattr(self, name) is None]
            if activation == self.activation and lacking:
                raise ValueError(f"a {activation} coder needs {' and '.join(lacking)}")
        if self.k is not None and not 1 <= self.k <= self.d_sae:
            raise ValueError(f"k is {self.k}, but there are {self.d_sae} latents")
        if self.activation == "groupmax" and self.k is not None and self.d_sae % self.k:
            raise ValueError(f"{self.d_sae} latents cannot be cut into {self.k} equal groups")


_NEEDS: Mapping[Activation, tuple[str, ...]] = MappingProxyType(
    {
        "gated": ("r_mag", "b_mag"),
        "jumprelu": ("threshold",),
        "topk": ("k",),
        "abstopk": ("k",),
        "groupmax": ("k",),
    }
)


def _is_fine(dtype: torch.dtype) -> bool:
    return dtype in (torch.float32, torch.float64)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Gives x W + b, in memory of its own, the bias added in float32 where weights are halves."""
    if _is_fine(weight.dtype):
        return torch.addmm(bias, x.to(weight.dtype), weight)
    return (x.to(weight.dtype) @ weight).float().add_(bias)


def _index(columns: Columns | None, device: torch.device) -> Tensor | slice | None:
    if columns is None or isinstance(columns, slice):
        return columns
    return torch.as_tensor(columns, dtype=torch.long, device=device)


def _pick(vector: Tensor, columns: Tensor | slice | None) -> Tensor:
    return vector if columns is None else vector[columns]
