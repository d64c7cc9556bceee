"""What a run reads: the coder it names, the features it means, and where half-done work is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from glossator.assets.cache import cache_folder
from glossator.config import AUTO_SITE, RunConfig, RunLimits
from glossator.control import load_control
from glossator.datasets.collect import CollectSettings, densities
from glossator.datasets.corpora import Corpus
from glossator.datasets.directions import PREFIX, load_direction, projector
from glossator.datasets.readings import Coder, is_dense
from glossator.datasets.selection import choose_features
from glossator.errors import ConfigError
from glossator.sae import load_coder
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId

DEFAULT_SITE = "layers.7.mlp.neurons"
DEFAULT_SAMPLE = 12
"""Features drawn where none are named; all of them, where there are fewer."""


def subject_of(config: RunConfig, limits: RunLimits) -> Subject:
    """The subject that `config` names, or its control.

    Raises:
        ConfigError, AssetError: if there is none such, or it cannot be read.
    """
    if config.control:
        return load_control(config.model, config.seed, limits.device, config.dtype, limits.offline)
    return load_subject(config.model, limits.device, config.dtype, limits.offline)


def control_notice(config: RunConfig, coder: Coder | None) -> str:
    """What to know of a run on a control; empty where it is none."""
    if not config.control:
        return ""
    note = f"control: the weights of {config.model} are drawn anew, with seed {config.seed}"
    if coder is None or coder.name.startswith(PREFIX):
        return note
    return f"{note}; the coder {coder.name} stays the one that was trained on the real ones"


def coder_of(config: RunConfig, subject: Subject, offline: bool = False) -> Coder | None:
    """The coder that `config` names, on the subject's device; None without one.

    Raises:
        ConfigError, AssetError: if there is none of that name, or it cannot be read.
    """
    if not config.sae:
        return None
    if config.sae.startswith(PREFIX):
        return projector(load_direction(config.sae.removeprefix(PREFIX)))
    return load_coder(config.sae, device=subject.device, offline=offline)


def coder_digest(coder: Coder | None) -> str:
    """What tells a coder's weights from others; empty without one."""
    if coder is None:
        return ""
    digest = getattr(coder, "digest", "")
    if not digest:
        weights = getattr(coder, "W_dec").detach().cpu().contiguous().numpy()  # noqa: B009
        digest = hashlib.sha256(weights.tobytes()).hexdigest()[:16]
    return f"{coder.name} {digest}"


def collection_key(config: RunConfig, subject: Subject, corpus: Corpus, coder: Coder | None) -> str:
    """Names what is collected: equal for all runs that can share it."""
    what = [config.collection_digest, subject.revision, subject.dtype, corpus.digest]
    what += [coder_digest(coder)] if coder is not None else []
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def sites_of(config: RunConfig, subject: Subject, coder: Coder | None) -> list[str]:
    """The sites that `config` names, in the subject's own names.

    Raises:
        ConfigError: if one is not there, or the coder does not say where it belongs or does not
            fit.
    """
    named: Sequence[str] = config.sites
    if AUTO_SITE in named:
        own = DEFAULT_SITE if coder is None else getattr(coder, "site", None)
        if own is None:
            raise ConfigError(
                f"the coder {config.sae} does not say which site it was made for: give --site"
            )
        if coder is not None:
            _check_own_site(own, coder, subject)
        named = [own if site == AUTO_SITE else site for site in named]
    sites = subject.expand(list(named))
    for site in sites if coder is not None else ():
        width = subject.resolve(site).width
        if coder is not None and coder.d_in != width:
            raise ConfigError(
                f"the coder {coder.name} reads vectors of {coder.d_in}, but {site} of "
                f"{subject.name} is {width} wide"
            )
    return sites


def _check_own_site(own: str, coder: Coder, subject: Subject) -> None:
    try:
        subject.expand(own)
    except ConfigError as error:
        raise ConfigError(
            f"the coder {coder.name} was made for {own}, which {subject.name} does not have: take "
            "the model it was made for with --model, or a coder of this one; or give --site"
        ) from error


def site_notice(sites: Sequence[str], subject: Subject, coder: Coder | None) -> str:
    """What to know where a coder is read at another site than it was made for; else empty."""
    own = getattr(coder, "site", None)
    if coder is None or own is None:
        return ""
    try:
        made_for = set(subject.expand(own))
    except ConfigError:
        made_for = {own}
    others = [site for site in sites if site not in made_for]
    if not others:
        return ""
    return (
        f"warning: the coder {coder.name} was made for {own} and is read at {', '.join(others)}: "
        "its features mean something else there, if anything"
    )


def chosen_features(
    config: RunConfig, subject: Subject, corpus: Corpus, coder: Coder | None
) -> list[FeatureId]:
    """The features that `config` names, in order.

    Raises:
        ConfigError: if a site or a feature is not there.
    """
    sites = sites_of(config, subject, coder)
    widths = {site: coder.d_sae if coder else subject.resolve(site).width for site in sites}
    settings = collect_settings(config)
    name = coder.name if coder else None
    # norms have no negative tail either
    signed = is_dense(name) and not all(site.endswith(".attn.heads") for site in sites)
    total = (2 if signed else 1) * sum(widths.values())
    few = config.features == f"sample:{DEFAULT_SAMPLE}" and total < DEFAULT_SAMPLE
    return choose_features(
        "all" if few else config.features,
        subject.name,
        widths,
        seed=config.seed,
        tails="both" if signed else "positive",
        densities=lambda: densities(subject, sites, corpus, settings, coder),
        coder=name,
    )


def collect_settings(config: RunConfig) -> CollectSettings:
    """What `config` says of collecting."""
    return CollectSettings(
        tokens=config.tokens,
        ctx=config.ctx,
        window=config.window,
        seed=config.seed,
        calibration_tokens=config.calibration_tokens,
        percentile=100 * config.firing_quantile,
        batch=config.batch_size,
        n_top=config.n_top,
        n_firing=5 * config.n_per_quantile,
        n_silent=config.n_silent,
    )


def work_folder(store_url: str, collection: str) -> Path:
    """Where a collection that is not finished is kept: beside the store's file, else in the cache.

    Digests of very many features, of which no records are made, stay there.
    """
    start = "sqlite:///"
    file = store_url.removeprefix(start) if store_url.startswith(start) else ""
    if file and file != ":memory:":
        beside = Path(file)
        return beside.with_name(f"{beside.name}.collections") / collection[:32]
    return cache_folder() / "collections" / collection[:32]
