"""Learners that fail and examples that would break them: nothing is half-learned (F51)."""

from __future__ import annotations

from typing import Any

import pytest

from learners.contract import FeatureDict, Label, Said
from learners.registry import NAMED
from learners.state import Keeps
from stream.contract import DEAD_LETTERS
from stream.stages.learn import Learn
from tests.learning import LIGHT, configured, events, example, examples, fed, model_figures


class Fragile(Keeps):
    """Learns half of an example, then fails on a certain word."""

    def __init__(self) -> None:
        self.updates = 0
        self.seen: list[Any] = []

    def predict(self, x: FeatureDict) -> Said:
        return Said(1, 0.5)

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        self.seen.append(dict(x))
        if x.get("word") == "poison":
            raise TypeError("cannot take poison")
        self.updates += 1

    def _state(self) -> Any:
        return self.updates, self.seen

    def _become(self, state: Any) -> None:
        self.updates, self.seen = state


def fragile(task: str, seed: int) -> Fragile:
    return Fragile()


def test_a_learner_that_fails_is_as_it_was_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learners.registry.NAMED", {**NAMED, "fragile": fragile})
    stage, twin = (Learn(configured("      champion: fragile"), 0, 1, None) for _ in range(2))
    some = [example(i, {"word": f"word {i}"}, 1) for i in range(30)]
    poisoned = [*some[:20], example(20, {"word": "poison"}, 1), example(21, {"word": "poison"}, 1), *some[20:]]
    letters = events(fed(stage, poisoned), DEAD_LETTERS)
    assert [(letter.code, letter.offset) for letter in letters] == [("unlearnable", 20), ("unlearnable", 21)]
    assert letters[0].reason == "champion cannot learn it: TypeError: cannot take poison"
    fed(twin, some)
    assert stage.digests()["m"]["champion"] == twin.digests()["m"]["champion"]
    assert model_figures(stage)["unlearnable"] == 2
    assert stage.served("m")["baseline"].learner.updates == 32


def test_a_learner_comes_back_from_further_than_its_last_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("learners.registry.NAMED", {**NAMED, "fragile": fragile})
    monkeypatch.setattr("stream.stages.pupil.UNDO_MIN", 7)
    stage = Learn(configured("      champion: fragile"), 0, 1, None)
    fed(stage, [example(i, {"word": str(i)}, 1) for i in range(20)])
    fed(stage, [example(20, {"word": "poison"}, 1)])
    learner = stage.served("m")["champion"].learner
    assert isinstance(learner, Fragile) and [x["word"] for x in learner.seen] == [str(i) for i in range(20)]


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        ({"a": "text"}, "features.a is text; in the first example it was a number"),
        ({"a": [1.0]}, "features.a is a list"),
        ({"a": 1e101}, "features.a is 1e\\+101; its square is no number"),
        ({"a": -(10**150)}, "its square is no number"),
    ],
)
def test_features_that_would_break_a_model_are_refused_before_it_sees_them(x: dict[str, Any], reason: str) -> None:
    stage = Learn(configured(LIGHT), 0, 1, None)
    fed(stage, examples(3))
    before = stage.digests()
    (letter,) = events(fed(stage, [example(3, x, 1)]), DEAD_LETTERS)
    assert letter.code == "features"
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(letter.reason)
    assert stage.digests() == before


def test_new_names_of_features_come_to_an_end() -> None:
    stage = Learn(configured(LIGHT), 0, 1, None)
    fed(stage, [example(i, {f"n{i}-{j}": 1.0 for j in range(100)}, 1) for i in range(10)])
    (letter,) = events(fed(stage, [example(10, {"one more": 1.0}, 1)]), DEAD_LETTERS)
    assert "one more than 1000 names" in letter.reason
