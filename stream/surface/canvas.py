"""Lines, axes and words of pictures: what all of them share. Refuses to know what is drawn.

Colours of text and grid are left to the page, which knows whether it is dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

Figure: TypeAlias = dict[str, Any]

SMOOTH_WINDOWS: Final = 7
"""Windows of the moving mean that is drawn bold: a week of days."""


def line(
    x: list[str], y: list[float], colour: str, name: str, width: float, dash: str = "solid", **more: Any
) -> Figure:
    style = {"color": colour, "width": width, "dash": dash}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "name": name, "line": style, **more}


def layout_of(height: int, **axes: Any) -> Figure:
    layout: Figure = {
        "height": height,
        "margin": {"l": 56, "r": 16, "t": 12, "b": 40},
        "xaxis": {"type": "date"},
        "yaxis": {},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"align": "left"},
    }
    for name, axis in axes.items():
        layout[name] = {**layout[name], **axis}
    return layout


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
