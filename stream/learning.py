"""Settings of learning: what learns, when, from what, and what guards it (`learn` of a model).

Owns their shapes and defaults; refuses to know what a learner is.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from stream import limits
from stream.units import Duration, LearnerSpec


class Buffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["reservoir"] = "reservoir"
    bytes: int = limits.REPLAY_BYTES
    replay: int = 0
    """Examples drawn from the buffer and learned again with every new one."""


class Learn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: Literal["off", "manual", "scheduled", "triggered", "online"] = "online"
    champion: LearnerSpec = LearnerSpec("experts", {})
    challengers: dict[str, LearnerSpec] = {}
    every: Duration = Duration(86_400.0)
    """Scheduled policy: event time between updates from the buffer."""
    buffer: Buffer = Buffer()
    publish: int = 500
    """Examples learned between two published snapshots."""
    seed: int = 1
    pause_on_data_quality: bool = True
