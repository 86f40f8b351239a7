"""Crowds, rare classes and scarce labels for tests, and what the conformance suite feeds to the parts that meet them.
Apart, so that a fresh process need not import what tests need."""

from __future__ import annotations

from typing import Any

import numpy as np

from learners.annotators import NOTHING, Annotators, Rule, Vote
from learners.choosing import Chooser, Plan
from learners.contract import Label, Said
from learners.imbalance import Balance
from learners.metrics import Task
from tests.conformance import Scenario


def crowd(n: int, task: str = "multiclass", seed: int = 1, annotators: int = 12) -> list[tuple[Label, list[Vote]]]:
    """Items with their true labels and one to five votes; every third annotator guesses."""
    draw = np.random.default_rng(seed)
    out: list[tuple[Label, list[Vote]]] = []
    for _ in range(n):
        true = int(draw.integers(2 if task == "binary" else 3))
        level = float(10 * draw.normal())
        given: list[Vote] = []
        for who in draw.choice(annotators, size=int(draw.integers(1, 6)), replace=False).tolist():
            good = who % 3 > 0
            said = true if draw.random() < (0.9 if good else 0.1) else int(draw.integers(2 if task == "binary" else 3))
            number = round(level + float(draw.normal()) * (0.5 if good else 8.0), 6)
            label: dict[str, Label] = {"binary": said, "multiclass": "xyz"[said], "regression": number}
            given.append(Vote(f"a{who}", label[task], round(float(draw.uniform(0.5, 1.0)), 3)))
        truths: dict[str, Label] = {"binary": true, "multiclass": "xyz"[true], "regression": level}
        out.append((truths[task], given))
    return out


class Joined:
    """The part as the join holds it: votes come one by one, and what an item had put in is handed back."""

    def __init__(self, task: Task, rule: Rule) -> None:
        self.made = Annotators(task, rule)

    def feed(self, item: tuple[Label, list[Vote]]) -> list[Any]:
        taken, out = NOTHING, []
        for i in range(1, len(item[1]) + 1):
            taken = self.made.learn(taken, item[1][:i])
            out.append([*self.made.resolve(item[1][:i]), taken.evidence])
        return out

    def snapshot(self) -> bytes:
        return self.made.snapshot()

    def restore(self, state: bytes) -> None:
        self.made.restore(state)

    def figures(self) -> dict[str, Any]:
        return self.made.figures()


def dawid_skene_scenario() -> Scenario:
    return Scenario(lambda: Joined("multiclass", "dawid_skene"), Joined.feed, crowd(60), 5_000)


def numbers_scenario() -> Scenario:
    return Scenario(lambda: Joined("regression", "weighted"), Joined.feed, crowd(60, "regression"), 5_000)


def linear_stream(n: int, seed: int, change: bool = False) -> list[tuple[dict[str, Any], int]]:
    """Ten numbers and a plane between the classes, with a little noise; another plane from the middle on."""
    draw = np.random.default_rng(seed)
    planes, x = draw.normal(size=(2, 10)), draw.normal(size=(n, 10))
    level = x @ planes.T / np.linalg.norm(planes, axis=1) + 0.15 * draw.normal(size=(n, 1))
    side = np.where(np.arange(n) < n / 2, level[:, 0], level[:, int(change)]) > 0
    rows = [dict(zip("abcdefghij", row, strict=True)) for row in x.tolist()]
    return list(zip(rows, side.astype(int).tolist(), strict=True))


def rare_stream(n: int, seed: int) -> list[tuple[dict[str, Any], int]]:
    """One positive in 50, two standard deviations away along one direction of four."""
    draw = np.random.default_rng(seed)
    way = draw.normal(size=4)
    y = (draw.random(n) < 0.02).astype(int)
    x = draw.normal(size=(n, 4)) + 2.0 * y[:, None] * way / np.linalg.norm(way)
    rows = [dict(zip("abcd", row, strict=True)) for row in x.tolist()]
    return list(zip(rows, y.tolist(), strict=True))


def offered(n: int, seed: int = 3) -> list[tuple[str, float, dict[str, Said], dict[str, Any]]]:
    """Events with the answers of two learners, a number, a word and, at times, nothing."""
    draw = np.random.default_rng(seed)
    out = []
    for i in range(n):
        a, b, c = (round(float(value), 6) for value in draw.random(3))
        said = {"champion": Said(int(a > 0.5), a), "other": Said(int(b > 0.5), None if i % 7 == 0 else b)}
        x = {"number": None if i % 11 == 0 else 10.0 * c, "word": "rgb"[int(draw.integers(3))], "list": [1.0]}
        out.append((f"e{i}", 60.0 * i, said, x))
    return out


def feed_chooser(chooser: Chooser, item: Any) -> list[Any]:
    choice = chooser.offer(*item)
    return [] if choice is None else [list(choice)]


def choosing_scenario() -> Scenario:
    mixture: Any = {"uncertainty": 0.3, "committee": 0.3, "diversity": 0.2, "random": 0.2}
    plan = Plan("binary", mixture, per_period=100, period_s=20_000.0)
    return Scenario(lambda: Chooser(plan, 5), feed_chooser, offered(600), 20_000)


def feed_balance(balance: Balance, y: Label) -> list[Any]:
    return [list(balance.take(y)), balance.ratio("a")]


def imbalance_scenario() -> Scenario:
    draw = np.random.default_rng(2)
    labels = ["abc"[int(i)] for i in draw.choice(3, size=300, p=[0.9, 0.08, 0.02])]
    return Scenario(lambda: Balance("over", seed=3, discount=0.9), feed_balance, labels, 200)
