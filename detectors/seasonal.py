"""One stream of `season`: learning the season, watching, and after an alarm learning the new level.

Knows counts of finished parts of days; nothing of rows, calls or other streams. Both judges share the stream's budget
half and half. After an alarm the stream learns its new level for 14 days; how days depend on each other (classes, beta,
persistence) is inherited, as 14 days are too few to learn it. A stream that alarms again soon after has not come to a
new level: it goes to and fro, or on, more than was ever learned of it. It learns for 28 days, as at first, and then
classes and beta too; of persistence the larger counts. Where levels change every four weeks (elec2 in blocks of four
weeks, `benchmarks/detection/real.py`) that took 2.4 alarms a month to 1.5. The price: what changes in these days is
learned, not found.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import bets, days, describe, gross, randomness, series
from detectors.budget import THRESHOLD
from detectors.calendar import DAY_S, PARTS, Moment
from detectors.contract import Alarm, Bins, Budget, Stream
from detectors.days import DayState
from detectors.gross import GrossState

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEARNING_DAYS = 28
RELEARNING_DAYS = 14

RESTLESS = 4
"""A stream that alarms again before it has been watched for so many times as long as it had learned learns 28 days.
With 8, as in `blocks`, elec2 in blocks of four weeks raised as many alarms, and more streams were kept learning."""

REFINE_AT_DAYS = (42, 56)
REFINE_EVIDENCE_MAX = 0.05
"""What the reference taught is refined by more days, unless evidence is building up: a drift must not teach it."""

KEPT_DAYS = gross.MEMORY_DAYS


class SeasonalState(msgspec.Struct):
    """A stream's memory: (n, C, K) counts of the past days with these numbers.

    need: days to learn, 0 while watching; skip: a day that an alarm has ended early, no longer counted; age: days
    learned and watched since the last alarm; learned: how many of them came before watching (0 before the first alarm);
    wage: of a day; p: (K,) learned masses of the bins.
    """

    counts: NDArray[np.int32]
    numbers: Ints
    need: int = LEARNING_DAYS
    skip: int = -1
    age: int = 0
    learned: int = 0
    wage: float = 0.0
    p: Floats | None = None
    ranks: DayState | None = None
    gross: GrossState | None = None


class Seasonal:
    """One stream; `share` is its part of the budget."""

    def __init__(self, column: int, stream: Stream, bins: Bins, share: float, budget: Budget, seed: int) -> None:
        self.column = column
        self.stream = stream
        self.bins = bins
        self.share = share
        self.budget = budget
        self.day_keys = randomness.keys(seed, [f"{stream.name}\0days"])
        self.gross_keys = randomness.keys(seed, [f"{stream.name}\0gross"])
        self.learn_keys = randomness.keys(seed, [f"{stream.name}\0learn"])
        self.state = SeasonalState(np.zeros((0, PARTS, bins.size), np.int32), np.zeros(0, np.int64))

    def become(self, state: SeasonalState) -> None:
        """Go on from a state."""
        self.state = state
        if state.p is not None:
            self._prepare(state.p)

    @property
    def is_watching(self) -> bool:
        """Whether days are judged."""
        return not self.state.need and self.state.ranks is not None and self.state.gross is not None

    def alarm(
        self, by_day: days.Verdict | None, by_gross: gross.Verdict | None, counts: NDArray[np.int32], now: Moment
    ) -> Alarm | None:
        """What the judges say of a day up to this part, (C, K) counts: an alarm ends the watch, learning begins."""
        ranks, gross_state = self.state.ranks, self.state.gross
        assert ranks is not None and gross_state is not None
        if by_gross is not None and (by_day is None or by_gross.evidence >= by_day.evidence):
            alarm = self._gross_alarm(gross_state, by_gross, counts, now)
        elif by_day is not None:
            alarm = self._day_alarm(ranks, by_day, counts, now)
        else:
            return None
        self._relearn(now.day)
        return alarm

    def status(self) -> str:
        """For people."""
        if self.bins.size < 2:
            return "idle: one value only"
        if self.state.need:
            what = "level" if self.state.ranks is not None else "season"
            return f"learning the {what}: {len(self.state.numbers)} of {self.state.need} days"
        return "watching"

    def end_day(self, counts: NDArray[np.int32], day: int, learn_only: bool) -> None:
        """A day is over: (C, K) counts. With `learn_only` (the reference) learning goes on beyond 28 days."""
        state = self.state
        if day == state.skip or not counts.any() or self.bins.size < 2:
            return
        kept = days.MEMORY_DAYS if state.need else KEPT_DAYS
        state.counts = np.concatenate([state.counts, counts[None]])[-kept:]
        state.numbers = np.append(state.numbers, day)[-kept:]
        state.age += 1
        if state.need:
            if len(state.numbers) >= state.need and not learn_only:
                self.start()
        elif state.ranks is not None and state.gross is not None:
            days.end_day(state.ranks, series.statistics(np.cumsum(counts, 0), self.series), day)
            building = max(state.ranks.evidence, state.gross.evidence)
            if state.age in REFINE_AT_DAYS and building < REFINE_EVIDENCE_MAX:
                days.learn(state.ranks)
                self._learn_gross(state.gross)

    def start(self) -> None:
        """Enough days: learn what they have in common, and watch from here on."""
        state, inherited = self.state, self.state.ranks
        state.p = bets.smooth(state.counts.sum((0, 1), dtype=np.int64))
        self._prepare(state.p)
        values = series.statistics(np.cumsum(state.counts, 1), self.series)
        state.ranks = days.begin(values, state.numbers)
        days.learn(state.ranks)
        state.learned = state.age if inherited is not None else 0
        if inherited is not None and inherited.beta.shape == state.ranks.beta.shape:
            if state.need < LEARNING_DAYS:
                state.ranks.beta, state.ranks.system = inherited.beta, inherited.system
            state.ranks.persistence = np.maximum(inherited.persistence, state.ranks.persistence)
        state.gross = gross.begin(state.counts, self.bets)
        self._learn_gross(state.gross)
        rows = float(state.counts.sum()) / len(state.numbers)
        state.wage = self.share * self.budget.wage(rows, DAY_S)
        state.counts, state.numbers = state.counts[-KEPT_DAYS:], state.numbers[-KEPT_DAYS:]
        state.need = 0

    def _learn_gross(self, state: GrossState) -> None:
        counts, numbers = self.state.counts, self.state.numbers
        shape = (len(counts), PARTS, len(self.bets.nodes))
        xi = randomness.uniforms(self.learn_keys, int(numbers[-1]), int(np.prod(shape))).reshape(shape)
        gross.learn(state, self.bets, counts, numbers, self.tolerance, xi)

    def _prepare(self, p: Floats) -> None:
        """What follows from the learned masses of the bins."""
        kind, names = self.stream.kind, describe.bin_names(self.bins, self.stream.kind)
        self.series = series.of(p, kind, names)
        self.tolerance = series.tolerance(p, kind)
        self.bets = bets.make(p, kind, names)
        sizes = days.SIZES**-0.5
        by_bet = np.concatenate([sizes, np.zeros_like(sizes) if kind == "loss" else sizes])
        self.day_weights = self.series.weights[:, None] * by_bet / by_bet.sum()

    def _relearn(self, day: int) -> None:
        state = self.state
        restless = state.age - state.learned < RESTLESS * state.learned
        state.need, state.skip, state.age = LEARNING_DAYS if restless else RELEARNING_DAYS, day, 0
        state.counts, state.numbers = state.counts[:0], state.numbers[:0]
        state.gross = None

    def _day_alarm(self, ranks: DayState, verdict: days.Verdict, counts: NDArray[np.int32], now: Moment) -> Alarm:
        at, low, high = days.onset(ranks, verdict, now.day)
        times = now.day_s + (np.array([at, low, high + 1]) - now.day) * DAY_S
        words = f"{self.series.words[verdict.series]} {'up' if verdict.sign > 0 else 'down'}"
        bin_ = self.series.bins[verdict.series]
        return self._alarm("days", words, bin_, verdict.evidence, times, counts, now)

    def _gross_alarm(self, state: GrossState, verdict: gross.Verdict, counts: NDArray[np.int32], now: Moment) -> Alarm:
        ways = self.bets.alternatives
        words, bin_ = ways.words[verdict.bet], ways.bins[verdict.bet]
        return self._alarm("gross", words, bin_, verdict.evidence, gross.onset(state, verdict.bet), counts, now)

    def _alarm(
        self,
        judge: str,
        words: str,
        bin_: int,
        evidence: float,
        times_s: Floats,
        counts: NDArray[np.int32],
        now: Moment,
    ) -> Alarm:
        """times_s: (3,) since when, at the earliest, at the latest."""
        state = self.state
        starts_s = now.day_s + (np.append(state.numbers, now.day) - now.day)[:, None] * DAY_S
        after = starts_s + np.arange(PARTS) * DAY_S / PARTS >= times_s[0]
        known = np.concatenate([state.counts, counts[None]]).astype(np.int64)
        was, now_ = ((known * mask[:, :, None]).sum(0) for mask in (~after, after))
        sizes = describe.effect(self.stream.kind, self.bins, describe.like(was, now_), now_.sum(0), bin_)
        what = describe.words(self.stream.kind, words, sizes)
        return Alarm(
            stream=self.column, name=self.stream.name, judge=judge, what=what, at_s=now.end_s,
            since_s=float(times_s[0]), since_low_s=float(times_s[1]), since_high_s=min(float(times_s[2]), now.end_s),
            evidence=evidence, threshold=THRESHOLD, details={**sizes, "tolerance": self.tolerance},
        )  # fmt: skip
