"""`pytest tests/simulation --seed N` repeats one run."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="run the simulation with this seed only")
