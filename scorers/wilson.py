"""The interval of a share: of how many of n trials went well."""

from __future__ import annotations


def wilson(share: float, n: float) -> tuple[float, float]:
    """The 95% interval of a share of `n` trials (Wilson 1927)."""
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * n, n, method="wilson")
    return min(float(low), share), max(float(high), share)
