"""The life of a challenger: who may follow whom, on what evidence, and the ways out (F30, F31, F32)."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import msgspec
import numpy as np
import pytest

from learners.contract import SnapshotError
from learners.trials import ORDERS, TRANSITIONS, Metric, State, Step, Trial, TrialPlan, faults
from tests import conformance
from tests.trying import paired

PLAN = TrialPlan(labels_min=300, labels_max=20_000, probation_labels=1_000)


def lived(
    trial: Trial, effect: float, disagreement: float, n: int, seed: int = 1, start: float = 0, stop: bool = False
) -> list[Step]:
    """Feed n labels, a hundred at a time, and return all steps, or `stop` at the first. `at` counts labels."""
    champion, challenger = paired(seed, n, effect, disagreement)
    steps = []
    for i in range(0, n, 100):
        trial.take(champion[i : i + 100], challenger[i : i + 100], start + np.arange(i, i + 100))
        step = trial.check(start + i + 100)
        steps += [step] if step is not None else []
        if stop and steps:
            break
    return steps


def path(steps: list[Step]) -> list[tuple[State, float, str]]:
    return [(step.state_to, step.share, step.why) for step in steps]


def test_a_trial_conforms() -> None:
    """F30."""
    conformance.check("tests.trying:trial")


def test_the_table_is_closed_and_every_state_has_a_way_in_and_a_way_out() -> None:
    """F31: also, no order leads where the table does not."""
    assert set(TRANSITIONS) == set(get_args(State))
    assert set().union(*TRANSITIONS.values()) == set(TRANSITIONS)
    over = {state for state, after in TRANSITIONS.items() if not after}
    assert over == {"champion", "retired", "rolled_back"}
    for moves in ORDERS.values():
        assert all(to in TRANSITIONS[state] for state, to in moves.items())
    reach = set(over)
    for _ in TRANSITIONS:
        reach |= {state for state, after in TRANSITIONS.items() if after & reach}
    assert reach == set(TRANSITIONS)


def test_a_better_challenger_goes_up_the_ramp_and_becomes_champion() -> None:
    """F31: golden path, each step with the labels it asked for and evidence that stands."""
    steps = lived(Trial(PLAN), 0.05, 0.15, 4_000)
    assert path(steps) == [
        ("canary", 0.05, "better"),
        ("canary", 0.25, "better"),
        ("canary", 0.5, "better"),
        ("promoted", 1.0, "better"),
        ("champion", 1.0, "probation_passed"),
    ]
    assert all(step.evidence["labels_step"] >= 300 for step in steps)
    assert all(step.evidence["better"] >= math.log(20) for step in steps[:4])
    assert all(a.state_to == b.state_from and a.at < b.at for a, b in itertools.pairwise(steps))
    assert steps[-1].evidence["low"] < 0.05 < steps[-1].evidence["high"]


def test_a_worse_challenger_is_retired_and_never_served() -> None:
    trial = Trial(PLAN)
    assert path(lived(trial, -0.05, 0.15, 5_000)) == [("retired", 0.0, "worse")]
    assert trial.over and trial.share == 0.0


@pytest.mark.parametrize(("then", "ends"), [("retire", [("retired", 0.0, "no_difference")]), ("stay", [])])
def test_an_equal_challenger_is_retired_after_its_labels_or_stays(then: str, ends: list[object]) -> None:
    plan = msgspec.structs.replace(PLAN, labels_max=3_000, then=then)
    assert path(lived(Trial(plan), 0.0, 0.15, 4_000)) == ends


def test_few_of_the_equal_and_worse_are_promoted_however_often_one_looks() -> None:
    """F32: 200 trials each, of at most 3,000 labels looked at every 100; 5 % is promised for the equal ones."""
    plan = TrialPlan(ramp=(), labels_min=100, labels_max=3_000)
    promoted = {
        effect: sum(
            any(step.state_to == "promoted" for step in lived(Trial(plan), effect, 0.2, 3_000, seed))
            for seed in range(200)
        )
        for effect in (0.0, -0.01)
    }
    assert promoted[0.0] <= 10 and promoted[-0.01] <= 2


def test_a_canary_that_turns_bad_is_retired_by_its_own_step_although_the_whole_looks_good() -> None:
    """F31: the guard starts afresh at every step. Evidence of the whole still says that the challenger is better."""
    trial = Trial(msgspec.structs.replace(PLAN, labels_min=1_000))
    up = lived(trial, 0.08, 0.15, 1_500, stop=True)
    assert path(up) == [("canary", 0.05, "better")]
    steps = lived(trial, -0.1, 0.15, 1_000, seed=2, start=up[0].at)
    assert path(steps) == [("retired", 0.0, "worse")]
    assert steps[0].evidence["difference"] > 0.0


def test_a_promoted_challenger_that_proves_worse_is_rolled_back_by_itself() -> None:
    """F31."""
    trial = Trial(msgspec.structs.replace(PLAN, ramp=(), labels_min=300))
    up = lived(trial, 0.05, 0.15, 1_500, stop=True)
    assert path(up) == [("promoted", 1.0, "better")]
    assert path(lived(trial, -0.08, 0.15, 900, seed=2, start=up[0].at)) == [("rolled_back", 0.0, "worse")]


def test_blue_green_is_one_command_there_and_one_back() -> None:
    """F31."""
    trial = Trial(TrialPlan(ramp=()))
    there, back = trial.order("promote", 1.0), trial.order("roll_back", 2.0)
    assert path([there, back]) == [("promoted", 1.0, "promote"), ("rolled_back", 0.0, "roll_back")]
    assert trial.over and trial.check(3.0) is None


def test_a_person_approves_or_rejects_where_the_plan_says_so() -> None:
    """F31: while it waits things stay as they are, guards included."""
    plan = msgspec.structs.replace(PLAN, ramp=(0.2,), approve=("canary", "promoted"))
    trial = Trial(plan)
    assert path(lived(trial, 0.05, 0.15, 2_000)) == [("awaiting", 0.0, "better")]
    assert path([trial.order("approve", 2_000)]) == [("canary", 0.2, "approve")]
    assert path(lived(trial, 0.05, 0.15, 600, seed=2, start=2_000)) == [("awaiting", 0.2, "better")]
    other = Trial(plan)
    other.restore(trial.snapshot())
    assert path([trial.order("approve", 2_600)]) == [("promoted", 1.0, "approve")]
    assert path([other.order("reject", 2_600)]) == [("retired", 0.0, "reject")]
    waits = Trial(plan)
    assert len(lived(waits, 0.05, 0.15, 2_000)) == 1
    assert path(lived(waits, -0.15, 0.2, 3_000, seed=3, start=2_000)) == [("retired", 0.0, "worse")]


def test_a_broken_sample_ratio_halts_until_a_person_resumes() -> None:
    """F31, F32: half of the canary's labels are lost. After `resume` the counts start afresh and the steps again from
    shadow, on the evidence that stands."""
    trial = Trial(msgspec.structs.replace(PLAN, labels_min=2_000))
    assert path(lived(trial, 0.06, 0.15, 2_000)) == [("canary", 0.05, "better")]
    champion, challenger = paired(5, 1_900, 0.06, 0.15)
    served = np.random.default_rng(1).random(1_900) < 0.025
    trial.take(champion, challenger, 2_001, served, np.full(1_900, 0.05))
    step = trial.check(3_900)
    assert step is not None and path([step]) == [("halted", 0.0, "sample_ratio")]
    assert trial.check(3_901) is None
    assert path([trial.order("resume", 4_000)]) == [("shadow", 0.0, "resume")]
    assert trial.evidence()["sample_ratio"] == pytest.approx(0.0)
    assert path(lived(trial, 0.06, 0.15, 2_000, seed=6, start=4_000)) == [("canary", 0.05, "better")]


def test_a_canary_whose_outcomes_are_worse_is_retired_although_its_losses_are_better() -> None:
    """F32: the metric that decides and the figure that guards are tested side by side."""
    trial = Trial(TrialPlan(ramp=(0.5,), labels_min=500, outcome=(0.0, 100.0)))
    assert path(lived(trial, 0.06, 0.15, 1_500))[:1] == [("canary", 0.5, "better")]
    trial = Trial(TrialPlan(ramp=(0.5,), labels_min=3_000, outcome=(0.0, 100.0)))
    lived(trial, 0.06, 0.15, 3_000)
    champion, challenger = paired(5, 1_000, 0.06, 0.15)
    draw = np.random.default_rng(1)
    served = draw.random(1_000) < 0.5
    outcomes = 100.0 * (draw.random(1_000) < np.where(served, 0.3, 0.5))
    trial.take(champion, challenger, 3_001, served, np.full(1_000, 0.5), outcomes)
    step = trial.check(4_000)
    assert step is not None and path([step]) == [("retired", 0.0, "worse_outcome")]
    assert step.evidence["outcome_low"] < -20 < step.evidence["outcome_high"] < 0 < step.evidence["difference"]


def test_a_second_metric_guards_within_its_tolerance_and_scale() -> None:
    """F32: better by 5 points of accuracy at 0.4 more of a cost of which differences up to 2 count; and clipping is
    counted."""
    champion, challenger = paired(7, 2_000, 0.05, 0.15)
    ends = {}
    for tolerance in (0.0, 0.5):
        trial = Trial(msgspec.structs.replace(PLAN, metrics=(Metric(), Metric("cost", 2.0, tolerance))))
        cost = np.random.default_rng(1).normal(1.0, 1.0, (2_000, 2))
        trial.take(np.column_stack([champion, cost[:, 0]]), np.column_stack([challenger, cost[:, 1] + 0.4]))
        step = trial.check(2_000)
        assert step is not None and 0 < step.evidence["clipped"] < 800
        ends[tolerance] = step.state_to
    assert ends == {0.0: "retired", 0.5: "canary"}


def test_a_margin_asks_for_more_and_a_negative_one_for_less() -> None:
    """F32: a gain of 2 points is no gain of 3; an equal challenger is not worse by 3 points."""
    few = msgspec.structs.replace(PLAN, labels_max=8_000)
    assert path(lived(Trial(msgspec.structs.replace(few, margin=0.03)), 0.02, 0.1, 8_000))[-1][2] == "no_difference"
    bears = msgspec.structs.replace(few, margin=-0.03, metrics=(Metric(tolerance=0.03),))
    assert path(lived(Trial(bears), 0.0, 0.1, 8_000))[-1][0] == "champion"


def test_more_challengers_at_once_need_more_evidence() -> None:
    one, many = (Trial(msgspec.structs.replace(PLAN, challengers=n)) for n in (1, 50))
    first = [lived(trial, 0.03, 0.15, 6_000)[0] for trial in (one, many)]
    assert first[0].at < first[1].at
    assert first[1].evidence["better"] >= math.log(1_000)


def test_labels_of_predictions_from_before_a_step_do_not_count_for_it() -> None:
    """F31: late labels would else carry a canary up that nobody has seen serve."""
    trial = Trial(PLAN)
    assert path(lived(trial, 0.08, 0.15, 500)) == [("canary", 0.05, "better")]
    champion, challenger = paired(8, 1_000, 0.08, 0.15)
    trial.take(champion, challenger, asked=10.0)
    assert trial.check(1_500) is None
    assert trial.evidence()["labels_step"] < 300
    trial.take(champion, challenger, asked=1_400.0)
    step = trial.check(2_500)
    assert step is not None and step.share == 0.25


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"metrics": ()}, "metrics"),
        ({"metrics": (Metric(), Metric())}, "metrics"),
        ({"metrics": (Metric(scale=0.0),)}, "scale"),
        ({"metrics": (Metric(), Metric("b", tolerance=-0.1))}, "tolerance"),
        ({"margin": -0.01}, "margin"),
        ({"ramp": (0.5, 0.25)}, "ramp"),
        ({"ramp": (0.5, 1.0)}, "ramp"),
        ({"labels_min": 0}, "labels_min"),
        ({"labels_max": 10}, "labels_max"),
        ({"approve": ("canary",), "ramp": ()}, "approve"),
        ({"probation_labels": 0}, "probation_labels"),
        ({"outcome": (1.0, 0.0)}, "outcome"),
        ({"challengers": 0}, "challengers"),
    ],
)
def test_every_fault_of_a_plan_is_named(change: dict[str, object], word: str) -> None:
    plan = msgspec.structs.replace(PLAN, **change)
    assert [word in fault for fault in faults(plan)] == [True]
    with pytest.raises(ValueError, match=word):
        Trial(plan)
    assert faults(PLAN) == []
    assert len(faults(msgspec.structs.replace(plan, alpha=2.0, challengers=0, labels_min=0))) >= 3


def test_orders_that_do_not_fit_the_state_say_for_which_they_are() -> None:
    trial = Trial(PLAN)
    for command in ("approve", "reject", "roll_back", "resume"):
        with pytest.raises(ValueError, match="does not fit a trial that is shadow"):
            trial.order(command, 1.0)
    trial.order("halt", 1.0)
    with pytest.raises(ValueError, match="promote is for shadow, canary, awaiting"):
        trial.order("promote", 2.0)
    assert path([trial.order("retire", 3.0)]) == [("retired", 0.0, "retire")]
    trial.take([0.1], [0.2])
    assert trial.evidence()["labels"] == 0.0


def test_bad_input_says_what_is_wanted_and_changes_nothing() -> None:
    trial = Trial(TrialPlan(outcome=(0.0, 1.0)))
    trial.take([1.0], [0.0])
    before = trial.snapshot()
    good = np.zeros((2, 1))
    for bad in (
        ([math.nan], [0.0]),
        (good, np.zeros((3, 1))),
        (good, good, 0.0, [True], [0.5]),
        (good, good, 0.0, [True, False], [0.5, 1.5]),
        (good, good, 0.0, [True, False], [0.5, 0.01]),
        (good, good, 0.0, [True, False], [0.5, math.nan]),
        (good, good, 0.0, [True, False], [0.5, 0.5], [0.1, math.inf]),
        (good, good, 0.0, [True, False], [0.5, 0.5], [0.1]),
        (np.zeros((2, 2)), np.zeros((2, 2))),
    ):
        with pytest.raises(ValueError, match=r"loss|share|outcome"):
            trial.take(*bad)
    assert trial.snapshot() == before
    for foreign in (b"", b"\x93\x01\x02\x03", Trial(PLAN).snapshot()):
        with pytest.raises(SnapshotError):
            trial.restore(foreign)
    assert trial.snapshot() == before
