"""What the learn stage tells of a model: signed snapshots with their lineage, and who answers from now on.

Owns how learners become events. Refuses to know when that is due (`stream.stages.course`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from learners import snapshots
from stream.contract import DECISIONS, SNAPSHOTS, Output
from stream.events import Decision, ModelSnapshot
from stream.learning import CHAMPION
from stream.stages.pupil import Pupil
from stream.stages.roster import Roster

ENVELOPE_BYTES_MAX: Final = 8_388_608
"""A larger snapshot is not published, and counted: no broker would take it."""


class Signing(NamedTuple):
    """What snapshots are signed with, and the configuration that they come from."""

    key: bytes
    key_id: str
    config_hash: str


class Span(NamedTuple):
    """When the examples were complete that a model has learned: the first and the last, epoch seconds."""

    first_at: float | None
    last_at: float | None


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def publish(
    model: str, roster: Roster, copies: Mapping[str, bytes], span: Span, at: float, signing: Signing, out: list[Output]
) -> int:
    """A snapshot of every learner, from those copies that have just been taken; how many were too large."""
    too_large = 0
    for part, pupil in roster.pupils.items():
        copy = copies.get(part) or pupil.remember()
        event = snapshot(model, str(roster.version), pupil, copy, span, at, signing)
        if event is None:
            too_large += 1
        else:
            out.append(Output(SNAPSHOTS, f"{model}/{part}", event))
    return too_large


def snapshot(
    model: str, version: str, pupil: Pupil, copy: bytes, span: Span, at: float, signing: Signing
) -> ModelSnapshot | None:
    """The learner, of which this is a copy, in its envelope; None if it is too large."""
    lineage: dict[str, Any] = {
        "parent": pupil.kept.published,
        "origin": pupil.origin,
        "from": None if span.first_at is None else moment(span.first_at),
        "to": None if span.last_at is None else moment(span.last_at),
        "config": signing.config_hash,
        "metrics": pupil.kept.metrics.values(),
    }
    header = pupil.header(model, version, lineage)
    envelope = snapshots.seal(header, copy, signing.key, signing.key_id)
    if len(envelope) > ENVELOPE_BYTES_MAX:
        return None
    pupil.kept.published = f"{version}@{pupil.learner.updates}"
    pupil.kept.snapshots += 1
    return ModelSnapshot(
        model=model,
        learner=pupil.name,
        version=version,
        updates=pupil.learner.updates,
        at=moment(at),
        envelope=envelope,
        lineage=lineage,
    )


class Decisions:
    """What the engine changed and why, numbered. `told` counts them, and is the state."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.told = 0

    def tell(
        self,
        out: list[Output],
        action: str,
        at: float,
        cause: str | None,
        why: dict[str, Any],
        before: dict[str, Any],
        after: dict[str, Any],
        learner: str = CHAMPION,
    ) -> None:
        self.told += 1
        decision = Decision(
            decision_id=f"{self._model}-learn-{self.told}",
            model=self._model,
            action=action,
            at=moment(at),
            learner=learner,
            why=why,
            before=before,
            after=after,
            causation_id=cause,
        )
        out.append(Output(DECISIONS, self._model, decision))
