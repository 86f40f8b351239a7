"""The learning benchmark as one page that needs nothing else. Decides nothing; how a page is made is told in
`benchmarks.detection.picture`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from benchmarks.detection.picture import BASELINE, OURS, PEER, page
from benchmarks.learning import prequential as part

PLAIN = (part.NO_CHANGE, part.MAJORITY)


def write(path: Path, document: dict[str, Any]) -> None:
    """One HTML file with the charts of the parts that have one, and the bars of all."""
    charts = [
        chart for name, draw in CHARTS if document["figures"].get(name) for chart in draw(document["figures"][name])
    ]
    page(path, "Learning, measured", charts, document["bars"])


def prequential(figures: dict[str, Any]) -> list[go.Figure]:
    """One chart a delay: accuracy of each model on each stream."""
    cells = part.cells(figures["streams"])
    charts = []
    for delay in dict.fromkeys(delay for _, delay, _ in cells):
        rows = {name: row for name, at, row in cells if at == delay}
        models = dict.fromkeys(model for row in rows.values() for model in row["models"])
        dots = [
            go.Scatter(
                name=model,
                x=[row["models"].get(model, {}).get("accuracy") for row in rows.values()],
                y=list(rows),
                mode="markers",
                marker={"size": 12 if model == part.OURS else 8, "color": _colour(model)},
            )
            for model in models
        ]
        best = go.Scatter(
            name="best expert in hindsight",
            x=[row["best_expert"] for row in rows.values()],
            y=list(rows),
            mode="markers",
            marker={"symbol": "line-ns-open", "size": 16, "color": OURS},
        )
        charts.append(_laid_out(go.Figure([*dots, best]), f"Accuracy, labels {delay} events late", "% right"))
    return charts


def overhead(figures: dict[str, Any]) -> list[go.Figure]:
    models = figures["models"]
    bars = [
        go.Bar(name=name, x=[one[key] for one in models.values()], y=list(models), orientation="h", marker_color=colour)
        for name, key, colour in (("bare loop", "bare_us", PEER), ("learn stage", "stage_us", OURS))
    ]
    return [_laid_out(go.Figure(bars), "Learning through the engine", figures["unit"])]


def _laid_out(chart: go.Figure, title: str, axis: str) -> go.Figure:
    chart.update_xaxes(title=axis)
    chart.update_yaxes(autorange="reversed")
    chart.update_layout(title=title, height=520, margin={"l": 260}, template="plotly_white")
    return chart


def _colour(model: str) -> str | None:
    return OURS if model == part.OURS else BASELINE if model in PLAIN else None


CHARTS = (("prequential", prequential), ("overhead", overhead))
