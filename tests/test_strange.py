"""Strange inputs through the stage that watches: counted, told with the feature that makes them so, alarmed (F57)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.conformal import STRANGE_P
from stream import codec
from stream.windows import columns, schema
from stream.windows.schema import Schema, read_predictions
from stream.windows.sources.strange import KEPT, TOGETHER, TOLD
from tests.watching import Stream, alerts, config, in_turn, observations, plain, run, watched, windows

SETTINGS = "task: binary, reference: {first: 2000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"
N, AT = 12_000, 7_000


def learned(stream: Stream, first: int = 2_000) -> Schema:
    return schema.learn(config(SETTINGS).models["m"], stream.predictions(np.arange(first)))


def far_rows(share: float) -> Stream:
    """From AT on a share of the rows has a value of x1 that lies in the tail, within what the reference allows."""
    stream = plain(N, seed=3)
    chosen = np.random.default_rng(3).random(N) < share
    chosen[:AT] = False
    stream.features["x1"] = np.where(chosen, 4.0, stream.features["x1"])
    return stream


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_hundredth_of_ordinary_rows_is_strange(seed: int) -> None:
    """F57: the share after the reference is Beta's with the calibration's 1,000 rows, and no alarm comes of it."""
    watch, outputs = watched(SETTINGS, plain(N, seed=seed))
    found = watch.figures()["models"]["m"]["strange"]
    assert found["rows"] == N - 2_000 and found["expected"] == STRANGE_P
    low, high = stats.beta.ppf([0.0005, 0.9995], 10, 991)
    assert low - 0.003 < found["share"] < high + 0.003
    assert not [alert for alert in alerts(outputs) if alert.stream == "strange"]
    told = [w for w in windows(outputs) if not w.slice and w.final]
    assert sum(w.strange or 0 for w in told) <= found["strange"] + 10
    assert max(w.strange or 0 for w in told) > 0


def test_few_far_rows_raise_an_alert_that_names_their_feature() -> None:
    """F57: 3 % of the rows, which hardly move the feature's own distribution."""
    watch, outputs = watched(SETTINGS, far_rows(0.03))
    first = alerts(outputs)[0]
    assert (first.stream, first.kind) == ("strange", "covariate_drift")
    assert first.features[0].name == "x1" and first.features[0].share > 0.6
    assert first.summary.startswith("m: strange rows 0.8% → ") and first.summary.endswith(" of them by x1")
    assert "x1 = 4" in first.evidence["examples"] and len(first.evidence["examples"]) == 3
    last = watch.figures()["models"]["m"]["strange"]
    assert len(last["newest"]) == TOLD and last["newest"][0]["at"] >= last["newest"][-1]["at"]
    assert sum(each["why"] == "x1 = 4" for each in last["newest"]) >= TOLD / 2


def test_the_alert_of_strange_rows_says_by_what_they_are_strange() -> None:
    """F57: rows that break a correlation, each value of which is an ordinary one."""
    draw = np.random.default_rng(8)
    stream = plain(N, seed=8)
    stream.features["x1"] = 0.98 * stream.features["x0"] + 0.2 * draw.normal(size=N)
    broken = (draw.random(N) < 0.05) & (np.arange(N) >= AT)
    stream.features["x1"] = np.where(broken, -stream.features["x1"], stream.features["x1"])
    watch, outputs = watched(SETTINGS, stream)
    firing = [alert for alert in alerts(outputs) if alert.status in ("firing", "revised")]
    assert any("strange" in (alert.stream, *alert.related) for alert in firing)
    own = [alert for alert in firing if alert.stream == "strange"]
    for alert in own:
        assert alert.features[0].name == TOGETHER and TOGETHER in alert.summary
        assert len(alert.evidence["examples"]) == 3
    why = [each["why"] for each in watch.figures()["models"]["m"]["strange"]["newest"]]
    assert why.count(TOGETHER) >= TOLD / 2


def test_a_reference_that_is_too_small_says_so() -> None:
    watch, _ = watched(SETTINGS.replace("2000", "150"), plain(1_000, seed=4))
    found = watch.figures()["models"]["m"]["strange"]
    assert set(found) == {"off"} and "strange inputs are not looked for: 75 rows to shape" in found["off"]


def test_what_is_strange_of_a_row_is_said_in_words() -> None:
    """A category that was never seen, a value that is missing, a text of another length."""
    n = 2_400
    draw = np.random.default_rng(5)
    stream = plain(n, seed=5, features=1)
    stream.features["plan"] = ["a" if draw.random() < 0.6 else "b" for _ in range(n)]
    stream.features["note"] = [f"case {k:04} of {'a' * i} in full" for k, i in enumerate(draw.integers(0, 40, n))]
    stream.features["plan"][-3] = "never"
    stream.features["x0"][-2] = np.nan
    stream.features["note"][-1] = "word " * 300
    found = learned(stream)
    read_predictions(found, stream.predictions(np.arange(2_000)))
    assert found.strange.row == 2_000 and found.strange.rows == 0 and not found.strange.newest
    read_predictions(found, stream.predictions(np.arange(2_000, n)))
    why = [each.words for each in found.strange.newest[-3:]]
    assert why == ["plan = never", "x0 is missing", "note has 1500 characters"]


def test_rows_that_shape_the_measure_have_no_p_value_and_the_calibrating_ones_a_hundredth_below() -> None:
    stream = plain(2_000, seed=6)
    found = learned(stream)
    place = [each.name for each in found.streams].index("strange")
    codes = read_predictions(found, stream.predictions(np.arange(2_000))).codes[:, place]
    assert (codes[:1_000] == -1).all()
    assert 9 <= (codes[1_000:] == 1).sum() <= 11 and (codes[1_000:] >= 0).all()


def test_cutting_rows_and_snapshots_on_the_way_change_nothing() -> None:
    stream = far_rows(0.1)
    rows = stream.predictions(np.arange(2_000, N))
    whole, cut = learned(stream), learned(stream)
    place = [each.name for each in whole.streams].index("strange")
    once = read_predictions(whole, rows).codes[:, place]
    pieces = []
    for start in range(0, N - 2_000, 777):
        cut = codec.unpack(Schema, codec.pack(cut))
        pieces.append(
            read_predictions(cut, columns.select_predictions(rows, slice(start, start + 777))).codes[:, place]
        )
    assert np.array_equal(np.concatenate(pieces), once)
    assert codec.pack(cut.strange) == codec.pack(whole.strange)
    assert len(whole.strange.newest) == KEPT < whole.strange.found


def test_a_stage_restored_on_the_way_says_the_same() -> None:
    stream = far_rows(0.06)
    log = in_turn(observations(stream))
    watch, _ = watched(SETTINGS, Stream(**{**vars(stream), "time": stream.time}))
    straight = watch.figures()["models"]["m"]["strange"]
    split = type(watch)(config(SETTINGS), 0, 1)
    run(split, log[: len(log) // 2])
    again = type(watch)(config(SETTINGS), 0, 1)
    again.restore(split.snapshot())
    run(again, log[len(log) // 2 :])
    assert again.figures()["models"]["m"]["strange"] == straight
