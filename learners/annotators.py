"""One label from the several that annotators gave to one event, and how far each annotator is to be believed.

Owns the rules by which votes become a label, and the estimated skill of annotators. Refuses to know events, topics and
when a label is final. Votes come one after the other, so an item is learned, and when a further vote comes its old
share in the estimates is taken out and the new one put in (incremental EM: Neal and Hinton 1998; online EM: Cappe and
Moulines 2009).

What share of items each rule got right, on nine public sets of 108 to 8,315 items (tests/test_annotators.py; mean of
the nine; online: each item resolved when its votes came, by what had been learned until then):

| | majority | weighted | Dawid-Skene |
|---|---|---|---|
| online | .832 | .849 | .855 |
| by what was known in the end | .832 | .850 | .862 |
| batch EM | | | .867 |

Resolving and learning an item of three votes takes 13, 21 and 39 to 47 us.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec
import numpy as np

from learners.contract import Label, SnapshotError
from learners.metrics import Task
from learners.packing import unpacked

Rule: TypeAlias = Literal["majority", "weighted", "dawid_skene"]

ANNOTATORS_MAX: Final = 500
"""Annotators with estimates of their own; the rest share one, that of all together. Binary: 60 bytes of state each;
with `CLASSES_MAX` classes 3.6 kB."""

CLASSES_MAX: Final = 20
"""Classes with a row and a column in every annotator's table. An item with votes for others goes by majority, and
teaches nothing; `beyond` counts such items."""

OWN_PRIOR: Final = 2.0
"""Votes that an annotator is taken to have given of each class, as all together do, before any of their own: between 2
and 5 nothing changed by more than half a point on the nine sets."""

POOL_PRIOR: Final = 10.0
"""Votes of each true class for each answer, and as many again for the right one, that stand for all annotators before
anybody has voted: better than guessing, or the classes could be found swapped."""

SKILL_MIN: Final = 1e-6
"""Of those who do no better than guessing, a vote still decides where nobody else has one."""

DEVIATION_MAX: Final = 10.0
"""Mean deviations at which one vote's is cut off (regression): a slip of the pen must not cost a good annotator
their weight."""

SHOWN_MAX: Final = 100
"""Annotators that `figures` names, those with most votes first."""


class Vote(NamedTuple):
    """One annotator's label of one event; `confidence` from 0 to 1 weighs it, but under `majority` breaks ties only."""

    annotator: str
    label: Label
    confidence: float = 1.0


class Resolved(NamedTuple):
    """The label that stands. `share`: the rule's belief in it, from 0 to 1 (regression: None). `disagreement`: share of
    pairs of votes that differ (Fleiss 1971); regression: mean distance of the votes from the label, in its unit."""

    label: Label
    share: float | None
    disagreement: float


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """What an item has put into the estimates, to be kept with the item and handed back when its votes change.
    `evidence`: belief by class (Dawid-Skene), or each vote's deviation from the others (regression)."""

    votes: list[Vote] = []
    evidence: list[float] = []
    label: Label | None = None


NOTHING: Final = Taken()


class _Annotator(msgspec.Struct, array_like=True):
    """`votes`: sum of confidences; `agreed`: of those that equal what was resolved; `deviations`: sum (regression);
    `table`: [true][said] sums of belief (Dawid-Skene)."""

    votes: float = 0.0
    agreed: float = 0.0
    deviations: float = 0.0
    table: list[list[float]] = []


class _State(msgspec.Struct, array_like=True):
    pool: _Annotator
    annotators: dict[str, _Annotator]
    classes: list[Label]
    prior: list[float]
    """Sum of belief by class."""
    items: int = 0
    beyond: int = 0


class Annotators:
    """`resolve` votes of one item, then `learn` them. Raises ValueError for a rule that the task cannot have.

    * `majority`: the label named most often; ties go to the larger sum of confidences, then to the first. Regression:
      the median.
    * `weighted`: a vote weighs k * accuracy - 1 among k classes (Li and Yu 2014), and the accuracy of an annotator is
      how often they agreed with what was resolved. Regression: the median, weighted by 1 / the annotator's mean
      deviation. An item with one vote teaches nothing.
    * `dawid_skene`: each annotator has a table of what they say of each class (Dawid and Skene 1979). Not for
      regression. Worth it where annotators err on one side, and where votes for each annotator and class are dozens.

    Of an annotator who is named twice the last vote counts. What stands is always a label that somebody gave (to leave
    it to Dawid-Skene to overrule all cost a tenth of a point). Belief is too sure where annotators copy each other.

    >>> three = Annotators("binary", "majority")
    >>> three.resolve([Vote("ann", 1), Vote("bob", 0), Vote("cy", 1)]).label
    1
    """

    def __init__(self, task: Task, rule: Rule) -> None:
        if rule not in get_args(Rule):
            raise ValueError(f"no rule {rule!r} for several labels of one event; one of {', '.join(get_args(Rule))}")
        if task == "regression" and rule == "dawid_skene":
            raise ValueError("dawid_skene is for classes; use weighted (a weighted median) for a regression")
        self.task: Task = task
        self.rule: Rule = rule
        self._state = _State(_Annotator(), {}, [], [])
        for y in (0, 1) if task == "binary" else ():
            self._meet(y)

    def resolve(self, votes: Sequence[Vote]) -> Resolved:
        """The label of one item by what is known of its annotators; changes nothing. Raises ValueError for no votes."""
        votes = _newest(votes, self.task)
        if not votes:
            raise ValueError("no votes to resolve; an event without a label has none")
        if self.task == "regression":
            return self._resolve_numbers(votes)
        counts: dict[Label, tuple[int, float]] = {}
        for _, label, confidence in votes:
            n, sure = counts.get(label, (0, 0.0))
            counts[label] = (n + 1, sure + confidence)
        pairs = len(votes) * (len(votes) - 1)
        differ = (pairs - sum(n * (n - 1) for n, _ in counts.values())) / max(pairs, 1)
        classes = self._state.classes
        if self.rule == "majority" or any(label not in classes for label in counts):
            best = max(counts, key=counts.__getitem__)
            return Resolved(best, counts[best][0] / len(votes), differ)
        belief = self._belief(votes)
        best = max(counts, key=lambda label: belief[classes.index(label)])
        return Resolved(best, belief[classes.index(best)], differ)

    def _resolve_numbers(self, votes: Sequence[Vote]) -> Resolved:
        values = [float(vote.label) for vote in votes]
        label = _median(values, [self._weight(vote) for vote in votes])
        return Resolved(label, None, math.fsum(abs(value - label) for value in values) / len(values))

    def _weight(self, vote: Vote) -> float:
        """What a number counts for in the median; 1 for everybody until somebody has differed."""
        if self.rule == "majority":
            return 1.0
        usual = self._deviation(None)
        own = max(self._deviation(vote.annotator), usual / 1_000.0)
        return vote.confidence * (usual / own if usual > 0.0 else 1.0)

    def _deviation(self, name: str | None) -> float:
        """Mean deviation of an annotator, or of all together."""
        pool = self._state.pool
        usual = pool.deviations / pool.votes if pool.votes > 0.0 else 0.0
        own = None if name is None else self._state.annotators.get(name)
        return usual if own is None else (own.deviations + OWN_PRIOR * usual) / (own.votes + OWN_PRIOR)

    def _belief(self, votes: Sequence[Vote]) -> list[float]:
        """Of each class, given the votes: all of them for known classes."""
        state, k = self._state, len(self._state.classes)
        if self.rule == "weighted":
            weights = [0.0] * k
            for name, label, confidence in votes:
                skill = k * self._accuracy(state.annotators.get(name)) - 1.0
                weights[state.classes.index(label)] += max(skill, SKILL_MIN) * max(confidence, SKILL_MIN)
            return _shares(weights)
        total = math.fsum(state.prior) + k
        logs = [math.log((mass + 1.0) / total) for mass in state.prior]
        for name, label, confidence in votes:
            own, said = state.annotators.get(name), state.classes.index(label)
            for true in range(k):
                logs[true] += confidence * math.log(self._chance(own, true, said))
        most = max(logs)
        return _shares([math.exp(log - most) for log in logs])

    def _chance(self, own: _Annotator | None, true: int, said: int) -> float:
        """Probability that an annotator, or one of whom nothing is known, says `said` of the class `true`."""
        pool, k = self._state.pool.table[true], len(self._state.classes)
        usual = (pool[said] + POOL_PRIOR * (1 + (true == said))) / (sum(pool) + POOL_PRIOR * (k + 1))
        if own is None:
            return usual
        row = own.table[true]
        return (row[said] + OWN_PRIOR * usual) / (sum(row) + OWN_PRIOR)

    def _accuracy(self, own: _Annotator | None) -> float:
        """Of one annotator, or of all together; strictly between 0 and 1."""
        state, k = self._state, len(self._state.classes)
        if self.rule == "dawid_skene":
            total = math.fsum(state.prior) + k
            return math.fsum((state.prior[y] + 1.0) / total * self._chance(own, y, y) for y in range(k))
        usual = (state.pool.agreed + 2.0 * POOL_PRIOR) / (state.pool.votes + POOL_PRIOR * (k + 1))
        return usual if own is None else (own.agreed + OWN_PRIOR * usual) / (own.votes + OWN_PRIOR)

    def learn(self, before: Taken, now: Sequence[Vote]) -> Taken:
        """Take an item's votes into the estimates, in place of what it had put there `before` (`NOTHING` at first).

        `now` holds all of its votes, the earlier ones too; none where the item is taken back. What it returns belongs
        with the item. Raises ValueError, and changes nothing, for votes that cannot be of the task.
        """
        votes = _newest(now, self.task)
        self._put(before, -1.0)
        self._state.items += bool(votes) - bool(before.votes)
        if not votes:
            return NOTHING
        evidence: list[float] = []
        if self.task == "regression":
            evidence = self._deviations(votes)
        elif not all([self._meet(vote.label) for vote in votes]):
            self._state.beyond += 1
            return Taken(votes)
        elif self.rule == "dawid_skene":
            evidence = self._belief(votes)
        taken = Taken(votes, evidence, self.resolve(votes).label)
        self._put(taken, 1.0)
        return taken

    def _deviations(self, votes: Sequence[Vote]) -> list[float]:
        """Of each vote from the weighted median of the others; nothing is learned of one that stands alone."""
        if len(votes) == 1:
            return []
        usual = self._deviation(None)
        bound = DEVIATION_MAX * usual if self._state.pool.votes >= OWN_PRIOR * POOL_PRIOR and usual > 0.0 else math.inf
        found = []
        for vote in votes:
            others = [other for other in votes if other is not vote]
            middle = _median([float(other.label) for other in others], [self._weight(other) for other in others])
            found.append(min(abs(float(vote.label) - middle), bound))
        return found

    def _put(self, taken: Taken, sign: float) -> None:
        """Add, or take out, what an item says of its annotators."""
        state, evidence = self._state, taken.evidence
        if taken.label is None or (len(taken.votes) == 1 and self.rule != "dawid_skene"):
            return
        for place, vote in enumerate(taken.votes):
            weight = sign * vote.confidence
            for one in (state.pool, self._annotator(vote.annotator)):
                if one is None:
                    continue
                one.votes = max(one.votes + weight, 0.0)
                if self.task == "regression":
                    one.deviations = max(one.deviations + weight * evidence[place], 0.0)
                    continue
                one.agreed = max(one.agreed + weight * (vote.label == taken.label), 0.0)
                if evidence:
                    said = state.classes.index(vote.label)
                    for true, share in enumerate(evidence):
                        one.table[true][said] = max(one.table[true][said] + weight * share, 0.0)
        if self.task != "regression":
            for true, share in enumerate(evidence):
                state.prior[true] = max(state.prior[true] + sign * share, 0.0)

    def _annotator(self, name: str) -> _Annotator | None:
        """Their own entry, made where there is room; who has found none never gets one, so what they put into the pool
        can be taken out of it again."""
        state = self._state
        own = state.annotators.get(name)
        if own is None and len(state.annotators) < ANNOTATORS_MAX:
            own = state.annotators[name] = _Annotator(table=[[0.0] * len(row) for row in state.pool.table])
        return own

    def _meet(self, y: Label) -> bool:
        """Make room for a class; False where there is none."""
        state = self._state
        if y in state.classes:
            return True
        if len(state.classes) >= (2 if self.task == "binary" else CLASSES_MAX):
            return False
        state.classes.append(y)
        state.prior.append(0.0)
        for one in (state.pool, *state.annotators.values()) if self.rule == "dawid_skene" else ():
            one.table[:] = [[*row, 0.0] for row in one.table] + [[0.0] * len(state.classes)]
        return True

    def figures(self) -> dict[str, Any]:
        """By annotator: `votes` (sum of confidences), `agreement` (share of them that equal what was resolved),
        `accuracy` as estimated; regression: `deviation`, their mean distance from what the others said."""
        state = self._state
        busiest = sorted(state.annotators.items(), key=lambda item: -item[1].votes)[:SHOWN_MAX]
        shown = {name: self._shown(one, name) for name, one in busiest}
        counts = {"rule": self.rule, "items": state.items, "beyond": state.beyond}
        return counts | {"all": self._shown(state.pool, None), "annotators": shown}

    def _shown(self, one: _Annotator, name: str | None) -> dict[str, Any]:
        if self.task == "regression":
            return {"votes": one.votes, "deviation": self._deviation(name)}
        accuracy = self._accuracy(None if name is None else one)
        return {"votes": one.votes, "agreement": one.agreed / one.votes if one.votes else None, "accuracy": accuracy}

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode([self.task, self.rule, self._state])

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError, for the state of another task or rule too: their estimates do not compare."""
        task, rule, read = unpacked(state, tuple[Task, Rule, _State], "annotators")
        if (task, rule) != (self.task, self.rule):
            raise SnapshotError(f"the state of annotators by {rule} ({task}), where {self.rule} ({self.task}) belongs")
        self._state = read


def _newest(votes: Sequence[Vote], task: Task) -> list[Vote]:
    """The last vote of each annotator, in the order of their first. Raises ValueError for what is no vote."""
    for annotator, label, confidence in votes:
        if not 0.0 <= confidence <= 1.0:
            raise ValueError(f"confidence {confidence} of annotator {annotator!r}; it goes from 0 to 1")
        if isinstance(label, str):
            if task == "regression":
                raise ValueError(f"label {label[:100]!r} of annotator {annotator!r}; a regression needs a number")
        elif isinstance(label, float) and not math.isfinite(label):
            raise ValueError(f"label {label} of annotator {annotator!r}; it must be a finite number")
    return list({vote.annotator: vote for vote in votes}.values())


def _shares(masses: Sequence[float]) -> list[float]:
    whole = math.fsum(masses)
    return [mass / whole for mass in masses]


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted median; the middle of two where they share the weight. Weights of 0 throughout count as equal."""
    if not any(weights):
        weights = [1.0] * len(values)
    pairs = sorted(pair for pair in zip(values, weights, strict=True) if pair[1] > 0.0)
    half, below = math.fsum(weights) / 2.0, 0.0
    for i, (value, weight) in enumerate(pairs):
        below += weight
        if math.isclose(below, half) and i + 1 < len(pairs):
            return value / 2.0 + pairs[i + 1][0] / 2.0
        if below > half:
            break
    return value


class Batch(NamedTuple):
    """By item: label and belief in it. By annotator: estimated accuracy."""

    labels: list[Label]
    shares: list[float]
    accuracy: dict[str, float]


def dawid_skene(items: Sequence[Sequence[Vote]], rounds: int = 50) -> Batch:
    """Batch EM over all votes at once, with the priors of `Annotators`: what the online form is compared with.

    Unbounded; for a file, not a stream. Raises ValueError where an item has no votes.
    """
    items = [_newest(votes, "multiclass") for votes in items]
    if not all(items):
        raise ValueError(f"item {next(i for i, votes in enumerate(items) if not votes)} has no votes")
    classes = list(dict.fromkeys(vote.label for votes in items for vote in votes))
    names = list(dict.fromkeys(vote.annotator for votes in items for vote in votes))
    place, seat = {y: i for i, y in enumerate(classes)}, {name: i for i, name in enumerate(names)}
    k = len(classes)
    cells = [(i, seat[name], place[y], sure) for i, votes in enumerate(items) for name, y, sure in votes]
    item, who, said, weight = (np.array(column) for column in zip(*cells, strict=True))
    belief = np.zeros((len(items), k))
    np.add.at(belief, (item, said), 1.0)
    belief /= belief.sum(axis=1, keepdims=True)
    for _ in range(rounds):
        table = np.zeros((len(names), k, k))
        np.add.at(table.transpose(0, 2, 1), (who, said), belief[item] * weight[:, None])
        pool = table.sum(axis=0) + POOL_PRIOR * (1.0 + np.eye(k))
        table += OWN_PRIOR * pool / pool.sum(axis=1, keepdims=True)
        table /= table.sum(axis=2, keepdims=True)
        prior = belief.sum(axis=0) + 1.0
        logs = np.tile(np.log(prior / prior.sum()), (len(items), 1))
        np.add.at(logs, item, np.log(table[who, :, said]) * weight[:, None])
        belief = np.exp(logs - logs.max(axis=1, keepdims=True))
        belief /= belief.sum(axis=1, keepdims=True)
    accuracy = np.einsum("k,akk->a", prior / prior.sum(), table).tolist()
    labels = [classes[i] for i in belief.argmax(axis=1).tolist()]
    return Batch(labels, belief.max(axis=1).tolist(), dict(zip(names, accuracy, strict=True)))
