"""Prequential metrics are those of direct computation, also where classes are rare (F35)."""

from __future__ import annotations

import doctest
import itertools
import math

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from river import metrics as peers

from learners import metrics
from learners.contract import Label, Said
from learners.metrics import CLASSES_MAX, OTHER, SCORE_BINS, SCORE_EDGES, Metrics, Task, pr_auc, roc_auc
from tests.learning import close

Floats = NDArray[np.float64]


def scored_stream(n: int, log_odds: float, seed: int, spread: float = 1.5) -> tuple[Floats, NDArray[np.int64]]:
    """Calibrated scores around these log-odds, and labels drawn by them."""
    draw = np.random.default_rng(seed)
    score = 1.0 / (1.0 + np.exp(-(log_odds + spread * draw.normal(size=n))))
    return score, (draw.random(n) < score).astype(np.int64)


def taken(task: Task, answers: list[tuple[Said, Label]]) -> Metrics:
    made = Metrics(task)
    for said, y in answers:
        made.take(said, y)
    return made


def of_scores(score: Floats, y: NDArray[np.int64], threshold: float = 0.5) -> Metrics:
    return taken("binary", [(Said(int(s > threshold), s), t) for s, t in zip(score.tolist(), y.tolist(), strict=True)])


def exact_roc_auc(score: Floats, y: NDArray[np.int64]) -> float:
    """Share of pairs in the right order; ties count half."""
    zeros = np.sort(score[y == 0])
    ones = score[y == 1]
    wins = np.searchsorted(zeros, ones, "left") + np.searchsorted(zeros, ones, "right")
    return float(wins.sum() / (2 * len(zeros) * len(ones)))


def average_precision(score: Floats, y: NDArray[np.int64]) -> float:
    """Mean over the ones of the precision at their score; no score occurs twice."""
    ranked = y[np.argsort(-score)]
    precision = np.cumsum(ranked) / np.arange(1, len(ranked) + 1)
    return float(precision[ranked == 1].mean())


def three_classes(n: int, seed: int = 3) -> list[tuple[Said, Label]]:
    draw = np.random.default_rng(seed)
    out: list[tuple[Said, Label]] = []
    for _ in range(n):
        y = "abc"[int(draw.choice(3, p=[0.8, 0.15, 0.05]))]
        out.append((Said(y if draw.random() < 0.6 else "abc"[int(draw.integers(3))]), y))
    return out


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(metrics).attempted > 0 and doctest.testmod(metrics).failed == 0


@pytest.mark.parametrize("log_odds", [0.0, -2.0, -5.0])
def test_binary_figures_equal_river_s(log_odds: float) -> None:
    """F35: kappa, MCC, G-mean and balanced accuracy at three degrees of imbalance."""
    score, y = scored_stream(4_000, log_odds, 1)
    found = of_scores(score, y, threshold=0.2).values()
    pairs = [(int(t), int(s > 0.2)) for s, t in zip(score, y, strict=True)]
    river = {
        "accuracy": peers.Accuracy(),
        "kappa": peers.CohenKappa(),
        "mcc": peers.MCC(),
        "g_mean": peers.GeometricMean(),
        "balanced_accuracy": peers.BalancedAccuracy(),
    }
    for name, metric in river.items():
        for truth, said in pairs:
            metric.update(truth, said)
        assert math.isclose(found[name], metric.get(), rel_tol=1e-9), name


def test_multiclass_figures_equal_river_s_and_a_direct_computation() -> None:
    """F35. MCC by its definition: the correlation of the indicator matrices (Gorodkin 2004)."""
    answers = three_classes(2_000)
    found = taken("multiclass", answers).values()
    kappa, balanced, g_mean = peers.CohenKappa(), peers.BalancedAccuracy(), peers.GeometricMean()
    for said, y in answers:
        for metric in (kappa, balanced, g_mean):
            metric.update(y, said.prediction)
    assert close(found["kappa"], kappa.get()) and close(found["balanced_accuracy"], balanced.get())
    assert close(found["g_mean"], g_mean.get())
    truth = np.array([[y == k for k in "abc"] for _, y in answers], float)
    predicted = np.array([[said.prediction == k for k in "abc"] for said, _ in answers], float)
    a, b = truth - truth.mean(0), predicted - predicted.mean(0)
    assert math.isclose(found["mcc"], (a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def test_what_never_names_the_rare_class_is_accurate_and_worthless() -> None:
    """F35: the figures that fit are those that see it."""
    never = taken("binary", [(Said(0, 0.1), int(i % 50 == 0)) for i in range(1_000)]).values()
    assert never["accuracy"] == 0.98 and never["g_mean"] == never["kappa"] == 0.0
    assert never["balanced_accuracy"] == never["roc_auc"] == 0.5 and "mcc" not in never
    assert close(never["pr_auc"], 0.02)


def test_kappa_temporal_is_negative_for_what_repeating_the_last_label_beats() -> None:
    labels: list[Label] = [i // 10 % 2 for i in range(200)]
    answers = [(Said(y if i % 4 else 1 - int(y)), y) for i, y in enumerate(labels)]
    found = taken("binary", answers).values()
    repeats = sum(a == b for a, b in itertools.pairwise(labels)) / 199
    assert close(found["kappa_temporal"], (0.75 - repeats) / (1 - repeats)) and found["kappa_temporal"] < -1
    assert found["kappa"] == 0.5
    assert "kappa_temporal" not in taken("binary", answers[:1]).values()
    constant = taken("binary", [(Said(1), 1)] * 5).values()
    assert "kappa_temporal" not in constant and "kappa" not in constant and constant["accuracy"] == 1.0


@pytest.mark.parametrize(("log_odds", "roc", "pr"), [(0.0, 1e-4, 2e-4), (-4.0, 6e-4, 5e-4), (-7.5, 2e-3, 2e-3)])
def test_areas_are_near_the_exact_ones_however_rare_the_event_is(log_odds: float, roc: float, pr: float) -> None:
    """F35: 1 in 2, 1 in 20 and 1 in 600, where nine of ten scores lie below 0.004."""
    for seed in range(2):
        score, y = scored_stream(100_000, log_odds, seed)
        found = of_scores(score, y).values()
        assert abs(found["roc_auc"] - exact_roc_auc(score, y)) < roc
        assert abs(found["pr_auc"] - average_precision(score, y)) < pr


def test_bins_by_value_alone_would_not_do() -> None:
    """The fault that the bins by log-odds are there for: planted, and larger than the bound of the test above."""
    score, y = scored_stream(100_000, -7.5, 1)
    edges = np.arange(1, SCORE_BINS) / SCORE_BINS
    zeros, ones = (np.bincount(np.searchsorted(edges, score[y == k], "right"), minlength=SCORE_BINS) for k in (0, 1))
    found = roc_auc(zeros.tolist(), ones.tolist())
    assert found is not None and abs(found - exact_roc_auc(score, y)) > 1e-2


def test_the_error_of_the_roc_area_is_at_most_half_of_the_pairs_that_share_a_bin() -> None:
    draw = np.random.default_rng(5)
    for _ in range(20):
        score, y = draw.beta(*draw.uniform(0.05, 3.0, 2), size=300), draw.integers(0, 2, 300)
        made = of_scores(score, y)
        shared = sum(a * b for a, b in zip(made.zeros, made.ones, strict=True)) / (sum(made.zeros) * sum(made.ones))
        found = roc_auc(made.zeros, made.ones)
        assert found is not None and abs(found - exact_roc_auc(score, y)) <= shared / 2 + 1e-12


def test_areas_of_plain_cases() -> None:
    assert pr_auc([5, 0], [0, 5]) == roc_auc([5, 0], [0, 5]) == 1.0 and roc_auc([0, 5], [5, 0]) == 0.0
    assert pr_auc([90], [10]) == pytest.approx(0.1) and roc_auc([90], [10]) == 0.5
    assert pr_auc([5], [0]) is None and roc_auc([0], [5]) is None
    assert sum(of_scores(np.array([0.0, 1.0]), np.array([0, 1])).ones) == 1
    assert len(set(SCORE_EDGES)) == SCORE_BINS - 1 and SCORE_EDGES[0] > 0.0 and SCORE_EDGES[-1] < 1.0


def test_what_is_not_defined_is_left_out_and_nothing_is_ever_not_a_number() -> None:
    one_sided = taken("binary", [(Said(1, 0.9), 1)] * 3).values()
    assert set(one_sided) == {"accuracy", "log_loss", "brier"}
    odd = taken("binary", [(Said(1, math.nan), 1), (Said(0, None), 0), (Said(1, 0.5), 0)])
    assert odd.scored == 1 and all(math.isfinite(value) for value in odd.values().values())
    several = taken("multiclass", [(Said("a", math.nan, {"a": math.nan}), "a"), (Said("", None), "b")])
    assert several.scored == 0 and all(math.isfinite(value) for value in several.values().values())
    numbers = Metrics("regression")
    with pytest.raises(ValueError, match="both must be finite"):
        numbers.take(Said(math.nan), 1.0)
    assert numbers.n == 0 and numbers.values() == {}


def test_classes_beyond_the_bound_share_one_count() -> None:
    made = taken("multiclass", [(Said(f"k{i}"), f"k{i}") for i in range(5 * CLASSES_MAX)])
    assert len(made.classes) == CLASSES_MAX + 1 and made.classes[OTHER] == [4 * CLASSES_MAX] * 3
    assert made.values()["balanced_accuracy"] == 1.0 and made.n == 5 * CLASSES_MAX


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_state_read_in_mid_stream_goes_on_exactly(task: Task) -> None:
    draw = np.random.default_rng(7)
    answers: list[tuple[Said, Label]] = []
    for said, y in three_classes(400):
        number = float(draw.random())
        of_task: dict[Task, tuple[Said, Label]] = {
            "binary": (Said(int(number > 0.4), number), int(y == "a")),
            "multiclass": (said._replace(score=number, probabilities={str(said.prediction): number}), y),
            "regression": (Said(number), 1.0),
        }
        answers.append(of_task[task])
    twin = msgspec.msgpack.decode(msgspec.msgpack.encode(taken(task, answers[:150])), type=Metrics)
    for said, y in answers[150:]:
        twin.take(said, y)
    whole = taken(task, answers)
    assert msgspec.msgpack.encode(twin) == msgspec.msgpack.encode(whole) and twin.values() == whole.values()


def test_classes_of_every_kind_survive_as_bytes() -> None:
    made = taken("multiclass", [(Said(1), 1), (Said("1"), True), (Said(2.5), 2.5), (Said("b"), False)])
    assert list(made.classes) == [1, "1", 2.5, False, "b"] and made.classes[1] == [2, 1, 1]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=Metrics) == made


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_an_older_state_is_read_and_its_figures_go_on(task: Task) -> None:
    """As it was written before kappa and the areas came: eight fields."""
    older = {"task": task, "n": 100, "right": 80, "scored": 0, "log_loss": 0.0, "brier": 0.0, "absolute": 0.0}
    made = msgspec.msgpack.decode(msgspec.msgpack.encode({**older, "squared": 25.0}), type=Metrics)
    first = made.values()
    assert first == ({"mae": 0.0, "rmse": 0.5} if task == "regression" else {"accuracy": 0.8})
    labels: dict[Task, tuple[Label, Label]] = {"binary": (1, 0), "multiclass": ("a", "b"), "regression": (1.0, 0.0)}
    for y in labels[task] * 20:
        made.take(Said(y), y)
    found = made.values()
    assert made.n == 140 and (task == "regression" or (found["kappa"], found["accuracy"]) == (1.0, 120 / 140))
