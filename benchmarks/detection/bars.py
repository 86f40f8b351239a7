"""What is asked for and what came, with the interval that a count of alarms allows. Knows numbers only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from scipy import stats

SURE = 0.95


class Bar(TypedDict):
    """One demand: `value` (None where nothing was found in time) must be at most, or at least, `bound`."""

    name: str
    value: float | None
    bound: float
    unit: str
    holds: bool


class Part(TypedDict):
    """What a part returns: figures of its own shape, and its bars."""

    figures: dict[str, Any]
    bars: list[Bar]


def at_most(name: str, value: float, bound: float, unit: str) -> Bar:
    return _bar(name, value, bound, unit, value <= bound)


def at_least(name: str, value: float, bound: float, unit: str) -> Bar:
    return _bar(f"{name} (at least)", value, bound, unit, value >= bound)


def median_at_most(name: str, found: dict[str, Any], bound: float, unit: str) -> Bar:
    """The median of `delays`, its interval told beside it: a median of few runs can miss a bound by chance alone."""
    median, low, high = (found[key] for key in ("median", "median_low", "median_high"))
    told = " to ".join("none" if end is None else f"{end:,.0f}" for end in (low, high))
    return at_most(name, math.inf if median is None else median, bound, f"{unit}, median (95 %: {told})")


def _bar(name: str, value: float, bound: float, unit: str, holds: bool) -> Bar:
    return Bar(name=name, value=known(value), bound=round(bound, 4), unit=unit, holds=bool(holds))


def known(value: float) -> float | None:
    """The number as JSON can hold it: infinite or not a number means that there is none."""
    return round(float(value), 4) if math.isfinite(value) else None


def poisson_interval(count: int) -> tuple[float, float]:
    """Exact 95 % interval of the mean behind a Poisson count (Garwood 1936)."""
    tail = (1 - SURE) / 2
    low = float(stats.gamma.ppf(tail, count)) if count else 0.0
    return low, float(stats.gamma.isf(tail, count + 1))


def rate(alarms: int, per: float) -> dict[str, Any]:
    """A count of alarms as a rate over so many millions of events, or months, with its interval."""
    low, high = poisson_interval(alarms)
    return {
        "alarms": int(alarms),
        "over": round(per, 4),
        "rate": round(alarms / per, 4),
        "low": round(low / per, 4),
        "high": round(high / per, 4),
    }


def median_interval(x: np.typing.NDArray[np.float64]) -> tuple[float, float]:
    """95 % interval of the median behind independent values, from their order: it asks for no distribution."""
    place = max(int(stats.binom.ppf((1 - SURE) / 2, len(x), 0.5)), 1)
    ordered = np.sort(x)
    return float(ordered[place - 1]), float(ordered[-place])


def delays(found: Sequence[float] | np.typing.NDArray[np.float64]) -> dict[str, Any]:
    """Median (of all runs) with its interval, mean of those found, 90 % and the part that was missed."""
    x = np.asarray(found, np.float64)
    hit = x[np.isfinite(x)]
    low, high = median_interval(x)
    return {
        "median": known(float(np.quantile(x, 0.5, method="inverted_cdf"))),
        "median_low": known(low),
        "median_high": known(high),
        "mean_found": known(float(hit.mean())) if len(hit) else None,
        "p90": known(float(np.quantile(x, 0.9, method="inverted_cdf"))),
        "missed": round(1 - len(hit) / len(x), 4),
        "runs": len(x),
    }


def behind(rows: dict[str, float | None], ours: str) -> list[dict[str, Any]]:
    """Of several medians on the same row, the peers that are quicker than ours, with by how much; quickest first."""
    own = rows[ours]
    mine = math.inf if own is None else own
    others = [(value, name) for name, value in rows.items() if value is not None and not name.startswith("ours")]
    better = [(value, name) for value, name in others if value < mine]
    return [
        {"peer": name, "peer_median": value, "ours": own, "quicker_by": known(1 - value / mine)}
        for value, name in sorted(better)
    ]
