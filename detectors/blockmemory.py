"""What `blocks` remembers of its streams, and what each goes through. Knows counts and numbers of ended blocks; nothing
of rows, calls or evidence.

*Shaping*: values decide what a stream's series are. *Collecting*: numbers of blocks gather until they show how long
blocks must be, so that neighbours do not resemble each other, and how much persistence is left. *Watching*: blocks are
judged, and join the past. After an alarm a stream goes through all three again, but the length of blocks is inherited.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import bets, dependence, describe, randomness, ranks, series
from detectors.binning import count_blocks, training_rows
from detectors.contract import Bins, Stream
from detectors.series import Series

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_ROWS = 32
"""Rows of the shortest block: those of an AR(1) of 0.5 have a lag-1 correlation of 0.02."""

BLOCK_ROWS_MAX = 4_096
"""A stream that needs longer blocks wanders too slowly for its rows to be judged by their number."""

BLOCKS_MIN = 96
"""Past blocks with which watching begins: fewer do not even show a lag-1 correlation of one third."""

RELEARNING_BLOCKS = 48
"""Past blocks after an alarm, where the length of blocks is known already."""

CHECK_BLOCKS = 32
"""While the length is not settled it is looked at again after so many blocks."""

REFINE_AT_BLOCKS = (192, 384)
REFINE_EVIDENCE_MAX = 0.05
"""Persistence is measured again with twice the blocks, unless evidence is building up: a drift must not teach it."""

SHAPING_ROWS_MIN = 100
RESHAPING_ROWS = 512
"""Values that shape the series, at least and after an alarm."""

RESTLESS = 8
"""A stream that alarms again before it has been watched for so many times as long as it had learned wanders rather
than changes: next time it learns twice as much, and looks anew how long its blocks must be."""

RECENT_BLOCKS = 128
"""Blocks of which counts are kept, to say since when and how much a stream has changed."""

SHAPING, COLLECTING, WATCHING = 0, 1, 2
VERSION = 1


class BlocksState(msgspec.Struct):
    """d streams, T series, K bins (of the largest), B bets, P past blocks (NaN where there is none yet), L recent ones.

    rows: of the group so far; length: rows of a block; settled: whether that is known; ended: blocks so far, ended_row
    and ended_s: rows of the group and event time by then; first: number of the first block since the last alarm; age:
    values in blocks since then, learned: how many of them came before watching (0 before the first alarm), patience:
    how many must.
    """

    bins: list[Bins]
    rows: int
    phase: Ints
    length: Ints
    settled: NDArray[np.bool_]
    training: Ints
    wanted: Ints
    open: Ints
    ended: Ints
    ended_row: Ints
    ended_s: Floats
    past: NDArray[np.float32]
    known: Ints
    persistence: Floats
    sums: Floats
    before: Ints
    recent: NDArray[np.uint16]
    recent_start_s: Floats
    recent_end_s: Floats
    first: Ints
    age: Ints
    learned: Ints
    patience: Ints
    version: int = VERSION


class Memory:
    """State of a group and what follows from it: the T series of all d streams side by side. stream, number: (T,) whose
    series each is and its number there; phi: (T, K) what of a block's counts is summed up; weights: (T, B)."""

    def __init__(self, streams: list[Stream], bins: list[Bins], seed: int) -> None:
        self.streams = streams
        self.seed = seed
        self.values_of = np.array([own.size if own.size > 1 else 0 for own in bins], np.int64)
        numbers = [series.number(stream.kind, own.size) for stream, own in zip(streams, bins, strict=True)]
        ends = np.cumsum(numbers, dtype=np.int64).tolist()
        self.place = [slice(end - n, end) for end, n in zip(ends, numbers, strict=True)]
        self.stream = np.repeat(np.arange(len(numbers)), numbers)
        self.number = np.concatenate([np.arange(n) for n in numbers])
        d, t, size, b = len(numbers), len(self.stream), max(own.size for own in bins), len(ranks.BETS)
        self.phi, self.weights = np.zeros((t, size)), np.zeros((t, b))
        self.series: dict[int, Series] = {}
        self.state = BlocksState(
            bins=bins, rows=0, phase=np.full(d, SHAPING), length=np.full(d, BLOCK_ROWS), settled=np.zeros(d, np.bool_),
            training=np.zeros((d, size), np.int64), wanted=np.full(d, SHAPING_ROWS_MIN),
            open=np.zeros((d, size), np.int64), ended=np.zeros(d, np.int64), ended_row=np.zeros(d, np.int64),
            ended_s=np.zeros(d), past=np.full((ranks.PAST_MAX, t), np.nan, np.float32), known=np.zeros(d, np.int64),
            persistence=np.ones(t), sums=np.zeros((t, b)), before=np.zeros((d, size), np.int64),
            recent=np.zeros((RECENT_BLOCKS, d, size), np.uint16), recent_start_s=np.zeros((RECENT_BLOCKS, d)),
            recent_end_s=np.zeros((RECENT_BLOCKS, d)), first=np.zeros(d, np.int64),
            age=np.zeros(d, np.int64), learned=np.zeros(d, np.int64), patience=np.zeros(d, np.int64),
        )  # fmt: skip

    def packed(self) -> BlocksState:
        """The state without the empty places of streams that have ended no block, and of past blocks yet to come."""
        state, begun = self.state, self._begun(self.state)
        past = state.past[: int(state.known.max()), begun[self.stream]]
        return msgspec.structs.replace(state, past=past, recent=state.recent[:, begun])

    def become(self, packed: BlocksState) -> None:
        """Go on from a packed state; the series follow from its training counts."""
        empty, begun = self.state, self._begun(packed)
        empty.past[: len(packed.past), begun[self.stream]] = packed.past
        empty.recent[:, begun] = packed.recent
        self.state = state = msgspec.structs.replace(packed, past=empty.past, recent=empty.recent)
        for j in np.flatnonzero(state.phase != SHAPING).tolist():
            self._shape(j)

    def read(self, j: int, codes: NDArray[np.int32]) -> None:
        """A stream's values of the reference: the first shape the series, the others are the past."""
        state, size = self.state, self.phi.shape[1]
        cut = training_rows(len(codes))
        cut = cut if cut >= SHAPING_ROWS_MIN else len(codes)
        state.training[j] = np.bincount(codes[:cut], minlength=size)
        state.before[j] = np.bincount(codes, minlength=size)
        if cut < SHAPING_ROWS_MIN:
            return
        self._shape(j)
        blocks = (len(codes) - cut) // BLOCK_ROWS
        end = cut + blocks * BLOCK_ROWS
        counts = count_blocks(codes[cut:end, None], size, np.arange(end - cut) // BLOCK_ROWS, blocks)[:, 0]
        state.open[j] = np.bincount(codes[end:], minlength=size)
        self._settle(j, self.phi[self.place[j]] @ counts.T)

    def numbers(self, j: int) -> Floats:
        """(S, n) numbers of the past blocks of a stream."""
        return self.state.past[: self.state.known[j], self.place[j]].T.astype(np.float64)

    def remember(self, ended: Ints, at_s: Floats) -> None:
        """Keep the counts of blocks that end; what falls out of the recent past belongs to the time before."""
        state = self.state
        number = state.ended[ended]
        place = number % RECENT_BLOCKS
        mine = state.first[ended] <= number - RECENT_BLOCKS
        state.before[ended] += np.where(mine[:, None], state.recent[place, ended], 0)
        state.age[ended] += state.length[ended]
        state.recent[place, ended] = state.open[ended]
        state.recent_start_s[place, ended], state.recent_end_s[place, ended] = state.ended_s[ended], at_s

    def numbers_of(self, ended: Ints) -> NDArray[np.float32]:
        """(T,) numbers of the open blocks of these streams, 0 for the others."""
        x = np.zeros(len(self.stream), np.float32)
        some = self._of(ended)
        x[some] = (self.state.open[self.stream[some]] * self.phi[some]).sum(1)
        return x

    def join(self, ended: Ints, x: NDArray[np.float32]) -> None:
        """Blocks of these streams with numbers x (T,) become past ones, once it is known what their series are."""
        state = self.state
        joining = ended[state.phase[ended] != SHAPING]
        some = self._of(joining)
        state.past[state.known[self.stream[some]], some] = x[some]
        state.known[joining] += 1

    def stirring(self, ended: Ints) -> NDArray[np.bool_]:
        """Which of these streams are changed by an ended block in more than their past and their sums."""
        known = self.state.known[ended]
        due = (known == ranks.PAST_MAX) | (known == REFINE_AT_BLOCKS[0]) | (known == REFINE_AT_BLOCKS[1])
        stirring: NDArray[np.bool_] = due | (self.state.phase[ended] != WATCHING)
        return stirring

    def learn(self, j: int) -> None:
        """What a block that has ended changes for a stirring stream, other than by an alarm."""
        state = self.state
        known = int(state.known[j])
        if state.phase[j] == SHAPING:
            state.training[j] += state.open[j]
            if state.training[j].sum() >= state.wanted[j]:
                self._shape(j)
                state.phase[j] = COLLECTING
        elif state.phase[j] == COLLECTING:
            if state.settled[j] and known >= RELEARNING_BLOCKS:
                self._watch(j, self.numbers(j))
            elif not state.settled[j] and known >= BLOCKS_MIN and known % CHECK_BLOCKS == 0:
                self._settle(j, self.numbers(j))
        elif known == ranks.PAST_MAX:
            draw = randomness.generator(self.seed, self.streams[j].name, "thin", int(state.ended[j]))
            self._store(j, ranks.thin(self.numbers(j), draw))
        elif known in REFINE_AT_BLOCKS and state.sums[self.place[j]].sum() < REFINE_EVIDENCE_MAX:
            state.persistence[self.place[j]] = dependence.persistence(self.numbers(j))

    def start_over(self, j: int) -> None:
        """What comes next is the new normal of this stream."""
        state = self.state
        self._store(j, np.zeros((self.place[j].stop - self.place[j].start, 0)))
        state.phase[j], state.wanted[j], state.first[j] = SHAPING, RESHAPING_ROWS, state.ended[j] + 1
        state.training[j] = state.before[j] = 0
        state.sums[self.place[j]] = 0.0
        restless = state.age[j] - state.learned[j] < RESTLESS * state.learned[j]
        state.patience[j] = 2 * state.learned[j] if restless else 0
        state.settled[j] = not restless
        state.age[j] = state.learned[j] = 0

    def status(self, j: int) -> str:
        """For people."""
        state = self.state
        known, rows = int(state.known[j]), int(state.length[j])
        if not self.values_of[j]:
            return "idle: one value only"
        if state.phase[j] == SHAPING:
            return f"learning what is normal: {int(state.training[j].sum())} of {int(state.wanted[j])} values"
        if state.phase[j] == WATCHING:
            few = f", with fewer than {ranks.PAST_AMPLE} past ones, so that large changes take longer"
            return f"watching by blocks of {rows} rows{few if known < ranks.PAST_AMPLE else ''}"
        if state.settled[j]:
            return f"learning the level: {known} of {RELEARNING_BLOCKS} blocks of {rows} rows"
        found = self._reach(j, self.numbers(j))
        wanted = rows << found.doublings
        if wanted > BLOCK_ROWS_MAX:
            return f"not judged: its level wanders over more than {BLOCK_ROWS_MAX} rows"
        blocks = max(BLOCKS_MIN, -int(-state.patience[j] // wanted))
        return f"learning how its rows depend on each other: {found.blocks} of {blocks} blocks of {wanted} rows"

    def _of(self, some: Ints) -> Ints:
        """Places of the series of these streams."""
        if len(some) == len(self.streams):
            return np.arange(len(self.stream))
        mine = np.zeros(len(self.streams), np.bool_)
        mine[some] = True
        return np.flatnonzero(mine[self.stream])

    def _begun(self, state: BlocksState) -> NDArray[np.bool_]:
        begun: NDArray[np.bool_] = (state.known > 0) | (state.ended > 0)
        return begun

    def _shape(self, j: int) -> None:
        """Series and bets that follow from the learned masses of the bins."""
        state, place, kind = self.state, self.place[j], self.streams[j].kind
        own = state.bins[j]
        p = bets.smooth(state.training[j, : own.size])
        self.series[j] = series.every(p, kind, describe.bin_names(own, kind))
        self.phi[place, : own.size] = self.series[j].phi.T
        self.weights[place] = ranks.bet_weights(self.series[j].weights, kind == "loss")

    def _settle(self, j: int, x: Floats) -> None:
        """(S, n) numbers of successive blocks: watch from here on if they show how long blocks must be."""
        state, length = self.state, int(self.state.length[j])
        found = self._reach(j, x)
        settled = found.blocks >= BLOCKS_MIN and not found.wanders and length << found.doublings <= BLOCK_ROWS_MAX
        settled = settled and bool(state.age[j] >= state.patience[j])
        doublings = found.doublings if settled else 0
        while not settled and x.shape[1] >> doublings >= ranks.PAST_MAX and length << doublings < BLOCK_ROWS_MAX:
            doublings += 1
        for _ in range(doublings):
            x = dependence.doubled(x)
        state.length[j] = length << doublings
        state.phase[j] = COLLECTING
        if settled:
            self._watch(j, x)
            if x.shape[1] >= ranks.PAST_MAX:
                x = ranks.thin(x, randomness.generator(self.seed, self.streams[j].name, "thin", int(state.ended[j])))
        self._store(j, x[:, -ranks.PAST_MAX + 1 :])

    def _watch(self, j: int, x: Floats) -> None:
        """Judge from here on; (S, n) numbers of successive past blocks show what is left of persistence."""
        state, place = self.state, self.place[j]
        state.persistence[place] = np.maximum(dependence.persistence(x), state.persistence[place])
        state.phase[j], state.settled[j] = WATCHING, True
        state.learned[j] = state.age[j] if state.first[j] else 0

    def _store(self, j: int, x: Floats | NDArray[np.float32]) -> None:
        """(S, n) numbers are the past of this stream."""
        state, place = self.state, self.place[j]
        state.past[:, place] = np.nan
        state.past[: x.shape[1], place] = x.T
        state.known[j] = x.shape[1]

    def _reach(self, j: int, x: Floats) -> dependence.Reach:
        """Of the series that are betted on."""
        return dependence.reach(x[self.weights[self.place[j]].any(1)], dependence.LAG_ONE_BLOCKS)
