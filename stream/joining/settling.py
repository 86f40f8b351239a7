"""What becomes of predictions and labels, in the order of the agenda. Refuses to know how it is told to others.

A prediction has at most one label that stands: the newest, whoever says it, or what its annotators agree on. An equal
one that follows is a duplicate (as is one that is outvoted); another one supersedes it and is a new revision of the
example; a retraction takes it back, after which the prediction is pending again and expires if nothing follows. Nothing
is sent for a retraction itself.
"""

from __future__ import annotations

import heapq
import math
from typing import Final, cast

import msgspec

from learners.annotators import Annotators, Resolved
from stream import limits
from stream.events import CORRECTED, EXPIRED, IMPLIED, LABELLED, Class
from stream.joining.matching import EXPIRE, IMPLICIT, LABEL, MARK, ORPHAN, Matcher, is_stale
from stream.joining.panel import has_voted, hear, suppose, unhear
from stream.joining.pending import Entry, Known, Shadow

MARKED: Final = 4
REFUSED: Final = 5

IMPLICIT_SOURCE: Final = "implicit"
RULES_SOURCE: Final = "rules"


class Fate(msgspec.Struct, gc=False):
    """What became of something. The first four kinds are `events.OutcomeRows.status`: `value` is the label as the task
    reads it, `known` is None where it is implicit. MARKED says that every outcome of the model at index `model` before
    `order` is known; REFUSED that the label `known` cannot be one of its model, and why."""

    kind: int
    order: float
    entry: Entry | None = None
    known: Known | None = None
    value: Class | None = None
    previous: Class | None = None
    revision: int = 0
    model: int = 0
    reason: str = ""
    label: Class | None = None
    weight: float | None = None
    """Of an event that several people label: the label that stands, and the belief in it."""


def settle(matcher: Matcher, through: float) -> list[Fate]:
    """Do everything that is due strictly before `through`; what became of it, in order."""
    agenda, pop = matcher.agenda, heapq.heappop
    fates: list[Fate] = []
    while agenda and agenda[0][0] < through:
        item = pop(agenda)
        order, kind, offset, member, known = item
        if is_stale(item):  # a restored agenda has none of these, so that they must leave no trace
            matcher.stale -= 1
            continue
        matcher.settled = order
        fate: Fate | None = None
        if kind == LABEL:
            fate = _label(matcher, order, cast(Entry, member), cast(Known, known))
        elif kind == EXPIRE:
            fate = _expire(matcher, order, cast(Entry, member))
        elif kind == IMPLICIT:
            fate = _imply(matcher, order, cast(Entry, member))
        elif kind == MARK:
            fate = Fate(MARKED, math.nextafter(order, math.inf), model=offset)
        elif kind == ORPHAN:
            _orphan(matcher, cast(Known, known))
        else:
            _unmatch(matcher, cast(Shadow, member))
        if fate is not None:
            fates.append(fate)
    return fates


def _label(matcher: Matcher, order: float, entry: Entry, known: Known) -> Fate | None:
    ledger, label = matcher.ledger, known.label
    labels, predictions = ledger.labels, ledger.predictions
    labels.waiting -= 1
    rules = matcher.rules[entry.prediction.model]
    panel = matcher.panels.get(rules.name)
    if label.retracted:
        if panel is not None:
            return _unhear(matcher, order, entry, known, panel)
        _retract(matcher, entry, known)
        return None
    try:
        value = rules.read(label.label)
    except ValueError as error:
        return _refuse(matcher, order, entry, known, "label", str(error))
    resolved: Resolved | None = None
    if panel is not None:
        resolved = hear(panel, entry, known, value)
        if resolved is None:
            return _refuse(matcher, order, entry, known, "annotators", f"it has {limits.VOTES_MAX} annotators already")
        value = resolved.label
    if not entry.stands:
        predictions.pending -= 1
        predictions.joined += 1
    elif entry.implicit:
        predictions.implicit -= 1
    elif value == rules.read(cast(Class, entry.label)):
        labels.duplicate += 1
        return None
    else:
        labels.joined -= 1
        labels.superseded += 1
    labels.joined += 1
    if entry.revision >= 0:
        labels.corrected += 1
    if resolved is None:
        return _revise(entry, order, label.label, label.label_source, value, known)
    return _resolve(entry, order, resolved, known)


def _refuse(matcher: Matcher, order: float, entry: Entry, known: Known, code: str, reason: str) -> Fate:
    matcher.ledger.labels.rejected += 1
    matcher.ledger.reject(code)
    return Fate(REFUSED, order, entry, known, reason=reason)


def _resolve(entry: Entry, order: float, resolved: Resolved, known: Known | None) -> Fate:
    """What the annotators agree on, with the belief in it."""
    source = RULES_SOURCE if known is None else known.label.label_source
    fate = _revise(entry, order, resolved.label, source, resolved.label, known)
    fate.label, fate.weight = resolved.label, resolved.share
    return fate


def _revise(entry: Entry, order: float, label: Class, source: str, value: Class, known: Known | None) -> Fate:
    previous = entry.label
    entry.label = label
    entry.source = source
    entry.revision = revision = entry.revision + 1
    entry.completed = order
    entry.stands = True
    entry.implicit = known is None
    kind = IMPLIED if known is None else CORRECTED if revision else LABELLED
    return Fate(kind, order, entry, known, value, previous, revision)


def _unhear(matcher: Matcher, order: float, entry: Entry, known: Known, panel: Annotators) -> Fate | None:
    """Take one annotator's vote back: what the others say stands, or nothing if there are none."""
    labels = matcher.ledger.labels
    labels.retracted += 1
    if not has_voted(entry, known):
        return None
    resolved = unhear(panel, entry, known)
    if resolved is None:
        _take_back(matcher, entry)
        return None
    if resolved.label == entry.label:
        return None
    labels.corrected += 1  # one of the labels that had been outvoted stands now
    return _resolve(entry, order, resolved, known)


def _retract(matcher: Matcher, entry: Entry, known: Known) -> None:
    """Take back what the same source had said; a retraction of anything else changes nothing."""
    matcher.ledger.labels.retracted += 1
    if entry.stands and not entry.implicit and entry.source == known.label.label_source:
        _take_back(matcher, entry)


def _take_back(matcher: Matcher, entry: Entry) -> None:
    """No label stands any more: the prediction is pending again."""
    labels, predictions = matcher.ledger.labels, matcher.ledger.predictions
    entry.stands = False
    labels.joined -= 1
    labels.superseded += 1
    predictions.joined -= 1
    predictions.pending += 1


def _imply(matcher: Matcher, order: float, entry: Entry) -> Fate | None:
    """No label by the deadline, and none taken back: what the weak rules say stands in, or else the implicit label."""
    if entry.revision >= 0:
        return None
    rules = matcher.rules[entry.prediction.model]
    votes = rules.votes(entry.prediction.features)
    if not votes and rules.implicit_label is None:
        return None
    predictions = matcher.ledger.predictions
    predictions.pending -= 1
    predictions.joined += 1
    predictions.implicit += 1
    if votes:
        resolved = suppose(matcher.panels.get(rules.name), entry, votes, rules.task)
        return _resolve(entry, order, resolved, None)
    return _revise(entry, order, cast(Class, rules.implicit_label), IMPLICIT_SOURCE, rules.implicit_value, None)


def _expire(matcher: Matcher, order: float, entry: Entry) -> Fate | None:
    """Nothing can follow any more. A prediction whose label was taken back is told of no second time."""
    model = entry.prediction.model
    lane = matcher.lanes[model]
    lane.popleft()
    if lane:
        heapq.heappush(matcher.agenda, (lane[0].until, EXPIRE, lane[0].offset, lane[0], None))
    matcher.release(entry)
    _forget(matcher, model, order)
    for said in entry.votes or ():
        matcher.ledger.shadows.late += said.order > entry.completed > -1
    if entry.stands:
        return None
    matcher.ledger.predictions.pending -= 1
    matcher.ledger.predictions.expired += 1
    _remember(matcher, model, order, entry)
    return Fate(EXPIRED, order, entry) if entry.revision < 0 else None


def _remember(matcher: Matcher, model: str, order: float, entry: Entry) -> None:
    """Keep the id for one more horizon, and as long as a label that came by then may wait."""
    if len(matcher.expired) >= limits.EXPIRED_IDS_MAX:
        matcher.ids_not_kept += 1
        return
    key = entry.prediction.prediction_id
    late_until = order + matcher.rules[model].horizon_s
    forget = late_until + matcher.early_s_max
    matcher.expired.pop(key, None)
    matcher.expired[key] = (model, late_until, forget, entry.offset)
    matcher.forgetting[model].append((forget, entry.offset, key))


def _forget(matcher: Matcher, model: str, order: float) -> None:
    lane = matcher.forgetting[model]
    while lane and lane[0][0] < order:
        _, offset, key = lane.popleft()
        if key in matcher.expired and matcher.expired[key][3] == offset:
            del matcher.expired[key]


def _orphan(matcher: Matcher, known: Known) -> None:
    """The label has waited long enough. It is late if its prediction had expired within a horizon before it."""
    matcher.early -= 1
    matcher.orphan(known)
    model, late_until, _, _ = matcher.expired.get(known.label.prediction_id, ("", -1.0, 0.0, 0))
    if known.order <= late_until and known.label.model in (None, model):
        matcher.ledger.labels.late += 1


def _unmatch(matcher: Matcher, shadow: Shadow) -> None:
    matcher.early -= 1
    matcher.unmatch(shadow)
