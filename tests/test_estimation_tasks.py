"""F02, F13: class shares, many classes and mean absolute errors before labels come: known answers and coverage."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import expected_binary, expected_classes, expected_errors, prior_shift
from tests.estimating import (
    REFERENCE,
    RUNS,
    WINDOW,
    Floats,
    classified,
    exact,
    inside,
    one_cell,
    seen,
    valued,
)  # fmt: skip


def prior_moved(draw: np.random.Generator, n: int, share: float) -> tuple[Floats, Floats, Floats]:
    """Rows of two classes with normal inputs, of which only the classes' shares change."""
    label = (draw.random(n) < share).astype(np.float64)
    x = draw.normal(label * 2 - 1, 1.2)
    score = 1 / (1 + np.exp(-1.2 * x))
    return score, (score >= 0.5).astype(np.float64), label


def test_a_prior_shift_is_measured_and_corrected_before_labels_come() -> None:
    """F02, F13: the share's interval holds it, and with it the estimated precision is right again."""
    hits, biased, corrected = 0, [], []
    for run in range(200):
        draw = np.random.default_rng([run, 17])
        reference, window = prior_moved(draw, REFERENCE, 0.5), prior_moved(draw, WINDOW, 0.15)
        model = expected_binary.learn(*reference)
        counts = seen(model, *window[:2])
        said = np.array([(window[1] == 0).sum(), (window[1] == 1).sum()])
        shares = prior_shift.estimate(prior_shift.learn(model.confusion), said)
        assert not shares.ill_conditioned and shares.p_value < 0.01
        assert shares.reference[1] == pytest.approx(reference[2].mean())
        hits += inside(shares.shares[1], float(window[2].mean()))
        right = exact(*window)["precision"]
        moved = expected_binary.with_share(model, shares.shares[1])
        biased.append(expected_binary.estimate(model, counts)["precision"].value - right)
        corrected.append(inside(expected_binary.estimate(moved, counts)["precision"], right))
    assert 0.90 <= hits / 200 <= 0.99
    assert np.mean(biased) > 0.1
    assert 0.90 <= np.mean(corrected) <= 1.0


def test_shares_of_many_classes_are_solved_for_exactly_where_there_is_no_noise() -> None:
    """F02: the confusion matrix times the shares gives the predictions, so these give the shares."""
    given = np.array([[0.8, 0.1, 0.2], [0.1, 0.7, 0.2], [0.1, 0.2, 0.6]])
    model = prior_shift.learn(given * [4_000, 3_000, 3_000])
    shares = prior_shift.estimate(model, given @ [0.2, 0.5, 0.3] * 10_000)
    assert [each.value for each in shares.shares] == pytest.approx([0.2, 0.5, 0.3])
    assert not shares.ill_conditioned


@pytest.mark.parametrize(
    ("confusion", "why"),
    [
        ([[300, 290], [300, 310]], "predictions that hardly depend on the label"),
        ([[50, 2], [40, 8]], "a difference that may be chance"),
        ([[90, 5, 0], [10, 95, 0], [0, 0, 0]], "a class that never occurred"),
    ],
)
def test_a_confusion_matrix_that_tells_little_is_flagged(confusion: list[list[int]], why: str) -> None:
    """F02."""
    shares = prior_shift.estimate(prior_shift.learn(confusion), np.full(len(confusion), 100))
    assert shares.ill_conditioned, why
    assert sum(each.value for each in shares.shares) == pytest.approx(1.0)


def macro_f1(prediction: Floats, label: Floats) -> float:
    both = [((prediction == k) & (label == k)).sum() for k in range(3)]
    total = [(prediction == k).sum() + (label == k).sum() for k in range(3)]
    return float(np.mean([2 * hits / n for hits, n in zip(both, total, strict=True)]))


def test_accuracy_and_macro_f1_of_many_classes_come_from_the_confidence_alone() -> None:
    """F13: coverage over 300 references and windows whose confidences have moved; all labels give the exact figures."""
    covered = {"accuracy": 0, "f1_macro": 0}
    for run in range(RUNS):
        draw = np.random.default_rng([run, 19])
        model = expected_classes.learn(*classified(draw, REFERENCE), 3)
        score, prediction, label = classified(draw, WINDOW, 0.8)
        counts = expected_classes.count_seen(model, one_cell(score), 1, score, prediction)[0]
        truth = {"accuracy": float((prediction == label).mean()), "f1_macro": macro_f1(prediction, label)}
        for name, each in expected_classes.estimate(model, counts).items():
            covered[name] += inside(each, truth[name])
    assert all(0.90 <= hits / RUNS <= 0.99 for hits in covered.values()), covered
    counts += expected_classes.count_labelled(model, one_cell(score), 1, score, prediction, label)[0]
    for name, final in expected_classes.reconcile(model, counts).items():
        assert final.combined.value == pytest.approx(truth[name]) == final.realised


def test_the_mean_absolute_error_is_expected_from_the_prediction_and_what_features_add() -> None:
    """F13: coverage over 300 references and windows under a covariate shift, and the gain of the feature."""
    hits, errors, without = 0, [], []
    for run in range(RUNS):
        draw = np.random.default_rng([run, 23])
        prediction, label, features = valued(draw, REFERENCE)
        model, alone = expected_errors.learn(prediction, label, features), (prediction, label)
        prediction, label, features = valued(draw, WINDOW, 0.25)
        truth = float(np.abs(prediction - label).mean())
        cell = one_cell(prediction)
        counts = expected_errors.count_seen(model, cell, 1, prediction, features)[0]
        found = expected_errors.estimate(model, counts)["mae"]
        hits += inside(found, truth)
        if run % 5 == 0:
            plain = expected_errors.learn(*alone)
            narrow = expected_errors.count_seen(plain, cell, 1, prediction)[0]
            errors.append(abs(found.value - truth))
            without.append(abs(expected_errors.estimate(plain, narrow)["mae"].value - truth))
    assert 0.90 <= hits / RUNS <= 0.99
    assert np.mean(errors) < 0.8 * np.mean(without)
    counts += expected_errors.count_labelled(model, cell, 1, prediction, label, features)[0]
    final = expected_errors.reconcile(model, counts)["mae"]
    assert final.combined.value == pytest.approx(truth) == final.realised
    assert final.combined.high - final.combined.low == pytest.approx(0.0, abs=1e-9)


def test_an_idle_feature_adds_nothing() -> None:
    """F13: a bin leans on the mean as its noise demands, so what carries no signal is forgotten."""
    draw = np.random.default_rng(8)
    prediction, label, (_, idle) = valued(draw, 5_000)
    model = expected_errors.learn(prediction, label, [idle])
    assert np.abs(model.effect[model.starts[1] :]).max() < 0.1 * np.abs(model.effect[: model.starts[1]]).max()


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_errors_may_be_of_any_size_and_of_none(unit: float) -> None:
    """F13: the estimate scales with the label's unit; a model that never errs is expected not to."""
    draw = np.random.default_rng(11)
    prediction, label, (feature, _) = valued(draw, 1_000)
    cell = one_cell(prediction)
    found = []
    for scale, true in ((1.0, label), (unit, label), (unit, prediction)):
        model = expected_errors.learn(scale * prediction, scale * true, [feature, cell])
        counts = expected_errors.count_seen(model, cell, 1, scale * prediction, [feature, cell.astype(float)])[0]
        found.append(np.array(expected_errors.estimate(model, counts)["mae"]))
    assert found[1] == pytest.approx(unit * found[0], rel=1e-3)
    assert found[0][0] == pytest.approx(float(np.abs(prediction - label).mean()), rel=0.02)
    assert (np.abs(found[2]) < 1e-6 * unit).all()
