"""What a run is told to do: the options that decide its results, and those that do not.

`RunConfig` is hashed into every result. `RunLimits` says where and how long to work, and may
differ each time the same run is continued. Both check themselves when they are built, and name
the near options when a key is unknown.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import UnionType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

from glossator.errors import ConfigError
from glossator.registry import nearest
from glossator.types import JSON, to_json

_TOKENS = re.compile(r"([0-9]+(?:_[0-9]+)*)(\.[0-9]+)?\s*([kmb]?)", re.IGNORECASE)
_TIMES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}

_ALIASES = {
    "site": "sites",
    "explainer": "explainers",
    "scorer": "scorers",
    "feature": "features",
}
"""Names of repeatable options on the command line, and of the fields they fill."""

AUTO_SITE = "auto"
"""The coder's own site, or without a coder the neurons of layer 7."""

_COLLECTED = (
    *("model", "sae", "corpus", "tokens", "ctx", "window", "calibration_tokens"),
    *("firing_quantile", "n_top", "n_per_quantile", "n_silent", "dtype", "batch_size", "seed"),
    "control",
)
"""Options that decide what is collected of a feature."""


def parse_tokens(text: str) -> int:
    """`text` as a count: `200k` is 200,000, `1.5M` is 1,500,000, `1_000` is 1,000.

    Raises:
        ConfigError: if it is no whole number above 0 and up to 10**12.
    """
    match = _TOKENS.fullmatch(text.strip())
    if match is not None:
        whole, fraction, unit = match.groups()
        count = Decimal(whole.replace("_", "") + (fraction or "")) * _TIMES[unit.lower()]
        if count == count.to_integral_value() and 0 < count <= 10**12:
            return int(count)
    raise ConfigError(f"{text!r} is not a number of tokens: write 200000, 200k, 1.5M or 1_000")


def _setting(
    default: Any, least: float | None = None, most: float | None = None, among: Iterable[str] = ()
) -> Any:
    """A field with its default, and the bounds or names its value must keep to."""
    metadata = {"least": least, "most": most, "among": tuple(among)}
    return field(default=default, metadata=metadata)


def _typed(name: str, wanted: Any, value: Any) -> Any:
    """`value` as `wanted`, where that loses nothing; the type is that of a field here."""
    if isinstance(wanted, UnionType):
        if value is None:
            return None
        (wanted,) = [a for a in typing.get_args(wanted) if a is not type(None)]
    if typing.get_origin(wanted) is tuple:
        items = (value,) if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(i, str) for i in items):
            raise ConfigError(f"{name} is a list of names, not {value!r}")
        return tuple(items)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted:
        kind = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
        raise ConfigError(f"{name} is {kind[wanted]}, not {value!r}")
    return value


def _check_text(name: str, value: str) -> None:
    if len(value) > 4096 or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in value):
        raise ConfigError(f"{name} is too long, or holds characters that cannot be printed")


def _check_range(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    least, most, among = bounds["least"], bounds["most"], bounds["among"]
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name} is a finite number, not {value}")
    if least is not None and value < least:
        raise ConfigError(f"{name} is at least {least:g}, not {value}")
    if most is not None and value > most:
        raise ConfigError(f"{name} is at most {most:g}, not {value}")
    if among and value not in among:
        named = [n for n in among if n]
        raise ConfigError(f"{name} cannot be {value!r}; {nearest(str(value), named)}")


class _Options:
    """Checks its fields when built, and is built from mappings of options."""

    __slots__ = ()

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for option in dataclasses.fields(self):  # type: ignore[arg-type]
            value = _typed(option.name, hints[option.name], getattr(self, option.name))
            if isinstance(value, str):
                _check_text(option.name, value)
            elif isinstance(value, tuple):
                for item in value:
                    _check_text(option.name, item)
                if len(set(value)) < len(value) or "" in value:
                    raise ConfigError(f"{option.name} names one thing twice, or nothing: {value}")
            if value is not None and option.metadata:
                _check_range(option.name, value, option.metadata)
            object.__setattr__(self, option.name, value)

    def to_json(self) -> dict[str, JSON]:
        """The options as a plain dictionary; `from_mapping` takes it back."""
        plain = to_json(self)
        return plain if isinstance(plain, dict) else {}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """The options that `mapping` gives, the defaults for all others.

        Raises:
            ConfigError: if a key is unknown, or a value is of the wrong type or out of range.
        """
        options = named_options(mapping)
        known = option_names(cls)
        for name in options:
            if name not in known:
                raise ConfigError(f"there is no option {name!r}; {nearest(name, known)}")
        for name in ("tokens", "calibration_tokens"):
            if isinstance(options.get(name), str):
                options[name] = parse_tokens(options[name])
        return cls(**options)


@dataclass(frozen=True, slots=True)
class RunConfig(_Options):
    """Every option that decides what comes out of a run.

    Raises:
        ConfigError: when built with a value of the wrong type or out of range.
    """

    model: str = "smollm2-135m"
    """The subject: a bundled name, a hub id, a folder, `gguf:PATH`."""
    sites: tuple[str, ...] = (AUTO_SITE,)
    """Where to read; `auto` is the coder's own site, or else layers.7.mlp.neurons."""
    sae: str = ""
    """A coder at the sites: `default`, a folder, a hub id, `sae_lens:RELEASE/ID`, `direction:NAME`;
    empty for the sites themselves."""
    features: str = "sample:12"
    """Which features of the sites, such as `0-99`, `3,7,9-`, `sample:200`."""
    corpus: str = "default"
    tokens: int = _setting(200_000, least=1, most=10**12)
    """How many tokens of the corpus the subject reads."""
    ctx: int = _setting(128, least=8, most=1 << 20)
    """Text tokens the subject reads at a time."""
    window: int = _setting(32, least=8, most=1 << 20)
    """Text tokens in an example, cut from the `ctx` read."""
    calibration_tokens: int = _setting(50_000, least=1, most=10**12)
    """Train-pool tokens from which a dense site's firing threshold is measured."""
    firing_quantile: float = _setting(0.99, least=0.0, most=1.0)
    """Share of tokens that lie below a dense site's firing threshold."""
    n_top: int = _setting(20, least=1, most=10_000)
    """Strongest windows kept of each feature and pool."""
    n_per_quantile: int = _setting(10, least=1, most=10_000)
    """Windows kept of each of the five quantiles."""
    n_silent: int = _setting(50, least=1, most=10_000)
    """Windows kept in which the feature does not fire."""
    explainers: tuple[str, ...] = ("max-act",)
    scorers: tuple[str, ...] = ("simulation", "detection")
    simulator: str = "auto"
    llm: str = "local"
    """The language model that explains."""
    scorer_llm: str = ""
    """The language model that simulates and judges; empty for the same as `llm`."""
    base_url: str = ""
    """Address of a server of the model's protocol; holds no user name and no password."""
    scorer_base_url: str = ""
    """The same for `scorer_llm`; empty for the same as `base_url`."""
    dtype: str = "auto"
    """Number type that the subject computes in."""
    batch_size: int = _setting(64, least=1, most=1 << 16)
    """Texts that the subject reads at once, at most; another number may change the last bits."""
    control: str = _setting("", among=("", "random-weights"))
    """`random-weights` runs the same on the subject with weights drawn anew; empty for none."""
    n_shown: int = _setting(10, least=1, most=1_000)
    """Train examples shown to an explainer."""
    draft: str = "max-act"
    """The explainer that `revise` and `best-of` start from."""
    most_experiments: int = _setting(10, least=1, most=1_000)
    """Experiments that the agent makes on one feature, at most."""
    confidence: float = _setting(0.95, least=0.51, most=0.9999)
    """Of what the agent decides on one feature."""
    most_seconds: float = _setting(1800.0, least=1.0)
    """That the agent works on one feature, at most."""
    triage: bool = False
    """Whether a language model explains only what an explainer that asks none gets wrong on dev."""
    n_scored: int = _setting(40, least=2, most=100_000)
    """Test examples that a scorer reads, at most."""
    precision: float = _setting(0.0, least=0.0, most=1.0)
    """Half of the interval's width at which a scorer reads no more of them; 0 reads all."""
    per_call: int = _setting(0, least=0, most=100)
    """Windows that a model judges in one request; 0: twelve behind an API, one in process."""
    n_hard: int = _setting(0, least=0, most=10_000)
    """Silent windows that look like firing ones, of each kind, that detection is asked about beside
    those that are scored."""
    n_shuffled: int = _setting(5, least=0, most=1_000)
    """Wrong explanations scored for the null."""
    seed: int = _setting(0, least=0, most=2**63 - 1)

    def __post_init__(self) -> None:
        _Options.__post_init__(self)
        for name in ("model", "features", "corpus", "simulator", "llm", "dtype"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} is empty")
        if not self.sites:
            raise ConfigError("no site is named; one is layers.7.mlp.neurons")
        if self.window > self.ctx:
            raise ConfigError(
                f"a window of {self.window} tokens cannot be cut from a ctx of {self.ctx}"
            )
        for name in ("base_url", "scorer_base_url"):
            if getattr(self, name):
                _check_address(name, getattr(self, name))

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the options as canonical JSON."""
        return _digest(self.to_json())

    @property
    def collection_digest(self) -> str:
        """SHA-256 of those options alone that decide what is collected of a feature.

        The site and the feature are left out: a record carries them, so that runs which ask for
        other features of the same text share what was collected.
        """
        plain = self.to_json()
        return _digest({name: plain[name] for name in _COLLECTED})


@dataclass(frozen=True, slots=True)
class RunLimits(_Options):
    """Where and how long to work. None of it changes a result.

    Raises:
        ConfigError: when built with a value of the wrong type or out of range.
    """

    device: str = "auto"
    cache: str = ""
    """Folder for the full sparse cache; empty for none."""
    offline: bool = False
    budget: float | None = _setting(None, least=0.0)
    """US dollars that the run may spend in all."""
    max_calls: int | None = _setting(None, least=0)
    """Calls to language models that the run may make in all."""
    concurrency: int = _setting(32, least=1, most=4096)
    """Requests to one provider that may be out at once; fewer are where it says so."""
    batch: bool = False
    """Whether providers are asked through their batch APIs, at half price and within a day."""


_SomeOptions = TypeVar("_SomeOptions", bound=_Options)


def option_names(options: type[_SomeOptions]) -> list[str]:
    """The names of the options that `options` holds, in order."""
    return [f.name for f in dataclasses.fields(options)]  # type: ignore[arg-type]


def named_options(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """`mapping` under the names used here: `scorer-llm` is `scorer_llm`, `site` is `sites`.

    Raises:
        ConfigError: if a key is no text, or two keys mean the same option.
    """
    named: dict[str, Any] = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            raise ConfigError(f"an option has a name, not {key!r}")
        name = key.replace("-", "_")
        name = _ALIASES.get(name, name)
        if name in named:
            raise ConfigError(f"{name} is given twice, once as {key!r}")
        named[name] = value
    return named


def merge(
    defaults: Mapping[str, Any], file: Mapping[str, Any], flags: Mapping[str, Any]
) -> dict[str, Any]:
    """One mapping of options; flags win over the file, and the file over the defaults.

    A flag of None, or an empty list of a repeatable one, was not given. A list replaces the list
    below it and is not added to it.
    """
    given = {k: v for k, v in flags.items() if v is not None and v != [] and v != ()}
    return named_options(defaults) | named_options(file) | named_options(given)


def from_options(mapping: Mapping[str, Any]) -> tuple[RunConfig, RunLimits]:
    """The config and the limits that one mapping of options gives.

    Raises:
        ConfigError: if a key is in neither, or a value is not allowed.
    """
    options = named_options(mapping)
    of_config, of_limits = option_names(RunConfig), option_names(RunLimits)
    for name in options:
        if name not in of_config and name not in of_limits:
            raise ConfigError(
                f"there is no option {name!r}; {nearest(name, of_config + of_limits)}"
            )
    config = RunConfig.from_mapping({k: v for k, v in options.items() if k in of_config})
    limits = RunLimits.from_mapping({k: v for k, v in options.items() if k in of_limits})
    return config, limits


def _digest(plain: Mapping[str, JSON]) -> str:
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _check_address(name: str, url: str) -> None:
    # The config is stored with the run and shown, so a key must not come in this way.
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = parts.username or parts.password or parts.query
    except ValueError:
        fine, secret = False, None
    if secret:
        raise ConfigError(
            f"{name} holds no user name, password or query; give a key in the environment"
        )
    if not fine:
        raise ConfigError(f"{name} is an address such as http://localhost:8000/v1")
