"""Streaming drift detection and continual learning on Kafka: the names that users need, and nothing else.

    import tidegate
    model = tidegate.load_snapshot("weather.snapshot", key)
    model.predict({"temperature": 12.5})

What is imported from the packages `stream`, `learners` and `detectors` directly is internal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from learners.contract import Learner
from learners.snapshots import SnapshotError, key_id_of, load, open_sealed

__all__ = ["SnapshotError", "__version__", "load_snapshot"]

__version__: Final = "0.1.0"


def load_snapshot(source: str | Path | bytes, key: bytes, key_id: str | None = None) -> Learner:
    """The learner of a signed snapshot, ready to `predict` and to `learn` on.

    `source` is a file or the envelope itself (the `envelope` of an event of the snapshots topic); `key` is the one that
    it was signed with; with `key_id` it must also bear that name. Raises SnapshotError for anything that is not an
    unchanged snapshot of that key, before any of it is unpacked, and OSError for a file that cannot be read.
    """
    envelope = source if isinstance(source, bytes) else Path(source).read_bytes()
    return load(open_sealed(envelope, {key_id or key_id_of(envelope): key}))


if __name__ == "__main__":
    from stream.surface.cli import main

    main()
