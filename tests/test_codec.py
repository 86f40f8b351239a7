"""Bytes to events: what is taken, what is refused, and in which words."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import codec, limits
from stream.errors import BugError, InputFault, StateError
from stream.events import Column, Example, Heartbeat, Label, Prediction, RankedFeature

NOW = 1_700_000_000.0
GOOD = {"prediction_id": "p", "model": "m", "event_time": NOW, "features": {"x": 1.5}, "prediction": 1}


def wire(**changes: object) -> bytes:
    return msgspec.json.encode({**GOOD, **changes})


def fault(value: bytes | msgspec.Struct | None) -> InputFault:
    with pytest.raises(InputFault) as caught:
        codec.decode_inbound(Prediction, value, NOW)
    return caught.value


def test_times_are_read_as_epoch_seconds_or_rfc_3339() -> None:
    for event_time in (1_700_000_000, "2023-11-14T22:13:20Z", "2023-11-15T00:13:20+02:00"):
        event = codec.decode_inbound(Prediction, wire(event_time=event_time), NOW)
        assert isinstance(event, Prediction) and event.event_time == NOW and type(event.event_time) is float


def test_unknown_fields_are_allowed_and_kept_out() -> None:
    event = codec.decode_inbound(Prediction, wire(comment="hello"), NOW)
    assert isinstance(event, Prediction) and not hasattr(event, "comment")


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (None, "null", "no value"),
        (b"", "malformed", "not JSON"),
        (b"\xff\xfe", "malformed", "not JSON"),
        (b"[" * 100_000, "malformed", "nested deeper than 64"),
        (wire() + b"x", "malformed", "not JSON"),
        (wire().replace(b"1.5", b"NaN"), "malformed", "not JSON"),
        (wire().replace(b"1.5", b"1e999"), "schema", "out of range"),
        (wire(features={"x": 2**70}), "schema", "9223372036854775807"),
        (wire(features={"x": {"nested": 1}}), "schema", "$.features"),
        (wire(prediction_id=""), "schema", "$.prediction_id"),
        (wire(prediction_id="p" * 257), "schema", "$.prediction_id"),
        (wire(prediction_id=None), "schema", "$.prediction_id"),
        (wire(event_time=NOW * 1000), "event_time", "milliseconds"),
        (wire(event_time=-1), "event_time", "1970"),
        (wire(event_time=NOW + 4_000), "future", "4000 s ahead"),
        (wire(event_time="2023-11-14T22:13:20"), "schema", "timezone"),
        (wire(features={"x": "y" * 5_000}), "features", "5000 characters"),
        (wire(features={f"feature {i}": 1 for i in range(1_001)}), "features", "1001 features"),
        (wire(features={"x": "y" * limits.EVENT_BYTES_MAX}), "huge", "bytes"),
        (b'{"heartbeat": "soon"}', "schema", "datetime"),
        (Label(prediction_id="p", event_time=1.0, label=1), "schema", "Label where a Prediction"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_code_and_a_reason(
    value: bytes | msgspec.Struct | None, code: str, words: str
) -> None:
    refused = fault(value)
    assert refused.code == code and words in refused.reason


def test_a_float_that_is_no_number_is_refused_where_no_json_kept_it_out() -> None:
    event = msgspec.convert({**GOOD, "features": {"x": math.nan}}, Prediction)
    assert fault(event).code == "not_finite"


def test_a_short_record_cannot_break_the_limits_that_are_not_checked_for_it() -> None:
    """Decoding skips two checks below TEXT_CHARS_MAX bytes; this is why it may."""
    smallest = msgspec.json.encode({f"{i:x}": 1 for i in range(limits.FEATURES_MAX + 1)})
    assert len(smallest) > limits.TEXT_CHARS_MAX


def test_a_heartbeat_is_an_event_of_both_logs() -> None:
    for kind in (Prediction, Label):
        assert codec.decode_inbound(kind, b'{"heartbeat": 12.5}', NOW) == Heartbeat(12.5)
        assert codec.decode_inbound(kind, Heartbeat(12.5), NOW) == Heartbeat(12.5)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_reason(value: bytes) -> None:
    try:
        codec.decode_inbound(Prediction, value, NOW)
    except InputFault as refused:
        assert refused.code in {"malformed", "schema", "event_time", "future"}


def test_columns_survive_packing_with_type_and_shape() -> None:
    column = Column(np.array([1.0, math.nan]), None)
    again = codec.unpack(Column, codec.pack(column))
    assert again.values.dtype == np.float64 and np.array_equal(again.values, column.values, equal_nan=True)


def test_bytes_of_another_kind_are_no_state() -> None:
    with pytest.raises(StateError, match="not a Column"):
        codec.unpack(Column, codec.pack({"words": []}))
    with pytest.raises(StateError, match="a Label in our own log cannot be read"):
        codec.decode(Label, b"{}")
    with pytest.raises(StateError, match="NoneType where a Label"):
        codec.decode(Label, None)


def test_what_could_not_be_read_again_is_not_written() -> None:
    """A null for a number in our own log would stop every worker, a mended one too."""
    with pytest.raises(BugError, match=r"a RankedFeature that cannot be read again is not written: .*statistics"):
        codec.encode(RankedFeature("x", 1.0, {"psi": math.nan}))
    nothing = Prediction(prediction_id="a", model="m", event_time=1.0, features={"x": None}, prediction=1)
    assert codec.decode(Prediction, codec.encode(nothing)) == nothing


def test_equal_values_have_equal_canonical_bytes_and_parts_do_not_run_together() -> None:
    assert codec.canonical({"b": 1, "a": 2}) == codec.canonical({"a": 2, "b": 1})
    assert codec.digest(b"ab", b"c") != codec.digest(b"a", b"bc")


def test_what_has_its_default_is_left_out_whatever_way_it_came() -> None:
    """F50: else a restored shard would put out other bytes (simulation seed 18227)."""
    bare = {"prediction_id": "a", "event_time": 1.0, "label": 1}
    read = msgspec.json.decode(msgspec.json.encode(bare | {"label_source": "world"}), type=Label)
    assert msgspec.json.encode(read) == msgspec.json.encode(Label(**bare)) == msgspec.json.encode(bare)
    other = Label(**bare, label_source="".join(["wor", "d"]))
    assert b'"label_source":"word"' in msgspec.json.encode(other)
    weight = float("1")
    example = Example(
        prediction=Prediction(prediction_id="a", model="m", event_time=1.0, features={}, prediction=1),
        label=1, label_time=1.0, completed=1.0, delay_s=0.0, weight=weight,
    )  # fmt: skip
    assert b"weight" not in msgspec.json.encode(example)
    assert b"weight" in msgspec.json.encode(msgspec.structs.replace(example, weight=0.5))
