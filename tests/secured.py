"""A real broker with TLS, SASL and ACLs for one test module, and clients of it for each principal.

The plain listener stays open on loopback for the tests themselves, as an administrator; what is tested goes through the
other one.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from stream import config
from stream.config import Config, Kafka
from stream.runtime.kafka.broker import LocalBroker
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.rights import Principals, Right

WHO = Principals("User:worker", "User:producer", "User:operator")
PASSWORDS = {"worker": "planted-worker-pw-1", "producer": "planted-producer-pw-2", "operator": "planted-operator-pw-3"}
MECHANISM = "SCRAM-SHA-512"

_CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
_OPERATIONS = {"Read": "READ", "Write": "WRITE", "DescribeConfigs": "DESCRIBE_CONFIGS"}
_KINDS = {"topic": "TOPIC", "group": "GROUP", "transactional-id": "TRANSACTIONAL_ID"}


def authority(directory: Path, name: str) -> Path:
    """A certificate authority of our own; its certificate."""
    extensions = [word for extension in _CA_EXTENSIONS for word in ("-addext", extension)]
    _openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
        "-subj", f"/CN={name}", "-keyout", f"{directory / name}.key", "-out", f"{directory / name}.pem", *extensions,
    )  # fmt: skip
    return directory / f"{name}.pem"


def keystore(directory: Path, ca: Path, names: str) -> Path:
    """Key and certificate of a server for these names, signed by an authority, in one file."""
    key, request, signed = (directory / f"server.{end}" for end in ("key", "csr", "pem"))
    _openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=broker",
        "-keyout", str(key), "-out", str(request),
    )  # fmt: skip
    extensions = directory / "server.ext"
    extensions.write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca.with_suffix(".key")), "-CAcreateserial",
        "-days", "2", "-extfile", str(extensions), "-out", str(signed),
    )  # fmt: skip
    store = directory / "server.store.pem"
    store.write_text(key.read_text() + signed.read_text())
    return store


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Secured:
    """The broker: `plain` is the administrators' address, `secure` everybody's."""

    def __init__(self, directory: Path) -> None:
        self.ca = authority(directory, "ca")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        self.secure = f"127.0.0.1:{port}"
        self.broker = LocalBroker(
            directory / "broker", settings=self._settings(keystore(directory, self.ca, "IP:127.0.0.1"))
        )
        self.plain = self.broker.bootstrap

    def _settings(self, store: Path) -> Mapping[str, str]:
        return {
            "listeners": f"{{}},SASL_SSL://{self.secure}",
            "advertised.listeners": f"{{}},SASL_SSL://{self.secure}",
            "listener.security.protocol.map": "{},SASL_SSL:SASL_SSL",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "sasl.enabled.mechanisms": MECHANISM,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config":
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }  # fmt: skip

    def admit(self, passwords: Mapping[str, str]) -> None:
        """Make users."""
        with Clients(Kafka(bootstrap_servers=self.plain)).admin() as admin:
            made = [
                UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, word)
                for name, word in passwords.items()
            ]
            assert set(admin.alter_user_scram_credentials(made).values()) == {None}

    def grant(self, rights: list[Right]) -> None:
        with Clients(Kafka(bootstrap_servers=self.plain)).admin() as admin:
            admin.create_acls([acl for right in rights for acl in acls_of(right)])

    def text(self, prefix: str, models: str, ca: Path | None = None) -> str:
        """A configuration of the secure address."""
        return (
            f"kafka: {{bootstrap_servers: '{self.secure}', security_protocol: SASL_SSL, "
            f"sasl_mechanism: {MECHANISM}, ssl_cafile: '{ca or self.ca}'}}\n"
            f"topics: {{prefix: {prefix}, partitions: 2}}\n"
            f"engine: {{session: 6s, metrics_port: 0, idle: 1h, snapshot: 2s}}\n{models}"
        )

    def clients(self, name: str, password: str | None = None, ca: Path | None = None) -> Clients:
        """What a principal uses; its password stands in the environment only here."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TIDEGATE_SASL_USERNAME", name)
            patch.setenv("TIDEGATE_SASL_PASSWORD", password or PASSWORDS[name])
            return Clients(self.config("any", "models: {m: {task: binary}}", ca).kafka or Kafka())

    def config(self, prefix: str, models: str, ca: Path | None = None) -> Config:
        return config.parse(self.text(prefix, models, ca))


@contextmanager
def running(directory: Path) -> Iterator[Secured]:
    secured = Secured(directory)
    secured.broker.start()
    try:
        secured.admit(PASSWORDS)
        yield secured
    finally:
        secured.broker.stop()


def acls_of(right: Right) -> list[ACL]:
    """A right as kafka-python writes it."""
    kind = ResourceType[_KINDS[right.kind]]
    pattern = ACLResourcePatternType.PREFIXED if right.prefixed else ACLResourcePatternType.LITERAL
    return [
        ACL(right.principal, "*", ACLOperation[_OPERATIONS[operation]], ACLPermissionType.ALLOW,
            ResourcePattern(kind, right.name, pattern))
        for operation in right.operations
    ]  # fmt: skip
