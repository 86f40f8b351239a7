"""Snapshots that travel: a header and a learner's state in a signed envelope.

    MAGIC | key id | HMAC-SHA256 | header | payload        the MAC covers everything but itself

A model's state read from a topic can run code unless it is proved to be ours, so nothing is parsed or decompressed
before the MAC holds, the key never comes from the topic, and the payload is opened through a list of classes all the
same (`learners.state`). Refuses to know topics and where keys are kept.
"""

from __future__ import annotations

import hashlib
import hmac
import zlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from learners.contract import Learner, SnapshotError
from learners.metrics import Task
from learners.registry import make

MAGIC: Final = b"TGS1"
MAC_BYTES: Final = 32

KEY_BYTES_MIN: Final = 16
"""A shorter key can be guessed; 32 random bytes are what one should use."""

PAYLOAD_BYTES_MAX: Final = 268_435_456
"""Decompressed state. The signature is checked first, so this guards against a mistake of ours, not an attack."""

__all__ = ["Header", "Opened", "SnapshotError", "load", "open_sealed", "seal"]


class Header(msgspec.Struct, kw_only=True, frozen=True):
    """Whose state it is, how to make the learner that takes it, and where it comes from."""

    model: str
    learner: str
    version: str
    updates: int
    path: str
    parameters: dict[str, Any] = {}
    task: Task = "binary"
    seed: int = 1
    lineage: dict[str, Any] = {}
    format: int = 1
    size: int = 0
    sha256: str = ""
    compressed: bool = False


class Opened(NamedTuple):
    """An envelope whose signature held."""

    header: Header
    payload: bytes


def seal(header: Header, payload: bytes, key: bytes, key_id: str) -> bytes:
    """The envelope of a learner's `snapshot()`. Size, hash and compression of the header are filled in here.

    Raises ValueError for a key shorter than 16 bytes or a key id that is empty or longer than 255 bytes.
    """
    identity = key_id.encode()
    if not 0 < len(identity) < 256:
        raise ValueError("a key id has 1 to 255 bytes")
    _check_key(key)
    packed = zlib.compress(payload, 1)
    compressed = len(packed) < len(payload)
    header = msgspec.structs.replace(
        header, size=len(payload), sha256=hashlib.sha256(payload).hexdigest(), compressed=compressed
    )
    head = msgspec.msgpack.encode(header)
    prefix = MAGIC + bytes([len(identity)]) + identity
    body = len(head).to_bytes(4, "big") + head + (packed if compressed else payload)
    return prefix + _mac(key, prefix, body) + body


def open_sealed(envelope: bytes, keys: Mapping[str, bytes]) -> Opened:
    """Verify, then read. `keys` maps key ids to keys, so that keys can be changed while old envelopes live.

    Raises SnapshotError, in one line, for anything that is not an envelope of ours, whole and unchanged.
    """
    if envelope[:4] != MAGIC or len(envelope) < 5:
        raise SnapshotError("not a tidegate snapshot")
    start = 5 + envelope[4]
    prefix, mac, body = envelope[:start], envelope[start : start + MAC_BYTES], envelope[start + MAC_BYTES :]
    identity = prefix[5:].decode("utf-8", "replace")
    key = keys.get(identity)
    if key is None:
        raise SnapshotError(f"snapshot is signed with key {identity!r}, which is not among the keys given")
    _check_key(key)
    if not hmac.compare_digest(mac, _mac(key, prefix, body)):
        raise SnapshotError("snapshot has been changed, or was signed with another key")
    return _read(body)


def key_id_of(envelope: bytes) -> str:
    """The name of the key that an envelope claims to be signed with; only its signature says whether it is."""
    return envelope[5 : 5 + envelope[4]].decode("utf-8", "replace") if len(envelope) > 5 else ""


def load(opened: Opened) -> Learner:
    """The learner of an envelope, made as its header says. Raises SnapshotError."""
    header = opened.header
    try:
        learner = make(header.path, header.parameters, header.task, header.seed)
    except ValueError as error:
        raise SnapshotError(f"snapshot of {header.path} cannot be used here: {error}") from error
    learner.restore(opened.payload)
    return learner


def _read(body: bytes) -> Opened:
    length = int.from_bytes(body[:4], "big")
    try:
        header = msgspec.msgpack.decode(body[4 : 4 + length], type=Header)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"snapshot's header cannot be read: {error}") from error
    if header.format != 1:
        raise SnapshotError(f"snapshot has format {header.format}; this version reads format 1")
    if header.size > PAYLOAD_BYTES_MAX:
        raise SnapshotError(f"snapshot of {header.size} bytes; at most {PAYLOAD_BYTES_MAX} are loaded")
    payload = body[4 + length :]
    if header.compressed:
        payload = _inflate(payload, header.size)
    if len(payload) != header.size or hashlib.sha256(payload).hexdigest() != header.sha256:
        raise SnapshotError("snapshot's payload is not what its header says")
    return Opened(header, payload)


def _inflate(packed: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise SnapshotError(f"snapshot cannot be decompressed: {error}") from error
    return payload


def _mac(key: bytes, prefix: bytes, body: bytes) -> bytes:
    return hmac.new(key, prefix + body, hashlib.sha256).digest()


def _check_key(key: bytes) -> None:
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"the key has {len(key)} bytes; at least {KEY_BYTES_MIN} are needed")
