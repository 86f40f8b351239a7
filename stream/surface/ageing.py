"""How fast a model ages and how often to update it (F37): the picture of its freshness curve, from a result's dict.

Refuses to know HTML, and how losses become a curve (`learners.freshness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

from stream.surface.canvas import Figure, layout_of
from stream.surface.console import count, duration
from stream.surface.figures import CHAMPION, GOOD, Document

AGE_TICKS: Final = {
    "1 s": 1, "5 s": 5, "15 s": 15, "1 min": 60, "5 min": 300, "15 min": 900, "30 min": 1800, "1 h": 3600, "2 h": 7200,
    "4 h": 14400, "8 h": 28800, "1 d": 86400, "2 d": 172800, "4 d": 345600, "8 d": 691200, "16 d": 1382400,
    "32 d": 2764800, "64 d": 5529600, "1 y": 31536000,
}  # fmt: skip

COSTS_SHOWN: Final = 2.5
"""Costs up to so many times the least are drawn; those of updating without end would flatten the rest."""

COST_POINTS: Final = 40
"""Of the line of costs between no interval and the oldest age."""


def curve(document: Document, model: str) -> Figure:
    """Loss against the age of a copy with 90 % intervals, the fitted curve, what updating at each interval costs, and
    the interval that is recommended."""
    found = _freshness(document, model)
    points, interval = found.get("curve") or [], found.get("interval") or {}
    traces: list[Figure] = []
    known = [point for point in points if point["low"] is not None]
    if known:
        traces = [_edge(known, "high"), _edge(known, "low") | {"fill": "tonexty", "fillcolor": "rgba(47,126,216,0.15)"}]
    if points:
        traces += [*_curve(points), *_costs(points, interval)]
    layout = layout_of(320, yaxis={"title": {"text": "loss more than the champion's"}, "rangemode": "tozero"})
    layout["xaxis"] = {
        "type": "log", "title": {"text": "age of the copy; interval between updates"},
        "tickvals": list(AGE_TICKS.values()), "ticktext": list(AGE_TICKS),
    }  # fmt: skip
    if interval.get("best"):
        layout["shapes"] = _recommended(interval, points[-1]["age"])
    return {"data": traces, "layout": layout}


def _curve(points: list[dict[str, Any]]) -> list[Figure]:
    x = [point["age"] for point in points]
    return [
        {"type": "scatter", "mode": "markers", "name": "copies of this age", "x": x,
         "y": [round(point["mean"], 6) for point in points], "marker": {"color": CHAMPION, "size": 9},
         "text": [f"{duration(point['age'])} old, {count(point['pairs'])} answers" for point in points],
         "hovertemplate": "%{text}<br>%{y:+.4f}<extra></extra>"},
        {"type": "scatter", "mode": "lines", "name": "fitted", "x": x, "hoverinfo": "skip",
         "y": [round(point["fitted"], 6) for point in points], "line": {"color": CHAMPION, "width": 2}},
    ]  # fmt: skip


def _edge(known: list[dict[str, Any]], end: str) -> Figure:
    return {
        "type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip", "line": {"width": 0},
        "x": [point["age"] for point in known], "y": [round(point[end], 6) for point in known],
    }  # fmt: skip


def _recommended(interval: Mapping[str, Any], oldest: float) -> list[Figure]:
    band: Figure = {"type": "rect", "layer": "below", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0},
                    "x0": interval["low"] or interval["best"], "x1": interval["high"] or oldest,
                    "fillcolor": "rgba(24,169,153,0.13)"}  # fmt: skip
    best: Figure = {"type": "line", "layer": "below", "yref": "paper", "y0": 0, "y1": 1, "x0": interval["best"],
                    "x1": interval["best"], "line": {"color": GOOD, "width": 2}}  # fmt: skip
    return [band, best]


def _costs(points: list[dict[str, Any]], interval: Mapping[str, Any]) -> list[Figure]:
    """What an answer costs by the interval between updates: the loss of age and the price of updates, both in loss. The
    price is read off the recommendation: there the last bit of age costs what a longer interval saves
    (`learners.freshness`)."""
    best = interval.get("best")
    if best is None:
        return []
    corners = [(0.0, 0.0), *((point["age"], point["fitted"]) for point in points)]
    price = best * (_height(corners, best) - interval["excess"])
    least, most = min(best / 2, corners[1][0]), corners[-1][0]
    ages = [least * (most / least) ** (i / (COST_POINTS - 1)) for i in range(COST_POINTS)]
    costs = [(age, (_area(corners, age) + price) / age) for age in ages]
    shown = [(age, cost) for age, cost in costs if cost <= COSTS_SHOWN * (interval["excess"] + price / best)]
    return [{
        "type": "scatter", "mode": "lines", "name": "cost of updating this often",
        "x": [round(age, 3) for age, _ in shown], "y": [round(cost, 6) for _, cost in shown],
        "line": {"color": GOOD, "width": 2, "dash": "dash"},
        "text": [duration(age) for age, _ in shown],
        "hovertemplate": "every %{text}<br>%{y:.4f} an answer<extra></extra>",
    }]  # fmt: skip


def _height(corners: list[tuple[float, float]], age: float) -> float:
    """Of the line through the corners, which ascend."""
    for (x0, y0), (x1, y1) in pairwise(corners):
        if age <= x1:
            return y0 + (y1 - y0) * (age - x0) / (x1 - x0)
    return corners[-1][1]


def _area(corners: list[tuple[float, float]], age: float) -> float:
    """Under the line from 0 to an age."""
    inner = [*(corner for corner in corners if corner[0] < age), (age, _height(corners, age))]
    return sum((y0 + y1) / 2 * (x1 - x0) for (x0, y0), (x1, y1) in pairwise(inner))


def words(document: Document, model: str) -> str:
    """The recommendation in words."""
    found = _freshness(document, model)
    interval = found.get("interval")
    said = f"What frozen copies of the champion lose by growing old, of {count(found.get('examples', 0))} answers. "
    if interval is None:
        return said + "Not enough yet to recommend an interval between updates."
    if interval["best"] is None:
        return said + "It does not age: updates are not worth their cost within the ages looked at."
    ends = [duration(interval[end]) if interval[end] else "longer than was looked at" for end in ("low", "high")]
    return said + (
        f"Update every {duration(interval['best'])} ({ends[0]} to {ends[1]} with 90 %); an answer then loses "
        f"{interval['excess']:.4f} by the champion's age."
    )


def _freshness(document: Document, model: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document["learning"]["models"].get(model, {}).get("freshness") or {}
    return found
