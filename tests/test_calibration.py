"""Whether scores mean what they say (F17): the curve, its error, and its drift apart from the drift of scores."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from detectors import randomness, reliability
from detectors.contract import Bins
from detectors.contract import Stream as DetectorStream
from stream.config import parse
from stream.events import Calibration, Window
from stream.windows import performance, words
from stream.windows.evidence import Group, budget_of
from stream.windows.profiles import Profile
from stream.windows.results import results_of
from stream.windows.schema import share_of
from stream.windows.sources import meaning, outcomes
from stream.windows.sources.meaning import Meaning
from tests.watching import START, Stream, alerts, observations, text, watched, windows

BINARY = "task: binary, reference: {first: 4000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"


def histograms(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    code = np.minimum((score * 100).astype(int), 99)
    zeros, ones = (np.bincount(code[label == k], minlength=100).astype(float) for k in (0, 1))
    return zeros, ones


def test_the_error_is_that_of_a_table_worked_by_hand() -> None:
    """Two bins: 100 rows at .15 of which 25 come true, 300 at .85 of which 240 do; chance gives each a known part."""
    zeros, ones = np.zeros(10), np.zeros(10)
    zeros[1], ones[1], zeros[8], ones[8] = 75, 25, 60, 240
    found = reliability.curve(zeros, ones)
    assert found is not None
    assert [tuple(each) for each in found.bins] == [
        (pytest.approx(0.15), 0.25, 100),
        (pytest.approx(0.85), 0.80, 300),
    ]
    assert found.ece_plain == pytest.approx((100 * 0.10 + 300 * 0.05) / 400)
    chance = np.sqrt(2 / np.pi) * (np.sqrt(100 * 0.15 * 0.85) + np.sqrt(300 * 0.85 * 0.15)) / 400
    assert found.ece == pytest.approx(found.ece_plain - chance)
    assert reliability.curve(np.zeros(10), np.zeros(10)) is None


def test_what_chance_gives_is_taken_off() -> None:
    draw = np.random.default_rng(1)
    plain, free = [], []
    for _ in range(200):
        score = draw.random(300)
        found = reliability.curve(*histograms(score, (draw.random(300) < score) * 1))
        assert found is not None
        plain.append(found.ece_plain)
        free.append(found.ece)
    assert np.mean(plain) > 0.05 and np.mean(free) < 0.01


def test_an_error_that_is_there_is_told() -> None:
    draw = np.random.default_rng(2)
    score = draw.random(20_000) * 0.8
    found = reliability.curve(*histograms(score, (draw.random(20_000) < score + 0.1) * 1))
    assert found is not None
    assert found.ece == pytest.approx(0.1, abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_curve_holds_every_row_and_the_error_lies_between_0_and_1(rows: list[tuple[float, bool]]) -> None:
    score, label = np.array([s for s, _ in rows]), np.array([int(y) for _, y in rows])
    found = reliability.curve(*histograms(score, label))
    assert found is not None
    assert sum(each.n for each in found.bins) == len(rows)
    assert 0 <= found.ece <= found.ece_plain <= 1
    assert sum(each.n * each.ones for each in found.bins) == pytest.approx(label.sum())


@pytest.mark.parametrize("spread", [(2.0, 2.0), (0.5, 3.0), (8.0, 1.0)])
def test_a_residual_is_uniform_whatever_scores_there_are(spread: tuple[float, float]) -> None:
    draw = np.random.default_rng(3)
    score = draw.beta(*spread, 5000)
    label = (draw.random(5000) < score).astype(float)
    u = reliability.residuals(score, label, draw.random(5000))
    assert kstest(u, "uniform").pvalue > 0.01
    off = reliability.residuals(np.clip(score - 0.1, 0, 1), label, draw.random(5000))
    assert kstest(off, "uniform").pvalue < 0.001 and off.mean() > u.mean()


def test_chance_belongs_to_the_row_and_not_to_the_call() -> None:
    draw = np.random.default_rng(4)
    order, score = np.cumsum(draw.random(20_000)), draw.random(20_000)
    whole = randomness.of_rows(7, order, score)
    parts = [randomness.of_rows(7, order[a:b], score[a:b]) for a, b in ((0, 1), (1, 313), (313, 20_000))]
    assert (np.concatenate(parts) == whole).all()
    assert kstest(whole, "uniform").pvalue > 0.01
    assert abs(np.corrcoef(whole[1:], whole[:-1])[0, 1]) < 0.03 > abs(np.corrcoef(whole, score)[0, 1])
    assert (randomness.of_rows(8, order, score) != whole).all()
    assert (randomness.of_rows(7, score, order) != whole).all()


def scored(n: int, seed: int, mean: np.ndarray | float = 0.0, extra: np.ndarray | float = 0.0) -> Stream:
    """Scores that are right about the labels, but that `extra` is added to how often they come true."""
    draw = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-draw.normal(mean, 1.0, n)))
    return Stream(
        time=START + np.arange(n) * 10.0,
        prediction=(score >= 0.5).astype(float),
        label=(draw.random(n) < np.clip(score + extra, 0, 1)).astype(float),
        features={"x": draw.normal(size=n)},
        score=score,
    )


def alarmed(stream: Stream, reference: int = 4000) -> list[str]:
    """Streams of the outcomes that the detectors raise an alarm of, after so many rows of reference."""
    model = parse(f"models: {{m: {{{BINARY}}}}}").models["m"]
    first = results_of(model, stream.outcomes(np.arange(reference)))
    found = outcomes.learn(model, first, 0.0)
    budget = budget_of(model.false_alarms, share_of(model, "outcomes"))
    group = Group.fit(found.streams, found.bins, found.read(first, math.inf), model.detectors, budget, 1)
    names = []
    for start in range(reference, len(stream), 500):
        rows = found.read(results_of(model, stream.outcomes(np.arange(start, start + 500))), math.inf)
        names += [each.alarm.name for each in group.update(group.count(rows))]
    return names


def champion(found: list[Window]) -> list[Window]:
    return [w for w in found if w.learner == "champion" and not w.slice]


def test_windows_and_learners_tell_their_calibration() -> None:
    stream = scored(3000, seed=5)
    assert stream.score is not None
    watch, outputs = watched(BINARY.replace("4000", "1000"), stream)
    window = [w for w in champion(windows(outputs)) if w.final][-1]
    mine = (stream.time >= window.start) & (stream.time < window.end)
    direct = reliability.curve(*histograms(stream.score[mine], np.asarray(stream.label)[mine]))
    assert direct is not None
    assert window.calibration == Calibration(direct.ece, direct.ece_plain, list(direct.bins))
    whole = reliability.curve(*histograms(stream.score, np.asarray(stream.label)))
    overall = watch.figures()["models"]["m"]["performance"]["champion"]["overall"]
    assert whole is not None and overall["ece"] == whole.ece


def test_several_classes_are_calibrated_by_the_score_of_the_predicted_one() -> None:
    draw = np.random.default_rng(6)
    label, right = draw.integers(0, 3, 4000), draw.random(4000) < 0.7
    stream = Stream(
        time=START + np.arange(4000) * 10.0,
        prediction=np.where(right, label, (label + 1) % 3).astype(float),
        label=label.astype(float),
        features={"x": draw.normal(size=4000)},
        score=np.full(4000, 0.855),
    )
    watch, outputs = watched(BINARY.replace("binary", "multiclass").replace("4000", "1000"), stream)
    overall = watch.figures()["models"]["m"]["performance"]["champion"]["overall"]
    assert overall["ece"] == pytest.approx(0.855 - right.mean(), abs=0.01)
    curve = [w for w in champion(windows(outputs)) if w.final][-1].calibration
    assert curve is not None and [each[0] for each in curve.bins] == [pytest.approx(0.855)]


def test_without_scores_there_is_no_calibration() -> None:
    for task in ("binary", "regression"):
        stream = scored(2000, seed=7)
        stream.score = None if task == "binary" else stream.score
        watch, outputs = watched(BINARY.replace("binary", task).replace("4000", "500"), stream)
        assert {w.calibration for w in windows(outputs)} == {None}
        model = watch.figures()["models"]["m"]
        assert "ece" not in model["performance"]["champion"]["overall"]


def test_a_correction_takes_its_old_label_out_of_the_curve() -> None:
    """F21."""
    score, label = np.full(50, 0.305), np.zeros(50)
    cell = np.zeros(50, np.int64)
    total = performance.sums("binary", cell, 1, label, label, score)[0]
    total += performance.sums("binary", cell, 1, label, label, score, -np.ones(50))[0]
    total += performance.sums("binary", cell, 1, label + 1, label, score)[0]
    found = performance.calibration("binary", total)
    assert found is not None and found.bins == [(pytest.approx(0.305), 1.0, 50)]


@pytest.mark.parametrize("mean", [1.0, -1.0])
def test_scores_that_shift_alone_say_nothing_of_what_they_mean(mean: float) -> None:
    """F03, F17: other scores come, and with them other labels, but each score is worth what it was."""
    stream = scored(14_000, seed=8, mean=np.where(np.arange(14_000) < 7000, 0.0, mean))
    found = alarmed(stream)
    assert "label" in found
    assert "calibration" not in found


@pytest.mark.parametrize("extra", [0.12, -0.12])
def test_scores_that_mean_something_else_are_found_while_they_stay_the_same(extra: float) -> None:
    """F05, F17."""
    stream = scored(14_000, seed=9, extra=np.where(np.arange(14_000) < 7000, 0.0, extra))
    assert "calibration" in alarmed(stream)


def test_scores_that_have_become_too_sure_are_found() -> None:
    """As many labels come true as scores say, but not where they say."""
    stream = scored(14_000, seed=10)
    assert stream.score is not None
    late = np.arange(14_000) >= 7000
    flat = np.where(late, 0.5 + 0.2 * (stream.score - 0.5), stream.score)
    stream.label = (np.random.default_rng(11).random(14_000) < flat).astype(float)
    found = alarmed(stream)
    assert "calibration" in found and "label" not in found


@pytest.mark.parametrize(("by", "often"), [(-0.8, "more"), (0.8, "less")])
def test_a_wrong_recalibration_is_told_though_labels_and_errors_are_as_before(by: float, often: str) -> None:
    """F17: scores are lower and the threshold with them, and the world is what it was."""
    n = 14_000
    stream = scored(n, seed=17)
    assert stream.score is not None
    odds = np.log(stream.score / (1 - stream.score)) + np.where(np.arange(n) < 7000, 0.0, by)
    stream.score = 1 / (1 + np.exp(-odds))
    _, outputs = watched(BINARY, stream)
    told = [alert for alert in alerts(outputs) if alert.stream == "calibration"]
    assert told
    said = re.fullmatch(
        f"m: labels come true {often} often than scores say: by (\\d+) points since .*", told[0].summary
    )
    assert said is not None and 10 <= int(said[1]) <= 25, told[0].summary
    assert not {"loss", "label"} & {alert.stream for alert in alerts(outputs)}


@pytest.mark.parametrize(
    ("now", "words_of_it", "severity"),
    [
        ([0.61] * 100, "labels come true more often than scores say: by 22 points", "critical"),
        ([0.47] * 100, "labels come true less often than scores say: by 6 points", "warning"),
        ([0.05, 0.95] * 50, "scores are surer than labels bear out", "information"),
        ([0.49, 0.51] * 50, "scores are less sure than labels bear out", "information"),
    ],
)
def test_what_scores_mean_is_said_in_words(now: list[float], words_of_it: str, severity: str) -> None:
    def profile(values: list[float]) -> Profile:
        x = np.array(values)
        return Profile(len(x), np.array([[0, len(x)]]), np.array([x.sum()]), np.array([(x * x).sum()]))

    before, after = profile([0.2, 0.8] * 50), profile(now)
    stream = DetectorStream("calibration", "numeric")
    change = words.Change(stream, Bins(), 0, before, after, after, after, 0.01)
    assert words.kind(change, None) == "concept_drift"
    assert words.severity(change, None, words.impact_of(change)) == severity
    assert words.summary("m", change, None, None, {}, 0.0) == f"m: {words_of_it} since 1 January 00:00"


def test_rows_of_one_moment_and_score_have_chances_of_their_own() -> None:
    """Scores that are whole tenths, all of one day: half of the residuals of a tenth lie above the middle."""
    n = 4000
    draw = np.random.default_rng(12)
    score = draw.integers(1, 10, n) / 10
    stream = scored(n, seed=13)
    stream.time[:], stream.score = START, score
    stream.label = (draw.random(n) < score).astype(float)
    rows = stream.outcomes(np.arange(n))
    model = parse("models: {m: {task: binary}}").models["m"]
    results = results_of(model, rows)
    found = meaning.learn(results)
    assert found is not None
    u = meaning.column(found, results)
    assert len(np.unique(u)) == n
    assert kstest(u, "uniform").pvalue > 0.01
    for tenth in np.unique(score):
        assert abs(u[score == tenth].mean() - 0.5) < 0.06


def test_scores_that_the_reference_did_not_have_say_nothing() -> None:
    stream = scored(3000, seed=14)
    assert stream.score is not None
    stream.score = stream.score * 0.5
    model = parse("models: {m: {task: binary}}").models["m"]
    found = meaning.learn(results_of(model, stream.outcomes(np.arange(3000))))
    assert found is not None
    stream.score[:1500] += 0.5
    later = meaning.column(found, results_of(model, stream.outcomes(np.arange(3000))))
    assert np.isnan(later[:1500][stream.score[:1500] > 0.75]).all()
    assert not np.isnan(later[1500:]).any()


@pytest.mark.parametrize("labels", [np.ones(3000), np.where(np.arange(3000) < 2950, np.nan, 1.0)])
def test_labels_that_are_all_alike_or_too_few_teach_nothing(labels: np.ndarray) -> None:
    stream = scored(3000, seed=15)
    rows = stream.outcomes(np.arange(3000))
    rows.label = text([None if np.isnan(x) else x for x in labels.tolist()])
    model = parse("models: {m: {task: binary}}").models["m"]
    assert meaning.learn(results_of(model, rows)) is None
    assert len(observations(stream)) == 2


def test_a_score_beyond_0_and_1_has_no_residual() -> None:
    stream = scored(500, seed=16)
    assert stream.score is not None
    stream.score[:10] = 1.7
    model = parse("models: {m: {task: binary}}").models["m"]
    results = results_of(model, stream.outcomes(np.arange(500)))
    flat = Meaning(np.array([0.5]), np.array([0.3, 0.7]))
    assert np.isnan(meaning.column(flat, results)[:10]).all()
