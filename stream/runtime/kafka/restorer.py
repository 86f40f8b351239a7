"""Brings all shards of a partition back: fences who had them, reads what they left, and proves that nobody came after.

Owns the order of these steps and what a fresh shard is made of. Refuses to know when a worker takes a partition
(`engine.py`), and how the past is read (`restore.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import perf_counter

from stream.config import Config
from stream.contract import SNAPSHOTS, STAGE_INPUTS, Stage
from stream.runtime import journal
from stream.runtime.journal import Entry, Source
from stream.runtime.kafka import restore
from stream.runtime.kafka.carried import Carried
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.writer import FencedError, Fencing, Writer, all_of
from stream.runtime.shard import Shard
from stream.runtime.stages import Secrets, make_stage

log = logging.getLogger("tidegate.kafka")


class Restorer:
    """For one worker. `fencing` says what it has under way that would fence another."""

    def __init__(self, config: Config, clients: Clients, group: str, stages: tuple[str, ...], secrets: Secrets) -> None:
        self.fencing = Fencing()
        self._config = config
        self._clients = clients
        self._group = group
        self._stages = stages
        self._secrets = secrets

    async def bring_back(self, partition: int) -> list[Carried]:
        """All shards of a partition, or none if somebody else takes it meanwhile.

        All are fenced first, for an open transaction of any would hide the journal's end; and all prove, once it is
        read, that they have not been fenced themselves since. A worker that freezes in the midst of fencing, and goes
        on after another has taken the partition, would have some of its shards before that and some after.
        """
        start = perf_counter()
        ids = {stage: f"{self._group}-{stage}-{partition}" for stage in self._stages}
        writers = {stage: Writer(self._clients, self._config.topics, id_) for stage, id_ in ids.items()}
        try:
            await self.fencing.begin(writers.values())
            sources = {source for stage in self._stages for source in self._sources(stage, partition)}
            first, _ = await restore.bounds(self._config, self._clients, sources)
            found = [Carried(self._shard(s, partition, first), writer, self._config) for s, writer in writers.items()]
            names = [carried.shard.name for carried in found]
            entries = await restore.read_journal(self._config, self._clients, partition, names)
            await all_of(carried.writer.write(carried.shard.claim()) for carried in found)
            for carried in found:
                await self._bring_one_back(carried, entries)
                carried.restore_s = perf_counter() - start
            return found
        except BaseException as error:
            await asyncio.gather(*(writer.stop() for writer in writers.values()))
            if not isinstance(error, FencedError):
                raise
            log.warning("partition %d: fenced while it was restored, somebody else owns it now", partition)
            return []

    async def _bring_one_back(self, carried: Carried, entries: list[Entry]) -> None:
        past = journal.recover(carried.shard.name, entries, self._secrets.trusted)
        for fault in past.faults if past is not None else ():
            log.warning("%s; the state before it takes its place", fault)
        carried.state_bytes = 0 if past is None else past.whole.manifest.size
        carried.replayed = await restore.bring_back(carried.shard, past, self._config, self._clients)

    def _shard(self, stage: str, partition: int, begins: Mapping[Source, int]) -> Shard:
        """A fresh one, where its inputs begin."""
        first = {source: begins[source] for source in self._sources(stage, partition)}
        return Shard(stage, partition, self._machine(stage, partition), first, self._config.hash(), self._secrets.key)

    def _machine(self, stage: str, partition: int) -> Stage:
        return make_stage(stage, self._config, partition, self._config.topics.partitions, self._secrets)

    def _sources(self, stage: str, partition: int) -> list[Source]:
        every = range(self._config.topics.partitions)
        return [(role, p) for role in STAGE_INPUTS[stage] for p in (every if role == SNAPSHOTS else (partition,))]
