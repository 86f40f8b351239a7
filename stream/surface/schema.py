"""JSON Schema of events and configuration, and an AsyncAPI document: for producers in other languages (F47).

Generated from the structs, so that they cannot drift apart.
"""

from __future__ import annotations

import types
import typing
from typing import Any, Final

import msgspec
import orjson

from stream import contract
from stream.config import Config
from stream.events import (
    Alert,
    Command,
    DeadLetter,
    Decision,
    Example,
    Heartbeat,
    Label,
    Prediction,
    Request,
    Window,
)
from stream.learning import LabelRate
from stream.units import Duration, FalseAlarms, LearnerSpec

EVENTS: Final[dict[str, tuple[type[msgspec.Struct], ...]]] = {
    contract.REQUESTS: (Request,),
    contract.PREDICTIONS: (Prediction, Heartbeat),
    contract.LABELS: (Label, Heartbeat),
    contract.EXAMPLES: (Example,),
    contract.WINDOWS: (Window,),
    contract.ALERTS: (Alert,),
    contract.DECISIONS: (Decision,),
    contract.COMMANDS: (Command,),
    contract.DEAD_LETTERS: (DeadLetter,),
}
"""The events of each topic that other programs may write or read; the rest is the engine's own."""

WRITTEN_BY_OTHERS: Final = (contract.REQUESTS, contract.PREDICTIONS, contract.LABELS, contract.COMMANDS)

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: Final[dict[type, dict[str, Any]]] = {
    Duration: {"type": ["string", "number"], "description": "30s, 15m, 2h, 7d, 4w, or seconds", "examples": ["2h"]},
    FalseAlarms: {"type": "string", "examples": ["1 per month", "1 per 1000000 events"]},
    LabelRate: {"type": "string", "examples": ["40 per day", "50 per 1000 events"]},
    LearnerSpec: {
        "type": ["string", "object"],
        "description": "a name, a class path, or {class path: {parameters}}",
        "examples": ["experts", {"river.forest.ARFClassifier": {"n_models": 10, "seed": 1}}],
    },
}

_NAMES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def text(which: str) -> str:
    """The document as indented JSON; `which` is events, config or asyncapi."""
    build = {"events": events, "config": config, "asyncapi": asyncapi}[which]
    return orjson.dumps(build(), option=orjson.OPT_INDENT_2).decode()


def events() -> dict[str, Any]:
    """One JSON Schema with every event under `$defs`."""
    kinds = list(dict.fromkeys(kind for kinds in EVENTS.values() for kind in kinds))
    _, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    return {"$schema": DRAFT, "title": "tidegate events", "$defs": components}


def config() -> dict[str, Any]:
    """The JSON Schema of the configuration file. Written here and not by msgspec, whose generator cannot print the
    defaults of our own types (durations)."""
    return {"$schema": DRAFT, "title": "tidegate configuration", **_struct(Config)}


def _struct(kind: type[msgspec.Struct]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    properties, required = {}, []
    for field in msgspec.structs.fields(kind):
        properties[field.name] = _type(hints[field.name])
        if field.required:
            required.append(field.name)
        elif isinstance(field.default, (bool, int, float, str)):
            plain = float(field.default) if isinstance(field.default, float) else field.default
            properties[field.name]["default"] = plain
    out: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    if kind.__doc__:
        out["description"] = " ".join(kind.__doc__.split())
    return out | ({"required": required} if required else {})


def _type(hint: Any) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_type(argument) for argument in arguments]}
    if origin in (list, tuple):
        return {"type": "array", "items": _type(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _struct(hint)
    return {"type": _NAMES[hint]}


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0: channels with their messages, as the default topic names have them."""
    kinds = list(dict.fromkeys(kind for kinds in EVENTS.values() for kind in kinds))
    _, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    channels, operations = {}, {}
    for topic, members in EVENTS.items():
        messages = {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in members}
        channels[topic] = {"address": f"tidegate.{topic}", "messages": messages}
        action = "receive" if topic in WRITTEN_BY_OTHERS else "send"
        operations[f"{action}-{topic}"] = {"action": action, "channel": {"$ref": f"#/channels/{topic}"}}
    names = [kind.__name__ for kind in kinds]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "tidegate", "version": "1", "description": "Events on Kafka, JSON in UTF-8."},
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "schemas": components,
            "messages": {name: {"payload": {"$ref": f"#/components/schemas/{name}"}} for name in names},
        },
    }
