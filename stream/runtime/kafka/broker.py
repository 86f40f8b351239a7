"""One Apache Kafka broker for development and tests, wherever one can be had.

In this order: the broker named by KAFKA_BOOTSTRAP_SERVERS; a Docker engine, through testcontainers; Apache Kafka's own
jars, fetched once by Maven and run on the local Java. Owns that order, the files and the process; refuses to know what
is done with the broker. Not for production: one node, no replicas, no security.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from stream.errors import TidegateError

KAFKA_VERSION: Final = "4.1.0"
LOG4J_VERSION: Final = "2.24.3"
JAVA_MIN: Final = 17
HEAP: Final = "512m"
START_S: Final = 60.0
STOP_S: Final = 15.0
POLL_S: Final = 0.2
FETCH_S: Final = 600.0
"""Maven fetches 43 MB the first time."""
DOCKER_IMAGE: Final = f"apache/kafka:{KAFKA_VERSION}"
CONTAINER_PORT: Final = 9092


class BrokerError(TidegateError):
    """No broker can be had, or the one started did not come up; one line says why and what to do."""


class Broker(Protocol):
    """A broker that can be started, stopped and killed; `bootstrap` is its address while it runs."""

    bootstrap: str

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


class Running:
    """Context manager around a broker: `with Running(find()) as bootstrap:`. One that is interrupted while it starts is
    stopped too."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def __enter__(self) -> str:
        try:
            self.broker.start()
        except BaseException:
            self.broker.stop()
            raise
        return self.broker.bootstrap

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.broker.stop()


def find(directory: Path | None = None, port: int | None = None) -> Broker:
    """The first kind of broker that this machine can offer, not started yet. Raises BrokerError with one line.

    `directory` keeps a local broker's data (default: a new temporary one, removed at stop); `port` is its port
    (default: any free one).
    """
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if given:
        return GivenBroker(given)
    if _works(["docker", "info"]):
        return DockerBroker()
    missing = missing_for_local()
    if missing:
        raise BrokerError(
            f"no Kafka broker: set KAFKA_BOOTSTRAP_SERVERS, or start a Docker engine, or install {missing}"
        )
    return LocalBroker(directory, port)


def missing_for_local() -> str:
    """What a local broker lacks on this machine, in words; empty if nothing."""
    java = _java_version()
    if java < JAVA_MIN:
        return f"Java {JAVA_MIN} or later" + (f" (found {java})" if java else "")
    if not _jars_complete(_cache()) and shutil.which("mvn") is None:
        return "Maven (mvn), which fetches Apache Kafka"
    return ""


class GivenBroker:
    """A broker that somebody else runs."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def start(self) -> None:
        _wait_ready(self.bootstrap, lambda: "")

    def stop(self) -> None:
        """Not ours to stop."""

    def kill(self) -> None:
        raise BrokerError("KAFKA_BOOTSTRAP_SERVERS names a broker that is not ours to kill")


class DockerBroker:
    """Apache's image in a container, through testcontainers."""

    def __init__(self) -> None:
        self._port = _free_port()
        self.bootstrap = ""
        self._container: Any = None

    def start(self) -> None:
        """Start the container, or start it again after `kill`."""
        if self._container is None:
            from testcontainers.core.container import DockerContainer

            container = DockerContainer(DOCKER_IMAGE).with_bind_ports(CONTAINER_PORT, self._port)
            self.bootstrap = f"{container.get_container_host_ip()}:{self._port}"
            for name, value in (_settings() | _listeners(f"0.0.0.0:{CONTAINER_PORT}", self.bootstrap, 9093)).items():
                container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
            self._container = container.start()
        else:
            self._container.get_wrapped_container().start()
        _wait_ready(self.bootstrap, lambda: "")

    def stop(self) -> None:
        if self._container is not None:
            self._container.stop()
            self._container = None

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()


class LocalBroker:
    """Apache Kafka's jars on the local Java: KRaft, one node, loopback only. `settings` replace properties, as tests of
    TLS and ACLs need; `{}` in one stands for what it replaces. The plain listener must stay: by it the broker is asked
    whether it is ready."""

    def __init__(
        self, directory: Path | None = None, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self._settings = dict(settings or {})
        self._keep = directory is not None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="tidegate-kafka-"))
        self._port = port or _free_port()
        self._controller = _free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the broker prints: warnings and errors."""
        return self.directory / "broker.log"

    def start(self) -> None:
        """Start and wait until it answers. A broker that was killed comes back with the same data and address."""
        jars = fetch_jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties()
        java = ["java", f"-Xmx{HEAP}", f"-Xms{HEAP}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        java += [f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}", "-cp", f"{jars}/*"]
        with self.log.open("ab") as log:
            if not (self.directory / "data" / "meta.properties").exists():
                command = ["kafka.tools.StorageTool", "format", "--standalone", "--config", str(properties)]
                command += ["--cluster-id", uuid.uuid4().hex[:22]]
                done = subprocess.run([*java, *command], stdout=log, stderr=log, check=False)
                if done.returncode != 0:
                    raise BrokerError(f"formatting Kafka's storage failed: {self.tail()}")
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log, start_new_session=True
            )
        _wait_ready(self.bootstrap, self._died)

    def stop(self) -> None:
        """Stop in order; remove the data if the directory was not given."""
        self._end(signal.SIGTERM)
        if not self._keep:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """As a power cut would; `start` brings it back."""
        self._end(signal.SIGKILL)

    def tail(self, lines: int = 15) -> str:
        """The end of the broker's log."""
        text = self.log.read_text(errors="replace") if self.log.exists() else "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            pass
        finally:  # nor does it outlive whoever is interrupted while waiting
            self._process.kill()
            self._process.wait()
            self._process = None

    def _died(self) -> str:
        """Why waiting is pointless; empty while the process lives."""
        code = self._process.poll() if self._process else None
        return "" if code is None else f"Kafka ended with code {code}:\n{self.tail()}"

    def _write_properties(self) -> Path:
        settings = _settings() | _listeners(self.bootstrap, self.bootstrap, self._controller)
        settings["log.dirs"] = str(self.directory / "data")
        settings |= {name: value.replace("{}", settings.get(name, "")) for name, value in self._settings.items()}
        path = self.directory / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        (self.directory / "log4j2.properties").write_text(_LOG4J)
        return path


def _listeners(listen: str, advertised: str, controller: int) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{listen},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://{advertised},CONTROLLER://127.0.0.1:{controller}",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    }


def _settings() -> dict[str, str]:
    """One node, and quick: nothing is replicated, a group starts without waiting for others."""
    return {
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "auto.create.topics.enable": "false",
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "2000",
        "num.network.threads": "2",
        "num.io.threads": "2",
    }


_LOG4J = """status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""

_POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tidegate</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""

_DEPENDENCIES = (
    ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
    ("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tidegate" / f"kafka-{KAFKA_VERSION}"


def _jars_complete(cache: Path) -> bool:
    return (cache / "complete").exists()


def fetch_jars() -> Path:
    """Apache Kafka's jars, from the cache or by Maven; the directory that holds them. Raises BrokerError."""
    cache = _cache()
    if _jars_complete(cache):
        return cache
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        pom = Path(work) / "pom.xml"
        lines = (
            f"    <dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
            f"<version>{version}</version></dependency>"
            for group, name, version in _DEPENDENCIES
        )
        pom.write_text(_POM.format(dependencies="\n".join(lines)))
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={cache}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise BrokerError(f"Maven did not fetch Apache Kafka within {FETCH_S:.0f} s") from error
    if done.returncode != 0:
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise BrokerError(f"Maven could not fetch Apache Kafka: {said[0] if said else 'no reason given'}")
    (cache / "complete").touch()
    return cache


def _java_version() -> int:
    try:
        done = subprocess.run(["java", "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    quoted = done.stderr.split('"')
    return int(quoted[1].split(".")[0]) if len(quoted) > 1 and quoted[1].split(".")[0].isdigit() else 0


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(bootstrap: str, died: Callable[[], str]) -> None:
    """Wait until the broker answers a question about its cluster. Raises BrokerError after START_S or when it died."""
    deadline = time.monotonic() + START_S
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    while not _listens(host, int(port)):  # a client that is refused would leave its sockets open
        why = died()
        if why or time.monotonic() > deadline:
            raise BrokerError(why or f"nothing listens at {bootstrap} after {START_S:.0f} s")
        time.sleep(POLL_S)
    try:
        left = int(1000 * (deadline - time.monotonic()))
        with KafkaAdminClient(bootstrap_servers=bootstrap.split(","), bootstrap_timeout_ms=left) as admin:
            admin.describe_cluster()
    except (KafkaError, OSError) as error:
        raise BrokerError(died() or f"Kafka at {bootstrap} does not answer: {error}") from error


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False
