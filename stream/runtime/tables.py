"""Files to typed rows: CSV, JSON Lines and Parquet, streaming, compressed or not. Knows nothing of events.

Whole chunks are converted column by column (0.06 us a number, against 0.25 us value by value). What kind a CSV column
is, its first chunk with a value in it decides; a later value of another kind stays text, because a type that changes
is a finding for the watcher and not for a reader to hide.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec

from stream.errors import ConfigError
from stream.events import Feature

Cell: TypeAlias = Feature
Converter: TypeAlias = Callable[[Sequence[str]], list[Cell]]

CHUNK_ROWS = 1_024
"""Rows converted at a time; also how many rows decide a CSV column's kind. Fixed, so that the kinds are."""

FIELD_BYTES_MAX = 1_048_576
"""A longer CSV field is a quote that was never closed."""

NULLS = frozenset(("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"))
"""How files write a missing number. In a text column only the empty field is missing: NA is also Namibia."""

_KINDS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}

_BOOLS: dict[str, Cell] = {word: word.lower() == "true" for word in ("true", "false", "True", "False", "TRUE", "FALSE")}


class BadRow(NamedTuple):
    """A row that cannot be read: its line in the file (from 1), why, and its text."""

    line: int
    reason: str
    text: str


class Chunk(NamedTuple):
    """Consecutive rows. `columns` maps each name to the values of the good rows; `numbers` are those rows' numbers in
    the file, from 0; `lines` are their lines, from 1."""

    columns: dict[str, list[Cell]]
    numbers: list[int]
    lines: list[int]
    bad: list[tuple[int, BadRow]]
    """Each with the index in `numbers` before which it stood."""


class Table:
    """A file as chunks of typed rows, read once from start to end.

    `text` names columns that are to be taken as written (ids, times). Raises ConfigError where the file cannot be read.
    """

    def __init__(self, path: str | Path, text: Sequence[str] = ()) -> None:
        self.path = Path(path)
        self.text = frozenset(text)
        self.kind = _kind(self.path)
        try:
            self.size = self.path.stat().st_size
            self._raw = self.path.open("rb")
        except OSError as error:
            raise ConfigError(str(path), [f"cannot be read: {error.strerror}"]) from error
        self._text: io.TextIOWrapper | None = None
        self._rows_done = 0
        self._rows_known = 0
        readers = {"csv": self._csv, "jsonl": self._json_lines, "parquet": self._parquet}
        self.columns: list[str] = []
        self._chunks = readers[self.kind]()
        try:
            self._first = self._next()
        except ConfigError:
            self.close()
            raise

    def __iter__(self) -> Iterator[Chunk]:
        chunk, self._first = self._first, None
        try:
            while chunk is not None:
                yield chunk
                chunk = self._next()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file; nothing more can be read."""
        self._chunks.close()
        if self._text is not None:
            self._text.close()
        self._raw.close()

    def _next(self) -> Chunk | None:
        try:
            return next(self._chunks, None)
        except (OSError, EOFError, zlib.error) as error:
            raise self._unreadable(error) from error

    def done(self) -> float:
        """How much of the file has been read, 0 to 1."""
        if self._rows_known:
            return self._rows_done / self._rows_known
        return 1.0 if self._raw.closed or not self.size else min(self._raw.tell() / self.size, 1.0)

    def _unreadable(self, error: Exception) -> ConfigError:
        return ConfigError(str(self.path), [f"cannot be read to its end ({error}); is it whole?"])

    def _lines(self) -> io.TextIOWrapper:
        packed = self.path.suffix == ".gz"
        binary: Any = gzip.GzipFile(fileobj=self._raw) if packed else self._raw
        # A byte that is no UTF-8 stays visible as \xff instead of spoiling the file.
        self._text = io.TextIOWrapper(binary, encoding="utf-8-sig", errors="backslashreplace", newline="")
        return self._text

    def _csv(self) -> Generator[Chunk, None, None]:
        csv.field_size_limit(FIELD_BYTES_MAX)
        delimiter = "\t" if ".tsv" in self.path.suffixes else ","
        reader = csv.reader(self._lines(), delimiter=delimiter)
        names = next(reader, None)
        if not names:
            raise ConfigError(str(self.path), ["is empty: the first line must name the columns"])
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(str(self.path), [f"column {name!r} stands twice in the first line" for name in twice])
        self.columns = names
        converters: dict[str, Converter] = {name: _texts for name in names if name in self.text}
        while True:
            rows, numbers, lines, bad = self._csv_rows(reader, len(names))
            if not rows and not bad:
                return
            fields = zip(*rows, strict=True) if rows else ([] for _ in names)
            columns = {name: _convert(converters, name, column) for name, column in zip(names, fields, strict=True)}
            yield Chunk(columns, numbers, lines, bad)

    def _csv_rows(self, reader: Any, width: int) -> tuple[list[list[str]], list[int], list[int], Any]:
        rows: list[list[str]] = []
        numbers: list[int] = []
        lines: list[int] = []
        bad: list[tuple[int, BadRow]] = []
        while len(rows) < CHUNK_ROWS and len(bad) < CHUNK_ROWS:
            try:
                fields = next(reader, None)
            except csv.Error as error:
                bad.append((len(rows), BadRow(reader.line_num, f"not CSV: {error}", "")))
                self._rows_done += 1
                continue
            if fields is None:
                break
            if len(fields) == width:
                rows.append(fields)
                numbers.append(self._rows_done)
                lines.append(reader.line_num)
            elif not fields:
                continue  # an empty line is no row
            else:
                reason = f"{len(fields)} fields where the first line names {width}"
                bad.append((len(rows), BadRow(reader.line_num, reason, ",".join(fields))))
            self._rows_done += 1
        return rows, numbers, lines, bad

    def _json_lines(self) -> Generator[Chunk, None, None]:
        decode = msgspec.json.Decoder(dict[str, Feature]).decode
        source = iter(enumerate(self._lines(), 1))
        more = True
        while more:
            rows: list[dict[str, Cell]] = []
            numbers: list[int] = []
            lines: list[int] = []
            bad: list[tuple[int, BadRow]] = []
            more = False
            for line, text in source:
                if not text.strip():
                    continue
                try:
                    rows.append(decode(text))
                    numbers.append(self._rows_done)
                    lines.append(line)
                except msgspec.DecodeError as error:
                    bad.append((len(rows), BadRow(line, f"not a JSON object of values: {error}", text.rstrip())))
                self._rows_done += 1
                if len(rows) + len(bad) >= CHUNK_ROWS:
                    more = True
                    break
            names = list(dict.fromkeys(name for row in rows for name in row))
            self.columns = self.columns or names
            if rows or bad:
                yield Chunk({name: [row.get(name) for row in rows] for name in names}, numbers, lines, bad)

    def _parquet(self) -> Generator[Chunk, None, None]:
        try:
            import pyarrow.parquet as parquet
        except ImportError:
            raise ConfigError(str(self.path), ["Parquet needs pyarrow: pip install 'tidegate[parquet]'"]) from None
        try:
            file = parquet.ParquetFile(self._raw)
            self.columns = list(file.schema_arrow.names)
            self._rows_known = file.metadata.num_rows
            for batch in file.iter_batches(batch_size=CHUNK_ROWS):
                columns = {n: [_plain(v) for v in batch.column(n).to_pylist()] for n in self.columns}
                numbers = list(range(self._rows_done, self._rows_done + batch.num_rows))
                self._rows_done += batch.num_rows
                yield Chunk(columns, numbers, [n + 1 for n in numbers], [])
        except (ValueError, TypeError) as error:  # pyarrow's errors derive from these
            raise self._unreadable(error) from error


def _kind(path: Path) -> str:
    suffixes = [s for s in path.suffixes if s != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in _KINDS:
        raise ConfigError(str(path), ["not a file that tidegate reads: give .csv, .jsonl (both also .gz) or .parquet"])
    return _KINDS[suffix]


def _convert(converters: dict[str, Converter], name: str, column: Sequence[str]) -> list[Cell]:
    """Convert one column of a chunk; a column that has only been empty so far stays undecided."""
    converter = converters.get(name)
    if converter is None:
        converter = _infer(column)
        if converter is None:
            return [None] * len(column)
        converters[name] = converter
    return converter(column)


def _infer(column: Sequence[str]) -> Converter | None:
    values = {value for value in column if value not in NULLS}
    if not values:
        return _texts if any(column) else None
    if values <= _BOOLS.keys():
        return _bools
    cells = [_number(value) for value in values]
    if any(isinstance(cell, str) for cell in cells):
        return _texts
    return _integers if all(isinstance(cell, int) for cell in cells) else _floats


def _number(value: str) -> Cell:
    """An integer, a float, nothing, or the text that it is."""
    if value in NULLS:
        return None
    try:
        return int(value)
    except ValueError:
        try:
            return float(value)
        except ValueError:
            return value


def _integers(column: Sequence[str]) -> list[Cell]:
    try:
        return list(map(int, column))
    except ValueError:
        return [_number(value) for value in column]


def _floats(column: Sequence[str]) -> list[Cell]:
    try:
        numbers = list(map(float, column))
    except ValueError:
        return [float(cell) if type(cell) is int else cell for cell in map(_number, column)]
    total = sum(numbers)
    if total != total:  # a NaN among them (or infinities of both signs, which stay)
        return [None if number != number else number for number in numbers]
    return numbers  # type: ignore[return-value]  # a list of floats serves as one of cells: nobody writes to it


def _bools(column: Sequence[str]) -> list[Cell]:
    return [_BOOLS.get(value, None if value in NULLS else value) for value in column]


def _texts(column: Sequence[str]) -> list[Cell]:
    return [value or None for value in column]


def _plain(value: Any) -> Cell:
    """A Parquet value as one that events can carry."""
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, list) and all(isinstance(x, (int, float)) for x in value):
        return [float(x) for x in value]
    return str(value)
