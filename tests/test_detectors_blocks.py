"""`blocks`: dependent rows stay within the budget, a planted fault breaks it, and changes are found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import kstest

from detectors import binning, budget, dependence, ranks, registry
from detectors.blocks import Blocks
from detectors.contract import Alarm, Bins, Budget, Detector, Rows, Stream
from tests import conformance, streams
from tests.conformance import Scenario
from tests.streams import Floats

MILLION = 1e6


def autoregressive(draw: np.random.Generator, n: int, d: int, rho: float) -> Floats:
    """(n, d) values of variance 1 that resemble their predecessors by rho."""
    values: Floats = lfilter([(1 - rho**2) ** 0.5], [1.0, -rho], draw.normal(size=(n + 200, d)), axis=0)[200:]
    return values


def numeric(d: int) -> list[Stream]:
    return [Stream(f"x{j}", "numeric") for j in range(d)]


def each_millisecond(n: int) -> Floats:
    return streams.MONDAY_S + 1e-3 * np.arange(n)


def found_in(detector: Detector, names: list[Stream], values: Floats, first: int, call: int = 1_000) -> list[Alarm]:
    bins = streams.learned(names, values[:first])
    return streams.run(detector, bins, streams.rows(bins, values, each_millisecond(len(values))), first, call)


def alarms_until(detector: Detector, bins: list[Bins], whole: Rows, first: int, enough: float) -> int:
    """How many come after a reference of the first rows; counting ends when enough is known."""
    detector.fit(bins, whole.part(0, first))
    found = 0
    for piece in streams.cut(whole.part(first, len(whole)), 4_000):
        found += len(detector.update(piece))
        if found > enough:
            break
    return found


def dependent_null(detector_name: str, bound: float, rho: float) -> int:
    """Alarms of 30 streams that resemble their predecessors by rho and never change, 40,000 rows."""
    names = numeric(30)
    values = autoregressive(np.random.default_rng(21), 46_000, 30, rho)
    bins = streams.learned(names, values[:6_000])
    detector = registry.make(detector_name, {}, names, Budget(bound, events=40_000), 4)
    return alarms_until(detector, bins, streams.rows(bins, values, each_millisecond(46_000)), 6_000, 2 * bound)


def independent_null(bound: float) -> int:
    """Alarms of 200 rates in any order. That nothing persists is told to the detector, so that the budget is all that
    holds alarms back."""
    codes = (np.random.default_rng(22).random((44_000, 200)) < 0.3).astype(np.int32)
    names = [Stream(f"r{j}", "rate") for j in range(200)]
    whole = Rows(each_millisecond(44_000), codes, codes.astype(float))
    detector = Blocks(names, Budget(bound, events=40_000), 3)
    return alarms_until(detector, [Bins(edges=(0.5,))] * 200, whole, 4_000, 2 * bound)


def demand_budget(alarms: int, bound: float) -> None:
    """What F08 promises: no more than were accepted; and some, or the simulation shows nothing."""
    assert 0 < alarms <= bound, f"{alarms} alarms, {bound} were accepted"


@pytest.mark.parametrize("rho", [0.5, 0.95])
def test_dependent_rows_stay_within_the_budget(rho: float) -> None:
    """F08: an AR(1), 60 false alarms accepted."""
    demand_budget(dependent_null("blocks", 60, rho), 60)


def test_dependent_rows_flood_counts() -> None:
    """F08: far more than twice as many as were accepted."""
    assert dependent_null("counts", 60, 0.5) > 2 * 60


def test_dependence_that_is_not_looked_for_breaks_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """F08: the checks above are themselves checked: blocks of 32 rows whatever the reference says."""
    monkeypatch.setattr(dependence, "reach", lambda x, allowed: dependence.Reach(0, x.shape[1], False))
    monkeypatch.setattr(dependence, "persistence", lambda x: np.ones(len(x)))
    with pytest.raises(AssertionError, match="were accepted"):
        demand_budget(dependent_null("blocks", 60, 0.95), 60)


@pytest.fixture
def nothing_persists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependence, "persistence", lambda x: np.ones(len(x)))


@pytest.mark.usefixtures("nothing_persists")
def test_exchangeable_blocks_stay_within_the_budget() -> None:
    """F08"""
    demand_budget(independent_null(50), 50)


@pytest.mark.usefixtures("nothing_persists")
@pytest.mark.parametrize("fault", ["threshold halved", "budget not split", "evidence used twice", "ties not broken"])
def test_planted_faults_break_the_budget(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F08: the check above is itself checked."""
    accumulate, scores = budget.accumulate, ranks.scores
    if fault == "threshold halved":
        monkeypatch.setattr(budget, "THRESHOLD", 0.5)
    elif fault == "budget not split":
        monkeypatch.setattr(budget, "shares", lambda watched: np.ones(len(watched)))
    elif fault == "evidence used twice":
        monkeypatch.setattr(budget, "accumulate", lambda sums, wages, log: accumulate(sums, wages, 2 * log))
    else:
        monkeypatch.setattr(ranks, "scores", lambda less, equal, known, xi: scores(less, equal, known, 0 * xi + 0.99))
    with pytest.raises(AssertionError, match="were accepted"):
        demand_budget(independent_null(50), 50)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4))
@settings(max_examples=30)
def test_ranks_of_equal_and_unequal_numbers_are_uniform(seed: int, known: int, levels: int) -> None:
    """F08: whatever the ties, over all places that the new number may have among the others."""
    draw = np.random.default_rng(seed)
    values = draw.integers(0, levels + 1, known + 1).astype(np.float32)
    xi = (np.arange(64) + 0.5) / 64
    u = []
    for place in range(known + 1):
        past = np.delete(values, place)[:, None]
        less, equal = ranks.compare(past, values[[place]], np.zeros(1, np.int64))
        u += [(less + x * (equal + 1)) / (known + 1) for x in xi]
        z = ranks.scores(less, equal, np.full(1, known), np.full(1, 0.3))
        assert (z == 0) == (equal == known) or u
    assert kstest(np.concatenate(u), "uniform").statistic < 0.02


def test_blocks_are_as_long_as_rows_resemble_each_other() -> None:
    """F08: the lag-1 correlation of blocks of an AR(1) is known: 0.2 of 32 rows at 0.9, 0.02 at 0.5."""
    draw = np.random.default_rng(23)
    for rho, doublings in ((0.0, {0}), (0.5, {0}), (0.9, {1, 2}), (0.98, {3, 4})):
        sums = autoregressive(draw, 64_000, 1, rho).reshape(-1, 32).sum(1)[None]
        assert dependence.reach(sums, dependence.LAG_ONE_BLOCKS).doublings in doublings


def test_hardly_any_stream_in_any_order_is_taken_for_one_that_is_not() -> None:
    """F08: of 60, against 60 with a lag-1 correlation of 0.1; 5,000 rows, the default reference."""
    draw = np.random.default_rng(32)
    shown = {
        rho: sum(
            dependence.reach(autoregressive(draw, 5_000, 1, rho).T, dependence.LAG_ONE_ROWS).doublings > 0
            for _ in range(60)
        )
        for rho in (0.0, 0.1)
    }
    assert shown[0.0] <= 3 and shown[0.1] == 60


def test_what_is_left_of_persistence_is_measured() -> None:
    """F08: the variance of sums of 8 over 8 variances, of an AR(1): known; and the estimate's own error on top."""
    draw = np.random.default_rng(24)
    rho, n = 0.2, 20_000
    known = 1 + 2 * sum((1 - k / 8) * rho**k for k in range(1, 8))
    x = np.stack([autoregressive(draw, n, 1, rho)[:, 0], draw.normal(size=n), np.ones(n)])
    assert dependence.persistence(x) == pytest.approx([known, 1.02, 1.0], abs=0.06)
    assert dependence.persistence(x[:, :100]).max() < 2.5


def delay(shift: float, seed: int) -> float:
    """Rows until a shift of one dependent stream is named, at its fiftieth of a hundred alarms in a million rows."""
    draw = np.random.default_rng([seed, 25])
    before = int(draw.integers(0, 32))
    values = autoregressive(draw, 20_000 + before + 6_000, 1, 0.5)
    values[20_000 + before :] += shift
    changed = 20_000 + before
    for alarm in found_in(Blocks(numeric(1), Budget(2, events=MILLION), seed), numeric(1), values, 20_000):
        return round((alarm.at_s - streams.MONDAY_S) * 1e3) - changed + 1
    return np.inf


@pytest.mark.parametrize(("shift", "expected"), [(0.5, 360), (1.0, 140)])
def test_shifts_of_dependent_rows_are_found_as_soon_as_was_measured(shift: float, expected: float) -> None:
    """F05: medians of 24 other runs; the prototype, which looks for no persistence that is left, took 288 and 128."""
    assert np.median([delay(shift, seed) for seed in range(15)]) < 1.3 * expected


def test_a_budget_by_time_is_spent_as_time_goes_by() -> None:
    """F08: two in a thousand seconds are two in a million rows, if there is a row each millisecond."""
    values = autoregressive(np.random.default_rng(33), 14_000, 1, 0.5)
    values[10_000:] += 1
    by_rows, by_time = (
        found_in(Blocks(numeric(1), Budget(2, events=events, seconds=seconds), 1), numeric(1), values, 8_000)
        for events, seconds in ((MILLION, None), (None, 1_000.0))
    )
    assert [alarm.at_s for alarm in by_rows] == [alarm.at_s for alarm in by_time] and by_rows
    assert by_time[0].evidence == pytest.approx(by_rows[0].evidence, rel=0.01)


def test_an_alarm_says_what_since_when_and_how_much() -> None:
    """F05 F09: one of three dependent streams, from row 14,000 on; what comes after is the new normal."""
    values = autoregressive(np.random.default_rng(26), 40_000, 3, 0.5)
    values[14_000:, 1] += 0.8
    values[30_000:, 1] -= 0.8
    detector = Blocks(numeric(3), Budget(1, events=MILLION), 1)
    up, down = found_in(detector, numeric(3), values, 8_000)
    for alarm, what, row in ((up, "level up", 14_000), (down, "level down", 30_000)):
        begun = streams.MONDAY_S + 1e-3 * row
        assert (alarm.name, alarm.stream, alarm.what, alarm.judge) == ("x1", 1, what, "blocks")
        assert alarm.since_low_s <= begun <= alarm.since_high_s and abs(alarm.since_s - begun) < 0.3
        assert begun < alarm.at_s < begun + 1 and alarm.evidence >= alarm.threshold
        assert 0.5 < abs(alarm.details["effect"]) < 1.1 and alarm.details["block_rows"] == 32


def test_categories_losses_and_missing_values_are_followed() -> None:
    """F01 F04: a share that moves, a loss that rises, one that falls (no alarm), and half of the values missing."""
    draw = np.random.default_rng(27)
    latent = autoregressive(draw, 30_000, 4, 0.5)
    latent[15_000:] += [0.6, -0.6, 0.6, 0.0]
    names = [Stream("worse", "loss"), Stream("better", "loss"), Stream("k", "categorical"), Stream("x", "numeric")]
    codes = np.column_stack([latent[:, 0] > 0.5, latent[:, 1] > 0.5, (latent[:, 2] > -1) + 1 * (latent[:, 2] > 1)])
    bins = [
        Bins(edges=(0.5,)),
        Bins(edges=(0.5,)),
        Bins(categories=("a", "b")),
        binning.learn_bins(names[3], latent[:8_000, 3]),
    ]
    all_codes = np.column_stack([codes, binning.code(bins[3], latent[:, 3])]).astype(np.int32)
    all_codes[draw.random(all_codes.shape) < 0.1] = -1
    all_codes[15_000:, 3][draw.random(15_000) < 0.5] = -1
    detector = Blocks(names, Budget(1, events=MILLION), 1)
    found = streams.run(detector, bins, Rows(each_millisecond(30_000), all_codes, all_codes * 1.0), 8_000)
    assert [alarm.name for alarm in found if alarm.name != "k"] == ["worse"]
    told = {alarm.what for alarm in found}
    assert "loss up" in told and told & {"share of other categories up", "share of a down"}


def test_a_constant_stream_is_silent_and_what_is_missing_is_said() -> None:
    values = np.column_stack([np.full(20_000, 7.0), autoregressive(np.random.default_rng(28), 20_000, 1, 0.99)])
    names = [*numeric(2), Stream("one", "categorical")]
    bins = [*streams.learned(names[:2], values[:4_000]), Bins(categories=())]
    codes = np.column_stack(
        [streams.rows(bins[:2], values, each_millisecond(20_000)).codes, np.zeros(20_000, np.int32)]
    )
    whole = Rows(each_millisecond(20_000), codes.astype(np.int32), codes * 1.0)
    detector = Blocks(names, Budget(1e-3, events=MILLION), 1)
    assert detector.status() == "not fitted" and detector.update(whole) == []
    detector.fit(bins, whole.part(0, 550))
    assert "2 streams learning how its rows depend on each other: 13 of 96 blocks of 32 rows" in detector.status()
    detector.fit(bins, whole.part(0, 4_000))
    said = detector.status()
    assert "1 stream idle: one value only" in said and "of 96 blocks of" in said
    assert "1 stream watching by blocks of 32 rows, with fewer than 300 past ones" in said
    assert detector.update(whole.part(4_000, 20_000)) == []
    detector.fit(bins, whole.part(0, 40))
    assert "learning what is normal: 40 of 100 values" in detector.status()


def test_states_that_do_not_fit_are_refused() -> None:
    one, two = (Blocks(numeric(n), Budget(1, events=MILLION), 1) for n in (1, 2))
    codes = np.zeros((600, 1), np.int32)
    one.fit([Bins(edges=(0.5,))], Rows(each_millisecond(600), codes, codes * 1.0))
    with pytest.raises(ValueError, match="1 streams need 1 bins"):
        one.fit([Bins(edges=(0.5,))] * 2, Rows(each_millisecond(600), codes, codes * 1.0))
    with pytest.raises(ValueError, match="the state is of 1 streams, this detector watches 2"):
        two.restore(one.snapshot())
    with pytest.raises(ValueError, match="not the state of a detector"):
        one.restore(b"\x00junk")
    one.restore(Blocks(numeric(1), Budget(1, events=MILLION), 1).snapshot())
    assert one.status() == "not fitted"


def scenario_of(make: Callable[[list[Stream]], Detector], rungs: set[str]) -> Scenario:
    """Streams of four kinds that change, one twice within a short time; with holes, and equal event times."""
    draw = np.random.default_rng(31)
    names = [Stream("x", "numeric"), Stream("k", "categorical", 2.0), Stream("loss", "loss"), Stream("free", "numeric")]
    latent = autoregressive(draw, 7_100, 4, 0.5)
    latent[:, 3] = draw.normal(size=7_100)
    latent[5_000:] += 2
    latent[6_200:, 3] += 2
    values = np.column_stack(
        [latent[:, 0], (latent[:, 1] > -1) + 1.0 * (latent[:, 1] > 1), latent[:, 2] > 1, latent[:, 3]]
    )
    values[draw.random(values.shape) < 0.05] = np.nan
    bins = [
        binning.learn_bins(names[0], values[:4_500, 0]), Bins(categories=("0", "1")), Bins(edges=(0.5,)),
        binning.learn_bins(names[3], values[:4_500, 3]),
    ]  # fmt: skip
    codes = np.nan_to_num(values, nan=-1).astype(np.int32)
    codes[:, 0], codes[:, 3] = (binning.code(bins[j], values[:, j]) for j in (0, 3))
    whole = Rows(np.floor(each_millisecond(7_100)), codes, values)

    def made() -> Detector:
        detector = make(names)
        detector.fit(bins, whole.part(0, 4_500))
        return detector

    assert {alarm.judge for alarm in made().update(whole.part(4_500, 7_100))} == rungs
    return Scenario(
        make=made, feed=streams.feed, items=streams.cut(whole.part(4_500, 7_100), 200), state_bytes_max=250_000,
        recut=streams.recut, bad=streams.bad_rows(4),
    )  # fmt: skip


def scenario() -> Scenario:
    return scenario_of(lambda names: Blocks(names, Budget(5, events=1e5), 11), {"blocks"})


def test_conformance() -> None:
    """F08: cutting calls differently, snapshots, hash seeds and bad input change nothing."""
    conformance.check("tests.test_detectors_blocks:scenario")
