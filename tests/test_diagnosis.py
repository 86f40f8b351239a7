"""F19: what an alarm is called, who carries it, what to do next; and F04, concept told apart from covariate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from benchmarks.detection.diagnosis import by_leaf, score_of
from benchmarks.detection.diagnosis_cases import KINDS as CASES
from benchmarks.detection.diagnosis_cases import Simulated
from detectors.case import KINDS, Evidence, serious
from detectors.diagnosis import RULES, USUAL, WORLD, Diagnosis, diagnose
from detectors.explanation import explain
from tests.changes import changed


def of(kind: str, seed: int = 1, stream: str = "loss", place: str = "", **more: object) -> Diagnosis:
    size = {"n": 4_000, "m": 3_000} if place else {}
    found = explain(*changed(kind, seed, place=place, **size))
    return diagnose(Evidence(stream, explanation=found, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["covariate", "concept", "label"])
@pytest.mark.parametrize("stream", ["feature", "label", "loss", "score"])
def test_a_pure_change_is_called_by_its_name_whichever_stream_alarmed(kind: str, stream: str) -> None:
    """F19, F04: the labelled rows outvote what is usual for the stream."""
    answer = of(kind, 2, stream)
    assert answer.kind == kind and answer.decided
    assert answer.because[-1] == WORLD[kind]  # type: ignore[index]
    assert answer.probabilities[answer.kind] > 0.8


@pytest.mark.parametrize("kind", ["covariate", "concept", "label"])
def test_a_change_in_one_place_is_called_by_its_name_and_place(kind: str) -> None:
    """F19, F10"""
    answer = of(kind, 1, place="south")
    assert answer.kind == kind
    assert answer.slices[0].name == "place=south"


def test_the_guilty_feature_stands_first_and_in_the_advice() -> None:
    """F19"""
    for kind in ("covariate", "concept"):
        answer = of(kind, 3)
        assert answer.features[0].name == "a" and answer.features[0].share > 0.7
        assert sum(each.share for each in answer.features) <= 1 + 1e-9
    assert "challenger" in of("concept", 3).action
    assert of("label", 3).features[0].name == "label=1"


def test_the_answer_carries_how_much_of_the_loss_is_what() -> None:
    """F04"""
    answer = of("concept", 2)
    assert answer.loss["covariate"].value + answer.loss["concept"].value == pytest.approx(answer.loss["total"].value)
    assert answer.loss["concept"].sure


def test_where_nothing_shows_nothing_is_decided() -> None:
    """F19: an alarm of which the labelled rows know nothing is judged by its stream, and says so."""
    for stream, kind in (("loss", "concept"), ("feature", "covariate")):
        answer = of("nothing", 4, stream)
        assert not answer.decided and answer.kind == kind
        assert "do not show yet" in answer.because[-1]


def test_before_labels_come_the_stream_decides() -> None:
    """F19"""
    answer = diagnose(Evidence("feature", "x", psi={"y": 0.4, "x": 0.3}))
    assert answer.kind == "covariate" and [each.name for each in answer.features] == ["x", "y"]
    assert "too few labels" in answer.because[-1]
    assert diagnose(Evidence("loss")).kind == "concept"


def test_inputs_that_do_not_overlap_are_undecided_and_ask_for_labels() -> None:
    """F19"""
    plan, before, after = changed("nothing", 5)
    after.codes[:, 0] = plan.bins[0].size - 1
    before = before.take(before.codes[:, 0] < plan.bins[0].size // 2)
    answer = diagnose(Evidence("loss", explanation=explain(plan, before, after)))
    assert answer.kind == "covariate" and not answer.decided
    assert answer.action.startswith("label rows of a ")


@pytest.mark.parametrize("fault", ["unit", "constant", "unseen", "missing"])
def test_a_broken_feature_is_data_quality_for_itself_and_for_the_loss(fault: str) -> None:
    """F19, F11"""
    found = explain(*changed("nothing", 1), broken=[0])
    for stream, name in (("feature", "a"), ("loss", ""), ("score", "")):
        answer = diagnose(Evidence(stream, name, {"a": fault}, {"a": 2.0}, found))
        assert answer.kind == "data_quality" and answer.decided
        assert answer.features[0].name == "a" and "repair the source of a" in answer.action


def test_a_broken_feature_does_not_explain_another_or_the_labels() -> None:
    """F19"""
    assert diagnose(Evidence("feature", "b", {"a": "unit"}, {"a": 2.0, "b": 0.5})).kind == "covariate"
    assert diagnose(Evidence("label", "", {"a": "unit"}, {"a": 2.0})).kind == "label"


def test_another_rule_beside_a_broken_feature_is_not_hidden_by_it() -> None:
    """F19: labels have changed given the sound inputs, which a feed cannot do."""
    found = explain(*changed("concept", 1), broken=[3])
    answer = diagnose(Evidence("loss", "", {"d": "constant"}, {"d": 2.0}, found))
    assert answer.kind == "concept" and answer.probabilities["data_quality"] == pytest.approx(0.4)


def test_gaps_that_come_with_a_moving_world_are_no_serious_fault() -> None:
    """F11"""
    faults = {"a": "missing", "b": "missing", "c": "unit"}
    assert serious(faults, {"a": 0.03, "b": 0.3, "d": 0.4}) == {"b": "missing", "c": "unit"}
    assert serious({"a": "missing"}, {"a": 0.01}) == {}


def test_labels_of_one_class_that_come_late_are_an_artefact() -> None:
    """F19, F14: of one class two thirds have not come yet; the inputs of all predictions stand still."""
    plan, before, after = changed("nothing", 6, m=3_000)
    come = (after.label == 1) | (np.random.default_rng(1).random(len(after)) < 1 / 3)
    found = explain(plan, before, after.take(come))
    late = Evidence("loss", explanation=found, maturity=float(come.mean()), maturity_before=0.98)
    answer = diagnose(late)
    assert answer.kind == "delayed_labels" and answer.features[0].name == "label=1"
    assert "no retraining now" in answer.action
    assert diagnose(late._replace(maturity=0.98)).kind == "label"
    assert diagnose(late._replace(psi={"a": 0.3})).kind == "label"
    assert diagnose(late._replace(stream="feature", name="a")).kind != "delayed_labels"


def test_late_labels_do_not_excuse_another_rule() -> None:
    """F19: which rows have labels by now cannot turn the coefficient of an input."""
    assert of("concept", 2, maturity=0.5, maturity_before=0.98).kind == "concept"


def test_a_model_that_errs_more_in_an_unchanged_world_is_rolled_back() -> None:
    """F19: version 8 is wrong in a tenth of the rows more, whatever their inputs and labels."""
    plan, before, after = changed("nothing", 7)
    worse = np.where(np.random.default_rng(3).random(len(after)) < 0.15, 1 - after.loss, after.loss)
    found = explain(plan, before, replace(after, loss=worse.astype(np.float32)))
    answer = diagnose(Evidence("loss", explanation=found, version="8"))
    assert answer.kind == "data_quality" and "roll back version 8" in answer.action
    assert diagnose(Evidence("loss", explanation=found)).kind != "data_quality"


names = st.sampled_from(["a", "b", "place"])


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(USUAL)), st.dictionaries(names, st.sampled_from(["unit", "missing", "constant"])),
    st.dictionaries(names, st.floats(0, 5)), st.floats(0, 1), st.floats(0, 1), st.sampled_from([None, "2"]),
    st.sampled_from(["none", "nothing", "concept", "label"]),
)  # fmt: skip
def test_probabilities_sum_to_one_whatever_the_evidence(
    stream: str,
    faults: dict[str, str],
    psi: dict[str, float],
    now: float,
    before: float,
    version: str | None,
    kind: str,
) -> None:
    """F19"""
    name = "a" if stream in ("feature", "missing") else ""
    answer = diagnose(Evidence(stream, name, faults, psi, EXPLAINED[kind], now, before, version))
    assert math.isclose(sum(answer.probabilities.values()), 1.0)
    assert min(answer.probabilities.values()) >= 0 and set(answer.probabilities) == {*KINDS}
    assert answer.kind == max(KINDS, key=lambda each: answer.probabilities[each])
    assert answer.because and answer.action and "{" not in answer.action
    assert all(0 <= each.share <= 1 + 1e-9 for each in answer.features)


EXPLAINED = {"none": None, **{kind: explain(*changed(kind, 1)) for kind in ("nothing", "concept", "label")}}


def test_every_rule_gives_its_reason() -> None:
    assert len({rule.because for rule in RULES}) == len(RULES)
    assert {rule.kind for rule in RULES} | {*WORLD} == {*KINDS}


@pytest.mark.parametrize("kind", [*CASES, "delayed_labels"])
def test_simulated_models_are_diagnosed(kind: str) -> None:
    """F19: ten mixed features, half of the changes in one region; the benchmark does the same a hundred times."""
    score = score_of(Simulated(), kind, 4, 3, by_leaf)
    assert score is not None
    assert (score.named, score.feature, score.slice) == (1.0, 1.0, 1.0)
