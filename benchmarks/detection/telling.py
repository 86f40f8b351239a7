"""What is no bar but must not be overlooked: rows where a peer is quicker, streams where always alarming scores better.

Owns how they are listed, on the terminal and on the page; refuses to know how they were measured.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

QUICKER = "rows where a peer is quicker, and why"
ALWAYS = "known drifts beside always alarming"
WIDTH = 160


class Listed(NamedTuple):
    """One row of a list: what, the figures, and the reason (nothing where none is owed)."""

    what: str
    figures: str
    reason: str


def quicker(figures: dict[str, Any]) -> list[Listed]:
    """Of the parts `delays` and `errors`; none where peers were not tuned."""
    found = figures["a_peer_is_quicker"]
    return [
        Listed(
            f"{row}: {lost['peer']}",
            f"{lost['peer_median']:,.0f}; {lost['against']} {lost['ours']:,.0f}; "
            f"{100 * lost['quicker_by']:.0f} % quicker",
            lost["reason"],
        )
        for row, several in (found.items() if isinstance(found, dict) else ())
        for lost in several
        if lost["ours"] is not None and lost["quicker_by"] is not None
    ]


def always(figures: dict[str, Any]) -> list[Listed]:
    """Of the part `known`: every stream, and the reason where always alarming scores better."""
    return [
        Listed(
            f"{told['stream']}, {told['kind']}",
            f"F1 {told['ours']:.2f}, always {told['always']:.2f}"
            + (" (ALWAYS ALARMING SCORES BETTER)" if told["reason"] else ""),
            told["reason"],
        )
        for told in figures["against_always"]
    ]


LISTS = {"delays": (QUICKER, quicker), "errors": (QUICKER, quicker), "known": (ALWAYS, always)}


def lists(document: dict[str, Any]) -> list[tuple[str, list[Listed]]]:
    """All lists of a whole run, each with its title."""
    figures = document["figures"]
    return [
        (f"{part}: {title}", listed)
        for part, (title, make) in LISTS.items()
        if figures.get(part)
        for listed in (make(figures[part]),)
        if listed
    ]


def show(title: str, listed: list[Listed]) -> None:
    """On the terminal; each reason once, under the rows, by its number."""
    if not listed:
        return
    table = Table("", "", "reason", title=title, width=WIDTH)
    reasons = list(dict.fromkeys(one.reason for one in listed if one.reason))
    for one in listed:
        table.add_row(one.what, one.figures, f"({reasons.index(one.reason) + 1})" if one.reason else "")
    console = Console(width=WIDTH)
    console.print(table)
    for number, reason in enumerate(reasons, 1):
        console.print(f"({number}) {reason}.\n", highlight=False)
