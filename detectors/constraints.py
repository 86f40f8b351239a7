"""What a feature's values may be: a type, a range, a set of categories, a length. Learned from reference values, and
asked of later ones. Owns the rules; refuses to know rows, files, and what is said of a broken one.

A constraint is no detector: what breaks it is a 0/1 stream like any other, whose share is judged against the
reference's own. So a range need not be exact, and is learned with room: it must tell what does not belong from what is
merely rare. A value counts by itself, whatever stands in the rows around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Values: TypeAlias = NDArray[np.float64] | NDArray[np.int32]
"""(n,) numbers, NaN where missing; or codes into words, -1 where missing."""

Type: TypeAlias = Literal["number", "text", "boolean", "embedding"]

RULES: Final = ("kept", "type", "range", "category", "length", "whole")
"""What `broken` answers with, by number; -1 where the value is missing."""

KEPT, TYPE, RANGE, CATEGORY, LENGTH, WHOLE = range(len(RULES))

VALUES_MIN: Final = 100
"""Fewer values show neither a range nor a set."""

TOP: Final = 20
TOP_ROWS: Final = 4_000
"""The room beyond the largest value is its distance from the k-th largest, k = 20, or 4,000 / n where n is small. Where
tails fall like an exponential's or faster, the expected share of later values outside is then at most 4 / ((n + 1)(k +
2)), which is under 1/1000 from n = 100 on; whatever the law, it is at most 2 / (n + 1)."""

DIGITS: Final = 2
"""A learned bound is rounded outwards to a hundredth of the range's leading digit, for people."""

CATEGORIES_MAX: Final = 100
"""A longer list nobody reads, and it is seldom closed."""

SEEN_MIN: Final = 7
"""A set is closed if each category was seen so often: another as frequent as the rarest would have been missed with a
probability of exp(-7), under 1/1000."""

LONGER: Final = 2
"""A text may be so many times as long as the longest: lengths drift, and that is another finding; what is cut or run
together by mistake is far off."""

MISSING_ROOM: Final = 0.02
"""A missing share that is by so much above the reference's is no longer tolerated: two in a hundred rows."""

NORM: Final = "~norm"
"""How the norm of an embedding is named among the numbers that it becomes (`detectors.projection`)."""


class Constraint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What values of one feature may be. `low` and `high` bound numbers, and the norm of an embedding; `whole`: they
    are integers. `numbers`: texts that read as numbers belong to it. `missing_max`: the share that may be missing."""

    type: Type
    low: float | None = None
    high: float | None = None
    whole: bool = False
    categories: tuple[str, ...] | None = None
    length_max: int | None = None
    numbers: bool = False
    missing_max: float | None = None


class Column(msgspec.Struct):
    """Values of one feature as they are asked about: numbers, or codes into `words`."""

    values: Values
    words: Sequence[str] | None = None


def learn(column: Column, free_text: bool = False) -> Constraint:
    """What the reference's values show. Not for values that are few or still changing: a bound that the season has not
    reached yet will be crossed by it.

    >>> found = learn(Column(np.linspace(2.0, 40.0, 1_000)))
    >>> found.type, found.low, found.high
    ('number', 1.2, 40.8)
    >>> learn(Column(np.arange(50, dtype=np.int32) % 2, ["no", "yes"])).categories
    ('no', 'yes')
    """
    missing = np.isnan(column.values) if column.words is None else column.values < 0
    share = float(missing.mean()) if len(missing) else 0.0
    missing_max = min(math.ceil(100 * (share + MISSING_ROOM) - 1e-9) / 100, 1.0)
    known = column.values[~missing]
    if column.words is None:
        return _learn_number(np.sort(known[np.isfinite(known)]), missing_max)
    return _learn_text(column.words, np.bincount(known, minlength=len(column.words)), free_text, missing_max)


def learn_all(columns: Mapping[str, Column], free_texts: Sequence[str] = ()) -> dict[str, Constraint]:
    """Constraints of all features, by name. An embedding's numbers together have one, of its norm."""
    embeddings = [name.removesuffix(NORM) for name in columns if name.endswith(NORM)]
    parts = {name for name in columns if name.rpartition("~")[0] in embeddings}
    found = {name: learn(columns[name], name in free_texts) for name in columns if name not in parts}
    for name in embeddings:
        norm = learn(columns[name + NORM])
        found[name] = Constraint(type="embedding", low=norm.low, high=norm.high, missing_max=norm.missing_max)
    return {name: found[name] for name in sorted(found)}


def _learn_number(x: Floats, missing_max: float) -> Constraint:
    """From sorted values."""
    n = len(x)
    if n < VALUES_MIN or x[0] == x[-1]:  # a constant has no range: whatever else it may be, it has not been yet
        return Constraint(type="number", missing_max=missing_max)
    if x[0] == 0.0 and x[-1] == 1.0 and ((x == 0.0) | (x == 1.0)).all():
        return Constraint(type="boolean", missing_max=missing_max)
    k = max(TOP, TOP_ROWS // n)
    low, high = float(2 * x[0] - x[k]), float(2 * x[-1] - x[-1 - k])
    if not math.isfinite(high - low):
        return Constraint(type="number", missing_max=missing_max)
    digits = DIGITS - math.floor(math.log10(high - low))
    whole = bool((x == np.floor(x)).all())
    if whole:
        digits = min(digits, 0)
    return Constraint(
        type="number", low=_outwards(low, digits, -1), high=_outwards(high, digits, 1), whole=whole,
        missing_max=missing_max,
    )  # fmt: skip


def _outwards(bound: float, digits: int, side: int) -> float:
    """The bound on a grid of so many decimals, never nearer to the middle."""
    near = round(bound, digits)
    if (near - bound) * side >= 0:
        return near
    return round(bound + side * 0.5 * 10.0**-digits, digits)


def _learn_text(words: Sequence[str], counts: NDArray[np.int64], free_text: bool, missing_max: float) -> Constraint:
    seen = [(word, int(count)) for word, count in zip(words, counts, strict=True) if count]
    numbers = any(number_of(word) is not None for word, _ in seen)
    rows = sum(count for _, count in seen)
    few = len(seen) <= CATEGORIES_MAX and all(count >= SEEN_MIN for _, count in seen)
    if seen and few and not free_text:
        closed = tuple(sorted(word for word, _ in seen))
        return Constraint(type="text", categories=closed, numbers=numbers, missing_max=missing_max)
    longest = LONGER * max((len(word) for word, _ in seen), default=0)
    length_max = longest if rows >= VALUES_MIN else None
    return Constraint(type="text", length_max=length_max, numbers=numbers, missing_max=missing_max)


def can_break(constraint: Constraint) -> bool:
    """Whether there is a value that breaks it."""
    bounded = constraint.categories is not None or constraint.length_max is not None
    return constraint.type != "text" or bounded or not constraint.numbers


def broken(constraint: Constraint, column: Column) -> NDArray[np.int8]:
    """(n,) number of the first rule that each value breaks: 0 none, -1 it is missing.

    About 2.5 us and 1 ns a number; 0.2 us a distinct word, 1 us if it is a number.

    >>> broken(Constraint(type="number", low=0.0), Column(np.array([1.0, -1.0, np.nan]))).tolist()
    [0, 2, -1]
    >>> broken(Constraint(type="number"), Column(np.array([0, 1, -1], np.int32), ["1.5", "n/a"])).tolist()
    [0, 1, -1]
    """
    if column.words is not None:
        rule = _of_text if constraint.type == "text" else _of_number_word
        table = np.array([*rule(constraint, column.words), -1], np.int8)
        return np.asarray(table[column.values])
    if constraint.type == "text":
        return _of_number_in_text(constraint, column.values)
    return _of_numbers(constraint, np.asarray(column.values, np.float64))


def _of_numbers(constraint: Constraint, x: Floats) -> NDArray[np.int8]:
    out = np.zeros(len(x), np.int8)
    if constraint.type == "boolean":
        out[(x != 0.0) & (x != 1.0)] = TYPE
    if constraint.low is not None:
        out[x < constraint.low] = RANGE
    if constraint.high is not None:
        out[x > constraint.high] = RANGE
    if constraint.whole:
        out[x != np.floor(x)] = WHOLE
    out[np.isnan(x)] = -1
    return out


def _of_number_word(constraint: Constraint, words: Sequence[str]) -> list[int]:
    """Text where numbers belong. A number among texts is written as one (`stream.joining.columns`) and counts as such:
    how its neighbours came must not decide."""
    found = [number_of(word) for word in words]
    kept = _of_numbers(constraint, np.array([math.nan if x is None else x for x in found], np.float64)).tolist()
    return [TYPE if x is None else rule for x, rule in zip(found, kept, strict=True)]


def _of_text(constraint: Constraint, words: Sequence[str]) -> list[int]:
    if constraint.categories is not None:
        known = dict.fromkeys(constraint.categories)
        rules = [KEPT if word in known else CATEGORY for word in words]
    elif constraint.length_max is not None:
        longest = constraint.length_max
        rules = [KEPT if len(word) <= longest else LENGTH for word in words]
    else:
        rules = [KEPT] * len(words)
    if constraint.numbers:
        return rules
    return [TYPE if number_of(word) is not None else rule for word, rule in zip(words, rules, strict=True)]


def _of_number_in_text(constraint: Constraint, values: Values) -> NDArray[np.int8]:
    """Numbers where texts belong, as the texts that they would be among others."""
    distinct, places = np.unique(values, return_inverse=True)
    words = [number_word(float(x)) for x in distinct]
    return np.where(np.isnan(values), -1, np.array(_of_text(constraint, words) or [0], np.int8)[places]).astype(np.int8)


def number_of(word: str) -> float | None:
    """The number that a word is, if it is written as numbers among texts are: `1.5`, `3`, `True`, and not `1.50`.

    >>> number_of("1.5"), number_of("3"), number_of("True"), number_of("007"), number_of("n/a")
    (1.5, 3.0, 1.0, None, None)
    """
    if word in ("True", "False"):
        return float(word == "True")
    if word[:1] not in "-0123456789" or len(word) > 400:  # no number below 1e308 has more digits
        return None
    try:
        x = float(word)
    except ValueError:
        return None
    written = word == repr(x) or word == number_word(x) or (word.lstrip("-").isdecimal() and word == str(int(word)))
    return x if math.isfinite(x) and written else None


def number_word(x: float) -> str:
    """A number as a text: 1.0 reads `1`."""
    return repr(int(x)) if x.is_integer() and abs(x) < 1e15 else repr(x)
