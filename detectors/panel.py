"""The streams of a group that share one block size: cuts rows into blocks, scores them, keeps bags and evidence.

A stream goes through two states. *Learning*: its counts shape tree and bets, and are never evidence, unless its bets
are the same whatever the counts (`bets.TWOFOLD`): those go into the bag. *Watching*: each block is scored against the
bag and then joins it. After an alarm it learns anew from the rows that follow, so the new bag holds nothing of the old
level, and nothing that was selected by the alarm.

Missing values (code -1) do not count: the rows of a block that a stream has values for vary, which is harmless as long
as whether a value is missing does not depend on the value (given that, block sizes are fixed beforehand, which is all
the proof asks for). A missing share that itself changes is a stream of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import bets as betting
from detectors import budget as budgeting
from detectors import describe, randomness, since
from detectors.binning import count, count_blocks
from detectors.contract import Alarm, Bins, Budget, Stream
from detectors.scores import hypergeometric_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BAG_MAX = 1 << 16
"""A bag that grows beyond this is halved at random, which looks at the bag only and so leaves the scores exact."""

LEARNING_ROWS_MIN = 100
"""Fewer values than this cannot shape bets; the stream goes on learning."""

RELEARNING_ROWS = 512
"""Values that shape tree and bets after an alarm."""

RECENT_ROWS = 16_384
"""Rows of the recent past of which block counts are kept, to say since when and how much a stream has changed."""

BET_SIGNAL_MAX = 8.0
"""Bets that expect a block to be further away than this many standard deviations hand their weight to the others:
they could only be right about changes that the smaller ones see in the same block."""


class PanelState(msgspec.Struct):
    """d streams, K bins (those of the largest), B bets, L recent blocks."""

    block: int
    rows: int
    closed_s: float
    open: Ints
    bag: Ints
    training: Ints
    wanted: Ints
    watching: NDArray[np.bool_]
    sums: Floats
    before: Ints
    recent: NDArray[np.uint16]
    recent_start_s: Floats
    recent_end_s: Floats
    first_block: Ints


class _Compiled(NamedTuple):
    """Bets of all streams in arrays; d streams, N nodes, B bets, M nodes in all. sign: (d, B), of a bet on the only
    node of its stream."""

    vectors: Floats
    squares: Floats
    weights: Floats
    sign: Floats
    stream: Ints
    node: Ints
    cuts: Ints


class Panel:
    """One block size. `columns` are the places of its streams in the group; `shares` their parts of the budget."""

    def __init__(
        self, streams: list[Stream], columns: list[int], shares: Floats, budget: Budget, seed: int, block_rows: int
    ) -> None:
        self.streams = streams
        self.columns = np.array(columns, np.int64)
        self.shares = shares
        self.budget = budget
        self.seed = seed
        self.block_rows = block_rows
        self._weighed: tuple[bytes, Floats] = (b"", np.zeros((0, 0)))
        self.recent_blocks = max(RECENT_ROWS // block_rows, 8)
        self._bets: dict[int, betting.Bets] = {}
        self._unlearned = np.array([stream.kind in betting.TWOFOLD for stream in streams])
        self.keys = randomness.keys(seed, [stream.name for stream in streams])

    def fit(self, bins: list[Bins], codes: NDArray[np.int32], training_rows: int, end_s: float) -> None:
        """Learn from (n, d) reference codes of these streams: the first rows shape the bets, the rest is the bag."""
        d, size = len(self.streams), max(b.size for b in bins)
        training, bag = count(codes[:training_rows], size), count(codes[training_rows:], size)
        poor = training.sum(1) < LEARNING_ROWS_MIN
        training[poor] += bag[poor]
        bag[poor] = 0
        before = training + bag
        bag[self._unlearned] = before[self._unlearned]
        zeros = np.zeros((d, size), np.int64)
        self.bins = bins
        self.state = PanelState(
            block=0, rows=0, closed_s=end_s, open=zeros, bag=bag, training=training,
            wanted=np.full(d, LEARNING_ROWS_MIN), watching=training.sum(1) >= LEARNING_ROWS_MIN,
            sums=np.zeros((d, 1)), before=before, recent=np.zeros((self.recent_blocks, d, size), np.uint16),
            recent_start_s=np.full(self.recent_blocks, end_s), recent_end_s=np.full(self.recent_blocks, end_s),
            first_block=np.zeros(d, np.int64),
        )  # fmt: skip
        self._thin()
        self._compile(range(d))

    def become(self, bins: list[Bins], state: PanelState) -> None:
        """Go on from a state; the bets follow from its training counts."""
        self.bins = bins
        self.state = state
        self._compile(range(len(self.streams)))

    def take(self, time_s: Floats, codes: NDArray[np.int32]) -> list[tuple[int, Alarm]]:
        """Alarms of (n, d_all) rows, each with the place of the row that completed its block.

        A row that has no value for any stream of the panel is not a row of it.
        """
        present = np.flatnonzero((codes[:, self.columns] >= 0).any(1))
        own = codes[np.ix_(present, self.columns)]
        before = self.state.rows
        block = (before + np.arange(len(present))) // self.block_rows
        counts = count_blocks(own, self.state.open.shape[1], block, int(block[-1]) + 1 if len(block) else 0)
        alarms: list[tuple[int, Alarm]] = []
        for number, counted in enumerate(counts, 1):
            end = min(number * self.block_rows - before, len(present))
            self.state.open += counted
            self.state.rows = before + end - (number - 1) * self.block_rows
            if self.state.rows == self.block_rows:
                row = int(present[end - 1])
                alarms += [(row, alarm) for alarm in self._close(float(time_s[row]))]
        return alarms

    def _close(self, at_s: float) -> list[Alarm]:
        """A block is full: score it, let it join its bag, forget it as evidence."""
        state = self.state
        wage = self.budget.wage(self.block_rows, max(at_s - state.closed_s, 0.0))
        block = state.open
        self._remember(block, at_s)
        state.sums = budgeting.accumulate(state.sums, *self._evidence(block, wage))
        totals = state.sums.sum(1)
        learning = ~state.watching
        np.add(state.bag, block, out=state.bag, where=state.watching[:, None])
        alarms: list[Alarm] = []
        if totals.max() >= budgeting.THRESHOLD:
            alarmed = np.flatnonzero(totals >= budgeting.THRESHOLD)
            alarms = [self._alarm(int(j), float(totals[j]), at_s) for j in alarmed]
            self._start_over(alarmed)
        if learning.any():
            self._teach(block, learning)
        self._thin()
        state.open = np.zeros(block.shape, np.int64)
        state.rows, state.closed_s = 0, at_s
        state.block += 1
        return alarms

    def _teach(self, block: Ints, learning: NDArray[np.bool_]) -> None:
        """A block's counts for the streams that were learning; those that know enough watch from here on."""
        state = self.state
        np.add(state.training, block, out=state.training, where=learning[:, None])
        ready = np.flatnonzero(learning & (state.training.sum(1) >= state.wanted))
        if len(ready):
            state.watching[ready] = True
            mine = ready[self._unlearned[ready]]
            state.bag[mine] = state.training[mine]
            self._compile(ready)

    def _evidence(self, block: Ints, wage: float) -> tuple[Floats, Floats]:
        """(d, B) wages and log evidence of a block; both 0 where a stream has nothing to compare."""
        made, bag = self._compiled, self.state.bag
        m, n = block.sum(1)[:, None], bag.sum(1)[:, None]
        cumulated = np.zeros((2, block.size + 1), np.int64)
        np.cumsum((block.ravel(), (block + bag).ravel()), 1, out=cumulated[:, 1:])
        (a, drawn_a), (b, drawn_b), (c, drawn_c) = ((x[1], x[0]) for x in cumulated[:, made.cuts].swapaxes(0, 1))
        xi = randomness.uniforms(self.keys, self.state.block, made.vectors.shape[1])[made.stream, made.node]
        scores = np.zeros(made.vectors.shape[:2])
        scores[made.stream, made.node] = hypergeometric_scores(drawn_b - drawn_a, drawn_c - drawn_a, b - a, c - b, xi)
        r = m * n / np.maximum(m + n, 1)
        log_evidence = np.sqrt(r) * np.matmul(scores[:, None, :], made.vectors)[:, 0] - r * made.squares / 2
        wages = np.where(r > 0, wage * self.shares[:, None] * self._weights(m), 0.0)
        return wages, log_evidence + self._raised(self.state.sums + wages, np.sqrt(r * made.squares))

    def _raised(self, paid: Floats, signal: Floats) -> Floats:
        """(d, B) log factors. All bets of one sign of a tree of one node are on one score, and raised together; others
        each by itself."""
        sign = self._compiled.sign
        many = sign == 0
        log_factors = np.zeros(paid.shape)
        log_factors[many] = budgeting.raised(paid[many][:, None], signal[many][:, None])
        for one in (1, -1):
            mine = (sign == one) & (paid > 0)
            some = mine.any(1)
            together = budgeting.raised(np.where(mine, paid, 0.0)[some], signal[some])
            log_factors[some] += np.where(mine[some], together[:, None], 0.0)
        return log_factors

    def _weights(self, m: Ints) -> Floats:
        """(d, B) weights of bets on blocks of (d, 1) rows: those of before where no value is missing."""
        rows = m.tobytes()
        if rows != self._weighed[0]:
            made = self._compiled
            signal = np.sqrt(m * made.squares)
            least = np.where(made.weights > 0, signal, np.inf).min(1)[:, None]
            weights = made.weights * ((signal <= BET_SIGNAL_MAX) | (signal <= least))
            self._weighed = rows, weights / np.maximum(weights.sum(1, keepdims=True), 1e-300)
        return self._weighed[1]

    def _remember(self, block: Ints, at_s: float) -> None:
        """Keep the block's counts; what falls out of the recent past belongs to the time before."""
        state = self.state
        place = state.block % self.recent_blocks
        mine = state.first_block <= state.block - self.recent_blocks
        np.add(state.before, state.recent[place], out=state.before, where=mine[:, None])
        state.recent[place] = block
        state.recent_start_s[place], state.recent_end_s[place] = state.closed_s, at_s

    def _alarm(self, j: int, evidence: float, at_s: float) -> Alarm:
        """Say what stream j did: the bet that won most, since when by its scores, how much by the counts since then."""
        state, stream = self.state, self.streams[j]
        ways = self._bets[j].alternatives
        bet = int(np.argmax(state.sums[j]))
        first = max(int(state.first_block[j]), state.block - self.recent_blocks + 1)
        places = np.arange(first, state.block + 1) % self.recent_blocks
        size = self.bins[j].size
        counts, before = state.recent[places, j, :size].astype(np.int64), state.before[j, :size]
        p = betting.smooth(state.training[j, :size])
        x = np.log(ways.probabilities[bet] / p)
        x = (x - p @ x) / np.sqrt(p @ x**2 - (p @ x) ** 2)
        found = since.onset(counts @ x, counts.sum(1), float(before @ x), float(before.sum()))
        before = before + counts[: found.at].sum(0)
        sizes = describe.effect(stream.kind, self.bins[j], before, counts[found.at :].sum(0), ways.bins[bet])
        what = describe.words(stream.kind, ways.words[bet], sizes)
        return Alarm(
            stream=int(self.columns[j]), name=stream.name, judge="counts", what=what, at_s=at_s,
            since_s=float(state.recent_start_s[places[found.at]]),
            since_low_s=float(state.recent_start_s[places[found.low]]),
            since_high_s=float(state.recent_end_s[places[found.high]]),
            evidence=evidence, threshold=budgeting.THRESHOLD,
            details=sizes,
        )  # fmt: skip

    def _start_over(self, alarmed: Ints) -> None:
        """What comes next is the new normal of these streams."""
        state = self.state
        state.sums[alarmed] = 0.0
        state.bag[alarmed] = 0
        state.training[alarmed] = 0
        state.before[alarmed] = 0
        state.wanted[alarmed] = RELEARNING_ROWS
        state.watching[alarmed] = False
        state.first_block[alarmed] = state.block + 1
        self._compile(alarmed)

    def _thin(self) -> None:
        """Halve big bags at random (a uniformly random part of a bag is as good a bag)."""
        for j in np.flatnonzero(self.state.bag.sum(1) > BAG_MAX):
            draw = randomness.generator(self.seed, self.streams[j].name, "thin", self.state.block)
            self.state.bag[j] = draw.multivariate_hypergeometric(self.state.bag[j], BAG_MAX // 2, method="marginals")

    def _compile(self, changed: Iterable[int]) -> None:
        """Make the bets of these streams from their training counts, and lay out in arrays those of streams that are
        watched: what others were watched with before they began to learn anew is in no state, and must not be seen."""
        for j in changed:
            self._bets.pop(j, None)
            if not self.state.watching[j]:
                continue
            p = betting.smooth(self.state.training[j, : self.bins[j].size])
            kind = self.streams[j].kind
            self._bets[j] = betting.make(p, kind, describe.bin_names(self.bins[j], kind))
        d, size = self.state.open.shape
        nodes = max((len(made.nodes) for made in self._bets.values()), default=1)
        bets = max((len(made.alternatives.weights) for made in self._bets.values()), default=1)
        vectors, weights = np.zeros((d, nodes, bets)), np.zeros((d, bets))
        places: list[tuple[int, int, int, int, int]] = []
        for j, made in self._bets.items():
            n, b = made.vectors.shape
            weights[j, :b] = made.alternatives.weights * (made.vectors**2).sum(0).astype(bool)
            vectors[j, :n, :b] = made.vectors
            places += [(j, i, *(j * size + cut for cut in node)) for i, node in enumerate(made.nodes.tolist())]
        table = np.array(places, np.int64).reshape(-1, 5).T
        self._weighed = b"", weights
        single = np.array([j in self._bets and len(self._bets[j].nodes) == 1 for j in range(d)])
        sign = np.where(single[:, None], np.sign(vectors[:, 0]), 0.0)
        self._compiled = _Compiled(vectors, (vectors**2).sum(1), weights, sign, table[0], table[1], table[2:])
        sums = np.zeros((d, bets))
        kept = min(bets, self.state.sums.shape[1])
        sums[:, :kept] = self.state.sums[:, :kept]
        self.state.sums = sums
