"""The watermark's promises: progress never goes back, and silence is followed only after it has been processed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.joining.watermark import CLOCK_STEP_MAX_S, Watermark


def both(idle_s: float = 2.0) -> Watermark:
    return Watermark.of(["predictions", "labels"], idle_s)


@given(st.lists(st.tuples(st.sampled_from(["predictions", "labels"]), st.floats(0, 100))))
def test_watermark_does_not_go_back(seen: list[tuple[str, float]]) -> None:
    watermark, before = both(), -math.inf
    for name, event_time in seen:
        assert watermark.advance(name, event_time) >= event_time
        assert watermark.through() >= before
        before = watermark.through()


def test_a_source_that_was_never_seen_holds_everything_back() -> None:
    watermark = both()
    watermark.advance("predictions", 50.0)
    assert watermark.through() == -math.inf


def test_a_source_at_its_end_follows_after_enough_silence_and_is_counted() -> None:
    watermark = both(idle_s=2.0)
    watermark.tick(100.0, {"labels": True})
    watermark.advance("predictions", 50.0)
    for clock in (100.9, 101.8):
        watermark.tick(clock, {"predictions": False})
    assert watermark.through() == -math.inf and watermark.idled == 0
    watermark.tick(102.7, {"predictions": False})
    assert watermark.through() == 50.0 and watermark.idled == 1
    watermark.advance("predictions", 60.0)
    watermark.tick(103.0, {"predictions": False})
    assert watermark.through() == 60.0 and watermark.idled == 1


def test_a_source_that_has_more_to_read_is_waited_for_however_long_it_takes() -> None:
    watermark = both(idle_s=2.0)
    watermark.tick(0.0, {"labels": False})
    watermark.advance("predictions", 50.0)
    for clock in range(1, 20):
        watermark.tick(float(clock), {"predictions": False})
    assert watermark.through() == -math.inf


def test_looking_again_at_an_empty_end_does_not_end_the_silence() -> None:
    watermark = both(idle_s=2.0)
    watermark.advance("predictions", 50.0)
    for clock in range(5):
        watermark.found_end("labels")
        watermark.tick(float(clock), {"predictions": False})
    assert watermark.through() == 50.0


def test_time_in_which_nothing_ran_is_not_silence() -> None:
    watermark = both(idle_s=2.0)
    watermark.advance("predictions", 50.0)
    watermark.found_end("labels")
    watermark.tick(0.0, {"predictions": False})
    watermark.tick(86_400.0, {"predictions": False})
    assert watermark.sources["labels"].silent_s == CLOCK_STEP_MAX_S
    assert watermark.through() == -math.inf


def test_an_idle_source_that_speaks_again_holds_the_others_again() -> None:
    watermark = both(idle_s=1.0)
    watermark.advance("predictions", 50.0)
    watermark.found_end("labels")
    for clock in (0.0, 1.0):
        watermark.tick(clock, {"predictions": False})
    assert watermark.through() == 50.0
    assert watermark.advance("labels", 20.0) == 50.0, "a late record counts at the progress it finds"
    watermark.tick(1.5, {"labels": False})
    watermark.advance("predictions", 70.0)
    watermark.tick(9.0, {"predictions": False})
    assert watermark.through() == 50.0


def test_where_all_are_silent_nobody_moves() -> None:
    watermark = both(idle_s=1.0)
    watermark.advance("predictions", 50.0)
    watermark.advance("labels", 40.0)
    watermark.tick(0.0, {"predictions": True, "labels": True})
    for clock in range(1, 10):
        watermark.tick(float(clock), {})
    assert watermark.through() == pytest.approx(40.0)
