"""Mixed features for models that take numbers only: numbers standardised, text one-hot, missing values left out.

Owns how a dict of features becomes a dict of numbers. Refuses to know models and labels. One transformer, because
River's composition of selectors, scalers and encoders costs several times as much (see `Mixed`).
"""

from __future__ import annotations

from typing import Any, Final

from river import base

from learners.contract import FeatureDict

WORDS_MAX: Final = 10_000
"""Different texts (feature and value) that one preparation keeps: each costs a weight in every model behind it. Later
ones are left out and counted in `left_out`."""


def present(x: FeatureDict) -> dict[str, Any]:
    """The features that are there: None and NaN left out, a list of numbers spread as `name[0]`, `name[1]` ...

    >>> present({"a": 1.5, "b": None, "c": [1.0, 2.0], "d": "x"})
    {'a': 1.5, 'c[0]': 1.0, 'c[1]': 2.0, 'd': 'x'}
    """
    for value in x.values():
        if value is None or value != value or type(value) is list:
            break
    else:
        return x if type(x) is dict else dict(x)
    out: dict[str, Any] = {}
    for name, value in x.items():
        if type(value) is list:
            out |= {f"{name}[{i}]": item for i, item in enumerate(value) if item is not None}
        elif value is not None and value == value:
            out[name] = value
    return out


class Mixed(base.Transformer):
    """Running standardisation of numbers (Welford 1962), one-hot text: `carrier = "AA"` becomes `{"carrier=AA": 1.0}`.

    The arithmetic is that of River's StandardScaler, operation by operation, so numbers alone give the same bits.
    A text that has not been learned yet is left out, as is a number that never varied.
    """

    def __init__(self, words_max: int = WORDS_MAX) -> None:
        self.words_max = words_max
        self.counts: dict[str, int] = {}
        self.means: dict[str, float] = {}
        self.variances: dict[str, float] = {}
        self.words: dict[str, None] = {}
        self.left_out = 0

    def learn_one(self, x: dict[str, Any]) -> None:
        counts, means, variances = self.counts, self.means, self.variances
        for name, value in x.items():
            if type(value) is str:
                self._learn_word(f"{name}={value}")
                continue
            count = counts.get(name, 0) + 1
            old = means.get(name, 0.0)
            mean = old + (value - old) / count
            variance = variances.get(name, 0.0)
            counts[name], means[name] = count, mean
            variances[name] = variance + ((value - old) * (value - mean) - variance) / count

    def _learn_word(self, word: str) -> None:
        if word in self.words:
            return
        if len(self.words) < self.words_max:
            self.words[word] = None
        else:
            self.left_out += 1

    def transform_one(self, x: dict[str, Any]) -> dict[str, float]:
        means, variances, words = self.means, self.variances, self.words
        out: dict[str, float] = {}
        for name, value in x.items():
            if type(value) is str:
                word = f"{name}={value}"
                if word in words:
                    out[word] = 1.0
                continue
            variance = variances.get(name)
            out[name] = (value - means[name]) / variance**0.5 if variance else 0.0
        return out
