"""Slices that are found among labelled rows, and watched on later ones, through the stage that watches (F10)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from stream.windows.found import FIRST_ROWS, REFERENCE_ROWS
from tests.watching import Stream, alerts, config, in_turn, observations, run, watched

EVENTS_AN_ALARM = 100_000
SETTINGS = (
    "task: binary, reference: {first: 1000}, windows: {every: 1h}, find_slices: true, "
    f"false_alarms: 1 per {EVENTS_AN_ALARM} events"
)
N, AT = 9_000, 6_000


def crossed(seed: int, worse: float) -> Stream:
    """Errors of 10 %, of 35 % where plan is b and x0 is above its median, and there of `worse` more from AT on. No
    slice is declared, and nothing else changes."""
    draw = np.random.default_rng(seed)
    plan, x = draw.choice(["a", "b", "c"], N), draw.normal(size=(N, 2))
    inside = (plan == "b") & (x[:, 0] > 0)
    rate = np.where(inside, 0.35 + worse * (np.arange(N) >= AT), 0.1)
    said = (draw.random(N) < 0.4).astype(float)
    return Stream(
        time=1_356_998_400.0 + np.arange(N) * 10.0, prediction=said,
        label=np.where(draw.random(N) < rate, 1.0 - said, said),
        features={"plan": plan.tolist(), "x0": x[:, 0], "x1": x[:, 1]},
        score=np.where(said == 1, 0.8, 0.2) + draw.normal(size=N) * 0.02, delay=60.0,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_slice_that_nobody_declared_is_found_and_its_loss_watched(seed: int) -> None:
    """F10, F20: one alert tells of it; where the loss of all rows came first, as one that belongs to that."""
    watch, outputs = watched(SETTINGS, crossed(seed, worse=0.5))
    found = watch.figures()["models"]["m"]["found_slices"]
    assert found and "plan = b" in found[0]["slice"]
    assert all(each["excess"] > 0 for each in found)
    told = alerts(outputs)
    assert len({a.alert_id for a in told}) == 1 and told[0].kind == "concept_drift"
    assert any(name.startswith("loss[plan = b") for name in (told[-1].stream, *told[-1].related))
    assert "found" in watch.figures()["models"]["m"]["status"]


@pytest.mark.parametrize("seed", [2, 4])
def test_an_alert_that_begins_in_a_found_slice_says_which_and_how_much(seed: int) -> None:
    own = alerts(watched(SETTINGS, crossed(seed, worse=0.5))[1])[0]
    assert own.slice["plan"] == "b" and own.stream.startswith("loss[")
    assert own.impact is not None and own.impact["delta"] > 0.2


def test_found_slices_in_which_nothing_changes_raise_no_more_than_is_accepted() -> None:
    """F08: what was chosen as worse on some rows is judged against rows that came after. All streams together spend
    nearly the whole budget, so a few of so many runs may raise something."""
    seeds = range(3, 13)
    raised: list[str] = []
    for seed in seeds:
        watch, outputs = watched(SETTINGS, crossed(seed, worse=0.0))
        assert watch.figures()["models"]["m"]["found_slices"]
        raised += sorted({a.alert_id for a in alerts(outputs)})
    assert len(raised) <= stats.poisson.ppf(0.99, len(seeds) * N / EVENTS_AN_ALARM), raised


def test_nothing_is_searched_unless_asked_for() -> None:
    watch, _ = watched(SETTINGS.replace("find_slices: true, ", ""), crossed(1, worse=0.5))
    assert watch.figures()["models"]["m"]["found_slices"] == []
    assert "found" not in watch.figures()["models"]["m"]["status"]


def test_the_search_comes_after_the_reference_and_the_slices_reference_after_the_search() -> None:
    short = FIRST_ROWS + REFERENCE_ROWS - 200
    stream = crossed(1, worse=0.0)
    part = Stream(
        time=stream.time[:short], prediction=stream.prediction[:short], label=stream.label[:short],
        features={name: values[:short] for name, values in stream.features.items()}, delay=60.0,
    )  # fmt: skip
    watch, _ = watched(SETTINGS, part)
    figures = watch.figures()["models"]["m"]
    assert figures["found_slices"] and "found" not in figures["status"]


def test_a_restore_on_the_way_changes_nothing() -> None:
    stream = crossed(2, worse=0.5)
    watch, outputs = watched(SETTINGS, stream)
    log = in_turn(observations(stream))
    for cut in (30, 45, 120):
        first = type(watch)(config(SETTINGS), 0, 1)
        said = run(first, log[:cut], records=3)
        second = type(watch)(config(SETTINGS), 0, 1)
        second.restore(first.snapshot())
        said += run(second, log[cut:], records=5)
        assert alerts(said) == alerts(outputs)
        assert second.figures() == watch.figures()
