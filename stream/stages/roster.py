"""Who plays which part among the learners of one model: champion, challengers, the one before, a rival, the baseline.

Owns promotion and rollback, and the version under which the parts answer. Refuses to know why a part changes
(`stream.stages.course`) and how a learner learns (`stream.stages.pupil`).

A **part** is a name that votes and snapshots carry; an **origin** is the entry of the configuration that a learner
comes from. Both are the same until a challenger is promoted: then it plays `champion`, and the champion before it goes
on learning as `previous`, ready to come back.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from learners.contract import Learner
from learners.imbalance import Balance
from learners.policies import Item
from stream.config import Model
from stream.errors import InputFault
from stream.learning import BASELINE, CHAMPION, PREVIOUS, RIVAL
from stream.stages.pupil import Pupil, PupilState
from stream.units import LearnerSpec

STANDING: Final = frozenset({CHAMPION, BASELINE, PREVIOUS})
"""Parts that cannot be promoted: the champion is already, and the one before is rolled back to."""


class Served(NamedTuple):
    """A learner that answers, and the version it answers under."""

    learner: Learner
    version: str


class RosterState(msgspec.Struct):
    """`retired`: origins that lost their part, and are not to start anew when the state is restored, as they were
    configured."""

    version: int
    pupils: dict[str, PupilState]
    retired: dict[str, LearnerSpec] = {}


def specs(model: Model) -> dict[str, LearnerSpec]:
    """The learners of a model by origin: champion, challengers, and the trivial baseline that stands beside them."""
    assert model.learn is not None
    trivial = LearnerSpec("mean" if model.task == "regression" else "majority", {})
    return {CHAMPION: model.learn.champion, **model.learn.challengers, BASELINE: trivial}


class Roster:
    """The learners by part, the champion first. `served` shows them as they answer now, and changes as they do."""

    def __init__(self, model: Model, version: int) -> None:
        assert model.learn is not None
        self._model = model
        self._seed = model.learn.seed
        self._specs = specs(model)
        self.version = version
        self.retired: dict[str, LearnerSpec] = {}
        self.pupils = {name: self._made(name, name) for name in self._specs}
        self.served: dict[str, Served] = {}
        self._serve()

    def _made(self, part: str, origin: str) -> Pupil:
        return Pupil(part, origin, self._specs[CHAMPION if origin == RIVAL else origin], self._model.task, self._seed)

    @property
    def champion(self) -> Pupil:
        return self.pupils[CHAMPION]

    def teach(self, item: Item, balance: Balance | None) -> list[str]:
        """All learners; with a balance as much of the example as its class is due, but all of it for the baseline,
        which tells how frequent classes are. Why those failed that did."""
        if balance is None:
            return [fault for pupil in self.pupils.values() if (fault := pupil.learn(item))]
        portion = balance.take(item.y)
        weighted = item if portion.weight == 1.0 else msgspec.structs.replace(item, weight=item.weight * portion.weight)
        faults = []
        for part, pupil in self.pupils.items():
            given = [item] if part == BASELINE else [weighted] * portion.copies
            faults += [fault for each in given if (fault := pupil.learn(each))][:1]
        return faults

    def renew(self) -> None:
        """A new version: what was said before was said by another."""
        self.version += 1
        self._serve()

    def promote(self, part: str) -> None:
        """Let a challenger be the champion; the champion becomes `previous`. Raises InputFault."""
        if part not in self.pupils or part in STANDING:
            names = ", ".join(name for name in self.pupils if name not in STANDING) or "none"
            raise InputFault("promote", f"no challenger {part!r} can be promoted; there are: {names}")
        gone = self.pupils.pop(PREVIOUS, None)
        if gone is not None and gone.origin != RIVAL:
            self.retired[gone.origin] = self._specs[gone.origin]
        challenger = self.pupils.pop(part)
        self._take_parts(challenger, self.champion, PREVIOUS)

    def roll_back(self) -> str:
        """Let the one before be the champion again; the champion goes back to where it came from. The part that it has
        now. Raises InputFault."""
        if PREVIOUS not in self.pupils:
            raise InputFault("rollback", "there is no champion before this one to roll back to")
        champion, before = self.champion, self.pupils.pop(PREVIOUS)
        self._take_parts(before, champion, RIVAL if champion.origin == CHAMPION else champion.origin)
        return champion.name

    def _take_parts(self, champion: Pupil, other: Pupil, part: str) -> None:
        self.version += 1
        champion.play(CHAMPION, self.version)
        other.play(part, self.version)
        rest = {name: pupil for name, pupil in self.pupils.items() if name not in (CHAMPION, part)}
        self.pupils = {CHAMPION: champion, **rest, part: other}
        self._serve()

    def start_rival(self) -> Pupil:
        """A fresh learner beside the others, in place of an earlier rival."""
        self.pupils[RIVAL] = rival = self._made(RIVAL, RIVAL)
        rival.play(RIVAL, self.version)
        self._serve()
        return rival

    def retire(self, part: str) -> None:
        """Ask a challenger no longer."""
        pupil = self.pupils.pop(part)
        if pupil.origin != RIVAL:
            self.retired[pupil.origin] = self._specs[pupil.origin]
        self._serve()

    def _serve(self) -> None:
        version = str(self.version)
        for part in [part for part in self.served if part not in self.pupils]:
            del self.served[part]
        for part, pupil in self.pupils.items():
            self.served[part] = Served(pupil.learner, version)

    def state(self) -> RosterState:
        return RosterState(self.version, {part: p.state() for part, p in self.pupils.items()}, dict(self.retired))

    def restore(self, state: RosterState, same_task: bool = True) -> list[str]:
        """Learners that the configuration no longer has, or has otherwise, are dropped; new ones start untrained, but
        for a champion that was promoted: the one before it comes back. The parts that go on. Raises SnapshotError."""
        specs = self._specs
        self.version = state.version
        self.retired = {name: spec for name, spec in state.retired.items() if specs.get(name) == spec}
        kept: dict[str, Pupil] = {}
        for part, one in state.pupils.items():
            origin = one.kept.origin
            spec = specs.get(CHAMPION if origin == RIVAL else origin)
            if same_task and spec is not None and (one.path, one.parameters) == (spec.path, spec.parameters):
                kept[part] = self._made(part, origin)
                kept[part].restore(one)
        going_on = list(kept)
        if CHAMPION not in kept:
            before = kept.pop(PREVIOUS, None)
            going_on = list(kept)
            kept[CHAMPION] = before or self._made(CHAMPION, CHAMPION)
        known = {*(pupil.origin for pupil in kept.values()), *self.retired}
        fresh = {name: self._made(name, name) for name in specs if name not in known and name != CHAMPION}
        self.pupils = {CHAMPION: kept.pop(CHAMPION), **kept, **fresh}
        self._replace([part for part in state.pupils if part not in going_on])
        return going_on

    def _replace(self, gone: list[str]) -> None:
        """Whoever plays these parts now has not said what is still under way of them: that was an earlier version."""
        self.version += bool(gone)
        for part in gone:
            if part in self.pupils:
                self.pupils[part].play(part, self.version)
        self._serve()

    def digests(self) -> dict[str, str]:
        return {part: pupil.learner.digest() for part, pupil in self.pupils.items()}

    def figures(self) -> dict[str, Any]:
        return {part: pupil.figures(str(self.version)) for part, pupil in self.pupils.items()}
