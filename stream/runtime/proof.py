"""The proof of a shard's past (F42): what the journal says happened happens again, output for output, state for state.

Owns where the proof begins and what counts as a difference; the walk itself is `stream.runtime.travel`'s.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from stream.contract import Stage
from stream.errors import StateError
from stream.runtime.journal import Manifest, Source
from stream.runtime.past import Base, Load, Past, from_nothing, from_state, gone
from stream.runtime.travel import Make, Read, Step, Walk
from stream.sections import sections_of


class Verdict(NamedTuple):
    """Whether a shard's past comes out as it did: of the checkpoints after `begin` up to `end`, and of so many whole
    states between them, bit for bit. `fault` is the first difference, or why nothing could be compared."""

    shard: str
    begin: int
    end: int
    records: int
    states: int
    fault: str = ""


def verify(
    past: Past,
    load: Load,
    make: Make,
    read: Read,
    first: Mapping[Source, int],
    everything: bool = False,
    on_step: Step | None = None,
) -> Verdict:
    """Replay what the journal holds since the newest whole state (what a restart would do) or, with `everything`, all
    that it still holds, and compare the chained digests and the whole states on the way."""
    begin = end = records = states = 0
    try:
        base = _oldest(past, load, first) if everything else _newest(past, load, first)
        begin = end = base.sequence
        walk = Walk(base, make, read, on_step=on_step)
        kept = {one.manifest.sequence: one.manifest for one in past.states}
        for record in base.journal:
            walk.checkpoint(record)
            end, records = record.sequence, sum(walk.shard.records.values())
            if end in kept:
                states += 1
                _compare(walk.shard.machine, kept[end])
    except StateError as error:
        return Verdict(past.shard, begin, end, records, states, str(error))
    return Verdict(past.shard, begin, end, records, states)


def _compare(machine: Stage, manifest: Manifest) -> None:
    """Section by section; what is immutable depends on when it was written, and shows in what comes of it."""
    written = {section.name: section.sha256 for section in manifest.sections}
    sections = sections_of(machine, written)
    differing = [n for n, s in sections.items() if s is not None and hashlib.sha256(s).digest() != written.get(n)]
    if differing or sections.keys() != written.keys():
        where = ", ".join(differing) or "its sections"
        raise StateError(
            f"{manifest.shard}: whole state {manifest.sequence} does not come out as it was written: {where}"
        )


def _newest(past: Past, load: Load, first: Mapping[Source, int]) -> Base:
    if not past.states:
        raise StateError(f"{past.shard}: the journal holds records but no whole state; its topic was cut short")
    base = from_state(past, past.states[-1], load)
    missing = gone(base.positions, first)
    if base.journal and missing:
        raise StateError(f"{past.shard}: from {base.name}: {missing}")
    return base


def _oldest(past: Past, load: Load, first: Mapping[Source, int]) -> Base:
    """The newest must be had; older ones may have been compacted away, and then are no fault."""
    newest = _newest(past, load, first)
    begun = from_nothing(past)
    if begun is not None and not gone(begun.positions, first):
        return begun
    for kept in past.states[:-1]:
        try:
            base = from_state(past, kept, load)
        except StateError:
            continue
        if not gone(base.positions, first):
            return base
    return newest
