"""F13: performance before labels come: known answers, coverage of the intervals, and what cannot be known."""

from __future__ import annotations

import doctest

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import calibration, expected_binary, expected_classes, expected_errors, prior_shift
from detectors.state import pack, unpack
from tests.estimating import (
    FIGURES,
    REFERENCE,
    RUNS,
    WINDOW,
    classified,
    exact,
    inside,
    labelled,
    one_cell,
    scored,
    seen,
    valued,
)  # fmt: skip


@pytest.mark.parametrize("shift", [0.0, 0.8])
def test_intervals_cover_what_the_labels_will_show(shift: float) -> None:
    """F13: 300 references and windows, with and without a covariate shift; each interval is to hold 95 % of them."""
    covered = dict.fromkeys(FIGURES, 0)
    for run in range(RUNS):
        draw = np.random.default_rng([run, 13])
        model = expected_binary.learn(*scored(draw, REFERENCE))
        score, prediction, label = scored(draw, WINDOW, shift)
        found = expected_binary.estimate(model, seen(model, score, prediction))
        truth = exact(score, prediction, label)
        for name in FIGURES:
            covered[name] += inside(found[name], truth[name])
    shares = {name: hits / RUNS for name, hits in covered.items()}
    assert all(0.90 <= share <= 0.99 for share in shares.values()), shares


def test_intervals_are_as_narrow_as_chance_allows() -> None:
    """F13: with a large reference, twice the binomial standard error of the accuracy, and hardly more."""
    draw = np.random.default_rng(1)
    model = expected_binary.learn(*scored(draw, 200_000))
    score, prediction, _ = scored(draw, 5_000)
    found = expected_binary.estimate(model, seen(model, score, prediction))["accuracy"]
    right = 1 / (1 + np.exp(-np.abs(np.log(score / (1 - score)) / 1.6)))
    chance = 2 * 1.96 * np.sqrt((right * (1 - right)).sum()) / 5_000
    assert 0.98 * chance < found.high - found.low < 1.08 * chance
    assert found.value == pytest.approx(float(right.mean()), abs=0.004)


def test_concept_drift_is_invisible_until_labels_come_and_then_contradicts_the_estimate() -> None:
    """F13: where P(label given score) moves, the estimate stays; this is what no method without labels can do."""
    draw = np.random.default_rng(2)
    model = expected_binary.learn(*scored(draw, 20_000))
    score, prediction, label = scored(draw, 4_000, bias=-1.5)
    truth = exact(score, prediction, label)
    counts = seen(model, score, prediction)
    blind = expected_binary.estimate(model, counts)
    assert blind["accuracy"].value - truth["accuracy"] > 0.05
    assert not inside(blind["accuracy"], truth["accuracy"])
    found = expected_binary.reconcile(model, counts + labelled(model, score[:400], prediction[:400], label[:400]))
    assert found["accuracy"].estimated == blind["accuracy"]
    assert found["accuracy"].disagreement is not None and found["accuracy"].disagreement < -3


def test_the_series_starts_as_the_estimate_and_ends_as_the_realised_figure() -> None:
    """F13, F14: one series; the interval closes as labels mature, and half of them halve its square."""
    draw = np.random.default_rng(3)
    model = expected_binary.learn(*scored(draw, 50_000))
    score, prediction, label = scored(draw, 3_000)
    counts = seen(model, score, prediction)
    at_first = expected_binary.reconcile(model, counts)
    assert set(at_first) == FIGURES
    assert all(each.combined == each.estimated and each.realised is None for each in at_first.values())
    widths = []
    for known in (0, 1_500, 3_000):
        part = labelled(model, score[:known], prediction[:known], label[:known])
        combined = expected_binary.reconcile(model, counts + part)["accuracy"].combined
        widths.append(combined.high - combined.low)
    assert widths[1] == pytest.approx(widths[0] / np.sqrt(2), rel=0.1)
    assert widths[2] == 0.0
    at_last = expected_binary.reconcile(model, counts + labelled(model, score, prediction, label))
    truth = exact(score, prediction, label)
    for name, each in at_last.items():
        assert each.realised == pytest.approx(each.combined.value)
        assert abs(each.disagreement or 0.0) < 4
        binned = name in ("roc_auc", "log_loss", "brier")
        assert each.combined.value == pytest.approx(truth[name], abs=5e-4 if binned else 1e-12)


def test_a_corrected_label_takes_back_what_it_had_said() -> None:
    """F13: the old label with sign -1 and the new one with sign 1 leave the window as if only the new had come."""
    draw = np.random.default_rng(4)
    model = expected_binary.learn(*scored(draw, 1_000))
    score, prediction, label = scored(draw, 50)
    cell = one_cell(score)
    signed = [
        expected_binary.count_labelled(model, cell, 1, score, prediction, y, np.full(50, sign))
        for y, sign in ((label, 1.0), (label, -1.0), (1 - label, 1.0))
    ]
    assert (
        np.sum(signed, axis=0) == expected_binary.count_labelled(model, cell, 1, score, prediction, 1 - label)
    ).all()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_counts_of_shards_and_windows_add_up_to_the_whole(seed: int, parts: int) -> None:
    """F13: any split of rows over cells, for every task; rows without a score count nowhere."""
    draw = np.random.default_rng(seed)
    score, prediction, label = scored(draw, 300)
    cell = draw.integers(0, parts, 300)
    binary = expected_binary.learn(score, prediction, label)
    classes = expected_classes.learn(score, prediction, label, 2)
    errors = expected_errors.learn(score, label, [prediction])
    score = np.where(draw.random(300) < 0.1, np.nan, score)
    for split, whole in (
        (
            expected_binary.count_labelled(binary, cell, parts, score, prediction, label),
            expected_binary.count_labelled(binary, cell * 0, 1, score, prediction, label),
        ),
        (
            expected_binary.count_seen(binary, cell, parts, score, prediction),
            expected_binary.count_seen(binary, cell * 0, 1, score, prediction),
        ),
        (
            expected_classes.count_seen(classes, cell, parts, score, prediction)
            + expected_classes.count_labelled(classes, cell, parts, score, prediction, label),
            expected_classes.count_seen(classes, cell * 0, 1, score, prediction)
            + expected_classes.count_labelled(classes, cell * 0, 1, score, prediction, label),
        ),
        (
            expected_errors.count_seen(errors, cell, parts, score, [prediction])
            + expected_errors.count_labelled(errors, cell, parts, score, label, [prediction]),
            expected_errors.count_seen(errors, cell * 0, 1, score, [prediction])
            + expected_errors.count_labelled(errors, cell * 0, 1, score, label, [prediction]),
        ),
    ):
        assert np.allclose(split.sum(0), whole[0], atol=1e-9)
    total = expected_binary.count_seen(binary, cell, parts, score, prediction).sum()
    assert total == np.isfinite(score).sum()


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0, 1)), min_size=1, max_size=60))
def test_rates_never_fall_and_are_never_certain(bins: list[tuple[int, float]]) -> None:
    """F13, F17: whatever the counts, a map from score to probability that keeps the order."""
    rows = np.array([n for n, _ in bins], np.float64)
    ones = np.array([round(n * share) for n, share in bins], np.float64)
    if not rows.sum():
        with pytest.raises(ValueError, match="no rows"):
            calibration.monotone_rates(rows, ones)
        return
    rates = calibration.monotone_rates(rows, ones)
    assert (np.diff(rates) >= -1e-12).all()
    assert rates[0] > 0 and rates[-1] < 1


def test_the_example_of_the_map_holds() -> None:
    """F13."""
    assert doctest.testmod(calibration) == (0, 1)


def test_finer_bins_change_nothing_that_can_be_measured() -> None:
    """F13: doubling 200 bins moves no figure by a tenth of its interval's half width, halving them by no fifth."""
    draw = np.random.default_rng(6)
    reference, (score, prediction, _) = scored(draw, 20_000), scored(draw, 5_000, 0.5)
    found = []
    for bins in (100, 200, 400):
        model = expected_binary.learn(*reference, bins=bins)
        assert len(model.rate) <= bins
        found.append(expected_binary.estimate(model, seen(model, score, prediction)))
    for name in FIGURES:
        coarse, chosen, fine = (each[name].value for each in found)
        reach = found[1][name].high - chosen
        assert abs(chosen - fine) < 0.1 * reach > 0, name
        assert abs(coarse - fine) < 0.2 * reach, name


def test_a_shift_to_scores_that_the_reference_never_showed_widens_the_interval() -> None:
    """F13: rates there are guesses that err together, so they do not average out."""
    draw = np.random.default_rng(7)
    score, prediction, label = scored(draw, 20_000)
    low = score < 0.6
    model = expected_binary.learn(score[low], prediction[low], label[low])
    new, said, _ = scored(draw, 5_000, 3.0)
    widths = []
    for rows in (new < 0.6, new > 0.8):
        found = expected_binary.estimate(model, seen(model, new[rows], said[rows]))["accuracy"]
        widths.append(found.high - found.low)
    assert widths[1] > 0.5 > 0.2 > widths[0]


def test_models_survive_their_state() -> None:
    """F13: packed and unpacked, every model says the same; another version is refused."""
    draw = np.random.default_rng(9)
    rows = scored(draw, 1_000)
    numbers = valued(draw, 1_000)
    models: list[msgspec.Struct] = [
        expected_binary.learn(*rows),
        expected_classes.learn(*classified(draw, 1_000), 3),
        expected_errors.learn(*numbers),
        prior_shift.learn([[80, 10], [20, 90]]),
    ]
    for model in models:
        back = unpack(type(model), 1, pack(model))
        assert pack(back) == pack(model)
        with pytest.raises(ValueError, match="version"):
            unpack(type(model), 2, pack(model))
    binary = unpack(expected_binary.Binary, 1, pack(models[0]))
    counts = seen(binary, *rows[:2])
    assert isinstance(models[0], expected_binary.Binary)
    assert expected_binary.estimate(binary, counts) == expected_binary.estimate(models[0], counts)


def test_an_empty_window_has_no_figures() -> None:
    """F13: and one without predicted or true ones lacks just those figures that are not defined."""
    draw = np.random.default_rng(10)
    model = expected_binary.learn(*scored(draw, 1_000))
    assert expected_binary.reconcile(model, np.zeros(expected_binary.width(model))) == {}
    low = np.full(50, 0.2)
    found = expected_binary.reconcile(model, seen(model, low, low * 0) + labelled(model, low, low * 0, low * 0))
    assert set(found) == {"accuracy", "log_loss", "brier"}
    assert found["accuracy"].realised == found["accuracy"].combined.value == 1.0


def test_bad_references_and_counts_are_refused_by_what_and_where() -> None:
    """F13."""
    half, ones = np.full(200, 0.5), np.tile([0.0, 1.0], 100)
    bad = half.copy()
    bad[7] = 1.5
    wrong = ones.copy()
    wrong[3] = np.nan
    for call, message in (
        (lambda: expected_binary.learn(bad, ones, ones), "score at row 7 is 1.5"),
        (lambda: expected_binary.learn(half, ones, wrong), "label at row 3 is nan"),
        (lambda: expected_binary.learn(half, ones + 1, ones), "prediction at row 1 is 2"),
        (lambda: expected_binary.learn(half, ones, ones * 0), "all 200 reference labels are 0"),
        (lambda: expected_binary.learn(half[:50], ones[:50], ones[:50]), "50 reference rows"),
        (lambda: expected_binary.learn(half, ones[:9], ones), "one length"),
        (lambda: expected_classes.learn(half, ones, ones + 2, 3), "label at row 1 is 3"),
        (lambda: expected_classes.learn(half, ones, ones, 1), "1 classes"),
        (lambda: expected_errors.learn(half, wrong), "label at row 3 is nan"),
        (lambda: expected_errors.learn(half, ones, [ones] * 17), "17 features"),
        (lambda: prior_shift.learn([[1, 2, 3]]), "square"),
        (lambda: prior_shift.learn([[100, -1], [0, 100]]), "prediction 0, label 1 is -1"),
        (lambda: prior_shift.learn([[100, 0], [100, 0]]), "fewer than two labels"),
        (lambda: prior_shift.estimate(prior_shift.learn([[90, 5], [5, 90]]), [0, 0]), "sum above 0"),
        (lambda: expected_binary.estimate(expected_binary.learn(half, ones, ones), np.zeros(5)), "counts of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
