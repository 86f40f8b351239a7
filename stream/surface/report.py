"""One self-contained HTML file from a result: pictures first, nothing loaded from elsewhere (F44).

Owns the page's order and words; pictures come from `stream.surface.figures`, figures from the result's dict alone.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from stream.errors import TidegateError
from stream.surface import figures, findings, steering, summary, trust, upkeep
from stream.surface.canvas import SMOOTH_WINDOWS, Figure
from stream.surface.cards import Picture, card, table_of
from stream.surface.console import count, duration
from stream.surface.expectation import expectation

Document: TypeAlias = Mapping[str, Any]

ALERTS_SHOWN = 200
DECISIONS_SHOWN = 100
LETTERS_SHOWN = 20
"""Rows of a table that a person still reads; beyond it the table says how many more the JSON has."""


GROUPS_NOTE = (
    "The largest difference of a rate between two groups over the whole run. Intervals hold for all pairs of groups at "
    "once; whether a gap is justified is for people to say."
)


BIAS_NOTE = (
    "How far predictions with a label lie from those whose label never came, in standard deviations: figures of the "
    "former say little of the latter where they lie apart. Of a sample, within the windows that are final."
)


def render(document: Document) -> str:
    """The report as HTML."""
    pictures: dict[str, Figure] = {}
    models = list(document["models"])
    body = "".join(_model(document, name, pictures) for name in models)
    title = f"tidegate: {', '.join(models)}"
    template = (Path(__file__).parent / "report.html").read_text(encoding="utf-8")
    parts = {
        "title": escape(title),
        "plotly": plotly_js(),
        "body": body + _ledger(document, pictures) + _dead_letters(document) + _footer(document),
        "figures": _script(pictures),
    }
    # In one pass, so that nothing that was put in is taken for a place to put something.
    return re.sub("@(title|plotly|body|figures)@", lambda place: parts[place[1]], template)


def plotly_js() -> str:
    """Plotly's JavaScript, from the installed package (found without importing it, which takes a second)."""
    found = importlib.util.find_spec("plotly")
    if found is None or not found.submodule_search_locations:
        raise TidegateError("a report needs plotly: pip install plotly")
    path = Path(found.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return path.read_text(encoding="utf-8").replace("</script", "<\\/script")


def _script(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return orjson.dumps(value).decode().replace("<", "\\u003c")


def _model(document: Document, model: str, pictures: dict[str, Figure]) -> str:
    def picture(kind: str, figure: Figure) -> str:
        key = f"{model}-{kind}"
        pictures[key] = figure
        return f'<div id="{escape(key)}"></div>'

    metric = figures.LABELS[figures.metric_of(document["models"][model]["task"])]
    champion = (
        ""
        if _lacks(document, model)
        else card(
            "Performance over time",
            f"Every answer is scored by the model that had not yet learned from its label. Bold lines are means over "
            f"{SMOOTH_WINDOWS} windows; triangles are alerts.",
            picture("performance", figures.performance(document, model)),
        )
    )
    expected = expectation(document, model)
    drift = figures.drift(document, model)
    delays = figures.delays(document, model)
    slices = figures.slices(document, model)
    parts = [
        f"<h1>{escape(model)}</h1>",
        f'<p class="lead">{escape(summary.verdict(document, model))}</p>',
        _tiles(summary.tiles(document, model)),
        champion,
        card(
            "Alerts",
            "A bar runs from the estimated begin of the change, over the moment it was sure (diamond), to its end.",
            (picture("alerts", figures.alerts(document, model)) if document["alerts"] else "")
            + _alert_table(document, model),
        ),
    ]
    if expected["data"]:
        note = (
            "Without a single label of the window: what its scores were worth on the labels before. It cannot see a "
            "rule that has changed; the realised line can."
        )
        parts.insert(4, card("Expected before labels come", note, picture("expected", expected)))
    if drift["data"][0]["y"]:
        note = "Distance of each window from the reference (PSI): a size, not a verdict; alerts say what is sure."
        parts.append(card("Drift by feature", note, picture("drift", drift)))
    pair = []
    if slices["data"][0]["y"]:
        pair.append(
            card(f"{metric[0].upper()}{metric[1:]} by slice", "Of the champion, by month.", picture("slices", slices))
        )
    if delays["data"][0]["x"]:
        note = "What is learned is at best as new as its labels."
        pair.append(card("Delay of labels", note, picture("delays", delays)))
    parts.append(f'<div class="pair">{"".join(pair)}</div>' if len(pair) == 2 else "".join(pair))
    parts += _trust(document, model, picture)
    parts += _findings(document, model, picture)
    parts += steering.cards(document, model, picture)
    parts.append(card("Learners", "Prequential figures over the whole run.", _learner_table(document, model)))
    decisions = [d for d in document["learning"]["decisions"] if d["model"] == model and d["action"] != upkeep.ASKED]
    if decisions:
        parts.append(card("Decisions", "What the engine changed, and why.", _decision_table(decisions)))
    return "".join(parts)


def _lacks(document: Document, model: str) -> bool:
    return not figures.performance(document, model)["data"]


def _tiles(tiles: Iterable[tuple[str, str]]) -> str:
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _alert_table(document: Document, model: str) -> str:
    found = figures.grouped(document, model)
    if not found:
        return f'<p class="none">None. {escape(summary.status(document, model))}</p>'
    rows = []
    for group in found[:ALERTS_SHOWN]:
        first, last = group[0]["first"], group[0]["last"]
        kind = figures.KINDS.get(last["kind"], last["kind"])
        where = ", ".join(f"{k} {v}" for k, v in last.get("slice", {}).items()) or "everywhere"
        since = (last.get("since") or {}).get("estimate", "")
        states = sorted({alert["last"]["status"] for alert in group})
        rows.append(
            [
                escape(summary.minute(first["at"])),
                f'<span class="dot {escape(last["severity"])}"></span>{escape(kind)}',
                escape(where),
                f'{escape(summary.latest(last))}{_also(group)}<br><span class="none">{escape(_beside(last))}</span>',
                escape(summary.minute(since)),
                escape(", ".join(states)),
            ]
        )
    head = ("raised", "kind", "where", "what", "since about", "now")
    return table_of(head, rows, ("t", "t", "", "what", "t", "t"), len(found) - ALERTS_SHOWN)


def _also(group: list[dict[str, Any]]) -> str:
    also = summary.also(group)
    return f'<span class="none">; {escape(also)}</span>' if also else ""


def _beside(alert: Mapping[str, Any]) -> str:
    """Which features carry it, and why it ended."""
    ranked = [f"{f['name']} {f['share']:.0%}" for f in alert.get("features", [])[:3] if f["share"] >= 0.05]
    parts = [f"carried by {', '.join(ranked)}"] if len(ranked) > 1 else []
    if alert.get("related"):
        n = len(alert["related"])
        parts.append(f"{n} other {'stream' if n == 1 else 'streams'} moved with it")
    ended = alert["summary"].partition("; over: ")[2]
    return "; ".join([*parts, *([f"over: {ended}"] if ended else [])])


def _learner_table(document: Document, model: str) -> str:
    rows, names = summary.learner_rows(document, model)
    if not rows:
        return '<p class="none">No labelled predictions.</p>'
    return table_of(
        ("learner", "labelled", "updates", *names),
        [[escape(cell) for cell in row] for row in rows],
        ("", *("n" for _ in range(len(names) + 2))),
    )


def _trust(document: Document, model: str, picture: Picture) -> list[str]:
    """The cards of calibration and of declared groups, where there are scores and groups."""
    meant = trust.calibration(document, model)
    words = trust.calibration_words(document, model)
    cards = [card("Calibration", words, picture("calibration", meant))] if meant["data"] else []
    rows = [[escape(cell) for cell in row] for row in trust.fairness_rows(document, model)]
    head = ("group", "of", "gap", "with 95 %", "worst", "best", "too few rows")
    table = table_of(head, rows, ("", "", "n", "n", "", "", ""))
    gaps = trust.fairness(document, model)
    inner = (picture("fairness", gaps) if gaps["data"] else "") + table
    return [*cards, card("Groups", GROUPS_NOTE, inner)] if rows else cards


def _findings(document: Document, model: str, picture: Picture) -> list[str]:
    """The cards of strange inputs, of what the champion goes by, of labels that never came and of leakage, where there
    is something to say."""
    cards = []
    odd = [[escape(cell) for cell in row] for row in findings.strange_rows(document, model)]
    if document["models"][model]["watch"].get("strange"):
        shares = findings.strange(document, model)
        inner = picture("strange", shares) if shares["data"] else ""
        inner += table_of(("at", "p", "why"), odd, ("t", "n", "")) if odd else ""
        cards.append(card("Strange inputs", findings.strange_words(document, model), inner))
    goes_by = findings.importance(document, model)
    if goes_by["data"]:
        words = findings.importance_words(document, model)
        cards.append(card("What the champion goes by", words, picture("importance", goes_by)))
    rows = [[escape(cell) for cell in row] for row in findings.bias_rows(document, model)]
    if rows:
        head = ("of", "labelled less unlabelled", "with 95 %", "labelled", "unlabelled")
        cards.append(card("Labels that never came", BIAS_NOTE, table_of(head, rows, ("", "n", "n", "n", "n"))))
    rows = [[escape(cell) for cell in row] for row in findings.leak_rows(document, model)]
    if rows:
        table = table_of(("feature", "measure", "value", "interval", ""), rows, ("", "", "n", "n", ""))
        cards.append(card("Leakage", findings.leak_words(document, model), table))
    return cards


def _decision_table(decisions: list[dict[str, Any]]) -> str:
    rows = []
    for d in decisions[:DECISIONS_SHOWN]:
        why = upkeep.reason(d)
        after = upkeep.standing(d)
        rows.append([escape(summary.minute(d["at"])), escape(d["action"]), escape(d.get("learner", "champion")),
                     escape(why), escape(after)])  # fmt: skip
    return table_of(
        ("at", "action", "learner", "why", "after"), rows, ("t", "t", "t", "", "t"), len(decisions) - DECISIONS_SHOWN
    )


def _ledger(document: Document, pictures: dict[str, Figure]) -> str:
    pictures["ledger"] = figures.ledger(document)
    return card("Ledger", summary.ledger_line(document), '<div id="ledger"></div>')


def _dead_letters(document: Document) -> str:
    letters = document["dead_letters"]
    if not letters["count"]:
        return ""
    rows = [
        [escape(f"{x['topic']}:{x['offset']}"), escape(x["code"]), escape(x["reason"])]
        for x in letters["first"][:LETTERS_SHOWN]
    ]
    inner = table_of(("where", "code", "why"), rows, ("t", "t", ""), letters["count"] - len(rows))
    return card("Dead letters", "Records that could not be used; the stream went on.", inner)


def _footer(document: Document) -> str:
    timings = document.get("timings", {})
    took = f" in {duration(timings['elapsed_s'])} ({count(timings['events_per_s'])} a second)" if timings else ""
    events = f"{count(timings['events'])} events{took}. " if timings else ""
    feed = document["feed"]
    return (
        f"<footer>{escape(feed['file'])}: {events}"
        f"Configuration {escape(document['config_hash'])}, result {escape(document['digest'])}. "
        "The same file and configuration give the same result, bit for bit.</footer>"
    )
