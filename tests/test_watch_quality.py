"""Data quality in streams where the fault is known: found, named rightly, the feature first (F11)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.constraints import Constraint
from stream import codec
from stream.events import Alert, Column, PredictionRows
from stream.stages.watch import Watch
from stream.windows import columns, schema
from stream.windows.sources import features, quality
from stream.windows.sources.quality import Quality
from stream.windows.sources.reading import Shown
from tests import conformance
from tests.watching import Stream, alerts, batches, by_chance, config, in_turn, observations, plain, run

SETTINGS = "task: binary, reference: {first: 2000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"
N, AT = 6_000, 4_000


def good(seed: int, n: int = N) -> Stream:
    """Numbers, counts, a closed set, free text of much the same length."""
    draw = np.random.default_rng([seed, 11])
    stream = plain(n, seed=seed, features=1)
    stream.features["temp"] = draw.gamma(20.0, 1.0, n)
    stream.features["count"] = draw.poisson(4.0, n).astype(float)
    stream.features["colour"] = draw.choice(["blue", "green", "red"], n, p=[0.6, 0.3, 0.1]).tolist()
    stream.features["note"] = [f"the engine with number {i + 10_000} made a noise" for i in range(n)]
    return stream


def some(share: float, seed: int = 1) -> np.ndarray:
    """Rows that are spoilt."""
    return (np.arange(N) >= AT) & (np.random.default_rng([seed, 12]).random(N) < share)


def spoil(stream: Stream, feature: str, rows: np.ndarray, value: object) -> Stream:
    values = stream.features[feature]
    mixed = [value if bad else each for bad, each in zip(rows, list(values), strict=True)]
    numbers = isinstance(values, np.ndarray) and isinstance(value, float)
    stream.features[feature] = np.array(mixed) if numbers else [_plain(each) for each in mixed]
    return stream


def _plain(value: object) -> object:
    return float(value) if isinstance(value, np.floating) else value


def watched(stream: Stream, declared: Mapping[str, Constraint] | None = None) -> tuple[Watch, list[Alert]]:
    watch = Watch(config(SETTINGS), 0, 1, None, {"m": declared} if declared is not None else None)
    return watch, alerts(run(watch, in_turn(observations(stream))))


@pytest.mark.parametrize(
    ("feature", "value", "fault", "said"),
    [
        ("temp", -999.0, "range", r"temp outside 5\.\d+ to 60\.\d+ in 1\d% of the events since 1 January 1"),
        ("temp", "n/a", "type", "temp comes as text where numbers belong, since 1 January"),
        ("count", 3.5, "type", r"count is no whole number in \d+%"),
        ("colour", "violet", "category", r"colour is not one of blue, green, red in \d+%"),
        ("colour", 7.0, "type", r"colour is a number and no text in \d+%"),
        ("note", "noise " * 40, "length", r"note is longer than \d\d characters in \d+%"),
    ],
)
def test_values_that_break_what_was_learned_are_broken_data(feature: str, value: object, fault: str, said: str) -> None:
    _, found = watched(spoil(good(1), feature, some(0.12), value))
    last = found[-1]
    assert {alert.alert_id for alert in found} == {last.alert_id}, "one cause, one alert"
    assert (last.kind, last.evidence["fault"], last.severity) == ("data_quality", fault, "critical")
    assert last.features[0].name == feature
    assert f"invalid/{feature}" in [last.stream, *last.related] or fault == "type"
    assert {name.partition("/")[2] for name in [last.stream, *last.related]} == {feature}
    assert re.search(f"^m: {said}", last.summary), last.summary


def test_rows_that_come_twice_are_broken_data() -> None:
    stream, source = good(2), np.arange(N)
    again = some(0.15)
    source[again] -= np.random.default_rng(3).integers(1, 300, int(again.sum()))
    for name, values in stream.features.items():
        stream.features[name] = values[source] if isinstance(values, np.ndarray) else [values[i] for i in source]
    _, found = watched(stream)
    assert [(a.kind, a.stream, a.evidence["fault"]) for a in found] == [("data_quality", "duplicate", "duplicate")]
    assert "% of the rows repeat one of the 500 before them since" in found[0].summary


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_a_good_stream_raises_nothing_and_shows_its_constraints(seed: int) -> None:
    stream = good(seed, 20_000)
    stream.features["pay"] = np.exp(np.random.default_rng(seed).normal(size=20_000))
    watch, found = watched(stream)
    assert found == []
    shown = watch.figures()["models"]["m"]["constraints"]
    assert shown["features"]["colour"] == "text, one of blue, green, red"
    assert shown["features"]["count"].startswith("whole number, 0 to 1")
    assert (shown["from"], shown["broken_in_reference"], shown["repeats_within_rows"]) == ("reference", {}, 500)


@pytest.mark.parametrize("moved", ["at once", "slowly", "beyond it"])
def test_values_that_leave_their_range_as_a_whole_have_drifted(moved: str) -> None:
    """F19: a season that the reference did not see is no fault of the data."""
    stream = good(7)
    later = np.clip(np.arange(N) - AT + 1, 0, 1)
    by = {"at once": 15.0 * later, "slowly": np.clip(np.arange(N) - 2_500, 0, N) / 60.0, "beyond it": 50.0 * later}
    stream.features["temp"] = stream.features["temp"] + by[moved]
    watch, found = watched(stream)
    assert found[0].stream == "feature/temp"
    assert {alert.kind for alert in found} == {"covariate_drift"}
    assert watch.watchers["m"].state.schema.quality.lately.any(), "values have left the range"  # type: ignore[union-attr]


@pytest.mark.parametrize(("fault", "change"), [("unit", lambda x: 1000.0 * x), ("constant", lambda x: 0.0 * x + 20.0)])
def test_a_unit_or_a_feature_that_stands_still_is_told_as_such(fault: str, change: object) -> None:
    stream = good(8)
    late = np.arange(N) >= AT
    stream.features["temp"] = np.where(late, change(stream.features["temp"]), stream.features["temp"])  # type: ignore[operator]
    _, found = watched(stream)
    assert {(a.stream, a.evidence["fault"]) for a in found} == {("feature/temp", fault)}
    assert found[0].features[0].name == "temp"


def test_a_stale_source_is_told_by_what_stands_still_and_not_by_the_rows_that_repeat() -> None:
    stream = good(9)
    late = np.arange(N) >= AT
    for name, values in stream.features.items():
        stream.features[name] = spoil(good(9), name, late, values[AT]).features[name]
    _, found = watched(stream)
    assert found[-1].evidence["fault"] == "constant"
    assert len({alert.alert_id for alert in found}) == 1


def test_what_a_person_declares_takes_effect() -> None:
    """An edited file: a limit is tightened, a category allowed, and what has no entry is not checked."""
    stream = spoil(good(10), "colour", some(0.12), "violet")
    stream = spoil(stream, "temp", some(0.12, seed=2), 44.0)
    stream = spoil(stream, "count", some(0.12, seed=3), 4.5)
    declared = {
        "temp": Constraint(type="number", low=0.0, high=42.0),
        "colour": Constraint(type="text", categories=("blue", "green", "red", "violet")),
        "gone": Constraint(type="number"),
    }
    watch, found = watched(stream, declared)
    broken = {a.stream for a in found if a.kind == "data_quality"}
    assert broken == {"invalid/temp"}
    assert any(a.summary.startswith("m: temp outside 0 to 42 in ") for a in found)
    shown = watch.figures()["models"]["m"]["constraints"]
    assert (shown["from"], shown["unwatched"], list(shown["features"])) == ("file", ["gone"], ["colour", "temp"])


def test_a_missing_share_that_a_person_tolerates_is_no_fault() -> None:
    stream = good(13)
    stream.features["temp"] = np.where(some(0.2), np.nan, stream.features["temp"])
    kinds = [
        watched(stream, {"temp": Constraint(type="number", missing_max=most)})[1][0].kind for most in (None, 0.1, 0.4)
    ]
    assert kinds == ["data_quality", "data_quality", "covariate_drift"]


def test_a_file_that_changes_between_two_starts_counts_from_the_second() -> None:
    stream = spoil(good(14), "temp", some(0.12), 44.0)
    log = batches(in_turn(observations(stream)))
    half = len(log) // 2
    loose, tight = ({"m": {"temp": Constraint(type="number", low=0.0, high=high)}} for high in (60.0, 42.0))
    first = Watch(config(SETTINGS), 0, 1, None, loose)
    assert alerts([output for batch in log[:half] for output in first.process(batch)]) == []
    for declared, streams in ((loose, set()), (tight, {"invalid/temp"})):
        second = Watch(config(SETTINGS), 0, 1, None, declared)
        second.restore(first.snapshot())
        found = alerts([output for batch in log[half:] for output in second.process(batch)])
        assert {a.stream for a in found if a.kind == "data_quality"} == streams


def scenario() -> conformance.Scenario:
    """Two shards; ranges, sets and types are broken, rows come twice."""
    n = 1_800
    draw = np.random.default_rng(19)
    late = np.arange(n) >= 1_000
    stream = spoil(good(15, n), "temp", late & (draw.random(n) < 0.15), -1.0)
    stream = spoil(stream, "colour", late & (draw.random(n) < 0.15), "violet")
    source = np.where(late & (draw.random(n) < 0.1), np.arange(n) - 50, np.arange(n))
    for name, values in stream.features.items():
        stream.features[name] = values[source] if isinstance(values, np.ndarray) else [values[i] for i in source]
    return conformance.Scenario(
        make=lambda: Watch(config(SETTINGS.replace("2000", "600")), 0, 2),
        feed=conformance.feed_stage,
        items=batches(by_chance(observations(stream, 2), seed=5)),
        recut=conformance.recut_batches,
        state_bytes_max=4_000_000,
    )


def test_a_snapshot_on_the_way_and_hash_seeds_change_nothing() -> None:
    known = scenario()
    whole = conformance.run(known, known.items)
    assert whole[0]
    first, half = known.make(), len(known.items) // 2
    outputs = [conformance.plain(o) for item in known.items[:half] for o in known.feed(first, item)]
    rest, state = conformance.run(known, known.items[half:], conformance.restored(known, first.snapshot()))
    assert (outputs + rest, state) == whole
    assert conformance.run_elsewhere("tests.test_watch_quality:scenario", "1") == conformance.fingerprint(whole)


@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=8))
def test_streams_of_quality_do_not_depend_on_how_rows_are_cut(sizes: list[int]) -> None:
    """Row by row, whole, or with a snapshot between: the same values and the same state."""
    stream = spoil(spoil(good(16, 1_200), "temp", np.arange(1_200) % 9 == 0, "n/a"), "x0", np.zeros(1_200, bool), 0.0)
    stream.features["count"][600:] = stream.features["count"][:600]
    rows = stream.predictions(np.arange(1_200))
    found = quality.learn(features.learn(rows), rows, None, ordered=True)
    fresh = codec.pack(found)
    whole = read(found, rows)
    cut = codec.unpack(Quality, fresh)
    pieces: list[np.ndarray] = []
    for i, size in enumerate(sizes):
        start = sum(sizes[:i])
        if start < 1_200:
            cut = codec.unpack(Quality, codec.pack(cut))
            pieces.append(read(cut, columns.select_predictions(rows, slice(start, min(start + size, 1_200)))))
    done = sum(piece.shape[1] for piece in pieces)
    assert np.array_equal(np.concatenate(pieces, axis=1), whole[:, :done])
    read(cut, columns.select_predictions(rows, slice(done, None)))
    assert codec.pack(cut) == codec.pack(found)


def read(source: Quality, rows: PredictionRows) -> np.ndarray:
    n = len(rows.order)
    values, codes = np.empty((len(source.streams), n)), np.empty((len(source.streams), n), np.int32)
    source.read(rows, Shown(codes, values), values, codes)
    return codes


def test_repeats_are_found_whatever_form_a_column_has() -> None:
    """A row is the same among numbers, among texts, and where a column is absent or has no value."""
    stream = plain(400, seed=17, features=2)
    rows = stream.predictions(np.arange(400))
    found = quality.learn(features.learn(rows), rows, {}, ordered=True)
    assert found.repeats is not None and found.repeats.window == 100
    read(found, rows)
    last = columns.select_predictions(rows, slice(390, 400))
    words = Column(np.arange(10, dtype=np.int32), [repr(float(x)) for x in last.features["x0"].values])
    last.features["x0"] = words
    assert read(found, last)[-1].tolist() == [1] * 10
    last.features["x1"].values[:5] = np.nan
    assert read(found, last)[-1].tolist() == [0] * 5 + [1] * 5
    for name in ("x0", "x1"):
        last.features[name] = Column(np.full(10, np.nan))
    assert read(found, last)[-1].tolist() == [-1] * 10


def test_a_reference_poor_in_information_is_not_asked_for_repeats() -> None:
    stream = Stream(
        time=np.arange(2_000.0), prediction=np.zeros(2_000), label=np.zeros(2_000),
        features={"c": [str(i % 5) for i in range(2_000)]},
    )  # fmt: skip
    rows = stream.predictions(np.arange(2_000))
    found = schema.learn(config(SETTINGS).models["m"], rows)
    assert found.quality.repeats is None
    assert [each.name for each in found.quality.streams] == ["invalid/c"]
    assert sum(each.weight for each in found.streams) == pytest.approx(1.0)


@pytest.mark.parametrize("at", [1000, 2500])
@pytest.mark.parametrize("rows_per_chunk", [50, 256])
def test_one_text_among_numbers_is_one_missing_number_however_rows_are_cut(rows_per_chunk: int, at: int) -> None:
    """F11, F49: the numbers that shared a chunk with it stay what they are."""
    stream = plain(3000, seed=41)
    numbers = stream.features["x0"].tolist()
    stream.features["x0"] = [*numbers[:at], "n/a", *numbers[at + 1 :]]
    watch = Watch(config(SETTINGS), 0, 2)
    run(watch, in_turn(observations(stream, 2, rows_per_chunk)))
    total = watch.watchers["m"].groups["predictions"].state.total.total()
    names = [each.name for each in watch.watchers["m"].groups["predictions"].state.streams]
    assert total.counts[names.index("feature/x0"), 0] == 1
    assert total.counts[names.index("missing/x0"), 2] == 1
