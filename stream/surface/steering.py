"""The report's cards about how learning is steered: challengers, traffic, guard, updates, ageing (F26, F30 to F37).

Owns their order and words; pictures and rows come from `trials`, `arms`, `upkeep` and `ageing`. What did not happen has
no card.
"""

from __future__ import annotations

from html import escape

from stream.surface import ageing, arms, trials, upkeep
from stream.surface.cards import Picture, card, table_of
from stream.surface.figures import Document

UPDATES_NOTE = "What the policy of learning did, and what it cost."

SOURCES_NOTE = "How many of the labels each source sent, and how much of what is learned is theirs."

BALANCE_NOTE = "How frequent each class is, and how much of what is learned is of it."

LEAD_NOTE = (
    "Above: the lead of each challenger over the champion, summed up; diamonds are steps of its trial. Below: who was "
    "served."
)

EVIDENCE_NOTE = (
    "What was known of each challenger at each step. Intervals hold at any time, however often they are looked at; the "
    "evidence is a bet against chance, and 20 to 1 stands for a test at 5 %."
)


def cards(document: Document, model: str, picture: Picture) -> list[str]:
    """The cards as HTML; `picture` takes each picture."""
    return [*_challengers(document, model, picture), *_upkeep(document, model, picture)]


def _challengers(document: Document, model: str, picture: Picture) -> list[str]:
    """The cards of trials and of arms."""
    cards = []
    lead, evidence = trials.lead(document, model), trials.evidence(document, model)
    rows = [[escape(cell) for cell in row] for row in trials.rows(document, model)]
    if rows:
        inner = picture("lead", lead) if lead["data"] else ""
        cards.append(card("Challengers", LEAD_NOTE, inner))
        head = ("challenger", "now", "served", "labels", "advantage", "interval", "for better", "for worse")
        table = table_of(head, rows, ("t", "t", "n", "n", "n", "n", "n", "n"))
        cards.append(card("Evidence of trials", EVIDENCE_NOTE, picture("evidence", evidence) + table))
    values, course = arms.values(document, model), arms.course(document, model)
    shares = course if course["data"] else arms.shares(document, model)
    if values["data"]:
        inner = (picture("shares", shares) if shares["data"] else "") + picture("values", values)
        cards.append(card("Traffic", arms.words(document, model), inner))
    return cards


def _upkeep(document: Document, model: str, picture: Picture) -> list[str]:
    """The cards of guard, updates and ageing, of label sources and of classes, where there is something to show."""
    drawn = (
        ("Guard", "guard", upkeep.guard_words(document, model), upkeep.guard(document, model)),
        ("How fast it ages", "ageing", ageing.words(document, model), ageing.curve(document, model)),
        ("Sources of labels", "sources", SOURCES_NOTE, upkeep.sources(document, model)),
        ("Rare classes", "balance", BALANCE_NOTE, upkeep.balance(document, model)),
    )
    cards = [card(title, note, picture(key, figure)) for title, key, note, figure in drawn if figure["data"]]
    batches = upkeep.updates(document, model)
    rows = [[escape(cell) for cell in row] for row in upkeep.update_rows(document, model)]
    if rows:
        inner = picture("updates", batches) if batches["data"] else ""
        cards.append(card("Updates", UPDATES_NOTE, inner + table_of(("", ""), rows, ("t", ""))))
    return cards
