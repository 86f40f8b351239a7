"""Figures of shards and of the worker as Prometheus metrics: one table, one walk over it.

Owns names, kinds, labels and help texts; refuses to know how figures come about. `publish` runs where the figures are
made, so a scrape, which comes on another thread, only reads what was flattened before.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stream.runtime import scrape

SERIES_MAX: Final = 20_000
"""Series of one scrape; tags of producers become labels (versions, codes), and a mistake there must not fill memory.
What is beyond it is left out and counted in `tidegate_metrics_dropped`."""

SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MetricSpec(NamedTuple):
    """One metric. `path` leads through the figures of a shard (`<stage>.…` for the stage's own, `shard.…` for what the
    runtime knows of it) or of the process (`worker.…`); a number is a place in a list. `{label}` stands for any key and
    becomes that label, `{label:a|b.*}` for those keys only that fit one of the patterns. A word in place of a number
    becomes the label that stands there, with 1 as the value. `stage` and `partition` are the shard's own."""

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
    # trust
    MetricSpec("tidegate_expected_performance", "gauge",
               "What is expected of the window that closed last, without its labels: estimate, low, high (95 %).",
               ("model", "metric", "bound"), "watch.models.{model}.expected.{metric}.{bound:estimate|low|high}"),
    MetricSpec("tidegate_realised_performance", "gauge",
               "What the last window whose labels have come showed of the metrics that were expected of it.",
               ("model", "metric"), "watch.models.{model}.realised.{metric}"),
    MetricSpec("tidegate_calibration_error", "gauge",
               "Expected calibration error of the champion's scores, what chance gives taken off.",
               ("model",), "watch.models.{model}.calibration.ece"),
    MetricSpec("tidegate_fairness_gap", "gauge", "Largest difference of a rate between two groups, over all labels.",
               ("model", "group", "measure"), "watch.models.{model}.fairness.overall.{group}.{measure}.gap"),
    MetricSpec("tidegate_fairness_ratio", "gauge",
               "Smallest ratio of a rate between two groups, where a measure is a ratio (disparate impact).",
               ("model", "group", "measure"), "watch.models.{model}.fairness.overall.{group}.{measure}.ratio"),
    MetricSpec("tidegate_fairness_bound", "gauge", "Ends of the 95 % interval of a gap or ratio: low, high.",
               ("model", "group", "measure", "bound"),
               "watch.models.{model}.fairness.overall.{group}.{measure}.{bound:low|high}"),
    MetricSpec("tidegate_label_bias", "gauge",
               "How far labelled predictions lie from those whose label never came, in standard deviations.",
               ("model", "of"), "watch.models.{model}.label_bias.{of}.difference"),
    MetricSpec("tidegate_labels_before_event_total", "counter", "Labels that are older than their prediction.",
               ("model",), "watch.models.{model}.leakage.labels_before_event.before"),
    # how learning is steered
    MetricSpec("tidegate_examples_learned_total", "counter", "Examples that the learners were taught, once each.",
               ("model",), "learn.models.{model}.learned"),
    MetricSpec("tidegate_examples_skipped_total", "counter", "Examples that passed while learning was paused.",
               ("model",), "learn.models.{model}.skipped"),
    MetricSpec("tidegate_examples_forgotten_total", "counter", "Examples that were learned and taken back.",
               ("model",), "learn.models.{model}.forgotten"),
    MetricSpec("tidegate_learning_paused", "gauge", "1 while a model learns nothing, for whatever reason.",
               ("model",), "learn.models.{model}.paused"),
    MetricSpec("tidegate_decisions_total", "counter", "Changes to learners; the decisions topic says why.",
               ("model",), "learn.models.{model}.decisions"),
    MetricSpec("tidegate_labels_asked_total", "counter",
               "Predictions that somebody was asked to label, by what chose them.",
               ("model", "by"), "score.asking.{model}.by.{by}"),
    MetricSpec("tidegate_labels_not_asked_total", "counter",
               "Predictions that could not be asked for, as the labels of their day (or other period) were spent.",
               ("model",), "score.asking.{model}.stopped"),
    MetricSpec("tidegate_trial_state", "gauge",
               "1 for the state that a challenger's trial is in: shadow, canary, awaiting, halted, promoted.",
               ("model", "learner", "state"), "learn.models.{model}.trials.{learner}.state.{state}"),
    MetricSpec("tidegate_trial_share", "gauge", "Share of the traffic that a challenger is to be served.",
               ("model", "learner"), "learn.models.{model}.trials.{learner}.share"),
    MetricSpec("tidegate_trial_labels", "gauge", "Labelled examples on which challenger and champion are compared.",
               ("model", "learner"), "learn.models.{model}.trials.{learner}.evidence.labels"),
    MetricSpec("tidegate_trial_advantage", "gauge",
               "Mean loss less than the champion's: difference, and low and high of its always-valid interval.",
               ("model", "learner", "bound"),
               "learn.models.{model}.trials.{learner}.evidence.{bound:difference|low|high}"),
    MetricSpec("tidegate_trial_log_evidence", "gauge",
               "Natural logarithm of a test's e-value (3.0: 20 to 1): better, worse.<metric>, sample_ratio.",
               ("model", "learner", "test"),
               "learn.models.{model}.trials.{learner}.evidence.{test:better|worse.*|sample_ratio}"),
    MetricSpec("tidegate_traffic_share", "gauge", "Share of the traffic that a learner is served, while it is split.",
               ("model", "learner"), "learn.models.{model}.traffic.shares.{learner}"),
    MetricSpec("tidegate_rewards_total", "counter", "Rewards of answers that were served with a known propensity.",
               ("model",), "learn.models.{model}.traffic.rewards"),
    MetricSpec("tidegate_arm_value", "gauge", "What an arm would earn if it were served everything, by estimator.",
               ("model", "learner", "estimator"), "learn.models.{model}.traffic.values.{learner}.{estimator}.0"),
    MetricSpec("tidegate_arm_value_low", "gauge", "Lower end of the 95 % interval of tidegate_arm_value.",
               ("model", "learner", "estimator"), "learn.models.{model}.traffic.values.{learner}.{estimator}.1"),
    MetricSpec("tidegate_arm_value_high", "gauge", "Upper end of the 95 % interval of tidegate_arm_value.",
               ("model", "learner", "estimator"), "learn.models.{model}.traffic.values.{learner}.{estimator}.2"),
    MetricSpec("tidegate_guard_state", "gauge",
               "1 for what the guard says of the served champion: passing, probation, frozen, rolled_back.",
               ("model", "state"), "learn.models.{model}.guard.status.{state}"),
    MetricSpec("tidegate_guard_snapshots_total", "counter",
               "Snapshots of the present champion by what the guard did: published, passed, refused, rolled_back.",
               ("model", "result"), "learn.models.{model}.guard.{result:published|passed|refused|rolled_back}"),
    MetricSpec("tidegate_guard_strikes", "gauge", "Updates in a row that have failed; after the second learning rests.",
               ("model",), "learn.models.{model}.guard.strikes"),
    MetricSpec("tidegate_freshness_interval_seconds", "gauge",
               "Interval between updates that costs least: best, and low and high of its 90 % interval.",
               ("model", "bound"), "learn.models.{model}.freshness.interval.{bound:best|low|high}"),
    MetricSpec("tidegate_freshness_excess_loss", "gauge",
               "Mean loss of an answer by the champion's age where it is updated at the best interval.",
               ("model",), "learn.models.{model}.freshness.interval.excess"),
    MetricSpec("tidegate_source_share", "gauge",
               "Of each source of labels: its share of what came (share) and of what is learned (learned_share).",
               ("model", "source", "of"), "learn.models.{model}.sources.sources.{source}.{of:share|learned_share}"),
    MetricSpec("tidegate_source_flip_rate", "gauge", "How often a source seems to say the contrary of the truth.",
               ("model", "source"), "learn.models.{model}.sources.sources.{source}.flip_rate"),
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
    MetricSpec("tidegate_broker_silent_seconds", "gauge",
               "Seconds since the broker answered a fetch or a heartbeat; a worker ends at three session timeouts.",
               (), "worker.silent_s"),
    MetricSpec("tidegate_records_deleted_unread", "gauge",
               "Records that the broker deleted before they were read; the worker ends there.",
               (), "worker.deleted_unread"),
    # delivery
    MetricSpec("tidegate_notices_total", "counter", "Alerts by target and what became of them: delivered, given_up.",
               ("target", "result"), "worker.delivery.{target}.notices.{result}"),
    MetricSpec("tidegate_notices_left_out_total", "counter", "Alerts that a target was not to be told of, by reason.",
               ("target", "reason"), "worker.delivery.{target}.left_out.{reason}"),
    MetricSpec("tidegate_delivery_failures_total", "counter", "Tries to tell a target that failed.",
               ("target",), "worker.delivery.{target}.failures"),
    MetricSpec("tidegate_delivery_tries", "gauge", "Failed tries so far of the notice that is on its way to a target.",
               ("target",), "worker.delivery.{target}.tries"),
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
            known, steps = series[spec.name], steps_of(spec.path)
            for own, root in [*roots, ({}, {"worker": worker})]:
                for found, value in _walk(root, steps, {}):
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


def steps_of(path: str) -> list[str]:
    """The steps of a path; dots of a pattern in braces part nothing.

    >>> steps_of("learn.{test:better|worse.*}.0")
    ['learn', '{test:better|worse.*}', '0']
    """
    return re.findall(r"\{[^}]*\}|[^.{}]+", path)


def _walk(node: Any, path: list[str], found: dict[str, str]) -> Iterator[tuple[dict[str, str], Any]]:
    """Every value that the path leads to, with the labels met on the way. Tolerates what is missing or not a number."""
    if not path:
        if isinstance(node, (int, float)) or (isinstance(node, Mapping) and "buckets" in node):
            yield dict(found), node
        return
    step, rest = path[0], path[1:]
    label, _, patterns = step.strip("{}").partition(":")
    if isinstance(node, str) and step.startswith("{") and not rest:
        yield {**found, label: node}, 1
    elif isinstance(node, Sequence) and not isinstance(node, str) and step.isdecimal():
        if int(step) < len(node):
            yield from _walk(node[int(step)], rest, found)
    elif isinstance(node, Mapping) and step.startswith("{"):
        for key, value in node.items():
            if not patterns or any(fnmatchcase(str(key), each) for each in patterns.split("|")):
                yield from _walk(value, rest, {**found, label: str(key)})
    elif isinstance(node, Mapping) and step in node:
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
    """Serve `/metrics` from threads of their own; returns the port taken (give 0 for any free one).

    Loopback unless the configuration says otherwise: figures name models and versions. Raises TidegateError for an
    address off loopback without a token (see `stream.runtime.scrape`).
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(figures)
    return scrape.serve(make_wsgi_app(registry), host, port)
