"""Results as pictures: pure functions from a result's dict to a Plotly figure as plain JSON (`data`, `layout`).

The report embeds them and a live page can fetch them, so nothing here imports Plotly or knows HTML. Colours of text
and grid are left to the page, which knows whether it is dark; what carries meaning has its colour here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from stream.runtime.known import moment
from stream.surface.canvas import SMOOTH_WINDOWS, Figure, layout_of, line, scale, smooth, wrapped

Document: TypeAlias = Mapping[str, Any]

CHAMPION: Final = "#2f7ed8"
BASELINE: Final = "#8d99a6"
CHALLENGERS: Final = ("#18a999", "#d98c21", "#a05fc9", "#c2557a", "#6a994e")
SEVERITY: Final = {"critical": "#d6455d", "warning": "#e0962f", "information": "#7d8ea3"}
GOOD, WAITING, LOST, BAD = "#18a999", "#7d8ea3", "#e0962f", "#d6455d"

KINDS: Final = {
    "data_quality": "data quality",
    "covariate_drift": "covariate",
    "prediction_drift": "prediction",
    "label_drift": "label",
    "concept_drift": "concept",
    "label_delay": "label delay",
    "business_drift": "business",
    "fairness": "fairness",
    "operations": "operations",
}

PSI_DECADES: Final = (-2.0, 1.0)
"""Colours go by the logarithm: one day of weather is far from three weeks of it, and a feature that has truly moved is
still seen to have."""

FEATURES_SHOWN: Final = 30
SLICES_SHOWN: Final = 24

LEDGER_STATES: Final = (
    "joined", "pending", "waiting", "expired", "orphaned", "duplicate", "superseded", "retracted", "rejected",
)  # fmt: skip
"""The terms of the ledger's equations (`stream.ledger`); other counts of it are parts of these."""

METRICS: Final = {
    "binary": ("accuracy", "roc_auc", "log_loss"),
    "multiclass": ("accuracy", "log_loss"),
    "regression": ("mae", "rmse"),
}
"""What is drawn, the first at first."""

LABELS: Final = {
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "mae": "mean absolute error",
    "rmse": "RMSE",
}

DELAY_TICKS: Final = {
    "1 s": 1 / 3600, "10 s": 1 / 360, "1 min": 1 / 60, "5 min": 1 / 12, "30 min": 0.5, "1 h": 1, "2 h": 2, "4 h": 4,
    "8 h": 8, "1 d": 24, "3 d": 72, "7 d": 168, "30 d": 720, "90 d": 2160,
}  # fmt: skip


def metric_of(task: str) -> str:
    """The metric that stands first for a task."""
    return METRICS[task][0]


def performance(document: Document, model: str) -> Figure:
    """Every learner's metrics over event time, with the alerts marked. `choices` are the metrics to choose from: the
    traces of one have its name as `meta`, and those of the first are visible."""
    windows = [w for w in whole(document, model) if w.get("metrics")]
    metrics = [m for m in METRICS[document["models"][model]["task"]] if any(m in w["metrics"] for w in windows)]
    traces: list[Figure] = []
    for metric in metrics:
        for trace in _courses(document, model, [w for w in windows if metric in w["metrics"]], metric):
            traces.append({**trace, "visible": metric == metrics[0], "meta": metric})
    traces += _alert_marks(document, model)
    layout = layout_of(400)
    layout["yaxis2"] = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
    layout["hovermode"] = "x unified"
    return {"data": traces, "layout": layout, "choices": [[metric, LABELS[metric]] for metric in metrics]}


def _courses(document: Document, model: str, windows: list[Mapping[str, Any]], metric: str) -> list[Figure]:
    """One line a learner, smoothed where there are many windows; the champion's own beneath."""
    traces = []
    for learner in learners(document, model):
        own = [w for w in windows if w.get("learner", "champion") == learner]
        if not own:
            continue
        x, y = [moment(w["start"]) for w in own], [round(w["metrics"][metric], 4) for w in own]
        colour = colour_of(document, model, learner)
        dash = "dot" if learner == "baseline" else "solid"
        if len(own) > 3 * SMOOTH_WINDOWS:
            if learner == "champion":
                traces.append(line(x, y, colour, learner, width=1, opacity=0.35, showlegend=False, hoverinfo="skip"))
            y = smooth(y, [w.get("n_labelled", 0) for w in own])
        width = 2.6 if learner == "champion" else 1.5
        traces.append(line(x, y, colour, learner, width=width, dash=dash, hovertemplate="%{y:.3f}"))
    return traces


def drift(document: Document, model: str) -> Figure:
    """PSI of every feature against the reference by reporting window, the most drifted on top."""
    windows = [w for w in whole(document, model) if w.get("learner", "champion") == "champion" and w.get("drift")]
    names = sorted({name for w in windows for name in w["drift"]})
    mean = {n: sum(w["drift"].get(n, {}).get("psi", 0.0) for w in windows) / max(len(windows), 1) for n in names}
    shown = sorted(names, key=lambda n: (mean[n], n))[-FEATURES_SHOWN:]
    found = [[w["drift"].get(name, {}).get("psi") for w in windows] for name in shown]
    heat = {
        "type": "heatmap",
        "x": [moment(w["start"]) for w in windows],
        "y": [name.removeprefix("feature/").replace("missing/", "missing: ") for name in shown],
        "z": [[None if v is None else round(math.log10(max(v, 1e-3)), 2) for v in row] for row in found],
        "customdata": [[None if v is None else round(v, 3) for v in row] for row in found],
        "zmin": PSI_DECADES[0],
        "zmax": PSI_DECADES[1],
        "colorscale": scale("214,69,93"),
        "colorbar": {
            "title": {"text": "PSI"},
            "thickness": 10,
            "outlinewidth": 0,
            "tickvals": [-2, -1, 0, 1],
            "ticktext": ["0.01", "0.1", "1", "10"],
        },
        "hovertemplate": "%{y}<br>%{x}<br>PSI %{customdata}<extra></extra>",
        "xgap": 0,
        "ygap": 2,
    }
    layout = layout_of(110 + 20 * max(len(shown), 3), yaxis={"showgrid": False, "automargin": True})
    layout["xaxis"]["showgrid"] = False
    return {"data": [heat], "layout": layout}


def alerts(document: Document, model: str) -> Figure:
    """Each alert from its estimated begin to its resolution (or its last word), one lane a kind."""
    traces: list[Figure] = []
    for alert in by_alert(document, model):
        first, last = alert["first"], alert["last"]
        begin = (first.get("since") or {}).get("estimate") or first["at"]
        colour = SEVERITY[last["severity"]]
        lane = KINDS.get(first["kind"], first["kind"])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": [begin, first["at"], last["at"]],
                "y": [lane] * 3,
                "line": {"color": colour, "width": 5},
                "marker": {
                    "color": colour,
                    "line": {"width": 0},
                    "size": [0, 13, 9],
                    "symbol": ["circle", "diamond", "circle" if last["status"] == "resolved" else "triangle-right"],
                },
                "opacity": 0.85,
                "showlegend": False,
                "hovertemplate": f"{wrapped(last['summary'])}<br>{last['status']}<extra></extra>",
            }
        )
    lanes = [lane for lane in KINDS.values() if any(trace["y"][0] == lane for trace in traces)]
    layout = layout_of(120 + 36 * max(len(lanes), 1))
    layout["yaxis"] = {"type": "category", "categoryarray": lanes[::-1], "categoryorder": "array", "automargin": True}
    if document["feed"]["first"]:
        layout["xaxis"]["range"] = [document["feed"]["first"], document["feed"]["last"]]
    return {"data": traces, "layout": layout}


def delays(document: Document, model: str) -> Figure:
    """How long labels took to come back: share by delay, on a logarithmic axis."""
    found = document.get("delays", {}).get(model, {"edges_s": [], "counts": []})
    edges, counts = found["edges_s"], found["counts"]
    total = sum(counts) or 1
    steps = {
        "type": "scatter",
        "mode": "lines",
        "x": [round(edge / 3600.0, 5) for edge in edges],
        "y": [round(count / total, 5) for count in counts] + [0.0] * bool(counts),
        "line": {"shape": "hv", "color": CHAMPION, "width": 1.5},
        "fill": "tozeroy",
        "fillcolor": "rgba(47,126,216,0.3)",
        "hovertemplate": "from %{x:.2f} h: %{y:.1%}<extra></extra>",
        "showlegend": False,
    }
    layout = layout_of(300, yaxis={"tickformat": ".0%", "title": {"text": "share of labels"}, "rangemode": "tozero"})
    layout["xaxis"] = {
        "type": "log",
        "title": {"text": "from prediction to label"},
        "tickvals": list(DELAY_TICKS.values()),
        "ticktext": list(DELAY_TICKS),
    }
    return {"data": [steps], "layout": layout}


def ledger(document: Document) -> Figure:
    """What became of every prediction and every label, as two bars of the same scale."""
    colours = {
        "joined": GOOD, "pending": WAITING, "waiting": WAITING, "expired": LOST, "orphaned": LOST,
        "duplicate": "#a05fc9", "superseded": "#5a9bd5",
        "retracted": "#9aa5b1", "rejected": BAD,
    }  # fmt: skip
    traces = []
    sides = ("labels", "predictions")
    for state in LEDGER_STATES:
        counts = [document["ledger"][side].get(state, 0) for side in sides]
        if any(counts):
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": state,
                    "y": list(sides),
                    "x": counts,
                    "marker": {"color": colours.get(state, BASELINE), "line": {"width": 0}},
                    "hovertemplate": f"{state}: %{{x:,}}<extra></extra>",
                }
            )
    layout = layout_of(210, xaxis={"tickformat": ",", "type": "linear"})
    layout |= {"barmode": "stack", "bargap": 0.35}
    layout["legend"]["traceorder"] = "normal"
    layout["yaxis"] = {"automargin": True, "showgrid": False}
    return {"data": traces, "layout": layout}


def slices(document: Document, model: str) -> Figure:
    """The first metric of the champion by slice and month, to see where it is weak and since when."""
    metric = metric_of(document["models"][model]["task"])
    sums: dict[tuple[str, str], list[float]] = {}
    for window in document["windows"]:
        if window["model"] != model or not window.get("slice") or metric not in window.get("metrics", {}):
            continue
        if window.get("learner", "champion") == "champion":
            name = ", ".join(f"{column} {value}" for column, value in window["slice"].items())
            cell = sums.setdefault((name, moment(window["start"])[:7]), [0.0, 0.0])
            cell[0] += window["metrics"][metric] * window.get("n_labelled", 0)
            cell[1] += window.get("n_labelled", 0)
    size: dict[str, float] = {}
    for (name, _), (_, n) in sums.items():
        size[name] = size.get(name, 0.0) + n
    names = sorted(size, key=lambda name: (size[name], name))[-SLICES_SHOWN:]
    months = sorted({month for _, month in sums})
    cells = [[_mean(sums.get((name, month))) for month in months] for name in names]
    heat = {
        "type": "heatmap",
        "x": months,
        "y": names,
        "z": cells,
        "colorscale": scale("47,126,216", reverse=metric == "accuracy"),
        "colorbar": {"title": {"text": LABELS[metric]}, "thickness": 10, "outlinewidth": 0, "tickformat": ".2f"},
        "hovertemplate": "%{y}<br>%{x}<br>%{z:.3f}<extra></extra>",
        "xgap": 2,
        "ygap": 2,
    }
    layout = layout_of(110 + 20 * max(len(names), 3))
    layout["xaxis"] = {"type": "category", "showgrid": False}
    layout["yaxis"] = {"type": "category", "showgrid": False, "automargin": True}
    return {"data": [heat], "layout": layout}


def whole(document: Document, model: str) -> list[Mapping[str, Any]]:
    """The windows of the model over all slices, by time; where versions overlap, each has its own."""
    return [w for w in document["windows"] if w["model"] == model and not w.get("slice")]


def learners(document: Document, model: str) -> list[str]:
    """The champion first, the baseline last."""
    names = document["models"][model]["watch"].get("performance", {})
    return sorted(names, key=lambda name: (name != "champion", name == "baseline", name))


def colour_of(document: Document, model: str, learner: str) -> str:
    """One learner, one colour, in all pictures."""
    if learner == "champion":
        return CHAMPION
    if learner == "baseline":
        return BASELINE
    others = [name for name in learners(document, model) if name not in ("champion", "baseline")]
    return CHALLENGERS[others.index(learner) % len(CHALLENGERS)] if learner in others else BASELINE


def by_alert(document: Document, model: str) -> list[dict[str, Any]]:
    """First and last word on each alert, in the order in which they were raised."""
    found: dict[str, dict[str, Any]] = {}
    for event in document["alerts"]:
        if event["model"] == model:
            found.setdefault(event["alert_id"], {"first": event})["last"] = event
    return list(found.values())


def grouped(document: Document, model: str) -> list[list[dict[str, Any]]]:
    """Alerts of one kind and slice that were raised at the same time: what one cause is likely to have brought. First
    stands the worst, and of those as bad the one of what matters most to the model (F55), where that is known."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for alert in by_alert(document, model):
        first = alert["first"]
        where = sorted(first.get("slice", {}).values())
        groups.setdefault((first["at"][:13], first["kind"], *where), []).append(alert)
    return [sorted(group, key=_urgency) for group in groups.values()]


def _urgency(alert: Mapping[str, Any]) -> tuple[int, float]:
    """Severity, and the alert's part of what the model goes by (`stream.windows.explaining`); the least comes first."""
    last = alert["last"]
    return list(SEVERITY).index(last["severity"]), -float(last.get("statistics", {}).get("importance", 0.0))


def _alert_marks(document: Document, model: str) -> list[Figure]:
    traces = []
    for severity, colour in SEVERITY.items():
        own = [a["first"] for a in by_alert(document, model) if a["first"]["severity"] == severity]
        if own:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": f"{severity} alert",
                    "showlegend": False,
                    "x": [alert["at"] for alert in own],
                    "y": [0.985] * len(own),
                    "yaxis": "y2",
                    "marker": {"color": colour, "size": 10, "symbol": "triangle-down"},
                    "hovertemplate": "%{text}<extra></extra>",
                    "text": [wrapped(alert["summary"]) for alert in own],
                }
            )
    return traces


def _mean(cell: list[float] | None) -> float | None:
    return round(cell[0] / cell[1], 4) if cell and cell[1] else None
