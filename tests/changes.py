"""Labelled rows of a small world in which one thing changes, for the tests of attribution and diagnosis.

The label is logistic in three inputs with an interaction; the model knows all but the interaction. Owns the changes;
refuses to know who looks at them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors import binning
from detectors.contract import Bins, Stream
from detectors.sample import Labelled, Layout

Floats = NDArray[np.float64]
World = dict[str, NDArray[Any]]

PLACES = ("north", "south")
WEIGHTS = {"a": 0.9, "b": -0.7, "c": 0.5}
LABEL = Stream("label", "rate")
LABEL_BINS = Bins(edges=(0.5,))


def world(n: int, draw: np.random.Generator) -> World:
    return {
        "a": draw.normal(size=n),
        "b": draw.exponential(size=n),
        "c": (draw.random(n) < 0.4).astype(np.float64),
        "d": draw.standard_t(3, size=n),
        "place": draw.choice(PLACES, n, p=[0.6, 0.4]).astype(object),
    }


def log_odds(rows: World, weights: dict[str, float], interaction: float = 0.8) -> Floats:
    a, b, c = rows["a"], rows["b"] - 1, rows["c"] - 0.4
    return np.asarray(
        weights["a"] * a + weights["b"] * b + weights["c"] * c + interaction * a * np.clip(rows["d"], -2, 2)
    )


def labels(rows: World, draw: np.random.Generator, weights: dict[str, float] | None = None) -> Floats:
    chance = 1 / (1 + np.exp(-log_odds(rows, weights or WEIGHTS)))
    return (draw.random(len(chance)) < chance).astype(np.float64)


def layout(rows: World) -> Layout:
    streams = tuple(
        Stream(name, "categorical" if name == "place" else "rate" if name == "c" else "numeric") for name in rows
    )
    bins = tuple(
        binning.learn_bins(stream, list(rows[stream.name]) if stream.kind == "categorical" else rows[stream.name])
        for stream in streams
    )
    return Layout(streams, bins, LABEL, LABEL_BINS, (tuple(f"place={name}" for name in PLACES),))


def labelled(plan: Layout, rows: World, label: Floats, start: float = 0.0) -> Labelled:
    """The rows in codes; losses are the errors of the model."""
    codes = [
        binning.code(bins, list(rows[stream.name]) if stream.kind == "categorical" else rows[stream.name])
        for stream, bins in zip(plan.features, plan.bins, strict=True)
    ]
    said = log_odds(rows, WEIGHTS, interaction=0.0) > 0
    place = np.array([PLACES.index(name) for name in rows["place"]], np.int16)
    n = len(label)
    return Labelled(
        start + np.arange(n, dtype=np.float64), np.column_stack(codes).astype(np.int16), place[:, None],
        label.astype(np.int16), (said != (label == 1)).astype(np.float32), np.full(n, 60.0, np.float32),
    )  # fmt: skip


def changed(kind: str, seed: int, n: int = 2_000, m: int = 1_000, place: str = "") -> tuple[Layout, Labelled, Labelled]:
    """A reference, and rows since a change of one kind, everywhere or in one place; `nothing` is a kind too."""
    draw = np.random.default_rng([seed, 31])
    before = world(n, draw)
    known = labels(before, draw)
    after = world(10 * m, draw)
    here = after["place"] == place if place else np.ones(10 * m, np.bool_)
    if kind == "covariate":
        after["a"] = np.where(here, after["a"] + 1.0, after["a"])
    label = labels(after, draw)
    if kind == "concept":
        turned = labels(after, draw, {**WEIGHTS, "a": -WEIGHTS["a"]})
        label = np.where(here, turned, label)
    kept = np.arange(m)
    if kind == "label":
        chance = np.where(here, np.where(label == 1, 1.0, 0.25), np.mean(np.where(label == 1, 1.0, 0.25)[here]))
        kept = np.flatnonzero(draw.random(10 * m) < chance)[:m]
    plan = layout(before)
    now = {name: column[kept] for name, column in after.items()}
    return plan, labelled(plan, before, known), labelled(plan, now, label[kept], float(n))
