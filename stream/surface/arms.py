"""Who is served what share of the traffic and what each arm would earn alone: pictures and words, from a result's dict
alone (F33, F38).

Refuses to know HTML, and how shares and values are found (`learners.bandits`, `learners.off_policy`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stream.surface.canvas import Figure, layout_of
from stream.surface.console import count
from stream.surface.figures import CHALLENGERS, Document, colour_of

ESTIMATORS: Final = {
    "ips": "IPS (inverse propensity)",
    "snips": "SNIPS (self-normalised)",
    "dr": "DR (doubly robust)",
    "dr_stable": "DR, stable",
}
"""Estimators of what an arm would earn alone, as people know them."""


def course(document: Document, model: str) -> Figure:
    """The share of the traffic by arm over time, as areas that fill the whole; nothing where it never changed."""
    told = document["learning"].get("traffic", {}).get(model, [])
    names = list(dict.fromkeys(name for each in told for name in each["shares"]))
    x = [each["at"] for each in told] + [document["feed"]["last"]]
    traces = []
    for name in names if len(told) > 1 else []:
        y = [round(each["shares"].get(name, 0.0), 4) for each in told]
        traces.append({
            "type": "scatter", "mode": "lines", "stackgroup": "served", "name": name, "x": x, "y": [*y, y[-1]],
            "line": {"shape": "hv", "width": 0.5, "color": colour_of(document, model, name)},
            "hovertemplate": "%{y:.1%}",
        })  # fmt: skip
    layout = layout_of(240, yaxis={"range": [0, 1], "tickformat": ".0%", "title": {"text": "share served"}})
    layout["xaxis"]["range"] = [document["feed"]["first"], document["feed"]["last"]]
    return {"data": traces, "layout": layout | {"hovermode": "x unified"}}


def shares(document: Document, model: str) -> Figure:
    """The share of the traffic by arm when the run ended, the largest on top."""
    found = sorted(_traffic(document, model).get("shares", {}).items(), key=lambda arm: (-arm[1], arm[0]))
    traffic = _traffic(document, model).get("bandit", {}).get("arms", {})
    names = [name for name, _ in found]
    bar = {
        "type": "bar", "orientation": "h", "showlegend": False, "y": names,
        "x": [round(share, 4) for _, share in found],
        "marker": {"color": [colour_of(document, model, name) for name in names], "line": {"width": 0}},
        "text": [f"{share:.1%}" for _, share in found], "textposition": "auto", "cliponaxis": False,
        "customdata": [_earned(traffic.get(name)) for name in names],
        "hovertemplate": "%{y}: %{text}%{customdata}<extra></extra>",
    }  # fmt: skip
    layout = layout_of(110 + 26 * max(len(names), 2))
    layout["xaxis"] = {"type": "linear", "range": [0, 1], "tickformat": ".0%", "title": {"text": "share served"}}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    layout["bargap"] = 0.35
    return {"data": [bar] if names else [], "layout": layout}


def _earned(arm: Mapping[str, Any] | None) -> str:
    return "" if arm is None else f"<br>{count(arm['rewards'])} rewards, mean {arm['mean']:.4f}"


def values(document: Document, model: str) -> Figure:
    """What each arm would earn if it were served everything: each estimator's value with its 95 % interval."""
    found = _traffic(document, model).get("values", {})
    traces: list[Figure] = []
    for kind, name in ESTIMATORS.items():
        own = {arm: each[kind] for arm, each in found.items() if each.get(kind) and None not in each[kind]}
        if own:
            traces.append(_estimates(own, name, CHALLENGERS[len(traces) % len(CHALLENGERS)]))
    layout = layout_of(
        150 + 44 * max(len(found), 2), xaxis={"type": "linear", "title": {"text": "reward of an answer"}}
    )
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": True}
    layout |= {"scattermode": "group", "scattergap": 0.45}
    return {"data": traces, "layout": layout}


def _estimates(own: Mapping[str, list[float]], name: str, colour: str) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "orientation": "h", "name": name, "y": list(own),
        "x": [round(value, 6) for value, _, _ in own.values()],
        "error_x": {
            "type": "data", "symmetric": False, "thickness": 2, "width": 4, "color": colour,
            "array": [round(high - value, 6) for value, _, high in own.values()],
            "arrayminus": [round(value - low, 6) for value, low, _ in own.values()],
        },
        "marker": {"color": colour, "size": 8},
        "text": [f"{low:.4f} to {high:.4f}" for _, low, high in own.values()],
        "hovertemplate": f"%{{y}}, {name}<br>%{{x:.4f}} (%{{text}})<extra></extra>",
    }  # fmt: skip


def words(document: Document, model: str) -> str:
    """One sentence: how many rewards, and whether the bandit has made up its mind."""
    found = _traffic(document, model)
    bandit = found.get("bandit")
    said = f"{count(found.get('rewards', 0))} rewards of answers that were served with a known propensity"
    if found.get("strange"):
        said += f", {count(found['strange'])} more out of range"
    if bandit is not None and bandit.get("committed"):
        said += f"; settled on {bandit['committed']}"
    return f"{said}. Above who was served, below what each arm would earn alone, with 95 % intervals."


def _traffic(document: Document, model: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document["learning"]["models"].get(model, {}).get("traffic") or {}
    return found
