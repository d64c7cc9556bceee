"""What leads to a feature, to first order: gradients times activations, and times differences."""

from __future__ import annotations

from torch import Tensor

from glossator.errors import ConfigError, Unsupported
from glossator.experiments.probing import EMBEDDING, Probe, Text, gradients
from glossator.inside import Importance, Source
from glossator.sites import LayerSite, parse_site

_SOURCES = ("attn.z", "mlp.neurons")
_ORDER = ("resid_pre", "attn.z", "attn.heads", "attn.out", "mlp.neurons", "mlp.out", "resid_post")
"""Parts of a layer as a pass comes to them; where attention and MLP are side by side, a part may
stand below one that it does not lead to, and then has no effect on it."""


def importance_of(probe: Probe, text: Text, at: int | None) -> Importance:
    """Gradient times input at the embedding (Simonyan et al. 2014; Shrikumar et al. 2017)."""
    with probe.graph(text.ids, [EMBEDDING]) as kept:
        acts = kept.acts[0]  # (1 + ctx,)
        place = text.place(at, acts.detach())
        embedding = kept.at_site[EMBEDDING]  # (1, 1 + ctx, d_model)
        (slope,) = gradients(acts[1 + place], [embedding])
        if slope is None:
            raise Unsupported(f"nothing in the text leads to {probe.feature}; mask tokens instead")
        values = (slope.float() * embedding.detach().float()).sum(dim=-1)[0]  # (1 + ctx,)
    return Importance(
        text.tokens, tuple(values[1:].tolist()), place, float(acts[1 + place].detach())
    )


def sources_of(probe: Probe, clean: Text, corrupt: Text, n: int) -> tuple[Source, ...]:
    """Heads and neurons by attribution patching, the largest effects first.

    effect = sum over tokens of d feature(clean) / d component * (clean - corrupt): about how much
    the feature at `Text.strongest` would lose with the component as on `corrupt`.
    """
    slopes, now, then = differences(probe, clean, corrupt, sites_below(probe, _SOURCES))
    found: list[Source] = []
    for site, slope in slopes.items():
        effect = (slope * (now[site] - then[site])).sum(dim=(0, 1))  # (width,)
        name = site
        if site.endswith("attn.z"):
            effect = effect.view(probe.subject.architecture.n_heads, -1).sum(dim=1)  # (n_heads,)
            name = site.removesuffix("z") + "heads"
        best = effect.abs().topk(min(n, len(effect))).indices
        found += [Source(f"{name}/{i}", float(effect[i])) for i in best.tolist()]
    return tuple(sorted(found, key=lambda source: -abs(source.effect))[:n])


def differences(
    probe: Probe, clean: Text, corrupt: Text, sites: list[str]
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """The feature's gradient on `clean` at sites, and what passes them on `clean` and `corrupt`.

    Each of shape (1, 1 + ctx, width), float32; sites that do not lead to the feature are left out.

    Raises:
        ConfigError: if the feature has no slope on `clean`, as a latent that does not fire.
    """
    with probe.graph(corrupt.ids, sites) as kept:
        then = {site: acts.detach().float() for site, acts in kept.at_site.items()}
    with probe.graph(clean.ids, sites) as kept:
        acts = kept.acts[0]
        place = clean.strongest(acts.detach(), corrupt)
        known = [site for site in sites if site in kept.at_site]
        found = gradients(acts[1 + place], [kept.at_site[site] for site in known])
        slopes = {s: g.float() for s, g in zip(known, found, strict=True) if g is not None}
        now = {site: kept.at_site[site].detach().float() for site in slopes}
    if not any(bool(slope.any()) for slope in slopes.values()):
        raise ConfigError(
            f"{probe.feature} does not move with anything on the first text, where it is "
            f"{float(acts[1 + place].detach()):.3g}; put a text there on which it fires"
        )
    return slopes, now, then


def sites_below(probe: Probe, parts: tuple[str, ...]) -> list[str]:
    """The sites of those parts in all layers that may lead to the feature, but its own."""
    subject = probe.subject
    own = subject.resolve(probe.tensor_site).site
    site = parse_site(own)
    there = [s for s in subject.architecture.layer_sites() if s.part in parts]
    if isinstance(site, LayerSite):
        height = (site.layer, _ORDER.index(site.part))
        there = [s for s in there if (s.layer, _ORDER.index(s.part)) < height]
    found = [str(s) for s in there if str(s) != own]
    if not found:
        raise Unsupported(f"there are no {' or '.join(parts)} below {probe.feature}")
    return found
