"""The conformance suite is itself checked: each demand finds the toy part that was built to break it.

`Tally` is a sound part in twenty lines; every other part here is a `Tally` with one defect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest

from stream import codec
from stream.contract import LABELS, PREDICTIONS, Batch, Chunk, Record
from tests import conformance
from tests.conformance import ConformanceError, Scenario

WORDS = [f"word-{i * 7 % 23}" for i in range(90)]
ITEMS = [WORDS[i : i + 9] for i in range(0, len(WORDS), 9)]


class Tally:
    """Counts words; says each word with its count. Too long a word is an output of its own, and changes nothing."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def take(self, words: Sequence[Any]) -> list[Any]:
        return [self.one(word) for word in words]

    def one(self, word: Any) -> Any:
        if not isinstance(word, str):
            return ["refused", repr(word)]
        self.counts[word] = self.counts.get(word, 0) + 1
        return [word, self.counts[word]]

    def snapshot(self) -> bytes:
        return codec.pack(self.counts)

    def restore(self, state: bytes) -> None:
        self.counts = codec.unpack(dict, state)

    def figures(self) -> dict[str, Any]:
        return {"words": len(self.counts)}


def cut(items: Sequence[Sequence[Any]], size: int) -> list[Sequence[Any]]:
    words = [word for item in items for word in item]
    return [words[i : i + size] for i in range(0, len(words), size)]


def scenario_of(make: Callable[[], Any], state_bytes_max: int = 1000, digest: bool = False) -> Scenario:
    return Scenario(
        make=make,
        feed=lambda part, item: part.take(item),
        items=ITEMS,
        state_bytes_max=state_bytes_max,
        recut=cut,
        bad=[[None], [["nested"], 3.5]],
        digest=(lambda part: codec.digest(part.snapshot())) if digest else None,
    )


def sound() -> Scenario:
    return scenario_of(Tally)


def sound_with_a_digest() -> Scenario:
    return scenario_of(Tally, digest=True)


def silent() -> Scenario:
    class Silent(Tally):
        def take(self, words: Sequence[Any]) -> list[Any]:
            super().take(words)
            return []

    return scenario_of(Silent)


def moody() -> Scenario:
    moods = count()  # lives outside the part, as a clock or a global generator would

    class Moody(Tally):
        def one(self, word: Any) -> Any:
            return [super().one(word), next(moods)]

    return scenario_of(Moody)


def moody_in_its_state() -> Scenario:
    moods = count()

    class Moody(Tally):
        def snapshot(self) -> bytes:
            return codec.pack({**self.counts, "made": self.made})

        def __init__(self) -> None:
            super().__init__()
            self.made = next(moods)

    return scenario_of(Moody)


def forgetful() -> Scenario:
    class Forgetful(Tally):
        """Its memory of the last word is in no snapshot."""

        last: Any = None

        def one(self, word: Any) -> Any:
            self.last, before = word, self.last
            return [super().one(word), before]

    return scenario_of(Forgetful)


def lossy() -> Scenario:
    class Lossy(Tally):
        """Comes back with another state than it went with, though its outputs do not show it at once."""

        def restore(self, state: bytes) -> None:
            super().restore(state)
            self.counts.pop("word-7", None)

    return scenario_of(Lossy)


def batchy() -> Scenario:
    class Batchy(Tally):
        """Says the number of words that came along."""

        def take(self, words: Sequence[Any]) -> list[Any]:
            return [[*self.one(word), len(words)] for word in words]

    return scenario_of(Batchy)


def batchy_in_its_state() -> Scenario:
    class Batchy(Tally):
        def take(self, words: Sequence[Any]) -> list[Any]:
            outputs = super().take(words)
            self.counts["calls"] = self.counts.get("calls", 0) + 1
            return outputs

    return scenario_of(Batchy)


def hashy() -> Scenario:
    class Hashy(Tally):
        """Iterates over a set of strings: the same within one process, another order in the next."""

        def one(self, word: Any) -> Any:
            return [super().one(word), list({f"{i}-{word}" for i in range(12)})]

    return scenario_of(Hashy)


def hoarding() -> Scenario:
    class Hoarding(Tally):
        def one(self, word: Any) -> Any:
            return super().one(f"{word}-{sum(self.counts.values())}" if isinstance(word, str) else word)

    return scenario_of(Hoarding)


def hoarding_with_a_digest() -> Scenario:
    scenario = hoarding()
    scenario.digest = lambda part: codec.digest(part.snapshot())
    return scenario


def fragile() -> Scenario:
    class Fragile(Tally):
        def one(self, word: Any) -> Any:
            if word is None:
                raise ValueError("no word")
            return super().one(word)

    return scenario_of(Fragile)


def spoiled() -> Scenario:
    class Spoiled(Tally):
        """Counts what it refuses among the good."""

        def one(self, word: Any) -> Any:
            return super().one(word if isinstance(word, str) else "word-7")

    return scenario_of(Spoiled)


def spoiled_in_mid_stream() -> Scenario:
    class Spoiled(Tally):
        """Bad input makes it forget; before the first good word there is nothing to forget."""

        def one(self, word: Any) -> Any:
            if not isinstance(word, str):
                self.counts.clear()
            return super().one(word)

    return scenario_of(Spoiled)


def nosy() -> Scenario:
    class Nosy(Tally):
        """Being looked at changes it."""

        def figures(self) -> dict[str, Any]:
            self.counts["looks"] = self.counts.get("looks", 0) + 1
            return {"words": len(self.counts)}

    return scenario_of(Nosy)


def opaque() -> Scenario:
    class Opaque(Tally):
        def figures(self) -> dict[str, Any]:
            return {"words": object()}

    return scenario_of(Opaque)


@pytest.mark.parametrize("name", ["sound", "sound_with_a_digest"])
def test_a_sound_part_meets_every_demand(name: str) -> None:
    conformance.check(f"{__name__}:{name}")


@pytest.mark.parametrize(
    ("name", "demand"),
    [
        ("silent", "has outputs"),
        ("moody", "the same input gives the same outputs and state"),
        ("moody_in_its_state", "the same input gives the same outputs and state"),
        ("forgetful", "changes no output"),
        ("lossy", "state survives"),
        ("batchy", "pieces of 1 gives the same outputs"),
        ("batchy_in_its_state", "pieces of 1 gives the same state"),
        ("hashy", "PYTHONHASHSEED=0 changes nothing"),
        ("hoarding", "the state stays under 1000 bytes"),
        ("hoarding_with_a_digest", "the state stays bounded"),
        ("fragile", "bad input raised ValueError('no word')"),
        ("spoiled", "bad input before the good changes no good output"),
        ("spoiled_in_mid_stream", "bad input among the good changes no good output"),
        ("nosy", "looking at the figures changes no state"),
        ("opaque", "figures are plain JSON values"),
    ],
)
def test_a_planted_defect_is_found_and_named(name: str, demand: str) -> None:
    with pytest.raises(ConformanceError) as found:
        conformance.check(f"{__name__}:{name}")
    assert demand in str(found.value)


def test_a_scenario_that_cannot_be_built_elsewhere_says_why() -> None:
    with pytest.raises(ConformanceError, match="runs in a fresh process"):
        conformance.run_elsewhere(f"{__name__}:no_such_scenario", "0")


def records(start: int, count: int) -> list[Record]:
    return [Record(i, 0.0, None, json.dumps(i).encode()) for i in range(start, start + count)]


def test_recut_batches_keeps_records_positions_ticks_and_the_end() -> None:
    batches = [
        Batch(1.0, (Chunk(PREDICTIONS, 0, 0, 5, records(0, 5)), Chunk(LABELS, 0, 7, 9, [], at_end=True))),
        Batch(2.0),
        Batch(3.0, (Chunk(PREDICTIONS, 0, 5, 12, records(6, 4), at_end=True),)),  # holes at 5, 10 and 11
    ]
    pieces = conformance.recut_batches(batches, 2)
    assert [len(piece.chunks) for piece in pieces].count(0) == 1  # the tick is still there, once
    for topic in (PREDICTIONS, LABELS):
        before = [chunk for batch in batches for chunk in batch.chunks if chunk.input == topic]
        after = [chunk for batch in pieces for chunk in batch.chunks if chunk.input == topic]
        assert [r for chunk in after for r in chunk.records] == [r for chunk in before for r in chunk.records]
        assert (after[0].start, after[-1].end, after[-1].at_end) == (before[0].start, before[-1].end, True)
        assert all(len(chunk.records) <= 2 for chunk in after)
        assert all(chunk.at_end is False for chunk in after[:-1])
