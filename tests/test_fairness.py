"""Groups of people treated unlike (F18): gaps with intervals, in windows, over the run, and as alerts."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import fairness
from detectors.fairness import Counts
from stream import codec
from stream.config import parse
from stream.errors import ConfigError
from stream.events import Alert, Observations
from stream.runtime.replay import replay
from stream.stages.watch import Watch
from stream.surface import check, report, trust
from stream.windows.schema import share_of
from tests.watching import (
    END,
    Stream,
    alerts,
    config,
    in_turn,
    observations,
    plain,
    run,
    text,
    watched,
    windows,
)

COMPAS = Path(__file__).parent.parent.parent / "shared" / "data" / "compas_two_years.csv.gz"

SETTINGS = (
    "task: binary, reference: {first: 1000}, windows: {every: 1h}, false_alarms: 1 per 100000 events, "
    "fairness: {groups: [sex], gap: 0.1, min_events: 50}"
)


def counts(**columns: list[float]) -> Counts:
    return Counts(**{name: np.array(column, np.float64) for name, column in columns.items()})


TABLE = counts(
    rows=[100, 200, 10], said=[30, 100, 9], labelled=[80, 160, 8],
    ones=[40, 80, 4], positive=[24, 80, 7], both=[20, 60, 4],
)  # fmt: skip
"""Three groups. Selected .30 and .50; TPR .50 and .75; FPR 4/40 = .10 and 20/80 = .25; precision 20/24 and 60/80."""


def test_the_gaps_are_those_of_a_table_worked_by_hand() -> None:
    found = fairness.measures(["a", "b", "few"], TABLE, 20)
    told = {name: (round(gap.value, 4), gap.worst, gap.best) for name, gap in found.items()}
    assert told == {
        "demographic_parity": (0.2, "a", "b"),
        "disparate_impact": (0.6, "a", "b"),
        "equal_opportunity": (0.25, "a", "b"),
        "equalised_odds": (0.25, "a", "b"),
        "predictive_parity": (0.0833, "b", "a"),
    }
    assert {gap.left_out for gap in found.values()} == {("few",)}


def test_equalised_odds_are_the_false_positives_where_their_gap_is_larger() -> None:
    table = TABLE._replace(both=np.array([30.0, 60, 4]), positive=np.array([34.0, 90, 7]))
    gap = fairness.measures(["a", "b", "few"], table, 20)["equalised_odds"]
    assert (gap.value, gap.worst, gap.best) == (pytest.approx(30 / 80 - 4 / 40), "b", "a")


def test_two_groups_have_newcombe_s_interval() -> None:
    """Newcombe 1998, table II, row (a): 56/70 against 48/80 gives 0.0524 to 0.3339."""
    hits, of = np.array([56.0, 48.0]), np.array([70.0, 80.0])
    gap = fairness.widest(["a", "b"], [fairness.Rates(hits, of)], 1)
    assert gap is not None
    assert (gap.low, gap.high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_a_ratio_s_interval_agrees_with_the_logarithmic_one_on_large_counts() -> None:
    """Katz 1978, which is right where counts are large; and nobody selected has no ratio."""
    hits, of = np.array([5600.0, 4800.0]), np.array([7000.0, 8000.0])
    low, high = fairness.ratios(hits, of, 1)
    half = 1.959964 * np.sqrt(0.2 / 5600 + 0.4 / 4800)
    assert low[1, 0] == pytest.approx(0.75 * np.exp(-half), rel=1e-3)
    assert high[1, 0] == pytest.approx(0.75 * np.exp(half), rel=1e-3)
    none = fairness.disparate_impact(["a", "b"], fairness.Rates(np.array([0.0, 6]), np.array([50.0, 50])), 1)
    assert none is not None and (none.value, none.low) == (0.0, 0.0) and 0 < none.high < 1
    assert fairness.disparate_impact(["a", "b"], fairness.Rates(np.zeros(2), np.full(2, 50.0)), 1) is None


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0, 1)), min_size=2, max_size=8), st.randoms())
def test_a_gap_lies_in_its_interval_and_does_not_depend_on_the_order_of_groups(
    drawn: list[tuple[int, float]], chance: Any
) -> None:
    names = [f"g{i}" for i in range(len(drawn))]
    hits, of = (np.array(x, np.float64) for x in zip(*[(int(n * p), n) for n, p in drawn], strict=True))
    first = fairness.widest(names, [fairness.Rates(hits, of)], 1)
    shuffled = np.array(chance.sample(range(len(drawn)), len(drawn)))
    again = fairness.widest([names[i] for i in shuffled], [fairness.Rates(hits[shuffled], of[shuffled])], 1)
    assert first is not None and again is not None
    assert 0 <= first.low <= first.value + 1e-12 and first.value <= first.high + 1e-12 <= 1 + 1e-9
    assert first[:3] == pytest.approx(again[:3])


def test_the_largest_of_many_gaps_is_still_within_its_interval() -> None:
    """Simultaneous: 8 groups of one rate show some gap, and 95 in 100 of the intervals reach down to none."""
    draw = np.random.default_rng(1)
    of = np.full(8, 200.0)
    found = [fairness.widest(list("abcdefgh"), [fairness.Rates(draw.binomial(200, 0.3, 8) * 1.0, of)], 1)
             for _ in range(400)]  # fmt: skip
    assert sum(gap is not None and gap.low > 0 for gap in found) <= 0.05 * 400
    assert np.mean([gap.value for gap in found if gap is not None]) > 0.08


def test_fewer_than_two_groups_are_not_compared() -> None:
    assert fairness.measures(["a", "b", "few"], TABLE, 150) == {}


def people(n: int, seed: int, apart: float, since: int = 0, until: int = 10**9) -> Stream:
    """Predictions that are positive for 30 % of F and, from `since` to `until`, `apart` more often for M."""
    draw = np.random.default_rng(seed)
    stream = plain(n, seed, features=1)
    male = draw.random(n) < 0.5
    stream.tags["sex"], stream.slices = ["M" if x else "F" for x in male], ("sex",)
    inside = (np.arange(n) >= since) & (np.arange(n) < until)
    stream.prediction = (draw.random(n) < 0.3 + apart * (male & inside)).astype(float)
    stream.label = np.where(draw.random(n) < 0.1, 1 - stream.prediction, stream.prediction)
    stream.score = None
    return stream


def unfair(found: list[Alert]) -> list[Alert]:
    return [alert for alert in found if alert.kind == "fairness"]


def test_windows_and_the_run_tell_the_gaps_of_their_own_rows() -> None:
    stream = people(4000, seed=5, apart=0.2)
    stream.version = [str(1 + i // 2500) for i in range(4000)]
    watch, outputs = watched(SETTINGS, stream)
    window = [w for w in windows(outputs) if not w.slice and w.final][-1]
    mine = (stream.time >= window.start) & (stream.time < window.end)
    assert window.fairness == expected(stream, mine)
    told = watch.figures()["models"]["m"]["fairness"]
    everything = np.ones(4000, bool)
    assert told["overall"] == expected(stream, everything)
    assert told["2"] == expected(stream, np.arange(4000) >= 2500)
    assert any(w.slice == {"sex": "F"} for w in windows(outputs)), "groups are slices, declared among them or not"
    shadow = [w for w in windows(outputs) if w.slice or w.learner != "champion"]
    assert all(w.fairness == {} for w in shadow)


def expected(stream: Stream, mine: np.ndarray) -> dict[str, Any]:
    """The figures from the rows themselves."""
    male = np.array(stream.tags["sex"]) == "M"
    rows = [[mine & side & what for side in (~male, male)] for what in truths(stream)]
    table = [[float(part.sum()) for part in sides] for sides in rows]
    found = fairness.measures(["F", "M"], counts(**dict(zip(Counts._fields, table, strict=True))), 50)
    whats = {name: "ratio" if name == "disparate_impact" else "gap" for name in found}
    return {
        "sex": {
            name: {whats[name]: gap.value, "low": gap.low, "high": gap.high, "worst": gap.worst, "best": gap.best}
            for name, gap in found.items()
        }
    }


def truths(stream: Stream) -> list[np.ndarray]:
    said, one = stream.prediction == 1, np.asarray(stream.label) == 1
    everything = np.ones(len(stream), bool)
    return [everything, said, everything, one, said, one & said]


def test_a_correction_is_counted_and_a_missing_label_is_not() -> None:
    """F21."""
    stream = people(2000, seed=6, apart=0.0)
    stream.status = np.where(np.arange(2000) % 3 == 0, 3, 0).astype(np.int32)
    log = in_turn(observations(stream, end=float(stream.time[-1]) + 1))
    at = np.flatnonzero(stream.status == 0)[:80]
    stream.status = None
    rows = stream.outcomes(at)
    rows.order[:], rows.status[:] = float(stream.time[-1]) + 10, 2
    rows.label, rows.previous = text((1 - stream.label[at]).tolist()), text(stream.label[at].tolist())
    log.append(Observations("m", 0, 1, 90, END, outcomes=rows, rows="outcomes"))
    log.append(Observations("m", 0, 1, 91, END, rows="predictions"))
    watch = Watch(config(SETTINGS), 0, 1)
    run(watch, log)
    stream.label = np.asarray(stream.label, float)
    stream.label[at] = 1 - stream.label[at]
    known = np.arange(2000) % 3 != 0
    told = watch.figures()["models"]["m"]["fairness"]["overall"]["sex"]
    for measure in ("equal_opportunity", "equalised_odds", "predictive_parity"):
        assert told[measure] == expected(stream, known)["sex"][measure]
    whole = expected(stream, np.ones(2000, bool))["sex"]
    assert told["demographic_parity"] == whole["demographic_parity"]


def test_a_gap_beyond_the_tolerated_one_is_an_alert_and_ends_with_it() -> None:
    """F18, F20."""
    watch, outputs = watched(SETTINGS, people(16_000, seed=7, apart=0.35, since=4000, until=9000))
    found = [alert for alert in unfair(alerts(outputs)) if alert.stream == "demographic_parity[sex]"]
    first, last = found[0], found[-1]
    assert (first.status, first.severity, first.slice) == ("firing", "critical", {"sex": "F"})
    assert first.summary == (
        "m: positive predictions for sex=F 29%, for sex=M 60% (gap 31 points, tolerated 10) since 1 January 11:22"
    )
    assert first.since is not None and "2013-01-01T10:30" < first.since.estimate < "2013-01-01T12:00", "4000 is 11:06"
    assert first.statistics["low"] < first.statistics["gap"] < first.statistics["high"]
    assert (last.status, last.alert_id) == ("resolved", first.alert_id)
    assert "within what is tolerated for 3 blocks in a row" in last.evidence["resolved_because"]
    assert watch.figures()["models"]["m"]["alerts"]["by_kind"]["fairness"] >= 1


def test_equal_groups_and_gaps_within_the_tolerance_raise_nothing() -> None:
    for apart in (0.0, 0.06):
        _, outputs = watched(SETTINGS, people(12_000, seed=8, apart=apart))
        assert unfair(alerts(outputs)) == []


def test_false_positives_of_one_group_name_it_as_the_worse_off() -> None:
    stream = people(12_000, seed=9, apart=0.0)
    wrong = (np.array(stream.tags["sex"]) == "M") & (np.random.default_rng(1).random(12_000) < 0.5)
    stream.label = np.where(wrong & (stream.prediction == 1), 0.0, stream.label)
    _, outputs = watched(SETTINGS, stream)
    found = {alert.stream: alert for alert in unfair(alerts(outputs)) if alert.status == "firing"}
    assert {"equalised_odds[sex]", "predictive_parity[sex]"} <= found.keys()
    assert found["equalised_odds[sex]"].slice == {"sex": "M"} == found["predictive_parity[sex]"].slice
    assert "false positives for sex=F" in found["equalised_odds[sex]"].summary
    assert "demographic_parity[sex]" not in found


def test_groups_are_told_alike_however_the_log_is_cut() -> None:
    stream = people(5000, seed=10, apart=0.3)
    logs = [in_turn(observations(stream)), in_turn(observations(stream, shards=1, rows_per_chunk=37))]
    said = []
    for log in logs:
        watch = Watch(config(SETTINGS), 0, 1)
        half = len(log) // 2
        outputs = run(watch, log[:half], records=3)
        again = Watch(config(SETTINGS), 0, 1)
        again.restore(watch.snapshot())
        outputs += run(again, log[half:], records=5)
        assert unfair(alerts(outputs))
        said.append(codec.canonical([alerts(outputs), again.figures()["models"]]))
    assert said[0] == said[1]


def test_the_budget_of_fairness_is_taken_from_the_outcomes_where_groups_are_declared() -> None:
    """F08."""
    plainly = config("task: binary, slices: [sex]").models["m"]
    fairly = config("task: binary, slices: [sex], fairness: {groups: [sex]}").models["m"]
    names = ("predictions", "outcomes", "slices")
    before, after = ([share_of(model, name) for name in names] for model in (plainly, fairly))
    assert before == pytest.approx([0.5, 0.3, 0.2])
    assert after == pytest.approx([0.5, 0.25, 0.2])
    assert sum(after) + share_of(fairly, "fairness") == pytest.approx(1.0)


def test_groups_are_tracked_as_slices_once() -> None:
    model = config("task: binary, slices: [sex, [sex, race]], fairness: {groups: [race, sex]}").models["m"]
    assert model.sliced == [["sex"], ["sex", "race"], ["race"]]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("task: regression, fairness: {groups: [sex]}", "models.m.fairness: groups are compared by rates of a binary"),
        ("task: binary, fairness: {groups: []}", "models.m.fairness: give at least one of groups"),
        ("task: binary, fairness: {groups: [sex], gap: 1.5}", "a gap from 0 to 0.9"),
        ("task: binary, fairness: {group: [sex]}", "models.m.fairness.group: unknown setting; did you mean groups?"),
    ],
)
def test_a_fault_in_the_settings_is_named(settings: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.fairness") as error:
        parse(f"models: {{m: {{{settings}}}}}")
    assert fault in str(error.value)


ROWS = """
models:
  m:
    task: binary
    reference: {first: 500}
    windows: {every: 4h, min_events: 50}
    detectors: [counts]
    false_alarms: 1 per 100000 events
    fairness: {groups: [sex], min_events: 50}
input: {model: m, label: y, prediction: said, score: score, label_delay: {events: 0}}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3,000 rows in which M is selected more often than F."""
    path = tmp_path_factory.mktemp("fairness") / "d.csv"
    stream = people(3000, seed=11, apart=0.3)
    score = np.where(stream.prediction == 1, 0.9, 0.1)
    rows = zip(stream.tags["sex"], stream.prediction, score, np.asarray(stream.label), strict=True)
    path.write_text("sex,said,score,y\n" + "".join(f"{s},{p:.0f},{x},{y:.0f}\n" for s, p, x, y in rows))
    return path


def test_a_replay_reports_groups_and_calibration(file: Path) -> None:
    """F17, F18, F44."""
    document = orjson.loads(replay(parse(ROWS), file).to_json())
    told = document["models"]["m"]["watch"]["fairness"]["overall"]["sex"]["demographic_parity"]
    assert told["gap"] > 0.2 and (told["worst"], told["best"]) == ("F", "M")
    assert any(alert["kind"] == "fairness" for alert in document["alerts"])
    html = report.render(document)
    assert "true or false positives" in html and 'id="m-calibration"' in html
    rows = trust.fairness_rows(document, "m")
    assert [row[1] for row in rows] == list(trust.MEASURES.values())
    assert rows[0][2] == f"{100 * told['gap']:.1f} points"
    came_true = trust.calibration(document, "m")["data"][1]
    assert came_true["x"] == pytest.approx([0.105, 0.905])
    assert came_true["y"] == pytest.approx([0.1, 0.9], abs=0.03)
    without = {**document, "models": {"m": {**document["models"]["m"], "watch": {}}}}
    assert trust.fairness_rows(without, "m") == [] == trust.calibration(without, "m")["data"]


def test_a_check_says_what_is_compared_and_which_group_the_data_lack(file: Path) -> None:
    lines = "\n".join(check.explain(parse(ROWS), file))
    assert "slices sex (2)" in lines
    assert "compares groups by sex: an alert where a rate differs by more than 10 points" in lines
    with pytest.raises(ConfigError, match=r"fairness: no feature or tag 'race' in d\.csv"):
        check.explain(parse(ROWS.replace("[sex]", "[sex, race]")), file)


@pytest.mark.skipif(
    not COMPAS.exists(), reason="compas_two_years.csv.gz is not the project's to ship; put it under ../shared/data"
)
def test_the_gaps_of_compas_are_those_that_propublica_published() -> None:
    """Larson and others 2016, for scores of 5 and more: false positives of 44.85 % of black and 23.45 % of white
    defendants, false negatives 27.99 % and 47.72 %, precision 62.97 % and 59.13 %."""
    with gzip.open(COMPAS, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["race"] in ("African-American", "Caucasian")]
    days = [datetime.fromisoformat(row["compas_screening_date"]).replace(tzinfo=UTC).timestamp() for row in rows]
    stream = Stream(
        time=np.array(days) + np.arange(len(rows)) * 1e-3,
        prediction=np.array([float(int(row["decile_score"]) >= 5) for row in rows]),
        label=np.array([float(row["two_year_recid"]) for row in rows]),
        features={"age": np.array([float(row["age"]) for row in rows])},
        tags={"race": [row["race"] for row in rows]},
        slices=("race",),
    )
    settings = (
        "task: binary, reference: {first: 1000}, windows: {every: 7d}, detectors: [counts], fairness: {groups: [race]}"
    )
    watch, outputs = watched(settings, stream)
    found = watch.figures()["models"]["m"]["fairness"]["overall"]["race"]
    assert found["equalised_odds"]["gap"] == pytest.approx(0.4485 - 0.2345, abs=1e-4)
    assert found["equal_opportunity"]["gap"] == pytest.approx(0.4772 - 0.2799, abs=1e-4)
    assert found["predictive_parity"]["gap"] == pytest.approx(0.6297 - 0.5913, abs=1e-4)
    assert found["equalised_odds"]["worst"] == "African-American" == found["equal_opportunity"]["best"]
    assert found["disparate_impact"]["high"] < fairness.FOUR_FIFTHS
    told = {alert.stream: alert for alert in unfair(alerts(outputs))}
    assert {"demographic_parity[race]", "equalised_odds[race]"} <= told.keys()
    assert "predictive_parity[race]" not in told
    assert told["demographic_parity[race]"].summary.startswith("m: positive predictions for race=Caucasian 3"), (
        "a third of them"
    )
    assert any(w.fairness for w in windows(outputs))
