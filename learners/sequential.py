"""Always-valid tests of a mean difference: look after every example, stop when you like.

Own the sums, the e-values and the confidence sequences. Refuse to know what is compared, who answered, and what follows
from it (`learners.trials`).

Differences d lie in [-1, 1]: loss of the champion minus loss of the challenger on the same example, so positive means
that the challenger is better. For a bet b in (0, 1), a running product of 1 + b d would grow on a better challenger
and, where it is not better, exceed 1 / alpha at any time with probability at most alpha (Ville 1939). It has to be kept
for every bet and every mean that might be asked about; its lower bound is a function of six sums:

    log(1 + b d) >= b d - (b d)^2 / 2 + (b d)^3 / 3 - (b d)^4 / 4 + (b d)^5 / 5 - r(b) d^6    for all d >= -1,

with r(b) = -log(1 - b) - b - b^2 / 2 - ... - b^5 / 5, because the remainder of that series at y is y^6 times the
integral of s^5 / (1 + s y) over s in (0, 1), which falls with y and is r(b) / b^6 at y = -b. Call the right side
b d - c(d). With mu the expected difference given everything before, exp(b (d - mu) - c(d)) has mean at most
(1 + b mu) exp(-b mu) <= 1, so its running product, mixed over several bets, has the same property, and mu may change.

Fan, Grama and Liu (2015) and Howard, Ramdas, McAuliffe and Sekhon (2021) have this with two powers; betting on bounded
means is Waudby-Smith and Ramdas (2024), and on differences between forecasts Choe and Ramdas (2024). Labels until 0/1
losses tell, against the product itself, disagreement on 10 % and 20 %, gain of 2 points: 0.5 % more with six powers,
18 % and 10 % more with two.

**What is guaranteed, under drift too**: with probability 1 - alpha there is no time at all at which the e-value is
above 1 / alpha although the *average so far of the expected differences* was at most the mean asked about. Nothing need
be independent or alike. It says nothing of the future: an average that was won early hides that the challenger has
become worse, which is why `learners.trials` starts its guard afresh at every step.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from learners.contract import SnapshotError

Floats = NDArray[np.float64]

BETS: Final[Floats] = 0.9 * 1.5 ** -np.arange(14.0)
"""The best bet is about effect / variance. From 0.9 down to 0.005, the best one for an effect that takes millions of
labels; a bet 1.22 times too large or too small, the most that can be, loses 5 % of the growth."""

BET_CENTRE: Final = 0.1
BET_SPREAD: Final = 1.5
"""Weights are log-normal: a gain of 2 points where the models disagree on 20 % is the best guess (0.02 / 0.2). Against
equal weights it saves a tenth of the labels at 1 and 2 points, and costs 4 % to 8 % at half a point."""

_PRIOR: Final = np.exp(-0.5 * (np.log(BETS / BET_CENTRE) / BET_SPREAD) ** 2)
LOG_WEIGHTS: Final[Floats] = np.log(_PRIOR / _PRIOR.sum())

_ORDERS: Final = np.arange(1.0, 6.0)[:, None]
COSTS: Final[Floats] = np.concatenate(
    [(-BETS) ** _ORDERS / _ORDERS, [-np.log1p(-BETS) - (BETS**_ORDERS / _ORDERS).sum(axis=0)]]
)[1:]
"""(5, bets) what a bet costs for each of the second to sixth power sums."""

POWERS: Final = 6

NEWTON_STEPS: Final = 8
"""Towards a confidence bound: 4 are enough to 1e-9 for sums of one to ten million differences."""

STREAMS_MAX: Final = 10_000
"""Bounds the state: 54 bytes a stream."""


class _State(msgspec.Struct, array_like=True):
    n: int
    sums: list[list[float]]


class Differences:
    """Running evidence on the means of `streams` differences at once, k of them below.

    State: how many were taken and their first six power sums. How they were cut into calls changes nothing.
    """

    def __init__(self, streams: int = 1) -> None:
        if not 1 <= streams <= STREAMS_MAX:
            raise ValueError(f"{streams} streams of differences; give 1 to {STREAMS_MAX}")
        self.n = 0
        self.sums: Floats = np.zeros((POWERS, streams))

    def take(self, differences: ArrayLike) -> None:
        """(n, k) differences in order, or (k,) of one example. Raises ValueError, and takes nothing, where one is not a
        number in [-1, 1]: clip or scale it first."""
        d = np.atleast_2d(np.asarray(differences, np.float64))
        if d.ndim != 2 or d.shape[1] != self.sums.shape[1]:
            raise ValueError(f"differences of shape {d.shape}; (n, {self.sums.shape[1]}) are wanted, a column a stream")
        if not (np.abs(d) <= 1.0).all():
            row, column = np.argwhere(~(np.abs(d) <= 1.0))[0]
            raise ValueError(
                f"difference {d[row, column]} of stream {column}, example {self.n + row}, is not in [-1, 1]; "
                "scale the losses first"
            )
        square = d * d
        cube = square * d
        powers = np.array([d, square, cube, square * square, square * cube, cube * cube])
        if len(d) == 1:
            self.sums = self.sums + powers[:, 0]
        else:  # one after the other: numpy's own sum would depend on how the input is cut
            self.sums = np.cumsum(np.concatenate([self.sums[:, None], powers], axis=1), axis=1)[:, -1]
        self.n += len(d)

    @property
    def means(self) -> Floats:
        """(k,) average differences so far; 0 before the first."""
        return self.sums[0] / max(self.n, 1)

    def above(self, mean: float = 0.0) -> Floats:
        """(k,) log e-values against "the average is at most `mean`". Reject, at any time, where >= log(1 / alpha)."""
        return mixture(self.sums[0] - self.n * mean, _costs(self.sums))

    def below(self, mean: float = 0.0) -> Floats:
        """(k,) log e-values against "the average is at least `mean`"."""
        return mixture(self.n * mean - self.sums[0], _costs(_mirrored(self.sums)))

    def interval(self, alpha: float) -> Floats:
        """(2, k) confidence sequence of the average expected difference: all of its intervals, at all times, hold
        together with probability 1 - alpha. Its ends and the tests agree: `above(m)` rejects at alpha / 2 where m is
        below the lower end."""
        if not 0 < alpha < 1:
            raise ValueError(f"alpha is {alpha}; give a number between 0 and 1")
        if self.n == 0:
            return np.array([[-1.0], [1.0]]) * np.ones_like(self.sums[0])
        evidence = math.log(2.0 / alpha)
        low = self.sums[0] - boundary(_costs(self.sums), evidence)
        high = self.sums[0] + boundary(_costs(_mirrored(self.sums)), evidence)
        return np.clip(np.stack([low, high]) / self.n, -1.0, 1.0)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_State(self.n, self.sums.tolist()))

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        try:
            read = msgspec.msgpack.decode(state, type=_State)
            sums = np.array(read.sums, np.float64)
        except (msgspec.DecodeError, ValueError) as error:
            raise SnapshotError(f"not the state of a sequential test: {error}") from error
        if sums.shape != self.sums.shape:
            raise SnapshotError(f"state of {sums.shape} sums where {self.sums.shape} belong")
        self.n, self.sums = read.n, sums


def _mirrored(sums: Floats) -> Floats:
    """The sums of -d."""
    return sums * (-1.0) ** np.arange(1, POWERS + 1)[:, None]


def _costs(sums: Floats) -> Floats:
    """(k, bets) what a bet costs, to be weighed against bet times sum: never negative."""
    return np.asarray((sums[1:, :, None] * COSTS[:, None]).sum(axis=0))


def mixture(excess: Floats, costs: Floats) -> Floats:
    """(k,) log e-values from (k,) sums in excess of the mean asked about and (k, bets) costs."""
    exponents = LOG_WEIGHTS + excess[:, None] * BETS - costs
    largest = exponents.max(axis=1)
    return np.asarray(largest + np.log(np.exp(exponents - largest[:, None]).sum(axis=1)))


def boundary(costs: Floats, evidence: float) -> Floats:
    """(k,) the excess at which the log e-value reaches `evidence`. Newton's method from where one bet alone reaches it:
    the log e-value is convex, so every iterate lies above."""
    excess = np.asarray(((evidence - LOG_WEIGHTS + costs) / BETS).min(axis=1))
    for _ in range(NEWTON_STEPS):
        exponents = LOG_WEIGHTS + excess[:, None] * BETS - costs
        largest = exponents.max(axis=1)
        parts = np.exp(exponents - largest[:, None])
        total = parts.sum(axis=1)
        excess = excess - (largest + np.log(total) - evidence) * total / (parts * BETS).sum(axis=1)
    return excess


def rejected(log_e: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Which of k hypotheses fall so that, with probability 1 - alpha, none of them falls wrongly at any time, whatever
    hangs together: each at alpha / k (Bonferroni, on e-values)."""
    values = np.asarray(log_e, np.float64)
    return np.asarray(values >= math.log(values.size / alpha))


def discovered(log_e: ArrayLike, alpha: float) -> NDArray[np.bool_]:
    """Which of k hypotheses fall so that at most a share alpha of those that fall do so wrongly on average, whatever
    hangs together: e-BH (Wang and Ramdas 2022). More powerful than `rejected`, for a look at many challengers, of which
    a few wrong ones do no harm. The promise is for one time at which it is asked, chosen as one likes."""
    values = np.asarray(log_e, np.float64)
    order = np.argsort(-values, kind="stable")
    needed = np.log(values.size / (alpha * np.arange(1, values.size + 1)))
    enough = np.flatnonzero(values[order] >= needed)
    found = np.zeros(values.size, bool)
    found[order[: enough[-1] + 1 if len(enough) else 0]] = True
    return found
