"""One step of training a sparse coder: the losses, their gradients written out, and Adam.

The gradients are written by hand because few of each token's thousands of latents fire: only those
are decoded and differentiated, as weighted sums of rows, which costs a tenth of products of
matrices that are nearly all zeros. Inside, inputs are scaled to a mean length of sqrt(d_in);
`Trainer.coder` gives the coder in the site's own units.

Sources: batch-top-k (Bussmann et al. 2024, arXiv:2412.06410), the auxiliary loss for dead latents
(Gao et al. 2024, arXiv:2406.04093), JumpReLU and its straight-through gradients with a target for
L0 (Rajamanoharan et al. 2024, arXiv:2407.14435), unit-norm decoder rows (Bricken et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from glossator.device import pick_dtype
from glossator.errors import ConfigError
from glossator.sae.coder import SparseCoder

Architecture = Literal["batchtopk", "jumprelu"]

_AVERAGED_STEPS = 100
"""Steps over which the threshold for inference is averaged, about."""
_WEISZFELD_STEPS = 20
_THRESHOLD_RATE = 10.0
"""JumpReLU: thresholds learn so many times faster than weights, or they lag behind them."""
_CLOSEST = 0.9
"""Share of the last threshold above which the next one is looked for first."""


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """The latents of a batch that matter to a step, in the order of the tokens."""

    tokens: Tensor
    """Shape (n,): which token."""
    latents: Tensor
    """Shape (n,): which latent."""
    pre: Tensor
    """Shape (n,), float32: its pre-activation."""
    fires: Tensor
    """Shape (n,): whether it is kept; the others only pull at thresholds."""
    smallest: float
    """The smallest activation kept."""

    def at(self, chosen: Tensor) -> _Entries:
        """Only the `chosen` ones, by mask or by number."""
        return replace(
            self,
            tokens=self.tokens[chosen],
            latents=self.latents[chosen],
            pre=self.pre[chosen],
            fires=self.fires[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSettings:
    """What is trained, and how each step goes."""

    latents: int = 4608
    k: int = 32
    """Latents that fire at a token, on average."""
    architecture: Architecture = "batchtopk"
    lr: float = 1e-3
    """Of Adam, at its highest."""
    warm_up: float = 0.05
    """Share of all steps over which the learning rate rises; it then falls to 0 in a line."""
    dead_after: int = 250_000
    """Tokens after which a latent that has not fired counts as dead and gets the auxiliary loss."""
    aux_weight: float = 1 / 32
    """Of the auxiliary loss."""
    l0_weight: float = 1.0
    """JumpReLU: of (L0 / k - 1)^2, beside a loss that is 1 for the mean."""
    bandwidth: float = 0.1
    """JumpReLU: width of the kernel around a threshold, as a share of the first threshold."""
    matmul: str = "auto"
    """Number format of the matrix products: `float32`, `bfloat16`, or `auto` for the latter where
    the machine is fast in it. Weights, gradients and sums are float32."""

    def __post_init__(self) -> None:
        if self.latents < 1 or not 1 <= self.k <= self.latents:
            raise ConfigError(
                f"k is from 1 to the number of latents, not {self.k} of {self.latents}"
            )
        if self.architecture not in ("batchtopk", "jumprelu"):
            raise ConfigError(
                f"no architecture is called {self.architecture!r} for training; "
                "there are: batchtopk, jumprelu"
            )
        if not self.lr > 0:
            raise ConfigError(f"the learning rate is above 0, not {self.lr}")


class Trainer:
    """Weights in training and all that the next step depends on."""

    def __init__(
        self, sample: Tensor, settings: StepSettings, n_steps: int, seed: int, device: str = "cpu"
    ) -> None:
        """A trainer at step 0.

        Args:
            sample: shape (n, d_in), float32; scale, centre and variance are measured on it.
            settings: what is trained.
            n_steps: steps there will be, for the learning rate.
            seed: of the first directions.
            device: where to compute.

        Raises:
            ConfigError: if the sample has values that are not finite, or does not vary.
        """
        if not bool(sample.isfinite().all()):
            raise ConfigError("the activations have values that are not finite")
        self.settings, self.n_steps, self.device = settings, n_steps, device
        self._matmul = pick_dtype(settings.matmul, device)
        d_in = sample.shape[1]
        self.scale = math.sqrt(d_in) / max(float(sample.norm(dim=1).mean()), 1e-30)
        scaled = sample.to(device) * self.scale
        centre = _geometric_median(scaled)
        self.variance = float((scaled - scaled.mean(0)).square().sum(1).mean())
        if not self.variance > 0:
            raise ConfigError("the activations are the same at every token: nothing to train on")
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(settings.latents, d_in, generator=generator).to(device)
        rows /= rows.norm(dim=1, keepdim=True)
        self.weights: dict[str, Tensor] = {
            "W_enc": rows.clone(),  # (d_sae, d_in): a row for each latent, as of the decoder
            "b_enc": torch.zeros(settings.latents, device=device),
            "W_dec": rows,  # (d_sae, d_in)
            "b_dec": centre,
        }
        self.averages = torch.zeros(3, dtype=torch.float64)
        """Over the last steps: smallest activation kept, FVU, L0; see `average`."""
        self.unfired = torch.zeros(settings.latents, dtype=torch.long, device=device)
        """Tokens since each latent fired."""
        self.step_number = 0
        self._last_threshold = 0.0
        if settings.architecture == "jumprelu":
            first = self._largest(self._pre(scaled[: 1 << 12])[0]).smallest
            self.width = settings.bandwidth * first
            self.weights["log_threshold"] = torch.full_like(self.weights["b_enc"], math.log(first))
        self._adam = torch.optim.Adam(
            [{"params": [weight], "name": name} for name, weight in self.weights.items()],
            fused=device.startswith(("cpu", "cuda")),
        )
        for weight in self.weights.values():
            self._adam.state[weight] = {
                "step": torch.zeros((), device=device),
                "exp_avg": torch.zeros_like(weight),
                "exp_avg_sq": torch.zeros_like(weight),
            }

    def step(self, acts: Tensor) -> tuple[float, float]:
        """Learns from one batch, shape (batch, d_in), float32.

        Returns:
            The batch's fraction of variance unexplained and its mean L0.

        Raises:
            ConfigError: if the loss is no finite number.
        """
        x = acts.to(self.device) * self.scale
        batch = len(x)
        rows = self.weights["W_dec"]
        pre, centred = self._pre(x)  # (batch, d_sae), (batch, d_in)
        entries = self._above(pre) if self._is_jumprelu else self._largest(pre)
        z = (entries.pre * entries.fires).requires_grad_()  # (n,)
        made = _sums_of_rows(entries.tokens, entries.latents, z, rows, batch)  # (batch, d_in)
        error = made.detach() + self.weights["b_dec"] - x
        unexplained = float(error.square().sum()) / (batch * self.variance)
        if not math.isfinite(unexplained):
            raise ConfigError(
                f"training failed at step {self.step_number}: the loss is {unexplained}; "
                "try a lower --lr"
            )
        l0 = int(entries.fires.sum()) / batch

        to_x = error * (2 / (batch * self.variance))  # gradient of the loss by the reconstruction
        (to_z,) = torch.autograd.grad(made, z, to_x)  # (n,)
        gradients = {}
        if self._is_jumprelu:
            gradients["log_threshold"] = self._to_log_threshold(entries, to_z, l0, batch)
        to_pre = to_z * entries.fires
        order = entries.latents.argsort(stable=True)
        by_latent, tokens = entries.latents[order], entries.tokens[order]

        def gathered(weights: Tensor, source: Tensor) -> Tensor:
            """For each latent the weighted sum of its tokens' rows, shape (d_sae, width)."""
            return _sums_of_rows(by_latent, tokens, weights[order], source, len(rows))

        gradients["W_dec"] = gathered(z.detach(), to_x)
        gradients["W_enc"] = gathered(to_pre, centred)
        gradients["b_enc"] = gathered(to_pre, centred.new_ones(batch, 1))[:, 0]
        self._revive(pre, centred, error, gradients)
        to_input = gradients["b_enc"] @ self.weights["W_enc"]
        gradients["b_dec"] = to_x.sum(0) - to_input
        # A step along a row would only be undone by the normalisation below.
        gradients["W_dec"] -= (gradients["W_dec"] * rows).sum(1, keepdim=True) * rows
        for name, weight in self.weights.items():
            weight.grad = gradients[name]
        for group in self._adam.param_groups:
            faster = _THRESHOLD_RATE if group["name"] == "log_threshold" else 1.0
            group["lr"] = faster * self._rate()
        self._adam.step()
        rows /= rows.norm(dim=1, keepdim=True)

        self.unfired += batch
        self.unfired[entries.latents[entries.fires]] = 0
        seen = torch.tensor([entries.smallest, unexplained, l0], dtype=torch.float64)
        self.averages += (seen - self.averages) / _AVERAGED_STEPS
        self.step_number += 1
        return unexplained, l0

    @property
    def n_dead(self) -> int:
        """Latents that have not fired for `dead_after` tokens."""
        return int((self.unfired > self.settings.dead_after).sum())

    def average(self) -> tuple[float, float, float]:
        """Means over about the last 100 steps: smallest activation kept, FVU, L0.

        A moving average, corrected for its start at 0; of the first it makes the threshold that
        stands for the batch at inference.
        """
        weight = 1 - (1 - 1 / _AVERAGED_STEPS) ** self.step_number
        kept, unexplained, l0 = (self.averages / max(weight, 1e-9)).tolist()
        return kept, unexplained, l0

    def coder(self, name: str, site: str | None = None) -> SparseCoder:
        """The coder as it is now, in the site's units, with a threshold for each latent."""
        weights = {name: weight.detach().cpu().clone() for name, weight in self.weights.items()}
        if "log_threshold" in weights:
            threshold = weights["log_threshold"].exp()
        else:
            threshold = torch.full_like(weights["b_enc"], self.average()[0])
        return SparseCoder(
            name=name,
            architecture=self.settings.architecture,
            activation="jumprelu",
            W_enc=weights["W_enc"].T.contiguous(),  # (d_in, d_sae)
            b_enc=weights["b_enc"] / self.scale,
            W_dec=weights["W_dec"],
            b_dec=weights["b_dec"] / self.scale,
            threshold=threshold / self.scale,
            apply_b_dec_to_input=True,
            site=site,
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, to be loaded again."""
        return {
            **{f"weights.{name}": weight for name, weight in self.weights.items()},
            **self._moments(),
            "averages": self.averages,
            "unfired": self.unfired,
            "step": torch.tensor(self.step_number),
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a `state`."""
        for name, weight in self.weights.items():
            weight.copy_(state[f"weights.{name}"])
        for name, moment in self._moments().items():
            moment.copy_(state[name])
        self.averages.copy_(state["averages"])
        self.unfired.copy_(state["unfired"])
        self.step_number = int(state["step"])

    def _moments(self) -> dict[str, Tensor]:
        return {
            f"adam.{name}.{which}": tensor
            for name, weight in self.weights.items()
            for which, tensor in self._adam.state[weight].items()
        }

    @property
    def _is_jumprelu(self) -> bool:
        return self.settings.architecture == "jumprelu"

    def _pre(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pre-activations, shape (batch, d_sae), in the products' format, and centred inputs."""
        centred = x - self.weights["b_dec"]
        weight = self.weights["W_enc"].to(self._matmul)
        bias = self.weights["b_enc"].to(self._matmul)
        return torch.addmm(bias, centred.to(self._matmul), weight.T), centred

    def _largest(self, pre: Tensor) -> _Entries:
        """The (batch k) largest positive pre-activations, all of those if there are fewer.

        First only what is near the last threshold is looked at; the answer does not depend on that.
        """
        wanted = len(pre) * self.settings.k
        found = _above(pre, _CLOSEST * self._last_threshold)
        if len(found.pre) < wanted:
            found = _above(pre, 0.0)
        if not len(found.pre):
            return found
        place = max(1, len(found.pre) - wanted + 1)  # kthvalue counts from the smallest
        smallest = float(found.pre.kthvalue(place).values)
        self._last_threshold = smallest
        return replace(found.at(found.pre >= smallest), smallest=smallest)

    def _above(self, pre: Tensor) -> _Entries:
        """Pre-activations above their thresholds, or so near below that they pull at them."""
        threshold = self.weights["log_threshold"].exp()
        found = _above(pre, (threshold - self.width / 2).clamp(min=0))
        return replace(found, fires=found.pre > threshold[found.latents])

    def _to_log_threshold(self, entries: _Entries, to_z: Tensor, l0: float, batch: int) -> Tensor:
        """Straight-through gradient of both losses by log thresholds, shape (d_sae,).

        d/dtheta of z is -(theta / width) inside the kernel, and of L0 is -(1 / width).
        """
        theta = self.weights["log_threshold"].exp()[entries.latents]  # (n,)
        near = (entries.pre - theta).abs() < self.width / 2
        excess = 2 * self.settings.l0_weight * (l0 / self.settings.k - 1) / self.settings.k
        to_theta = -(theta * to_z + excess / batch) / self.width * near  # (n,)
        total = torch.zeros(len(self.unfired), device=to_z.device)
        return total.index_add_(0, entries.latents, to_theta * theta)

    def _revive(
        self, pre: Tensor, centred: Tensor, error: Tensor, gradients: dict[str, Tensor]
    ) -> None:
        """Adds the gradients of the auxiliary loss: dead latents explain what is left over."""
        dead = (self.unfired > self.settings.dead_after).nonzero().squeeze(1)  # (n_dead,)
        if not len(dead):
            return
        batch, d_in = error.shape
        acts = pre[:, dead].float().relu_()  # (batch, n_dead)
        k = min(max(1, d_in // 2), len(dead))
        z = torch.zeros_like(acts)
        top = acts.topk(k, dim=1)
        z.scatter_(1, top.indices, top.values)
        rows = self.weights["W_dec"][dead]  # (n_dead, d_in)
        to_x = (z @ rows + error) * (2 * self.settings.aux_weight / (batch * self.variance))
        to_pre = (to_x @ rows.T) * (z > 0)
        gradients["W_dec"][dead] += z.T @ to_x
        gradients["W_enc"][dead] += to_pre.T @ centred
        gradients["b_enc"][dead] += to_pre.sum(0)

    def _rate(self) -> float:
        """The learning rate of this step."""
        rise = max(1.0, self.settings.warm_up * self.n_steps)
        up = (self.step_number + 1) / rise
        down = (self.n_steps - self.step_number) / max(1.0, self.n_steps - rise)
        return self.settings.lr * min(1.0, up, down)


def _above(pre: Tensor, bound: float | Tensor) -> _Entries:
    """Entries of `pre`, shape (batch, d_sae), above a bound, (d_sae,) or one for all."""
    tokens, latents = (pre > bound).nonzero(as_tuple=True)
    values = pre[tokens, latents].float()
    return _Entries(tokens, latents, values, torch.ones_like(tokens, dtype=torch.bool), 0.0)


def _sums_of_rows(
    owners: Tensor, rows: Tensor, weights: Tensor, source: Tensor, n_owners: int
) -> Tensor:
    """For each owner the weighted sum of rows of `source`, shape (n_owners, width).

    Args:
        owners: shape (n,), ascending.
        rows: shape (n,), which row of `source` each owner takes.
        weights: shape (n,).
        source: shape (n_rows, width).
        n_owners: how many owners there are; one without rows gets zeros.
    """
    first = torch.searchsorted(owners, torch.arange(n_owners, device=owners.device))
    return nn.functional.embedding_bag(rows, source, first, mode="sum", per_sample_weights=weights)


def _geometric_median(points: Tensor) -> Tensor:
    """The point with the least mean distance to `points`, by Weiszfeld's iteration, (d_in,)."""
    centre = points.mean(0)
    for _ in range(_WEISZFELD_STEPS):
        weights = 1 / (points - centre).norm(dim=1, keepdim=True).clamp(min=1e-6)
        centre = (points * weights).sum(0) / weights.sum()
    return centre
