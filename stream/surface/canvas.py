"""Lines, axes and words of pictures: what all of them share. Refuses to know what is drawn.

Colours of text and grid are left to the page, which knows whether it is dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

Figure: TypeAlias = dict[str, Any]


class Estimate(NamedTuple):
    """A row of a picture of intervals: its name, the value with the ends of its interval, and what a pointer shows."""

    name: str
    value: float
    low: float
    high: float
    words: str


SMOOTH_WINDOWS: Final = 7
"""Windows of the moving mean that is drawn bold: a week of days."""


def line(
    x: list[str], y: Sequence[float | None], colour: str, name: str, width: float, dash: str = "solid", **more: Any
) -> Figure:
    style = {"color": colour, "width": width, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style, **more}


def layout_of(height: int, **axes: Any) -> Figure:
    layout: Figure = {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 12, "b": 40},
        "xaxis": {"type": "date"},
        "yaxis": {},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
    }
    for name, axis in axes.items():
        layout[name] = {**layout[name], **axis}
    return layout


def intervals(rows: Sequence[Estimate], colour: str, name: str, height: int) -> Figure:
    """Values with their intervals one below the other, the first on top; `name` says what they are."""
    trace = {
        "type": "scatter", "mode": "markers", "name": name, "showlegend": False,
        "x": [round(row.value, 6) for row in rows], "y": [row.name for row in rows],
        "error_x": {
            "type": "data", "symmetric": False, "thickness": 2, "width": 4, "color": colour,
            "array": [round(row.high - row.value, 6) for row in rows],
            "arrayminus": [round(row.value - row.low, 6) for row in rows],
        },
        "marker": {"color": colour, "size": 9},
        "text": [wrapped(row.words) for row in rows], "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    layout = layout_of(height, xaxis={"type": "linear", "title": {"text": name, "standoff": 6}})
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    layout["margin"]["b"] = 56
    return {"data": [trace] if rows else [], "layout": layout}


def nought(layout: Figure, axis: str = "x") -> None:
    """A line where there is no difference."""
    across = {"x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1} if axis == "x" else {
        "y0": 0, "y1": 0, "xref": "paper", "x0": 0, "x1": 1}  # fmt: skip
    layout["shapes"] = [{"type": "line", "layer": "below", "line": {"color": "#8d99a6", "width": 1, "dash": "dot"},
                         **across}]  # fmt: skip


def scale(rgb: str, reverse: bool = False) -> list[list[Any]]:
    """From invisible to full colour: right on a light and on a dark page."""
    stops = [(0.0, 0.06), (0.2, 0.25), (0.5, 0.6), (1.0, 1.0)]
    if reverse:
        stops = [(1.0 - at, opacity) for at, opacity in reversed(stops)]
    return [[at, f"rgba({rgb},{opacity})"] for at, opacity in stops]


def smooth(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Weighted moving mean over the last windows."""
    out = []
    for i in range(len(values)):
        part = slice(max(i - SMOOTH_WINDOWS + 1, 0), i + 1)
        total = sum(weights[part])
        mean = sum(v * w for v, w in zip(values[part], weights[part], strict=True)) / total if total else values[i]
        out.append(round(mean, 6))
    return out


def wrapped(text: str, width: int = 60) -> str:
    """Plotly does not break lines; `<` must not become a tag."""
    lines: list[str] = [""]
    for word in text.replace("&", "&amp;").replace("<", "&lt;").split():
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "<br>".join(lines)
