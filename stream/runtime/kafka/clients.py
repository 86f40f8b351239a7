"""The settings of every Kafka client, in one place: addresses, TLS, SASL, sizes.

Owns where credentials come from (the environment) and what is refused; refuses to know what clients are used for. The
password lives in the dictionary handed to a client and nowhere else: not in a URL, a log line or a repr.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from stream.config import Kafka
from stream.errors import ConfigError

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


class Secret(str):
    """A string that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Clients:
    """Makes clients for one cluster. Raises ConfigError if the security settings do not fit together."""

    def __init__(self, kafka: Kafka) -> None:
        self.kafka = kafka
        faults = list(_faults(kafka))
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
            settings["ssl_context"] = self._ssl_context()
        if self.kafka.security_protocol.startswith("SASL"):
            settings["sasl_mechanism"] = self.kafka.sasl_mechanism
            settings["sasl_plain_username"] = os.environ["TIDEGATE_SASL_USERNAME"]
            settings["sasl_plain_password"] = Secret(os.environ["TIDEGATE_SASL_PASSWORD"])
        return settings

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.bootstrap, **self.security())

    def producer(self, **settings: Any) -> KafkaProducer:
        """kafka-python's producer: idempotent, and with the partitioner that Java clients have (murmur2)."""
        common = {"acks": "all", "linger_ms": 5, "max_request_size": RECORD_BYTES_MAX}
        return KafkaProducer(bootstrap_servers=self.bootstrap, **common, **self.security(), **settings)

    def tail(self, **settings: Any) -> KafkaConsumer:
        """kafka-python's consumer without a group: reads what is committed."""
        common = {"isolation_level": "read_committed", "enable_auto_commit": False, "group_id": None}
        return KafkaConsumer(bootstrap_servers=self.bootstrap, **common, **self.security(), **settings)

    def consumer(self, **settings: Any) -> AIOKafkaConsumer:
        """aiokafka's consumer: reads what is committed, commits nothing by itself."""
        common = {
            "isolation_level": "read_committed",
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",
            "max_partition_fetch_bytes": FETCH_BYTES,
            "fetch_max_wait_ms": FETCH_WAIT_MS,
        }
        return AIOKafkaConsumer(bootstrap_servers=self.bootstrap, **{**common, **settings}, **self.security())

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

    def _ssl_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.kafka.ssl_cafile)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.kafka.ssl_certfile:
            context.load_cert_chain(self.kafka.ssl_certfile, self.kafka.ssl_keyfile)
        return context


def _faults(kafka: Kafka) -> Iterator[str]:
    servers = [server.strip() for server in kafka.bootstrap_servers.split(",")]
    if any("@" in server or "://" in server for server in servers):
        yield "bootstrap_servers: write host:port; credentials belong in TIDEGATE_SASL_USERNAME and _PASSWORD"
    if kafka.ssl_keyfile and not kafka.ssl_certfile:
        yield "ssl_keyfile: a key without ssl_certfile"
    if not kafka.security_protocol.startswith("SASL"):
        return
    if kafka.sasl_mechanism is None:
        yield "sasl_mechanism: missing; write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    for name in ("TIDEGATE_SASL_USERNAME", "TIDEGATE_SASL_PASSWORD"):
        if not os.environ.get(name):
            yield f"security_protocol: {kafka.security_protocol} needs the environment variable {name}"
    plain = kafka.security_protocol == "SASL_PLAINTEXT" and kafka.sasl_mechanism == "PLAIN"
    if plain and not all(_is_loopback(server) for server in servers):
        yield "sasl_mechanism: PLAIN over SASL_PLAINTEXT shows the password; use SASL_SSL, or a SCRAM mechanism"


def _is_loopback(server: str) -> bool:
    host = server.rsplit(":", 1)[0].strip("[]")
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
