"""Whether an example may be learned, and who said what of it: checks that come before anything is changed.

Owns that nothing is learned by a learner that may have seen it (F23), and that nothing breaks one half-way. Refuses to
know what is learned then (`stream.stages.course`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from learners.contract import Label, Said
from learners.policies import Item
from stream import limits
from stream.config import Model
from stream.errors import InputFault
from stream.events import Example, Prediction, Vote
from stream.joining.rules import Rules
from stream.learning import CHAMPION
from stream.stages.roster import Roster

UNTRAINED: Final = "0"
"""The version under which a learner answers that no snapshot has reached."""

NUMBER_MAX: Final = 1e100
"""One larger number in an example would leave most models without an answer for ever."""


NUMBER: Final = "a number"


class AdmissionState(msgspec.Struct):
    """`kinds` says of each feature whether it is a number, text or a list, settled by the first value."""

    kinds: dict[str, str] = {}
    leaks: int = 0


class Admission:
    """Of one model. Every fault is an InputFault, and changes nothing but its count."""

    def __init__(self, name: str, model: Model, roster: Roster) -> None:
        self._task = model.task
        self._rules = Rules.of(0, name, model)
        self._roster = roster
        self.state = AdmissionState(kinds={})

    def forget(self) -> None:
        """Learners start over: the first value of a feature may have been the wrong one."""
        self.state.kinds = {}

    def item(self, example: Example) -> Item:
        """The example as learners take it. Raises InputFault where it cannot be used."""
        said = example.prediction
        item = Item(said.features, self._label(example.label), example.weight, example.completed)
        if said.model_updates is not None:
            item.lag = self._lag(said, said.model_updates)
        self._check_kinds(item.x)
        if said.model_updates is not None or example.votes:
            self._check_leaks(example)
        return item

    def said(self, example: Example) -> dict[str, Said]:
        """What our learners said of it; somebody else's champion has no `model_updates`, and is not ours to judge, nor
        is what was said by a learner that played the part before."""
        said: dict[str, Said] = {}
        served = example.prediction
        if served.model_updates is None and served.learner == CHAMPION and not example.votes:
            return said
        for part, one in voices(example):
            pupil = self._roster.pupils.get(part)
            if pupil is None or (part == CHAMPION and one.model_updates is None):
                continue
            if not one.model_version.isdecimal() or int(one.model_version) >= pupil.kept.since:
                said[part] = Said(one.prediction, one.score, one.probabilities)
        return said

    def _label(self, label: Label) -> Label:
        """As the join and watch read it; learners want a binary one as 0 or 1."""
        try:
            read = self._rules.read(label)
        except ValueError as error:
            raise InputFault("label", f"label: {error}") from None
        return int(read) if self._task == "binary" else read

    def _lag(self, prediction: Prediction, updates: int) -> int:
        """How many examples were learned since this was predicted with so many; 0 where someone else predicted it."""
        if prediction.model_version not in (str(self._roster.version), UNTRAINED):
            return 0
        pupil = self._roster.pupils.get(prediction.learner, self._roster.champion)
        return max(pupil.learner.updates - updates, 0)

    def _check_kinds(self, x: dict[str, Any]) -> None:
        """A number that becomes text would raise in the middle of a model's update: refuse it before."""
        kinds = self.state.kinds
        new: dict[str, str] = {}
        for name, value in x.items():
            if type(value) is float and -NUMBER_MAX <= value <= NUMBER_MAX and kinds.get(name) == NUMBER:
                continue  # nearly always
            if value is None:
                continue
            kind = _KINDS[type(value)]
            known = kinds.get(name)
            if known is None:
                new[name] = kind
            elif known != kind:
                raise InputFault("features", f"features.{name} is {kind}; in the first example it was {known}")
            if kind == NUMBER and abs(value) > NUMBER_MAX:
                raise InputFault("features", f"features.{name} is {value:.3g}; its square is no number")
        if new:
            if len(kinds) + len(new) > limits.FEATURES_MAX:
                first = next(iter(new))
                raise InputFault("features", f"features.{first} is one more than {limits.FEATURES_MAX} names")
            kinds |= new

    def _check_leaks(self, example: Example) -> None:
        """F23: what was said by a learner in a state that this stage has not come to may have been said by one that
        learns this example."""
        for part, one in voices(example):
            pupil = self._roster.pupils.get(part)
            if pupil is None or one.model_updates is None:
                continue
            version, stands = one.model_version, self._roster.version
            newer = version.isdecimal() and int(version) > stands
            if newer or (version == str(stands) and one.model_updates > pupil.learner.updates):
                self.state.leaks += 1
                pupil.kept.leaks += 1
                raise InputFault(
                    "leak",
                    f"{part} predicted at version {version} with {one.model_updates} updates, but stands at "
                    f"version {stands} with {pupil.learner.updates}: it may have learned this example",
                )


def voices(example: Example) -> list[tuple[str, Prediction | Vote]]:
    """Who said something of the example, the one that was served first."""
    said: list[tuple[str, Prediction | Vote]] = [(example.prediction.learner, example.prediction)]
    return [*said, *((vote.learner, vote) for vote in example.votes)]


_KINDS: Final = {bool: NUMBER, int: NUMBER, float: NUMBER, str: "text", list: "a list"}
