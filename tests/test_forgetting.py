"""The forgetting benchmark measures what it says; its figures in the full form are not tested (F27)."""

from __future__ import annotations

import doctest
from collections import Counter

import numpy as np
import pytest

from benchmarks.learning import forgetting
from benchmarks.learning.forgetting import (
    LATE,
    LOGISTIC,
    NONE,
    PHASE_EVENTS,
    PHASES,
    QUICK,
    RECOMMENDED,
    SCORED,
    STREAMS,
    Case,
    after_returns,
    answered,
    compared,
    paired,
    pairs_of,
    scores,
    staged,
)

EVENTS = len(PHASES) * PHASE_EVENTS


def test_only_the_first_events_after_a_return_count() -> None:
    """F27: the first visit of each concept and what comes late in a phase say nothing of forgetting."""
    right = np.zeros(EVENTS)
    assert after_returns(right) == 0.0
    right[: 3 * PHASE_EVENTS] = 1.0
    for start in range(3 * PHASE_EVENTS, EVENTS, PHASE_EVENTS):
        right[start + SCORED : start + PHASE_EVENTS] = 1.0
    assert after_returns(right) == 0.0
    right[3 * PHASE_EVENTS : 3 * PHASE_EVENTS + SCORED] = 1.0
    assert after_returns(right) == pytest.approx(1 / 3)


def test_the_paired_test_knows_gain_from_noise() -> None:
    assert doctest.testmod(forgetting).failed == 0
    draw = np.random.default_rng(3)
    noise = draw.normal(size=20)
    assert paired(noise)["p"] > 0.05 and paired(noise + 2.0)["p"] < 0.001
    assert paired(noise)["low"] < 0.0 < paired(noise)["high"] and paired(noise - 2.0)["high"] < 0.0
    rejected = sum(paired(draw.normal(size=20))["p"] < 0.05 for _ in range(1_000))
    assert 30 <= rejected <= 70  # 50 expected, sd 7


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_a_stream_of_its_seed_in_phases(name: str) -> None:
    own = pairs_of(name, 5)
    assert len(own) == EVENTS and own == list(STREAMS[name](5)) != list(STREAMS[name](6))


def test_concepts_come_back_as_they_were() -> None:
    """The classes of a phase are those of the phase three before; flipped labels are those of the same rule."""
    labels = [Counter(str(y) for _, y in phase) for phase in _phases("classes")]
    assert [sorted(own) for own in labels[:3]] == [sorted(own) for own in labels[3:]]
    assert not labels[0].keys() & labels[1].keys()
    first, flipped, third = (_agreement(phase) for phase in _phases("flip")[:3])
    assert np.sign(first) == -np.sign(flipped) == np.sign(third) and abs(first) > 0.1


def _phases(name: str) -> list[list[forgetting.Pair]]:
    pairs = pairs_of(name, 5)
    return [pairs[i : i + PHASE_EVENTS] for i in range(0, EVENTS, PHASE_EVENTS)]


def _agreement(phase: list[forgetting.Pair]) -> float:
    """Correlation of the label with the feature that says most of it on this seed."""
    x = np.array([list(x.values()) for x, _ in phase])
    y = np.array([y for _, y in phase], float)
    rule = np.random.default_rng([5, 29]).normal(size=x.shape[1])
    return float(np.corrcoef(x[:, int(np.abs(rule).argmax())] * np.sign(rule[np.abs(rule).argmax()]), y)[0, 1])


def test_replay_helps_where_a_concept_comes_back_and_its_labels_are_late() -> None:
    """F27, at five seeds: the buffer gains, and not by more steps, for learning twice and the newest lose."""
    settings = [setting for setting in forgetting.SETTINGS if setting.replay == 1]
    rows = {row["setting"]: row for row in compared(QUICK[0], settings, range(5))}
    for kind in ("reservoir x1", "balanced x1", "prioritised x1"):
        assert rows[kind]["low"] > 0.0 and rows[kind]["p"] < 0.01
    assert rows["again x1"]["gain"] < 0.0 and rows["recent x1"]["gain"] < 0.0


def test_nothing_is_learned_before_its_label_has_come() -> None:
    """With labels later than the stream is long, a learner that has learned nothing answers the same throughout."""
    case = Case("patterns", LOGISTIC, EVENTS)
    assert (answered(case, RECOMMENDED, 5) == answered(case, NONE, 5)).all()
    always = np.array([y for _, y in pairs_of("patterns", 5)]) == 0
    assert (answered(case, NONE, 5) == always).all() or (answered(case, NONE, 5) == ~always).all()


def test_the_learn_stage_replays_as_the_loop_of_the_benchmark_does() -> None:
    """F27: the same accuracy to the last event, so what is measured of the loop is true of the engine."""
    case = Case("patterns", LOGISTIC, LATE)
    assert staged(case, RECOMMENDED, 5) == scores(case, RECOMMENDED, 5)[0] != staged(case, NONE, 5)
