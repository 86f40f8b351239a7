"""The same entity on both sides of a trial, through the stage that learns: found and named (F56)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detectors.leakage import SKETCH_ROWS
from learners.assignment import Routing
from stream import codec
from stream.contract import DECISIONS
from stream.events import Decision, Example, Prediction
from stream.stages.learn import Learn
from stream.stages.score import Score
from stream.surface import findings
from stream.windows.leaks import FLUSH_KEYS, NAMED, SIDE_ROWS, Sides
from tests import conformance
from tests.conformance import Scenario
from tests.learning import KEY, LOGISTIC, batch, configured, events, lived_through, model_figures, numbers_only, stream
from tests.test_learn_stage import by_value
from tests.test_score_stage import request

HALF = {"champion": 0.5, "linear": 0.5}
ROUTING = Routing(number=3, seed=1, arms=tuple(HALF.items()))


def settings(ramp: str = "0.5", entity: str = ", entity: customer", unit: str = "") -> str:
    """A trial that waits for a person once the challenger has been served its last share."""
    return (
        f"      champion: majority\n      challengers: {{linear: {LOGISTIC}}}\n      publish: 1000\n"
        f"      trial: {{ramp: [{ramp}], labels_min: 100, every: 50, approve: [promoted]{entity}}}\n"
        f"      traffic: {{unit: '{unit}'}}\n"
    )


def lived(text: str, n: int, customers: int = 80) -> tuple[Learn, list[Decision], list[Example]]:
    """A stage in which customers come back, each answer served as the routing says and labelled at once."""
    made = configured(text)
    stage = Learn(made, 0, 1, None)
    score = Score(made, 0, 1, stage, {})
    out: list[Any] = []
    examples = []
    for i, (x, y) in enumerate(numbers_only(stream(n))):
        asked = request(i, x)
        asked.tags = {"customer": f"customer-{i * 7919 % customers}", "visit": i // 3}
        served, caused = lived_through(stage, score, asked, y)
        out += caused
        examples.append(served)
    return stage, [d for d in events(out, DECISIONS) if d.action == "overlap"], examples


def test_customers_on_both_sides_of_a_trial_are_found_and_named() -> None:
    """F56: each answer is assigned by itself, so everybody meets both learners."""
    stage, told, _ = lived(settings(), 1_200)
    (found,) = told
    assert found.learner == "linear" and found.why["entity"] == "customer"
    assert found.why["share"] > 0.9 and 70 <= min(found.why["entities"].values()) <= 80
    assert len(found.why["such_as"]) == NAMED and all(name.startswith("customer-") for name in found.why["such_as"])
    assert f"{found.why['share']:.1%} of the entities of" in found.why["why"]
    seen = model_figures(stage)["overlap"]
    assert seen["suspect"] and seen["share"] == 1.0 and seen["both"] == 80 and min(seen["rows"].values()) >= SIDE_ROWS


def test_customers_who_always_meet_the_same_learner_are_no_finding() -> None:
    """F56: the unit of the traffic is the entity, also where a larger share has moved some of them on."""
    stage, told, served = lived(settings("0.3, 0.5", entity="", unit="customer"), 1_600)
    sides = [{p.tags["customer"] for p in served if p.learner == name} for name in ("champion", "linear")]
    assert sides[0] & sides[1], "over the whole trial some have met both"
    seen = model_figures(stage)["overlap"]
    assert told == [] and seen["entity"] == "customer" and seen["share"] == 0.0 and not seen["suspect"]


def test_a_unit_that_is_smaller_than_the_entity_is_found_out() -> None:
    """F56: one visit always meets the same learner, and the next one of the same customer another."""
    _, told, _ = lived(settings(unit="visit"), 1_200)
    assert len(told) == 1 and told[0].why["share"] > 0.9


def test_without_an_entity_nothing_is_looked_for() -> None:
    stage, told, _ = lived(settings(entity=""), 800)
    assert told == [] and "overlap" not in model_figures(stage)


def example(key: Any, learner: str, propensity: float | None = 0.5, **more: Any) -> Example:
    served = Prediction(
        prediction_id="p", model="m", event_time=0.0, features={"customer": key, **more}, prediction=0, learner=learner,
        propensity=propensity,
    )  # fmt: skip
    return Example(prediction=served, label=0, label_time=0.0, completed=0.0, delay_s=0.0)


def taken(sides: Sides, rows: list[tuple[Any, str]], number: int = 3) -> list[Any]:
    routing = Routing(number=number, seed=1, arms=tuple(HALF.items()))
    found = (sides.take(example(key, learner), "customer", HALF, routing) for key, learner in rows)
    return [each for each in found if each is not None]


def several(n: int, shared: int, seed: int) -> list[tuple[int, str]]:
    """Rows of n customers a side, in a chance order; the first `shared` are on both."""
    rows = [(i, "champion") for i in range(n)] + [(i if i < shared else n + i, "linear") for i in range(n)]
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows)).tolist()]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3])
def test_the_share_of_many_entities_is_told_with_its_interval(share: float) -> None:
    """F56: three times as many as a sketch holds, and a look when all of them have come."""
    n = SIDE_ROWS << 5
    assert n > 3 * SKETCH_ROWS
    sides = Sides()
    found = taken(sides, several(n, round(share * n), seed=1))
    last = sides.last
    assert last["low"] <= share <= last["high"] and last["high"] - last["low"] < 0.08
    assert bool(found) == (share > 0.0) and len(found) <= 1, "told once a step"
    assert len(codec.pack(sides)) < 2 * (8 * SKETCH_ROWS + 20 * FLUSH_KEYS) + 2_000, "bounded, however many come"


def test_one_entity_in_a_thousand_is_no_finding() -> None:
    """F56: a slip. 20 in 1,000 are one."""
    assert taken(Sides(), several(1_000, 1, seed=2)) == []
    assert len(taken(Sides(), several(1_000, 20, seed=2))) == 1


def test_sides_are_compared_within_a_step_of_the_ramp() -> None:
    """F56: whoever has changed sides between two steps is on one side of each; the next step is told anew."""
    sides = Sides()
    first = [(i, "champion") for i in range(SIDE_ROWS)] + [(-i - 1, "linear") for i in range(SIDE_ROWS)]
    swapped = [(key, "linear" if learner == "champion" else "champion") for key, learner in first]
    assert taken(sides, first, number=3) == [] and taken(sides, swapped, number=4) == []
    assert len(taken(sides, [*first, *swapped], number=5)) == 1
    assert len(taken(sides, [*first, *swapped], number=6)) == 1


def test_examples_of_another_step_or_of_nobody_are_left_out() -> None:
    """F56: late labels carry the propensity of their own step; a holdout and an unassigned answer are on no side."""
    sides = Sides()
    for odd in (example(1, "linear", 0.2), example(1, "baseline"), example(1, "linear", None)):
        assert sides.take(odd, "customer", HALF, ROUTING) is None
    assert sides.figures()["rows"] == {"champion": 0, "linear": 0}
    assert sides.take(example(None, "linear"), "customer", HALF, ROUTING) is None
    assert sides.take(example(1, "linear"), "customer", HALF, ROUTING) is None
    assert sides.figures() == {"rows": {"champion": 0, "linear": 1}, "without": 1}


def test_sides_go_on_from_their_bytes_as_if_nothing_had_happened() -> None:
    """F50, F56: at any row."""
    rows = several(700, 40, seed=3)
    whole = Sides()
    found = taken(whole, rows)
    for cut in (1, 255, 256, 400, 900):
        half = Sides()
        first = taken(half, rows[:cut])
        again: Sides = codec.unpack(Sides, codec.pack(half))
        assert first + taken(again, rows[cut:]) == found
        assert codec.pack(again) == codec.pack(whole)


def test_the_report_names_what_is_on_both_sides() -> None:
    """F44, F56."""
    sides = Sides()
    taken(sides, several(1_000, 200, seed=4))
    document = {"learning": {"models": {"m": {"overlap": sides.figures()}}}, "models": {"m": {"watch": {}}}}
    (row,) = findings.leak_rows(document, "m")
    assert row[0] == "customer" and row[1] == "on both sides" and float(row[2]) == pytest.approx(0.2, abs=0.05)
    assert row[4] == "the same with linear and the champion"


def scenario() -> Scenario:
    """A trial whose sides share customers; the examples as the routing of a first run had served them."""
    text = settings()
    made = configured(text)
    stage, log = Learn(made, 0, 1, KEY), []
    score = Score(made, 0, 1, stage, {})
    for i, (x, y) in enumerate(numbers_only(stream(900))):
        asked = request(i, x)
        asked.tags = {"customer": f"customer-{i * 7919 % 80}"}
        served, _ = lived_through(stage, score, asked, y)
        log.append(Example(prediction=served, label=y, label_time=float(i), completed=float(i), delay_s=0.0))
    batches = [batch("examples", log[i : i + 50], i) for i in range(0, len(log), 50)]
    return Scenario(
        make=lambda: Learn(made, 0, 1, KEY),
        feed=conformance.feed_stage,
        items=batches,
        state_bytes_max=1_000_000,
        recut=conformance.recut_batches,
        digest=by_value,
    )


def test_what_is_known_of_sides_survives_a_kill_at_any_point() -> None:
    """F50, F56: cut anywhere, and in any process."""
    conformance.check("tests.test_leak_overlap:scenario")


def test_the_scenario_finds_them() -> None:
    made = scenario()
    stage = made.make()
    out = [output for item in made.items for output in made.feed(stage, item)]
    assert "overlap" in [d.action for d in events(out, DECISIONS)]
