"""Rows whose right answers are known, for the tests of estimation without labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors import expected_binary
from detectors.estimation import Estimate

Floats = NDArray[np.float64]

FIGURES = {"accuracy", "precision", "recall", "f1", "roc_auc", "log_loss", "brier"}
WINDOW = 600
REFERENCE = 2_000
RUNS = 300


def scored(draw: np.random.Generator, n: int, shift: float = 0.0, bias: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Score, prediction, label of n rows of a model that is too sure of itself; inputs may move, and so may the
    meaning of the score."""
    x = draw.normal(shift, 1.5, n)
    score = 1 / (1 + np.exp(-1.6 * x))
    label = draw.random(n) < 1 / (1 + np.exp(-x - bias))
    return score, (score >= 0.5).astype(np.float64), label.astype(np.float64)


def one_cell(score: Floats) -> NDArray[np.int64]:
    return np.zeros(len(score), np.int64)


def seen(model: expected_binary.Binary, score: Floats, prediction: Floats) -> Floats:
    return np.asarray(expected_binary.count_seen(model, one_cell(score), 1, score, prediction)[0])


def labelled(model: expected_binary.Binary, score: Floats, prediction: Floats, label: Floats) -> Floats:
    return np.asarray(expected_binary.count_labelled(model, one_cell(score), 1, score, prediction, label)[0])


def exact(score: Floats, prediction: Floats, label: Floats) -> dict[str, float]:
    """Every figure from its definition; the area by comparing all pairs."""
    hits = float((prediction * label).sum())
    pairs = score[label == 1][:, None] - score[label == 0]
    given = np.where(label == 1, score, 1 - score)
    return {
        "accuracy": float((prediction == label).mean()),
        "precision": hits / float(prediction.sum()),
        "recall": hits / float(label.sum()),
        "f1": 2 * hits / float(prediction.sum() + label.sum()),
        "roc_auc": float((pairs > 0).mean() + (pairs == 0).mean() / 2),
        "log_loss": float(-np.log(given).mean()),
        "brier": float(((score - label) ** 2).mean()),
    }


def inside(figure: Estimate, value: float) -> bool:
    return figure.low <= value <= figure.high


def classified(draw: np.random.Generator, n: int, shift: float = 0.0) -> tuple[Floats, Floats, Floats]:
    """Confidence, prediction and label of n rows of three classes; class 2 is harder to tell."""
    strength = draw.gamma(2.0 - shift, 1.0, n)
    prediction = draw.integers(0, 3, n)
    right = 1 / 3 + 2 / 3 * (1 - np.exp(-strength * np.where(prediction == 2, 0.5, 1.0)))
    other = (prediction + 1 + (draw.random(n) < 0.3)) % 3
    label = np.where(draw.random(n) < right, prediction, other)
    return 1 / 3 + 2 / 3 * (1 - np.exp(-1.5 * strength)), prediction.astype(np.float64), label.astype(np.float64)


def valued(draw: np.random.Generator, n: int, shift: float = 0.0) -> tuple[Floats, Floats, list[Floats]]:
    """Prediction, label and two features of n rows whose errors grow with the prediction and with the first feature."""
    prediction, noisy, idle = draw.normal(shift, 1.0, n), draw.normal(shift, 1.0, n), draw.normal(0, 1, n)
    spread = np.exp(0.5 * prediction) + np.maximum(noisy, 0)
    noisy = np.where(draw.random(n) < 0.05, np.nan, noisy)
    return prediction, prediction + spread * draw.normal(0, 1, n), [noisy, idle]
