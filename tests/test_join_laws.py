"""What comes out of the join is a function of the two logs alone: the promise that everything else rests on (F21, F24).

Random small logs, read in random interleavings and cuts, give the same outputs and ledger, and the same as a join by
definition that has both logs before it. Planted bugs show that the comparison can fail.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import limits
from stream.events import Heartbeat, Label, Prediction
from stream.joining import matching, settling
from stream.joining.matching import Matcher
from stream.joining.rules import Rules
from stream.stages.join import Join
from tests import joins
from tests.joins import CONFIG, Event

RULES = {name: Rules.of(i, name, model) for i, (name, model) in enumerate(CONFIG.models.items())}


@pytest.fixture(autouse=True, scope="module")
def short_chunks() -> Iterator[None]:
    """So that small logs cut observations by rows too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "ROWS_PER_CHUNK", 4)
        yield


# -- the join by definition ----------------------------------------------------------------------------------------


class P(NamedTuple):
    offset: int
    order: float
    event: Prediction

    @property
    def until(self) -> float:
        return self.order + RULES[self.event.model].horizon_s


class L(NamedTuple):
    offset: int
    order: float
    event: Label


def at(event: Any) -> float:
    return float(event.heartbeat if isinstance(event, Heartbeat) else event.event_time)


def usable(event: Event) -> bool:
    if isinstance(event, Prediction):
        return event.model in RULES and not (event.model == "b" and event.prediction == "text")
    if isinstance(event, Label):
        return event.model is None or (event.model in RULES and not (event.model == "b" and event.label == "text"))
    return isinstance(event, Heartbeat)


def by_definition(predictions: list[Event], labels: list[Event]) -> tuple[list[Any], Counter[str]]:
    """Examples as (completed, id, model, label, revision, previous, votes), and counts, from both logs at once."""
    count: Counter[str] = Counter()
    progress, accepted, votes = -1.0, list[P](), list[P]()
    for offset, event in enumerate(predictions):
        if not usable(event):
            count["p rejected"] += 1
            continue
        order = max(progress, at(event))
        if isinstance(event, Prediction):
            row = P(offset, order, event)
            twin = (p for p in accepted if key(p) == key(row) and order <= p.until)
            if event.role == "shadow":
                votes.append(row)
            elif next(twin, None):
                count["p duplicate"] += 1
                continue
            else:
                accepted.append(row)
        progress = order
    come, last = list[L](), -1.0
    for offset, event in enumerate(labels):
        if usable(event):
            last = max(last, at(event))
            come += [L(offset, last, event)] if isinstance(event, Label) else []
        else:
            count["l rejected"] += 1
    through = min(progress, last)
    agenda: list[tuple[float, int, int, P, L | None]] = []
    for label in come:
        mate = next((p for p in accepted if mates(p, label)), None)
        if mate:
            agenda.append((max(mate.order, label.order), 0, label.offset, mate, label))
        else:
            early = RULES[label.event.model].early_s if label.event.model else 12.0
            count["orphaned" if label.order + early < through else "waiting"] += 1
    for p in accepted:
        after = RULES[p.event.model].implicit_after_s
        agenda += [(max(p.order, at(p.event) + after), 1, p.offset, p, None)] if after else []
        agenda.append((p.until, 2, p.offset, p, None))
    examples = list[Any]()
    fates = {p.offset: Fates(p) for p in accepted}
    for vote in votes:
        mate = next((p for p in accepted if belongs(vote, p)), None)
        if mate:
            fates[mate.offset].votes.append(vote)
    for order, kind, _, p, label in sorted(agenda, key=lambda item: item[:3]):
        if order >= through:
            count["waiting"] += kind == 0
        else:
            fates[p.offset].step(order, kind, label, examples, count)
    count.update(Counter(f"p {fate.state}" for fate in fates.values()))
    return examples, count


def key(row: P) -> tuple[str, str]:
    return row.event.prediction_id, row.event.model


def mates(p: P, label: L) -> bool:
    rules = RULES[p.event.model]
    same = p.event.prediction_id == label.event.prediction_id and label.event.model in (None, p.event.model)
    return same and label.order <= at(p.event) + rules.horizon_s and p.order <= label.order + rules.early_s


class Fates:
    """One prediction's life."""

    def __init__(self, p: P) -> None:
        self.p, self.state, self.label, self.revision, self.source = p, "pending", None, -1, ""
        self.votes = list[P]()

    def step(self, order: float, kind: int, label: L | None, examples: list[Any], count: Counter[str]) -> None:
        if kind == 2:
            self.state = "expired" if self.state == "pending" else self.state
        elif label is None:
            if self.revision < 0:
                self.tell("implicit", 0, "implicit", order, examples)
        elif label.event.retracted:
            count["retracted"] += 1
            if self.state == "joined" and self.source == label.event.label_source:
                self.state = "pending"
                count["superseded"] += 1
                count["joined"] -= 1
        elif self.p.event.model == "b" and label.event.label == "text":
            count["l rejected"] += 1
        elif self.state == "joined" and self.read(self.label) == self.read(label.event.label):
            count["l duplicate"] += 1
        else:
            count["superseded"] += self.state == "joined"
            count["joined"] += self.state != "joined"
            self.tell("joined", label.event.label, label.event.label_source, order, examples)

    def read(self, value: Any) -> Any:
        return value == 1 if self.p.event.model == "a" else value

    def tell(self, state: str, label: Any, source: str, order: float, examples: list[Any]) -> None:
        previous = self.label
        self.state, self.label, self.source, self.revision = state, label, source, self.revision + 1
        p = self.p
        who = list(dict.fromkeys(v.event.learner for v in self.votes if v.order <= order))
        examples.append((order, *key(p), label, self.revision, previous, who))


def belongs(vote: P, p: P) -> bool:
    if vote.offset > p.offset:
        return key(vote) == key(p) and vote.order <= p.until
    return key(vote) == key(p) and p.order <= vote.order + RULES[p.event.model].early_s


def by_stage(predictions: list[Event], labels: list[Event]) -> tuple[list[Any], Counter[str]]:
    join, outputs = joins.join_of(predictions, labels)
    examples = [
        (e.completed, e.prediction.prediction_id, e.prediction.model, e.label, e.revision, e.previous,
         [vote.learner for vote in e.votes])
        for e in joins.examples(outputs)
    ]  # fmt: skip
    p, l = join.ledger.predictions, join.ledger.labels
    count = Counter(
        {"p pending": p.pending, "p expired": p.expired, "p implicit": p.implicit, "p joined": p.joined - p.implicit,
         "p duplicate": p.duplicate, "p rejected": p.rejected, "joined": l.joined, "waiting": l.waiting,
         "orphaned": l.orphaned, "l duplicate": l.duplicate, "superseded": l.superseded, "retracted": l.retracted,
         "l rejected": l.rejected}
    )  # fmt: skip
    return examples, +count


@settings(max_examples=300)
@given(st.randoms(use_true_random=False))
def test_the_join_gives_what_its_definition_says(draw: random.Random) -> None:
    """F21, F24."""
    predictions, labels = joins.small_logs(draw)
    examples, count = by_definition(predictions, labels)
    assert by_stage(predictions, labels) == (examples, +count)


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_no_interleaving_and_no_cut_changes_anything(draw: random.Random) -> None:
    """F21, F24."""
    predictions, labels = joins.small_logs(draw)
    assert_one_outcome(draw, predictions, labels)


def test_the_random_logs_meet_every_rule() -> None:
    """A check of nothing proves nothing: everything that is counted happens in them."""
    count: Counter[str] = Counter()
    for seed in range(300):
        draw = random.Random(seed)
        predictions, labels = joins.small_logs(draw)
        examples, counted = by_definition(predictions, labels)
        assert by_stage(predictions, labels) == (examples, +counted), seed
        ledger = assert_one_outcome(draw, predictions, labels)
        for log in ("predictions", "labels", "shadows"):
            count.update({f"{log}.{name}": n for name, n in ledger[log].items()})
        count.update(votes=sum(bool(e[6]) for e in examples), heartbeats=ledger["heartbeats"])
    unmet = sorted(name for name, n in count.items() if not n)
    assert unmet == ["labels.evicted", "predictions.evicted"], "bounds are met elsewhere"


def assert_one_outcome(
    draw: random.Random, predictions: list[Event], labels: list[Event], make: Callable[[], Join] | None = None
) -> Any:
    make = make or (lambda: Join(CONFIG, 0, 1))
    first = joins.seen(make(), joins.interleaved(draw, predictions, labels, chunk_max=10_000))
    for _ in range(3):
        again = joins.seen(make(), joins.interleaved(draw, predictions, labels))
        for name in first | again:
            assert first.get(name) == again.get(name), name
    return first["ledger"]


# -- the checker is itself checked ---------------------------------------------------------------------------------


class ByArrival(Join):
    """Decides what is late by what has arrived of both logs."""

    def _take_labels(self, chunk: Any, out: Any) -> None:
        self.labels.progress = max(self.labels.progress, self.predictions.progress)
        super()._take_labels(chunk, out)


class Impatient(Join):
    """Does what is due as soon as one log has passed it."""

    def _settle(self, through: float, out: Any) -> None:
        super()._settle(max(self.predictions.progress, self.labels.progress), out)


class EagerMarks(Join):
    """Cuts outcomes where the slower log happens to stand at the end of a batch."""

    def process(self, batch: Any) -> Any:
        out = super().process(batch)
        for name, rows in self.rows.items():
            self._send(name, rows.settled(self.watermark.through()), out)
        return out


def pending_only(self: Matcher, entry: Any, known: Any) -> bool:
    """Joins whatever still waits."""
    return known.label.model in (None, entry.prediction.model)


@pytest.mark.parametrize("broken", [ByArrival, Impatient, EagerMarks])
def test_a_join_that_lets_arrival_decide_is_found(broken: type[Join]) -> None:
    assert found(lambda: broken(CONFIG, 0, 1))


def test_a_rule_that_asks_what_still_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Matcher, "_joins", pending_only)
    assert found(lambda: Join(CONFIG, 0, 1))


def test_settling_what_is_not_strictly_past_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = settling.settle
    monkeypatch.setattr("stream.stages.join.settle", lambda matcher, through: strict(matcher, through + 1e-6))
    assert found(lambda: Join(CONFIG, 0, 1))


def test_kinds_done_in_another_order_at_equal_times_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the definition: all interleavings would agree on it."""
    predictions, labels = [joins.said("x", 0.0, "b"), joins.beat(50.0)], [joins.known("x", 10.0), joins.beat(50.0)]
    assert by_stage(predictions, labels)[0] == by_definition(predictions, labels)[0]
    for module in (matching, settling):
        monkeypatch.setattr(module, "IMPLICIT", -1)
    assert by_stage(predictions, labels)[0] != by_definition(predictions, labels)[0]


def found(make: Callable[[], Join]) -> bool:
    for seed in range(60):
        draw = random.Random(seed)
        try:
            assert_one_outcome(draw, *joins.small_logs(draw), make)
        except AssertionError:
            return True
    return False
