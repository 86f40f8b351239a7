"""Records to events that the join can use, or the reason why not. Refuses to know what is done with either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from stream import codec
from stream.contract import Chunk
from stream.errors import InputFault
from stream.events import Heartbeat, Label, Prediction
from stream.joining import letters
from stream.joining.partition import partitions_of
from stream.joining.rules import Rules

Taken: TypeAlias = Prediction | Label | Heartbeat | InputFault
_WHAT = {Prediction: "prediction", Label: "label"}


class Intake:
    """Decodes and checks the records of one chunk together: hashing ids is ten times cheaper for many."""

    def __init__(self, rules: dict[str, Rules], shard: int, shards: int, topics: dict[str, str]) -> None:
        self.rules = rules
        self.shard = shard
        self.shards = shards
        self.topics = topics

    def take(self, kind: type[Prediction] | type[Label], chunk: Chunk) -> list[Taken]:
        """One event or fault for every record, in their order."""
        taken = self._decode(kind, chunk)
        if self.shards > 1:
            self._check_partitions(kind, chunk, taken)
        return taken

    def _decode(self, kind: type[Prediction] | type[Label], chunk: Chunk) -> list[Taken]:
        decode, known = codec.decode_inbound, self.rules
        taken: list[Taken] = []
        for record in chunk.records:
            try:
                event: Prediction | Label | Heartbeat = decode(kind, record.value, record.timestamp_s)  # type: ignore[type-var]
            except InputFault as fault:
                taken.append(fault)
                continue
            if isinstance(event, Heartbeat) or event.model in known or event.model is None:
                taken.append(event)
            else:
                taken.append(letters.unknown_model(_WHAT[kind], event.model, known))
        return taken

    def _check_partitions(self, kind: type[Prediction] | type[Label], chunk: Chunk, taken: list[Taken]) -> None:
        rows = [i for i, event in enumerate(taken) if isinstance(event, kind)]
        ids = _ids(taken, rows)
        for i, key, belongs in zip(rows, ids, partitions_of([key.encode() for key in ids], self.shards), strict=True):
            if belongs != self.shard:
                topic = self.topics[chunk.input]
                taken[i] = letters.wrong_partition(_WHAT[kind], key, self.shard, belongs, topic)


def _ids(taken: Sequence[Taken], rows: Sequence[int]) -> list[str]:
    return [event.prediction_id for i in rows if isinstance(event := taken[i], Prediction | Label)]
