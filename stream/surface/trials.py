"""What became of challengers: pictures, rows and words of their trials, from a result's dict alone (F30, F31, F32).

Owns how a lead, a share of the traffic and the evidence of a trial are shown. Refuses to know HTML and how a trial
decides (`learners.trials`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from stream.learning import PREVIOUS
from stream.runtime.known import moment
from stream.surface.canvas import Estimate, Figure, intervals, layout_of, line, nought, wrapped
from stream.surface.console import count
from stream.surface.figures import BASELINE, CHAMPION, Document, colour_of, learners, metric_of, whole

STEPS_SHOWN: Final = 24
"""Rows of the picture of evidence, the newest."""

LEAD: Final = {"accuracy": "right answers ahead", "mae": "error less, summed"}
"""What is summed up, by metric. The larger, the better."""

ADVANTAGE: Final = "loss less than the champion's"

ACTIONS: Final = {
    "canary": "canary {share:.0%}", "await_approval": "awaits approval", "promote": "promoted", "confirm": "confirmed",
    "retire": "retired", "rollback": "rolled back", "halt": "halted", "shadow": "back to shadow",
}  # fmt: skip
"""Steps of a trial as people say them."""


class Step(NamedTuple):
    """A step of a trial, or where one stands at the end: what was known then. `origin`: the entry of the configuration
    that is the champion from then on."""

    part: str
    at: str
    what: str
    share: float
    evidence: Mapping[str, float]
    why: str
    origin: str = ""


def steps(document: Document, model: str) -> list[Step]:
    """Every step of the model's trials, in order."""
    told = []
    for d in document["learning"]["decisions"]:
        why = d.get("why", {})
        if d["model"] == model and "from" in why and d["action"] in ACTIONS:
            what = ACTIONS[d["action"]].format(share=why["share"])
            part, origin = d.get("learner", "champion"), d["after"]["origin"]
            told.append(Step(part, d["at"], what, why["share"], why["evidence"], why["why"], origin))
    return told


def standing(document: Document, model: str) -> list[Step]:
    """Trials that still go on when the run ends."""
    found = document["learning"]["models"].get(model, {}).get("trials", {})
    last = document["feed"]["last"] or ""
    champion = document["learning"]["models"].get(model, {}).get("learners", {}).get("champion", {}).get("origin", "")
    return [
        Step(part, last, each["state"], each["share"], each["evidence"], "", champion) for part, each in found.items()
    ]


def lead(document: Document, model: str) -> Figure:
    """By how much each challenger leads the champion of the time, summed since that is champion, with the steps of its
    trial; below it who was served what share of the traffic."""
    told, traces = steps(document, model), []
    for part in learners(document, model):
        if part in ("champion", "baseline"):
            continue
        x, y = _summed(document, model, part, told)
        colour = colour_of(document, model, part)
        if any(value is not None for value in y):
            traces.append(line(x, y, colour, part, width=2.0, hovertemplate="%{y:+,.0f}"))
            own = [step for step in told if step.part == part]
            traces += [_marks(own, x, y, colour)] if own else []
    layout = layout_of(
        340, yaxis={"automargin": True, "title": {"text": LEAD[metric_of(document["models"][model]["task"])]}}
    )
    nought(layout, "y")
    shares = _shares(document, model, told)
    if shares:
        layout |= {"height": 440}
        layout["yaxis"] |= {"domain": [0.36, 1.0]}
        layout["yaxis2"] = {"domain": [0.0, 0.26], "range": [0, 1], "tickformat": ".0%", "title": {"text": "served"}}
        layout["xaxis"] |= {"anchor": "y2"}
    if document["feed"]["first"]:
        layout["xaxis"]["range"] = [document["feed"]["first"], document["feed"]["last"]]
    return {"data": [*traces, *shares] if traces else [], "layout": layout}


def _summed(document: Document, model: str, part: str, told: list[Step]) -> tuple[list[str], list[float | None]]:
    """Ends of windows, and the sum so far of what the challenger did better than the champion in them. It begins anew,
    after a gap, with every champion, and windows of two champions are left out; the one before is followed until the
    new one is confirmed."""
    changes = [step.at for step in told if step.what in (ACTIONS["promote"], ACTIONS["rollback"])]
    over = [step.at for step in told if step.what == ACTIONS["confirm"]] if part == PREVIOUS else []
    x: list[str] = []
    y: list[float | None] = []
    total, champion = 0.0, 0
    for start, end, better in _by_window(document, model, part):
        begun = sum(when <= end for when in changes)
        if begun != sum(when <= start for when in changes) or sum(when < end for when in over) >= max(begun, 1):
            continue
        if begun != champion:
            champion, total = begun, 0.0
            x, y = ([*x, start], [*y, None]) if x else (x, y)
        total += better
        x.append(end)
        y.append(round(total, 4))
    return x, y


def _by_window(document: Document, model: str, part: str) -> Iterator[tuple[str, str, float]]:
    """Each window in which both answered, and what the challenger did better, in answers or in error."""
    metric = metric_of(document["models"][model]["task"])
    sums: dict[tuple[float, float], dict[str, list[float]]] = {}
    for window in whole(document, model):
        who = window.get("learner", "champion")
        if who in ("champion", part) and metric in window.get("metrics", {}):
            n = window.get("n_labelled", 0)
            cell = sums.setdefault((window["start"], window["end"]), {}).setdefault(who, [0.0, 0.0])
            cell[0] += window["metrics"][metric] * n
            cell[1] += n
    for (start, end), both in sorted(sums.items()):
        champion, own = (both.get(who, [0.0, 0.0]) for who in ("champion", part))
        if champion[1] and own[1]:
            better = own[0] / own[1] - champion[0] / champion[1]
            yield moment(start), moment(end), (better if metric == "accuracy" else -better) * own[1]


def _marks(own: list[Step], x: list[str], y: list[float | None], colour: str) -> Figure:
    """Steps where they stand on the line of their challenger."""
    there = [i for i, value in enumerate(y) if value is not None]
    at = [max((i for i in there if x[i] <= step.at), default=there[0]) for step in own]
    return {
        "type": "scatter", "mode": "markers", "showlegend": False, "x": [step.at for step in own],
        "y": [y[i] for i in at],
        "marker": {"color": colour, "size": 11, "symbol": "diamond", "line": {"width": 1.5, "color": "#ffffff"}},
        "text": [wrapped(f"{step.part}: {step.what}; {_words(step)}") for step in own],
        "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip


def _shares(document: Document, model: str, told: list[Step]) -> list[Figure]:
    """Who was served, as areas that fill the whole, by the entry of the configuration that answered; nothing where the
    same one always did."""
    series = list(_served(document, model, told))
    names = list(dict.fromkeys(name for _, shares in series for name in shares))
    if len(names) < 2:
        return []
    x = [at for at, _ in series] + [document["feed"]["last"]]
    traces = []
    for name in names:
        y = [round(shares.get(name, 0.0), 4) for _, shares in series]
        traces.append({
            "type": "scatter", "mode": "lines", "stackgroup": "served", "x": x,
            "name": "first champion" if name == "champion" else name,
            "y": [*y, y[-1]], "yaxis": "y2", "hovertemplate": f"{name}: %{{y:.0%}}<extra></extra>",
            "showlegend": name == "champion",
            "line": {"shape": "hv", "width": 0.5, "color": _colour(document, model, name)},
        })  # fmt: skip
    return traces


def _served(document: Document, model: str, told: list[Step]) -> Iterator[tuple[str, dict[str, float]]]:
    """Each time from which on other shares held, and the shares by origin."""
    canaries: dict[str, float] = {}
    origin = "champion"
    yield document["feed"]["first"], {origin: 1.0}
    for step in told:
        if step.origin != origin:
            canaries.clear()
        origin = step.origin
        canaries.pop(step.part, None)
        if 0.0 < step.share < 1.0:
            canaries[step.part] = step.share
        yield step.at, {origin: 1.0 - sum(canaries.values()), **canaries}


def _colour(document: Document, model: str, origin: str) -> str:
    """The entry that began as champion keeps its colour, a challenger keeps its own."""
    return CHAMPION if origin == "champion" else colour_of(document, model, origin)


def evidence(document: Document, model: str) -> Figure:
    """The mean advantage over the champion with its interval, at each step of each trial and where trials stand."""
    rows, colours = [], []
    for step in (steps(document, model) + standing(document, model))[-STEPS_SHOWN:]:
        e = step.evidence
        if e.get("labels"):
            name = f"{_who(step)}: {step.what}, {count(e['labels'])} labels"
            rows.append(Estimate(name, e["difference"], e["low"], e["high"], f"{name}; {_words(step)}"))
            colours.append(_colour(document, model, step.part))
    picture = intervals(rows, BASELINE, ADVANTAGE, 90 + 26 * max(len(rows), 2))
    if rows:
        picture["data"][0]["marker"]["color"] = colours
    nought(picture["layout"])
    return picture


def _who(step: Step) -> str:
    """The part, and whose it is where that is not the same."""
    return f"{step.part} ({step.origin})" if step.part == "champion" and step.origin else step.part


def _words(step: Step) -> str:
    """What the evidence says, for a pointer."""
    e = step.evidence
    worse = max((v for k, v in e.items() if k.startswith("worse.")), default=0.0)
    said = [f"advantage {e['difference']:+.4f} ({e['low']:+.4f} to {e['high']:+.4f})", f"better {odds(e['better'])}",
            f"worse {odds(worse)}"]  # fmt: skip
    if step.part != "champion" and 0.0 < step.share < 1.0:
        said.append(f"split unsound {odds(e['sample_ratio'])}")
    if "outcome" in e:
        said.append(f"outcome {e['outcome']:+.4f} ({e['outcome_low']:+.4f} to {e['outcome_high']:+.4f})")
    return ", ".join([*said, f"why: {step.why.replace('_', ' ')}"] if step.why else said)


def odds(log_e: float) -> str:
    """A log e-value as a bet: 2.996 as '20 to 1'.

    >>> odds(2.9957323), odds(0.0), odds(-2.0), odds(700.0)
    ('20 to 1', 'even', '1 to 7.4', '1e304 to 1')
    """
    if abs(log_e) < 0.005:
        return "even"
    if log_e < 0:
        return f"1 to {_large(-log_e)}"
    return f"{_large(log_e)} to 1"


def _large(log_e: float) -> str:
    if log_e > math.log(1e6):
        return f"1e{log_e / math.log(10):.0f}"
    value = math.exp(log_e)
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def rows(document: Document, model: str) -> list[list[str]]:
    """Of each challenger the last that is known: state, share, labels, advantage, interval, bets, since when."""
    last = {_who(step): step for step in steps(document, model) + standing(document, model)}
    table = []
    for who, step in last.items():
        e = step.evidence
        worse = max((v for k, v in e.items() if k.startswith("worse.")), default=0.0)
        interval = f"{e['low']:+.4f} to {e['high']:+.4f}" if e.get("labels") else ""
        table.append([who, step.what, f"{step.share:.0%}", count(e.get("labels", 0)), f"{e['difference']:+.4f}",
                      interval, odds(e["better"]), odds(worse)])  # fmt: skip
    return table
