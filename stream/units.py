"""Values of the configuration that have a way of writing of their own: durations, rates, learners by name.

Owns how they are read; refuses to know which settings there are.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, TypeAlias

import msgspec

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)\s*$")
PERIODS = {"day": 86_400.0, "week": 604_800.0, "month": 2_592_000.0, "year": 31_536_000.0}


class Duration(float):
    """Seconds, written as `90s`, `2h`, `7d` or a number of seconds."""

    @classmethod
    def read(cls, value: Any) -> Duration:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        match = _DURATION.match(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a duration; write 30s, 15m, 2h, 7d or 4w")
        return cls(float(match[1]) * _UNITS[match[2]])


class FalseAlarms(msgspec.Struct, frozen=True):
    """False alarms that a person accepts: `number` per `seconds` of event time, or per `events`."""

    number: float
    seconds: float | None = None
    events: float | None = None

    @classmethod
    def read(cls, value: Any) -> FalseAlarms:
        match = re.match(r"^\s*(\d+(?:\.\d+)?)\s+per\s+(\w+)(?:\s+events?)?\s*$", str(value))
        if match and float(match[1]) > 0:
            if match[2] in PERIODS:
                return cls(float(match[1]), seconds=PERIODS[match[2]])
            if re.fullmatch(r"[\d_]+", match[2]) and "event" in str(value) and int(match[2]) > 0:
                return cls(float(match[1]), events=float(match[2]))
        raise ValueError(f"{value!r} is not a rate; write '1 per month' or '1 per 1000000 events'")

    def __str__(self) -> str:
        if self.events:
            return f"{self.number:g} per {self.events:.0f} events"
        return f"{self.number:g} per {next(name for name, s in PERIODS.items() if s == self.seconds)}"


class LearnerSpec(NamedTuple):
    """A learner by name or class path, with its parameters: `experts`, `river.tree.HoeffdingTreeClassifier`, or
    `{river.forest.ARFClassifier: {n_models: 10, seed: 1}}`; `{pipeline: [...]}` composes several."""

    path: str
    parameters: dict[str, Any]

    @classmethod
    def read(cls, value: Any) -> LearnerSpec:
        if isinstance(value, str):
            return cls(value, {})
        if isinstance(value, dict) and len(value) == 1:
            path, parameters = next(iter(value.items()))
            if path == "pipeline" and isinstance(parameters, list):
                return cls(path, {"steps": parameters})
            if isinstance(path, str) and (parameters is None or isinstance(parameters, dict)):
                return cls(path, parameters or {})
        raise ValueError(f"{value!r} is not a learner; write a name, a class path, or {{class path: {{parameters}}}}")


DetectorSpec: TypeAlias = LearnerSpec
"""A detector is named the same way: `auto`, `counts`, `season`, `ADWIN`, or `{ADWIN: {delta: 0.002}}`."""
