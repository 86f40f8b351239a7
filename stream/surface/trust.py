"""Whether scores mean what they say, and whether groups are treated alike: a picture and the rows of a table, from a
result's dict alone."""

from __future__ import annotations

from typing import Any, Final

from stream.surface.canvas import Estimate, Figure, intervals, layout_of, nought
from stream.surface.figures import BASELINE, CHAMPION, Document

MEASURES: Final = {
    "demographic_parity": "positive predictions",
    "disparate_impact": "positive predictions, ratio",
    "equal_opportunity": "true positives",
    "equalised_odds": "true or false positives",
    "predictive_parity": "precision",
}
"""What is compared between groups, in the order of the table."""

MARKER_MAX: Final = 26.0
"""Pixels of the marker of the bin with most rows; areas go with rows."""


def calibration(document: Document, model: str) -> Figure:
    """The champion's reliability curve over the whole run: how often labels came true by what the score said."""
    found = document["models"][model]["watch"].get("calibration") or {}
    bins = found.get("bins", [])
    most = max((n for *_, n in bins), default=1)
    diagonal = {
        "type": "scatter", "mode": "lines", "x": [0, 1], "y": [0, 1], "name": "as said", "hoverinfo": "skip",
        "line": {"color": BASELINE, "width": 1, "dash": "dot"},
    }  # fmt: skip
    curve = {
        "type": "scatter", "mode": "lines+markers", "name": "came true",
        "x": [round(score, 4) for score, *_ in bins], "y": [round(ones, 4) for _, ones, _ in bins],
        "line": {"color": CHAMPION, "width": 1.8},
        "marker": {"color": CHAMPION, "size": [round(max(MARKER_MAX * (n / most) ** 0.5, 4.0), 1) for *_, n in bins]},
        "customdata": [n for *_, n in bins],
        "hovertemplate": "said %{x:.1%}, came true %{y:.1%}<br>%{customdata:,} predictions<extra></extra>",
    }  # fmt: skip
    axis = {"type": "linear", "range": [0, 1], "tickformat": ".0%"}
    layout = layout_of(
        320,
        xaxis={**axis, "title": {"text": "score"}},
        yaxis={"range": [0, 1], "tickformat": ".0%", "title": {"text": "labels that came true"}},
    )
    return {"data": [diagonal, curve] if bins else [], "layout": layout}


def calibration_words(document: Document, model: str) -> str:
    """One sentence on the error."""
    found: dict[str, Any] = document["models"][model]["watch"].get("calibration") or {}
    return (
        f"What the champion's scores said, and how often it came true. Expected calibration error "
        f"{found.get('ece', 0.0):.3f}, what chance gives taken off."
    )


def fairness(document: Document, model: str) -> Figure:
    """The largest difference between two groups by group and rate, each with its interval; the ratio stands in the
    table, as it has another scale."""
    rows = []
    for group, measure, told in _gaps(document, model):
        if "gap" in told:
            name = f"{group}: {MEASURES[measure]}"
            words = f"{name}: {told['worst']} and {told['best']} lie {told['gap']:.1%} apart"
            rows.append(Estimate(name, told["gap"], told["low"], told["high"], words))
    picture = intervals(rows, CHAMPION, "difference", 90 + 28 * max(len(rows), 2))
    picture["layout"]["xaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    nought(picture["layout"])
    return picture


def fairness_rows(document: Document, model: str) -> list[list[str]]:
    """Group, measure, gap, its interval, the worst and the best group, and groups with too few rows."""
    rows = []
    for group, measure, told in _gaps(document, model):
        ratio = "ratio" in told
        size, low, high = (told["ratio"] if ratio else told["gap"]), told["low"], told["high"]
        shown = [f"{x:.2f}" if ratio else f"{100 * x:.1f}" for x in (size, low, high)]
        unit = "" if ratio else " points"
        interval = f"{shown[1]} to {shown[2]}"
        left_out = ", ".join(told.get("left_out", []))
        rows.append([group, MEASURES[measure], shown[0] + unit, interval, told["worst"], told["best"], left_out])
    return rows


def _gaps(document: Document, model: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Group, measure and what is known of it, in the order of the table."""
    found = document["models"][model]["watch"].get("fairness", {}).get("overall", {})
    return [(group, measure, measures[measure]) for group, measures in found.items() for measure in MEASURES
            if measure in measures]  # fmt: skip
