"""Slices worth watching, found in the reference (F10): where the loss is higher than elsewhere, surely and for many.

Owns the search over single and crossed slices, and the parts of a change of the mean; refuses to watch anything. What
is found is a proposal: a slice's loss is watched on rows that come later, so that it was chosen here takes nothing from
the guarantee there. The search (Chung et al. 2019, Slice Finder, with a bound instead of a test) looks at all levels of
all columns and at all pairs of the best of them, and counts all it looked at against itself.

Losses lie on a grid, so sums are exact in a float64 whatever the order in which a library adds: the same rows give the
same slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from detectors.bets import quarters, smooth
from detectors.binning import count
from detectors.contract import Bins, Stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

SLICES_MAX: Final = 16
"""Slices that are proposed: each costs a share of the slices' budget, and people read a dozen."""

BEAM: Final = 256
"""Levels that are crossed with each other, those that carry the largest excess of loss: 32,640 pairs at most."""

ROWS_MAX: Final = 20_000
"""Rows that are looked at, evenly spread: more would only find slices that matter less."""

SUPPORT_MIN: Final = 0.01
ROWS_MIN: Final = 50
"""A slice holds at least this share of the rows, and so many: fewer would be watched in vain."""

LEVEL: Final = 0.05
"""Chance that, without any dependence of the loss on the columns, anything is proposed at all."""

CANDIDATES_MAX: Final = 512
"""Best slices among which those are left out that are bad by the rows of a better one only."""

GRID: Final = 2.0**16
"""Steps between the smallest and the largest loss: sums of squares of 20,000 stay below 2 ** 47 steps."""


class Condition(NamedTuple):
    """One column of a slice: `codes` of its bins that belong to it, -1 for a missing value."""

    column: str
    codes: tuple[int, ...]
    words: str


class Slice(NamedTuple):
    """`excess` is the mean loss in it less that of all other rows, surely (all slices together) more than `low`;
    `carried`, `low` times the share of the rows, is what of the mean loss it surely accounts for, and ranks it."""

    conditions: tuple[Condition, ...]
    rows: int
    share: float
    loss: float
    excess: float
    low: float
    carried: float

    @property
    def words(self) -> str:
        return " and ".join(condition.words for condition in self.conditions)


class Change(NamedTuple):
    """Parts of the change of a mean over slices: `within` them, and of the `mix` of rows between them; their sum is the
    change of the whole. Opposite signs are Simpson's paradox."""

    within: float
    mix: float
    whole: float
    paradox: bool


def find(columns: Sequence[Stream], bins: Sequence[Bins], codes: Codes, loss: Floats) -> list[Slice]:
    """At most `SLICES_MAX` slices of (n, c) codes by (n,) loss (NaN where unknown), those that carry most loss first.

    Numeric columns enter by quarters of their rows, categorical ones by category, all by missing values. A pair is
    proposed only where it is surely worse than the rest of either side; a slice that is bad by the rows of a better one
    only is left out. 0.2 s for 5,000 rows of 40 columns, 2 s
    for 20,000 of 120.

    >>> plan = np.tile([0, 1, 2, 3], 500)
    >>> codes = np.column_stack([plan, np.arange(2000) // 4 % 2]).astype(np.int32)
    >>> columns = [Stream("plan", "categorical"), Stream("new", "rate")]
    >>> bins = [Bins(categories=("a", "b", "c")), Bins(edges=(0.5,))]
    >>> for found in find(columns, bins, codes, ((plan == 1) & (codes[:, 1] == 1)).astype(float)):
    ...     print(found.words, found.rows, found.loss)
    plan = b and new = 1 250 1.0
    """
    known = np.flatnonzero(np.isfinite(loss))
    known = known[np.linspace(0, len(known) - 1, min(len(known), ROWS_MAX)).astype(np.int64)]
    n = len(known)
    if n < 2 * ROWS_MIN:
        return []
    y, lowest, step = _on_grid(loss[known])
    conditions, inside = _beam(_levels(columns, bins, codes[known]), n, y)
    found = _Sums(inside.T @ inside, inside.T @ (inside * y[:, None]), inside.T @ (inside * (y * y)[:, None]))
    whole = _sums(y)
    a, b, low, z = _surely_worse(found, conditions, whole)
    chosen = []
    for k in _not_by_others(inside, a, b, y, z):
        i, j = int(a[k]), int(b[k])
        rows, total = float(found.rows[i, j]), float(found.total[i, j])
        excess = total / rows - float(y.sum() - total) / (n - rows)
        chosen.append(
            Slice(
                tuple(conditions[side] for side in dict.fromkeys((i, j))), int(rows), rows / n,
                lowest + total / rows * step, excess * step, float(low[k]) * step, float(low[k]) * step * rows / n,
            )
        )  # fmt: skip
    return chosen


def belongs(found: Sequence[Slice], columns: Sequence[str], codes: Codes) -> NDArray[np.bool_]:
    """(n, slices) which of (n, c) codes are in which slice; a column that is not there has missing values."""
    place = {name: j for j, name in enumerate(columns)}
    absent = np.full(len(codes), -1, np.int32)
    out = np.ones((len(codes), len(found)), np.bool_)
    for k, each in enumerate(found):
        for condition in each.conditions:
            column = codes[:, place[condition.column]] if condition.column in place else absent
            out[:, k] &= np.isin(column, condition.codes)
    return out


def change(before_rows: Ints, before_loss: Floats, after_rows: Ints, after_loss: Floats) -> Change:
    """Parts of a change of the mean loss (Kitagawa 1955), from rows and mean loss of disjoint slices of all rows.

    A slice without rows on one side is taken to have had the other's loss there.

    >>> parts = change(np.array([50, 50]), np.array([0.1, 0.3]), np.array([90, 10]), np.array([0.15, 0.35]))
    >>> round(parts.within, 3), round(parts.mix, 3), round(parts.whole, 3), parts.paradox
    (0.05, -0.08, -0.03, True)
    """
    u, v = before_rows / max(before_rows.sum(), 1), after_rows / max(after_rows.sum(), 1)
    x, y = np.where(u > 0, before_loss, after_loss), np.where(v > 0, after_loss, before_loss)
    some = (u > 0) | (v > 0)
    within = float(((u + v) / 2 * (y - x))[some].sum())
    mix = float(((v - u) * (x + y) / 2)[some].sum())
    return Change(within, mix, within + mix, within * (within + mix) < 0)


class _Sums(NamedTuple):
    """Rows, sum and sum of squares of the losses of slices, or of all rows; (levels, levels) of pairs of levels, single
    levels on the diagonal."""

    rows: Floats
    total: Floats
    squares: Floats


def _sums(y: Floats) -> _Sums:
    return _Sums(np.array(float(len(y))), y.sum(), (y * y).sum())


def _on_grid(loss: Floats) -> tuple[Floats, float, float]:
    """Losses as whole numbers from 0 to `GRID`, the lowest loss and what a step is worth."""
    low = float(loss.min())
    step = (float(loss.max()) - low) / GRID or 1.0
    return np.round((loss - low) / step), low, step


def _levels(columns: Sequence[Stream], bins: Sequence[Bins], codes: Codes) -> Iterator[tuple[Condition, Floats]]:
    """Each level of each column, and the (n,) rows in it as 0 and 1."""
    for j, (stream, own) in enumerate(zip(columns, bins, strict=True)):
        column = codes[:, j]
        if stream.kind == "numeric":
            counts = count(column[:, None], own.size)[0]
            part = quarters(smooth(counts))
            groups = [np.flatnonzero(part == k) for k in range(4)]
        else:
            groups = [np.array([k]) for k in range(own.size)]
        for group in [group for group in groups if len(group)] + [np.array([-1])]:
            words = _words(stream, own, int(group[0]), int(group[-1]))
            yield Condition(stream.name, tuple(group.tolist()), words), np.isin(column, group).astype(np.float64)


def _words(stream: Stream, bins: Bins, first: int, last: int) -> str:
    if first < 0:
        return f"{stream.name} is missing"
    if bins.categories:
        return f"{stream.name} = {bins.categories[first]}" if first < len(bins.categories) else f"other {stream.name}"
    if stream.kind != "numeric":
        return f"{stream.name} = {first}"
    above = f"{bins.edges[first - 1]:.4g} < " if first > 0 else ""
    return f"{above}{stream.name}" + (f" <= {bins.edges[last]:.4g}" if last < len(bins.edges) else "")


def _beam(levels: Iterator[tuple[Condition, Floats]], n: int, y: Floats) -> tuple[list[Condition], Floats]:
    """Conditions and (n, levels) rows of the levels that are crossed: neither too few rows nor nearly all."""
    least = _least(n)
    enough = [(condition, rows) for condition, rows in levels if least <= rows.sum() <= n - least]
    if not enough:
        return [], np.zeros((n, 0))
    inside = np.column_stack([rows for _, rows in enough])
    far = np.abs(inside.T @ y * n - inside.sum(0) * y.sum())
    best = np.sort(np.argsort(-far, kind="stable")[:BEAM])
    return [enough[i][0] for i in best], inside[:, best]


def _least(n: int) -> int:
    return max(ROWS_MIN, math.ceil(SUPPORT_MIN * n))


def _surely_worse(found: _Sums, conditions: Sequence[Condition], whole: _Sums) -> tuple[Ints, Ints, Floats, float]:
    """Levels a and b (equal for a single slice) and lower bound of the excess, in steps, of slices where it is above
    zero, against all other rows and the rest of either side; those that carry most first. And the z of all bounds."""
    columns = np.array([condition.column for condition in conditions])
    crossed = (columns[:, None] != columns) | np.eye(len(columns), dtype=np.bool_)
    a, b = np.nonzero(np.triu((found.rows >= _least(int(whole.rows))) & crossed))
    z = float(ndtri(1 - LEVEL / max(len(a), 1)))
    own = _Sums(*(sums[a, b] for sums in found))
    low = _bound(own, whole, whole, z)
    for side in (a, b):
        beside = _bound(own, _Sums(*(np.diag(sums)[side] for sums in found)), whole, z)
        low = np.where((a == b) | (beside > 0), low, -np.inf)
    order = np.argsort(-low * own.rows, kind="stable")
    order = order[low[order] > 0][:CANDIDATES_MAX]
    return a[order], b[order], low[order], z


def _bound(own: _Sums, around: _Sums, whole: _Sums, z: float) -> Floats:
    """Lower bound of the mean loss of slices less that of the other rows around them; -inf where there are none.

    No variance is taken to be less than that of all rows: a slice that is all wrong has none of its own.
    """
    rest = _Sums(*(x - y for x, y in zip(around, own, strict=True)))
    least = whole.squares / whole.rows - (whole.total / whole.rows) ** 2
    means, parts = [], []
    for side in (own, rest):
        rows = np.maximum(side.rows, 1)
        means.append(side.total / rows)
        parts.append(np.maximum(side.squares / rows - means[-1] ** 2, least) / rows)
    bound = means[0] - means[1] - z * np.sqrt(parts[0] + parts[1])
    return np.where(rest.rows > 0, bound, -np.inf)


def _not_by_others(inside: Floats, a: Ints, b: Ints, y: Floats, z: float) -> list[int]:
    """Places of at most `SLICES_MAX` slices that are surely worse even without the rows of those before them. A part of
    one of them stands for itself: it is surely worse than the rest of it."""
    whole = _sums(y)
    chosen: list[int] = []
    members: list[NDArray[np.bool_]] = []
    for k in range(len(a)):
        mine = (inside[:, a[k]] * inside[:, b[k]]).astype(np.bool_)
        free = np.ones(len(mine), np.bool_)
        for other in members:
            if (mine & ~other).any():
                free &= ~other
        left = mine & free
        if left.sum() < ROWS_MIN:
            continue
        if _bound(_sums(y[left]), _sums(y[free]), whole, z) <= 0:
            continue
        chosen.append(k)
        members.append(mine)
        if len(chosen) == SLICES_MAX:
            break
    return chosen
