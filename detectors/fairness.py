"""How differently a binary model treats groups of people: rates by group, their largest gap, and how sure it is.

Owns the four gaps and the ratio of the selection rates, from counts by group. Refuses to know where counts come from,
which rate is good for whom, and when a gap is too large (`gaps.py`).

| measure | what is compared | named |
|---|---|---|
| demographic parity | share of positive predictions | Dwork and others 2012 |
| equal opportunity | share of the positive labels that were predicted (TPR) | Hardt, Price, Srebro 2016 |
| equalised odds | TPR, and the share of the negative labels predicted positive (FPR): the larger gap | the same |
| predictive parity | share of the positive predictions that came true (precision) | Chouldechova 2017 |
| disparate impact | lowest share of positive predictions over the highest (four fifths rule) | 29 CFR 1607.4 (1978) |

Intervals hold for all pairs of groups at once (Bonferroni), so the largest gap may be looked for: the true largest gap
lies between the largest lower and the largest upper bound of all pairs. A pair's difference has Newcombe's interval
(1998, method 10), its ratio that of Donner and Zou (2012), both from Wilson's intervals. They are for one look; who
looks at every window and wants no false alarm asks `gaps.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.statistics import differences, wilson

Floats = NDArray[np.float64]


FOUR_FIFTHS: Final = 0.8
"""A ratio below is taken for adverse impact (EEOC 1978)."""


class Counts(NamedTuple):
    """Of g groups: (g,) rows, positive predictions, labelled rows, and of these positive labels, positive predictions
    and both. A row without a label counts among the first two alone, so selection rates need not wait for labels."""

    rows: Floats
    said: Floats
    labelled: Floats
    ones: Floats
    positive: Floats
    both: Floats


class Rates(NamedTuple):
    """(g,) `hits` of `of` rows each; `high_is_worst` where a high rate is the harm (false positives)."""

    hits: Floats
    of: Floats
    high_is_worst: bool = False


class Gap(NamedTuple):
    """A measure of unequal treatment; `value` is a difference, or for disparate impact a ratio. `worst` and `best`
    are the groups at its ends, lowest rate and highest (of false positives highest and lowest)."""

    value: float
    low: float
    high: float
    worst: str
    best: str
    left_out: tuple[str, ...] = ()


def rates(counts: Counts) -> dict[str, Rates]:
    """The four rates whose gaps are measured, by the name of the measure that they alone belong to."""
    false_positives = counts.positive - counts.both
    return {
        "demographic_parity": Rates(counts.said, counts.rows),
        "equal_opportunity": Rates(counts.both, counts.ones),
        "equalised_odds": Rates(false_positives, counts.labelled - counts.ones, high_is_worst=True),
        "predictive_parity": Rates(counts.both, counts.positive),
    }


def measures(names: Sequence[str], counts: Counts, rows_min: int) -> dict[str, Gap]:
    """Every measure that at least two groups have enough rows for: `rows_min` of those that the rate is a share of.

    >>> def column(*x): return np.array(x, float)
    >>> zero = column(0, 0)
    >>> found = measures(["a", "b"], Counts(column(200, 100), column(100, 20), zero, zero, zero, zero), 50)
    >>> sorted(found), found["demographic_parity"].worst, round(found["demographic_parity"].value, 3)
    (['demographic_parity', 'disparate_impact'], 'b', 0.3)
    >>> round(found["disparate_impact"].value, 3)
    0.4
    """
    each = rates(counts)
    found: dict[str, Gap | None] = {
        name: widest(names, [each[name]], rows_min)
        for name in ("demographic_parity", "equal_opportunity", "predictive_parity")
    }
    found["equalised_odds"] = widest(names, [each["equal_opportunity"], each["equalised_odds"]], rows_min)
    found["disparate_impact"] = disparate_impact(names, each["demographic_parity"], rows_min)
    return {name: gap for name, gap in found.items() if gap is not None}


def widest(names: Sequence[str], compared: Sequence[Rates], rows_min: int) -> Gap | None:
    """The largest difference of one rate, or of several, between two groups; None where a rate has not two groups with
    enough rows. Groups that one of the rates leaves out are named."""
    used = [np.flatnonzero(rate.of >= max(rows_min, 1)) for rate in compared]
    if any(len(chosen) < 2 for chosen in used):
        return None
    pairs = sum(len(chosen) * (len(chosen) - 1) // 2 for chosen in used)
    gap: Gap | None = None
    low = high = 0.0
    for rate, chosen in zip(compared, used, strict=True):
        hits, of = rate.hits[chosen], rate.of[chosen]
        share = hits / of
        below, above = differences(hits, of, pairs)
        low, high = max(low, float(below.max())), max(high, float(above.max()))
        last, first = chosen[int(np.argmin(share))], chosen[int(np.argmax(share))]
        worst, best = (first, last) if rate.high_is_worst else (last, first)
        value = float(share.max() - share.min())
        if gap is None or value > gap.value:
            gap = Gap(value, 0.0, 0.0, names[worst], names[best])
    assert gap is not None
    return gap._replace(low=low, high=high, left_out=_others(names, used))


def disparate_impact(names: Sequence[str], selected: Rates, rows_min: int) -> Gap | None:
    """The lowest selection rate over the highest; None without two groups, or where nobody is selected."""
    used = np.flatnonzero(selected.of >= max(rows_min, 1))
    hits, of = selected.hits[used], selected.of[used]
    if len(used) < 2 or not hits.any():
        return None
    share = hits / of
    worst, best = int(np.argmin(share)), int(np.argmax(share))
    pairs = len(used) * (len(used) - 1) // 2
    low, high = ratios(hits, of, pairs)
    value = float(share[worst] / share[best])
    return Gap(
        value, min(float(low.min()), value), max(min(float(high.min()), 1.0), value),
        names[used[worst]], names[used[best]], _others(names, [used]),
    )  # fmt: skip


def ratios(hits: Floats, of: Floats, comparisons: int) -> tuple[Floats, Floats]:
    """(g, g) bounds of rate i over rate j (Donner and Zou 2012, equation 9), of so many comparisons at once; 1 on the
    diagonal. A rate of 0 below the line leaves no upper bound."""
    share, (low, high) = hits / of, wilson(hits, of, comparisons)
    product = share[:, None] * share[None, :]
    numerator_low = (low * (2 * share - low))[:, None]
    denominator_high = (high * (2 * share - high))[None, :]
    numerator_high = (high * (2 * share - high))[:, None]
    denominator_low = (low * (2 * share - low))[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        # Of the two forms of a root of a quadratic, the one that does not subtract what is nearly equal.
        root_low = np.sqrt(np.maximum(product**2 - numerator_low * denominator_high, 0.0))
        root_high = np.sqrt(np.maximum(product**2 - numerator_high * denominator_low, 0.0))
        below = np.where(numerator_low > 0, numerator_low / (product + root_low), 0.0)
        above = np.where(denominator_low > 0, (product + root_high) / denominator_low, np.inf)
    other = ~np.eye(len(share), dtype=np.bool_)
    return np.where(other, below, 1.0), np.where(other, above, 1.0)


def _others(names: Sequence[str], used: Sequence[NDArray[np.int64]]) -> tuple[str, ...]:
    """Groups that are missing from one of the selections."""
    common = [name for i, name in enumerate(names) if all(i in chosen for chosen in used)]
    return tuple(name for name in names if name not in common)
