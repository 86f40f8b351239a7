"""`season`: silent through days and seasons that flood `counts`, and quick where something breaks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from detectors import binning, days, gross, registry, series
from detectors.calendar import DAY_S, PARTS, Moment
from detectors.contract import Alarm, Bins, Budget, Detector, Rows, Stream
from detectors.counts import Counts
from detectors.days import DayState
from detectors.season import Season
from tests import conformance, streams
from tests.conformance import Scenario
from tests.streams import Floats

MONTH_S = 30 * DAY_S
ONE_A_MONTH = Budget(1, seconds=MONTH_S)
A_DAY = 240


def watched(
    detector: Detector, names: list[Stream], values: Floats, time_s: Floats, first_days: float = 28
) -> list[Alarm]:
    first = int(np.searchsorted(time_s, streams.MONDAY_S + first_days * DAY_S))
    bins = streams.learned(names, values[:first])
    return streams.run(detector, bins, streams.rows(bins, values, time_s), first)


def null_alarms(detector_name: str, runs: int) -> tuple[int, float]:
    """Alarms of five seasonal streams that never change, and what the budget allows for the months watched."""
    found = 0
    for run in range(runs):
        values, time_s, _ = streams.seasonal(np.random.default_rng([run, 1]), 100, A_DAY, 5)
        names = [Stream(f"s{j}", "numeric") for j in range(5)]
        found += len(watched(registry.make(detector_name, {}, names, ONE_A_MONTH, run), names, values, time_s))
    return found, runs * 72 / 30


def demand_budget(alarms: int, bound: float) -> None:
    assert alarms <= bound, f"{alarms} alarms, {bound} were accepted"


def test_seasons_and_odd_days_stay_within_the_budget_where_counts_is_flooded() -> None:
    """F05 F08: days differ by 0.15 sd beyond chance, and hours by one."""
    demand_budget(*null_alarms("season", 3))
    alarms, bound = null_alarms("counts", 1)
    assert alarms > 5 * bound


def test_without_the_variation_of_days_the_budget_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """F08: the check above is itself checked: the gross judge believes that days differ by chance only."""
    monkeypatch.setattr(gross, "learn", lambda *args: None)
    with pytest.raises(AssertionError, match="were accepted"):
        demand_budget(*null_alarms("season", 1))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda x: x * 1.609, "up"),
        (lambda x: x + 1.0, "level up"),
        (lambda x: np.full_like(x, 0.3), ""),
    ],
    ids=["unit", "level", "frozen"],
)
def test_gross_faults_are_found_within_a_day(change: object, what: str) -> None:
    """F05: of 900 rows a day, from day 40 on; miles for kilometres, a level, a frozen sensor."""
    assert callable(change)
    values, time_s, day = streams.seasonal(np.random.default_rng(2), 44, 900, 2, day_sd=0.05)
    values[day >= 40, 1] = change(values[day >= 40, 1])
    names = [Stream("a", "numeric"), Stream("b", "numeric")]
    (alarm,) = watched(Season(names, ONE_A_MONTH, 1), names, values, time_s)
    begun = streams.MONDAY_S + 40 * DAY_S
    assert alarm.name == "b" and begun < alarm.at_s <= begun + DAY_S
    assert alarm.since_low_s <= begun <= alarm.since_high_s and abs(alarm.since_s - begun) <= DAY_S / PARTS
    assert what in alarm.what


def test_half_a_standard_deviation_is_found_within_a_day() -> None:
    """F05 F09: days that differ by 0.05 sd."""
    late = []
    for seed in range(5):
        values, time_s, day = streams.seasonal(np.random.default_rng([seed, 3]), 46, 900, 1, day_sd=0.05)
        values[day >= 40] += 0.5 * values[day < 28].std()
        names = [Stream("x", "numeric")]
        alarms = watched(Season(names, ONE_A_MONTH, seed), names, values, time_s)
        late.append((alarms[0].at_s - streams.MONDAY_S) / DAY_S - 40 if alarms else np.inf)
    assert np.median(late) <= 1


def test_an_error_rate_that_rises_for_good_is_found_by_the_day_judge() -> None:
    """F04: from 20 to 35 %, where days differ by more than chance."""
    draw = np.random.default_rng(6)
    time_s = streams.MONDAY_S + np.sort(draw.uniform(0, 90 * DAY_S, 90 * 500))
    day = ((time_s - streams.MONDAY_S) // DAY_S).astype(int)
    rate = np.clip(0.2 + 0.06 * draw.normal(size=90), 0.02, 0.9) + 0.15 * (np.arange(90) >= 50)
    values = (draw.random(len(day)) < rate[day]).astype(float)[:, None]
    names = [Stream("loss", "loss")]
    (alarm,) = watched(Season(names, ONE_A_MONTH, 1), names, values, time_s)
    assert alarm.what == "loss up" and alarm.since_low_s <= streams.MONDAY_S + 50 * DAY_S <= alarm.since_high_s
    assert 0.08 < alarm.details["effect"] < 0.25 and alarm.at_s - streams.MONDAY_S < 65 * DAY_S


def test_status_tells_how_far_learning_has_come() -> None:
    values, time_s, _ = streams.seasonal(np.random.default_rng(4), 35, 50, 2)
    names = [Stream("a", "numeric"), Stream("b", "numeric")]
    detector = Season(names, ONE_A_MONTH, 1)
    assert detector.status() == "not fitted"
    first = int(np.searchsorted(time_s, streams.MONDAY_S + 12.5 * DAY_S))
    bins = streams.learned(names, values[:first])
    whole = streams.rows(bins, values, time_s)
    detector.fit(bins, whole.part(0, first))
    assert detector.status() == "learning the season: 12 of 28 days"
    detector.update(whole.part(first, len(whole)))
    assert detector.status() == "watching"


def test_after_an_alarm_the_new_level_is_learned_for_14_days() -> None:
    """F05"""
    values, time_s, day = streams.seasonal(np.random.default_rng(5), 80, A_DAY, 2)
    values[day >= 40, 0] += 3
    names = [Stream("a", "numeric"), Stream("b", "numeric")]
    first, later = (int(np.searchsorted(day, d)) for d in (28, 47))
    bins = streams.learned(names, values[:first])
    whole = streams.rows(bins, values, time_s)
    detector = Season(names, ONE_A_MONTH, 1)
    detector.fit(bins, whole.part(0, first))
    assert [alarm.name for alarm in detector.update(whole.part(first, later))] == ["a"]
    assert detector.status().startswith("1 stream learning the level: 5 of 14 days; 1 stream watching")
    assert detector.update(whole.part(later, len(whole))) == []
    assert detector.status() == "watching"


def test_days_without_rows_are_passed_over_however_many() -> None:
    """F05: a stream that sleeps for a century (and on Sundays) alarms neither by that nor by its waking."""
    values, time_s, day = streams.seasonal(np.random.default_rng(8), 70, A_DAY, 1)
    awake = day % 7 != 6
    values, time_s, day = values[awake], time_s[awake].copy(), day[awake]
    time_s[day >= 56] += 5_200 * 7 * DAY_S
    names = [Stream("x", "numeric")]
    assert watched(Season(names, ONE_A_MONTH, 1), names, values, time_s) == []


def test_a_stream_that_sleeps_at_night_is_judged_by_day() -> None:
    draw = np.random.default_rng(9)
    values, time_s, day = streams.seasonal(draw, 60, A_DAY, 1)
    awake = time_s % DAY_S > 9 * 3_600
    values, time_s, day = values[awake], time_s[awake], day[awake]
    values[day >= 50] += 2
    names = [Stream("x", "numeric")]
    (alarm,) = watched(Season(names, ONE_A_MONTH, 1), names, values, time_s)
    assert 50 <= (alarm.at_s - streams.MONDAY_S) / DAY_S <= 51


def test_days_may_start_elsewhere_than_at_midnight_utc() -> None:
    names = [Stream("x", "numeric")]
    values, time_s, _ = streams.seasonal(np.random.default_rng(10), 30, A_DAY, 1)
    detector = registry.make("season", {"offset_s": 5 * 3600.0}, names, ONE_A_MONTH, 1)
    assert watched(detector, names, values, time_s, first_days=29) == [] and detector.status() == "watching"


def test_streams_side_by_side_are_judged_as_they_are_alone() -> None:
    """F05 F08: of four kinds, with holes, and learning at different times; four times the budget of one."""
    draw = np.random.default_rng(15)
    names = [Stream("x", "numeric"), Stream("y", "numeric"), Stream("late", "rate"), Stream("loss", "loss")]
    values, time_s, day = streams.seasonal(draw, 75, 100, 4)
    values[:, 2:] = values[:, 2:] > 1.5
    values[day % 7 == 6, 1] = np.nan
    values[day >= 40, 0] += 3
    values[day >= 50, 1] -= 2
    values[day >= 45, 3] = draw.random(int((day >= 45).sum())) < 0.8
    four = Budget(4, seconds=MONTH_S)
    together = watched(Season(names, four, 1), names, values, time_s)
    alone = [
        alarm
        for j in range(4)
        for alarm in watched(Season([names[j]], ONE_A_MONTH, 1), [names[j]], values[:, [j]], time_s)
    ]

    def seen(alarms: list[Alarm]) -> list[tuple[str, str, str, float, float, float]]:
        return sorted((a.name, a.judge, a.what, a.at_s, a.since_s, round(a.evidence, 6)) for a in alarms)

    assert seen(together) == seen(alone) and {"x", "y", "loss"} <= {alarm.name for alarm in together}


def test_equal_days_stay_equal_to_the_last_digit() -> None:
    """Days that all have the same value must rank at random among each other, whatever the means of their classes."""
    values = np.full((40, PARTS, 1), 0.1) + np.repeat(np.arange(7) / 3, 6)[:40, None, None] * 0
    state = days.begin(values, np.arange(40))
    days.learn(state)
    past = days.prepare([state])
    scores = []
    for xi in (0.1, 0.5, 0.9):
        days.part(
            [state], past, np.full(1, 0.1), Moment(40, 3, 0.0), np.zeros((1, len(days.BETS))), 0.0, np.full(1, xi)
        )
        scores.append(float(state.today[0]))
    assert scores[0] < -0.8 and abs(scores[1]) < 0.1 and scores[2] > 0.8


def exchangeable_days(tolerance: float) -> int:
    """Alarms of the day judge alone on one series of independent days, at a wage that allows 40."""
    draw = np.random.default_rng(12)
    weights = np.concatenate([days.SIZES**-0.5, days.SIZES**-0.5])
    wages = (40 / 2_000) * weights / weights.sum()
    found = 0
    for _ in range(20):
        state = days.begin(np.repeat(draw.normal(size=(28, 1, 1)), PARTS, 1), np.arange(28))
        days.learn(state)
        state.system[:] = 0
        for day in range(28, 128):
            x = draw.normal(size=1)
            past = days.prepare([state])
            for c in range(PARTS):
                (verdict,) = days.part([state], past, x, Moment(day, c, 0.0), wages[None], tolerance, draw.random(1))
                if verdict is not None:
                    found, state.sums = found + 1, 0 * state.sums
                    break
            days.end_day(state, np.repeat(x[None], PARTS, 0), day)
    return found


def test_the_day_judge_keeps_its_half_where_days_are_exchangeable() -> None:
    """F08"""
    alarms = exchangeable_days(0.0)
    assert 0 < alarms <= 40
    assert exchangeable_days(0.5) < alarms


def test_persistence_of_days_is_learned() -> None:
    """F05: days that resemble the day before get a beta, independent ones none."""
    draw = np.random.default_rng(13)
    noise = draw.normal(size=112)
    walk = np.zeros(112)
    for t in range(1, 112):
        walk[t] = 0.8 * walk[t - 1] + noise[t]
    state: DayState = days.begin(np.repeat(np.column_stack([walk, noise])[:, None], PARTS, 1), np.arange(112))
    days.learn(state)
    assert 0.6 < state.beta[-1, 0] < 0.97 and abs(state.beta[-1, 1]) < 0.3


def test_rare_losses_have_a_relative_tolerance() -> None:
    """F09: five points on the arcsine scale would be more than half of a rate of one in a hundred."""
    assert series.tolerance(np.array([0.99, 0.01]), "loss") < 0.011
    assert series.tolerance(np.array([0.5, 0.5]), "rate") == series.TOLERANCE


def test_auto_takes_the_season_where_the_reference_spans_days() -> None:
    """F08"""
    names = [Stream("r", "rate")]
    codes = np.zeros((200, 1), np.int32)
    for spacing_s, chosen in (
        (1.0, "counts for 1 of 1 streams, as their rows could come in any order: watching"),
        (900.0, "season for 1 of 1 streams, as the reference spans days: learning the season: 2 of 28 days"),
    ):
        detector = registry.make("auto", {}, names, ONE_A_MONTH, 1)
        whole = Rows(streams.MONDAY_S + spacing_s * np.arange(200.0), codes, codes * 1.0)
        assert detector.status() == "not fitted" and detector.update(whole) == []
        detector.fit([Bins(edges=(0.5,))], whole)
        assert detector.status() == chosen
        again = registry.make("auto", {}, names, ONE_A_MONTH, 1)
        again.restore(detector.snapshot())
        assert again.status() == chosen and again.snapshot() == detector.snapshot()


@pytest.mark.parametrize("rows_resemble", [False, True])
def test_hours_of_the_day_are_no_alarms_whether_or_not_rows_resemble_each_other(rows_resemble: bool) -> None:
    """F05 F08: fifty streams, a daily season of one sd (or an AR(1) of 0.5 over it); 40 days at 25 alarms accepted."""
    draw = np.random.default_rng(16)
    n, d = 70 * A_DAY, 50
    time_s = streams.MONDAY_S + np.arange(n) * DAY_S / A_DAY
    values = draw.normal(size=(n, d))
    if rows_resemble:
        values = lfilter([0.75**0.5], [1.0, -0.5], values, axis=0)
    values += np.sin(2 * np.pi * time_s / DAY_S)[:, None]
    names = [Stream(f"s{j}", "numeric") for j in range(d)]
    detector = Season(names, Budget(25, seconds=42 * DAY_S), 2)
    demand_budget(len(watched(detector, names, values, time_s)), 2 * 25)


def test_states_that_do_not_fit_are_refused() -> None:
    names = [Stream("a", "rate"), Stream("b", "rate")]
    codes = np.zeros((10, 2), np.int32)
    season, counts = Season(names, ONE_A_MONTH, 1), Counts(names, ONE_A_MONTH, 1)
    for detector in (season, counts):
        detector.fit([Bins(edges=(0.5,))] * 2, Rows(streams.each_second(10), codes, codes * 1.0))
    with pytest.raises(ValueError, match="not the state of a detector"):
        season.restore(counts.snapshot())
    with pytest.raises(ValueError, match="the state is of 2 streams"):
        Season(names[:1], ONE_A_MONTH, 1).restore(season.snapshot())
    with pytest.raises(ValueError, match="2 streams need 2 bins"):
        season.fit([Bins(edges=(0.5,))], Rows(streams.each_second(10), codes, codes * 1.0))


def scenario() -> Scenario:
    """Three streams of three kinds over 70 days, with holes and three changes."""
    draw = np.random.default_rng(14)
    names = [Stream("x", "numeric"), Stream("k", "categorical"), Stream("loss", "loss")]
    x, time_s, day = streams.seasonal(draw, 70, 40, 1)
    values = np.column_stack([x, draw.integers(0, 3, len(x)), draw.random(len(x)) < 0.2]).astype(np.float64)
    values[day >= 35, 0] += 3
    values[day >= 60, 0] -= 6
    values[day >= 45, 2] = draw.random(int((day >= 45).sum())) < 0.8
    values[draw.random(values.shape) < 0.05] = np.nan
    bins = [binning.learn_bins(names[0], values[day < 20, 0]), Bins(categories=("0", "1")), Bins(edges=(0.5,))]
    codes = np.column_stack([binning.code(bins[0], values[:, 0]), np.nan_to_num(values[:, 1:], nan=-1)]).astype(
        np.int32
    )
    whole, first = Rows(time_s, codes, values), int((day < 20).sum())

    def make() -> Season:
        detector = Season(names, ONE_A_MONTH, 11)
        detector.fit(bins, whole.part(0, first))
        return detector

    return Scenario(
        make=make, feed=streams.feed, items=streams.cut(whole.part(first, len(whole)), 100), state_bytes_max=250_000,
        recut=streams.recut, bad=streams.bad_rows(3),
    )  # fmt: skip


def test_conformance() -> None:
    """F08: cutting calls differently, snapshots, hash seeds and bad input change nothing."""
    conformance.check("tests.test_detectors_season:scenario")
