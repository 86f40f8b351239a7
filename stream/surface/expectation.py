"""The picture of what was expected before labels came, and what they showed. Knows a result's windows only."""

from __future__ import annotations

from stream.runtime.known import moment
from stream.surface.canvas import SMOOTH_WINDOWS, Figure, layout_of, line, smooth
from stream.surface.figures import CHAMPION, LABELS, METRICS, Document, whole

EXPECTED = "#a05fc9"


def expectation(document: Document, model: str) -> Figure:
    """Of the champion, by window: each metric as it was estimated without labels, with its interval, beside the
    realised one. `choices` are the metrics to choose from, as in `figures.performance`."""
    windows = [w for w in whole(document, model) if w.get("expected") and w.get("learner", "champion") == "champion"]
    known = [m for m in METRICS[document["models"][model]["task"]] if any(m in w["expected"] for w in windows)]
    traces: list[Figure] = []
    for metric in known:
        own = [w for w in windows if metric in w["expected"]]
        x = [moment(w["start"]) for w in own]
        estimated = [w["expected"][metric]["estimated"] for w in own]
        weights = [w["n"] for w in own]
        value, low, high = ([each[k] for each in estimated] for k in range(3))
        shown = len(own) > 3 * SMOOTH_WINDOWS
        value = smooth(value, weights) if shown else value
        realised = [(moment(w["start"]), w["metrics"][metric], w["n_labelled"]) for w in own if metric in w["metrics"]]
        y = [each[1] for each in realised]
        y = smooth(y, [each[2] for each in realised]) if shown else y
        band: Figure = {"hoverinfo": "skip", "showlegend": False}
        for trace in (
            line(x, [round(v, 4) for v in high], EXPECTED, "", width=0, **band),
            line(x, [round(v, 4) for v in low], EXPECTED, "", width=0, fill="tonexty",
                 fillcolor="rgba(160,95,201,0.15)", **band),
            line([each[0] for each in realised], [round(v, 4) for v in y], CHAMPION, "realised", width=2.4),
            line(x, [round(v, 4) for v in value], EXPECTED, "estimated without labels", width=1.8, dash="dash"),
        ):  # fmt: skip
            traces.append({**trace, "visible": metric == known[0], "meta": metric})
    layout = layout_of(320)
    layout["hovermode"] = "x unified"
    return {"data": traces, "layout": layout, "choices": [[metric, LABELS[metric]] for metric in known]}
