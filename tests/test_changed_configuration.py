"""A configuration that changes between two runs (F54): what it still names goes on, what is new begins, what is gone
leaves no trace, and the other model does not notice."""

from __future__ import annotations

import numpy as np
import pytest

from stream import codec
from stream.contract import ALERTS, OBSERVATIONS, WINDOWS
from stream.errors import StateError
from stream.events import Window
from stream.sections import together
from stream.stages.join import Join
from stream.stages.watch import Watch, WatchState
from stream.windows.parity import ParityState
from stream.windows.redeclared import WITHDRAWN
from tests import watching
from tests.changing import (
    BEFORE,
    CHANGES,
    HALF,
    HARDER,
    ROWS,
    TOLD,
    B,
    Run,
    T,
    configured,
    decoded,
    first_half,
    halved,
    judges,
    model,
    ran,
    sliced,
    unchanged,
)  # fmt: skip
from tests.watching import in_turn, plain


@pytest.mark.parametrize("name", CHANGES)
def test_the_other_model_does_not_notice(name: str) -> None:
    """F54: byte for byte, whatever has changed beside it."""
    run, same = ran(name), unchanged()
    assert all(len(same.told("b")[topic]) > 5 for topic in TOLD)
    assert run.told("b") == same.told("b")
    assert run.join.figures()["models"]["b"] == same.join.figures()["models"]["b"]
    assert run.watch.figures()["models"]["b"] == same.watch.figures()["models"]["b"]


@pytest.mark.parametrize(
    "name",
    ["a model removed", "a slice added", "a detector added", "groups of people that were no slice", "annotators"],
)
def test_what_a_changed_configuration_has_made_of_a_state_is_a_state_like_any_other(name: str) -> None:
    """F54, F45: stopped again while it still learns what is new, it goes on as if it had not been."""
    states = Run(CHANGES[name]).going_on(first_half()).feed(HALF, HALF + 400).stopped()
    again = Run(CHANGES[name]).going_on(states).feed(HALF + 400, ROWS)
    assert again.stopped() == ran(name).stopped()


# -- models ---------------------------------------------------------------------------------------------------------


def test_a_model_that_is_added_begins_with_its_first_rows() -> None:
    """F54: wherever it stands among the others."""
    assert unchanged().windows("new") == []
    for name in ("a model added before the others", "a model added with other times"):
        run = ran(name)
        figures = run.join.figures()["models"]["new"]
        assert figures["predictions"] == 199 and figures["joined"] > 150
        assert run.windows("new") and run.told("a") == unchanged().told("a")


def test_a_model_that_is_removed_is_let_go_and_counted() -> None:
    """F54, F24: the ledger balances, and nothing of the model is left."""
    full, run = Run(BEFORE).going_on(first_half()), Run(CHANGES["a model removed"]).going_on(first_half())
    pending = full.join.figures()["models"]["a"]["pending"]
    assert pending > 90
    assert run.join.figures()["withdrawn"] == pending and run.join.ledger.balanced
    assert run.join.ledger.predictions.expired == full.join.ledger.predictions.expired + pending
    assert run.told("a") == ran("a model removed").told("a") == {}
    alone = Run(configured(b=B))
    alone.observe([output.event for output in halved() if output.topic == OBSERVATIONS and output.key == "b"])
    assert run.watch.snapshot() == alone.watch.snapshot()
    assert [len(state) for state in run.stopped()] < [0.7 * len(state) for state in full.stopped()]
    assert ran("a model removed").join.ledger.balanced and ran("a model removed").join.figures()["withdrawn"] == pending


def test_a_model_of_another_task_is_another_model() -> None:
    """F54: one line, with what to do."""
    other = configured(a=model(task="regression"), b=B)
    with pytest.raises(StateError, match="model 'a': its task was binary and is regression: give"):
        Run(other).going_on(first_half())


# -- slices and groups ------------------------------------------------------------------------------------------------


def test_a_slice_that_is_added_learns_its_values_then_its_losses_and_alarms() -> None:
    """F54, F10."""
    run, crossed = ran("a slice added"), ("region", "shop")
    begun = Run(CHANGES["a slice added"]).going_on(first_half()).feed(HALF, HALF + 100)
    assert list(begun.status("a")) == list(Run(BEFORE).going_on(first_half()).status("a"))
    assert sliced(run) == {*sliced(unchanged()), crossed}
    told = [window for window in run.windows("a") if tuple(window.slice) == crossed]
    assert min(window.start for window in told) > T + HALF and sum(window.n_labelled for window in told) > 200
    assert all(window.n_labelled <= window.n for window in told)
    assert "counts for 6 of 6 streams" in run.status("a")["slices/region,shop"]["auto"]


def test_what_is_watched_later_alarms_as_what_was_watched_before() -> None:
    """F54, F10: a slice and a detector that are added see what happens once they have learned what is normal."""
    stream = plain(9_000, seed=5)
    south = np.arange(len(stream)) % 3 == 1
    wrong = south & (np.arange(len(stream)) >= 6_000) & (np.random.default_rng(6).random(len(stream)) < 0.7)
    stream.label = np.where(wrong, 1.0 - stream.prediction, stream.label)
    stream.tags, stream.slices = {"region": np.where(south, "south", "north").tolist()}, ("region",)
    log = in_turn(watching.observations(stream))
    text = "task: binary, reference: {{first: 500}}, windows: {{events: 500}}, false_alarms: 1 per 9000 events{}"
    less, more = text.format(", detectors: [auto]"), text.format(", slices: [region], detectors: [auto, ADWIN]")
    watch, later = Watch(watching.config(less), 0, 1), Watch(watching.config(more), 0, 1)
    watching.run(watch, log[:60])
    later.restore(watch.snapshot())
    outputs = watching.run(later, log[60:])
    assert ("loss[region=south]", {"region": "south"}) in [(a.stream, a.slice) for a in watching.alerts(outputs)]
    (known,) = [a for a in decoded(("", later.snapshot()), "m").book.open.values() if a.alert.kind == "concept_drift"]
    assert known.again > 0, "ADWIN says it again"
    assert next(w.n for w in watching.windows(outputs) if w.slice == {"region": "south"}) > 100


def test_a_slice_that_is_removed_leaves_no_trace_and_the_others_go_on() -> None:
    """F54."""
    run, same = ran("a slice removed"), unchanged()
    assert sliced(run) == {("region",)} and sliced(same) == {("region",), ("shop",)}
    assert b"shop 1" not in codec.pack(decoded(run.stopped()).schema)
    assert list(run.status("a")) == ["predictions", "outcomes", "slices/region"]
    kept, before = decoded(run.stopped()), decoded(same.stopped())
    assert np.array_equal(kept.groups["slices/region"].total.total().counts,
                          before.groups["slices/region"].total.total().counts)  # fmt: skip
    regions = [[w for w in each.windows("a") if tuple(w.slice) == ("region",)] for each in (run, same)]
    assert regions[0] == regions[1] != []
    assert kept.sample is not None and kept.sample.ring.rows.slices.shape[1] == 1
    none = ran("all slices removed")
    assert sliced(none) == set() and list(none.status("a")) == ["predictions", "outcomes"]
    assert [len(each.stopped()[1]) for each in (none, run, same)] == sorted(
        len(each.stopped()[1]) for each in (none, run, same)
    )


def test_slices_in_another_order_are_the_same_slices() -> None:
    """F54."""
    told = unchanged().told("a", WINDOWS, ALERTS)
    assert ran("slices in another order").told("a", WINDOWS, ALERTS) == told and told[ALERTS]


def test_the_alert_of_a_slice_that_is_removed_ends() -> None:
    """F54, F20: nothing else would ever end it."""
    late = HARDER + 500
    states = Run(BEFORE).going_on(first_half()).feed(HALF, late).stopped()
    open_alerts = decoded(states).book.open
    assert any(m.group == "slices/region" for each in open_alerts.values() for m in each.members)
    run = Run(configured(a=model("slices"), b=B)).going_on(states).feed(late, ROWS)
    left = decoded(run.stopped()).book
    assert not any(m.group.startswith("slices") for each in left.open.values() for m in each.members)
    ended = [alert for alert in run.alerts("a") if alert.status == "resolved" and alert.slice]
    assert [alert.evidence["resolved_because"] for alert in ended] == [WITHDRAWN] * len(ended)


def test_groups_of_people_begin_and_end() -> None:
    """F54, F18."""
    for name, wanted in (("groups of people", "region"), ("groups of people that were no slice", "shop")):
        run = ran(name)
        fairness = run.watch.figures()["models"]["a"]["fairness"]
        assert list(fairness["overall"]) == [wanted] and "demographic_parity" in fairness["overall"][wanted]
        assert any(wanted in window.fairness for window in run.windows("a") if not window.slice)
    states = ran("groups of people").stopped()
    both = Run(configured(a=model(fairness={"groups": ["shop", "region"]}), b=B)).going_on(states)
    tests, counts = decoded(both.stopped()).parity.tests, decoded(both.stopped()).parity.versions
    assert set(tests) == set(decoded(states).parity.tests)
    assert {len(each) for each in counts.values()} == {5}, "two shops beside three regions"
    over = Run(BEFORE).going_on(states)
    assert decoded(over.stopped()).parity == ParityState()


# -- detectors and budget ---------------------------------------------------------------------------------------------


def test_a_detector_that_is_added_learns_from_what_comes_and_the_others_go_on() -> None:
    """F54."""
    run, same = ran("a detector added"), unchanged()
    begun = Run(CHANGES["a detector added"]).going_on(first_half()).feed(HALF, HALF + 10).status("a")["outcomes"]
    assert begun["ADWIN"].startswith("learning what is normal: ") and "auto" in begun
    assert run.status("a")["outcomes"]["ADWIN"] == "ADWIN watching loss"
    for group in ("predictions", "outcomes", "slices/region"):
        known = judges(same, group)
        assert known == {spec: state for spec, state in judges(run, group).items() if spec in known}
    assert {"ADWIN"} == {alert.detector for alert in run.alerts("a")} - {
        alert.detector for alert in same.alerts("a")
    } or any(decoded(run.stopped()).book.repeated > decoded(same.stopped()).book.repeated for _ in "x")


def test_a_detector_that_is_removed_leaves_no_trace_and_the_others_go_on() -> None:
    """F54."""
    run, same = ran("a detector removed"), unchanged()
    for group in ("predictions", "outcomes", "slices/region"):
        kept, known = judges(run, group), judges(same, group)
        assert list(kept) == ['["auto",{}]'] and kept == {spec: known[spec] for spec in kept}
    assert len(run.watch.snapshot()) < len(same.watch.snapshot())


def test_a_detector_with_other_parameters_is_another_detector() -> None:
    """F54."""
    kept, known = judges(ran("a detector's parameter changed"), "outcomes"), judges(unchanged(), "outcomes")
    assert kept['["auto",{}]'] == known['["auto",{}]'] and len(kept) == 2
    assert [spec for spec in kept if spec not in known] == ['["PageHinkley",{"threshold":30.0}]']
    assert list(judges(ran("all detectors changed"), "outcomes")) == ['["counts",{}]']
    assert ran("all detectors changed").alerts("a"), "they have learned, and see what comes"


def test_a_detector_that_does_not_read_its_state_says_which_and_what_to_do() -> None:
    """F54."""
    join, watch = first_half()
    state: WatchState = codec.unpack(WatchState, watch)
    state.models["a"].watcher.groups["outcomes"].detectors[0] = b"\x80"
    with pytest.raises(StateError, match=r"model 'a': detector auto: .*; run the program that wrote it, or stop"):
        Run(BEFORE).going_on((join, codec.pack(state)))


def test_another_number_of_false_alarms_counts_at_once() -> None:
    """F54: evidence is kept, what it may earn is another."""
    run, same = ran("more false alarms"), unchanged()
    assert {alert.evidence["false_alarm_budget"] for alert in run.alerts("a") if alert.status == "firing"} == {
        "50 per day"
    }
    assert run.alerts("a")[0].at <= same.alerts("a")[0].at


# -- windows, reference -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["longer windows", "shorter windows", "windows by number"])
def test_other_windows_begin_where_the_open_one_ends_and_lose_nothing(name: str) -> None:
    """F54."""
    run = ran(name)
    newest = {window.start: window for window in run.windows("a") if not window.slice}
    state = decoded(run.stopped())
    closed = sum(window.n for start, window in newest.items())
    before = sum(window.n for window in closed_before(run))
    assert before + closed + state.reporting.windows[-1].n == state.rows == 2_000
    assert state.reporting.late == 0
    starts = sorted(newest)
    if name == "windows by number":
        assert {newest[start].n for start in starts[2:]} == {20}
    else:
        assert starts[-1] - starts[-2] == (1_200.0 if name == "longer windows" else 180.0)


def test_a_window_that_holds_more_than_windows_do_now_is_closed_at_once() -> None:
    """F54: by number; every row is in one window."""
    log = in_turn(watching.observations(plain(2_000, seed=3)))
    large, small = (f"task: binary, reference: {{first: 200}}, windows: {{events: {n}}}" for n in (1_000, 300))
    watch, other = Watch(watching.config(large), 0, 1), Watch(watching.config(small), 0, 1)
    watching.run(watch, log[:15])
    held = decoded(("", watch.snapshot()), "m").reporting.windows[-1].n
    other.restore(watch.snapshot())
    outputs = watching.run(other, log[15:])
    counts = {window.start: window.n for window in watching.windows(outputs)}
    assert held > 300 and list(counts.values())[:3] == [held, 300, 300]
    assert sum(counts.values()) + decoded(("", other.snapshot()), "m").reporting.windows[-1].n == 2_000


def closed_before(run: Run) -> list[Window]:
    """Of model a, the windows that had closed before the configuration changed, and are not told of again."""
    later = {window.start for window in run.windows("a")}
    found = [o.event for o in halved() if o.topic == WINDOWS and o.key == "a" and isinstance(o.event, Window)]
    newest = {window.start: window for window in found if not window.slice}
    return [window for start, window in newest.items() if start not in later]


def test_a_reference_that_is_still_collected_is_whole_as_soon_as_it_is_large_enough() -> None:
    """F54: a smaller one is made of what has come; no row is counted twice or left out."""
    large, small = (configured(a=model(reference={"first": n}), b=B) for n in (900, 450))
    states = Run(large).feed(0, 1_600).stopped()
    run = Run(small).going_on(states).feed(1_600, ROWS)
    figures = run.watch.figures()["models"]["a"]
    assert figures["reference"]["n"] == decoded(states).collected > 450
    windows = {window.start: window.n for window in run.windows("a") if not window.slice}
    assert sum(windows.values()) + decoded(run.stopped()).reporting.windows[-1].n == figures["rows"]


# -- versions ---------------------------------------------------------------------------------------------------------


def test_a_state_of_another_version_is_refused_with_what_to_do() -> None:
    """F54: though it has another shape, so that it cannot be decoded."""
    older = codec.pack({"version": 1, "models": [1, 2], "rows": 7})
    line = "the state of {} has version 1, this program reads {}: run the program that wrote it, or stop the workers"
    with pytest.raises(StateError, match=line.format("watch", 3)):
        Watch(BEFORE, 0, 1).restore(older)
    with pytest.raises(StateError, match=line.format("join", 2)):
        Join(BEFORE, 0, 1).restore(together({"rest": older, "said-000000000000": b""}))


def test_a_state_of_other_shards_is_refused_with_what_to_do() -> None:
    """F54."""
    states = first_half()
    for stage, state in zip((Join, Watch), states, strict=True):
        with pytest.raises(StateError, match=r"topics\.partitions back to 1, or stop the workers"):
            stage(BEFORE, 0, 4).restore(state)  # type: ignore[operator]
