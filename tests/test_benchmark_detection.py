"""The detection benchmark measures what it says, in a very small form; its figures themselves are not tested (F05)."""

from __future__ import annotations

import csv
import doctest
import gzip
import math
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.detection import (
    __main__ as command,
)
from benchmarks.detection import (
    bars,
    cost,
    datasets,
    delays,
    errors,
    known,
    marginals,
    null,
    oracle,
    peers,
    real,
    reasons,
    surrogates,
    telling,
    windowed,
)
from detectors import binning, budget
from detectors.contract import Rows, Stream

OWN = ("null", "delays", "errors", "real", "known", "cost")
DAYS = 40
SHOWN = ("0.5 sd, 1 of 50", "1 sd, 10 of 50", "category share +0.10")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every part in a form of about a second; one real stream and one known one, both made here."""
    monkeypatch.setattr(null, "QUICK", {"budget 20": null.Setting(20_000, 20.0)})
    monkeypatch.setattr(null, "MOVING_QUICK", null.Setting(20_000, 20.0))
    monkeypatch.setattr(null, "PEER_ROWS_QUICK", null.PeerRows(500, 200, 110, 100, 2_000))
    monkeypatch.setattr(delays, "QUICK", delays.Size(2, 2, 1, 20_000, 100_000, 1, 1))
    monkeypatch.setattr(delays, "AFTER_ROWS_MAX", 4_000)
    monkeypatch.setattr(delays, "CHANGES", [change for change in delays.CHANGES if change.name in SHOWN])
    monkeypatch.setattr(delays, "BOUNDS", {name: of for name, of in delays.BOUNDS.items() if name in SHOWN})
    monkeypatch.setattr(errors, "QUICK", errors.Size(4, 1, 50_000, 50_000, 5_000, 1_000, 1))
    monkeypatch.setattr(errors, "AFTER_ROWS_MAX", 2_000)
    monkeypatch.setattr(real, "QUICK", real.Size(("bikes",), {"bikes": 1}, 1, 1, surrogates.GRAINS[:1]))
    monkeypatch.setattr(cost, "QUICK", (2, 1))
    monkeypatch.setattr(cost, "FEATURES", (2, 4, 8))
    monkeypatch.setattr(cost, "SLICES", (1, 2, 4))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    write_bikes(tmp_path / "bike_sharing_hourly.csv.gz")
    write_usenet(tmp_path / "usenet1.csv.gz")


def write(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8", newline="") as text:
        csv.writer(text).writerows([header, *rows])


def write_bikes(path: Path) -> None:
    draw = np.random.default_rng(1)
    days = np.datetime64("2011-01-01") + np.arange(DAYS)
    rows: list[list[object]] = [
        [day, hour, 1 + hour % 3, *draw.normal(size=3), int(draw.poisson(20))] for day in days for hour in range(24)
    ]
    write(path, ["dteday", "hr", "weathersit", "temp", "hum", "windspeed", "cnt"], rows)


def write_usenet(path: Path) -> None:
    """The rule of the labels turns round at row 900, and a feature moves with it."""
    draw = np.random.default_rng(2)
    x = draw.normal(size=1_500)
    label = np.where(np.arange(1_500) < 900, x > 0, x < 0).astype(int)
    x[900:] += 3.0
    write(path, ["x", "interesting"], [[a, b] for a, b in zip(x, label, strict=True)])


def test_a_run_writes_figures_and_bars_of_every_part_with_what_they_were_measured_on(
    tiny: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F05 F45: the JSON holds everything that the printed table and the picture show."""
    out = tmp_path / "deep" / "detection.json"
    assert command.main(["--quick", "--seed", "3", "--out", str(out), "--parts", *OWN]) == 0
    told = orjson.loads(out.read_bytes())
    assert set(told["machine"]) == {"cores", "python"} and told["machine"]["cores"] >= 1
    assert (told["seed"], told["quick"], told["parts"]) == (3, True, list(OWN))
    assert all(told["figures"][part] and told["runs"][part]["cpu_s"] > 0 for part in OWN)
    for bar in told["bars"]:
        assert set(bar) == {"part", "name", "value", "bound", "unit", "holds"}
        at_least = bar["name"].endswith("(at least)")
        held = bar["value"] is not None and (bar["value"] >= bar["bound"] if at_least else bar["value"] <= bar["bound"])
        assert bar["holds"] == held, bar
    assert {bar["part"] for bar in told["bars"]} == set(OWN) - {"known"}  # its only bar is of elec2
    everyone = told["figures"]["errors"]["rows"]["0.10 to 0.20"]
    assert {"always", "never", "ADWIN (River)", errors.GUARANTEED} <= set(everyone)
    assert told["figures"]["known"]["streams"]["usenet1"]["features"]["ours"]["recall"] > 0
    assert "not in ../shared/data" in told["figures"]["known"]["streams"]["harvard_sea_0123_abrupt_noise0.2"]
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "Plotly" in page and "https://cdn" not in page.split("<h2>")[1]
    printed = capsys.readouterr().out
    assert "what was asked for" in printed and telling.ALWAYS in printed
    assert telling.ALWAYS in page
    assert told["figures"]["delays"]["a_peer_is_quicker"] == delays.SHORT


def test_a_part_that_breaks_down_is_told_and_the_others_stand(
    tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "detection.json"
    assert command.main(["--quick", "--out", str(out), "--parts", "cost"]) == 0
    monkeypatch.setattr(errors, "AFTER", ("high",))
    assert command.main(["--quick", "--out", str(out), "--keep", "--parts", "errors"]) == 1
    told = orjson.loads(out.read_bytes())
    assert told["parts"] == ["cost", "errors"] and told["figures"]["cost"]
    assert "Traceback" in told["runs"]["errors"]["broken"] and told["runs"]["cost"]["broken"] is None


def test_the_null_bar_holds_and_a_threshold_that_is_too_low_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """F05: the bar is itself checked, at the size of the quick form."""
    setting = null.QUICK["budget 100, blocks of 32"]
    allowed = setting.budget * setting.events / 1e6
    assert null.stationary(setting, seed=7) <= allowed
    monkeypatch.setattr(budget, "THRESHOLD", 0.2)
    assert null.stationary(setting, seed=7) > allowed


def test_changes_are_found_and_the_first_alarm_is_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    """F05: with changes of nothing, what the detector raises counts as false."""
    setting = null.Setting(60_000, 20.0)
    false, found, planted = null.rebaselined(setting, seed=1)
    assert (found, planted) == (5, 5) and false <= 2
    monkeypatch.setattr(null, "CHANGE_SD", 0.0)
    assert null.rebaselined(setting, seed=1)[1] <= 2


@given(st.integers(0, 2**32 - 1))
def test_codes_of_the_latent_are_codes_of_the_values(seed: int) -> None:
    draw = np.random.default_rng(seed)
    learned = marginals.learn(marginals.latent(draw, 300))
    z = marginals.latent(draw, 100)
    codes = marginals.codes(learned, z)
    for j, (own, bins) in enumerate(zip(z, learned.bins, strict=True)):
        x = marginals.values(j, own)
        shown = x if j < marginals.NUMERIC else [str(int(k)) for k in x]
        assert np.array_equal(codes[j], binning.code(bins, shown)), marginals.marginal(j)


def test_features_have_the_marginals_and_the_correlation_they_are_named_for() -> None:
    z = marginals.latent(np.random.default_rng(1), 20_000)
    for j in range(len(marginals.MARGINALS)):
        name = marginals.marginal(j)
        x = marginals.values(j, z[j])
        grid = np.array([np.quantile(x, q) for q in (0.1, 0.5, 0.9)])
        share = (x[:, None] <= grid).mean(0)
        assert share == pytest.approx(marginals.DISTRIBUTIONS[name].cdf(grid), abs=0.015), name
    assert np.corrcoef(z[0], z[10])[0, 1] == pytest.approx(0.5, abs=0.03)
    assert abs(np.corrcoef(z[0], z[11])[0, 1]) < 0.03
    assert (marginals.values(36, z[36]) == 0).mean() == pytest.approx(marginals.share(36), abs=0.015)


def test_ks_and_chi_square_are_those_of_scipy() -> None:
    draw = np.random.default_rng(1)
    for made in (draw.normal(size=5_300), draw.poisson(4, 5_300).astype(float)):
        reference, window = np.sort(made[:5_000]), np.sort(made[5_000:] + 0.1)
        expected = stats.ks_2samp(reference, window, method="asymp").pvalue
        assert math.log(windowed.ks_p(reference, window)) == pytest.approx(math.log(expected), rel=0.02)
    a, b = np.array([50, 30, 20, 0]), np.array([10, 30, 5, 0])
    table = np.array([a[:3], b[:3]])
    assert windowed.chi2_p(a, b) == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_an_oracle_finds_the_loosest_delta_that_keeps_to_the_target() -> None:
    values = np.random.default_rng(1).standard_normal(40_000).tolist()
    tuned = oracle.tune(peers.ADWIN, [values], target_per_million=200.0, steps=6)
    assert tuned.alarms == len(peers.alarms(peers.ADWIN.make(tuned.parameter), values)) <= 8
    assert len(peers.alarms(peers.ADWIN.make(0.9), values)) > 8 and tuned.parameter > peers.ADWIN.default


def test_a_detector_that_gets_stuck_is_tuned_on_streams_as_long_as_it_is_judged_on() -> None:
    """EDDM alarms while it is young; on one long stream it looks quiet at a parameter at which it is not."""
    (eddm,) = (peer for peer in peers.RIVER if peer.name == "EDDM (River)")
    nulls = [(np.random.default_rng([1, k]).random(3_000) < 0.1).astype(int).tolist() for k in range(10)]
    together = oracle.tune(eddm, [[x for null in nulls for x in null]], 300.0, steps=6)
    apart = oracle.tune(eddm, nulls, 300.0, steps=6)
    assert apart.alarms <= 9 and apart.parameter < together.parameter
    late = oracle.tune(eddm, nulls, 300.0, steps=6, uncounted=2_900)
    assert late.alarms * 1e6 / 1_000 == late.per_million and late.parameter > apart.parameter


@given(st.integers(21, 120), st.sampled_from(surrogates.GRAINS), st.integers(0, 999))
def test_permuted_days_keep_their_rows_and_their_weekday(days: int, grain: str, seed: int) -> None:
    """F08: every day stands once, its rows at their times of day, in the order of time."""
    order = surrogates.permuted(days, grain, np.random.default_rng(seed))
    assert sorted(order) == list(range(days)) and np.array_equal(order % 7, np.arange(days) % 7)
    time_s = np.arange(3 * days) * datasets.DAY_S / 3 + 1_000.0
    codes = np.arange(3 * days, dtype=np.int32)[:, None]
    moved = surrogates.arrange(Rows(time_s, codes, codes.astype(float)), order)
    assert np.array_equal(moved.time_s, time_s)
    assert np.array_equal(moved.codes[:, 0], np.repeat(order, 3) * 3 + np.tile(np.arange(3), days))


def test_what_lay_behind_an_alarm_is_read_off_the_rows(tiny: None) -> None:
    bikes = datasets.load_bikes()
    broken = np.where(bikes.time_s > bikes.time_s[-1] - 4 * datasets.DAY_S, 9.0, np.asarray(bikes.columns[0]))
    moved = bikes._replace(columns=[broken, *bikes.columns[1:]])
    found = real.as_it_was(moved)
    (alarm,) = [one for one in found["alarms_listed"] if one["stream"] == "temp"]
    assert alarm["since_the_onset"] > 8.0 and abs(alarm["28_days_before"]) < 0.5 and "level up" in alarm["what"]


def test_recall_precision_and_delay_are_those_of_the_alarms() -> None:
    assert doctest.testmod(known).failed == 0
    found = known.score([110, 130, 400], [100, 200], 50, 0, 500)
    assert (found["recall"], found["delay"], found["false"]) == (0.5, 10.0, 1)
    nothing = known.score([], [100], 50, 0, 500)
    assert (nothing["recall"], nothing["precision"], nothing["f1"], nothing["delay"]) == (0.0, 0.0, 0.0, None)


def test_bars_and_intervals_say_what_the_numbers_say() -> None:
    assert bars.poisson_interval(0) == pytest.approx((0.0, 3.6889), abs=1e-3)
    assert bars.poisson_interval(9) == pytest.approx((4.1154, 17.0848), abs=1e-3)
    missed = bars.at_most("delay", math.inf, 10.0, "rows")
    assert missed["value"] is None and not missed["holds"]
    medians: dict[str, float | None] = {"ours": 100.0, "ours, other": 50.0, "a": 80.0, "b": 120.0, "c": None}
    assert bars.behind(medians, "ours") == [{"peer": "a", "peer_median": 80.0, "ours": 100.0, "quicker_by": 0.2}]
    found = bars.delays([*range(1, 101)])
    assert (found["median"], found["median_low"], found["median_high"]) == (50, 40, 61)  # binomial(100, 1/2)
    assert bars.median_at_most("delay", found, 49.0, "rows") == {
        "name": "delay", "value": 50.0, "bound": 49.0, "unit": "rows, median (95 %: 40 to 61)", "holds": False,
    }  # fmt: skip
    half = bars.delays([1.0, math.inf])
    assert (half["median"], half["missed"]) == (1.0, 0.5) and bars.delays([math.inf] * 2)["median"] is None


def test_every_row_where_a_peer_is_quicker_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    """F05: in either block size, and what was never looked for is said to be so."""
    ours = {f"ours, blocks of {w}": {"median": 100.0 + w} for w in delays.SIZES}
    change = delays.CHANGES[0]
    row = {**ours, "ADWIN (River), tuned": {"median": 120.0}, "KS/chi2, windows of 200": {"median": 140.0}}
    found = delays.quicker(change, row)
    assert [(lost["against"], lost["peer"]) for lost in found] == [
        ("ours, blocks of 32", "ADWIN (River), tuned"),
        ("ours, blocks of 256", "ADWIN (River), tuned"),
        ("ours, blocks of 256", "KS/chi2, windows of 200"),
    ]
    assert all(lost["reason"] for lost in found)
    assert reasons.of_errors("a new peer") == reasons.NOT_LOOKED_FOR
    listed = telling.quicker({"a_peer_is_quicker": {change.name: found}})
    assert [one.reason for one in listed] == [lost["reason"] for lost in found]
    assert telling.quicker({"a_peer_is_quicker": "not compared"}) == []
    telling.show("title", listed)
    printed = capsys.readouterr().out
    assert printed.count("(1)") == 2 and printed.count("(2)") == 2 and "(4)" not in printed


def test_a_stream_where_always_alarming_scores_better_is_listed_with_its_reason() -> None:
    score = {"features": {"ours": {"f1": 0.4}, "always": {"f1": 0.6}}, "drifts": {"features": (300,), "errors": ()}}
    (told,) = known.against_always({"usenet1": score, "not there": "missing"})
    assert (told["ours"], told["always"], told["never"]) == (0.4, 0.6, 0.0) and "256" in told["reason"]
    (listed,) = telling.always({"against_always": [told]})
    assert "ALWAYS ALARMING SCORES BETTER" in listed.figures and listed.reason == told["reason"]
    score["features"]["ours"]["f1"] = 0.7
    (told,) = known.against_always({"usenet1": score})
    assert told["reason"] == "" and "BETTER" not in telling.always({"against_always": [told]})[0].figures


def test_cells_judge_each_part_of_the_week_by_itself() -> None:
    """F08: a stream that differs by quarter of the day, and nothing else, is silent in cells and floods one bag."""
    draw = np.random.default_rng(1)
    time_s = np.arange(60 * 960.0) * datasets.DAY_S / 960
    codes = (draw.random(len(time_s)) < np.where(time_s % datasets.DAY_S < 43_200, 0.2, 0.6)).astype(np.int32)[:, None]
    rows = Rows(time_s, codes, codes.astype(float))
    streams = [Stream("rate", "rate")]
    bins = [binning.learn_bins(streams[0], np.zeros(0))]
    assert real.cells(streams, bins, rows, 1)[0] <= 1
    assert real.WATCHERS["counts in one bag"](streams, bins, rows, 1)[0] > 10
