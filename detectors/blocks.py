"""`blocks`: any change of streams whose rows resemble the rows before them, from ranks of whole blocks.

A stream's values are cut into blocks so long that neighbouring blocks no longer resemble each other: the length is
doubled from 32 until the reference says so (`dependence.py`). A block gives one number per series (mean normal score,
mean square, shares of quarters or categories), which is ranked among those of past blocks (`ranks.py`).

**What holds.** For one series of exchangeable blocks the budget is a proven bound. Blocks of dependent rows are
exchangeable only nearly, and a stream has several series: what is left of persistence is measured on the reference and
divides the scores, and that the budget holds then is measured (`benchmarks/detection/ladder.py`), not proved.

**What does not.** Nothing is known of dependence that reaches further than the reference. A daily season in a
reference of an hour is not there to be seen, and comes later as a change. Where the reference does show its level
wandering to the very end, the stream is not judged until enough rows have shown how far that goes. A change is found
at the end of a block, and a large one needs several blocks. After an alarm a stream learns its new level from the
blocks that follow; their length is inherited, unless it alarms again too soon: then it learns twice as long each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors import budget as budgeting
from detectors import describe, randomness, ranks, since
from detectors import state as states
from detectors.blockmemory import BLOCK_ROWS, RECENT_BLOCKS, VERSION, WATCHING, BlocksState, Memory
from detectors.contract import Alarm, Bins, Budget, Rows, Stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Blocks:
    """Watches one group of streams block by block.

    A block holds a stream's own values; missing ones are passed over, which is harmless as long as whether a value is
    missing does not depend on the value. Rows are taken 32 at a time, in which a stream ends at most one block.
    """

    def __init__(self, streams: Sequence[Stream], budget: Budget, seed: int) -> None:
        self.streams = list(streams)
        self.seed = seed
        self._wage_of_row, self._wage_of_second = budget.wage(1.0, 0.0), budget.wage(0.0, 1.0)
        self._shares = budgeting.shares(self.streams)
        self._keys = randomness.keys(seed, [f"{stream.name}\0blocks" for stream in self.streams])
        self._memory: Memory | None = None

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Learn what is normal; the reference rows are part of the streams and must not be given again."""
        d = len(self.streams)
        if len(bins) != d or reference.codes.shape[1:] != (d,):
            raise ValueError(
                f"{d} streams need {d} bins and (n, {d}) codes, not {len(bins)} and {reference.codes.shape}"
            )
        self._memory = memory = Memory(self.streams, list(bins), self.seed)
        memory.state.ended_s[:] = reference.time_s[-1] if len(reference) else 0.0
        for j in range(d):
            codes = reference.codes[:, j]
            memory.read(j, codes[(codes >= 0) & (codes < memory.values_of[j])])

    def update(self, rows: Rows) -> list[Alarm]:
        """Alarms of the blocks that these rows complete, in the order in which they were completed."""
        return [alarm for _, alarm in self.take(rows)]

    def take(self, rows: Rows) -> list[tuple[int, Alarm]]:
        """As `update`, each alarm with the place of the row that completed its block."""
        found: list[tuple[int, Alarm]] = []
        if self._memory is None:
            return found
        known = rows.codes >= 0
        seen = np.flatnonzero(known.any(1) & np.isfinite(rows.time_s))
        columns = np.flatnonzero(known.any(0))  # all others cost nothing
        start = 0
        while start < len(seen):
            piece = seen[start : start + BLOCK_ROWS - self._memory.state.rows % BLOCK_ROWS]
            codes = rows.codes[piece] if len(columns) == len(self.streams) else rows.codes[np.ix_(piece, columns)]
            ended = self._piece(self._memory, rows.time_s[piece], codes, columns)
            found += [(int(piece[row]), alarm) for row, alarm in ended]
            start += len(piece)
        return found

    def snapshot(self) -> bytes:
        """The whole state, bins included; nothing before `fit`."""
        return states.pack(self._memory.packed()) if self._memory is not None else b""

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is. Raises ValueError where it is not one of these streams."""
        if not state:
            self._memory = None
            return
        found = states.unpack(BlocksState, VERSION, state)
        if len(found.bins) != len(self.streams):
            raise ValueError(f"the state is of {len(found.bins)} streams, this detector watches {len(self.streams)}")
        self._memory = Memory(self.streams, found.bins, self.seed)
        self._memory.become(found)

    def status(self, columns: Sequence[int] | None = None) -> str:
        """'watching by blocks of 32 rows', or what is still to be learned; of all streams, or of these."""
        if self._memory is None:
            return "not fitted"
        said = Counter(self._memory.status(j) for j in (range(len(self.streams)) if columns is None else columns))
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(f"{n} {'stream' if n == 1 else 'streams'} {text}" for text, n in sorted(said.items()))

    def _piece(
        self, memory: Memory, time_s: Floats, codes: NDArray[np.int32], columns: Ints
    ) -> list[tuple[int, Alarm]]:
        """Count at most 32 rows of some streams, whose values belong to the open block of a stream or to the next."""
        state = memory.state
        d, size = len(columns), state.open.shape[1]
        present = (codes >= 0) & (codes < memory.values_of[columns])
        order = present.cumsum(0)
        wanted = state.length[columns] - state.open[columns].sum(1)
        places = codes + ((order > wanted) * d + np.arange(d)) * size
        own, following = np.bincount(places[present], minlength=2 * d * size).reshape(2, d, size)
        state.open[columns] += own
        full = np.flatnonzero(order[-1] >= wanted)
        alarms: list[tuple[int, Alarm]] = []
        if len(full):
            rows = (order[:, full] >= wanted[full]).argmax(0)
            alarms = self._end(memory, columns[full], rows, time_s[rows])
            state.open[columns[full]] = 0
        state.open[columns] += following
        state.rows += len(codes)
        return sorted(alarms, key=lambda found: (found[0], found[1].stream))

    def _end(self, memory: Memory, ended: Ints, rows: Ints, at_s: Floats) -> list[tuple[int, Alarm]]:
        """Blocks of these streams are full, by these rows of the piece: judge them, let them join the past."""
        state = memory.state
        row = state.rows + rows + 1
        elapsed_s = np.maximum(at_s - state.ended_s[ended], 0.0)
        wages = self._wage_of_row * (row - state.ended_row[ended]) + self._wage_of_second * elapsed_s
        memory.remember(ended, at_s)
        state.ended_row[ended], state.ended_s[ended] = row, at_s
        x = memory.numbers_of(ended)
        totals = self._judge(memory, ended, x, wages * self._shares[ended])
        memory.join(ended, x)
        stirring = memory.stirring(ended)
        alarms: list[tuple[int, Alarm]] = []
        for i in np.flatnonzero(stirring | (totals >= budgeting.THRESHOLD)).tolist():
            j = int(ended[i])
            if totals[i] >= budgeting.THRESHOLD:
                alarms.append((int(rows[i]), self._alarm(memory, j, float(totals[i]), float(at_s[i]))))
                memory.start_over(j)
            else:
                memory.learn(j)
        state.ended[ended] += 1
        return alarms

    def _judge(self, memory: Memory, ended: Ints, x: NDArray[np.float32], wages: Floats) -> Floats:
        """Evidence of the streams that have ended a block with numbers x (T,), 0 where they are not watched."""
        state = memory.state
        place = np.full(len(self.streams), -1)
        place[ended] = np.where(state.phase[ended] == WATCHING, np.arange(len(ended)), -1)
        own = place[memory.stream]
        some = np.flatnonzero(own >= 0)
        if not len(some):
            return np.zeros(len(ended))
        own, known = own[some], state.known[memory.stream[some]]
        xi = randomness.uniforms(self._keys[ended], state.rows // BLOCK_ROWS, int(memory.number.max()) + 1)
        less, equal = ranks.compare(state.past[: known.max()], x, some)
        z = ranks.scores(less, equal, known, xi[own, memory.number[some]])
        paid = wages[own][:, None] * memory.weights[some]
        gained = ranks.log_evidence(z / np.sqrt(state.persistence[some]))
        state.sums[some] = sums = budgeting.accumulate(state.sums[some], paid, gained)
        return np.bincount(own, sums.sum(1), len(ended)).astype(np.float64)

    def _alarm(self, memory: Memory, j: int, evidence: float, at_s: float) -> Alarm:
        """Say what stream j did: the series that won most, since when by its numbers, how much by the counts since."""
        state, stream, place, own = memory.state, self.streams[j], memory.place[j], memory.series[j]
        won, bet = np.unravel_index(int(np.argmax(state.sums[place])), state.sums[place].shape)
        up = bool(ranks.BETS[bet] > 0)
        first = max(int(state.first[j]), int(state.ended[j]) - RECENT_BLOCKS + 1)
        recent = np.arange(first, int(state.ended[j]) + 1) % RECENT_BLOCKS
        size = state.bins[j].size
        counts, before = state.recent[recent, j, :size].astype(np.int64), state.before[j, :size]
        past = memory.numbers(j)[won]
        old = past[: -len(recent)] if len(past) >= 2 * len(recent) else past
        x = (counts @ own.phi[:, won] - old.mean()) / max(float(old.std()), 1e-9)
        found = since.onset(x if up else -x, np.ones(len(x)), 0.0, float(len(old)))
        before = before + counts[: found.at].sum(0)
        sizes = describe.effect(stream.kind, state.bins[j], before, counts[found.at :].sum(0), own.bins[won])
        return Alarm(
            stream=j, name=stream.name, judge="blocks", at_s=at_s,
            what=describe.words(stream.kind, f"{own.words[won]} {'up' if up else 'down'}", sizes),
            since_s=float(state.recent_start_s[recent[found.at], j]),
            since_low_s=float(state.recent_start_s[recent[found.low], j]),
            since_high_s=float(state.recent_end_s[recent[found.high], j]),
            evidence=evidence, threshold=budgeting.THRESHOLD,
            details={**sizes, "block_rows": float(state.length[j])},
        )  # fmt: skip
