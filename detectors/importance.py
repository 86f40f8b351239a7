"""How much each feature matters to a model (F55): by shuffling it, or by how the score follows it. And whether that has
changed.

Owns estimates with their standard errors, from a bounded sample of rows or from sums over a stream of them; refuses to
know what the model is. Two ways:

* `permutation` (Breiman 2001, section 10; Fisher, Rudin and Dominici 2019) asks the model again with one feature
  shuffled among the rows: the increase of the loss. Features that carry the same news share the importance, or hide it
  from each other. `Tally` sums the increases of rows as they come, each asked once (Fumagalli, Muschalik, Hüllermeier
  and Hammer 2023, "Incremental permutation feature importance").
* `of_score` needs no model, only its scores: the share of the variance of their ranks that a feature's bins explain
  (correlation ratio), less what bins explain by chance (Kelley 1935). It says what the score goes along with, not what
  the model reads: a feature that the model ignores counts if it hangs together with one that it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import rankdata

from detectors import randomness
from detectors import state as states

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]
FeatureDict: TypeAlias = Mapping[str, Any]
Answers: TypeAlias = Sequence[Any]
Loss: TypeAlias = Literal["error", "log", "absolute"]

ROWS_MAX: Final = 512
"""Rows that are asked about: a loss of 0/1 that rises by 0.05 stands out at three standard errors."""

FEATURES_MAX: Final = 100
"""Features that are shuffled in one go, for the time: with 512 rows these are 51,200 questions. Callers with more give
them in turns."""

LOSS_MAX: Final = 34.5
"""Log loss of a probability of 1e-15: one certain mistake must not decide everything."""

Z_MAX: Final = 99.0
"""Standard errors of a change that are told at most: estimates without any error are no surer than that."""

ROWS_MIN: Final = 20
"""Fewer rows say nothing."""

VERSION: Final = 1


class Importances(msgspec.Struct, frozen=True):
    """Of each feature: the estimate and its standard error, NaN where nothing is known; `rows` they rest on."""

    features: tuple[str, ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    rows: int

    def shares(self) -> dict[str, float]:
        """What each feature has of all importance; estimates below zero have none. For ranking alerts.

        >>> Importances(("a", "b", "c"), (0.75, 0.25, -0.01), (0.0, 0.0, 0.0), 100).shares()
        {'a': 0.75, 'b': 0.25, 'c': 0.0}
        """
        positive = [max(value, 0.0) if value == value else 0.0 for value in self.values]
        total = sum(positive)
        return {name: value / total if total else 0.0 for name, value in zip(self.features, positive, strict=True)}


class Drift(NamedTuple):
    """Between two vectors of importances. `z`: of each feature that both know, its change in standard errors; `p`: that
    the largest of them is chance, whatever hangs together (Bonferroni); `moved`: half the sum of absolute changes of
    shares, 0 none, 1 everything; `most`: the feature of the largest z."""

    z: dict[str, float]
    p: float
    moved: float
    most: str | None


class Sums(msgspec.Struct):
    """Increases of the loss by one feature: their sum, sum of squares, smallest and largest, zero included."""

    total: float = 0.0
    squares: float = 0.0
    low: float = 0.0
    high: float = 0.0


class Tally(msgspec.Struct):
    """Increases of the loss by feature over `rows` rows. A feature that a row says nothing of counts as no increase:
    shuffling it leaves the row as it was."""

    rows: int = 0
    sums: dict[str, Sums] = {}

    def add(self, increases: Mapping[str, float]) -> None:
        """Take one row in."""
        self.rows += 1
        for name, value in increases.items():
            held = self.sums.setdefault(name, Sums())
            held.total += value
            held.squares += value * value
            held.low, held.high = min(held.low, value), max(held.high, value)

    def joined(self, other: Tally) -> Tally:
        """Both together."""
        names = dict.fromkeys([*self.sums, *other.sums])
        return Tally(self.rows + other.rows, {name: _both(self.sums.get(name), other.sums.get(name)) for name in names})

    def importances(self) -> Importances:
        """The means, by name of the feature.

        >>> tally = Tally()
        >>> for i in range(100):
        ...     tally.add({"a": float(i % 2), "b": 0.0})
        >>> tally.importances().values, round(tally.importances().errors[0], 4)
        ((0.5, 0.0), 0.0503)
        """
        names, n = tuple(sorted(self.sums)), self.rows
        if n < ROWS_MIN:
            return Importances(names, (np.nan,) * len(names), (np.nan,) * len(names), n)
        means = tuple(self.sums[name].total / n for name in names)
        spread = (max(self.sums[name].squares / n - mean * mean, 0.0) for name, mean in zip(names, means, strict=True))
        return Importances(names, means, tuple(float(np.sqrt(each / (n - 1))) for each in spread), n)


def _both(one: Sums | None, other: Sums | None) -> Sums:
    one, other = one or Sums(), other or Sums()
    return Sums(
        one.total + other.total, one.squares + other.squares, min(one.low, other.low), max(one.high, other.high)
    )


def shift(before: Tally, now: Tally) -> dict[str, float]:
    """p of each feature that its increases in the rows of `now` are a fair draw from those of both: an upper bound,
    whatever their distribution, for one feature looked at once.

    Where nothing has changed, `now` is drawn without replacement from all rows, whose mean, variance and range are
    known: Bennett's inequality (1962), which holds for such draws as well (Hoeffding 1963, section 6). A normal
    approximation is no match: of a feature that matters in few rows a block often has none, and no error either.
    `before` should have several times the rows of `now`; with few rows the bound is far above the true p.

    >>> before, now, same = Tally(), Tally(), Tally()
    >>> for i in range(800):
    ...     before.add({"a": float(i % 2)})
    >>> for i in range(200):
    ...     now.add({"a": float(i % 8 == 0)})
    ...     same.add({"a": float(i % 2)})
    >>> shift(before, now)["a"] < 1e-6, shift(before, same)["a"]
    (True, 1.0)
    """
    whole, n = before.joined(now), before.rows + now.rows
    found = {}
    for name, held in whole.sums.items():
        mean = held.total / n
        variance = held.squares / n - mean * mean
        moved = now.sums.get(name, Sums()).total / now.rows - mean
        reach = held.high - mean if moved > 0 else mean - held.low
        if variance <= 0.0 or moved == 0.0 or reach <= 0.0:
            found[name] = 1.0
            continue
        u = abs(moved) * reach / variance
        found[name] = min(1.0, 2 * float(np.exp(-now.rows * variance / reach**2 * ((1 + u) * np.log1p(u) - u))))
    return found


class RecentState(msgspec.Struct):
    features: list[dict[str, Any]] = []
    labels: list[Any] = []
    place: int = 0
    version: int = VERSION


class Recent:
    """The last labelled rows, at most `ROWS_MAX`: what `permutation` is given."""

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self.rows_max = rows_max
        self.state = RecentState()

    def add(self, features: FeatureDict, label: Any) -> None:
        """Take a row in, instead of the oldest."""
        state = self.state
        if len(state.labels) < self.rows_max:
            state.features.append(dict(features))
            state.labels.append(label)
            return
        state.features[state.place], state.labels[state.place] = dict(features), label
        state.place = (state.place + 1) % self.rows_max

    def rows(self) -> tuple[list[dict[str, Any]], list[Any]]:
        """Features and labels, the oldest first."""
        state, at = self.state, self.state.place
        return state.features[at:] + state.features[:at], state.labels[at:] + state.labels[:at]

    def snapshot(self) -> bytes:
        return states.pack(self.state)

    def restore(self, state: bytes) -> None:
        """Raises ValueError where the bytes are something else."""
        self.state = states.unpack(RecentState, VERSION, state)


def permutation(
    rows: Sequence[FeatureDict], labels: Sequence[Any], predict: Callable[[list[dict[str, Any]]], Answers],
    loss: Loss, seed: int, features: Sequence[str] | None = None,
) -> Importances:  # fmt: skip
    """Increase of the mean loss when one feature is shuffled among the rows (the last `ROWS_MAX` of them).

    `predict` answers a list of rows, with classes for the loss `error`, probabilities of 1 for `log`, numbers for
    `absolute`; it must not learn. A feature that a row lacks is lacking again after the shuffle, in another row.
    The same seed shuffles the same rows alike, so two models can be compared. Costs (features + 1) x rows questions.

    >>> rows = [{"a": float(i % 2), "b": float(i)} for i in range(100)]
    >>> found = permutation(rows, [i % 2 for i in range(100)], lambda asked: [int(x["a"]) for x in asked], "error", 1)
    >>> found.features, found.values[0] > 0.4, found.values[1]
    (('a', 'b'), True, 0.0)
    """
    kept, truth = [dict(x) for x in rows[-ROWS_MAX:]], list(labels[-ROWS_MAX:])
    names = sorted({name: None for x in kept for name in x}) if features is None else list(features)
    names = names[:FEATURES_MAX]
    n = len(kept)
    if n < ROWS_MIN:
        return Importances(tuple(names), (np.nan,) * len(names), (np.nan,) * len(names), n)
    before = losses(loss, predict(kept), truth)
    values, errors = [], []
    for name in names:
        order = randomness.generator(seed, "importance", name).permutation(n).tolist()
        asked = [borrowed(x, name, kept[i]) for x, i in zip(kept, order, strict=True)]
        increase = losses(loss, predict(asked), truth) - before
        values.append(float(increase.mean()))
        errors.append(float(increase.std(ddof=1) / np.sqrt(n)))
    return Importances(tuple(names), tuple(values), tuple(errors), n)


def borrowed(x: FeatureDict, name: str, other: FeatureDict) -> dict[str, Any]:
    """The features of a row, one of them as another row has it; it is lacking where that one lacks it.

    >>> borrowed({"a": 1, "b": 2}, "a", {"a": 3}), borrowed({"a": 1, "b": 2}, "b", {"a": 3})
    ({'a': 3, 'b': 2}, {'a': 1})
    """
    changed = dict(x)
    if name in other:
        changed[name] = other[name]
    else:
        changed.pop(name, None)
    return changed


def losses(loss: Loss, answers: Answers, labels: Sequence[Any]) -> Floats:
    """(n,) loss of each answer against its label.

    >>> losses("error", ["a", "b"], ["a", "a"]), losses("log", [0.5, 1.0], [1, 1]), losses("absolute", [1.5], [1.0])
    (array([0., 1.]), array([0.69314718, 0.        ]), array([0.5]))
    """
    if len(answers) != len(labels):
        raise ValueError(f"{len(answers)} answers to {len(labels)} rows")
    if loss == "error":
        return np.array([answer != label for answer, label in zip(answers, labels, strict=True)], np.float64)
    said, truth = np.asarray(answers, np.float64), np.asarray(labels, np.float64)
    if loss == "absolute":
        return np.asarray(np.abs(said - truth))
    share = np.where(truth > 0.5, said, 1.0 - said)
    return np.asarray(np.abs(np.log(np.clip(share, np.exp(-LOSS_MAX), 1.0))))


def of_score(features: Sequence[str], codes: Codes, score: Floats) -> Importances:
    """Share of the variance of the score's ranks that each feature's bins explain, from (n, f) codes and (n,) scores.

    A missing value is a bin of its own; rows without a score do not count. About 0 without dependence (it may be
    slightly negative), 1 where the bin decides the score. Takes any number of rows: 5 ms for 50 features of 5,000.
    """
    known = np.isfinite(score)
    codes, y = codes[known] + 1, rankdata(score[known])
    n = len(y)
    if n < ROWS_MIN or y.min() == y.max():
        return Importances(tuple(features), (np.nan,) * len(features), (np.nan,) * len(features), n)
    found = [_explained(column, y) for column in np.ascontiguousarray(codes.T)]
    return Importances(tuple(features), tuple(v for v, _ in found), tuple(e for _, e in found), n)


def _explained(bins: Codes, y: Floats) -> tuple[float, float]:
    """Kelley's unbiased correlation ratio of y given its bins, and its standard error.

    The error has two parts: of the influence of each row on the ratio, less what chance in the bins' means adds to it;
    and of the chi-square that is left where there is no dependence. In simulations 0.91 to 1.07 of the true one.
    """
    n = len(y)
    counts = np.bincount(bins)
    used = int((counts > 0).sum())
    means = np.bincount(bins, y) / np.maximum(counts, 1)
    total, within = (y - y.mean()) ** 2, (y - means[bins]) ** 2
    variance = total.mean()
    left = within.mean() / variance
    ratio = 1 - left * (n - 1) / max(n - used, 1)
    influence = (within - left * total) / variance
    chance = left**2 * (used - 1) / n**2
    return float(ratio), float(np.sqrt(max(influence.var() / n - 4 * chance, 0.0) + 2 * chance))


def drift(before: Importances, now: Importances) -> Drift:
    """Whether importances have changed, over the features that both know with an error.

    p is right where estimates are about normal (some hundred rows) and the two samples have no row in common.

    >>> found = drift(Importances(("a", "b"), (0.2, 0.1), (0.01, 0.01), 500),
    ...               Importances(("a", "b"), (0.1, 0.1), (0.01, 0.01), 500))
    >>> found.most, round(found.z["a"], 2), found.p < 1e-10, round(found.moved, 2)
    ('a', -7.07, True, 0.17)
    """
    old = {
        name: (value, error) for name, value, error in zip(before.features, before.values, before.errors, strict=True)
    }
    z: dict[str, float] = {}
    for name, value, error in zip(now.features, now.values, now.errors, strict=True):
        if name not in old:
            continue
        change, spread = value - old[name][0], np.hypot(error, old[name][1])
        if np.isfinite(change) and np.isfinite(spread):
            z[name] = float(np.clip(change / max(spread, 1e-300), -Z_MAX, Z_MAX))
    shares, past = now.shares(), before.shares()
    moved = sum(abs(shares.get(name, 0.0) - past.get(name, 0.0)) for name in {**past, **shares}) / 2
    most = max(z, key=lambda name: abs(z[name]), default=None)
    p = min(1.0, 2 * len(z) * float(ndtr(-abs(z[most])))) if most is not None else 1.0
    return Drift(z, p, moved, most)
