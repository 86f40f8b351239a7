"""What a finished run has given: read from the topics, judged, measured.

Owns the order of that and the document of a run. Refuses to know how faults were done.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import msgspec

from stream import codec
from stream.contract import DECISIONS, JOURNAL, TOPICS
from stream.events import Decision
from stream.runtime.stages import KEY_VARIABLE, secrets_from
from tests.chaos import judge, records
from tests.chaos.figures import measure, restored
from tests.chaos.records import Records
from tests.chaos.run import Chaos
from tests.kafka_support import KEY, Cluster

SECRETS = secrets_from({KEY_VARIABLE: KEY})
"""What the workers have."""


class Outcome(NamedTuple):
    """What came out, what must have come out, and everything that is wrong."""

    logs: Records
    found: judge.Sequences
    wanted: judge.Sequences
    findings: list[str]


def outcome(chaos: Chaos) -> Outcome:
    """Judge a run whose workers have ended."""
    cluster = chaos.cluster
    logs = records.read(cluster.config, cluster.clients)
    states, unfinished = _states(cluster)
    found = judge.found(logs) | states
    wanted, faults = judge.wanted(cluster.config, SECRETS, logs)
    return Outcome(logs, found, wanted, [*chaos.findings, *unfinished, *faults, *judge.differences(wanted, found)])


def _states(cluster: Cluster) -> tuple[judge.Sequences, list[str]]:
    """Ledgers and learners as the workers left them, and whatever could not be read."""
    found: judge.Sequences = {}
    faults = []
    for stage, by_value in (("join", judge.ledger), ("learn", judge.learners)):
        for partition in range(cluster.config.topics.partitions):
            try:
                found |= by_value(partition, cluster.stage(stage, partition))
            except AssertionError as error:
                faults.append(f"{stage}/{partition}: {error}")
    return found, faults


def document(chaos: Chaos, judged: Outcome) -> dict[str, Any]:
    """Everything that is known of a run, as JSON takes it."""
    logs, workers = judged.logs, chaos.cluster.workers
    measure(chaos.happened, logs)
    return {
        "findings": judged.findings,
        "events": chaos.source.events,
        "records": {role: len(logs.of(role)) for role in TOPICS if role != JOURNAL},
        "checkpoints": sum(map(len, logs.journals.values())),
        "compared": {name: len(values) for name, values in sorted(judged.wanted.items())},
        "decisions": decisions(logs),
        "workers_started": len(workers),
        "workers_that_gave_up": chaos.gave_up,
        "restores_s": [one.seconds for one in restored(chaos.assignments(worker) for worker in workers)],
        "log_lines": [len(worker.said.splitlines()) for worker in workers],
        "happened": [msgspec.to_builtins(fault) for fault in chaos.happened],
    }


def decisions(logs: Records) -> dict[str, int]:
    """How often each step of learning was taken."""
    told = (codec.decode(Decision, record.value) for _, record in logs.of(DECISIONS))
    return dict(sorted(Counter(decision.action for decision in told).items()))
