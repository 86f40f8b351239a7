"""What serves is watched beside the last good copy, and rolled back on evidence only (F34)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learners.contract import SnapshotError
from learners.guard import Finding, Verdict
from learners.plans import GuardPlan
from learners.probation import MONTH_S, SPEND, TRANSITIONS, Watchman
from tests import conformance

FINE = Verdict(())
BROKEN = Verdict((Finding("size", 2.0, 1.0, False, "too large"),))


def on_probation(plan: GuardPlan | None = None) -> Watchman:
    watchman = Watchman(plan)
    assert watchman.judge(FINE, 0.0)
    return watchman


def outcome(watchman: Watchman, excess: float, draw: np.random.Generator) -> tuple[Finding, int]:
    """Losses around one half, of which what serves loses more by `excess` in the mean."""
    for n in range(1, 10_000):
        found = watchman.take(float(draw.random() < 0.3 + excess), float(draw.random() < 0.3))
        if found is not None:
            return found, n
    raise AssertionError("no probation lasts so long")


def test_a_watchman_conforms() -> None:
    """F34: repeatable, restored in mid-stream, whatever the hash seed."""
    conformance.check("tests.guarding:watchman")


def test_updates_just_at_the_margin_are_rolled_back_no_more_often_than_the_budget_says() -> None:
    """F34: 2,000 probations, each with a chance of 5 % (a tenth of half of a budget of one): 100 at most, and the
    bound is loose, as no bet is stopped for gain."""
    plan = GuardPlan(probation_margin=0.02, alpha_month=0.999)
    draw = np.random.default_rng(51)
    rolled_back = sum(not outcome(on_probation(plan), 0.02, draw)[0].holds for _ in range(2_000))
    assert 0 < rolled_back <= 100


def test_healthy_updates_pass() -> None:
    """F34: 500 probations at the default budget; at most one in a hundred may be rolled back."""
    draw = np.random.default_rng(52)
    rolled_back = sum(not outcome(on_probation(), 0.0, draw)[0].holds for _ in range(500))
    assert rolled_back <= 1


@pytest.mark.parametrize(("excess", "labels"), [(0.2, 200), (0.4, 70), (0.6, 40)])
def test_bad_updates_are_rolled_back_within_few_labels(excess: float, labels: int) -> None:
    """F34: median of 100, the losses of both being 0 or 1 and independent: harder than in life."""
    draw = np.random.default_rng(53)
    delays = []
    for _ in range(100):
        found, n = outcome(on_probation(), excess, draw)
        delays.append(math.inf if found.holds else n)
    assert np.median(delays) <= labels


def test_an_answer_that_is_no_number_is_enough_unless_the_good_copy_has_none_either() -> None:
    """F34."""
    watchman = on_probation()
    assert watchman.take(math.inf, math.inf) is None
    found = watchman.take(math.nan, 0.5)
    assert found is not None and not found.holds and watchman.status == "rolled_back"


def test_the_life_of_a_guard() -> None:
    """F34: passing, probation, frozen while it goes on, rolled back, and on probation again."""
    watchman = Watchman(GuardPlan(probation_labels=3))
    assert watchman.status == "passing" and watchman.take(1.0, 0.0) is None
    assert watchman.judge(FINE, 0.0) and watchman.status == "probation"
    passed = [watchman.take(0.2, 0.2) for _ in range(3)]
    assert passed[:2] == [None, None] and passed[2] is not None and passed[2].holds
    assert watchman.status == "passing" and not watchman.is_open
    assert watchman.judge(FINE, 1.0) and not watchman.judge(BROKEN, 2.0)
    assert watchman.status == "frozen" and watchman.is_open
    found = watchman.take(math.nan, 0.0)
    assert found is not None and watchman.status == "rolled_back"
    assert not watchman.judge(BROKEN, 3.0) and watchman.status == "frozen" and not watchman.is_open
    assert watchman.judge(FINE, 4.0) and watchman.status == "probation"
    assert watchman.figures() | {"evidence": 0, "needed": 0} == {
        "status": "probation", "labels": 0, "evidence": 0, "needed": 0, "published": 3, "refused": 2, "passed": 1,
        "rolled_back": 1,
    }  # fmt: skip
    assert all(later in TRANSITIONS for one in TRANSITIONS.values() for later in sorted(one))


def test_a_snapshot_published_during_a_probation_begins_its_labels_and_not_the_evidence() -> None:
    """F34: otherwise an update that is always a little worse would only have to be published often enough."""
    watchman = on_probation(GuardPlan(probation_labels=20))
    found = None
    for n in range(60):
        if n % 10 == 9:
            watchman.judge(FINE, 0.0)
        found = found or watchman.take(0.9, 0.2)
    assert found is not None and not found.holds


def test_the_budget_of_a_month_is_never_overspent() -> None:
    """F34: a probation every minute for a month, and then a pause of a year."""
    plan = GuardPlan(probation_labels=1, alpha_month=0.1)
    watchman = Watchman(plan)
    spent = 0.0
    minutes = int(MONTH_S / 60)
    for i in range(minutes):
        watchman.judge(FINE, 60.0 * i)
        spent += math.exp(-watchman.figures()["needed"])
        watchman.take(0.0, 0.0)
    assert 0.05 < spent <= 0.1
    watchman.judge(FINE, 13 * MONTH_S)
    assert math.exp(-watchman.figures()["needed"]) == pytest.approx(SPEND * 0.05)


def test_states_of_another_kind_are_refused() -> None:
    with pytest.raises(SnapshotError, match="not the state of a probation"):
        Watchman().restore(b"\xc1")
