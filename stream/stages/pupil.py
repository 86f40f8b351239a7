"""One learner of a model, with what is known of it: its prequential metrics, and a way back from a failed update.

Owns that a learner is never left half-updated. Refuses to know when to learn (`stream.stages.course`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from learners import registry, snapshots
from learners.contract import Learner, Said
from learners.metrics import Metrics, Task
from learners.policies import Item
from stream.units import LearnerSpec

UNDO_MIN: Final = 4_000
UNDO_MAX: Final = 10_000
UNDO_BYTES: Final = 128
"""A copy of a learner is taken every so many examples, from which they are learned again to come back from one that
fails: one for every 128 bytes of the copy, so that copying stays cheap beside learning (every 1,000 examples it took
60 us of the 580 us that a flight costs with a tree and the experts)."""


class PupilKept(msgspec.Struct):
    """`origin` is the entry of the configuration that the learner comes from, `since` the model's version from which on
    it plays its part; `faults` counts examples that this learner alone could not answer or learn."""

    metrics: Metrics
    origin: str
    since: int = 0
    seen: int = 0
    faults: int = 0
    leaks: int = 0
    snapshots: int = 0
    published: str | None = None


class PupilState(msgspec.Struct):
    path: str
    parameters: dict[str, Any]
    learner: bytes
    kept: PupilKept


class Pupil:
    """A learner that plays a part under a name. A failed update is undone: back to the last copy, and forward again to
    just before the example that failed. Learners are deterministic, so that is the state in which it began, and which
    copy it started from cannot be told."""

    def __init__(self, name: str, origin: str, spec: LearnerSpec, task: Task, seed: int) -> None:
        self.name = name
        self._spec = spec
        self._task: Task = task
        self._seed = seed
        self.kept = PupilKept(metrics=Metrics(task), origin=origin)
        self.learner: Learner = self._made()
        self._since: list[Item] = []
        self._copy = b""
        self.remember()

    def _made(self) -> Learner:
        return registry.make(self._spec.path, self._spec.parameters, self._task, self._seed)

    @property
    def origin(self) -> str:
        return self.kept.origin

    def play(self, part: str, version: int) -> None:
        """Take a part from this version on."""
        self.name, self.kept.since = part, version

    def judge(self, item: Item, said: Said | None, is_typical: bool = True) -> Said | None:
        """The prequential score: what it said of the example when it was asked, or, if it was not, what it says now,
        before it learns it. None if it has no answer. Metrics count typical examples only."""
        self.kept.seen += 1
        try:
            answer = said or self.learner.predict(item.x)
            if is_typical:
                self.kept.metrics.take(answer, item.y)
        except Exception:  # a model of any kind stands behind this; learning the example will say what is wrong
            self.kept.faults += 1
            return None
        return answer

    def learn(self, item: Item) -> str | None:
        """Take one example in; on failure undo it, and return the reason."""
        if len(self._since) >= self._since_max:
            self.remember()
        try:
            self.learner.learn(item.x, item.y, item.weight, item.lag)
        except Exception as error:
            self.kept.faults += 1
            self._undo()
            return f"{self.name} cannot learn it: {type(error).__name__}: {error}"
        self._since.append(item)
        return None

    def _undo(self) -> None:
        self.learner.restore(self._copy)
        for item in self._since:
            self.learner.learn(item.x, item.y, item.weight, item.lag)
        self.remember()  # the next failure will not have to go as far

    def remember(self) -> bytes:
        """A copy of the learner as it stands; never an earlier one, for with some models an answer leaves a trace."""
        self._copy = self.learner.snapshot()
        # It goes on as its own copy: what was pickled is slower afterwards (see `learners.state`), what comes back not.
        self.learner.restore(self._copy)
        self._begin()
        return self._copy

    def _begin(self) -> None:
        """The learner stands where the copy does."""
        self._since.clear()
        self._since_max = min(max(len(self._copy) // UNDO_BYTES, UNDO_MIN), UNDO_MAX)

    def go_back(self, state: bytes) -> None:
        """Be what an earlier snapshot was."""
        self.learner.restore(state)
        self._copy = state
        self._begin()

    def twin(self, state: bytes) -> Learner:
        """Another learner like this one, as it was at a snapshot."""
        made = self._made()
        made.restore(state)
        return made

    def start_over(self) -> None:
        self.learner = self._made()
        self.remember()

    def header(self, model: str, version: str, lineage: dict[str, Any]) -> snapshots.Header:
        return snapshots.Header(
            model=model,
            learner=self.name,
            version=version,
            updates=self.learner.updates,
            path=self._spec.path,
            parameters=self._spec.parameters,
            task=self._task,
            seed=self._seed,
            lineage=lineage,
        )

    def state(self) -> PupilState:
        return PupilState(self._spec.path, self._spec.parameters, self.remember(), self.kept)

    def restore(self, state: PupilState) -> None:
        """Raises SnapshotError."""
        self.go_back(state.learner)
        self.kept = state.kept

    def figures(self, version: str) -> dict[str, Any]:
        kept = self.kept
        return {
            "origin": kept.origin,
            "version": version,
            "updates": self.learner.updates,
            "seen": kept.seen,
            "metrics": kept.metrics.values(),
            "faults": kept.faults,
            "leaks": kept.leaks,
            "snapshots": kept.snapshots,
        }
