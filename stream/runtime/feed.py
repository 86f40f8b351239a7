"""Files to events: rows by the `input` section become requests or predictions, and later their labels.

Owns what a column means and the order in time; refuses to know who takes the events. Rows are taken as they stand: one
whose time goes back is a late event. Labels are merged by the time at which they become known, after the predictions
of the same time, as the world would hand them back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from stream.config import Config, Input, Model
from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, REQUESTS
from stream.errors import ConfigError
from stream.events import DeadLetter, Label, Prediction, Request
from stream.runtime.known import LabelsByCount, LabelsByTime, epoch_of, event_times, label_times
from stream.runtime.tables import BadRow, Cell, Chunk, Table
from stream.tree import meant

BAD_TEXT_CHARS_MAX = 1_000
"""How much of a bad row its dead letter keeps."""


class Item(NamedTuple):
    """One event of the feed: its topic's role, its time (epoch seconds), its key, and itself."""

    topic: str
    event_time: float
    key: str
    event: msgspec.Struct


class Feed:
    """The events of a file, in the order in which the world would send them.

    >>> feed = Feed(config, "flights.csv.gz")  # doctest: +SKIP
    >>> for topic, event_time, key, event in feed: ...  # doctest: +SKIP

    Raises ConfigError where the file cannot be read or lacks a column that `input` names. A row that cannot become an
    event is a dead letter with its line number; it is counted in `bad_rows`.
    """

    def __init__(self, config: Config, path: str | Path) -> None:
        if config.input is None:
            raise ConfigError("configuration", ["input: missing; it says how the file's columns become events"])
        self.input: Input = config.input
        self.model: Model = config.models[self.input.model]
        self.rows = 0
        self.bad_rows = 0
        self.labels = 0
        self.table = Table(path, text=_text_columns(self.input))
        self._check_columns()
        self._source = str(Path(path).name)

    def done(self) -> float:
        """How much of the file has been read, 0 to 1."""
        return self.table.done()

    def figures(self) -> dict[str, int]:
        """Rows of the file, those that could not be read, predictions (or requests) and labels."""
        rows = self.rows + self.bad_rows
        return {"rows": rows, "bad_rows": self.bad_rows, "predictions": self.rows, "labels": self.labels}

    def _check_columns(self) -> None:
        faults = []
        for where, column in _named_columns(self.input):
            if column not in self.table.columns:
                hint = meant(column, self.table.columns)
                if len(self.table.columns) == 1 and ";" in self.table.columns[0]:
                    hint = "; its fields seem to be separated by semicolons, give commas"
                faults.append(f"no column {column!r} (input.{where})" + hint)
        if self.input.score and not self.input.prediction:
            faults.append("input.score: read beside input.prediction only; without that the champion scores")
        start = self.input.event_time.start
        if start is not None and epoch_of(start) is None:
            faults.append(f"input.event_time.start: {start!r} is not a time; write 2024-01-01T00:00:00Z, say")
        if faults:
            self.table.close()
            raise ConfigError(str(self.table.path), faults)

    def __iter__(self) -> Iterator[Item]:
        waiting = self._waiting()
        for chunk in self.table:
            rows = self._rows(chunk)
            bad = deque(chunk.bad)
            for i, (asked, label) in enumerate(rows):
                while bad and bad[0][0] <= i:
                    yield self._poison(bad.popleft()[1])
                if isinstance(asked, BadRow):
                    yield self._poison(asked)
                    continue
                self.rows += 1
                yield from map(_known, waiting.before(asked.event_time))
                yield asked
                if label is not None:
                    self.labels += 1
                    waiting.put(label)
                yield from map(_known, waiting.after(asked.event_time))
            for _, row in bad:
                yield self._poison(row)
        yield from map(_known, waiting.rest())

    def _waiting(self) -> LabelsByTime | LabelsByCount:
        events = self.input.label_delay.events
        return LabelsByTime() if events is None else LabelsByCount(events)

    def _poison(self, row: BadRow) -> Item:
        self.bad_rows += 1
        letter = DeadLetter(
            topic=self._source,
            partition=0,
            offset=row.line,
            code="row",
            reason=f"line {row.line}: {row.reason}",
            timestamp_s=0.0,
            value=row.text[:BAD_TEXT_CHARS_MAX] or None,
        )
        return Item(DEAD_LETTERS, 0.0, self._source, letter)

    def _rows(self, chunk: Chunk) -> Iterator[tuple[Item | BadRow, Label | None]]:
        """Each good row of the chunk as its event and, where it has one, its label with the time it becomes known."""
        entry, columns = self.input, chunk.columns
        n = len(chunk.numbers)
        nothing: list[Cell] = [None] * n

        def column(name: str | None) -> list[Cell]:
            return columns.get(name, nothing) if name else nothing

        taken = {name for _, name in _named_columns(entry)} | set(entry.drop)
        names = tuple(name for name in columns if name not in taken)
        features = zip(*(columns[name] for name in names), strict=True) if names else iter([()] * n)
        tags = zip(*(column(name) for name in entry.tags), strict=True) if entry.tags else iter([()] * n)
        times = event_times(entry, chunk)
        known = label_times(entry, chunk, times)
        ids: Sequence[Cell] = (
            list(map(str, chunk.numbers)) if entry.prediction_id == "row" else column(entry.prediction_id)
        )
        build = self._predictions if entry.prediction else self._requests
        events = build(names, ids, times, features, tags, column(entry.prediction), column(entry.score))
        for i, (event, label, when) in enumerate(zip(events, column(entry.label), known, strict=True)):
            fault = event if isinstance(event, str) else when if isinstance(when, str) else None
            if fault is not None:
                text = ",".join("" if columns[name][i] is None else str(columns[name][i]) for name in columns)
                yield BadRow(chunk.lines[i], fault, text), None
                continue
            assert isinstance(event, Item)
            if label is None or when is None or isinstance(label, list):
                yield event, None
            else:
                assert isinstance(when, float)
                yield event, Label(prediction_id=event.key, event_time=when, label=label, model=entry.model)

    def _requests(
        self,
        names: tuple[str, ...],
        ids: Sequence[Cell],
        times: Sequence[float | str],
        features: Iterator[tuple[Cell, ...]],
        tags: Iterator[tuple[Cell, ...]],
        *_: list[Cell],
    ) -> Iterator[Item | str]:
        model, tag_names = self.input.model, tuple(self.input.tags)
        for key, time, x, tag in zip(ids, times, features, tags, strict=True):
            if isinstance(time, str) or not key:
                yield time if isinstance(time, str) else f"{self.input.prediction_id} (the prediction's id) is empty"
                continue
            event = Request(
                prediction_id=str(key),
                model=model,
                event_time=time,
                features=dict(zip(names, x, strict=True)),
                tags=dict(zip(tag_names, tag, strict=True)),  # type: ignore[arg-type]
            )
            yield Item(REQUESTS, time, event.prediction_id, event)

    def _predictions(
        self,
        names: tuple[str, ...],
        ids: Sequence[Cell],
        times: Sequence[float | str],
        features: Iterator[tuple[Cell, ...]],
        tags: Iterator[tuple[Cell, ...]],
        predictions: list[Cell],
        scores: list[Cell],
    ) -> Iterator[Item | str]:
        model, tag_names = self.input.model, tuple(self.input.tags)
        for key, time, x, tag, said, score in zip(ids, times, features, tags, predictions, scores, strict=True):
            if isinstance(time, str) or not key or said is None or isinstance(score, str):
                yield self._fault(time, key, said, score)
                continue
            event = Prediction(
                prediction_id=str(key),
                model=model,
                event_time=time,
                features=dict(zip(names, x, strict=True)),
                prediction=said,
                score=score,
                tags=dict(zip(tag_names, tag, strict=True)),
            )
            yield Item(PREDICTIONS, time, event.prediction_id, event)

    def _fault(self, time: float | str, key: Cell, said: Cell, score: Cell) -> str:
        if isinstance(time, str):
            return time
        if not key:
            return f"{self.input.prediction_id} (the prediction's id) is empty"
        if said is None:
            return f"{self.input.prediction} (the prediction) is empty"
        return f"{self.input.score} (the score) is not a number: {score!r}"


def _known(known: tuple[float, Label]) -> Item:
    return Item(LABELS, known[0], known[1].prediction_id, known[1])


def _named_columns(entry: Input) -> list[tuple[str, str]]:
    """The columns that the configuration names for a purpose, each with the setting that does."""
    named = [
        ("prediction_id", None if entry.prediction_id == "row" else entry.prediction_id),
        ("event_time.column", entry.event_time.column),
        ("label", entry.label),
        ("label_delay.column", entry.label_delay.column),
        ("prediction", entry.prediction),
        ("score", entry.score),
        *((f"tags[{i}]", tag) for i, tag in enumerate(entry.tags)),
    ]
    return [(where, column) for where, column in named if column is not None]


def _text_columns(entry: Input) -> list[str]:
    names = [entry.prediction_id]
    if entry.event_time.format == "iso8601":
        names += [name for name in (entry.event_time.column, entry.label_delay.column) if name]
    return names
