"""Learner state as bytes and back: pickle, opened only through a list of classes.

Owns which classes may appear in state and how River objects are brought into one canonical form. Refuses to know keys,
envelopes (`learners.snapshots`) and what the state is for.

The list is closed twice: a class must be defined, under the very name that the bytes give, in one of the River
packages below (so no function, no re-export and no builtin can be reached through River), or stand in `_EXACT` as an
exact (module, name) pair. `getattr`, which pickle needs where a River object keeps a method of its own, is replaced by
a look-up of those methods.
"""

from __future__ import annotations

import copyreg
import functools
import importlib
import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, TypeVar

import msgspec
import numpy as np
from river import compose, proba

from learners.contract import SnapshotError

FORMAT: Final = 1
"""Of what `snapshot` writes; a learner that changes its state raises its own and says how the older one is read."""

PROTOCOL: Final = 5

_RIVER_PACKAGES: Final = frozenset(
    {
        "_river_rust",
        "active",
        "anomaly",
        "bandit",
        "base",
        "cluster",
        "compose",
        "covariance",
        "drift",
        "dummy",
        "ensemble",
        "facto",
        "feature_extraction",
        "feature_selection",
        "forest",
        "imblearn",
        "linear_model",
        "metrics",
        "misc",
        "multiclass",
        "multioutput",
        "naive_bayes",
        "neighbors",
        "optim",
        "preprocessing",
        "proba",
        "rules",
        "sketch",
        "stats",
        "time_series",
        "tree",
        "utils",
    }
)
"""River's packages that hold estimators and their parts. Not `datasets`, `stream`, `evaluate`: they open files."""

_OWN: Final = frozenset({("learners.features", "Mixed"), ("learners.state", "_array"), ("learners.state", "_scalar")})

_EXACT: Final = (
    frozenset(
        {
            ("builtins", "bool"),
            ("builtins", "complex"),
            ("builtins", "float"),
            ("builtins", "frozenset"),
            ("builtins", "int"),
            ("builtins", "list"),
            ("builtins", "dict"),
            ("builtins", "set"),
            ("builtins", "str"),
            ("builtins", "tuple"),
            ("collections", "Counter"),
            ("collections", "OrderedDict"),
            ("collections", "defaultdict"),
            ("collections", "deque"),
            ("functools", "partial"),
            ("numpy.random._pickle", "__randomstate_ctor"),
            ("numpy.random._pickle", "__generator_ctor"),
            ("numpy.random._pickle", "__bit_generator_ctor"),
            ("numpy.random._mt19937", "MT19937"),
            ("numpy.random._pcg64", "PCG64"),
            ("numpy.random._philox", "Philox"),
            ("numpy.random.bit_generator", "SeedSequence"),
            ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"),
            ("random", "Random"),
            ("river.naive_bayes.gaussian", "GaussianNB._make_gaussian"),
            ("river.tree.splitter.ebst_splitter", "EBSTNode._update_estimator_univariate"),
            ("river.tree.splitter.ebst_splitter", "EBSTNode._update_estimator_multivariate"),
            ("river.tree.splitter.nominal_splitter_reg", "NominalSplitterReg._update_estimator_univariate"),
            ("river.tree.splitter.nominal_splitter_reg", "NominalSplitterReg._update_estimator_multivariate"),
            ("river.tree.splitter.qo_splitter", "Slot._update_estimator_univariate"),
            ("river.tree.splitter.qo_splitter", "Slot._update_estimator_multivariate"),
        }
    )
    | _OWN
)

_BOUND_METHODS: Final = frozenset(
    {
        "_calc_tau_0",
        "_calc_tau_1",
        "_calc_tau_2",
        "_leveraging_bag",
        "_leveraging_bag_half",
        "_leveraging_bag_me",
        "_leveraging_bag_wt",
        "_leveraging_subag",
        "_scale",
        "_unscale",
        "_update_estimator_multivariate",
        "_update_estimator_univariate",
    }
)
"""Methods that River objects keep of themselves, as the way they were told to go."""


_Kind = TypeVar("_Kind", bound="_Unpickler")
_Made = TypeVar("_Made")


class Keeps:
    """Snapshot, restore and digest by way of `_state`, a plain value or River object, and `_become`."""

    format: ClassVar[int] = FORMAT

    def _state(self) -> Any:
        raise NotImplementedError

    def _become(self, state: Any) -> None:
        raise NotImplementedError

    def _older(self, state: Any, version: int) -> Any:
        """A state of an older format, in the form of the present one."""
        raise NotImplementedError

    def snapshot(self) -> bytes:
        """The whole state, pickled in canonical form."""
        return dumps((type(self).__name__, self.format, self._state()))

    def restore(self, state: bytes) -> None:
        """Become the one whose snapshot this is. Raises SnapshotError."""
        name = type(self).__name__
        match loads(state):
            case (kind, int(version), inner) if kind == name and FORMAT <= version <= self.format:
                self._become(inner if version == self.format else self._older(inner, version))
            case (str(kind), int(version), _):
                raise SnapshotError(f"state of {kind} format {version} where {name} {self.format} belongs")
            case _:
                raise SnapshotError("not the state of a learner")

    def digest(self) -> str:
        """The state by value (see learners.digest)."""
        from learners.digest import digest

        return digest(self._state())


def reduction(value: Any) -> Any:
    """The canonical form of a River object whose own form drags along what is no state, or None.

    A distribution without a seed holds a random generator that nothing but `sample` uses: 4,003 of 4,212 bytes, and
    filled by the operating system, so no two equal ones had equal bytes. A pipeline holds a plan of calls that it
    builds at its first use. Arrays share one object for their type, or not, as they came about.
    """
    reduce = _reduction_of(type(value))
    return None if reduce is None else reduce(value)


def _found(kind: type) -> Callable[[Any], Any] | None:
    if kind is compose.Pipeline:
        return _pipeline
    return next((reduce for base, reduce in _REDUCTIONS if issubclass(kind, base)), None)


def _dense(value: np.ndarray) -> Any:
    return None if value.dtype == object else (_array, (value.dtype.str, value.shape, value.tobytes()))


def _number(value: np.generic) -> Any:
    return _scalar, (value.dtype.str, value.tobytes())


def _distribution(value: proba.base.Distribution) -> Any:
    if value.seed is not None:
        return None
    return *_new(type(value)), {**value.__dict__, "_rng": None}


def _pipeline(value: compose.Pipeline) -> Any:
    state = {**value.__dict__, "_plan": None, "_inference_transformers": (), "_last_step_cached": None}
    state.pop("_last_step_params", None)
    return *_new(type(value)), state


_REDUCTIONS: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (np.ndarray, _dense),
    (np.generic, _number),
    (proba.base.Distribution, _distribution),
)


_reduction_of: Final[Callable[[type], Callable[[Any], Any] | None]] = functools.cache(_found)
"""Once for each class: looking through the list for every object was a fifth of a copy's time."""


def _new(kind: type) -> tuple[Any, tuple[type]]:
    return copyreg.__newobj__, (kind,)  # type: ignore[attr-defined]


def _is_attributes(kind: type) -> bool:
    """Whether instances are their attributes and nothing else, and pickle would make them by `object`'s own ways."""
    own = ("__reduce__", "__reduce_ex__", "__getstate__", "__setattr__")
    return (
        not issubclass(kind, type)
        and all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
        and all(getattr(kind, name) is getattr(object, name) for name in own)
        and not any(hasattr(kind, name) for name in ("__setstate__", "__getnewargs__", "__getnewargs_ex__"))
        and not copyreg._slotnames(kind)  # type: ignore[attr-defined]
        and kind.__dictoffset__ != 0
    )


_is_plain: Final[Callable[[type], bool]] = functools.cache(_is_attributes)

_HEAP_TYPE: Final = 1 << 9
"""Of a class that Python code has defined (Py_TPFLAGS_HEAPTYPE)."""


def _array(kind: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    return np.frombuffer(data, kind).reshape(shape).copy()


def _scalar(kind: str, data: bytes) -> Any:
    return np.frombuffer(data, kind)[0]


class _Pickler(pickle.Pickler):
    """Text goes by number into a table, in the order in which it first occurs, and sets go sorted: which equal texts
    happen to be one object, and where a hash has put them, differs between a learner and its restored copy."""

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__(buffer, PROTOCOL)
        self.texts: dict[str, int] = {}

    def persistent_id(self, value: Any) -> Any:
        kind = type(value)
        if kind is str:
            return self.texts.setdefault(value, len(self.texts))
        if kind is set or kind is frozenset:
            return kind is set, sorted(value, key=repr)
        return None

    def reducer_override(self, value: Any) -> Any:
        """Attributes go as a pair, as if they were kept in slots, and so are set one by one when they come back. As a
        mere dict they would stay in one, and CPython before 3.13 reads an object more slowly once its dict was made:
        models that came back, or had only been copied, took up to a quarter longer for every example."""
        found = reduction(value)
        if found is None:
            kind = type(value)
            return (*_new(kind), (None, value.__dict__)) if _is_plain(kind) else NotImplemented
        return found if len(found) == 2 else (*found[:2], (None, found[2]))


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: io.BytesIO, texts: list[str]) -> None:
        super().__init__(body)
        self.texts = texts

    def persistent_load(self, found: Any) -> Any:
        if type(found) is int:
            return self.texts[found]
        is_mutable, items = found
        return set(items) if is_mutable else frozenset(items)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _bound_method
        if (module, name) in _EXACT:
            return _named(module, name)
        parts = module.split(".")
        if parts[0] == "river" and len(parts) > 1 and parts[1] in _RIVER_PACKAGES:
            found = _named(module, name)
            defined = isinstance(found, type) and (found.__module__, found.__qualname__) == (module, name)
            if defined or (isinstance(found, type) and parts[1] == "_river_rust"):
                return found
        raise SnapshotError(f"{module}.{name} may not appear in a snapshot")


class _Stub:
    """Stands for whatever a snapshot names while its names are read: takes everything, does nothing."""

    def __new__(cls, *args: Any, **named: Any) -> _Stub:
        return object.__new__(cls)

    def __init__(self, *args: Any, **named: Any) -> None: ...

    def __call__(self, *args: Any, **named: Any) -> _Stub:
        return self

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def add(self, value: Any) -> None: ...


class _Reader(_Unpickler):
    """Notes which names would be loaded, and loads none of them into the state."""

    def __init__(self, body: io.BytesIO, texts: list[str]) -> None:
        super().__init__(body, texts)
        self.names: dict[str, bool] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            super().find_class(module, name)
            self.names[f"{module}.{name}"] = True
        except SnapshotError:
            self.names[f"{module}.{name}"] = False
        return _Stub


def _named(module: str, name: str) -> Any:
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise SnapshotError(f"{module}.{name}, named by the snapshot, does not exist here") from error
    return found


def _bound_method(owner: Any, name: str) -> Callable[..., Any]:
    """`getattr` for the unpickler: the few methods of River objects that are state, and nothing else."""
    if name not in _BOUND_METHODS or not type(owner).__module__.startswith("river."):
        raise SnapshotError(f"attribute {name!r} of {type(owner).__name__} may not appear in a snapshot")
    return getattr(owner, name)


def made(kind: type[_Made], attributes: Mapping[str, Any]) -> _Made:
    """An object of these attributes, each set by itself, for the reason that `_Pickler` tells."""
    thing = kind.__new__(kind)
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


def dumps(value: Any) -> bytes:
    """Pickle in canonical form: equal values have equal bytes, in any process, before and after a round trip.

    Raises TypeError or pickle.PicklingError for what cannot be pickled. A set that two objects share comes back as two.
    """
    buffer = io.BytesIO()
    pickler = _Pickler(buffer)
    pickler.dump(value)
    table = msgspec.msgpack.encode([text.encode("utf-8", "surrogatepass") for text in pickler.texts])
    return len(table).to_bytes(4, "big") + table + buffer.getvalue()


def loads(state: bytes) -> Any:
    """The inverse of `dumps`, through the list of classes. Raises SnapshotError whatever the bytes are."""
    return _opened(state, _Unpickler)[0]


def classes(state: bytes) -> dict[str, bool]:
    """The names of what `loads` would make, in their order, and whether each is on the list of classes and exists here;
    nothing of the state is made. Raises SnapshotError for bytes that are not of `dumps`."""
    return _opened(state, _Reader)[1].names


def _opened(state: bytes, kind: type[_Kind]) -> tuple[Any, _Kind]:
    body = 4 + int.from_bytes(state[:4], "big")
    try:
        table = msgspec.msgpack.decode(state[4:body], type=list[bytes])
        unpickler = kind(io.BytesIO(state[body:]), [text.decode("utf-8", "surrogatepass") for text in table])
        return unpickler.load(), unpickler
    except SnapshotError:
        raise
    except Exception as error:  # a hostile or broken pickle may raise anything
        raise SnapshotError(f"the snapshot cannot be read: {type(error).__name__}: {error}") from error
