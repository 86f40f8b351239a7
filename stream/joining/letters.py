"""Dead letters: records that cannot be used, as outputs. Owns their wording and what they keep of the record."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from stream import limits
from stream.contract import DEAD_LETTERS, Output, Record
from stream.errors import InputFault
from stream.events import DeadLetter

HINTS_KEPT = 256
"""Names for which the nearest known one is remembered: a producer with one wrong name repeats it."""


def dead_letter(topic: str, partition: int, record: Record, fault: InputFault) -> Output:
    """The letter for a record of the topic with this role."""
    letter = DeadLetter(
        topic=topic,
        partition=partition,
        offset=record.offset,
        code=fault.code,
        reason=fault.reason,
        timestamp_s=record.timestamp_s,
        key=None if record.key is None else _text(record.key),
        value=_value(record.value),
    )
    return Output(DEAD_LETTERS, f"{topic}-{partition}", letter)


def unknown_model(what: str, name: str, known: Iterable[str]) -> InputFault:
    """`what` is 'prediction' or 'label'."""
    return InputFault("unknown_model", f"{what} for unknown model {name!r}; {_hint(name, tuple(known))}")


def wrong_partition(what: str, key: str, partition: int, belongs: int, topic: str) -> InputFault:
    """`topic` is its name on the broker: the culprit is whoever writes there."""
    return InputFault(
        "wrong_partition",
        f"{what} for prediction {key!r} lies in partition {partition}, its key belongs in {belongs}: the producer of "
        f"{topic!r} does not hash keys with murmur2 (librdkafka: set partitioner=murmur2_random)",
    )


@lru_cache(HINTS_KEPT)
def _hint(name: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else "add it under models"


def _text(raw: bytes) -> str:
    return raw[: limits.DEAD_LETTER_BYTES_MAX].decode("utf-8", "replace")


def _value(value: bytes | msgspec.Struct | None) -> str | None:
    if value is None:
        return None
    return _text(value if isinstance(value, bytes) else msgspec.json.encode(value, enc_hook=_name))


def _name(value: Any) -> str:
    return f"<{type(value).__name__}>"
