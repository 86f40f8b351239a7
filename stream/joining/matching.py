"""Which label belongs to which prediction, and when each falls due. Refuses to know topics, columns and the clock.

The rules, each decided by a record's own log (`order` is the progress of its log at the record, itself included):

* A label joins the first prediction of its id (and of its model, if it names one) in the predictions' log for which
  `label.order <= prediction.event_time + horizon` and `prediction.order <= label.order + early`.
* A prediction is kept for a horizon: `until = order + horizon`, which is never before its event time plus the horizon.
  It is a duplicate if one of its id and model stands in its log before it with `order <= first.until`.
* A shadow's vote belongs to the first prediction of its id and model that lives at `shadow.order`, or that comes while
  `prediction.order <= shadow.order + early`. An example carries the votes with `order <= completed`.

Whatever a match, a deadline or an expiry causes is put on the **agenda** at an order, and done in the order of
(order, kind, offset) once both logs have passed that order strictly. Nothing is ever put on the agenda at an order that
has been settled, because every order on it is at least the progress of the slower log. That is the whole proof that the
interleaving of the two logs cannot be seen in what comes out.

Where a bound is reached (`limits.PENDING_MAX`, `limits.EARLY_LABELS_MAX`) arrival can be seen, and `evicted` says so.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from typing import Final, TypeAlias, TypeVar, cast

from learners.annotators import Annotators
from stream import limits
from stream.events import Class, Label, Prediction, Vote
from stream.joining.pending import Entry, Known, Said, Shadow
from stream.joining.rules import Rules
from stream.ledger import Ledger

LABEL: Final = 0
IMPLICIT: Final = 1
EXPIRE: Final = 2
ORPHAN: Final = 3
UNMATCHED: Final = 4
MARK: Final = 5
"""Kinds of the agenda, in the order in which they are done at equal orders: a label on the last moment still counts."""

Due: TypeAlias = tuple[float, int, int, Entry | Shadow | None, Known | None]
EVICTED_SHARE: Final = 64
"""At a bound one 64th is evicted at once, so that sweeping the agenda costs little for each."""

STALE_MIN: Final = 1_024
"""Fewer placed items than this are not worth a sweep of the agenda."""


class Matcher:
    """Pending predictions, labels and votes of one shard. `prediction`, `shadow`, `label` take records in the order of
    their log; `settling.settle` does what is due. The ledger is the stage's, and counted in here."""

    def __init__(self, rules: dict[str, Rules], ledger: Ledger) -> None:
        self.rules = rules
        self.ledger = ledger
        self.early_s_max = max(rule.early_s for rule in rules.values())
        self.pending: dict[str, Entry] = {}
        self.more: dict[str, list[Entry]] = {}
        """Later predictions of an id that is pending already: another model's, or one used again."""
        self.size = 0
        self.waiting: dict[str, list[Known]] = {}
        self.shadows: dict[str, list[Shadow]] = {}
        self.early = 0
        self.expired: dict[str, tuple[str, float, float, int]] = {}
        self.ids_not_kept = 0
        self.agenda: list[Due] = []
        """A heap. Of the predictions of one model, which expire in the order of their log, it holds the first only."""
        self.lanes: dict[str, deque[Entry]] = {name: deque() for name in rules}
        """All pending predictions of each model, in the order of their log."""
        self.forgetting: dict[str, deque[tuple[float, int, str]]] = {name: deque() for name in rules}
        """When to forget an expired id, its offset, the id."""
        self.settled = 0.0
        """The newest order that was settled."""
        self.stale = 0
        """Items of the agenda that have been placed since and only wait to be dropped."""
        self.panels = {
            name: Annotators(rule.task, rule.annotators) for name, rule in rules.items() if rule.annotators is not None
        }
        """Of the models whose predictions several people label."""
        self.evicted: list[Entry] = []
        """Predictions without a label that a bound has just pushed out; the stage takes them at once."""

    # -- records ----------------------------------------------------------------------------------------------------

    def prediction(
        self, offset: int, at: float, order: float, prediction: Prediction, value: Class, rules: Rules
    ) -> Entry | None:
        """Take a champion's or canary's prediction, `value` as the task reads it; None if it is a duplicate, which
        leaves no trace."""
        key = prediction.prediction_id
        entry = Entry(prediction, value, offset, at, order, order + rules.horizon_s)
        if key in self.pending:
            for other in self._same(key):
                if order <= other.until and other.prediction.model == prediction.model:
                    self.ledger.predictions.duplicate += 1
                    return None
            self.more.setdefault(key, []).append(entry)
        else:
            self.pending[key] = entry
        self.size += 1
        self.ledger.predictions.pending += 1
        self.line_up(rules.name, entry)
        if rules.implicit_after_s is not None:
            due = max(order, at + rules.implicit_after_s)
            heapq.heappush(self.agenda, (due, IMPLICIT, offset, entry, None))
        if self.early:
            self._claim(key, entry)
        if self.size > limits.PENDING_MAX:
            self._evict_predictions()
        return entry

    def label(self, offset: int, timestamp_s: float, at: float, order: float, label: Label) -> None:
        key = label.prediction_id
        early_s = self.early_s_max if label.model is None else self.rules[label.model].early_s
        known = Known(offset, timestamp_s, order, at, order + early_s, label)
        self.ledger.labels.waiting += 1
        for entry in (self.pending[key], *self.more.get(key, ())) if key in self.pending else ():
            if self._joins(entry, known):
                return self._complete(entry, known)
        self.waiting.setdefault(key, []).append(known)
        self.early += 1
        heapq.heappush(self.agenda, (known.until, ORPHAN, offset, None, known))
        if self.early > limits.EARLY_LABELS_MAX:
            self._evict_early()

    def shadow(self, offset: int, order: float, prediction: Prediction, rules: Rules) -> None:
        """Take what a shadow said: attach it, or let it wait for its champion."""
        key, model = prediction.prediction_id, prediction.model
        vote = Vote(
            learner=prediction.learner,
            prediction=prediction.prediction,
            model_version=prediction.model_version,
            score=prediction.score,
            probabilities=prediction.probabilities,
            model_updates=prediction.model_updates,
        )
        said = Said(order, vote)
        for entry in self._same(key):
            if order <= entry.until and entry.prediction.model == model:
                return self._attach(entry, said)
        shadow = Shadow(key, model, offset, order + rules.early_s, said)
        self.shadows.setdefault(key, []).append(shadow)
        self.early += 1
        self.ledger.shadows.waiting += 1
        heapq.heappush(self.agenda, (shadow.until, UNMATCHED, offset, shadow, None))
        if self.early > limits.EARLY_LABELS_MAX:
            self._evict_early()

    def mark(self, order: float, index: int) -> None:
        """Ask to be told, in its turn, that every outcome before `order` is known: it is due last at the last moment
        before, so that it need not wait for anything after."""
        heapq.heappush(self.agenda, (math.nextafter(order, -math.inf), MARK, index, None, None))

    def line_up(self, model: str, entry: Entry) -> None:
        """The entry expires after those of its model that came before it, whatever the horizon was for them."""
        lane = self.lanes[model]
        if lane and entry.until < lane[-1].until:
            entry.until = lane[-1].until
        lane.append(entry)
        if len(lane) == 1:
            heapq.heappush(self.agenda, (entry.until, EXPIRE, entry.offset, entry, None))

    # -- matching ---------------------------------------------------------------------------------------------------

    def _same(self, key: str) -> Iterator[Entry]:
        """Pending predictions of an id, in the order of the predictions' log."""
        entry = self.pending.get(key)
        if entry is not None:
            yield entry
            if key in self.more:
                yield from self.more[key]

    def _joins(self, entry: Entry, known: Known) -> bool:
        model = entry.prediction.model
        if known.label.model is not None and known.label.model != model:
            return False
        rules = self.rules[model]
        return known.order <= entry.at + rules.horizon_s and entry.order <= known.order + rules.early_s

    def _complete(self, entry: Entry, known: Known) -> None:
        order = known.order if known.order > entry.order else entry.order
        heapq.heappush(self.agenda, (order, LABEL, known.offset, entry, known))

    def _claim(self, key: str, entry: Entry) -> None:
        """A prediction takes what has been waiting for it."""
        if key in self.waiting:
            left = []
            for known in self.waiting.pop(key):
                if self._joins(entry, known):
                    self._place(known)
                    self._complete(entry, known)
                else:
                    left.append(known)
            if left:
                self.waiting[key] = left
        if key in self.shadows:
            stay = []
            for shadow in self.shadows.pop(key):
                if shadow.model == entry.prediction.model and entry.order <= shadow.until:
                    self._place(shadow)
                    self.ledger.shadows.waiting -= 1
                    self._attach(entry, shadow.said)
                else:
                    stay.append(shadow)
            if stay:
                self.shadows[key] = stay

    def _attach(self, entry: Entry, said: Said) -> None:
        if entry.votes is None:
            entry.votes = []
        if any(other.vote.learner == said.vote.learner for other in entry.votes):
            self.ledger.shadows.duplicate += 1
        elif len(entry.votes) >= limits.SHADOWS_MAX:
            self.ledger.shadows.unmatched += 1
        else:
            self.ledger.shadows.attached += 1
            entry.votes.append(said)

    # -- bounds -----------------------------------------------------------------------------------------------------

    def release(self, entry: Entry) -> None:
        """Nothing can join this prediction any more; it has left its lane."""
        key = entry.prediction.prediction_id
        self.size -= 1
        rest = self.more.get(key)
        if self.pending.get(key) is not entry:
            assert rest is not None
            rest[:] = [other for other in rest if other is not entry]
        elif rest:
            self.pending[key] = rest.pop(0)
        else:
            del self.pending[key]
        if rest is not None and not rest:
            del self.more[key]

    def _evict_predictions(self) -> None:
        """Give up the predictions that would expire first, and the labels that had found them."""
        for _ in range(max(self.size // EVICTED_SHARE, 1)):
            lane = min((lane for lane in self.lanes.values() if lane), key=_head)
            entry = lane.popleft()
            entry.evicted = True
            self.release(entry)
            if not entry.stands:
                self.ledger.predictions.pending -= 1
                self.ledger.predictions.expired += 1
                self.ledger.predictions.evicted += 1
                self.evicted.append(entry)
        kept = []
        for item in self.agenda:
            if not isinstance(item[3], Entry) or not item[3].evicted:
                kept.append(item)
            elif item[1] == LABEL:
                self.ledger.labels.waiting -= 1
                self.ledger.labels.orphaned += 1
                self.ledger.labels.evicted += 1
        heads = [lane[0] for lane in self.lanes.values() if lane]
        first: list[Due] = [(head.until, EXPIRE, head.offset, head, None) for head in heads]
        self.agenda[:] = [item for item in kept if item[1] != EXPIRE] + first
        heapq.heapify(self.agenda)

    def _evict_early(self) -> None:
        """Give up the labels and votes that would be given up first."""
        due = [item for item in self.agenda if item[1] in (ORPHAN, UNMATCHED) and not _waits(item).placed]
        for item in heapq.nsmallest(max(self.early // EVICTED_SHARE, 1), due):
            waits = _waits(item)
            self._place(waits)
            if isinstance(waits, Known):
                self.ledger.labels.evicted += 1
                self.orphan(waits)
            else:
                self.unmatch(waits)

    def _place(self, waits: Known | Shadow) -> None:
        """It waits no longer. Its item stays on the agenda until such items are half of it."""
        waits.placed = True
        self.early -= 1
        self.stale += 1
        if self.stale > max(len(self.agenda) // 2, STALE_MIN):
            self.agenda[:] = [item for item in self.agenda if not is_stale(item)]
            heapq.heapify(self.agenda)
            self.stale = 0

    def orphan(self, known: Known) -> None:
        """Account for a label that is given up."""
        self.ledger.labels.waiting -= 1
        self.ledger.labels.orphaned += 1
        _drop(self.waiting, known.label.prediction_id, known)

    def unmatch(self, shadow: Shadow) -> None:
        """Account for a vote that is given up."""
        self.ledger.shadows.waiting -= 1
        self.ledger.shadows.unmatched += 1
        _drop(self.shadows, shadow.prediction_id, shadow)


def _head(lane: deque[Entry]) -> tuple[float, int]:
    return lane[0].until, lane[0].offset


def is_stale(item: Due) -> bool:
    """Whether what waited has been placed since, so that the item only waits to be dropped."""
    return item[1] in (ORPHAN, UNMATCHED) and _waits(item).placed


def _waits(item: Due) -> Known | Shadow:
    return item[4] if item[4] is not None else cast(Shadow, item[3])


T = TypeVar("T", Known, Shadow)


def _drop(index: dict[str, list[T]], key: str, member: T) -> None:
    """Remove by identity: the structs compare by value."""
    rest = [other for other in index[key] if other is not member]
    if rest:
        index[key] = rest
    else:
        del index[key]
