"""What a result says of strange inputs, of labels that never came, of leakage and of what the champion goes by:
pictures and the rows of tables. Knows the result's dict alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stream.runtime.known import moment
from stream.surface.canvas import SMOOTH_WINDOWS, Estimate, Figure, intervals, layout_of, line, nought, smooth
from stream.surface.console import count
from stream.surface.figures import BASELINE, CHAMPION, FEATURES_SHOWN, Document, whole

MEASURES: Final = {"auc": "AUC", "information": "part of the entropy"}


def strange(document: Document, model: str) -> Figure:
    """The share of strange predictions by window, beside that of ordinary ones."""
    windows = [w for w in whole(document, model) if w.get("strange") is not None and w["n"]]
    x, n = [moment(w["start"]) for w in windows], [w["n"] for w in windows]
    y = [round(w["strange"] / w["n"], 5) for w in windows]
    expected = _watch(document, model, "strange").get("expected", 0.0)
    traces: list[Figure] = []
    if windows:
        ordinary = line([x[0], x[-1]], [expected] * 2, BASELINE, "ordinary", width=1, dash="dot", hoverinfo="skip")
        own = smooth(y, n) if len(y) > 3 * SMOOTH_WINDOWS else y
        traces = [ordinary, line(x, own, CHAMPION, "strange", width=1.8, hovertemplate="%{y:.2%}")]
    layout = layout_of(260, yaxis={"tickformat": ".1%", "rangemode": "tozero"})
    return {"data": traces, "layout": layout}


def strange_words(document: Document, model: str) -> str:
    """One sentence: how many rows, or why none are looked for."""
    found = _watch(document, model, "strange")
    if "off" in found:
        return f"{found['off'][0].upper()}{found['off'][1:]}."
    return (
        f"{count(found.get('strange', 0))} of {count(found.get('rows', 0))} predictions lie farther from the reference "
        f"than all but {found.get('expected', 0.0):.0%} of its rows. The newest of them are worth a look, or a label."
    )


def strange_rows(document: Document, model: str) -> list[list[str]]:
    """When, p-value and reason of the newest strange rows."""
    newest = _watch(document, model, "strange").get("newest", [])
    return [[each["at"][:16].replace("T", " "), f"{each['p']:.4f}", each["why"]] for each in newest]


def bias_rows(document: Document, model: str) -> list[list[str]]:
    """What lies farthest apart between labelled and unlabelled predictions: its name, difference, interval, rows."""
    return [
        [name, f"{each['difference']:+.2f}", f"{each['low']:+.2f} to {each['high']:+.2f}", count(int(each["labelled"])),
         count(int(each["unlabelled"]))]
        for name, each in _watch(document, model, "label_bias").items()
    ]  # fmt: skip


def importance(document: Document, model: str) -> Figure:
    """How much more the champion is wrong without each feature, the most important on top (F55)."""
    rows = []
    for name, each in list(_learned(document, model, "importance").get("features", {}).items())[:FEATURES_SHOWN]:
        words = f"{name}: loss {each['value']:+.4f} without it, {each['share']:.0%} of all features' importance"
        rows.append(Estimate(name, each["value"], each["low"], each["high"], words))
    picture = intervals(rows, CHAMPION, "loss without it, less that with it", 90 + 24 * max(len(rows), 2))
    nought(picture["layout"])
    return picture


def importance_words(document: Document, model: str) -> str:
    """One sentence on what the picture rests on, and how often it has changed."""
    found = _learned(document, model, "importance")
    changes = found.get("changes", 0)
    changed = "has not changed" if not changes else f"has changed {count(changes)} time{'' if changes == 1 else 's'}"
    return (
        f"How much more the champion is wrong when a feature's value is that of another example, by the newest "
        f"{count(found.get('rows', 0))} that were asked about. Features that carry the same news hide each other. What "
        f"it goes by {changed}."
    )


def leak_rows(document: Document, model: str) -> list[list[str]]:
    """What single features tell of the label, and whom both sides of a trial share: name, measure, value, interval,
    verdict."""
    rows = []
    for each in _watch(document, model, "leakage").get("features", []):
        measure = next(name for name in MEASURES if name in each)
        verdict = "knows the label?" if each["suspect"] else ""
        interval = f"{each['low']:.3f} to {each['high']:.3f}"
        rows.append([each["feature"], MEASURES[measure], f"{each[measure]:.3f}", interval, verdict])
    both = _learned(document, model, "overlap")
    if "share" in both:
        interval = f"{both['low']:.3f} to {both['high']:.3f}"
        verdict = f"the same with {both['learner']} and the champion" if both["suspect"] else ""
        rows.append([both["entity"], "on both sides", f"{both['share']:.3f}", interval, verdict])
    return rows


def leak_words(document: Document, model: str) -> str:
    """One sentence on the times of labels."""
    times = _watch(document, model, "leakage").get("labels_before_event", {})
    return (
        f"What single features alone tell of the label, by the newest labelled rows. "
        f"{count(times.get('before', 0))} of {count(times.get('labels', 0))} labels are older than their prediction."
    )


def _learned(document: Document, model: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document["learning"]["models"].get(model, {}).get(name) or {}
    return found


def _watch(document: Document, model: str, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = document["models"][model]["watch"].get(name) or {}
    return found
