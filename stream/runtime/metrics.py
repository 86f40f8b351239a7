"""Figures of shards and of the worker as Prometheus metrics: one table, one walk over it.

Owns names, kinds, labels and help texts; refuses to know how figures come about. `publish` runs where the figures are
made, so a scrape, which comes on another thread, only reads what was flattened before.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SERIES_MAX: Final = 20_000
"""Series of one scrape; tags of producers become labels (versions, codes), and a mistake there must not fill memory.
What is beyond it is left out and counted in `tidegate_metrics_dropped`."""

SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MetricSpec(NamedTuple):
    """One metric. `path` leads through the figures of a shard (`<stage>.…` for the stage's own, `shard.…` for what the
    runtime knows of it) or of the process (`worker.…`); `{label}` stands for any key and becomes that label. `stage`
    and `partition` are the shard's own."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...]
    path: str


METRICS: Final[tuple[MetricSpec, ...]] = (
    # the ledger and the join
    MetricSpec("tidegate_ledger_predictions", "gauge", "Predictions by what became of them; `in` is all of them.",
               ("partition", "state"), "join.ledger.predictions.{state}"),
    MetricSpec("tidegate_ledger_labels", "gauge", "Labels by what became of them; `in` is all of them.",
               ("partition", "state"), "join.ledger.labels.{state}"),
    MetricSpec("tidegate_event_time_seconds", "gauge", "Event time (epoch seconds) that a source has reached.",
               ("partition", "source"), "join.progress.{source}"),
    MetricSpec("tidegate_dead_letters_total", "counter", "Records that could not be used, by reason.",
               ("partition", "code"), "join.rejected.{code}"),
    MetricSpec("tidegate_event_time_lag_seconds", "gauge",
               "Newest record's write time minus the event time reached; in a replay of the past, the age of the data.",
               ("partition", "source"), "shard.event_time_lag_s.{source}"),
    # models
    MetricSpec("tidegate_windows_total", "counter", "Reporting windows closed.",
               ("model",), "watch.models.{model}.windows"),
    MetricSpec("tidegate_alerts_total", "counter", "Alerts raised, by kind.",
               ("model", "kind"), "watch.models.{model}.alerts.by_kind.{kind}"),
    MetricSpec("tidegate_performance", "gauge", "Realised performance of the newest windows, by metric.",
               ("model", "learner", "version", "metric"),
               "watch.models.{model}.performance.{learner}.{version}.{metric}"),
    MetricSpec("tidegate_learner_updates_total", "counter", "Examples learned.",
               ("model", "learner"), "learn.models.{model}.learners.{learner}.updates"),
    MetricSpec("tidegate_learner_faults_total", "counter", "Examples that a learner could not score or learn.",
               ("model", "learner"), "learn.models.{model}.learners.{learner}.faults"),
    MetricSpec("tidegate_leaks_total", "counter", "Examples refused because their model may have learned them already.",
               ("model",), "learn.models.{model}.leaks"),
    MetricSpec("tidegate_learner_metric", "gauge", "Prequential metric of a learner: scored before it learned.",
               ("model", "learner", "metric"), "learn.models.{model}.learners.{learner}.metrics.{metric}"),
    # shards
    MetricSpec("tidegate_records_total", "counter", "Records processed.",
               ("stage", "partition", "input"), "shard.inputs.{input}.records"),
    MetricSpec("tidegate_input_lag_records", "gauge", "Records of an input that wait to be read.",
               ("stage", "partition", "input"), "shard.inputs.{input}.lag"),
    MetricSpec("tidegate_outputs_total", "counter", "Events sent, by topic.",
               ("stage", "partition", "topic"), "shard.outputs.{topic}"),
    MetricSpec("tidegate_batch_seconds", "histogram", "Seconds that a stage took for one batch.",
               ("stage", "partition"), "shard.batch_s"),
    MetricSpec("tidegate_checkpoint_seconds", "histogram", "Seconds from begin to commit of a checkpoint.",
               ("stage", "partition"), "shard.checkpoint_s"),
    MetricSpec("tidegate_transactions_total", "counter", "Checkpoint transactions: committed, aborted, fenced.",
               ("stage", "partition", "result"), "shard.transactions.{result}"),
    MetricSpec("tidegate_checkpoint_bytes", "gauge", "Bytes of the last checkpoint, whole state included.",
               ("stage", "partition"), "shard.checkpoint_bytes"),
    MetricSpec("tidegate_state_bytes", "gauge", "Bytes of the last whole state written.",
               ("stage", "partition"), "shard.state_bytes"),
    MetricSpec("tidegate_restore_seconds", "gauge", "Seconds that the last restore of the shard took.",
               ("stage", "partition"), "shard.restore_s"),
    MetricSpec("tidegate_replayed_records", "gauge", "Records that the last restore processed again from the journal.",
               ("stage", "partition"), "shard.replayed"),
    MetricSpec("tidegate_reseeks_total", "counter", "Fetches that did not start at the position and were sought again.",
               ("stage", "partition"), "shard.reseeks"),
    MetricSpec("tidegate_held_inputs", "gauge", "Inputs held back because the other is behind in event time.",
               ("stage", "partition"), "shard.held"),
    # the process
    MetricSpec("tidegate_ready", "gauge", "1 when every assigned shard is restored and reading.", (), "worker.ready"),
    MetricSpec("tidegate_shards", "gauge", "Shards that this worker carries, by stage.",
               ("stage",), "worker.shards.{stage}"),
    MetricSpec("tidegate_rebalances_total", "counter", "Rebalances since the start.", (), "worker.rebalances"),
    MetricSpec("tidegate_metrics_dropped", "gauge", "Series left out because there were too many.",
               (), "worker.metrics_dropped"),
)  # fmt: skip


class Histogram:
    """Counts of seconds by bucket.

    >>> h = Histogram()
    >>> h.observe(0.002); h.figures()["buckets"][:2]
    [('0.001', 0), ('0.0025', 1)]
    """

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(SECONDS_BUCKETS, seconds)] += 1
        self._sum += seconds

    def figures(self) -> dict[str, Any]:
        """Cumulative buckets as Prometheus wants them, and the sum."""
        total = 0
        buckets = []
        for bound, count in zip((*map(str, SECONDS_BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        return {"buckets": buckets, "sum": self._sum}


class ShardFigures(NamedTuple):
    """What one shard shows: the stage's figures, and the runtime's under `shard`."""

    stage: str
    partition: int
    figures: Mapping[str, Any]
    shard: Mapping[str, Any]


class Figures(Collector):
    """The collector: `publish` flattens figures into series, `collect` hands them to a scrape."""

    def __init__(self) -> None:
        self._families: list[Metric] = []

    def publish(self, shards: Iterable[ShardFigures], worker: Mapping[str, Any]) -> None:
        """Take the figures of now. A path that is absent gives no series; equal labels from two shards add up."""
        series: dict[str, dict[tuple[str, ...], Any]] = {spec.name: {} for spec in METRICS}
        roots: list[tuple[dict[str, str], dict[str, Any]]] = [
            ({"stage": s.stage, "partition": str(s.partition)}, {s.stage: s.figures, "shard": s.shard}) for s in shards
        ]
        count = dropped = 0
        for spec in METRICS:
            known = series[spec.name]
            for own, root in [*roots, ({}, {"worker": worker})]:
                for found, value in _walk(root, spec.path.split("."), {}):
                    labels = tuple({**own, **found}[name] for name in spec.labels)
                    if count >= SERIES_MAX and labels not in known:
                        dropped += 1
                    else:
                        count += labels not in known
                        known[labels] = known[labels] + value if spec.kind != "histogram" and labels in known else value
        series["tidegate_metrics_dropped"][()] = dropped
        self._families = [_family(spec, series[spec.name]) for spec in METRICS]

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def _walk(node: Any, path: list[str], found: dict[str, str]) -> Iterator[tuple[dict[str, str], Any]]:
    """Every value that the path leads to, with the labels met on the way. Tolerates what is missing or not a number."""
    if not path:
        if isinstance(node, (int, float)) or (isinstance(node, Mapping) and "buckets" in node):
            yield dict(found), node
        return
    if not isinstance(node, Mapping):
        return
    step, rest = path[0], path[1:]
    if step.startswith("{"):
        for key, value in node.items():
            yield from _walk(value, rest, {**found, step[1:-1]: str(key)})
    elif step in node:
        yield from _walk(node[step], rest, found)


def _family(spec: MetricSpec, series: Mapping[tuple[str, ...], Any]) -> Metric:
    if spec.kind == "histogram":
        histogram = HistogramMetricFamily(spec.name, spec.help, labels=spec.labels)
        for labels, value in series.items():
            histogram.add_metric(labels, value["buckets"], value["sum"])
        return histogram
    kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
    family = kind(spec.name, spec.help, labels=spec.labels)
    for labels, value in series.items():
        family.add_metric(labels, float(value))
    return family


def serve(figures: Figures, host: str, port: int) -> int:
    """Serve `/metrics` from a thread of its own; returns the port taken (give 0 for any free one).

    Loopback unless the configuration says otherwise: figures name models and versions.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    server, _ = start_http_server(port, addr=host, registry=registry)
    return int(server.server_port)
