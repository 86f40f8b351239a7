"""The day judge: is this day one of the past days? Knows numbers per day and part; nothing of counts or streams.

Real streams vary from day to day far more than chance allows (99 times for the late share of flights), so whole days
are the evidence. A series' value of the day so far is compared with the same part of past days:

1. *Class*: residual from the mean of its class of days (none, workday/weekend, or weekday, as the reference says).
2. *Yesterday*: minus beta times yesterday's residual; beta is frozen, so that a drift cannot teach it persistence.
3. *Rank* among past residuals, randomised, to a normal score. A rank multiplies evidence by at most n + 1 on average,
   so one odd day alone rarely alarms.
4. *What is left of persistence*: the score over the root of the variance ratio of 7-day sums.
5. *Tolerance*: bets on 'up' see the day lowered by it, bets on 'down' raised; that can only shrink evidence.
6. Bets of several sizes. Large ones are paid out in **instalments**: the evidence of a day is the mean over its parts,
   and as evidence is never negative, the parts seen so far are a lower bound: an alarm need not wait for midnight.

Exact for one series, one class and whole days if days are exchangeable; averaging over series and parts, classes,
beta and memory are approximations that were measured (0.5 to 0.6 of the bound under exchangeable days).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from detectors import since
from detectors.budget import THRESHOLD
from detectors.calendar import PARTS, WEEK, Moment, classes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SIZES = np.array([0.25, 0.5, 1.0, 2.0, 4.0])
BETS = np.concatenate([SIZES, -SIZES])
"""Shifts of the day score, in standard deviations."""

INSTALMENTS_FROM = 2.0
LARGE = np.abs(BETS) >= INSTALMENTS_FROM

MEMORY_DAYS = 112
"""With 56 a change overruns its own past before it is found (17 % of 1 sd changes were missed; none with 112)."""

CLASS_PENALTIES = np.array([1.0, 1.05, 1.1])
"""The simpler system of day classes wins unless a finer one predicts days this much better."""

PERSISTENCE_MAX = 0.97
TIE_DECIMALS = 9
"""Equal days must stay equal: their residuals differ in the 16th digit; unrounded ranks made 13 times the alarms."""


class DayState(msgspec.Struct):
    """n past days of C parts, S series, B bets. `values` is NaN where nothing had been seen by that part; `scores` are
    those of the past days (0 for days of the reference) and `today` of the part judged last; `paid` is the evidence of
    today's instalments."""

    values: Floats
    days: Ints
    scores: Floats
    today: Floats
    system: Ints
    beta: Floats
    persistence: Floats
    sums: Floats
    paid: Floats
    evidence: float = 0.0


class Prepared(NamedTuple):
    """What follows from the past of judges that know the same days, the series of all of them side by side: (n, C, S)
    values without gaps, (C, S) whether known, residuals, (n,) classes; `ends`: where the series of each judge end."""

    values: Floats
    known: NDArray[np.bool_]
    residuals: Floats
    groups: tuple[Ints, Ints, Ints]
    system: Ints
    beta: Floats
    persistence: Floats
    ends: tuple[int, ...]


class Verdict(NamedTuple):
    """What won: the series, its direction, and the (S, B) sums that crossed the line."""

    series: int
    sign: int
    evidence: float


def begin(values: Floats, days: Ints) -> DayState:
    """Judge's state from (n, C, S) past values; `learn` must follow."""
    n, _, series = values.shape
    empty = np.zeros((series, len(BETS)))
    return DayState(
        values=values[-MEMORY_DAYS:], days=days[-MEMORY_DAYS:], scores=np.zeros((min(n, MEMORY_DAYS), series)),
        today=np.zeros(series),
        system=np.zeros(series, np.int64), beta=np.zeros((PARTS, series)), persistence=np.ones(series),
        sums=empty, paid=empty.copy(),
    )  # fmt: skip


def learn(state: DayState) -> None:
    """Day classes (leave-one-out error), persistence from yesterday, 7-day variance ratio, from the days at hand."""
    values, _ = _filled(state.values)
    n, _, series = values.shape
    errors, residuals = [], []
    for groups in classes(state.days):
        size = np.bincount(groups, minlength=WEEK)
        residual = _left_out(values, groups)
        error = (residual[:, -1] ** 2 * (size[groups] / np.maximum(size[groups] - 1, 1e-9))[:, None]).mean(0)
        errors.append(np.full(series, np.inf) if (size[size > 0] < 3).any() else error)
        residuals.append(residual)
    state.system = np.argmin(np.array(errors) * CLASS_PENALTIES[:, None], 0).astype(np.int64)
    residual = np.take_along_axis(np.array(residuals), state.system[None, None, None, :], 0)[0]
    yesterday, today = residual[:-1, -1:], residual[1:]
    power, power_today = (yesterday**2).sum(0) + 1e-300, (today**2).sum(0) + 1e-300
    slope = (yesterday * today).sum(0) / power
    rho = slope * np.sqrt(power / power_today)
    corrected = np.clip(rho + (1 + 3 * rho) / n, 0.0, PERSISTENCE_MAX) / np.maximum(rho, 1e-9)
    state.beta = np.where(rho * np.sqrt(n) > 1, slope * corrected, 0.0)
    state.persistence = _variance_ratio((today - state.beta * yesterday)[:, -1])


def part(
    states: Sequence[DayState],
    past: Prepared,
    x: Floats,
    now: Moment,
    wages: Floats,
    tolerance: float | Floats,
    xi: Floats,
) -> list[Verdict | None]:
    """Judge a day up to this part: x (S,) values of the day so far, wages (S, B) of the day, tolerance and xi (S,).

    Several judges at once, as one takes as long as fifty: numpy's calls cost more than their work. Returns for each
    what crossed the line, if anything. `end_day` must follow the last part.
    """
    up, down = _scores(past, x, now, tolerance, xi)
    evidence = np.exp(BETS * np.where(BETS > 0, up[:, None], down[:, None]) - BETS**2 / 2)
    paid = np.concatenate([state.paid for state in states]) + evidence / PARTS
    factor = np.where(LARGE, paid, evidence if now.is_last else 0.0)
    sums = (np.concatenate([state.sums for state in states]) + wages) * factor
    today = (up + down) / 2
    verdicts: list[Verdict | None] = []
    for state, start, end in zip(states, (0, *past.ends), past.ends, strict=False):
        own = sums[start:end]
        state.paid, state.today = paid[start:end], today[start:end]
        state.evidence = float(own.sum())
        if now.is_last:
            state.sums = own
        verdicts.append(_verdict(own, state.evidence) if state.evidence >= THRESHOLD else None)
    return verdicts


def end_day(state: DayState, x: Floats, day: int) -> None:
    """The day, (C, S), joins the past."""
    state.values = np.concatenate([state.values, x[None]])[-MEMORY_DAYS:]
    state.days = np.append(state.days, day)[-MEMORY_DAYS:]
    state.scores = np.concatenate([state.scores, state.today[None]])[-MEMORY_DAYS:]
    state.paid = np.zeros_like(state.paid)


def onset(state: DayState, verdict: Verdict, day: int) -> tuple[int, int, int]:
    """Days since when, at the earliest and at the latest the series has been on its new side."""
    scores = verdict.sign * np.append(state.scores[:, verdict.series], state.today[verdict.series])
    found = since.onset(scores, np.ones(len(scores)))
    numbers = np.append(state.days, day)
    return int(numbers[found.at]), int(numbers[found.low]), int(numbers[found.high])


def prepare(states: Sequence[DayState]) -> Prepared:
    """What all parts of a day share, of judges with equal `days`; to be made again when a past changes."""
    values, known = _filled(np.concatenate([state.values for state in states], 2))
    system = np.concatenate([state.system for state in states])
    groups = classes(states[0].days)
    residuals = np.empty_like(values)
    for number, group in enumerate(groups):
        members = np.flatnonzero(system == number)
        residuals[:, :, members] = _left_out(values[:, :, members], group)
    beta = np.concatenate([state.beta for state in states], 1)
    persistence = np.concatenate([state.persistence for state in states])
    ends = np.cumsum([len(state.system) for state in states])
    return Prepared(values, known, residuals, groups, system, beta, persistence, tuple(ends.tolist()))


def _verdict(sums: Floats, evidence: float) -> Verdict:
    series, bet = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return Verdict(int(series), int(np.sign(BETS[bet])), evidence)


def _scores(past: Prepared, x: Floats, now: Moment, tolerance: float | Floats, xi: Floats) -> tuple[Floats, Floats]:
    """(S,) normal scores of the day so far for the bets on 'up' and on 'down'; 0 where it cannot be compared."""
    known = past.known[now.part] & ~np.isnan(x)
    x = np.where(known, x, 0.0)
    residuals, new = past.residuals[:, now.part].copy(), np.zeros_like(x)
    owns = classes(np.full(1, now.day, np.int64))
    for number, (groups, (own,)) in enumerate(zip(past.groups, owns, strict=True)):
        members = np.flatnonzero(past.system == number)
        same = np.flatnonzero(groups == own)
        if not len(members):
            continue
        if len(same) < 2:
            known[members] = False
            continue
        place = np.ix_(same, members)
        residuals[place], new[members] = _with_today(past.values[:, now.part][place], x[members])
    beta = past.beta[now.part]
    whole = past.residuals[:, -1]
    residuals = np.round(residuals[1:] - beta * whole[:-1], TIE_DECIMALS)
    sides = np.round(new - beta * whole[-1], TIE_DECIMALS) + np.array([[-1.0], [1.0]]) * tolerance
    below, equal = ((operator(residuals, sides[:, None]).sum(1)) for operator in (np.less, np.equal))
    u = (below + xi * (equal + 1)) / (len(residuals) + 1)
    up, down = np.where(known, ndtri(np.clip(u, 1e-12, 1 - 1e-12)), 0.0) / np.sqrt(past.persistence)
    return up, down


def _left_out(values: Floats, groups: Ints) -> Floats:
    """Residuals of (n, ...) values around the means of their groups, each scaled to the variance of one day."""
    flat = values.reshape(len(values), -1)
    member = (groups[:, None] == np.arange(WEEK)).astype(np.float64)
    size = member.sum(0)
    mean = (member.T @ flat) / np.maximum(size, 1.0)[:, None]
    scale = np.sqrt(size / np.maximum(size - 1, 1e-9))
    return ((flat - mean[groups]) * scale[groups][:, None]).reshape(values.shape)


def _with_today(values: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Residuals of (n, S) past values of a class and of today's (S,), with today in the mean like everybody else."""
    n = len(values)
    mean = values.mean(0)
    distance = x - mean
    return (values - mean - distance / (n + 1)) * np.sqrt((n + 1) / n), distance * np.sqrt(n / (n + 1))


def _filled(values: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Values with the mean of the others where a day had none, and (C, S) where at least half of the days had one."""
    seen = ~np.isnan(values)
    count = seen.sum(0)
    mean = np.where(seen, values, 0.0).sum(0) / np.maximum(count, 1)
    return np.where(seen, values, mean), 2 * count >= len(values)


def _variance_ratio(residuals: Floats) -> Floats:
    """(S,) variance of 7-day sums of (n, S) rank scores over what it would be without dependence; own or mean, >= 1."""
    n = len(residuals)
    z = ndtri((rankdata(np.round(residuals, TIE_DECIMALS), axis=0) - 0.5) / n)
    power = np.maximum((z * z).sum(0), 1e-300)
    ratio = np.ones(residuals.shape[1])
    for lag in range(1, WEEK):
        ratio += 2 * (1 - lag / WEEK) * ((z[lag:] * z[:-lag]).sum(0) / power + 1 / (n + 1))
    return np.maximum(np.maximum(ratio, ratio.mean()), 1.0)
