"""What `tidegate journal` says: of a shard's past, of its proof, of a state that was rebuilt and why an alert came.

Owns the documents (plain JSON values) and their text; refuses to know where any of it is read.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from stream import codec
from stream.contract import ALERTS, OBSERVATIONS, Record
from stream.errors import StateError
from stream.events import Alert, Observations, Window
from stream.runtime.journal import Manifest
from stream.runtime.kafka.tail import Tailed
from stream.runtime.past import Kept, Past
from stream.runtime.proof import Verdict
from stream.runtime.travel import Cause, Reached
from stream.surface.console import count, table

Document = dict[str, Any]

STATES_SHOWN: Final = 4
FIGURES_SHOWN: Final = 60
"""Lines of figures; the JSON has them all."""

METRICS_SHOWN: Final = 4


def minute(seconds: float) -> str:
    """Epoch seconds as a moment in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _plural(n: int, what: str) -> str:
    return f"{count(n)} {what}" if n == 1 else f"{count(n)} {what}s"


# ---- list -----------------------------------------------------------------------------------------------------------


def listed(past: Past, keys: Sequence[bytes]) -> Document:
    """What the journal holds of a shard."""
    journal = past.journal
    return {
        "shard": past.shard,
        "checkpoints": len(journal),
        "first": journal[0].record.sequence if journal else None,
        "last": journal[-1].record.sequence if journal else None,
        "from": minute(journal[0].written_s) if journal else None,
        "to": minute(journal[-1].written_s) if journal else None,
        "positions": {f"{name}/{p}": at for name, p, at in past.positions()},
        "config": past.config_of(),
        "states": [_state(kept, keys) for kept in past.states],
    }


def _state(kept: Kept, keys: Sequence[bytes]) -> Document:
    manifest = kept.manifest
    return {
        "sequence": manifest.sequence,
        "at": minute(kept.written_s),
        "bytes": manifest.size,
        "parts": len(manifest.places),
        "parts_kept": len(kept.places),
        "sections": {section.name: section.sha256.hex() for section in manifest.sections},
        "config": manifest.config,
        "signature": _signature(manifest, keys),
    }


def _signature(manifest: Manifest, keys: Sequence[bytes]) -> str:
    if not manifest.mac:
        return "not signed"
    if not keys:
        return "signed; TIDEGATE_SNAPSHOT_KEY is not set here"
    ours = any(hmac.compare_digest(manifest.signed(key).mac, manifest.mac) for key in keys)
    return "signed" if ours else "signed with another key"


def shard_text(document: Document, config: str) -> str:
    """A shard in a few lines."""
    if not document["checkpoints"]:
        return f"{document['shard']:<9} no checkpoints"
    first, last, n = document["first"], document["last"], document["checkpoints"]
    holes = "" if n == last - first + 1 else f", {count(last - first + 1 - n)} of them compacted away"
    is_this = "this one" if document["config"] == config else f"not this one, which is {config}"
    stands = ", ".join(f"{source}@{at}" for source, at in document["positions"].items())
    states = document["states"]
    older = [f"and {len(states) - STATES_SHOWN} older"] if len(states) > STATES_SHOWN else []
    shown = [
        f"{s['sequence']}, {s['at']}, {count(s['bytes'])} bytes, {s['signature']}"
        + ("" if s["parts_kept"] == s["parts"] else f", {s['parts_kept']} of {s['parts']} parts left")
        for s in states[-STATES_SHOWN:]
    ]
    lines = [
        f"{document['shard']:<9} checkpoints {first} to {last}{holes}, {document['from']} to {document['to']}",
        f"          stands at {stands}",
        f"          configuration {document['config']}, {is_this}",
        *(f"          whole state {text}" for text in shown),
        *(f"          {text}" for text in older),
    ]
    return "\n".join(lines)


# ---- verify ---------------------------------------------------------------------------------------------------------


def verdict_text(verdict: Verdict, config_changed: bool) -> str:
    """One line a shard."""
    name, n = f"{verdict.shard:<9}", verdict.end - verdict.begin
    if verdict.fault:
        why = verdict.fault.removeprefix(f"{verdict.shard}: ")
        if config_changed and "configuration has changed" not in why:
            why += "; the configuration is not the one that it was written under"
        return f"{name} differs: {why} (the same up to checkpoint {verdict.end})"
    if not verdict.end:
        return f"{name} no checkpoints"
    states = f", {_plural(verdict.states, 'whole state')}" if verdict.states else ""
    again = f"{_plural(n, 'checkpoint')}{states} and {_plural(verdict.records, 'record')} since came out the same"
    since = "the beginning" if not verdict.begin else f"whole state {verdict.begin} holds"
    return f"{name} {since}; {again if n else 'nothing since'}"


# ---- replay ---------------------------------------------------------------------------------------------------------


def reached_document(reached: Reached) -> Document:
    """Where a rebuilt shard stands, and its figures there."""
    shard = reached.shard
    return {
        "shard": shard.name,
        "from": reached.base.name,
        "proven_checkpoints": reached.proven,
        "checkpoint": shard.sequence if reached.base.journaled else None,
        "journaled": reached.base.journaled,
        "records": sum(shard.records.values()),
        "positions": {f"{name}/{p}": at for (name, p), at in sorted(shard.positions.items())},
        "clock": minute(reached.clock) if reached.clock else None,
        "config": shard.config,
        "figures": shard.machine.figures(),
    }


def alert_document(
    sent: Tailed, alert: Alert, rebuilt: bytes, cause: Cause | None, record: Record | None, windows: list[Window]
) -> Document:
    """The alert, whether it was rebuilt bit for bit, the record that caused it, the windows before."""
    return {
        "alert_id": alert.alert_id,
        "same": rebuilt == sent.record.value,
        "stands": f"{ALERTS}/{sent.partition}@{sent.record.offset}",
        "sent_at": minute(sent.record.timestamp_s),
        "event": msgspec.to_builtins(alert),
        "rebuilt": msgspec.json.decode(rebuilt),
        "cause": None if cause is None else _cause(cause, record),
        "windows": [msgspec.to_builtins(window) for window in windows],
    }


def _cause(cause: Cause, record: Record | None) -> Document:
    out: Document = {"checkpoint": cause.sequence or None, "clock": minute(cause.clock), "record": None}
    if cause.source is not None:
        name, partition = cause.source
        out["record"] = f"{name}/{partition}@{cause.last}"
        if cause.first != cause.last:
            out["together_with"] = f"{name}/{partition}@{cause.first} and those between"
        if name == OBSERVATIONS and record is not None:
            out["holds"] = _holds(record)
    return out


def _holds(record: Record) -> str:
    try:
        seen = codec.decode(Observations, record.value)
    except StateError:
        return "what cannot be read"
    rows = seen.predictions if seen.rows == "predictions" else seen.outcomes
    if rows is None or not len(rows.order):
        return f"no rows of join/{seen.shard}, but its progress of {seen.rows}"
    first, last = float(rows.event_time.min()), float(rows.event_time.max())
    return f"{len(rows.order)} {seen.rows} of join/{seen.shard}, event times {minute(first)} to {minute(last)}"


def reached_text(document: Document) -> str:
    """A rebuilt state for people: where it stands, why the alert came, the figures."""
    n = document["proven_checkpoints"]
    if document["journaled"]:
        how = f"from {document['from']}; {_plural(n, 'checkpoint')} on the way came out the same"
    else:
        how = f"from {document['from']}; the journal from there is gone, so the batches are cut anew"
    rows = [
        ("shard", document["shard"]),
        ("rebuilt", f"{how}; {_plural(document['records'], 'record')}"),
        ("stands at", ", ".join(f"{source}@{at}" for source, at in document["positions"].items())),
        ("clock", document["clock"] or "none yet"),
    ]
    if "state" in document:
        state = document["state"]
        rows.append(("state", f"{state['file']}, {count(state['bytes'])} bytes, sha256 {state['sha256']}"))
    parts = [table(rows)]
    if "alert" in document:
        parts.append(table(_alert_rows(document["alert"])))
    figures = list(_flat(document["figures"]))
    shown = table(figures[:FIGURES_SHOWN], "  ")
    more = len(figures) - FIGURES_SHOWN
    parts.append(f"figures\n{shown}" + (f"\n  and {count(more)} more, which --json has" if more > 0 else ""))
    return "\n\n".join(parts)


def _alert_rows(told: Document) -> Iterator[tuple[str, str]]:
    event, cause = told["event"], told["cause"]
    yield "alert", f"{told['alert_id']}, {event['status']}, {event['severity']}, {event['kind']}"
    yield "", event["summary"]
    same = "rebuilt bit for bit" if told["same"] else "NOT rebuilt as it was sent: see event and rebuilt in --json"
    yield "sent", f"{told['stands']} at {told['sent_at']}, {same}"
    if cause is None:
        yield "caused by", "no single record: its batch as a whole"
    elif cause["record"] is None:
        yield "caused by", f"silence: the clock came to {cause['clock']}, checkpoint {cause['checkpoint']}"
    else:
        where = f", checkpoint {cause['checkpoint']}" if cause["checkpoint"] else ""
        yield "caused by", f"{cause['record']}{where}, taken at {cause['clock']}"
        if "together_with" in cause:
            yield "", f"together with {cause['together_with']}"
        if "holds" in cause:
            yield "", cause["holds"]
    yield "evidence", f"{event.get('stream') or 'no stream'}, by {event.get('detector') or 'no detector'}"
    for name in event.get("related", []):
        yield "", f"also {name}"
    found = {**event.get("evidence", {}), **event.get("statistics", {})}
    for name, value in _flat({**found, "threshold": event.get("threshold", 1.0)}):
        yield "", f"{name} {value}"
    since = event.get("since")
    if since:
        yield "since", since["estimate"] + (f" ({' to '.join(since['interval'])})" if since.get("interval") else "")
    title = "windows before"
    for window in told["windows"]:
        metrics = ", ".join(f"{k} {v:.4g}" for k, v in list(window.get("metrics", {}).items())[:METRICS_SHOWN])
        span = f"{minute(window['start'])} to {minute(window['end'])}"
        yield title, f"{span}: {count(window['n'])} predictions, {count(window.get('n_labelled', 0))} labels; {metrics}"
        title = ""


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Leaves with their paths; numbers short, lists by their length where they are long."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, float):
        yield path, f"{value:.6g}"
    elif isinstance(value, (list, tuple)):
        yield path, f"{len(value)} entries" if len(value) > METRICS_SHOWN else str(list(value))
    else:
        yield path, str(value)
