"""Whether the state of one model's learning fits the configuration it goes on under (F54).

Owns on which settings the state of each part rests, and how a buffer is filled from one of another kind. A part whose
settings are others begins anew, and the learners go on. Refuses to know which of the learners are configured still
(`stream.stages.roster`) and what those who serve are told (`stream.stages.steering`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from learners import replay
from learners.buffers import Buffer
from learners.policies import decode, encode
from stream import codec
from stream.config import Model
from stream.stages.guarding import answer_of
from stream.stages.pupil import Pupil


def made_for(model: Model) -> dict[str, str]:
    """The settings that the state of each part rests on, as text. `task` stands for the learners and all that knows
    their answers."""
    assert model.learn is not None
    learn = model.learn
    trial, bandit, freshness = learn.trial, learn.bandit, learn.freshness
    rests: dict[str, Any] = {
        "task": [model.task, str(model.positive)],
        # Outcomes are weighed by the smallest share of the ramp.
        "trials": trial and [trial.metrics, trial.outcome and [trial.outcome, trial.ramp]],
        "traffic": [bandit.reward, bandit.settings.rewards] if bandit else [None, "unit"],
        "freshness": freshness and [freshness.ages, freshness.every],
    }
    texts = {part: codec.canonical(_plain(settings)).decode() for part, settings in rests.items()}
    return {**texts, "buffer": learn.buffer.kind}


def identity(model: Model) -> str:
    """Of all settings of learning together: another one is looked at once (`Steering.settle`)."""
    return codec.digest(codec.canonical(_plain(model.learn)))


def _plain(settings: Any) -> Any:
    return msgspec.to_builtins(settings, enc_hook=_number_or_list)


def _number_or_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else float(value)


def refill(buffer: Buffer, kind: str, state: bytes, model: Model, champion: Pupil) -> None:
    """Show an empty buffer what one of another kind held, in the order of time; where it asks for losses, those of the
    champion as it stands. Raises SnapshotError."""
    assert model.learn is not None
    old = replay.make(kind, model.learn.buffer.bytes, model.learn.seed, model.task)
    old.restore(state)
    # A twin answers, for with some models an answer leaves a trace.
    asked = champion.twin(champion.remember()) if buffer.asks_loss else None
    for item in sorted(map(decode, old.items), key=lambda item: item.at):
        said = None if asked is None else answer_of(asked, item)
        buffer.add(encode(item), item.y, None if said is None else replay.loss(model.task, said, item.y))
