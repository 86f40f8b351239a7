"""Which topics there are on a broker, and how they must be set up. Creates them and checks them; nothing else.

Nothing is created behind anybody's back: the workers' clients must not create topics (a typo would be a topic).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from stream import contract
from stream.config import Config
from stream.runtime.kafka.clients import RECORD_BYTES_MAX, Clients

DAY_MS: Final = 86_400_000
MEGABYTE: Final = 1_048_576

_DELETE = {"cleanup.policy": "delete"}
_COMPACT = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.2"}

SETTINGS: Final[dict[str, dict[str, str]]] = {
    contract.REQUESTS: {**_DELETE, "retention.ms": str(7 * DAY_MS)},
    contract.PREDICTIONS: {**_DELETE, "retention.ms": str(30 * DAY_MS)},
    contract.LABELS: {**_DELETE, "retention.ms": str(30 * DAY_MS)},
    contract.EXAMPLES: {**_DELETE, "retention.ms": str(30 * DAY_MS)},
    contract.OBSERVATIONS: {**_DELETE, "retention.ms": str(7 * DAY_MS)},
    contract.WINDOWS: {**_DELETE, "retention.ms": str(90 * DAY_MS)},
    contract.ALERTS: {**_DELETE, "retention.ms": str(90 * DAY_MS)},
    contract.DECISIONS: {**_DELETE, "retention.ms": "-1"},
    # The broker's clock says when a command was written: it expires by that, whatever its sender claims.
    contract.COMMANDS: {**_DELETE, "retention.ms": "-1", "message.timestamp.type": "LogAppendTime"},
    contract.DEAD_LETTERS: {**_DELETE, "retention.ms": str(14 * DAY_MS)},
    # A shard that replays its journal reads the snapshots it had read: they must not be compacted away under it.
    contract.SNAPSHOTS: {**_COMPACT, "min.compaction.lag.ms": str(DAY_MS)},
    # Small segments, because only closed ones are compacted, and a restore reads what is left.
    contract.JOURNAL: {**_COMPACT, "segment.bytes": str(16 * MEGABYTE)},
}
"""Settings by role. A replay of the journal reads inputs again, so they must be kept for as long as a worker may be
down; decisions and commands are the record of who changed what, and are kept."""

EXTERNAL: Final = (contract.REQUESTS, contract.PREDICTIONS, contract.LABELS)
"""Topics that may be somebody else's: only their number of partitions is checked."""


class Wanted(NamedTuple):
    """A topic as it should be."""

    name: str
    partitions: int
    replication: int
    settings: dict[str, str]
    external: bool


def wanted(config: Config) -> list[Wanted]:
    """Every topic of a configuration. All have one number of partitions: partition p of each goes to one worker."""
    topics = config.topics
    large = {"max.message.bytes": str(RECORD_BYTES_MAX)}
    settings = {role: SETTINGS[role] | ({} if role in EXTERNAL else large) for role in contract.TOPICS}
    return [
        Wanted(topics.name(role), topics.partitions, topics.replication, settings[role], role in EXTERNAL)
        for role in contract.TOPICS
    ]


def create(config: Config, clients: Clients) -> list[str]:
    """Create the topics that are missing; their names. Existing ones are left as they are: see `check`."""
    with clients.admin() as admin:
        missing = [topic for topic in wanted(config) if topic.name not in set(admin.list_topics())]
        if missing:
            request = {
                topic.name: {
                    "num_partitions": topic.partitions,
                    "replication_factor": topic.replication,
                    "configs": topic.settings,
                }
                for topic in missing
            }
            try:
                admin.create_topics(request, wait_for_metadata=True)
            except TopicAlreadyExistsError:  # somebody else creates them at the same time
                admin.wait_for_topics([topic.name for topic in missing])
        return [topic.name for topic in missing]


def check(config: Config, clients: Clients) -> list[str]:
    """Everything that is not as it should be, in words; empty if all is well."""
    with clients.admin() as admin:
        described = {topic["name"]: topic for topic in admin.describe_topics()}
        faults: list[str] = []
        present = [topic for topic in wanted(config) if topic.name in described]
        settings = _settings(admin, [topic.name for topic in present if not topic.external])
        for topic in wanted(config):
            if topic.name not in described:
                faults.append(f"topic {topic.name}: missing; run `tidegate topics create`")
                continue
            found = len(described[topic.name]["partitions"])
            if found != topic.partitions:
                faults.append(
                    f"topic {topic.name}: {found} partitions, topics.partitions says {topic.partitions}; "
                    "all topics must have the same number"
                )
            for name, value in topic.settings.items():
                has = settings.get(topic.name, {}).get(name)
                if has is not None and has != value:
                    faults.append(f"topic {topic.name}: {name} is {has}, should be {value}")
        return faults


def _settings(admin: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    described: dict[str, Any] = admin.describe_configs(resources, config_filter="all").get("topic", {})
    return {name: {key: entry["value"] for key, entry in found.items()} for name, found in described.items()}
