"""A short run with every kind of fault on a real Apache Kafka; and the judge, judged by faults planted in its logs.

`make chaos` and `make chaos-full` are the long ones (`python -m tests.chaos --help`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from stream import codec
from stream.contract import ALERTS, DECISIONS, EXAMPLES, LABELS, Record
from stream.events import Alert, Decision
from stream.runtime.kafka.broker import Broker, GivenBroker
from tests.chaos import judge
from tests.chaos.outcome import Outcome, document, outcome
from tests.chaos.plan import Counts, plan
from tests.chaos.records import Records
from tests.chaos.run import Chaos
from tests.chaos.source import Source
from tests.chaos.workload import MODELS, Stream
from tests.kafka_support import Cluster

SEED = 1
SHORT = Counts(kills=3, zombies=1, brokers=1, stops=0, joins=1)
"""One of the kills meets a worker that is restoring; whoever joins is followed by one that ends in order."""

RATE = 100.0
BETWEEN_S = 3.0
RESUMED_S_MAX = 90.0
"""Ten times what it takes: a worker that is gone is noticed after 6 s, and whoever runs this may be busy."""


class Ended(NamedTuple):
    chaos: Chaos
    judged: Outcome


@pytest.fixture(scope="module")
def ended(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """A run that is over. A broker that is not ours is not killed."""
    counts = SHORT._replace(brokers=0) if isinstance(broker, GivenBroker) else SHORT
    name = f"chaos-{int(time.time())}"
    cluster = Cluster(broker.bootstrap, tmp_path_factory.mktemp("chaos"), MODELS, name, partitions=4)
    source = Source(cluster.path, cluster.directory / "source.log", SEED, RATE)
    chaos = Chaos(cluster, broker, source, workers=2, say=print)
    try:
        chaos.run(plan(SEED, counts, BETWEEN_S))
        yield Ended(chaos, outcome(chaos))
    finally:
        source.give_up()
        cluster.end()


@pytest.mark.kafka
def test_a_run_with_faults_gives_what_an_undisturbed_one_gives(ended: Ended) -> None:
    """F49, F50: byte for byte and in order; ledgers and learners by value."""
    assert ended.judged.findings == []


@pytest.mark.kafka
def test_every_fault_has_happened_and_work_went_on_after_each(ended: Ended) -> None:
    """F50."""
    happened = document(ended.chaos, ended.judged)["happened"]
    kinds = Counter(fault["kind"] for fault in happened)
    brokers = {} if isinstance(ended.chaos.broker, GivenBroker) else {"broker": 1}
    kills = 2 + 2 * ended.chaos.missed
    assert kinds == {"kill": kills, "kill in recovery": 1, "zombie": 1, "join": 1, "leave": 1} | brokers
    for fault in happened:
        assert 0.0 < fault["resumed_s"] < RESUMED_S_MAX, fault


@pytest.mark.kafka
def test_all_stages_had_work_that_shows(ended: Ended) -> None:
    """F50: two runs in which nothing happens are easily the same."""
    made = document(ended.chaos, ended.judged)
    compared: Counter[str] = Counter()
    for name, n in made["compared"].items():
        compared[name.split(" of ")[0].split(" from ")[0]] += n
    assert compared["alerts"] > 5 and compared["windows"] > 50 and compared["snapshots"] > 50, compared
    assert compared["predictions"] > compared["examples"] > 1_000 and compared["dead-letters"] > 50, compared
    assert {"pause", "resume"} <= set(made["decisions"]), made["decisions"]
    assert {"canary", "retire", "promote"} & set(made["decisions"]), made["decisions"]
    alerts = {codec.decode(Alert, record.value).alert_id for _, record in ended.judged.logs.of(ALERTS)}
    causes = {codec.decode(Decision, record.value).causation_id for _, record in ended.judged.logs.of(DECISIONS)}
    assert alerts & causes, causes
    assert made["compared"]["learners of learn/3"] == made["compared"]["ledger of join/0"] == 1


OUTPUTS = (*judge.JOINED, "predictions", "decisions", "snapshots")


@pytest.mark.kafka
@pytest.mark.parametrize("role", OUTPUTS)
def test_a_record_that_is_lost_is_found(ended: Ended, role: str) -> None:
    mine = ((p, record) for p, record in ended.judged.logs.of(role) if not (record.key or b"").startswith(b"t"))
    at, lost = next(mine)  # predictions of somebody else are no output
    assert found_in(ended, ended.judged.logs.keep(lambda r, p, record: (r, p, record) == (role, at, lost)))


@pytest.mark.kafka
@pytest.mark.parametrize("role", OUTPUTS)
def test_a_record_that_is_doubled_is_found(ended: Ended, role: str) -> None:
    assert found_in(ended, changed(ended.judged.logs, role, lambda log: [*log, log[-1]]))


@pytest.mark.kafka
@pytest.mark.parametrize("role", judge.JOINED)
def test_two_records_in_the_wrong_order_are_found(ended: Ended, role: str) -> None:
    """Whether these two belong to one sequence is not known: of all neighbours, some do."""
    assert found_in(ended, changed(ended.judged.logs, role, lambda log: log[::-1]))


def found_in(ended: Ended, logs: Records) -> list[str]:
    """What the judge says of these logs, the states of the workers left as they were."""
    states = {name: values for name, values in ended.judged.found.items() if name.startswith(("ledger", "learners"))}
    return judge.differences(ended.judged.wanted, judge.found(logs) | states)


def changed(logs: Records, role: str, change: Callable[[list[Record]], list[Record]]) -> Records:
    """A copy with one log of a topic changed, the longest."""
    place = max((log for log in logs.logs if log[0] == role), key=lambda log: len(logs.logs[log]))
    return logs._replace(logs={**logs.logs, place: change(logs.logs[place])})


@pytest.mark.kafka
def test_a_journal_with_a_hole_and_one_that_ends_early_are_found(ended: Ended) -> None:
    logs = ended.judged.logs
    assert not list(judge.unlike_a_journal(logs, "join/0"))
    hole = {**logs.journals, "join/0": logs.journals["join/0"][:5] + logs.journals["join/0"][6:]}
    assert list(judge.unlike_a_journal(logs._replace(journals=hole), "join/0"))
    early = {**logs.journals, "join/0": logs.journals["join/0"][:-5]}
    assert list(judge.unlike_a_journal(logs._replace(journals=early), "join/0"))


@pytest.mark.kafka
def test_a_label_that_no_worker_has_read_is_found(ended: Ended) -> None:
    """The embedded run reads it, so its example is missing on Kafka."""
    logs = ended.judged.logs
    examples = judge.by_embedded_run(ended.chaos.cluster.config, changed(logs, LABELS, lambda log: log[:-200]))
    name = max((n for n in examples if n.startswith(EXAMPLES)), key=lambda n: len(examples[n]))
    assert any(examples[n] != ended.judged.wanted[n] for n in examples if n.startswith(EXAMPLES)), name


def test_a_plan_holds_what_was_ordered_whatever_the_seed() -> None:
    for seed in range(20):
        faults = plan(seed, Counts(kills=20, zombies=5, brokers=3, stops=4, joins=2), 10.0)
        kinds = Counter(fault.kind for fault in faults)
        assert kinds == {"kill": 12, "recovery": 4, "zombie": 5, "broker": 3, "stop": 4, "join": 2}
        assert faults == plan(seed, Counts(kills=20, zombies=5, brokers=3, stops=4, joins=2), 10.0)
    shares = [Counts(100, 30, 20, 2, 0).share(n, 3) for n in range(3)]
    assert shares == [Counts(34, 10, 7, 1, 0), Counts(33, 10, 7, 1, 0), Counts(33, 10, 6, 0, 0)]


def test_a_stream_is_the_same_for_a_seed_and_its_labels_are_out_of_order() -> None:
    def events(seed: int) -> list[object]:
        stream = Stream(seed)
        return [event for _ in range(2_000) for event in stream.step()]

    assert events(3) == events(3) != events(4)
    times = [event[2].event_time for event in events(3) if event[0] == LABELS]  # type: ignore[index]
    assert times != sorted(times)
