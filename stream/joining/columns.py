"""Values to columns. Knows lists and arrays; refuses to know where the values come from.

A column is numbers or text. Booleans are numbers; a column in which text and numbers meet is text, the numbers as
`repr` writes them, so that a schema change upstream is seen as what it is. A list (an embedding) becomes the columns of
its projections and its norm (F01), `name~1` to `name~8` and `name~norm`: what is carried does not grow with its length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from detectors import projection
from detectors.projection import Projection
from stream.events import Column

_NUMERIC = frozenset({float, int, bool, type(None)})
_TEXT = frozenset({str, type(None)})


def column(values: Sequence[Any]) -> Column | None:
    """The column of these values, None where missing; None if there is a list among them.

    >>> column([1, None, True]).values
    array([ 1., nan,  1.])
    >>> mixed = column(["a", 1.5, None, "a"])
    >>> mixed.values, mixed.words
    (array([ 0,  1, -1,  0], dtype=int32), ['a', '1.5'])
    """
    kinds = set(map(type, values))
    if kinds <= _NUMERIC:
        return numbers(values)
    if kinds <= _TEXT:
        return text(values)
    if list in kinds:
        return None
    return text([value if value is None or isinstance(value, str) else repr(value) for value in values])


def numbers(values: Sequence[Any]) -> Column:
    """float64, NaN where None."""
    try:
        return Column(np.array(values, np.float64))
    except OverflowError:  # an integer beyond 1e308 is no measurement
        return Column(np.array([_float(value) for value in values], np.float64))


def text(values: Sequence[str | None]) -> Column:
    """Codes into the words in order of their first appearance, -1 where None."""
    codes: dict[str | None, int] = {None: -1}
    codes.update((word, code) for code, word in enumerate(dict.fromkeys(w for w in values if w is not None)))
    words = [word for word in codes if word is not None]
    return Column(np.array([codes[value] for value in values], np.int32), words)


def table(rows: Sequence[dict[str, Any]], columns_max: int) -> tuple[dict[str, Column], int, int]:
    """Columns of rows that are mappings, named in order of first appearance.

    Returns the columns, how many lists could not be projected, and how many names beyond `columns_max`.
    """
    if not rows:
        return {}, 0, 0
    names = tuple(rows[0])
    if len(names) <= columns_max and all([tuple(row) == names for row in rows]):  # the usual case costs half
        by_name = dict(zip(names, zip(*[row.values() for row in rows], strict=True), strict=True))
    else:
        every = list(dict.fromkeys(chain.from_iterable(rows)))
        by_name = {name: tuple([row.get(name) for row in rows]) for name in every[:columns_max]}
        names = tuple(every)
    columns: dict[str, Column] = {}
    lists = 0
    for name, values in by_name.items():
        made = column(values)
        if made is None:
            projected, left_out = vectors(name, values)
            columns |= projected
            lists += left_out
        else:
            columns[name] = made
    return columns, lists, max(len(names) - columns_max, 0)


def vectors(name: str, values: Sequence[Any]) -> tuple[dict[str, Column], int]:
    """Projections and norm of the lists among these values, and how many are of no use: of another length than most of
    this chunk, too short or too long, or with a value that is missing.

    >>> made, left_out = vectors("e", [[3.0, 4.0], None, [1.0], [0.0, 2.0]])
    >>> made["e~norm"].values, left_out
    (array([ 5., nan, nan,  2.]), 1)
    """
    lists = [value if isinstance(value, list) else None for value in values]
    lengths = Counter(len(value) for value in lists if value is not None)
    length = min(lengths, key=lambda n: (-lengths[n], n), default=0)
    found = _projection(name, length)
    numbers_of = projection.project(found, lists)
    names = [stream.name for stream in projection.streams(found)]
    present = int((numbers_of == numbers_of).any(1).sum()) if names else 0
    return {each: Column(numbers_of[:, j]) for j, each in enumerate(names)}, sum(lengths.values()) - present


@lru_cache(maxsize=256)
def _projection(name: str, length: int) -> Projection:
    """The directions of a feature's lists of this length: fixed by both, so every shard takes the same."""
    return projection.learn(name, [[0.0] * length], seed=length)


def _float(value: Any) -> float:
    try:
        return float("nan") if value is None else float(value)
    except OverflowError:
        return float("nan")
