"""What was done to keep a model well: its guard, its updates, whom it learns from, and how much of each class: pictures
and words, from a result's dict alone (F26, F34, F35, F36).

Refuses to know HTML, and why something was done (`stream.stages.steering`): each decision says it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stream.surface.canvas import Figure, layout_of, wrapped
from stream.surface.console import count, duration
from stream.surface.figures import BAD, BASELINE, CHALLENGERS, CHAMPION, GOOD, LOST, Document

PAUSED: Final = "learning paused"

ASKED: Final = "ask_label"
"""Decisions of which there may be as many as labels: counted, and not listed."""

GUARDED: Final = {
    "refuse": ("refused before it served", BAD),
    "rollback": ("rolled back", BAD),
    "halt": ("trial halted", LOST),
    "pause": (PAUSED, LOST),
    "resume": (PAUSED, GOOD),
}
"""Decisions that hold something back: their lanes, from the top, and colours."""

STATUSES: Final = {
    "passing": "the good one now", "probation": "on probation", "frozen": "frozen", "rolled_back": "rolled back",
}  # fmt: skip
"""Where a guard stands (`learners.probation`), as people say it."""

UPDATES: Final = {"update": CHAMPION, "relearn": CHALLENGERS[1], "challenge": CHALLENGERS[2]}
"""Decisions that teach a batch, and their colours."""


def guard(document: Document, model: str) -> Figure:
    """Refusals, rollbacks, halts and rests over time, the evidence under the pointer."""
    told = [d for d in _decisions(document, model) if d["action"] in GUARDED]
    last = document["feed"]["last"]
    lanes = list(dict.fromkeys(lane for lane, _ in GUARDED.values()))
    lanes = [lane for lane in lanes if any(GUARDED[d["action"]][0] == lane for d in told)]
    traces = []
    begun: Mapping[str, Any] | None = None
    for d in told:
        if d["action"] == "pause":
            begun = d
        elif d["action"] == "resume" and begun is not None:
            traces.append(_rest(begun, d["at"], f"{_why(begun)}<br>over: {_why(d)}"))
            begun = None
        elif d["action"] != "resume":
            traces.append(_mark(d))
    if begun is not None and last:
        traces.append(_rest(begun, last, f"{_why(begun)}<br>still so when the run ended"))
    layout = layout_of(80 + 36 * max(len(lanes), 1))
    layout["yaxis"] = {
        "type": "category", "categoryarray": lanes[::-1], "categoryorder": "array", "automargin": True,
        "range": [-0.5, len(lanes) - 0.5],
    }  # fmt: skip
    layout["margin"]["t"] = 4
    if document["feed"]["first"]:
        layout["xaxis"]["range"] = [document["feed"]["first"], last]
    return {"data": traces, "layout": layout}


def _rest(begun: Mapping[str, Any], end: str, words: str) -> Figure:
    return {
        "type": "scatter", "mode": "lines+markers", "x": [begun["at"], end], "y": [PAUSED] * 2, "showlegend": False,
        "line": {"color": LOST, "width": 8}, "marker": {"color": LOST, "size": 8}, "opacity": 0.85,
        "hovertemplate": f"{words}<extra></extra>",
    }  # fmt: skip


def _mark(d: Mapping[str, Any]) -> Figure:
    lane, colour = GUARDED[d["action"]]
    return {
        "type": "scatter", "mode": "markers", "x": [d["at"]], "y": [lane], "showlegend": False,
        "marker": {"color": colour, "size": 13, "symbol": "diamond"},
        "hovertemplate": f"{_why(d)}<extra></extra>",
    }  # fmt: skip


def _why(d: Mapping[str, Any]) -> str:
    return wrapped(f"{d['action']}: {reason(d)}")


def reason(d: Mapping[str, Any]) -> str:
    """Why a decision was made, in words: 'worse than the last good one while it served; served: loses +0.2 …'."""
    why = dict(d.get("why", {}))
    evidence = why.pop("evidence", {})
    first = str(why.pop("why", "") or why.pop("alert", "")).replace("_", " ")
    parts = [first] if first else []
    parts += [_said(name, value) for name, value in why.items() if value not in (None, False)]
    if "from" not in d.get("why", {}):
        parts += [f"{name}: {value}" for name, value in evidence.items()]
    else:
        known = [name for name in ("labels", "difference", "low", "high") if name in evidence]
        parts += [_said(name, evidence[name]) for name in known]
    return "; ".join(parts)


def _said(name: str, value: object) -> str:
    """interval_s 8824.1 as 'interval 2 h 27 min'."""
    if name.endswith("_s") and isinstance(value, float):
        return f"{name.removesuffix('_s').replace('_', ' ')} {duration(value)}"
    said = f"{value:.4g}" if isinstance(value, float) else str(value)
    return name.replace("_", " ") + ("" if value is True else f" {said}")


def standing(d: Mapping[str, Any]) -> str:
    """How the champion stands after a decision: 'version 2, 700 updates, linear, paused'."""
    after = d.get("after", {})
    if "version" not in after:
        return _pairs_said(after)
    origin = after.get("origin", "champion")
    parts = [f"version {after['version']}", f"{count(after.get('updates', 0))} updates"]
    return ", ".join(
        [*parts, *([origin] if origin != "champion" else []), *(["paused"] if after.get("paused") else [])]
    )


def _pairs_said(after: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in after.items())


def guard_words(document: Document, model: str) -> str:
    """How many snapshots the guard has let pass since the champion was last another, and what it stopped."""
    found = _model(document, model).get("guard") or {}
    said = "What was refused, taken back or halted, and when learning rested. "
    if not found:
        return said
    return said + (
        f"Of the present champion {count(found['published'])} snapshots were served, {count(found['passed'])} passed "
        f"probation, {count(found['refused'])} were refused, {count(found['rolled_back'])} rolled back; it is "
        f"{STATUSES[found['status']]}."
    )


def updates(document: Document, model: str) -> Figure:
    """Each batch that was learned: when, how many examples, and what asked for it."""
    told = [d for d in _decisions(document, model) if d["action"] in UPDATES and "examples" in d.get("why", {})]
    traces = []
    for action, colour in UPDATES.items():
        own = [d for d in told if d["action"] == action]
        y = [d["why"]["examples"] for d in own]
        if own:
            traces.append({
                "type": "scatter", "mode": "markers", "name": action, "showlegend": True, "x": [d["at"] for d in own],
                "y": y, "marker": {"color": colour, "size": 8},
                "error_y": {"type": "data", "symmetric": False, "array": [0] * len(y), "arrayminus": y, "width": 0,
                            "thickness": 1.5, "color": colour},
                "text": [_why(d) for d in own], "hovertemplate": "%{text}<br>%{y:,} examples<extra></extra>",
            })  # fmt: skip
    layout = layout_of(220, yaxis={"title": {"text": "examples"}, "rangemode": "tozero"})
    if document["feed"]["first"]:
        layout["xaxis"]["range"] = [document["feed"]["first"], document["feed"]["last"]]
    return {"data": traces, "layout": layout}


def update_rows(document: Document, model: str) -> list[list[str]]:
    """What the policy did and what it cost, as name and value; nothing of a model that does not learn."""
    found = _model(document, model)
    if not found:
        return []
    actions = [d["action"] for d in _decisions(document, model)]
    seconds = document.get("timings", {}).get("stages_s", {}).get("learn")
    alone = len(document["learning"]["models"]) == 1
    batches = actions.count("update") + actions.count("relearn")
    by_learner = ", ".join(f"{count(one['updates'])} {part}" for part, one in found["learners"].items())
    buffer = found["buffer"]
    rows = [
        ["policy", found["policy"]],
        ["batches learned", f"{count(batches)}, {count(actions.count('relearn'))} of them from nothing"],
        ["examples learned", f"{count(found['learned'])}, and {count(found['waiting'])} wait"],
        ["updates by learner", by_learner],
        ["passed by while learning rested", count(found["skipped"])],
        ["learned and taken back", count(found["forgotten"])],
        ["snapshots published", count(sum(one["snapshots"] for one in found["learners"].values()))],
        ["buffer", f"{count(buffer.get('items', 0))} examples, {buffer.get('bytes', 0) / 1e6:.1f} MB"],
        ["labels asked for", count(actions.count(ASKED))],
    ]  # fmt: skip
    if seconds is not None:
        each = f", {1e6 * seconds / found['seen']:,.0f} µs an example" if alone and found["seen"] else ""
        whose = "" if alone else ", all models together"
        rows.append(["seconds of the learn stage", f"{seconds:.2f}{each}{whose}"])
    return [row for row in rows if row[1] not in ("0", "0, 0 of them from nothing")]


def sources(document: Document, model: str) -> Figure:
    """Whose labels came, and how much of what is learned is theirs, where there are several sources."""
    found = (_model(document, model).get("sources") or {}).get("sources", {})
    sides = {"share": ("of the labels", BASELINE), "learned_share": ("of what is learned", CHAMPION)}
    return _pairs(found if len(found) > 1 else {}, sides)


def balance(document: Document, model: str) -> Figure:
    """How frequent each class is, and how much of what is learned is of it."""
    found = _model(document, model).get("balance") or {}
    known, ratios = found.get("shares", {}), found.get("ratios", {})
    total = sum(share * ratios.get(y, 1.0) for y, share in known.items()) or 1.0
    both = {y: {"is": share, "learned": share * ratios.get(y, 1.0) / total} for y, share in known.items()}
    return _pairs(both, {"is": ("of the labels", BASELINE), "learned": ("of what is learned", CHAMPION)})


def _pairs(found: Mapping[str, Mapping[str, float]], sides: Mapping[str, tuple[str, str]]) -> Figure:
    """Two bars for each name."""
    names = list(found)
    traces = [
        {"type": "bar", "orientation": "h", "name": name, "y": names, "x": [round(found[n][side], 4) for n in names],
         "marker": {"color": colour, "line": {"width": 0}},
         "hovertemplate": f"%{{y}}: %{{x:.1%}} {name}<extra></extra>"}
        for side, (name, colour) in sides.items()
    ]  # fmt: skip
    layout = layout_of(110 + 40 * max(len(names), 2))
    layout["xaxis"] = {"type": "linear", "tickformat": ".0%", "rangemode": "tozero"}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "automargin": True, "showgrid": False}
    return {"data": traces if names else [], "layout": layout | {"bargap": 0.3}}


def _decisions(document: Document, model: str) -> list[dict[str, Any]]:
    return [d for d in document["learning"]["decisions"] if d["model"] == model]


def _model(document: Document, model: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document["learning"]["models"].get(model, {})
    return found
