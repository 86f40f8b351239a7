"""The main comparisons as one page that needs nothing else: what the figures say, drawn. Decides nothing.

Plotly's JavaScript is embedded from the installed package. Delays are on a log scale; what was missed by half of the
runs has no bar.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from benchmarks.detection import telling

OURS, PEER, BASELINE = "#1f6f54", "#b8860b", "#888888"
SMALLEST = 0.01
"""A rate of nothing is drawn here: a log scale has no zero."""


def write(path: Path, document: dict[str, Any]) -> None:
    """One HTML file with a chart for each part that has one."""
    charts = [
        chart for part, draw in CHARTS if document["figures"].get(part) for chart in draw(document["figures"][part])
    ]
    page(path, "Detection, measured", charts, document["bars"], telling.lists(document))


def page(
    path: Path,
    title: str,
    charts: list[go.Figure],
    bars: list[dict[str, Any]],
    lists: Sequence[tuple[str, list[telling.Listed]]] = (),
) -> None:
    """Charts above lists and a table of bars, in one file."""
    bodies = [
        chart.to_html(full_html=False, include_plotlyjs="inline" if number == 0 else False)
        for number, chart in enumerate(charts)
    ]
    rows = "".join(
        f"<tr><td>{bar['name']}</td><td>{_number(bar['value'])}</td><td>{_number(bar['bound'])}</td>"
        f"<td>{bar['unit']}</td><td>{'holds' if bar['holds'] else 'DOES NOT HOLD'}</td></tr>"
        for bar in bars
    )
    head = "<tr><th>bar</th><th>value</th><th>bound</th><th>unit</th><th></th></tr>"
    told = "".join(
        f"<h2>{name}</h2><table>"
        + "".join(f"<tr><td>{one.what}</td><td>{one.figures}</td><td>{one.reason}</td></tr>" for one in listed)
        + "</table>"
        for name, listed in lists
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<!doctype html><meta charset='utf-8'><title>tidegate: {title}</title>"
        "<style>body{font:14px sans-serif;max-width:1100px;margin:2em auto}"
        "td,th{padding:2px 8px;text-align:left}</style>"
        f"<h1>{title}</h1>{''.join(bodies)}{told}<h2>Bars</h2><table>{head}{rows}</table>",
        encoding="utf-8",
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.4g}"


def _colour(name: str) -> str:
    if name.startswith(("ours", "default", "stationary", "streams and", "after real")):
        return OURS
    return BASELINE if name.startswith(("always", "never")) else PEER


def _bars(title: str, values: dict[str, float], axis: str) -> go.Figure:
    chart = go.Figure(
        go.Bar(
            x=[max(value, SMALLEST) for value in values.values()],
            y=list(values),
            orientation="h",
            marker_color=[_colour(name) for name in values],
            text=[f"{value:,.3g}" for value in values.values()],
        )
    )
    chart.update_xaxes(type="log", title=axis)
    chart.update_yaxes(autorange="reversed")
    chart.update_layout(title=title, height=140 + 26 * len(values), margin={"l": 260}, template="plotly_white")
    return chart


def _rates(found: dict[str, Any]) -> dict[str, float]:
    return {name: one["rate"] for name, one in found.items() if isinstance(one, dict) and "rate" in one}


def null(figures: dict[str, Any]) -> list[go.Figure]:
    found = {**_rates(figures["ours"]), **_rates(figures["peers"])}
    return [_bars("False alarms on fifty features that never change", found, figures["unit"])]


def rows(figures: dict[str, Any]) -> list[go.Figure]:
    """Delays by row: one group of bars for each detector."""
    told = figures["rows"]
    names = [name for name in next(iter(told.values())) if name not in ("always", "never")]
    chart = go.Figure(
        [
            go.Bar(
                name=name, x=list(told), y=[told[row].get(name, {}).get("median") for row in told],
                marker_color=OURS if name == names[0] else None,
            )
            for name in names
        ]
    )  # fmt: skip
    chart.update_yaxes(type="log", title=figures["unit"])
    chart.update_layout(title="Delay at equal false-alarm rate", barmode="group", height=480, template="plotly_white")
    return [chart]


def real(figures: dict[str, Any]) -> list[go.Figure]:
    return [
        _bars(f"{name}, {grain} permuted: false alarms", _rates(found), figures["unit"])
        for name, grains in figures["permuted"].items()
        if isinstance(grains, dict)
        for grain, found in grains.items()
    ]


def known(figures: dict[str, Any]) -> list[go.Figure]:
    return [_bars(f"Known drifts: F1 on {kind}, mean", f1, "F1") for kind, f1 in figures["mean_f1"].items() if f1]


CHARTS = (("null", null), ("delays", rows), ("errors", rows), ("real", real), ("known", known))
