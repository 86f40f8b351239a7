"""What a run has cost: how long restoring took, how long work stood still after a fault, how much was said.

Owns the measuring, from what workers log and from the broker's times of checkpoints. Refuses to judge.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from tests.chaos.records import Records


class Happened(msgspec.Struct):
    """A fault as it was done. `at`: when (epoch seconds); `dark`: from when on a checkpoint of these partitions is a
    new owner's, or that of a broker that is back; `down_s`: how long the broker itself was away; `resumed_s`: how long
    work stood still, or until a worker that joined had its share."""

    kind: str
    at: float
    dark: float
    partitions: list[int]
    down_s: float = 0.0
    resumed_s: float | None = None


class Restored(NamedTuple):
    """A worker was handed these partitions, beside those it had."""

    partitions: list[int]
    seconds: float


def restored(said: Iterable[Sequence[tuple[list[int], float]]]) -> list[Restored]:
    """Restores, from each worker's assignments in their order (partitions, seconds until they were ready). One that
    gave a worker nothing new restored nothing.

    >>> restored([[([0, 1], 0.5), ([0], 0.0), ([0, 2], 0.25)]])
    [Restored(partitions=[0, 1], seconds=0.5), Restored(partitions=[2], seconds=0.25)]
    """
    out = []
    for assignments in said:
        had: list[int] = []
        for partitions, seconds in assignments:
            new = [p for p in partitions if p not in had]
            out += [Restored(new, seconds)] if new else []
            had = partitions
    return out


def measure(happened: Iterable[Happened], records: Records) -> None:
    """Fill in `resumed_s` where it is not known: from the fault until every partition that it hit had a new
    checkpoint."""
    times: dict[int, list[float]] = {}
    for shard, journal in records.journals.items():
        times.setdefault(int(shard.split("/")[1]), []).extend(committed.at for committed in journal)
    for fault in happened:
        firsts = [min((at for at in times.get(p, ()) if at > fault.dark), default=None) for p in fault.partitions]
        if fault.resumed_s is None and firsts and None not in firsts:
            fault.resumed_s = round(max(at for at in firsts if at is not None) - fault.at, 3)


def spread(values: Iterable[float]) -> dict[str, float]:
    """Median and largest, and of how many."""
    known = sorted(values)
    if not known:
        return {"n": 0}
    return {"n": len(known), "median": round(statistics.median(known), 3), "max": round(known[-1], 3)}


def line(what: str, runs: Sequence[dict[str, Any]]) -> str:
    """The figures of one run or several, in one line."""
    records = sum(sum(run["records"].values()) for run in runs)
    happened = [fault for run in runs for fault in run["happened"]]
    faults = Counter(fault["kind"] for fault in happened)
    resumed = "; ".join(
        f"after {kind} {_told(f['resumed_s'] for f in happened if f['kind'] == kind and f['resumed_s'] is not None)}"
        for kind in sorted(faults)
    )
    restores = [s for run in runs for s in run["restores_s"]]
    lines = [n for run in runs for n in run["log_lines"]]
    gave_up = sum(len(run["workers_that_gave_up"]) for run in runs)
    findings = sum(len(run["findings"]) for run in runs)
    return (
        f"{what}: {records:,} records; {', '.join(f'{n} {kind}' for kind, n in sorted(faults.items()))}; "
        f"{gave_up} gave up; restored in {_told(restores)}; resumed {resumed}; "
        f"log lines a worker {statistics.median(lines):.0f} (at most {max(lines)}); "
        + (f"{findings} FINDINGS" if findings else "nothing lost, nothing doubled, all as undisturbed")
    )


def _told(values: Iterable[float]) -> str:
    figures = spread(values)
    return f"{figures['median']:.1f} s (at most {figures['max']:.1f})" if figures["n"] else "(nothing)"
