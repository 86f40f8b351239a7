"""Which faults happen, in which order and to whom, drawn from one seed. Refuses to know how a fault is done."""

from __future__ import annotations

import random
from typing import Final, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["kill", "recovery", "zombie", "broker", "stop", "join"]

KILLS_PER_RECOVERY: Final = 5
"""One in so many kills meets a worker that is restoring what another one, killed just before, has left."""

FROZEN_S_MAX: Final = 4.0
"""For how long a frozen worker stays so after others have taken over what it had."""

DARK_S_MAX: Final = 6.0
"""For how long a killed broker stays away."""


class Counts(NamedTuple):
    """How many of each; `kills` are kill -9, those during recovery among them."""

    kills: int
    zombies: int
    brokers: int
    stops: int
    joins: int

    def share(self, of: int, parts: int) -> Counts:
        """What the run number `of` gets, where `parts` runs do it together."""
        return Counts(*(n // parts + (of < n % parts) for n in self))


class Fault(NamedTuple):
    """`kill`: a worker by -9. `recovery`: a worker by -9, and another while it restores what the first has left.
    `zombie`: a worker is frozen until it has lost its session, and comes back. `broker`: the broker by -9, and again.
    `stop`: a worker in order. `join`: one more worker, and a while later one less.

    `whom` is a draw that picks a worker, `length_s` how long a frozen worker or a killed broker stays so (beyond what
    the fault needs), `pause_s` how long all is left in peace before.
    """

    kind: Kind
    whom: float
    length_s: float
    pause_s: float


def plan(seed: int, counts: Counts, between_s: float) -> list[Fault]:
    """All faults of a run in their order, up to `between_s` apart (a quarter of them with no pause at all).

    >>> [fault.kind for fault in plan(1, Counts(3, 1, 1, 0, 0), 5.0)]
    ['zombie', 'broker', 'kill', 'recovery']
    """
    chance = random.Random(f"faults {seed}")
    recoveries = -(-counts.kills // KILLS_PER_RECOVERY) if counts.kills > 1 else 0
    number: dict[Kind, int] = {
        "kill": counts.kills - 2 * recoveries,
        "recovery": recoveries,
        "zombie": counts.zombies,
        "broker": counts.brokers,
        "stop": counts.stops,
        "join": counts.joins,
    }
    kinds = [kind for kind, n in number.items() for _ in range(n)]
    chance.shuffle(kinds)
    return [_drawn(kind, chance, between_s) for kind in kinds]


def _drawn(kind: Kind, chance: random.Random, between_s: float) -> Fault:
    length = {"zombie": FROZEN_S_MAX, "broker": DARK_S_MAX, "join": between_s}.get(kind, 0.0)
    pause = 0.0 if chance.random() < 0.25 else chance.uniform(0.0, between_s)
    return Fault(kind, chance.random(), chance.uniform(0.0, length), pause)
