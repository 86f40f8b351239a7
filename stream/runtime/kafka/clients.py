"""The settings of every Kafka client, in one place: addresses, TLS, SASL, sizes.

Owns where credentials come from (the environment) and what is refused; refuses to know what clients are used for. The
password lives in the dictionary handed to a client and nowhere else: not in a URL, a log line or a repr.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from stream import limits
from stream.config import Kafka
from stream.errors import ConfigError, StateError
from stream.runtime.environment import is_loopback, secret
from stream.runtime.kafka import unpacking
from stream.runtime.kafka.knock import knock
from stream.runtime.kafka.sockets import network_client

RECORD_BYTES_MAX: Final = 16_777_216
"""The largest record of our own topics: a snapshot of a forest takes several megabytes."""

BATCH_BYTES_MAX: Final = 524_288
"""Of records that are sent together: brokers refuse a batch of more than a megabyte where a topic does not say
otherwise, and the predictions' topic may be somebody else's. A single larger record still makes a batch of its own."""

FETCH_BYTES: Final = 1_048_576
"""Of one partition at a time; a worker holds at most twice this for every partition it reads."""

FETCH_WAIT_MS: Final = 100
"""How long the broker holds a fetch that finds nothing. A fetch asks for all partitions of a broker, and the next one
waits for it: a longer hold makes a partition that has just been read wait for silent ones."""

TRANSACTION_S: Final = 60.0
"""After which the broker aborts the transaction of a worker that is gone."""


CREDENTIALS: Final = ("TIDEGATE_SASL_USERNAME", "TIDEGATE_SASL_PASSWORD")


class GoneError(StateError):
    """What is to be read next is not on the broker any more."""

    def __init__(self, message: str, records: int) -> None:
        self.records = records
        """That were deleted before they were read."""
        super().__init__(message)


async def gone(consumer: AIOKafkaConsumer, error: OffsetOutOfRangeError) -> GoneError:
    """In words, from what aiokafka tells: partition and position."""
    tp, position = next(iter(error.args[0].items()))
    first = (await consumer.beginning_offsets([tp]))[tp]
    where = f"{tp.topic}-{tp.partition}"
    if position < first:
        return GoneError(
            f"{where}: {first - position} records were deleted before they were read: the next to read is at offset "
            f"{position}, the first that is left at {first}. Raise the topic's retention (retention.ms, "
            "retention.bytes) above the longest time that workers may be down or behind; LIMITS.md says how to go on "
            "without them",
            first - position,
        )
    end = (await consumer.end_offsets([tp]))[tp]
    return GoneError(
        f"{where}: the next to read is at offset {position}, but the topic ends at {end}: it was made anew, or the "
        "broker has lost records; LIMITS.md says how to go on",
        0,
    )


class StrictConsumer(AIOKafkaConsumer):
    """aiokafka's consumer; where it is behind what the broker keeps, it says so and does not go on elsewhere."""

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Any]]:
        try:
            return await super().getmany(*partitions, timeout_ms=timeout_ms, max_records=max_records)
        except OffsetOutOfRangeError as error:
            raise await gone(self, error) from error


class Clients:
    """Makes clients for one cluster. Raises ConfigError if the security settings do not fit together."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        self._user, self._password = (secret(name) for name in CREDENTIALS)
        self._let_in = kafka.security_protocol == "PLAINTEXT"
        faults = list(_faults(kafka))
        if not faults and kafka.security_protocol.endswith("SSL"):
            try:
                self._ssl = _ssl_context(kafka)
            except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
                reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
                faults.append(f"ssl_cafile, ssl_certfile, ssl_keyfile: not PEM files that fit together: {reason}")
        if faults:
            raise ConfigError("kafka", faults)

    def __repr__(self) -> str:
        return f"Clients({self.kafka.bootstrap_servers}, {self.kafka.security_protocol})"

    @property
    def bootstrap(self) -> list[str]:
        return [server.strip() for server in self.kafka.bootstrap_servers.split(",")]

    def security(self) -> dict[str, Any]:
        """What both kafka-python and aiokafka take."""
        settings: dict[str, Any] = {"security_protocol": self.kafka.security_protocol}
        if self.kafka.security_protocol.endswith("SSL"):
            settings["ssl_context"] = self._ssl
        if self.kafka.security_protocol.startswith("SASL"):
            settings["sasl_mechanism"] = self.kafka.sasl_mechanism
            settings["sasl_plain_username"] = str(self._user)
            settings["sasl_plain_password"] = self._password
        return settings

    def knock(self) -> None:
        """Once: whether the broker is to be trusted and lets us in. Raises NotLetInError, which says why not."""
        if not self._let_in:
            knock(self.bootstrap, self.security())
            self._let_in = True

    def _common(self) -> dict[str, Any]:
        """Of all kafka-python clients; lets nobody pass who would only wait."""
        self.knock()
        return {"bootstrap_servers": self.bootstrap, "kafka_client": network_client, **self.security()}

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(**self._common())

    def producer(self, **settings: Any) -> KafkaProducer:
        """kafka-python's producer: idempotent, and with the partitioner that Java clients have (murmur2)."""
        settled = {"acks": "all", "linger_ms": 5, "max_request_size": RECORD_BYTES_MAX}
        return KafkaProducer(**self._common(), **settled, **settings)

    def tail(self, **settings: Any) -> KafkaConsumer:
        """kafka-python's consumer without a group: reads what is committed."""
        unpacking.install()
        settled = {"isolation_level": "read_committed", "enable_auto_commit": False, "group_id": None}
        return KafkaConsumer(**self._common(), **settled, **settings)

    def consumer(self, **settings: Any) -> AIOKafkaConsumer:
        """aiokafka's consumer: reads what is committed, commits nothing by itself, jumps nowhere by itself."""
        common = {
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "max_poll_records": limits.TAKE_RECORDS_MAX,
            "max_partition_fetch_bytes": FETCH_BYTES,
            "fetch_max_wait_ms": FETCH_WAIT_MS,
        }
        unpacking.install()
        return StrictConsumer(bootstrap_servers=self.bootstrap, **{**common, **settings}, **self.security())

    def transactional(self, transactional_id: str) -> AIOKafkaProducer:
        """aiokafka's producer for the checkpoints of one shard; starting it fences whoever had the id before."""
        return AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(TRANSACTION_S * 1000),
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES_MAX,
            max_request_size=RECORD_BYTES_MAX,
            **self.security(),
        )


def _ssl_context(kafka: Kafka) -> ssl.SSLContext:
    """TLS 1.2 or later; the broker's certificate and its host name are checked, and there is no setting not to.

    Raises OSError or ValueError for files that are none, or do not fit together.
    """
    context = ssl.create_default_context(cafile=kafka.ssl_cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if kafka.ssl_certfile:
        # Without a password OpenSSL would ask for one at the terminal.
        context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile, secret("TIDEGATE_SSL_KEY_PASSWORD") or "")
    return context


def _faults(kafka: Kafka) -> Iterator[str]:
    servers = [server.strip() for server in kafka.bootstrap_servers.split(",")]
    if any("@" in server or "://" in server for server in servers):
        yield "bootstrap_servers: write host:port; credentials belong in TIDEGATE_SASL_USERNAME and _PASSWORD"
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "ssl_keyfile: a key without ssl_certfile"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        path = getattr(kafka, name)
        if path and not Path(path).is_file():
            yield f"{name}: no file {path}"
        if path and not kafka.security_protocol.endswith("SSL"):
            yield f"{name}: is not used with {kafka.security_protocol}; write security_protocol: SSL or SASL_SSL"
    if not kafka.security_protocol.startswith("SASL"):
        return
    if kafka.sasl_mechanism is None:
        yield "sasl_mechanism: missing; write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    for name in CREDENTIALS:
        if not secret(name):
            yield f"security_protocol: {kafka.security_protocol} needs the environment variable {name} or {name}_FILE"
    plain = kafka.security_protocol == "SASL_PLAINTEXT" and kafka.sasl_mechanism == "PLAIN"
    if plain and not all(is_loopback(server.rsplit(":", 1)[0]) for server in servers):
        yield "sasl_mechanism: PLAIN over SASL_PLAINTEXT shows the password; use SASL_SSL, or a SCRAM mechanism"
