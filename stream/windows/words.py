"""What an alert says to people: kind, effect and one plain sentence. Owns words and thresholds of severity; refuses to
know how the change was found."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple, TypeAlias

import numpy as np

from detectors.contract import Bins, Stream
from detectors.statistics import differences
from stream.windows.breaches import Breach
from stream.windows.profiles import Profile

Severity: TypeAlias = Literal["information", "warning", "critical"]
Kind: TypeAlias = Literal[
    "data_quality",
    "covariate_drift",
    "prediction_drift",
    "label_drift",
    "concept_drift",
    "label_delay",
    "business_drift",
    "fairness",
]

SEVERITIES: Final[tuple[Severity, ...]] = ("information", "warning", "critical")

PSI_WARNING: Final = 0.10
PSI_CRITICAL: Final = 0.25
"""The usual reading of the population stability index (Siddiqi 2006): below .10 no action, above .25 a major shift."""

SHARE_WARNING: Final = 0.05
SHARE_CRITICAL: Final = 0.20
"""Of a 0/1 quantity, in points."""

SHARE_GATE: Final = 0.02
PSI_GATE: Final = 0.02
"""Below these a change is trivial, however sure (F09); an alert whose effect falls below them has ended."""

CHANCE: Final = 3.0
"""Standard deviations that a side's share may stray: where a ninth of the values is always missing, two points more of
the newest 64 are every fourth time."""

LOSS_WARNING: Final = 0.10
LOSS_CRITICAL: Final = 0.50
"""Relative increase of the loss."""

STRANGE: Final = "strange"
"""The stream of rows that are strange against the reference."""

RATES: Final = {
    STRANGE: "strange rows",
    "prediction": "positive predictions",
    "unsure": "unsure predictions",
    "unlabelled": "predictions whose label never came",
    "invalid": "values that the reference hardly had",
    "duplicate": "rows that repeat one of those before them",
}
"""What the shares are shares of."""

SCALE_RATIO: Final = 20.0
"""A mean that moves by this factor, with nearly all values beyond the reference's bins, is a changed unit."""

EXTREME_SHARE: Final = 0.9
UNSEEN_SHARE: Final = 0.5
CONSTANT_ROWS_MIN: Final = 50


WHOLE: Final = ("unit", "constant", "unseen")
"""Faults that spoil a feature as a whole."""

DUPLICATE: Final = "duplicate"
"""The stream of rows that repeat another."""

EXPLAINS: Final = (*WHOLE, "type", "missing", "category", "range", "length", DUPLICATE)
"""Faults of one feature, and of rows: an earlier one explains the later ones."""


class Change(NamedTuple):
    """One stream before and since; of data quality also what is broken."""

    stream: Stream
    bins: Bins
    j: int
    before: Profile
    current: Profile
    newest: Profile
    widest: Profile
    psi: float
    breach: Breach | None = None


def moment(seconds: float) -> str:
    """RFC 3339, to the second, UTC.

    >>> moment(1372072800.0)
    '2013-06-24T11:20:00Z'
    """
    bounded = min(max(seconds, 0.0), 253_402_300_799.0)
    return datetime.fromtimestamp(math.floor(bounded), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short_moment(seconds: float) -> str:
    at = datetime.fromtimestamp(math.floor(max(seconds, 0.0)), UTC)
    return f"{at.day} {at:%B %H:%M}"


def fault(change: Change) -> str | None:
    """Why this is broken data and not drift, as in EXPLAINS; None where it is drift. Judged by the newest rows: a fault
    is whole from one row to the next, and the change's first block may lie across it. Values that are missing less
    often than before, or hardly more often, are a change and no fault."""
    name = change.stream.name.partition("/")[0]
    if name in ("missing", "invalid", DUPLICATE):
        return _rare_fault(change, name)
    if name != "feature":
        return None
    now = change.newest.bins(change.j)[: change.bins.size]
    was = change.before.bins(change.j)[: change.bins.size]
    rows = int(now.sum())
    if rows < CONSTANT_ROWS_MIN or not was.sum():
        return None
    if change.stream.kind == "categorical":
        unseen_now, unseen_was = now[-1] / rows, was[-1] / was.sum()
        return "unseen" if unseen_now >= UNSEEN_SHARE and unseen_was < UNSEEN_SHARE / 10 else None
    mean, mean_was = abs(change.newest.mean(change.j)), abs(change.before.mean(change.j))
    extreme = max(int(now[0]), int(now[-1])) / rows
    ratio = mean / mean_was if mean_was else math.inf
    if extreme >= EXTREME_SHARE and not 1 / SCALE_RATIO < ratio < SCALE_RATIO and mean > 0:
        return "unit"
    spread, spread_was = change.newest.variance(change.j), change.before.variance(change.j)
    single = int(now.max()) == rows and int(was.max()) < EXTREME_SHARE * was.sum()
    # Rounding of the moments leaves a constant with a variance of about 1e-16 of its square.
    if single and spread <= 1e-12 * max(mean * mean, spread_was):
        return "constant"
    return None


def _rare_fault(change: Change, name: str) -> str | None:
    """Of shares that are small in good data."""
    was = change.before.share(change.j)
    most = max(side.share(change.j) - _by_chance(was, side.present(change.j)) for side in sides(change))
    limit = None if change.breach is None else change.breach.missing_max
    if name == "missing":
        worse = most - was >= SHARE_GATE if limit is None else most > max(limit, was)
        fault = "missing" if change.breach is None else change.breach.fault
        return fault if worse else None
    return change.breach.fault if change.breach is not None and most - was >= SHARE_GATE else None


def _by_chance(share: float, rows: int) -> float:
    """How far the share of so few rows strays without a cause."""
    return CHANCE * math.sqrt(share * (1 - share) / max(rows, 1))


def kind(change: Change, broken: str | None) -> Kind:
    if broken:
        return "data_quality"
    name = change.stream.name.partition("[")[0].partition("/")[0]
    kinds: dict[str, Kind] = {
        "feature": "covariate_drift",
        "length": "covariate_drift",
        "missing": "covariate_drift",
        "invalid": "covariate_drift",
        "duplicate": "covariate_drift",
        "pair": "covariate_drift",
        "distance": "covariate_drift",
        STRANGE: "covariate_drift",
        "score": "prediction_drift",
        "unsure": "prediction_drift",
        "prediction": "prediction_drift",
        "label": "label_drift",
        "loss": "concept_drift",
        "calibration": "concept_drift",
        "delay": "label_delay",
        "unlabelled": "label_delay",
        "value": "business_drift",
    }
    return kinds[name]


def severity(change: Change, broken: str | None, impact: Impact | None) -> Severity:
    """How much it matters, by the size of the effect alone."""
    if impact is not None:
        relative = impact.delta / max(impact.before, 1e-9)
        if relative < LOSS_WARNING or impact.low <= 0:
            return "information"
        return "critical" if relative >= LOSS_CRITICAL else "warning"
    if broken in WHOLE:
        return "critical"
    if change.stream.kind == "rate":
        points = abs(change.current.share(change.j) - change.before.share(change.j))
        if points >= SHARE_CRITICAL or change.psi >= PSI_CRITICAL:
            return "critical" if points >= SHARE_GATE else "information"
        gate = SHARE_GATE if broken else SHARE_WARNING
        return "warning" if points >= gate or (change.psi >= PSI_WARNING and points >= SHARE_GATE) else "information"
    points = abs(_miscalibrated(change)) if change.stream.name == "calibration" else 0.0
    if change.psi >= PSI_CRITICAL or points >= SHARE_CRITICAL:
        return "critical"
    return "warning" if change.psi >= PSI_WARNING or points >= SHARE_WARNING else "information"


class Impact(NamedTuple):
    """What a loss did; low and high bound its difference with 95 % confidence."""

    metric: str
    before: float
    now: float
    delta: float
    low: float
    high: float


def impact_of(change: Change) -> Impact | None:
    """Of a loss stream: error rates with Newcombe's interval (1998, method 10), or means with a normal one."""
    if not change.stream.name.startswith("loss"):
        return None
    n, m = change.before.present(change.j), change.current.present(change.j)
    if not n or not m:
        return None
    if change.stream.kind == "loss":
        p, q = change.before.share(change.j), change.current.share(change.j)
        hits, of = np.array([q * m, p * n]), np.array([m, n], np.float64)
        low, high = (float(bound[0, 1]) for bound in differences(hits, of, 1))
        return Impact("error", p, q, q - p, low, high)
    p, q = change.before.mean(change.j), change.current.mean(change.j)
    half = 1.96 * math.sqrt(change.before.variance(change.j) / n + change.current.variance(change.j) / m)
    return Impact("absolute error", p, q, q - p, q - p - half, q - p + half)


def summary(
    model: str, change: Change, broken: str | None, impact: Impact | None, place: dict[str, str], since: float
) -> str:
    """One plain sentence with numbers.

    >>> number(1234.5678), number(0.000123), percent(0.3125), percent(0.0004)
    ('1235', '0.000123', '31%', '0.04%')
    """
    where = " at " + ", ".join(place.values()) if place else ""
    when = f"since {short_moment(since)}"
    if impact is not None:
        return _loss_words(model, change, impact, where, when)
    said = _fault_words(change, broken) if broken else _drift_words(change)
    return f"{model}: {said} {when}"


def _fault_words(change: Change, broken: str) -> str:
    name, now = _name(change), change.newest
    if broken == "unit":
        was, mean = change.before.mean(change.j), now.mean(change.j)
        return f"{name} looks as if its unit had changed: mean {number(was)} → {number(mean)}"
    if broken == "constant":
        return f"{name} has stood still at {number(now.mean(change.j))}"
    if broken == "unseen":
        share = percent(now.share(change.j, change.bins.size - 1))
        return f"{share} of {name} are categories that the reference did not have,"
    if broken == "missing" or change.breach is None:
        return _missing_words(change)
    if change.stream.name.startswith("missing/"):
        return f"{name} {change.breach.text}"
    share = percent(max(change.current.share(change.j), change.widest.share(change.j)))
    said = change.breach.text
    return f"{share} of the rows {said}" if broken == DUPLICATE else f"{name} {said} in {share} of the events"


def _drift_words(change: Change) -> str:
    group, name = change.stream.name.partition("/")[0], _name(change)
    was, now = change.before.mean(change.j), change.current.mean(change.j)
    means = f"{number(was)} → {number(now)}"
    if group == "missing":
        return _missing_words(change)
    if group == "pair":
        first, second = pair_of(change.stream.name)
        return f"{first} and {second} hang together otherwise: correlation {was:.2f} → {now:.2f}"
    if group == "distance":
        return f"rows lie elsewhere as a whole: mean distance from the reference {means}"
    if group == "delay":
        return f"labels come after another time: mean {was / 3600:.3g} h → {now / 3600:.3g} h"
    if group == "calibration":
        return _meaning_words(change)
    if change.stream.kind == "categorical":
        return _category_words(change)
    if change.stream.kind == "rate":
        what = RATES.get(group, "positive labels") + (f" of {name}" if group == "invalid" else "")
        return f"{what} {percent(change.before.share(change.j))} → {percent(change.current.share(change.j))}"
    subject = f"length of {name}" if group == "length" else name
    return f"{subject} has moved: mean {means} (PSI {change.psi:.2f})"


def _miscalibrated(change: Change) -> float:
    """How much more often labels come true than scores say: the mean residual moves by half of it."""
    return 2 * (change.current.mean(change.j) - change.before.mean(change.j))


def _meaning_words(change: Change) -> str:
    points = _miscalibrated(change)
    if abs(points) >= SHARE_GATE:
        often = "more" if points > 0 else "less"
        return f"labels come true {often} often than scores say: by {100 * abs(points):.0f} points"
    surer = change.current.variance(change.j) > change.before.variance(change.j)
    return f"scores are {'surer' if surer else 'less sure'} than labels bear out"


def _missing_words(change: Change) -> str:
    """The side that moved most: a burst may be over by the time that it is found."""
    was = change.before.share(change.j)
    now = max((side.share(change.j) for side in sides(change)), key=lambda share: abs(share - was))
    return f"{_name(change)} missing {percent(was)} → {percent(now)}"


def _category_words(change: Change) -> str:
    moves = [abs(change.current.share(change.j, k) - change.before.share(change.j, k)) for k in range(change.bins.size)]
    k = moves.index(max(moves))
    name = (*change.bins.categories, "other categories")[k]
    shares = f"{percent(change.before.share(change.j, k))} → {percent(change.current.share(change.j, k))}"
    return f"{_name(change)} = {name} {shares} of the events (PSI {change.psi:.2f})"


def sides(change: Change) -> tuple[Profile, Profile, Profile]:
    """What came surely after the change, the newest rows, and all that may have come after it."""
    return change.current, change.newest, change.widest


def _name(change: Change) -> str:
    return change.stream.name.partition("/")[2] or change.stream.name


def pair_of(stream: str) -> list[str]:
    """The features of a pair's stream.

    >>> pair_of("pair/temp\u00d7humid")
    ['temp', 'humid']
    """
    return stream.removeprefix("pair/").split("\u00d7")


def _loss_words(model: str, change: Change, impact: Impact, where: str, when: str) -> str:
    more = "more" if impact.delta >= 0 else "less"
    if change.stream.kind == "loss":
        return f"{model} is wrong {more} often{where}: error {impact.before:.3f} → {impact.now:.3f} {when}"
    return f"{model} errs by {more}{where}: absolute error {number(impact.before)} → {number(impact.now)} {when}"


def number(value: float) -> str:
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def percent(share: float) -> str:
    points = 100 * share
    if 0 < points < 0.1:
        return f"{points:.1g}%"
    return f"{points:.1f}%" if 0 < points < 10 else f"{points:.0f}%"
