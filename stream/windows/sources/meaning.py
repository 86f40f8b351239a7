"""Whether labels still come true as often as scores said in the reference, as a stream (F17). Binary tasks with scores.

The randomised residual of a label (`detectors.reliability`) is uniform whatever scores there are, as long as a score
means what it meant; so the stream moves with the concept and not with the scores. Owns what a score meant, and the
chance in the residuals; refuses to know how the stream is judged.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from detectors import calibration, randomness
from detectors.reliability import residuals
from stream.windows.columns import Floats, Ints
from stream.windows.results import Results

STREAM: Final = "calibration"

BIN_ROWS: Final = 25
BINS_MAX: Final = 40
"""The reference's scores lie in one bin for so many rows, and in at most so many: with 40 a score lies within 0.05 of
others of its bin where scores are spread evenly, and a bin of 5,000 rows has 125."""

SUPPORT_ROWS: Final = 10
"""Rows nearby in the reference below which it is not known what a score means: such scores have no residual."""

CHANCE: Final = randomness.key(1, STREAM)
"""Which of all random numbers are taken: the same in every run."""


class Meaning(msgspec.Struct):
    """(K - 1,) edges of the scores' bins, (K,) rate of label 1 in each, NaN where the reference does not show it."""

    edges: np.ndarray
    rates: np.ndarray


def learn(results: Results) -> Meaning | None:
    """What scores meant in the reference; None where too few of its rows have both a score and a label, or where all
    labels are alike."""
    label, score = _known(results)
    known = ~np.isnan(label) & ~np.isnan(score)
    n, ones = int(known.sum()), float(label[known].sum())
    if n < calibration.REFERENCE_ROWS_MIN or not 0 < ones < n:
        return None
    edges = calibration.score_edges(score[known], min(n // BIN_ROWS, BINS_MAX))
    code, size = calibration.code(edges, score[known]), len(edges) + 1
    rows, positive = (np.bincount(code, x, size).astype(np.float64) for x in (None, label[known]))
    rates = calibration.monotone_rates(rows, positive)
    return Meaning(edges, np.where(calibration.support(rows) >= SUPPORT_ROWS, rates, np.nan))


def column(found: Meaning, results: Results) -> Floats:
    """(n,) residuals of the rows whose fate is new; NaN without a score or a label."""
    label, score = _known(results)
    order, event_time = results.order[results.fates], results.event_time[results.fates]
    rate = np.where(np.isnan(score), np.nan, found.rates[calibration.code(found.edges, score)])
    xi = randomness.of_rows(CHANCE, order, event_time, score, twin(order, event_time, score))
    return np.where(np.isnan(label), np.nan, residuals(rate, label, xi))


def twin(*columns: Floats) -> Floats:
    """(n,) how many earlier rows are like each: what tells rows of the same moment and score apart.

    >>> twin(np.array([1.0, 1.0, 2.0, 1.0]), np.array([5.0, 5.0, 5.0, 6.0])).tolist()
    [0.0, 1.0, 0.0, 0.0]
    """
    if not len(columns[0]):
        return np.zeros(0)
    rank: Ints = np.lexsort(columns)
    fresh = np.ones(len(rank), np.bool_)
    fresh[1:] = np.any([x[rank][1:] != x[rank][:-1] for x in columns], axis=0)
    places = np.arange(len(rank))
    found = np.empty(len(rank))
    found[rank] = places - np.maximum.accumulate(np.where(fresh, places, 0))
    return found


def _known(results: Results) -> tuple[Floats, Floats]:
    """Labels 0 and 1 and scores from 0 to 1 of the rows whose fate is new; NaN for others."""
    score = results.learners["champion"].score[results.fates]
    return results.label[results.fates], np.where((score >= 0.0) & (score <= 1.0), score, np.nan)
