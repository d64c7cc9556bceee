"""Which features: what `--features` and the arguments of `collect` mean."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, SupportsIndex

from glossator.errors import ConfigError
from glossator.types import FeatureId

Tails = Literal["positive", "both"]

_RANGE = re.compile(r"(\d+)-(\d+)")
_INDEX = re.compile(r"(\d+)(-?)")
_DRAW = re.compile(r"(sample|top-density):(\d+)")


def feature_ids(
    model: str,
    sites: Sequence[str],
    features: Iterable[FeatureId | SupportsIndex | str],
    tails: Tails = "positive",
    coder: str | None = None,
) -> list[FeatureId]:
    """Features given as ids, as indexes, or as texts such as `123` and `123-` (negative tail).

    Args:
        model: the subject's name.
        sites: an index is meant at each of them.
        features: what to name.
        tails: what a bare integer means: `positive`, its positive tail; `both`, two features, the
            positive tail and then the negative one.
        coder: what an index is one of, where it is not the site itself.

    Raises:
        ConfigError: for a feature that is none, or `tails` that are neither.
    """
    if tails not in ("positive", "both"):
        raise ConfigError(f"tails are 'positive' or 'both', not {tails!r}")
    found: list[FeatureId] = []
    for feature in features:
        if isinstance(feature, FeatureId):
            found.append(feature)
            continue
        signs: tuple[bool, ...]
        if isinstance(feature, str):
            match = _INDEX.fullmatch(feature.strip())
            if match is None:
                raise ConfigError(f"a feature is an index such as 123, or 123-, not {feature!r}")
            index, signs = int(match[1]), (match[2] == "-",)
        else:
            index, signs = feature.__index__(), (False, True) if tails == "both" else (False,)
        if index < 0:
            raise ConfigError(f"a feature's index counts from 0, not {index}")
        found += [
            FeatureId(model, site, index, coder=coder, negative=sign)
            for site in sites
            for sign in signs
        ]
    return found


def choose_features(
    spec: str,
    model: str,
    sites: Mapping[str, int],
    *,
    seed: int = 0,
    tails: Tails = "both",
    densities: Callable[[], Mapping[str, Sequence[float]]] | None = None,
    coder: str | None = None,
) -> list[FeatureId]:
    """The features that `spec` names, each once, in the order named.

    | spec | features |
    |---|---|
    | `0-99` | these indexes, both ends included, at every site |
    | `3,7,9-` | these at every site, with a minus the negative tail; ranges may be among them |
    | `all` | every feature of every site, and both of its tails |
    | `sample:200` | as many drawn without return from all sites, and from both tails of each |
    | `top-density:50` | the ones that fire most often, of all sites; positive tails |
    | a file | one in each line: an id, an index, or a range; `#` begins a remark |

    Args:
        spec: what to choose.
        model: the subject's name.
        sites: how many features each site has.
        seed: of `sample`; the same seed draws the same features.
        tails: which tails `sample` and `all` mean.
        densities: measures how often each feature of each site fires; called for `top-density`
            alone (see `glossator.datasets.collect.densities`).
        coder: what the features are of, where it is not the sites themselves.

    Raises:
        ConfigError: if `spec` is none of these, names a feature that is not there, or asks for more
            than there are.
    """
    spec = spec.strip()
    if draw := _DRAW.fullmatch(spec):
        wanted = int(draw[2])
        if draw[1] == "sample":
            found = _sample(wanted, model, sites, seed, tails)
        elif densities is None:
            raise ConfigError("top-density measures the features first, which is not possible here")
        else:
            found = _densest(wanted, model, sites, densities())
    elif spec == "all":
        signs = (False, True) if tails == "both" else (False,)
        found = [
            FeatureId(model, site, index, negative=sign)
            for site, width in sites.items()
            for index in range(width)
            for sign in signs
        ]
    elif Path(spec).expanduser().is_file():
        lines = Path(spec).expanduser().read_text(encoding="utf-8").splitlines()
        named = [line.partition("#")[0].strip() for line in lines]
        found = [id_ for part in filter(None, named) for id_ in _named(part, model, sites, coder)]
    else:
        found = [
            id_ for part in spec.split(",") for id_ in _named(part.strip(), model, sites, coder)
        ]
    if not found:
        raise ConfigError(f"{spec!r} names no feature")
    if coder is not None:
        found = [replace(feature, coder=coder) for feature in found]
    return list(dict.fromkeys(found))


def _named(part: str, model: str, sites: Mapping[str, int], coder: str | None) -> list[FeatureId]:
    """An id, an index or a range, checked."""
    if "//" in part:
        try:
            feature = FeatureId.parse(part)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if feature.model != model or feature.site not in sites or feature.coder != coder:
            where = ", ".join(f"{site}@{coder}" if coder else site for site in sites)
            raise ConfigError(f"{part} is not of {model} at {where}")
        _check(feature.index, feature.site, sites)
        return [feature]
    if match := _RANGE.fullmatch(part):
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise ConfigError(f"the range {part} runs backwards")
        for site in sites:
            _check(last, site, sites)
        return [FeatureId(model, site, i) for site in sites for i in range(first, last + 1)]
    if match := _INDEX.fullmatch(part):
        for site in sites:
            _check(int(match[1]), site, sites)
        return [FeatureId(model, site, int(match[1]), negative=match[2] == "-") for site in sites]
    raise ConfigError(
        f"{part!r} names no feature: use 0-99, 3,7,9- (a minus is the negative tail), sample:200, "
        "top-density:50, all, or a file with a feature in each line"
    )


def _check(index: int, site: str, sites: Mapping[str, int]) -> None:
    if index >= sites[site]:
        raise ConfigError(f"{site} has features 0 to {sites[site] - 1}, and none numbered {index}")


def _sample(
    n: int, model: str, sites: Mapping[str, int], seed: int, tails: Tails
) -> list[FeatureId]:
    signs = 2 if tails == "both" else 1
    total = signs * sum(sites.values())
    if not 0 < n <= total:
        raise ConfigError(f"sample:{n} does not fit: there are {total} features, tails included")
    found = []
    for number in random.Random(seed).sample(range(total), n):
        place, negative = divmod(number, signs)
        for site, width in sites.items():
            if place < width:
                found.append(FeatureId(model, site, place, negative=bool(negative)))
                break
            place -= width
    return found


def _densest(
    n: int, model: str, sites: Mapping[str, int], densities: Mapping[str, Sequence[float]]
) -> list[FeatureId]:
    total = sum(sites.values())
    if not 0 < n <= total:
        raise ConfigError(f"top-density:{n} does not fit: there are {total} features")
    ranked = sorted(
        (-density, place, index)
        for place, site in enumerate(sites)
        for index, density in enumerate(densities[site])
    )
    names = list(sites)
    return [FeatureId(model, names[place], index) for _, place, index in ranked[:n]]
