"""What bad input costs: every kind of poison at 1 in 1,000 of both logs beside clean ones, and nothing but poison.

`python -m benchmarks.poison [--quick] [--out FILE]`. Two forms: the join alone, as a worker runs it (it checks
partitions too), and the whole engine in one process. CPU time; every kind right before or after a clean run, in an
order drawn anew in each round, medians of the ratios. `clean` against itself shows what chance does to such a figure.
Poison comes on top of the good records, so its bytes are part of its price. Every dead letter is looked at: topic,
partition, offset, reason.
"""

from __future__ import annotations

import argparse
import gc
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.detection.bars import Bar, at_least, at_most
from stream import codec, config, limits
from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, Batch, Chunk, Output, Record, Unread
from stream.events import DeadLetter
from stream.joining.partition import partitions_of
from stream.runtime.embedded import Embedded
from stream.stages.join import Join

BOUND: Final = 10.0
"""Percent of throughput that a kind may cost at 1 in 1,000."""

EVERY: Final = 1_000
BATCH: Final = 2_000
START: Final = 1.7e9
WRITTEN: Final = START + 1e6
CONFIG: Final = config.parse(
    "models: {churn: {task: binary, slices: [plan], windows: {every: 1h}, labels: {horizon: 2h}}, "
    "price: {task: regression}}"
)
COUNTED: Final = ("duplicate", "nobody", "brackets")
"""Kinds that are no dead letters: the ledger counts them. `brackets` repeats a record with a field that takes long to
look through."""

Value = bytes | Unread | None


class Size(NamedTuple):
    """Good predictions, and as many labels; rounds; records where all are poison."""

    good: int
    rounds: int
    poison: int


FULL: Final = Size(20_000, 9, 5_000)
QUICK: Final = Size(10_000, 3, 1_000)


class Logs(NamedTuple):
    predictions: list[Value]
    labels: list[Value]


def good(n: int) -> tuple[Logs, str]:
    """Logs of ten features, labels some minutes late; and an id of another partition."""
    names = [f"customer-{i:07d}" for i in range(3 * n)]
    belongs = partitions_of([name.encode() for name in names], 2)
    mine = [name for name, partition in zip(names, belongs, strict=True) if partition == 0]
    mine, UNASKED[:] = mine[:n], mine[n:]
    draw = random.Random(5)
    predictions, labels = [], []
    for i, name in enumerate(mine):
        at = START + i
        features: dict[str, Any] = {f"f{j}": draw.gauss(0, 1) for j in range(9)} | {"plan": draw.choice("abc")}
        event = {"prediction_id": name, "model": "churn", "event_time": at, "features": features, "prediction": i % 2}
        predictions.append(msgspec.json.encode(event))
        came = at + draw.expovariate(1 / 300)
        labels.append((came, msgspec.json.encode({"prediction_id": name, "event_time": came, "label": i % 3 == 0})))
    return Logs([*predictions], [value for _, value in sorted(labels)]), names[belongs.index(1)]


def changed(near: bytes, **values: Any) -> bytes:
    return msgspec.json.encode({**msgspec.json.decode(near), **values})


def without(near: bytes, name: str) -> bytes:
    return msgspec.json.encode({key: value for key, value in msgspec.json.decode(near).items() if key != name})


def impossible(near: bytes) -> bytes:
    said = "label" if b'"label"' in near else "prediction"
    return changed(near, model="price", **{said: "many"})


KINDS: Final[Mapping[str, Callable[[bytes, int], Value]]] = {
    "malformed": lambda near, i: near[:-7] + b"\xff",
    "truncated": lambda near, i: near[: len(near) // 2],
    "wrong type": lambda near, i: changed(near, event_time=[1]),
    "NaN": lambda near, i: near[:-1] + b',"score":NaN}',
    "infinite": lambda near, i: changed(near, event_time="?").replace(b'"?"', b"1e999"),
    "null": lambda near, i: None,
    "300 KB": lambda near, i: near[:-1] + b',"junk":"' + b"x" * 300_000 + b'"}',
    "deep JSON": lambda near, i: near[:-1] + b',"junk":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "brackets": lambda near, i: near[:-1] + b',"junk":[' + b"[]," * 60_000 + b"[]]}",
    "unknown model": lambda near, i: changed(near, model=f"chum{i}"),
    "missing id": lambda near, i: without(near, "prediction_id"),
    "bad time": lambda near, i: changed(near, event_time=START * 1000),
    "future": lambda near, i: changed(near, event_time=WRITTEN + 1e6),
    "impossible": lambda near, i: impossible(near),
    "1,001 features": lambda near, i: changed(near, features={f"f{j}": j for j in range(1_001)}, event_time=[1]),
    "bomb": lambda near, i: Unread("a batch that unpacks to more than is read", 47_000),
    "wrong partition": lambda near, i: changed(near, prediction_id=STRANGER[0]),
    "duplicate": lambda near, i: near,
    "nobody": lambda near, i: changed(near, prediction_id=UNASKED[i % len(UNASKED)]),
}
STRANGER: Final = [""]
"""An id of another partition, once the good ones are made."""

UNASKED: Final[list[str]] = []
"""Ids of this partition that nobody asks about."""


def poisoned(kind: str, log: list[Value]) -> list[Value]:
    """One poison after every so many good records. A prediction that no label belongs to is no poison: that kind is
    in labels only."""
    make, mixed = KINDS[kind], list[Value]()
    only_labels = kind == "nobody" and b'"label"' not in bytes(log[0] or b"")  # type: ignore[arg-type]
    for i, value in enumerate(log):
        mixed.append(value)
        if i % EVERY == EVERY // 2 and not only_labels:
            mixed.append(make(bytes(value or b""), i))  # type: ignore[arg-type]
    return mixed


def chunks(logs: Logs) -> list[tuple[Chunk, Chunk]]:
    """As records, cut alike whatever stands in them."""
    made = {
        role: [Record(i, WRITTEN, b"k", value) for i, value in enumerate(values)]
        for role, values in ((PREDICTIONS, logs.predictions), (LABELS, logs.labels))
    }
    cut: dict[str, list[Chunk]] = {}
    steps = -(-max(map(len, made.values())) // BATCH)
    for role, rows in made.items():
        parts = [rows[i * BATCH : (i + 1) * BATCH] for i in range(steps)]
        cut[role] = [Chunk(role, 0, i * BATCH, i * BATCH + len(part), part) for i, part in enumerate(parts)]
    return list(zip(cut[PREDICTIONS], cut[LABELS], strict=True))


def by_join(cut: list[tuple[Chunk, Chunk]]) -> tuple[float, list[DeadLetter], Join]:
    """CPU seconds, and the letters."""
    join, out = Join(CONFIG, 0, 2), list[Output]()
    gc.collect()
    start = time.process_time()
    for pair in cut:
        out += join.process(Batch(0.0, pair))
    spent = time.process_time() - start
    return spent, [o.event for o in out if isinstance(o.event, DeadLetter)], join


def by_engine(cut: list[tuple[Chunk, Chunk]]) -> tuple[float, list[DeadLetter], Join]:
    engine = Embedded(CONFIG)
    gc.collect()
    start = time.process_time()
    for pair in cut:
        for chunk in pair:
            engine.feed(chunk.input, 0, chunk.records, WRITTEN)
    spent = time.process_time() - start
    join = engine.joins[0].stage
    assert isinstance(join, Join)
    return spent, [event for _, event in engine.logs[DEAD_LETTERS] if isinstance(event, DeadLetter)], join


FORMS: Final = {"join": by_join, "engine": by_engine}


def check(kind: str, logs: Logs, letters: list[DeadLetter], join: Join, form: str) -> None:
    """Every poison is a letter with its position and a reason, or is counted; every good record is neither."""
    ledger = join.ledger
    assert ledger.balanced
    if kind in COUNTED or (kind == "wrong partition" and form == "engine"):
        assert not letters
        return
    expected = {
        (role, i)
        for role, values in ((PREDICTIONS, logs.predictions), (LABELS, logs.labels))
        for i, value in enumerate(values)
        if is_poison(value, kind)
    }
    found = {(letter.topic, letter.offset) for letter in letters}
    assert found == expected and len(letters) == len(found), (form, kind, len(found), len(expected))
    assert all(letter.partition == 0 and letter.code and letter.reason for letter in letters)
    assert max(len(codec.encode(letter)) for letter in letters) < 12 * limits.DEAD_LETTER_BYTES_MAX


def is_poison(value: Value, kind: str) -> bool:
    """Good records are kept in one set of bytes objects."""
    return not isinstance(value, bytes) or id(value) not in GOOD


GOOD: Final[set[int]] = set()


def measure(form: str, clean: Logs, mixed: Mapping[str, Logs], size: Size, draw: random.Random) -> dict[str, float]:
    """Percent of CPU time that each kind costs."""
    run = FORMS[form]
    names = [name for name in mixed if not (form == "engine" and name == "wrong partition")]
    cuts = {"clean": chunks(clean)} | {name: chunks(mixed[name]) for name in names}
    ratios: dict[str, list[float]] = {name: [] for name in cuts}
    run(cuts["clean"])
    for turn in range(size.rounds):
        order = [*cuts]
        draw.shuffle(order)
        for name in order:
            spent: dict[bool, float] = {}
            for is_base in draw.sample((True, False), 2):
                spent[is_base], letters, join = run(cuts["clean" if is_base else name])
                if turn == 0 and not is_base and name != "clean":
                    check(name, mixed[name], letters, join, form)
            ratios[name].append(spent[False] / spent[True])
    return {name: 100 * (statistics.median(found) - 1) for name, found in ratios.items()}


def nothing_but(kind: str, clean: Logs, n: int) -> float:
    """Records of this kind alone that the join takes in a second."""
    make = KINDS[kind]
    near = [(role, values[0]) for role, values in ((PREDICTIONS, clean.predictions), (LABELS, clean.labels))]
    logs = Logs(*([make(bytes(value or b""), i) for i in range(n)] for _, value in near))  # type: ignore[arg-type]
    spent, letters, join = by_join(chunks(logs))
    assert join.ledger.balanced and join.ledger.predictions.received == join.ledger.labels.received == n
    if kind not in COUNTED:
        assert sorted((letter.topic, letter.offset) for letter in letters) == sorted(
            (role, i) for role, _ in near for i in range(n)
        )
        assert all(letter.partition == 0 and letter.code and letter.reason for letter in letters)
    return 2 * n / spent


def run(quick: bool) -> dict[str, Any]:
    """Everything, with its bars."""
    size = QUICK if quick else FULL
    clean, STRANGER[0] = good(size.good)
    GOOD.update(id(value) for values in clean for value in values)
    mixed = {kind: Logs(poisoned(kind, clean.predictions), poisoned(kind, clean.labels)) for kind in KINDS}
    draw = random.Random(3)
    costs = {form: measure(form, clean, mixed, size, draw) for form in FORMS}
    rates = {kind: nothing_but(kind, clean, size.poison) for kind in KINDS}
    told = [(form, kind, cost) for form in FORMS for kind, cost in costs[form].items() if kind in KINDS]
    bars = [at_most(f"{form}: {kind}, 1 in 1,000", cost, BOUND, "%") for form, kind, cost in told]
    bars += [at_least(f"{kind} alone", rates[kind], 1.0, "records/s") for kind in KINDS]
    return {"costs_percent": costs, "alone_per_s": rates, "bars": bars}


def show(found: dict[str, Any]) -> None:
    table = Table("poison", "join, 1 in 1,000", "engine, 1 in 1,000", "nothing else", title="CPU time more than clean")
    for kind in ("clean", *KINDS):
        costs = [found["costs_percent"][form].get(kind) for form in FORMS]
        shown = ["" if cost is None else f"{cost:+.1f} %" for cost in costs]
        table.add_row(kind, *shown, f"{found['alone_per_s'][kind]:,.0f}/s" if kind in KINDS else "")
    bars: list[Bar] = found["bars"]
    console = Console()
    console.print(table)
    missed = [bar for bar in bars if not bar["holds"]]
    console.print(f"{len(bars) - len(missed)} of {len(bars)} bars hold" + "".join(f"\nmissed: {bar}" for bar in missed))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: half a minute")
    options = parser.parse_args(arguments)
    found = run(options.quick)
    show(found)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
