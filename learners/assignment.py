"""Who is served by which arm: a keyed hash of the unit, so that anybody can say it again without asking.

Own the choice and its propensity. Refuse to know models, events and why the shares are what they are. Nothing is
remembered: the arm is a function of the routing and the key, the same in any process.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
import xxhash

from learners.contract import SnapshotError

ARMS_MAX: Final = 16
"""An assignment hashes once an arm, and an allocation compares every two; more versions than this are no experiment."""

TOLERANCE: Final = 1e-9
"""Shares written as decimals need not sum to 1 to the last bit."""

HALF: Final = 0.5
"""Keeps a hash off zero, whose logarithm is infinite."""


class Assigned(NamedTuple):
    """The arm that serves, and the probability with which it was chosen: what the prediction has to carry."""

    arm: str
    propensity: float


class Holdout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the units that `arm` always serves, whatever the routing. Its seed must never change: then the same
    units stay apart from everything that the experiments do."""

    arm: str
    share: float
    seed: int


class Routing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of the traffic by arm. `number` tells one routing from the next; `seed` stays while an experiment lasts.

    `unit`: the tag whose value is the key, so that one person always meets the same arm; empty: each prediction is its
    own. `exploration`: the share that is spread evenly over the arms, on top of their own. Raises ValueError with every
    fault together.
    """

    number: int
    seed: int
    arms: tuple[tuple[str, float], ...]
    unit: str = ""
    exploration: float = 0.0
    holdout: Holdout | None = None

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise ValueError(f"routing {self.number}: {'; '.join(faults)}")


def propensities(routing: Routing) -> dict[str, float]:
    """The probability of each arm over all keys: holdout, exploration and shares together; sums to 1.

    >>> routing = Routing(number=1, seed=7, arms=(("champion", 0.9), ("canary", 0.1)), exploration=0.2)
    >>> {arm: round(p, 3) for arm, p in propensities(routing).items()}
    {'champion': 0.82, 'canary': 0.18}
    """
    spread = routing.exploration / len(routing.arms)
    inside = {arm: (1.0 - routing.exploration) * share + spread for arm, share in routing.arms}
    held = routing.holdout
    if held is None:
        return inside
    out = {arm: (1.0 - held.share) * p for arm, p in inside.items()}
    out[held.arm] = out.get(held.arm, 0.0) + held.share
    return out


def assign(routing: Routing, key: str) -> Assigned:
    """The arm of this key: the first of exponential clocks that run as fast as the shares are large.

    One number against cumulated shares would serve two arms as well; with three, a share that grows pushes the keys of
    its neighbours on. Here a key leaves an arm only for one whose share has grown by a larger factor, so a canary keeps
    its keys as the ramp grows, and no rule without memory moves fewer keys (Moulton and Jiang 2018, "Maximally
    consistent sampling"; as rendezvous hashing: Thaler and Ravishankar 1998).
    """
    if is_held_out(routing, key):
        assert routing.holdout is not None
        return Assigned(routing.holdout.arm, propensities(routing)[routing.holdout.arm])
    spread = routing.exploration / len(routing.arms)
    first, chosen = math.inf, ""
    for arm, share in routing.arms:
        speed = (1.0 - routing.exploration) * share + spread
        if speed > 0.0:
            rings = -math.log(_uniform(routing.seed, f"arm/{len(arm)}:{arm}/{key}")) / speed
            if rings < first:
                first, chosen = rings, arm
    return Assigned(chosen, propensities(routing)[chosen])


def is_held_out(routing: Routing, key: str) -> bool:
    """Whether the key belongs to the holdout: by its own seed, so no routing changes who does."""
    held = routing.holdout
    return held is not None and _uniform(held.seed, f"holdout/{key}") < held.share


def key_of(routing: Routing, prediction_id: str, tags: Mapping[str, Any]) -> str:
    """The key to assign by: the value of the unit's tag, or the prediction's id where there is none."""
    value = tags.get(routing.unit) if routing.unit else None
    return prediction_id if value is None else str(value)


def rerouted(routing: Routing, shares: Mapping[str, float]) -> Routing:
    """The next routing, with these shares; seeds, unit, exploration and holdout stay. Raises ValueError."""
    return msgspec.structs.replace(routing, number=routing.number + 1, arms=tuple(shares.items()))


def encode(routing: Routing) -> bytes:
    return msgspec.msgpack.encode(routing)


def decode(state: bytes) -> Routing:
    """The inverse of `encode`, validated again. Raises SnapshotError."""
    try:
        return msgspec.msgpack.decode(state, type=Routing)
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotError(f"not a routing: {error}") from error


def _uniform(seed: int, text: str) -> float:
    """In (0, 1]."""
    word = xxhash.xxh3_64_intdigest(text.encode(), seed=seed & 0xFFFFFFFFFFFFFFFF)
    return (word + HALF) * 2.0**-64


def _faults(routing: Routing) -> list[str]:
    names = [arm for arm, _ in routing.arms]
    found = []
    if not 1 <= len(names) <= ARMS_MAX:
        found.append(f"has {len(names)} arms; give 1 to {ARMS_MAX}")
    if len(set(names)) < len(names) or not all(names):
        found.append(f"arms {names} must have names, each its own")
    bad = {arm: share for arm, share in routing.arms if not 0.0 <= share <= 1.0}
    if bad:
        found.append(f"shares must lie in [0, 1]: {bad}")
    elif abs(math.fsum(share for _, share in routing.arms) - 1.0) > TOLERANCE:
        found.append(f"shares sum to {math.fsum(share for _, share in routing.arms)}; make them sum to 1")
    if not 0.0 <= routing.exploration <= 1.0:
        found.append(f"exploration is {routing.exploration}; give a share in [0, 1]")
    held = routing.holdout
    if held is not None and not (0.0 <= held.share < 1.0 and held.arm):
        found.append(f"holdout {held.share} of {held.arm!r}: give a share in [0, 1) and an arm")
    return found
