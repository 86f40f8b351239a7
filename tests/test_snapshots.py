"""Snapshots of strangers are not opened; ours come back bit for bit (F29, F53)."""

from __future__ import annotations

import base64
import gc
import io
import os
import pickle
import subprocess
import sys
import tomllib
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from river import compose, naive_bayes, proba

import tidegate
from learners import snapshots, state
from learners.digest import digest
from learners.registry import make
from learners.snapshots import Header, SnapshotError, open_sealed, seal
from tests.learning import KEY, stream, taught

HEADER = Header(model="m", learner="champion", version="1", updates=200, path="experts")
KEYS = {"dev": KEY}


def sealed(payload: bytes | None = None, header: Header = HEADER, key: bytes = KEY) -> bytes:
    state_bytes = taught(make("experts", {}, "binary", 1), stream(200)).snapshot() if payload is None else payload
    return seal(header, state_bytes, key, "dev")


def test_a_snapshot_is_loaded_in_two_lines(tmp_path: Path) -> None:
    """F29: from bytes or from a file; it goes on learning exactly as the one that was saved."""
    original = taught(make("experts", {}, "binary", 1), stream(200))
    file = tmp_path / "m.snapshot"
    file.write_bytes(sealed())
    for model in (
        tidegate.load_snapshot(file, KEY),
        tidegate.load_snapshot(str(file), KEY),
        tidegate.load_snapshot(sealed(), KEY),
    ):
        assert model.digest() == original.digest() and model.updates == 200
        more = stream(100, seed=2)
        assert taught(model, more).digest() == taught(make_like(original), more).digest()


def make_like(learner: Any) -> Any:
    twin = make("experts", {}, "binary", 1)
    twin.restore(learner.snapshot())
    return twin


def test_every_single_flipped_byte_is_refused() -> None:
    envelope = sealed(b"payload")
    for i in range(len(envelope)):
        with pytest.raises(SnapshotError):
            open_sealed(envelope[:i] + bytes([envelope[i] ^ 1]) + envelope[i + 1 :], KEYS)


@pytest.mark.parametrize("cut", [0, 3, 5, 20, 45, -1])
def test_a_cut_envelope_is_refused(cut: int) -> None:
    with pytest.raises(SnapshotError):
        open_sealed(sealed(b"payload")[:cut], KEYS)


def test_another_key_an_unknown_key_and_a_swapped_payload_are_refused() -> None:
    with pytest.raises(SnapshotError, match="signed with another key"):
        open_sealed(sealed(key=b"x" * 32), KEYS)
    with pytest.raises(SnapshotError, match="key 'dev', which is not among the keys given"):
        open_sealed(sealed(), {"prod": KEY})
    one, other = sealed(b"one"), sealed(b"other")
    with pytest.raises(SnapshotError, match="has been changed"):
        open_sealed(one[:41] + other[41:], KEYS)


def test_keys_that_can_be_guessed_are_not_used() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        sealed(b"payload", key=b"short")
    with pytest.raises(ValueError, match="key id"):
        seal(HEADER, b"payload", KEY, "")


def raw(pickled: bytes) -> bytes:
    """A foreign pickle in our form, without a table of texts."""
    return (1).to_bytes(4, "big") + msgspec.msgpack.encode([]) + pickled


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    "bomb",
    [
        Bomb(os.system, "true"),
        Bomb(eval, "1"),
        Bomb(exec, "1"),
        Bomb(getattr, "", "join"),
        Bomb(getattr, naive_bayes.GaussianNB(), "learn_one"),
        Bomb(subprocess.check_output, "true"),
        Bomb(__import__, "os"),
        Bomb(np.load, "/etc/hostname"),
        Bomb(np.fromfile, "/etc/hostname"),
        Bomb(pickle.loads, b"N."),
        Bomb(type, "name", (), {}),
        Bomb(map, str, ["1"]),
        Bomb(io.open, "/etc/hostname"),
    ],
    ids=lambda bomb: getattr(bomb.call[0], "__qualname__", "bomb"),
)
def test_a_pickle_that_runs_code_is_refused_even_with_the_right_key(bomb: Bomb) -> None:
    """F53: the list of classes stands behind the signature."""
    payload = raw(pickle.dumps(("Experts", 1, bomb)))
    with pytest.raises(SnapshotError, match="may not appear in a snapshot"):
        tidegate.load_snapshot(sealed(payload), KEY)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("river.datasets.base", "RemoteDataset"),
        ("river.stream.iter_csv", "DictReader"),
        ("river.compose.pipeline", "inspect.getsource"),
        ("river.utils.random", "random.SystemRandom"),
        ("river.tree.base", "io.StringIO"),
        ("river.compose", "Pipeline"),
        ("river.utils.math", "sigmoid"),
        ("river", "tree"),
        ("riverside.tree", "Tree"),
        ("learners.state", "loads"),
        ("builtins", "open"),
        ("numpy", "memmap"),
    ],
)
def test_what_a_class_list_by_module_would_let_through_is_refused(module: str, name: str) -> None:
    payload = (
        b"\x80\x04" + b"\x8c" + bytes([len(module)]) + module.encode() + b"\x8c" + bytes([len(name)]) + name.encode()
    )
    with pytest.raises(SnapshotError):
        state.loads(raw(payload + b"\x93."))


def test_bytes_of_any_kind_are_a_snapshot_error() -> None:
    for junk in (b"", b"\x80", b"\x80\x05.", b"garbage", raw(b""), raw(b"\x80\x05."), raw(pickle.dumps([1])[:-1])):
        with pytest.raises(SnapshotError):
            state.loads(junk)
    with pytest.raises(SnapshotError, match="not the state of a learner"):
        make("experts", {}, "binary", 1).restore(state.dumps([1, 2]))
    with pytest.raises(SnapshotError, match="Majority format 1 where Experts"):
        make("experts", {}, "binary", 1).restore(make("majority", {}, "binary", 1).snapshot())


def test_a_decompression_bomb_stops_at_the_size_in_the_signed_header() -> None:
    payload = zlib.compress(b"\0" * 50_000_000, 9)
    with pytest.raises(SnapshotError, match="not what its header says"):
        snapshots._read(body(msgspec.structs.replace(HEADER, size=1_000, compressed=True), payload))
    with pytest.raises(SnapshotError, match="at most"):
        snapshots._read(body(msgspec.structs.replace(HEADER, size=1 << 40, compressed=True), payload))
    with pytest.raises(SnapshotError, match="decompressed"):
        snapshots._read(body(msgspec.structs.replace(HEADER, size=10, compressed=True), b"not zlib"))


def test_a_format_of_the_future_is_refused_with_both_numbers() -> None:
    with pytest.raises(SnapshotError, match="has format 2; this version reads format 1"):
        open_sealed(sealed(b"x", msgspec.structs.replace(HEADER, format=2)), KEYS)


def body(header: Header, payload: bytes) -> bytes:
    head = msgspec.msgpack.encode(header)
    return len(head).to_bytes(4, "big") + head + payload


def test_a_snapshot_for_a_learner_that_does_not_exist_here_is_refused() -> None:
    with pytest.raises(SnapshotError, match="did you mean experts"):
        tidegate.load_snapshot(sealed(b"x", msgspec.structs.replace(HEADER, path="expertz")), KEY)


def test_random_generators_that_nothing_uses_are_left_behind() -> None:
    """River's Gaussian drags along 4,003 bytes of one."""
    gaussian = proba.Gaussian()
    gaussian.update(1.0)
    gaussian.update(2.0)
    assert len(state.dumps(gaussian)) < 300 < 3_000 < len(pickle.dumps(gaussian))
    twin = state.loads(state.dumps(gaussian))
    assert twin(1.5) == gaussian(1.5) and digest(twin) == digest(gaussian)


def test_equal_states_have_equal_bytes() -> None:
    """The journal proves a recovery by the bytes of its outputs, so a restored learner must publish the same ones."""
    for path in ("experts", "river.forest.ARFClassifier", "river.linear_model.LogisticRegression"):
        parameters = {"n_models": 2, "seed": 1, "grace_period": 30} if "forest" in path else {}
        learner = taught(make(path, parameters, "binary", 1), stream(150))
        twin = make(path, parameters, "binary", 1)
        twin.restore(learner.snapshot())
        assert twin.snapshot() == learner.snapshot()
        assert taught(twin, stream(50, seed=2)).snapshot() == taught(learner, stream(50, seed=2)).snapshot()
    one, two = {"b": {"x", "y", "z", 3}}, {"".join(["", "b"]): {3, "z", "y", "x"}}
    assert state.dumps([one, one["b"], "x"]) == state.dumps([two, two["b"], "".join(["x"])])
    assert state.loads(state.dumps([one, frozenset("ab"), "\ud800"])) == [one, frozenset("ab"), "\ud800"]


def test_the_digest_is_by_value() -> None:
    shared: list[Any] = [1.5]
    assert digest([shared, shared]) == digest(state.loads(state.dumps([shared, shared])))
    assert digest([shared, shared]) != digest([[1.5], [1.5]])
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    assert digest(cyclic) == digest(state.loads(state.dumps(cyclic)))
    assert digest({"a": 1, "b": 2}) != digest({"b": 2, "a": 1})
    assert digest({3, 1, 2}) == digest({1, 2, 3}) != digest({1, 2})
    assert digest(np.array([1.0, 2.0])) != digest(np.array([1.0, 2.0], np.float32))
    assert (
        digest(0.1 + 0.2) != digest(0.3) and digest(True) != digest(1) and digest(float("nan")) == digest(float("nan"))
    )
    kinds: list[Any] = [b"a", "a", 1j, None, np.float64(1), 1.0, (), [], int, len]
    assert len({digest(value) for value in kinds}) == len(kinds)


def test_the_plan_of_a_pipeline_is_no_state() -> None:
    parameters = {"steps": ["river.preprocessing.StandardScaler", "river.linear_model.LogisticRegression"]}
    fresh, asked = (make("pipeline", parameters, "binary", 1) for _ in range(2))
    asked.predict({})
    assert fresh.digest() == asked.digest()
    assert isinstance(fresh.model, compose.Pipeline)  # type: ignore[attr-defined]


def test_a_learner_of_one_process_continues_in_another_bit_for_bit(tmp_path: Path) -> None:
    """F29: under another hash seed."""
    code = (
        "import sys; from tests.learning import *; import tidegate\n"
        "model = tidegate.load_snapshot(sys.argv[1], KEY); print(taught(model, stream(100, seed=2)).digest())"
    )
    file = tmp_path / "forest.snapshot"
    parameters = {"n_models": 2, "seed": 1, "grace_period": 30}
    forest = taught(make("river.forest.ARFClassifier", parameters, "binary", 1), stream(150))
    header = msgspec.structs.replace(HEADER, path="river.forest.ARFClassifier", parameters=parameters)
    file.write_bytes(sealed(forest.snapshot(), header))
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        env={**os.environ, "PYTHONHASHSEED": "4711"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert elsewhere.stdout.strip() == taught(forest, stream(100, seed=2)).digest()


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
    assert tidegate.__version__ == project["version"]


WHOLE = zlib.decompress(base64.b85decode(
    b"c-n1J$!-%t5cLu#cJ`Q%1QYfp3Cke(0VD|Wp@^Xk<iMrXnQ2d2>RIUSaY9fe5D2(4@Bw@PzmQAc;RCqj04EN70yX2r_JNjW=GD@#UR6z"
    b"@P<r~aaLd*nXd?n<B4rnp=yK(_Q4mL(JF$ql6d||O$H%Cm4Ue^*a3d+XYeW>H@kn`Gac^C?##T1OF8A!5<V=NJX{W=PNfg(%wi78&(}3"
    b";TQ8!9LqivDdO28R%)VfRw7P^>M$@6Sg@{XZVVr>0k<O|g3wz-c)8jIRSPidx!DH=o`myV2ls<>}!QH%|VJ+ACbFD-XC+V^bvNpsznWW"
    b"Uv;h`Y_bM50_<y^k#!78*O1w;)0!Wro|ykP5>Q<~@(dNNZakCdoV~zl>___zoBTwxKx2J`Pb@N#4Qdww)Fsa=AP<RD{CVTHm&lgAmG`a"
    b";1o=ub3w|YMRKh1(SJmOT*QN0yx6wTw&!(m&pXTM|%piUGCkW`G=}R8>fp~#Cd0{8{f=vzQ!^7l7=k6h0|EF&@Q6R4lWrtM2*6Ybs`mH"
    b"rRJz)+R*H`pf1bi_`34>OR<n2C=e(@8Hxl-<Wsu#Cf!e0p-f<eKqYgu(Htc(M)2K_SINfg3e?Dc3gZOI8YX(MdG~LRR>S16=hw6BY-*U"
    b"wJktaU$rj8Im?ik`GtLpH6F4z&%o8|CVBy#Si%9iu@38r8{*~T>C9H}xrwB9%oF3d-9!P*Q1B|I>NwaWt;M@>CKZGxk=7HJ&J>B^J0xp"
    b"v6`u{3lBF%e2BmJ7?UnX#cz}3FSl>rxKt`b-ya1EoYy-^&r-~Kqearj5KS|3f?PT@LfC0hyHAT78_*1*Zk_vwe!`3E|xY=r"
))  # fmt: skip
"""A logistic regression after three examples, written when objects were restored as a whole."""


def test_a_snapshot_of_whole_objects_is_read_as_ever() -> None:
    path = "river.linear_model.LogisticRegression"
    restored = make(path, {}, "binary", 1)
    restored.restore(WHOLE)
    assert (
        restored.digest() == taught(make(path, {}, "binary", 1), [({"a": float(i)}, i % 2) for i in range(3)]).digest()
    )
    again = make(path, {}, "binary", 1)
    again.restore(restored.snapshot())
    assert (again.digest(), again.snapshot()) == (restored.digest(), restored.snapshot())


def test_what_is_restored_keeps_its_attributes_where_python_reads_them_fastest() -> None:
    """Not in a dict of their own, as CPython before 3.13 does once somebody has asked an object for its dict."""
    learner: Any = taught(make("river.tree.HoeffdingTreeClassifier", {}, "binary", 1), stream(300))
    learner.restore(learner.snapshot())
    assert not has_dict(learner.model)
    vars(learner.model)
    assert has_dict(learner.model)


def has_dict(model: Any) -> bool:
    return any(type(held) is dict and "grace_period" in held for held in gc.get_referents(model))
