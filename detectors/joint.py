"""Inputs and outcomes together as a model of the time: what has changed in outcomes given inputs, and by what features.

Owns the products of outcomes with inputs; refuses to know what is concluded. A product of the label with a feature says
that its coefficient for the label has moved: with a logistic rule, log q(y|x) - log p(y|x) is y times the difference of
the coefficients, plus something of x alone. A product of the loss with a feature says where the rule has moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import domain
from detectors.design import Design, encode
from detectors.domain import Fit, standardised
from detectors.sample import Labelled, Layout

Floats = NDArray[np.float64]

CROSSED_MAX: Final = 64
"""Products of one outcome in a test; where there are more, those of the columns that say most of the outcome, at either
time. Choosing those that moved most would make every test find something."""

LOSS_MAX: Final = 4.0
"""Standard deviations at which a loss is cut: errors of numbers have heavy tails, and one row must not be a column."""


class Outcomes(NamedTuple):
    """(N, k) columns of the label and (N, 1) of the loss, standardised."""

    label: Floats
    loss: Floats


class Crossed(NamedTuple):
    """Columns of an outcome: its own, then its products. owners: (p, f), of its own nobody. own: how many are."""

    columns: Floats
    owners: Floats
    own: int
    strength: Floats


class Joint(NamedTuple):
    """fit: of D by inputs and crossed outcomes, of so many columns. given: (f,) each feature's part of what changed in
    outcomes given inputs; level: the part that is the outcomes' own, whatever the inputs."""

    fit: Fit
    columns: int
    given: Floats
    level: float


def outcomes(layout: Layout, both: Labelled) -> Outcomes:
    block = encode(layout.label.kind, layout.label_bins.size, both.label, len(both), False)
    label = standardised(np.array(block.columns).reshape(-1, len(both)).T)
    loss = np.clip(standardised(both.loss.astype(np.float64)[:, None]), -LOSS_MAX, LOSS_MAX)
    return Outcomes(label, loss)


def label_score(label: Floats, inputs: Floats, current: NDArray[np.bool_]) -> Floats:
    """(N, k) what the inputs say of the label, by least squares beside the time: without it, a label that has moved
    would lean on the inputs that differ by chance, and the score would tell the times apart by itself."""
    x = np.concatenate([inputs, standardised(current[:, None].astype(np.float64))], axis=1)
    weights = np.linalg.solve(x.T @ x + domain.RIDGE * np.eye(x.shape[1]), x.T @ label)
    return np.asarray(inputs @ weights[:-1])


def crossed(outcome: Floats, made: Design, chosen: NDArray[np.bool_]) -> Crossed:
    """The outcome's columns, and their products with the chosen columns of the inputs."""
    inputs, owners = made.columns[:, chosen], made.owners[chosen]
    products = (outcome[:, :, None] * inputs[:, None, :]).reshape(len(outcome), -1)
    nobody = np.zeros((outcome.shape[1], owners.shape[1]))
    return Crossed(
        np.concatenate([outcome, standardised(products)], axis=1),
        np.concatenate([nobody, np.tile(owners, (outcome.shape[1], 1))]),
        outcome.shape[1],
        np.abs(outcome.T @ inputs).ravel(),
    )


def both(outcome: Outcomes, made: Design, label_only: bool) -> list[Crossed]:
    """Label and loss; the label alone where features are left out, as the model's losses follow them all the same."""
    label = crossed(outcome.label, made, made.main)
    return [label] if label_only else [label, crossed(outcome.loss, made, ~made.product)]


def model(made: Design, blocks: Sequence[Crossed], n: int) -> Joint:
    """D by the inputs and blocks of crossed outcomes; the first n rows are the reference."""
    kept = [limited(block) for block in blocks]
    outcome = np.concatenate([block.columns for block in kept], axis=1)
    owners = np.concatenate([block.owners for block in kept])
    columns = np.concatenate([made.columns, outcome], axis=1)
    found = domain.fit(columns, np.arange(len(columns)) >= n)
    parts = np.maximum(column_distance(found.coefficients[made.columns.shape[1] : -1], outcome, n), 0.0)
    own, total = float(parts[owners.sum(1) == 0].sum()), float(parts.sum())
    return Joint(found, columns.shape[1], parts @ owners, own / total if total > 0 else 0.0)


def limited(block: Crossed) -> Crossed:
    strongest = np.sort(np.argsort(-block.strength, kind="stable")[:CROSSED_MAX]) + block.own
    keep = np.concatenate([np.arange(block.own), strongest])
    return block._replace(columns=block.columns[:, keep], owners=block.owners[keep])


def column_distance(coefficients: Floats, columns: Floats, n: int) -> Floats:
    """(p,) parts of the symmetric Kullback-Leibler distance between the two times, E_now[logit] - E_before[logit],
    which is a sum over the columns, less what each has by chance. A column that only follows another has coefficient 0,
    so the one that really moved stands first."""
    m = len(columns) - n
    return np.asarray(coefficients * (columns[n:].mean(0) - columns[:n].mean(0)) - (1 / n + 1 / m))
