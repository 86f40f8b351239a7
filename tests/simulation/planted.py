"""Bugs as people write them, each planted in the workers of a run: the simulation must find every one.

Owns the bugs; a plant takes a `MonkeyPatch` and changes the product through it. What judges a run is never patched, but
for what it shares with the workers: the stages are run again after the plant has been taken out.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from aiokafka.errors import KafkaError

from learners import baselines
from stream import codec
from stream.contract import EXAMPLES, JOURNAL
from stream.errors import StateError
from stream.joining import settling
from stream.joining.matching import Matcher
from stream.runtime import journal
from stream.runtime.kafka import restore
from stream.runtime.kafka.carried import Carried
from stream.runtime.kafka.engine import Engine
from stream.runtime.kafka.writer import Writer
from stream.runtime.shard import Shard
from stream.sections import sections_of, together
from stream.stages import score
from stream.stages.join import Join
from tests.simulation.broker import Consumer

Plant = Callable[[pytest.MonkeyPatch], None]


@contextmanager
def planted(plant: Plant) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        yield


# -- the protocol of checkpoints -----------------------------------------------------------------------------------


def two_transactions(patch: pytest.MonkeyPatch) -> None:
    """Outputs first, the journal after them: a crash between the two puts them out twice."""
    write = Writer.write

    async def apart(self: Writer, writes: Any) -> None:
        await write(self, [w for w in writes if w.topic != JOURNAL])
        await write(self, [w for w in writes if w.topic == JOURNAL])

    patch.setattr(Writer, "write", apart)


def commit_before_snapshot(patch: pytest.MonkeyPatch) -> None:
    """The positions of a whole state are those of now, its content that of the state before."""
    whole, states = Shard._whole_state, dict[str, dict[str, bytes | None]]()

    def late(self: Shard) -> journal.StateUpdate:
        now = sections_of(self.machine)
        held = states.get(self.name, now)
        states[self.name] = now
        with pytest.MonkeyPatch.context() as taking:
            taking.setattr("stream.runtime.shard.sections_of", lambda machine, known: held)
            return whole(self)

    patch.setattr(Shard, "_whole_state", late)


def off_by_one(patch: pytest.MonkeyPatch) -> None:
    """A state believes that it has not seen the last record it took."""
    take = Shard._take

    def short(self: Shard, batch: Any, keep: bool) -> None:
        take(self, batch, keep)
        for chunk in batch.chunks:
            if chunk.records and chunk.input == EXAMPLES:
                self.positions[chunk.input, chunk.partition] = chunk.end - 1

    patch.setattr(Shard, "_take", short)


def outputs_of_replay(patch: pytest.MonkeyPatch) -> None:
    """A successor puts out again what its predecessor had put out."""
    take = Shard._take
    patch.setattr(Shard, "_take", lambda self, batch, keep: take(self, batch, True))


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Every owner writes under an id of its own, so that a zombie is not known as one."""
    make, count = Writer.__init__, iter(range(1_000_000))

    def own(self: Writer, clients: Any, topics: Any, id: str) -> None:
        make(self, clients, topics, f"{id}-{next(count)}")

    patch.setattr(Writer, "__init__", own)


class RetriedError(KafkaError):
    """Of a commit that may have happened, taken for one that has not."""


def commit_retried(patch: pytest.MonkeyPatch) -> None:
    """A lost acknowledgement of a commit is answered by writing everything again."""
    patch.setattr("stream.runtime.kafka.writer.CommitUnknownError", RetriedError)


def checkpoint_lost(patch: pytest.MonkeyPatch) -> None:
    """A checkpoint that failed is forgotten instead of ending its owner."""
    once = Carried._checkpoint

    async def careless(self: Carried, whole: bool) -> bool:
        try:
            return await once(self, whole)
        except Exception:
            self.void = False
            return True

    patch.setattr(Carried, "_checkpoint", careless)


def never_seeks(patch: pytest.MonkeyPatch) -> None:
    """A worker reads on where it is, and what does not start at its state's position is taken all the same."""
    patch.setattr(Shard, "gap", lambda self, batch: None)
    patch.setattr(Shard, "trimmed", lambda self, chunk: chunk)
    patch.setattr(Engine, "position", AnyPosition.position)


class AnyPosition(Engine):
    """Answers where the consumer stands already, so that it never seeks."""

    def position(self, tp: Any) -> int | None:
        if self.readers(tp) is None:
            return None
        return int(self.app.consumer.taken.get(tp, 0))


# -- what is stored ------------------------------------------------------------------------------------------------


def checksum_unread(patch: pytest.MonkeyPatch) -> None:
    """A whole state is taken as it lies there."""

    def trusting(manifest: Any, newest: Any, key: bytes | None) -> journal.WholeState:
        sections = {s.name: b"".join(newest.get(place, b"") for place in s.places) for s in manifest.sections}
        return journal.WholeState(manifest, together(sections))

    patch.setattr(journal, "_assemble", trusting)


def no_way_back(patch: pytest.MonkeyPatch) -> None:
    """Where the newest whole state is damaged, nobody looks at the one before."""
    recover = journal.recover

    def newest_only(shard: str, entries: Any, keys: Any = ()) -> Any:
        kept = dict(entries)
        manifests = {place: codec.unpack(journal.Manifest, kept[place]) for place in kept if _closes(shard, place)}
        older = sorted(manifests, key=lambda place: manifests[place].sequence)[:-1]
        return recover(shard, [(place, value) for place, value in kept.items() if place not in older], keys)

    patch.setattr(journal, "recover", newest_only)


def _closes(shard: str, place: bytes) -> bool:
    return place.startswith(f"{shard}/state/".encode()) and place.endswith(b"/manifest")


def retention_unread(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether what must be read again is still there, nor whether the same comes out of it, and clients go
    on where the log begins."""
    trusting_replay(patch)
    bounds = restore.bounds

    async def blind(*args: Any) -> Any:
        first, ends = await bounds(*args)
        return dict.fromkeys(first, 0), ends

    async def lenient(self: Consumer, tp: Any, position: int) -> None: ...

    patch.setattr(restore, "bounds", blind)
    patch.setattr(Consumer, "need", lenient)


def digest_unread(patch: pytest.MonkeyPatch) -> None:
    """A learner draws lots, and a replay that comes out otherwise is taken as it comes."""
    unseeded_learner(patch)
    trusting_replay(patch)


def trusting_replay(patch: pytest.MonkeyPatch) -> None:
    replay = Shard.replay

    def trusting(self: Shard, record: Any, read: Any) -> None:
        """As it was, but for the comparison."""
        try:
            replay(self, record, read)
        except StateError as error:
            if "did not come out" not in str(error):
                raise
            self._digest, self.sequence = record.digest, record.sequence

    patch.setattr(Shard, "replay", trusting)


# -- the stages ----------------------------------------------------------------------------------------------------


def unseeded_learner(patch: pytest.MonkeyPatch) -> None:
    chance = random.Random()  # from the machine, as a bug would have it

    def learn(self: Any, x: Any, y: Any, weight: float = 1.0, lag: int = 0) -> None:
        self.counts[y] = self.counts.get(y, 0.0) + weight * (0.5 + chance.random())
        self.updates += 1

    patch.setattr(baselines.Majority, "learn", learn)


def double_join(patch: pytest.MonkeyPatch) -> None:
    tell = Join._tell

    def twice(self: Join, fate: Any, entry: Any, out: list[Any]) -> None:
        before = len(out)
        tell(self, fate, entry, out)
        if _some(entry.prediction.prediction_id):
            out += [each for each in out[before:] if each.topic == EXAMPLES]

    patch.setattr(Join, "_tell", twice)


def lost_expiry(patch: pytest.MonkeyPatch) -> None:
    """Some predictions leave without a word."""
    expire = settling._expire

    def silent(matcher: Any, order: float, entry: Any) -> Any:
        fate = expire(matcher, order, entry)
        if fate is not None and _some(entry.prediction.prediction_id):
            matcher.ledger.predictions.expired -= 1
            matcher.ledger.predictions.pending += 1
            return None
        return fate

    patch.setattr(settling, "_expire", silent)


def watermark_back(patch: pytest.MonkeyPatch) -> None:
    """Progress is what was seen last, not the most that was seen."""
    take = Join._take_labels

    def last(self: Join, chunk: Any, out: list[Any]) -> None:
        take(self, chunk, out)
        if chunk.records and self.labels.progress > 0 and chunk.records[-1].timestamp_s < self.labels.progress:
            self.labels.progress = chunk.records[-1].timestamp_s

    patch.setattr(Join, "_take_labels", last)


def no_dedupe(patch: pytest.MonkeyPatch) -> None:
    """A prediction that was sent twice counts twice."""
    patch.setattr(Matcher, "_same", lambda self, key: iter(()))


def too_late(patch: pytest.MonkeyPatch) -> None:
    """A label counts for as long as its prediction happens to be there."""
    patch.setattr(Matcher, "_joins", lambda self, entry, known: known.label.model in (None, entry.prediction.model))


def by_arrival(patch: pytest.MonkeyPatch) -> None:
    """What is due is done as soon as one of two logs has passed it."""
    settle = Join._settle

    def eager(self: Join, through: float, out: list[Any]) -> None:
        settle(self, max(self.predictions.progress, self.labels.progress), out)

    patch.setattr(Join, "_settle", eager)


def state_left_out(patch: pytest.MonkeyPatch) -> None:
    """A restored join has forgotten the shadows' votes that wait."""
    at_rest = Join.sections

    def forgetful(self: Join, known: Collection[str] = ()) -> dict[str, bytes | None]:
        held = [entry.votes for entry in self.matcher.pending.values()]
        for entry in self.matcher.pending.values():
            entry.votes = None
        state = at_rest(self, known)
        for entry, votes in zip(self.matcher.pending.values(), held, strict=True):
            entry.votes = votes
        return state

    patch.setattr(Join, "sections", forgetful)


def from_the_future(patch: pytest.MonkeyPatch) -> None:
    """A prediction claims to know more than its snapshot had learned."""
    ask = score._ask

    def claims(*args: Any) -> Any:
        said = ask(*args)
        said.model_updates += 1
        return said

    patch.setattr(score, "_ask", claims)


def _some(id: str) -> bool:
    return zlib.crc32(id.encode()) % 8 == 0


PLANTS: Final[dict[Plant, int]] = {
    two_transactions: 12,
    commit_before_snapshot: 5,
    off_by_one: 3,
    outputs_of_replay: 5,
    no_fence: 5,
    commit_retried: 15,
    checkpoint_lost: 15,
    never_seeks: 5,
    checksum_unread: 20,
    no_way_back: 20,
    retention_unread: 20,
    digest_unread: 5,
    unseeded_learner: 5,
    double_join: 3,
    lost_expiry: 3,
    watermark_back: 3,
    no_dedupe: 3,
    too_late: 5,
    by_arrival: 3,
    state_left_out: 5,
    from_the_future: 5,
}
"""Each bug, and the number of seeds, from 0 on, within which it must be found."""
