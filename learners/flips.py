"""How many labels of a source are flipped, by comparison with other sources where the model was equally confident.

Owns the estimate and its evidence. Refuses to know sources' names, time, and what is done about it
(`learners.influence`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from learners.metrics import Task

LOPSIDED: Final = 10.0
"""A source whose odds of 1 differ by this factor from the others' may choose examples by their label (complaints come
of one class only); then a flip must also show in what the model said of each class."""

DISTINCT_MIN: Final = 1e-9
"""Of the largest possible determinant: below it, all answers are equally confident, and nothing tells 1s from 0s."""

SPREAD_MIN: Final = 0.05
"""Variance of a confidence, counted as one more label's: two equal ones are no proof that all are equal."""

RAMP: Final = 2.0
"""Standard errors over which a flip rate goes from not believed to believed."""


class Bin(NamedTuple):
    """Labels where the model was about equally confident: a source's 1s and 0s, and the other sources'."""

    ones: float
    zeros: float
    others_ones: float
    others_zeros: float

    @property
    def rate(self) -> float:
        """The others' share of 1s, never 0 or 1."""
        return (self.others_ones + 0.5) / (self.others_ones + self.others_zeros + 1.0)


class Flips(NamedTuple):
    """Flipped labels as shares of all the source's labels (`to_zero`, `to_one`), and of its true 1s and true 0s."""

    to_zero: float
    to_one: float
    of_ones: float
    of_zeros: float


class _Guess(NamedTuple):
    """A number and its standard error."""

    value: float = 0.0
    error: float = 1.0


def estimate(table: Sequence[Bin], task: Task, deviations: float) -> Flips:
    """How many of a source's labels are flipped, if the others' are not (Dawid and Skene 1979's confusion of an
    annotator, with the model's confidence in place of repeated labels).

    >>> table = [Bin(10, 90, 5, 195), Bin(60, 40, 195, 5)]
    >>> [round(x, 2) for x in estimate(table, "binary", 2.0)]
    [0.19, 0.04, 0.39, 0.09]
    """
    ones, zeros = math.fsum(one.ones for one in table), math.fsum(one.zeros for one in table)
    n = ones + zeros
    if n <= 0.0:
        return Flips(0.0, 0.0, 0.0, 0.0)
    true_ones = math.fsum(one.rate * (one.ones + one.zeros) for one in table) / n
    of_ones, of_zeros = _by_confidence(table, task)
    to_zero = _Guess(of_ones.value * true_ones, of_ones.error * true_ones)
    to_one = _Guess(of_zeros.value * (1.0 - true_ones), of_zeros.error * (1.0 - true_ones))
    odds = (ones + 0.5) * (1.0 - true_ones) / ((zeros + 0.5) * true_ones)
    if task == "binary" and not 1.0 / LOPSIDED < odds < LOPSIDED:
        among_zeros, among_ones = _by_label(table)
        to_zero = _lesser(to_zero, _Guess(among_zeros.value * zeros / n, among_zeros.error * zeros / n))
        to_one = _lesser(to_one, _Guess(among_ones.value * ones / n, among_ones.error * ones / n))
    a, b = _believed(to_zero, deviations), _believed(to_one, deviations)
    return Flips(a, b, min(a / true_ones, 1.0), min(b / (1.0 - true_ones), 1.0))


def _believed(guess: _Guess, deviations: float) -> float:
    """All of it far beyond chance, nothing within chance."""
    if guess.value <= 0.0:
        return 0.0
    return guess.value * min(max(guess.value / guess.error - deviations, 0.0) / RAMP, 1.0)


def _lesser(one: _Guess, other: _Guess) -> _Guess:
    return one if one.value <= other.value else other


def _by_confidence(table: Sequence[Bin], task: Task) -> tuple[_Guess, _Guess]:
    """Flipped shares a of the true 1s and b of the true 0s, by least squares: where the others' rate is r, the source's
    is r - a r + b (1 - r). Right whatever answers the source chooses to label. One below 0 says that others flip; it
    is not put to 0 before the other is estimated, which would then be blamed for it."""
    saa = sbb = sab = sa = sb = 0.0
    for one in table:
        n, others, r = one.ones + one.zeros, one.others_ones + one.others_zeros, one.rate
        if n <= 0.0 or others <= 0.0:
            continue
        precision = 1.0 / (r * (1.0 - r) * (1.0 / n + 1.0 / others))
        missing = r - one.ones / n
        saa += precision * r * r
        sbb += precision * (1.0 - r) ** 2
        sab -= precision * r * (1.0 - r)
        sa += precision * r * missing
        sb -= precision * (1.0 - r) * missing
    determinant = saa * sbb - sab * sab
    if saa > 0.0 and task == "regression":
        return _Guess(max(sa / saa, 0.0), 1.0 / math.sqrt(saa)), _Guess()
    if determinant <= DISTINCT_MIN * saa * sbb:
        return _Guess(), _Guess()
    a, b = (sa * sbb - sb * sab) / determinant, (sb * saa - sa * sab) / determinant
    return _Guess(a, math.sqrt(sbb / determinant)), _Guess(b, math.sqrt(saa / determinant))


def _by_label(table: Sequence[Bin]) -> tuple[_Guess, _Guess]:
    """Flipped shares among the source's 0s and among its 1s, by how far the mean confidence in 1 of each has gone
    towards that of the other class. Right whatever labels the source chooses to give."""
    rates = [one.rate for one in table]
    zeros, ones = _mean(rates, [one.zeros for one in table]), _mean(rates, [one.ones for one in table])
    low, high = _mean(rates, [one.others_zeros for one in table]), _mean(rates, [one.others_ones for one in table])
    if low is None or high is None or high.value <= low.value:
        return _Guess(), _Guess()
    gap = high.value - low.value
    among_zeros = among_ones = _Guess()
    if zeros is not None:
        among_zeros = _Guess((zeros.value - low.value) / gap, math.hypot(zeros.error, low.error) / gap)
    if ones is not None:
        among_ones = _Guess((high.value - ones.value) / gap, math.hypot(ones.error, high.error) / gap)
    return among_zeros, among_ones


def _mean(values: Sequence[float], counts: Sequence[float]) -> _Guess | None:
    """Counts of less than one label are the remains of forgotten ones."""
    n = math.fsum(counts)
    if n < 1.0:
        return None
    mean = math.fsum(x * count for x, count in zip(values, counts, strict=True)) / n
    square = math.fsum((x - mean) ** 2 * count for x, count in zip(values, counts, strict=True)) / n
    return _Guess(mean, math.sqrt((square + SPREAD_MIN / n) / n))
