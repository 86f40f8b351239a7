"""A result in words: the closing table of `demo` and `replay`, and the report's head. Plain text; owns no figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from stream.surface.console import count, duration, table
from stream.surface.figures import KINDS, LABELS, LEDGER_STATES, METRICS, by_alert, grouped, learners, metric_of

Document: TypeAlias = Mapping[str, Any]

MONTH_S: Final = 2_592_000.0
LINE_CHARS_MAX: Final = 160
ALERTS_PRINTED: Final = 12
"""Alerts of one model in the closing table; the report has all."""


def lines(document: Document) -> list[str]:
    """The closing table."""
    rows: list[tuple[str, str]] = []
    for model in document["models"]:
        rows.append((model, _stream(document)))
        late = delay(document, model)
        if late:
            rows.append(("labels come back after", late))
        rows += [("", text) if i else ("answers", text) for i, text in enumerate(all_answers(document, model))]
        rows += _alert_rows(document, model)
    bad = document["dead_letters"]["count"]
    if bad:
        codes = ", ".join(f"{n} {code}" for code, n in sorted(document["dead_letters"]["codes"].items()))
        first = document["dead_letters"]["first"][0]
        rows.append(("dead letters", f"{count(bad)} ({codes})"))
        rows.append(("", f"such as {first['topic']}: {first['reason']}"[:LINE_CHARS_MAX]))
    rows.append(("ledger", ledger_line(document)))
    timings = document.get("timings")
    if timings:
        rows.append(("took", f"{duration(timings['elapsed_s'])}, {count(timings['events_per_s'])} events a second"))
    return table(rows).splitlines()


def findings(document: Document) -> list[str]:
    """Ids of alerts that fired above information level."""
    return [
        a["first"]["alert_id"]
        for model in document["models"]
        for a in by_alert(document, model)
        if any(x["severity"] != "information" for x in (a["first"], a["last"]))
    ]


def verdict(document: Document, model: str) -> str:
    """One sentence for the head of the report."""
    feed = document["feed"]
    period = f"{minute(feed['first'])[:10]} to {minute(feed['last'])[:10]}: " if feed["first"] else ""
    return f"{period}{answers(document, model)}; {_alert_count(document, model)}."


def tiles(document: Document, model: str) -> list[tuple[str, str]]:
    """What matters most, as (name, value)."""
    predictions, labels = document["ledger"]["predictions"], document["ledger"]["labels"]
    out = [("predictions", count(predictions["in"])), ("labels", count(labels["in"]))]
    metric = metric_of(document["models"][model]["task"])
    scored = overall(document, model)
    if metric in scored.get("champion", {}):
        out.append((f"{metric}, champion", f"{scored['champion'][metric]:.3f}"))
    if metric in scored.get("baseline", {}):
        out.append((f"{metric}, baseline", f"{scored['baseline'][metric]:.3f}"))
    out.append(("alerts above information", str(sum(1 for a in by_alert(document, model) if _serious(a)))))
    found = document.get("delays", {}).get(model)
    if found and found["labels"]:
        out.append(("median delay of a label", duration(found["median_s"])))
    return out


def overall(document: Document, model: str) -> dict[str, dict[str, float]]:
    """Realised figures of each learner over the whole run."""
    found = document["models"][model]["watch"].get("performance", {})
    return {learner: versions["overall"] for learner, versions in found.items() if "overall" in versions}


def answers(document: Document, model: str, metric: str | None = None) -> str:
    """accuracy 0.803 (champion), 0.787 (tree), 0.766 (baseline)"""
    metric = metric or metric_of(document["models"][model]["task"])
    scored = {name: found[metric] for name, found in overall(document, model).items() if metric in found}
    if not scored:
        return "no labelled predictions"
    order = [name for name in learners(document, model) if name in scored]
    return f"{LABELS[metric]} " + ", ".join(f"{scored[name]:.3f} ({name})" for name in order)


def all_answers(document: Document, model: str) -> list[str]:
    """`answers` by every metric that the report draws."""
    known = {metric for found in overall(document, model).values() for metric in found}
    metrics = [metric for metric in METRICS[document["models"][model]["task"]] if metric in known]
    return [answers(document, model, metric) for metric in metrics] or ["no labelled predictions"]


def learner_rows(document: Document, model: str) -> tuple[list[list[str]], list[str]]:
    """One row a learner: name, labelled, updates, metrics; and the metrics' names."""
    scored = overall(document, model)
    learned = document["learning"]["models"].get(model, {}).get("learners", {})
    preferred = ("accuracy", "roc_auc", "log_loss", "brier", "ece", "kappa", "mae", "rmse", "r2")
    names = [n for n in preferred if any(n in found for found in scored.values())]
    rows = []
    for name in [n for n in learners(document, model) if n in scored]:
        found = scored[name]
        updates = learned.get(name, {}).get("updates")
        cells = [f"{found[n]:.4f}" if n in found else "" for n in names]
        rows.append([name, count(found.get("labelled", 0)), "" if updates is None else count(updates), *cells])
    return rows, [n.replace("_", " ") for n in names]


def delay(document: Document, model: str) -> str:
    """median 2 h 41 min, 99% within 7 h 20 min"""
    found = document.get("delays", {}).get(model)
    if not found or not found["labels"]:
        return ""
    return f"median {duration(found['median_s'])}, 99% within {duration(found['p99_s'])}"


def ledger_line(document: Document) -> str:
    """balanced: 10 = 8 joined + 0 pending + 2 expired + 0 rejected"""
    counts = document["ledger"]["predictions"]
    parts = " + ".join(f"{count(counts[state])} {state}" for state in LEDGER_STATES if state in counts)
    word = "balanced" if document["ledger"]["balanced"] else "DOES NOT BALANCE"
    return f"{word}: {count(counts['in'])} = {parts}"


def status(document: Document, model: str) -> str:
    """What the watcher says of itself: watching, learning the season."""
    found = document["models"][model]["watch"].get("status") or {}
    return "; ".join(f"{group}: {', '.join(said.values())}" for group, said in found.items())


def minute(at: str) -> str:
    """2013-06-24T15:00:00Z as 2013-06-24 15:00."""
    return at[:16].replace("T", " ")


def _stream(document: Document) -> str:
    ledger = document["ledger"]["predictions"]
    parts = [
        f"{count(ledger['in'])} predictions",
        f"{count(document['ledger']['labels']['in'])} labels",
    ]
    if ledger.get("expired"):
        parts.append(f"{count(ledger['expired'])} never came")
    return " · ".join(parts)


def _alert_count(document: Document, model: str) -> str:
    found = by_alert(document, model)
    serious = sum(1 for alert in found if _serious(alert))
    quiet = len(found) - serious
    text = f"{serious} alert{'' if serious == 1 else 's'}"
    return text + (f" and {quiet} at information level" if quiet else "")


def _serious(alert: Mapping[str, Any]) -> bool:
    return any(alert[x]["severity"] != "information" for x in ("first", "last"))


def latest(alert: Mapping[str, Any]) -> str:
    """What is known of an alert at last, without why it ended."""
    return str(alert["summary"]).partition("; over: ")[0]


def also(group: list[dict[str, Any]]) -> str:
    """What else was raised with the first of a group: 'also temp, visib'."""
    names = [alert["first"].get("stream", "").rpartition("/")[2] or alert["first"]["alert_id"] for alert in group[1:]]
    return f"also {', '.join(names)}" if names else ""


def _alert_rows(document: Document, model: str) -> list[tuple[str, str]]:
    budget = document["models"][model]["false_alarms"]
    rows = [("alerts", f"{_alert_count(document, model)}; budget of false ones {budget}")]
    serious = [group for group in grouped(document, model) if any(map(_serious, group))]
    for group in serious[:ALERTS_PRINTED]:
        first, last = group[0]["first"], group[0]["last"]
        kind = KINDS.get(last["kind"], last["kind"])
        text = "; ".join(filter(None, [latest(last), also(group)]))
        rows.append((f"  {first['at'][:10]}", f"{kind:<13} {text}"))
    if len(serious) > ALERTS_PRINTED:
        rows.append(("  …", f"{len(serious) - ALERTS_PRINTED} more in the report"))
    return rows
