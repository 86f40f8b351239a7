"""How far learners doubt, or differ, about one event.

Owns what their answers say of that. Refuses to know what is asked for because of it (`learners.choosing`).
"""

from __future__ import annotations

import math

from learners.contract import Said
from learners.metrics import Task


def disagreement(task: Task, answers: list[Said]) -> float | None:
    """How far learners differ about one event; None of fewer than two.

    >>> disagreement("binary", [Said(1, 0.9), Said(1, 0.9)]), disagreement("binary", [Said(1, 1.0), Said(0, 0.0)])
    (0.0, 0.6931471805599453)
    """
    if len(answers) < 2:
        return None
    if task == "regression":
        numbers = [float(said.prediction) for said in answers]
        mean = sum(number / len(numbers) for number in numbers)
        # Of numbers that are too large `fsum` and a square would raise; these give what is no number.
        spread = math.hypot(*(number - mean for number in numbers)) / math.sqrt(len(numbers))
        return spread if math.isfinite(spread) else None
    every = [_named_shares(task, said) for said in answers]
    whole: dict[str, float] = {}
    for said, shares in zip(answers, every, strict=True):
        for name, share in ({str(said.prediction): 1.0} if None in every else shares or {}).items():
            whole[name] = whole.get(name, 0.0) + share / len(answers)
    own = 0.0 if None in every else math.fsum(entropy(list((shares or {}).values())) for shares in every)
    return max(entropy(list(whole.values())) - own / len(answers), 0.0)


def _named_shares(task: Task, said: Said) -> dict[str, float] | None:
    if said.score is None or not 0.0 <= said.score <= 1.0:
        return None
    return {"1": said.score, "0": 1.0 - said.score} if task == "binary" else said.probabilities


def shares_of(task: Task, said: Said) -> list[float] | None:
    """Probabilities of the classes; of the predicted one alone where the others are not told."""
    if said.score is None or not 0.0 <= said.score <= 1.0:
        return None
    if task == "binary" or not said.probabilities:
        return [said.score, 1.0 - said.score]
    return list(said.probabilities.values())


def entropy(shares: list[float]) -> float:
    return -math.fsum(share * math.log(share) for share in shares if share > 0.0)
