"""What must hold of a run when it is over, whatever went wrong in it.

Owns the judgement; each check gives findings, and none is a pass. `undisturbed` runs the same stages over the same
batches without a fault, `by_definition` compares with `truth`, the rest are laws of single logs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from stream import codec
from stream.contract import (
    ALERTS,
    DEAD_LETTERS,
    EXAMPLES,
    JOURNAL,
    LABELS,
    OBSERVATIONS,
    PREDICTIONS,
    SNAPSHOTS,
    WINDOWS,
    Batch,
    Chunk,
    Record,
    Stage,
)  # fmt: skip
from stream.events import Alert, DeadLetter, Example, ModelSnapshot, Prediction, Window
from stream.joining.partition import partition_of
from stream.runtime import journal
from stream.runtime.journal import Entry, JournalRecord, Recovery
from stream.runtime.shard import Encoded, encode
from stream.runtime.stages import make_stage
from tests.simulation import truth
from tests.simulation.broker import Stored
from tests.simulation.worker import GROUP, SECRETS, state_digest
from tests.simulation.workload import LEARNED, WATCHED

if TYPE_CHECKING:
    from tests.simulation.world import World

STATE_BYTES_MAX: Final = 6_000_000
"""Of any shard: half of it are the recent block counts of watch, which do not grow."""

ALERT_LIFE: Final = {
    None: {"firing", "suppressed"},
    "firing": {"firing", "revised", "acknowledged", "resolved"},
    "revised": {"firing", "revised", "acknowledged", "resolved"},
    "suppressed": {"firing", "suppressed", "resolved"},
    "acknowledged": {"acknowledged", "resolved"},
    "resolved": set(),
}


def check(world: World) -> list[str]:
    """All findings of a finished run."""
    found = [
        finding for stage in world.inputs for p in range(world.partitions) for finding in undisturbed(world, stage, p)
    ]
    for law in (joins, windows_by_definition, watch_alone, learned_after_scored, lives, letters):
        found += law(world)
    return found


# -- the same without faults ---------------------------------------------------------------------------------------


def history(world: World, shard: str, partition: int) -> list[JournalRecord]:
    """All checkpoints of a shard that were ever committed, in their order."""
    prefix = f"{shard}/journal/".encode()
    found = (s.value for s in world.journal(partition).log if s.visible and (s.key or b"").startswith(prefix))
    return [codec.unpack(JournalRecord, value or b"") for value in found]


def undisturbed(world: World, stage: str, partition: int) -> Iterator[str]:
    """A shard that takes the same batches and never meets a fault puts out the same, byte for byte, and stands in the
    same state wherever some incarnation was brought back."""
    shard = f"{stage}/{partition}"
    records = history(world, shard, partition)
    if [record.sequence for record in records] != list(range(1, len(records) + 1)):
        yield f"{shard}: checkpoints {[record.sequence for record in records]}"
        return
    machine = make_stage(stage, world.plan.config, partition, world.partitions, SECRETS)
    digests = defaultdict(set)
    for back in world.recovered:
        if back.shard == shard:
            digests[back.sequence].add(back.digest)
    at: Counter[tuple[str, int]] = Counter()
    wanted: list[Encoded] = []
    yield from _compare(shard, 0, digests, machine)
    for record in records:
        for taken in record.batches:
            for name, p, start, end, _ in taken.chunks:
                if start != at[name, p]:
                    yield f"{shard}: {name}-{p} goes on at {start}, where {at[name, p]} is next"
                at[name, p] = end
            wanted += encode(machine.process(_batch(world, taken)))
        yield from _compare(shard, record.sequence, digests, machine)
    yield from _same_outputs(world, shard, wanted)
    unread = {(name, p): n for (name, p), n in at.items() if n < world.log(name, p).end}
    if unread:
        yield f"{shard}: not read to the end: {unread}"
    yield from _at_rest(world, stage, partition, machine)


def _batch(world: World, taken: journal.Taken) -> Batch:
    chunks = (Chunk(n, p, s, e, world.log(n, p).between(s, e), end) for n, p, s, e, end in taken.chunks)
    return Batch(taken.clock, tuple(chunks))


def _compare(shard: str, sequence: int, digests: dict[int, set[str]], machine: Stage) -> Iterator[str]:
    if sequence in digests and digests[sequence] != {state_digest(machine)}:
        yield f"{shard}: brought back at checkpoint {sequence} in a state that it never was in"


def _same_outputs(world: World, shard: str, wanted: list[Encoded]) -> Iterator[str]:
    by_log: dict[tuple[str, int], list[tuple[bytes, bytes]]] = defaultdict(list)
    for out in wanted:
        partition = partition_of(out.key, world.partitions) if out.partition is None else out.partition
        by_log[out.topic, partition].append((out.key, out.value))
    writer = f"{GROUP}-{shard.replace('/', '-')}"
    for topic, partition in sorted(world.broker.partitions):
        role = topic.removeprefix("tidegate.")
        written = [
            (s.key, s.value)
            for s in world.broker.partitions[topic, partition].log
            if s.visible and s.transaction is not None and s.transaction.id.startswith(writer)
        ]
        due = by_log[role, partition]
        if role != JOURNAL and written != due:
            yield f"{shard}: {len(written)} records in {role}-{partition}, undisturbed {len(due)}, or others"


def _at_rest(world: World, stage: str, partition: int, machine: Stage) -> Iterator[str]:
    """The last whole state is the state that the undisturbed shard ends in, within its bounds."""
    shard = f"{stage}/{partition}"
    log = world.journal(partition)
    past = journal.recover(shard, entries(s for s in log.log if s.offset not in log.gone), SECRETS.trusted)
    if past is None or past.journal:
        yield f"{shard}: its worker ended in order, and left something to replay"
    elif state_digest(restored(world, stage, partition, past)) != state_digest(machine):
        yield f"{shard}: ended in another state than undisturbed"
    elif len(past.whole.state) > STATE_BYTES_MAX:
        yield f"{shard}: a state of {len(past.whole.state)} bytes"


# -- the join and the windows by definition ------------------------------------------------------------------------


def log_of(world: World, role: str, partition: int) -> list[Record]:
    return world.log(role, partition).between(0, world.log(role, partition).end)


def truths(world: World) -> list[truth.Joined]:
    """What the join of every partition must give."""
    terms = {
        name: truth.Terms(
            float(model.labels.horizon),
            float(model.labels.early),
            None if model.labels.implicit is None else float(model.labels.implicit.after),
            model.task == "binary",
        )
        for name, model in world.plan.config.models.items()
    }
    return [
        truth.join(
            log_of(world, PREDICTIONS, p),
            log_of(world, LABELS, p),
            terms,
            lambda id, p=p: partition_of(id.encode(), world.partitions) == p,  # type: ignore[misc]
        )
        for p in range(world.partitions)
    ]


def final_stage(world: World, stage: str, partition: int) -> Any:
    log = world.journal(partition)
    past = journal.recover(f"{stage}/{partition}", entries(log.log), SECRETS.trusted)
    assert past is not None
    return restored(world, stage, partition, past)


def restored(world: World, stage: str, partition: int, past: Recovery) -> Any:
    machine = make_stage(stage, world.plan.config, partition, world.partitions, SECRETS)
    machine.restore(past.whole.state)
    return machine


def entries(log: Iterable[Stored]) -> list[Entry]:
    """What a partition of the journal holds: of each key the newest, if it was not deleted."""
    newest = {s.key or b"": s.value for s in log if s.visible}
    return [(key, value) for key, value in newest.items() if value is not None]


def written_by(world: World, role: str, partition: int, shard: str) -> Iterator[Stored]:
    writer = f"{GROUP}-{shard.replace('/', '-')}"
    for stored in world.log(role, partition).log:
        if stored.visible and stored.transaction is not None and stored.transaction.id.startswith(writer):
            yield stored


def joins(world: World) -> Iterator[str]:
    """Examples and ledger of every shard are those of the definition, and nothing is left once all has expired."""
    if not world.plan.exact:
        return
    for partition, wanted in enumerate(truths(world)):
        shard = f"join/{partition}"
        rows = list[tuple[Any, ...]]()
        for p in range(world.partitions):
            for stored in written_by(world, EXAMPLES, p, shard):
                e = codec.decode(Example, stored.value)
                who = [vote.learner for vote in e.votes]
                said = e.prediction
                rows.append((e.completed, said.prediction_id, said.model, e.label, e.revision, e.previous, who))
        for model in (LEARNED, WATCHED):  # the key of an example is its model, so models may lie in different logs
            mine, theirs = ([row for row in some if row[2] == model] for some in (rows, wanted.examples))
            if mine != theirs:
                yield f"{shard}: {len(mine)} examples of {model}, {len(theirs)} by definition, or others"
        figures = final_stage(world, "join", partition).figures()
        if counted(figures["ledger"]) != wanted.count:
            yield f"{shard}: ledger {counted(figures['ledger'])}, by definition {wanted.count}"
        left = {name: figures[name] for name in ("pending", "waiting", "kept", "early") if figures[name]}
        if left:
            yield f"{shard}: left after everything has expired: {left}"


def counted(ledger: Any) -> Counter[str]:
    p, label = ledger["predictions"], ledger["labels"]
    return +Counter(
        {"p pending": p["pending"], "p expired": p["expired"], "p implicit": p["implicit"],
         "p joined": p["joined"] - p["implicit"], "p duplicate": p["duplicate"], "p rejected": p["rejected"],
         "joined": label["joined"], "waiting": label["waiting"], "orphaned": label["orphaned"],
         "l duplicate": label["duplicate"], "superseded": label["superseded"], "retracted": label["retracted"],
         "l rejected": label["rejected"], "heartbeats": ledger["heartbeats"]}
    )  # fmt: skip


def windows_by_definition(world: World) -> Iterator[str]:
    """The last word on every window is what a count over the fates says."""
    if not world.plan.exact:
        return
    fates = [fate for joined in truths(world) for fate in joined.fates]
    for model, figure in ((LEARNED, "accuracy"), (WATCHED, "mae")):
        last = {}
        for window in events(world, WINDOWS, Window):
            if window.model == model and window.learner == "champion" and not window.slice:
                last[window.start, window.end] = window
        wanted = truth.windows(fates, model, list(last))
        for span, (n, labelled, right) in wanted.items():
            window = last[span]
            told = window.metrics.get(figure)
            close = right is None or (told is not None and abs(told - right) < 1e-9)
            if (window.n, window.n_labelled) != (n, labelled) or not close:
                yield f"window {model} {span}: {window.n}, {window.n_labelled}, {told}, by definition {wanted[span]}"


def events(world: World, role: str, kind: Any) -> Iterator[Any]:
    for partition in range(world.partitions):
        for record in log_of(world, role, partition):
            yield codec.decode(kind, record.value)


def watch_alone(world: World) -> Iterator[str]:
    """Windows and alerts are a function of the rows: all observations in one batch give the same."""
    if not world.plan.exact:
        return
    for partition in range(world.partitions):
        records = log_of(world, OBSERVATIONS, partition)
        machine = make_stage("watch", world.plan.config, partition, world.partitions, SECRETS)
        chunk = Chunk(OBSERVATIONS, partition, 0, world.log(OBSERVATIONS, partition).end, records)
        outputs = machine.process(Batch(0.0, (chunk,)))
        alone = [(out.topic, codec.encode(out.event)) for out in outputs]
        last = {out.event.alert_id: out.event for out in outputs if isinstance(out.event, Alert)}
        stand = Counter(alert.model for alert in last.values() if alert.status != "resolved")
        for model, figures in machine.figures()["models"].items():
            known = figures["alerts"]["firing"]
            if stand[model] != known:
                yield f"watch/{partition}: {stand[model]} alerts of {model} stand, {known} are known"
        for role in (WINDOWS, ALERTS):
            for model in world.plan.config.models:
                mine = [
                    s.value for p in range(world.partitions) for s in written_by(world, role, p, f"watch/{partition}")
                ]
                mark = f'"model":"{model}"'.encode()
                wanted = [value for topic, value in alone if topic == role and mark in value]
                if [value for value in mine if mark in (value or b"")] != wanted:
                    yield f"watch/{partition}: other {role} of {model} than from its observations in one piece"


# -- laws of single logs -------------------------------------------------------------------------------------------


def learned_after_scored(world: World) -> Iterator[str]:
    """What a prediction says it had learned stood in a snapshot before, and no example was learned by then that holds
    it (F23)."""
    published = {("champion", "0", 0): 0.0}
    for partition in range(world.partitions):
        for stored in world.log(SNAPSHOTS, partition).log:
            if stored.visible and stored.transaction is not None and b'"envelope"' in (stored.value or b""):
                told = codec.decode(ModelSnapshot, stored.value)
                key = (told.learner, told.version, told.updates)
                published[key] = min(stored.transaction.committed_s, published.get(key, float("inf")))
    for partition in range(world.partitions):
        for stored in world.log(PREDICTIONS, partition).log:
            if not stored.visible or stored.transaction is None or b'"heartbeat"' in (stored.value or b""):
                continue
            said = codec.decode(Prediction, stored.value)
            if said.model_version == "0" and not said.model_updates:
                continue
            since = published.get((said.learner, said.model_version, said.model_updates or 0))
            if since is None or since > stored.transaction.committed_s:
                state = f"{said.learner} {said.model_version}@{said.model_updates}"
                yield f"prediction {said.prediction_id}: {state} was not published"
    for partition in range(world.partitions):
        model = final_stage(world, "learn", partition).figures()["models"].get(LEARNED)
        if model is not None and model["leaks"]:
            yield f"learn/{partition}: {model['leaks']} leaks"


def lives(world: World) -> Iterator[str]:
    """Alerts and windows go through the states of their lives, and no other."""
    status: dict[str, str] = {}
    for alert in events(world, ALERTS, Alert):
        if alert.status not in ALERT_LIFE[status.get(alert.alert_id)]:
            yield f"alert {alert.alert_id}: {status.get(alert.alert_id)} becomes {alert.status}"
        status[alert.alert_id] = alert.status
    final: set[Any] = set()
    for window in events(world, WINDOWS, Window):
        key = (window.model, window.learner, window.start, window.end, msgspec.json.encode(window.slice))
        if key in final and not window.final:
            yield f"window {key}: open again after it was final"
        if window.final:
            final.add(key)


def letters(world: World) -> Iterator[str]:
    """Every rejected record of the join has its dead letter, once."""
    for partition in range(world.partitions):
        found = Counter()
        for p in range(world.partitions):
            for stored in written_by(world, DEAD_LETTERS, p, f"join/{partition}"):
                letter = codec.decode(DeadLetter, stored.value)
                found[letter.topic, letter.offset] += 1
        rejected = sum(final_stage(world, "join", partition).figures()["rejected"].values())
        twice = [place for place, n in found.items() if n > 1]
        if twice or len(found) != rejected:
            yield f"join/{partition}: {rejected} rejected, {len(found)} dead letters, twice: {twice}"
