"""Runs the parts of a benchmark one after the other, keeps what each has measured, and prints the bars.

Bars are demands with what came. A bar that does not hold is shown, not hidden, and is no error; the exit code is 1 only
where a part broke down. Refuses to know what the parts measure: each is a module with `run(quick, seed)`.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.detection.bars import Part
from benchmarks.processes import machine

SEED = 7


class Benchmark(NamedTuple):
    """`benchmarks.<name>` holds the parts as modules; `quick` says how long the quick form takes, `draw` makes a page
    of what was measured."""

    name: str
    parts: tuple[str, ...]
    quick: str
    draw: Callable[[Path, dict[str, Any]], None]

    def present(self) -> list[str]:
        """Parts that are there and can be run."""
        return [part for part in self.parts if hasattr(self._module(part), "run")]

    def run(self, part: str, quick: bool, seed: int) -> Part:
        made: Part = self._module(part).run(quick, seed)
        return made

    def _module(self, part: str) -> Any:
        name = f"benchmarks.{self.name}.{part}"
        return None if importlib.util.find_spec(name) is None else importlib.import_module(name)


def document(benchmark: Benchmark, found: dict[str, dict[str, Any]], quick: bool, seed: int) -> dict[str, Any]:
    """Everything that was measured. `runs`: of each part, in which form, what it cost, and how it broke down if so."""
    about = machine()
    return {
        "benchmark": benchmark.name,
        "machine": {"cores": about["cores"], "python": platform.python_version()},
        "seed": seed,
        "quick": quick,
        "parts": list(found),
        "runs": {part: one["run"] for part, one in found.items()},
        "figures": {part: one["figures"] for part, one in found.items()},
        "bars": [{"part": part, **bar} for part, one in found.items() for bar in one["bars"]],
    }


def kept(path: Path, quick: bool, seed: int) -> dict[str, dict[str, Any]]:
    """Parts of an earlier run in the same form with the same seed."""
    if not path.exists():
        return {}
    old = orjson.loads(path.read_bytes())
    if (old["quick"], old["seed"]) != (quick, seed):
        return {}
    return {
        part: {
            "run": old["runs"][part],
            "figures": old["figures"][part],
            "bars": [{k: v for k, v in bar.items() if k != "part"} for bar in old["bars"] if bar["part"] == part],
        }
        for part in old["parts"]
    }


def measured(benchmark: Benchmark, part: str, quick: bool, seed: int) -> dict[str, Any]:
    """One part with its cost; a part that breaks down says how."""
    began, wall = time.process_time(), time.perf_counter()
    broken = None
    try:
        found = benchmark.run(part, quick, seed)
    except Exception:  # the other parts are still worth running; the exit code tells
        broken = traceback.format_exc()
        print(broken, file=sys.stderr)
        found = Part(figures={}, bars=[])
    cost = {"cpu_s": round(time.process_time() - began, 2), "wall_s": round(time.perf_counter() - wall, 2)}
    return {"run": {**cost, "broken": broken}, "figures": found["figures"], "bars": found["bars"]}


def show(bars: list[dict[str, Any]], quick: bool) -> None:
    few = " (quick: few runs, so a bar may fail by chance)" if quick else ""
    table = Table(title=f"what was asked for, and what came{few}")
    for column in ("part", "bar", "value", "bound", "unit", ""):
        table.add_column(column, justify="right" if column in ("value", "bound") else "left")
    for bar in bars:
        value = "none" if bar["value"] is None else f"{bar['value']:,.4g}"
        table.add_row(
            bar["part"],
            bar["name"],
            value,
            f"{bar['bound']:,.4g}",
            bar["unit"],
            "" if bar["holds"] else "DOES NOT HOLD",
        )
    Console(width=160).print(table)


def main(benchmark: Benchmark, about: str, arguments: list[str] | None = None) -> int:
    """The command line of a benchmark; `about` is its one line of help."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.{benchmark.name}", description=about)
    parser.add_argument("--parts", nargs="+", choices=benchmark.parts, help="only these (all that are there)")
    parser.add_argument("--quick", action="store_true", help=f"a form of {benchmark.quick}")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON, and a picture beside them")
    parser.add_argument("--keep", action="store_true", help="keep the parts that --out holds of an earlier run")
    options = parser.parse_args(arguments)
    found = kept(options.out, options.quick, options.seed) if options.keep and options.out else {}
    broken = False
    for part in options.parts or benchmark.present():
        print(f"{part} ...", file=sys.stderr, flush=True)
        found[part] = measured(benchmark, part, options.quick, options.seed)
        broken |= found[part]["run"]["broken"] is not None
        print(f"{part}: {found[part]['run']['cpu_s']:.0f} s of CPU", file=sys.stderr, flush=True)
        if options.out:
            write(benchmark, options.out, document(benchmark, found, options.quick, options.seed))
    show(document(benchmark, found, options.quick, options.seed)["bars"], options.quick)
    return int(broken)


def write(benchmark: Benchmark, path: Path, told: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    )
    benchmark.draw(path.with_suffix(".html"), told)
