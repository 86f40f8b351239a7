"""Several labels of one event: who has said what of a prediction, and what stands (F25).

Owns that each annotator has one vote. Refuses to know how votes are weighed (`learners.annotators`) and what becomes of
the label that stands (`stream.joining.settling`). Annotators are judged by the labels of one partition: each shard has
estimates of its own.
"""

from __future__ import annotations

import math

from learners.annotators import NOTHING, Annotators, Resolved, Vote
from learners.metrics import Task
from learners.weak import PREFIX
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


def suppose(panel: Annotators | None, entry: Entry, votes: list[Vote], task: Task) -> Resolved:
    """What weak rules say of a prediction that nobody has labelled in time; with a panel they go on voting beside the
    people who may follow, and are judged like them. Without one nobody judges them, and the belief is what they say of
    themselves: the confidence of those who agree, divided by the number of votes."""
    if panel is None:
        resolved = Annotators(task, "majority").resolve(votes)
        agree = [vote.confidence for vote in votes if task == "regression" or vote.label == resolved.label]
        return resolved._replace(share=math.fsum(agree) / len(votes))
    entry.taken = panel.learn(entry.taken or NOTHING, votes)
    return panel.resolve(votes)


def unhear(panel: Annotators, entry: Entry, known: Known) -> Resolved | None:
    """Take an annotator's vote back, and say what stands now; None where nobody is left, but for weak rules."""
    taken, who = entry.taken or NOTHING, annotator(known)
    votes = [vote for vote in taken.votes if vote.annotator != who]
    entry.taken = panel.learn(taken, votes)
    return panel.resolve(votes) if any(not vote.annotator.startswith(PREFIX) for vote in votes) else None


def has_voted(entry: Entry, known: Known) -> bool:
    return any(vote.annotator == annotator(known) for vote in (entry.taken or NOTHING).votes)
