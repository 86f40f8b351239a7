"""River's drift detectors by name, one for each stream that they are pointed at. Owns the loop over values.

They look at single values of single streams, in order, and know no budget: their false alarms are what their own
parameters make them (ADWIN's default: 0.6 a million rows on normal values, 532 on heavy-tailed ones). Without
`only` they look at the losses, or, where a group has none, at every stream of a kind that they understand.
"""

from __future__ import annotations

import bisect
import inspect
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from river import drift
from river.drift import binary

from detectors import plain, randomness
from detectors import state as states
from detectors.contract import Alarm, Bins, Rows, Stream

ANY_VALUES: Final[Mapping[str, type]] = {"ADWIN": drift.ADWIN, "PageHinkley": drift.PageHinkley, "KSWIN": drift.KSWIN}
ZERO_ONE: Final[Mapping[str, type]] = {
    "DDM": binary.DDM,
    "EDDM": binary.EDDM,
    "FHDDM": binary.FHDDM,
    "HDDM_A": binary.HDDMA,
    "HDDM_W": binary.HDDMW,
}
NAMES: Final = (*ANY_VALUES, *ZERO_ONE)
RANDOM: Final = ("KSWIN",)

INVERTED: Final = ("FHDDM",)
"""River 0.26 says that FHDDM's ones are errors, but its code, like the paper (Pesaranghader and Viktor 2016), alarms
when the share of ones *falls*: it is fed what is right, so that it alarms when errors rise."""

RECENT_VALUES = 1_024
"""Values and event times kept per stream, to say since when and which way."""

BEFORE_VALUES = 64
AFTER_VALUES = 30
"""Values before and after that 'up' and 'down' are told by, at least."""

VERSION = 1


class StreamState(msgspec.Struct):
    """One stream's detector as plain data; the recent values with their times, and when a warning began."""

    detector: Any
    recent: list[tuple[float, float]]
    warned_s: float | None


class RiverState(msgspec.Struct):
    name: str
    bins: list[Bins]
    streams: dict[int, StreamState]
    version: int = VERSION


class _Watched:
    """One stream and its detector at work."""

    def __init__(self, column: int, name: str, judge: str, detector: Any) -> None:
        self.column = column
        self.name = name
        self.judge = judge
        self.detector = detector
        self.recent: deque[tuple[float, float]] = deque(maxlen=RECENT_VALUES)
        self.warned_s: float | None = None

    def step(self, at_s: float, x: float) -> Alarm | None:
        self.recent.append((at_s, x))
        self.detector.update(1.0 - x if self.judge in INVERTED else x)
        drifted = self.detector.drift_detected
        if not drifted and not getattr(self.detector, "warning_detected", False):
            self.warned_s = None
        elif self.warned_s is None:
            self.warned_s = at_s
        if not drifted:
            return None
        alarm = self._alarm(at_s)
        self.warned_s = None
        return alarm

    def _alarm(self, at_s: float) -> Alarm:
        """Since: where ADWIN's window now begins, or the first of the warnings that led here."""
        times_s, values = zip(*self.recent, strict=True)
        start = bisect.bisect_left(times_s, at_s if self.warned_s is None else self.warned_s)
        if self.judge == "ADWIN":
            start = max(len(values) - max(int(self.detector.width), 1), 0)
        cut = max(min(start, len(values) - AFTER_VALUES), 0)
        before, after = values[:cut], values[cut:]
        now = float(np.mean(after))
        details = {"current": now, "rows": float(len(after))}
        what = "changed"
        if len(before) >= BEFORE_VALUES:
            was = float(np.mean(before))
            details |= {"reference": was, "effect": now - was}
            what = "level up" if now > was else "level down"
        return Alarm(
            stream=self.column, name=self.name, judge=self.judge, what=what, at_s=at_s, since_s=times_s[start],
            since_low_s=times_s[max(start - 1, 0)], since_high_s=at_s, evidence=1.0, details=details,
        )  # fmt: skip


class River:
    """One of River's detectors for each chosen stream.

    Raises ValueError where a parameter is not River's, a stream does not exist or is not 0/1 for a detector of 0/1
    values, or a random detector has no seed.
    """

    def __init__(
        self, name: str, streams: Sequence[Stream], seed: int, only: Sequence[str] | None, parameters: dict[str, Any]
    ) -> None:
        self.name = name
        self.streams = list(streams)
        if name in RANDOM and parameters.get("seed") is None:
            raise ValueError(f"{name} draws at random: give it a seed, as in {{{name}: {{seed: 1}}}}")
        self._bins: list[Bins] = []
        self._watched: dict[int, _Watched] = {}
        for j in _columns(name, self.streams, only):
            own = dict(parameters)
            if name in RANDOM:  # each stream its own numbers, all from the one seed
                own["seed"] = randomness.key(int(parameters["seed"]), seed, self.streams[j].name) % 2**32
            self._watched[j] = _Watched(j, self.streams[j].name, name, _made(name, own))

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Show the detectors the reference; what they say of it is not passed on."""
        self._bins = list(bins)
        self.update(reference)

    def update(self, rows: Rows) -> list[Alarm]:
        """Alarms in the order of rows; missing values are passed over."""
        found: list[tuple[int, Alarm]] = []
        times_s = rows.time_s.tolist()
        zero_one = self.name in ZERO_ONE
        for j, watched in self._watched.items():
            for i, value in enumerate(rows.values[:, j].tolist()):
                if math.isfinite(value) and math.isfinite(times_s[i]):
                    alarm = watched.step(times_s[i], float(value > 0.5) if zero_one else value)
                    if alarm is not None:
                        found.append((i, alarm))
        return [alarm for _, alarm in sorted(found, key=lambda item: (item[0], item[1].stream))]

    def snapshot(self) -> bytes:
        """The whole state: River's objects as plain data."""
        own = {j: StreamState(plain.freeze(w.detector), list(w.recent), w.warned_s) for j, w in self._watched.items()}
        return states.pack(RiverState(self.name, self._bins, own))

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is. Raises ValueError where it is of another name or streams."""
        found = states.unpack(RiverState, VERSION, state)
        if found.name != self.name or found.streams.keys() != self._watched.keys():
            raise ValueError(
                f"the state is of {found.name} on streams {sorted(found.streams)}, not of this {self.name}"
            )
        self._bins = found.bins
        for j, own in found.streams.items():
            watched = self._watched[j]
            watched.detector = plain.thaw(own.detector)
            watched.recent = deque(own.recent, RECENT_VALUES)
            watched.warned_s = own.warned_s

    def status(self) -> str:
        """What is watched."""
        return f"{self.name} watching {', '.join(watched.name for watched in self._watched.values())}"


def make(name: str, parameters: Mapping[str, Any], streams: Sequence[Stream], seed: int) -> River:
    """The detector of this name; `only` among the parameters names the streams, the others are River's."""
    own = {parameter: value for parameter, value in parameters.items() if parameter != "only"}
    return River(name, streams, seed, parameters.get("only"), own)


def _columns(name: str, streams: Sequence[Stream], only: Sequence[str] | None) -> list[int]:
    """Which streams: the chosen ones, or the losses, or all that the detector understands."""
    kinds = ("rate", "loss") if name in ZERO_ONE else ("numeric", "rate", "loss")
    known = {stream.name: j for j, stream in enumerate(streams) if stream.kind in kinds}
    if only is not None:
        unknown = [stream for stream in only if stream not in known]
        if unknown:
            raise ValueError(f"{name} cannot watch {', '.join(unknown)}; it can watch {', '.join(known) or 'nothing'}")
        return sorted(known[stream] for stream in only)
    losses = [j for j, stream in enumerate(streams) if stream.kind == "loss"]
    if not losses and not known:
        raise ValueError(f"{name} needs a stream of kind {' or '.join(kinds)}")
    return losses or sorted(known.values())


def _made(name: str, parameters: Mapping[str, Any]) -> Any:
    kind = {**ANY_VALUES, **ZERO_ONE}[name]
    known = [parameter for parameter in inspect.signature(kind).parameters if parameter != "window"]
    unknown = [parameter for parameter in parameters if parameter not in known]
    if unknown:
        raise ValueError(f"{name} has no parameter {', '.join(unknown)}; it has {', '.join(known)}, and only")
    return kind(**parameters)
