"""A matcher's state to its form at rest and back. Equal matchers have equal forms, however they came to be: but for the
closed segments of pending predictions (`stream.joining.segments`), which stay as they were when they were written.

The heap's layout depends on its history, so what waits is written in the order in which it falls due; indexes and the
agenda are built again. What has been given up or placed already, and only waits to be dropped, is left out.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from itertools import chain
from typing import cast

from stream.joining import segments
from stream.joining.matching import IMPLICIT, LABEL, MARK, ORPHAN, UNMATCHED, Due, Matcher
from stream.joining.pending import Entry, Known, MatcherState, Shadow


def at_rest(matcher: Matcher, known: Collection[str]) -> tuple[MatcherState, dict[str, bytes | None]]:
    """And the sections of closed segments; of those in `known`, what cannot have changed is None."""
    sections, newest = segments.at_rest(sorted(chain.from_iterable(matcher.lanes.values()), key=_offset), known)
    kinds: list[list[Due]] = [[] for _ in range(MARK + 1)]
    for item in sorted(matcher.agenda, key=_due):
        kinds[item[1]].append(item)
    state = MatcherState(
        entries=newest,
        completing=[(item[0], _offset(cast(Entry, item[3])), cast(Known, item[4])) for item in kinds[LABEL]],
        implicit=[(item[0], item[2]) for item in kinds[IMPLICIT]],
        waiting=[label for item in kinds[ORPHAN] if not (label := cast(Known, item[4])).placed],
        shadows=[shadow for item in kinds[UNMATCHED] if not (shadow := cast(Shadow, item[3])).placed],
        marks=[(item[0], item[2]) for item in kinds[MARK]],
        expired=matcher.expired,
        settled=matcher.settled,
        ids_not_kept=matcher.ids_not_kept,
        panels={name: panel.snapshot() for name, panel in matcher.panels.items()},
    )
    return state, sections


def restore(matcher: Matcher, state: MatcherState) -> None:
    """Fill a fresh matcher from a state with all entries in it (`stream.joining.adopting`)."""
    agenda = matcher.agenda
    by_offset: dict[int, Entry] = {}
    for entry in state.entries:
        by_offset[entry.offset] = entry
        _index(matcher, entry)
        matcher.line_up(entry.prediction.model, entry)
    for order, offset, known in state.completing:
        agenda.append((order, LABEL, known.offset, by_offset[offset], known))
    for order, offset in state.implicit:
        entry = by_offset[offset]
        if matcher.rules[entry.prediction.model].implicit_after_s is not None:  # it may have been configured away since
            agenda.append((order, IMPLICIT, offset, entry, None))
    agenda.extend((known.until, ORPHAN, known.offset, None, known) for known in state.waiting)
    agenda.extend((shadow.until, UNMATCHED, shadow.offset, shadow, None) for shadow in state.shadows)
    agenda.extend((order, MARK, index, None, None) for order, index in state.marks)
    heapq.heapify(agenda)
    for key, (model, _, forget, offset) in state.expired.items():
        matcher.forgetting[model].append((forget, offset, key))
    for known in sorted(state.waiting, key=_offset):
        matcher.waiting.setdefault(known.label.prediction_id, []).append(known)
    for shadow in sorted(state.shadows, key=_offset):
        matcher.shadows.setdefault(shadow.prediction_id, []).append(shadow)
    matcher.size = len(by_offset)
    matcher.early = len(state.waiting) + len(state.shadows)
    matcher.expired = state.expired
    matcher.settled = state.settled
    matcher.ids_not_kept = state.ids_not_kept
    for name, panel in matcher.panels.items():
        if name in state.panels:
            panel.restore(state.panels[name])


def _index(matcher: Matcher, entry: Entry) -> None:
    key = entry.prediction.prediction_id
    if key in matcher.pending:
        matcher.more.setdefault(key, []).append(entry)
    else:
        matcher.pending[key] = entry


def _due(item: Due) -> tuple[float, int, int]:
    return item[:3]


def _offset(member: Entry | Known | Shadow) -> int:
    return member.offset
