"""LIMITS.md: every bound of the engine in one place. What is said of each stands here, value and reason in the source.

`python -m tests.bounds` writes the file anew; tests/test_limits.py finds a bound that is missing, and a file that is
not up to date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FILE = ROOT / "LIMITS.md"
ROOMS = ("stream", "learners", "detectors")
IS_BOUND = re.compile(r"(_MAX|_KEPT|_BYTES|_RECORDS|^KEPT)$")
NO_BOUNDS_OF = ("stream/surface/",)
"""What people are shown is cut in many places, and nothing follows from it."""


class Row(NamedTuple):
    """`name` is a constant of `stream.limits`, or of `where`."""

    name: str
    happens: str
    shown: str
    where: str = "stream/limits.py"


LETTERS = "`tidegate_dead_letters_total{code=%s}`"

IN = (
    Row("EVENT_BYTES_MAX", "dead letter, not decoded", LETTERS % '"huge"'),
    Row("DEPTH_MAX", "dead letter, not decoded", LETTERS % '"malformed"'),
    Row("DEPTH_FREE_BYTES", "larger ones are looked at", LETTERS % '"malformed"'),
    Row("FEATURES_MAX", "dead letter; of a model's examples, further names are not learned", LETTERS % '"features"'),
    Row("TEXT_CHARS_MAX", "dead letter", LETTERS % '"features"'),
    Row("PREDICTION_ID_CHARS_MAX", "dead letter", LETTERS % '"schema"'),
    Row("EVENT_TIME_MIN_S", "dead letter", LETTERS % '"event_time"'),
    Row("EVENT_TIME_MAX_S", "dead letter", LETTERS % '"event_time"'),
    Row("FUTURE_S_MAX", "dead letter; moves no progress", LETTERS % '"future"'),
    Row("VOTES_MAX", "dead letter", LETTERS % '"annotators"'),
    Row("SHADOWS_MAX", "a further one is unmatched", 'the report, `ledger.shadows.unmatched`'),
    Row("BATCH_UNPACKED_BYTES_MAX", "one dead letter for the batch, at its last offset, says how many records and from "
        "which offset on; memory is what the bound is", LETTERS % '"huge"'),
    Row("COMMAND_BYTES_MAX", "dead letter, not decoded; nothing is done", "topic `dead-letters`, code `huge`",
        "stream/commands.py"),
    Row("DEPTH_MAX", "dead letter, not decoded; nothing is done", "topic `dead-letters`, code `command`",
        "stream/commands.py"),
    Row("SKEW_S_MAX", "dead letter; nothing is done", "topic `dead-letters`, code `expired`", "stream/commands.py"),
    Row("TAKEN_MAX", "further commands are refused until some have expired", "topic `dead-letters`",
        "stream/commands.py"),
    Row("PAYLOAD_BYTES_MAX", "the snapshot is refused, the model before goes on; signature and header are checked "
        "before anything is unpacked, and no more is unpacked than the header says", "topic `dead-letters`, code "
        "`snapshot`", "learners/snapshots.py"),
)  # fmt: skip

HELD = (
    Row("PENDING_MAX", "the oldest expire before their horizon, a 64th at a time",
        '`tidegate_ledger_predictions{state="evicted"}`'),
    Row("EARLY_LABELS_MAX", "the oldest are given up as orphans, a 64th at a time",
        '`tidegate_ledger_labels{state="evicted"}`'),
    Row("EXPIRED_IDS_MAX", "a label that comes later counts as orphaned, not as late",
        "the report, `join.expired_ids_not_kept`"),
    Row("FETCH_UNPACKED_BYTES_MAX", "the rest is fetched again, from where this ends", "`tidegate_input_lag_records`"),
    Row("TAKE_RECORDS_MAX", "the rest waits for the next taking", "`tidegate_input_lag_records`"),
    Row("FETCH_BYTES", "the rest stays on the broker", "`tidegate_input_lag_records`",
        "stream/runtime/kafka/clients.py"),
    Row("HOLD_RECORDS", "the input that is ahead is held (aiokafka's pause) until the other has come up",
        "`tidegate_held_inputs`", "stream/runtime/kafka/alignment.py"),
    Row("OUTBOX_BYTES_MAX", "no more records are taken until a checkpoint is written",
        "`tidegate_checkpoint_seconds`, `tidegate_input_lag_records`", "stream/runtime/kafka/engine.py"),
    Row("BUSY_SHARDS", "the more shards are busy, the longer the interval between checkpoints",
        "`tidegate_transactions_total`", "stream/runtime/kafka/engine.py"),
    Row("BATCHES_PER_STATE_MAX", "a whole state is written", "`tidegate_state_bytes`, `tidegate_replayed_records`",
        "stream/runtime/shard.py"),
    Row("TICKS_HELD_MAX", "they are journaled", "`tidegate_transactions_total`", "stream/runtime/shard.py"),
    Row("STATE_SHARE_MAX", "whole states come more seldom; a restart replays more", "`tidegate_replayed_records`",
        "stream/runtime/kafka/carried.py"),
    Row("SLICES_MAX", "the rest are watched together, as 'other'", "the report"),
    Row("CATEGORIES_MAX", "the rest share one bin", "the report"),
    Row("BUSINESS_VALUES_MAX", "names beyond are left out", "the report"),
    Row("ROWS_PER_CHUNK", "the rows go to watch", '`tidegate_outputs_total{topic="observations"}`'),
    Row("SAMPLED_PER_CHUNK", "the others go without their features", "the report"),
    Row("EVIDENCE_BLOCK_ROWS", "the block goes to the detectors", "`tidegate_windows_total`"),
    Row("LOSS_BLOCK_ROWS", "the block goes to the detectors", "`tidegate_windows_total`"),
    Row("REPLAY_BYTES", "the oldest or the least telling examples go; `learn.replay` sets another", "the report"),
)  # fmt: skip

OUT = (
    Row("DEAD_LETTER_BYTES_MAX", "the rest is cut off", "topic `dead-letters`"),
    Row("RECORD_BYTES_MAX", "larger ones are not sent, and read whole only in our own topics",
        "`tidegate_guard_snapshots_total`", "stream/runtime/kafka/clients.py"),
    Row("BATCH_BYTES_MAX", "the next batch begins", "`tidegate_checkpoint_bytes`", "stream/runtime/kafka/clients.py"),
    Row("ENVELOPE_BYTES_MAX", "the snapshot is not published; the one before goes on being served",
        "the report, `learn.models`", "stream/stages/publishing.py"),
    Row("KEYS_KNOWN_MAX", "all are forgotten and found again", "nothing: it costs a hash a key",
        "stream/runtime/kafka/writer.py"),
    Row("SERIES_MAX", "further series are left out", "`tidegate_metrics_dropped`", "stream/runtime/metrics.py"),
    Row("CONNECTIONS_MAX", "further connections are closed", "Prometheus' own `up`", "stream/runtime/scrape.py"),
    Row("OPEN_MAX", "the oldest open alert is forgotten for this target", "`tidegate_notices_total`",
        "stream/runtime/delivery.py"),
    Row("TOLD_MAX", "the oldest notice might be sent twice", "`tidegate_notices_total`", "stream/runtime/delivery.py"),
)  # fmt: skip

TIME = (
    Row("IDLE_S", "the silent input follows the others (`engine.idle` sets another)", "the report, `join.idled`"),
    Row("SESSIONS", "the worker ends with code 70 and one line; its supervisor starts it anew",
        "`tidegate_broker_silent_seconds`", "stream/runtime/kafka/watchdog.py"),
    Row("TRIES", "the worker ends; its successor goes on from the last checkpoint",
        '`tidegate_transactions_total{result="aborted"}`', "stream/runtime/kafka/writer.py"),
    Row("TRANSACTION_S", "the broker aborts it, and readers no longer wait", "`tidegate_transactions_total`",
        "stream/runtime/kafka/clients.py"),
    Row("STOP_S", "the process ends as it is: its state is in its checkpoints", "exit code 70",
        "stream/runtime/kafka/app.py"),
    Row("INTERVAL_S", "of the clients' lines and of our warnings that repeat, one is written; errors always are",
        "the next line: `(and 99 more lines)`", "stream/runtime/kafka/logs.py"),
    Row("CATCH_UP_S", "scoring begins with older snapshots, and a line says so", "the worker's log",
        "stream/runtime/kafka/broadcast.py"),
)  # fmt: skip

PARTS = (
    ("What comes in", IN),
    ("What is held", HELD),
    ("What goes out", OUT),
    ("Time", TIME),
)

HEAD = """# Limits

Every bound of the engine: its value, why it is there, what happens there, and what shows it. This file is written by
`python -m tests.bounds`, from the source; a test finds a bound that is missing.

Nothing that comes in can stop a worker: what cannot be used is a dead letter with topic, partition, offset and reason.
What would lose records in silence stops it, with a line that says what to do.

## Records that were deleted before they were read

A worker that has been down or behind for longer than a topic keeps its records finds its next one gone. It does not
jump: it ends with code 1 and a line with topic, partition, position and the first offset that is left
(`tidegate_records_deleted_unread`, alert `TidegateRecordsDeletedUnread`), and so does every one that is started after
it. What was deleted cannot be had again; so that it does not happen, keep `retention.ms` of requests, predictions and
labels above the longest time that workers may be down, and watch `tidegate_input_lag_records`.

To begin anew, without these records or the state that there was, knowingly: stop all workers; name the inputs as they
are now under `topics` (`predictions: tidegate.predictions`, `labels: tidegate.labels`, `requests: tidegate.requests`);
give `topics.prefix` another name; run `tidegate topics create`; start the workers. Without their names under `topics`
the inputs would be looked for under the new prefix, and be empty. The state begins at the first records that are left;
what was written before stays in the old topics. Requests that are left are answered once more, and alerts of what is
left are raised once more, into the new topics: stop whoever acts on them until the workers have caught up.

## Compressed batches

Producers may compress with gzip, snappy, lz4 or zstd. Topics of your own are safest with
`compression.type=uncompressed`: then the broker unpacks, and refuses what is larger than `max.message.bytes`.
"""


class Found(NamedTuple):
    """A constant in the source and the docstring after it; of several in a row, the last one's."""

    where: str
    name: str
    text: str
    value: float
    why: str


def constants() -> Iterator[Found]:
    """Every number that is Final in a module of ours."""
    for file in sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py")):
        body = ast.parse(file.read_text(encoding="utf-8")).body
        for i, node in enumerate(body):
            if not isinstance(node, ast.AnnAssign) or node.value is None or not isinstance(node.target, ast.Name):
                continue
            if ast.unparse(node.annotation) != "Final":
                continue
            try:
                value = eval(compile(ast.Expression(node.value), "", "eval"), {"__builtins__": {}})
            except (NameError, TypeError):
                continue
            if isinstance(value, int | float) and not isinstance(value, bool):
                where = str(file.relative_to(ROOT))
                yield Found(where, node.target.id, ast.unparse(node.value), value, _why(body, i))


def _why(body: list[ast.stmt], i: int) -> str:
    """Constants that stand together without a blank line share what is said after the last."""
    line = body[i].end_lineno
    for node in body[i + 1 :]:
        if node.lineno != (line or 0) + 1:
            break
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return " ".join(str(node.value.value).split())
        line = node.end_lineno
    return ""


def inner() -> list[Found]:
    """Bounds inside parts: what happens at one stands in its reason."""
    told = {(row.where, row.name) for _, rows in PARTS for row in rows}
    found = [one for one in constants() if IS_BOUND.search(one.name) and (one.where, one.name) not in told]
    return [one for one in found if not one.where.startswith(NO_BOUNDS_OF) and not one.name.startswith("_")]


def render() -> str:
    """The file."""
    known = {(one.where, one.name): one for one in constants()}
    lines = [HEAD]
    for title, rows in PARTS:
        lines += [
            f"## {title}\n",
            "| bound | value | why | what happens there | what shows it |",
            "|---|---|---|---|---|",
        ]
        for row in rows:
            one = known[row.where, row.name]
            name = f"`{row.name}`" if row.where == "stream/limits.py" else f"`{row.name}` ({row.where})"
            lines.append(f"| {name} | {shown(one.value)} | {cell(one.why)} | {cell(row.happens)} | {row.shown} |")
        lines.append("")
    lines += ["## Inside parts\n", "What one knows of a model is bounded too, so that no input can fill memory.\n"]
    lines += ["| bound | value | why, and what happens there |", "|---|---|---|"]
    lines += [f"| `{one.name}` ({one.where}) | {shown(one.value)} | {cell(one.why)} |" for one in inner() if one.why]
    return "\n".join(lines) + "\n"


def shown(value: float) -> str:
    """A number as people read it."""
    return f"{int(value):,}" if value == int(value) and abs(value) < 1e12 else f"{value:g}"


def cell(text: str) -> str:
    """Text within a table."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
