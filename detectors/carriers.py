"""Which slices of the rows carry a change. Owns the candidates and how they are compared; refuses to know what changed:
it is given one number a row, which both times have, and asks where its mean has moved.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.bets import QUARTERS, quarters, smooth
from detectors.binning import count
from detectors.sample import Labelled, Layout

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ROWS_MIN: Final = 30
"""Fewer rows of a slice, or outside it, on either side say nothing of it."""

SURE: Final = 4.0
"""Standard errors by which a slice must differ from the rest to be named: of a few hundred candidates chance brings one
this far once in a hundred alarms."""

ALONE: Final = 0.25
"""The rest counts as still where it has moved by less than this part of what the slice has."""

SLICES_MAX: Final = 10


class Carrier(NamedTuple):
    """A slice in which the change is larger than outside it. share: its part of the whole change (rows times size);
    inside, outside: the change of the mean; sure: standard errors between the two; alone: the rest stands still;
    declared: a declared slice or a category, in which the change can be looked at again."""

    name: str
    share: float
    inside: float
    outside: float
    sure: float
    alone: bool
    declared: bool


class Candidate(NamedTuple):
    name: str
    before: Mask
    after: Mask
    declared: bool


def carriers(candidates: list[Candidate], before: Floats, after: Floats, chance: float = 0.0) -> list[Carrier]:
    """Slices in which the mean has risen surely more than in the rest, the surest first. `before` and `after` hold the
    number of each row; `chance` is how far it rises everywhere where nothing has changed."""
    every = (carrier(each, before, after, chance) for each in candidates)
    found = [each for each in every if each is not None and each.sure >= SURE]
    found.sort(key=lambda each: (-each.sure, each.name))
    return found[:SLICES_MAX]


def carrier(each: Candidate, before: Floats, after: Floats, chance: float = 0.0) -> Carrier | None:
    """One slice against the rest; None where either has too few rows."""
    inside, outside = rise(before[each.before], after[each.after]), rise(before[~each.before], after[~each.after])
    if min(inside.rows, outside.rows) < ROWS_MIN:
        return None
    mass = float(each.after.mean())
    own, rest = max(inside.value - chance, 0.0), max(outside.value - chance, 0.0)
    share = mass * own / (mass * own + (1 - mass) * rest) if own or rest else 0.0
    error = float(np.hypot(inside.error, outside.error))
    sure = (inside.value - outside.value) / error if error > 0 else 0.0
    return Carrier(each.name, share, inside.value, outside.value, sure, rest < ALONE * own, each.declared)


class Rise(NamedTuple):
    value: float
    error: float
    rows: int


def rise(before: Floats, after: Floats) -> Rise:
    """Of the mean, its standard error, and the rows of the smaller side."""
    rows = min(len(before), len(after))
    if not rows:
        return Rise(0.0, np.inf, 0)
    error = float(np.sqrt(before.var() / len(before) + after.var() / len(after)))
    return Rise(float(after.mean() - before.mean()), error, rows)


def candidates_of(
    layout: Layout, reference: Labelled, current: Labelled, without: Collection[int] = ()
) -> list[Candidate]:
    """Declared slices, then levels and quarters of the features but those in `without`: a feature that has moved cannot
    say where it moved. A level that is a declared slice too counts once."""
    found: dict[str, Candidate] = {}
    for s, names in enumerate(layout.slices):
        for k, name in enumerate(names):
            found[name] = Candidate(name, reference.slices[:, s] == k, current.slices[:, s] == k, True)
    for j, (stream, bins) in enumerate(zip(layout.features, layout.bins, strict=True)):
        if j in without:
            continue
        before, after = reference.codes[:, j], current.codes[:, j]
        if stream.kind == "categorical":
            groups = [(f"{stream.name}={name}", k) for k, name in enumerate(bins.categories)]
            of_bin = np.arange(bins.size)
        elif stream.kind == "numeric":
            groups = [(f"{stream.name}: {name}", k) for k, name in enumerate(QUARTERS)]
            of_bin = quarters(smooth(count(before[:, None].astype(np.int32), bins.size)[0]))
        else:
            groups, of_bin = [(f"{stream.name}={k}", k) for k in (0, 1)], np.arange(bins.size)
        of_bin = np.append(of_bin, -1)  # the code of what is missing, -1, finds the last
        for name, k in groups:
            found.setdefault(
                name, Candidate(name, of_bin[before] == k, of_bin[after] == k, stream.kind == "categorical")
            )
    return list(found.values())
