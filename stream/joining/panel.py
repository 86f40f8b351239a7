"""Several labels of one event: who has said what of a prediction, and what stands (F25).

Owns that each annotator has one vote. Refuses to know how votes are weighed (`learners.annotators`) and what becomes of
the label that stands (`stream.joining.settling`). Annotators are judged by the labels of one partition: each shard has
estimates of its own.
"""

from __future__ import annotations

from learners.annotators import NOTHING, Annotators, Resolved, Vote
from stream import limits
from stream.events import Class
from stream.joining.pending import Entry, Known


def annotator(known: Known) -> str:
    """Who says it: the annotator, or the source where none is named."""
    return known.label.annotator or known.label.label_source


def hear(panel: Annotators, entry: Entry, known: Known, value: Class) -> Resolved | None:
    """Take one more vote, in place of an earlier one of the same annotator, and say what stands now; None where the
    prediction has all the votes that it may have."""
    taken, who = entry.taken or NOTHING, annotator(known)
    votes = [vote for vote in taken.votes if vote.annotator != who]
    if len(votes) >= limits.VOTES_MAX:
        return None
    confidence = known.label.confidence
    votes.append(Vote(who, value, 1.0 if confidence is None else confidence))
    entry.taken = panel.learn(taken, votes)
    return panel.resolve(votes)


def unhear(panel: Annotators, entry: Entry, known: Known) -> Resolved | None:
    """Take an annotator's vote back, and say what stands now; None where nobody is left."""
    taken, who = entry.taken or NOTHING, annotator(known)
    votes = [vote for vote in taken.votes if vote.annotator != who]
    entry.taken = panel.learn(taken, votes)
    return panel.resolve(votes) if votes else None


def has_voted(entry: Entry, known: Known) -> bool:
    return any(vote.annotator == annotator(known) for vote in (entry.taken or NOTHING).votes)
