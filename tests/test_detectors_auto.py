"""The ladder of `auto` below a day: each stream on its own rung, and what could not be seen in a short reference."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.detection import ladder
from detectors import registry
from detectors.auto import Auto
from detectors.blocks import Blocks
from detectors.contract import Bins, Budget, Rows, Stream
from tests import conformance, streams
from tests.conformance import Scenario
from tests.streams import Floats
from tests.test_detectors_blocks import MILLION, autoregressive, each_millisecond, numeric, scenario_of


def test_the_benchmark_counts_what_it_says() -> None:
    """F08: the short form of the ladder's null, whose long form is benchmarks/detection/ladder.py."""
    found = ladder.null("autoregressive", 12_000, budget=2_000, reference_rows=4_000)
    assert 0 < found.alarms <= found.bound == 24 and found.interval[0] < found.alarms < found.interval[1]
    assert "blocks for" in found.status and ladder.interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)


def cycle(period: float, amplitude: float, n: int, rows_a_second: float) -> tuple[Floats, Floats]:
    """(n, 4) values with a cycle of so many seconds, and their times."""
    time_s = streams.MONDAY_S + np.arange(n) / rows_a_second
    phase = 2 * np.pi * (np.arange(n) / rows_a_second / period)[:, None] + np.arange(4)
    return np.random.default_rng(29).normal(size=(n, 4)) + amplitude * np.sin(phase), time_s


@pytest.mark.parametrize(("period", "amplitude"), [(60, 1.0), (300, 0.3), (900, 0.5)])
def test_a_cycle_within_a_short_reference_does_not_flood(period: float, amplitude: float) -> None:
    """F05 F08: the reference spans 800 seconds, 2 alarms are accepted; the longest cycle is hardly to be seen."""
    values, time_s = cycle(period, amplitude, 80_000, 10.0)
    bins = streams.learned(numeric(4), values[:8_000])
    detector = Auto(numeric(4), Budget(2, events=72_000), 2)
    assert len(streams.run(detector, bins, streams.rows(bins, values, time_s), 8_000)) <= 2
    assert detector.status().startswith("blocks for 4 of 4 streams, as their rows resemble the rows before them")


def test_a_season_that_could_not_be_seen_steps_down_and_falls_silent() -> None:
    """F05: a reference of three minutes in a cycle of six hours: a third of the alarms of `counts`, then none."""
    values, time_s = cycle(21_600, 1.0, 200_000, 10.0)
    bins = streams.learned(numeric(4), values[:2_000])
    whole = streams.rows(bins, values, time_s)
    auto, counts = (registry.make(name, {}, numeric(4), Budget(1, events=MILLION), 2) for name in ("auto", "counts"))
    found = streams.run(auto, bins, whole, 2_000, 5_000)
    assert 0 < len(found) <= len(streams.run(counts, bins, whole, 2_000, 5_000)) / 3
    assert found[-1].at_s < time_s[100_000]
    assert "as they changed again and again within a day: " in auto.status() and "its level wanders" in auto.status()


def test_changes_that_come_again_and_again_are_each_found() -> None:
    """F05: six clean steps, a second a row, 25,000 rows apart, all within two days: no reason to step down."""
    values = np.random.default_rng(34).normal(size=(175_000, 1))
    for start in range(25_000, 175_000, 50_000):
        values[start : start + 25_000] += 1
    bins = streams.learned(numeric(1), values[:5_000])
    whole = streams.rows(bins, values, streams.each_second(175_000))
    found = streams.run(Auto(numeric(1), Budget(1, events=MILLION), 1), bins, whole, 5_000)
    begun = [int(alarm.at_s - streams.MONDAY_S) // 1_000 for alarm in found]
    assert begun == [25, 50, 75, 100, 125, 150] and {alarm.judge for alarm in found} == {"counts"}


def mixed() -> tuple[list[Stream], Floats]:
    """Two streams in any order and two that resemble their predecessors; a constant; one with few values."""
    draw = np.random.default_rng(30)
    dependent = autoregressive(draw, 30_000, 2, 0.5)
    free = draw.normal(size=(30_000, 2))
    rare = np.where(draw.random(30_000) < 0.05, draw.normal(size=30_000), np.nan)
    names = [
        Stream(name, "numeric", weight)
        for name, weight in zip(("a", "b", "c", "d", "rare"), (1, 2, 1, 3, 1), strict=True)
    ]
    return names, np.column_stack([free[:, 0], dependent[:, 0], free[:, 1], dependent[:, 1], rare])


def test_each_stream_stands_on_its_own_rung_and_auto_says_so() -> None:
    """F08 F48"""
    names, values = mixed()
    detector = Auto(names, Budget(1, events=MILLION), 1)
    bins = streams.learned(names, values[:8_000])
    detector.fit(bins, streams.rows(bins, values, each_millisecond(30_000)).part(0, 8_000))
    assert detector.status() == (
        "counts for 3 of 5 streams, as their rows could come in any order: watching. "
        "blocks for 2 of 5 streams, as their rows resemble the rows before them: watching by blocks of 32 rows, "
        "with fewer than 300 past ones, so that large changes take longer"
    )


def test_auto_raises_what_the_rungs_raise_with_each_streams_share() -> None:
    """F08: the budget is one number whatever the rung: alone with its share, a stream has the very same evidence."""
    names, values = mixed()
    values[15_000:] += 0.7
    bins = streams.learned(names, values[:8_000])
    whole = streams.rows(bins, values, each_millisecond(30_000))
    together = streams.run(Auto(names, Budget(8, events=MILLION), 1), bins, whole, 8_000)
    assert {alarm.name: alarm.judge for alarm in together if alarm.name != "rare"} == {
        "a": "counts", "b": "blocks", "c": "counts", "d": "blocks",
    }  # fmt: skip
    for j, (name, weight) in enumerate([("b", 2), ("d", 3)]):
        place = 1 + 2 * j
        alone = Rows(whole.time_s, whole.codes[:, [place]], whole.values[:, [place]])
        own = Blocks([names[place]], Budget(weight, events=MILLION), 1)
        first = streams.run(own, [bins[place]], alone, 8_000)[0]
        same = next(alarm for alarm in together if alarm.name == name)
        assert (same.at_s, same.since_s, same.what) == (first.at_s, first.since_s, first.what)
        assert same.evidence == pytest.approx(first.evidence, rel=1e-9)


def test_states_that_do_not_fit_are_refused() -> None:
    one, two = (Auto(numeric(n), Budget(1, events=MILLION), 1) for n in (1, 2))
    codes = np.zeros((600, 1), np.int32)
    one.fit([Bins(edges=(0.5,))], Rows(each_millisecond(600), codes, codes * 1.0))
    with pytest.raises(ValueError, match="1 streams need 1 bins"):
        one.fit([Bins(edges=(0.5,))] * 2, Rows(each_millisecond(600), codes, codes * 1.0))
    with pytest.raises(ValueError, match="the state is of 1 streams, this detector watches 2"):
        two.restore(one.snapshot())
    with pytest.raises(ValueError, match="not the state of a detector"):
        one.restore(b"\x00junk")
    one.restore(Auto(numeric(1), Budget(1, events=MILLION), 1).snapshot())
    assert one.status() == "not fitted" and one.update(Rows(each_millisecond(600), codes, codes * 1.0)) == []


def scenario() -> Scenario:
    return scenario_of(lambda names: Auto(names, Budget(5, events=1e5), 11), {"blocks", "counts"})


def test_conformance() -> None:
    """F08: cutting calls differently, snapshots, hash seeds and bad input change nothing."""
    conformance.check("tests.test_detectors_auto:scenario")
