"""F07: detectors by name: our own, River's, a user's class or entry point; and what is said of wrong names."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

import numpy as np
import pytest

from detectors import plain, registry, river
from detectors.contract import Alarm, Bins, Budget, Rows, Stream
from detectors.counts import Counts
from tests import conformance, streams
from tests.conformance import Scenario

BUDGET = Budget(1, events=1e6)
LOSSES = [Stream("a", "loss"), Stream("b", "loss")]
BINS = [Bins(edges=(0.5,))] * 2
PARAMETERS: dict[str, dict[str, object]] = {
    "KSWIN": {"seed": 4, "alpha": 1e-3, "window_size": 300, "stat_size": 100},
    "PageHinkley": {"threshold": 30.0},
}


class Silent:
    """A user's own detector."""

    def __init__(self, streams: Sequence[Stream], budget: Budget, seed: int, word: str = "silent") -> None:
        self.word = word

    def fit(self, bins: list[Bins], reference: Rows) -> None: ...

    def update(self, rows: Rows) -> list[Alarm]:
        return []

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None: ...

    def status(self) -> str:
        return self.word


def loss_rows(n: int = 3_000, change: int = 2_000) -> Rows:
    """Two losses of 10 %; the second rises to 40 % at row `change`; one value in twenty is missing."""
    draw = np.random.default_rng(1)
    values = (draw.random((n, 2)) < 0.1).astype(float)
    values[change:, 1] = draw.random(n - change) < 0.4
    values[draw.random((n, 2)) < 0.05] = np.nan
    return Rows(streams.each_second(n), np.nan_to_num(values, nan=-1).astype(np.int32), values)


@pytest.mark.parametrize("name", [name for name in river.NAMES if name != "EDDM"])
def test_rivers_detectors_find_the_stream_that_changed(name: str) -> None:
    """F07: and say since when, if they know."""
    detector = registry.make(name, PARAMETERS.get(name, {}), LOSSES, BUDGET, 1)
    found = streams.run(detector, BINS, loss_rows(), 1_000)
    after = [alarm for alarm in found if alarm.at_s >= streams.MONDAY_S + 2_000]
    assert after and {alarm.name for alarm in after} == {"b"} and after[0].judge == name
    first = after[0]
    assert first.at_s < streams.MONDAY_S + 2_400 and first.what == "level up" and first.details["effect"] > 0
    assert first.since_low_s <= first.since_s <= first.since_high_s == first.at_s
    assert detector.status() == f"{name} watching a, b"


def test_eddm_alarms_as_often_as_river_says() -> None:
    """F07: its rule is loose by design, so nothing is shown of the change; the loop must be River's all the same."""
    whole = loss_rows()
    alarms = streams.run(registry.make("EDDM", {"only": ["b"]}, LOSSES, BUDGET, 1), BINS, whole, 1_000)
    reference = river.ZERO_ONE["EDDM"]()
    expected = []
    for at_s, x in zip(whole.time_s, whole.values[:, 1], strict=True):
        if np.isfinite(x):
            reference.update(x)
            if reference.drift_detected and at_s >= streams.MONDAY_S + 1_000:
                expected.append(float(at_s))
    assert [alarm.at_s for alarm in alarms] == expected and expected


def test_a_users_class_and_an_entry_point_are_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """F07"""
    path = "tests.test_detectors_registry.Silent"
    assert registry.make(path, {"word": "still"}, LOSSES, BUDGET).status() == "still"
    entry = importlib.metadata.EntryPoint("quiet", "tests.test_detectors_registry:Silent", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == registry.GROUP else [])
    assert registry.make("quiet", {}, LOSSES, BUDGET).status() == "silent" and "quiet" in registry.names()


@pytest.mark.parametrize(
    ("path", "parameters", "said"),
    [
        ("adwim", {}, "did you mean 'ADWIN'"),
        ("Counts", {}, "did you mean 'counts'"),
        ("zzz", {}, "Known: auto, blocks, counts, season, ADWIN"),
        ("KSWIN", {}, "give it a seed"),
        ("ADWIN", {"delt": 1}, "ADWIN has no parameter delt; it has delta"),
        ("ADWIN", {"only": ["c"]}, "cannot watch c; it can watch a, b"),
        ("counts", {"rows": 1}, "its parameters are seed, block_rows, loss_block_rows"),
        ("no.such.module", {}, "cannot be loaded"),
        ("tests.streams.bad_rows", {}, "is not a detector: it lacks fit, update, snapshot"),
    ],
)
def test_wrong_names_and_parameters_are_answered_with_right_ones(
    path: str, parameters: dict[str, object], said: str
) -> None:
    """F07"""
    with pytest.raises(ValueError, match=said):
        registry.make(path, parameters, LOSSES, BUDGET)


def test_detectors_of_zero_and_one_need_such_a_stream() -> None:
    """F07"""
    with pytest.raises(ValueError, match="DDM needs a stream of kind rate or loss"):
        registry.make("DDM", {}, [Stream("x", "numeric")], BUDGET)
    assert registry.make("ADWIN", {}, [Stream("x", "numeric")], BUDGET).status() == "ADWIN watching x"


def test_a_seed_among_the_parameters_is_the_seed() -> None:
    named = registry.make("counts", {"seed": 5}, LOSSES, BUDGET, seed=1)
    assert isinstance(named, Counts)
    other = Counts(LOSSES, BUDGET, 5)
    for detector in (named, other):
        detector.fit(BINS, loss_rows().part(0, 1_000))
        detector.update(loss_rows().part(1_000, 3_000))
    assert named.snapshot() == other.snapshot()


def test_state_of_other_things_than_rivers_detectors_is_refused() -> None:
    """Restoring never runs what the bytes say."""
    with pytest.raises(TypeError, match="is not part of a drift detector"):
        plain.freeze(Silent([], BUDGET, 1))
    for data in (["object", "Popen", {}], ["call", "os.system", []], ["compiled", "AdaptiveWindowing", [], b""], [[]]):
        with pytest.raises(ValueError, match="not the state of a drift detector"):
            plain.thaw(data)
    one = registry.make("DDM", {}, LOSSES, BUDGET)
    with pytest.raises(ValueError, match="the state is of DDM"):
        registry.make("EDDM", {}, LOSSES, BUDGET).restore(one.snapshot())


def scenario(name: str, **parameters: object) -> Scenario:
    whole = loss_rows(900, 600)

    def make() -> object:
        detector = registry.make(name, parameters, LOSSES, BUDGET, 1)
        detector.fit(BINS, whole.part(0, 300))
        return detector

    return Scenario(
        make=make, feed=streams.feed, items=streams.cut(whole.part(300, 900), 60), state_bytes_max=120_000,
        recut=streams.recut, bad=streams.bad_rows(2),
    )  # fmt: skip


def adwin() -> Scenario:
    return scenario("ADWIN")


def kswin() -> Scenario:
    return scenario("KSWIN", seed=4, alpha=0.2, window_size=60, only=["b"])


@pytest.mark.parametrize("name", ["adwin", "kswin"])
def test_conformance(name: str) -> None:
    """F07: one with a compiled part and one with a generator; the others have less that could go wrong."""
    conformance.check(f"tests.test_detectors_registry:{name}")


@pytest.mark.parametrize("name", river.NAMES)
def test_rivers_state_survives_in_mid_stream(name: str) -> None:
    """F07"""
    own = {**PARAMETERS.get(name, {}), "only": ["b"]}
    straight, first, second = (registry.make(name, own, LOSSES, BUDGET, 1) for _ in range(3))
    whole = loss_rows()
    for detector in (straight, first):
        detector.fit(BINS, whole.part(0, 1_000))
    first.update(whole.part(1_000, 2_050))
    second.restore(first.snapshot())
    straight.update(whole.part(1_000, 2_050))
    assert second.update(whole.part(2_050, 3_000)) == straight.update(whole.part(2_050, 3_000))
    assert second.snapshot() == straight.snapshot()
