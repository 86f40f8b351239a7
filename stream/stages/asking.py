"""Which answers of one model somebody is asked to label, each told as a decision (F39).

Owns what a choice is made of and how it is told. Refuses to know how events are chosen (`learners.choosing`) and who
labels them: their labels come back as all labels do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from learners.choosing import Chooser
from learners.contract import Said, SnapshotError
from stream import codec
from stream.config import Model
from stream.contract import DECISIONS, Output
from stream.errors import StateError
from stream.events import Decision, Prediction
from stream.learning import BASELINE, choosing_plan
from stream.stages.publishing import moment

ACTION: Final = "ask_label"


class AskingState(msgspec.Struct):
    """`made_for`: the settings that the chooser's state rests on."""

    made_for: str
    chooser: bytes


class Asking:
    """Of one model, in one of so many shards."""

    def __init__(self, name: str, model: Model, shard: int, shards: int) -> None:
        assert model.learn is not None and model.learn.ask is not None
        plan = choosing_plan(model.task, model.learn.ask, shard, shards)
        rests_on = [plan.task, dict(plan.mixture), plan.share, plan.per_period, plan.period_s, model.learn.seed]
        self._name = name
        self._made_for = codec.canonical(rests_on).decode()
        self._chooser = Chooser(plan, model.learn.seed)

    def offer(self, served: Prediction, answers: Iterable[Prediction]) -> Output | None:
        """Whether to ask for the label of what was served, by what all learners said; if so it says so from here on.
        The baseline is of no committee: it says the same of everything. A request that comes again is asked for under
        the same id."""
        said = {one.learner: Said(one.prediction, one.score, one.probabilities) for one in answers
                if one.learner != BASELINE}  # fmt: skip
        assert isinstance(served.event_time, float), "decoding has made it epoch seconds"
        choice = self._chooser.offer(served.prediction_id, served.event_time, said, served.features)
        if choice is None:
            return None
        served.asked_by, served.asked_probability = choice.by, choice.propensity
        decision = Decision(
            decision_id=f"{self._name}-ask-{choice.key}",
            model=self._name,
            action=ACTION,
            at=moment(choice.at),
            learner=served.learner,
            why={"by": choice.by, "score": choice.score, "probability": choice.propensity},
            causation_id=choice.key,
        )
        return Output(DECISIONS, self._name, decision)

    def state(self) -> AskingState:
        return AskingState(self._made_for, self._chooser.snapshot())

    def restore(self, state: AskingState) -> None:
        """Other settings begin anew. Raises StateError."""
        if state.made_for != self._made_for:
            return
        try:
            self._chooser.restore(state.chooser)
        except SnapshotError as error:
            raise StateError(f"state of score, model {self._name}: {error}") from error

    def figures(self) -> dict[str, Any]:
        return self._chooser.figures()
