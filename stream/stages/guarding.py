"""What guards the champion of one model: checks before an update is served, and a watch over it while it serves (F34).

Owns the good copy that one can go back to, and which examples are compared. Refuses to know what the checks are
(`learners.guard`, `learners.probation`) and what a finding does to learning (`stream.stages.course`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from learners.contract import Learner, Said
from learners.guard import Answered, Candidate, Finding, Verdict, examine, loss
from learners.plans import GuardPlan
from learners.policies import Item
from learners.probation import Watchman
from stream.config import Model
from stream.events import Example
from stream.stages.milestones import BYTES_PER_EXAMPLE
from stream.stages.pupil import Pupil

SAMPLE_EVERY: Final = 6
"""One example in so many is also answered by the good copy: answering is up to half of what an example costs, and the
whole guard is to stay below a tenth."""

ANSWERS_MAX: Final = 500
"""Compared answers that are kept for the next check, the newest."""

HELD_OUT_EVERY: Final = 10
"""One example in so many of a batch is kept back, to compare the model after the batch with the one before."""

HELD_OUT_MIN: Final = 300
"""Smaller batches are learned whole: thirty examples are the fewest that the checks take for evidence."""

STRIKES_MAX: Final = 2
"""Updates that fail one after the other; then learning rests for a while, or until a person resumes it."""

REST_EXAMPLES: Final = 1_000
"""Examples that are not learned then: long enough for a burst of bad labels to pass, and short enough for a model that
only met a world that comes and goes."""


class Failed(NamedTuple):
    """What a check or the watch has found against the champion."""

    findings: list[Finding]
    how: str

    def evidence(self) -> dict[str, Any]:
        return {finding.check: finding.words for finding in self.findings}


class GuardState(msgspec.Struct):
    """`good`: the last champion that has passed; `serving`: the one that was published with a copy last, which becomes
    the good one if nothing is found against it. `answers`: sampled examples since the last publication, of the present
    champion and the good one."""

    watchman: bytes = b""
    good: bytes | None = None
    serving: bytes | None = None
    answers: list[Answered] = []
    seen: int = 0
    since_at: float | None = None
    since_updates: int = 0
    strikes: int = 0
    rested: int = 0
    next_copy: int = 0
    """Updates of the champion from which on it is copied again: copying is to stay cheap beside learning."""
    labels: int = 0
    mean: float = 0.0
    variance: float = 0.0
    """Regression: of the labels so far (Welford 1962), in which errors are measured."""


class Guard:
    """Of one model's champion. Without a plan nothing is checked."""

    def __init__(self, model: Model, plan: GuardPlan | None, publish: int) -> None:
        self._model = model
        labels = max(publish // SAMPLE_EVERY - 1, 1)
        self._plan = plan and msgspec.structs.replace(plan, probation_labels=min(plan.probation_labels, labels))
        self._state = GuardState(answers=[])
        self._watchman = Watchman(self._plan)
        self._good: Learner | None = None

    @property
    def is_on(self) -> bool:
        return self._plan is not None

    def watch(self, example: Example, item: Item, champion: Pupil, now: Said | None) -> Failed | None:
        """Compare what the champion says of an example, before it learns it, with what the good copy says; what was
        found against it. `now` is the champion's answer, where somebody has just asked it."""
        state = self._state
        if self._plan is None:
            return None
        state.seen += 1
        if self._model.task == "regression":
            self._spread(float(item.y))
        if state.seen % SAMPLE_EVERY or self._good is None:
            return None
        # Not what was said when it was asked: where labels are late the good copy has learned since then.
        now, good = now or answer_of(champion.learner, item), answer_of(self._good, item)
        if now is None or good is None:
            return None
        state.answers.append(Answered(item.y, now, good, self._group(example), self._slices(example)))
        del state.answers[:-ANSWERS_MAX]
        losses = (loss(each, item.y, self._model.task, state.variance) for each in (now, good))
        finding = self._watchman.take(*losses)
        if finding is None:
            return None
        if finding.holds:
            self._passed(champion)
            return None
        return Failed([finding], "worse than the last good one while it served")

    def _spread(self, y: float) -> None:
        state = self._state
        state.labels += 1
        before = state.mean
        state.mean += (y - before) / state.labels
        state.variance += ((y - before) * (y - state.mean) - state.variance) / state.labels

    def _passed(self, champion: Pupil) -> None:
        """What was published last is the good one now."""
        self._state.strikes = 0
        if self._state.serving is not None:
            self._keep_good(self._state.serving, champion)

    def publishable(self, champion: Pupil, copy: bytes | None, at: float) -> Failed | None:
        """Examine the champion before it is published; None if it may be, and then its probation begins. `copy` is the
        champion as it stands, where somebody has just taken one."""
        if self._plan is None:
            return None
        state = self._state
        if self._good is None or champion.learner.updates >= state.next_copy:
            copy = copy or champion.remember()
            state.next_copy = champion.learner.updates + len(copy) // BYTES_PER_EXAMPLE
        else:
            copy = state.serving or state.good  # a large model: if this one passes, the one copied last is the good one
            assert copy is not None
        if self._good is None:
            self._keep_good(copy, champion)
        verdict = self._examine(state.answers, len(copy), champion, at)
        state.answers, state.since_at, state.since_updates = [], at, champion.learner.updates
        return self._judged(verdict, copy, at)

    def compare(self, champion: Pupil, before: bytes, held: Sequence[Item], at: float) -> Failed | None:
        """Examine a champion that has learned a batch, by examples that it has not; `before` is what it was."""
        if self._plan is None:
            return None
        self._keep_good(before, champion)
        assert self._good is not None
        said = [(one.y, answer_of(champion.learner, one), answer_of(self._good, one)) for one in held]
        answers = [Answered(y, now, good) for y, now, good in said if now is not None and good is not None]
        copy = champion.remember()
        self._state.answers = []
        return self._judged(self._examine(answers, len(copy), champion, at), copy, at)

    def _examine(self, answers: Sequence[Answered], size: int, champion: Pupil, at: float) -> Verdict:
        state = self._state
        assert self._plan is not None
        candidate = Candidate(
            task=self._model.task,
            answers=answers,
            size_bytes=size,
            updates=champion.learner.updates - state.since_updates,
            seconds=0.0 if state.since_at is None else at - state.since_at,
            variance=state.variance,
        )
        return examine(self._plan, candidate)

    def _judged(self, verdict: Verdict, copy: bytes, at: float) -> Failed | None:
        if self._watchman.judge(verdict, at):
            self._state.serving = copy
            return None
        return Failed(verdict.broken, "refused before it was served")

    def go_back(self, champion: Pupil) -> bool:
        """Let the champion be the good copy again; False where there is none. Counts a strike."""
        state = self._state
        state.strikes += 1
        state.serving, state.answers, state.next_copy = state.good, [], 0
        if state.good is None:
            return False
        champion.go_back(state.good)
        return True

    @property
    def must_rest(self) -> bool:
        """Whether one update after the other has failed."""
        return self._state.strikes >= STRIKES_MAX

    def rest(self) -> bool:
        """One more example passes unlearned; whether it was the last."""
        self._state.rested += 1
        return self._state.rested >= REST_EXAMPLES

    def forgive(self) -> None:
        """The rest is over, or a person has looked."""
        self._state.strikes = self._state.rested = 0

    def begin(self) -> None:
        """The champion is another one: nothing is known of it."""
        self._state = GuardState(answers=[])
        self._watchman = Watchman(self._plan)
        self._good = None

    def _keep_good(self, copy: bytes, champion: Pupil) -> None:
        if self._good is None:
            self._good = champion.twin(copy)
        elif self._state.good != copy:
            self._good.restore(copy)
        self._state.good = copy

    def _group(self, example: Example) -> str | None:
        fairness = self._model.fairness
        return None if fairness is None else _cell(example, fairness.groups[0])

    def _slices(self, example: Example) -> tuple[str, ...]:
        return tuple(_cell(example, each) for each in self._model.slices)

    def state(self) -> GuardState:
        return msgspec.structs.replace(self._state, watchman=self._watchman.snapshot())

    def restore(self, state: GuardState, champion: Pupil) -> None:
        """Raises SnapshotError."""
        if self._plan is None:
            return
        self._state = msgspec.structs.replace(state, watchman=b"")
        self._watchman.restore(state.watchman)
        self._good = None if state.good is None else champion.twin(state.good)

    def figures(self) -> dict[str, Any]:
        return {} if self._plan is None else self._watchman.figures() | {"strikes": self._state.strikes}


def answer_of(learner: Learner, item: Item) -> Said | None:
    """None where it has none: that is counted where the champion is judged."""
    try:
        return learner.predict(item.x)
    except Exception:  # a model of any kind stands behind this
        return None


def _cell(example: Example, columns: str | list[str]) -> str:
    """The slice that an example is in, as text."""
    said = example.prediction
    names = [columns] if isinstance(columns, str) else columns
    return ", ".join(f"{name}={said.features.get(name, said.tags.get(name))}" for name in names)
