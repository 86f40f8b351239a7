"""What the champion of one model goes by: the importance of each feature on recent labelled examples, and whether it
has changed (F55).

Owns which examples are asked about, whose values they borrow, and when a change is told. Refuses to know how
importances are estimated and compared (`detectors.importance`) and what is done about a change.

Before an example is learned, the champion answers it once more, and once for every feature with that feature's value
from another recent example: how much more it is wrong then. Which examples, and whose values, is chance keyed by the
seed and the number of the example. A model that tidegate does not teach cannot be asked: of such a one the stage that
watches knows what its scores go along with (`stream.windows.explaining`), which is less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from detectors.importance import FEATURES_MAX, Tally, borrowed, shift
from learners import replay
from learners.buffers import Recent, chance
from learners.contract import FeatureDict, Learner
from learners.packing import unpacked
from learners.policies import Item
from stream.config import Model
from stream.events import Decision
from stream.stages.publishing import moment

EVERY: Final = 8
"""Examples learned for each question asked: about 3 % of the time of learning with the ready default (8 of 251 us an
example) and with a linear model (1.6 of 57 us), up to 6 % where answers are slow (River's GaussianNB)."""

BLOCK_ROWS: Final = 200
"""Examples asked about that are compared together with those before: an importance that falls from a quarter of the
loss to nothing is then sure at once."""

DONORS_BYTES: Final = 65_536
"""Of the examples asked about last, whose values others borrow: some 300 of ten numbers."""

ALPHA: Final = 0.01
"""Chance that a change is ever told of a model that stays as it is, however often it is looked at. The look k since the
last change has ALPHA / (k (k + 1)) of it, and all features share that alike."""

PART_MIN: Final = 0.05
"""Of all features' importance together: a feature that has moved by less is no news, however sure (F09)."""

NORMAL_95: Final = 1.96

CHANGED: Final = "importance_changed"
"""The action of the decision."""


class WeighingState(msgspec.Struct):
    """`standing`: what the newest block is compared with, all blocks since the last change; `version`: the model's when
    it began; `doubted`: the block before differed from it already; `names`: features that are asked about;
    `left_out`: how often one was not, as there are too many."""

    donors: bytes = b""
    names: list[str] = []
    filling: Tally = msgspec.field(default_factory=Tally)
    last: Tally = msgspec.field(default_factory=Tally)
    standing: Tally = msgspec.field(default_factory=Tally)
    version: int = 0
    looks: int = 0
    doubted: bool = False
    blocks: int = 0
    seen: int = 0
    questions: int = 0
    faults: int = 0
    left_out: int = 0
    told: int = 0


class Weighing:
    """Of one model's champion, whoever plays the part. `watch` is the only mutator."""

    def __init__(self, name: str, model: Model) -> None:
        assert model.learn is not None
        self._name = name
        self._task = model.task
        self._seed = model.learn.seed
        self._every = EVERY if model.learn.importance is True else int(model.learn.importance)
        self._donors = Recent(DONORS_BYTES, self._seed)
        self._state = WeighingState()

    def watch(self, item: Item, champion: Learner, version: int) -> Decision | None:
        """An example that the champion is about to learn; a change of what it goes by, where that is sure now."""
        state = self._state
        state.seen += 1
        questions = min(len(item.x), FEATURES_MAX) + 1
        if chance(self._seed, "importance", state.seen, self._every * questions):
            return None
        donors = self._donors.draw(1, state.seen)
        self._donors.add(msgspec.msgpack.encode(item.x))
        if donors:
            self._ask(item, msgspec.msgpack.decode(donors[0]), champion)
        return self._look(item.at, version) if state.filling.rows >= BLOCK_ROWS else None

    def _ask(self, item: Item, donor: FeatureDict, champion: Learner) -> None:
        """How much more it is wrong with each value borrowed. An example that it cannot answer says nothing."""
        state, task = self._state, self._task
        names = self._known(item.x, donor)
        others = [name for name in names if item.x.get(name) != donor.get(name)]
        try:
            wrong = [replay.loss(task, champion.predict(borrowed(item.x, name, donor)), item.y) for name in others]
            # Last, as learning asks for the same answer again, and the ready default still knows it then.
            own = replay.loss(task, champion.predict(item.x), item.y)
        except Exception:  # a model of any kind stands behind this; learning the example will say what is wrong
            state.faults += 1
            return
        state.questions += len(others) + 1
        if not all(map(math.isfinite, [own, *wrong])):
            state.faults += 1
            return
        more = {name: loss - own for name, loss in zip(others, wrong, strict=True)}
        state.filling.add({name: more.get(name, 0.0) for name in names})

    def _known(self, x: FeatureDict, donor: FeatureDict) -> list[str]:
        """The features of either that are asked about, the first FEATURES_MAX ever seen; the rest is counted."""
        names, state = list(dict.fromkeys([*x, *donor])), self._state
        new = [name for name in names if name not in state.names]
        room = FEATURES_MAX - len(state.names)
        state.names += new[:room]
        state.left_out += len(new[room:])
        return [name for name in names if name not in new[room:]]

    def _look(self, at: float, version: int) -> Decision | None:
        """A block is whole. A change that it shows is told if the next one shows it too: the first lies across it, and
        what has moved would be seen in part."""
        state = self._state
        block, state.filling = state.filling, Tally()
        state.last = block
        state.blocks += 1
        if state.blocks == 1:  # a model that begins knows nothing yet
            return None
        if not state.standing.rows:
            state.standing, state.version = block, version
            return None
        state.looks += 1
        moved = self._moved(block)
        if not moved:
            state.doubted, state.standing = False, state.standing.joined(block)
            return None
        if not state.doubted:
            state.doubted = True
            return None
        found = self._told(moved, block, at, version)
        state.standing, state.version, state.looks, state.doubted = block, version, 0, False
        return found

    def _moved(self, block: Tally) -> dict[str, float]:
        """p of the features that have surely, and not trivially, another importance than before."""
        state = self._state
        p = shift(state.standing, block)
        level = ALPHA / (state.looks * (state.looks + 1)) / max(len(p), 1)
        before, now = _means(state.standing), _means(block)
        total = max(sum(max(value, 0.0) for value in means.values()) for means in (before, now))
        return {
            name: each for name, each in p.items()
            if each <= level and abs(now.get(name, 0.0) - before.get(name, 0.0)) >= PART_MIN * total
        }  # fmt: skip

    def _told(self, moved: Mapping[str, float], block: Tally, at: float, version: int) -> Decision:
        state = self._state
        before, now = _means(state.standing), _means(block)
        change = {name: now.get(name, 0.0) - before.get(name, 0.0) for name in moved}
        order = sorted(change, key=lambda name: (-abs(change[name]), name))
        state.told += 1
        gained = [name for name in order if change[name] > 0]
        lost = [name for name in order if change[name] < 0]
        parts = [f"more by {', '.join(gained)}"] * bool(gained) + [f"less by {', '.join(lost)}"] * bool(lost)
        why = {
            "why": f"the champion goes {' and '.join(parts)}", "gained": gained, "lost": lost,
            "p": {name: float(f"{moved[name]:.1e}") for name in order}, "rows": [state.standing.rows, block.rows],
        }  # fmt: skip
        was, became = (
            {"version": str(number), "importance": {name: round(means.get(name, 0.0), 4) for name in order}}
            for number, means in ((state.version, before), (version, now))
        )
        return Decision(
            decision_id=f"{self._name}-importance-{state.told}", model=self._name, action=CHANGED, at=moment(at),
            why=why, before=was, after=became,
        )  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(msgspec.structs.replace(self._state, donors=self._donors.snapshot()))

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        read = unpacked(state, WeighingState, "what a champion goes by")
        self._donors.restore(read.donors)
        self._state = msgspec.structs.replace(read, donors=b"")

    def figures(self) -> dict[str, Any]:
        """Of the last whole block and the one being filled, by feature, the most important first: the increase of the
        loss, its interval (95 %), and its share of all; and what that cost."""
        state = self._state
        recent = state.last.joined(state.filling).importances()
        shares = recent.shares()
        features = {
            name: {"value": value, "low": value - NORMAL_95 * error, "high": value + NORMAL_95 * error,
                   "share": shares[name]}
            for value, name, error in sorted(
                zip(recent.values, recent.features, recent.errors, strict=True), key=lambda each: (-each[0], each[1])
            )
            if math.isfinite(value)
        }  # fmt: skip
        return {
            "features": features, "rows": recent.rows, "examples": state.seen, "questions": state.questions,
            "blocks": state.blocks, "changes": state.told, "faults": state.faults, "left_out": state.left_out,
        }  # fmt: skip


def _means(tally: Tally) -> dict[str, float]:
    found = tally.importances()
    return dict(zip(found.features, found.values, strict=True))
