"""Keys and passwords: where they come from, what opens with which, and that they turn up nowhere else (F53).

What a worker on a broker says and sends is searched in `test_security_broker.py`; here are a replay with its report,
the faults of every secret, and what opens with old keys.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from learners.snapshots import open_sealed
from stream import codec
from stream.config import Kafka
from stream.contract import DEAD_LETTERS, SNAPSHOTS, Batch, Chunk, Record
from stream.errors import ConfigError, TidegateError
from stream.events import Heartbeat
from stream.runtime.environment import Secret, is_loopback, secret
from stream.runtime.kafka.clients import Clients
from stream.runtime.stages import KEY_BYTES_MIN, make_stage, secrets_from
from stream.stages.learn import Learn
from stream.surface import cli
from tests import secured
from tests.learning import LIGHT, configured, events, examples, fed

PLANTED = {
    "TIDEGATE_SNAPSHOT_KEY": "planted-snapshot-key-01",
    "TIDEGATE_SNAPSHOT_KEYS_OLD": "planted-older-key-00001",
    "TIDEGATE_COMMAND_KEYS": "oncall:planted-oncall-key-01",
    "TIDEGATE_COMMAND_KEY": "owner:planted-owner-key-001",
    "TIDEGATE_METRICS_TOKEN": "planted-metrics-token-01",
    "TIDEGATE_SASL_USERNAME": "somebody",
    "TIDEGATE_SASL_PASSWORD": "planted-sasl-password-01",
    "TIDEGATE_SSL_KEY_PASSWORD": "planted-ssl-password-001",
}
CONFIG = """
models:
  m:
    task: binary
    reference: {first: 200}
    windows: {every: 1h, min_events: 50}
    learn: {policy: online, champion: majority, publish: 100}
input: {model: m, label: y}
"""


def test_a_replay_its_report_its_snapshots_and_its_faults_hold_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything that runs without a broker write or say, at their best and at their worst, as bytes."""
    monkeypatch.chdir(tmp_path)
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    secure = "bootstrap_servers: '127.0.0.1:9', security_protocol: SASL_SSL, sasl_mechanism: PLAIN"
    Path("c.yaml").write_text(CONFIG)
    Path("d.csv").write_text("a,y\n" + "".join(f"{i % 9},{i % 2}\n" for i in range(600)) + "bad\n")
    Path("k.yaml").write_text(f"kafka: {{{secure}, ssl_certfile: nowhere.pem}}\n{CONFIG}")
    said = []
    for line, code in [
        ("replay d.csv -c c.yaml --report r.html --json r.json --snapshots models", 0),
        ("snapshots list models", 0),
        ("schema --config", 0),
        ("command pause -c k.yaml --model m", 1),
        ("topics check -c k.yaml", 1),
    ]:
        done = CliRunner().invoke(cli.cli, line.split())
        assert done.exit_code == code, (line, done.exception)
        said.append(f"{done.output}{done.exception!r}".encode())
    assert b"ssl_certfile: no file nowhere.pem" in said[-1]
    made = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) >= 6, "report, result and snapshots were written"
    everything = b"".join([*made, *said, caplog.text.encode()])
    secrets = [value.partition(":")[2] or value for value in PLANTED.values() if value.startswith(("planted", "o"))]
    assert len(secrets) == 7 and [each for each in secrets if each.encode() in everything] == []


@pytest.mark.parametrize("name", ["TIDEGATE_SNAPSHOT_KEY", "TIDEGATE_SNAPSHOT_KEYS_OLD", "TIDEGATE_COMMAND_KEYS"])
def test_a_secret_that_is_too_short_is_told_and_not_repeated(name: str) -> None:
    with pytest.raises(TidegateError, match=rf"{name}: .*give at least {KEY_BYTES_MIN}") as caught:
        secrets_from({name: "oncall:hunter2"})
    assert "hunter2" not in str(caught.value)


def test_secrets_come_from_variables_or_files_and_do_not_show(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hunter2\n")
    found = secret("X", {"X_FILE": str(file)})
    assert found == "hunter2" and repr(found) == "'***'" and isinstance(found, Secret)
    assert secret("X", {"X": "first", "X_FILE": str(file)}) == "first" and secret("X", {}) is None
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path / "absent"):
        with pytest.raises(TidegateError, match=r"X_FILE: .*(is not text|cannot be read)"):
            secret("X", {"X_FILE": str(path)})
    secrets = secrets_from(PLANTED)
    assert "planted" not in f"{secrets!r} {secrets} {secrets.commands!r}"
    assert [key.name for key in secrets.commands] == ["oncall", "owner"]


def test_what_an_old_key_signed_opens_and_new_snapshots_are_signed_with_the_new_one() -> None:
    """F29, F53: rotation. A key that is neither is refused, as before."""
    old, new = "o" * 32, "n" * 32
    published = [
        events(fed(Learn(configured(LIGHT), 0, 1, key.encode(), secrets_from({"TIDEGATE_SNAPSHOT_KEY": key}).key_id),
                   examples(100)), SNAPSHOTS)[0]
        for key in (old, new)
    ]  # fmt: skip
    log = [Record(i, 1.0, b"m", codec.encode(event)) for i, event in enumerate(published)]
    batch = Batch(0.0, (Chunk(SNAPSHOTS, 0, 0, 2, log),))
    rotated = secrets_from({"TIDEGATE_SNAPSHOT_KEY": new, "TIDEGATE_SNAPSHOT_KEYS_OLD": old})
    assert make_stage("score", configured(LIGHT), 0, 1, rotated).process(batch) == []
    (letter,) = make_stage("score", configured(LIGHT), 0, 1, secrets_from({"TIDEGATE_SNAPSHOT_KEY": new})).process(
        batch
    )
    assert letter.topic == DEAD_LETTERS and "not among the keys given" in letter.event.reason  # type: ignore[attr-defined]
    assert open_sealed(published[1].envelope, {rotated.key_id: new.encode()}).header.model == "m"


def kafka(**changes: str) -> Kafka:
    return msgspec.structs.replace(Kafka(bootstrap_servers="b:9093", security_protocol="SSL"), **changes)


def test_certificates_that_are_none_are_told_before_anything_connects(tmp_path: Path) -> None:
    (tmp_path / "junk.pem").write_text("no certificate")
    for changes, words in [
        ({"ssl_cafile": "nowhere.pem"}, "ssl_cafile: no file nowhere.pem"),
        ({"ssl_cafile": str(tmp_path / "junk.pem")}, "not PEM files that fit together"),
        ({"ssl_keyfile": str(tmp_path / "junk.pem")}, "a key without ssl_certfile"),
        ({"ssl_cafile": str(tmp_path / "junk.pem"), "security_protocol": "PLAINTEXT"}, "is not used with PLAINTEXT"),
    ]:
        with pytest.raises(ConfigError, match=words):
            Clients(kafka(**changes))


def test_a_locked_key_is_opened_by_its_password_and_nobody_is_asked_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = secured.keystore(tmp_path, secured.authority(tmp_path, "ca"), "DNS:me")
    locked = tmp_path / "locked.pem"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", str(store), "-out", str(locked), "-passout", "pass:hunter2-hunter2"],
        check=True, capture_output=True,
    )  # fmt: skip
    files = {"ssl_certfile": str(tmp_path / "server.pem"), "ssl_keyfile": str(locked)}
    for password in (None, "wrong-wrong"):
        if password is not None:
            monkeypatch.setenv("TIDEGATE_SSL_KEY_PASSWORD", password)
        with pytest.raises(ConfigError, match="not PEM files that fit together") as caught:
            Clients(kafka(**files))
        assert "wrong-wrong" not in str(caught.value)
    monkeypatch.setenv("TIDEGATE_SSL_KEY_PASSWORD", "hunter2-hunter2")
    settings = Clients(kafka(**files)).security()
    assert settings["ssl_context"].check_hostname and settings["ssl_context"].minimum_version.name == "TLSv1_2"


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("[::1]", True), ("::ffff:127.0.0.1", True), ("localhost", True),
     ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("localhost.evil.example", False), ("", False)],
)  # fmt: skip
def test_what_is_this_machine(host: str, here: bool) -> None:
    assert is_loopback(host) == here


def test_poison_in_our_own_log_is_a_fault_that_is_told_and_no_crash() -> None:
    """A nest too deep for the stack, where only workers may write: processing stops in order."""
    from stream.errors import StateError
    from stream.events import Alert

    nest = b'{"alert_id": "a", "evidence": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    with pytest.raises(StateError, match="a Alert in our own log cannot be read"):
        codec.decode(Alert, nest)
    with pytest.raises(StateError, match="not a"):
        codec.unpack(Heartbeat, b"\x91" * 100_000)
