"""The house rules hold for the tree, and each rule finds a fault planted for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import house

PACKAGES = ("stream", "detectors", "learners", "tidegate.py")
EVERYTHING = (*PACKAGES, "tests", "benchmarks")
TEXTS = ("*.md", "*.yml", "*.yaml", "*.toml", "Makefile", "Dockerfile")
ROOMS = house.rooms((house.ROOT / "ARCHITECTURE.md").read_text())


def texts() -> list[tuple[str, str]]:
    """What is neither Python nor fetched nor built."""
    found = [p for pattern in TEXTS for root in (".", "deploy", "docs", ".ci") for p in tree(root, pattern)]
    return [(p.relative_to(house.ROOT).as_posix(), p.read_text(encoding="utf-8")) for p in found]


def tree(root: str, pattern: str) -> list[Path]:
    at = house.ROOT / root
    return sorted(at.glob(pattern) if root == "." else at.rglob(pattern))


def test_the_table_of_rooms_names_directories_that_exist() -> None:
    assert ROOMS[0] == "stream.surface" and ROOMS[-2:] == ["detectors", "learners"]
    for room in ROOMS:
        assert (house.ROOT / room.replace(".", "/")).is_dir(), room


def test_imports_go_one_way() -> None:
    assert [fault for file in house.sources(*PACKAGES) for fault in house.imports_upward(file, ROOMS)] == []


def test_no_package_imports_the_tests_or_the_public_face() -> None:
    faults = [
        f"{file.path}:{line}: {name}"
        for file in house.sources("stream", "detectors", "learners")
        for line, name in house.imports(file.tree)
        if name.split(".")[0] in ("tests", "benchmarks", "tidegate")
    ]
    assert faults == []


def test_the_core_has_no_clock_no_chance_no_files_and_no_network() -> None:
    assert [fault for file in house.sources(*PACKAGES) for fault in house.impurities(file)] == []


def test_nothing_takes_the_order_of_a_set() -> None:
    assert [fault for file in house.sources(*PACKAGES) for fault in house.set_orders(file)] == []


def test_files_and_functions_fit() -> None:
    assert [fault for file in house.sources(*EVERYTHING) for fault in house.too_long(file)] == []


def test_every_module_says_what_it_owns() -> None:
    assert [fault for file in house.sources(*EVERYTHING) for fault in house.undocumented(file)] == []


def test_nothing_is_left_unfinished() -> None:
    files = [(file.path, file.text) for file in house.sources(*EVERYTHING)] + texts()
    assert [fault for path, text in files for fault in house.unfinished(path, text)] == []


def test_pickles_are_opened_in_two_places_only() -> None:
    """F53."""
    assert [fault for file in house.sources(*PACKAGES, "benchmarks") for fault in house.unsafe_loads(file)] == []


def test_feature_ids_exist() -> None:
    files = [(file.path, file.text) for file in house.sources(*EVERYTHING) if file.path != "tests/test_house.py"]
    assert [fault for path, text in files for fault in house.unknown_features(path, text)] == []


def test_the_readme_explains_every_dependency() -> None:
    pyproject = (house.ROOT / "pyproject.toml").read_text()
    assert list(house.unexplained_dependencies(pyproject, (house.ROOT / "README.md").read_text())) == []


def test_every_import_is_declared() -> None:
    """A package that is only there because another one brought it disappears with that one."""
    pyproject = (house.ROOT / "pyproject.toml").read_text()
    declared = {name.lower().replace("-", "_") for name in house.dependencies(pyproject)}
    declared |= {"faust", "mode", "yaml", "kafka", *sys.stdlib_module_names, *PACKAGES, "tidegate"}
    faults = [
        f"{file.path}:{line}: {name} is not in pyproject.toml"
        for file in house.sources(*PACKAGES)
        for line, name in house.imports(file.tree)
        if name.split(".")[0] not in declared
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("stream/stages/a.py", "from stream.runtime import shard"),
        ("stream/stages/a.py", "import stream.surface.cli"),
        ("stream/joining/a.py", "def f():\n    from stream.stages.join import Join"),
        ("stream/windows/a.py", "from stream.joining.watermark import Watermark"),
        ("stream/codec.py", "from stream.windows import profile"),
        ("stream/__init__.py", "from stream import runtime"),
        ("detectors/a.py", "from stream import codec"),
        ("learners/a.py", "import stream"),
        ("learners/a.py", "from detectors import contract"),
        ("detectors/a.py", "from learners import contract"),
    ],
)
def test_a_planted_upward_import_is_found(path: str, text: str) -> None:
    assert len(list(house.imports_upward(house.source(path, text), ROOMS))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "stream/stages/a.py",
            "from stream.joining import watermark\nfrom detectors.contract import Rows\nimport numpy",
        ),
        ("stream/surface/a.py", "from stream.runtime.kafka import app\nfrom stream import config, stages"),
        ("stream/codec.py", "from stream import limits\nfrom stream.errors import StateError"),
    ],
)
def test_a_downward_import_is_not(path: str, text: str) -> None:
    assert list(house.imports_upward(house.source(path, text), ROOMS)) == []


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "from time import time",
        "import random",
        "from uuid import uuid4",
        "import os",
        "from os import environ",
        "from pathlib import Path",
        "import aiokafka",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime as date\nx = date.datetime.utcnow()",
        "import datetime\nx = datetime.date.today()",
        "import numpy as np\nx = np.random.default_rng()",
        "from numpy.random import default_rng\nx = default_rng()",
        "import numpy as np\nx = np.random.rand(3)",
        "import numpy as np\nnp.random.seed(1)",
        "x = open('a')",
        "def f(word):\n    return hash(word)",
    ],
)
@pytest.mark.parametrize("path", ["stream/stages/a.py", "stream/joining/a.py", "stream/windows/a.py", "learners/a.py"])
def test_a_planted_impurity_is_found_in_the_core(path: str, text: str) -> None:
    assert len(list(house.impurities(house.source(path, text)))) == 1
    assert list(house.impurities(house.source("stream/runtime/a.py", text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "from datetime import UTC, datetime\nx = datetime.fromtimestamp(3.0, UTC)",
        "import numpy as np\nx = np.random.default_rng(7)",
        "import numpy as np\nx = np.random.Generator(np.random.Philox(key=[1, 2]))",
        "def now(state):\n    return state.now()",
    ],
)
def test_what_is_keyed_and_given_is_pure(text: str) -> None:
    assert list(house.impurities(house.source("detectors/a.py", text))) == []


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}:\n    pass",
        "x = list(set(words))",
        "x = [y for y in frozenset(words)]",
        "x = {y: 1 for y in set(words)}",
        "def f(words: set[str]) -> None:\n    for word in words:\n        pass",
        "def f(words):\n    seen = set(words)\n    return tuple(seen)",
        "def f(words):\n    seen: set[str] = make()\n    return ','.join(seen)",
        "class A:\n    def __init__(self):\n        self.seen = set()\n    def f(self):\n        return [*self.seen]",
        "class A(Struct):\n    seen: set[str]\n    def f(self):\n        return enumerate(self.seen)",
        "x = [key for key in a.keys() - b.keys()]",
        "for key in a.keys() | b:\n    pass",
        "x = next(iter({1, 2}))",
        "x = list({1}.union(b))",
        "KNOWN = {1, 2}\ndef f():\n    return [x for x in KNOWN]",
    ],
)
def test_a_planted_order_of_a_set_is_found(text: str) -> None:
    assert len(list(house.set_orders(house.source("stream/stages/a.py", text)))) >= 1


@pytest.mark.parametrize(
    "text",
    [
        "for x in sorted({1, 2}):\n    pass",
        "x = 3 in {1, 2}\ny = len(set(words))",
        "for key in a.keys():\n    pass",
        "x = list(dict.fromkeys(words))",
        "def f(words: list[str]) -> None:\n    for word in words:\n        pass",
        "def f():\n    seen = set()\n    return sorted(seen)\ndef g(seen):\n    return list(seen)",
        "x = a - b\nfor y in a:\n    pass",
    ],
)
def test_a_set_that_is_sorted_counted_or_asked_is_not(text: str) -> None:
    assert list(house.set_orders(house.source("stream/stages/a.py", text))) == []


def test_a_planted_long_file_and_a_planted_long_function_are_found() -> None:
    assert "400 lines" in next(house.too_long(house.source("a.py", "x = 1\n" * 399)))
    assert list(house.too_long(house.source("a.py", "x = 1\n" * 398))) == []
    long = "def f():\n" + "    x = 1\n" * 59
    assert "f has 60 lines" in next(house.too_long(house.source("a.py", long)))
    assert list(house.too_long(house.source("a.py", long.replace("    x = 1\n", "", 1)))) == []
    assert "f has 60 lines" in next(house.too_long(house.source("a.py", "async " + long)))


def test_planted_unfinished_work_is_found() -> None:
    for word in ("TO" + "DO", "FIX" + "ME", "X" + "XX"):
        assert len(list(house.unfinished("a.md", f"fine\nsome {word}: later\n"))) == 1
    assert list(house.unfinished("a.md", "to do: nothing")) == []


def test_a_planted_module_without_a_docstring_is_found() -> None:
    assert len(list(house.undocumented(house.source("a.py", "x = 1")))) == 1
    assert list(house.undocumented(house.source("a.py", ""))) == []


@pytest.mark.parametrize(
    "text",
    ["import pickle\npickle.loads(b'')", "from pickle import Unpickler", "import joblib\njoblib.load('a')"],
)
def test_a_planted_unpickling_is_found(text: str) -> None:
    assert len(list(house.unsafe_loads(house.source("learners/buffers.py", text)))) == 1
    assert list(house.unsafe_loads(house.source("learners/state.py", text))) == []


def test_a_planted_unknown_feature_is_found() -> None:
    assert list(house.unknown_features("a.py", "F" + "58 and F" + "00, not F01, F57, F401 or F1")) == [
        "a.py:1: no feature F" + "58",
        "a.py:1: no feature F" + "00",
    ]


def test_a_planted_unexplained_dependency_is_found() -> None:
    pyproject = """
[project]
name = "tidegate"
dependencies = ["river>=0.26,<0.27", "kafka-python>=2.2"]
optional-dependencies = {dev = ["tidegate[demo]", "aiokafka[lz4]==0.14.0"]}
"""
    readme = "| River | why |\n|---|---|\n| aiokafka | driver of kafka-python |\n\nkafka-python is prose here"
    assert list(house.unexplained_dependencies(pyproject, readme)) == [
        "README.md: no table row explains the dependency kafka-python"
    ]
