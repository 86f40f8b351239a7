"""Other detectors behind one face: `update(x)` and `drift_detected`, as River has it.

Owns how peers are made and which one parameter an oracle may tune; refuses to know what streams they see. Frouros is
optional: it pins a NumPy older than River 0.26 needs, though it works with newer ones, so `make bench-detection` puts
it into a folder of its own, without its pins; where it is missing, its rows are left out and that is said.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from river import drift
from river.drift import binary

FROUROS_MISSING = "Frouros is not installed here (make bench-detection installs it); its rows are left out"


class OneByOne(Protocol):
    drift_detected: bool

    def update(self, x: Any) -> object: ...


class Peer(NamedTuple):
    """One detector and its parameter: alarms get more frequent from `strict` to `loose`; `default` is the library's."""

    name: str
    make: Callable[[float], OneByOne]
    strict: float
    loose: float
    default: float
    slow: bool = False


def alarms(detector: OneByOne, values: Iterable[float], first_only: bool = False) -> list[int]:
    """Positions at which it alarms; a detector that raises has ended."""
    found = []
    for i, x in enumerate(values):
        detector.update(x)
        if detector.drift_detected:
            found.append(i)
            if first_only:
                break
    return found


ADWIN = Peer("ADWIN (River)", lambda delta: drift.ADWIN(delta=delta), 1e-12, 1.0, 0.002)

RIVER = (
    ADWIN,
    Peer("DDM (River)", lambda level: binary.DDM(drift_threshold=level), 8.0, 1.5, 3.0),
    Peer("EDDM (River)", lambda beta: binary.EDDM(alpha=max(0.95, beta), beta=beta), 0.3, 0.99, 0.9),
    Peer(
        "HDDM_A (River)",
        lambda sure: binary.HDDMA(drift_confidence=sure, warning_confidence=max(sure, 0.005)), 1e-9, 0.2, 0.001, True,
    ),
    Peer(
        "HDDM_W (River)",
        lambda sure: binary.HDDMW(drift_confidence=sure, warning_confidence=max(sure, 0.005), lambda_val=0.02),
        1e-9, 0.2, 0.001, True,
    ),
    Peer("PageHinkley (River)", lambda level: drift.PageHinkley(threshold=level, mode="up"), 1000.0, 5.0, 50.0),
)  # fmt: skip
"""HDDM_W with lambda 0.02: of the values tried in COUNTS.md 4.3 it is the quickest at 0.10 -> 0.12."""


class Reset:
    """A Frouros detector, which keeps its alarm until it is reset."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.drift_detected = False

    def update(self, x: float) -> None:
        self.inner.update(value=x)
        self.drift_detected = bool(self.inner.drift)
        if self.drift_detected:
            self.inner.reset()


def frouros() -> tuple[Peer, ...]:
    """Frouros' detectors of 0/1 errors, none where it is not installed."""
    if importlib.util.find_spec("frouros") is None:
        return ()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from frouros.detectors import concept_drift as cd

    def made(kind: str, **fixed: Any) -> Callable[[str], Callable[[float], OneByOne]]:
        def of(parameter: str) -> Callable[[float], OneByOne]:
            def make(value: float) -> OneByOne:
                config = getattr(cd, f"{kind}Config")(**{parameter: value}, **fixed)
                return Reset(getattr(cd, kind)(config=config))

            return make

        return of

    return (
        Peer("ADWIN (Frouros)", made("ADWIN")("delta"), 1e-12, 1.0, 0.002, True),
        Peer("DDM (Frouros)", made("DDM", warning_level=1.4)("drift_level"), 8.0, 1.5, 3.0, True),
        Peer("EDDM (Frouros)", made("EDDM", alpha=0.995)("beta"), 0.3, 0.99, 0.9, True),
        Peer("HDDM_A (Frouros)", made("HDDMA", alpha_w=0.25)("alpha_d"), 1e-9, 0.2, 0.001, True),
        Peer("HDDM_W (Frouros)", made("HDDMW", alpha_w=0.25, lambda_=0.02)("alpha_d"), 1e-9, 0.2, 0.001, True),
        Peer("PageHinkley (Frouros)", made("PageHinkley")("lambda_"), 1000.0, 5.0, 50.0, True),
    )


def page_hinkley() -> OneByOne:
    """River's, as it comes: watches both directions."""
    made: OneByOne = drift.PageHinkley()
    return made


def kswin(seed: int) -> OneByOne:
    """River's, as it comes; it draws at random, so it has a seed."""
    made: OneByOne = drift.KSWIN(seed=seed)
    return made


def frouros_of_values() -> list[tuple[str, Callable[[], OneByOne]]]:
    """Frouros' detectors of any values, as they come."""
    if importlib.util.find_spec("frouros") is None:
        return []
    from frouros.detectors import concept_drift as cd

    return [("ADWIN", lambda: Reset(cd.ADWIN())), ("PageHinkley", lambda: Reset(cd.PageHinkley()))]
