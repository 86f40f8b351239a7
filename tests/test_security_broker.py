"""On a real Apache Kafka with TLS, SASL and ACLs: the whole loop with the least rights, and everybody else kept out
(F41, F53). One broker for the module; what it must refuse is told in one line each, and soon.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from click.testing import CliRunner, Result

from stream import codec
from stream.config import Kafka
from stream.config import load as config_of
from stream.contract import COMMANDS, DEAD_LETTERS, DECISIONS, EXAMPLES, JOURNAL, LABELS, PREDICTIONS, SNAPSHOTS, TOPICS
from stream.events import Command, DeadLetter, Decision, Heartbeat, Label, Request
from stream.runtime.kafka import rights, topics
from stream.runtime.kafka.app import run
from stream.runtime.kafka.broker import BrokerError, missing_for_local
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.knock import NotLetInError
from stream.runtime.kafka.produce import DeliveryError, Producer
from stream.surface import cli
from tests import secured
from tests.kafka_support import KEY, Worker, left_out, wait
from tests.secured import PASSWORDS, WHO, Secured

MODELS = """
models:
  m:
    task: binary
    reference: {first: 100}
    windows: {every: 10m, min_events: 10}
    labels: {horizon: 1h}
    learn: {policy: online, champion: majority, publish: 20, respond: {data_quality: ignore}}
commands: {keys: {oncall: [pause, resume], owner: all}}
"""
PREFIX, PROBED = "secured", "probed"
ONCALL, OWNER = "oncall:planted-oncall-key-0123456789", "owner:planted-owner-key-0123456789"
TOKEN = "planted-token-0123456789"
PLANTED = [*PASSWORDS.values(), KEY, TOKEN, ONCALL.partition(":")[2], OWNER.partition(":")[2]]
"""Secrets that must turn up nowhere."""

ROWS = 200
BOMB_BYTES = 24_000_000


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """As in conftest: left out loudly where no broker can be had, unless one is required."""
    missing = missing_for_local()
    try:
        if missing:
            raise BrokerError(f"no Kafka of our own: install {missing}")
        with secured.running(tmp_path_factory.mktemp("secured")) as found:
            for prefix in (PREFIX, PROBED):
                config = found.config(prefix, MODELS)
                topics.create(config, administrator(found))
                found.grant(rights.needed(config, WHO))
            wait("the rights", lambda: may(found, "producer", PREDICTIONS), 20)
            yield found
    except BrokerError as error:
        left_out(error)


def administrator(broker: Secured) -> Clients:
    return Clients(Kafka(bootstrap_servers=broker.plain))


def may(broker: Secured, name: str, role: str) -> bool:
    """Whether a principal may write to a topic of an installation that nobody runs."""
    try:
        with Producer(broker.config(PROBED, MODELS), broker.clients(name)) as producer:
            producer.send(role, "k", Heartbeat(1.0))
    except DeliveryError as error:
        assert "; this user has no right to it, see tidegate acls" in str(error)
        return False
    return True


def as_user(monkeypatch: pytest.MonkeyPatch, name: str, password: str | None = None) -> None:
    monkeypatch.setenv("TIDEGATE_SASL_USERNAME", name)
    monkeypatch.setenv("TIDEGATE_SASL_PASSWORD", password or PASSWORDS[name])


def written(broker: Secured, directory: Path, ca: Path | None = None) -> Path:
    path = directory / "secured.yaml"
    path.write_text(broker.text(PREFIX, MODELS, ca))
    return path


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(each) for each in arguments], catch_exceptions=True)


@pytest.mark.kafka
def test_each_principal_may_write_what_it_must_and_nothing_else(broker: Secured) -> None:
    """Neither a producer nor an operator can touch what workers trust, and only operators can order."""
    writes = {name: [role for role in TOPICS if may(broker, name, role)] for name in PASSWORDS}
    assert set(writes["producer"]) == set(rights.SENT)
    assert writes["operator"] == [COMMANDS]
    assert set(writes["worker"]) == {*rights.MADE, PREDICTIONS}


@pytest.mark.kafka
def test_a_wrong_certificate_a_wrong_name_and_a_wrong_password_are_told_in_a_line(
    broker: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(monkeypatch, "worker")
    for name, value in {"KEYS": f"{ONCALL} {OWNER}", "KEY": OWNER}.items():
        monkeypatch.setenv(f"TIDEGATE_COMMAND_{name}", value)
    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", KEY)
    other = secured.authority(tmp_path, "other")
    for command in ("topics check", "alerts tail", "command pause --model m"):
        done = invoke(*command.split(), "--config", written(broker, tmp_path, other))
        assert isinstance(done.exception, NotLetInError)
        said = str(done.exception)
        assert "shows a certificate that is not to be trusted" in said and "\n" not in said
    with pytest.raises(NotLetInError, match="shows a certificate that is not to be trusted"):
        run(config_of(written(broker, tmp_path, other)), serve_metrics=False)
    elsewhere = broker.text(PREFIX, MODELS).replace("127.0.0.1", "localhost")
    (tmp_path / "elsewhere.yaml").write_text(elsewhere)
    done = invoke("topics", "check", "--config", tmp_path / "elsewhere.yaml")
    assert "Hostname mismatch" in str(done.exception), "the certificate is for 127.0.0.1 only"
    as_user(monkeypatch, "worker", "not-the-password")
    with pytest.raises(NotLetInError) as refused:
        run(config_of(written(broker, tmp_path)), serve_metrics=False)
    said = str(refused.value)
    assert "does not let us in: Authentication failed" in said and "check TIDEGATE_SASL_USERNAME" in said
    assert "not-the-password" not in said


@pytest.mark.kafka
def test_the_loop_runs_over_tls_with_the_least_rights_and_obeys_only_who_may_order(
    broker: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F41, F53: requests, labels, learning, snapshots, a command that is obeyed, four that are not, and a batch that
    unpacks to a thousand times its size. Then every log and every topic is searched for the planted secrets."""
    config, path, admin = broker.config(PREFIX, MODELS), written(broker, tmp_path), administrator(broker)
    as_user(monkeypatch, "worker")
    for name, value in {"TIDEGATE_COMMAND_KEYS": f"{ONCALL} {OWNER}", "TIDEGATE_METRICS_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    worker = Worker(path, tmp_path / "worker.log")
    monkeypatch.delenv("TIDEGATE_COMMAND_KEYS")
    try:
        ask(broker, 0, ROWS)
        wait("examples", lambda: worker.alive() and count(admin, config, EXAMPLES) >= ROWS)
        wait("snapshots", lambda: count(admin, config, SNAPSHOTS) > 0)
        monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", KEY)
        said = order_all(broker, path, monkeypatch)
        asyncio.run(bomb(broker))
        wait("letters", lambda: count(admin, config, DEAD_LETTERS) >= 4 + BOMB_BYTES // 800_000, 30)
        wait("the decision", lambda: count(admin, config, DECISIONS) == 1, 30)
        assert worker.stop() == 0, worker.said
    finally:
        worker.kill()
    letters = [codec.decode(DeadLetter, value) for value in values(admin, config, DEAD_LETTERS)]
    refused = sorted(letter.code for letter in letters if letter.topic == COMMANDS)
    assert refused == ["expired", "forged", "repeated", "unsigned"]
    (decision,) = (codec.decode(Decision, value) for value in values(admin, config, DECISIONS))
    assert decision.action == "pause" and re.fullmatch(r"ann \(oncall-[0-9a-f]{8}\)", decision.why["issued_by"])
    huge = [letter for letter in letters if letter.code == "huge"]
    assert len(huge) == BOMB_BYTES // 800_000 and "at most 262144 are read" in huge[0].reason
    everything = [worker.said.encode(), said.encode(), broker.broker.log.read_bytes()]
    everything += [value for role in TOPICS for value in values(admin, config, role)]
    assert [secret for secret in PLANTED for text in everything if secret.encode() in text] == []


def order_all(broker: Secured, path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Order in every wrong way and once in the right one; what the command line said."""
    as_user(monkeypatch, "operator")
    arguments = ["command", "pause", "--config", path, "--model", "m", "--by", "ann"]
    unsigned = invoke(*arguments)
    assert "commands are signed here: set TIDEGATE_COMMAND_KEY to a key of oncall, owner" in str(unsigned.exception)
    monkeypatch.setenv("TIDEGATE_COMMAND_KEY", ONCALL)
    wrong_role = invoke("command", "rollback", *arguments[2:])
    assert "key oncall may not order 'rollback'" in str(wrong_role.exception)
    done = invoke(*arguments)
    assert re.search(r"sent pause of m as \w+, signed by oncall-[0-9a-f]{8}", done.output), done.exception
    config = broker.config(PREFIX, MODELS)
    sent = [codec.decode(Command, v) for v in values(administrator(broker), config, COMMANDS) if b"heartbeat" not in v]
    (good,) = sent
    with Producer(config, broker.clients("operator")) as producer:
        producer.send(COMMANDS, "m", good)
        producer.send(COMMANDS, "m", msgspec.structs.replace(good, command_id="other"))
        producer.send(COMMANDS, "m", msgspec.structs.replace(good, command_id="bare", signature=None, key_id=None))
        monkeypatch.setattr("time.time", lambda: good.issued_at - 10_000)  # type: ignore[operator]
        done_late = invoke(*arguments)
    monkeypatch.undo()
    return "".join(str(each.exception) + each.output for each in (unsigned, wrong_role, done, done_late))


async def bomb(broker: Secured) -> None:
    """Megabytes of zeros in a batch of 24 kilobytes, as any producer may send it: near what is unpacked at all."""
    clients = broker.clients("producer")
    producer = AIOKafkaProducer(
        bootstrap_servers=clients.bootstrap, compression_type="gzip", max_batch_size=2 * BOMB_BYTES,
        max_request_size=2 * BOMB_BYTES, **clients.security(),
    )  # fmt: skip
    await producer.start()
    try:
        batch = producer.create_batch()
        for _ in range(BOMB_BYTES // 800_000):
            batch.append(key=b"k", value=b"0" * 800_000, timestamp=None)
        await (await producer.send_batch(batch, f"{PREFIX}.{LABELS}", partition=0))
    finally:
        await producer.stop()


def ask(broker: Secured, first: int, last: int) -> None:
    config = broker.config(PREFIX, MODELS)
    with Producer(config, broker.clients("producer")) as producer:
        for i in range(first, last):
            at = 1.6e9 + 10 * i
            producer.request(Request(prediction_id=f"r{i}", model="m", event_time=at, features={"x": 1.0}))
            producer.label(Label(prediction_id=f"r{i}", event_time=at + 5, label=1))
        for role in ("requests", LABELS):
            producer.heartbeat(role, 1.6e9 + 10 * last)


def values(clients: Clients, config: object, role: str) -> list[bytes]:
    from stream.runtime.kafka.tail import tail

    return [t.record.value for t in tail(config, clients, role) if isinstance(t.record.value, bytes)]  # type: ignore[arg-type]


def count(clients: Clients, config: object, role: str) -> int:
    return len(values(clients, config, role))


def test_rights_are_printed_for_kafkas_own_tool(tmp_path: Path) -> None:
    """`tidegate acls` needs no broker."""
    path = tmp_path / "c.yaml"
    path.write_text(
        "kafka: {bootstrap_servers: 'b:9093'}\ntopics: {predictions: my.predictions}\nmodels: {m: {task: binary}}"
    )
    done = invoke("acls", "-c", path, "--worker", "User:w", "--producer", "User:p", "--operator", "User:o o")
    assert done.exit_code == 0, done.exception
    lines = done.output.splitlines()
    start = "kafka-acls.sh --bootstrap-server b:9093 --command-config admin.properties --add --allow-principal "
    assert all(line.startswith(start) for line in lines)
    told = [line.removeprefix(start) for line in lines]
    assert "User:p --operation Write --topic my.predictions" in told
    assert "User:w --operation Read --operation Write --operation DescribeConfigs --topic tidegate.journal" in told
    assert "'User:o o' --operation Write --topic tidegate.commands" in told
    assert "User:w --operation Write --transactional-id tidegate- --resource-pattern-type prefixed" in told
    assert not any("User:p" in line and ("commands" in line or JOURNAL in line) for line in lines)
