"""`tidegate journal`: on a real broker, list, verify, rebuild up to an alert, backtest; and what it says (F42)."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import orjson
import pytest

from stream import codec, config
from stream.config import Config
from stream.contract import ALERTS, DEAD_LETTERS, JOURNAL, LABELS, OBSERVATIONS, PREDICTIONS, REQUESTS, Record
from stream.events import Alert, Label, Prediction
from stream.joining.partition import partition_of
from stream.runtime import backtest, feed, replay
from stream.runtime.embedded import Embedded
from stream.runtime.journal import Source
from stream.runtime.kafka.broker import Broker
from stream.runtime.kafka.produce import Producer
from stream.surface import cli
from tests.kafka_support import KEY, Cluster

Capture = pytest.CaptureFixture[str]
Logs = dict[Source, list[Record]]

MODEL = """
models:
  m:
    task: binary
    reference: {first: 200}
    windows: {every: 10m, min_events: 50}
    labels: {horizon: 1h}
"""
INPUT = (
    "input: {model: m, label: y, event_time: {start: '2026-01-01T00:00:00Z', step: 1s}, label_delay: {time: 1m}%s}\n"
)
GIVEN = MODEL + INPUT % ", prediction: said"
LEARNING = MODEL + "    learn: {champion: majority, respond: {covariate_drift: ignore}}\n" + INPUT % ""

ROWS, SHIFT_AT = 1_500, 700


def rows(folder: Path) -> Path:
    """A feature that moves at `SHIFT_AT`."""
    x = np.random.default_rng(3).normal(size=ROWS)
    x[SHIFT_AT:] += 1.5
    path = folder / "d.csv"
    path.write_text("x,y,said\n" + "".join(f"{x[i]:.6f},{i % 2},{i % 3 % 2}\n" for i in range(ROWS)))
    return path


def lying(settings: Config, path: Path, partitions: int) -> Logs:
    """The topics as a system would have them after the file: also what its score stage answered."""
    names = (PREDICTIONS, LABELS, REQUESTS)
    logs: Logs = {(name, p): [] for name in names for p in range(partitions)}

    def put(name: str, key: str, event: msgspec.Struct, at: float) -> None:
        log = logs[name, partition_of(key.encode(), partitions)]
        log.append(Record(len(log), at + 1, key.encode(), codec.encode(event)))

    embedded = Embedded(settings, keep=(PREDICTIONS,))
    for item in embedded.run(feed.Feed(settings, path)):
        put(item.topic, item.key, item.event, item.event_time)
    embedded.finish()
    for _, event in embedded.logs[PREDICTIONS]:
        assert isinstance(event, Prediction)
        put(PREDICTIONS, event.prediction_id, event, float(event.event_time))  # type: ignore[arg-type]
    return logs


SAME = ("alerts", "windows", "ledger", "models", "learning", "delays", "dead_letters")


@pytest.mark.parametrize(("text", "partitions"), [(GIVEN, 1), (GIVEN, 3), (LEARNING, 2)], ids=["1", "3", "learning"])
def test_a_backtest_of_the_topics_says_what_a_replay_of_the_file_says(
    tmp_path: Path, text: str, partitions: int
) -> None:
    """F42: whatever the partitions; a model that learns is asked again, and what was answered stays out."""
    settings, path = config.parse(text), rows(tmp_path)
    logs = lying(settings, path, partitions)
    fed = backtest.Feed(settings, logs, sum(map(len, logs.values())))
    seen: list[replay.Progress] = []
    found = replay.run(settings, fed, "topics of t", partitions, seen.append).to_dict()
    straight = replay.replay(settings, path, partitions).to_dict()
    assert found["alerts"], "the shift is seen"
    for part in SAME:
        assert found[part] == straight[part], part
    assert fed.passed_over == (2 * ROWS if text == LEARNING else 0), "what champion and baseline answered"
    assert (found["feed"]["predictions"], found["feed"]["labels"], fed.done()) == (ROWS, ROWS, 1.0)
    assert [at.done for at in seen] == sorted(at.done for at in seen) and len(seen) > 3


def test_in_a_backtest_a_record_that_cannot_be_used_is_a_dead_letter_with_its_place(tmp_path: Path) -> None:
    settings = config.parse(GIVEN)
    logs = lying(settings, rows(tmp_path), 1)
    logs[LABELS, 0][5] = logs[LABELS, 0][5]._replace(value=b"{")
    document = replay.run(settings, backtest.Feed(settings, logs), "topics of t").to_dict()
    (letter,) = document["dead_letters"]["first"]
    assert (letter["topic"], letter["offset"], letter["code"]) == (LABELS, 5, "malformed")
    assert document["ledger"]["predictions"]["joined"] == ROWS - 1
    assert DEAD_LETTERS not in document


# ---- on a broker ----------------------------------------------------------------------------------------------------


def run(capsys: Capture, command: str, path: str, *options: str) -> tuple[int, str, str]:
    code = cli.run(["journal", command, "--config", path, *options])
    out, err = capsys.readouterr()
    return code, out, err


def produce(cluster: Cluster, path: Path) -> None:
    settings = config.parse(GIVEN)
    with Producer(cluster.config, cluster.clients) as producer:
        for item in feed.Feed(settings, path):
            if isinstance(item.event, Prediction):
                producer.prediction(item.event)
            elif isinstance(item.event, Label):
                producer.label(item.event)
        for role in (PREDICTIONS, LABELS):
            producer.heartbeat(role, item.event_time + 2 * 3600)


@pytest.mark.kafka
def test_the_past_of_a_running_system_is_listed_proven_rebuilt_and_run_again(
    broker: Broker, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F42: the rebuilt alert is the one in the topic, bit for bit; and a journal that somebody changed is found."""
    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", KEY)
    cluster = Cluster(broker.bootstrap, tmp_path, MODEL, "pastimes", partitions=2)
    name = str(cluster.path)
    try:
        code, out, _ = run(capsys, "verify", name)
        assert (code, [line.split(maxsplit=1) for line in out.splitlines()]) == (
            0,
            [[s, "no checkpoints"] for s in SHARDS],
        )
        worker = cluster.start()
        cluster.wait("ready", lambda: worker.partitions() == [0, 1])
        produce(cluster, rows(tmp_path))
        cluster.wait("an alert", lambda: cluster.count(ALERTS) > 0)
        before = topics(cluster)
        is_listed(cluster, capsys)
        assert worker.stop() == 0, worker.said
        is_proven(cluster, capsys)
        is_rebuilt(cluster, capsys)
        is_run_again(cluster, capsys)
        assert {role: n for role, n in topics(cluster).items() if role != JOURNAL} == before
        is_found_when_forged(cluster, capsys)
    finally:
        cluster.end()


SHARDS = ["join/0", "watch/0", "join/1", "watch/1"]


def topics(cluster: Cluster) -> dict[str, int]:
    return {role: cluster.ends(role) for role in (PREDICTIONS, LABELS, OBSERVATIONS, ALERTS)}


def is_listed(cluster: Cluster, capsys: Capture) -> None:
    code, out, err = run(capsys, "list", str(cluster.path), "--json")
    assert (code, err) == (0, "")
    shards = {document["shard"]: document for document in map(orjson.loads, out.splitlines())}
    assert list(shards) == SHARDS
    for document in shards.values():
        assert document["first"] == 1 and document["last"] == document["checkpoints"] >= 1
        assert document["config"] == cluster.config.hash()
        assert {state["signature"] for state in document["states"]} == {"signed"}
    assert list(shards["join/0"]["positions"]) == ["labels/0", "predictions/0"]
    code, out, _ = run(capsys, "list", str(cluster.path))
    assert code == 0 and re.search(r"^watch/0   checkpoints 1 to \d+, 20\d\d-", out, re.M)
    assert f"configuration {cluster.config.hash()}, this one" in out and "bytes, signed" in out


def is_proven(cluster: Cluster, capsys: Capture) -> None:
    code, out, err = run(capsys, "verify", str(cluster.path))
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == SHARDS
    assert out.count("holds; nothing since") == 4, "a worker that ends in order leaves nothing to replay"
    code, out, err = run(capsys, "verify", str(cluster.path), "--all", "--json")
    assert (code, err) == (0, "")
    verdicts = [orjson.loads(line) for line in out.splitlines()]
    assert all(verdict["begin"] == 0 and verdict["states"] >= 1 and not verdict["fault"] for verdict in verdicts)
    assert sum(v["records"] for v in verdicts if v["shard"].startswith("join")) == 2 * ROWS + 4


def is_rebuilt(cluster: Cluster, capsys: Capture) -> None:
    sent = cluster.values(ALERTS)[0]
    alert = codec.decode(Alert, sent)
    state = cluster.directory / "out" / "watch.state"
    code, out, err = run(capsys, "replay", str(cluster.path), "--until", alert.alert_id, "--json", "--out", str(state))
    assert (code, err) == (0, "")
    document = orjson.loads(out)
    told = document["alert"]
    assert told["same"] is True and told["rebuilt"] == orjson.loads(sent)
    assert document["shard"] == f"watch/{partition_of(b'm', 2)}"
    assert re.fullmatch(r"observations/[01]@\d+", told["cause"]["record"])
    assert "of join/" in told["cause"]["holds"]
    assert state.stat().st_size == document["state"]["bytes"] > 1_000
    code, out, _ = run(capsys, "replay", str(cluster.path), "--until", alert.alert_id)
    assert code == 0 and "rebuilt bit for bit" in out
    assert re.search(rf"^caused by +{told['cause']['record']}, checkpoint \d+, taken at 20", out, re.M)
    shard, record = document["shard"], told["cause"]["record"]
    code, out, _ = run(capsys, "replay", str(cluster.path), "--shard", shard, "--until", record, "--json")
    assert code == 0 and orjson.loads(out)["figures"] == document["figures"]
    code, _, err = run(capsys, "replay", str(cluster.path), "--until", alert.alert_id[:-1])
    assert code == 2 and f"is it {alert.alert_id}?" in err


def is_run_again(cluster: Cluster, capsys: Capture) -> None:
    code, out, err = run(capsys, "backtest", str(cluster.path), "--json", str(cluster.directory / "same.json"))
    assert (code, err) == (0, "") and f"{ROWS:,} predictions · {ROWS:,} labels" in out
    found = orjson.loads((cluster.directory / "same.json").read_bytes())
    straight = replay.replay(config.parse(GIVEN), cluster.directory / "d.csv", 2).to_dict()
    assert found["alerts"] and found["alerts"] == straight["alerts"]
    deaf = cluster.directory / "deaf.yaml"
    deaf.write_text(cluster.text.replace("reference: {first: 200}", f"reference: {{first: {ROWS - 50}}}"))
    code, out, _ = run(capsys, "backtest", str(cluster.path), "--with", str(deaf), "--fail-on", "alert")
    assert code == 0, "with a reference beyond the shift nothing alarms"
    code, _, err = run(capsys, "backtest", str(cluster.path), "--to", "2020-01-01T00:00:00Z")
    assert code == 2 and "hold no predictions, labels or requests of that time" in err


def is_found_when_forged(cluster: Cluster, capsys: Capture) -> None:
    """Planted: whoever may write to the journal appends a checkpoint that never was."""
    from stream.runtime.journal import JournalRecord, journal_entry
    from stream.runtime.kafka.rewind import Inputs, history

    with Inputs(cluster.config, cluster.clients, [(JOURNAL, 0)]) as inputs:
        last = history(inputs, 0).pasts["join/0"].journal[-1].record
    forged: JournalRecord = msgspec.structs.replace(last, sequence=last.sequence + 1, batches=[], digest="0" * 32)
    key, value = journal_entry(forged)
    with cluster.clients.producer() as raw:
        raw.send(cluster.config.topics.name(JOURNAL), key=key, value=value, partition=0)
    code, out, _ = run(capsys, "verify", str(cluster.path))
    assert code == 1
    first, *others = out.splitlines()
    assert first.startswith(f"join/0    differs: the batches of journal record {forged.sequence} did not come out")
    assert first.endswith(f"(the same up to checkpoint {last.sequence})")
    assert all("holds" in line for line in others)


FAULTS: list[tuple[tuple[str, ...], str]] = [
    (("list", "none.yaml"), "none.yaml: cannot be read"),
    (("list", "c.yaml"), "c.yaml: kafka: missing; add kafka:"),
    (("replay", "k.yaml", "--until", "labels/0@3"), "--shard is missing: which shard is meant, such as watch/0"),
    (("replay", "k.yaml", "--until", "labels/0@3", "--shard", "learn/0"), "--shard 'learn/0': there are join, watch"),
    (("replay", "k.yaml", "--until", "2026-11-24T10:00", "--shard", "join/0"), "'2026-11-24T10:00' is a moment with"),
    (("replay", "k.yaml"), "missing option '--until'"),
]


@pytest.mark.parametrize(("arguments", "message"), FAULTS, ids=lambda value: " ".join(value)[:40])
def test_faults_are_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(MODEL)
    (tmp_path / "k.yaml").write_text("kafka: {bootstrap_servers: 'localhost:1'}\n" + MODEL)
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"tidegate: {message}")
