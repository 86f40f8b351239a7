"""The configuration: one YAML file, typed, frozen, checked once as a whole.

Every fault is reported together with its path. Secrets are not in it: they come from the environment. What a value
means to a detector or a learner is checked by `stream.surface.check`, which may import them; this module only knows
shapes, units and names.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from learners import weak
from stream import codec, inputs, learning, limits, orders, targets, yaml_text
from stream.errors import ConfigError
from stream.learning import Learn
from stream.tree import build
from stream.units import PERIODS, DetectorSpec, Duration, FalseAlarms, LearnerSpec


class Kafka(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bootstrap_servers: str = "localhost:9092"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


class Topics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names on the broker: `<prefix>.<role>`; predictions and labels may live elsewhere."""

    prefix: str = "tidegate"
    partitions: int = 4
    replication: int = 1
    predictions: str | None = None
    labels: str | None = None
    requests: str | None = None

    def name(self, role: str) -> str:
        return getattr(self, role, None) or f"{self.prefix}.{role}"


class Engine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a worker runs. None of it changes what comes out, but for `idle` (see stream.joining.watermark)."""

    checkpoint: Duration = Duration(0.25)
    snapshot: Duration = Duration(10.0)
    idle: Duration = Duration(limits.IDLE_S)
    slack: Duration = Duration(3600.0)
    session: Duration = Duration(10.0)
    """Seconds without a heartbeat after which a worker counts as gone and its shards move (at least 6 by default of
    Kafka's brokers)."""
    metrics_port: int = 9464
    metrics_host: str = "127.0.0.1"


class Reference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is normal: the first N predictions, or the rows of a file (CSV, JSON Lines, Parquet) as features."""

    first: int = 5000
    file: str | None = None


class Windows(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reporting windows: event time (`every`, an hour where nothing is said), merged until they hold `min_events`; or a
    number of events."""

    every: Duration | None = None
    events: int | None = None
    min_events: int = 200

    def __post_init__(self) -> None:
        if self.every is None and self.events is None:
            msgspec.structs.force_setattr(self, "every", Duration(3600.0))


class Implicit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a prediction without a label counts as after a while. `rules`: conditions over features that vote
    (`learners.weak`), each `{if: {feature: amount, above: 1000}, label: 1, confidence: 0.7}`; `label`: what it counts
    as where there are none, or none of them votes; with rules and no label it then stays without one."""

    after: Duration
    label: bool | int | float | str | None = None
    rules: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.label is None and not self.rules:
            msgspec.structs.force_setattr(self, "label", 0)


class Labels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`horizon`: how long after its prediction a label is still joined. `early`: how long a label may wait for its
    prediction."""

    horizon: Duration = Duration(604_800.0)
    early: Duration = Duration(86_400.0)
    implicit: Implicit | None = None
    annotators: Literal["majority", "weighted", "dawid_skene"] | None = None
    """Several people may label the same prediction: how it is settled which label stands (`learners.annotators`).
    Without it the newest label stands, whoever says it."""


class Fairness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups of people, by feature or tag (or several, crossed), that a binary model should treat alike. `gap`: the
    difference of rates that is tolerated; `min_events`: rows below which a group's rate is not compared."""

    groups: list[str | list[str]]
    gap: float = 0.1
    min_events: int = 100


Task: TypeAlias = Literal["binary", "multiclass", "regression"]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task: Task
    positive: bool | int | float | str = 1
    """Binary: the label that counts as 1."""
    false_alarms: FalseAlarms = FalseAlarms(1.0, seconds=PERIODS["month"])
    reference: Reference = Reference()
    windows: Windows = Windows()
    slices: list[str | list[str]] = []
    fairness: Fairness | None = None
    constraints: str | None = None
    """A file of what values may be, by feature (`tidegate constraints` writes one); else they are learned from the
    reference."""
    labels: Labels = Labels()
    detectors: list[DetectorSpec] = msgspec.field(default_factory=lambda: [LearnerSpec("auto", {})])
    """`auto` is the calibrated default. Others (ADWIN on the loss, say) run beside it, outside the budget."""
    learn: Learn | None = None
    examples: bool = True
    """Send predictions joined with their labels to the examples topic. A model that learns needs them; one that is only
    watched costs less without (see benchmarks/throughput.py)."""
    find_slices: bool = False
    """Look for slices with a higher loss among the first labelled rows, and watch their losses too."""

    @property
    def sliced(self) -> list[list[str]]:
        """The columns of every slice: those of `slices`, then groups of `fairness` that are not among them."""
        groups = self.fairness.groups if self.fairness else []
        found = [[entry] if isinstance(entry, str) else entry for entry in [*self.slices, *groups]]
        return [entry for i, entry in enumerate(found) if i < len(self.slices) or entry not in found[:i]]


class EventTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    start: str | None = None
    step: Duration | None = None
    column: str | None = None
    format: Literal["iso8601", "epoch_s", "epoch_ms"] = "iso8601"


class LabelDelay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a row's label becomes known: after so many later rows, after a time, at the time in a column (empty: never),
    or after a random time."""

    events: int | None = None
    time: Duration | None = None
    column: str | None = None
    exponential: Duration | None = None
    seed: int | None = None


class Input(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For `replay` and `produce`: how the columns of a file become events."""

    model: str
    prediction_id: str = "row"
    event_time: EventTime = EventTime(start="2024-01-01T00:00:00Z", step=Duration(60.0))
    label: str | None = None
    label_delay: LabelDelay = LabelDelay(events=0)
    prediction: str | None = None
    score: str | None = None
    tags: list[str] = []
    drop: list[str] = []


class Deliver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where alerts go on from their topic: the address of an Alertmanager, or the URL of a webhook. Secrets stand in
    the environment under the names given here: a bearer token, and the key that signs what a webhook is sent."""

    alertmanager: str | None = None
    webhook: str | None = None
    name: str | None = None
    """Under it the target keeps its place in the topic; by default it is made from the URL."""
    min_severity: Literal["information", "warning", "critical"] = "warning"
    kinds: list[str] = []
    models: list[str] = []
    timeout: Duration = Duration(10.0)
    retry_for: Duration = Duration(3600.0)
    token_env: str | None = None
    hmac_env: str | None = None
    link: str | None = None
    """For an Alertmanager: the page that its alerts lead people to."""
    insecure: bool = False


class Commands(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may order what: by name of a key, the actions that it may order, or `all`. The keys themselves stand in the
    environment (TIDEGATE_COMMAND_KEYS); once there are any, a command that none of them signed is refused."""

    keys: dict[str, orders.May]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: dict[str, Model]
    kafka: Kafka | None = None
    topics: Topics = Topics()
    engine: Engine = Engine()
    commands: Commands | None = None
    deliver: list[Deliver] = []
    input: Input | None = None

    def hash(self) -> str:
        """Identifies what decides outputs: the models, the idle rule and who may order, not where bytes are carried."""
        decides = [self.models, self.engine.idle, *([] if self.commands is None else [self.commands])]
        return codec.digest(codec.canonical(msgspec.to_builtins(decides, enc_hook=_plain)))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else float(value)


def load(path: str | Path) -> Config:
    """Read and check a configuration file. Raises ConfigError with every fault and its path."""
    file = Path(path)
    return _checked(lambda: yaml_text.load(file), file.name)


def parse(text: str, source: str = "configuration") -> Config:
    """Check a configuration given as YAML text. Raises ConfigError with every fault and its path."""
    return _checked(lambda: yaml_text.read(text), source)


def _checked(read: Callable[[], Any], source: str) -> Config:
    try:
        tree = read()
    except yaml_text.YamlError as error:
        raise ConfigError(source, [str(error)]) from error
    faults: list[str] = []
    built = build(Config, tree, "", faults)
    if built is not None and not faults:
        _cross_check(built, faults)
    if faults:
        raise ConfigError(source, faults)
    return typing.cast(Config, built)


def _cross_check(config: Config, faults: list[str]) -> None:
    if not config.models:
        faults.append("models: name at least one model")
    for name, model in config.models.items():
        at = f"models.{name}"
        if model.windows.every is not None and model.windows.events is not None:
            faults.append(f"{at}.windows: give either every (event time) or events (a number)")
        implicit = model.labels.implicit
        if implicit and implicit.after > model.labels.horizon:
            faults.append(f"{at}.labels.implicit.after: must not exceed labels.horizon")
        if implicit and implicit.rules:
            faults.extend(f"{at}.labels.implicit.rules: {fault}" for fault in weak.parse(implicit.rules, model.task)[1])
        if model.labels.annotators == "dawid_skene" and model.task == "regression":
            faults.append(f"{at}.labels.annotators: dawid_skene needs classes; write weighted (a weighted median)")
        if model.fairness and model.task != "binary":
            faults.append(f"{at}.fairness: groups are compared by rates of a binary task, and this is {model.task}")
        if model.fairness and not (model.fairness.groups and 0 <= model.fairness.gap <= 0.9):
            faults.append(f"{at}.fairness: give at least one of groups, and a gap from 0 to 0.9")
        if model.learn and model.learn.policy != "off" and not model.examples:
            faults.append(f"{at}.examples: must not be false, for the model learns from them")
        if model.learn:
            faults.extend(learning.faults(f"{at}.learn", model.task, model.learn, config.topics.partitions))
    faults.extend(targets.faults(config.deliver, config.models))
    if config.commands is not None:
        faults.extend(orders.faults("commands.keys", config.commands.keys))
    if config.input is not None:
        faults.extend(inputs.faults(config.input, config.models))
