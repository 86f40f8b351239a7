"""Copies of a model's learners at certain numbers of examples: the states that a model can go back to.

Owns when a copy is due and how many are kept. Refuses to know why one goes back (`stream.stages.course`). Copies are
due by what was learned alone, so a restored stage holds the same ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from stream.learning import CHAMPION
from stream.stages.roster import Roster

KEPT: Final = 3
"""Copies: the newest may be spoilt already when somebody notices."""

BYTES_PER_EXAMPLE: Final = 64
"""A copy is due every so many examples that it costs this many bytes for each of them, so that copying stays cheap
beside learning (the default champion, 115 kB: 2.3 ms to take one and 12 ms to make a learner of it), and never more
often than snapshots are published."""

BYTES_MAX: Final = 33_554_432
"""Of all copies of one model together; the oldest go first, and the newest stays."""


class Milestone(msgspec.Struct):
    """Learners by part as they were when `learned` examples had been learned, the last of them complete at `at`."""

    learned: int
    at: float
    learners: dict[str, bytes]

    def size(self) -> int:
        return sum(map(len, self.learners.values()))


class MilestonesState(msgspec.Struct):
    kept: list[Milestone] = []
    due: int = 0


class Milestones:
    """`every`: the fewest examples between two copies."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._state = MilestonesState(kept=[], due=every)

    def pass_by(self, learned: int, at: float, roster: Roster) -> dict[str, bytes]:
        """Take a copy if one is due; what was taken, by part."""
        state = self._state
        if learned < state.due:
            return {}
        taken = Milestone(learned, at, {part: pupil.remember() for part, pupil in roster.pupils.items()})
        kept = [*state.kept[1 - KEPT :], taken]
        while len(kept) > 1 and sum(one.size() for one in kept) > BYTES_MAX:
            kept.pop(0)
        self._state = MilestonesState(kept, learned + max(self._every, taken.size() // BYTES_PER_EXAMPLE))
        return taken.learners

    def before(self, at: float) -> Milestone | None:
        """The newest copy that has learned nothing complete at `at` or later."""
        return next((one for one in reversed(self._state.kept) if one.at < at), None)

    def newest(self) -> Milestone | None:
        return self._state.kept[-1] if self._state.kept else None

    def drop_after(self, milestone: Milestone, learned: int) -> None:
        """Forget the copies that are newer: the model has gone back to this one."""
        kept = [one for one in self._state.kept if one.learned <= milestone.learned]
        self._state = MilestonesState(kept, learned + self._every)

    def clear(self, learned: int) -> None:
        """The learners are others now; no copy fits them."""
        self._state = MilestonesState([], learned + self._every)

    def state(self) -> MilestonesState:
        return self._state

    def restore(self, state: MilestonesState, begun: Collection[str]) -> None:
        """No copy fits a part that begins anew; without the champion there is nothing to go back to."""
        kept = [Milestone(one.learned, one.at, {part: copy for part, copy in one.learners.items() if part not in begun})
                for one in state.kept if CHAMPION not in begun]  # fmt: skip
        self._state = MilestonesState(kept, state.due)

    def figures(self) -> dict[str, Any]:
        kept = self._state.kept
        return {"copies": len(kept), "bytes": sum(one.size() for one in kept)}
