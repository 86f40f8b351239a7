"""The life of alerts: raised once, escalated, acknowledged, muted, resolved; and what they say."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from detectors.case import Evidence
from detectors.contract import Bins, Stream
from detectors.diagnosis import diagnose
from stream.contract import COMMANDS, Batch, Chunk, Record
from stream.events import Alert, Command, RankedFeature
from stream.stages.watch import Watch
from stream.units import FalseAlarms
from stream.windows import causes, words
from stream.windows.alerts import AGAIN
from stream.windows.composing import Context, rank
from stream.windows.evidence import budget_of
from stream.windows.explaining import carried
from stream.windows.profiles import Profile
from stream.windows.schema import SHARES
from stream.windows.words import Change
from tests.watching import alerts, batches, config, in_turn, observations, plain, run, watched

SETTINGS = "task: binary, reference: {first: 1000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"


def shifted(n: int, start: int, end: int, by: float = 1.5) -> tuple[Watch, list[Alert]]:
    stream = plain(n, seed=20)
    stream.features["x1"][start:end] += by
    watch, outputs = watched(SETTINGS, stream)
    return watch, alerts(outputs)


def command(watch: Watch, action: str, **arguments: object) -> list[Alert]:
    order = Command(command_id="c", action=action, model="m", arguments=arguments, issued_by="ann")
    return alerts(watch.process(Batch(0.0, (Chunk(COMMANDS, 0, 0, 1, [Record(0, 0.0, None, order)]),))))


def test_a_change_that_goes_away_resolves_its_alert() -> None:
    """F20."""
    watch, found = shifted(12_000, 6000, 6600)
    assert [(a.status, a.stream) for a in found][:2] == [("firing", "feature/x1"), ("resolved", "feature/x1")]
    assert found[0].alert_id == found[1].alert_id
    assert "trivial for 3 blocks in a row" in found[1].evidence["resolved_because"]
    assert watch.figures()["models"]["m"]["alerts"]["firing"] == 0


def test_a_change_that_stays_becomes_normal() -> None:
    """F20."""
    _, found = shifted(12_000, 4000, 12_000)
    assert [a.status for a in found] == ["firing", "resolved"]
    assert "it is the normal one now" in found[1].evidence["resolved_because"]


def test_one_stream_has_one_alert_open() -> None:
    """F20."""
    stream = plain(9000, seed=21)
    stream.features["x1"][3000:] += 0.6
    stream.features["x1"][4200:] += 3.0
    watch, outputs = watched(SETTINGS, stream)
    found = [a for a in alerts(outputs) if a.stream == "feature/x1" and a.status == "firing"]
    assert len({a.alert_id for a in found}) == 1
    assert [a.severity for a in found] in (["warning", "critical"], ["critical"])
    assert watch.figures()["models"]["m"]["alerts"]["repeated"] >= 1


def test_identities_repeat_and_tell_model_stream_kind_and_time() -> None:
    _, first = shifted(6000, 4000, 6000)
    _, second = shifted(6000, 4000, 6000)
    assert [a.alert_id for a in first] == [a.alert_id for a in second]
    assert first[0].alert_id.startswith("m/feature/x1/covariate/2013-01-01T1")
    assert len(first[0].alert_id.rsplit("/", 1)[1]) == 4


def test_an_alert_is_acknowledged_by_a_person() -> None:
    """F41."""
    watch, found = shifted(6000, 4000, 6000)
    answer = command(watch, "acknowledge", alert_id=found[0].alert_id)
    assert [(a.status, a.evidence["acknowledged_by"]) for a in answer] == [("acknowledged", "ann")]
    assert command(watch, "acknowledge", alert_id="nothing like it") == []
    assert watch.figures()["models"]["m"]["alerts"]["unknown_commands"] == 1


def test_a_muted_stream_is_suppressed_and_still_counted() -> None:
    """F20."""
    stream = plain(6000, seed=22)
    stream.features["x1"][4000:] += 2.0
    log = in_turn(observations(stream))
    watch = Watch(config(SETTINGS), 0, 1)
    watch.process(batches(log[:2])[0])
    assert command(watch, "mute", stream="feature/x1", until=4e9) == []
    found = alerts(run(watch, log[2:]))
    assert [a.status for a in found] == ["suppressed"]
    assert watch.figures()["models"]["m"]["alerts"]["suppressed"] == 1


def test_errors_that_come_with_broken_data_are_part_of_its_alert() -> None:
    """F19, F20: one cause, one alert; what it did to the model is said there."""
    stream = plain(8000, seed=23, error=0.05)
    stream.features["x0"][4000:] = np.nan
    worse = (np.arange(8000) >= 4100) & (np.random.default_rng(1).random(8000) < 0.5)
    stream.label = np.where(worse, 1 - stream.prediction, stream.label)
    _, outputs = watched(SETTINGS, stream)
    first, *later = alerts(outputs)
    assert (first.status, first.kind, first.stream, first.impact) == ("firing", "data_quality", "missing/x0", None)
    assert {a.alert_id for a in later} == {first.alert_id}
    harmed = next(a for a in later if a.impact is not None)
    assert (harmed.status, harmed.kind) == ("revised", "data_quality")
    assert "loss" in harmed.related
    low, high = harmed.impact["interval"]  # type: ignore[index]
    assert low < 0.45 < high + 0.1


def test_columns_that_fail_together_are_one_alert() -> None:
    """F20: grouped."""
    stream = plain(6000, seed=25)
    stream.features["x0"][4000:] = np.nan
    stream.features["x1"][4000:] = np.nan
    watch, outputs = watched(SETTINGS, stream)
    found = alerts(outputs)
    assert {a.alert_id for a in found} == {found[0].alert_id}
    assert [a.status for a in found][:1] == ["firing"]
    assert {feature.name for feature in found[-1].features} >= {"x0", "x1"}
    assert watch.figures()["models"]["m"]["alerts"]["joined"] >= 1


def test_changes_at_different_times_are_two_alerts() -> None:
    """F20: what began elsewhere has another cause."""
    stream = plain(12_000, seed=26)
    stream.features["x0"][4000:] += 1.5
    stream.features["x1"][8000:] += 1.5
    _, outputs = watched(SETTINGS, stream)
    found = [a for a in alerts(outputs) if a.status == "firing"]
    assert [a.stream for a in found] == ["feature/x0", "feature/x1"]
    assert len({a.alert_id for a in found}) == 2


def test_a_change_of_correlation_alone_is_found_and_names_both() -> None:
    """F01: joint; no feature moves by itself."""
    stream = plain(8000, seed=27)
    draw = np.random.default_rng(28)
    shared = draw.normal(size=8000)
    stream.features["x1"] = 0.8 * shared + 0.6 * draw.normal(size=8000)
    stream.features["x2"] = 0.8 * shared + 0.6 * draw.normal(size=8000)
    stream.features["x2"][5000:] = draw.permutation(stream.features["x2"][5000:])
    _, outputs = watched(SETTINGS, stream)
    first = alerts(outputs)[0]
    assert (first.kind, first.stream) == ("covariate_drift", "pair/x1\u00d7x2")
    assert {feature.name for feature in first.features} == {"x1", "x2"}
    assert "x1 and x2 hang together otherwise: correlation 0.7" in first.summary
    assert first.summary.split(" → ")[1].startswith(("0.0", "0.1"))
    assert all(a.alert_id == first.alert_id for a in alerts(outputs)), "pairs and distance tell it once"


def test_a_sure_but_trivial_change_is_information() -> None:
    """F09."""
    stream = plain(60_000, seed=24, features=1)
    stream.features["x0"][30_000:] += 0.12
    _, outputs = watched(SETTINGS.replace("first: 1000", "first: 5000"), stream)
    found = [a for a in alerts(outputs) if a.stream == "feature/x0"]
    assert found
    assert {a.severity for a in found} == {"information"}


def test_shares_of_the_budget_add_up() -> None:
    """F08."""
    assert sum(SHARES.values()) == pytest.approx(1.0)
    budget = budget_of(FalseAlarms(2.0, seconds=100.0), 0.3)
    assert (budget.number, budget.seconds, budget.events) == (0.6, 100.0, None)


def change(name: str, kind: str, before: list[int], now: list[int], bins: Bins, mean: float = 0.0) -> Change:
    def profile(counts: list[int], m: float) -> Profile:
        n = sum(counts)
        return Profile(n, np.array([[0, *counts]]), np.array([m * n]), np.array([(m * m + 1.0) * n]))

    sides = profile(before, 1.0), *[profile(now, mean)] * 3
    return Change(Stream(name, kind), bins, 0, *sides, 0.3)  # type: ignore[arg-type]


RATE = Bins(edges=(0.5,))


def test_an_interval_of_a_difference_of_shares_is_newcombe_s() -> None:
    """Newcombe 1998, table II, row (a): 56/70 against 48/80 gives 0.0524 to 0.3339 without continuity correction."""
    impact = words.impact_of(change("loss", "loss", [32, 48], [14, 56], RATE))
    assert impact is not None
    assert (impact.low, impact.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_severity_follows_the_effect() -> None:
    small = change("loss", "loss", [9000, 1000], [8950, 1050], RATE)
    large = change("loss", "loss", [9000, 1000], [8000, 2000], RATE)
    assert words.severity(small, None, words.impact_of(small)) == "information"
    assert words.severity(large, None, words.impact_of(large)) == "critical"


def test_fewer_missing_values_are_no_fault() -> None:
    """F09, F11: learning must not stop because the data got better."""
    better = change("missing/x", "rate", [900, 100], [500, 0], RATE)
    assert (words.fault(better), words.kind(better, None)) == (None, "covariate_drift")
    assert words.summary("m", better, None, None, {}, 0.0) == "m: x missing 10% → 0% since 1 January 00:00"
    worse = change("missing/x", "rate", [900, 100], [400, 100], RATE)
    assert words.fault(worse) == "missing"


def test_categories_that_the_reference_did_not_have_are_broken_data() -> None:
    """F11."""
    bins = Bins(categories=("a", "b"))
    new = change("feature/c", "categorical", [500, 500, 0], [20, 20, 60], bins)
    assert words.fault(new) == "unseen"
    text = words.summary("m", new, "unseen", None, {}, 0.0)
    assert text == "m: 60% of c are categories that the reference did not have, since 1 January 00:00"
    moved = change("feature/c", "categorical", [500, 500, 0], [90, 10, 0], bins)
    assert words.fault(moved) is None
    assert "c = a 50% → 90% of the events" in words.summary("m", moved, None, None, {}, 0.0)


def test_the_slice_that_carries_most_of_a_loss_leads_whatever_labelled_rows_have_named() -> None:
    """F10, F20: of the slices of an alert its evidence tells, when its features are inputs by then."""
    place = {"region": "D"}
    known = Alert(
        alert_id="1", fingerprint="1", status="firing", kind="concept_drift", severity="warning", model="m",
        summary="", at="", stream="loss", features=[RankedFeature("income", 1.0)],
        evidence={"carried_by": {"region=D": 0.8, "region=A": 0.2}},
    )  # fmt: skip
    new = msgspec.structs.replace(known, stream="loss[region=D]", slice=place, evidence={})
    assert causes.leads(new, known)
    assert not causes.leads(msgspec.structs.replace(new, slice={"region": "A"}), known)
    assert not causes.leads(new, msgspec.structs.replace(known, evidence={}))


def test_an_alert_of_a_loss_says_which_slices_carry_it() -> None:
    """F10: errors come to slice `a` alone, half of the rows."""
    stream = plain(9000, seed=29, error=0.1)
    region = np.where(np.arange(9000) % 2 == 0, "a", "b")
    worse = (np.arange(9000) >= 5000) & (region == "a") & (np.random.default_rng(1).random(9000) < 0.5)
    stream.label = np.where(worse, 1 - stream.prediction, stream.label)
    stream.tags, stream.slices = {"region": region.tolist()}, ("region",)
    _, outputs = watched(f"{SETTINGS}, slices: [region]", stream)
    whole = next(a for a in alerts(outputs) if a.evidence.get("carried_by"))
    assert whole.evidence["carried_by"]["region=a"] > 0.9
    assert alerts(outputs)[-1].slice == {"region": "a"}


def test_what_moved_most_stands_first_whichever_alarmed_but_for_what_is_broken() -> None:
    """F19: of two features that hang together the lesser one may be found first."""
    seen = Context("m", "1", "r", "1", {"own": 0.1, "other": 0.3, "trivial": 0.001}, [], {}, n=100, n_labelled=0)
    moved = rank("feature/own", "covariate_drift", seen, 0.1)
    assert [(each.name, each.share) for each in moved] == [("other", pytest.approx(0.75)), ("own", pytest.approx(0.25))]
    assert [each.name for each in rank("missing/own", "data_quality", seen, 0.05)] == ["own", "other"]


def test_of_a_pair_labelled_rows_say_which_of_the_two_moved() -> None:
    """F19"""
    halves = [RankedFeature("day=4", 0.5), RankedFeature("x", 0.5)]
    known = Alert(
        alert_id="1", fingerprint="1", status="firing", kind="covariate_drift", severity="warning", model="m",
        summary="", at="", stream="pair/day=4\u00d7x", features=halves,
    )  # fmt: skip
    found = diagnose(Evidence("feature", "", psi={"x": 0.3, "z": 0.1}))
    assert [(each.name, each.share) for each in carried(known, "covariate_drift", found)] == [
        ("x", 1.0),
        ("day=4", 0.0),
    ]
    assert carried(known, "covariate_drift", diagnose(Evidence("feature", "z"))) == halves


@pytest.mark.parametrize(("ends", "again", "leads"), ((8300, 14_000, "feature/x1"), (8200, 12_000, "feature/x2")))
def test_an_alert_that_stands_for_others_is_not_forgotten_when_its_first_stream_changes_again(
    ends: int, again: int, leads: str
) -> None:
    """F20: the next alert took its place, and for whoever reads them it stood as firing for ever."""
    stream = plain(18_000, seed=21)
    stream.features["x1"][8000:ends] += 1.5
    stream.features["x2"][8000:] += 1.5
    stream.features["x1"][again:] += 4.0
    watch, outputs = watched(SETTINGS, stream)
    found = alerts(outputs)
    last = {alert.alert_id: alert for alert in found}
    open_now = [alert for alert in last.values() if alert.status != "resolved"]
    assert len(open_now) == 1 and watch.figures()["models"]["m"]["alerts"]["firing"] == 1
    if leads == "feature/x1":
        assert [(a.status, a.stream) for a in found] == [(s, leads) for s in ("firing", "resolved", "firing")]
        assert found[1].evidence["resolved_because"] == AGAIN and found[2].related == ["feature/x2"]
    else:  # the other one leads by now, and has not ended
        assert [(a.status, a.stream) for a in found][:2] == [("firing", "feature/x1"), ("revised", leads)]
        assert len(last) == 1
