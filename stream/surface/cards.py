"""The report's cards and tables as HTML. Refuses to know what stands in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import TypeAlias

from stream.surface.canvas import Figure
from stream.surface.console import count

Picture: TypeAlias = Callable[[str, Figure], str]
"""Takes a picture by its kind, and gives the place that it is drawn in, as HTML."""


def card(title: str, note: str, inner: str) -> str:
    """A title, a sentence, and what is HTML already."""
    return f'<section class="card"><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{inner}</section>'


def table_of(head: Sequence[str], rows: Sequence[Sequence[str]], classes: Sequence[str], more: int = 0) -> str:
    """A table of cells that are HTML already."""
    named = "".join(f'<th class="{c}">{escape(h)}</th>' for h, c in zip(head, classes, strict=True))
    top = f"<tr>{named}</tr>" if any(head) else ""
    lines = "".join(
        "<tr>" + "".join(f'<td class="{c}">{cell}</td>' for cell, c in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    rest = f'<p class="note">{count(more)} more in the JSON result.</p>' if more > 0 else ""
    return f'<div class="wide"><table>{top}{lines}</table></div>{rest}'
