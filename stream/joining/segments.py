"""Pending predictions at rest, in segments: what a prediction said is written once, what has become of it each time
that it changes. A million pending predictions are 400 MB, and of these a checkpoint moves the newest few.

Segment s holds the predictions with offsets from `s * SEGMENT` on. All but the newest are **closed**: nothing can be
added to them, so the section `said-s` is immutable. Predictions leave in whatever order their labels and horizons say;
the section `since-s` tells which are left and what has become of them. Owns these two sections.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np

from stream import codec
from stream.errors import StateError
from stream.joining.pending import Entry, Since

SEGMENT: Final = 2_048
"""Offsets of a segment: with ten features some 600 kB, one record of the journal. Part of the state's form: another
number needs another version of it."""

SAID: Final = "said-"
SINCE: Final = "since-"


class Changes(msgspec.Struct, array_like=True):
    """Of a closed segment: a bit for each place, set where its prediction is still pending; and what has changed."""

    left: bytes
    since: list[Since]


def segment_of(entry: Entry) -> int:
    return entry.offset // SEGMENT


def at_rest(entries: Sequence[Entry], known: Collection[str]) -> tuple[dict[str, bytes | None], list[Entry]]:
    """The sections of the closed segments, those of `known` that cannot have changed as None, and the entries of the
    newest segment. `entries` are in the order of their offsets."""
    sections: dict[str, bytes | None] = {}
    segments = [(number, list(members)) for number, members in groupby(entries, segment_of)]
    for number, members in segments[:-1]:
        name = f"{SAID}{number:012d}"
        sections[name] = None if name in known else codec.pack([_said(entry) for entry in members])
        sections[f"{SINCE}{number:012d}"] = codec.pack(_changes(members))
    return sections, segments[-1][1] if segments else []


def _said(entry: Entry) -> tuple[Any, ...]:
    return entry.prediction, entry.value, entry.offset, entry.at, entry.order, entry.until


def _changes(members: Sequence[Entry]) -> Changes:
    places = [entry.offset % SEGMENT for entry in members]
    left = np.zeros(SEGMENT, np.bool_)
    left[places] = True
    changed = [
        Since(place, e.label, e.source, e.revision, e.completed, e.stands, e.implicit, e.votes, e.taken)
        for place, e in zip(places, members, strict=True)
        if e.revision >= 0 or e.votes is not None or e.taken is not None or e.implicit
    ]
    return Changes(np.packbits(left).tobytes(), changed)


def entries_of(sections: Mapping[str, memoryview]) -> Iterator[Entry]:
    """What stands in closed segments, in the order of the offsets. Raises StateError where the two sections of one do
    not fit together."""
    for name in sorted(name for name in sections if name.startswith(SAID)):
        members: list[Entry] = codec.unpack(list[Entry], sections[name])
        number = name.removeprefix(SAID)
        changes: Changes = codec.unpack(Changes, sections[SINCE + number])
        left = np.unpackbits(np.frombuffer(changes.left, np.uint8)).tolist()
        since = {one.place: one for one in changes.since}
        count = 0
        for entry in members:
            place = entry.offset - int(number) * SEGMENT
            if 0 <= place < SEGMENT and left[place]:
                count += 1
                if place in since:
                    _become(entry, since[place])
                yield entry
        if count != sum(left):
            raise StateError(f"of {name} {sum(left)} predictions are pending, and {count} are there")


def _become(entry: Entry, since: Since) -> None:
    entry.label, entry.source = since.label, since.source
    entry.revision, entry.completed = since.revision, since.completed
    entry.stands, entry.implicit = since.stands, since.implicit
    entry.votes, entry.taken = since.votes, since.taken
