"""A matcher's state at rest, made to fit the configuration that runs now (F54). Owns what becomes of pending records
where the configuration has changed since; refuses to know how they are matched and how they lie at rest.

* Of a model that is configured no more, everything that waits is let go: its predictions as expired, its labels as
  orphaned, its shadows' votes as unmatched. The ledger balances, and nothing of it is told to anybody.
* A longer horizon also holds for what is pending already; under a shorter one predictions stay as long as they were
  promised to, and only labels within the new horizon join.
* Annotators that are judged by another rule than before are judged anew, by the votes on what is pending.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from learners.annotators import NOTHING
from stream.joining import segments
from stream.joining.matching import Matcher
from stream.joining.pending import Entry, MatcherState
from stream.joining.rules import Rules
from stream.ledger import Ledger


class Adopted(NamedTuple):
    """The state as it is to be restored, all entries in it; `withdrawn` predictions were let go."""

    state: MatcherState
    withdrawn: int


class _Judged(msgspec.Struct, array_like=True):
    """What a panel's state begins with (`learners.annotators`)."""

    task: str
    rule: str


def adopt(
    state: MatcherState, sections: Mapping[str, memoryview], before: Sequence[str], rules: Mapping[str, Rules],
    ledger: Ledger,
) -> Adopted:  # fmt: skip
    """`before` are the models of the state, in the order of the configuration that wrote it."""
    gone = {name for name in before if name not in rules}
    entries: list[Entry] = []
    left: dict[int, Entry] = {}
    """By offset, those that are let go."""
    for entry in chain(segments.entries_of(sections), state.entries):
        own = rules.get(entry.prediction.model)
        if own is None:
            left[entry.offset] = entry
            continue
        entry.until = max(entry.until, entry.order + own.horizon_s)
        entries.append(entry)
    labelled = {offset for _, offset, _ in state.completing}
    by_offset = {entry.offset: entry for entry in entries if entry.offset in labelled}
    for order, offset, _ in state.completing:
        if offset in by_offset:  # its horizon may have been longer in between
            by_offset[offset].until = max(by_offset[offset].until, order)
    panels = {name: panel for name, panel in state.panels.items() if name in rules and _goes_on(panel, rules[name])}
    adopted = msgspec.structs.replace(
        state,
        entries=entries,
        completing=[item for item in state.completing if item[1] not in left],
        implicit=[item for item in state.implicit if item[1] not in left],
        waiting=[known for known in state.waiting if known.label.model not in gone],
        shadows=[shadow for shadow in state.shadows if shadow.model not in gone],
        marks=[(order, rules[before[index]].index) for order, index in state.marks if before[index] in rules],
        expired={key: item for key, item in state.expired.items() if item[0] not in gone},
        panels=panels,
    )
    return Adopted(adopted, _let_go(ledger, left, state, adopted))


def _let_go(ledger: Ledger, left: Mapping[int, Entry], state: MatcherState, adopted: MatcherState) -> int:
    """Account for what waited and waits no more; how many predictions of it had no label."""
    withdrawn = sum(not entry.stands for entry in left.values())
    ledger.predictions.pending -= withdrawn
    ledger.predictions.expired += withdrawn
    labels = len(state.completing) + len(state.waiting) - len(adopted.completing) - len(adopted.waiting)
    ledger.labels.waiting -= labels
    ledger.labels.orphaned += labels
    votes = len(state.shadows) - len(adopted.shadows)
    ledger.shadows.waiting -= votes
    ledger.shadows.unmatched += votes
    return withdrawn


def _goes_on(panel: bytes, rules: Rules) -> bool:
    judged = msgspec.msgpack.decode(panel, type=_Judged)
    return (judged.task, judged.rule) == (rules.task, rules.annotators)


def judge_anew(matcher: Matcher, kept: Mapping[str, bytes]) -> None:
    """Annotators of all panels but the `kept` ones: what pending predictions had put into estimates that are no more
    goes into those of the rule that is configured now."""
    for name, lane in matcher.lanes.items():
        if name in kept:
            continue
        panel = matcher.panels.get(name)
        for entry in lane:
            if entry.taken is not None:
                entry.taken = None if panel is None else panel.learn(NOTHING, entry.taken.votes)
