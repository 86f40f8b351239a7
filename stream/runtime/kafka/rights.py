"""Who needs which rights on a broker with ACLs: the least that workers, producers and operators do with.

Owns the list, which `tidegate acls` prints and the tests set on a real broker; refuses to know who the principals are.
The point of it: a producer can neither order nor touch the journal and the snapshots, an operator cannot either. Who
creates topics (`tidegate topics create`) is an administrator and not in the list.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, TypeAlias

from stream import contract
from stream.config import Config
from stream.runtime.stages import learns

Operation: TypeAlias = Literal["Read", "Write", "DescribeConfigs"]
"""Reading and writing bring Describe with them."""

Kind: TypeAlias = Literal["topic", "group", "transactional-id"]

MADE: Final = (
    contract.EXAMPLES, contract.OBSERVATIONS, contract.WINDOWS, contract.ALERTS, contract.SNAPSHOTS,
    contract.DECISIONS, contract.DEAD_LETTERS, contract.JOURNAL,
)  # fmt: skip
"""Topics that workers write; predictions too, where a model learns."""

SENT: Final = (contract.REQUESTS, contract.PREDICTIONS, contract.LABELS)
"""Topics that producers write."""

TOLD: Final = (
    contract.ALERTS, contract.WINDOWS, contract.DECISIONS, contract.DEAD_LETTERS, contract.SNAPSHOTS,
)  # fmt: skip
"""Topics that operators read."""


class Principals(NamedTuple):
    """As Kafka writes them: User:NAME."""

    worker: str
    producer: str
    operator: str


class Right(NamedTuple):
    """What one principal may do with one resource, or with all whose name begins so."""

    principal: str
    operations: tuple[Operation, ...]
    kind: Kind
    name: str
    prefixed: bool = False

    def line(self, bootstrap: str, command_config: str) -> str:
        """For a shell: Kafka's own tool adds the right."""
        words = ["kafka-acls.sh", "--bootstrap-server", bootstrap, "--command-config", command_config, "--add"]
        words += ["--allow-principal", self.principal]
        words += [word for operation in self.operations for word in ("--operation", operation)]
        words += [f"--{self.kind}", self.name, *(["--resource-pattern-type", "prefixed"] if self.prefixed else [])]
        return shlex.join(words)


def needed(config: Config, who: Principals, group: str | None = None) -> list[Right]:
    """The rights of an installation, topic by topic; `group` is that of the workers (default: the topics' prefix)."""
    return [*_topics(config, who), *_groups(config, who, group or config.topics.prefix)]


def _topics(config: Config, who: Principals) -> Iterator[Right]:
    for role in contract.TOPICS:
        name = config.topics.name(role)
        reads = any(role in inputs for inputs in contract.STAGE_INPUTS.values()) or role == contract.JOURNAL
        worker: list[Operation] = ["Read"] if reads else []
        if role in MADE or (role == contract.PREDICTIONS and learns(config)):
            worker.append("Write")
        yield Right(who.worker, (*worker, "DescribeConfigs"), "topic", name)
        if role in SENT:
            yield Right(who.producer, ("Write",), "topic", name)
        if role in TOLD:
            yield Right(who.operator, ("Read",), "topic", name)
        if role == contract.COMMANDS:
            yield Right(who.operator, ("Write",), "topic", name)


def _groups(config: Config, who: Principals, group: str) -> Iterator[Right]:
    """A worker's transactions are named GROUP-STAGE-PARTITION. Alerts are forwarded by a worker's principal."""
    yield Right(who.worker, ("Read",), "group", group)
    yield Right(who.worker, ("Write",), "transactional-id", f"{group}-", prefixed=True)
    if config.deliver:
        yield Right(who.worker, ("Read",), "group", f"{config.topics.prefix}.deliver.", prefixed=True)
