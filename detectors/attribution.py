"""Two samples of labelled rows compared: how their loss parts (`decomposition`), how well each kind of change explains
them, and which features carry it. Owns the comparison; refuses to know what an alarm is and what should be done.

The kinds are three conditional independences of the time D, each tested by the log-likelihood that is lost where it is
taken for granted: covariate, D and y independent given x; label, D and x independent given y; concept, D and x
independent. Where two hold, nothing has changed. They need no model of y given x, however intricate that is; they need
one of D, and changes are simpler than the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import domain, joint
from detectors.decomposition import Parts, decompose, loss_parts, overlap_of
from detectors.design import Design, design
from detectors.domain import Fit
from detectors.joint import Joint
from detectors.sample import Labelled, Layout

Floats = NDArray[np.float64]

ROWS_MIN: Final = 100
"""Rows of a side below which nothing is said: a domain model of a dozen columns needs as many."""

OVERLAP_MIN: Final = 0.1
EFFECTIVE_MIN: Final = 30.0
"""Shared part of the inputs, and rows that the weights are worth, below which concept cannot be told: the comparison
would rest on a corner of the inputs that neither time stands for."""


class FeaturePart(NamedTuple):
    """What one feature has in a change. share: of the distance between the two times, all features together 1; loss:
    its part of the covariate change of the loss; concept: its share of what changed in labels given inputs."""

    name: str
    share: float
    loss: float
    concept: float
    psi: float


class Misfit(NamedTuple):
    """Log-likelihood lost by taking a kind for granted: twice the loss, and its degrees of freedom."""

    statistic: float
    degrees: int

    @property
    def excess(self) -> float:
        """In standard deviations of chance; about 0 where the kind explains everything."""
        return (self.statistic - self.degrees) / float(np.sqrt(2 * max(self.degrees, 1)))


class Attribution(NamedTuple):
    """Two times compared. overlap: 1 same inputs, 0 disjoint. effective: rows that the weights of each side are worth.
    decided: whether concept can be told from covariate at all. misfit: of each kind, and of `nothing` having changed.
    level: part of what changed in labels given inputs that is the label's level alone, whatever the inputs. label: by
    class, by how much its share has moved; of a numeric label, how much of it has. logit: (n + m,) log-odds of
    'current' by inputs and label together; chance: how far its mean differs where nothing has changed."""

    rows: tuple[int, int]
    before: float
    now: float
    loss: Parts
    overlap: float
    effective: tuple[float, float]
    decided: bool
    misfit: dict[str, Misfit]
    features: list[FeaturePart]
    level: float
    label: dict[str, float]
    logit: Floats
    chance: float


def attribute(layout: Layout, reference: Labelled, current: Labelled, skip: Sequence[int] = ()) -> Attribution | None:
    """Compare current rows with reference rows; features in `skip` (broken ones) count as unknown. None where a side
    has fewer than ROWS_MIN rows with a loss. Not for rows whose prediction was made by different models: their losses
    differ for a third reason."""
    reference, current = (side.take(~np.isnan(side.loss)) for side in (reference, current))
    n, m = len(reference), len(current)
    if min(n, m) < ROWS_MIN:
        return None
    both = reference.joined(current)
    is_current = np.arange(n + m) >= n
    made = design([s.kind for s in layout.features], layout.bins, both.codes, n, skip)
    inputs = domain.fit(made.columns, is_current)
    outcome = joint.outcomes(layout, both)
    kinds = joint.model(made, [joint.crossed(outcome.label, made, made.main)], n)
    carried = joint.model(made, joint.both(outcome, made, bool(skip)), n)
    loss = both.loss.astype(np.float64)
    overlap, effective = overlap_of(inputs, n)
    return Attribution(
        rows=(n, m),
        before=float(loss[:n].mean()),
        now=float(loss[n:].mean()),
        loss=decompose(made, inputs, loss, n),
        overlap=overlap,
        effective=effective,
        decided=overlap >= OVERLAP_MIN and min(effective) >= EFFECTIVE_MIN,
        misfit=misfits(made, inputs, kinds, outcome.label, n),
        features=feature_parts(layout, made, inputs, carried, loss, n),
        level=carried.level,
        label=label_moves(layout, both.label, n),
        logit=carried.fit.logit,
        chance=carried.columns * (1 / n + 1 / m),
    )


def misfits(made: Design, inputs: Fit, kinds: Joint, label: Floats, n: int) -> dict[str, Misfit]:
    """What each kind costs, by the gains of nested models of D: inputs, label, and both with their products. Each is
    also asked along the one direction in which its rivals would show, and the worse answer counts: a change of the
    labels' shares moves the inputs as the labels go with them, and a test of all inputs drowns that in degrees."""
    current = np.arange(len(label)) >= n
    p, k = made.columns.shape[1], label.shape[1]
    score = joint.label_score(label, made.columns, current)
    alone, along, both, given = (
        domain.fit(domain.standardised(np.concatenate(each, axis=1)), current).gain
        for each in ([label], [score], [label, score], [made.columns, label])
    )
    whole = kinds.fit.gain
    return {
        "covariate": worse(Misfit(2 * (whole - inputs.gain), kinds.columns - p), Misfit(2 * (given - inputs.gain), k)),
        "label": worse(Misfit(2 * (whole - alone), kinds.columns - k), Misfit(2 * (both - alone), k)),
        "concept": worse(Misfit(2 * inputs.gain, p), Misfit(2 * along, k)),
        "nothing": Misfit(2 * whole, kinds.columns),
    }


def worse(*each: Misfit) -> Misfit:
    return max(each, key=lambda misfit: misfit.excess)


def feature_parts(layout: Layout, made: Design, inputs: Fit, carried: Joint, loss: Floats, n: int) -> list[FeaturePart]:
    """Every feature's parts, in the order of the layout."""
    distance = joint.column_distance(inputs.coefficients[:-1], made.columns, n) @ made.owners
    by_loss = loss_parts(made, inputs, loss, n)
    shares, concept = (_shares(x) for x in (distance, carried.given))
    return [
        FeaturePart(stream.name, *(float(x) for x in values))
        for stream, *values in zip(layout.features, shares, by_loss, concept, made.psi, strict=True)
    ]


def label_moves(layout: Layout, label: NDArray[np.int16], n: int) -> dict[str, float]:
    """Differences of the classes' shares; for numbers, the total variation."""
    size = layout.label_bins.size
    sides = [np.bincount(side[side >= 0], minlength=size)[:size] for side in (label[:n], label[n:])]
    before, after = (side / max(int(side.sum()), 1) for side in sides)
    moved = np.abs(after - before)
    if layout.label.kind == "numeric":
        return {"label": float(moved.sum() / 2)}
    if layout.label.kind == "categorical":
        names = (*layout.label_bins.categories, "other categories")
        return {f"label={name}": float(move) for name, move in zip(names, moved, strict=True)}
    return {"label=1": float(moved[-1])}


def _shares(values: Floats) -> Floats:
    positive = np.maximum(values, 0.0)
    total = float(positive.sum())
    return positive / total if total > 0 else positive
