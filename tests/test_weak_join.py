"""Rules over features label what nobody has labelled in time; people correct them, and the ledger balances (F25)."""

from __future__ import annotations

from typing import Any

import pytest

from learners import weak
from stream import config, limits
from stream.contract import LABELS, PREDICTIONS, Batch
from stream.errors import ConfigError
from stream.events import Example
from stream.stages.join import Join
from tests.joins import beat, chunk, examples, known, records, said

RULES = """
      big: {if: {feature: amount, above: 1000}, label: 1, confidence: 0.9}
      odd: {if: {feature: country, one_of: [XX]}, label: 1, confidence: 0.6}
      small: {if: {feature: amount, below: 50}, label: 0, confidence: 0.8}
"""


def configured(labels: str = "", default: str = "") -> config.Config:
    text = "models:\n  a:\n    task: binary\n    labels:\n      horizon: 1000s\n" + labels
    rules = RULES.replace("\n      ", "\n          ")
    return config.parse(f"{text}      implicit:\n        after: 100s\n{default}        rules:{rules}")


def lived(cut: int | None = None, labels: str = "", default: str = "", heard: Any = ()) -> tuple[Join, list[Example]]:
    """A join that has read four predictions and these labels; `cut`: restored from its snapshot after so many."""
    asked = [
        said("p0", 1.0, value=0, features={"amount": 2000}),
        said("p1", 2.0, value=0, features={"amount": 10, "country": "XX"}),
        said("p2", 3.0, value=0, features={"amount": 100}),
        said("p3", 4.0, value=0, features={}),
    ]
    join, out = Join(configured(labels, default), 0, 1), []
    batches = [Batch(0.0, (part,)) for part in pieces(asked, heard)]
    for i, batch in enumerate(batches):
        if i == cut:
            state = join.snapshot()
            join = Join(configured(labels, default), 0, 1)
            join.restore(state)
        out += join.process(batch)
    join.ledger.check()
    return join, examples(out)


def pieces(asked: list[Any], heard: Any) -> list[Any]:
    heard = [*heard, beat(900.0)]
    later = records([beat(5000.0)], first=len(heard))
    return [chunk(PREDICTIONS, records([*asked, beat(5000.0)])), chunk(LABELS, records(heard)), chunk(LABELS, later)]


def test_rules_label_what_nobody_has_labelled_in_time() -> None:
    """The surer of two that differ stands, and is half as sure as alone; where all abstain nothing is implied."""
    join, made = lived()
    told = {e.prediction.prediction_id: (e.label, round(e.weight, 3), e.implicit, e.label_source) for e in made}
    assert told == {"p0": (1.0, 0.9, True, "rules"), "p1": (0.0, 0.4, True, "rules")}
    predictions = join.ledger.predictions
    assert (predictions.implicit, predictions.expired) == (2, 2)


def test_where_all_abstain_the_implicit_label_stands_if_there_is_one() -> None:
    _, made = lived(default="        label: 0\n")
    told = {e.prediction.prediction_id: (e.label, e.label_source) for e in made}
    assert told == {"p0": (1.0, "rules"), "p1": (0.0, "rules"), "p2": (0, "implicit"), "p3": (0, "implicit")}


def test_a_person_corrects_a_rule() -> None:
    join, made = lived(heard=[known("p0", 500.0, 0)])
    told = [(e.label, e.revision, e.previous, e.implicit) for e in made if e.prediction.prediction_id == "p0"]
    assert told == [(1.0, 0, None, True), (0, 1, 1.0, False)]
    assert (join.ledger.predictions.implicit, join.ledger.labels.joined) == (1, 1)


def test_beside_annotators_rules_go_on_voting() -> None:
    """One rule and two people who say otherwise: they outvote it, and not before."""
    heard = [known("p0", 500.0, 0, annotator="ann"), known("p0", 501.0, 0, annotator="bob")]
    _, made = lived(labels="      annotators: majority\n", heard=heard)
    told = [(e.label, e.implicit) for e in made if e.prediction.prediction_id == "p0"]
    assert told[0] == (1.0, True) and told[-1] == (0.0, False)


def test_when_the_only_person_takes_their_vote_back_no_rule_speaks_for_them() -> None:
    heard = [known("p0", 500.0, 0, annotator="ann"), known("p0", 502.0, 0, annotator="ann", retracted=True)]
    join, _ = lived(labels="      annotators: majority\n", heard=heard)
    labels = join.ledger.labels
    assert (labels.joined, labels.superseded, labels.retracted) == (0, 1, 1)


@pytest.mark.parametrize("cut", [1, 2])
def test_state_is_restored_exactly(cut: int) -> None:
    heard = [known("p0", 500.0, 0, annotator="ann")]
    for labels in ("", "      annotators: dawid_skene\n"):
        whole, cut_there = lived(labels=labels, heard=heard), lived(cut, labels=labels, heard=heard)
        assert whole[1] == cut_there[1] and whole[0].snapshot() == cut_there[0].snapshot()


def test_a_rule_that_cannot_be_read_is_a_fault_with_its_path() -> None:
    text = "models: {a: {task: binary, labels: {implicit: {after: 1d, rules: {r: {if: {feature: x, abvoe: 1}}}}}}}"
    with pytest.raises(ConfigError) as found:
        config.parse(text)
    assert "models.a.labels.implicit.rules: r.if.abvoe: unknown key; did you mean above?" in str(found.value)
    assert "models.a.labels.implicit.rules: r.label: missing" in str(found.value)


def test_rules_and_people_together_have_room() -> None:
    assert weak.RULES_MAX <= limits.VOTES_MAX // 2
