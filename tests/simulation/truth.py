"""What must come out, by definition: a join and windows that have both logs before them and are written without care
for speed. Reads plain JSON, and shares no code with what it judges.

The rules are those of ARCHITECTURE.md: a record counts at the progress of its own log (`order`); a label joins the
first prediction of its id that it is in time for; what falls due is done in the order of (order, kind, offset) once
both logs have passed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from stream.contract import Record

KINDS: Final = {"label": 0, "implicit": 1, "expire": 2}


class Terms(NamedTuple):
    """What a model's configuration says about its labels; seconds."""

    horizon: float
    early: float
    implicit: float | None
    binary: bool


class Row(NamedTuple):
    """A usable record of a log: its event and the log's progress at it."""

    offset: int
    order: float
    event: dict[str, Any]

    @property
    def at(self) -> float:
        return float(self.event["event_time"])

    @property
    def key(self) -> tuple[str, str]:
        return self.event["prediction_id"], self.event["model"]


@dataclass
class Fate:
    """One prediction's life."""

    row: Row
    terms: Terms
    state: str = "pending"
    label: Any = None
    source: str = ""
    revision: int = -1
    votes: list[Row] = field(default_factory=list)

    def same(self, other: Any) -> bool:
        return (self.label == 1) == (other == 1) if self.terms.binary else float(self.label) == float(other)


class Joined(NamedTuple):
    """Examples as (completed, id, model, label, revision, previous, votes), the ledger's counts, and every fate."""

    examples: list[tuple[Any, ...]]
    count: Counter[str]
    fates: list[Fate]


def read(
    log: Sequence[Record], models: Sequence[str | None], mine: Any, takes: Any = None
) -> tuple[list[Row], float, int, int]:
    """Rows, final progress, rejected records and heartbeats of one partition's log. A row that `takes` refuses leaves
    no trace."""
    rows, progress, rejected, beats = list[Row](), -1.0, 0, 0
    for record in log:
        try:
            event = msgspec.json.decode(record.value or b"")
        except msgspec.DecodeError:
            rejected += 1
            continue
        if "heartbeat" in event:
            beats += 1
            progress = max(progress, event["heartbeat"])
        elif event.get("model") not in models or not mine(event["prediction_id"]):
            rejected += 1
        else:
            row = Row(record.offset, max(progress, event["event_time"]), event)
            if takes is None or takes(row):
                progress = row.order
                rows.append(row)
    return rows, progress, rejected, beats


def join(predictions: Sequence[Record], labels: Sequence[Record], terms: dict[str, Terms], mine: Any) -> Joined:
    """The join of one partition; `mine(id)` says whether an id belongs in it."""
    fates, votes, count = list[Fate](), list[Row](), Counter[str]()

    def takes(row: Row) -> bool:
        """The first prediction of every id within its horizon, and what shadows say."""
        if row.event.get("role") == "shadow":
            votes.append(row)
        elif any(f.row.key == row.key and row.order <= f.row.order + f.terms.horizon for f in fates):
            count["p duplicate"] += 1
            return False
        else:
            fates.append(Fate(row, terms[row.event["model"]]))
        return True

    _, past, bad_said, beats_said = read(predictions, [*terms], mine, takes)
    known, come, bad_known, beats_known = read(labels, [*terms, None], mine)
    count.update({"p rejected": bad_said, "l rejected": bad_known, "heartbeats": beats_said + beats_known})
    through, agenda = min(past, come), list[tuple[float, int, int, Fate, Row | None]]()
    for label in known:
        mate = next((fate for fate in fates if mates(fate, label)), None)
        early = terms[label.event["model"]].early if label.event.get("model") else max(t.early for t in terms.values())
        if mate:
            agenda.append((max(mate.row.order, label.order), KINDS["label"], label.offset, mate, label))
        else:
            count["orphaned" if label.order + early < through else "waiting"] += 1
    for vote in votes:
        heard = next((fate for fate in fates if hears(fate, vote)), None)
        if heard:
            heard.votes.append(vote)
    for fate in fates:
        row, after = fate.row, fate.terms.implicit
        if after is not None:
            agenda.append((max(row.order, row.at + after), KINDS["implicit"], row.offset, fate, None))
        agenda.append((row.order + fate.terms.horizon, KINDS["expire"], row.offset, fate, None))
    examples = list[tuple[Any, ...]]()
    for order, kind, _, fate, due in sorted(agenda, key=lambda item: item[:3]):
        if order < through:
            step(fate, order, kind, due, examples, count)
        else:
            count["waiting"] += kind == KINDS["label"]
    count.update(Counter(f"p {fate.state}" for fate in fates))
    return Joined(examples, +count, fates)


def mates(fate: Fate, label: Row) -> bool:
    same = fate.row.key[0] == label.event["prediction_id"] and label.event.get("model") in (None, fate.row.key[1])
    in_time = label.order <= fate.row.at + fate.terms.horizon and fate.row.order <= label.order + fate.terms.early
    return same and in_time


def hears(fate: Fate, vote: Row) -> bool:
    row = fate.row
    if vote.offset > row.offset:
        return vote.key == row.key and vote.order <= row.order + fate.terms.horizon
    return vote.key == row.key and row.order <= vote.order + fate.terms.early


def step(fate: Fate, order: float, kind: int, due: Row | None, out: list[tuple[Any, ...]], count: Counter[str]) -> None:
    """What falls due for one prediction at an order."""
    if kind == KINDS["expire"]:
        fate.state = "expired" if fate.state == "pending" else fate.state
    elif due is None:
        if fate.revision < 0:
            tell(fate, "implicit", 0, "implicit", order, out)
    elif due.event.get("retracted"):
        count["retracted"] += 1
        if fate.state == "joined" and fate.source == due.event.get("label_source", "world"):
            fate.state = "pending"
            count.update({"superseded": 1, "joined": -1})
    elif fate.state == "joined" and fate.same(due.event["label"]):
        count["l duplicate"] += 1
    else:
        count["superseded"] += fate.state == "joined"
        count["joined"] += fate.state != "joined"
        tell(fate, "joined", due.event["label"], due.event.get("label_source", "world"), order, out)


def tell(fate: Fate, state: str, label: Any, source: str, order: float, out: list[tuple[Any, ...]]) -> None:
    previous = fate.label
    fate.state, fate.label, fate.source, fate.revision = state, label, source, fate.revision + 1
    who = list(dict.fromkeys(v.event.get("learner", "champion") for v in fate.votes if v.order <= order))
    out.append((order, *fate.row.key, label, fate.revision, previous, who))


def windows(fates: Sequence[Fate], model: str, spans: Sequence[tuple[float, float]]) -> dict[tuple[float, float], Any]:
    """Of every span of event time: predictions, those with a label, and how far the answers were right (accuracy of a
    binary model, mean absolute error of a regression; None without labels). A span in which a prediction came when the
    window may have been forgotten is left out."""
    found: dict[tuple[float, float], Any] = {}
    for start, end in spans:
        inside = [f for f in fates if f.row.key[1] == model and start <= f.row.at < end]
        if any(f.row.order >= end + f.terms.horizon for f in inside):
            continue
        right = [score(f) for f in inside if f.revision >= 0]  # windows are told of no retraction
        found[start, end] = (len(inside), len(right), sum(right) / len(right) if right else None)
    return found


def score(fate: Fate) -> float:
    said = fate.row.event["prediction"]
    return float((fate.label == 1) == (said == 1)) if fate.terms.binary else abs(float(said) - float(fate.label))
