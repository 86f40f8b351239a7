"""Watch: what it finds in streams where the answer is known, and that only the rows decide what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import codec
from stream.contract import COMMANDS, DEAD_LETTERS, OBSERVATIONS, Batch, Chunk, Record
from stream.errors import StateError
from stream.events import Column, Command, Observations
from stream.joining.columns import vectors
from stream.stages.watch import Watch
from tests import conformance
from tests.watching import (
    DAY,
    HOUR,
    START,
    Stream,
    alerts,
    batches,
    by_chance,
    config,
    in_turn,
    observations,
    plain,
    run,
    watched,
    windows,
)

BINARY = "task: binary, reference: {first: 500}, windows: {every: 1h}, false_alarms: 1 per 100000 events"


def shifted(n: int = 8000, at: int = 5000) -> Stream:
    stream = plain(n, seed=3)
    stream.features["x1"][at:] += 1.0
    return stream


def scenario() -> conformance.Scenario:
    """A stream of two shards with a shift, broken data and harder labels; votes, slices, a command, ticks."""
    settings_ = BINARY + ", slices: [origin]"
    stream = shifted(2400, 1500)
    stream.features["x2"][1900:] = np.nan
    draw = np.random.default_rng(5)
    stream.tags["origin"] = draw.choice(["EWR", "JFK", "LGA"], size=len(stream)).tolist()
    stream.slices = ("origin",)
    stream.votes = {"forest": 1.0 - stream.prediction}
    stream.delay = 1800.0
    items = batches(by_chance(observations(stream, 2), seed=4))
    order = Command(command_id="1", action="mute", model="m", arguments={"stream": "score", "until": 1.0})
    items.insert(9, Batch(0.0, (Chunk(COMMANDS, 0, 0, 1, [Record(0, 0.0, None, order)]),)))
    items.insert(12, Batch(0.5))
    strange = Observations("nobody", 0, 2, 0, 5.0)
    bad = [
        Batch(0.0, (Chunk(COMMANDS, 0, 0, 1, [Record(0, 0.0, None, b"{broken")]),)),
        Batch(0.0, (Chunk(OBSERVATIONS, 0, 0, 1, [Record(0, 0.0, None, strange)]),)),
        Batch(0.0, (Chunk(OBSERVATIONS, 0, 0, 0, []),)),
    ]
    return conformance.Scenario(
        make=lambda: Watch(config(settings_), 0, 2),
        feed=conformance.feed_stage,
        items=items,
        recut=conformance.recut_batches,
        bad=bad,
        state_bytes_max=4_000_000,
    )


def test_the_stage_keeps_the_contract_of_stages() -> None:
    conformance.check("tests.test_watch:scenario")


@settings(max_examples=6)
@given(seed=st.integers(0, 10_000), shards=st.sampled_from([1, 2, 4]), size=st.sampled_from([1, 37, 250]))
def test_what_is_said_does_not_depend_on_shards_or_arrival(seed: int, shards: int, size: int) -> None:
    stream = shifted(2000, 1400)
    stream.delay = (
        np.random.default_rng(1).permutation(len(stream)) * 0.712345 + 0.01
    )  # no two are completed at the same moment
    owner = np.random.default_rng(seed).integers(0, shards, len(stream))
    straight = said(Watch(config(BINARY), 0, 1), in_turn(observations(stream)))
    log = by_chance(observations(stream, shards, rows_per_chunk=size + 20, owner=owner), seed)
    assert said(Watch(config(BINARY), 0, shards), log) == straight


def said(watch: Watch, log: list[Observations]) -> bytes:
    outputs = run(watch, log, records=5)
    assert alerts(outputs) and windows(outputs)
    return codec.canonical([outputs, watch.figures()["models"]])


def test_a_planted_shift_is_found_and_named_first() -> None:
    """F01, F05, F19."""
    _, outputs = watched(BINARY, shifted())
    first = alerts(outputs)[0]
    assert first.kind == "covariate_drift"
    assert first.stream == "feature/x1"
    assert first.features[0].name == "x1"
    assert first.features[0].share > 0.8
    assert first.severity == "critical"
    assert first.since is not None and first.since.interval is not None
    assert "2013-01-01T13:00" < first.since.estimate < "2013-01-01T14:40", "row 5000 is at 13:53"
    assert {"psi", "ks", "js", "wasserstein"} <= set(first.statistics)
    assert [alert.stream for alert in alerts(outputs) if alert.status == "firing"] == ["feature/x1"]


def test_a_burst_of_missing_values_is_broken_data() -> None:
    """F11."""
    stream = plain(6000, seed=4)
    stream.features["x0"][4000:] = np.nan
    _, outputs = watched(BINARY, stream)
    first = alerts(outputs)[0]
    assert (first.kind, first.stream, first.severity) == ("data_quality", "missing/x0", "critical")
    assert "x0 missing 0% → 100% since 1 January 1" in first.summary


def test_a_changed_unit_is_broken_data() -> None:
    """F11."""
    stream = plain(6000, seed=5)
    stream.features["x0"] += 50.0
    stream.features["x0"][4000:] *= 1000.0
    _, outputs = watched(BINARY, stream)
    assert (alerts(outputs)[0].kind, alerts(outputs)[0].evidence["fault"]) == ("data_quality", "unit")


def test_a_feature_that_stands_still_is_broken_data() -> None:
    """F11."""
    stream = plain(6000, seed=6)
    stream.features["x0"][4000:] = 0.25
    _, outputs = watched(BINARY, stream)
    assert (alerts(outputs)[0].kind, alerts(outputs)[0].evidence["fault"]) == ("data_quality", "constant")


def test_errors_that_rise_in_one_slice_name_the_slice() -> None:
    """F04, F10."""
    stream = plain(9000, seed=7, error=0.1)
    draw = np.random.default_rng(1)
    origin = draw.choice(["EWR", "JFK", "LGA"], size=len(stream))
    stream.tags["origin"], stream.slices = origin.tolist(), ("origin",)
    worse = (np.arange(len(stream)) >= 5000) & (origin == "LGA") & (draw.random(len(stream)) < 0.5)
    stream.label = np.where(worse, 1.0 - stream.prediction, stream.label)
    _, outputs = watched(BINARY + ", slices: [origin]", stream)
    found = [alert for alert in alerts(outputs) if alert.kind == "concept_drift"]
    assert len({alert.alert_id for alert in found}) == 1, "the slice and the whole are one cause"
    by_slice = next(alert for alert in found if alert.slice)
    assert by_slice.slice == {"origin": "LGA"}
    assert by_slice.stream == "loss[origin=LGA]"
    assert "is wrong more often at LGA: error 0." in by_slice.summary
    assert by_slice.impact is not None and by_slice.impact["delta"] > 0.2
    assert by_slice.impact["interval"][0] < by_slice.impact["delta"] < by_slice.impact["interval"][1]
    assert all(alert.slice in ({}, {"origin": "LGA"}) for alert in found)
    for whole in (alert for alert in found if not alert.slice):
        assert whole.features[0].name == "origin=LGA"
        assert whole.features[0].share > 0.5


def test_a_stationary_stream_with_a_daily_season_raises_nothing() -> None:
    """F05, F08."""
    draw = np.random.default_rng(11)
    n = 45 * 200
    time = START + np.sort(draw.random(n)) * 45 * DAY
    season = np.sin(time / DAY * 2 * np.pi)
    said_ = (draw.random(n) < 0.3 + 0.2 * season).astype(float)
    stream = Stream(
        time=time,
        prediction=said_,
        label=np.where(draw.random(n) < 0.2, 1 - said_, said_),
        features={"x": draw.normal(size=n) + season, "c": draw.choice(["a", "b"], size=n).tolist()},
        delay=2 * HOUR,
    )
    watch, outputs = watched("task: binary, reference: {first: 2000}, windows: {every: 1h}", stream)
    assert alerts(outputs) == []
    assert watch.figures()["models"]["m"]["rows"] == n


def test_accuracy_is_that_of_a_plain_loop_to_the_last_digit() -> None:
    stream = plain(5000, seed=8)
    stream.status = np.where(np.arange(len(stream)) % 7 == 0, 3, 0).astype(np.int32)
    stream.votes = {"forest": np.zeros(len(stream))}
    stream.version = [str(1 + i // 2000) for i in range(len(stream))]
    watch, _ = watched(BINARY, stream)
    figures = watch.figures()["models"]["m"]["performance"]
    correct = seen = naughts = 0
    for prediction, label, status in zip(stream.prediction, stream.label, stream.status, strict=True):
        if status == 0:
            seen += 1
            correct += prediction == label
            naughts += label == 0
    assert figures["champion"]["overall"]["labelled"] == seen
    assert figures["champion"]["overall"]["accuracy"] == correct / seen
    assert figures["forest"]["overall"]["accuracy"] == naughts / seen
    assert set(figures["champion"]) == {"overall", "1", "2", "3"}
    assert sum(figures["champion"][v]["events"] for v in "123") == len(stream)


def test_a_silent_shard_holds_the_others_until_it_is_idle() -> None:
    stream = plain(3000, seed=9)
    first, second = observations(stream, 2)[:2], observations(stream, 2)[2:]
    watch = Watch(config(BINARY), 0, 2)
    run(watch, in_turn([*first, [second[0][0]], [second[1][0]]]))
    assert watch.figures()["models"]["m"]["rows"] < 300
    for second_ in range(60):
        watch.process(heartbeat(float(second_), shard=0))
    assert watch.figures()["models"]["m"]["rows"] < 300
    for second_ in range(60, 65):
        watch.process(heartbeat(float(second_), shard=0))
    assert watch.figures()["models"]["m"]["rows"] == 1600
    assert watch.figures()["idled"] == 2
    run(watch, in_turn([second[0][1:], second[1][1:]]))
    for shard in (0, 1):
        watch.process(heartbeat(70.0, shard))
    figures = watch.figures()
    assert figures["late_rows"] == 2800
    assert figures["models"]["m"]["rows"] == 3000


def heartbeat(clock: float, shard: int) -> Batch:
    """A shard has nothing new and says so; the log is read to its end."""
    number, through = 1000 + int(clock), 5e9 + 1e6 * clock
    said_ = [Observations("m", shard, 2, number, through, rows=rows) for rows in ("predictions", "outcomes")]
    records = [Record(i, 0.0, None, each) for i, each in enumerate(said_)]
    return Batch(clock, (Chunk(OBSERVATIONS, 0, 0, 2, records, at_end=True),))


def test_a_given_reference_is_judged_against_from_the_first_row() -> None:
    """F12."""
    training = plain(2000, seed=10)
    stream = plain(3000, seed=12)
    stream.features["x2"] += 1.0
    watch = Watch(config(BINARY), 0, 1, {"m": training.predictions(np.arange(len(training)))})
    outputs = run(watch, in_turn(observations(stream)))
    assert alerts(outputs)[0].stream == "feature/x2"
    assert watch.figures()["models"]["m"]["reference"]["n"] == 2000


def test_a_feature_that_comes_later_is_counted() -> None:
    stream = plain(3000, seed=13)
    queues = observations(stream)
    for seen in queues[0][20:]:
        assert seen.predictions is not None
        seen.predictions.features["new"] = Column(np.zeros(len(seen.predictions.order)))
    watch = Watch(config(BINARY), 0, 1)
    run(watch, in_turn(queues))
    assert watch.figures()["models"]["m"]["new_features"] == {"new": 1000}


def test_longer_texts_and_another_encoder_are_found() -> None:
    """F01: free text is watched by its length, embeddings by projections."""
    n, at = 6000, 4000
    draw = np.random.default_rng(30)
    stream = plain(n, seed=31, features=1)
    words_of = [["engine", "noise", "start", "stop", "door", "light"][k] for k in draw.integers(0, 6, 40 * n)]
    longer = np.where(np.arange(n) < at, 6, 9)
    stream.features["note"] = [" ".join([*words_of[40 * i : 40 * i + longer[i]], str(i)]) for i in range(n)]
    _, outputs = watched(BINARY, stream)
    first = alerts(outputs)[0]
    assert (first.kind, first.stream) == ("covariate_drift", "length/note")
    assert first.summary.startswith("m: length of note has moved: mean ")

    vectors_of = draw.normal(size=(n, 16)) + np.where(np.arange(n) < at, 0.0, 1.0)[:, None] * draw.normal(size=16)
    made, left_out = vectors("meaning", vectors_of.tolist())
    assert left_out == 0
    stream.features = {"x0": stream.features["x0"], **{name: each.values for name, each in made.items()}}
    _, outputs = watched(BINARY, stream)
    first = alerts(outputs)[0]
    assert first.kind == "covariate_drift" and first.features[0].name.startswith("meaning~")


def test_scores_that_become_unsure_are_found() -> None:
    """F03."""
    stream = plain(16_000, seed=32)
    assert stream.score is not None
    unsure = (np.arange(16_000) >= 5000) & (np.random.default_rng(33).random(16_000) < 0.5)
    stream.score[unsure] = 0.5 + 0.01 * (stream.prediction[unsure] - 0.5)
    _, outputs = watched(BINARY, stream)
    found = alerts(outputs)
    assert {a.kind for a in found} == {"prediction_drift"}
    assert "unsure" in {name for a in found for name in [a.stream, *a.related]}


def test_other_detectors_run_beside_on_the_loss() -> None:
    """F07."""
    stream = plain(6000, seed=14, error=0.1)
    late = np.arange(len(stream)) >= 4000
    stream.label = np.where(late & (np.random.default_rng(2).random(len(stream)) < 0.4), 1 - stream.label, stream.label)
    _, outputs = watched(BINARY + ", detectors: [ADWIN]", stream)
    found = alerts(outputs)
    assert {alert.detector for alert in found} == {"ADWIN"}
    assert {alert.stream for alert in found} == {"loss"}


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_have_their_own_figures(task: str) -> None:
    draw = np.random.default_rng(15)
    n = 3000
    number = draw.normal(size=n)
    label = np.floor(number) if task == "multiclass" else number
    stream = Stream(
        time=START + np.arange(n) * 10.0,
        prediction=np.where(draw.random(n) < 0.7, label, label + 1.0),
        label=label,
        features={"x": draw.normal(size=n)},
    )
    watch, outputs = watched(BINARY.replace("binary", task), stream)
    overall = watch.figures()["models"]["m"]["performance"]["champion"]["overall"]
    error = stream.prediction - stream.label
    if task == "multiclass":
        assert overall["accuracy"] == (error == 0).mean()
        assert 0.4 < overall["kappa"] < 0.7
    else:
        assert overall["mae"] == pytest.approx(np.abs(error).mean())
        assert overall["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert windows(outputs)
    assert alerts(outputs) == []


def test_a_command_that_cannot_be_read_is_a_dead_letter() -> None:
    """F51."""
    watch = Watch(config(BINARY), 0, 1)
    made = watch.process(Batch(0.0, (Chunk(COMMANDS, 2, 7, 8, [Record(7, 1.0, None, b'{"action": 5}')]),)))
    assert [output.topic for output in made] == [DEAD_LETTERS]
    assert watch.figures()["bad_commands"] == 1


def test_state_that_does_not_fit_is_refused() -> None:
    watch, _ = watched(BINARY, plain(200, seed=1))
    saved = watch.snapshot()
    with pytest.raises(StateError, match="of 1 shards of the join, where there are 3"):
        Watch(config(BINARY), 0, 3).restore(saved)
    with pytest.raises(StateError):
        Watch(config(BINARY), 0, 1).restore(b"\x93nonsense")
