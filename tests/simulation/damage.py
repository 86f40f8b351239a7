"""Damage to what is stored: whole states that are spoiled, torn or stale, and inputs deleted before they were read.

Damage is not healed by itself: a successor either falls back to an earlier state, or refuses and ends. After it has
refused, a person puts the disk back as it was, and the run must go on. Owns what is damaged and what it excuses.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stream import codec
from stream.contract import SNAPSHOTS
from stream.errors import StateError
from stream.runtime.journal import Manifest
from stream.runtime.shard import Shard
from tests.simulation.broker import Partition, Stored

if TYPE_CHECKING:
    from tests.simulation.world import World

Kind = Literal["flipped", "torn", "stale", "unsigned"]


class Wound(NamedTuple):
    """One damaged place: of which shard, since when, and how to put it back. `fatal` says that no whole state is left
    without it, or that it is an input: then a worker may refuse."""

    shard: str
    since: float
    log: Partition
    index: int
    before: Stored | None
    first: int
    fatal: bool = True


class Damage:
    """What is damaged at the moment in one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.wounds: list[Wound] = []
        self.mended: list[tuple[float, Wound]] = []

    # ---- whole states ---------------------------------------------------------------------------------------------

    def strike(self, kind: Kind) -> None:
        """Damage the newest whole state of some shard, and kill its owner, so that somebody must read it."""
        world = self.world
        partition = world.chance.randrange(world.partitions)
        stage = world.chance.choice(sorted(world.inputs))
        shard, log = f"{stage}/{partition}", world.journal(partition)
        if any(wound.shard == shard for wound in self.wounds):
            return
        manifests = self._entries(log, f"{shard}/state/", "/manifest")
        owners = [worker for worker in world.workers if (stage, partition) in worker.engine.carried]
        if not manifests or not owners:
            return
        newest = manifests[-1]
        # A part that was written with the newest manifest, if there is one: the state before does not share it.
        parts = [i for i in self._entries(log, f"{shard}/state/", "") if i not in manifests and i < newest]
        last = [i for i in parts if log.log[i].value is not None][-1]
        earlier = [i for i in manifests[:-1] if _key(log.log[i]) == _key(log.log[newest])]
        if kind == "stale" and earlier:
            self._wound(shard, log, newest, log.log[earlier[-1]].value)
        elif kind == "unsigned":
            manifest: Any = codec.unpack(Manifest, log.log[newest].value or b"")
            self._wound(shard, log, newest, codec.pack(Manifest(**{**_fields(manifest), "mac": "forged"})))
        elif kind == "torn":
            self._wound(shard, log, last, None)
        else:
            value = log.log[last].value or b""
            at = world.chance.randrange(max(len(value), 1))
            self._wound(shard, log, last, value[:at] + bytes([value[at] ^ 0x40]) + value[at + 1 :])
        world.broker.note(f"state {kind}")
        for owner in owners:
            owner.process.kill()

    def _entries(self, log: Partition, start: str, end: str) -> list[int]:
        return [
            i
            for i, stored in enumerate(log.log)
            if stored.visible and _key(stored).startswith(start) and _key(stored).endswith(end)
        ]

    def _wound(self, shard: str, log: Partition, index: int, value: bytes | None) -> None:
        before = log.log[index]
        fatal = self._fatal(shard, log, _key(before))
        self.wounds.append(Wound(shard, _now(), log, index, before, 0, fatal))
        log.log[index] = before._replace(value=value)

    def _fatal(self, shard: str, log: Partition, place: str) -> bool:
        """Whether neither the newest whole state nor the one before can be had without this place."""
        newest = {_key(log.log[i]): i for i in self._entries(log, f"{shard}/state/", "/manifest")}
        if len(newest) < 2:
            return True
        earlier: Any = codec.unpack(Manifest, log.log[min(newest.values())].value or b"")
        return place in {f"{shard}/{needed}" for needed in earlier.places}

    # ---- inputs ---------------------------------------------------------------------------------------------------

    def delete(self, needed: bool) -> None:
        """Delete the beginning of an input: up to where nobody will read again, or beyond where a successor must."""
        world = self.world
        places = [(s, role, p) for s, roles in world.inputs.items() for role in roles for p in range(world.partitions)]
        world.chance.shuffle(places)
        for stage, role, partition in places:
            log, readers = world.log(role, partition), [s for s in world.inputs if role in world.inputs[s]]
            past = [self._position(world.journal(partition), s, role, partition) for s in readers]
            owners = [worker for worker in world.workers if (stage, partition) in worker.engine.carried]
            if role == SNAPSHOTS or not owners or any(wound.log is log for wound in self.wounds):
                continue
            if not needed:
                log.first = max(log.first, min(earliest for earliest, _ in past))
                world.broker.note("deleted what nobody needs")
                return
            if 0 < max(newest for _, newest in past) < log.stable:
                self.wounds.append(Wound(f"{stage}/{partition}", _now(), log, 0, None, log.first))
                log.first = log.stable
                world.broker.note("deleted what is needed")
                for owner in owners:
                    owner.process.kill()
                return

    def _position(self, log: Partition, stage: str, role: str, partition: int) -> tuple[int, int]:
        """Where the earliest and the newest of the last two whole states stand in an input; 0 without two."""
        manifests = self._entries(log, f"{stage}/{partition}/state/", "/manifest")
        found = []
        for index in manifests[-2:]:
            manifest: Any = codec.unpack(Manifest, log.log[index].value or b"")
            found += [at for name, p, at in manifest.positions if (name, p) == (role, partition)]
        return (min(found), max(found)) if len(found) == 2 else (0, max(found, default=0))

    # ---- afterwards -----------------------------------------------------------------------------------------------

    def explains(self, fault: BaseException, since: float) -> bool:
        """Whether a worker may refuse so because of damage that was there while it read; what is there is mended. Where
        the state before the newest is whole, a worker must fall back to it, and may not refuse.

        Damage that has been mended `since` its reading began counts too: two workers may read it one after the other
        before the first is seen to have refused, and a reader of what was mended meanwhile may have begun before.
        """
        if not isinstance(fault, StateError):
            return False
        met = self.wounds + [wound for at, wound in self.mended if at >= since]
        mine = [wound for wound in met if wound.fatal and str(fault).startswith(f"{wound.shard}:")]
        others = [wound for wound in met if wound.before is None and "records were deleted" in str(fault)]
        for wound in mine or others:
            if wound in self.wounds:
                self._mend(wound)
        self.world.broker.note("refused")
        return bool(mine or others)

    def survived(self, shard: Shard, since: float) -> None:
        """A shard came back in spite of its damage: it fell back, or the damage was not in its way. Where it must read
        what was deleted before it began, `since`, it must not; of what was deleted later it learns when it reads on."""
        later = [wound.log for wound in self.wounds if wound.since >= since]
        for (role, p), at in shard.positions.items():
            log = self.world.log(role, p)
            if at < log.first and not any(log is one for one in later):
                self.world.findings.append(f"{shard.name} came back at {at} of {role}-{p}, which is deleted")
        for wound in [wound for wound in self.wounds if wound.shard == shard.name]:
            self.world.broker.note("came back beside the damage")
            self._mend(wound)

    def heal(self) -> None:
        """Put everything back."""
        for wound in self.wounds:
            self._put_back(wound)
        self.wounds.clear()

    def _mend(self, wound: Wound) -> None:
        self.wounds.remove(wound)
        self.mended.append((_now(), wound))
        self._put_back(wound)

    def _put_back(self, wound: Wound) -> None:
        if wound.before is None:
            wound.log.first = wound.first
        else:
            wound.log.log[wound.index] = wound.before


def _now() -> float:
    return asyncio.get_running_loop().time()


def _key(stored: Stored) -> str:
    return (stored.key or b"").decode()


def _fields(manifest: Manifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}
